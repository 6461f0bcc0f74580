"""Decode Windows and OS/2 bitmaps (BMP) with NumPy.

Supported are palettes of 1, 2, 4 and 8 bits, also run-length encoded; 16, 24 and 32 bits with or
without bit masks; rows from the bottom or from the top; and headers of every version. JPEG and PNG
inside a bitmap, which only printers use, are refused. The fourth byte of 32 bits is alpha only
where a mask says so and some pixel is not 0: most programs leave it unset.

Source: Microsoft, [MS-WMF] 2.2.2; BITMAPINFOHEADER and the types around it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from hilum.imaging.files._raster_header import Head, Stored, Unfit

SIGNATURES = (b"BM",)
# Bytes of the file header, and of the information headers of OS/2 and of Windows.
_FILE, _CORE, _INFO = 14, 12, 40
_HEADERS = (_CORE, _INFO, 52, 56, 64, 108, 124)
_PLAIN, _RLE8, _RLE4, _FIELDS, _ALPHA_FIELDS = 0, 1, 2, 3, 6
_DEPTHS = {
    _PLAIN: (1, 2, 4, 8, 16, 24, 32),
    _RLE8: (8,),
    _RLE4: (4,),
    _FIELDS: (16, 32),
    _ALPHA_FIELDS: (16, 32),
}
_FIVE_BITS = (0x7C00, 0x03E0, 0x001F, 0)
_EIGHT_BITS = (0xFF0000, 0x00FF00, 0x0000FF, 0)


@dataclass(frozen=True)
class _Layout:
    size: tuple[int, int]
    from_top: bool
    bits: int
    compression: int
    fields: tuple[int, int, int, int]  # masks of the bits of red, green, blue and alpha
    palette: np.ndarray  # uint8 (entries, 3) of red, green, blue
    start: int  # of the pixels in the file


def is_one(data: bytes) -> bool:
    """Return whether a header of a known length follows the signature.

    The signature alone does not suffice: many text files begin with the letters "BM".
    """
    return len(data) >= 18 and struct.unpack_from("<I", data, _FILE)[0] in _HEADERS


def read_header(data: bytes) -> Head:
    """Return size, channels and depth. Raises as `decode` does."""
    layout = _layout(data)
    return Head(layout.size, 4 if layout.fields[3] else 3, 8)


def decode(data: bytes, head: Head) -> tuple[np.ndarray, list[str]]:
    """Return values uint8 (height, width, 3 or 4), palettes applied, and notes on the decoding.

    Raises `ValueError` for a broken file and `Unfit` for a form that is not supported.
    """
    found, skipped = _stored(data)
    notes = [f"{skipped:,} pixels that its runs skip have colour number 0"] if skipped else []
    return found.coloured(), notes


def stored(data: bytes, head: Head) -> Stored:
    """Return palette indices uint8 (height, width) with the palette, or (height, width, 3 or 4)."""
    return _stored(data)[0]


def _stored(data: bytes) -> tuple[Stored, int]:
    """Return the stored values, and how many pixels the run-length encoding skips."""
    layout, skipped = _layout(data), 0
    if layout.bits > 8:
        values = _direct(data, layout)
        return Stored(np.ascontiguousarray(values if layout.from_top else values[::-1])), 0
    if layout.compression in (_RLE8, _RLE4):
        values, skipped = _run_lengths(data[layout.start :], layout)
    else:
        values = _packed(data, layout)
    if values.max(initial=0) >= len(layout.palette):
        raise ValueError(f"its palette has {len(layout.palette)} colours, a pixel has another")
    return Stored(values if layout.from_top else values[::-1], layout.palette), skipped


def _layout(data: bytes) -> _Layout:
    """Parse both headers. Raises `ValueError` for a broken one, `Unfit` for an unsupported form."""
    start, length = struct.unpack_from("<I", data, 10)[0], struct.unpack_from("<I", data, _FILE)[0]
    if length == _CORE:
        width, height, _, bits = struct.unpack_from("<HHHH", data, _FILE + 4)
        compression, used = _PLAIN, 0
    elif length >= _INFO:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, _FILE + 4)
        used = struct.unpack_from("<I", data, _FILE + 32)[0]
    else:
        raise ValueError(f"its header has {length} bytes")
    if width < 1 or not height:
        raise ValueError(f"it says that it has {abs(height)}x{width} pixels")
    if bits not in _DEPTHS.get(compression, ()):
        raise Unfit(
            f"holds a bitmap of {bits} bits compressed by method {compression}, which is not "
            "read; save it as a grey PNG"
        )
    fields, behind = _fields(data, length, bits, compression)
    palette = np.zeros((0, 3), np.uint8)
    if bits <= 8:
        palette = _palette(data, behind, 3 if length == _CORE else 4, used, bits, start)
    return _Layout((abs(height), width), height < 0, bits, compression, fields, palette, start)


def _fields(data: bytes, length: int, bits: int, compression: int) -> tuple[tuple, int]:
    """Return the bit masks of red, green, blue and alpha, and the offset behind header and masks."""
    behind = _FILE + length
    if compression not in (_FIELDS, _ALPHA_FIELDS):
        return _FIVE_BITS if bits == 16 else _EIGHT_BITS, behind
    count = 4 if compression == _ALPHA_FIELDS or length >= 56 else 3
    masks = struct.unpack_from(f"<{count}I", data, _FILE + _INFO)
    inside = length > _INFO  # later headers hold the masks, the first one has them behind it
    return (*masks, 0)[:4], behind if inside else behind + 4 * count


def _palette(data: bytes, at: int, entry: int, used: int, bits: int, start: int) -> np.ndarray:
    count = min(used or 1 << bits, 1 << bits, max(0, (start - at) // entry))
    colours = np.frombuffer(data, np.uint8, count * entry, at).reshape(count, entry)
    return np.ascontiguousarray(colours[:, 2::-1])


def _rows(data: bytes, layout: _Layout) -> np.ndarray:
    """Return uint8 (height, bytes per row); a row is padded to a multiple of four bytes."""
    height, width = layout.size
    stride = (width * layout.bits + 31) // 32 * 4
    return np.frombuffer(data, np.uint8, height * stride, layout.start).reshape(height, stride)


def _packed(data: bytes, layout: _Layout) -> np.ndarray:
    rows, width = _rows(data, layout), layout.size[1]
    if layout.bits == 8:
        return rows[:, :width]
    shifts = np.arange(8 - layout.bits, -1, -layout.bits, dtype=np.uint8)
    numbers = rows[:, :, None] >> shifts & np.uint8((1 << layout.bits) - 1)
    return numbers.reshape(len(rows), -1)[:, :width]


def _direct(data: bytes, layout: _Layout) -> np.ndarray:
    height, width = layout.size
    rows = _rows(data, layout)
    if layout.bits == 24:
        return rows[:, : 3 * width].reshape(height, width, 3)[:, :, ::-1]
    words = np.ascontiguousarray(rows).view("<u2" if layout.bits == 16 else "<u4")[:, :width]
    planes = [_plane(words, mask) for mask in layout.fields if mask]
    if len(planes) < 3:
        raise ValueError("it does not say which bits are red, green and blue")
    if len(planes) == 4 and not planes[3].any():
        planes[3][:] = 255
    return np.stack(planes, -1)


def _plane(words: np.ndarray, mask: int) -> np.ndarray:
    """Return the bits under `mask` as uint8, scaled to 0 to 255."""
    lowest = (mask & -mask).bit_length() - 1
    top = mask >> lowest
    values = (words.astype(np.uint64) & np.uint64(mask)) >> np.uint64(lowest)
    return ((values * np.uint64(255) + np.uint64(top // 2)) // np.uint64(top)).astype(np.uint8)


def _run_lengths(stream: bytes, layout: _Layout) -> tuple[np.ndarray, int]:
    """Return the palette indices of RLE8 and RLE4, and how many pixels the file's escapes skip.

    Skipped pixels have index 0. Raises `ValueError` for runs that exceed their row or break off.
    """
    (height, width), nibbles = layout.size, layout.bits == 4
    values = np.zeros((height, width), np.uint8)
    row = column = at = drawn = 0
    while at + 1 < len(stream) and row < height:
        count, second = stream[at], stream[at + 1]
        at += 2
        if count:
            run = np.resize(_numbers(bytes([second]), nibbles), count)
        elif second > 2:
            length = (second + 1) // 2 if nibbles else second
            run = _numbers(stream[at : at + length], nibbles)[:second]
            if len(run) < second:
                raise ValueError("its runs end before its last row")
            at += length + length % 2
        elif second == 2:
            if at + 1 >= len(stream):
                raise ValueError("its runs end before its last row")
            column, row, at = column + stream[at], row + stream[at + 1], at + 2
            continue
        elif second == 1:
            break
        else:
            row, column = row + 1, 0
            continue
        if column + len(run) > width:
            raise ValueError("a run goes beyond its row")
        values[row, column : column + len(run)] = run
        column += len(run)
        drawn += len(run)
    else:
        if row < height and not (row == height - 1 and column == width):
            raise ValueError("its runs end before its last row")
    return values, values.size - drawn


def _numbers(data: bytes, nibbles: bool) -> np.ndarray:
    packed = np.frombuffer(data, np.uint8)
    return np.stack([packed >> 4, packed & 15], 1).ravel() if nibbles else packed
