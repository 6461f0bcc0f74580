"""The loop of every command that takes images: no fault of one file stops the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from hilum.errors import working_on
from hilum.imaging.batch.results_table import Table, itself
from hilum.imaging.files import output_folder
from hilum.imaging.files.find_images import Collected
from hilum.progress import Progress, quietly
from hilum.safety.path_names import as_text
from hilum.scale import shards

Watch = Callable[[str], AbstractContextManager[Progress]]  # a progress bar with a title
Say = Callable[[str], None]  # takes a sentence for the user
Result = TypeVar("Result")


def unwatched(title: str) -> AbstractContextManager[Progress]:
    """Return a progress bar that shows nothing."""
    return nullcontext(quietly)


def unheard(sentence: str) -> None:
    """Drop a sentence: the default where the caller wants no messages."""


def for_each(
    found: Collected,
    work: Callable[[Path, str], Result],
    *,
    title: str,
    watch: Watch,
    say: Say,
    table: Table[Result] | None = None,
    plain: Callable[[Result], Any] = itself,
    restored: Callable[[Any], Result] = itself,
) -> tuple[list[Result], list[str]]:
    """Call `work` with the path and unique name of every image found, and write the `table`.

    Any executor may carry it (`hilum.scale`), so `work` is a frozen dataclass with `__call__`.
    `plain` converts a result to JSON types, and `restored` back. Returns the results in the order
    of the names, and the faults: arguments that name no image, and files for which `work` raised
    `BadData`. `say` receives the notes on what was skipped.
    """
    for note in found.notes:
        say(note)
    results: list[Result] = []
    faults = list(found.faults)
    items = {name: (path, name, _state(path)) for path, name in found.names}
    outputs = tuple(dict.fromkeys((table.out, *table.also))) if table else ()
    kept = table.kept(results, len(items)) if table else nullcontext()
    outcomes = shards.run(
        _OnImage(work, plain, outputs),
        items,
        table.journal if table else None,
        made_from=table.made_from if table else None,
        kept=_is_written,
    )
    with kept, watch(title) as progress, closing(outcomes):
        for done, (name, outcome) in enumerate(zip(items, outcomes, strict=True), start=1):
            if outcome.poisoned:  # of which only its name here was known
                path, *_ = items[name]
                faults.append(f"{as_text(path)}{outcome.fault.removeprefix(name)}")
            elif outcome.fault:
                faults.append(outcome.fault)
            else:
                results.append(restored(json.loads(outcome.result)["result"]))
            progress(done, len(items))
    return results, faults


@dataclass(frozen=True)
class _OnImage(Generic[Result]):
    """The work on one image; gives JSON with what was written, and the result in JSON types."""

    work: Callable[[Path, str], Result]
    plain: Callable[[Result], Any]
    outputs: tuple[output_folder.Output, ...]

    def __call__(self, item: tuple[Path, str, list[int] | None]) -> bytes:
        path, name, _ = item
        for output in self.outputs:
            output.given.clear()
        with working_on(path):
            result = self.plain(self.work(path, name))
        written = [as_text(place.absolute()) for output in self.outputs for place in output.given]
        return json.dumps({"written": written, "result": result}).encode()


def _is_written(result: bytes) -> bool:
    """Return whether all that was written for a result still exists."""
    return all(Path(place).exists() for place in json.loads(result)["written"])


def _state(path: Path) -> list[int] | None:
    """Return size and modification time of a file, to detect changes; None where it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
