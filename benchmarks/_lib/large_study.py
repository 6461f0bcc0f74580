"""Make a finished run of very many images out of one of a few, for benchmarks of the desk.

Each image of the small run stands in the tables many times, under names, patients and sources of
its own; all copies share the few files, by links in the folder of data, and the cached rows. What a
desk reads of a run is there: labels, split, scores, predicted masks, issues.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl

from hilum import storage
from hilum.run_folder import MARKERS, Run
from hilum.storage import integrity

NIH = 112_120  # images of the NIH ChestX-ray14 release
PER_PATIENT = 4
SOURCES = 12


def large_study(small: Path, folder: Path, images: int = NIH, seed: int = 0) -> Run:
    """Copy the run in `small` to `folder` with `images` images; return it."""
    shutil.copytree(small, folder)
    run = Run(folder)
    root = run.manifest().root
    ids = storage.read_table(folder / "manifest.parquet")["image_id"]
    rng = np.random.default_rng(seed)
    copies = -(-images // len(ids))
    names = pl.DataFrame(
        {
            "image_id": np.tile(ids.to_numpy(), copies)[:images],
            "copy": np.repeat(np.arange(copies), len(ids))[:images],
            "patient": np.arange(images) // PER_PATIENT,
            "place": rng.integers(0, SOURCES, images),
        }
    ).with_columns(new=pl.format("{}-{}", "image_id", "copy"))
    for copy in range(copies):
        place = root / f"copy{copy}"
        if not place.exists():
            place.symlink_to(".")
    tables = [*folder.glob("*.parquet"), *folder.glob("cache/*/index.parquet")]
    tables += [folder / "segment" / name for name in ("lungs.parquet", "issues.parquet")]
    for path in tables:
        table = storage.read_table(path)
        if "image_id" in table.columns:
            storage.write_table(path, _repeated(table, names, rng))
    return _resealed(run)


def _repeated(table: pl.DataFrame, names: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Return the rows of a table for every copy of their image."""
    order = ["image_id", *(["concept"] if "concept" in table.columns else [])]
    whole = table.filter(pl.col("image_id").is_null())
    found = table.join(names, on="image_id").with_columns(image_id="new")
    if "patient_id" in table.columns:
        found = found.with_columns(
            patient_id=pl.format("large/p{}", "patient"),
            source=pl.format("hospital {}", "place"),
        )
    if "path" in table.columns:
        found = found.with_columns(path=pl.format("copy{}/{}", "copy", "path"))
    if "group" in table.columns:
        found = found.with_columns(group=pl.format("p{}", "patient"))
    if "score" in table.columns:
        noise = pl.Series(rng.normal(0, 0.05, found.height))
        found = found.with_columns(score=(pl.col("score") + noise).clip(0, 1))
    if "other_image_id" in table.columns:
        found = found.with_columns(other_image_id=pl.lit(None, pl.String))
    return pl.concat([whole, found.select(table.columns).sort(order)])


def _resealed(run: Run) -> Run:
    """Return the run with its files as they are now in its markers."""
    for marker in (run / MARKERS).glob("*.json"):
        stated = integrity.read_sealed(marker)
        stated["files"] = {
            name: integrity.digest_of(run / name)
            for name in stated["files"]
            if (run / name).exists()
        }
        storage.write_json(marker, integrity.sealed(stated))
    return run
