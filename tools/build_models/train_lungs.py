"""Train the lung models that come with Hilum, and the trainings that say how good they are.

    python -m tools.build_models.train_lungs --data ../shared/data --work work --device cpu
    --steps 1600
    python -m tools.build_models.train_lungs --data ../shared/data --work work --device cuda
    --seconds 280
    python -m tools.build_models.train_lungs --data ../shared/data --work work --export --out
    src/hilum/resources

The first two train every plan of `plans()` (or those named by --only) and keep their weights in
--work/lung-weights; on two processor cores 1600 steps of all of them take a night, on one H200 GPU
they took about ten minutes in two parts. The third writes lungs.onnx and lungs_ccby.onnx from them,
in 8 bits, each with its card: sources, licences, recipe, digests of the images, figures of
benchmarks/accuracy/lung_protocols.py, and the input contract. Both weigh `MOST` together at most.
In 8 bits they take half the time of float32, and Dice and quality are the same within 0.001
(benchmarks/results/accuracy.md).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks._lib.lung_films import AIR, FULL, SIZE, SOURCES, WINDOW, Films, read_films
from benchmarks.accuracy.lung_protocols import FIGURES
from hilum import plugins, storage
from hilum.annotations import lung_masks
from hilum.inference import pretrained
from hilum.inference.onnx_model import LUNG_OUTPUTS, TRAINING_LIST, InputContract
from hilum.plugins import Card
from hilum.training import onnx_export
from hilum.training.models import compact_unet
from hilum.training.models.compact_unet import Compact
from tools.build_models import lung_trainings
from tools.build_models.lung_augmentation import Changes
from tools.build_models.lung_trainings import QUOTA, Plan

MOST = 1_800_000  # bytes
WEIGHT_BITS = 7  # so that every processor gives the same masks
CALIBRATED_ON = 100  # images for the ranges of the 8-bit models, evenly out of those trained on
# For films of the hospitals that are trained on.
WITHIN = Changes(strength=0.5, white=0.3, below=0.6)
ONE_SET = Changes(strength=0.4, white=0.3, below=0.6)
CAVEATS = (
    "Segments the patient's right and left lung in frontal chest radiographs. {protocols} Lateral "
    "views and mirrored or rotated images are outside of its training domain. No medical device."
)
PROTOCOLS = (
    "Output 'lungs' follows the air protocol: without what lies behind the heart and the "
    "diaphragm, as in Montgomery and Shenzhen, trained on adults and some children. Output "
    "'lungs_full' "
    "follows the full protocol, which includes it, as in Kermany's children and the COVID-19 films."
)
FULL_TERMS = {
    "kermany": "600 children's films of Kermany et al. 2018, Cell 172:1122, with lung polygons: "
    "CC BY 4.0",
    "covid": "COVID-19 image data collection (Cohen et al. 2020), each film under a licence of its "
    "own, with lung polygons: CC BY 4.0",
}
FULL_ONLY = (
    "Its output 'lungs_full' follows the full protocol, which includes the lung behind the heart "
    "and the diaphragm; nearly all films that it was trained on are of children. It has no output "
    "by the air protocol."
)


@dataclass(frozen=True)
class Release:
    """A file that comes with Hilum: of which training, and its terms."""

    plan: str
    licence: str
    title: str
    protocols: str


RELEASE = Release(
    "final",
    "The code is Apache-2.0. These weights are for non-commercial research unless you hold other "
    "terms: the Shenzhen lung masks that they were trained on are CC BY-NC-SA 4.0 (Stirenko et al. "
    "2018), and some of the COVID-19 films are CC BY-NC-SA or state no licence.",
    "Lungs in frontal chest radiographs by two protocols",
    PROTOCOLS,
)
FREE_RELEASE = Release(
    "ccby",
    "The code is Apache-2.0. These weights were trained only on images and masks that are CC BY: "
    "children's films of Kermany et al. 2018 (CC BY 4.0) with lung polygons (CC BY 4.0), and the "
    "COVID-19 films whose own licence is CC BY. Name these sources where you pass them on.",
    "Lungs in frontal chest radiographs by the full protocol, of CC BY sources only",
    FULL_ONLY,
)


def plans() -> list[Plan]:
    """Return every training: released ones, folds of all sources, and each source left out."""
    many = {**QUOTA, "montgomery": 12, "shenzhen": 16, "kermany": 10}
    no_shenzhen, no_montgomery = (
        tuple(source for source in SOURCES if source != out) for out in ("shenzhen", "montgomery")
    )
    open_too = {**QUOTA, "montgomery": 12, "kermany": 12, "covid": 2}
    return [
        Plan("final", SOURCES),
        Plan("ccby", FULL, free=True, quota={"kermany": 22, "covid": 3}),
        Plan("ccby_montgomery", no_shenzhen, free=True, quota=open_too),
        Plan("m2s", no_shenzhen, quota=many),
        Plan("s2m", no_montgomery, quota=many),
        Plan("nok", (*AIR, "covid"), quota={**QUOTA, "covid": 14}),
        Plan("noc", (*AIR, "kermany"), quota={**QUOTA, "kermany": 14}),
        *(Plan(f"cv{fold}", SOURCES, fold=fold, changes=WITHIN) for fold in range(5)),
        *(
            Plan(f"monly{fold}", AIR[:1], fold=fold, quota={"montgomery": 16}, changes=ONE_SET)
            for fold in range(5)
        ),
    ]


# ---------------------------------------------------------------------------- export


class Exported(nn.Module):
    """The exported form: uint8 (n, side, side) -> probabilities of each protocol in `outputs`.

    Each float32 (n, 2, side, side). The air protocol is the mean of the logits of its heads, folded
    into the weights of the last convolution.
    """

    def __init__(self, network: Compact, heads: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        last, each = network.head[0], 2 * compact_unet.PATCH**2
        by_protocol = {
            lung_masks.AIR: [head for head in heads if head != "f"],
            lung_masks.FULL: [head for head in heads if head == "f"],
        }
        self.outputs = tuple(
            LUNG_OUTPUTS[protocol] for protocol, some in by_protocol.items() if some
        )
        with torch.no_grad():
            for values in (last.weight, last.bias):
                parts = dict(zip(heads, values.split(each), strict=True))
                values.data = torch.cat(
                    [
                        torch.stack([parts[head] for head in some]).mean(0)
                        for some in by_protocol.values()
                        if some
                    ]
                )
        last.out_channels = each * len(self.outputs)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the probabilities."""
        likely = torch.sigmoid(self.network(images.unsqueeze(1).float() / 255))
        return tuple(likely[:, 2 * at : 2 * at + 2] for at in range(len(self.outputs)))


def export(work: Path, to: Path, films: Films) -> None:
    """Write both files."""
    for release, name in ((RELEASE, pretrained.MODEL), (FREE_RELEASE, pretrained.FREE)):
        plan = next(plan for plan in plans() if plan.name == release.plan)
        network, heads = lung_trainings.load(work / "lung-weights", plan.name)
        module = Exported(network, heads).eval()
        contract = InputContract(compact_unet.TASK, SIZE, "whole", WINDOW, module.outputs)
        rows, tune = lung_trainings.rows_of(plan, films)
        metadata = {
            "contract": asdict(contract),
            "card": card(release, plan, films, rows, tune, work),
            "trained_on": trained_on(films, np.concatenate([rows, tune])),
        }
        texts = {key: storage.as_json(value) for key, value in metadata.items()}
        with tempfile.TemporaryDirectory() as temporary:
            whole = Path(temporary) / "whole.onnx"
            onnx_export.to_onnx(module, whole, size=SIZE, outputs=module.outputs, metadata=texts)
            evenly = films.images[rows[:: max(1, len(rows) // CALIBRATED_ON)]]
            onnx_export.to_int8(whole, to / name, evenly, weight_bits=WEIGHT_BITS)
    files = [to / name for name in pretrained.LUNG_MODELS]
    for path in files:
        print(f"{path}: {path.stat().st_size} bytes")
    if (weight := sum(path.stat().st_size for path in files)) > MOST:
        sys.exit(f"they weigh {weight} bytes, more than {MOST}: choose a smaller width")


def trained_on(films: Films, rows: np.ndarray) -> dict[str, object]:
    """Return what a run must know to keep its test images apart from these.

    Of the sets of the full protocol only single images are named: most of Kermany's films, and of
    other collections of COVID-19, were never seen.
    """
    sources = [source for source in AIR if (films.sources[rows] == source).any()]
    return {
        "images": len(rows),
        "sources": sources,
        TRAINING_LIST: sorted(films.digests[rows].tolist()),
    }


def card(
    release: Release, plan: Plan, films: Films, rows: np.ndarray, tune: np.ndarray, work: Path
) -> dict[str, str]:
    """Return the card as JSON values."""
    counts = ", ".join(
        f"{source} {np.sum(films.sources[rows] == source)}" for source in plan.sources
    )
    about = storage.read_json(work / "lung-weights" / f"{plan.name}.json")
    readers = [plugins.load("readers", source).CARD for source in AIR if source in plan.sources]
    terms = "; ".join(
        [
            *(f"{reader.title}: {reader.licence}" for reader in readers),
            *(FULL_TERMS[source] for source in FULL if source in plan.sources),
        ]
    )
    made: Card = replace(
        compact_unet.CARD,
        title=release.title,
        licence=release.licence,
        source=f"tools/build_models/train_lungs.py of Hilum, model 'compact_unet'. {terms}",
        counts=f"trained on {counts}; {len(tune)} more say how good it became; no other image",
        caveats=CAVEATS.format(protocols=release.protocols),
    )
    figures = storage.read_json(work / FIGURES) if (work / FIGURES).exists() else {}
    recipe = json.dumps(about, sort_keys=True)
    return {**asdict(made), "recipe": recipe, "figures": json.dumps(figures.get(plan.name, {}))}


def changed(plan: Plan, learning_rate: float | None, strength: float | None) -> Plan:
    """Return the plan with another learning rate or strength of the changes."""
    if learning_rate:
        plan = replace(plan, learning_rate=learning_rate)
    if strength:
        plan = replace(plan, changes=replace(plan.changes, strength=strength))
    return plan


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder of montgomery/, shenzhen/, kermany-448/ and covid-448/",
    )
    parser.add_argument("--work", type=Path, required=True, help="for caches and weights")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, help="batches of each training")
    parser.add_argument("--seconds", type=float, help="in place of --steps: for all of it")
    parser.add_argument("--only", nargs="*", default=[], help="names of plans")
    parser.add_argument("--start", type=Path, help="a folder of weights to continue from")
    parser.add_argument("--learning-rate", type=float, help="in place of the plans' own")
    parser.add_argument("--strength", type=float, help="of the changes, in place of the plans' own")
    parser.add_argument("--export", action="store_true", help="write the models from the weights")
    parser.add_argument("--out", type=Path, help="with --export: the folder")
    arguments = parser.parse_args()
    films = read_films(arguments.data, arguments.work)
    if arguments.export:
        export(arguments.work, arguments.out, films)
        return
    if not (arguments.steps or arguments.seconds):
        parser.error("give --steps or --seconds")
    wanted = [
        changed(plan, arguments.learning_rate, arguments.strength)
        for plan in plans()
        if not arguments.only or plan.name in arguments.only
    ]
    folder = arguments.work / "lung-weights"
    # A processor gains nothing by training at once, and may be stopped in between.
    for group in [wanted] if arguments.device == "cuda" else [[plan] for plan in wanted]:
        if arguments.device != "cuda" and (folder / f"{group[0].name}.json").exists():
            continue
        made = lung_trainings.train(
            group,
            films,
            device=arguments.device,
            steps=arguments.steps,
            seconds=arguments.seconds,
            start=arguments.start,
        )
        for plan in group:
            lung_trainings.save(folder, plan, *made[plan.name])


if __name__ == "__main__":
    main()
