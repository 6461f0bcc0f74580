"""Start verbs that train anew with large pages for all memory, which only a start can request.

Networks that train side by side, and the parts of a batch, allocate from memory of their threads,
which `hilum.safety.freed_memory` cannot reach: the GNU C library reads how to map it once, from
GLIBC_TUNABLES (mallopt(3), "hugetlb"). A value that the user has set is kept. Processes that are
started to work on images do without: large pages would cost each of them memory and gain nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

# All may train.
VERBS = ("run", "segment", "crop", "train", "predict", "evaluate", "report", "cross-evaluate")
NAME, VALUE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"
STARTED = "HILUM_STARTED_WITH_LARGE_PAGES"  # the number of the process that `request` has replaced
SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_HELP = {"-h", "--help"}


def request(arguments: Sequence[str]) -> None:
    """Replace this process by one with large pages where `arguments` name a verb that trains.

    Returns where they do not, where another program than `hilum` calls it, where the user has set
    the variable, where the system has no large pages that may be requested, and where Python cannot
    be started again. In the process that it has started, where the C library has read the variable,
    it takes it out of the environment.
    """
    if os.environ.pop(STARTED, "") == str(os.getpid()):
        os.environ.pop(NAME, None)
        return
    verb = next((one for one in arguments if not one.startswith("-")), "")
    trains = verb in VERBS and not _HELP & set(arguments)
    if NAME in os.environ or not (trains and is_own_program(arguments) and _may_be_requested()):
        return
    changed = {**os.environ, NAME: VALUE, STARTED: str(os.getpid())}
    # Neither a Python that does not know its own place nor a system that refuses stops the command,
    # which takes longer without.
    if sys.executable:
        with suppress(OSError):
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], changed)


def is_own_program(arguments: Sequence[str]) -> bool:
    """Say whether this process was started as `hilum` or `python -m hilum`, and with `arguments`.

    A program that calls the command line itself would do anew what it has done before.
    """
    program, given = sys.orig_argv[: -len(arguments)], sys.orig_argv[-len(arguments) :]
    named = program[-2:] == ["-m", "hilum"] or Path(*program[-1:]).name in {"hilum", "-mhilum"}
    return given == list(arguments) and named


def _may_be_requested() -> bool:
    return SWITCH.is_file() and "[madvise]" in SWITCH.read_text()
