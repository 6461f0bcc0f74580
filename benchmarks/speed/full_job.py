"""Time the whole job of a folder of radiographs, step by step, with the figures that it found.

    python -m benchmarks.speed.full_job --data ../shared/data/kaggle-masks-and-labels
    python -m benchmarks.speed.full_job --data FOLDER --quick --out WORK/run --json WORK/run.json

Does what `hilum run FOLDER --out OUT` does, once, in this process, and prints of each step the
seconds by the clock and of processor time (of all threads of this process, user and system), which
other work on the machine hardly changes. Steps that are worth it start other processes, as the
command does. The steps segment and train are divided where their progress passes one
half: trainings before it, predicting all lungs or fitting the anomaly model after it. With
--record the section of the folder in benchmarks/results/speed.md is written: for a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import polars as pl

from benchmarks._lib.results import machine, record
from hilum import storage
from hilum.config import Recipe
from hilum.pipeline import evaluate, segment
from hilum.progress import Progress
from hilum.run_folder import Run
from hilum.runs import run_all
from hilum.scale.executor import PROCESSES, Executor, executing

# As the command does, before PyTorch is imported: threads that wait do not count as work, nor do
# they keep the thread that makes batches from a core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

HALVES = {
    "segment": ("trainings", "lungs of every image"),
    "train": ("finding", "anomaly"),
}
START = "start and imports"
SHOWN = ("dice", "auroc", "sensitivity", "specificity")
MOST_WALL, MOST_PROCESSOR = 300, 580  # seconds, of Masks-and-Labels on two cores


class Spent(NamedTuple):
    """Seconds since the process began, by the clock and of processor time."""

    wall: float
    processor: float

    @classmethod
    def now(cls) -> Spent:
        """Return what is spent by now."""
        return cls(time.monotonic(), time.process_time())

    def minus(self, before: Spent) -> Spent:
        """Return what was spent since `before`."""
        return Spent(self.wall - before.wall, self.processor - before.processor)


class Stopwatch:
    """What each step, and each half of the steps in HALVES, spent."""

    def __init__(self) -> None:
        self.spent: dict[str, Spent] = {}
        self.half: Spent | None = None
        self.begun = Spent.now()

    @contextmanager
    def watch(self, step: str) -> Iterator[Progress]:
        """Yield the progress of a step, whose passing of one half is kept."""
        self.half = None

        def passed(done: int, total: int) -> None:
            """Keep the last time at which at most half was done."""
            if 2 * done <= total:
                self.half = Spent.now()

        yield passed

    def ended(self, step: str) -> None:
        """Keep what the step spent."""
        now = Spent.now()
        names = HALVES.get(step.rpartition(" ")[2])
        if names and self.half:
            self.spent[f"{step}: {names[0]}"] = self.half.minus(self.begun)
            self.spent[f"{step}: {names[1]}"] = now.minus(self.half)
        else:
            self.spent[step] = now.minus(self.begun)
        self.begun = now


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="keep the run here; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="write seconds and figures here, too")
    parser.add_argument("--record", action="store_true", help="write the section of speed.md")
    arguments = parser.parse_args()
    if not arguments.data.exists():
        sys.exit(f"no data at {arguments.data}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.out or Path(temporary) / "run"
        spent = timed(Run(folder), arguments.data, quick=arguments.quick)
        found, trained = figures(folder), trainings(folder)
    if arguments.json:
        kept = {
            "spent": {name: part._asdict() for name, part in spent.items()},
            "figures": found.to_dicts(),
            "trainings": trained.to_dicts(),
        }
        arguments.json.write_text(json.dumps(kept, indent=1) + "\n")
    text = described(arguments, spent, found, trained)
    print(text)
    if arguments.record:
        quick = ", quick" if arguments.quick else ""
        record(f"The whole job{quick}: {arguments.data.resolve().name}", text)


def timed(run: Run, data: Path, *, quick: bool) -> dict[str, Spent]:
    """Do the whole job; return what each step spent, by its name."""
    recipe = Recipe.of_source(data)
    stopwatch = Stopwatch()
    stopwatch.spent[START] = Spent(0.0, stopwatch.begun.processor)
    with executing(Executor(PROCESSES)):
        for done in run_all.perform(run, recipe.quick() if quick else recipe, stopwatch.watch):
            if isinstance(done, run_all.Done):
                stopwatch.ended(done.step)
    return stopwatch.spent


def figures(folder: Path) -> pl.DataFrame:
    """Return the figures of the test part, with their intervals, of all sources and of each."""
    return (
        storage.read_table(folder / evaluate.METRICS)
        .filter(
            (pl.col("part") == "test")
            & pl.col("side").is_in([evaluate.BOTH, ""])
            & (pl.col("grid").is_null() | (pl.col("grid") != evaluate.FILE))
            & pl.col("metric").is_in(SHOWN)
            & pl.col("source").is_not_null()
        )
        .select("task", "source", "metric", "value", "ci_low", "ci_high", "images")
    )


def trainings(folder: Path) -> pl.DataFrame:
    """Return of each lung training the epochs and batches done, and its best tune Dice."""
    return (
        storage.read_table(folder / segment.EPOCHS)
        .group_by("model", maintain_order=True)
        .agg(pl.len().alias("epochs"), pl.col("batches").max(), pl.col("tune").max())
    )


def described(
    arguments: argparse.Namespace,
    spent: dict[str, Spent],
    found: pl.DataFrame,
    trained: pl.DataFrame,
) -> str:
    """Return the text of the section."""
    wall = sum(part.wall for part in spent.values())
    processor = sum(part.processor for part in spent.values())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    quick = " --quick" if arguments.quick else ""
    rows = [f"| {name} | {part.wall:.1f} | {part.processor:.1f} |" for name, part in spent.items()]
    measured = [
        f"| {row['task']} | {row['source']} | {row['metric']} | {row['value']:.3f} |"
        f" {row['ci_low']:.3f} to {row['ci_high']:.3f} | {row['images']} |"
        for row in found.iter_rows(named=True)
    ]
    lungs = "; ".join(
        f"{row['model']} {row['epochs']} epochs, {row['batches']} batches, best tune Dice"
        f" {row['tune'] or float('nan'):.4f}"
        for row in trained.iter_rows(named=True)
    )
    return "\n".join(
        [
            f"`python -m benchmarks.speed.full_job --data {arguments.data}{quick} --record` on"
            f" {machine('torch', 'onnxruntime', 'polars')}.",
            "",
            f"{wall / 60:.1f} minutes by the clock, {processor:.0f} seconds of processor time,"
            f" largest resident memory {memory:.2f} GiB. To reach on Masks-and-Labels:"
            f" {MOST_WALL / 60:.0f} minutes on two cores, so {MOST_PROCESSOR} seconds of processor"
            " time.",
            "",
            "| step | wall s | processor s |",
            "| --- | --: | --: |",
            *rows,
            f"| all | {wall:.1f} | {processor:.1f} |",
            "",
            f"Lung trainings: {lungs or 'none'}.",
            "",
            "| task | source | figure | value | 95 % interval | images |",
            "| --- | --- | --- | --: | --- | --: |",
            *measured,
        ]
    )


if __name__ == "__main__":
    main()
