"""Decode PNG (ISO/IEC 15948) fast and within bounds, and encode plain ones fast.

imagecodecs' libpng undoes the filters, but its inflate is slow. Where it pays, the stream is
inflated here by libdeflate, into a buffer of exactly the image's size, and given to libpng in
stored blocks (RFC 1951, 3.2.4), which cost it little: three quarters of the time for the same
values. Of a grey image saved in colour it gets one channel alone, see `_png_channels`. Where the
extra [fast] is installed, and no other thread decodes, kornia-rs takes libpng's place: it undoes
the filters in a third of the time, but has Python's lock meanwhile, for which threads would wait.
On any irregularity (a checksum, a length) libpng alone decodes the file and decides.

Missing or surplus rows are refused: libpng raises for the former, and warns of the latter.

Only the chunks that make up the image are passed on; text and colour profiles, which may be
compressed without bound, never are.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from importlib import import_module
from importlib.util import find_spec

import numpy as np

from hilum.imaging.files import _decoder_warnings, _png_channels, _tiff
from hilum.imaging.files._decoder_warnings import as_data
from hilum.imaging.files._raster_header import Head, Stored, Unfit

SIGNATURES = (b"\x89PNG\r\n\x1a\n",)
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; a palette is applied
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PALETTE = 3
_MERGED = (bytes([8, 2]), bytes([8, 6]))  # bits and colour types that `_png_channels` may merge
_QUICK_KINDS = {0: "mono", 2: "rgb", 6: "rgba"}  # colour types by kornia-rs' names
_LAST_FILTER = 4
_UP = 2  # the filter of a row less the one above
_INTERLACED = 28  # offset of the byte that states it
_MOST_INFLATED = 1 << 27  # bytes; larger ones are left to libpng, which needs no copy of all rows
_MOST_CHUNKS = 1 << 20
# Inflated bytes per compressed byte: above, zlib itself is fast, and a second checksum and copy
# cost more than they save.
_PAYS_BELOW = 16
_LONGEST = 1034  # inflated bytes per compressed byte at most, by the deflate format
_STORED = 65535  # bytes in a stored block
_counting = threading.Lock()
_decoding = 0  # threads that inflate an image or undo its filters


def read_header(data: bytes) -> Head:
    """Return size, channels and depth. Raises `ValueError` for a broken header."""
    if len(data) < 29 or data[12:16] != b"IHDR":
        raise ValueError("it has no header")
    width, height, bits, kind = struct.unpack_from(">IIBB", data, 16)
    if bits not in _DEPTHS.get(kind, ()):
        raise ValueError(f"it has {bits} bits of colour type {kind}")
    return Head((height, width), _CHANNELS[kind], max(bits, 8))


def encode(pixels: np.ndarray) -> bytes:
    """Encode uint8 (height, width), or bool as 0 and 255, each row less the one above it.

    A film is noise, with few repeats: libdeflate takes three quarters of the time of libpng, for a
    file a sixth larger. A mask is even: zlib-ng takes a quarter, for twice as much. Where the extra
    [fast] is installed, ISA-L takes half the time of the one and two thirds of that of the other.
    """
    flat = pixels.dtype == bool
    values = pixels.view(np.uint8) * np.uint8(255) if flat else pixels
    height, width = values.shape
    rows = np.empty((height, 1 + width), np.uint8)
    rows[:, 0] = _UP
    rows[0, 1:] = values[0]
    np.subtract(values[1:], values[:-1], out=rows[1:, 1:])
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    body = _chunk(b"IDAT", bytes(_compressor(flat=flat)(rows.data.cast("B"))))
    return b"".join([*SIGNATURES, head, body, _END])


@lru_cache(2)
def _compressor(*, flat: bool) -> Callable[[memoryview], bytes | bytearray]:
    """Return what makes zlib streams of filtered rows in the least time; of a mask where `flat`."""
    if find_spec("isal"):
        return partial(import_module("isal.isal_zlib").compress, level=1)
    import imagecodecs

    return partial(imagecodecs.zlibng_encode if flat else imagecodecs.deflate_encode, level=1)


def decode(data: bytes, head: Head, *, merge: bool = False) -> tuple[np.ndarray, list[str]]:
    """Return values uint8 or uint16 (height, width) or (height, width, channels), and notes.

    1, 2 and 4 bits are stretched to 8, palettes applied. `merge`: three equal channels may come as
    one (height, width), where there is no alpha or an opaque one. Raises `ValueError` for a broken
    file, `Unfit` for an animation.
    """
    palette, parts, notes = _parts(data)[:3]
    colours = _chunk(b"PLTE", palette) if palette else b""
    return _pixels(data, head, data[:33], colours, parts, merge=merge), notes


def stored(data: bytes, head: Head) -> Stored:
    """Return values uint8 or uint16 as stored, 1, 2 and 4 bits not stretched, and the palette."""
    palette, parts, _, transparency = _parts(data)
    bits, kind = data[24], data[25]
    # libpng applies a palette; declared as grey, its indices stay as they are.
    start = _declared_grey(data) if kind == _PALETTE else data[:33]
    colours = b"" if kind == _PALETTE or not palette else _chunk(b"PLTE", palette)
    values = _pixels(data, head, start, colours, parts)
    if bits < 8:
        values //= np.uint8(255 // ((1 << bits) - 1))
    if kind != _PALETTE:
        return Stored(values)
    missing = max(0, int(values.max(initial=0)) + 1 - len(palette) // 3)  # black in libpng
    entries = np.frombuffer(palette + bytes(3 * missing), np.uint8).reshape(-1, 3)
    clear = frozenset(number for number, alpha in enumerate(transparency) if alpha == 0)
    return Stored(values, entries, clear)


def _pixels(
    data: bytes,
    head: Head,
    header: bytes,
    colours: bytes,
    parts: list[memoryview],
    *,
    merge: bool = False,
) -> np.ndarray:
    """Decode the compressed stream behind the chunks `header` and `colours`; see `decode`."""
    import imagecodecs

    needed = inflated_size(data)
    compressed = sum(map(len, parts))
    if not needed or needed > _LONGEST * compressed:
        raise ValueError(f"{compressed} bytes cannot hold its {head.size[0]}x{head.size[1]} pixels")
    start = [header, colours]
    stream = parts[0] if len(parts) == 1 else b"".join(parts)
    if not data[_INTERLACED] and needed <= min(_MOST_INFLATED, _PAYS_BELOW * compressed):
        try:
            with _counted():
                # Adler-32, at the end of the stream, is checked here.
                rows = memoryview(imagecodecs.deflate_decode(as_data(stream), out=needed))
                if merge and data[24:26] in _MERGED and (one := _png_channels.merged(rows, head)):
                    start, rows = [_declared_grey(data)], one
                return _unfiltered(start, rows)
        except (imagecodecs.DeflateError, imagecodecs.PngError):
            pass  # libpng alone reports what is wrong, or that nothing is
    with _decoder_warnings.collected() as warnings:
        values = imagecodecs.png_decode(b"".join([*start, _chunk(b"IDAT", stream), _END]))
    if faults := [warning for warning in warnings if "IDAT" in warning]:
        raise ValueError(faults[0])
    return values


@contextmanager
def _counted() -> Iterator[None]:
    """Count this thread among those that decode, while the block runs."""
    global _decoding
    with _counting:
        _decoding += 1
    try:
        yield
    finally:
        with _counting:
            _decoding -= 1


def _unfiltered(start: list[bytes], rows: memoryview) -> np.ndarray:
    """Decode filtered rows behind signature and header, and palette where there is one."""
    import imagecodecs

    width, height, bits, kind = struct.unpack_from(">IIBB", start[0], 16)
    plain = b"".join([*start, *stored_in(rows), _END])
    quick = _quick_decoders().get(bits) if _decoding == 1 and kind in _QUICK_KINDS else None
    filters = np.frombuffer(rows, np.uint8)[:: len(rows) // height]
    if quick is None or filters.max() > _LAST_FILTER:
        return imagecodecs.png_decode(plain)
    values = quick(plain, (height, width), _QUICK_KINDS[kind])
    return values[..., 0] if values.shape[2] == 1 else values


@lru_cache(1)
def _quick_decoders() -> dict[int, Callable[[bytes, tuple[int, int], str], np.ndarray]]:
    """Return kornia-rs' decoders by the bits that they decode; none where it is not installed."""
    if not find_spec("kornia_rs"):
        return {}
    from kornia_rs import io

    return {8: io.decode_image_png_u8, 16: io.decode_image_png_u16}


def _declared_grey(data: bytes) -> bytes:
    """Return signature and header, in which the image is one of grey values."""
    grey = struct.pack(">BB", data[24], 0)
    return data[:8] + _chunk(b"IHDR", data[16:24] + grey + data[26:29])


def inflated_size(data: bytes) -> int:
    """Return the bytes of an image's filtered rows; of an interlaced one about."""
    width, height, bits, kind = struct.unpack_from(">IIBB", data, 16)
    return height * (1 + (width * bits * (1 if kind == _PALETTE else _CHANNELS[kind]) + 7) // 8)


def stored_in(rows: memoryview) -> list[bytes | memoryview]:
    """Return an IDAT chunk, in pieces, with filtered rows in the stored blocks of a zlib stream."""
    import imagecodecs

    pieces: list[bytes | memoryview] = [b"IDAT\x78\x01"]
    for start in range(0, len(rows), _STORED):
        length = min(_STORED, len(rows) - start)
        pieces += [
            struct.pack("<BHH", start + length == len(rows), length, length ^ 0xFFFF),
            rows[start : start + length],
        ]
    pieces.append(struct.pack(">I", imagecodecs.deflate_adler32(as_data(rows))))
    check = 0
    for piece in pieces:
        check = imagecodecs.deflate_crc32(as_data(piece), check)
    return [struct.pack(">I", sum(map(len, pieces)) - 4), *pieces, struct.pack(">I", check)]


def _chunk(name: bytes, content: bytes | memoryview) -> bytes:
    import imagecodecs

    check = zlib.crc32(name)
    if len(content):  # libdeflate's checksum takes a tenth of the time of zlib's
        check = imagecodecs.deflate_crc32(as_data(content), check)
    return b"".join([struct.pack(">I", len(content)), name, content, struct.pack(">I", check)])


_END = _chunk(b"IEND", b"")


def _parts(data: bytes) -> tuple[bytes, list[memoryview], list[str], bytes]:
    """Return palette, pieces of the compressed stream, notes on what is ignored, and chunk tRNS.

    Raises `ValueError` for a broken chunk.
    """
    import imagecodecs

    palette, transparency, parts, notes, at = b"", b"", [], [], 8
    view = memoryview(data)  # whose slices are no copies
    for _ in range(_MOST_CHUNKS):
        if at + 12 > len(data):
            break
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            raise ValueError(f"the file ends inside its chunk {name!r}")
        if name in (b"IHDR", b"PLTE", b"IDAT", b"acTL", b"tRNS", b"eXIf"):
            check = imagecodecs.deflate_crc32(as_data(view[at + 4 : end]))
            if check != int.from_bytes(data[end : end + 4]):
                raise ValueError(f"the checksum of its chunk {name!r} is wrong")
            if name == b"IDAT":
                parts.append(view[at + 8 : end])
            elif name == b"PLTE":
                palette = data[at + 8 : end]
            else:
                content = data[at + 8 : end]
                transparency = content if name == b"tRNS" else transparency
                notes += _left_out(name, content)
        elif name == b"IEND":
            break
        elif not (name.isalpha() and name[:1].islower()):
            raise ValueError(f"its chunk {name!r} is unknown")
        at = end + 4
    return palette, parts, notes, transparency


def orientation(data: bytes) -> int:
    """Return the orientation in the chunk eXIf, which `decode` ignores; 1 where there is none."""
    at = 8
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if name == b"eXIf":
            return _tiff.orientation(data[at + 8 : at + 8 + length])
        if name == b"IDAT":
            break
        at += 12 + length
    return 1


def _left_out(name: bytes, content: bytes) -> list[str]:
    if name == b"acTL" and int.from_bytes(content[:4]) > 1:
        raise Unfit(
            f"is an animation of {int.from_bytes(content[:4])} images; expected one; save the one "
            "you need as a file of its own"
        )
    if name == b"tRNS":
        return ["transparent colours shown as they are"]
    if name == b"eXIf" and (stated := _tiff.orientation(content)) != 1:
        return [f"its Exif orientation {stated} not followed"]
    return []
