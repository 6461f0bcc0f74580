"""Judge the lung networks of both protocols from their weights: folds, and each source left out.

    python -m benchmarks.accuracy.lung_protocols --data ../shared/data --work work

The weights are those that tools/build_models/train_lungs.py leaves in --work/lung-weights; training
may have been on a GPU, judging needs a processor. No figure is of a film whose network has seen a
film of that patient, and for "left out" none of that source. "Once": the network on the image.
"As `hilum lungs`": with test-time augmentation. Where the file is larger than the network's square,
the second Dice is in the file's own pixels. What was computed stays in --work.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._lib.lung_films import AIR as AIR_SOURCES
from benchmarks._lib.lung_films import SIZE, SOURCES, Films, full_mask, read_films
from benchmarks._lib.results import machine, record
from hilum import storage
from hilum.annotations import lung_masks
from hilum.annotations.lung_masks import AIR, FULL
from hilum.imaging.geometry import Letterbox
from hilum.inference import lung_finder, pretrained
from hilum.inference.onnx_model import LUNG_OUTPUTS, OnnxModel
from hilum.statistics import bootstrap
from hilum.statistics.metrics.overlap import dice
from tools.build_models import lung_trainings

FOLDERS = {"kermany": "kermany-448", "covid": "covid-448"}
CHANGED = ["monly*-montgomery", "cv*-montgomery", "m2s-shenzhen", "s2m-montgomery"]
FIGURES = "lung_protocols.json"  # in --work, for the cards of the bundled models
# Networks whose figures stand in the card of a released training: trained as it was.
RELEASED = dict.fromkeys(("cv*", "m2s", "s2m", "nok", "noc"), "final") | {"ccby": "ccby"}
LOW = 0.9  # Dice below which a film is counted


@dataclass(frozen=True)
class Row:
    """One line of the table: a name, the networks, the source that is judged, and its protocol.

    `networks` is one name, or a name with "*" for the number of the fold.
    """

    title: str
    networks: str
    source: str
    protocol: str


ROWS = (
    Row("Montgomery alone, 5 folds", "monly*", "montgomery", AIR),
    Row("all sources, 5 folds", "cv*", "montgomery", AIR),
    Row("all sources, 5 folds", "cv*", "shenzhen", AIR),
    Row("all sources, 5 folds", "cv*", "kermany", FULL),
    Row("all sources, 5 folds", "cv*", "covid", FULL),
    Row("Montgomery and the full sets -> Shenzhen", "m2s", "shenzhen", AIR),
    Row("Montgomery alone -> Shenzhen", "m2s_only", "shenzhen", AIR),
    Row("Shenzhen and the full sets -> Montgomery", "s2m", "montgomery", AIR),
    Row("Shenzhen alone -> Montgomery", "s2m_only", "montgomery", AIR),
    Row("Kermany (children) left out", "nok", "kermany", FULL),
    Row("COVID-19 left out", "noc", "covid", FULL),
    Row("CC BY sources alone -> other COVID-19 films", "ccby", "covid", FULL),
    Row("the same and NIH films without masks", "ccby_nih", "covid", FULL),
    Row("the same and Montgomery", "ccby_montgomery", "covid", FULL),
    Row("the same and Montgomery -> Shenzhen", "ccby_montgomery", "shenzhen", AIR),
)


class Network:
    """A network of weights, called as an `OnnxModel` is; `own` adds the source's own head."""

    def __init__(self, folder: Path, name: str, own: str = "") -> None:
        self.network, self.heads = lung_trainings.load(folder, name)
        self.own = own if own in self.heads else ""

    def lung_output(self, protocol: str) -> str:
        """Return the name of the output of a protocol."""
        return LUNG_OUTPUTS[protocol]

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Return the probabilities of one image."""
        return {name: found[0] for name, found in self.many(image[None]).items()}

    def many(self, images: np.ndarray, outputs: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Return the probabilities (n, 2, side, side) by output.

        By the air protocol the mean of the logits of its heads, or the head `own` alone.
        """
        likely = np.clip(lung_trainings.predict(self.network, images), 1e-6, 1 - 1e-6)
        logits = np.log(likely / (1 - likely))
        air = [
            number
            for number, head in enumerate(self.heads)
            if head != "f" and (not self.own or head == self.own)
        ]
        found = {LUNG_OUTPUTS[AIR]: logits[:, air].mean(1)} if air else {}
        if "f" in self.heads:
            found[LUNG_OUTPUTS[FULL]] = logits[:, self.heads.index("f")]
        return {
            name: (1 / (1 + np.exp(-values))).astype(np.float32) for name, values in found.items()
        }


def judged(
    row: Row, films: Films, data: Path, folder: Path, own: bool, changed: bool
) -> list[dict[str, Any]]:
    """Return patient and Dice of each film that the row's networks have not seen."""
    head = lung_trainings.HEADS[row.source] if own else ""
    rows, found = films.of(row.source), []
    groups = (
        [
            (row.networks.replace("*", str(fold)), rows[films.folds[rows] == fold])
            for fold in range(5)
        ]
        if "*" in row.networks
        else [(row.networks, rows)]
    )
    for name, some in groups:
        model = Network(folder, name, head)
        plan = storage.read_json(folder / f"{name}.json")
        if row.source in plan["sources"] and plan.get("fold") is None:
            some = some[~films.free[some]]  # of a source that is trained on, only free films were
        for one in some:
            found.append(_judged(model, films, one, data, row.protocol, changed))
    return found


def _judged(
    model: Network | OnnxModel,
    films: Films,
    one: int,
    data: Path | None,
    protocol: str,
    changed: bool,
) -> dict[str, Any]:
    image, size = films.images[one], tuple(films.sizes[one].tolist())
    if changed:
        labels, likely, *_ = lung_finder.segment_with_tta(model, image, size, protocol)
    else:
        likely = model(image)[LUNG_OUTPUTS[protocol]]
        labels = lung_masks.from_probabilities(likely)
    reported = {
        "patient": str(films.patients[one]),
        "image": str(films.names[one]),
        "dice": float(dice(films.masks[one] > 0, labels > 0)),
    }
    folder = FOLDERS.get(str(films.sources[one]))
    if folder is None or data is None:
        return {**reported, "file_dice": reported["dice"]}  # these files are as large as the square
    name = str(films.names[one]).replace("images/", "masks/").rsplit(".", 1)[0] + ".png"
    back = lung_masks.upsample_labels(labels, likely, Letterbox(size, SIZE).back)
    truth = full_mask(data / folder / name)
    return {**reported, "file_dice": float(dice(truth > 0, back > 0))}


def kept(path: Path, make: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return what `path` holds; made and written there if it is not there yet."""
    if not path.exists():
        storage.write_json(path, make())
    return json.loads(path.read_text())


def interval(found: list[dict[str, Any]], what: str) -> str:
    """Return the mean and its 95 % interval over patients."""
    values = np.array([one[what] for one in found])
    mean = bootstrap.bootstrap_patients(
        lambda rows: float(values[rows].mean()) if rows.size else float("nan"),
        [one["patient"] for one in found],
    )
    return f"{mean.value:.4f} ({mean.ci_low:.4f} to {mean.ci_high:.4f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--changed", nargs="*", default=CHANGED)
    parser.add_argument("--only", nargs="*", default=[], help="networks, in place of all")
    parser.add_argument("--no-record", action="store_true", help="print only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.work / "lung-weights"
    films = read_films(arguments.data, arguments.work)
    figures: dict[str, dict[str, str]] = {name: {} for name in RELEASED.values()}
    lines = [
        "| trained on -> judged on | films | protocol | how | mean Dice | in the file's pixels | "
        "median | below 0.9 |",
        "| --- | --: | --- | --- | --: | --: | --: | --: |",
    ]
    for row in ROWS:
        if arguments.only and row.networks not in arguments.only:
            continue
        if not (folder / f"{row.networks.replace('*', '0')}.json").exists():
            continue
        for own, changed in _ways(row, arguments.changed):
            name = f"{row.networks.replace('*', '')}-{row.source}-{own:d}{changed:d}.json"
            found = kept(
                arguments.work / "lung-judged" / name,
                lambda row=row, own=own, changed=changed: judged(
                    row, films, arguments.data, folder, own, changed
                ),
            )
            lines.append(_line(row, found, own, changed))
            if not changed and (released := RELEASED.get(row.networks)):
                text = f"mean Dice {interval(found, 'dice')} of {len(found)} films"
                figures[released][_title(row, own)] = text
            print(lines[-1], flush=True)
    storage.write_json(arguments.work / FIGURES, figures)
    if arguments.no_record:
        return
    command = "python -m benchmarks.accuracy.lung_protocols --data ../shared/data --work WORK"
    note = (
        "Means over films with 95 % intervals over patients, both lungs as one, no film of a "
        "patient that the network has seen. Own convention: the head of the judged set's masks; "
        "both: the mean of the heads of Montgomery and Shenzhen, as shipped."
    )
    steps = storage.read_json(next(folder.glob("final.json")))
    made = f"Weights: {steps['steps']} batches each on {steps.get('device', 'two cores')}."
    text = [
        f"`{command}` on {machine('numpy', 'torch', 'onnxruntime')}. {made}",
        note,
        "",
        *lines,
        "",
        "The bundled files, air by the mean of both conventions, on the tenth of the patients that "
        "they were not trained on:",
        "",
        *shipped(films),
    ]
    record("Lungs: two protocols, each source left out", "\n".join(text))


def shipped(films: Films) -> list[str]:
    """Judge the bundled files on the films that only said how good the weights became."""
    lines = ["| file | source | films | protocol | once | as `hilum lungs` |"]
    lines.append("| --- | --- | --: | --- | --: | --: |")
    for model in pretrained.lung_models():
        for source in SOURCES:
            protocol = AIR if source in AIR_SOURCES else FULL
            if LUNG_OUTPUTS[protocol] not in model.contract.outputs:
                continue
            rows = np.flatnonzero(films.tune & (films.sources == source))
            cells = []
            for changed in (False, True):
                found = [_judged(model, films, row, None, protocol, changed) for row in rows]
                cells.append(interval(found, "dice"))
            known = [model.path.name, source, str(len(rows)), protocol]
            lines.append(f"| {' | '.join([*known, *cells])} |")
            print(lines[-1], flush=True)
    return lines


def _ways(row: Row, changed: list[str]) -> list[tuple[bool, bool]]:
    """Return (own head, test-time augmentation) of each line."""
    ways = [(True, False)]
    if f"{row.networks}-{row.source}" in changed:
        ways.append((True, True))
    if row.networks == "cv*" and row.protocol == AIR:
        ways.append((False, False))
    return ways


def _title(row: Row, own: bool) -> str:
    convention = ""
    if row.protocol == AIR and row.networks == "cv*":
        convention = ", own convention" if own else ", both conventions"
    return f"{row.title}: {row.source}, {row.protocol} protocol{convention}"


def _line(row: Row, found: list[dict[str, Any]], own: bool, changed: bool) -> str:
    values = np.array([one["dice"] for one in found])
    how = "as `hilum lungs`" if changed else "once"
    if row.protocol == AIR and row.networks == "cv*":
        how += ", own convention" if own else ", both conventions"
    cells = [
        f"{row.title}: {row.source}",
        str(len(found)),
        row.protocol,
        how,
        interval(found, "dice"),
        interval(found, "file_dice"),
        f"{np.median(values):.4f}",
        str(int((values < LOW).sum())),
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
