"""Freed memory stays while a network is trained, and goes back to the system afterwards."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hilum.safety import freed_memory

BLOCK = 128 << 20  # bytes, so much that nothing else in the process hides it
STATM = Path("/proc/self/statm")

if not STATM.is_file() or not hasattr(ctypes.CDLL(None), "mallopt"):
    pytest.skip("needs the GNU C library on Linux", allow_module_level=True)


def resident() -> int:
    """Return the resident bytes of this process."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def use_and_free() -> None:
    np.empty(BLOCK, np.uint8).fill(1)


def test_freed_memory_is_kept_inside_the_block_and_given_back_at_its_end():
    before = resident()
    with freed_memory.reused():
        use_and_free()
        assert resident() - before > BLOCK // 2
    assert resident() - before < BLOCK // 2


def test_after_the_block_large_memory_goes_back_as_soon_as_it_is_freed():
    with freed_memory.reused():
        pass
    before = resident()
    use_and_free()
    assert resident() - before < BLOCK // 2


def test_an_error_in_the_block_gives_memory_back_too():
    before = resident()
    with pytest.raises(ArithmeticError), freed_memory.reused():
        use_and_free()
        raise ArithmeticError
    assert resident() - before < BLOCK // 2


LARGE = """
import re
from pathlib import Path
from hilum.safety import freed_memory

def large():
    '''Return the KiB of the heap for which large pages are advised.'''
    maps = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
    heap = [one for one in maps if "[heap]" in one and " hg" in one.split("VmFlags:")[1]]
    return sum(int(re.search(r"Rss: +(\\d+)", one)[1]) for one in heap)

before = large()
with freed_memory.reused():
    kept = [bytearray(1 << 20) for _ in range(64)]
    print(before, large())
"""


def test_a_training_lies_on_large_pages_where_the_system_has_them():
    smaps = Path("/proc/self/smaps")
    if not smaps.is_file() or "VmFlags" not in smaps.read_text():
        pytest.skip("the system does not report the advice of its mappings")
    if not Path("/sys/kernel/mm/transparent_hugepage").is_dir():
        pytest.skip("the system has no large pages")
    plain = {name: text for name, text in os.environ.items() if name != "GLIBC_TUNABLES"}
    found = subprocess.run(
        [sys.executable, "-c", LARGE], env=plain, capture_output=True, text=True, check=True
    )
    before, inside = map(int, found.stdout.split())
    assert before == 0 and inside >= 60 << 10
