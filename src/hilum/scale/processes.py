"""Carry shards to worker processes on this machine (`hilum.scale.worker`).

The processes outlive a job, so that the next does not pay for their start. One that is ended, by a
decoder that crashes or by a system without memory, is replaced, and costs the shard it worked on:
the pool goes on, where one of `concurrent.futures` is broken by it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

from hilum.errors import HilumError
from hilum.scale.worker import ENVIRONMENT, Begun, Ended, NewWork, Task, Work

LEASE_SECONDS = 3600.0  # for one shard, before its process is taken for stuck and ended
_PROGRAM = "from hilum.scale.worker import main; main({})"
_AHEAD = 2  # shards in a worker's pipe, so that it never waits
_FAILED_STARTS = 8  # ends of processes in a row, none of which had finished a shard
_TO_END = 3.0  # seconds that a process has to remove what is half written


@dataclass
class _Worker:
    """A process, and the shards in its pipe in their order."""

    process: subprocess.Popen[bytes]
    connection: Connection
    work: Work | None = None
    tasks: deque[Task] = field(default_factory=deque)
    begun: bool = False  # it works on the first of them, and not on its own start
    since: float = 0.0  # when that began or was sent, seconds of `time.monotonic`

    @classmethod
    def started(cls) -> _Worker:
        here, there = socket.socketpair()
        package = Path(__file__).parents[2]
        paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
        with there:
            process = subprocess.Popen(
                # -P: no module is ever imported from the folder that the command is given in
                [sys.executable, "-P", "-c", _PROGRAM.format(there.fileno())],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join(paths)},
            )
        worker = cls(process, Connection(here.detach()))
        worker.send(sys.path)
        return worker

    def send(self, message: object) -> None:
        """Send a message; one that no longer arrives is noticed when the worker is waited for."""
        try:
            self.connection.send(message)
        except (BrokenPipeError, ConnectionResetError):
            return

    def end(self) -> None:
        self.process.terminate()
        self.connection.close()
        try:
            self.process.wait(_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Processes:
    """An executor of `count` processes, see `hilum.scale.executor.Carrier`."""

    shard_seconds = 0.25

    def __init__(self, count: int, lease_seconds: float = LEASE_SECONDS) -> None:
        self._count, self._lease = count, lease_seconds
        self._workers: list[_Worker] = []
        self._work: Work | None = None
        self._failed_starts = 0
        self._lost: deque[Ended] = deque()

    @property
    def owner(self) -> str:
        """The processes of this one."""
        return f"processes of {os.getpid()}"

    @property
    def slots(self) -> int:
        """How many shards can be on their way."""
        return len(self._workers) * _AHEAD

    def start(self, work: Work, items: int) -> None:
        """Start the processes that are missing; all later tasks are of this work.

        Raises `HilumError` where the system allows no more of them.
        """
        self._work = work
        wanted = min(self._count, max(1, items))
        while len(self._workers) < wanted:  # each is known at once, so that `close` ends it
            self._workers.append(_started(len(self._workers)))

    def submit(self, task: Task) -> None:
        """Give a shard to the worker with the fewest."""
        worker = min(self._workers, key=lambda one: len(one.tasks))
        if worker.work is not self._work:
            worker.send(NewWork(self._work))  # type: ignore[arg-type]
            worker.work = self._work
        if not worker.tasks:
            worker.since = time.monotonic()
        worker.tasks.append(task)
        worker.send(task)

    def next(self) -> Ended:
        """Return the shard that ends next; `lost` where its process was ended.

        Raises `HilumError` where processes end one after another before they finish anything.
        """
        while not self._lost:
            busy = {one.connection: one for one in self._workers if one.tasks}
            late = min(map(self._deadline, busy.values())) - time.monotonic()
            for connection in wait(list(busy), max(0.0, late)):
                worker = busy[connection]  # type: ignore[index]
                try:
                    answer: Begun | Ended = worker.connection.recv()
                except (EOFError, ConnectionResetError):
                    self._replace(worker)
                    continue
                worker.since, worker.begun = time.monotonic(), isinstance(answer, Begun)
                if isinstance(answer, Ended):
                    self._failed_starts = 0
                    worker.tasks.popleft()
                    return answer
            for worker in busy.values():
                if worker.tasks and time.monotonic() > self._deadline(worker):
                    self._replace(worker)
        return self._lost.popleft()

    def _deadline(self, worker: _Worker) -> float:
        """Return when a worker is taken for stuck: a busy machine may be slow to start one."""
        return worker.since + (self._lease if worker.begun else LEASE_SECONDS)

    def _replace(self, worker: _Worker) -> None:
        """Start a process in place of one that ended; only the shard it worked on is lost.

        A shard that waited for it, while it started say, goes to another.
        """
        worker.end()
        self._workers.remove(worker)
        self._failed_starts += 1
        if self._failed_starts > _FAILED_STARTS:
            raise HilumError(
                f"{self._failed_starts} processes in a row were ended by the system before they "
                f"had finished anything (exit status {worker.process.returncode}), perhaps for "
                f"want of memory; run the same command again with fewer --processes, or with "
                f"--executor serial"
            )
        if worker.begun:
            self._lost.append(Ended(worker.tasks.popleft().number, lost=True))
        self._workers.append(_started(len(self._workers)))
        for task in worker.tasks:
            self.submit(task)

    def stop_running(self) -> None:
        """End the processes that still work on a shard, as when the job is interrupted."""
        for worker in [one for one in self._workers if one.tasks]:
            worker.end()
            self._workers.remove(worker)
        self._lost.clear()

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()


def _started(others: int) -> _Worker:
    try:
        return _Worker.started()
    except OSError as error:
        raise HilumError(
            f"the system allows no process beside {others} others ({error.strerror or error}); run "
            f"the same command again with fewer --processes, or with --executor serial"
        ) from error
