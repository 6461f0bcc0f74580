"""Do the shards that come through a pipe, one after another, until the pipe is closed.

A worker is a process of its own that begins with `main`. Unlike a process of `multiprocessing` it
does not import the program that started it, so that a script needs no guard around its first line.
It uses one thread, ignores Ctrl-C, which its starter handles, and ends as soon as the starter is
gone, so that none is left that writes beside its successor.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from hilum.errors import BadData
from hilum.safety import freed_memory, threads
from hilum.storage import flushing

Work = Callable[[Any], bytes]  # of one item; raises `BadData` for an item at fault
# Each worker has one core: threads of its own would make it wait for others. With one arena of the
# GNU C library all its threads reuse the memory that one of them has freed, where the arenas of
# others than the first are given back to the system, and their pages filled with zeros anew.
ENVIRONMENT = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "POLARS_MAX_THREADS",
        "MALLOC_ARENA_MAX",
    ),
    "1",
)


@dataclass(frozen=True)
class Outcome:
    """What became of one item: its result, or why there is none.

    `poisoned`: the item was set aside, since each process that worked on it was ended.
    """

    result: bytes = b""
    fault: str = ""
    poisoned: bool = False


@dataclass(frozen=True)
class Task:
    """A shard on its way to a worker."""

    number: int
    items: Sequence[Any]


@dataclass(frozen=True)
class Ended:
    """How a shard ended: with outcomes in the order of its items, an error, or its process."""

    number: int
    outcomes: Sequence[Outcome] = ()
    error: BaseException | None = None
    lost: bool = False


@dataclass(frozen=True)
class Begun:
    """A worker's word that it has started, and works on a shard now."""

    number: int


@dataclass(frozen=True)
class NewWork:
    """The work of all tasks that follow."""

    work: Work


def outcome(work: Work, item: Any) -> Outcome:
    """Apply `work` to one item; a fault of the item is an outcome, any other error is raised."""
    try:
        return Outcome(work(item))
    except BadData as fault:
        return Outcome(fault=str(fault))


def done(work: Work, task: Task) -> Ended:
    """Do a shard. An error that is no fault of an item becomes part of the answer.

    The files that were written for one item are flushed while the next is done.
    """
    try:
        with flushing.beside():
            outcomes = [outcome(work, item) for item in task.items]
        return Ended(task.number, outcomes)
    except Exception as error:  # noqa: BLE001 (raised again where the shards are handed out)
        return Ended(task.number, error=_portable(error))


def _portable(error: Exception) -> Exception:
    """Return an error that another process can read, with this process's traceback as a note."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (made on this line)
    except Exception:  # noqa: BLE001 (whatever the class of a library does when it is pickled)
        return RuntimeError("".join(traceback.format_exception(error)))
    return error


def prepare() -> None:
    """Let this process work on images one after another, on one core, from now on."""
    threads.limit(1)
    freed_memory.keep()


def serve(connection: Connection) -> None:
    """Answer each `Task` with a `Begun` and an `Ended`, until the other end is closed."""
    work: Work | Exception = RuntimeError("no work was sent before the first task")
    while True:
        try:
            message = connection.recv()
        except EOFError:
            return
        except Exception as error:  # noqa: BLE001 (the work cannot be imported here)
            work = _portable(error)
            continue
        if isinstance(message, NewWork):
            work = message.work
            continue
        connection.send(Begun(message.number))
        if isinstance(work, Exception):
            connection.send(Ended(message.number, error=work))
        else:
            connection.send(done(work, message))


def _end_with(connection: Connection) -> None:
    """Leave the process at once when the other end of the connection is gone."""
    hung_up = select.poll()
    hung_up.register(connection.fileno(), 0)  # no event but a hang-up, which is always reported

    def _wait() -> None:
        hung_up.poll()
        os._exit(1)

    threading.Thread(target=_wait, name="hilum-starter", daemon=True).start()


def main(descriptor: int) -> None:
    """Serve the connection of an inherited descriptor; its first message is the module path."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what is half written is removed
    connection = Connection(descriptor)
    _end_with(connection)
    sys.path[:] = connection.recv()
    prepare()
    serve(connection)
