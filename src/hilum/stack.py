"""Many pictures of one size in one flat file, read from any number of threads; the file may be larger than the memory.

The file holds bare pixels, uint8 or little-endian uint16 (n, size, size), row before column, no header. A picture is read with
`pread` into memory that is there already. Where the system still has the file's pages in memory that is as fast as a memory map;
where it does not, several pictures are read at once, while a map would wait for one page after another.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np

from hilum.errors import BadData

READERS = 8  # threads that wait for the disk; they need no processor
_WORTH_TWO = 1 << 20  # bytes of a batch from which a second thread pays
_AT_ONCE = getattr(os, "RWF_NOWAIT", None)  # read what is in memory, and fail rather than wait for the disk


class Stack:
    """uint8 or uint16 (n, size, size), read-only: indexed like an array, and `read` into one."""

    def __init__(self, path: Path, size: int, dtype: type[np.generic] = np.uint8) -> None:
        self.path, self.dtype = path, np.dtype(dtype)
        self._bytes = size * size * self.dtype.itemsize  # of a picture
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (closed when the stack goes)
        self.shape = (os.fstat(self._file.fileno()).st_size // self._bytes, size, size)
        self.ndim = 3

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """A copy: (size, size) for a number, (n, size, size) for a slice or numbers or a mask. Raises `IndexError` as an array does."""
        if isinstance(key, slice) or np.ndim(key):
            return self.read(np.arange(len(self))[key])
        return self.read([operator.index(key)])[0]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def read(self, rows: Sequence[int] | np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The pictures of `rows` in their order; into `out`, contiguous (len(rows), size, size) of the same type, where it is given."""
        rows = [self._row(row) for row in np.asarray(rows).tolist()]
        out = np.empty((len(rows), *self.shape[1:]), self.dtype) if out is None else out
        if out.shape != (len(rows), *self.shape[1:]) or out.dtype != self.dtype or not out.flags.c_contiguous:
            raise ValueError(f"out must be contiguous {self.dtype} {(len(rows), *self.shape[1:])}, got {out.dtype} {out.shape}")
        if not rows:
            return out
        places = memoryview(out).cast("B")
        wanted = [(places[at * self._bytes : (at + 1) * self._bytes], row * self._bytes) for at, row in enumerate(rows)]
        # Copying from the system's memory is what a large batch waits for, and two threads copy half as much again as one.
        half = len(wanted) // 2 if out.nbytes >= _WORTH_TWO else 0
        coming = self._pool.submit(self._not_at_once, wanted[:half]) if half else None
        late = self._not_at_once(wanted[half:]) + (coming.result() if coming else [])
        if len(late) > 1:
            list(self._pool.map(lambda one: self._wait(*one), late))
        elif late:
            self._wait(*late[0])
        return out

    def _row(self, row: int) -> int:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} pictures in {self.path}")
        return row % len(self)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(READERS, "pictures")

    def _not_at_once(self, wanted: Sequence[tuple[memoryview, int]]) -> list[tuple[memoryview, int]]:
        return [one for one in wanted if not self._at_once(*one)]

    def _at_once(self, place: memoryview, offset: int) -> bool:
        """Read what needs no waiting; whether that was all."""
        if _AT_ONCE is None:
            return False
        try:
            return os.preadv(self._file.fileno(), (place,), offset, _AT_ONCE) == len(place)
        except (BlockingIOError, OSError):  # not in memory; or a file system without the flag
            return False

    def _wait(self, place: memoryview, offset: int) -> None:
        done = 0
        while done < len(place):
            read = os.preadv(self._file.fileno(), (place[done:],), offset + done)
            if not read:
                raise BadData(f"{self.path} ends at byte {offset + done:,}, in the middle of a picture; fill it again with `hilum cache`")
            done += read


class Rounded:
    """A stack of uint16 pictures seen as uint8, for all that wants these: the nearest of 256 shares of white."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.shape, self.ndim, self.dtype = stack, stack.shape, 3, np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.stack)

    def __getitem__(self, key: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        return to_eight_bits(self.stack[key])

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)


def to_eight_bits(pixels: np.ndarray) -> np.ndarray:
    """uint16 to uint8, 65535 to 255, rounded; uint8 as it is."""
    return pixels if pixels.dtype == np.uint8 else ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
