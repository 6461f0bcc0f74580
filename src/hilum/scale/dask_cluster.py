"""Carry shards to the workers of a Dask cluster, on this machine or anywhere.

Dask only carries: what it answers is committed to the journal by this process, so a scheduler that
is lost costs no finished shard. A shard whose worker is killed is given to another by Dask itself;
what kills one worker after another comes back as lost. Workers need the same version of Hilum, and
the folders of the job under the same names; names relative to the folder that the command is given
in hold on them too.
"""

from __future__ import annotations

import logging
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from hilum import storage
from hilum.errors import HilumError, MissingExtra, on_one_line
from hilum.scale.worker import ENVIRONMENT, Ended, Task, Work, done, prepare

LOCAL = "local"  # in place of an address: a cluster of this machine's cores, for this command
_SECONDS_TO_CONNECT = 15
_AHEAD = 2  # shards for each thread of a worker, so that it never waits
# For a result that is finished: it never arrives where no worker is left to make it again.
_SECONDS_FOR_RESULT = 120
_SECONDS_BETWEEN_COUNTS = 2.0  # of the threads of a cluster, each a question to its scheduler
_SECONDS_WITHOUT_WORKER = 120  # a worker that is started again is back by then
_CLIENT = {
    # Dask asks a scheduler that is gone again for 30 s, and each call that needs it does so anew.
    "distributed.comm.timeouts.connect": f"{_SECONDS_TO_CONNECT}s",
    "distributed.comm.timeouts.tcp": f"{_SECONDS_TO_CONNECT}s",
    "distributed.comm.retry.count": 0,
}
# Of a cluster of our own, which nobody watches: what Dask measures again and again costs its
# processes a tenth of the cores that they share with the shards.
_UNWATCHED = {
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.active-memory-manager.start": False,
}


_STARTED_IN = {
    f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in ENVIRONMENT.items()
}


class DaskCluster:
    """An executor on the cluster at `address`, see `hilum.scale.executor.Carrier`.

    `address` is one of a scheduler (tcp://HOST:PORT, tls://...), the path of a scheduler file, or
    `LOCAL`; `count` the workers of a local cluster.
    """

    shard_seconds = 2.0  # scheduler, client and worker take 7 to 15 ms for each

    def __init__(self, address: str, count: int) -> None:
        """Raise `MissingExtra` without the extra, `HilumError` where no scheduler answers."""
        with MissingExtra.explained("scale", "a Dask cluster"):
            import distributed
        self._dask: Any = distributed
        self._address, self._cluster = address, None
        self._running: dict[Any, int] = {}
        self._work, self._items = b"", 1
        self._threads, self._counted = 1, float("-inf")
        self._open = ExitStack()
        self._open.enter_context(
            _settings(_UNWATCHED | _STARTED_IN if address == LOCAL else _CLIENT)
        )
        try:
            self._client = self._connected(address, count)
            self._client.wait_for_workers(1, timeout=_SECONDS_TO_CONNECT)
        except (OSError, RuntimeError, TimeoutError, ValueError) as error:
            self._open.close()
            raise HilumError(
                f"no Dask scheduler with a worker answers at {on_one_line(address)} "
                f"({on_one_line(str(error))[:200]}); expected an address such as "
                f"tcp://HOST:8786, a scheduler file, or '{LOCAL}': start "
                f"`dask scheduler` and `dask worker ADDRESS`, and try again"
            ) from error
        self._ended = SimpleQueue[Any]()  # the futures of `_running`, by a thread of Dask

    def _connected(self, address: str, count: int) -> Any:
        if address == LOCAL:
            self._cluster = self._dask.LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # any free port, no warning
            )
            return self._dask.Client(self._cluster, set_as_default=False)
        place = {"scheduler_file": address} if Path(address).is_file() else {"address": address}
        return self._dask.Client(**place, timeout=_SECONDS_TO_CONNECT, set_as_default=False)

    @property
    def owner(self) -> str:
        """The cluster."""
        return f"dask {self._address} for {os.uname().nodename}:{os.getpid()}"

    @property
    def slots(self) -> int:
        """How many shards can be on their way, by the threads that the cluster has now."""
        return min(max(1, self._threads_now()), self._items) * _AHEAD

    def _threads_now(self) -> int:
        now = time.monotonic()
        if now > self._counted + _SECONDS_BETWEEN_COUNTS:
            self._threads = sum(self._answered(self._client.nthreads).values())
            self._counted = now
        return self._threads

    def start(self, work: Work, items: int) -> None:
        """All later tasks are of this work, which is packed once."""
        self._work, self._items = pickle.dumps(work), max(1, items)

    def submit(self, task: Task) -> None:
        """Give a shard to the scheduler."""
        key = f"hilum-{storage.digest(self._work)}-{os.getpid()}-{task.number}"
        future = self._answered(
            lambda: self._client.submit(_done, self._work, Path.cwd(), task, key=key, pure=False)
        )
        self._running[future] = task.number
        future.add_done_callback(self._ended.put)

    def next(self) -> Ended:
        """Return the shard that ends next; `lost` where it killed one worker after another.

        Raises `HilumError` where the scheduler is gone, or no worker comes back.
        """
        with_worker = time.monotonic()
        while True:
            try:
                future = self._ended.get(timeout=_SECONDS_BETWEEN_COUNTS)
                break
            except Empty:
                now = time.monotonic()
                with_worker = now if self._threads_now() else with_worker
                if now > with_worker + _SECONDS_WITHOUT_WORKER:
                    raise self._gone() from None
        number = self._running[future]
        try:
            ended: Ended = self._answered(lambda: future.result(timeout=_SECONDS_FOR_RESULT))
        except self._dask.KilledWorker:
            ended = Ended(number, lost=True)
        del self._running[future]
        return ended

    def _answered(self, question: Callable[[], Any]) -> Any:
        """Return what a call of Dask returns; where the scheduler is gone, say so."""
        from concurrent.futures import CancelledError

        try:
            return question()
        except (CancelledError, OSError, TimeoutError) as error:
            raise self._gone() from error

    def _gone(self) -> HilumError:
        return HilumError(
            f"the Dask scheduler at {on_one_line(self._address)} is gone or has no worker "
            f"left, and {len(self._running)} shards with it; everything that was finished is "
            f"kept: start the cluster again and run the same command"
        )

    def stop_running(self) -> None:
        """Withdraw what was not answered."""
        with suppress(Exception):  # the scheduler may be what was lost
            self._client.cancel(list(self._running), force=True)
        self._running.clear()
        self._ended = SimpleQueue()

    def close(self) -> None:
        """Leave the cluster; a local one is ended."""
        with suppress(Exception):  # the scheduler may be what was lost
            self._client.close(timeout=2)
        if self._cluster is not None:
            with suppress(TimeoutError):  # its processes end with this one at the latest
                self._cluster.close(timeout=5)
        self._open.close()


@contextmanager
def _settings(changed: Mapping[str, object]) -> Iterator[None]:
    """Change settings of Dask, and keep what it logs of a lost connection out of the terminal.

    What is to be known of it is said by this module's errors.
    """
    import dask.config

    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [one.level for one in loggers]
    try:
        for one in loggers:
            one.setLevel(logging.CRITICAL)
        with dask.config.set(changed):
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


def _done(work: bytes, folder: Path, task: Task) -> Ended:
    """Do a shard, on a worker of the cluster; `folder` is the one that the command was given in."""
    prepare()
    with _working_in.folder(folder):
        return done(_unpacked(work), task)


class _WorkingIn:
    """Lets threads work in a folder, and those with another folder wait until they are done."""

    def __init__(self) -> None:
        self._changed, self._inside = threading.Condition(), 0
        self._folder: Path | None = None

    @contextmanager
    def folder(self, folder: Path) -> Iterator[None]:
        """Make relative names those below a folder, where this machine has it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._inside or self._folder == folder)
            if self._folder != folder:
                with suppress(OSError):  # a job whose names are absolute does without it
                    os.chdir(folder)
            self._folder = folder
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()


_working_in = _WorkingIn()


@lru_cache(maxsize=2)
def _unpacked(work: bytes) -> Work:
    """Unpack the work once per process, so that its models are read once."""
    # From whoever may submit to this scheduler, and so may run anything here already.
    return pickle.loads(work)  # noqa: S301
