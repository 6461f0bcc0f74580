"""Decode the one image of a GIF87a or GIF89a file.

The blocks are parsed here, so that palette indices, the palette and the transparent index are
known; imagecodecs' giflib decompresses. An animation is refused, because none of its frames is
known to be the intended one. A frame smaller than its screen is surrounded by the background's
index.

Source: CompuServe, Graphics Interchange Format, version 89a, 1990.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from hilum.imaging.files._raster_header import Head, Stored, Unfit

SIGNATURES = (b"GIF87a", b"GIF89a")
_EXTENSION, _IMAGE, _TRAILER, _CONTROL = 0x21, 0x2C, 0x3B, 0xF9
_HEADER = 13  # bytes of the signature and of the description of the screen
_LARGEST = 65535  # height that the format can state
_PASSES = ((0, 8), (4, 8), (2, 4), (1, 2))  # first row and step of each pass of interlaced rows


@dataclass(frozen=True)
class _Frame:
    box: tuple[int, int, int, int]  # left, top, width, height on the screen
    interlaced: bool
    palette: bytes
    transparent: int | None
    packed: bytes  # smallest number of bits of a code, and the blocks of codes


def read_header(data: bytes) -> Head:
    """Return size, channels and depth of the screen."""
    width, height = struct.unpack_from("<HH", data, 6)
    return Head((height, width), 3, 8)


def decode(data: bytes, head: Head) -> tuple[np.ndarray, list[str]]:
    """Return values uint8 (height, width, 3), the palette applied, and notes on the decoding.

    Raises `ValueError` for a broken file, `Unfit` for an animation.
    """
    stored_in_file = stored(data, head)
    shown = stored_in_file.coloured()
    notes = ["transparent colours shown as they are"] if stored_in_file.transparent else []
    return shown, notes


def stored(data: bytes, head: Head) -> Stored:
    """Return palette indices uint8 (height, width) and the palette. Raises as `decode`."""
    frames, background = _frames(data)
    if len(frames) > 1:
        raise Unfit(
            f"is an animation of {len(frames)} images; expected one; save the one you need as a "
            "file of its own"
        )
    if not frames:
        raise ValueError("it holds no image")
    frame = frames[0]
    left, top, width, height = frame.box
    if not width or not height or left + width > head.size[1] or top + height > head.size[0]:
        raise ValueError("its image lies outside of its screen")
    palette = np.frombuffer(frame.palette, np.uint8).reshape(-1, 3)
    numbers = np.full(head.size, min(background, max(0, len(palette) - 1)), np.uint8)
    numbers[top : top + height, left : left + width] = _numbers(frame)
    if numbers.max() >= len(palette):
        raise ValueError(f"its palette has {len(palette)} colours, a pixel has another")
    clear = frozenset[int]() if frame.transparent is None else frozenset((frame.transparent,))
    return Stored(numbers, palette, clear)


def _frames(data: bytes) -> tuple[list[_Frame], int]:
    """Return all images of a file, and the background's palette index."""
    flags, background = data[10], data[11]
    at = _HEADER
    common, at = _palette(data, at, flags)
    frames: list[_Frame] = []
    transparent = None
    while at < len(data) and data[at] != _TRAILER:
        if data[at] == _EXTENSION:
            if data[at + 1] == _CONTROL and data[at + 2] >= 4:
                transparent = data[at + 6] if data[at + 3] & 1 else None
            at = _behind_blocks(data, at + 2)
        elif data[at] == _IMAGE:
            box, local = struct.unpack_from("<HHHH", data, at + 1), data[at + 9]
            own, at = _palette(data, at + 10, local)
            end = _behind_blocks(data, at + 1)
            packed = data[at:end]
            frames.append(_Frame(box, bool(local & 64), own or common, transparent, packed))
            at, transparent = end, None
        else:
            raise ValueError(f"a block of type {data[at]} is unknown")
    return frames, background


def _palette(data: bytes, at: int, flags: int) -> tuple[bytes, int]:
    length = 3 << (flags & 7) + 1 if flags & 128 else 0
    if at + length > len(data):
        raise ValueError("its palette is cut short")
    return data[at : at + length], at + length


def _behind_blocks(data: bytes, at: int) -> int:
    while at < len(data):
        length = data[at]
        at += 1 + length
        if not length:
            return at
    raise ValueError("its last block is cut short")


def _numbers(frame: _Frame) -> np.ndarray:
    """Return palette indices uint8 (height, width) of a frame.

    Raises `ValueError` where codes are missing or too many.
    """
    _, _, width, height = frame.box
    if height < _LARGEST and _holds_more(frame):
        raise ValueError(f"it holds more pixels than the {height}x{width} that it states")
    numbers = _decoded(frame, height)
    if not frame.interlaced:
        return numbers
    order = np.concatenate([np.arange(first, height, step) for first, step in _PASSES])
    rows = np.empty_like(numbers)
    rows[order] = numbers
    return rows


def _holds_more(frame: _Frame) -> bool:
    """Return whether the codes fill another row: giflib raises where they do not."""
    import imagecodecs

    try:
        _decoded(frame, frame.box[3] + 1)
    except imagecodecs.GifError:
        return False
    return True


def _decoded(frame: _Frame, height: int) -> np.ndarray:
    """Decompress with giflib a file of this frame alone; return uint8 (height, width)."""
    import imagecodecs

    width = frame.box[2]
    size = struct.pack("<HH", width, height)
    grey = bytes(np.repeat(np.arange(256, dtype=np.uint8), 3))
    head = b"GIF89a" + size + b"\xf7\0\0" + grey
    alone = head + bytes([_IMAGE]) + bytes(4) + size + b"\0" + frame.packed + bytes([_TRAILER])
    room = np.zeros((height, width), np.uint8)
    return imagecodecs.gif_decode(alone, index=0, asrgb=False, out=room)
