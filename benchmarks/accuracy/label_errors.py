"""Plant wrong labels, and measure how many are suspected and how many of the suspicions are right.

    python -m benchmarks.accuracy.label_errors --data ../shared/data/kermany-224 --data
    ../shared/data/kaggle-masks-and-labels

Flips a random fraction of each finding's labels and runs the audit's check on them. The row of
fraction 0 is what is suspected in the set as it is. "At k" is the fraction of
planted ones among the k least sure labels, k being how many were planted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks._lib.results import machine, record
from hilum.annotations.vocabulary import State, name_of
from hilum.audit.checks import label_errors
from hilum.config import Pixels
from hilum.pipeline import cache, ingest
from hilum.statistics.metrics.discrimination import auroc

FRACTIONS = (0.0, 0.02, 0.05, 0.1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        help="a folder of radiographs; may be given several times",
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows, times = [], []
    for folder in arguments.data:
        if not folder.is_dir():
            sys.exit(f"no data at {folder}")
        with tempfile.TemporaryDirectory() as temporary:
            measured, seconds, images = measure(
                folder, Path(temporary), np.random.default_rng(arguments.seed)
            )
        rows += measured
        times.append(
            f"{folder.name}: {1000 * seconds / images:.2f} ms of processor time an image to check"
            f" {images} images"
        )
    reported = describe(
        rows,
        times,
        "python -m benchmarks.accuracy.label_errors"
        f" {' '.join(f'--data {folder}' for folder in arguments.data)}",
    )
    record("Likely label errors", reported)
    print(reported)


def measure(folder: Path, to: Path, rng: np.random.Generator) -> tuple[list[str], float, int]:
    manifest = ingest.ingest(folder)
    radiographs = cache.fill(manifest, Pixels(), to)
    begun = time.process_time()
    seen = label_errors.features(radiographs, radiographs.readable["row"].to_numpy())
    seconds = time.process_time() - begun
    place = radiographs.readable.select("image_id").with_row_index()
    rows = []
    for concept in manifest.labels["concept"].unique().sort():
        cells = (
            manifest.states(concept)
            .join(place, on="image_id", maintain_order="left")
            .drop_nulls()
            .filter(pl.col("state") != State.UNCERTAIN)
        )
        people = cells.group_by("state").agg(pl.col("patient_id").n_unique())
        if people.height < 2 or people["patient_id"].min() < label_errors.FEWEST:
            continue
        rows += [
            planted(
                f"{folder.name}, {name_of(concept).lower()}",
                cells,
                seen[cells["index"].to_numpy()],
                fraction,
                rng,
            )
            for fraction in FRACTIONS
        ]
    return rows, seconds, len(seen)


def planted(
    what: str, cells: pl.DataFrame, seen: np.ndarray, fraction: float, rng: np.random.Generator
) -> str:
    """Return one row of the table: with the fraction `share` of the labels flipped."""
    wrong = np.zeros(cells.height, bool)
    wrong[rng.choice(cells.height, round(fraction * cells.height), replace=False)] = True
    state = (cells["state"].to_numpy() == State.PRESENT) ^ wrong
    present = label_errors.out_of_fold(seen, state, cells["patient_id"])
    confidence, suspected = label_errors.suspicions(state, present)
    reached, count = auroc(state, present), int(wrong.sum())
    at_k = f"{wrong[np.argsort(confidence, kind='stable')[:count]].mean():.2f}" if count else "–"
    right = f"{wrong[suspected].mean():.2f}" if count and suspected.any() else "–"
    found = f"{suspected[wrong].mean():.2f}" if count else "–"
    listed = "yes" if reached >= label_errors.LEAST_AUROC else "no: cannot state"
    return (
        f"| {what} | {cells.height} | {fraction:.0%} | {reached:.3f} | {listed} | {suspected.sum()}"
        f" | {suspected[~wrong].mean():.2%} | {right} | {found} | {at_k} |"
    )


def describe(rows: list[str], times: list[str], command: str) -> str:
    return "\n".join(
        [
            f"`{command}` on {machine('numpy', 'polars')}.",
            "",
            (
                "| finding | labels | flipped | AUROC out of fold | listed | suspected | of the"
                " correct labels | precision | recall | precision at k |"
            ),
            "| --- | --: | --: | --: | --- | --: | --: | --: | --: | --: |",
            *rows,
            "",
            *times,
        ]
    )


if __name__ == "__main__":
    main()
