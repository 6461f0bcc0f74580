"""Parse dates and the patient's age of a DICOM header.

Source: PS3.5 6.2 (VRs AS and DA), PS3.3 C.7.1.1 and C.7.2.2.
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache

from hilum.annotations.acquisition import OLDEST_YEARS

_UNITS = {"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 1 / 52.18, "D": 1 / 365.25}  # in years
_FILLER = date(1900, 1, 1)  # the birth date that anonymisation leaves
_DATE = re.compile(r"(\d{4})([.-]?)(\d\d)\2(\d\d)", re.ASCII)  # with points: the form of ACR-NEMA


@lru_cache(maxsize=256)
def day(text: str | None) -> date | None:
    """Return the date; None for text that is no date, such as 00000000 and 20110231."""
    found = _DATE.fullmatch((text or "").strip(" \0"))
    try:
        return date(int(found[1]), int(found[3]), int(found[4])) if found else None
    except ValueError:
        return None


def years(age: str | None, birth: date | None, study: date | None) -> float | None:
    """Return the age in years, 0 to `OLDEST_YEARS`, by Patient's Age, else by two dates.

    The dates are those of birth and study. None where neither gives a plausible age.
    """
    stated = _stated(age or "")
    return stated if stated is not None else _between(birth, study)


def _stated(age: str) -> float | None:
    found = re.fullmatch(r"(\d{1,4})\s*([YMWD]?)", age.strip(" \0").upper(), re.ASCII)
    return _plausible(int(found[1]) * _UNITS[found[2]]) if found else None


def _between(birth: date | None, study: date | None) -> float | None:
    """Return completed years plus the elapsed fraction of the current year."""
    if birth is None or study is None or not _FILLER < birth <= study:
        return None
    completed = study.year - birth.year - ((study.month, study.day) < (birth.month, birth.day))
    last, following = (_birthday(birth, birth.year + completed + more) for more in (0, 1))
    return _plausible(completed + (study - last).days / (following - last).days)


def _birthday(birth: date, year: int) -> date:
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if (birth.month, birth.day) == (2, 29) and not leap:
        return date(year, 3, 1)
    return birth.replace(year=year)


def _plausible(value: float) -> float | None:
    return round(value, 3) if 0 <= value <= OLDEST_YEARS else None
