"""How much is written in a picture: words are read and counted, and forgotten at once, for they may be a patient's name.

Pictures are uint8 (height, width), full size, bright is dense. The reader is RapidOCR (the extra `ocr`), whose detector and recogniser
lie in its package: nothing is fetched. Letters of other scripts count as letters.
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

SURE = 0.8  # of a line's words, below which ribs and lines are read for letters
MARKERS = frozenset(
    (  # words of a side marker, which is in its place
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
_ONE_AT_A_TIME = Lock()  # it uses all cores by itself, and takes much memory

Line = tuple[
    str, float, np.ndarray
]  # text, how sure from 0 to 1, its box as (4, 2) corners x, y in pixels


@dataclass(frozen=True)
class TextCounts:
    words: int  # that are none of `MARKERS`
    longest: int  # letters of the longest of them; 0: there is none
    covered: float  # of the picture that the boxes of their lines cover, 0 to 1


def read(picture: np.ndarray) -> TextCounts:
    """Raises `MissingExtra` where the reader is not installed."""
    with _ONE_AT_A_TIME:
        lines = list(reader()(np.ascontiguousarray(picture)))
    return _counted(lines, picture.shape)


def _counted(lines: Iterable[Line], size: tuple[int, int]) -> TextCounts:
    covered, words = np.zeros(size, np.uint8), []
    for text, sure, box in lines:
        if (
            found := [
                word for word in re.split(r"[\W_]+", text) if word and word.upper() not in MARKERS
            ]
            if sure >= SURE
            else []
        ):
            words += found
            cv2.fillConvexPoly(covered, np.round(box).astype(np.int32), 1)
    longest = max((sum(map(str.isalpha, word)) for word in words), default=0)
    return TextCounts(len(words), longest, round(float(covered.mean()), 6))


@cache
def reader() -> Callable[[np.ndarray], Iterable[Line]]:
    """What reads the lines of a picture. Raises `MissingExtra` without the extra."""
    with MissingExtra.explained("ocr", "reading text in pictures"):
        from rapidocr import RapidOCR
    engine = RapidOCR(params={"Global.log_level": "error"})

    def lines(picture: np.ndarray) -> Iterable[Line]:
        told = engine(cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR))
        return zip(told.txts, told.scores, told.boxes, strict=True) if told.txts else ()

    return lines
