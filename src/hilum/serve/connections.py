"""Connections of the web server: bounded in number, and in the time until a request has come.

uvicorn waits for ever for the rest of a request that has begun, so that a thousand half-open
connections would take every file that the system lets the desk open.
"""

from __future__ import annotations

import asyncio
import resource
from collections import OrderedDict
from dataclasses import dataclass, field

from uvicorn.protocols.http.h11_impl import H11Protocol

SECONDS = 15.0  # until the head of a request must have come
MOST = 1000
_FRACTION = 0.5  # of the files that the system lets a process open


def most() -> int:
    """Return how many connections are kept open at once, below the system's limit of files."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if allowed == resource.RLIM_INFINITY else min(MOST, int(allowed * _FRACTION))


@dataclass
class Waiting:
    """The connections of one server that wait for a request, the longest first."""

    most: int
    seconds: float
    since: OrderedDict[H11Protocol, asyncio.TimerHandle] = field(default_factory=OrderedDict)

    def add(self, one: H11Protocol) -> None:
        """Let a connection wait; it is closed where no whole request comes in time."""
        if one not in self.since:
            self.since[one] = one.loop.call_later(self.seconds, self._close, one)

    def remove(self, one: H11Protocol) -> None:
        """Let a connection wait no more."""
        if timer := self.since.pop(one, None):
            timer.cancel()

    def make_room(self, connections: int) -> None:
        """Close the connection that waits longest where there are too many."""
        if connections > self.most and self.since:
            self._close(next(iter(self.since)))

    def _close(self, one: H11Protocol) -> None:
        self.remove(one)
        one.transport.abort()


def bounded(waiting: Waiting) -> type[H11Protocol]:
    """Return the protocol of a server whose connections are bounded by `waiting`."""

    class Bounded(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            waiting.make_room(len(self.connections))
            waiting.add(self)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.transport.is_closing():
                return
            if self.cycle is None or self.cycle.response_complete:
                waiting.add(self)
            else:
                waiting.remove(self)

        def connection_lost(self, exc: Exception | None) -> None:
            waiting.remove(self)
            super().connection_lost(exc)

    return Bounded
