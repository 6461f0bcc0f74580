"""Masks as text: COCO's compressed run lengths, and Supervisely's base64 of zlib of a PNG."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from hilum.errors import BadData

_MOST_PIXELS = 64_000_000  # of a bitmap: a larger one is refused before it is decoded
_MOST_BITS = 60  # of one run length: it fits into an int64


class CocoRuns(TypedDict):
    """Run lengths as COCO writes them: `counts` is compressed text or a list."""

    size: list[int]
    counts: str | list[int]


def numbers(values: object, what: str, count: int) -> list[float]:
    """Return `count` finite or infinite numbers of a list. Raises `BadData`."""
    found = list(values) if isinstance(values, (list, tuple, np.ndarray)) else []
    if len(found) != count or any(
        isinstance(value, bool) or not isinstance(value, (int, float, np.number)) for value in found
    ):
        raise BadData(f"expected {what}, all numbers, got {str(values)[:80]}")
    try:
        return [float(value) for value in found]
    except OverflowError:  # of a whole number beyond the largest float
        raise BadData(f"expected {what}, got a number of more than 300 digits") from None


def whole(values: object, what: str, count: int | None = None) -> tuple[int, ...]:
    """Return whole numbers of a list, `count` of them or as many as there are. Raises `BadData`."""
    if count is None:
        count = len(values) if isinstance(values, (list, tuple, np.ndarray)) else -1
    found = numbers(values, what, count)
    if not all(value.is_integer() for value in found):
        raise BadData(f"expected {what}, whole numbers, got {str(values)[:80]}")
    return tuple(int(value) for value in found)


def rle_encode(counts: Sequence[int]) -> str:
    """Encode run lengths as COCO's compressed text.

    Each count as its difference from the count two before, 5 bits a character from the lowest, bit
    6 set where more follow.
    """
    text = []
    for place, count in enumerate(counts):
        left, more = count - (counts[place - 2] if place > 2 else 0), True
        while more:
            bits, left = left & 31, left >> 5
            more = left != (-1 if bits & 16 else 0)
            text.append(chr(48 + bits + 32 * more))
    return "".join(text)


def rle_decode(text: str) -> tuple[int, ...]:
    """Decode COCO's compressed text to run lengths. Raises `BadData`."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise BadData(
                f"expected COCO's compressed run lengths, got {text[:40]!r} "
                f"with the character {character!r}"
            )
        value, shift = value | (bits & 31) << shift, shift + 5
        if shift > _MOST_BITS:  # and numbers of a million bits would take hours to put together
            raise BadData(
                f"expected COCO's compressed run lengths, got a run of more than {_MOST_BITS} "
                "bits; read the file again"
            )
        if bits < 32:
            value -= 1 << shift if bits & 16 else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise BadData(
            f"COCO's compressed run lengths are cut short: …{text[-40:]!r} ends within a number; "
            "read the file again"
        )
    return tuple(counts)


def png_text(mask: np.ndarray) -> str:
    """Encode a bool mask (height, width) as Supervisely's `data`.

    That is base64 of zlib of a PNG whose alpha channel is the mask. Raises `BadData` for a mask
    without pixels.
    """
    import imagecodecs

    if not mask.size:
        raise BadData(
            f"a bitmap of {mask.shape} pixels cannot be written as an image; leave it out"
        )
    alpha = mask.astype(np.uint8) * np.uint8(255)
    return base64.b64encode(
        zlib.compress(imagecodecs.png_encode(np.stack([alpha, alpha], axis=2)))
    ).decode("ascii")


def from_png_text(text: str) -> np.ndarray:
    """Decode Supervisely's `data` to a bool mask (height, width).

    True where alpha is above 0, or the grey value where there is no alpha. Raises `BadData`.
    """
    import imagecodecs

    what = "expected a bitmap's data as base64 of zlib of a PNG with alpha"
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(text, validate=True), _MOST_PIXELS)
        if int.from_bytes(data[16:20]) * int.from_bytes(data[20:24]) > _MOST_PIXELS:
            raise BadData(f"{what}, got one of more than {_MOST_PIXELS:,} pixels")
        values = imagecodecs.png_decode(data)
    except (binascii.Error, zlib.error, imagecodecs.PngError, ValueError) as error:
        raise BadData(
            f"{what}, got {str(text)[:40]!r} ({error}); the file is cut short or was changed"
        ) from error
    if values.ndim == 3 and values.shape[2] not in (2, 4):
        raise BadData(f"{what}, got a PNG of shape {values.shape}, without alpha; export it again")
    return (values[:, :, -1] if values.ndim == 3 else values) > 0
