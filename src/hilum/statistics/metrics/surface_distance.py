"""Distance between the contours of two masks: 95 % Hausdorff and average surface distance.

Masks are boolean arrays (height, width), True inside; the contour is the inside pixels with a
4-neighbour outside, the outside of the image included. Distances are between pixel centres, in the
unit of `spacing` (between rows, between columns): millimetres where it is known, pixels for the
default of 1 x 1. Lower is better, 0 is agreement. nan where a mask is empty.

Source: Maier-Hein, Reinke et al., "Metrics reloaded", Nature Methods 21:195-212 (2024), supplement,
HD95 and ASSD.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

Spacing = tuple[float, float]
PIXELS = (1.0, 1.0)


def hausdorff95(truth: np.ndarray, found: np.ndarray, spacing: Spacing = PIXELS) -> float:
    """Return the larger of the two directed 95th percentiles of the distance between outlines."""
    return _hausdorff95(*distances(truth, found, spacing))


def average_distance(truth: np.ndarray, found: np.ndarray, spacing: Spacing = PIXELS) -> float:
    """Average the distance to the other outline over all outline pixels of both masks.

    It is called average symmetric surface distance.
    """
    return _average(*distances(truth, found, spacing))


def distances(
    truth: np.ndarray, found: np.ndarray, spacing: Spacing = PIXELS
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance from each contour pixel of the truth to the prediction, and back.

    Both are empty where a mask is. Raises `ValueError` where masks are not boolean arrays of one
    shape, or the spacing is not above 0.
    """
    truth, found = np.asarray(truth), np.asarray(found)
    if truth.dtype != bool or found.dtype != bool or truth.shape != found.shape or truth.ndim != 2:
        raise ValueError(
            "masks must be boolean and share one shape (height, width), "
            f"got {truth.dtype} {truth.shape} and {found.dtype} {found.shape}"
        )
    if min(spacing) <= 0:
        raise ValueError(f"spacing must be above 0 between rows and between columns, got {spacing}")
    if not truth.any() or not found.any():
        return np.empty(0), np.empty(0)
    # Beyond the common bounding box there is no contour, and the transform costs by the pixel.
    box = ndimage.find_objects((truth | found).astype(np.uint8))[0]
    contours = [_contour(mask[box]) for mask in (truth, found)]
    from_truth, from_found = (
        np.asarray(ndimage.distance_transform_edt(~contour, sampling=spacing))
        for contour in contours
    )
    return from_found[contours[0]], from_truth[contours[1]]


def of_masks(truth: np.ndarray, found: np.ndarray, spacing: Spacing = PIXELS) -> dict[str, float]:
    """Return every metric of METRICS; the distances, which cost most, are computed once."""
    return _of_distances(*distances(truth, found, spacing))


def of_large_masks(
    truth: np.ndarray, found: np.ndarray, spacings: Sequence[Spacing]
) -> list[dict[str, float]]:
    """Return every metric of METRICS in each of `spacings`, by a search tree of outline pixels.

    The values are those of the functions above up to rounding. The cost grows with the length of
    the outlines and not with the area, which for masks of some megapixels is 20 to 50 times faster.
    Masks must be boolean, of one shape (height, width).
    """
    if not truth.any() or not found.any():
        return [dict.fromkeys(METRICS, float("nan")) for _ in spacings]
    points = [np.argwhere(_contour(mask)) for mask in (truth, found)]
    measured = []
    for spacing in spacings:
        of_truth, of_found = (one * np.asarray(spacing) for one in points)
        to_found, _ = KDTree(of_found).query(of_truth)
        to_truth, _ = KDTree(of_truth).query(of_found)
        measured.append(_of_distances(to_found, to_truth))
    return measured


def _of_distances(to_found: np.ndarray, to_truth: np.ndarray) -> dict[str, float]:
    """Return every metric of METRICS of the distances of outline pixels, one way and back."""
    return {
        "hausdorff95": _hausdorff95(to_found, to_truth),
        "average_distance": _average(to_found, to_truth),
    }


def _hausdorff95(to_found: np.ndarray, to_truth: np.ndarray) -> float:
    if not to_found.size:
        return float("nan")
    return float(max(np.percentile(to_found, 95), np.percentile(to_truth, 95)))


def _average(to_found: np.ndarray, to_truth: np.ndarray) -> float:
    if not to_found.size:
        return float("nan")
    return float(np.concatenate([to_found, to_truth]).mean())


def _contour(mask: np.ndarray) -> np.ndarray:
    """Return the inside pixels that touch the outside, or the image's border, by a side."""
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1] = (
        mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:] & mask[1:-1, 1:-1]
    )
    return mask & ~inner


METRICS = {"hausdorff95": hausdorff95, "average_distance": average_distance}
