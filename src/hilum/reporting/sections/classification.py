"""A scored stage (finding or anomaly): curves, figures with their intervals, the threshold and where it came from, and images to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from hilum.annotations.vocabulary import State, name_of
from hilum.config import Evaluate
from hilum.drawing import charts, images
from hilum.pipeline.cache import Cache
from hilum.pipeline.crop import Crops
from hilum.pipeline.evaluation.estimate import ALL, MACRO, MICRO
from hilum.pipeline.evaluation.measures import AT_PREVALENCE, REOPTIMISED, WITHIN_FOLDS
from hilum.reporting.sections import calibration, text
from hilum.statistics import sample_size
from hilum.statistics.metrics import discrimination

SHOWN = 4  # images of a gallery
OF_SUBGROUPS = ("auroc", "sensitivity", "specificity")
WORDS = {
    State.PRESENT: "present",
    State.ABSENT: "absent",
    State.UNCERTAIN: "uncertain",
    None: "not mentioned",
}
TRAITS = {"source": "source", "sex": "sex", "age": "age, years", "view": "view"}


def section(
    stage: str,
    rows: pl.DataFrame,
    metrics: pl.DataFrame,
    fitted: Mapping[str, Any],
    concept: str,
    settings: Evaluate,
) -> dict[str, Any]:
    """`rows` of labelled images (`hilum.pipeline.truth.with_known_state`), with what was carried over to them (`hilum.pipeline.evaluation.classification.transfer`), not empty in the test part;
    `fitted` what was chosen on their tune part, see `hilum.statistics.calibration.as_json`, or of a cross-validated run on the pooled scores."""
    test, tune = (rows.filter(pl.col("part") == part) for part in ("test", "tune"))
    of_stage = metrics.filter(pl.col("task") == stage)
    of_concept = of_stage.filter(pl.col("concept") == concept)
    name, pooled = name_of(concept).lower(), rows["fold"].count() > 0
    threshold, chosen = None if pooled else fitted["threshold"], not test["called"].is_nan().all()
    return {
        "finding": name,
        "figures": _figures(of_concept),
        "thresholds": _thresholds(of_concept, settings.prevalence),
        "subgroups": _subgroups(of_concept),
        "no_interval": text.NO_INTERVAL,
        "subgroup_heads": [text.TERMS[metric].name for metric in OF_SUBGROUPS],
        "concepts": _concepts(of_stage),
        "cannot_tell": _cannot_tell(of_concept, settings.confidence),
        "pooled": pooled,
        "roc": _roc(test, tune),
        "recall": _precision_recall(test, tune),
        "histogram": _histogram(test, threshold, name),
        "threshold": text.DASH if fitted["threshold"] is None else f"{fitted['threshold']:.4g}",
        "uncalled": int(test["called"].is_nan().sum()),
        "tune": _classes(tune),
        "test": _classes(test),
        "calls": _calls(test) if chosen else None,
        "calibration": calibration.section(test, of_concept, fitted),
    }


def _whole(of_concept: pl.DataFrame) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (row["part"], row["metric"]): row
        for row in of_concept.filter(pl.col("by") == ALL).iter_rows(named=True)
    }


def _figures(of_concept: pl.DataFrame) -> list[dict[str, Any]]:
    """The figures of the test part as a whole, with tune's beside them."""
    whole = _whole(of_concept)
    told = []
    shown = (
        *discrimination.METRICS,
        *([WITHIN_FOLDS] if ("test", WITHIN_FOLDS) in whole else []),
        *discrimination.METRICS_AT,
    )
    for metric in shown:
        test, tune = whole["test", metric], whole.get(("tune", metric))
        written = text.interval(test, metric)
        bar = (
            charts.interval(test["value"], test["ci_low"], test["ci_high"], alt_text=written)
            if not np.isnan(test["value"])
            else ""
        )
        delong = metric == "auroc" and not np.isnan(test["delong_low"])
        told.append(
            {
                "term": text.TERMS[metric],
                "test": written,
                "bar": bar,
                "tune": text.interval(tune, metric) if tune else text.DASH,
                "warning": test["warning"],
                "delong": f"DeLong: {text.number(test['delong_low'])} to {text.number(test['delong_high'])}"
                if delong
                else "",
            }
        )
    return told


def _thresholds(of_concept: pl.DataFrame, prevalence: float) -> dict[str, Any]:
    """Figures at the threshold that was carried over, and at the one that would have been best on the test part itself."""
    whole = _whole(of_concept)
    rows = [
        {
            "name": text.TERMS[metric].name,
            "carried": text.interval(whole["test", metric], metric),
            "retuned": text.interval(whole["test", metric + REOPTIMISED], metric),
        }
        for metric in discrimination.METRICS_AT
    ]
    for metric in ("ppv", "npv"):
        if given := whole.get(("test", metric + AT_PREVALENCE)):
            rows.append(
                {
                    "name": f"{text.TERMS[metric].name} at a prevalence of {prevalence:.3g}",
                    "carried": text.interval(given, metric),
                    "retuned": text.DASH,
                }
            )
    chosen = [whole["test", metric] for metric in ("threshold", "threshold" + REOPTIMISED)]
    return {
        "rows": rows,
        "chosen": [
            row["reason"] or text.DASH if np.isnan(row["value"]) else f"{row['value']:.4g}"
            for row in chosen
        ],
    }


def _subgroups(of_concept: pl.DataFrame) -> list[dict[str, Any]]:
    """The test part trait by trait, each subgroup with its warning where it is too small."""
    rows = of_concept.filter((pl.col("part") == "test") & (pl.col("by") != ALL))
    told = []
    for (by, subgroup), of_subgroup in rows.group_by("by", "subgroup", maintain_order=True):
        of = {row["metric"]: row for row in of_subgroup.iter_rows(named=True)}
        about = {key: of["auroc"][key] for key in ("images", "patients", "positives", "warning")}
        told.append(
            {
                "trait": TRAITS[by],
                "name": subgroup,
                **about,
                "cells": [
                    text.interval(of[metric], metric, reason=False) for metric in OF_SUBGROUPS
                ],
            }
        )
    return told


def _concepts(of_stage: pl.DataFrame) -> list[dict[str, Any]]:
    """All findings of the stage and the averages over them, in the test part; empty where there is but one finding."""
    rows = of_stage.filter(
        (pl.col("part") == "test")
        & (pl.col("by") == ALL)
        & pl.col("metric").is_in(list(discrimination.METRICS))
    )
    told = []
    for (concept,), of_concept in rows.group_by("concept", maintain_order=True):
        of = {row["metric"]: row for row in of_concept.iter_rows(named=True)}
        name = f"{concept.capitalize()} average" if concept in (MACRO, MICRO) else name_of(concept)
        about = {key: of["auroc"][key] for key in ("images", "positives", "warning")}
        told.append(
            {
                "name": name,
                **about,
                "cells": [text.interval(of[metric], metric) for metric in discrimination.METRICS],
            }
        )
    return told if len(told) > 1 else []


def _cannot_tell(of_concept: pl.DataFrame, confidence: float) -> list[str]:
    """What a test part of this size cannot tell, by the variance of such an AUROC, whatever the bootstrap found here."""
    found = _whole(of_concept)["test", "auroc"]
    positives, negatives = found["positives"], found["images"] - found["positives"]
    told = [sample_size.sentence(found["value"], positives, negatives, confidence=confidence)]
    if not np.isnan(found["value"]) and positives and negatives:
        expected = max(found["value"], 1 - found["value"], 0.5)
        reach = sample_size.half_width(expected, positives, negatives, confidence=confidence)
        told.append(
            f"in {100 * confidence:g} of 100 such test parts the AUROC lies within about {reach:.2f} of the true one, where that is {expected:.2f}"
        )
    if found["patients"] < found["images"]:
        told.append(
            f"the {text.plural(found['images'], 'image')} are of {text.plural(found['patients'], 'patient')}, so even less can be told"
        )
    return [f"{line[0].upper()}{line[1:]}." for line in told if line]


def _values(rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return rows["state"].to_numpy(), rows["score"].to_numpy()


def _classes(rows: pl.DataFrame) -> dict[str, int]:
    positives = (rows["state"] == State.PRESENT).sum()
    return {"images": rows.height, "positives": positives, "negatives": rows.height - positives}


def _calls(rows: pl.DataFrame) -> dict[str, int]:
    rows = rows.filter(pl.col("called").is_not_nan())
    truth, called = rows["state"] == State.PRESENT, rows["called"] == 1
    pairs = {
        "true_positive": truth & called,
        "false_negative": truth & ~called,
        "false_positive": ~truth & called,
        "true_negative": ~truth & ~called,
    }
    return {name: cell.sum() for name, cell in pairs.items()}


def _both_classes(rows: pl.DataFrame) -> bool:
    return rows["state"].n_unique() == 2


def _operating_points(test: pl.DataFrame) -> list[tuple[str, np.ndarray, np.ndarray, int]]:
    """Return name, truth, calls and colour of the carried and of the re-tuned threshold's calls."""
    truth, score = _values(test)
    called = test.filter(pl.col("called").is_not_nan())
    points = (
        [("carried threshold", called["state"].to_numpy(), called["called"].to_numpy(), 1)]
        if called.height
        else []
    )
    return [
        *points,
        (
            "re-tuned on test",
            truth,
            (score >= discrimination.youden_threshold(truth, score)).astype(float),
            2,
        ),
    ]


def _roc(test: pl.DataFrame, tune: pl.DataFrame) -> Markup | None:
    """None where a class is missing: there is no curve then."""
    if not _both_classes(test):
        return None
    lines = [charts.Line("chance", (0, 1), (0, 1), colour=2, dashed=True)]
    for name, rows in (("tune", tune), ("test", test)):
        if _both_classes(rows):
            false, true, _ = discrimination.roc_curve(*_values(rows))
            lines.append(
                charts.Line(
                    f"{name}, AUROC {discrimination.auroc(*_values(rows)):.3f}",
                    false,
                    true,
                    colour=2 * (name == "tune"),
                    faint=name == "tune",
                )
            )
    points = []
    for name, truth, called, colour in _operating_points(test):
        sensitivity, specificity = (
            metric(truth, called, 0.5)
            for metric in (discrimination.sensitivity, discrimination.specificity)
        )
        if not np.isnan(sensitivity + specificity):
            points.append(
                charts.Point(
                    f"{name}: sensitivity {sensitivity:.3f}, specificity {specificity:.3f}",
                    1 - specificity,
                    sensitivity,
                    colour,
                )
            )
    told = f"ROC curve of the test part. {'; '.join(shown.name for shown in (lines[-1], *points))}."
    return charts.unit_square(
        lines[::-1],
        points,
        x="1 − specificity (share of the absent called positive)",
        y="Sensitivity",
        alt_text=told,
    )


def _precision_recall(test: pl.DataFrame, tune: pl.DataFrame) -> Markup | None:
    if not _both_classes(test):
        return None
    prevalence = float(_values(test)[0].mean())
    lines = [
        charts.Line(
            f"chance: the prevalence, {prevalence:.3f}",
            (0, 1),
            (prevalence, prevalence),
            colour=2,
            dashed=True,
        )
    ]
    for name, rows in (("tune", tune), ("test", test)):
        if _both_classes(rows):
            precision, recall, _ = discrimination.precision_recall_curve(*_values(rows))
            # Steps: average precision counts the precision at a score for all the recall gained there.
            stairs = np.repeat(np.concatenate([[0.0], recall]), 2)[1:-1]
            average = discrimination.average_precision(*_values(rows))
            faint = name == "tune"
            lines.append(
                charts.Line(
                    f"{name}, average precision {average:.3f}",
                    stairs,
                    np.repeat(precision, 2),
                    colour=2 * faint,
                    faint=faint,
                )
            )
    points = []
    for name, truth, called, colour in _operating_points(test)[:-1]:
        ppv, there = (
            discrimination.ppv(truth, called, 0.5),
            discrimination.sensitivity(truth, called, 0.5),
        )
        if not np.isnan(ppv + there):
            points.append(
                charts.Point(
                    f"{name}: PPV {ppv:.3f}, recall {there:.3f}", there, ppv, colour=colour
                )
            )
    told = (
        f"Precision-recall curve of the test part. {lines[-1].name}; prevalence {prevalence:.3f}."
    )
    return charts.unit_square(
        lines[::-1], points, x="Recall (sensitivity)", y="Precision (PPV)", alt_text=told
    )


def _histogram(test: pl.DataFrame, threshold: float | None, name: str) -> Markup:
    named = {f"{name} present": State.PRESENT, f"{name} absent": State.ABSENT}
    groups = {
        label: test.filter(pl.col("state") == state)["score"].to_numpy()
        for label, state in named.items()
    }
    told = "; ".join(
        f"{label}: median score {np.median(values):.3g}"
        for label, values in groups.items()
        if values.size
    )
    return charts.histograms(
        groups,
        x="Score",
        y="Images",
        alt_text=f"Histograms of the score in the test part. {told}.",
        mark=None if threshold is None else (threshold, "threshold"),
    )


# ------------------------------------------------------------------------------------------------------------------ images to look at


def mistakes(
    rows: pl.DataFrame,
    cached: Cache,
    regions: Callable[[pl.Series], Crops],
    readings: Mapping[str, str | None],
) -> list[dict[str, Any]]:
    """The test images that are called wrongly, of either kind, those of the most extreme score first; none without a threshold. `regions` gives
    those of some image ids."""
    test, galleries = rows.filter((pl.col("part") == "test") & pl.col("called").is_not_nan()), []
    kinds = (
        (
            "Absent, but scored highest",
            test.filter((pl.col("state") == State.ABSENT) & (pl.col("called") == 1)),
            True,
        ),
        (
            "Present, but scored lowest",
            test.filter((pl.col("state") == State.PRESENT) & (pl.col("called") == 0)),
            False,
        ),
    )
    if not test.height:
        return []
    for name, wrong, descending in kinds:
        worst = wrong.sort("score", "image_id", descending=[descending, False]).head(SHOWN)
        shown = [
            _seen(row, cached, regions(worst["image_id"]), readings)
            for row in worst.iter_rows(named=True)
        ]
        galleries.append({"name": name, "count": wrong.height, "shown": shown})
    return galleries


def _seen(
    row: Mapping[str, Any], cached: Cache, regions: Crops, readings: Mapping[str, str | None]
) -> dict[str, Any]:
    image_id = row["image_id"]
    cut = regions.index.row(by_predicate=pl.col("image_id") == image_id, named=True)
    box = images.Box(cut["top"], cut["left"], cut["bottom"], cut["right"])
    drawn = images.image(
        cached.images[cached.rows([image_id])[0]],
        alt_text=f"radiograph {image_id}, score {row['score']:.3g}",
        box=box,
    )
    return {
        "image_id": image_id,
        "picture": drawn,
        "score": f"{row['score']:.3g}",
        "reading": text.cut(readings[image_id]),
    }


def heat_maps(
    scores: pl.DataFrame,
    table: pl.DataFrame,
    maps: np.ndarray,
    regions: Callable[[pl.Series], Crops],
) -> dict[str, Any]:
    """Anomaly maps over the regions of the highest-scoring test images, and of normal ones of middling score.

    One colour scale for all: black-red-yellow from the median to the 99.9th percentile of the test part's map values.
    """
    rows = (
        scores.filter(pl.col("task") == "anomaly")
        .with_row_index("map")
        .filter(pl.col("part") == "test")
    )
    rows = rows.join(table.select("image_id", "state"), on="image_id", maintain_order="left")
    low, high = np.percentile(maps[rows["map"].to_numpy()].astype(np.float32), (50, 99.9))
    highest = rows.sort("score", "image_id", descending=[True, False]).head(SHOWN)
    normal = rows.filter(pl.col("state") == State.ABSENT).sort("score", "image_id")
    middle = max((normal.height - SHOWN) // 2, 0)
    galleries = {
        "Highest scores of the test part": highest,
        "Normal images of middling score": normal.slice(middle, SHOWN),
    }
    scale = float(max(high - low, 1e-6))
    return {
        "ci_low": f"{low:.3g}",
        "ci_high": f"{high:.3g}",
        "galleries": [
            {
                "name": name,
                "shown": [
                    _heated(
                        row,
                        (maps[row["map"]].astype(np.float32) - low) / scale,
                        regions(chosen["image_id"]),
                    )
                    for row in chosen.iter_rows(named=True)
                ],
            }
            for name, chosen in galleries.items()
            if chosen.height
        ],
    }


def _heated(row: Mapping[str, Any], strength: np.ndarray, regions: Crops) -> dict[str, Any]:
    region = regions.images[regions.rows(pl.Series([row["image_id"]]))[0]]
    told = f"lung region of {row['image_id']} under its anomaly map, score {row['score']:.3g}"
    drawn = images.image(images.heat(region, strength), alt_text=told)
    plain = images.image(region, alt_text=f"lung region of {row['image_id']}")
    return {
        "image_id": row["image_id"],
        "picture": drawn,
        "plain": plain,
        "score": f"{row['score']:.3g}",
        "state": WORDS[row["state"]],
    }
