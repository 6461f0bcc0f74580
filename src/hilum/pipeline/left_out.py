"""Leave each source out in turn: train everything without it, and measure it there.

With `[evaluate] leave_out = "source"` a run of several sources trains its models once more for each
source, in `left_out/K/`: the source's images are the test part, and the patients of the other
sources are dealt into train and tune. So thresholds, calibration and the models' domains are chosen
without it too, and its figures are what the models would be worth at a hospital that they do not
know. Groups with images of the source and of others (a patient of both, or one image in both) are
in the test part only where they are of the source, and nowhere else.

A source is not left out where the others could not train: their images lack a state of a finding
that models are trained on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from hilum import storage
from hilum.config import Recipe
from hilum.dataset.manifest import Manifest
from hilum.pipeline import cross_validation
from hilum.pipeline.division import Division
from hilum.run_folder import Run

PART = "left_out"  # of a row of metrics.parquet that was measured so
SOURCE = "source"  # value of [evaluate] leave_out


@dataclass(frozen=True)
class Plan:
    """The split by source that is left out, and why others are not."""

    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def plan(run: Run, recipe: Recipe) -> Plan:
    """Decide which sources of a run are left out, from its split and labels alone."""
    decided = Division.of(run)
    if recipe.evaluate.leave_out != SOURCE or run.parent is not None or not decided.trained:
        return Plan()
    table, manifest = run.table("split", "split.parquet"), run.manifest()
    concepts = list(decided.concepts or (decided.trained,))
    return divide(table, manifest, concepts, recipe.split.seed)


def divide(table: pl.DataFrame, manifest: Manifest, concepts: list[str], seed: int) -> Plan:
    """Return the split that leaves out each source of `table`, a table of the step split."""
    sources = table["source"].unique().sort().to_list()
    if len(sources) < 2:
        return Plan(skipped=dict.fromkeys(sources, "there is no other source to train on"))
    tables, skipped = {}, {}
    for number, source in enumerate(sources):
        own = table.filter(pl.col("source") == source)["group"].unique()
        is_own = pl.col("source") == source
        alone = table.filter(is_own | ~pl.col("group").is_in(own.implode()))
        folded = alone.with_columns(
            fold=pl.when(pl.col("source") == source).then(number).otherwise(-1).cast(pl.Int64)
        )
        parts = cross_validation.fold_table(manifest, folded, concepts, number, seed)
        lacking = cross_validation.untrainable(manifest, parts, concepts)
        if lacking:
            skipped[source] = f"the other sources lack a state of {', '.join(lacking)}"
        else:
            tables[source] = parts
    return Plan(tables, skipped)


def prepare(run: Run, recipe: Recipe) -> list[tuple[str, Run]]:
    """Write the splits, each as a finished step of its own run; return these by source."""
    made = []
    for number, (source, parts) in enumerate(plan(run, recipe).tables.items()):
        one = run.left_out(number)
        digest = storage.digest_of_table(parts)
        of = {"left_out": source, "split": digest}
        if not one.finished("split", of):
            storage.write_table(one / "split.parquet", parts)
            finding = run.summary("split")["finding"]
            one.finish("split", of, {"split.parquet": digest}, {"finding": finding})
        made.append((source, one))
    return made


def runs(run: Run, recipe: Recipe) -> list[tuple[str, Run]]:
    """Return the runs without each source, as `prepare` made them; [] where none is left out."""
    return [
        (source, run.left_out(number)) for number, source in enumerate(plan(run, recipe).tables)
    ]
