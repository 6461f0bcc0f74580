"""Read the text burned into an image by OCR, or count its words without keeping them.

Images are uint8 (height, width), full size, bright is dense. The reader is RapidOCR (the extra
`ocr`), whose detector and recogniser are part of its package: nothing is downloaded. Letters of
other scripts count as letters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from threading import Lock

import cv2
import numpy as np

from hilum.errors import MissingExtra

SURE = 0.8  # confidence of a line, below which ribs and edges are read as letters
MARKERS = frozenset(
    (  # words of a side marker, which belongs in a radiograph
        "R",
        "L",
        "AP",
        "PA",
        "ERECT",
        "INSPIRATION",
        "LEFT",
        "LYING",
        "MOBILE",
        "PORTABLE",
        "RIGHT",
        "SEMIERECT",
        "SITTING",
        "STANDING",
        "SUPINE",
        "UPRIGHT",
    )
)
_ONE_AT_A_TIME = Lock()  # OCR uses all cores by itself, and much memory

Line = tuple[
    str, float, np.ndarray
]  # text, confidence 0 to 1, box (4, 2) of corners x, y in pixels


@dataclass(frozen=True)
class TextCounts:
    """How much text an image holds, without the text."""

    words: int  # that are none of `MARKERS`
    longest: int  # letters of the longest of them; 0: there is none
    covered: float  # fraction of the image that the boxes of their lines cover


def read(image: np.ndarray) -> TextCounts:
    """Count the words in an image. Raises `MissingExtra` where the reader is not installed."""
    height, width = image.shape
    return _counted(lines(image), (height, width))


def lines(image: np.ndarray) -> list[Line]:
    """Read the lines of text in an image. Raises as `read`."""
    with _ONE_AT_A_TIME:
        return list(reader()(np.ascontiguousarray(image)))


def _counted(found_lines: Iterable[Line], size: tuple[int, int]) -> TextCounts:
    covered = np.zeros(size, np.uint8)
    words: list[str] = []
    for text, sure, box in found_lines:
        if sure < SURE:
            continue
        parts = re.split(r"[\W_]+", text)
        if found := [word for word in parts if word and word.upper() not in MARKERS]:
            words += found
            cv2.fillConvexPoly(covered, np.round(box).astype(np.int32), 1)
    longest = max((sum(map(str.isalpha, word)) for word in words), default=0)
    return TextCounts(len(words), longest, round(float(covered.mean()), 6))


@cache
def reader() -> Callable[[np.ndarray], Iterable[Line]]:
    """Return the function that reads the lines of an image. Raises `MissingExtra`."""
    with MissingExtra.explained("ocr", "reading text in images"):
        from rapidocr import RapidOCR
    engine = RapidOCR(params={"Global.log_level": "error"})

    def read_lines(image: np.ndarray) -> Iterable[Line]:
        """Read the lines of a uint8 (height, width) image."""
        found = engine(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
        return zip(found.txts, found.scores, found.boxes, strict=True) if found.txts else ()

    return read_lines
