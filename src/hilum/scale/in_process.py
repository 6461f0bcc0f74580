"""Do shards in this process: one after another, or a few at once by threads."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

from hilum.safety import threads
from hilum.scale.worker import Ended, Outcome, Task, Work, outcome


class InProcess:
    """An executor in this process; see `hilum.scale.executor.Carrier`.

    With one thread an item is done when its shard's end is waited for, and an error is raised from
    where it happened.
    """

    shard_seconds = 0.01

    def __init__(self, work: Work, count: int = 1) -> None:
        self._work, self.slots = work, count
        self._waiting: deque[tuple[Task, list[Future[Outcome]]]] = deque()
        self._open = ExitStack()
        self._pool: ThreadPoolExecutor | None = None

    @property
    def owner(self) -> str:
        """This process."""
        return f"process {os.getpid()}"

    def submit(self, task: Task) -> None:
        """Take a shard."""
        if self.slots > 1 and self._pool is None:
            self._pool = self._open.enter_context(threads.pool(self.slots))
        pool = self._pool
        begun = [pool.submit(outcome, self._work, item) for item in task.items] if pool else []
        self._waiting.append((task, begun))

    def next(self) -> Ended:
        """Return the end of the shard that was taken first."""
        task, begun = self._waiting.popleft()
        found = [one.result() for one in begun] or [outcome(self._work, one) for one in task.items]
        return Ended(task.number, found)

    def close(self) -> None:
        """Drop what is not begun, and wait for the rest."""
        self._open.close()
