"""One picture laid over another: is it the same one, processed? Decided on small pictures, see `Detail`.

Two pictures of one patient, and often of two, agree in everything that is slow. What only copies share is fine: the crossings of ribs and
vessels. So both are reduced to fine detail with the same contrast everywhere, the one is fitted onto the other, and their agreement is
the median over tiles of the correlation in each, which a marker or a burnt-in text in a few tiles does not touch.
Fitted by Evangelidis and Psarakis, Parametric image alignment using enhanced correlation coefficient maximization, 2008.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hilum.imaging.perceptual_hash import VIEWS, evened, middle, ranked

SIDE = 128  # pixels of the small pictures
_SPREAD = 5.0  # pixels over which contrast is evened out
_SMALL, _HIGHEST = 64, 14  # pixels and frequencies with which a shift is looked for
_hann = np.hanning(_SMALL + 2)[1:-1]
_HANN = np.outer(_hann, _hann).astype(np.float32)
_frequency = np.hypot(np.fft.fftfreq(_SMALL)[:, None], np.fft.rfftfreq(_SMALL)[None]) * _SMALL
_USED = ((_frequency >= 1.5) & (_frequency <= _HIGHEST)).astype(np.float32)
_NOTHING = 1e-6
_TILES = 6  # along each side
_LEAST_TILE = 0.6  # of a tile's pixels that both pictures must show
_LEAST_TILES = 18  # of 36
_ENOUGH = 1e-4  # a step after which fitting ends
_WHOLE = np.float32([[1, 0, 0], [0, 1, 0]])
CLEAR = 11.0  # standard deviations of a shift; of all candidates half have 6 and one in ten 10.4, copies turned by 5 degrees 12 and more
HOPELESS = 0.35  # agreement of a rough fit


@dataclass(frozen=True)
class Detail:
    fine: np.ndarray  # float32 (SIDE, SIDE)
    phases: np.ndarray  # complex64 (views, 64, 33): of the whole and of its middles


@dataclass(frozen=True)
class Fit:
    agreement: float  # 0 to 1
    inverted: bool
    place: (
        np.ndarray
    )  # float32 (2, 3): from pixels (x, y) of the first small picture to those of the second


def detail(picture: np.ndarray) -> Detail:
    """Of what `hilum.imaging.perceptual_hash.content` gives."""
    ranks = ranked(picture)
    parts = np.stack([evened(middle(ranks, share), _SMALL, 6.0) for share in VIEWS]) * _HANN
    spectrum = np.fft.rfft2(parts)
    phases = (spectrum / (np.abs(spectrum) + _NOTHING) * _USED).astype(np.complex64)
    return Detail(evened(ranks, SIDE, _SPREAD), phases)


def mirrored(one: Detail) -> Detail:
    """Of the mirrored picture. A mirrored spectrum is that of reversed columns; the window is symmetric."""
    turned = np.fft.irfft2(one.phases, s=(_SMALL, _SMALL))[:, :, ::-1]
    return Detail(
        np.ascontiguousarray(one.fine[:, ::-1]), np.fft.rfft2(turned).astype(np.complex64)
    )


def shift(first: Detail, second: Detail, view: int) -> tuple[float, int, int]:
    """How clearly the whole of the first is the shifted `view` of the second (standard deviations; below 0: inverted), and pixels of 64."""
    surface = np.fft.irfft2(first.phases[0] * second.phases[view].conj(), s=(_SMALL, _SMALL))
    place = int(np.abs(surface).argmax())
    down, across = (at - _SMALL if at >= _SMALL // 2 else at for at in divmod(place, _SMALL))
    return float(surface.flat[place] / surface.std()), down, across


def fit(first: Detail, second: Detail, view: int) -> Fit:
    """The second fitted onto the first, begun where `shift` finds it. Where that is not clear, nothing is fitted: agreement 0."""
    moved = shift(first, second, view)
    sign = -1.0 if moved[0] < 0 else 1.0
    share = VIEWS[view]
    corner = SIDE * (1 - share) / 2
    step = SIDE / _SMALL * share
    if abs(moved[0]) < CLEAR:
        return Fit(0.0, sign < 0, _WHOLE)
    begin = np.float32([[share, 0, corner - moved[2] * step], [0, share, corner - moved[1] * step]])
    rough = _refined(first.fine, sign * second.fine, begin, 15)
    if agreement(first.fine, sign * second.fine, rough) < HOPELESS:
        return Fit(0.0, sign < 0, rough)
    warp = _refined(first.fine, sign * second.fine, rough, 60)
    return Fit(agreement(first.fine, sign * second.fine, warp), sign < 0, warp)


def _refined(first: np.ndarray, second: np.ndarray, begin: np.ndarray, rounds: int) -> np.ndarray:
    """The affine map that lays the second best onto the first, or `begin` where none is found."""
    until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, rounds, _ENOUGH)
    try:
        return cv2.findTransformECC(first, second, begin.copy(), cv2.MOTION_AFFINE, until, None, 5)[
            1
        ]
    except cv2.error:  # raised where the two share too little to go on
        return begin


def agreement(first: np.ndarray, second: np.ndarray, warp: np.ndarray) -> float:
    """Median over tiles of the correlation; 0 where the pictures share too little of their area."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(second, warp, (SIDE, SIDE), flags=flags)
    shown = cv2.warpAffine(np.ones_like(second), warp, (SIDE, SIDE), flags=flags) > 0.99
    told = []
    for rows in np.array_split(np.arange(SIDE), _TILES):
        for columns in np.array_split(np.arange(SIDE), _TILES):
            tile = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            inside = shown[tile]
            if inside.mean() >= _LEAST_TILE:
                told.append(_correlation(first[tile][inside], laid[tile][inside]))
    return max(0.0, float(np.median(told))) if len(told) >= _LEAST_TILES else 0.0


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    return float(
        (first * second).sum()
        / (np.sqrt((first * first).sum() * (second * second).sum()) + _NOTHING)
    )
