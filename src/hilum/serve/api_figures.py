"""Routes of figures: the run's own, at any threshold and prevalence, and beside another run's.

Values and intervals are those of `hilum.pipeline.evaluation.classification`, so at the threshold of
the run they are the figures of its report to the last digit. Labels are those of the run: what
readers have changed since counts from the next run on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from urllib.parse import urlencode

import numpy as np
import polars as pl

from hilum.annotations.vocabulary import State, name_of
from hilum.pipeline.evaluation import classification, estimate, measures, selective_measures
from hilum.pipeline.evaluation.estimate import EstimateRow, Subgroup
from hilum.pipeline.evaluation.run_tables import people
from hilum.pipeline.truth import truths
from hilum.run_folder import Run
from hilum.runs import compare as comparing
from hilum.serve import queries
from hilum.serve.desk import SLOW, Desk
from hilum.serve.facts import Facts
from hilum.serve.parameters import Choice, Number, Parameter, Text
from hilum.serve.replies import JSON, Json, Refusal, Reply, as_json
from hilum.serve.routing import Call, Route
from hilum.serve.study import Study
from hilum.statistics import selective
from hilum.statistics.metrics import discrimination

PARTS = ("tune", "test")
PARAMETERS = (
    Parameter("concept", Text(200), "a finding; by default the leading one"),
    Parameter("part", Choice(PARTS), "of the split", default="test"),
    Parameter("threshold", Number(-1e9, 1e9), "by default that of the run"),
    Parameter("prevalence", Number(0.0001, 0.9999), "at which predictive values hold"),
)
_NAMES = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "Positive predictive value",
    "npv": "Negative predictive value",
    "accuracy": "Accuracy",
    "auroc": "AUROC",
}
_AT = {  # name of the metric at a stated prevalence: that at the rows' own
    f"{name}{measures.AT_PREVALENCE}": name for name in ("ppv", "npv")
}
_POINTS = 300  # of a curve


def figures(desk: Desk, call: Call) -> Reply:
    """Answer the figures of one finding."""
    key = ("figures", *(call.values[one.name] for one in PARAMETERS))
    made = desk.answers.get(key, lambda: bytes(as_json(figure_facts(desk, call)).body))
    return Reply(made, JSON)


def figure_facts(desk: Desk, call: Call) -> Facts:
    """Return the figures of one finding of a part, or a message why there are none."""
    study, part = desk.study, call.text("part")
    scores = study.scores().filter(pl.col("task") == "finding")
    concepts = scores["concept"].unique(maintain_order=True).to_list()
    about: Facts = {
        "concepts": [{"id": one, "name": name_of(one)} for one in concepts],
        "parts": sorted(scores["part"].unique().to_list(), reverse=True),
        "part": part,
    }
    if not concepts:
        return {**about, **_NOTHING, "message": _no_scores(study)}
    concept = call.text("concept") or _leading(study, concepts)
    if concept not in concepts:
        raise Refusal(404, f"no model scores '{concept}'", f"choose one of {', '.join(concepts)}")
    rows = labelled(study, concept, part)
    if not rows.height:
        message = f"no {part} image has a known label of {name_of(concept).lower()}"
        return {**about, **_NOTHING, "concept": concept, "message": message}
    return {**about, "concept": concept, **_of_rows(study, rows, concept, call)}


_NOTHING: Facts = {
    **dict.fromkeys(
        ("concept", "threshold", "default_threshold", "prevalence", "observed_prevalence")
    ),
    **dict.fromkeys(("n", "n_positive", "patients", "no_call"), 0),
    **dict.fromkeys(("low_score", "high_score", "point")),
    **dict.fromkeys(("cells", "figures", "roc", "risk_coverage"), ()),
}


def _no_scores(study: Study) -> str:
    return (
        f"{study.name} has no scores: `hilum run {study.run.folder}` trains its models and scores "
        "the tune and test parts"
    )


def _leading(study: Study, concepts: Sequence[str]) -> str:
    return next((one for one in concepts if one == study.finding), concepts[0])


def labelled(study: Study, concept: str, part: str) -> pl.DataFrame:
    """Return the scores of a finding in a part, with their label and what tune chose for them."""
    if study.split is None:
        raise Refusal(404, "the set is not split", f"run `hilum run {study.run.folder}`")
    chosen = (pl.col("task") == "finding") & (pl.col("concept") == concept)
    scores = study.run.table("predict", "scores.parquet").filter(chosen & (pl.col("part") == part))
    rows = classification.known(
        scores, people(study.manifest, study.split), truths(study.manifest, [concept])
    )
    return classification.transfer(rows, study.fitted)


def _of_rows(study: Study, rows: pl.DataFrame, concept: str, call: Call) -> Facts:
    part, threshold, prevalence = (
        call.text("part"),
        call.number("threshold"),
        call.number("prevalence"),
    )
    fitted = [of.get("finding", {}).get(concept) for of in study.fitted.values()]
    default, _ = measures.threshold(fitted)
    if threshold is not None:
        called = (rows["score"] >= threshold).cast(pl.Float64)
        rows = rows.with_columns(called=called, margin=(pl.col("score") - threshold).abs())
    settings = replace(
        study.recipe.evaluate, prevalence=prevalence or study.recipe.evaluate.prevalence
    )
    wanted = [*_NAMES, *(_AT if settings.prevalence else ())]
    cell = Subgroup(part, estimate.ALL, estimate.ALL, rows)
    found = {
        str(one["metric"]): one
        for one in classification.of_cell(cell, fitted, settings, wanted)
        if "metric" in one
    }
    labels, score = measures.truth_and_score(rows)
    shown = default if threshold is None else threshold
    return {
        "threshold": shown,
        "default_threshold": default,
        "prevalence": settings.prevalence or None,
        "observed_prevalence": float((labels == State.PRESENT).mean()),
        "n": rows.height,
        "n_positive": int((labels == State.PRESENT).sum()),
        "patients": rows["group"].n_unique(),
        "low_score": float(score.min()),
        "high_score": float(score.max()),
        "cells": _cells(rows, concept, part, threshold),
        "figures": list(_figures(found)),
        "roc": _roc(rows),
        "point": _point(rows),
        "risk_coverage": _risk_coverage(rows),
        "no_call": int((rows["no_call"] != "").sum()),
        "message": None,
    }


def _cells(rows: pl.DataFrame, concept: str, part: str, threshold: float | None) -> Facts:
    """Count each cell of the confusion matrix, with the worklist's address of its images."""
    at = queries.OWN if threshold is None else repr(threshold)
    present, positive = rows["state"] == State.PRESENT, rows["called"] == 1
    negative = rows["called"] == 0
    of = {
        "tp": present & positive,
        "fp": ~present & positive,
        "fn": present & negative,
        "tn": ~present & negative,
    }
    return {
        name: {
            "count": int(some.sum()),
            "query": urlencode([("cell", f"{concept}:{name}:{at}:{part}")]),
        }
        for name, some in of.items()
    }


def _figures(found: dict[str, EstimateRow]) -> Iterator[Json]:
    """Yield each figure; predictive values at the stated prevalence where there is one."""
    for name, title in _NAMES.items():
        at = next((key for key, of in _AT.items() if of == name and key in found), name)
        one = found.get(at)
        if one is None:
            continue
        yield {
            "key": name,
            "metric": at,
            "name": title,
            "value": one.get("value"),
            "low": one.get("ci_low"),
            "high": one.get("ci_high"),
            "note": "; ".join(filter(None, (one.get("reason", ""), one.get("warning", "")))),
        }


def _roc(rows: pl.DataFrame) -> list[Json]:
    labels, score = measures.truth_and_score(rows)
    if len(np.unique(labels)) < 2:
        return []
    false, true, _ = discrimination.roc_curve(labels, score)
    return [[float(false[at]), float(true[at])] for at in _some(len(false))]


def _point(rows: pl.DataFrame) -> Json:
    labels, called = rows["state"].to_numpy(), rows["called"].to_numpy()
    some = ~np.isnan(called)
    if len(np.unique(labels[some])) < 2:
        return None
    rates = [float(called[some & (labels == state)].mean()) for state in (0, 1)]
    return [rates[0], rates[1]]


def _risk_coverage(rows: pl.DataFrame) -> list[Json]:
    certainty = selective_measures.certainty(rows)
    if np.isnan(certainty).any():
        return []
    curve = selective.risk_coverage(certainty, selective_measures.errors(rows))
    return [[float(curve.coverage[at]), float(curve.risk[at])] for at in _some(len(curve.coverage))]


def _some(count: int) -> list[int]:
    """Return places along a curve, its ends among them."""
    return np.unique(np.linspace(0, count - 1, min(count, _POINTS)).astype(int)).tolist()


# --------------------------------------------------------------------------------------- compare


def compare(desk: Desk, call: Call) -> Reply:
    """Answer how the study's run and another one differ."""
    name = call.text("run")
    other = desk.other(name).run
    made = desk.answers.get(("compare", name), partial(_compared, desk.study, other, name))
    found = json.loads(made)
    if concept := call.text("concept"):
        found["rows"] = [one for one in found["rows"] if one["concept"] in (concept, "")]
    return as_json(found)


def _compared(study: Study, other: Run, name: str) -> bytes:
    comparison = comparing.compare(study.run, other)
    rows = [
        {
            "task": one["task"],
            "concept": one["concept"],
            "name": " ".join(filter(None, (one["task"], one["concept"], one["metric"]))),
            "a": one["first"],
            "b": one["second"],
            "difference": one["difference"],
            "low": one["ci_low"],
            "high": one["ci_high"],
            "p": one["p"],
            "note": one["reason"] or one["test"] or "",
        }
        for one in comparison.table.iter_rows(named=True)
    ]
    found: Facts = {
        "run": study.name,
        "other": name,
        "rows": rows,
        "message": "; ".join(comparison.notes) or None,
    }
    return bytes(as_json(found).body)


ROUTES = (
    Route(
        "GET",
        "/api/v1/figures",
        "Confusion matrix, figures and curves of one finding at a threshold and a prevalence",
        figures,
        PARAMETERS,
        work=SLOW,
    ),
    Route(
        "GET",
        "/api/v1/compare",
        "How the run differs from another one that the desk was started with",
        compare,
        (
            Parameter("run", Text(200, 1), "its name", required=True),
            Parameter("concept", Text(200), "a finding"),
        ),
        work=SLOW,
    ),
)
