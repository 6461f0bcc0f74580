"""Register one image onto another to decide whether it is the same exposure, processed.

Two images of one patient, and often of two patients, agree in all low frequencies. Only copies
share fine detail: the crossings of ribs and vessels. So both are reduced to fine detail of locally
equal contrast (`Detail`), one is fitted onto the other, and their agreement is the median over
tiles of the correlation within each, which a marker or burned-in text in a few tiles does not
change. The affine fit maximises the enhanced correlation coefficient: Evangelidis and Psarakis,
Parametric image alignment using enhanced correlation coefficient maximization, IEEE TPAMI 30(10),
2008.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hilum.imaging.perceptual_hash import VIEWS, evened, middle, ranked

SIDE = 128  # pixels of the images that are compared
_SPREAD = 5.0  # pixels over which contrast is equalised
_SMALL, _HIGHEST = 64, 14  # side in pixels, and highest frequency, of the search for a shift
_hann = np.hanning(_SMALL + 2)[1:-1]
_HANN = np.outer(_hann, _hann).astype(np.float32)
_frequency = np.hypot(np.fft.fftfreq(_SMALL)[:, None], np.fft.rfftfreq(_SMALL)[None]) * _SMALL
_USED = ((_frequency >= 1.5) & (_frequency <= _HIGHEST)).astype(np.float32)
_NOTHING = 1e-6  # a frequency without content, and an image without contrast, divide by it
_TILES = 6  # along each side
_LEAST_TILE = 0.6  # fraction of a tile's pixels that both images must cover
_LEAST_TILES = 18  # of 36
_ENOUGH = 1e-4  # change of the coefficient after which the fit ends
_WHOLE = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
# Standard deviations of a clear shift: half of all candidates have 6, one in ten 10.4; copies
# rotated by 5 degrees have 12 and more.
CLEAR = 11.0
HOPELESS = 0.35  # agreement of a rough fit below which the fine fit is not worth its time


@dataclass(frozen=True)
class Detail:
    """Fine detail of one image, from which fits to others are computed."""

    fine: np.ndarray  # float32 (SIDE, SIDE)
    phases: np.ndarray  # complex64 (views, 64, 33): of the whole image and of its middle parts


@dataclass(frozen=True)
class Fit:
    """A fit of the second image onto the first.

    `agreement` is 0 to 1; `inverted` states that dark and bright are exchanged; `place` is float32
    (2, 3), from pixels (x, y) of the first image at `SIDE` to those of the second.
    """

    agreement: float
    inverted: bool
    place: np.ndarray


def detail(image: np.ndarray) -> Detail:
    """Compute the detail of an image as `hilum.imaging.perceptual_hash.content` returns it."""
    ranks = ranked(image)
    parts = np.stack([evened(middle(ranks, fraction), _SMALL, 6.0) for fraction in VIEWS]) * _HANN
    spectrum = np.fft.rfft2(parts)
    phases = (spectrum / (np.abs(spectrum) + _NOTHING) * _USED).astype(np.complex64)
    return Detail(evened(ranks, SIDE, _SPREAD), phases)


def mirrored(one: Detail) -> Detail:
    """Return the detail of the mirrored image.

    The window is symmetric, so the mirrored spectrum is that of the reversed columns.
    """
    reversed_columns = np.fft.irfft2(one.phases, s=(_SMALL, _SMALL))[:, :, ::-1]
    return Detail(
        np.ascontiguousarray(one.fine[:, ::-1]), np.fft.rfft2(reversed_columns).astype(np.complex64)
    )


def shift(first: Detail, second: Detail, view: int) -> tuple[float, int, int]:
    """Locate the whole of the first image in the `view` of the second by phase correlation.

    Returns the height of the peak in standard deviations (below 0: inverted), and the shift down
    and across in pixels of 64.
    """
    surface = np.fft.irfft2(first.phases[0] * second.phases[view].conj(), s=(_SMALL, _SMALL))
    place = int(np.abs(surface).argmax())
    down, across = (at - _SMALL if at >= _SMALL // 2 else at for at in divmod(place, _SMALL))
    return float(surface.flat[place] / surface.std()), down, across


def fit(first: Detail, second: Detail, view: int) -> Fit:
    """Fit the second image onto the first, starting from the shift that `shift` finds.

    Where the peak is below `CLEAR`, nothing is fitted and the agreement is 0.
    """
    moved = shift(first, second, view)
    sign = -1.0 if moved[0] < 0 else 1.0
    fraction = VIEWS[view]
    corner = SIDE * (1 - fraction) / 2
    step = SIDE / _SMALL * fraction
    if abs(moved[0]) < CLEAR:
        return Fit(0.0, sign < 0, _WHOLE)
    across, down = corner - moved[2] * step, corner - moved[1] * step
    begin = np.array([[fraction, 0, across], [0, fraction, down]], np.float32)
    rough = _refined(first.fine, sign * second.fine, begin, 15)
    if agreement(first.fine, sign * second.fine, rough) < HOPELESS:
        return Fit(0.0, sign < 0, rough)
    warp = _refined(first.fine, sign * second.fine, rough, 60)
    return Fit(agreement(first.fine, sign * second.fine, warp), sign < 0, warp)


def _refined(first: np.ndarray, second: np.ndarray, begin: np.ndarray, rounds: int) -> np.ndarray:
    """Return the affine map that fits the second image best onto the first, else `begin`."""
    until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, rounds, _ENOUGH)
    try:
        _, found = cv2.findTransformECC(first, second, begin.copy(), cv2.MOTION_AFFINE, until)
        return found
    except cv2.error:  # raised where the two overlap too little to converge
        return begin


def agreement(first: np.ndarray, second: np.ndarray, warp: np.ndarray) -> float:
    """Return the median over tiles of the correlation; 0 where the images overlap too little."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(second, warp, (SIDE, SIDE), flags=flags)
    shown = cv2.warpAffine(np.ones_like(second), warp, (SIDE, SIDE), flags=flags) > 0.99
    correlations = []
    for rows in np.array_split(np.arange(SIDE), _TILES):
        for columns in np.array_split(np.arange(SIDE), _TILES):
            tile = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            inside = shown[tile]
            if inside.mean() >= _LEAST_TILE:
                correlations.append(_correlation(first[tile][inside], laid[tile][inside]))
    return max(0.0, float(np.median(correlations))) if len(correlations) >= _LEAST_TILES else 0.0


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    return float(
        (first * second).sum()
        / (np.sqrt((first * first).sum() * (second * second).sum()) + _NOTHING)
    )
