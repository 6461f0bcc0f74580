"""Runs: do the whole job, open a finished run, hand its images to a training loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from hilum.api import _html
from hilum.api._arguments import expect
from hilum.config import Recipe
from hilum.dataset.manifest import PARTS, Manifest
from hilum.errors import BadData, NotFound
from hilum.inference.calls import ImageResult
from hilum.pipeline import audit, cache, evaluate, predict
from hilum.progress import Progress, quietly
from hilum.run_folder import Run, is_run
from hilum.runs import predict_images, run_all
from hilum.safety import addresses

if TYPE_CHECKING:
    from hilum.training.torch_dataset import CachedImages

Watch = Callable[[str], Progress]  # the progress of a step, by the step's name


@dataclass(frozen=True)
class FinishedRun:
    """The folder of a run, finished or not: its tables, its report, and its models."""

    run: Run

    @property
    def folder(self) -> Path:
        """Where the run lies."""
        return self.run.folder

    @property
    def recipe(self) -> Recipe:
        """Every setting that it was made by."""
        return self.run.recipe()

    @property
    def manifest(self) -> Manifest:
        """The table of images, patients and labels."""
        return self.run.manifest()

    @property
    def issues(self) -> pl.DataFrame:
        """One row per issue of the audit, worst first."""
        return self.run.table("audit", audit.ISSUES)

    @property
    def split(self) -> pl.DataFrame:
        """One row per image, with its part and fold."""
        return self.run.table("split", "split.parquet")

    @property
    def scores(self) -> pl.DataFrame:
        """One row per image and concept of the tune and test parts."""
        return self.run.table("predict", predict.SCORES)

    @property
    def metrics(self) -> pl.DataFrame:
        """One row per metric, with its interval over patients."""
        return self.run.table("evaluate", evaluate.METRICS)

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.run.file("report", "report.html")

    def predict(self, images: Sequence[str | Path]) -> list[ImageResult]:
        """Score images with the run's models. Raises `BadData` naming all that cannot be read."""
        found, faults = predict_images.predict_images(self.folder, images)
        if faults:
            raise BadData("\n".join(faults))
        return found

    def __repr__(self) -> str:
        steps = [name for name in run_all.STEPS if self.run.done(name)]
        return f"FinishedRun({self.folder}: {', '.join(steps) or 'nothing done'})"

    def _repr_html_(self) -> str:
        done = {name: self.run.done(name) for name in run_all.STEPS}
        text = _html.facts(
            str(self.folder), {name: "done" * is_done for name, is_done in done.items()}
        )
        return text + (_html.table(self.metrics) if done["evaluate"] else "")


def run(
    data: str | Path | Recipe,
    out: str | Path,
    *,
    quick: bool = False,
    until: str = "report",
    watch: Watch | None = None,
) -> FinishedRun:
    """Do all steps from a folder, a recipe file or a `Recipe` to a report; go on where it stopped.

    `until` is the last step to do; `quick` trains weaker models in a fraction of the time; `watch`
    is called with the name of each step and returns what hears its progress. Only `data` may be an
    address. Raises `HilumError` with what is wrong and what to do; what is finished is kept.

    >>> made = hilum.run(folder, new_folder, until="split")
    >>> made.split.height
    24
    """
    recipe = (
        data if isinstance(data, Recipe) else Recipe.of_source(addresses.located(os.fspath(data)))
    )

    @contextmanager
    def watching(step: str) -> Iterator[Progress]:
        yield watch(step) if watch else quietly

    place = Run(addresses.on_this_disk(out))
    for _ in run_all.perform(place, recipe.quick() if quick else recipe, watching, until=until):
        pass
    return FinishedRun(place)


def open_run(folder: str | Path) -> FinishedRun:
    """Open the folder of a run. Raises `NotFound` where it is none.

    >>> hilum.open_run(run_folder).issues.columns[:2]
    ['rule', 'severity']
    """
    place = addresses.on_this_disk(folder)
    if not is_run(place):
        raise NotFound(f"{folder} is not a run; `hilum run DATA --out {folder}` makes one")
    return FinishedRun(Run(place))


def torch_dataset(run: FinishedRun, part: str = "train", *, seed: int = 0) -> CachedImages:
    """Return a part's cached images as a PyTorch `Dataset`, for a training loop of one's own.

    Each item has `rows`, `images` float32 (1, size, size) in [0, 1] and `targets`, the state of the
    leading finding: 1 present, 0 absent, -1 uncertain, nan not mentioned. Needs PyTorch. Raises
    `NotFound` for an unknown part.

    >>> items = hilum.torch_dataset(hilum.open_run(run_folder))
    >>> items[0]["images"].shape
    torch.Size([1, 256, 256])
    """
    from hilum.training.batches import TrainingImages
    from hilum.training.torch_dataset import CachedImages

    expect(run, FinishedRun, "hilum.open_run(FOLDER)")
    if part not in PARTS:
        raise NotFound.named("part", part, PARTS)
    chosen = run.split.filter(pl.col("part") == part)
    filled = cache.opened(run.run, run.recipe)
    rows = filled.rows(chosen["image_id"])
    targets = np.full(len(filled.images), np.nan, np.float32)
    targets[rows] = chosen["state"].cast(pl.Float32).fill_null(float("nan")).to_numpy()
    return CachedImages(TrainingImages(filled.images, targets=targets), rows, seed=seed)
