"""Work spread over processes that the system may end."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import starmap

from hilum.errors import HilumError


@contextmanager
def mapped(
    processes: int, *, remedy: str, chunk: int = 1, prepare: Callable[[], object] | None = None
) -> Iterator[Callable[..., Iterator]]:
    """Give a function that applies another to a list of argument tuples, in order.

    With fewer than two processes it does so in this one. `chunk` is the number of tuples sent at a
    time; `prepare` is called once in each process. Raises `HilumError` where the system ended a
    process, as it does for want of memory; `remedy` says what to do then.
    """
    if processes < 2:
        yield starmap
        return
    # Started anew, not forked: the threads of decoders and of OCR do not survive a fork.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), prepare)
    try:
        yield lambda work, jobs: pool.map(work, *zip(*jobs, strict=True), chunksize=chunk)
    except BrokenProcessPool as error:
        raise HilumError(
            f"a process was ended by the system, perhaps for want of memory; {remedy}"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
