"""Apply a function to many items that take fractions of a millisecond each, without a journal.

The way of an item through `hilum.scale.shards` takes the calling process a good part of such a
time, and all others wait for it. So what is an item there is a group of `TOGETHER` here, whose
results come back in one piece.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from hilum.errors import BadData
from hilum.scale import shards
from hilum.scale.worker import Outcome

TOGETHER = 64
Item = TypeVar("Item")
Result = TypeVar("Result")
_Named = Mapping[str, Any]  # items by name


def run(
    work: Callable[[Item], Result], items: Mapping[str, Item]
) -> Iterator[tuple[str, Result | BadData]]:
    """Yield the name of each item in their order, and its result, or the `BadData` for its fault.

    `work` is a module-level function or a frozen dataclass with `__call__`, which raises `BadData`
    for an item at fault; it, the items and the results are picklable. An item on which process
    after process was ended is at fault. Raises what `work` raises besides.
    """
    left = iter(items.items())
    groups = list[_Named]()
    while group := dict(islice(left, TOGETHER)):
        groups.append(group)
    held = list[tuple[_Named, Outcome]]()
    for group, outcome in _ended(work, groups):
        if held or outcome.fault:  # another job can begin only when this one is over
            held.append((group, outcome))
        else:
            yield from _of_group(group, outcome)
    for group, outcome in held:
        yield from _one_by_one(work, group) if outcome.fault else _of_group(group, outcome)


def _of_group(group: _Named, outcome: Outcome) -> Iterator[tuple[str, Any]]:
    """Yield name and result of the items of a group that was done."""
    return zip(group, _unpacked(outcome.result), strict=True)


def _ended(
    work: Callable[[Any], Any], groups: Sequence[_Named]
) -> Iterator[tuple[_Named, Outcome]]:
    """Yield what became of each group; one that is named by an item alone has that name."""
    items = {next(iter(group)): list(group.values()) for group in groups}
    with closing(shards.run(_OnGroup(work), items, None)) as outcomes:
        yield from zip(groups, outcomes, strict=True)


def _one_by_one(work: Callable[[Any], Any], group: _Named) -> Iterator[tuple[str, Any]]:
    """Yield name and result of a group's items, one of which ends processes."""
    for alone, outcome in _ended(work, [{name: item} for name, item in group.items()]):
        (name,) = alone
        yield name, BadData(outcome.fault) if outcome.fault else _unpacked(outcome.result)[0]


@dataclass(frozen=True)
class _OnGroup(Generic[Item, Result]):
    """Gives the results of a group's items, pickled together: what is equal in them goes once."""

    work: Callable[[Item], Result]

    def __call__(self, items: Sequence[Item]) -> bytes:
        return pickle.dumps([self._on_one(item) for item in items])

    def _on_one(self, item: Item) -> Result | BadData:
        try:
            return self.work(item)
        except BadData as fault:
            return BadData(str(fault))  # of any class of them, which need not be picklable


def _unpacked(results: bytes) -> list[Any]:
    # What `_OnGroup` has packed, in this process or one that serves it.
    return pickle.loads(results)  # noqa: S301
