"""The fingerprint of a picture: two keys, made once from the cached picture, by which copies of it are found among many.

`fingerprint` gives text of `LENGTH` letters (base64), so that it can stand in a table; `decode` gives the keys of a whole column:

    hashes    uint64 (n, 4), 256 bits: the signs of 16x16 low frequencies (DCT) of the whole picture, after Zauner, Implementation and
              benchmarking of perceptual image hash functions, 2010, but of the pixels' ranks instead of their values. An inverted
              picture has all bits turned, a mirrored one those of odd horizontal frequency (`MIRROR`): one hash serves all four.
    spectra   int8 (n, views, 112): sizes of low frequencies (FFT) of the whole picture and of its middle (`VIEWS`, share of each side),
              which hardly change where a picture is shifted, a little turned, or marked. The first `EVEN` are the same in a mirrored
              picture, the others have the other sign; an inverted picture has the same ones.

Before either key is made, the cache's padding and even borders are cut off and each pixel is replaced by its rank, so that size,
proportions, brightness, contrast and gamma do not matter. A picture that shows nothing has no fingerprint (null).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np
import polars as pl

from hilum.imaging.geometry import Letterbox, Size

VERSION = 1  # change it when the same picture gives another fingerprint
VIEWS = (1.0, 0.9, 0.8)
_EVEN_BORDER = 10  # grey levels of 256 within which a row or column is border
_LEAST_SHOWN = (
    0.25  # of the picture's area; with less left the border is taken for part of the picture
)
_SIDE, _FREQUENCIES = 32, 16  # of the hash
_WINDOW, _RADIUS = 64, 8  # of the spectra: pixels, and frequencies across a picture
_SPREAD = 8.0  # pixels over which local contrast is evened out

_turns = np.pi * np.outer(np.arange(_FREQUENCIES), 2 * np.arange(_SIDE) + 1) / (2 * _SIDE)
_COSINES = np.cos(_turns).astype(np.float32)
_odd_columns = np.broadcast_to(np.arange(_FREQUENCIES) % 2 == 1, (_FREQUENCIES, _FREQUENCIES))
MIRROR = np.packbits(_odd_columns.ravel()).view(
    np.uint64
)  # (4,): bits that a mirrored picture has turned

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
_PADDED = (
    -(-_BYTES // 3) * 3
)  # base64 then needs no filling, and a column can be decoded as one text
LENGTH = _PADDED // 3 * 4


@dataclass(frozen=True)
class HashKeys:
    hashes: np.ndarray
    spectra: np.ndarray

    def __len__(self) -> int:
        return len(self.hashes)


def hash_image(square: np.ndarray, size: Size) -> str | None:
    """Of a cached picture, uint8 or uint16 (n, n), letterboxed from a file of `size`. None: it shows nothing."""
    picture = content(square, size)
    if picture.min() == picture.max():
        return None
    ranks = ranked(picture)
    small = cv2.resize(ranks, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    signs = (_COSINES @ small @ _COSINES.T > 0).ravel()
    signs[0] = False  # the mean; ranks have none
    keys = [
        np.packbits(signs).tobytes(),
        *(_spectrum(middle(ranks, share)).tobytes() for share in VIEWS),
    ]
    return base64.b64encode(b"".join(keys).ljust(_PADDED, b"\0")).decode("ascii")


def decode(fingerprints: pl.Series) -> HashKeys:
    """The keys of a column without nulls."""
    stored = np.frombuffer(base64.b64decode("".join(fingerprints)), np.uint8).reshape(-1, _PADDED)
    hashes = np.ascontiguousarray(stored[:, :32]).view(np.uint64)
    spectra = stored[:, 32:_BYTES].view(np.int8).reshape(-1, len(VIEWS), _NUMBERS)
    return HashKeys(hashes, spectra)


def content(square: np.ndarray, size: Size) -> np.ndarray:
    """uint8: what a cached picture shows, without the cache's padding and without even borders."""
    picture = square[Letterbox(size, len(square)).inside()]
    picture = picture if picture.dtype == np.uint8 else (picture >> 8).astype(np.uint8)
    smooth = cv2.blur(picture, (5, 5))
    top, left, bottom, right = 0, 0, *picture.shape
    for _ in range(2):  # a border above shows as contrast in the columns below it
        rows = _lively(smooth[top:bottom, left:right], 1)
        top, bottom = top + rows.start, top + rows.stop
        columns = _lively(smooth[top:bottom, left:right], 0)
        left, right = left + columns.start, left + columns.stop
    shown = picture[top:bottom, left:right]
    return np.ascontiguousarray(shown if shown.size >= _LEAST_SHOWN * picture.size else picture)


def _lively(smooth: np.ndarray, axis: int) -> range:
    """From the first to the last row or column that is not even."""
    spread = smooth.max(axis, initial=0).astype(int) - smooth.min(axis, initial=255)
    found = np.flatnonzero(spread > _EVEN_BORDER)
    return range(found[0], found[-1] + 1) if len(found) else range(len(spread))


def ranked(picture: np.ndarray) -> np.ndarray:
    """float32 in (-0.5, 0.5): the share of darker pixels, less that of brighter ones, by two. A brighter pixel keeps being one."""
    counts = np.bincount(picture.ravel(), minlength=256)
    below = np.cumsum(counts) - counts / 2
    return cv2.LUT(picture, (below / picture.size - 0.5).astype(np.float32))


def middle(picture: np.ndarray, fraction: float) -> np.ndarray:
    """The middle `share` of each side."""
    down, across = (round(side * (1 - fraction) / 2) for side in picture.shape)
    return picture[down : picture.shape[0] - down, across : picture.shape[1] - across]


def evened(ranks: np.ndarray, side: int, spread: float) -> np.ndarray:
    """float32 (side, side): without what is slower than `spread` pixels, and with the same contrast everywhere."""
    small = cv2.resize(
        ranks,
        (side, side),
        interpolation=cv2.INTER_AREA if side <= min(ranks.shape) else cv2.INTER_LINEAR,
    )
    detail = small - _blurred(small, spread)
    return detail / np.sqrt(_blurred(detail * detail, spread) + 1e-3)


def _blurred(picture: np.ndarray, spread: float) -> np.ndarray:
    """Two boxes that together spread as a Gaussian would, in a time that does not grow with it."""
    side = round(spread * 6**0.5) | 1
    return cv2.blur(cv2.blur(picture, (side, side)), (side, side))


def _spectrum(ranks: np.ndarray) -> np.ndarray:
    """int8 (112,), see the module. The fourth root keeps strong frequencies from deciding alone."""
    sizes = np.abs(np.fft.rfft2(evened(ranks, _WINDOW, _SPREAD) * _HANN)) ** 0.25
    falling, rising = sizes[_ROWS, _COLUMNS], sizes[-_ROWS, _COLUMNS]
    even = np.concatenate([(falling + rising) / 2, sizes[0, _AXIS], sizes[_AXIS, 0]])
    told = np.concatenate([(even - 2) * 48, (falling - rising) * 48])  # sizes are about 1 to 3
    return np.clip(np.rint(told), -127, 127).astype(np.int8)
