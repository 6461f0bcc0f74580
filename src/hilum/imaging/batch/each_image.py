"""The loop of every command that takes images: no fault of one file stops the others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar

from hilum.errors import BadData, working_on
from hilum.imaging.batch.results_table import Table
from hilum.imaging.files.find_images import Collected
from hilum.progress import Progress, quietly

Watch = Callable[[str], AbstractContextManager[Progress]]  # a progress bar with a title
Say = Callable[[str], None]  # takes a sentence for the user
Result = TypeVar("Result")


def unwatched(title: str) -> AbstractContextManager[Progress]:
    """Return a progress bar that shows nothing."""
    return nullcontext(quietly)


def unheard(sentence: str) -> None:
    """Drop a sentence: the default where the caller wants no messages."""


def _afresh(work: Callable[[Path, str], Result], path: Path, name: str) -> Result:
    return work(path, name)


def for_each(
    found: Collected,
    work: Callable[[Path, str], Result],
    *,
    title: str,
    watch: Watch,
    say: Say,
    table: Table[Result] | None = None,
) -> tuple[list[Result], list[str]]:
    """Call `work` with the path and unique name of every image found, and write the `table`.

    Returns the results in the order of the names, and the faults: arguments that name no image, and
    files for which `work` raised `BadData`. `say` receives the notes on what was skipped.
    """
    for note in found.notes:
        say(note)
    results: list[Result] = []
    faults = list(found.faults)
    kept = table.kept(found.names, results) if table else nullcontext(_afresh)
    with kept as do, watch(title) as progress:
        for done, (path, name) in enumerate(found.names, start=1):
            try:
                with working_on(path):
                    results.append(do(work, path, name))
            except BadData as fault:
                faults.append(str(fault))
            progress(done, len(found.names))
    return results, faults
