"""Parse the directories of TIFF 6.0 and BigTIFF, and decode the one image of a file.

Supported are grey, colour and palette images of 1, 8 and 16 bits in strips or tiles
(`_tiff_pixels`); MinIsWhite is inverted and a palette applied here. Compressions that can claim
memory without bound (LZMA) or that are obsolete (6, old JPEG) are refused. A file with several
images is refused, because none is known to be the intended one; smaller copies of it
(NewSubfileType 1, as in pyramids and thumbnails) are ignored.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from hilum.imaging.files._raster_header import Head, Stored, Unfit, range_top

SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00\x08\x00", b"MM\x00+\x00\x08")
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_KINDS = {4: "a mask", 5: "CMYK", 8: "CIE L*a*b*"}
_JPEG = 7
# None, CCITT, LZW, JPEG, deflate, PackBits, deflate, Zstandard.
_COMPRESSIONS = (1, 2, 3, 4, 5, _JPEG, 8, 32773, 32946, 50000)
# Of whole numbers; tags of other types are not needed.
_FORMATS = {1: "B", 7: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT = 254, 255, 256, 257
_BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION = 258, 259, 262, 274
_SAMPLES, _PLANAR, _COLOURS, _FORMAT = 277, 284, 320, 339
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_TAGS = (
    254,
    255,
    256,
    257,
    258,
    259,
    262,
    266,
    273,
    274,
    277,
    278,
    279,
    284,
    292,
    293,
    317,
    320,
    322,
    323,
    324,
    325,
    339,
    347,
)
_MOST_DIRECTORIES = 1000
_MOST_VALUES = 1 << 20  # of one tag: strips of the largest image, and a palette of 16 bits
_LABEL_BITS = (1, 4, 8, 16, 32, 64)
_MOST_BITS = 1 << 31
_LARGEST_TILE = 1 << 26  # pixels

Tags = dict[int, tuple[int, ...]]


def read_header(data: bytes) -> Head:
    """Return size, channels, depth and orientation.

    Raises `ValueError` for a broken file, `Unfit` for an image that is not supported.
    """
    return _head(_chosen(data))


def read_label_header(data: bytes) -> Head:
    """Return the same of a label map, which may also have 4, 32 or 64 bits, signs and fractions.

    Scientific software stores label maps in such types.
    """
    return _head(_chosen(data), labels=True)


def stored(data: bytes, head: Head) -> Stored:
    """Return values as stored, of any type of number, MinIsWhite not inverted, and the palette."""
    from hilum.imaging.files import _tiff_pixels  # only to decode: Exif needs tags alone

    tags = _chosen(data)
    values = _tiff_pixels.read(data, tags)
    if tags.get(_PHOTOMETRIC) != (_PALETTE,):
        return Stored(values)
    return Stored(values, _colours(tags))


def orientation(data: bytes) -> int:
    """Return the orientation in a small TIFF such as Exif; 1 where it states none or is broken."""
    try:
        return _orientation(next(_directories(data), {}))
    except (ValueError, struct.error):
        return 1


def decode(data: bytes, head: Head) -> tuple[np.ndarray, list[str]]:
    """Return values uint8 or uint16 (height, width) or (height, width, channels), and notes.

    Bright is high. Raises `ValueError` for a broken file, `Unfit` for an ambiguous one.
    """
    from hilum.imaging.files import _tiff_pixels

    tags = _chosen(data)
    if _PHOTOMETRIC not in tags:
        raise Unfit(
            "does not state whether 0 is black or white (PhotometricInterpretation), and programs "
            "do not agree; save it as a grey PNG"
        )
    values = _tiff_pixels.read(data, tags)
    notes: list[str] = []
    if head.channels > 1 and tags.get(_PLANAR) == (2,) and values.ndim == 3:
        notes.append("planes interleaved")
    if tags.get(_BITS, (1,))[0] == 1 and tags.get(_PHOTOMETRIC) != (_PALETTE,):
        values *= np.uint8(255)
    if tags.get(_PHOTOMETRIC) == (_PALETTE,):
        values = _colours(tags)[values]
    if tags.get(_PHOTOMETRIC) == (_WHITE_IS_ZERO,):
        values = values if values.flags.writeable else values.copy()
        grey = values[:, :, 0] if values.ndim == 3 else values
        np.subtract(range_top(grey), grey, out=grey, dtype=grey.dtype)
        notes.append("MinIsWhite inverted")
    return values, notes


def _chosen(data: bytes) -> Tags:
    """Return the tags of the one full image."""
    full = [tags for tags in _directories(data) if not _lesser(tags)]
    if not full:
        raise ValueError("it holds no full image")
    if len(full) > 1:
        raise Unfit(
            f"holds {len(full)} images; expected one; save the one you need as a file of its own"
        )
    return full[0]


def _lesser(tags: Tags) -> bool:
    """Whether a directory is a smaller copy or a transparency mask of another."""
    return bool(tags.get(_SUBFILE, (0,))[0] & 5) or tags.get(_OLD_SUBFILE, (1,))[0] == 2


def _directories(data: bytes) -> Iterator[Tags]:
    """Yield the tags of each image file directory.

    Raises `ValueError` or `struct.error` where the chain is broken.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ValueError("it is no TIFF")
    big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    at, seen = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)[0], set()
    while at:
        if at in seen or len(seen) == _MOST_DIRECTORIES:
            raise ValueError("its directories run in a circle or are too many")
        seen.add(at)
        tags, at = _directory(data, order, big, at)
        yield tags


def _directory(data: bytes, order: str, big: bool, at: int) -> tuple[Tags, int]:
    counted, entry, offset = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    count = struct.unpack_from(order + counted, data, at)[0]
    at, step = at + struct.calcsize(counted), struct.calcsize(order + entry)
    if at + count * step > len(data):
        raise ValueError("a directory runs past the end of the file")
    tags = {}
    for _ in range(count):
        tag, kind, number, inline = struct.unpack_from(order + entry, data, at)
        at += step
        if tag in _TAGS and tag not in tags and kind in _FORMATS and 0 < number <= _MOST_VALUES:
            form = f"{order}{number}{_FORMATS[kind]}"
            short = struct.calcsize(form) <= len(inline)
            place = 0 if short else struct.unpack(order + offset, inline)[0]
            tags[tag] = struct.unpack_from(form, inline if short else data, place)
    if at + struct.calcsize(offset) > len(data):
        return tags, 0
    return tags, struct.unpack_from(order + offset, data, at)[0]


def _orientation(tags: Tags) -> int:
    stated = tags.get(_ORIENTATION, (1,))[0]
    return stated if 1 <= stated <= 8 else 1


def _head(tags: Tags, *, labels: bool = False) -> Head:
    """Return the header of an image's tags; `labels` allows further types of numbers.

    Raises `Unfit` for everything but a grey, colour or palette image of whole numbers.
    """
    if _WIDTH not in tags or _HEIGHT not in tags:
        raise ValueError("it does not state its width and height")
    samples, bits = tags.get(_SAMPLES, (1,))[0], tags.get(_BITS, (1,))
    form, shown = tags.get(_FORMAT, (1,))[0], tags.get(_PHOTOMETRIC, (_BLACK_IS_ZERO,))[0]
    compression = tags.get(_COMPRESSION, (1,))[0]
    forms, depths = ((1, 2, 3, 4), _LABEL_BITS) if labels else ((1, 4), (1, 8, 16))
    if form not in forms or len(set(bits)) > 1 or bits[0] not in depths:
        held = {2: "signed", 3: "floating-point"}.get(form, "unsigned")
        raise Unfit(
            f"holds {held} values of {bits[0]} bits; expected 8- or 16-bit whole numbers; save it "
            "as a grey PNG"
        )
    fitting = {
        _WHITE_IS_ZERO: (1, 2),
        _BLACK_IS_ZERO: (1, 2),
        _RGB: (3, 4),
        _PALETTE: (1,),
        _YCBCR: (3,) if compression == _JPEG else (),
    }
    if (
        labels
        and bits[0] > 16
        and tags[_HEIGHT][0] * tags[_WIDTH][0] * samples * bits[0] > _MOST_BITS
    ):
        raise Unfit(
            f"holds more values of {bits[0]} bits than are read; save it as a PNG of 8 bits"
        )
    if samples not in fitting.get(shown, ()):
        held = _KINDS.get(shown, f"photometric interpretation {shown}")
        raise Unfit(
            f"holds {held} in {samples} channels; expected grey, RGB or a palette; save it as a "
            "grey PNG"
        )
    if compression not in _COMPRESSIONS:
        raise Unfit(
            f"is compressed by method {compression}, which is not supported; save it uncompressed, "
            "by LZW or by deflate"
        )
    if tags.get(_TILE_WIDTH, (0,))[0] * tags.get(_TILE_HEIGHT, (0,))[0] > _LARGEST_TILE:
        raise ValueError("its tiles are larger than any image")
    if shown == _PALETTE and len(tags.get(_COLOURS, ())) != 3 << bits[0]:
        raise ValueError("its palette is missing or cut short")
    channels = 3 if shown == _PALETTE and not labels else samples
    return Head(
        (tags[_HEIGHT][0], tags[_WIDTH][0]),
        channels,
        16 if shown == _PALETTE else bits[0],
        _orientation(tags),
    )


def _colours(tags: Tags) -> np.ndarray:
    """Return a palette, uint8 or uint16 (entries, 3); 8 bits where its 16 hold no more."""
    table = np.array(tags[_COLOURS], np.uint16).reshape(3, -1).T
    if not (table % 257).any():
        return (table // 257).astype(np.uint8)
    if table.max() < 256:  # as old programs write it, against the standard
        return table.astype(np.uint8)
    return table if (table & 255).any() else (table >> 8).astype(np.uint8)
