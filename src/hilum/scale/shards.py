"""Apply a function to many items, as shards with a journal, whoever carries them.

A shard is so many items as take about the `shard_seconds` of what carries it; in this process it is
at first one, so that no more is repeated after an interruption. One whose process is ended is cut
into its items, and these come last, each alone: the one that ended the process ends it again, and
after `TRIES` of its own it is set aside as poisoned; the others are unharmed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hilum.scale import executor
from hilum.scale.executor import Carrier, Remote
from hilum.scale.in_process import InProcess
from hilum.scale.journal import Journal, opened
from hilum.scale.processes import LEASE_SECONDS
from hilum.scale.unkept import Unkept
from hilum.scale.worker import Ended, Outcome, Task, Work

MOST = 256  # items of a shard
_ALONE = 64  # items in this process, each of which is a shard
_SMALLEST = 10  # parts of a shard: the last ones are no smaller, as each has a cost of its own
_TO_ESTIMATE = 2  # shards; the first one alone loads models
TRIES = 2  # of an item alone, each of which ended its process
_EACH = 2  # shards at least for each place of the executor, so that none is idle at the end


@dataclass(frozen=True)
class _Shard:
    """Names of items; `tries` ended processes had worked on these alone."""

    names: tuple[str, ...]
    tries: int = 0


def always(result: bytes) -> bool:
    """Keep every result of an earlier call."""
    return True


def run(
    work: Work,
    items: Mapping[str, Any],
    journal: Path | None,
    *,
    made_from: object = None,
    kept: Callable[[bytes], bool] = always,
    threads: int = 1,
) -> Generator[Outcome, None, None]:
    """Yield what became of each item, in their order, as soon as it and all before it are done.

    `work` is a module-level function or a frozen dataclass with `__call__`: it is pickled, gives
    bytes that depend on its item alone, and raises `BadData` for an item at fault; what it writes
    is the same when it is written again. `items` are by name, picklable, and equal where their
    `repr` is. `journal` is a file, kept when the loop ends (`hilum.scale.journal.delete`), or None:
    nothing is kept. `made_from`, JSON types, is all that results depend on besides their items.
    `kept` says whether the result of an earlier call still holds. As many `threads` may call `work`
    at once in this process, where no other does. Raises what `work` raises but `BadData`.
    """
    finished = nullcontext(Unkept()) if journal is None else opened(journal, made_from)
    with finished as book, closing(_Job(work, items, book, kept, threads)) as job:
        yield from job.outcomes()


class _Job:
    """The items that are left, the shards on their way, and what carries them now."""

    def __init__(
        self,
        work: Work,
        items: Mapping[str, Any],
        journal: Journal | Unkept,
        kept: Callable[[bytes], bool],
        threads: int,
    ) -> None:
        self._work, self._items, self._journal, self._kept = work, items, journal, kept
        self._executor = executor.current()
        self._here = InProcess(work, threads)
        self._carrier: Carrier = self._here
        self._remote: Remote | None = None
        self._left = deque[str]()
        self._again = deque[_Shard]()  # of ended processes
        self._running: dict[int, tuple[_Shard, list[Any]]] = {}  # with its items
        self._finished = set[str]()  # and not yet yielded
        self._begun, self._done = 0.0, 0
        self._shards_here = 0
        self._fastest = float("inf")  # seconds for an item of a shard here, without first loads

    def outcomes(self) -> Iterator[Outcome]:
        """Do what is left, and yield in the order of the items."""
        empty = self._journal.is_empty()
        self._left.extend(name for name in self._items if empty or self._is_left(name))
        waiting = {*self._left}
        self._begun = time.monotonic()
        for name in self._items:
            while name in waiting and name not in self._finished:
                self._choose_carrier()
                self._hand_out()
                self._take_next()
            self._finished.discard(name)
            yield self._journal.outcome(name)

    def close(self) -> None:
        """Drop what is on its way."""
        self._here.close()
        if self._running and self._remote is not None:
            self._remote.stop_running()

    def _is_left(self, name: str) -> bool:
        found = self._journal.find(name, self._items[name])
        return found is None or not (found.fault == "" and self._kept(found.result))

    # ------------------------------------------------------------------------------ handing out

    def _choose_carrier(self) -> None:
        """Change to other processes when the work left is worth their start."""
        if self._carrier is self._here and self._executor.is_remote and self._is_worth_it():
            while self._running:
                self._take(self._here.next())
            self._carrier = self._remote = self._executor.started(self._work, len(self._left))

    def _is_worth_it(self) -> bool:
        patience = self._executor.patience_seconds
        enough = self._shards_here >= _TO_ESTIMATE
        return patience <= 0 or (enough and len(self._left) * self._fastest > patience)

    def _seconds_each(self) -> float:
        """Return the time that one place of the executor takes for an item, so far."""
        return (time.monotonic() - self._begun) / max(1, self._done)

    def _hand_out(self) -> None:
        while len(self._running) < self._carrier.slots and (self._left or self._again):
            shard = _Shard(self._cut()) if self._left else self._again.popleft()
            number = self._journal.begin(
                shard.names, self._carrier.owner, LEASE_SECONDS, shard.tries
            )
            items = [self._items[name] for name in shard.names]
            self._running[number] = shard, items
            self._carrier.submit(Task(number, items))

    def _cut(self) -> tuple[str, ...]:
        """Take the items of the next shard: few at first, and few again at the end."""
        is_here = self._carrier is self._here
        if is_here and self._done < _ALONE:
            return (self._left.popleft(),)
        slots, seconds = self._carrier.slots, self._carrier.shard_seconds
        places = slots if is_here else max(1, slots // 2)
        by_time = int(seconds / max(1e-9, self._seconds_each() * places)) if self._done else 1
        even = -(-len(self._left) // (slots * _EACH)) if slots > 1 else MOST
        size = max(1, min(MOST, by_time, max(even, by_time // _SMALLEST)))
        return tuple(self._left.popleft() for _ in range(min(size, len(self._left))))

    # ------------------------------------------------------------------------------ taking back

    def _take_next(self) -> None:
        """Wait for the end of a shard; of those done here, take the time."""
        begun = time.monotonic()
        ended = self._carrier.next()
        if self._carrier is self._here:
            self._shards_here += 1
            seconds = (time.monotonic() - begun) / len(self._running[ended.number][0].names)
            self._fastest = min(self._fastest, seconds)
        self._take(ended)

    def _take(self, ended: Ended) -> None:
        shard, items = self._running.pop(ended.number)
        if ended.error is not None:
            raise ended.error
        if ended.lost:
            self._lose(ended.number, shard, items)
        else:
            self._commit(ended.number, shard, items, ended.outcomes)

    def _commit(
        self, number: int, shard: _Shard, items: list[Any], outcomes: Sequence[Outcome]
    ) -> None:
        self._journal.commit(number, zip(shard.names, items, strict=True), outcomes)
        self._finished.update(shard.names)
        self._done += len(shard.names)

    def _lose(self, number: int, shard: _Shard, items: list[Any]) -> None:
        """Do the items of an ended process again, each alone, or set one aside."""
        self._journal.lose(number)
        name, *others = shard.names
        if others:
            self._again.extend(_Shard((one,)) for one in shard.names)
        elif shard.tries + 1 < TRIES:
            self._again.append(_Shard(shard.names, shard.tries + 1))
        else:
            fault = (
                f"{name}: each of the {TRIES} processes that worked on it alone was "
                f"ended by the system, so it is set aside; its file may be made to crash or "
                f"exhaust a decoder"
            )
            self._commit(number, shard, items, [Outcome(fault=fault, poisoned=True)])
