"""Fetch one file, whole or not at all, going on where an earlier attempt was cut.

The bytes come in blocks into a part that is named by place and version, so that another version
never continues it. They are compared with the size, and with the MD5 where the source states one;
otherwise the source has to state the same of the file once more, so that no file is made of two
versions. Only then the part gets the file's name.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import shutil
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hilum import storage
from hilum.dataset.remote.transport import Cut, Stated, Transport, changed
from hilum.errors import CannotWrite, Unreachable, on_one_line, refused
from hilum.safety.addresses import ELSEWHERE
from hilum.safety.untrusted_files import ABSENT

WAITS_SECONDS = (0.5, 2.0, 8.0, 20.0)  # before each attempt that follows one without a new byte
BLOCK = 8 << 20
Result = TypeVar("Result")


def fetch(transport: Transport, place: str, wanted: Stated, to: Path, parts: Path) -> bool:
    """Bring a file to `to`; return False where another process or thread had brought it.

    Raises `Unreachable` where the source fails repeatedly, `Mismatch` where it has another version
    than `wanted`, `CannotWrite` where the disk fails.
    """
    part = parts / storage.digest([place, wanted.size, wanted.mtime_ns, wanted.tag])
    try:
        parts.mkdir(parents=True, exist_ok=True)
        with storage.in_place(part) as number:
            fcntl.flock(number, fcntl.LOCK_EX)
            if not (is_absent(to) and _is_at(number, part)):
                return False
            _refuse_full(part, wanted.size - os.fstat(number).st_size)
            _fill(transport, place, wanted, number)
            os.fsync(number)
            settle(part, wanted)
            os.replace(part, to)
    except OSError as error:
        raise refused(to, error, ELSEWHERE) from error
    return True


def _is_at(number: int, path: Path) -> bool:
    """Say whether a descriptor is that of the file at a path, and not of one that was there."""
    return path.exists() and os.path.samestat(os.fstat(number), os.stat(path))


def is_absent(path: Path) -> bool:
    """Say whether a file of a mirror has still to be fetched."""
    try:
        return stat.S_IMODE(os.stat(path).st_mode) == ABSENT
    except FileNotFoundError:
        return True


def settle(path: Path, stated: Stated) -> None:
    """Give a complete file the mode and the time by which it is known as complete."""
    os.chmod(path, 0o600)
    os.utime(path, ns=(time.time_ns(), stated.mtime_ns))


def reserve(path: Path, stated: Stated, work: Path) -> None:
    """Put a file of the stated size and time at `path`, whose bytes are still to be fetched.

    It takes no room on the disk, and is made in `work`. What reads `path` now goes on reading what
    it has opened.
    """
    beside = work / f"{os.getpid()}-{threading.get_ident()}.absent"
    number = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.ftruncate(number, stated.size)
        os.fchmod(number, ABSENT)
    finally:
        os.close(number)
    os.utime(beside, ns=(stated.mtime_ns, stated.mtime_ns))
    os.replace(beside, path)


def _fill(transport: Transport, place: str, wanted: Stated, number: int) -> None:
    """Write what is missing, and check the whole; an attempt that is cut is repeated."""
    idle = 0
    while True:
        have = os.fstat(number).st_size
        try:
            _rest(transport, place, wanted, number)
            if _is_whole(transport, place, wanted, number):
                return
            os.ftruncate(number, 0)
            raise Cut("other bytes came than the source states")
        except Cut as cut:
            now = os.fstat(number).st_size
            idle = 0 if now > have else idle + 1
            again(place, cut, idle)
            if _stated(transport, place) not in (None, wanted):
                raise changed(place) from None


def _rest(transport: Transport, place: str, wanted: Stated, number: int) -> None:
    while (have := os.fstat(number).st_size) < wanted.size:
        end = min(have + BLOCK, wanted.size)
        data = transport.read(place, have, end, wanted.size)
        if len(data) != end - have:
            # Kept as far as it goes: the next attempt goes on there.
            storage.write_at(number, data[: end - have], have)
            raise Cut(f"{len(data):,} bytes came in place of {end - have:,}")
        storage.write_at(number, data, have)


def _is_whole(transport: Transport, place: str, wanted: Stated, number: int) -> bool:
    if wanted.md5 is None:
        if transport.stated(place) != wanted:
            raise changed(place)
        return True
    os.lseek(number, 0, os.SEEK_SET)
    with open(number, "rb", closefd=False) as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
    if found.hexdigest() == wanted.md5:
        return True
    if transport.stated(place) != wanted:
        raise changed(place)
    return False


def repeated(what: str, attempt: Callable[[], Result]) -> Result:
    """Return the result of the first attempt that is not cut. Raises `Unreachable`."""
    idle = 0
    while True:
        try:
            return attempt()
        except Cut as cut:
            idle += 1
            again(what, cut, idle)


def again(what: str, cut: Cut, idle: int) -> None:
    """Wait before another attempt. Raises `Unreachable` after too many without a new byte."""
    if idle > len(WAITS_SECONDS):
        raise Unreachable(
            f"{on_one_line(what)} could not be read in {idle} attempts ({cut}); what came is kept: "
            "run the same command again, it goes on there"
        ) from None
    # Spread, because many threads are cut at once where a server is overloaded.
    time.sleep(WAITS_SECONDS[max(idle - 1, 0)] * random.uniform(0.5, 1.0))


def _stated(transport: Transport, place: str) -> Stated | None:
    """Return what the source states of a file; None where it does not answer either."""
    try:
        return transport.stated(place)
    except Cut:
        return None


def _refuse_full(part: Path, size: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if size > free:
        raise CannotWrite(
            f"cannot write {part}: {size:,} bytes are to come, {free:,} are free; free some space, "
            "or name another folder by HILUM_MIRRORS"
        )
