"""Export: a run, a recipe or a folder in a form that other programs read (the shelf `exports`)."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hilum import eligibility, shelf, store
from hilum.cross_validation import fold_count
from hilum.errors import Mismatch
from hilum.manifest import Manifest
from hilum.places import as_text
from hilum.recipe import Data, Recipe
from hilum.run import Run
from hilum.steps import ingest


def export(form: str, source: Path, folder: Path) -> dict[str, object]:
    """Write `source` to `folder` as `form`, by part where it is a run with a split; returns what to tell a person.

    Raises `NotFound` with the nearest name for an unknown form, `HilumError` where `folder` holds anything or lies in the data,
    `Mismatch` where the run's split is of an earlier table.
    """
    module = shelf.load("exports", form)
    data, manifest, split = _read(source)
    data.refuse_inside(folder, "choose another folder")
    told = {**module.write(manifest, folder, split=split), **_stated(manifest, split)}
    if split is not None and fold_count(split):
        told["note"] = (
            "the run is cross-validated, so all its images are in train; split.parquet of the run has the folds"
        )
    return told


def _stated(manifest: Manifest, split: pl.DataFrame | None) -> dict[str, object]:
    """Count by reason the images stated not to be frontal chest radiographs, left out and written."""
    table = manifest.table
    excluded = table.join(split, on="image_id", how="anti") if split is not None else table.clear()
    kinds = {"of these, stated": excluded, "among the images, stated": table.join(excluded, on="image_id", how="anti")}
    told = {words: eligibility.counts(eligibility.reasons(rows)) for words, rows in kinds.items()}
    return {words: counts for words, counts in told.items() if counts}


def _read(source: Path) -> tuple[Data, Manifest, pl.DataFrame | None]:
    if (source / "recipe.toml").exists():
        run = Run(source)
        return run.recipe().data, Manifest.read(source), _split(run)
    data = Recipe.read(source).data if source.suffix == ".toml" else Data(folder=as_text(source.resolve()))
    return data, ingest.read(data)[0], None


def _split(run: Run) -> pl.DataFrame | None:
    if not run.done("split"):
        return None
    if run.made_from("split")["manifest"] != run.made("ingest")["manifest.parquet"]:
        raise Mismatch(f"the split of {run.folder} is of an earlier table of its data; make it again with `hilum split {run.folder}`")
    return store.read_table(run / "split.parquet")
