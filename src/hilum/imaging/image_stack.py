"""Read many images of one size from one flat file, by any number of threads.

The file may be larger than the memory. It holds bare pixels, uint8 or little-endian uint16
(n, size, size), row before column, no header. An image is read with `pread` into allocated memory.
Where the system has the file's pages cached that is as fast as a memory map; where it does not,
several images are read at once, while a map would wait for one page after another.

Given the CRC-32 of each image, a stack verifies an image when it is first read, and only then:
damage is an error that names the row, and later epochs cost nothing.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from hilum.errors import BadData, Damaged, NotFound
from hilum.safety import threads, untrusted_files
from hilum.storage import integrity

READERS = 8  # threads that wait for the disk; they need no processor
_WORTH_TWO = 1 << 20  # bytes of a batch from which a second thread pays
_AT_ONCE = getattr(os, "RWF_NOWAIT", None)  # read from memory only, and fail instead of waiting


@dataclass(frozen=True)
class Checksums:
    """What the images of a stack must be, and what to do where one is not."""

    of_row: np.ndarray  # int64 (n,): CRC-32, or -1 for a row without a checksum
    remedy: str

    @classmethod
    def of(cls, rows: Iterable[int], sums: Iterable[int], remedy: str) -> Checksums:
        """Build from rows and the CRC-32 of each."""
        places, values = np.fromiter(rows, np.int64), np.fromiter(sums, np.int64)
        of_row = np.full(places.max(initial=-1) + 1, -1, np.int64)
        of_row[places] = values
        return cls(of_row, remedy)


class ImageStack:
    """uint8 or uint16 (n, size, size), read-only: indexed like an array, and `read` into one.

    Raises `Damaged` where the file is missing or no regular file, ends before an image of
    `checksums`, or holds an image with another checksum.
    """

    def __init__(
        self,
        path: Path,
        size: int,
        dtype: np.dtype | type[np.generic] = np.uint8,
        checksums: Checksums | None = None,
    ) -> None:
        self.path, self.dtype, self._checksums = path, np.dtype(dtype), checksums
        self.image_bytes = size * size * self.dtype.itemsize
        self._file = os.fdopen(self._opened(), "rb", buffering=0)
        self.shape = (os.fstat(self._file.fileno()).st_size // self.image_bytes, size, size)
        self.ndim = 3
        self._sums = np.array([], np.int64) if checksums is None else checksums.of_row
        self._unseen = self._sums >= 0  # rows not verified yet
        if len(self._sums) > len(self):
            raise self._damaged(f"ends before image {len(self)} of {len(self._sums)}")

    def _opened(self) -> int:
        try:
            return untrusted_files.descriptor(self.path)[0]
        except NotFound:
            raise self._damaged("is missing") from None
        except BadData:
            what = untrusted_files.kind_of(os.stat(self.path).st_mode)
            raise self._damaged(f"is {what}") from None

    def _damaged(self, what: str) -> Damaged:
        remedy = self._checksums.remedy if self._checksums else "make it again with `hilum run`"
        return Damaged(f"{self.path}: {what}; {remedy}")

    def __reduce__(self) -> tuple[type[ImageStack], tuple[object, ...]]:
        """Let another process open the same file, instead of receiving its images."""
        return ImageStack, (self.path.absolute(), self.shape[1], self.dtype, self._checksums)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Return a copy: (size, size) for an index, (n, size, size) for a slice, indices or mask.

        Raises `IndexError` as an array does.
        """
        if isinstance(key, slice | Sequence | np.ndarray):
            return self.read(np.arange(len(self))[key])
        return self.read([operator.index(key)])[0]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def read(self, rows: Sequence[int] | np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Read the images of `rows` in their order.

        `out`, where given, receives them: contiguous (len(rows), size, size) of the same type.
        """
        rows = [self._row(row) for row in np.asarray(rows).tolist()]
        out = np.empty((len(rows), *self.shape[1:]), self.dtype) if out is None else out
        if (
            out.shape != (len(rows), *self.shape[1:])
            or out.dtype != self.dtype
            or not out.flags.c_contiguous
        ):
            raise ValueError(
                f"out must be contiguous {self.dtype} {(len(rows), *self.shape[1:])}, got "
                f"{out.dtype} {out.shape}"
            )
        if not rows:
            return out
        places = out.data.cast("B")
        wanted = [
            (places[at * self.image_bytes : (at + 1) * self.image_bytes], row * self.image_bytes)
            for at, row in enumerate(rows)
        ]
        # A large batch waits for copies from the system's memory, and two threads copy half as much
        # again as one.
        half = len(wanted) // 2 if out.nbytes >= _WORTH_TWO else 0
        coming = self._pool.submit(self._not_at_once, wanted[:half]) if half else None
        late = self._not_at_once(wanted[half:]) + (coming.result() if coming else [])
        if len(late) > 1:
            list(self._pool.map(lambda one: self._wait(*one), late))
        elif late:
            self._wait(*late[0])
        if self._unseen.any():
            self._compare(rows, places)
        return out

    def _compare(self, rows: Sequence[int], places: memoryview) -> None:
        """Verify the checksums of images that were read, in the order of `rows`."""
        for at, row in enumerate(rows):
            if row < len(self._unseen) and self._unseen[row]:
                found = integrity.checksum(
                    places[at * self.image_bytes : (at + 1) * self.image_bytes]
                )
                if found != self._sums[row]:
                    raise self._damaged(f"row {row} does not hold the image that was written")
                self._unseen[row] = False

    def damaged_rows(self) -> list[int]:
        """Read all images with a checksum; return the rows whose image does not match."""
        known = np.flatnonzero(self._unseen).tolist()
        with threads.pool(2) as pool:
            return [
                row
                for row, sound in zip(known, pool.map(self._is_sound, known), strict=True)
                if not sound
            ]

    def _is_sound(self, row: int) -> bool:
        place = bytearray(self.image_bytes)
        if not self._at_once(memoryview(place), row * self.image_bytes):
            self._wait(memoryview(place), row * self.image_bytes)
        return bool(integrity.checksum(place) == self._sums[row])

    def _row(self, row: int) -> int:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} images in {self.path}")
        return row % len(self)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(READERS, "images")

    def _not_at_once(
        self, wanted: Sequence[tuple[memoryview, int]]
    ) -> list[tuple[memoryview, int]]:
        return [one for one in wanted if not self._at_once(*one)]

    def _at_once(self, place: memoryview, offset: int) -> bool:
        """Read what needs no waiting; return whether that was all."""
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
                raise self._damaged(f"ends at byte {offset + done:,}, in the middle of an image")
            done += read


class AsUint8:
    """A view of a stack of uint16 images as uint8, rounded to the nearest of 256 levels."""

    def __init__(self, stack: ImageStack) -> None:
        self.stack, self.shape, self.ndim, self.dtype = stack, stack.shape, 3, np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.stack)

    def __getitem__(self, key: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        return as_uint8(self.stack[key])

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)


def as_uint8(pixels: np.ndarray) -> np.ndarray:
    """Convert uint16 to uint8, 65535 to 255, rounded; uint8 stays as it is."""
    if pixels.dtype == np.uint8:
        return pixels
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
