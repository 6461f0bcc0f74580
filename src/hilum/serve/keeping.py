"""Things kept in memory for the next request, the least recently used dropped first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Values by key, up to `limit` of the sum of their sizes. Threads may share one.

    A value that is being made is made once: others who want it wait for it.
    """

    def __init__(self, limit: int, size: Callable[[Value], int]) -> None:
        self._limit, self._size = limit, size
        self._kept: OrderedDict[Hashable, Value] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()
        self._making: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of `key`; where it is not kept, make it. Errors are not kept."""
        if (found := self._found(key)) is not None:
            return found
        with self._lock:
            own = self._making.setdefault(key, threading.Lock())
        with own:
            if (found := self._found(key)) is not None:
                return found
            try:
                made = make()
                self._keep(key, made)
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return made

    def _found(self, key: Hashable) -> Value | None:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key]

    def _keep(self, key: Hashable, value: Value) -> None:
        size = self._size(value)
        if size > self._limit:
            return
        with self._lock:
            self._kept[key] = value
            self._held += size
            while self._held > self._limit:
                _, dropped = self._kept.popitem(last=False)
                self._held -= self._size(dropped)

    def drop(self, key: Hashable) -> None:
        """Forget a key, so that it is made again."""
        with self._lock:
            if key in self._kept:
                self._held -= self._size(self._kept.pop(key))

    @property
    def held(self) -> int:
        """The sum of the sizes of what is kept."""
        with self._lock:
            return self._held
