"""Compare two runs' figures on the test images that both have, with tests of their difference.

Rows are joined on image_id, task and concept, so that both runs are measured on the same images
with the same truth: images whose truth or whose pixels differ between the two are left out, and
counted; where none is left it refuses. Each model is called at the threshold of its own tune part.
The test images of a cross-validated run are all its images, each scored and called by the models of
its fold. Where both runs leave sources out, what they are worth there is compared too.

AUROC: DeLong's paired test (Obuchowski's where patients have several images); sensitivity,
specificity and accuracy: McNemar's exact test where each patient has one image; the rest, and all
intervals but AUROC's: paired bootstrap over patients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
import polars as pl

from hilum.annotations.vocabulary import State
from hilum.config import Evaluate
from hilum.errors import Mismatch
from hilum.pipeline import cache, evaluate, predict, truth
from hilum.run_folder import Run
from hilum.statistics import auroc_tests
from hilum.statistics.metrics import calibration as calibrated
from hilum.statistics.metrics import discrimination

DASH = "–"
KEYS = ["image_id", "task", "concept"]
CALLED, PROBABILITY = "called", "temperature"  # see `hilum.pipeline.evaluate.transferred`
AT_LEFT_OUT = " at sources left out"  # ends the task of rows of `hilum.pipeline.left_out`
OTHER = "_second"  # ends the names of the second run's columns
COUNTED = {  # by metric: the truth of the rows that it is a fraction of; None: all rows
    "sensitivity": State.PRESENT,
    "specificity": State.ABSENT,
    "accuracy": None,
}
BOOTSTRAP, MCNEMAR, DELONG = "bootstrap over patients", "McNemar, exact", "DeLong"
COMPARED = {
    **dict.fromkeys(("task", "concept", "metric"), pl.String),
    **dict.fromkeys(("images", "patients", "positives"), pl.Int64),
    **dict.fromkeys(("first", "second", "difference", "ci_low", "ci_high", "p"), pl.Float64),
    **dict.fromkeys(("test", "reason"), pl.String),
}

Statistic = Callable[[np.ndarray], float]  # of row numbers


@dataclass(frozen=True)
class Compared:
    """A metric of both runs: a row of `COMPARED`, difference = second - first.

    None where there is no figure at all, nan where it is undefined; `reason` says why.
    """

    metric: str
    first: float | None = None
    second: float | None = None
    difference: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    p: float | None = None
    test: str | None = None
    reason: str = ""
    task: str = ""
    concept: str = ""
    images: int = 0
    patients: int = 0
    positives: int | None = None


@dataclass(frozen=True)
class Comparison:
    """A table with the columns `COMPARED`, and sentences on what was left out of it."""

    table: pl.DataFrame
    notes: list[str]


def compare(first: Run, second: Run) -> Comparison:
    """Compare two finished runs.

    Raises `Mismatch` where they have no test image with the same truth in common.
    """
    settings = first.recipe().evaluate
    rows, notes = _in_common(first, second)
    found, more = _lungs(first, second, settings)
    notes = notes + more
    for (task, concept), some in rows.group_by("task", "concept", maintain_order=True):
        about = Compared(
            "",
            task=str(task),
            concept=str(concept),
            images=some.height,
            patients=some["group"].n_unique(),
            positives=int((some["state"] == State.PRESENT).sum()),
        )
        found += [_about(one, about) for one in _scored(some, settings)]
    if not found:
        raise Mismatch(
            f"{first.folder} and {second.folder} have no test image with a known label in common: "
            f"{'; '.join(notes)}. Compare runs of the same data and split"
        )
    table = [{name: asdict(one)[name] for name in COMPARED} for one in found]
    return Comparison(pl.DataFrame(table, schema=COMPARED), notes)


def _about(one: Compared, about: Compared) -> Compared:
    return replace(
        one,
        task=about.task,
        concept=about.concept,
        images=about.images,
        patients=about.patients,
        positives=about.positives,
    )


def _in_common(first: Run, second: Run) -> tuple[pl.DataFrame, list[str]]:
    """Return test rows of both runs with the same truth, and what was left out, in sentences.

    Where both runs leave sources out, rows of these follow, with a task of their own.
    """
    one, other = _test(first), _test(second)
    without = [_left_out(run) for run in (first, second)]
    if all(rows.height for rows in without):
        one, other = (pl.concat(both) for both in zip((one, other), without, strict=True))
    both = one.join(other, on=KEYS, how="inner", suffix=OTHER, maintain_order="left")
    notes = []
    for run, mine in ((first, one), (second, other)):
        images = mine["image_id"].n_unique()
        alone = images - mine.join(both, on="image_id", how="semi")["image_id"].n_unique()
        if alone:
            notes.append(
                f"{alone:,} of the {images:,} test images of {run.folder} are not scored alike in "
                "the other run's test part, and are left out"
            )
    pixels, others = pl.col("pixel_digest"), pl.col(f"pixel_digest{OTHER}")
    changed = pixels.is_not_null() & others.is_not_null() & (pixels != others)
    relabelled = pl.col("state").ne_missing(pl.col(f"state{OTHER}"))
    for what, differs in (("pixels", changed), ("labels", relabelled)):
        count = both.filter(differs)["image_id"].n_unique()
        if count:
            notes.append(
                f"{count:,} test images of both runs have different {what} in the two, and are "
                "left out"
            )
    return both.filter(~changed & ~relabelled & (pl.col("state") >= State.ABSENT)), notes


def _test(run: Run) -> pl.DataFrame:
    """Return a run's test rows: KEYS, score, call, probability, group, pixel_digest and state."""
    run.made("evaluate")  # raises with the missing command where the run is not evaluated
    test = run.table("predict", predict.SCORES).filter(pl.col("part") == "test")
    scores = evaluate.transferred(run, test).select(*KEYS, "score", CALLED, PROBABILITY)
    groups = run.table("split", "split.parquet").select("image_id", "group")
    digests = cache.opened(run, run.recipe()).index.select("image_id", "pixel_digest")
    truths = truth.truths(run.manifest(), scores["concept"])
    return (
        scores.join(groups, on="image_id", maintain_order="left")
        .join(digests, on="image_id", how="left", maintain_order="left")
        .join(truths, on=["image_id", "concept"], how="left", maintain_order="left")
    )


def _left_out(run: Run) -> pl.DataFrame:
    """Return the same of a run's sources that were left out, by the models without them."""
    rows = run.table("evaluate", evaluate.LEFT_OUT)
    digests = cache.opened(run, run.recipe()).index.select("image_id", "pixel_digest")
    return (
        rows.with_columns(pl.col("task") + AT_LEFT_OUT)
        .select(*KEYS, "score", CALLED, PROBABILITY, "group", "state")
        .join(digests, on="image_id", how="left", maintain_order="left")
        .select(*KEYS, "score", CALLED, PROBABILITY, "group", "pixel_digest", "state")
    )


def _lungs(first: Run, second: Run, settings: Evaluate) -> tuple[list[Compared], list[str]]:
    """Compare the Dice of both lungs on test images that have one in both runs."""
    groups = first.table("split", "split.parquet").select("image_id", "group")
    of_both = (pl.col("part") == "test") & (pl.col("side") == evaluate.BOTH)
    tables = [run.table("evaluate", evaluate.OVERLAP).filter(of_both) for run in (first, second)]
    one, other = (
        table.select("image_id", "dice").filter(pl.col("dice").is_not_nan()) for table in tables
    )
    both = one.join(other, on="image_id", suffix=OTHER, maintain_order="left")
    both = both.join(groups, on="image_id", maintain_order="left")
    notes = []
    for run, table in zip((first, second), tables, strict=True):
        if alone := table.height - both.height:
            notes.append(
                f"{alone:,} of the {table.height:,} test images of {run.folder} with outlined "
                "lungs have no Dice in both runs, and are left out of it"
            )
    if not both.height:
        return [], notes
    patients = both["group"].to_list()
    dice: list[Statistic] = [
        partial(_mean, both[name].to_numpy()) for name in ("dice", f"dice{OTHER}")
    ]
    found = _bootstrapped("dice", dice, patients, settings)
    return [
        replace(found, task="lungs", images=both.height, patients=both["group"].n_unique())
    ], notes


def _scored(rows: pl.DataFrame, settings: Evaluate) -> Iterator[Compared]:
    truth, patients = rows["state"].to_numpy(), rows["group"].to_list()
    scores, calls, probabilities = (
        [rows[name].to_numpy(), rows[f"{name}{OTHER}"].to_numpy()]
        for name in ("score", CALLED, PROBABILITY)
    )
    first, second = scores
    areas = auroc_tests.area_difference(
        truth, first, second, patients, confidence=settings.confidence
    )
    yield _row("auroc", [discrimination.auroc(truth, score) for score in scores], areas, DELONG)
    precision = _statistics(discrimination.average_precision, truth, scores)
    yield _bootstrapped("average_precision", precision, patients, settings)
    uncalled = max(int(np.isnan(called).sum()) for called in calls)
    for metric in COUNTED:
        if uncalled:
            reason = (
                f"a run chose no threshold on its tune part for {uncalled} of {truth.size} images"
            )
            yield Compared(metric, reason=reason)
        else:
            yield _called(metric, truth, calls, rows["group"], settings)
    if not np.isnan(probabilities).any():
        brier = _statistics(calibrated.brier, truth, probabilities)
        yield _bootstrapped("brier_temperature", brier, patients, settings)


def _called(
    metric: str, truth: np.ndarray, calls: list[np.ndarray], groups: pl.Series, settings: Evaluate
) -> Compared:
    function = partial(discrimination.METRICS_AT[metric], threshold=0.5)  # of calls 0 and 1
    statistics = _statistics(function, truth, calls)
    found = _bootstrapped(metric, statistics, groups.to_list(), settings)
    state = COUNTED[metric]
    counted = np.full(truth.size, True) if state is None else truth == state
    first, second = (called.astype(int)[counted] for called in calls)
    patients = groups.filter(pl.Series(counted)).to_list()
    exact = auroc_tests.mcnemar(truth[counted], first, second, patients)
    return found if np.isnan(exact.p) else replace(found, p=exact.p, test=MCNEMAR)


def _bootstrapped(
    metric: str, statistics: list[Statistic], patients: list[str], settings: Evaluate
) -> Compared:
    first, second = statistics
    found = auroc_tests.bootstrap_difference(
        first,
        second,
        patients,
        resamples=settings.bootstrap,
        confidence=settings.confidence,
        seed=settings.seed,
    )
    everything = np.arange(len(patients))
    return _row(metric, [first(everything), second(everything)], found, BOOTSTRAP)


def _row(metric: str, values: list[float], found: auroc_tests.Difference, test: str) -> Compared:
    return Compared(
        metric=metric,
        first=values[0],
        second=values[1],
        difference=found.value,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        p=found.p,
        test="" if np.isnan(found.p) else test,
        reason=found.reason,
    )


def _statistics(
    metric: Callable[..., float], truth: np.ndarray, values: list[np.ndarray]
) -> list[Statistic]:
    return [partial(_of_rows, metric, truth, one) for one in values]


def _of_rows(
    metric: Callable[..., float], truth: np.ndarray, values: np.ndarray, rows: np.ndarray
) -> float:
    return metric(truth[rows], values[rows])


def _mean(values: np.ndarray, rows: np.ndarray) -> float:
    return float(values[rows].mean())


def lines(comparison: Comparison, first: str, second: str) -> pl.DataFrame:
    """Return the table as text for a terminal: a row for each metric, difference with interval."""
    shown = [
        {
            "task": row["task"],
            "finding": row["concept"] or DASH,
            "metric": row["metric"],
            "images": row["images"],
            "patients": row["patients"],
            first: _number(row["first"]),
            second: _number(row["second"]),
            "difference": _difference(row["difference"], row["ci_low"], row["ci_high"]),
            "p": _p(row["p"]),
            "test": row["test"] or row["reason"],
        }
        for row in comparison.table.iter_rows(named=True)
    ]
    return pl.DataFrame(shown)


def _number(value: float | None) -> str:
    return DASH if value is None or np.isnan(value) else f"{value:.3f}"


def _difference(value: float | None, low: float, high: float) -> str:
    if value is None or np.isnan(value):
        return DASH
    interval = "" if np.isnan(low) else f" ({low:+.3f} to {high:+.3f})"
    return f"{value:+.3f}{interval}"


def _p(p: float | None) -> str:
    if p is None or np.isnan(p):
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
