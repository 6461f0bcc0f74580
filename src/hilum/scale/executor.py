"""Choose what carries the shards of this process's jobs: `with executing(...)` around them.

serial       this process, one image after another
processes    as many processes as the machine has cores; a job that is short is done in this
             process, since starting others would take longer
dask         a Dask cluster
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

from hilum.errors import BadRecipe, unknown
from hilum.safety import threads
from hilum.scale.dask_cluster import DaskCluster
from hilum.scale.processes import Processes
from hilum.scale.worker import Ended, Task, Work

EXECUTORS = (SERIAL, PROCESSES, DASK) = ("serial", "processes", "dask")
MOST_PROCESSES = 512  # each holds an open file of this process, which has about 1000
PATIENCE_SECONDS = 2.0  # of work left, below which other processes are not worth their start


class Carrier(Protocol):
    """Carries shards: takes up to `slots` of them, and returns the end of each, in any order.

    `shard_seconds`: what a shard should take, so that its way costs little beside it, and little is
    lost with it.
    """

    shard_seconds: float

    @property
    def slots(self) -> int:
        """How many shards can be on their way."""
        ...

    @property
    def owner(self) -> str:
        """Who has the shards, for the journal."""
        ...

    def submit(self, task: Task) -> None:
        """Take a shard."""
        ...

    def next(self) -> Ended:
        """Wait for the shard that ends next."""
        ...


class Remote(Carrier, Protocol):
    """A carrier outside this process, which serves one job after another."""

    def start(self, work: Work, items: int) -> None:
        """Make ready for a job of so many items; more places than these are never used."""
        ...

    def stop_running(self) -> None:
        """End what is on its way."""
        ...

    def close(self) -> None:
        """End for good."""
        ...


@dataclass
class Executor:
    """What was chosen; processes and connections are made when a job first needs them.

    `patience_seconds`: a job that is expected to take less is done in this process.
    """

    kind: str = SERIAL
    processes: int = 0  # 0: as many as there are cores
    cluster: str = ""
    patience_seconds: float = PATIENCE_SECONDS
    _remote: Remote | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in EXECUTORS:
            raise BadRecipe(unknown("executor", self.kind, EXECUTORS))
        if not 0 <= self.processes <= MOST_PROCESSES:
            raise BadRecipe(
                f"--processes is {self.processes:,}; expected 0, for one on each core, to "
                f"{MOST_PROCESSES}; for more, use a Dask cluster"
            )
        if (self.kind == DASK) != bool(self.cluster):
            raise BadRecipe(
                "--executor dask and --cluster ADDRESS go together: the address of a scheduler, "
                "such as tcp://HOST:8786, or 'local' for a cluster on this machine"
            )

    @property
    def count(self) -> int:
        """How many processes work at once on this machine."""
        return self.processes or threads.cores()

    @property
    def is_remote(self) -> bool:
        """Whether anything but this process can do shards."""
        return self.kind == DASK or (self.kind == PROCESSES and self.count > 1)

    def started(self, work: Work, items: int) -> Remote:
        """Return the carrier outside this process, ready for a job of so many items."""
        if self._remote is None:
            self._remote = (
                DaskCluster(self.cluster, self.count)
                if self.kind == DASK
                else Processes(self.count)
            )
        self._remote.start(work, items)
        return self._remote

    def close(self) -> None:
        """End all processes and connections."""
        if self._remote is not None:
            self._remote.close()
            self._remote = None


_SERIAL = Executor()
_current: ContextVar[Executor] = ContextVar("executor", default=_SERIAL)


def current() -> Executor:
    """Return the executor of the innermost `executing`; without one everything is serial."""
    return _current.get()


@contextmanager
def executing(executor: Executor) -> Iterator[None]:
    """Let an executor carry the shards of all jobs in the block; it is closed at its end."""
    before = _current.set(executor)
    try:
        yield
    finally:
        _current.reset(before)
        executor.close()
