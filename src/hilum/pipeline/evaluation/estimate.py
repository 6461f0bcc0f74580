"""One row of `metrics.parquet`: the value of one metric on some rows, with its interval.

task, concept      what was measured; concept is a concept id, `MACRO` or `MICRO` (averages over
                   concepts), or "" of lungs
part               tune or test
source             `ALL`, a source, or null where `by` is another trait
by, subgroup       `ALL`, `ALL`; or the trait (source, sex, age, view) and its value
side               of lungs: both, right, left; else ""
grid               of lungs: the pixels measured in, cached or file; else ""
metric, value      nan: undefined
ci_low, ci_high    bootstrap over patients; nan: no interval can be given
delong_low, delong_high   of an AUROC also DeLong's interval (Obuchowski's where patients have
                   several images); else null
images, patients, positives, n_undefined   rows with a value, their patients, rows with the finding,
                   resamples without a value
missed             of lungs: images in which a lung of the reference mask was not found at all,
                   with a value or without; else null
reason             why there is no value or no interval; else ""
warning            why the value must not be relied on although there is one; else ""
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import numpy as np
import polars as pl

from hilum.annotations.vocabulary import State
from hilum.config import Evaluate
from hilum.statistics import bootstrap, weighted

ALL, MACRO, MICRO = "all", "macro", "micro"
FEW_PATIENTS = 20  # a subgroup of fewer is too small for a figure that means anything
FEW_OF_A_CLASS = 5  # likewise images of a class
NAN = float("nan")
# The first year of each band of age.
BANDS = {"0 to 17": 0, "18 to 39": 18, "40 to 59": 40, "60 to 79": 60, "80 and over": 80}
TRAITS = ("source", "sex", "age", "view")
ESTIMATE = {
    **dict.fromkeys(
        ("task", "concept", "part", "source", "by", "subgroup", "side", "grid", "metric"),
        pl.String,
    ),
    **dict.fromkeys(("value", "ci_low", "ci_high", "delong_low", "delong_high"), pl.Float64),
    **dict.fromkeys(("images", "patients", "positives", "missed", "n_undefined"), pl.Int64),
    **dict.fromkeys(("reason", "warning"), pl.String),
}


class EstimateRow(TypedDict, total=False):
    """One row of `metrics.parquet`, whole or in the making; the columns are those of `ESTIMATE`."""

    task: str
    concept: str
    part: str
    source: str | None
    by: str
    subgroup: str | None
    side: str
    grid: str
    metric: str
    value: float
    ci_low: float
    ci_high: float
    delong_low: float
    delong_high: float
    images: int
    patients: int
    positives: int | None
    missed: int
    n_undefined: int
    reason: str
    warning: str


class Subgroup(NamedTuple):
    """Rows of one part: all, or those with one value of a trait."""

    part: str
    by: str
    subgroup: str
    rows: pl.DataFrame

    @property
    def place(self) -> EstimateRow:
        """Return the columns that identify the subgroup."""
        source = self.subgroup if self.by in (ALL, "source") else None
        return place(self.part, source, self.by, self.subgroup)


def place(
    part: str, source: str | None, by: str | None = None, subgroup: str | None = None
) -> EstimateRow:
    """Return the columns that identify a subgroup; by default the source, or all sources."""
    return {
        "part": part,
        "source": source,
        "by": by or (ALL if source == ALL else "source"),
        "subgroup": subgroup or source,
    }


def banded(people: pl.DataFrame) -> pl.DataFrame:
    """Replace the column `age_years` by `age`, the name of its band in BANDS; null stays null."""
    years = pl.col("age_years")
    band = pl.lit(None, pl.String)
    for name, first in BANDS.items():
        band = pl.when(years >= first).then(pl.lit(name)).otherwise(band)
    return people.with_columns(age=band).drop("age_years")


def subgroups(rows: pl.DataFrame, divided: Sequence[str] = ("tune", "test")) -> Iterator[Subgroup]:
    """Yield each part as a whole, then the parts `divided` trait by trait.

    Traits of which a part has one value are left out; a row without a trait is in no subgroup of
    it.
    """
    for part in ("tune", "test"):
        of_part = rows.filter(pl.col("part") == part)
        yield Subgroup(part, ALL, ALL, of_part)
        for trait in TRAITS if part in divided else ():
            values = of_part[trait].drop_nulls().unique().sort() if trait in of_part.columns else []
            for value in values if len(values) > 1 else []:
                yield Subgroup(part, trait, value, of_part.filter(pl.col(trait) == value))


def cells(rows: pl.DataFrame) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """Yield part, source and rows: each part as a whole, then each source with enough patients."""
    for cell in subgroups(rows.select(pl.exclude("sex", "age", "view"))):
        if cell.rows.height and (cell.by == ALL or cell.rows["group"].n_unique() >= FEW_PATIENTS):
            yield cell.part, cell.subgroup, cell.rows


def estimate(
    settings: Evaluate,
    rows: pl.DataFrame,
    statistics: Sequence[Callable[[np.ndarray], float]],
    about: Sequence[EstimateRow],
    reasons: Sequence[str] = (),
) -> list[EstimateRow]:
    """Return value and interval of each of `statistics`, functions of row numbers.

    `about` says what each is; `reasons` why it has no value, used where it has none.
    """
    found = bootstrap.bootstrap_many(
        statistics,
        numbers(rows),
        resamples=settings.bootstrap,
        confidence=settings.confidence,
        seed=settings.seed,
    )
    held = counts(rows)
    patients = rows["group"].n_unique()
    estimates: list[EstimateRow] = []
    for interval, what, reason in zip(
        found, about, [*reasons, *[""] * (len(about) - len(reasons))], strict=True
    ):
        estimates.append({**what, **_with_reason(interval, patients, reason), **held})
    return estimates


def numbers(rows: pl.DataFrame) -> np.ndarray:
    """Return the number of each row's patient in the order of their names, (rows,)."""
    return rows["group"].rank("dense").to_numpy()


def means(
    settings: Evaluate,
    rows: pl.DataFrame,
    values: Mapping[str, np.ndarray],
    about: EstimateRow,
    reasons: Mapping[str, np.ndarray],
) -> Iterator[EstimateRow]:
    """Yield the mean of each metric over the rows in which it has a value, and say which have none.

    `values`: by metric, an array (rows,), nan where it has no value. `reasons`: by words, which
    rows lack values for that reason, bool (rows,). `images` and `patients` count the rows that
    the mean is of; `warning` says how many there are and why others are left out.
    """
    defined = {metric: ~np.isnan(of) for metric, of in values.items()}
    found: dict[str, EstimateRow] = {}
    # Metrics that are defined on the same rows are resampled together, in one bootstrap.
    for kept in {of.tobytes(): of for of in defined.values()}.values():
        names = [metric for metric, of in defined.items() if np.array_equal(of, kept)]
        warning = _left_out(kept, reasons)
        of_these: EstimateRow = {**about, "warning": warning}
        some = rows.filter(pl.Series(kept, dtype=pl.Boolean))
        if not some.height:
            empty = no_estimate(of_these, some, NAN, warning)
            found.update(dict.fromkeys(names, empty))
            continue
        statistics = [_Mean(values[name][kept]) for name in names]
        figures = estimate(settings, some, statistics, [of_these] * len(names))
        found.update(zip(names, figures, strict=True))
    for metric in values:
        yield {**found[metric], "metric": metric}


@dataclass(frozen=True)
class _Mean:
    """The mean of values (rows,), as a statistic of row numbers."""

    values: np.ndarray

    def __call__(self, rows: np.ndarray) -> float:
        return float(self.values[rows].mean())

    def weighted(self, patient_of_row: np.ndarray, patients: int) -> bootstrap.Linear:
        return weighted.mean(self.values, patient_of_row, patients)


def _left_out(kept: np.ndarray, reasons: Mapping[str, np.ndarray]) -> str:
    """Say which rows a mean leaves out; "" where it is over all."""
    if kept.all():
        return ""
    words, rest = [], ~kept
    for reason, rows in reasons.items():
        if count := np.count_nonzero(rest & rows):
            words.append(f"in {count} {reason}")
        rest = rest & ~rows
    if count := np.count_nonzero(rest):
        words.append(f"in {count} for a reason that is not known")
    return f"mean of {np.count_nonzero(kept)} of {kept.size} images: {', '.join(words)}"


def _with_reason(found: bootstrap.Interval, patients: int, reason: str) -> EstimateRow:
    """Return an interval as columns, and the reason why there is no value or no interval."""
    row: EstimateRow = {
        "value": found.value,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "n_undefined": found.n_undefined,
        "reason": "",
    }
    if np.isnan(found.value):
        row["reason"] = reason or "undefined here"
    elif np.isnan(found.ci_low):
        row["reason"] = (
            "fewer than two patients"
            if patients < 2
            else f"undefined in over {bootstrap.MAX_UNDEFINED:.0%} of the resamples"
        )
    elif found.ci_low == found.value == found.ci_high:
        # As of 2 of 2 images: a resample can only repeat what is there.
        row["ci_low"] = row["ci_high"] = NAN
        row["reason"] = "the same in every resample, which says nothing of other patients"
    return row


def no_estimate(about: EstimateRow, rows: pl.DataFrame, value: float, why: str = "") -> EstimateRow:
    """Return a row without an interval: none belongs to the value, or there is no value."""
    return {
        **about,
        "value": value,
        "ci_low": NAN,
        "ci_high": NAN,
        "n_undefined": 0,
        **counts(rows),
        "reason": why,
    }


def counts(rows: pl.DataFrame) -> EstimateRow:
    """Count images, patients and, where rows have a `state`, images with the finding."""
    positives = int((rows["state"] == State.PRESENT).sum()) if "state" in rows.columns else None
    return {"images": rows.height, "patients": rows["group"].n_unique(), "positives": positives}


def one_class(rows: pl.DataFrame) -> str:
    """Say which class has no row; "" where both have some."""
    positives = int((rows["state"] == State.PRESENT).sum())
    if not rows.height:
        return "no image with a known label"
    if not positives:
        return "no positive image"
    return "no negative image" if positives == rows.height else ""


def too_small(rows: pl.DataFrame) -> str:
    """Say that a subgroup is too small for a reliable figure; "" where it is not."""
    patients, positives = rows["group"].n_unique(), int((rows["state"] == State.PRESENT).sum())
    negatives = rows.height - positives
    if patients >= FEW_PATIENTS and min(positives, negatives) >= FEW_OF_A_CLASS:
        return ""
    return (
        f"too few: {patients} patient{'s' * (patients != 1)}, {positives} positive and "
        f"{negatives} negative image{'s' * (negatives != 1)}"
    )
