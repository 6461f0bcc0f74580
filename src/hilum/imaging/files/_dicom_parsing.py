"""Parse the bytes of a DICOM file with pydicom, with or without preamble, deflated or not.

pydicom reports oddities as Python warnings, whose filters are global to the process: `quietly`
collects them under a lock, so that threads reading in parallel do not undo one another's filters.
Pixels are not parsed: `parsed` gives the offset at which they begin, so that they are not copied.
Inflation is bounded by the size of the image.
"""

from __future__ import annotations

import io
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple

from hilum.imaging.files import _dicom_break, _dicom_tags, raster
from hilum.imaging.files._decoder_warnings import as_data
from hilum.imaging.files._dicom_elements import LONG_VRS, SHORT_VRS

if TYPE_CHECKING:
    from pydicom import Dataset

_CHUNK = 1 << 20  # bytes inflated at once; the image's size is stated within the first
_MOST_HEADER = 64 << 20  # bytes of a deflated file that are no pixels
_BIG_ENDIAN, _META = b"1.2.840.10008.1.2.2\0", 1024  # transfer syntax, bytes it is within
_HEAD = 132  # bytes that show whether a file is DICOM
_PARSING = threading.RLock()
# Elements of group 8, one of which is the first of a data set without preamble.
_FIRST_TAGS = (0x0000, 0x0001, 0x0005, 0x0008, 0x0012, 0x0014, 0x0016, 0x0018)
_LONGEST_FIRST = 1024  # bytes of an implicit first element
_LAST_GROUP = 0x7FE0


class Parsed(NamedTuple):
    """A parsed file."""

    dataset: Dataset  # up to the pixels
    data: memoryview  # the bytes it was parsed from: inflated ones where the file is deflated
    pixels: int  # the offset of the pixels' element in `data`

    @property
    def is_whole_file(self) -> bool:
        """Whether `data` are the file's own bytes."""
        return isinstance(self.data.obj, bytes)


@contextmanager
def quietly() -> Iterator[list[str]]:
    """Yield a list of pydicom's warnings, each once, that is filled when the block ends.

    One thread at a time is in such a block.
    """
    texts: list[str] = []
    with _PARSING, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield texts
        texts += dict.fromkeys(" ".join(str(one.message).split()) for one in caught)


def is_bare_dataset(head: bytes) -> bool:
    """Return whether a file without preamble begins as a data set does.

    It begins with file meta information, or with an element of group 8 that comes first; where
    `head` reaches far enough, an element of a higher tag must follow.
    """
    if len(head) < 12:
        return False
    orders: tuple[Literal["little", "big"], ...] = ("little", "big")
    for order in orders:
        tag, behind = _element(head, 0, order)
        group, number = tag >> 16, tag & 0xFFFF
        if (group == 2 and number in (0, 1, 2, 16)) or (group == 8 and number in _FIRST_TAGS):
            if behind is None:
                continue
            following, _ = (
                _element(head, behind, order) if behind + 8 <= len(head) else (tag + 1, None)
            )
            if following > tag and following >> 16 <= _LAST_GROUP:
                return True
    return False


def _element(head: bytes, place: int, order: Literal["little", "big"]) -> tuple[int, int | None]:
    """Return the tag at `place` and the offset behind its value; None in an unknown encoding."""
    tag = int.from_bytes(head[place : place + 2], order) << 16 | int.from_bytes(
        head[place + 2 : place + 4], order
    )
    vr = head[place + 4 : place + 6]
    if vr in SHORT_VRS:
        return tag, place + 8 + int.from_bytes(head[place + 6 : place + 8], order)
    if vr in LONG_VRS:
        return tag, place + 12 + int.from_bytes(head[place + 8 : place + 12], order)
    length = int.from_bytes(head[place + 4 : place + 8], order)
    return tag, place + 8 + length if length < _LONGEST_FIRST else None


def parsed(data: bytes) -> Parsed:
    """Parse a file's bytes up to the pixels.

    Raises what pydicom raises, and `ValueError` for a file that is no DICOM, is broken, or inflates
    beyond any image.
    """
    from pydicom import dcmread
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset
    from pydicom.uid import UID

    if data[128:132] != b"DICM" and not is_bare_dataset(data[:_HEAD]):
        raise ValueError("it neither has DICOM's preamble nor begins as a data set")
    behind_meta = _dicom_tags.behind_deflated_meta(data)
    if behind_meta is None:
        stream = io.BytesIO(data)
        try:
            return Parsed(
                dcmread(stream, stop_before_pixels=True, force=True),
                memoryview(data),
                stream.tell(),
            )
        except Exception as error:
            if fault := _dicom_break.describe(data, big_endian=_BIG_ENDIAN in data[:_META]):
                raise ValueError(fault) from error
            raise
    stream = _inflated(memoryview(data)[behind_meta:])
    found = read_dataset(
        stream,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, vr, length: tag >= 0x7FE00008,
    )
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = UID(_dicom_tags.DEFLATED)
    place = stream.tell()
    return Parsed(found, stream.getbuffer(), place)


def byte_order(dataset: Dataset) -> Literal["little", "big"]:
    """Return the byte order that pydicom found."""
    return "big" if dataset.original_encoding[1] is False else "little"


def pixel_tag(parsed: Parsed) -> int:
    """Return the tag of the pixels, integer or float; 0 where there are none."""
    dataset, data, place = parsed
    order = byte_order(dataset)
    tag = int.from_bytes(data[place : place + 2], order) << 16 | int.from_bytes(
        data[place + 2 : place + 4], order
    )
    return tag if tag in _dicom_tags.PIXEL_TAGS else 0


def _inflated(data: memoryview) -> io.BytesIO:
    """Inflate a deflated data set (PS3.5 A.5).

    Raises `ValueError` at more bytes than the image that it states can need.
    """
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    start = engine.decompress(data, _CHUNK)
    image = 2 * min(_dicom_tags.stated_pixels(start), raster.MOST_PIXELS)
    whole = start if engine.eof else _at_once(data, image + _CHUNK)
    if whole is not None:
        return io.BytesIO(whole)
    stream, most = io.BytesIO(), _MOST_HEADER + image
    stream.write(start)
    left = True
    while left and not engine.eof:
        pending = engine.unconsumed_tail  # none, and yet more to come, where a chunk ends with it
        chunk = engine.decompress(pending, _CHUNK)
        left = bool(pending or chunk)
        stream.write(chunk)
        if stream.tell() > most:
            raise ValueError(f"it inflates to more than the {most:,} bytes that its image can need")
    if not engine.eof:
        raise ValueError("its deflated part breaks off")
    stream.seek(0)
    return stream


def _at_once(data: memoryview, most: int) -> bytes | None:
    """Inflate by libdeflate, in a third of the time of zlib.

    None where there are more bytes than `most` or anything else is wrong, which zlib then decides.
    """
    import imagecodecs

    try:
        return bytes(imagecodecs.deflate_decode(as_data(data), raw=True, out=most))
    except imagecodecs.DeflateError:
        return None
