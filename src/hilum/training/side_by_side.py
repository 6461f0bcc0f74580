"""Train several networks at once, each on its part of the processor's cores.

Layers of a small network are too short to be divided among cores: threads that wait for each other
cost more processor time than they save. Independent trainings wait for nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from typing import TypeVar

import torch
from torch import distributed

from hilum.progress import Progress
from hilum.safety import freed_memory, threads
from hilum.training import core_turns, random_state

T = TypeVar("T")
SECONDS = 0.2  # between two reports of progress
PARTS = 1000  # of a training, in which its progress is counted


class _Stopped(BaseException):
    """The caller needs no more results. No `Exception`, which a plug-in might catch."""


def as_finished(
    trainings: Sequence[Callable[[Progress], T]], lengths: Sequence[float], progress: Progress
) -> Iterator[tuple[int, T]]:
    """Call each training with a progress of its own; yield its number and result as it ends.

    On the processor as many run at once as PyTorch may use threads (`OMP_NUM_THREADS`); on a GPU,
    and where several processes share a training, one. By their `lengths`, in any unit, they are
    dealt to the cores so that none is idle at the end (`hilum.training.core_turns`): one that is
    cut rests between two batches. `progress` is called in the caller's thread. Where a training
    raises, or the caller does, the others stop at their next batch, and the error is raised.
    """
    cores, stop, parts = torch.get_num_threads(), threading.Event(), [0] * len(trainings)
    shared = distributed.is_available() and distributed.is_initialized()
    at_once = 1 if shared or torch.cuda.is_available() else min(cores, len(trainings))
    turns = core_turns.Turns(lengths, at_once)

    def train(number: int) -> T:
        """Do one training on its part of the cores, when its turn has come."""
        torch.set_num_threads(cores // at_once)
        turns.wait(number)

        def report(done: int, total: int) -> None:
            """Note the progress; rest if it is another one's turn, end if nobody waits for it."""
            parts[number] = PARTS * done // total
            # Others may wait for random numbers that this one holds.
            if not random_state.held() and turns.until(number) <= done / total < 1:
                turns.over(number, whole=False)
                turns.wait(number)
            if stop.is_set():
                raise _Stopped

        try:
            report(0, PARTS)  # not begun where another one has failed
            return trainings[number](report)
        finally:
            turns.over(number, whole=True)

    with freed_memory.reused(), threads.pool(len(trainings), "training") as pool:
        numbers = {pool.submit(train, number): number for number in range(len(trainings))}
        waiting = set(numbers)
        try:
            while waiting:
                ended, waiting = wait(waiting, SECONDS, FIRST_COMPLETED)
                progress(sum(parts), PARTS * len(parts))
                for future in ended:
                    yield numbers[future], future.result()
        finally:
            stop.set()
            turns.stop()
            torch.set_num_threads(cores)  # what new threads begin with
