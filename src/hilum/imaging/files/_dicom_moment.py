"""Parse DICOM's dates with times (PS3.5 6.2): VR DT, and a DA with a TM.

Moments are local and naive, as hospitals write them: an offset from UTC, which VR DT may state, is
left out, because the dates beside it state none.
"""

from __future__ import annotations

import re
from datetime import datetime, time

from hilum.imaging.files import _dicom_age

_TIME = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d{1,6}))?)?)?", re.ASCII)
_DATETIME = re.compile(r"(\d{8})(\d{2,6}(?:\.\d{1,6})?)?(?:[+-]\d{4})?", re.ASCII)


def of_datetime(text: str | None) -> datetime | None:
    """Return the moment of a VR DT, at least to the day; None for any other text."""
    found = _DATETIME.fullmatch((text or "").strip(" \0"))
    return of_pair(found[1], found[2]) if found else None


def of_pair(day: str | None, clock: str | None) -> datetime | None:
    """Return the moment of a DA and a TM; midnight where the time is none, None without a date."""
    if (date := _dicom_age.day(day)) is None:
        return None
    return datetime.combine(date, _time(clock) or time())


def _time(text: str | None) -> time | None:
    found = _TIME.fullmatch((text or "").strip(" \0"))
    if found is None:
        return None
    hour, minute, second = (int(part or 0) for part in found.groups()[:3])
    try:
        return time(hour, minute, min(second, 59), int((found[4] or "0").ljust(6, "0")))
    except ValueError:
        return None
