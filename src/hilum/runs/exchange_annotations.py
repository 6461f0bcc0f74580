"""The corrections of readers in a run's folder: shown, handed on, taken in, compared, verified."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hilum.errors import BadData, NotFound
from hilum.revisions import exchange, history, uptake
from hilum.revisions.journal import FOLDER, Journal
from hilum.revisions.state import State
from hilum.run_folder import Run, is_run


def log(place: Path, image: str | None = None, until: int | None = None) -> pl.DataFrame:
    """Return the revisions of a run as `history.LOG`, of one image where it is given.

    Raises `NotFound` with the nearest name for an image without a revision.
    """
    with _opened(place) as journal:
        everything = {one.number: one for one in journal.revisions(until=until)}
        chosen = journal.revisions(image_id=image, until=until) if image else everything.values()
        if image and not chosen:
            known = {row for one in everything.values() for row in one.subject[1:2]}
            raise NotFound.named("image with a revision", image, known)
        return history.log(chosen, everything)


def export(place: Path, to: Path, until: int | None = None) -> dict[str, object]:
    """Write what stands in a run's journal to `to`, see `hilum.revisions.exchange`.

    Raises `HilumError` where `to` exists or is in the data.
    """
    run = _run_of(place)
    run.edited_recipe().data.refuse_inside(to, "choose another place")
    with _opened(place) as journal:
        return exchange.export(journal, run.manifest(), to, until)


def take_in(
    source: Path, place: Path, author: str | None = None, *, replacing: bool = False
) -> dict[str, object]:
    """Append what `source` says to the journal of a run, see `hilum.revisions.exchange`."""
    run = _run_of(place)
    with Journal.open(run.data / FOLDER) as journal:
        return exchange.take_in(journal, run.manifest(), source, author, replacing=replacing)


def diff(first: Path, second: Path, until: int | None = None) -> pl.DataFrame:
    """Return where the corrections of two runs differ; the first one's up to `until`.

    The same run twice needs `until`: it is compared with itself as it was then.
    """
    if until is None and first.resolve() == second.resolve():
        raise BadData("one run does not differ from itself; give another, or --until NUMBER")
    with _opened(first) as one, _opened(second) as other:
        return history.differences(State.of(one, until), State.of(other))


def verify(place: Path) -> dict[str, object]:
    """Check the chain of a journal and all its masks. Raises `Damaged` with every fault."""
    with _opened(place) as journal:
        journal.verify()
        state = State.of(journal)
        return {"whole": str(journal.path), "revisions": journal.last, "masks": len(state.masks)}


def _opened(place: Path) -> Journal:
    return Journal.open(uptake.located(place), create=False, read_only=True)


def _run_of(place: Path) -> Run:
    """Return the run in a folder, or the one whose folder of annotations it is."""
    for folder in (place, place.resolve().parent):
        if is_run(folder):
            return Run(folder)
    raise NotFound(
        f"{place} is not a run, whose images are needed here: give the folder of one, made with "
        "`hilum run DATA`"
    )
