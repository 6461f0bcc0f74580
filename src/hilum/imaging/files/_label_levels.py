"""Find the levels of a label image: which of its values are labels, and which only edge values.

A label covers regions; the values that resizing, anti-aliasing or lossy compression leave are in
thin seams between regions, and between their values. A level is a value with a core: pixels whose
eight neighbours have it too. All other pixels take the level that is nearest in value among those
that are near them in the image, so an edge between 0 and 255 never becomes a rim of 127.

Values are uint8 or uint16 (height, width), or colours (height, width, 3). Levels are in order of
value, at most `MOST`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

MOST = 12  # levels of a label image; more are the grey values of a photograph
_FEW = 32  # different values up to which each is examined by itself
_CORE = 2e-4  # of the pixels, that a level's core has at least
_NOISE = 8  # of 255, that values of one flat region of a lossy image may differ
_APART = 20  # of 255, that two levels of a lossy image are apart at least
_PEAK = 3e-3  # of the pixels, that a level of a lossy image has at least
_BETWEEN = 0.12  # of the distance of two levels, from the line between them
_RESIDUE = 0.03  # of the range: closer levels are one, where the smaller one is scattered
_INTERPOLATED = 0.1  # of the edges, that skip a level in a label map that was not interpolated
_SMOOTHED_AT = 700  # pixels of the longer side, at most, at which an image is smoothed
_SAMPLE = 1 << 14  # pixels that show whether an image has few values


@dataclass(frozen=True)
class Levels:
    """The levels of an image, and the level of each pixel."""

    numbers: np.ndarray  # uint8 (height, width): the index of each pixel's level in `values`
    values: np.ndarray  # (levels,) or, of colours, (levels, 3), as stored
    distinct: int  # different values in the image; of a lossy colour image, at least so many
    soft: float  # fraction of the pixels whose value is no level
    exact: bool  # levels are values as stored, not the middle of a range


def find(
    values: np.ndarray,
    colours: np.ndarray | None = None,
    *,
    lossy: bool = False,
    softest: float = 1.0,
) -> Levels | None:
    """Find the levels of an image; None where it has too many to be labels.

    `colours` (entries, 3) is the palette. `lossy` images have no exact values. `softest` is the
    largest fraction of pixels between the levels in an image of many values; an image with more
    gives None early.
    """
    if values.ndim == 3 and _is_grey(values):
        grey = find(np.ascontiguousarray(values[:, :, 0]), lossy=lossy, softest=softest)
        return grey and replace(grey, values=np.repeat(grey.values[:, None], 3, 1))
    counted = _counted(values)
    if counted is not None and (not lossy or len(counted[1]) <= 2):
        numbers, present = counted
        shown = present if colours is None else colours[present]
        return _exact(numbers, present, shown.reshape(len(present), -1).astype(np.float64))
    if colours is not None:
        return find(colours[values], lossy=lossy, softest=softest)
    return _by_peaks(values, softest)


def _is_grey(values: np.ndarray) -> bool:
    first = values[:, :, 0]
    return all(np.array_equal(first, values[:, :, other]) for other in (1, 2))


def _counted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return each pixel's value by number, uint8 (height, width), and the values; None if many."""
    if values.ndim == 3:
        values = values.astype(np.uint64) @ (np.uint64(1) << np.array([32, 16, 0], np.uint64))
        step = max(1, values.size // _SAMPLE)
        if len(np.unique(values.ravel()[::step])) > _FEW:
            return None
        present = np.unique(values)
        if len(present) > _FEW:
            return None
        numbers = np.searchsorted(present, values).astype(np.uint8)
        return numbers, (
            present[:, None] >> np.array([32, 16, 0], np.uint64) & np.uint64(0xFFFF)
        ).astype(np.int64)
    present = np.flatnonzero(np.bincount(values.ravel(), minlength=1))
    if len(present) > _FEW:
        return None
    table = np.zeros(int(present[-1]) + 1, np.uint8)
    table[present] = np.arange(len(present))
    return table[values], present


def cores(numbers: np.ndarray) -> np.ndarray:
    """Find pixels whose eight neighbours have the same number: bool (height, width)."""
    block = np.ones((3, 3), np.uint8)
    lowest = cv2.erode(numbers, block, borderType=cv2.BORDER_REPLICATE)
    return lowest == cv2.dilate(numbers, block, borderType=cv2.BORDER_REPLICATE)


def edges(numbers: np.ndarray) -> float:
    """Count pairs of neighbours with different numbers, over the sum of height and width."""
    down, right = numbers[1:] != numbers[:-1], numbers[:, 1:] != numbers[:, :-1]
    return (np.count_nonzero(down) + np.count_nonzero(right)) / sum(numbers.shape)


def roughness(numbers: np.ndarray) -> float:
    """Return the outlines' length over that of the smoothed image: about 1 for a drawn mask.

    The outlines between the grey values of a photograph are frayed by its noise: at least 1.15 in
    real radiographs, at whatever contrast.
    """
    step = -(-max(numbers.shape) // _SMOOTHED_AT)
    smooth = cv2.medianBlur(np.ascontiguousarray(numbers[::step, ::step]), 5)
    return edges(numbers) / max(edges(smooth), 0.01)


def pieces(numbers: np.ndarray, levels: int) -> int:
    """Count the connected parts of one number, by edges or corners, over all numbers."""
    found = ((numbers == number).astype(np.uint8) for number in range(levels))
    return sum(cv2.connectedComponents(one, connectivity=8)[0] - 1 for one in found)


def skips(numbers: np.ndarray, order: np.ndarray) -> float:
    """Return the fraction of edges between numbers that are not neighbours in `order`, their rank.

    In a photograph of few grey values, dark passes to bright through the values between.
    """
    ranked = order.astype(np.int16)[numbers]
    steps = [np.abs(np.diff(ranked, axis=axis)) for axis in (0, 1)]
    crossed = sum(np.count_nonzero(one) for one in steps)
    return sum(np.count_nonzero(one > 1) for one in steps) / max(crossed, 1)


def _exact(numbers: np.ndarray, present: np.ndarray, shown: np.ndarray) -> Levels | None:
    count = np.bincount(numbers.ravel(), minlength=len(present))
    core = np.bincount(numbers[cores(numbers)], minlength=len(present))
    real = core >= max(1, _CORE * numbers.size)
    if len(present) <= 2:
        real[:] = True
    elif not real.any():
        real = count >= np.sort(count)[-2]
    real |= _of_their_own(shown, real, count >= max(2, _CORE * numbers.size))
    real = _without_residue(shown, real, count, core)
    kept = np.flatnonzero(real)
    if len(kept) > MOST:
        return None
    if len(kept) == len(present):
        return Levels(numbers, present, len(present), 0.0, True)
    place = np.full(len(present), 255, np.uint8)
    place[kept] = np.arange(len(kept))
    soft = place[numbers] == 255
    distances = [np.abs(shown - shown[level]).max(axis=1)[numbers] for level in kept]
    near = [
        cv2.dilate((numbers == level).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        for level in kept
    ]
    filled = np.where(soft, _nearest(distances, near, float(np.ptp(shown)) + 1), place[numbers])
    return Levels(filled.astype(np.uint8), present[kept], len(present), float(soft.mean()), True)


def without_seams(levels: Levels) -> Levels:
    """Remove the seams of one label that interpolation left between two others in a grey map.

    In an interpolated map 0 always passes to 2 through 1; a thin 1 with 0 and 2 beside it is no
    label there. A map whose labels touch directly is returned unchanged.
    """
    numbers, value, count = levels.numbers, levels.values, len(levels.values)
    if value.ndim > 1 or count < 3 or skips(numbers, np.arange(count)) >= _INTERPOLATED:
        return levels
    core, thin = cores(numbers), np.ones(numbers.shape, bool)
    for number in range(count):
        own = numbers == number
        thick = cv2.dilate((own & core).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        thin &= ~(own & thick)
    around = np.ones((5, 5), np.uint8)
    low: np.ndarray = np.asarray(cv2.erode(numbers, around), np.uint8)
    high: np.ndarray = np.asarray(cv2.dilate(numbers, around), np.uint8)
    thin &= (low < numbers) & (numbers < high)
    nearest = np.where(value[high] - value[numbers] < value[numbers] - value[low], high, low)
    plain = np.where(thin, nearest, numbers)
    return replace(levels, numbers=plain, soft=levels.soft + float(thin.mean()))


def _of_their_own(shown: np.ndarray, real: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Return which values without a core are between no two levels: thin outlines, as in VOC."""
    found = np.zeros(len(shown), bool)
    levels = shown[real]
    for place in np.flatnonzero(~real & many):
        found[place] = not any(
            _between(shown[place], first, second)
            for at, first in enumerate(levels)
            for second in levels[:at]
        )
    return found


def _between(value: np.ndarray, first: np.ndarray, second: np.ndarray) -> bool:
    way = second - first
    length = float(way @ way)
    if not length:
        return bool(np.array_equal(value, first))
    along = float((value - first) @ way) / length
    aside = np.linalg.norm(value - first - along * way) / np.sqrt(length)
    return bool(-_BETWEEN / 2 <= along <= 1 + _BETWEEN / 2 and aside <= _BETWEEN)


def _without_residue(
    shown: np.ndarray, real: np.ndarray, count: np.ndarray, core: np.ndarray
) -> np.ndarray:
    """Remove levels of scattered pixels beside a larger level: residue of lossy compression."""
    kept = real.copy()
    reach = _RESIDUE * float(np.ptp(shown))
    if reach < 2:
        return kept
    for place in np.flatnonzero(real):
        beside = np.abs(shown - shown[place]).max(axis=1) <= reach
        larger = beside & real & (count > 4 * count[place])
        if larger.any() and core[place] < 0.5 * count[place]:
            kept[place] = False
    return kept


def _nearest(distances: list[np.ndarray], near: list[np.ndarray], beyond: float) -> np.ndarray:
    """Return the index of the least distance among those that are near, else among all."""
    costs = np.stack(
        [np.where(close, far, far + beyond) for far, close in zip(distances, near, strict=True)]
    )
    return costs.argmin(axis=0)


def _by_peaks(values: np.ndarray, softest: float) -> Levels | None:
    """Find the levels of an image of many values: distant peaks of the values in flat regions."""
    eight = _as_eight_bits(values)
    planes, pixels = list(cv2.split(eight)), eight.shape[0] * eight.shape[1]
    bins, count = _histogram(planes, _flat(eight))
    peaks = _peaks(bins, count, pixels)
    if peaks is None or (values.ndim == 2 and _unexplained(eight, peaks) > softest):
        return None
    distances = [_distance(planes, peak) for peak in peaks]
    soft = np.count_nonzero(np.minimum.reduce(distances) > _NOISE) / pixels
    if soft > softest:
        return None
    if len(peaks) == 1:
        numbers = np.zeros(eight.shape[:2], np.uint8)
    elif len(peaks) == 2 and values.ndim == 2:
        numbers = (distances[1] < distances[0]).astype(np.uint8)
    else:
        block = np.ones((13, 13), np.uint8)
        near = [cv2.dilate((one <= _NOISE).astype(np.uint8), block) > 0 for one in distances]
        numbers = _nearest([one.astype(np.float32) for one in distances], near, 256.0)
    levels = _stored(values, peaks)
    distinct = int(np.count_nonzero(count if values.ndim == 3 else np.bincount(eight.ravel())))
    return Levels(numbers.astype(np.uint8), levels, distinct, float(soft), False)


def _unexplained(eight: np.ndarray, peaks: np.ndarray) -> float:
    """Return the fraction of pixels of a grey image whose value is near no peak."""
    count = np.bincount(eight.ravel(), minlength=256)
    near = np.abs(np.arange(256)[:, None] - np.round(peaks[:, 0])).min(axis=1) <= _NOISE
    return float(count[~near].sum() / eight.size)


def _as_eight_bits(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    low, high = int(values.min()), int(values.max())
    return ((values.astype(np.float32) - low) * (255 / max(high - low, 1)) + 0.5).astype(np.uint8)


def _stored(values: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """Convert peaks of 0 to 255 to values of the image."""
    low, high = (0, 255) if values.dtype == np.uint8 else (int(values.min()), int(values.max()))
    whole = np.round(low + peaks * ((high - low) / 255)).astype(np.int64)
    return whole[:, 0] if values.ndim == 2 else whole


def _flat(eight: np.ndarray) -> np.ndarray:
    block = np.ones((3, 3), np.uint8)
    span = cv2.subtract(cv2.dilate(eight, block), cv2.erode(eight, block))
    return (span if span.ndim == 2 else span.max(axis=2)) <= _NOISE


def _histogram(planes: list[np.ndarray], flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bins' middles, float (bins, channels), and the number of flat pixels in each."""
    if len(planes) == 1:
        return np.arange(256.0)[:, None], np.bincount(planes[0][flat], minlength=256)
    codes = sum((plane[flat].astype(np.int32) >> 3) << 5 * at for at, plane in enumerate(planes))
    count = np.bincount(codes, minlength=1 << 15)
    numbers = np.arange(1 << 15)
    middles = np.stack([(numbers >> 5 * at & 31) * (255 / 31) for at in range(3)], 1)
    return middles, count


def _peaks(bins: np.ndarray, count: np.ndarray, size: int) -> np.ndarray | None:
    """Return the peaks, float (peaks, channels), in order; None where there are too many."""
    left, peaks = count.astype(np.int64), []
    used = np.flatnonzero(count)
    while used.size:
        best = used[left[used].argmax()]
        near = used[np.abs(bins[used] - bins[best]).max(axis=1) <= _APART]
        if left[near].sum() < max(4, _PEAK * size):
            left[best] = 0
        else:
            if all(np.abs(bins[best] - peak).max() > _APART for peak in peaks):
                peaks.append(bins[best])
            left[near] = 0
        if len(peaks) > MOST:
            return None
        used = used[left[used] > 0]
    return np.array(sorted(map(tuple, peaks))).reshape(len(peaks), -1) if peaks else None


def _distance(planes: list[np.ndarray], peak: np.ndarray) -> np.ndarray:
    """Return the largest difference of any channel from a peak, uint8 (height, width)."""
    found = np.zeros(planes[0].shape, np.uint8)
    for plane, value in zip(planes, peak, strict=True):
        level = np.full(plane.shape, round(value), np.uint8)
        found = cv2.max(found, cv2.absdiff(plane, level))
    return found
