"""Bring a stored image to the standard view: feet below, a frontal patient's right on the left.

Patient Orientation (PS3.3 C.7.6.1.1.1) states the direction of the rows and of the columns: `L\\F`
is the standard frontal view. A frontal image is rotated and mirrored to it; a lateral one is only
rotated, because both its sides are customary. Pixels that are not square (Pixel Aspect Ratio,
C.7.6.3.1.7, or unequal spacing) are made square by stretching the axis with fewer pixels, so that
nothing is lost. Arrays are (height, width).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.annotations.quarter_turns import QuarterTurns
from hilum.imaging.files import raster
from hilum.imaging.files.pose import Pose
from hilum.imaging.geometry import Size

if TYPE_CHECKING:
    from hilum.imaging.files._dicom_header import Header

_OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}
_SQUARE = 0.01  # a ratio this near 1 is a rounding error
_LONGEST = 4.0  # no detector has pixels of a larger ratio


def of(header: Header, size: Size, aspect: object, account: list[str]) -> Pose:
    """Return the pose of a stored image of (height, width) `size`.

    `aspect` is Pixel Aspect Ratio, two numbers, vertical before horizontal, or None. What was
    applied is appended to `account`.
    """
    turns = _turns(header.orientation, account)
    pose = Pose(size, turns)
    ratio = _ratio(header, aspect)
    if turns.transposed:
        ratio = 1 / ratio
    if abs(ratio - 1) <= _SQUARE:
        return pose
    height, width = pose.rotated
    plausible = 1 / _LONGEST <= ratio <= _LONGEST
    wanted = (height, width)
    if plausible:
        wanted = (round(height * ratio), width) if ratio > 1 else (height, round(width / ratio))
    if not plausible or wanted[0] * wanted[1] > raster.MOST_PIXELS:
        account.append(f"pixels {ratio:g} times as high as wide are implausible: left as they are")
        return pose
    account.append(
        f"pixels {ratio:g} times as high as wide made square: {height}x{width} to "
        f"{wanted[0]}x{wanted[1]} (PS3.3 C.7.6.3.1.7)"
    )
    return Pose(size, turns, wanted)


def spacing(header: Header, pose: Pose) -> tuple[float, float] | None:
    """Return the spacing between rows and between columns in the standard view, in mm."""
    if header.spacing_mm is None:
        return None
    rows, columns = header.spacing_mm[::-1] if pose.turns.transposed else header.spacing_mm
    return rows * pose.rotated[0] / pose.target[0], columns * pose.rotated[1] / pose.target[1]


def to_display(values: np.ndarray, pose: Pose, padding: np.ndarray | None) -> np.ndarray:
    """Return stored values in the standard view.

    `padding`, bool by value, does not bleed into its neighbours where pixels are stretched.
    """
    standing = pose.forward(values)
    if pose.stretched and padding is not None and padding[values].any():
        empty = padding[values].astype(np.float32)
        nearest = pose.forward(values, labels=True)
        standing = np.where(pose.forward(empty) > 0, nearest, standing)
    return standing


def stated_turns(orientation: tuple[str, str] | None) -> QuarterTurns:
    """Return the turns to the standard view that a Patient Orientation implies."""
    return _turns(orientation, [])


def _turns(orientation: tuple[str, str] | None, account: list[str]) -> QuarterTurns:
    """Return the turns to the standard view; none where the orientation states no view."""
    if orientation is None:
        account.append("Patient Orientation is not stated: left as stored")
        return QuarterTurns()
    right, down = (part[0] for part in orientation)
    stated = "\\".join(orientation)
    axes = {frozenset((one, _OPPOSITE.get(one))) for one in (right, down)}
    upright = frozenset("HF")
    if (
        upright not in axes
        or len(axes) != 2
        or not all(part[0] in _OPPOSITE for part in orientation)
    ):
        account.append(
            f"Patient Orientation {stated} is neither frontal nor lateral: left as stored"
        )
        return QuarterTurns()
    transposed = right in upright
    if transposed:
        right, down = down, right
    upended, mirrored = down == "H", right == "R"
    if not {right, down} & {"L", "R"}:  # lateral: rotated without mirroring
        mirrored = transposed != upended
    if transposed or upended or mirrored:
        done = [
            name
            for name, applied in (
                ("transposed", transposed),
                ("rows reversed", upended),
                ("columns reversed", mirrored),
            )
            if applied
        ]
        account.append(
            f"Patient Orientation {stated}: {', '.join(done)} to the standard view "
            "(PS3.3 C.7.6.1.1.1)"
        )
    return QuarterTurns(transposed, upended, mirrored)


def _ratio(header: Header, aspect: object) -> float:
    """Return the height of a pixel over its width."""
    if header.spacing_mm:
        return header.spacing_mm[0] / header.spacing_mm[1]
    vertical, horizontal = (
        (float(value) for value in aspect) if isinstance(aspect, tuple) else (1.0, 1.0)
    )
    return vertical / horizontal if vertical > 0 and horizontal > 0 else 1.0
