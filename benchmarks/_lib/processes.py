"""Memory and children of processes, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def children(process: int) -> list[int]:
    """Return the processes that any thread of a process started; none where it has ended."""
    found: set[int] = set()
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):  # the thread ended meanwhile
            found |= {int(one) for one in path.read_text().split()}
    return sorted(found)


def words(process: int) -> list[str]:
    """Return the command line of a process; none where it has ended."""
    with suppress(OSError):
        return os.fsdecode(Path(f"/proc/{process}/cmdline").read_bytes()).split("\0")
    return []


def family(process: int) -> Iterator[int]:
    """Yield a process and all that it started, and that these started."""
    yield process
    for child in children(process):
        yield from family(child)


def resident_bytes(process: int) -> int:
    """Return the memory of a process, with all that it shares with others."""
    pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def proportional_bytes(process: int) -> int:
    """Return the memory of a process, and of what several share its part; 0 once it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0


def peak_gib() -> float:
    """Return the largest memory of this process since its program began.

    What `resource.getrusage` reports counts the process that started it.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(one for one in lines if one.startswith("VmHWM")).split()[1]) / 2**20
