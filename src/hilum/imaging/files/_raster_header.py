"""What the head of a raster file tells before anything is decoded, and how a picture is turned as its head says.

`size` is (height, width) as stored. `orientation` is 1 to 8 of TIFF 6.0 (tag 274, Orientation), which Exif took over: where the first
stored row and the first stored column belong in the picture as it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_DEPTHS = (10, 12, 14, 16)


class Unfit(Exception):
    """Why a sound file is not read: what it holds, what was expected and what to do, to be told behind the file's name."""


@dataclass(frozen=True)
class Head:
    size: tuple[int, int]
    channels: int  # as decoded; a palette's colours are 3
    bits: int  # of one value
    orientation: int = 1

    @property
    def shown(self) -> tuple[int, int]:
        """Height and width once turned."""
        return self.size[::-1] if self.orientation >= 5 else self.size

    @property
    def bytes(self) -> int:
        """Size of the decoded picture in memory."""
        return self.size[0] * self.size[1] * self.channels * (2 if self.bits > 8 else 1)


@dataclass(frozen=True)
class Stored:
    """Values as a file stores them, before any colour is looked up or value stretched."""

    values: (
        np.ndarray
    )  # uint8 or uint16 (height, width), of several channels (height, width, channels)
    palette: np.ndarray | None = None  # uint8 or uint16 (entries, 3): the colour of each value
    transparent: frozenset[int] = frozenset()  # values that show nothing

    def coloured(self) -> np.ndarray:
        """Values with the palette looked up, (height, width, channels)."""
        return self.values if self.palette is None else self.palette[self.values]


def oriented(values: np.ndarray, orientation: int) -> np.ndarray:
    """(height, width) as shown, of values as stored."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    rows = slice(None, None, -1) if orientation in (3, 4, 7, 8) else slice(None)
    columns = slice(None, None, -1) if orientation in (2, 3, 6, 7) else slice(None)
    return np.ascontiguousarray(values[rows, columns])


def range_top(values: np.ndarray) -> int:
    """The largest value that the picture could hold: 255, or by the smallest of 10, 12, 14 and 16 bits that holds those of uint16."""
    if values.dtype == np.uint8:
        return 255
    largest = int(values.max())
    return next((1 << bits) - 1 for bits in _DEPTHS if largest < 1 << bits)
