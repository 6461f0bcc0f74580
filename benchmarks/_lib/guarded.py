"""Work on numbered files in a process that may crash, hang or take all memory, and go on behind
each file that does it harm.

The process prints JSON lines: `["begun", number, name]` before a file, then its verdict, seconds of
processor time and largest resident KiB. Other lines begin with a word of the bench's own.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping

# Seconds by the clock until a file counts as never ending: the machine may be busy otherwise.
PATIENCE = 30.0
Outcome = tuple[int, str, str, float, int]  # number, name, verdict, seconds, KiB


def outcomes(
    command: Callable[[int], list[str]],
    count: int,
    *,
    environment: Mapping[str, str] | None = None,
    also: Mapping[str, Callable[..., None]] | None = None,
) -> Iterator[Outcome]:
    """Yield the outcome of each of `count` files.

    `command` gives the program that begins at a number. `also` takes, by their first word, the
    lines of the bench's own, with the file's name before the line's other words.
    """
    following, also = 0, also or {}
    settings = os.environ | {"OMP_NUM_THREADS": "1"} | dict(environment or {})
    while following < count:
        program = [sys.executable, *command(following)]
        began, name, busy = False, "", False
        with subprocess.Popen(
            program,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=settings,
        ) as child:
            for line in _lines(child):
                said = json.loads(line)
                if said[0] == "begun":
                    following, name = said[1] + 1, said[2]
                    began = busy = True
                elif said[0] in also:
                    also[said[0]](name, *said[1:])
                else:
                    yield following - 1, name, *said
                    busy = False
            hung = child.poll() is None and not _finished(child)
            child.kill()
        if not began:
            sys.exit(f"the reading process does not start; run it yourself: {' '.join(program)}")
        if busy:
            ended = f"the process ended with {child.returncode}"
            verdict = f"over {PATIENCE:g} s by the clock" if hung else ended
            yield following - 1, name, verdict, PATIENCE if hung else 0.0, 0


def _lines(child: subprocess.Popen) -> Iterator[bytes]:
    """Yield what the child says, until it ends or is silent too long; it may take
    longer to begin.
    """
    waiting, left, patience = selectors.DefaultSelector(), b"", 60.0
    waiting.register(child.stdout, selectors.EVENT_READ)
    while waiting.select(patience):
        if not (said := os.read(child.stdout.fileno(), 1 << 16)):
            return
        *whole, left = (left + said).split(b"\n")
        yield from whole
        patience = PATIENCE


def _finished(child: subprocess.Popen) -> bool:
    """State whether it ends by itself, having closed its output."""
    try:
        child.wait(0.5)
    except subprocess.TimeoutExpired:
        return False
    return True
