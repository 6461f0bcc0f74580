"""Models run in a process of their own, one job at a time.

The networks and what they need while they run take several times the memory of the desk itself.
That process is started with the first job, ends when there was none for a while, and begins anew
after some: so its memory is given back whatever a library keeps. A job that takes too long is
stopped, which a thread cannot be.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from hilum.serve.replies import Refusal

Result = TypeVar("Result")
IDLE_SECONDS, MOST_JOBS = 120.0, 200


class ModelProcess:
    """A process for jobs: functions of modules, with arguments that can be sent to it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._pool: ProcessPoolExecutor | None = None
        self._jobs = 0
        self._lock = threading.Lock()
        self._idle: threading.Timer | None = None

    def run(self, job: Callable[..., Result], *arguments: object) -> Result:
        """Do a job and return its result; raises what the job raises.

        Raises `Refusal` (503) where it takes too long, and where the process dies.
        """
        with self._lock:
            if self._idle is not None:
                self._idle.cancel()
            if self._pool is None:
                context = multiprocessing.get_context("spawn")
                self._pool, self._jobs = ProcessPoolExecutor(1, context), 0
            self._jobs += 1
            try:
                return self._pool.submit(job, *arguments).result(self._seconds)
            except TimeoutError:
                self._kill()
                raise Refusal(
                    503,
                    f"the models took more than {self._seconds:g} seconds",
                    "try a smaller image, or use the command line",
                ) from None
            except BrokenProcessPool:
                self._kill()
                raise Refusal(
                    503, "the process of the models died, perhaps for want of memory", "try again"
                ) from None
            finally:
                if self._jobs >= MOST_JOBS:
                    self._end()
                self._idle = threading.Timer(IDLE_SECONDS, self.close)
                self._idle.daemon = True
                self._idle.start()

    def close(self) -> None:
        """End the process; the next job starts another."""
        with self._lock:
            if self._idle is not None:
                self._idle.cancel()
            self._end()

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _kill(self) -> None:
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()
            self._end()
