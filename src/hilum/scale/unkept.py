"""What a job without a journal has finished: in memory, and each result until it is taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

from hilum.scale.worker import Outcome


class Unkept:
    """Takes the place of a `hilum.scale.journal.Journal` that begins empty and ends with the job.

    Nothing but this process's memory holds what is in it, so it needs no digests.
    """

    def __init__(self) -> None:
        self._numbers = count(1)
        self._finished: dict[str, Outcome] = {}

    def is_empty(self) -> bool:
        """Return True: nothing was finished before this job."""
        return True

    def find(self, name: str, item: Any) -> Outcome | None:
        """Return None: nothing was finished before this job."""
        return None

    def begin(self, names: Sequence[str], owner: str, seconds: float, tries: int) -> int:
        """Return the number of a shard."""
        return next(self._numbers)

    def lose(self, number: int) -> None:
        """Do nothing: a shard that was lost has left nothing here."""

    def commit(
        self, number: int, items: Iterable[tuple[str, Any]], ended: Iterable[Outcome]
    ) -> None:
        """Keep the outcomes of a shard's items, each (name, item)."""
        self._finished |= {name: one for (name, _), one in zip(items, ended, strict=True)}

    def outcome(self, name: str) -> Outcome:
        """Return the outcome of an item that was committed, and forget it."""
        return self._finished.pop(name)
