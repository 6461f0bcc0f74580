"""Matrix: every run's models on every run's pictures, so that what a model loses at the next hospital is seen before it is there.

    matrix.parquet, matrix.csv     a row a model, set, stage and concept, see COLUMNS
    matrix.html                    the areas under the ROC curve as one picture, and the table
    scores/MODEL--SET.parquet      image_id, stage, concept, score of a model on another run's pictures; kept while neither run changes

A run's models are its whole chain: its lung model, its way of cutting regions, its finding and its anomaly model, over the other run's cached
pictures, which must be made the same way (size and window). On its own set a model is measured on the test part. On another set it is measured
on train and test part alike, for it has learnt from neither, and the tune part is left for choosing a threshold again. Patients of whom the model
has learnt, or on whom its threshold was chosen, are left out and counted where names mean the same in both sets; pictures that it knows under
another name stop everything, for nobody could say what else is shared.

`carried` figures use the threshold of the model's own tune part, `retuned` ones that of the other set's tune part (Youden both). The truth of a
finding's score is that finding in the other set; of an anomaly's score, the other set's own finding. Intervals resample the other set's patients.

A cross-validated run is on its own set the folds' pooled scores; on others its final models. They have learnt from all its images, so that of another
model every one of its images, which has no tune part, is a test image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hilum import storage
from hilum.annotations.vocabulary import State, name_of
from hilum.config import Evaluate, Recipe
from hilum.drawing import heat_table, templates
from hilum.errors import HilumError, Mismatch
from hilum.inference import segment_images
from hilum.inference.examination import examine_cached
from hilum.pipeline import evaluate, predict
from hilum.pipeline.division import Division
from hilum.progress import Progress
from hilum.run_folder import Run
from hilum.runs import dataset_overlap
from hilum.safety import spreadsheet_cells
from hilum.statistics import bootstrap
from hilum.statistics.metrics import discrimination

VERSION = 2
TABLE, CSV, PAGE, TEMPLATE = (
    "matrix.parquet",
    "matrix.csv",
    "matrix.html",
    "resources/matrix.html.j2",
)
OF_FOLDS = (
    "cross-validated: AUROC out of fold; each fold has its own threshold, see the run's report"
)
UNTIL = "evaluate"  # the step that a run needs done
SCORES = {"image_id": pl.String, "task": pl.String, "concept": pl.String, "score": pl.Float64}
MEASURES = (
    "auroc",
    "carried_sensitivity",
    "carried_specificity",
    "retuned_sensitivity",
    "retuned_specificity",
)
COLUMNS = {
    **dict.fromkeys(("model", "set", "task", "concept"), pl.String),
    **dict.fromkeys(("images", "patients", "positives", "left_out"), pl.Int64),
    **dict.fromkeys(
        (f"{measure}{end}" for measure in MEASURES for end in ("", "_low", "_high")), pl.Float64
    ),
    "carried_threshold": pl.Float64,
    "retuned_threshold": pl.Float64,
    "reason": pl.String,
}


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, as a model and as a set. `held`: image_id of what its models learnt from or were tuned on."""

    name: str
    run: Run

    @cached_property
    def recipe(self) -> Recipe:
        return self.run.recipe()

    @cached_property
    def data(self) -> dataset_overlap.AuditedDataset:
        return dataset_overlap.AuditedDataset.of(self.name, self.run)

    @cached_property
    def split(self) -> pl.DataFrame:
        return self.run.table("split", "split.parquet")

    @property
    def held(self) -> pl.DataFrame:
        return self.split.filter(pl.col("part") != "test").select("image_id")

    @property
    def finding(self) -> str | None:
        return Division.of(self.run).trained

    @cached_property
    def cross_validated(self) -> bool:
        return Division.of(self.run).cross_validated

    @cached_property
    def scores(self) -> pl.DataFrame:
        """Of its own tune and test part."""
        return self.run.table("predict", predict.SCORES).select(list(SCORES))

    def truth(self, concept: str) -> pl.DataFrame:
        """image_id, group, part and state of the images of which it is known whether they show `concept`."""
        states = self.data.manifest.states(concept).select("image_id", "state")
        return (
            self.split.select("image_id", "group", "part")
            .join(states, on="image_id", maintain_order="left")
            .filter(pl.col("state") >= State.ABSENT)
        )


def cross_evaluate(
    members: Sequence[FinishedRun], to: Path, watch: segment_images.Watch
) -> pl.DataFrame:
    """The table (COLUMNS), every model on every set, written to `to` with its page. Raises `Mismatch` before anything is scored where a set's
    pictures are made otherwise than a model's, or hold some that it has learnt from; `HilumError` for fewer than two runs."""
    if len(members) < 2:
        raise HilumError("a matrix needs two runs or more; name further recipes or run folders")
    for member in members:
        member.recipe.data.refuse_inside(to, "choose another folder with --out")
    pairs = [(model, target) for model in members for target in members]
    usable = {
        (model.name, target.name): unseen(model, target)
        for model, target in pairs
        if model is not target
    }
    rows: list[dict[str, Any]] = []
    for model, target in pairs:
        own = model is target
        allowed = target.split.select("image_id") if own else usable[model.name, target.name]
        scores = model.scores if own else _kept(model, target, allowed, to, watch)
        rows += _rows(model, target, scores, target.split.height - allowed.height)
    table = pl.DataFrame(rows, schema=COLUMNS)
    storage.write_table(to / TABLE, table)
    storage.write_text(to / CSV, spreadsheet_cells.of_table(table))
    storage.write_text(to / PAGE, page(table, [member.name for member in members]))
    return table


# ---------------------------------------------------------------------------------------------------------------- what may be scored


def unseen(model: FinishedRun, target: FinishedRun) -> pl.DataFrame:
    """image_id of the target's images that say something of the model. Raises `Mismatch` where they were made otherwise, or it knows some by pixels."""
    ours, theirs = model.recipe.pixels, target.recipe.pixels
    if (ours.size, ours.normalisation) != (theirs.size, theirs.normalisation):
        raise Mismatch(
            f"the models of {model.name} want pictures of {ours.size} pixels, window '{ours.normalisation}', and those of {target.name} are cached with "
            f"{theirs.size} pixels, window '{theirs.normalisation}': set size and window under [pixels] alike in both recipes and run again"
        )
    rows = _strangers(model, target)
    digests = (
        model.data.index.join(model.held, on="image_id", how="semi")
        .select("pixel_digest")
        .drop_nulls()
    )
    known = (
        target.data.index.join(rows, on="image_id", how="semi")
        .join(digests, on="pixel_digest", how="semi")
        .sort("image_id")
    )
    if known.height:
        shown = ", ".join(known["image_id"].head(5))
        raise Mismatch(
            f"{known.height} pictures of {target.name} are among those that the models of {model.name} have learnt from or were tuned on, under "
            f"other names: {shown}. Figures on that set would be worthless; `hilum audit {model.run.folder} {target.run.folder}` lists what they share: "
            f"leave it out of one of them"
        )
    return rows


def _strangers(model: FinishedRun, target: FinishedRun) -> pl.DataFrame:
    """image_id of those whose patient the model does not know by name; all where names mean nothing from one set to the other."""
    rows = target.split.select("image_id", "group")
    names = dataset_overlap.named_alike(model.data, target.data)
    if names is None:
        return rows.select("image_id")
    met = model.data.images.join(model.held, on="image_id", how="semi").select(names[1]).unique()
    known = (
        target.data.images.join(met, on=names[1], how="semi")
        .select("image_id")
        .join(rows, on="image_id")
        .select("group")
        .unique()
    )
    return rows.join(known, on="group", how="anti", maintain_order="left").select("image_id")


# ------------------------------------------------------------------------------------------------------------------------ the scores


def _kept(
    model: FinishedRun,
    target: FinishedRun,
    rows: pl.DataFrame,
    to: Path,
    watch: segment_images.Watch,
) -> pl.DataFrame:
    """The model's scores of the target's `rows`; made where they are not there or either run has changed since."""
    name, kept = f"{model.name}--{target.name}", Run(to)
    file = f"scores/{name}.parquet"
    made_of = {step: model.run.made(step) for step in ("segment", "crop", "train")}
    made_from = {
        **made_of,
        "pictures": target.run.made("cache"),
        "rows": storage.digest(rows["image_id"].to_list()),
        "version": VERSION,
    }
    if not kept.finished(f"scores-{name}", made_from):
        with watch(name) as progress:
            storage.write_table(to / file, score(model, target, rows, progress))
        kept.finish(
            f"scores-{name}",
            made_from,
            {file: storage.digest_of_file(to / file)},
            {"images": rows.height},
        )
    return kept.table(f"scores-{name}", file)


def score(
    model: FinishedRun, target: FinishedRun, rows: pl.DataFrame, progress: Progress
) -> pl.DataFrame:
    """SCORES of the target's `rows` by the model's whole chain."""
    reader, pictures = predict.RunModels.of(model.run), target.data.pixels
    sizes = {
        image_id: size
        for image_id, *size in pictures.index.select("image_id", "height", "width").iter_rows()
    }
    concepts = {stage: _concepts(model, target, stage) for stage in predict.STAGES}
    found = []
    for done, image_id in enumerate(rows["image_id"], start=1):
        image, size = pictures.images[pictures.rows([image_id])[0]], tuple(sizes[image_id])
        examination = examine_cached(image, size, reader.models.get("lungs"))
        cut = examination.crop(model.recipe.crop, reader.typical)
        for stage, named in concepts.items():
            if stage in reader.models and named:
                values = np.atleast_1d(reader.models[stage](cut.image)["score"]).tolist()
                found += [
                    [image_id, stage, concept, value]
                    for concept, value in zip(named, values, strict=True)
                ]
        progress(done, rows.height)
    return pl.DataFrame(found, schema=SCORES, orient="row")


def _concepts(model: FinishedRun, target: FinishedRun, stage: str) -> list[str]:
    """What a stage's scores are held against in the target, in the order of its columns."""
    if stage == "anomaly":
        return [target.finding] if target.finding else []
    return (
        model.scores.filter(pl.col("task") == stage)["concept"]
        .unique(maintain_order=True)
        .to_list()
    )


# ----------------------------------------------------------------------------------------------------------------------- the figures


def _rows(
    model: FinishedRun, target: FinishedRun, scores: pl.DataFrame, left_out: int
) -> Iterator[dict[str, Any]]:
    own = model is target
    for stage in predict.STAGES:
        for concept in _concepts(model, target, stage):
            told = {
                "model": model.name,
                "set": target.name,
                "task": stage,
                "concept": concept,
                "left_out": left_out,
            }
            known = (
                _of(scores, stage)
                .filter(pl.col("concept") == concept)
                .join(target.truth(concept), on="image_id", maintain_order="left")
            )
            measured = known.filter(
                pl.col("part") == "test"
                if own and not model.cross_validated
                else pl.col("part") != "tune"
            )
            carried = _threshold(
                model, stage, concept if stage == "finding" else model.finding or ""
            )
            tune = known.filter(pl.col("part") == "tune")
            if own and model.cross_validated:  # that threshold was chosen on these very scores
                found = figures(measured, float("nan"), float("nan"), target.recipe.evaluate)
                yield told | found | {"reason": OF_FOLDS if measured.height else found["reason"]}
                continue
            yield told | figures(
                measured, carried, carried if own else _youden(tune), target.recipe.evaluate
            )


def _of(scores: pl.DataFrame, stage: str) -> pl.DataFrame:
    return scores.filter(pl.col("task") == stage).drop("task")


def _threshold(model: FinishedRun, stage: str, concept: str) -> float:
    """Of the model's own tune part; of a cross-validated run that of its final model, fitted on the pooled scores."""
    if model.cross_validated:
        chosen = (
            model.run.json("evaluate", evaluate.CALIBRATION)
            .get(stage, {})
            .get(concept, {})
            .get("threshold")
        )
        return float("nan") if chosen is None else chosen
    scores = _of(model.scores, stage).filter(pl.col("concept") == concept)
    return _youden(
        scores.join(model.truth(concept), on="image_id", maintain_order="left").filter(
            pl.col("part") == "tune"
        )
    )


def _youden(rows: pl.DataFrame) -> float:
    return discrimination.youden_threshold(rows["state"].to_numpy(), rows["score"].to_numpy())


def figures(
    rows: pl.DataFrame, carried: float, retuned: float, settings: Evaluate
) -> dict[str, Any]:
    """Of rows (group, state, score); nan with its reason in `why` where a figure cannot be had."""
    truth, values = rows["state"].to_numpy(), rows["score"].to_numpy()
    metrics: dict[str, Callable[..., float]] = {"auroc": discrimination.auroc}
    for kind, threshold in (("carried", carried), ("retuned", retuned)):
        if not math.isnan(threshold):
            metrics |= {
                f"{kind}_{name}": partial(discrimination.METRICS_AT[name], threshold=threshold)
                for name in ("sensitivity", "specificity")
            }
    told: dict[str, Any] = dict.fromkeys(
        (f"{measure}{end}" for measure in MEASURES for end in ("", "_low", "_high")), float("nan")
    )
    for measure, metric in metrics.items() if rows.height else ():
        interval = bootstrap.bootstrap_patients(
            lambda chosen, metric=metric: metric(truth[chosen], values[chosen]),
            rows["group"].to_list(),
            resamples=settings.bootstrap,
            confidence=settings.confidence,
            seed=settings.seed,
        )
        told |= {
            measure: interval.value,
            f"{measure}_low": interval.ci_low,
            f"{measure}_high": interval.ci_high,
        }
    counts = {
        "images": rows.height,
        "patients": rows["group"].n_unique(),
        "positives": int((rows["state"] == State.PRESENT).sum()),
    }
    return {
        **told,
        **counts,
        "carried_threshold": carried,
        "retuned_threshold": retuned,
        "reason": _why(counts, carried, retuned),
    }


def _why(counts: Mapping[str, int], carried: float, retuned: float) -> str:
    told = []
    if not counts["images"]:
        told.append("no image of this set says whether the finding is there")
    elif counts["positives"] in (0, counts["images"]):
        told.append("all images that tell are of one class")
    told += [
        f"no threshold {words}: its tune part lacks a class or is not there"
        for threshold, words in ((carried, "to carry"), (retuned, "of this set"))
        if math.isnan(threshold)
    ]
    return "; ".join(told)


# -------------------------------------------------------------------------------------------------------------------------- the page


def titled(task: str, concept: str) -> str:
    return name_of(concept) if task == "finding" else "Anomaly, against each set's own finding"


def page(table: pl.DataFrame, names: Sequence[str]) -> str:
    """One HTML page, with nothing loaded from elsewhere."""
    charts = []
    kinds = table.with_columns(
        title=pl.struct("task", "concept").map_elements(
            lambda row: titled(**row), return_dtype=pl.String
        )
    )
    for (title,), rows in kinds.group_by("title", maintain_order=True):
        cells = {(row["model"], row["set"]): _cell(row) for row in rows.iter_rows(named=True)}
        told = "; ".join(
            f"{model} on {of}: {cell.value:.3f}" for (model, of), cell in cells.items()
        )
        charts.append(
            {
                "title": title,
                "picture": heat_table.heat_table(
                    names,
                    names,
                    cells,
                    low=0.5,
                    high=1.0,
                    alt_text=f"AUROC of each model on each set. {told}",
                ),
            }
        )
    lines = [
        {
            **row,
            "title": titled(row["task"], row["concept"]),
            "cells": [written(row, measure) for measure in MEASURES],
        }
        for row in table.iter_rows(named=True)
    ]
    values = {"charts": charts, "rows": lines, "names": names}
    return templates.render(TEMPLATE, values, autoescape=True)


def _cell(row: Mapping[str, Any]) -> heat_table.Cell:
    between_ = (
        "" if math.isnan(row["auroc_low"]) else f"{row['auroc_low']:.2f} to {row['auroc_high']:.2f}"
    )
    return heat_table.Cell(
        row["auroc"],
        between_,
        f"{row['model']} on {row['set']}: {row['images']} images of {row['patients']} patients. {row['reason']}".strip(),
    )


def written(row: Mapping[str, Any], measure: str) -> str:
    """`0.912 (0.871 to 0.945)`."""
    value, low, high = (row[f"{measure}{end}"] for end in ("", "_low", "_high"))
    return (
        "–"
        if math.isnan(value)
        else f"{value:.3f}"
        if math.isnan(low)
        else f"{value:.3f} ({low:.3f} to {high:.3f})"
    )


def shown(table: pl.DataFrame) -> pl.DataFrame:
    """The table for a terminal."""
    rows = [
        [
            row["model"],
            row["set"],
            titled(row["task"], row["concept"]).split(",")[0],
            row["images"],
            row["positives"],
            *(written(row, measure) for measure in MEASURES),
            row["reason"],
        ]
        for row in table.iter_rows(named=True)
    ]
    heads = (
        "model",
        "set",
        "of",
        "images",
        "positives",
        "AUROC",
        "sens carried",
        "spec carried",
        "sens retuned",
        "spec retuned",
        "reason",
    )
    return pl.DataFrame(rows, schema=heads, orient="row", strict=False)
