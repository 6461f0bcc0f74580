"""A figure: one row of `metrics.parquet`, a value of one metric on some rows with its interval, and why it has none where it has none.

stage, concept     what was measured; concept is a concept id, `MACRO` or `MICRO` (averages over concepts), or "" of lungs
part               tune or test
source             `ALL`, a source, or null where `by` is another trait
by, subgroup       `ALL`, `ALL`; or the trait (source, sex, age, view) and its value
side               of lungs: both, right, left; else ""
metric, value      nan: undefined
low, high          bootstrap over patients; nan: none can be given
delong_low, delong_high   of an AUROC besides: DeLong's interval (Obuchowski's where patients have several images); else null
images, patients, positives, undefined    rows that have a value, patients among them, rows with the finding, resamples without a value
missed             of lungs: images in which a lung is drawn and nothing was found, with a value or without; else null
why                why there is no value or no interval; else ""
warning            why the figure must not be leant on although there is one; else ""
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from hilum.annotations.vocabulary import State
from hilum.config import Evaluate
from hilum.statistics import bootstrap

ALL, MACRO, MICRO = "all", "macro", "micro"
FEW_PATIENTS = 20  # fewer of a subgroup can tell nothing
FEW_OF_A_CLASS = 5  # likewise images of a class
BANDS = {
    "0 to 17": 0,
    "18 to 39": 18,
    "40 to 59": 40,
    "60 to 79": 60,
    "80 and over": 80,
}  # first year of each band of age
TRAITS = ("source", "sex", "age", "view")
ESTIMATE = {
    **dict.fromkeys(
        ("task", "concept", "part", "source", "by", "subgroup", "side", "metric"), pl.String
    ),
    **dict.fromkeys(("value", "ci_low", "ci_high", "delong_low", "delong_high"), pl.Float64),
    **dict.fromkeys(("images", "patients", "positives", "missed", "n_undefined"), pl.Int64),
    **dict.fromkeys(("reason", "warning"), pl.String),
}


class Subgroup(NamedTuple):
    """Rows of one part: all, or those that share a trait."""

    part: str
    by: str
    subgroup: str
    rows: pl.DataFrame

    @property
    def place(self) -> dict[str, str | None]:
        return place(
            self.part, self.subgroup if self.by in (ALL, "source") else None, self.by, self.subgroup
        )


def place(
    part: str, source: str | None, by: str | None = None, subgroup: str | None = None
) -> dict[str, str | None]:
    return {
        "part": part,
        "source": source,
        "by": by or (ALL if source == ALL else "source"),
        "subgroup": subgroup or source,
    }


def banded(people: pl.DataFrame) -> pl.DataFrame:
    """The table with its column `age_years` turned into `age`, the name of the band; null stays null."""
    names, firsts = list(BANDS), list(BANDS.values())
    band = pl.col("age_years").map_elements(
        lambda years: names[int(np.searchsorted(firsts, years, side="right")) - 1],
        return_dtype=pl.String,
    )
    return people.with_columns(age=band).drop("age_years")


def subgroups(rows: pl.DataFrame, divided: Sequence[str] = ("tune", "test")) -> Iterator[Subgroup]:
    """Each part as a whole, then those `divided` trait by trait where their rows have several values of it; a row whose trait is not known
    is in no subgroup."""
    for part in ("tune", "test"):
        of_part = rows.filter(pl.col("part") == part)
        yield Subgroup(part, ALL, ALL, of_part)
        for trait in TRAITS if part in divided else ():
            values = of_part[trait].drop_nulls().unique().sort() if trait in of_part.columns else []
            for value in values if len(values) > 1 else []:
                yield Subgroup(part, trait, value, of_part.filter(pl.col(trait) == value))


def cells(rows: pl.DataFrame) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """part, source, rows: each part as a whole, then source by source where there are several with enough patients."""
    for cell in subgroups(rows.select(pl.exclude("sex", "age", "view"))):
        if cell.rows.height and (cell.by == ALL or cell.rows["group"].n_unique() >= FEW_PATIENTS):
            yield cell.part, cell.subgroup, cell.rows


def estimate(
    settings: Evaluate,
    rows: pl.DataFrame,
    statistics: Sequence[Callable[[np.ndarray], float]],
    about: Sequence[dict[str, Any]],
    whys: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """The figures of `statistics`, each of which is given row numbers; `about` says what each is, `whys` why its value is nan, where it is."""
    found = bootstrap.bootstrap_many(
        statistics,
        rows["group"].to_list(),
        resamples=settings.bootstrap,
        confidence=settings.confidence,
        seed=settings.seed,
    )
    held = counts(rows)
    return [
        {**told, **_told(one, held["patients"], why), **held}
        for one, told, why in zip_longest(found, about, whys, fillvalue="")
    ]


def means(
    settings: Evaluate,
    rows: pl.DataFrame,
    values: Mapping[str, np.ndarray],
    about: Mapping[str, Any],
    reasons: Mapping[str, np.ndarray],
) -> Iterator[dict[str, Any]]:
    """Yield the mean of each metric over the rows in which it has a value, and say which have none.

    `values`: by metric, an array (rows,), nan where it has no value. `reasons`: by words, which rows
    lack values for that reason, bool (rows,). `images` and `patients` count the rows that the mean is
    of; `warning` says how many there are and why others are left out.
    """
    defined = {metric: ~np.isnan(of) for metric, of in values.items()}
    found: dict[str, dict[str, Any]] = {}
    for kept in {of.tobytes(): of for of in defined.values()}.values():
        names = [metric for metric, of in defined.items() if np.array_equal(of, kept)]
        told = {**about, "warning": _left_out(kept, reasons)}
        some = rows.filter(pl.Series(kept, dtype=pl.Boolean))
        if not some.height:
            found |= {
                name: no_estimate(some, float("nan"), why=told["warning"], **told) for name in names
            }
            continue
        statistics = [partial(_mean, values[name][kept]) for name in names]
        found |= zip(names, estimate(settings, some, statistics, [told] * len(names)), strict=True)
    yield from ({**found[metric], "metric": metric} for metric in values)


def _mean(values: np.ndarray, rows: np.ndarray) -> float:
    return float(values[rows].mean())


def _left_out(kept: np.ndarray, reasons: Mapping[str, np.ndarray]) -> str:
    """Words on the rows that a mean is not of; empty where it is of all."""
    if kept.all():
        return ""
    told, rest = [], ~kept
    for words, rows in reasons.items():
        if count := np.count_nonzero(rest & rows):
            told.append(f"in {count} {words}")
        rest = rest & ~rows
    if count := np.count_nonzero(rest):
        told.append(f"in {count} for a reason that is not known")
    return f"mean of {np.count_nonzero(kept)} of {kept.size} images: {', '.join(told)}"


def _told(found: bootstrap.Interval, patients: int, why: str) -> dict[str, Any]:
    if np.isnan(found.value):
        return {**found._asdict(), "reason": why or "undefined here"}
    if np.isnan(found.ci_low):
        return {
            **found._asdict(),
            "reason": "fewer than two patients"
            if patients < 2
            else f"undefined in over {bootstrap.MAX_UNDEFINED:.0%} of the resamples",
        }
    if (
        found.ci_low == found.value == found.ci_high
    ):  # as of 2 out of 2: a resample can show nothing but what is there
        return {
            **found._asdict(),
            "ci_low": float("nan"),
            "ci_high": float("nan"),
            "reason": "the same in every resample, which says nothing of other patients",
        }
    return {**found._asdict(), "reason": ""}


def no_estimate(rows: pl.DataFrame, value: float, *, why: str = "", **about: Any) -> dict[str, Any]:
    """A figure without an interval, because none belongs to it or there is no value."""
    return {
        **about,
        "value": value,
        "ci_low": float("nan"),
        "ci_high": float("nan"),
        "n_undefined": 0,
        **counts(rows),
        "reason": why,
    }


def counts(rows: pl.DataFrame) -> dict[str, int | None]:
    positives = int((rows["state"] == State.PRESENT).sum()) if "state" in rows.columns else None
    return {"images": rows.height, "patients": rows["group"].n_unique(), "positives": positives}


def one_class(rows: pl.DataFrame) -> str:
    """Which class has no row, in words; empty where both have some."""
    positives = int((rows["state"] == State.PRESENT).sum())
    if not rows.height:
        return "no image with a known label"
    return (
        "no positive image"
        if not positives
        else "no negative image"
        if positives == rows.height
        else ""
    )


def too_small(rows: pl.DataFrame) -> str:
    """Why a subgroup is too small to tell anything, in words; empty where it is not."""
    patients, positives = rows["group"].n_unique(), int((rows["state"] == State.PRESENT).sum())
    negatives = rows.height - positives
    if patients >= FEW_PATIENTS and min(positives, negatives) >= FEW_OF_A_CLASS:
        return ""
    return f"too few to tell: {patients} patient{'s' * (patients != 1)}, {positives} positive and {negatives} negative image{'s' * (negatives != 1)}"
