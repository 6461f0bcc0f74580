"""The chain: all steps in their order, each skipped where it is finished and made again where anything it was made from has changed.

In a cross-validated run (`hilum.division`) the steps segment, region and train make the final models
of all images; then these steps and predict are done in each fold's own run, and the run's own predict
pools their scores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from hilum import division
from hilum.errors import HilumError, Mismatch
from hilum.recipe import Recipe
from hilum.run import Run
from hilum.steps import Progress, audit, cache, evaluate, ingest, predict, region, report, segment, split, train

STEPS = {
    "ingest": ingest,
    "cache": cache,
    "audit": audit,
    "split": split,
    "segment": segment,
    "region": region,
    "train": train,
    "predict": predict,
    "evaluate": evaluate,
    "report": report,
}
PLAN = ingest.SHORT  # of a summary: lines of their own, shown before it
OF_A_FOLD = ("segment", "region", "train", "predict")
Watch = Callable[[str], AbstractContextManager[Progress]]


@dataclass(frozen=True)
class Done:
    step: str
    kept: bool  # it was finished before
    seconds: float
    summary: dict[str, Any]


def perform(run: Run, recipe: Recipe, watch: Watch, *, until: str = "report") -> Iterator[Done]:
    """Do the steps up to and with `until`, telling of each as it ends. Raises `Mismatch` where the folder is another data set's run."""
    _refuse_other(run, recipe)
    with run.locked():
        run.write_recipe(recipe)
        for name, step in STEPS.items():
            if name == "predict":
                yield from _folds(run, recipe, watch)
            yield _once(run, recipe, name, step, watch)
            if name == until:
                return


def _folds(run: Run, recipe: Recipe, watch: Watch) -> Iterator[Done]:
    """Do the steps from segment to predict in each fold of a cross-validated run."""
    for number, fold in enumerate(division.folds(run)):
        for name in OF_A_FOLD:
            yield _once(fold, recipe, name, STEPS[name], watch, f"fold {number}: ")


def _once(
    run: Run, recipe: Recipe, name: str, step: ModuleType, watch: Watch, of: str = ""
) -> Done:
    def make() -> tuple[dict[str, str], dict[str, Any]]:
        with watch(of + name) as progress:
            return step.make(run, recipe, progress)

    begun = time.monotonic()
    kept = run.ensure(name, step.made_from(run, recipe), make)
    return Done(of + name, kept, time.monotonic() - begun, run.summary(name))


def _refuse_other(run: Run, recipe: Recipe) -> None:
    recipe.data.refuse_inside(run.folder, "choose another folder with --to")
    if (run / "recipe.toml").exists():
        before, data = (sorted(folder.resolve() for folder in one.data.paths) for one in (run.recipe(), recipe))
        if before != data:
            was, now = (" and ".join(map(str, folders)) for folders in (before, data))
            raise Mismatch(f"{run.folder} is a run of {was}, not of {now}; choose another folder with --to")
    elif run.folder.is_dir() and any(path.name != ".lock" for path in run.folder.iterdir()):
        raise HilumError(f"{run.folder} is not empty and not a run; choose another folder with --to")
