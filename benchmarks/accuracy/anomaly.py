"""Measure how well each anomaly model, fitted on normal images, ranks abnormal above normal ones,
and whether it detects disease or the other hospital.

    python -m benchmarks.accuracy.anomaly --data ../shared/data --work WORK
    python -m benchmarks.accuracy.anomaly --data ../shared/data --work WORK --what in-set cross
    --model padim --content lungs masked

in-set: five folds by patient of Shenzhen, of Montgomery and of both together, fitted on the normal
images of four, the fifth ranked; the figure is the mean of the folds' AUROC. cross: fitted on all
normal images of one set, the other ranked; beside it the AUROC of the other set's normal images
against the normal images of a left-out fold of the first, 0.5 where the model does not distinguish
the hospitals. pneumonia: fitted on the normal images of Kermany's official training part, its
official test part ranked. Intervals over patients.

Regions are cut along lungs whose model has not seen the set (finding_sets.py). What the anomaly
models are made of (stages, the mirror place, the fraction of the cells that a score is the mean of)
was chosen with the figures of Shenzhen and of Montgomery in view, in-set and across, so those
figures are not free of choice. Nothing was chosen on Kermany. Features are kept in --work.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from benchmarks._lib.finding_sets import CONTENTS, FOLDERS, Seen, missing, read
from benchmarks._lib.lung_sets import dealt
from benchmarks._lib.results import machine, record
from hilum import plugins, storage
from hilum.statistics import bootstrap
from hilum.statistics.metrics.discrimination import auroc

MODELS = ("padim", "patchcore", "feature_reconstruction")
FOLDS, SEED, REGION = 5, 0, 224
TUBERCULOSIS = ("shenzhen", "montgomery")


class Kept:
    """Extract the features of each image once and keep them by its bytes, for many fits."""

    def __init__(self, images: np.ndarray, path: Path, extractor: Any) -> None:
        import torch

        from hilum.training.anomaly_detection import BATCH

        if not path.exists():
            with torch.no_grad():
                found = [
                    extractor(torch.from_numpy(images[start : start + BATCH])).numpy()
                    for start in range(0, len(images), BATCH)
                ]
            with storage.replacing(path) as beside, open(beside, "wb") as stream:
                np.save(stream, np.concatenate(found))
        self.found, self.row = (
            np.load(path),
            {storage.digest(image.tobytes()): row for row, image in enumerate(images)},
        )

    def __call__(self) -> Any:
        """Return what stands in for `anomaly_detection.Features`."""
        import torch

        class Known(torch.nn.Module):
            def forward(_, images):
                return torch.from_numpy(self._of(images.numpy()))

        return Known()

    def frozen(self, network: Any, size: int) -> Kept:
        """Stand in for `anomaly_detection.FrozenFeatures`."""
        return self

    def batches(
        self, images: np.ndarray, rows: np.ndarray, at_once: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield images and their features, as `FrozenFeatures` does."""
        for start in range(0, len(rows), at_once):
            some = images[rows[start : start + at_once]]
            yield some, self._of(some)

    def _of(self, images: np.ndarray) -> np.ndarray:
        return self.found[[self.row[storage.digest(image.tobytes())] for image in images]]


def scores(model: str, normal: Seen, requested: Seen) -> np.ndarray:
    """Return the scores of `requested` after a fit to `normal`, all of which must be free of the
    finding.
    """
    import torch

    from hilum.training.anomaly_detection import BATCH

    if normal.ill.any():
        sys.exit("an anomaly model is fitted to normal images alone")
    module = plugins.load("models", model)
    network = module.fit(normal.images, np.arange(len(normal.images)), module.Settings(), seed=SEED)
    with torch.no_grad():
        return np.concatenate(
            [
                network(torch.from_numpy(requested.images[start : start + BATCH]))[0].numpy()
                for start in range(0, len(requested.images), BATCH)
            ]
        )


def by_folds(model: str, regions: Seen) -> tuple[np.ndarray, np.ndarray]:
    """Return the score and fold of each row, each fold ranked by a model of the others'
    normal images.
    """
    fold, score = dealt(regions.patients, FOLDS, SEED), np.empty(len(regions.ill))
    for number in range(FOLDS):
        rest, held = np.flatnonzero((fold != number) & ~regions.ill), np.flatnonzero(fold == number)
        score[held] = scores(model, regions.at(rest), regions.at(held))
    return score, fold


def reported(
    title: str,
    truth: np.ndarray,
    score: np.ndarray,
    patients: np.ndarray,
    folds: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return the AUROC with its interval; with folds the mean of theirs, since scores of different
    fits are not of one scale.
    """
    folds = np.zeros(len(truth), int) if folds is None else folds

    def statistic(rows: np.ndarray) -> float:
        return float(
            np.mean(
                [
                    auroc(truth[some], score[some])
                    for number in np.unique(folds)
                    if len(some := rows[folds[rows] == number])
                ]
            )
        )

    found = bootstrap.bootstrap_patients(statistic, patients, seed=SEED)
    return {
        "title": title,
        "auroc": f"{found.value:.3f} ({found.ci_low:.3f} to {found.ci_high:.3f})",
        "ill": int(truth.sum()),
        "well": int((~truth).sum()),
    }


def in_set(model: str, sets: dict[str, Seen]) -> Iterator[dict[str, Any]]:
    both = sets["shenzhen"] + sets["montgomery"]
    for name, regions in {
        "Shenzhen": sets["shenzhen"],
        "Montgomery": sets["montgomery"],
        "both": both,
    }.items():
        score, fold = by_folds(model, regions)
        yield reported(f"{name}, {FOLDS} folds", regions.ill, score, regions.patients, fold)


def cross(model: str, sets: dict[str, Seen]) -> Iterator[dict[str, Any]]:
    for one, other in (TUBERCULOSIS, TUBERCULOSIS[::-1]):
        here, there = sets[one], sets[other]
        score = scores(model, here.at(np.flatnonzero(~here.ill)), there)
        yield reported(f"{one} -> {other}", there.ill, score, there.patients)
        fold = dealt(here.patients, FOLDS, SEED)
        held, unusual = (
            here.at(np.flatnonzero((fold == 0) & ~here.ill)),
            there.at(np.flatnonzero(~there.ill)),
        )
        requested = held + unusual
        score = scores(model, here.at(np.flatnonzero((fold != 0) & ~here.ill)), requested)
        yield reported(
            f"{one} -> {other}: is it the other hospital (normal against normal)",
            requested.sources == other,
            score,
            requested.patients,
        )


def pneumonia(model: str, sets: dict[str, Seen]) -> Iterator[dict[str, Any]]:
    regions = sets["kermany"]
    learn, test = (
        np.flatnonzero((regions.parts == "train") & ~regions.ill),
        np.flatnonzero(regions.parts == "test"),
    )
    score = scores(model, regions.at(learn), regions.at(test))
    yield reported(
        f"Kermany, official test, fitted on {len(learn)} normal",
        regions.ill[test],
        score,
        regions.patients[test],
    )


WHAT: dict[
    str, tuple[Callable[[str, dict[str, Seen]], Iterator[dict[str, Any]]], tuple[str, ...]]
] = {
    "in-set": (in_set, TUBERCULOSIS),
    "cross": (cross, TUBERCULOSIS),
    "pneumonia": (pneumonia, ("kermany",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help=f"the folder that holds {', '.join(FOLDERS.values())}",
    )
    parser.add_argument(
        "--work",
        type=Path,
        required=True,
        help="where caches, lungs and features are kept until the next run",
    )
    parser.add_argument("--what", nargs="+", default=list(WHAT), choices=list(WHAT))
    parser.add_argument("--model", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--content", nargs="+", default=list(CONTENTS), choices=list(CONTENTS))
    parser.add_argument(
        "--most",
        type=int,
        default=0,
        help="images of each part and state, to try it; nothing is recorded then",
    )
    arguments = parser.parse_args()
    import torch

    from hilum.training import anomaly_detection

    torch.set_num_threads(1)
    extractor = anomaly_detection.Features()
    for what in arguments.what:
        measure, names = WHAT[what]
        if absent := missing(arguments.data, names):
            sys.exit(f"no {' and no '.join(absent)} in {arguments.data}")
        lines = [
            "| model | region | fitted and ranked | ill | well | AUROC | CPU s |",
            "| --- | --- | --- | --: | --: | --- | --: |",
        ]
        for content in arguments.content:
            sets = {
                name: read(
                    arguments.data, name, content, REGION, arguments.work, most=arguments.most
                )
                for name in names
            }
            images = np.concatenate([sets[name].images for name in names])
            kept = Kept(
                images,
                arguments.work / f"features-{storage.digest(images.tobytes())[:12]}.npy",
                extractor,
            )
            anomaly_detection.Features, anomaly_detection.FrozenFeatures = kept, kept.frozen
            for model in arguments.model:
                begun = time.process_time()
                for one in measure(model, sets):
                    took, begun = time.process_time() - begun, time.process_time()
                    lines.append(
                        f"| {model} | {content} | {one['title']} | {one['ill']} | {one['well']} |"
                        f" {one['auroc']} | {took:.0f} |"
                    )
                    print(lines[-1], flush=True)
        some = len(arguments.model) < len(MODELS) or len(arguments.content) < len(CONTENTS)
        chosen = (
            f" --model {' '.join(arguments.model)} --content {' '.join(arguments.content)}"
            if some
            else ""
        )
        command = (
            f"python -m benchmarks.accuracy.anomaly --data {arguments.data} --work WORK --what"
            f" {what}{chosen}"
        )
        note = (
            f"Seen of {REGION} pixels. Means and intervals over patients as"
            " benchmarks/accuracy/anomaly.py says. CPU seconds are with fitting, on kept features."
        )
        if not arguments.most:
            record(
                f"Anomaly models: {what}{', ' + ' and '.join(arguments.model) if some else ''}",
                "\n".join([f"`{command}` on {machine('torch', 'numpy')}.", note, "", *lines]),
            )


if __name__ == "__main__":
    main()
