"""Parsers for ages, dates and numbers in the cells of tables; an ambiguous cell is None."""

from __future__ import annotations

import math
import re
from datetime import date
from functools import cache

from hilum.annotations.acquisition import OLDEST_YEARS
from hilum.dataset import tables
from hilum.dataset.plan import lexicon

YEAR_DAYS = 365.25  # as in the Julian year, leap days included
_UNITS = {
    "": 1.0,
    "y": 1.0,
    "yr": 1.0,
    "yrs": 1.0,
    "yo": 1.0,
    "year": 1.0,
    "years": 1.0,
    "yearsold": 1.0,
    "j": 1.0,
    "jahre": 1.0,
    "jahr": 1.0,
    "a": 1.0,
    "ans": 1.0,
    "an": 1.0,
    "anos": 1.0,
    "ano": 1.0,
    "anni": 1.0,
    "anno": 1.0,
    "jaar": 1.0,
    "lat": 1.0,
    "m": 1 / 12,
    "mo": 1 / 12,
    "mos": 1 / 12,
    "mon": 1 / 12,
    "month": 1 / 12,
    "months": 1 / 12,
    "monate": 1 / 12,
    "monat": 1 / 12,
    "mois": 1 / 12,
    "meses": 1 / 12,
    "mes": 1 / 12,
    "mesi": 1 / 12,
    "w": 7 / YEAR_DAYS,
    "wk": 7 / YEAR_DAYS,
    "week": 7 / YEAR_DAYS,
    "weeks": 7 / YEAR_DAYS,
    "wochen": 7 / YEAR_DAYS,
    "d": 1 / YEAR_DAYS,
    "day": 1 / YEAR_DAYS,
    "days": 1 / YEAR_DAYS,
    "tage": 1 / YEAR_DAYS,
    "dias": 1 / YEAR_DAYS,
    "jours": 1 / YEAR_DAYS,
    "giorni": 1 / YEAR_DAYS,
}
_AGE = re.compile(r"(\d{1,5}(?:[.,]\d+)?)\s*([^\W\d_]*(?:\s?old)?)\.?")
_DATES = (
    (re.compile(r"(\d{4})[-/.]?(\d{2})[-/.]?(\d{2})(?:[T ].*)?"), (1, 2, 3)),
    (re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})"), (3, 2, 1)),
    (re.compile(r"(\d{1,2})[/-](\d{1,2})[/-](\d{4})"), (3, 2, 1)),
)


@cache
def age_years(cell: str, unit: str = "") -> float | None:
    """Return the age in years of "58", "058Y" (DICOM AS), "6 M", "63 years" or "45,5".

    `unit` applies where the cell has none. None: no age, or one outside of [0, OLDEST_YEARS].
    """
    found = _AGE.fullmatch(cell.strip().casefold())
    if not found:
        return None
    number = tables.number(found[1])
    factor = _UNITS.get(lexicon.key(found[2]) or lexicon.key(unit))
    years = None if number is None or factor is None else number * factor
    return round(years, 3) if years is not None and 0 <= years <= OLDEST_YEARS else None


def age_unit(column: str) -> str:
    """Return the unit that a column's name states, such as "months" of "age_months", or ""."""
    return next(
        (part for part in lexicon.spaced(column).split() if part in _UNITS and len(part) > 1), ""
    )


@cache
def day(cell: str) -> date | None:
    """Return the date of a cell; None where day and month could be exchanged.

    A guess between 03/04 and 04/03 may be wrong by months.
    """
    for pattern, order in _DATES:
        if found := pattern.fullmatch(cell.strip()):
            year, month, number = (int(found[place]) for place in order)
            if "." not in cell and order == (3, 2, 1):
                if month > 12 >= number:
                    month, number = number, month
                elif number <= 12 and month != number:
                    return None
            try:
                return date(year, month, number)
            except ValueError:
                return None
    return None


@cache
def year(cell: str) -> int | None:
    """Return a calendar year between 1880 and 2100; "1950.0" is one, too."""
    value = number(cell)
    return int(value) if value is not None and value.is_integer() and 1880 < value < 2100 else None


def years_between(birth: date | None, study: date | None) -> float | None:
    """Return the age in years at a study; None where a date is missing or the age impossible."""
    if birth is None or study is None:
        return None
    years = (study - birth).days / YEAR_DAYS
    return round(years, 3) if 0 <= years <= OLDEST_YEARS else None


@cache
def number(cell: str) -> float | None:
    """Return the finite number that a cell holds, or None."""
    value = tables.number(cell)
    return value if value is not None and math.isfinite(value) else None
