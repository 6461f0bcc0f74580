"""Move the dates of DICOM elements by whole days (PS3.15 E.3.6, modified dates).

All dates of a patient move alike, so that intervals between studies, and times of day, are kept.
Values are those of the VRs DA (YYYYMMDD) and DT (YYYYMMDDHHMMSS.FFFFFF&ZZXX, PS3.5 6.2).
"""

from __future__ import annotations

import re
from datetime import date, timedelta

_DATE = re.compile(r"(\d{4})(?:(\d\d)(\d\d)|\.(\d\d)\.(\d\d))")  # the second of ACR-NEMA 2.0
_MOMENT = re.compile(r"(\d{8})(\d{0,6}(?:\.\d{1,6})?)(?:[+-]\d{4})?")


def shifted(value: str, vr: str, days: int) -> str | None:
    """Return a DA or DT value moved by `days`; None where it is no whole date.

    The offset from UTC of a DT is dropped: it says where the image was made.
    """
    value = value.strip(" \0")
    if vr == "DA":
        return _day(value, days)
    if moment := _MOMENT.fullmatch(value):
        day = _day(moment[1], days)
        return None if day is None else day + moment[2]
    return None


def _day(value: str, days: int) -> str | None:
    if not (found := _DATE.fullmatch(value)):
        return None
    year, month, day = found[1], found[2] or found[4], found[3] or found[5]
    try:
        moved = date(int(year), int(month), int(day)) + timedelta(days)
    except (ValueError, OverflowError):
        return None
    return f"{moved.year:04}{moved.month:02}{moved.day:02}"
