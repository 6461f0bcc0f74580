"""What readers corrected in a run with `hilum serve`, taken up when the run is made again.

A run whose folder holds a journal (`hilum.revisions`) takes that up; [data] annotations names that
of another run. Which revisions stand behind the run's table is in its table `uptake.REVISIONS`; a
run without a journal has no such table.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import polars as pl

from hilum.config import Data
from hilum.dataset.manifest import Manifest
from hilum.errors import BadRecipe, Damaged, NotFound
from hilum.revisions import changes, uptake
from hilum.revisions.journal import FILE, FOLDER, Journal
from hilum.revisions.uptake import Uptake
from hilum.run_folder import Run
from hilum.safety.path_names import as_text

SUMMARY = "annotations"  # key of the summary of the step ingest
_FROM = "from"


class Taken(NamedTuple):
    """What was taken up, and what the step's summary says of it."""

    uptake: Uptake
    summary: dict[str, object]


def take_up(run: Run, data: Data, manifest: Manifest) -> Taken | None:
    """Take up the journal of the run, or the one that the recipe names; None without any.

    Raises `BadRecipe` where there are both, `NotFound` where the recipe names none, `Damaged` where
    the journal is, or where it lacks revisions that the run was made with before.
    """
    folder = _folder(run, data)
    _refuse_lost(run, folder)
    if folder is None:
        return None
    with Journal.open(folder, create=False) as journal:
        taken = uptake.take_up(manifest, journal)
    return Taken(taken, {_FROM: _name(run, folder), **taken.summary})


def of_named(data: Data, manifest: Manifest) -> Manifest:
    """Return the manifest with the journal taken up that a recipe names, if it does."""
    if data.annotations_path is None:
        return manifest
    with Journal.open(uptake.located(data.annotations_path), create=False) as journal:
        return uptake.apply(manifest, journal)


def decisions(run: Run) -> pl.DataFrame:
    """Return the decisions on issues that a finished ingest took up, as `uptake.COLUMNS`."""
    return uptake.of_run(run).filter(pl.col("kind") == changes.DecideIssue.kind)


def _folder(run: Run, data: Data) -> Path | None:
    own = run.data / FOLDER
    if not _has_revisions(own):
        own = None
    if data.annotations_path is None:
        return own
    named = uptake.located(data.annotations_path)
    if own is not None and named.resolve() != own.resolve():
        raise BadRecipe(
            f"[data] annotations names {named}, and the run has corrections of its own in {own}; "
            "delete that line of the recipe, or put the corrections together with "
            f"`hilum annotations import {named} {run.data}` and then delete it"
        )
    return named


def _has_revisions(folder: Path) -> bool:
    if not (folder / FILE).exists():
        return False
    with Journal.open(folder, create=False) as journal:
        return journal.last > 0


def _name(run: Run, folder: Path) -> str:
    own = (run.data / FOLDER).resolve()
    return FOLDER if folder.resolve() == own else as_text(folder.resolve())


def _refuse_lost(run: Run, folder: Path | None) -> None:
    """Raise `Damaged` where what the run took up before is not there any more.

    A journal that the recipe names no more was given up by the user.
    """
    try:
        before, stated = uptake.of_run(run), run.summary("ingest").get(SUMMARY)
    except (NotFound, Damaged):  # nothing was made before, or the user deleted it
        return
    origin = stated.get(_FROM) if isinstance(stated, dict) else None
    if origin not in (FOLDER, _name(run, folder) if folder else None):
        return
    if origin == FOLDER and (folder is None or _name(run, folder) != FOLDER):
        uptake.refuse_lost(before, None)
    elif folder is not None:
        with Journal.open(folder, create=False) as journal:
            uptake.refuse_lost(before, journal)
