"""PNG (ISO/IEC 15948): what the header tells, and the picture, fast.

libpng by imagecodecs undoes the filters, but its inflate is slow. Where it pays, the stream is inflated here by libdeflate, into room for
exactly the picture and never more, and given to libpng in stored blocks (RFC 1951, 3.2.4), which cost it little: three quarters of the
time for the same values. Anything odd on that way (a checksum, a length) leaves the file to libpng alone, whose word is final.

Rows that are missing, or of which there are more than the header tells, are refused: libpng raises for the former, and warns of the
latter.

Only the chunks that make the picture are passed on; text and colour profiles, which may be compressed without bound, never are.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from hilum.imaging.files import _decoder_warnings, _tiff
from hilum.imaging.files._raster_header import Head, Stored, Unfit

SIGNATURES = (b"\x89PNG\r\n\x1a\n",)
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; a palette is looked up
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PALETTE = 3
_INTERLACED = 28  # place of the byte that says so
_MOST_INFLATED = 1 << 27  # bytes; larger ones are left to libpng, which needs no copy of all rows
_MOST_CHUNKS = 1 << 20
_PAYS_BELOW = 6  # inflated bytes a compressed one: where zlib is quick by itself, a second checksum and copy cost more than it
_LONGEST = 1034  # inflated bytes a compressed one at most
_STORED = 65535  # bytes in a stored block


def read_header(data: bytes) -> Head:
    if len(data) < 29 or data[12:16] != b"IHDR":
        raise ValueError("it has no header")
    width, height, bits, kind = struct.unpack_from(">IIBB", data, 16)
    if bits not in _DEPTHS.get(kind, ()):
        raise ValueError(f"it has {bits} bits of colour type {kind}")
    return Head((height, width), _CHANNELS[kind], max(bits, 8))


def decode(data: bytes, head: Head) -> tuple[np.ndarray, list[str]]:
    """Values uint8 or uint16 (height, width) or (height, width, channels), 1, 2 and 4 bits stretched to 8, palettes looked up."""
    palette, parts, notes = _parts(data)[:3]
    return _pixels(
        data, head, data[:33], _chunk(b"PLTE", palette) if palette else b"", parts
    ), notes


def stored(data: bytes, head: Head) -> Stored:
    """Values uint8 or uint16 as they stand in the file: 1, 2 and 4 bits are not stretched, palettes not looked up."""
    palette, parts, _, transparency = _parts(data)
    bits, kind = data[24], data[25]
    grey = struct.pack(
        ">BB", bits, 0
    )  # libpng looks a palette up, but leaves numbers that are called grey as they are
    ihdr = _chunk(b"IHDR", data[16:24] + grey + data[26:29])
    start = data[:8] + ihdr if kind == _PALETTE else data[:33]
    colours = b"" if kind == _PALETTE or not palette else _chunk(b"PLTE", palette)
    values = _pixels(data, head, start, colours, parts)
    if bits < 8:
        values //= np.uint8(255 // ((1 << bits) - 1))
    if kind != _PALETTE:
        return Stored(values)
    missing = max(
        0, int(values.max(initial=0)) + 1 - len(palette) // 3
    )  # libpng shows these in black
    entries = np.frombuffer(palette + bytes(3 * missing), np.uint8).reshape(-1, 3)
    clear = frozenset(number for number, alpha in enumerate(transparency) if alpha == 0)
    return Stored(values, entries, clear)


def _pixels(
    data: bytes, head: Head, header: bytes, colours: bytes, parts: list[bytes]
) -> np.ndarray:
    """What libpng makes of the compressed stream behind the chunks `header` and `colours`."""
    import imagecodecs

    needed = inflated_size(data)
    compressed = sum(map(len, parts))
    if not needed or needed > _LONGEST * compressed:
        raise ValueError(f"{compressed} bytes cannot hold its {head.size[0]}x{head.size[1]} pixels")
    start = [header, colours]
    stream = parts[0] if len(parts) == 1 else b"".join(parts)
    if not data[_INTERLACED] and needed <= min(_MOST_INFLATED, _PAYS_BELOW * compressed):
        try:
            return imagecodecs.png_decode(
                b"".join([*start, *restored(stream, needed), _chunk(b"IEND", b"")])
            )
        except (imagecodecs.DeflateError, imagecodecs.PngError):
            pass  # libpng tells what is wrong, or that nothing is
    with _decoder_warnings.collected() as warnings:
        values = imagecodecs.png_decode(
            b"".join([*start, _chunk(b"IDAT", stream), _chunk(b"IEND", b"")])
        )
    if faults := [warning for warning in warnings if "IDAT" in warning]:
        raise ValueError(faults[0])
    return values


def inflated_size(data: bytes) -> int:
    """Bytes of the filtered rows of a picture that is not interlaced; about as many as those of one that is."""
    width, height, bits, kind = struct.unpack_from(">IIBB", data, 16)
    return height * (1 + (width * bits * (1 if kind == _PALETTE else _CHANNELS[kind]) + 7) // 8)


def restored(stream: bytes, size: int) -> list[bytes]:
    """An IDAT chunk, in pieces, with the same `size` bytes as the zlib stream, but stored. Raises where they are more or broken."""
    import imagecodecs

    rows = memoryview(
        imagecodecs.deflate_decode(stream, out=size)
    )  # checks Adler-32, which stands last
    pieces = [b"IDAT\x78\x01"]
    for start in range(0, len(rows), _STORED):
        length = min(_STORED, len(rows) - start)
        pieces += [
            struct.pack("<BHH", start + length == len(rows), length, length ^ 0xFFFF),
            rows[start : start + length],
        ]
    pieces.append(stream[-4:])
    check = 0
    for piece in pieces:
        check = imagecodecs.deflate_crc32(piece, check)
    return [struct.pack(">I", sum(map(len, pieces)) - 4), *pieces, struct.pack(">I", check)]


def _chunk(name: bytes, content: bytes) -> bytes:
    return b"".join(
        [
            struct.pack(">I", len(content)),
            name,
            content,
            struct.pack(">I", zlib.crc32(content, zlib.crc32(name))),
        ]
    )


def _parts(data: bytes) -> tuple[bytes, list[bytes], list[str], bytes]:
    """Palette, pieces of the compressed stream, what is left out of the picture, and the chunk tRNS. Raises ValueError for a broken chunk."""
    import imagecodecs

    palette, transparency, parts, notes, at = b"", b"", [], [], 8
    for _ in range(_MOST_CHUNKS):
        if at + 12 > len(data):
            break
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            raise ValueError(f"the file ends inside its chunk {name!r}")
        if name in (b"IHDR", b"PLTE", b"IDAT", b"acTL", b"tRNS", b"eXIf"):
            content = data[at + 8 : end]
            if imagecodecs.deflate_crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4]):
                raise ValueError(f"the checksum of its chunk {name!r} is wrong")
            if name == b"IDAT":
                parts.append(content)
            elif name == b"PLTE":
                palette = content
            else:
                transparency = content if name == b"tRNS" else transparency
                notes += _left_out(name, content)
        elif name == b"IEND":
            break
        elif not (name.isalpha() and name[:1].islower()):
            raise ValueError(f"its chunk {name!r} is unknown")
        at = end + 4
    return palette, parts, notes, transparency


def orientation(data: bytes) -> int:
    """What the chunk eXIf before the pixels says, which `decode` does not follow; 1 where there is none."""
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
            f"is an animation of {int.from_bytes(content[:4])} pictures; expected one; save the one you mean as a file of its own"
        )
    if name == b"tRNS":
        return ["transparent colours shown as they are"]
    if name == b"eXIf" and (told := _tiff.orientation(content)) != 1:
        return [f"its Exif orientation {told} not followed"]
    return []
