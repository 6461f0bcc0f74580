"""Pixels for the browser: an image as it was read, its lung masks, and its thumbnail.

What is sent is in display orientation: uint16 little-endian (height, width), bright is dense, 65535
is white. An image of more than `MOST_SHOWN` pixels is reduced; masks come at the size that is sent,
and go back to the file's own pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import cv2
import imagecodecs
import numpy as np

from hilum.annotations import lung_masks
from hilum.errors import BadData
from hilum.imaging.files import dicom, image_file, raster
from hilum.imaging.geometry import Letterbox, Size, resize
from hilum.imaging.radiograph import Radiograph, apply_lut, to_uint16
from hilum.pipeline import reference_masks
from hilum.safety.path_names import as_text
from hilum.serve.replies import Json
from hilum.serve.study import Study

MOST_SHOWN = 12_000_000
THUMBNAIL = 160  # pixels of the longer side
_QUALITY = 70  # of thumbnails, WebP
_SAMPLED = 1 << 18  # pixels from which the default window is taken
_WINDOW = (0.5, 99.5)  # percentiles


@dataclass(frozen=True)
class Shown:
    """A decoded image file as it is sent to a browser."""

    file: raster.Raster | dicom.Dicom

    @cached_property
    def radiograph(self) -> Radiograph:
        """The image in display orientation."""
        return self.file.radiograph()

    @property
    def size(self) -> Size:
        """(height, width) of what is sent."""
        height, width = self.radiograph.size
        scale = min(1.0, (MOST_SHOWN / (height * width)) ** 0.5)
        return max(1, int(height * scale)), max(1, int(width * scale))

    @property
    def held(self) -> int:
        """The bytes of the decoded values."""
        return self.file.values.nbytes

    def pixels(self) -> np.ndarray:
        """Return what is sent: uint16 `size`."""
        radiograph = self.radiograph
        if radiograph.lut is None:
            values = to_uint16(radiograph.pixels)
        else:
            values = apply_lut(radiograph.stored_values, to_uint16(radiograph.lut))
        if values.shape != self.size:
            values = resize(values, self.size)
        return np.ascontiguousarray(values, "<u2")

    def to_sent(self, labels: np.ndarray) -> np.ndarray:
        """Return a label map of the display orientation at the size that is sent."""
        return labels if labels.shape == self.size else resize(labels, self.size, labels=True)

    def to_own(self, labels: np.ndarray) -> np.ndarray:
        """Return a label map of the size that is sent in the file's own pixels.

        Raises `BadData` for another size.
        """
        if labels.shape != self.size:
            got, expected = (" x ".join(map(str, size)) for size in (labels.shape, self.size))
            raise BadData(
                f"the mask has {got} pixels, expected {expected} as the image that was sent; "
                "reload the page and draw it again"
            )
        whole = resize(labels, self.radiograph.size, labels=True)
        return image_file.to_native(self.file, whole, labels=True)


def read(study: Study, row: int) -> Shown:
    """Decode the file of an image. Raises `BadData` as every reader of files does."""
    image = study.place(row)
    return Shown(image_file.read(image.path, image.root, image.display))


def default_window(pixels: np.ndarray) -> tuple[int, int]:
    """Return the values that are shown black and white at first."""
    step = max(1, int((pixels.size / _SAMPLED) ** 0.5))
    low, high = np.percentile(pixels[::step, ::step], _WINDOW)
    return int(low), max(int(high), int(low) + 1)


def headers(shown: Shown, pixels: np.ndarray) -> Mapping[str, str]:
    """Return the headers that describe pixels."""
    low, high = default_window(pixels)
    height, width = shown.radiograph.size
    found = {
        "X-Height": pixels.shape[0],
        "X-Width": pixels.shape[1],
        "X-Low": low,
        "X-High": high,
        "X-Original-Height": height,
        "X-Original-Width": width,
    }
    if spacing := shown.radiograph.spacing_mm:
        names = ("X-Row-Spacing-Mm", "X-Column-Spacing-Mm")
        sides = zip(names, spacing, (height, width), pixels.shape, strict=True)
        found |= {name: one * own / sent for name, one, own, sent in sides}
    return {name: str(value) for name, value in found.items()}


def encoded_labels(labels: np.ndarray) -> bytes:
    """Encode a label map as a grey PNG of 8 bits, quickly rather than small."""
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(labels, np.uint8), level=1))


# ------------------------------------------------------------------------------------ lung masks


def reference(study: Study, row: int, shown: Shown) -> np.ndarray:
    """Return the reference labels of an image in display orientation; raises `BadData`."""
    folder, image = study.manifest.folder, study.image_row(row)
    return reference_masks.read(folder, image, shown.file, study.meanings.of).labels


def enlarged(labels: np.ndarray, size: Size) -> np.ndarray:
    """Return cached labels, uint8 (side, side), at an image's size, with smooth contours."""
    certain = np.stack([labels == side for side in (lung_masks.RIGHT, lung_masks.LEFT)])
    back = Letterbox(size, labels.shape[0]).back
    return lung_masks.upsample_labels(labels, certain.astype(np.float32), back)


def mirrored(labels: np.ndarray) -> np.ndarray:
    """Return a label map with the larger lung, mirrored, in place of the other one.

    The axis lies half-way between the lungs' centres, or in the middle of the image where there is
    one lung only.
    """
    areas = {side: int((labels == side).sum()) for side in (lung_masks.RIGHT, lung_masks.LEFT)}
    kept = max(areas, key=lambda side: areas[side])
    other = lung_masks.LEFT if kept == lung_masks.RIGHT else lung_masks.RIGHT
    centres = [_centre(labels == side)[1] for side, area in areas.items() if area]
    axis = sum(centres) / 2 if len(centres) == 2 else (labels.shape[1] - 1) / 2
    lung = (labels == kept).astype(np.uint8)
    matrix = np.array([[-1, 0, 2 * axis], [0, 1, 0]], np.float64)
    flipped = cv2.warpAffine(lung, matrix, lung.shape[::-1], flags=cv2.INTER_NEAREST)
    return np.where(lung > 0, kept, np.where(flipped > 0, other, 0)).astype(np.uint8)


def fitted(labels: np.ndarray, size: Size, onto: np.ndarray | None) -> np.ndarray:
    """Return another image's label map at `size`, its lungs' box laid on that of `onto`.

    Without lungs in `onto`, the whole image is laid on the whole.
    """
    source = _box(labels) if onto is not None and onto.any() and labels.any() else None
    if source is None or onto is None:
        return resize(labels, size, labels=True)
    target = _box(onto)
    scale = (target[2:] - target[:2]) / np.maximum(source[2:] - source[:2], 1)
    shift = target[:2] - source[:2] * scale
    matrix = np.array([[scale[1], 0, shift[1]], [0, scale[0], shift[0]]], np.float64)
    return cv2.warpAffine(labels, matrix, size[::-1], flags=cv2.INTER_NEAREST)


def _box(labels: np.ndarray) -> np.ndarray:
    """Return top, left, bottom and right of the lungs, float64 (4,)."""
    inside = (labels == lung_masks.RIGHT) | (labels == lung_masks.LEFT)
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    return np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1], np.float64)


def _centre(mask: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(rows.mean()), float(columns.mean())


# ------------------------------------------------------------------------------------ thumbnails


def thumbnail(study: Study, row: int) -> bytes:
    """Return a small WebP of an image from the cache, without the cache's padding."""
    facts = study.cached.index.row(row, named=True)
    square = study.cached.images[facts["row"]]
    if facts["height"] and facts["width"]:
        square = square[Letterbox((facts["height"], facts["width"]), square.shape[0]).inside()]
    scale = min(1.0, THUMBNAIL / max(square.shape))
    height, width = (max(1, round(side * scale)) for side in square.shape)
    small = resize(np.ascontiguousarray(square), (height, width))
    return bytes(imagecodecs.webp_encode(np.dstack([small] * 3), level=_QUALITY))


def file_facts(shown: Shown) -> Mapping[str, Json]:
    """Return how a file was read, and what its header states, for people."""
    header: list[Json] = []
    if isinstance(shown.file, dicom.Dicom):
        header = [
            {"name": name, "value": as_text(str(value))}
            for name, value in vars(shown.file.header).items()
            if value not in (None, "", ())
        ]
    return {
        "processing_log": list(shown.radiograph.processing_log),
        "header": header,
        "kind": shown.file.kind,
    }
