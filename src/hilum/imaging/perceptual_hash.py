"""The fingerprint of an image: two keys, computed once from the cached image, that find its copies.

`hash_image` returns text of `LENGTH` characters (base64), so that it can be stored in a table;
`decode` returns the keys of a whole column:

    hashes    uint64 (n, 4), 256 bits: the signs of 16x16 low frequencies (DCT) of the whole image,
              after Zauner, Implementation and benchmarking of perceptual image hash functions,
              2010, but of the pixels' ranks instead of their values. Inverting an image flips all
              bits, mirroring it those of odd horizontal frequency (`MIRROR`): one hash serves all
              four.
    spectra   int8 (n, views, 112): magnitudes of low frequencies (FFT) of the whole image and of
              its middle (`VIEWS`, fraction of each side), which hardly change where an image is
              shifted, rotated a little, or marked. The first `EVEN` are the same in a mirrored
              image, the others have the opposite sign; an inverted image has the same ones.

Before either key is computed, the cache's padding and borders without contrast are cut off and each
pixel is replaced by its rank, so that size, proportions, brightness, contrast and gamma do not
matter. An image of a single value has no fingerprint (null).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np
import polars as pl

from hilum.imaging.geometry import Letterbox, Size, textured_box

VERSION = 1  # change it when the same image gives another fingerprint
VIEWS = (1.0, 0.9, 0.8)
_LEAST_CONTENT = 0.25  # of the image's area; with less left, the border counts as part of the image
_SIDE, _FREQUENCIES = 32, 16  # of the hash
_WINDOW, _RADIUS = 64, 8  # of the spectra: pixels, and frequencies across an image
_SPREAD = 8.0  # pixels over which local contrast is equalised

_angles = np.pi * np.outer(np.arange(_FREQUENCIES), 2 * np.arange(_SIDE) + 1) / (2 * _SIDE)
_COSINES = np.cos(_angles).astype(np.float32)
_odd_columns = np.broadcast_to(np.arange(_FREQUENCIES) % 2 == 1, (_FREQUENCIES, _FREQUENCIES))
MIRROR = np.packbits(_odd_columns.ravel()).view(np.uint64)  # (4,): bits that mirroring flips

_hann = np.hanning(_WINDOW + 2)[1:-1]
_HANN = np.outer(_hann, _hann).astype(np.float32)
_pairs = [
    (u, v)
    for u in range(1, _RADIUS + 1)
    for v in range(1, _RADIUS + 1)
    if np.hypot(u, v) <= _RADIUS + 0.5
]
_ROWS, _COLUMNS = (np.array(axis) for axis in zip(*_pairs, strict=True))
_AXIS = np.arange(1, _RADIUS + 1)
EVEN = len(_pairs) + 2 * _RADIUS
_NUMBERS = EVEN + len(_pairs)
_BYTES = 32 + len(VIEWS) * _NUMBERS
_PADDED = -(-_BYTES // 3) * 3  # base64 needs no filling then: a column is decoded as one text
LENGTH = _PADDED // 3 * 4


@dataclass(frozen=True)
class HashKeys:
    """The keys of n images: `hashes` uint64 (n, 4) and `spectra` int8 (n, views, 112)."""

    hashes: np.ndarray
    spectra: np.ndarray

    def __len__(self) -> int:
        return len(self.hashes)


def hash_image(square: np.ndarray, size: Size) -> str | None:
    """Return the fingerprint of a cached image; None for an image of a single value.

    `square` is uint8 or uint16 (n, n), letterboxed from a file of (height, width) `size`.
    """
    image = content(square, size)
    if image.min() == image.max():
        return None
    ranks = ranked(image)
    keys = [
        _bits(ranks).tobytes(),
        *(_spectrum(middle(ranks, fraction)).tobytes() for fraction in VIEWS),
    ]
    return base64.b64encode(b"".join(keys).ljust(_PADDED, b"\0")).decode("ascii")


def dct_hash(square: np.ndarray, size: Size) -> np.ndarray | None:
    """Return the first key alone, uint64 (4,); None for an image of a single value.

    The image is that of `hash_image`, which takes several times as long.
    """
    image = content(square, size)
    return None if image.min() == image.max() else _bits(ranked(image)).view(np.uint64)


def decode(fingerprints: pl.Series) -> HashKeys:
    """Return the keys of a column of fingerprints without nulls."""
    stored = np.frombuffer(base64.b64decode("".join(fingerprints)), np.uint8).reshape(-1, _PADDED)
    hashes = np.ascontiguousarray(stored[:, :32]).view(np.uint64)
    spectra = stored[:, 32:_BYTES].view(np.int8).reshape(-1, len(VIEWS), _NUMBERS)
    return HashKeys(hashes, spectra)


def content(square: np.ndarray, size: Size) -> np.ndarray:
    """Return a cached image, uint8, without the cache's padding and borders without contrast."""
    image = square[Letterbox(size, len(square)).inside()]
    image = image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8)
    inner = image[textured_box(image)]
    return np.ascontiguousarray(inner if inner.size >= _LEAST_CONTENT * image.size else image)


def ranked(image: np.ndarray) -> np.ndarray:
    """Return ranks, float32 in (-0.5, 0.5), of a uint8 image.

    A rank is half the fraction of darker pixels minus that of brighter ones, so that of two pixels
    the brighter one keeps the higher rank.
    """
    counts = cv2.calcHist([image], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    below = np.cumsum(counts) - counts / 2
    return cv2.LUT(image, (below / image.size - 0.5).astype(np.float32))


def middle(image: np.ndarray, fraction: float) -> np.ndarray:
    """Return the middle `fraction` of each side."""
    down, across = (round(side * (1 - fraction) / 2) for side in image.shape)
    return image[down : image.shape[0] - down, across : image.shape[1] - across]


def evened(ranks: np.ndarray, side: int, spread: float) -> np.ndarray:
    """Return float32 (side, side) with the same contrast everywhere.

    What varies more slowly than over `spread` pixels is removed.
    """
    small = cv2.resize(
        ranks,
        (side, side),
        interpolation=cv2.INTER_AREA if side <= min(ranks.shape) else cv2.INTER_LINEAR,
    )
    detail = small - _blurred(small, spread)
    return detail / np.sqrt(_blurred(detail * detail, spread) + 1e-3)


def _bits(ranks: np.ndarray) -> np.ndarray:
    """Return the signs of the low frequencies, uint8 (32,)."""
    small = cv2.resize(ranks, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    signs = (_COSINES @ small @ _COSINES.T > 0).ravel()
    signs[0] = False  # the mean; ranks have none
    return np.packbits(signs)


def _blurred(image: np.ndarray, spread: float) -> np.ndarray:
    """Blur by two boxes that together spread as a Gaussian of `spread` pixels does.

    Unlike a Gaussian's, their run time does not grow with `spread`.
    """
    side = round(spread * 6**0.5) | 1
    return cv2.blur(cv2.blur(image, (side, side)), (side, side))


def _spectrum(ranks: np.ndarray) -> np.ndarray:
    """Return int8 (112,), see the module; the fourth root reduces the weight of strong ones."""
    sizes = np.abs(np.fft.rfft2(evened(ranks, _WINDOW, _SPREAD) * _HANN)) ** 0.25
    falling, rising = sizes[_ROWS, _COLUMNS], sizes[-_ROWS, _COLUMNS]
    even = np.concatenate([(falling + rising) / 2, sizes[0, _AXIS], sizes[_AXIS, 0]])
    # Magnitudes are about 1 to 3: this spreads them over the range of int8.
    scaled = np.concatenate([(even - 2) * 48, (falling - rising) * 48])
    return np.clip(np.rint(scaled), -127, 127).astype(np.int8)
