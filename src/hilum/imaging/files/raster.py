"""Read PNG, JPEG, TIFF, BMP and GIF files as a `Radiograph`, with the facts that an audit needs.

imagecodecs decodes (libpng, libjpeg-turbo, libtiff, giflib) and keeps all bits. Size and kind are
read from the header first, and a file that would not fit in memory or holds several images is
refused before it is decoded. Values become [0, 1] by the file's own range: 0 to 255 for 8 bits; for
16 bits 0 to the smallest of 10, 12, 14 and 16 bits that holds the largest value, because detectors
of 10 to 14 bits are stored in 16; a JPEG of other than 8 and 16 bits states its own range.

Palettes are applied. Channels of a colour image are averaged; where they differ, the processing log
says by how much and in which fraction of the pixels. `colour` means that they differ by more than
1/32 of the range somewhere: rounding of a codec or the tint of a film is less, a coloured marking
or a photograph is more. Alpha is dropped. An image is rotated as its orientation (Exif, TIFF) says.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import cv2
import numpy as np

from hilum import storage
from hilum.errors import BadData, CannotRead, HilumError, NotFound
from hilum.imaging.files import _bmp, _gif, _jpeg, _png, _tiff
from hilum.imaging.files._raster_header import Head, Unfit, oriented, range_top
from hilum.imaging.files.pose import Pose
from hilum.imaging.radiograph import Radiograph
from hilum.safety import freed_memory, untrusted_files

Result = TypeVar("Result")

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif")
# More is refused before it is decoded: a film of 35 x 43 cm at 0.05 mm has 60 million, and as
# float32 it must fit in memory.
MOST_PIXELS = 100_000_000
MOST_COLOUR_BYTES = 1 << 28  # of images with several channels, which are averaged in memory
_KINDS = {"PNG": _png, "JPEG": _jpeg, "TIFF": _tiff, "BMP": _bmp, "GIF": _gif}
_EQUAL = "three equal channels taken as one"
_TINT = 32  # channels of a grey image may differ by 1/32 of the range
_HEAD = 1 << 16  # bytes that hold the size of nearly every file


@dataclass(frozen=True)
class Raster:
    """A decoded file: `values` uint8 or uint16 (height, width), and what is known of the file."""

    values: np.ndarray
    processing_log: tuple[str, ...]
    file_digest: str  # of the bytes
    pixel_digest: str  # of size, depth and values: equal for one image in two files
    kind: str  # PNG, JPEG, TIFF, BMP or GIF, by its bytes
    colour: bool  # see above
    pose: Pose  # from the file's own pixels to `values`
    bits: int | None = None  # of a value, where the file states other than 8 and 16
    falling: bool = False  # whether a higher value is darker, which no such file states

    @property
    def top(self) -> int:
        """The value that becomes 1."""
        return (1 << self.bits) - 1 if self.bits else range_top(self.values)

    def radiograph(self) -> Radiograph:
        """Return the image as a radiograph, without spacing, which these files do not state."""
        top = self.top
        shown = np.arange(np.iinfo(self.values.dtype).max + 1, dtype=np.float32) / top
        words = f"values 0 to {top} become 0 to 1"
        if self.falling:
            shown, words = np.clip(1 - shown, 0, 1), f"values 0 to {top} become 1 to 0"
        return Radiograph(self.values, None, (*self.processing_log, words), shown)

    @property
    def inverted(self) -> Raster:
        """Return the file with dark and bright exchanged."""
        return replace(self, falling=not self.falling)


def read(path: Path, root: Path | None = None) -> Raster:
    """Decode one file; with `root`, one that lies below it.

    Raises `BadData` naming the file, what is wrong with it and what to do.
    """
    return decoded(path, load(path, root))


def decoded(path: Path, data: bytes) -> Raster:
    """Decode a file's bytes; `path` is what errors call it. Raises as `read` does."""
    freed_memory.keep()
    kind = _kind(path, data)
    module, file_digest = _KINDS[kind], storage.content_digest(data)
    with named(path, kind):
        head = module.read_header(data)
        refuse_giant(path, head)
        values, account, colour = _grey(*_decoded(module, data, head, merge=True))
    if head.orientation != 1:
        values = oriented(values, head.orientation)
        account.append(f"rotated as its orientation {head.orientation} says")
    stated = head.bits if kind == "JPEG" and head.bits not in (8, 16) else None
    return Raster(
        values,
        tuple(account),
        file_digest,
        digest_of_pixels(values),
        kind,
        colour,
        Pose(values.shape),
        stated,
    )


def channels(path: Path, root: Path | None = None) -> np.ndarray:
    """Decode one file to uint8 or uint16 (height, width) or (height, width, channels), upright.

    `read` converts these to grey values. Raises `BadData` as `read` does.
    """
    kind, module, data = opened(path, root)
    with named(path, kind):
        head = module.read_header(data)
        refuse_giant(path, head)
        values = _decoded(module, data, head)[0]
    return oriented(values, head.orientation) if head.orientation != 1 else values


def opened(path: Path, root: Path | None = None) -> tuple[str, ModuleType, bytes]:
    """Return the kind of a file by its bytes, its decoder module, and all bytes.

    Raises `BadData` as `read` does.
    """
    data = load(path, root)
    kind = _kind(path, data)
    return kind, _KINDS[kind], data


@contextmanager
def named(path: Path, kind: str) -> Iterator[None]:
    """Convert what a decoder raises to `BadData` that names the file."""
    try:
        yield
    except BadData:
        raise
    except Unfit as unfit:
        raise BadData(f"{path}: {unfit}") from unfit
    except Exception as error:
        raise BadData(
            f"{path}: the {kind} stream is broken or cut short ({str(error)[:200]}); copy the file "
            "again from its source"
        ) from error


def load(path: Path, root: Path | None = None) -> bytes:
    """Return all bytes of a file, see `hilum.safety.untrusted_files`.

    Raises only `BadData`, also where there is no file or it may not be read.
    """
    try:
        return untrusted_files.read_bytes(path, root=root)
    except (NotFound, CannotRead) as error:
        raise BadData(str(error)) from error


def digest_of_pixels(values: np.ndarray) -> str:
    """Return a digest of shape, type and values."""
    return storage.content_digest(np.ascontiguousarray(values).data, kind_of_values(values))


def kind_of_values(values: np.ndarray) -> bytes:
    """Return shape and type, the end of what `digest_of_pixels` is made of."""
    return repr((values.shape, values.dtype.str)).encode()


def size(path: Path, root: Path | None = None) -> tuple[int, int] | None:
    """Return height and width as `read` gives them, from the header of a file.

    None where there is no valid header; decoding reports why.
    """
    return _from_head(path, root, lambda kind, data: _KINDS[kind].read_header(data).shown)


def orientation(path: Path, root: Path | None = None) -> int:
    """Return the orientation 1 to 8 that the header of a file states; 1 where it states none.

    That of a PNG is returned too, though `read` does not apply it.
    """
    return _from_head(path, root, _orientation) or 1


def _orientation(kind: str, data: bytes) -> int:
    if kind == "PNG":
        return _png.orientation(data)
    return _KINDS[kind].read_header(data).orientation


def _from_head(
    path: Path, root: Path | None, parse: Callable[[str, bytes], Result]
) -> Result | None:
    """Return what `parse` finds in as little of a file as holds it; None where it finds nothing."""
    try:
        with untrusted_files.opened(path, root=root) as stream:
            for more in (_HEAD, -1):
                stream.seek(0)
                data = stream.read(more)
                kind = _known(data)
                try:
                    if kind and (found := parse(kind, data)):
                        return found
                except (ValueError, struct.error, Unfit):
                    pass  # the whole file may hold more; if not, decoding reports the fault
    except HilumError:
        pass  # reading it reports what is wrong
    return None


def _known(data: bytes) -> str | None:
    kind = next(
        (kind for kind, module in _KINDS.items() if data.startswith(module.SIGNATURES)), None
    )
    return None if kind == "BMP" and not _bmp.is_one(data) else kind


def _kind(path: Path, data: bytes) -> str:
    if not data:
        raise BadData(f"{path}: the file is empty (0 bytes); copy it again")
    if kind := _known(data):
        return kind
    raise BadData(
        f"{path}: is not a PNG, JPEG, TIFF, BMP or GIF image (it starts with {data[:8]!r}); remove "
        "it or give it its true ending"
    )


def refuse_giant(path: Path, head: Head) -> None:
    """Raise `BadData` for an image that would not fit in memory."""
    (height, width), channels = head.size, head.channels
    if not height or not width:
        raise ValueError(f"it states {height}x{width} pixels")
    if height * width > MOST_PIXELS:
        raise BadData(
            f"{path}: {height}x{width} pixels are more than the {MOST_PIXELS:,} that are read; "
            "shrink it first"
        )
    if channels > 1 and head.bytes > MOST_COLOUR_BYTES:
        most = MOST_COLOUR_BYTES * height * width // head.bytes
        raise BadData(
            f"{path}: {height}x{width} pixels of {channels} channels are more than the {most:,} "
            "that are read; shrink it or save it in grey"
        )


def _decoded(
    module: ModuleType, data: bytes, head: Head, *, merge: bool = False
) -> tuple[np.ndarray, list[str]]:
    """Decode values (height, width) or (height, width, channels), and notes on the decoding.

    `merge`: equal channels may come as one, see `_png`. Raises `ValueError` where the values are
    not what the header states.
    """
    options = {"merge": True} if merge and module is _png else {}
    values, notes = module.decode(data, head, **options)
    if (
        values.shape[:2] != head.size
        or values.dtype not in (np.uint8, np.uint16)
        or values.ndim > 3
    ):
        raise ValueError(
            f"its header states {head.size[0]}x{head.size[1]} pixels, it holds {values.dtype} of "
            f"shape {values.shape}"
        )
    shape = values.shape
    if options and values.ndim == 2 and head.channels > 2:
        shape, dropped = (*shape, head.channels), ["alpha dropped"] * (head.channels == 4)
        notes = [*notes, *dropped, _EQUAL]
    return values, [f"{values.dtype} {shape} decoded", *notes]


def _grey(values: np.ndarray, account: list[str]) -> tuple[np.ndarray, list[str], bool]:
    """Convert one to four channels to (height, width); return notes and whether there is colour."""
    if values.ndim == 2:
        return values, account, False
    channels, planes = values.shape[2], cv2.split(values)
    if channels in (2, 4):
        opaque = planes[-1].min() == np.iinfo(values.dtype).max
        account.append(
            "alpha dropped" if opaque else "alpha, which is not opaque everywhere, dropped"
        )
    first, others = planes[0], planes[1:3]
    if channels <= 2:
        return first, account, False
    if all(np.array_equal(first, other) for other in others):
        account.append(_EQUAL)
        return first, account, False
    return _averaged([first, *others], account)


def _averaged(planes: list[np.ndarray], account: list[str]) -> tuple[np.ndarray, list[str], bool]:
    """Return the rounded mean of three channels, notes, and whether there is colour."""
    first, second, third = planes
    spread = cv2.subtract(
        cv2.max(cv2.max(first, second), third), cv2.min(cv2.min(first, second), third)
    )
    total = np.add(first, second, dtype=np.uint16 if first.dtype == np.uint8 else np.uint32)
    total += third
    total += 1
    total //= 3
    top, largest = range_top(cv2.max(cv2.max(first, second), third)), int(spread.max())
    colour = largest * _TINT > top
    fraction = np.count_nonzero(spread) / spread.size
    account.append(
        f"three channels averaged, which differ by up to {largest} of {top} in {fraction:.2%} of "
        f"the pixels: {'colour' if colour else 'a tint'}"
    )
    return total.astype(first.dtype), account, colour


def kind_of(head: bytes) -> str | None:
    """Return the kind of raster image that a file's first bytes state, such as "PNG", else None.

    132 bytes suffice.
    """
    return _known(head)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 or bool (height, width) as PNG; bool becomes 0 and 255."""
    storage.write_bytes(path, png(pixels))


def png(pixels: np.ndarray, *, quick: bool = False) -> bytes:
    """Encode uint8 (height, width), with channels or without, or bool, as PNG.

    bool becomes 0 and 255. `quick`: without channels, a larger file in less time.
    """
    if quick and pixels.ndim == 2:
        return _png.encode(pixels)
    import imagecodecs

    options = imagecodecs.PNG
    if pixels.dtype == bool:
        values = pixels.view(np.uint8) * np.uint8(255)
        strategy, filtering = options.STRATEGY.RLE, options.FILTER.UP
    else:
        # Six times as fast as the default, and radiographs are 8 % smaller: noise has no repeats.
        values, strategy, filtering = pixels, options.STRATEGY.RLE, options.FILTER.PAETH
    return bytes(imagecodecs.png_encode(values, level=1, strategy=strategy, filter=filtering))
