"""Decode JPEG 2000 (ITU-T T.800) and HTJ2K (T.814), and make certain that no tile is missing.

The markers are walked first: every tile of the grid must be there, every tile-part must have its
stated length, the parts of a tile must be all that it announces, and the end marker must follow.
OpenJPEG refuses a truncated packet; OpenJPH, for HTJ2K, mostly fails in a callback
(`_dicom_silent_faults`).

Packets missing at the end of a tile whose length was adjusted pass both checks: decoders treat them
as empty. So the beginning of another packet is appended to each tile: it is ignored where all
packets were there, and is otherwise parsed as a packet without contents, which is an error.
OpenJPH decodes with it at once. With OpenJPEG it might complete a truncated packet, so that more
decodings are needed; they are done for small images only. Small HTJ2K images are decoded a second
time by OpenJPEG: from code-blocks with internal damage, which have no checksum, the two decoders
produce different pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hilum.imaging.files import _decoder_warnings, _dicom_silent_faults

_SOC, _SIZ, _SOT, _EOC = b"\xff\x4f", b"\xff\x51", b"\xff\x90", b"\xff\xd9"
_FRONT = 4096  # bytes within which a codestream begins, and at most so many follow its end
_SOT_BYTES = 12  # with its marker
_PACKET = b"\xc0"  # begins a packet that is not empty
_LONG_PACKET = b"\xff\x7f" * 24  # likewise, of a header that does not end
_AGAIN = 1 << 19  # pixels of an image that is decoded more than once at most
_ROUNDING = 2  # by which two decoders of a lossy image may differ


class Missing(ValueError):
    """A tile, a part of one or the end is missing: no decoder can do better."""


class _Part(NamedTuple):
    tile: int
    number: int  # among those of its tile
    count: int  # of the tile's parts; 0: not stated
    begin: int
    end: int
    open_ended: bool  # its length is stated as 0: up to the end marker


def decode(data: bytes | memoryview, *, high_throughput: bool) -> tuple[np.ndarray, list[str]]:
    """Return values (height, width) or (height, width, components), and the decoder's warnings.

    Raises `Missing`, `ValueError`, or what the decoder raises.
    """
    import imagecodecs

    start = bytes(data[:_FRONT]).find(_SOC + _SIZ)
    if start < 0:
        raise ValueError("it has no codestream")
    stream = memoryview(data)[start:]  # large ones are not copied
    parts = _parts(stream)
    _refuse_missing(stream, parts)
    if not high_throughput:
        values, warnings = _by_openjpeg(stream)
        for more in (_PACKET, _LONG_PACKET) if values.size <= _AGAIN else ():
            if not np.array_equal(values, _by_openjpeg(_lengthened(stream, parts, more))[0]):
                raise Missing("packets are missing at the end of a tile")
        return values, warnings
    with _dicom_silent_faults.raising():
        values = imagecodecs.htj2k_decode(_lengthened(stream, parts, _PACKET))
    if values.size <= _AGAIN:
        other, _ = _by_openjpeg(_lengthened(stream, parts, _LONG_PACKET))
        if other.shape != values.shape or (
            np.abs(other.astype(np.int64) - values).max(initial=0) > _ROUNDING
        ):
            raise ValueError("two decoders disagree about its pixels: it is damaged inside")
    return values, []


def _by_openjpeg(stream: bytes | memoryview) -> tuple[np.ndarray, list[str]]:
    """Return values and warnings. Raises `ValueError` with the faults that OpenJPEG reports."""
    import imagecodecs

    with _decoder_warnings.collected() as warnings:
        try:
            values = imagecodecs.jpeg2k_decode(stream, verbose=2)
        except RuntimeError as error:  # what imagecodecs raises says less than what is logged
            raise ValueError("; ".join(dict.fromkeys(warnings)) or str(error)) from error
    return values, list(dict.fromkeys(warnings))


def _parts(stream: memoryview) -> list[_Part]:
    """Return all tile-parts in order (T.800 A.4.2). Raises `Missing` where one is cut short."""
    at = _behind_main_header(stream)
    parts: list[_Part] = []
    while stream[at : at + 2] == _SOT:
        if at + _SOT_BYTES > len(stream):
            raise Missing(f"tile-part {len(parts) + 1} breaks off in its header")
        tile, length = _number(stream, at + 4, 2), _number(stream, at + 6, 4)
        end = at + length if length else _last_end(stream)
        if end - at < _SOT_BYTES + 2 or end > len(stream):
            raise Missing(
                f"tile-part {len(parts) + 1}, of tile {tile}, states {end - at:,} bytes; "
                f"{len(stream) - at:,} are left"
            )
        parts.append(_Part(tile, stream[at + 10], stream[at + 11], at, end, not length))
        at = end
    return parts


def _behind_main_header(stream: memoryview) -> int:
    """Return the offset of the first tile-part: all segments before it state their length."""
    at = len(_SOC)
    while at + 4 <= len(stream) and stream[at : at + 2] != _SOT:
        if stream[at] != 0xFF:
            break
        at += 2 + max(_number(stream, at + 2, 2), 2)
    if stream[at : at + 2] != _SOT:
        raise Missing("its main header breaks off before the first tile")
    return at


def _last_end(stream: memoryview) -> int:
    tail = max(0, len(stream) - _FRONT)
    end = bytes(stream[tail:]).rfind(_EOC)
    return tail + end if end >= 0 else len(stream)


def _refuse_missing(stream: memoryview, parts: list[_Part]) -> None:
    count = _tiles(stream)
    found: dict[int, list[_Part]] = {}
    for part in parts:
        found.setdefault(part.tile, []).append(part)
    if lacking := [tile for tile in range(count) if tile not in found]:
        raise Missing(
            f"{len(lacking)} of {count} tiles are missing, the first is tile {lacking[0]}"
        )
    if max(found) >= count:
        raise ValueError(f"it has a tile {max(found)}, of {count}")
    for tile, own in found.items():
        announced = max(part.count for part in own)
        if [part.number for part in own] != list(range(len(own))) or announced not in (0, len(own)):
            raise Missing(f"tile {tile} has {len(own)} parts that are not all of its {announced}")
    end = parts[-1].end
    if stream[end : end + 2] != _EOC:
        raise Missing("its end marker is missing")
    if _SOC + _SIZ in bytes(stream[end:]):
        raise ValueError("another codestream follows its end")


def _tiles(stream: memoryview) -> int:
    """Return how many tiles the grid has (T.800 B.3)."""
    right, bottom, _, _, width, height, left, top = (
        _number(stream, place, 4) for place in range(8, 40, 4)
    )
    if not width or not height or right <= left or bottom <= top:
        raise ValueError("its grid of tiles has no size")
    return -(-(right - left) // width) * -(-(bottom - top) // height)


def _lengthened(stream: memoryview, parts: list[_Part], more: bytes) -> bytes:
    """Return the codestream with the beginning of one more packet behind each tile."""
    last = {part.tile: part.begin for part in parts}
    at = 0
    pieces: list[bytes | memoryview] = []
    for part in parts:
        if last[part.tile] != part.begin:
            continue
        if not part.open_ended:
            length = part.end - part.begin + len(more)
            pieces += [stream[at : part.begin + 6], length.to_bytes(4)]
            at = part.begin + 10
        pieces += [stream[at : part.end], more]
        at = part.end
    return b"".join([*pieces, stream[at:]])


def _number(stream: memoryview, place: int, length: int) -> int:
    return int.from_bytes(stream[place : place + length])
