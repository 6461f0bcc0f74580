"""The chain: all steps in their order, each skipped where it is finished and made again where anything it was made from has changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
            begun = time.monotonic()
            made_from = step.made_from(run, recipe)
            kept = made_from is not None and run.finished(name, made_from)
            if not kept:
                with watch(name) as progress:
                    made, summary = step.make(run, recipe, progress)
                run.finish(name, made_from or {}, made, summary)
            yield Done(name, kept, time.monotonic() - begun, run.summary(name))
            if name == until:
                return


def _refuse_other(run: Run, recipe: Recipe) -> None:
    recipe.data.refuse_inside(run.folder, "choose another folder with --to")
    if (run / "recipe.toml").exists():
        before, data = (sorted(Path(folder).resolve() for folder in one.data.folders) for one in (run.recipe(), recipe))
        if before != data:
            was, now = (" and ".join(map(str, folders)) for folders in (before, data))
            raise Mismatch(f"{run.folder} is a run of {was}, not of {now}; choose another folder with --to")
    elif run.folder.is_dir() and any(path.name != ".lock" for path in run.folder.iterdir()):
        raise HilumError(f"{run.folder} is not empty and not a run; choose another folder with --to")
