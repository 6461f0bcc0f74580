"""Card: what a data set is, for a reader and for a machine, computed from its files; what its published cards state stands beside it.

    card/README.md        the data card
    card/croissant.json   the same for machines (`hilum.reporting.card.croissant`), and card/images.csv, the table it points to
    card/pictures/        a strip of pictures for each class, only where they are asked for

Pictures are left out unless asked for, because a card is made to be passed on, and many licences let nobody pass on the pictures.
images.csv has rows of patients too: mind the licence before you publish it. The same files give the same bytes wherever they lie;
the card holds no time and no name of a machine or folder above the data.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import polars as pl

from hilum import __version__, plugins, storage
from hilum.annotations.vocabulary import State, name_of
from hilum.config import Recipe
from hilum.dataset.manifest import Manifest
from hilum.drawing.images import QUALITY, SIDE
from hilum.errors import refused
from hilum.imaging.geometry import resize
from hilum.pipeline import cache
from hilum.privacy import run_release
from hilum.reporting.card import croissant, facts, markdown, published, sections
from hilum.run_folder import Run
from hilum.safety import spreadsheet_cells

FOLDER, PAGE, LINKED, PICTURES = "card", "README.md", "croissant.json", "pictures"
MADE_UP = "made-up"  # the remark of a folder of invented pictures
UNTIL = "audit"  # the step that a card needs done
STRIP = 4  # pictures of a class, of different patients


@dataclass(frozen=True)
class Written:
    """What was written, and the figures in it. `facts` and `compared` are by data set."""

    folder: Path
    facts: dict[str, dict[str, facts.Value]]
    compared: dict[str, published.Comparison]

    @property
    def summary(self) -> dict[str, Any]:
        verdicts = (published.AGREES, published.DIFFERS, published.NOT_CHECKED)
        return {
            "published facts": {
                verdict: sum(one.count(verdict) for one in self.compared.values())
                for verdict in verdicts
            },
            "card": str(self.folder / PAGE),
        }

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.summary,
            "facts": self.facts,
            "published": {
                name: [published.as_dict(row) for row in one.rows]
                for name, one in self.compared.items()
            },
        }


def write(run: Run, recipe: Recipe, *, pictures: bool = False) -> Written:
    """Write the card of a run whose steps are done up to `UNTIL` into its folder `FOLDER`. Raises `NotFound` where they are not."""
    here, pictured = run.manifest(), cache.opened(run, recipe)
    passed = run_release.of_run(run, recipe.share, here)
    manifest, cached = passed.manifest, passed.cache(pictured)
    found = passed.findings(run.table("audit", "issues.parquet"))
    folder = run / FOLDER
    names = manifest.table["dataset"].unique().sort().to_list()
    whole = facts.facts(manifest, cached.index)
    told = (
        {name: facts.facts(*_of(manifest, cached, name)) for name in names}
        if len(names) > 1
        else {names[0]: whole}
    )
    known = {name: published.read(name) for name in names}
    compared = {name: published.compare(known[name], told[name]) for name in names}
    cards = [plugins.load("readers", name).CARD for name in names]
    rows = spreadsheet_cells.of_table(croissant.table(manifest, cached.index)).encode()
    storage.write_bytes(folder / croissant.TABLE, rows)
    digest = run.made("ingest")["manifest.parquet"]
    storage.write_json(
        folder / LINKED, croissant.describe(manifest, digest, rows, cards, list(known.values()))
    )
    _clear(folder / PICTURES)
    strips = [_strip(folder, *drawn) for drawn in _classes(manifest, cached)] if pictures else []
    page = {
        "title": " and ".join(card.title for card in cards),
        "sets": [
            (name, card, known[name], compared[name])
            for name, card in zip(names, cards, strict=True)
        ],
        "strips": strips,
        "digests": [
            [step, file, digest]
            for step in ("ingest", "cache", "audit")
            for file, digest in run.made(step).items()
            if file.endswith(".parquet")
        ],
        "version": __version__,
        "made_up": MADE_UP in manifest.remarks["rule"],
        "sections": _tables(manifest, cached, whole, found),
        "tree": [
            line
            for folder, name in _folders(manifest, recipe)
            for line in sections.tree(folder, name, passed.folder)
        ],
        "verdicts": {
            published.AGREES: "✓",
            published.DIFFERS: "≠",
            published.NOT_CHECKED: "not checked",
        },
        "in_words": facts.in_words,
    }
    storage.write_text(folder / PAGE, markdown.render(page))
    return Written(folder, told, compared)


def _folders(manifest: Manifest, recipe: Recipe) -> list[tuple[Path, str]]:
    """The data folders and what to call them. The root of merged ones is whatever folder holds all, with much that is none of theirs."""
    if len(recipe.data.folders) == 1:
        return [(manifest.root, ".")]
    return sorted((folder, folder.name) for folder in recipe.data.paths)


def _of(manifest: Manifest, cached: cache.Cache, dataset: str) -> tuple[Manifest, pl.DataFrame]:
    part = manifest.only(manifest.table.filter(pl.col("dataset") == dataset)["image_id"])
    return part, cached.index.join(
        part.table.select("image_id"), on="image_id", how="semi", maintain_order="left"
    )


def _tables(
    manifest: Manifest, cached: cache.Cache, told: dict[str, facts.Value], found: pl.DataFrame
) -> dict[str, Any]:
    return {
        "glance": sections.glance(manifest, told),
        "findings": sections.findings(manifest, told),
        "parts": sections.across(manifest, told, "part"),
        "sources": sections.across(manifest, told, "source"),
        "torn": told.get("torn_patients", 0),
        "people": sections.people(manifest),
        "files": sections.files(manifest, cached, told),
        "masks": sections.masks(manifest, cached, told),
        "faults": sections.faults(found),
        "left_out": sections.left_out(manifest),
    }


def _clear(folder: Path) -> None:
    """Pictures of an earlier card go, so that none stays behind where they are not asked for."""
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise refused(folder, error) from error


def _classes(manifest: Manifest, cached: cache.Cache) -> Iterator[tuple[str, np.ndarray]]:
    """Name and pictures uint8 (n, side, side) of each finding and of none, of the first readable images of different patients."""
    readable = manifest.table.filter(
        pl.col("image_id").is_in(cached.readable["image_id"].implode())
    )
    present = manifest.labels.filter(pl.col("state") == State.PRESENT)
    groups = {
        name_of(concept): present.filter(pl.col("concept") == concept)
        for concept in present["concept"].unique().sort()
    }
    groups[sections.NONE] = manifest.labels.join(present, on="image_id", how="anti")
    if not manifest.labels.height:
        groups = {"Radiographs": manifest.table}
    for name, images in groups.items():
        first = readable.join(
            images.select("image_id").unique(), on="image_id", how="semi", maintain_order="left"
        )
        first = first.unique("patient_id", keep="first", maintain_order=True).head(STRIP)
        if first.height:
            yield name, cached.images[cached.rows(first["image_id"])]


def _strip(folder: Path, name: str, pictures: np.ndarray) -> list[Any]:
    """Write a class's pictures beside one another; returns its row of the table."""
    strip = np.hstack([resize(picture, (SIDE, SIDE)) for picture in pictures])
    file = f"{PICTURES}/{storage.digest(name.encode())[:8]}.jpeg"  # a user's own finding may be called anything
    storage.write_bytes(
        folder / file, imagecodecs.jpeg_encode(np.ascontiguousarray(strip), level=QUALITY)
    )
    return [name, markdown.SafeMarkdown(f"![{markdown.escaped(name)}]({file})")]
