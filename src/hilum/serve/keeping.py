"""Things kept in memory for the next request, the least recently used dropped first."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
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


class Results:
    """Files of films that were tried, each group under a secret name until it expires."""

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit, self._seconds = limit, seconds
        self._kept: OrderedDict[str, tuple[float, Mapping[str, bytes]]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, files: Mapping[str, bytes]) -> str:
        """Keep files and return the name of the group; the oldest groups go for it."""
        name = secrets.token_urlsafe(24)
        with self._lock:
            self._kept[name] = time.monotonic() + self._seconds, files
            self._expire()
            while len(self._kept) > 1 and self._held() > self._limit:
                self._kept.popitem(last=False)
        return name

    def get(self, name: str, file: str) -> bytes | None:
        """Return a file; None where it is not kept, or not any more."""
        with self._lock:
            self._expire()
            return self._kept[name][1].get(file) if name in self._kept else None

    def drop(self, name: str) -> None:
        """Forget a group."""
        with self._lock:
            self._kept.pop(name, None)

    def _expire(self) -> None:
        now = time.monotonic()
        for name in [name for name, (until, _) in self._kept.items() if until < now]:
            del self._kept[name]

    def _held(self) -> int:
        return sum(len(data) for _, files in self._kept.values() for data in files.values())
