"""Figures of each source by models that were trained without it, see `hilum.pipeline.left_out`.

They are rows of `metrics.parquet` with the part `left_out.PART`: by source, and pooled over all
sources that were left out, where each image is called at the threshold of the models without its
source. `auroc` of the pooled rows ranks scores of several models together; `auroc_within_folds`
counts only pairs of one source.
"""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from hilum.config import Recipe
from hilum.dataset.manifest import Manifest
from hilum.pipeline import left_out, predict
from hilum.pipeline.evaluation import classification, estimate
from hilum.pipeline.evaluation.estimate import EstimateRow
from hilum.pipeline.evaluation.run_tables import RunLungs, fitted_on_tune, people
from hilum.pipeline.evaluation.segmentation import CACHED, lung_figures
from hilum.pipeline.truth import truths
from hilum.run_folder import Run

SCORES = {
    **predict.COLUMNS,
    "fold": pl.Int64,
    "source": pl.String,
    "group": pl.String,
    "state": pl.Int8,
    **dict.fromkeys(classification.TRANSFERRED, pl.Float64),
}


class LeftOut(NamedTuple):
    """The figures, and the scores with a known label that they are of, columns `SCORES`."""

    rows: list[EstimateRow]
    scores: pl.DataFrame


def figures(run: Run, recipe: Recipe, manifest: Manifest) -> LeftOut:
    """Compute the figures of all sources that were left out; none where none was."""
    each = left_out.runs(run, recipe)
    if not each:
        return LeftOut([], pl.DataFrame(schema=SCORES))
    scored, fitted = [], []
    for number, (_, one) in enumerate(each):
        fitted.append(fitted_on_tune(one, manifest))
        scored.append(_scored(one, manifest, fitted[-1], number))
    scores = pl.concat(scored)
    rows = _of_scores(scores, [source for source, _ in each], fitted, recipe)
    return LeftOut([*rows, *_of_lungs([one for _, one in each], recipe, manifest)], scores)


def _scored(
    one: Run, manifest: Manifest, fitted: classification.Calibrations, number: int
) -> pl.DataFrame:
    """Return the labelled scores of a run's test part with what its tune part chose for them."""
    scores = one.table("predict", predict.SCORES).filter(pl.col("part") == "test")
    rows = classification.known(
        scores,
        people(manifest, one.table("split", "split.parquet")),
        truths(manifest, scores["concept"].unique(), scores["image_id"]),
    )
    made = classification.transfer(rows, {None: fitted}).with_columns(fold=pl.lit(number, pl.Int64))
    return made.select(pl.col(name).cast(kind) for name, kind in SCORES.items())


def _of_scores(
    scores: pl.DataFrame,
    sources: list[str],
    fitted: list[classification.Calibrations],
    recipe: Recipe,
) -> list[EstimateRow]:
    found: list[EstimateRow] = []
    for task, concept in scores.select("task", "concept").unique(maintain_order=True).iter_rows():
        rows = scores.filter((pl.col("task") == task) & (pl.col("concept") == concept))
        chosen = [one.get(task, {}).get(concept) for one in fitted]
        cells = [
            (estimate.Subgroup(left_out.PART, "source", source, rows.filter(fold=number)), [of])
            for number, (source, of) in enumerate(zip(sources, chosen, strict=True))
        ]
        cells.append((estimate.Subgroup(left_out.PART, estimate.ALL, estimate.ALL, rows), chosen))
        for cell, of in cells:
            for figure in classification.of_cell(cell, of, recipe.evaluate):
                found.append({**figure, "task": task, "concept": concept})
    return found


def _of_lungs(each: list[Run], recipe: Recipe, manifest: Manifest) -> list[EstimateRow]:
    lungs = [RunLungs.of(one, recipe, manifest) for one in each]
    per_image = pl.concat([one.in_cache() for one in lungs])
    table = pl.concat([one.table.select("image_id", "group") for one in lungs])
    found = lung_figures(per_image, table, recipe.evaluate, CACHED)
    return [{**row, "part": left_out.PART} for row in found]
