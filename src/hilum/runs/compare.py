"""Compare: two runs' figures on the test images that both have, and whether they differ by more than chance.

Rows are joined on image_id, stage and concept, so both runs are judged on the same images with the same truth: images whose truth or whose
picture differs between the two are left out, and counted; where none is left it refuses. Each model is called at the threshold of its own
tune part. The test images of a cross-validated run are all its images, each scored and called by the models of its fold. AUROC: DeLong's paired test (Obuchowski's where patients have several images); sensitivity, specificity and accuracy: McNemar's
exact test where each patient has one image; the rest, and all intervals but AUROC's: paired bootstrap over patients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from hilum.annotations.vocabulary import State
from hilum.config import Evaluate
from hilum.errors import Mismatch
from hilum.pipeline import cache, evaluate, predict
from hilum.run_folder import Run
from hilum.statistics import auroc_tests
from hilum.statistics.metrics import calibration as calibrated
from hilum.statistics.metrics import discrimination

KEYS = ["image_id", "task", "concept"]
CARRIED = ("called", "temperature")  # from tune, see `hilum.pipeline.evaluate.transferred`
ENDS = ("", "_second")  # of the columns of the two runs
CALLED = {
    "sensitivity": State.PRESENT,
    "specificity": State.ABSENT,
    "accuracy": None,
}  # by the state of the rows that count
BOOTSTRAP, MCNEMAR, DELONG = "bootstrap over patients", "McNemar, exact", "DeLong"
COMPARED = {
    **dict.fromkeys(("task", "concept", "metric"), pl.String),
    **dict.fromkeys(("images", "patients", "positives"), pl.Int64),
    **dict.fromkeys(("first", "second", "difference", "ci_low", "ci_high", "p"), pl.Float64),
    **dict.fromkeys(("test", "reason"), pl.String),
}


@dataclass(frozen=True)
class Comparison:
    """`table` as `COMPARED`, difference = second - first; `told` says in sentences what was left out and what must be kept in mind."""

    table: pl.DataFrame
    notes: list[str]


def compare(first: Run, second: Run) -> Comparison:
    """Raises `Mismatch` where the runs share no test image with the same truth."""
    settings = first.recipe().evaluate
    rows, told = _shared(first, second)
    lungs, more = _lungs(first, second, settings)
    found, told = lungs, told + more
    for (stage, concept), of in rows.group_by("task", "concept", maintain_order=True):
        about = {"task": stage, "concept": concept, **_counts(of)}
        found += [{**about, **one} for one in _scored(of, settings)]
    if not found:
        raise Mismatch(
            f"{first.folder} and {second.folder} share no test image with a known label: {'; '.join(told)}. Compare runs of the same data and split"
        )
    return Comparison(
        pl.DataFrame(
            [{name: one.get(name) for name in COMPARED} for one in found], schema=COMPARED
        ),
        told,
    )


def _shared(first: Run, second: Run) -> tuple[pl.DataFrame, list[str]]:
    """Test rows of both: KEYS, state, group, score and score_second; and what was left out, in sentences."""
    one, other = _test(first), _test(second)
    both = one.join(other, on=KEYS, how="inner", suffix="_second", maintain_order="left")
    told = []
    for run, mine in ((first, one), (second, other)):
        alone = (
            mine["image_id"].n_unique()
            - mine.join(both, on="image_id", how="semi")["image_id"].n_unique()
        )
        if alone:
            told.append(
                f"{alone:,} of the {mine['image_id'].n_unique():,} test images of {run.folder} are not scored alike in the other run's test part, and are left out"
            )
    repainted = (
        pl.col("picture").is_not_null()
        & pl.col("picture_second").is_not_null()
        & (pl.col("picture") != pl.col("picture_second"))
    )
    differing = {
        "pictures": repainted,
        "labels": pl.col("state").ne_missing(pl.col("state_second")),
    }
    for what, differs in differing.items():
        count = both.filter(differs)["image_id"].n_unique()
        if count:
            told.append(
                f"{count:,} shared test images have different {what} in the two runs, and are left out"
            )
    return both.filter(
        ~repainted
        & pl.col("state").eq_missing(pl.col("state_second"))
        & (pl.col("state") >= State.ABSENT)
    ), told


def _test(run: Run) -> pl.DataFrame:
    run.made("evaluate")  # or say which command is missing
    scores = evaluate.transferred(
        run, run.table("predict", predict.SCORES).filter(pl.col("part") == "test")
    ).select(*KEYS, "score", *CARRIED)
    table, manifest = (
        run.table("split", "split.parquet").select("image_id", "group"),
        run.manifest(),
    )
    index = cache.opened(run, run.recipe()).index.select("image_id", picture="pixel_digest")
    told = scores.join(table, on="image_id", maintain_order="left").join(
        index, on="image_id", how="left", maintain_order="left"
    )
    return told.join(
        evaluate.truths(manifest, scores["concept"]),
        on=["image_id", "concept"],
        how="left",
        maintain_order="left",
    )


def _counts(rows: pl.DataFrame) -> dict[str, int]:
    return {
        "images": rows.height,
        "patients": rows["group"].n_unique(),
        "positives": int((rows["state"] == State.PRESENT).sum()),
    }


def _lungs(first: Run, second: Run, settings: Evaluate) -> tuple[list[dict[str, Any]], list[str]]:
    """Dice of both lungs on the test images that have one in both runs; and what was left out."""
    groups = first.table("split", "split.parquet").select("image_id", "group")
    of_both = (pl.col("part") == "test") & (pl.col("side") == evaluate.BOTH)
    tables = [run.table("evaluate", evaluate.OVERLAP).filter(of_both) for run in (first, second)]
    one, other = (
        table.select("image_id", "dice").filter(pl.col("dice").is_not_nan()) for table in tables
    )
    both = one.join(other, on="image_id", suffix="_second", maintain_order="left")
    both = both.join(groups, on="image_id", maintain_order="left")
    told = []
    for run, table in zip((first, second), tables, strict=True):
        if alone := table.height - both.height:
            told.append(
                f"{alone:,} of the {table.height:,} test images of {run.folder} with outlined lungs have "
                "no Dice in both runs, and are left out of it"
            )
    if not both.height:
        return [], told
    statistics = [partial(_mean, both[name].to_numpy()) for name in ("dice", "dice_second")]
    about = {
        "task": "lungs",
        "concept": "",
        "images": both.height,
        "patients": both["group"].n_unique(),
    }
    compared = _bootstrapped("dice", statistics, both["group"].to_list(), settings)
    return [{**about, "positives": None, **compared}], told


def _scored(rows: pl.DataFrame, settings: Evaluate) -> Iterator[dict[str, Any]]:
    truth, patients = rows["state"].to_numpy(), rows["group"].to_list()
    scores, calls, made = (
        [rows[name + end].to_numpy() for end in ENDS] for name in ("score", *CARRIED)
    )
    areas = auroc_tests.area_difference(truth, *scores, patients, confidence=settings.confidence)
    yield _row("auroc", [discrimination.auroc(truth, score) for score in scores], areas, DELONG)
    yield _bootstrapped(
        "average_precision",
        [partial(_of_rows, discrimination.average_precision, truth, score) for score in scores],
        patients,
        settings,
    )
    lacking = [int(np.isnan(of).sum()) for of in calls]
    for metric in CALLED:
        if any(lacking):
            yield {
                "metric": metric,
                "reason": f"a run chose no threshold on its tune part for {max(lacking)} of {len(truth)} images",
            }
        else:
            yield _called(metric, truth, calls, rows["group"], settings)
    if not np.isnan(made).any():
        yield _bootstrapped(
            "brier_temperature",
            [partial(_of_rows, calibrated.brier, truth, probability) for probability in made],
            patients,
            settings,
        )


def _called(
    metric: str, truth: np.ndarray, called: list[np.ndarray], groups: pl.Series, settings: Evaluate
) -> dict[str, Any]:
    function = partial(discrimination.METRICS_AT[metric], threshold=0.5)
    told = _bootstrapped(
        metric,
        [partial(_of_rows, function, truth, of) for of in called],
        groups.to_list(),
        settings,
    )
    counted = np.full(truth.size, True) if CALLED[metric] is None else truth == CALLED[metric]
    exact = auroc_tests.mcnemar(
        truth[counted],
        *(of.astype(int)[counted] for of in called),
        groups.filter(pl.Series(counted)).to_list(),
    )
    return told if np.isnan(exact.p) else told | {"p": exact.p, "test": MCNEMAR}


def _bootstrapped(
    metric: str, statistics: list[Callable], patients: list[str], settings: Evaluate
) -> dict[str, Any]:
    found = auroc_tests.bootstrap_difference(
        *statistics,
        patients,
        resamples=settings.bootstrap,
        confidence=settings.confidence,
        seed=settings.seed,
    )
    everything = np.arange(len(patients))
    return _row(metric, [statistic(everything) for statistic in statistics], found, BOOTSTRAP)


def _row(
    metric: str, values: list[float], found: auroc_tests.Difference, test: str
) -> dict[str, Any]:
    about = {
        "difference": found.value,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "p": found.p,
    }
    return {
        "metric": metric,
        "first": values[0],
        "second": values[1],
        **about,
        "test": "" if np.isnan(found.p) else test,
        "reason": found.reason,
    }


def _of_rows(metric: Callable, truth: np.ndarray, score: np.ndarray, rows: np.ndarray) -> float:
    return metric(truth[rows], score[rows])


def _mean(values: np.ndarray, rows: np.ndarray) -> float:
    return float(values[rows].mean())


def lines(comparison: Comparison, first: str, second: str) -> pl.DataFrame:
    """The table as text for a terminal: a row a metric, `difference` with its interval."""
    shown = [
        {
            "task": row["task"],
            "finding": row["concept"] or "–",
            "metric": row["metric"],
            "images": row["images"],
            "patients": row["patients"],
            first: _number(row["first"]),
            second: _number(row["second"]),
            "difference": _difference(row),
            "p": _p(row["p"]),
            "test": row["test"] or row["reason"],
        }
        for row in comparison.table.iter_rows(named=True)
    ]
    return pl.DataFrame(shown)


def _number(value: float | None) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.3f}"


def _difference(row: dict[str, Any]) -> str:
    if row["difference"] is None or np.isnan(row["difference"]):
        return "–"
    interval = (
        "" if np.isnan(row["ci_low"]) else f" ({row['ci_low']:+.3f} to {row['ci_high']:+.3f})"
    )
    return f"{row['difference']:+.3f}{interval}"


def _p(p: float | None) -> str:
    return "–" if p is None or np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"
