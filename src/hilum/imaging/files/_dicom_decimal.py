"""Parse decimal strings of DICOM (VR DS, PS3.5 6.2); ambiguous text gives None, never a guess.

Some writers use the decimal comma of their language where the standard has a point. `0,143` and
`200,5` can only mean that; `1,250` may be thousands and is rejected. The positions of several
values are kept, also where one is empty: values of two elements belong together by position.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)


def decimal(text: str | None) -> float | None:
    """Return the finite number that text states; None for anything else."""
    text = (text or "").strip(" \0\t\r\n")
    if _COMMA.fullmatch(text) and not _THOUSANDS.fullmatch(text):
        text = text.replace(",", ".")
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


@lru_cache(maxsize=256)  # files of one device repeat the same values
def decimals(text: str | None) -> tuple[float | None, ...]:
    """Return the values of an element by position; empty where the element holds nothing."""
    if not (text or "").strip(" \0\t\r\n"):
        return ()
    return tuple(decimal(part) for part in (text or "").split("\\"))


def positive(text: str | None) -> float | None:
    """Return a finite number above 0; None for anything else."""
    value = decimal(text)
    return value if value is not None and value > 0 else None
