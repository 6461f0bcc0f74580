"""Copy an image file without its metadata, which may identify a person.

From a PNG (ISO/IEC 15948) and a JPEG (ITU-T T.81) the parts that a decoder needs are copied
unchanged, so that the pixels are the same to the last bit: text, Exif, XMP, colour profiles,
thumbnails, comments, further images, and bytes behind the end are removed. Files of other kinds, in
which these parts are interleaved, are re-encoded as PNG with the same values.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from hilum.errors import BadData
from hilum.imaging.files import _png as _png_format
from hilum.imaging.files import raster

_AT_ONCE = 1 << 20  # bytes inflated
_PNG = b"\x89PNG\r\n\x1a\n"
# Chunks by their largest size; None: any. gAMA, sRGB and pHYs say how to show the pixels.
_CHUNKS = {
    b"IHDR": 13,
    b"PLTE": 768,
    b"tRNS": 256,
    b"IDAT": None,
    b"IEND": 0,
    b"gAMA": 4,
    b"sRGB": 1,
    b"pHYs": 9,
    b"sBIT": 4,
}
_SOI, _EOI, _SOS, _APP0, _APP14 = 0xD8, 0xD9, 0xDA, 0xE0, 0xEE
_JFIF, _ADOBE = b"JFIF\0", b"Adobe"
_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
# Frames, tables, restart interval, number of lines; and those of JPEG-LS (ITU-T T.87).
_DECODED = {*range(0xC0, 0xD0), 0xDA, 0xDB, 0xDC, 0xDD, 0xF7, 0xF8}


def copied(path: Path, root: Path | None = None) -> bytes:
    """Return the bytes of a PNG or JPEG file without its metadata.

    Raises `BadData` for a file whose parts cannot be distinguished, and for any other kind.
    """
    kind, module, data = raster.opened(path, root)
    with raster.named(path, kind):
        raster.refuse_giant(path, module.read_header(data))
        if kind == "PNG":
            return b"".join(_png(data))
        if kind == "JPEG":
            return b"".join(_jpeg(data))
    raise BadData(f"{path}: is a {kind} file, which is written anew and never copied")


def _png(data: bytes) -> Iterator[bytes]:
    yield _PNG
    at, rows = len(_PNG), _Rows(_png_rows(data))
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise ValueError(f"the file ends inside its chunk {name!r}")
        if name == b"IDAT":
            yield rows.chunk(data[at + 8 : end - 4])
        elif name in _CHUNKS:
            if (most := _CHUNKS[name]) is not None and length > most:
                raise ValueError(f"its chunk {name!r} has {length} bytes, at most {most} may be")
            yield data[at:end]
        if name == b"IEND":
            return
        at = end
    raise ValueError("it has no end")


class _Rows:
    """The compressed rows of a PNG, inflated only to find where they end."""

    def __init__(self, most: int) -> None:
        self._inflater, self._left = zlib.decompressobj(), most

    def chunk(self, content: bytes) -> bytes:
        """Return a piece of them as a chunk, without the bytes behind their end."""
        if self._inflater.eof:
            return b""
        fed = content
        while fed and not self._inflater.eof:
            # The inflated bytes are discarded: they only show where the rows end.
            self._left -= len(self._inflater.decompress(fed, _AT_ONCE))
            if self._left < 0:
                raise ValueError("its compressed rows hold more than its pixels")
            fed = self._inflater.unconsumed_tail
        used = b"IDAT" + content[: len(content) - len(self._inflater.unused_data)]
        return struct.pack(">I", len(used) - 4) + used + struct.pack(">I", zlib.crc32(used))


def _png_rows(data: bytes) -> int:
    """Return the bytes of rows that a PNG may hold; interlaced ones are up to seven a row more."""
    return 2 * _png_format.inflated_size(data) + _AT_ONCE


def _jpeg(data: bytes) -> Iterator[bytes]:
    if data[:2] != bytes((0xFF, _SOI)):
        raise ValueError("it does not begin as a JPEG")
    yield data[:2]
    at = 2
    while at + 2 <= len(data):
        if data[at] != 0xFF:
            raise ValueError(f"there is no marker at byte {at}")
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker == _EOI:
            yield data[at : at + 2]
            return
        elif marker in _ALONE:
            at += 2
        else:
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
            if end < at + 4 or end > len(data):
                raise ValueError(f"the file ends inside its segment {marker:#x}")
            yield _segment(marker, data[at:end])
            at = end
            if marker == _SOS:
                at = _end_of_scan(data, end)
                yield data[end:at]
    raise ValueError("it has no end")


def _segment(marker: int, segment: bytes) -> bytes:
    """Return what of a segment a decoder needs: of JFIF's all but the thumbnail."""
    if marker in _DECODED:
        return segment
    content = segment[4:]
    if marker == _APP0 and content.startswith(_JFIF) and len(content) >= 14:
        return segment[:2] + struct.pack(">H", 16) + content[:12] + b"\0\0"
    if marker == _APP14 and content.startswith(_ADOBE) and len(content) >= 12:
        return segment[:2] + struct.pack(">H", 14) + content[:12]
    return b""


def _end_of_scan(data: bytes, at: int) -> int:
    """Return where the entropy-coded bytes end: at a marker that is no restart."""
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        follows = data[at + 1]
        if follows != 0 and follows != 0xFF and follows not in _ALONE:
            return at
        at += 1 if follows == 0xFF else 2
    raise ValueError("its coded pixels have no end")
