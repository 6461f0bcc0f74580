"""One loop for every command that takes images: find them, work on one after another, and let no
fault of a file stop the others.
"""

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
Say = Callable[[str], None]  # takes a sentence for the person at the keyboard
Result = TypeVar("Result")


def unwatched(title: str) -> AbstractContextManager[Progress]:
    return nullcontext(quietly)


def unheard(sentence: str) -> None:
    """Drop a sentence that nobody asked to hear."""


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
    """Call `work` with path and unique name of every image that was found, and write the `table`.

    Returns its results in the order of the names, and the faults: arguments that name no image, and
    files for which `work` raised `BadData`. `say` hears what was passed over.
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
