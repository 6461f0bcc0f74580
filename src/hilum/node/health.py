"""What a node's parts are doing: which are stopped by something, and how much was done.

`Health.report` says whether the node works; `Health.metrics` gives the same and the counters in
Prometheus' text format (version 0.0.4). Neither holds anything of a patient.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from hilum.errors import HilumError
from hilum.node import visits
from hilum.node.journal import Journal
from hilum.node.logs import Value

OK, DEGRADED = "ok", "degraded"
GRACE = 30.0  # seconds that a part may be stopped before the node counts as degraded
BOUNDS = (0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0)  # seconds, of the histogram
_COUNTED = {
    "film received": "received",
    "film read": "read",
    "film sent": "sent",
    "film failed": "failed",
    "film refused by the archive": "refused",
    "study visited": "visited",
    "study failed": "unvisited",
}
_HELP = {
    "hilum_node_films": "Films in the journal by state.",
    "hilum_node_studies": "Studies of polled sources by state.",
    "hilum_node_events_total": "What was done since the node was started.",
    "hilum_node_up": "Whether a part works: 1, or 0 while something stops it.",
    "hilum_node_film_seconds": "Seconds from the receipt of a film until its results were stored.",
    "hilum_node_oldest_seconds": "Seconds that the film has waited that waits longest; 0 for none.",
    "hilum_node_resident_bytes": "Memory of the process.",
}


class Report(TypedDict):
    """The health of a node, in JSON types; `stopped` gives seconds by part."""

    status: str
    films: dict[str, int]
    studies: dict[str, int]
    stopped: dict[str, float]


class Health:
    """The health of one node; threads may use it at once."""

    def __init__(self, journal: Journal) -> None:
        self._journal, self._lock = journal, threading.Lock()
        self._parts: dict[str, float] = {}  # since when stopped; 0.0 where it works
        self._counted: Counter[str] = Counter()
        self._seconds: list[int] = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0

    def hear(self, event: str, fields: dict[str, Value]) -> None:
        """Count an event of the log."""
        with self._lock:
            self._counted[_COUNTED.get(event, "")] += 1
            if event == "film sent":
                seconds = float(fields["seconds"])
                self._sum += seconds
                place = next((at for at, bound in enumerate(BOUNDS) if seconds <= bound), -1)
                self._seconds[place] += 1

    def works(self, part: str) -> bool:
        """Record that a part works; return whether something had stopped it."""
        with self._lock:
            before = self._parts.get(part, -1.0)
            self._parts[part] = 0.0
        if before != 0.0:
            self._record(part, 0.0, "")
        return before > 0.0

    def stopped(self, part: str, error: Exception) -> bool:
        """Record what stops a part; return whether it had worked before."""
        with self._lock:
            before = self._parts.get(part, 0.0)
            self._parts[part] = before if before > 0.0 else time.monotonic()
            seconds = time.monotonic() - self._parts[part]
        self._record(part, time.time() - seconds, f"{type(error).__name__}: {error}")
        return not before > 0.0

    def _record(self, part: str, since: float, reason: str) -> None:
        with suppress(HilumError):  # what stops the part, as a full disk, may stop its record too
            self._journal.set_problem(part, since, reason)

    def report(self) -> Report:
        """Return the health."""
        now = time.monotonic()
        with self._lock:
            stopped = {part: round(now - at, 1) for part, at in self._parts.items() if at > 0.0}
        degraded = any(seconds >= GRACE for seconds in stopped.values())
        return Report(
            status=DEGRADED if degraded else OK,
            films=self._journal.counts(),
            studies=visits.counts(self._journal),
            stopped=stopped,
        )

    def metrics(self) -> str:
        """Return the metrics as text."""
        report = self.report()
        lines: list[str] = []
        for name, label, values in (
            ("hilum_node_films", "state", report["films"]),
            ("hilum_node_studies", "state", report["studies"]),
        ):
            lines += _family(name, "gauge", [f'{{{label}="{k}"}} {v}' for k, v in values.items()])
        with self._lock:
            events = [f'{{event="{name}"}} {self._counted[name]}' for name in _COUNTED.values()]
            up = [f'{{part="{part}"}} {int(at == 0.0)}' for part, at in self._parts.items()]
            seconds, total = list(self._seconds), self._sum
        lines += _family("hilum_node_events_total", "counter", events)
        lines += _family("hilum_node_up", "gauge", up)
        lines += _histogram("hilum_node_film_seconds", seconds, total)
        oldest = self._journal.oldest_pending()
        waited = max(0.0, time.time() - oldest) if oldest is not None else 0.0
        lines += _family("hilum_node_oldest_seconds", "gauge", [f" {waited:.1f}"])
        lines += _family("hilum_node_resident_bytes", "gauge", [f" {resident_bytes()}"])
        return "\n".join(lines) + "\n"


def _family(name: str, kind: str, values: list[str]) -> list[str]:
    head = [f"# HELP {name} {_HELP[name]}", f"# TYPE {name} {kind}"]
    return [*head, *(f"{name}{value}" for value in values)]


def _histogram(name: str, counts: list[int], total: float) -> list[str]:
    lines, below = [f"# HELP {name} {_HELP[name]}", f"# TYPE {name} histogram"], 0
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), counts, strict=True):
        below += count
        lines.append(f'{name}_bucket{{le="{bound}"}} {below}')
    return [*lines, f"{name}_sum {total:.3f}", f"{name}_count {below}"]


def resident_bytes() -> int:
    """Return the memory of this process that is in use; 0 where the system does not say."""
    place = Path("/proc/self/statm")
    if not place.exists():
        return 0
    with open(place) as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
