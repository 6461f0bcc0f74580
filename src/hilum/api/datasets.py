"""Data sets: read a folder, find its issues, split its patients, hand it to TorchXRayVision."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from hilum.api import _html
from hilum.api._arguments import expect
from hilum.audit import page
from hilum.config import Pixels, Recipe
from hilum.dataset.manifest import Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.dataset.plan.account import Account
from hilum.dataset.writers import torchxrayvision
from hilum.errors import HilumError
from hilum.imaging.synthetic import SMALLEST
from hilum.inference import orientation
from hilum.pipeline import audit, cache, ingest
from hilum.pipeline import split as splitting
from hilum.progress import Progress, quietly
from hilum.safety import addresses

FEWEST_IMAGES = 4  # of a made-up data set: one of each class and state that a layout shows


@dataclass(frozen=True)
class Dataset:
    """A folder of radiographs as checked tables, and the account of how it was read.

    `images` has one row per image file, `labels` one per image and finding (state 1 present,
    0 absent, -1 uncertain; no row: not mentioned), `shapes` one per annotation, `remarks` one per
    thing that was met while reading. All are Polars tables.
    """

    manifest: Manifest
    account: Account

    @property
    def images(self) -> pl.DataFrame:
        """One row per image file; `image_id` is unique, `patient_id` never null."""
        return self.manifest.table

    @property
    def labels(self) -> pl.DataFrame:
        """One row per image and finding, with the words it was read from."""
        return self.manifest.labels

    @property
    def shapes(self) -> pl.DataFrame:
        """One row per annotation, in the file's own pixels."""
        return self.manifest.shapes

    @property
    def remarks(self) -> pl.DataFrame:
        """What was left out or put right while reading, with the reason."""
        return self.manifest.remarks

    @cached_property
    def summary(self) -> Mapping[str, object]:
        """Counts of images, patients, masks and labels by name."""
        return ingest.summary(self.manifest)

    def __len__(self) -> int:
        return self.images.height

    def __repr__(self) -> str:
        patients = self.images["patient_id"].n_unique()
        where = addresses.shown(self.manifest.root)
        return f"Dataset({where}: {len(self)} images, {patients} patients)"

    def _repr_html_(self) -> str:
        return _html.facts(addresses.shown(self.manifest.root), self.summary) + _html.table(
            self.images
        )


@dataclass(frozen=True)
class Issues:
    """What an audit found: `table` has one row per issue, worst first."""

    table: pl.DataFrame
    manifest: Manifest
    cache: Cache

    def to_html(self) -> str:
        """Return the audit page: issues by rule with their images, in one HTML file."""
        return page.render(self.table, self.manifest, self.cache)

    def __len__(self) -> int:
        return self.table.height

    def __repr__(self) -> str:
        counts = dict(self.table["severity"].value_counts(sort=True).iter_rows())
        named = ", ".join(f"{count} {severity}" for severity, count in counts.items())
        return f"Issues({named or 'none'})"

    def _repr_html_(self) -> str:
        return _html.table(self.table, ("severity", "rule", "image_id", "message", "remedy"))


def open_dataset(folder: str | Path, *, reader: str = "auto") -> Dataset:
    """Read a folder of radiographs into checked tables.

    `folder` may be an address, as s3://bucket/folder (docs, "Data that lie elsewhere").
    `reader` is the name of a data set (`hilum datasets` lists them), or "auto" to recognise it.
    What the folder cannot settle by itself is refused with the lines of `hilum.toml` that settle
    it.
    Raises `NotFound` where there is no such folder or no image in it, `BadData` with all faults.

    >>> dataset = hilum.open_dataset(folder)
    >>> dataset.images.height, dataset.images["patient_id"].null_count()
    (24, 0)
    """
    manifest, account = ingest.accounted(addresses.located(os.fspath(folder)), reader)
    return Dataset(manifest, account)


def find_issues(
    dataset: Dataset,
    *,
    cache_folder: str | Path | None = None,
    pixels: Pixels | None = None,
    progress: Progress = quietly,
) -> Issues:
    """Audit a data set: broken files and masks, duplicates, contradictions, leaks, odd images.

    Every image is decoded once into a cache below `cache_folder`; a later call with the same folder
    decodes only what changed. Where none is given it is a temporary folder, removed with the last
    reference to the issues. `progress` is called with the number of images done and their total.

    >>> issues = hilum.find_issues(hilum.open_dataset(folder))
    >>> set(issues.table["severity"]) <= {"error", "warning", "info"}
    True
    """
    expect(dataset, Dataset, "hilum.open_dataset(FOLDER)")
    parent = addresses.on_this_disk(cache_folder or tempfile.mkdtemp(prefix="hilum-cache-"))
    with contextlib.ExitStack() as stack:
        if not cache_folder:
            stack.callback(shutil.rmtree, parent, ignore_errors=True)
        filled = cache.fill(dataset.manifest, pixels or Pixels(), parent, progress)
        features = orientation.describe_cache(filled, filled.index, progress)
        table = audit.audit(dataset.manifest, features, filled)
        issues = Issues(table, dataset.manifest, filled)
        weakref.finalize(issues, stack.pop_all().close)  # at the latest when Python ends
    return issues


def split(
    dataset: Dataset,
    *,
    train: float = 0.7,
    tune: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    finding: str = "auto",
) -> pl.DataFrame:
    """Divide the patients into train, tune (validation) and test.

    Returns one row per image with its `part`. A patient is in one part only; adding a data set
    moves nobody. Where the data set is too small for one split, `fold` numbers the folds of a
    cross-validation by patient instead. Raises `TooFew` where neither is possible, `BadRecipe` for
    fractions that do not sum to 1.

    >>> parts = hilum.split(hilum.open_dataset(folder), seed=1)
    >>> parts.group_by("patient_id").agg(pl.col("part").n_unique())["part"].max()
    1
    """
    expect(dataset, Dataset, "hilum.open_dataset(FOLDER)")
    chosen = {"train": train, "tune": tune, "test": test, "seed": seed}
    settings = Recipe.from_sections({"split": chosen}, where="hilum.split").split
    table, _ = splitting.divide(dataset.manifest, settings, finding=finding)
    return table


def to_torchxrayvision(
    dataset: Dataset, *, pathology_masks: bool = False, semantic_masks: bool = False
) -> torchxrayvision.XrvView:
    """Return the data set as TorchXRayVision's tools expect one, without importing the package.

    Images are float32 (1, height, width) from -1024 to 1024.

    >>> view = hilum.to_torchxrayvision(hilum.open_dataset(folder))
    >>> len(view), view[0]["img"].ndim
    (24, 3)
    """
    expect(dataset, Dataset, "hilum.open_dataset(FOLDER)")
    return torchxrayvision.to_xrv(
        dataset.manifest, pathology_masks=pathology_masks, semantic_masks=semantic_masks
    )


def synthesize(
    reader: str, folder: str | Path, *, images: int = 24, seed: int = 0, size: int | None = None
) -> Path:
    """Write a made-up copy of a data set's layout, with exact masks; return the folder.

    The same seed gives the same files. `size` is the longer side of an image in pixels, the data
    set's own for None. Raises `NotFound` for an unknown data set, `BadData` where the folder holds
    something already, `HilumError` for fewer than 4 images, a negative seed or a size under 64.

    >>> hilum.synthesize("montgomery", new_folder, images=4).name == new_folder.name
    True
    """
    if images < FEWEST_IMAGES or seed < 0 or (size is not None and size < SMALLEST):
        raise HilumError(
            f"images must be at least {FEWEST_IMAGES}, seed at least 0 and size at least "
            f"{SMALLEST} or None, got images={images!r}, seed={seed!r} and size={size!r}"
        )
    place = addresses.on_this_disk(folder)
    ingest.example(reader, place, images=images, seed=seed, size=size)
    return place
