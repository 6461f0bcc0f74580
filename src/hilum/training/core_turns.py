"""Deal trainings of known lengths to cores so that all cores end together.

Jobs that may be interrupted take no longer than their sum divided by the cores, or than the longest
of them: laid end to end and cut into one stretch for each core, a job that is cut does its end on
one core last and its beginning on the next one first (McNaughton, Management Science 6:1, 1959).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

LEAST = 0.02  # of a job; a smaller piece is not worth an interruption


@dataclass(frozen=True)
class Piece:
    """What a core does of a job, until the fraction `until` of the job is done."""

    job: int
    until: float


def dealt(lengths: Sequence[float], cores: int) -> list[list[Piece]]:
    """Return the pieces that each core does, in turn; lengths are above 0, in any unit.

    Of jobs that are not cut the earlier ones begin earlier.
    """
    each = max(max(lengths), sum(lengths) / cores)
    queues: list[list[Piece]] = [[]]
    free = each
    for job in sorted(range(len(lengths)), key=lambda job: (job % cores, job)):
        length = lengths[job]
        beyond = length - free
        if len(queues) == cores or beyond <= LEAST * length:
            queues[-1].append(Piece(job, 1.0))
            free -= length
        elif free <= LEAST * length:
            queues.append([Piece(job, 1.0)])
            free = each - length
        else:
            queues[-1].append(Piece(job, 1.0))
            queues.append([Piece(job, beyond / length)])
            free = each - beyond
    return queues


class Turns:
    """Lets each job wait for its turn on a core, and say when it is done with it."""

    def __init__(self, lengths: Sequence[float], cores: int) -> None:
        self._queues = dealt(lengths, cores)
        self._changed = threading.Condition()
        self._stopped = False

    def wait(self, job: int) -> None:
        """Wait until a core's turn comes to the job, or until `stop` is called."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._at(job) is not None)

    def until(self, job: int) -> float:
        """Return the fraction of the job after which its turn is over, while it has one."""
        with self._changed:
            queue = self._at(job)
            return queue[0].until if queue else 1.0

    def over(self, job: int, *, whole: bool) -> None:
        """End the job's turn, or where it is done as a `whole` each that it still has."""
        with self._changed:
            for queue in self._queues if whole else [self._at(job) or []]:
                queue[:] = [one for one in queue if one.job != job]
            self._changed.notify_all()

    def stop(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _at(self, job: int) -> list[Piece] | None:
        """Return the queue whose turn has come to the job; the beginning before the end."""
        found = [queue for queue in self._queues if queue and queue[0].job == job]
        return min(found, key=lambda queue: queue[0].until, default=None)
