"""Run all steps in order, skipping those that are finished and depend on nothing that changed.

In a cross-validated run (`hilum.pipeline.division`) the steps segment, crop and train make the
final models of all images; then these steps and predict are done in each fold's own run, and the
run's own predict pools their scores. The same steps are done without each source in turn where
the recipe leaves sources out (`hilum.pipeline.left_out`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import ModuleType

from hilum.config import Recipe
from hilum.errors import HilumError, Interrupted, Mismatch, NotFound, working_on
from hilum.pipeline import (
    _training,
    audit,
    cache,
    crop,
    division,
    evaluate,
    ingest,
    left_out,
    predict,
    segment,
    split,
    train,
)
from hilum.pipeline.step import StepResult
from hilum.progress import Progress
from hilum.reporting import report
from hilum.run_folder import RECIPE, Run
from hilum.storage import JsonObject

STEPS = {
    "ingest": ingest,
    "cache": cache,
    "audit": audit,
    "split": split,
    "segment": segment,
    "crop": crop,
    "train": train,
    "predict": predict,
    "evaluate": evaluate,
    "report": report,
}
PLAN = ingest.SHORT  # of a summary: lines of their own, shown before it
OF_A_FOLD = ("segment", "crop", "train", "predict")
Watch = Callable[[str], AbstractContextManager[Progress]]
_SHOWN = 3  # settings that a note names


@dataclass(frozen=True)
class Done:
    """A step that is finished, with its summary for a person."""

    step: str
    kept: bool  # it was finished before
    seconds: float
    summary: JsonObject


@dataclass(frozen=True)
class Note:
    """A message that a person must see before the step which it is about."""

    text: str


def perform(
    run: Run, recipe: Recipe, watch: Watch, *, until: str = "report"
) -> Iterator[Done | Note]:
    """Do the steps up to and with `until`; yield each as it ends.

    Raises `NotFound` for an unknown step, `Mismatch` where the folder is another data set's run.
    """
    if until not in STEPS:
        raise NotFound.named("step", until, STEPS)
    _refuse_other(run, recipe)
    with run.locked(), _explaining_interruption(run):
        if changes := run.recipe_changes():
            yield Note(f"{changes}; what depends on it is done again")
        elif superseded := _superseded(run, recipe, until):
            yield Note(superseded)
        run.write_recipe(recipe)
        for name, step in STEPS.items():
            if name == "predict":
                yield from _folds(run, recipe, watch)
                yield from _left_out(run, recipe, watch)
            yield from _once(run, recipe, name, step, watch)
            if name == "ingest":
                _refuse_untrainable(run, recipe, until)
            if name == until:
                return


def _superseded(run: Run, recipe: Recipe, until: str) -> str:
    """Say that steps after `until` were made with other settings, and are not made again now."""
    names = list(STEPS)
    later = [name for name in names[names.index(until) + 1 :] if run.done(name)]
    changed = run.other_settings(recipe) if later and run.done("recipe") else []
    # The data are the same, however their folder is written.
    changed = [one for one in changed if not one.startswith("[data]")]
    if not changed:
        return ""
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    return (
        f"{run.folder} was made with other settings: {'; '.join(changed[:_SHOWN])}{more}. The "
        f"former ones keep what follows '{until}' there, another folder with --out leaves it "
        "alone, and `hilum run` makes it again"
    )


@contextmanager
def _explaining_interruption(run: Run) -> Iterator[None]:
    try:
        yield
    except Interrupted as stop:
        stop.kept = (
            f"{run.folder} keeps the steps that are finished, every image that is cached and every "
            f"epoch of the training; the same command goes on there"
        )
        raise


def _refuse_untrainable(run: Run, recipe: Recipe, until: str) -> None:
    """Raise `MissingExtra` before any image is decoded where a requested step cannot train."""
    names = list(STEPS)
    due = names[: names.index(until) + 1]
    steps = {name for name in ("segment", "train") if name in due and not run.done(name)}
    if steps:
        _training.refuse_without_packages(run.manifest(), recipe, steps)


def _folds(run: Run, recipe: Recipe, watch: Watch) -> Iterator[Done | Note]:
    """Do the steps from segment to predict in each fold of a cross-validated run."""
    for number, fold in enumerate(division.folds(run)):
        for name in OF_A_FOLD:
            yield from _once(fold, recipe, name, STEPS[name], watch, f"fold {number}: ")


def _left_out(run: Run, recipe: Recipe, watch: Watch) -> Iterator[Done | Note]:
    """Do the same steps without each source that the recipe leaves out."""
    for source, why in left_out.plan(run, recipe).skipped.items():
        yield Note(f"{source} is not left out: {why}")
    for source, one in left_out.prepare(run, recipe):
        for name in OF_A_FOLD:
            yield from _once(one, recipe, name, STEPS[name], watch, f"without {source}: ")


def _once(
    run: Run, recipe: Recipe, name: str, step: ModuleType, watch: Watch, of: str = ""
) -> Iterator[Done | Note]:
    def make() -> StepResult:
        """Do the step under a progress bar; an error names the step and the run."""
        place = working_on(run.folder, f"doing the step '{of + name}' in")
        with watch(of + name) as progress, place:
            return step.make(run, recipe, progress)

    begun = time.monotonic()
    made_from = step.made_from(run, recipe)
    if damage := run.damage(name) if run.done(name) else "":
        yield Note(f"{damage}; step '{name}' is done again")
    elif (
        name == "cache" and run.finished(name, made_from) and (damage := cache.damage(run, recipe))
    ):
        yield Note(f"{damage}; step '{name}' is done again")
        run.forget(name)
    kept = run.ensure(name, made_from, make)
    yield Done(of + name, kept, time.monotonic() - begun, run.summary(name))


def _refuse_other(run: Run, recipe: Recipe) -> None:
    recipe.data.refuse_inside(run.folder, "choose another folder with --out")
    if (run / RECIPE).exists() or run.done("recipe"):
        if not any(map(run.done, STEPS)):
            return  # a folder that could not be read, a misspelt one say, does not bind the run
        before, data = run.data_folders(), sorted(folder.resolve() for folder in recipe.data.paths)
        if before != data:
            was, now = (" and ".join(map(str, folders)) for folders in (before, data))
            raise Mismatch(
                f"{run.folder} is a run of {was}, not of {now}; choose another folder with --out"
            )
    elif run.folder.is_dir() and any(path.name != ".lock" for path in run.folder.iterdir()):
        raise HilumError(
            f"{run.folder} is not empty and not a run; choose another folder with --out"
        )
