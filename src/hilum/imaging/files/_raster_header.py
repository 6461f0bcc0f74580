"""The header of a raster file, known before anything is decoded, and the orientation it states.

`size` is (height, width) as stored. `orientation` is 1 to 8 of TIFF 6.0 (tag 274, Orientation),
which Exif adopted: where the first stored row and column belong in the displayed image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_DEPTHS = (10, 12, 14, 16)  # bits of detectors, stored in 16


class Unfit(Exception):
    """A sound file is not supported: what it holds, what was expected and what to do.

    The message follows the file's name.
    """


@dataclass(frozen=True)
class Head:
    """What a file states of its image."""

    size: tuple[int, int]
    channels: int  # as decoded; a palette's colours are 3
    bits: int  # of one value
    orientation: int = 1

    @property
    def shown(self) -> tuple[int, int]:
        """Height and width as displayed."""
        return (self.size[1], self.size[0]) if self.orientation >= 5 else self.size

    @property
    def bytes(self) -> int:
        """Size of the decoded image in memory."""
        return self.size[0] * self.size[1] * self.channels * (2 if self.bits > 8 else 1)


@dataclass(frozen=True)
class Stored:
    """Values as a file stores them, before a palette is applied or a value stretched."""

    values: np.ndarray  # uint8 or uint16 (height, width) or (height, width, channels)
    palette: np.ndarray | None = None  # uint8 or uint16 (entries, 3): the colour of each value
    transparent: frozenset[int] = frozenset()  # values that show nothing

    def coloured(self) -> np.ndarray:
        """Return values with the palette applied, (height, width, channels)."""
        return self.values if self.palette is None else self.palette[self.values]


def oriented(values: np.ndarray, orientation: int) -> np.ndarray:
    """Return values as displayed, given values as stored."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    rows = slice(None, None, -1) if orientation in (3, 4, 7, 8) else slice(None)
    columns = slice(None, None, -1) if orientation in (2, 3, 6, 7) else slice(None)
    return np.ascontiguousarray(values[rows, columns])


def range_top(values: np.ndarray) -> int:
    """Return the largest value that the image could hold.

    255, or for uint16 that of the smallest of 10, 12, 14 and 16 bits that holds all values.
    """
    if values.dtype == np.uint8:
        return 255
    largest = int(values.max())
    return next((1 << bits) - 1 for bits in _DEPTHS if largest < 1 << bits)
