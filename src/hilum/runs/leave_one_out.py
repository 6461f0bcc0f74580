"""Train on all sets but one, and measure on that one, in turn: `hilum cross-evaluate --leave-out`.

left_out/            a run of all sets together with `[evaluate] leave_out = "source"`, by the
                     settings of the first set (`hilum.pipeline.left_out`)
left_out.parquet, .csv   a row for each source, task and concept, with the columns of the
                     cross-evaluation; `model` is `OTHERS`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from hilum import storage
from hilum.config import Recipe
from hilum.pipeline import evaluate, left_out, predict
from hilum.run_folder import Run
from hilum.runs.cross_evaluation_figures import COLUMNS, FIGURES, NAN, Row
from hilum.runs.finished_run import FinishedRun
from hilum.safety import spreadsheet_cells

FOLDER, TABLE, CSV = "left_out", "left_out.parquet", "left_out.csv"
OTHERS = "all others"
MEASURED = {
    "auroc": "auroc",
    "transferred_sensitivity": "sensitivity",
    "transferred_specificity": "specificity",
}


def recipe_of(members: Sequence[FinishedRun]) -> Recipe:
    """Return the recipe of one run of all sets that leaves out each source."""
    first = members[0].recipe
    folders = list(
        dict.fromkeys(folder for member in members for folder in member.recipe.data.folders)
    )
    data = replace(first.data, folder=folders[0], also=tuple(folders[1:]))
    return replace(first, data=data, evaluate=replace(first.evaluate, leave_out=left_out.SOURCE))


def table_of(run: Run, to: Path) -> pl.DataFrame:
    """Return the figures of each source by the models of the others; write them below `to`."""
    figures = run.table("evaluate", evaluate.METRICS).filter(
        (pl.col("part") == left_out.PART)
        & (pl.col("by") == "source")
        & pl.col("task").is_in(list(predict.STAGES))
    )
    rows = [
        _row(str(task), str(concept), str(source), of)
        for (task, concept, source), of in figures.group_by(
            "task", "concept", "source", maintain_order=True
        )
    ]
    table = pl.DataFrame(rows, schema=COLUMNS)
    storage.write_table(to / TABLE, table)
    storage.write_text(to / CSV, spreadsheet_cells.of_table(table))
    return table


def _row(task: str, concept: str, source: str, figures: pl.DataFrame) -> Row:
    by_metric = {row["metric"]: row for row in figures.iter_rows(named=True)}
    area = by_metric["auroc"]
    found: Row = dict.fromkeys(FIGURES, NAN)
    for name, metric in MEASURED.items():
        row = by_metric[metric]
        found |= {
            name: row["value"],
            f"{name}_low": row["ci_low"],
            f"{name}_high": row["ci_high"],
        }
    return {
        "model": OTHERS,
        "set": source,
        "task": task,
        "concept": concept,
        "images": area["images"],
        "patients": area["patients"],
        "positives": area["positives"],
        "left_out": 0,
        **found,
        "transferred_threshold": NAN,
        "reoptimised_threshold": NAN,
        "reason": area["reason"],
    }
