"""Find PNG images in colour that are grey before their filters are undone, which takes longest.

A filter (ISO/IEC 15948, 9) predicts a byte from those of the same channel, and all channels of a
row have the same filter. So channels are equal exactly where their filtered bytes are, and a
channel of one value has filtered bytes that depend on the filters alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from hilum.imaging.files._raster_header import Head

# What a channel of 255 alone becomes, by the filter: None, Sub, Up, Average, Paeth.
_CORNER = np.array([255, 255, 255, 255, 255], np.uint8)  # first row, first column
_TOP = np.array([255, 0, 255, 128, 0], np.uint8)  # first row
_LEFT = np.array([255, 255, 0, 128, 0], np.uint8)  # first column
_REST = np.array([255, 0, 0, 0, 0], np.uint8)


def merged(rows: memoryview, head: Head) -> memoryview | None:
    """Return the filtered rows of one channel where the three of colour are equal, else None.

    `rows` are those of 8 bits and 3 channels, or 4 with alpha, which has to be opaque everywhere.
    """
    (height, width), channels = head.size, head.channels
    lines = np.frombuffer(rows, np.uint8).reshape(height, 1 + width * channels)
    filters, pixels = lines[:, 0], lines[:, 1:].reshape(height, width, channels)
    if filters.max() >= len(_REST) or not _equal(cv2.split(pixels[height // 2 :][:1])):
        return None
    planes = cv2.split(pixels)
    if not _equal(planes) or (channels == 4 and not _opaque(planes[3], filters)):
        return None
    one = np.empty((height, 1 + width), np.uint8)
    one[:, 0] = filters
    one[:, 1:] = planes[0]
    return one.data.cast("B")


def _equal(planes: Sequence[np.ndarray]) -> bool:
    """Return whether the first three channels are equal."""
    return all(np.array_equal(planes[0], other) for other in planes[1:3])


def _opaque(alpha: np.ndarray, filters: np.ndarray) -> bool:
    """Return whether a filtered channel is 255 everywhere."""
    first, others = filters[0], filters[1:]
    return (
        alpha[0, 0] == _CORNER[first]
        and bool((alpha[0, 1:] == _TOP[first]).all())
        and np.array_equal(alpha[1:, 0], _LEFT[others])
        and bool((alpha[1:, 1:] == _REST[others][:, None]).all())
    )
