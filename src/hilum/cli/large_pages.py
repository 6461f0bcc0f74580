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
from pathlib import Path

VERBS = ("run", "segment", "crop", "train", "predict", "evaluate", "report")  # all may train
NAME, VALUE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"
STARTED = "HILUM_STARTED_WITH_LARGE_PAGES"  # by `request`
SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_HELP = {"-h", "--help"}


def request(arguments: Sequence[str]) -> None:
    """Replace this process by one with large pages where `arguments` name a verb that trains.

    Returns where they do not, where another program than `hilum` calls it, where the user has set
    the variable, and where the system has no large pages that may be requested. In the process that
    it has started, where the C library has read the variable, it takes it out of the environment.
    """
    if os.environ.pop(STARTED, ""):
        del os.environ[NAME]
        return
    verb = next((one for one in arguments if not one.startswith("-")), "")
    trains = verb in VERBS and not _HELP & set(arguments)
    if NAME in os.environ or not (trains and is_own_program() and _may_be_requested()):
        return
    os.environ.update({NAME: VALUE, STARTED: "1"})
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def is_own_program() -> bool:
    """Say whether this process was started as `hilum` or `python -m hilum`."""
    program = sys.modules["__main__"]
    started = getattr(program, "__spec__", None)
    name = started.name if started else Path(getattr(program, "__file__", None) or "").name
    return name in {"hilum", "hilum.__main__"}


def _may_be_requested() -> bool:
    return SWITCH.is_file() and "[madvise]" in SWITCH.read_text()
