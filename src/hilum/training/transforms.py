"""Apply drawn changes to an image, its label mask, boxes and points.

Images are uint8 or uint16 (height, width), masks uint8 (height, width) with 0 for background,
points float (k, 2) row and column with pixel centres at integers, boxes float (k, 4) top, left,
bottom, right at pixel edges, half-open, as in `Crop`. What enters from beyond the border is 0 in
the mask, and in the image too unless `border` says otherwise.

All geometric changes of a draw form one map, in which OpenCV interpolates each new pixel once: an
affine matrix, and an elastic displacement on top of it where there is one.
"""

from __future__ import annotations

import math
from functools import cached_property

import cv2
import numpy as np

from hilum.annotations.lung_masks import LEFT, RIGHT
from hilum.imaging.geometry import Size
from hilum.imaging.radiograph import apply_lut
from hilum.training import degradations
from hilum.training.augmentation import AugmentationParams

# Fixed-point iterations that invert the elastic displacement for a point; each leaves at most a
# third of the error, as the displacement is smooth.
_ROUNDS = 12


def apply(
    params: AugmentationParams, image: np.ndarray, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Apply a draw to an image (linear interpolation) and its mask (nearest label).

    Both are moved by the same map; grey levels change in the image alone. Where the draw mirrors,
    right and left lung are exchanged in the mask.
    """
    height, width = image.shape
    transform = SpatialTransform(params, (height, width))
    changed = change_grey_levels(params, transform.image(image))
    return changed, None if mask is None else transform.labels(mask)


def change_grey_levels(params: AugmentationParams, image: np.ndarray) -> np.ndarray:
    """Apply a draw's changes of grey levels; return `image` itself where there are none."""
    # Opacities come first: they are in the patient, and pass through the same device as the rest.
    for opacity in params.opacities:
        image = degradations.opaque(image, *opacity)
    if params.tiles:
        image = degradations.local_contrast(image, params.clip, params.tiles)
    if (params.contrast, params.brightness, params.gamma, params.inverted) != (1, 0, 1, False):
        image = apply_lut(image, _lut(params, image.dtype))
    if params.uneven:
        image = degradations.uneven(image, params.uneven)
    if params.noise:
        image = degradations.noisy(image, params.noise, params.noise_seed)
    if params.blur:
        image = degradations.blur(image, params.blur)
    for cover in params.covers:
        image = degradations.cover(image, *cover)
    return image


class SpatialTransform:
    """The geometric part of a draw, for images of (height, width) `source`.

    The result has (height, width) `target`. Raises `ValueError` for a crop larger than the image.
    """

    def __init__(self, params: AugmentationParams, source: Size) -> None:
        self.params, self.source = params, source
        self.target: Size = (params.crop, params.crop) if params.crop else source
        room = source[0] - self.target[0], source[1] - self.target[1]
        if min(room) < 0:
            raise ValueError(
                f"cannot cut {self.target} out of an image of {source} pixels (height, width); "
                f"choose a smaller crop"
            )
        self._corner = (
            min(int(params.crop_row * (room[0] + 1)), room[0]),
            min(int(params.crop_column * (room[1] + 1)), room[1]),
        )
        self._affine = _affine(params, source, self._corner)

    @cached_property
    def matrix(self) -> np.ndarray:
        """The map from column and row of the result to those of the source, float64 (2, 3)."""
        return np.array(self._affine, np.float64)

    def image(self, image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Transform an image, into `out` where it is given."""
        outside = max(0.0, self.params.outside) * np.iinfo(image.dtype).max
        border = cv2.BORDER_REPLICATE if self.params.outside < 0 else cv2.BORDER_CONSTANT
        return self._moved(image, cv2.INTER_LINEAR, out, outside, border)

    def labels(self, mask: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Transform a mask; right and left lung are exchanged where the draw mirrors."""
        moved = self._moved(mask, cv2.INTER_NEAREST, out, 0, cv2.BORDER_CONSTANT)
        return cv2.LUT(moved, _SWAPPED, dst=moved) if self.params.flip else moved

    def points(self, points: np.ndarray) -> np.ndarray:
        """Transform points, float64 (k, 2); they may leave the image."""
        wanted = np.asarray(points, np.float64)[:, ::-1]
        back = cv2.invertAffineTransform(self.matrix)
        found = wanted @ back[:, :2].T + back[:, 2]
        if self.params.elastic:
            across, down = self._bends
            for _ in range(_ROUNDS):
                place = np.clip(found, 0, np.array(self.target[::-1]) - 1).astype(np.float32)
                offset = [
                    cv2.remap(bend, place[:, :1], place[:, 1:], cv2.INTER_LINEAR)[:, 0]
                    for bend in (across, down)
                ]
                found = (wanted - np.stack(offset, 1)) @ back[:, :2].T + back[:, 2]
        return found[:, ::-1]

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Transform boxes, float64 (k, 4), to the upright boxes around them, within the image.

        A box that left the image is empty.
        """
        top, left, bottom, right = np.asarray(boxes, np.float64).reshape(-1, 4).T - 0.5
        corners = np.stack(
            [np.stack([row, column], 1) for row in (top, bottom) for column in (left, right)], 1
        )
        moved = self.points(corners.reshape(-1, 2)).reshape(-1, 4, 2) + 0.5
        limit = np.array(self.target, np.float64)
        return np.concatenate([np.clip(moved.min(1), 0, limit), np.clip(moved.max(1), 0, limit)], 1)

    def _moved(
        self, image: np.ndarray, method: int, out: np.ndarray | None, outside: float, border: int
    ) -> np.ndarray:
        if self.params.elastic:
            columns, rows = self._places
            return cv2.remap(
                image, columns, rows, method, dst=out, borderMode=border, borderValue=outside
            )
        (a, b, across), (c, d, down) = self._affine
        integral = (abs(a), b, c, d) == (1, 0, 0, 1) and across.is_integer() and down.is_integer()
        black = not outside and border == cv2.BORDER_CONSTANT
        if integral and black:
            return self._cut(image, int(down), int(across), a < 0, out)
        return cv2.warpAffine(
            image,
            self.matrix,
            self.target[::-1],
            dst=out,
            flags=method | cv2.WARP_INVERSE_MAP,
            borderMode=border,
            borderValue=outside,
        )

    def _cut(
        self, image: np.ndarray, down: int, across: int, mirrored: bool, out: np.ndarray | None
    ) -> np.ndarray:
        """Copy the window from row `down` and column `across`; mirrored, it ends with that column.

        Equal to interpolating at whole pixels, and faster.
        """
        (height, width), (rows, columns) = self.target, self.source
        left = across - width + 1 if mirrored else across
        if 0 <= down <= rows - height and 0 <= left <= columns - width:
            window = image[down : down + height, left : left + width]
            if mirrored:
                return cv2.flip(window, 1, dst=out)
            if out is None:
                return window.copy()
            out[:] = window
            return out
        above, before = max(0, -down), max(0, -left)
        window = image[
            max(0, down) : min(rows, down + height), max(0, left) : min(columns, left + width)
        ]
        out = np.empty(self.target, image.dtype) if out is None else out
        if window.shape != self.target:
            out[:] = 0
        start = width - before - window.shape[1] if mirrored else before
        place = out[above : above + window.shape[0], start : start + window.shape[1]]
        if mirrored and window.size:
            place[:] = cv2.flip(window, 1)
        else:
            place[:] = window
        return out

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """Source column and row of each pixel of the result, float32 (height, width) each."""
        rows, columns = np.ogrid[0 : self.target[0], 0 : self.target[1]]
        across, down = (line[0] * columns + line[1] * rows + line[2] for line in self.matrix)
        bends = self._bends
        return across.astype(np.float32) + bends[0], down.astype(np.float32) + bends[1]

    @cached_property
    def _bends(self) -> tuple[np.ndarray, np.ndarray]:
        """Elastic displacement of columns and of rows in pixels, float32 (height, width) each."""
        (height, width), (top, left) = self.source, self._corner
        inside = slice(top, top + self.target[0]), slice(left, left + self.target[1])
        down, across = (
            cv2.resize(plane, (width, height), interpolation=cv2.INTER_CUBIC)
            for plane in np.asarray(self.params.elastic, np.float32)
        )
        return across[inside] * np.float32(width), down[inside] * np.float32(height)


def _affine(
    params: AugmentationParams, source: Size, corner: tuple[int, int]
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Compute the two rows of `SpatialTransform.matrix`.

    It rotates and scales about the image's centre. The aspect changes along the result's own rows
    and columns, after the rotation.
    """
    (height, width), (top, left) = source, corner
    middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
    unscaled = params.scale == params.aspect == 1 and not params.rotation_degrees
    if unscaled and not params.shift_rows and not params.shift_columns:
        # Exact integers, so that pixels are copied and not interpolated.
        across, column = (-1.0, width - 1 - left) if params.flip else (1.0, left)
        return (across, 0.0, float(column)), (0.0, 1.0, float(top))
    cosine = math.cos(math.radians(params.rotation_degrees)) / params.scale
    sine = math.sin(math.radians(params.rotation_degrees)) / params.scale
    down, across = params.aspect**0.5, (-1.0 if params.flip else 1.0) * params.aspect**-0.5
    row = down * (top - middle_row - params.shift_rows * height)
    column = across * (left - middle_column - params.shift_columns * width)
    return (
        (across * cosine, -sine * down, cosine * column - sine * row + middle_column),
        (across * sine, cosine * down, sine * column + cosine * row + middle_row),
    )


def _lut(params: AugmentationParams, dtype: np.dtype) -> np.ndarray:
    """Tabulate the new value of each grey level.

    Inversion comes first, then gamma, then contrast about mid-grey and brightness.
    """
    top = np.iinfo(dtype).max
    greys = np.arange(top + 1) / top
    bright = (greys[::-1] if params.inverted else greys) ** params.gamma
    return np.rint(
        np.clip((bright - 0.5) * params.contrast + 0.5 + params.brightness, 0, 1) * top
    ).astype(dtype)


_SWAPPED = np.arange(256, dtype=np.uint8)
_SWAPPED[[RIGHT, LEFT]] = LEFT, RIGHT
