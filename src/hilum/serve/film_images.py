"""The images and files of a film that was tried."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import imagecodecs
import numpy as np

from hilum.annotations import lung_masks
from hilum.imaging.geometry import Size, resize
from hilum.imaging.radiograph import to_uint8
from hilum.inference import lung_finder, segment_images
from hilum.inference.calls import ImageResult

SHOWN = 1024  # pixels of the longer side of an image of the result
_COLOURS = {lung_masks.RIGHT: (255, 166, 0), lung_masks.LEFT: (54, 214, 247)}
_COVER = 110  # of 255: how much of the film a lung's colour covers


@dataclass(frozen=True)
class LungFacts:
    """A film and its lungs in numbers; fractions are of the image."""

    height: int
    width: int
    processing_log: tuple[str, ...]
    quality_flags: tuple[str, ...]
    right_fraction: float
    left_fraction: float
    quality: float
    trusted: bool
    any_lung: bool

    @classmethod
    def of(cls, lungs: segment_images.LungResult) -> LungFacts:
        """Return the numbers of a result."""
        height, width = lungs.radiograph.size
        area = lungs.upright_labels.size
        right, left = (
            float((lungs.upright_labels == side).sum() / area)
            for side in (lung_masks.RIGHT, lung_masks.LEFT)
        )
        return cls(
            height,
            width,
            lungs.radiograph.processing_log,
            tuple(flag.fault for flag in lungs.quality_flags),
            right,
            left,
            lungs.quality,
            lungs.quality >= lung_finder.GOOD,
            bool(lungs.native_labels.any()),
        )


def encoded(lungs: segment_images.LungResult, folder: Path) -> dict[str, bytes]:
    """Return the film, its lungs and a heat map as PNG of one size."""
    height, width = lungs.radiograph.size
    scale = min(1.0, SHOWN / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    grey = resize(lungs.radiograph.pixels, size)
    low, high = np.quantile(grey, (0.005, 0.995))
    film = to_uint8((grey - low) / max(float(high - low), 1e-6))
    found = {"film": _png(film)}
    if lungs.native_labels.any():
        found["mask"] = _png(_coloured(resize(lungs.upright_labels, size, labels=True)))
    maps = sorted(path for path in folder.glob("*/*.jpg") if path.parent.name != "overlay")
    if maps:
        found["saliency"] = _png(_resized(maps[0], size))
    return found


def _coloured(labels: np.ndarray) -> np.ndarray:
    """Return labels as colours with transparency, uint8 (height, width, 4)."""
    found = np.zeros((*labels.shape, 4), np.uint8)
    for side, colour in _COLOURS.items():
        found[labels == side] = (*colour, _COVER)
    return found


def _resized(path: Path, size: Size) -> np.ndarray:
    decoded = imagecodecs.jpeg_decode(path.read_bytes())
    return cv2.resize(decoded, size[::-1], interpolation=cv2.INTER_AREA)


def _png(pixels: np.ndarray) -> bytes:
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels), level=3))


def zipped(
    folder: Path,
    results: Sequence[ImageResult],
    lungs: segment_images.LungResult,
    name: str,
) -> bytes:
    """Return everything as a ZIP: overlays, the mask in the file's own pixels, calls and scores."""
    stream = io.BytesIO()
    calls = [{**one.reported(scores=True), "image": name, "name": name} for one in results]
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*.jpg")):
            archive.writestr(path.relative_to(folder).as_posix(), path.read_bytes())
        values = np.array([0, 127, 255], np.uint8)[lungs.native_labels]
        archive.writestr("lungs.png", _png(values))
        archive.writestr("calls.json", json.dumps(calls, indent=1, ensure_ascii=False))
        archive.writestr("processing.txt", "\n".join(_lines(lungs)))
    return stream.getvalue()


def _lines(lungs: segment_images.LungResult) -> Iterator[str]:
    yield from lungs.radiograph.processing_log
    yield "lungs.png: 127 right lung, 255 left lung, in the file's own pixels"
    yield "For research only; not for diagnosis."
