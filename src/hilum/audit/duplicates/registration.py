"""Register one image onto another to decide whether it is the same exposure, processed.

Two images of one patient, and often of two patients, agree in all low frequencies. Only copies
share fine detail: the crossings of ribs and vessels. So both are reduced to fine detail of locally
equal contrast, one is fitted onto the other, and their agreement is the median over tiles of the
correlation within each, which a marker or burned-in text in a few tiles does not change. The affine
fit maximises the enhanced correlation coefficient: Evangelidis and Psarakis, Parametric image
alignment using enhanced correlation coefficient maximization, IEEE TPAMI 30(10), 2008.

A fit is dear, and most candidates are no copies. What decides first is phase correlation, of many
pairs at once: only where two images have a clear shift is one fitted onto the other. An image's
phases are 1 KB, so those of a whole set are computed once and kept in memory. Images that resemble
one another as a whole, such as phantoms, have clear shifts too. Where they already agree roughly at
the start, a fit has little left to gain, so a few rounds show whether it can succeed (`promising`,
of reduced details, and again in `fit`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from hilum.imaging.perceptual_hash import VIEWS, evened, middle, ranked

SIDE = 128  # pixels of the images that are fitted
_SPREAD = 5.0  # pixels over which contrast is equalised
_SMALL, _LOWEST, _HIGHEST = 64, 1.5, 14  # of the search for a shift: pixels, and frequencies
_SMALL_SPREAD = 6.0
_hann = np.hanning(_SMALL + 2)[1:-1]
_HANN = np.outer(_hann, _hann).astype(np.float32)
# Frequencies of the search, of a real image's half spectrum: down (u) and across (v).
_down, _across = np.meshgrid(
    np.arange(-_HIGHEST, _HIGHEST + 1), np.arange(_HIGHEST + 1), indexing="ij"
)
_radius = np.hypot(_down, _across)
_used = (_radius >= _LOWEST) & (_radius <= _HIGHEST)
_U, _V = _down[_used], _across[_used]
FREQUENCIES = len(_U)
_TURN = 256  # steps of a full turn: uint8 angles are subtracted as they are
_UNIT = np.exp(2j * np.pi * np.arange(_TURN) / _TURN).astype(np.complex64)
# Of a mirrored image: the angle of (u, v) is that of (-u, v), negated, plus v of 64 turns, since
# the last column comes first.
_MIRRORED = np.array(
    [np.flatnonzero((-u == _U) & (v == _V))[0] for u, v in zip(_U, _V, strict=True)]
)
_MIRRORED_TURN = (_V * (_TURN // _SMALL)).astype(np.uint8)
# Standard deviation of a surface of phase correlation: all its frequencies have length 1.
_DEVIATION = np.float32(np.sqrt(2 * (_V > 0).sum() + (_V == 0).sum()) / _SMALL**2)
_NOTHING = 1e-6  # an image without contrast divides by it
_TILES = 6  # along each side
_LEAST_TILE = 0.6  # fraction of a tile's pixels that both images must cover
_LEAST_TILES = 18  # of 36
_ENOUGH = 1e-4  # change of the coefficient after which the fit ends
_WHOLE = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
# Standard deviations of a clear shift: half of all candidates have 6, one in ten 10.4; copies
# rotated by 5 degrees have 12 and more.
CLEAR = 11.0
# Agreement of a coarse fit below which the fine one is not worth its time. Of 7,362 pairs of images
# and copies changed in 16 ways that the fine fit confirms, all have more, and all but 5 above 0.6.
HOPELESS = 0.42
_COARSE = SIDE // 2  # pixels of the coarse fit: a quarter of the time, and it converges from as far
_COARSE_ROUNDS, _FINE_ROUNDS = 20, 60
_HALVED = np.array([[1, 1, 0.5]], np.float32)  # of a map, between pixels at SIDE and at half of it
# Agreement at the start from which a fit has little left to gain. Of 5,650 fits of copies changed
# in 34 ways that start there and are reported, none had less than 0.883 at the better of the start
# and the coarse fit (other real pairs: 0.859; phantoms: one of 257 below 0.83), or gained
# more than 0.0092 after the first two fine rounds (half of the images: 0.0092, others: 0.0061).
NEAR, ROUGH = 0.4, 0.8
# Coarse rounds, and the agreement that they must reach. Of 5,649 such copies none had less than
# 0.845 (half of the images; others: 0.877), and of 48 reported pairs of real radiographs, 0.849.
_SCREENING_ROUNDS, PROMISING = 3, 0.82
_FIRST_ROUNDS, ALMOST = 2, 0.86  # fine rounds, and the agreement that they must reach
_LEVELS = 31  # of a reduced detail, for each standard deviation: int8 holds 4


def _in_tiles(side: int) -> np.ndarray:
    """Return the tiles along one side, float32 (tiles, side): 1 inside, else 0."""
    parts = np.array_split(np.arange(side), _TILES)
    tile_of = np.concatenate([np.full(len(part), at) for at, part in enumerate(parts)])
    return (tile_of == np.arange(_TILES)[:, None]).astype(np.float32)


_IN_TILES = {side: _in_tiles(side) for side in (SIDE, _COARSE)}
_WHOLES = {side: np.ones((side, side), np.float32) for side in _IN_TILES}
_LEAST_PIXELS = {  # of each tile
    side: _LEAST_TILE * np.outer(tiles.sum(1), tiles.sum(1)).ravel()
    for side, tiles in _IN_TILES.items()
}


class Shifts(NamedTuple):
    """Where phase correlation finds the wholes of n images in views of others.

    `height` is that of the peak in standard deviations (below 0: inverted), float32; `down` and
    `across` are in pixels of 64, int64.
    """

    height: np.ndarray
    down: np.ndarray
    across: np.ndarray


@dataclass(frozen=True)
class Fit:
    """A fit of the second image onto the first.

    `agreement` is 0 to 1; `inverted` states that dark and bright are exchanged; `place` is float32
    (2, 3), from pixels (x, y) of the first image at `SIDE` to those of the second.
    """

    agreement: float
    inverted: bool
    place: np.ndarray


def phases(image: np.ndarray) -> np.ndarray:
    """Compute the phases of an image as `hilum.imaging.perceptual_hash.content` returns it.

    Angles in 256 steps, uint8 (views, FREQUENCIES): of the whole image and of its middle parts.
    """
    from scipy import fft

    ranks = ranked(image)
    parts = [evened(middle(ranks, part), _SMALL, _SMALL_SPREAD) * _HANN for part in VIEWS]
    spectrum = np.asarray(fft.rfft2(np.stack(parts)))[:, _U, _V]
    steps = np.rint(np.angle(spectrum) * np.float32(_TURN / (2 * np.pi)))
    return steps.astype(np.int16).astype(np.uint8)


def mirrored_phases(angles: np.ndarray) -> np.ndarray:
    """Return the phases of mirrored images, uint8 (..., FREQUENCIES)."""
    return _MIRRORED_TURN - angles[..., _MIRRORED]


def shifts(first: np.ndarray, second: np.ndarray) -> Shifts:
    """Locate n images in others by their phases, uint8 (n, FREQUENCIES) each."""
    from scipy import fft

    half = np.zeros((len(first), _SMALL, _HIGHEST + 1), np.complex64)
    half[:, _U, _V] = _UNIT[first - second]
    columns = fft.ifft(half, axis=1, overwrite_x=True)
    surface = np.asarray(fft.irfft(columns, n=_SMALL, axis=2)).reshape(len(first), -1)
    place = np.abs(surface).argmax(1)
    height = surface[np.arange(len(first)), place] / _DEVIATION
    down, across = (np.where(at >= _SMALL // 2, at - _SMALL, at) for at in np.divmod(place, _SMALL))
    return Shifts(height, down, across)


def fine(image: np.ndarray) -> np.ndarray:
    """Compute the fine detail of an image, float32 (SIDE, SIDE), from its `content`."""
    return evened(ranked(image), SIDE, _SPREAD)


def reduced(detail: np.ndarray) -> np.ndarray:
    """Reduce fine detail to what `promising` compares, int8 (64, 64)."""
    small = _halved(detail) * _LEVELS
    return np.clip(np.rint(small), -127, 127).astype(np.int8)


def promising(
    first: np.ndarray, second: np.ndarray, view: int, height: float, down: int, across: int
) -> bool:
    """Return whether `fit` may succeed, from the reduced details of both images.

    It may where a few coarse rounds reach `PROMISING`, or where the start was far from agreement.
    """
    first, second = first.astype(np.float32), second.astype(np.float32)
    second = -second if height < 0 else second
    begin = _begin(view, down, across) * _HALVED
    moved = _refined(first, second, begin, _SCREENING_ROUNDS)
    if agreement(first, second, moved) >= PROMISING:
        return True
    start = agreement(first, second, begin)
    return start < NEAR or start >= PROMISING


def fit(
    first: np.ndarray, second: np.ndarray, view: int, height: float, down: int, across: int
) -> Fit:
    """Fit the second image's fine detail onto the first's, starting from what `shifts` found.

    Where the peak is below `CLEAR`, nothing is fitted and the agreement is 0.
    """
    inverted = height < 0
    if abs(height) < CLEAR:
        return Fit(0.0, inverted, _WHOLE)
    begin = _begin(view, down, across)
    second = -second if inverted else second
    small = _halved(first), _halved(second)
    coarse = _refined(*small, begin * _HALVED, _COARSE_ROUNDS) / _HALVED
    start, rough = agreement(first, second, begin), agreement(first, second, coarse)
    if rough < HOPELESS or (start >= NEAR and max(start, rough) < ROUGH):
        return Fit(0.0, inverted, coarse)
    if start >= NEAR:
        almost = _refined(first, second, coarse, _FIRST_ROUNDS)
        reached = agreement(first, second, almost)
        if reached < ALMOST:
            return Fit(reached, inverted, almost)
    warp = _refined(first, second, coarse, _FINE_ROUNDS)
    return Fit(agreement(first, second, warp), inverted, warp)


def fit_one(
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    view: int,
    *,
    mirrored: bool,
) -> Fit:
    """Fit one image, its phases and its fine detail, onto another, or its mirror image."""
    angles, detail = second[0][view], second[1]
    if mirrored:
        angles, detail = mirrored_phases(angles), np.ascontiguousarray(detail[:, ::-1])
    height, down, across = (part.item() for part in shifts(first[0][:1], angles[None]))
    return fit(first[1], detail, view, height, down, across)


def _begin(view: int, down: int, across: int) -> np.ndarray:
    """Return the map from pixels (x, y) of the first image at `SIDE` that a shift stands for."""
    fraction = VIEWS[view]
    corner, step = SIDE * (1 - fraction) / 2, SIDE / _SMALL * fraction
    return np.array(
        [[fraction, 0, corner - across * step], [0, fraction, corner - down * step]], np.float32
    )


def _halved(detail: np.ndarray) -> np.ndarray:
    return cv2.resize(detail, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA)


def _refined(first: np.ndarray, second: np.ndarray, begin: np.ndarray, rounds: int) -> np.ndarray:
    """Return the affine map that fits the second image best onto the first, else `begin`."""
    until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, rounds, _ENOUGH)
    try:
        _, found = cv2.findTransformECC(first, second, begin.copy(), cv2.MOTION_AFFINE, until)
        return found
    except cv2.error:  # raised where the two overlap too little to converge
        return begin


def agreement(first: np.ndarray, second: np.ndarray, warp: np.ndarray) -> float:
    """Return the median over tiles of the correlation; 0 where the images overlap too little.

    Both images are float32 (side, side), of `SIDE` or half of it.
    """
    side, in_tile = len(first), _IN_TILES[len(first)]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(second, warp, (side, side), flags=flags)
    fields = np.empty((6, side, side), np.float32)
    shown, one, other, one_square, other_square, product = fields
    np.greater(
        cv2.warpAffine(_WHOLES[side], warp, (side, side), flags=flags),
        0.99,
        out=shown,
        casting="unsafe",
    )
    np.multiply(first, shown, out=one)
    np.multiply(laid, shown, out=other)
    np.multiply(one, one, out=one_square)
    np.multiply(other, other, out=other_square)
    np.multiply(one, other, out=product)
    sums = (in_tile @ fields @ in_tile.T).reshape(len(fields), -1).astype(np.float64)
    sums = sums[:, sums[0] >= _LEAST_PIXELS[side]]
    if sums.shape[1] < _LEAST_TILES:
        return 0.0
    count, of_one, of_other, one_square, other_square, product = sums
    spread = (one_square - of_one**2 / count) * (other_square - of_other**2 / count)
    together = product - of_one * of_other / count
    correlation = together / (np.sqrt(np.maximum(spread, 0)) + _NOTHING)
    ordered = np.sort(correlation)  # np.median takes ten times as long for so few
    return max(0.0, float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2)
