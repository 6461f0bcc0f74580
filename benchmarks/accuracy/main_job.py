"""Measure a whole run on real radiographs: time, memory and figures.

    python -m benchmarks.accuracy.main_job --data ../shared/data/kaggle-masks-and-labels
    python -m benchmarks.accuracy.main_job --data ../shared/data/kaggle-masks-and-labels --quick

Runs `hilum run` in a process of its own and a fresh folder, and puts what it took and found into
benchmarks/results/accuracy.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from benchmarks._lib.results import machine, record
from hilum import storage
from hilum.pipeline import evaluate

SHOWN = (
    "dice",
    "iou",
    "precision",
    "recall",
    "auroc",
    "average_precision",
    "sensitivity",
    "specificity",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="keep the run here; default: a temporary folder")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        sys.exit(f"no data at {arguments.data}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.out or Path(temporary) / "run"
        command = [
            sys.executable,
            "-m",
            "hilum",
            "run",
            str(arguments.data),
            "--out",
            str(folder),
            *(["--quick"] if arguments.quick else []),
        ]
        wall, usage = timed(command)
        reported = describe(folder, arguments, wall, usage)
    record(
        f"The main job{', quick' if arguments.quick else ''}: {arguments.data.resolve().name}",
        reported,
    )
    print(reported)


def timed(command: list[str]) -> tuple[float, object]:
    """Return the wall seconds and the operating system's account of one process."""
    begun = time.monotonic()
    child = os.spawnv(os.P_NOWAIT, command[0], command)
    _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"{' '.join(command)} ended with status {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - begun, usage


def describe(folder: Path, arguments: argparse.Namespace, wall: float, usage: object) -> str:
    metrics = storage.read_table(folder / evaluate.METRICS).filter(
        (pl.col("part") == "test")
        & pl.col("side").is_in([evaluate.BOTH, ""])
        & pl.col("metric").is_in(SHOWN)
        & pl.col("source").is_not_null()
    )
    split = storage.read_table(folder / "split.parquet")
    sizes = ", ".join(
        f"{part} {split.filter(pl.col('part') == part).height}"
        for part in ("train", "tune", "test")
    )
    command = (
        "python -m benchmarks.accuracy.main_job --data"
        f" {arguments.data}{' --quick' if arguments.quick else ''}"
    )
    rows = [
        f"| {row['task']} | {row['source']} | {row['metric']} | {row['value']:.3f} |"
        f" {row['ci_low']:.3f} to {row['ci_high']:.3f} | {row['images']} | {row['patients']} |"
        for row in metrics.iter_rows(named=True)
    ]
    return "\n".join(
        [
            f"Command: `{command}`",
            f"Machine: {machine('torch', 'onnxruntime', 'polars')}",
            "",
            (
                f"{wall / 60:.1f} minutes wall, {(usage.ru_utime + usage.ru_stime) / 60:.1f}"
                f" CPU-minutes, largest resident memory {usage.ru_maxrss / 2**20:.2f} GiB. Images:"
                f" {sizes}. Figures of the test part, intervals over patients:"
            ),
            "",
            "| task | source | figure | value | 95 % interval | images | patients |",
            "| --- | --- | --- | --: | --- | --: | --: |",
            *rows,
        ]
    )


if __name__ == "__main__":
    main()
