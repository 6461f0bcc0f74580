"""Export a run, a recipe or a folder in a form that other programs read (plug-ins `writers`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from hilum import plugins
from hilum.annotations import eligibility
from hilum.config import Recipe
from hilum.dataset.manifest import Manifest
from hilum.errors import Mismatch
from hilum.pipeline import ingest
from hilum.pipeline.cross_validation import fold_count
from hilum.privacy import run_release
from hilum.privacy.pseudonyms import Pseudonyms
from hilum.privacy.release import pass_on
from hilum.run_folder import Run, is_run


def export(
    form: str, source: Path, folder: Path, share: Mapping[str, str] | None = None
) -> dict[str, object]:
    """Write `source` to `folder` as `form`, by part where it is a run with a split.

    `share` has settings of the recipe's section [share] that go before the recipe's own. Pseudonyms
    of a run are those of all that it passes on; of a folder or a recipe they are made for this
    export alone, and nothing leads back from them. Returns a summary.

    Raises `NotFound` with the nearest name for an unknown form, `HilumError` where `folder` holds
    anything or is in the data, `Mismatch` where the run's split is of an earlier table.
    """
    module = plugins.load("writers", form)
    recipe, manifest, split = _read(source)
    recipe.data.refuse_inside(folder, "choose another folder")
    sharing = recipe.sharing(share or {}).share
    passed = (
        run_release.of_run(Run(source), sharing, manifest)
        if is_run(source)
        else pass_on(manifest, sharing, Pseudonyms.forgotten())
    )
    named = None if split is None else passed.keyed(split)
    summary = {
        **module.write(passed.manifest, folder, split=named),
        **_stated(manifest, split),
        **run_release.summary(sharing),
    }
    if split is not None and fold_count(split):
        summary["note"] = (
            "the run is cross-validated, so all its images are in train; split.parquet of the run "
            "has the folds"
        )
    return summary


def _stated(manifest: Manifest, split: pl.DataFrame | None) -> dict[str, object]:
    """Count images that the data state not to be frontal chest radiographs, by reason."""
    table = manifest.table
    excluded = table.join(split, on="image_id", how="anti") if split is not None else table.clear()
    kinds = {
        "of these, stated": excluded,
        "among the images, stated": table.join(excluded, on="image_id", how="anti"),
    }
    found = {words: eligibility.counts(eligibility.reasons(rows)) for words, rows in kinds.items()}
    return {words: counts for words, counts in found.items() if counts}


def _read(source: Path) -> tuple[Recipe, Manifest, pl.DataFrame | None]:
    if is_run(source):
        run = Run(source)
        return run.recipe(), run.manifest(), _split(run)
    recipe = Recipe.of_source(source)
    return recipe, ingest.read(recipe.data)[0], None


def _split(run: Run) -> pl.DataFrame | None:
    if not run.done("split"):
        return None
    if run.made_from("split")["manifest"] != run.made("ingest")["manifest.parquet"]:
        raise Mismatch(
            f"the split of {run.folder} is of an earlier table of its data; make it again with "
            f"`hilum split {run.folder}`"
        )
    return run.table("split", "split.parquet")
