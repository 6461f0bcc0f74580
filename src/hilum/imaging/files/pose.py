"""How what a file stores is displayed: a geometry between the two, and corrections of it.

A file's own pixels, in which masks and outlines are drawn, are those it stores (of a raster, after
its Exif orientation). `Pose` leads from them to the image as displayed, upright with the patient's
right on the left, and back. Of DICOM it follows from the header (`_dicom_orientation`); where that
or the file itself is wrong, a `Display` corrects it. Sizes are (height, width).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from hilum.annotations.image_scale import Scale
from hilum.annotations.quarter_turns import QuarterTurns
from hilum.annotations.shapes import Shape
from hilum.imaging.geometry import Size, resize

# Degrees clockwise as a transposition, after which rows and then columns are reversed.
_ROTATIONS = {
    0: QuarterTurns(),
    90: QuarterTurns(transposed=True, mirrored=True),
    180: QuarterTurns(upended=True, mirrored=True),
    270: QuarterTurns(transposed=True, upended=True),
}


@dataclass(frozen=True)
class Display:
    """A correction of how a file is displayed: rotated clockwise, then mirrored; and inverted.

    `of` reads it from the columns of the same names of a manifest's table.
    """

    rotated: int = 0  # degrees clockwise: 0, 90, 180 or 270
    mirrored: bool = False  # left and right are exchanged
    inverted: bool = False  # dark and bright are exchanged

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Display:
        """Return the correction that a row of a manifest's table states; null is none."""
        return cls(row["rotated"] or 0, bool(row["mirrored"]), bool(row["inverted"]))

    @property
    def turns(self) -> QuarterTurns:
        """Rotation and reflection in one."""
        turns = _ROTATIONS[self.rotated]
        return turns.then(QuarterTurns(mirrored=True)) if self.mirrored else turns

    def then(self, found: Display) -> Display:
        """Return one correction in place of this and another one of what this displays."""
        turns = self.turns.then(found.turns)
        inverted = self.inverted != found.inverted
        every = (Display(*both, inverted) for both in product(_ROTATIONS, (False, True)))
        return next(one for one in every if one.turns == turns)

    @property
    def account(self) -> Iterator[str]:
        """Yield lines of a processing log."""
        if self.rotated:
            yield f"rotated by {self.rotated} degrees clockwise, as a correction states"
        if self.mirrored:
            yield "mirrored, as a correction states"
        if self.inverted:
            yield "inverted, as a correction states"


AS_READ = Display()


@dataclass(frozen=True)
class Pose:
    """A geometry from a file's own pixels (`source`) to the image as displayed (`target`).

    `forward` transposes, then reverses rows and columns, then stretches.
    """

    source: Size
    turns: QuarterTurns = QuarterTurns()
    stretched: Size | None = None  # the size that makes pixels square

    @property
    def rotated(self) -> Size:
        """The size as displayed before pixels are made square."""
        return self.turns.size(self.source)

    @property
    def target(self) -> Size:
        """The size as displayed."""
        return self.stretched or self.rotated

    def then(self, turns: QuarterTurns) -> Pose:
        """Return this geometry followed by quarter turns or a reflection."""
        stretched = turns.size(self.stretched) if self.stretched else None
        return Pose(self.source, self.turns.then(turns), stretched)

    def forward(self, image: np.ndarray, *, labels: bool = False) -> np.ndarray:
        """Return an image or label map of the file's own pixels as displayed."""
        return resize(self.turns.forward(image), self.target, labels=labels)

    def back(self, image: np.ndarray, *, labels: bool = False) -> np.ndarray:
        """Return an image or label map as displayed in the file's own pixels."""
        return self.turns.back(resize(image, self.rotated, labels=labels))

    def mask(self, own: np.ndarray) -> np.ndarray:
        """Return a mask of the file's own pixels, bool or labels, as displayed."""
        return self.forward(own.astype(np.uint8), labels=True).astype(own.dtype)

    def shape(self, shape: Shape) -> Shape:
        """Return a shape of the file's own pixels in those displayed."""
        upright = self.turns.shape(shape, self.source)
        return Scale(self.rotated, self.target).shape(upright)
