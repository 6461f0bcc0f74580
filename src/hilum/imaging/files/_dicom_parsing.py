"""Bytes of a DICOM file to pydicom's data set: with or without preamble, inflated within bounds, without warnings on the terminal.

pydicom tells doubts through Python's warnings, whose filters are one for the whole process: `quietly` gathers them under a lock, so
that threads which read files side by side do not undo one another's, and hands them to the account. Pixels are not parsed: `parsed`
gives the place where they begin, so that no copy of them is made.
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
from hilum.imaging.files._dicom_elements import LONG_VRS, SHORT_VRS

if TYPE_CHECKING:
    from pydicom import Dataset

_CHUNK = 1 << 20  # bytes inflated at once; the size of the picture is told within the first
_MOST_HEADER = 64 << 20  # bytes of a deflated file that are no pixels
_BIG_ENDIAN, _META = b"1.2.840.10008.1.2.2\0", 1024  # transfer syntax, bytes it is within
_HEAD = 132  # bytes that show whether a file is one
_PARSING = threading.RLock()
_FIRST_TAGS = (
    0x0000,
    0x0001,
    0x0005,
    0x0008,
    0x0012,
    0x0014,
    0x0016,
    0x0018,
)  # of group 8: one of these begins a bare data set
_LONGEST_FIRST = 1024  # bytes of an implicit first element
_LAST_GROUP = 0x7FE0


class Parsed(NamedTuple):
    dataset: Dataset  # up to the pixels
    data: memoryview  # the bytes it was parsed from: inflated ones where the file is deflated
    pixels: int  # the place of the pixels' element in `data`


@contextmanager
def quietly() -> Iterator[list[str]]:
    """pydicom's doubts, once each, as a list that is full when the block ends; one thread at a time."""
    told: list[str] = []
    with _PARSING, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield told
        told += dict.fromkeys(" ".join(str(one.message).split()) for one in caught)


def is_bare_dataset(head: bytes) -> bool:
    """Whether a file without preamble begins as a data set does: file meta information, or an element of group 8 that comes
    first, and behind it, where `head` reaches so far, an element of a higher tag."""
    if len(head) < 12:
        return False
    for order in ("little", "big"):
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
    """The tag at `place` and the place behind its value; None where it is written in no way that is known."""
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
    """Raises what pydicom raises, and `ValueError` for what is no DICOM file, is broken, or inflates beyond any image."""
    from pydicom import dcmread
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset

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
    found.file_meta.TransferSyntaxUID = _dicom_tags.DEFLATED
    place = stream.tell()
    return Parsed(found, stream.getbuffer(), place)


def byte_order(dataset: Dataset) -> Literal["little", "big"]:
    return "big" if dataset.original_encoding[1] is False else "little"


def pixel_tag(parsed: Parsed) -> int:
    """The tag of the pixels, whole or float; 0 where there are none."""
    dataset, data, place = parsed
    order = byte_order(dataset)
    tag = int.from_bytes(data[place : place + 2], order) << 16 | int.from_bytes(
        data[place + 2 : place + 4], order
    )
    return tag if tag in _dicom_tags.PIXEL_TAGS else 0


def _inflated(data: memoryview) -> io.BytesIO:
    """PS3.5 A.5: raw deflate. Raises `ValueError` at more bytes than the picture that it tells of needs."""
    engine, stream, most = zlib.decompressobj(-zlib.MAX_WBITS), io.BytesIO(), _MOST_HEADER
    while data and not engine.eof:
        chunk = engine.decompress(data, _CHUNK)
        if not stream.tell():
            most += 2 * min(_dicom_tags.stated_pixels(chunk), raster.MOST_PIXELS)
        stream.write(chunk)
        if stream.tell() > most:
            raise ValueError(
                f"it inflates to more than the {most:,} bytes that its picture can need"
            )
        data = engine.unconsumed_tail
    if not engine.eof:
        raise ValueError("its deflated part breaks off")
    stream.seek(0)
    return stream
