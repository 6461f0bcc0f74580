"""Write a data card, for readers and for machines, beside what the published cards state.

    card/README.md        the data card
    card/croissant.json   the same for machines (`hilum.reporting.card.croissant`), and
                          card/images.csv, the table that it points to
    card/images/          a strip of sample images for each class, only on request

Images are left out by default, because a card is made to be passed on, and many licences do not
allow that for the images. images.csv has rows of patients too: consider the licence before you
publish it. The same files give the same bytes wherever they are; the card holds no time and no name
of a machine or folder above the data.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import polars as pl

from hilum import __version__, plugins, storage
from hilum.annotations.vocabulary import State, name_of
from hilum.audit.issues import standing
from hilum.config import Recipe
from hilum.dataset.manifest import Manifest
from hilum.drawing.images import QUALITY, SIDE
from hilum.errors import refused
from hilum.imaging.geometry import resize
from hilum.pipeline import cache
from hilum.privacy import run_release
from hilum.reporting.card import croissant, facts, markdown, published, sections
from hilum.reporting.context import MADE_UP
from hilum.run_folder import Run
from hilum.safety import spreadsheet_cells

FOLDER, PAGE, LINKED, IMAGES = "card", "README.md", "croissant.json", "images"
UNTIL = "audit"  # the step that a card needs done
STRIP = 4  # images of a class, of different patients
VERDICTS = {
    published.AGREES: "✓",
    published.DIFFERS: "≠",
    published.NOT_CHECKED: "not checked",
}


@dataclass(frozen=True)
class Written:
    """A card that was written; `facts` and `compared` are by data set."""

    folder: Path
    facts: dict[str, facts.Facts]
    compared: dict[str, published.Comparison]

    @property
    def summary(self) -> dict[str, object]:
        """Where the card is, and how many published facts agree, for a person."""
        verdicts = (published.AGREES, published.DIFFERS, published.NOT_CHECKED)
        return {
            "published facts": {
                verdict: sum(one.count(verdict) for one in self.compared.values())
                for verdict in verdicts
            },
            "card": str(self.folder / PAGE),
        }

    def as_dict(self) -> dict[str, object]:
        """Return everything for JSON."""
        return {
            **self.summary,
            "facts": self.facts,
            "published": {
                name: [published.as_dict(row) for row in one.rows]
                for name, one in self.compared.items()
            },
        }


def write(run: Run, recipe: Recipe, *, images: bool = False) -> Written:
    """Write the card of a run whose steps are done up to `UNTIL` into its folder `FOLDER`.

    With `images`, sample images of each class too. Raises `NotFound` where a step is not done.
    """
    here, cache_here = run.manifest(), cache.opened(run, recipe)
    passed = run_release.of_run(run, recipe.share, here)
    manifest, cached = passed.manifest, passed.cache(cache_here)
    folder = run / FOLDER
    names = manifest.table["dataset"].unique().sort().to_list()
    whole = facts.facts(manifest, cached.index)
    found = {names[0]: whole}
    if len(names) > 1:
        found = {name: facts.facts(*_of(manifest, cached, name)) for name in names}
    known = {name: published.read(name) for name in names}
    compared = {name: published.compare(known[name], found[name]) for name in names}
    cards = [plugins.load("readers", name).CARD for name in names]
    rows = spreadsheet_cells.of_table(croissant.table(manifest, cached.index)).encode()
    storage.write_bytes(folder / croissant.TABLE, rows)
    digest = run.made("ingest")["manifest.parquet"]
    described = croissant.describe(manifest, digest, rows, cards, list(known.values()))
    storage.write_json(folder / LINKED, described)
    _clear(folder / IMAGES)
    strips = [_strip(folder, *drawn) for drawn in _classes(manifest, cached)] if images else []
    issues = passed.issues(standing(run.table("audit", "issues.parquet")))
    tree = [
        line
        for place, name in _folders(manifest, recipe)
        for line in sections.tree(place, name, passed.folder)
    ]
    page = {
        "title": " and ".join(card.title for card in cards),
        "sets": [
            (name, card, known[name], compared[name])
            for name, card in zip(names, cards, strict=True)
        ],
        "strips": strips,
        "digests": _digests(run),
        "version": __version__,
        "made_up": MADE_UP in manifest.remarks["rule"],
        "sections": _tables(manifest, cached, whole, issues),
        "tree": tree,
        "verdicts": VERDICTS,
        "in_words": facts.in_words,
    }
    storage.write_text(folder / PAGE, markdown.render(page))
    return Written(folder, found, compared)


def _digests(run: Run) -> list[list[str]]:
    """Return step, file and digest of every table that the card is made from."""
    return [
        [step, file, digest]
        for step in ("ingest", "cache", "audit")
        for file, digest in run.made(step).items()
        if file.endswith(".parquet")
    ]


def _folders(manifest: Manifest, recipe: Recipe) -> list[tuple[Path, str]]:
    """Return the data folders and what to call them.

    The root of merged sets is whatever folder holds all of them, and may hold other things.
    """
    if len(recipe.data.folders) == 1:
        return [(manifest.root, ".")]
    return sorted((folder, folder.name) for folder in recipe.data.paths)


def _of(manifest: Manifest, cached: cache.Cache, dataset: str) -> tuple[Manifest, pl.DataFrame]:
    part = manifest.only(manifest.table.filter(pl.col("dataset") == dataset)["image_id"])
    return part, cached.index.join(
        part.table.select("image_id"), on="image_id", how="semi", maintain_order="left"
    )


def _tables(
    manifest: Manifest, cached: cache.Cache, found: facts.Facts, issues: pl.DataFrame
) -> dict[str, object]:
    """Return the tables of the card by the names that its template uses."""
    return {
        "glance": sections.glance(manifest, found),
        "findings": sections.findings(manifest, found),
        "parts": sections.across(manifest, found, "part"),
        "sources": sections.across(manifest, found, "source"),
        "torn": found.get("torn_patients", 0),
        "people": sections.people(manifest),
        "files": sections.files(manifest, cached, found),
        "masks": sections.masks(manifest, cached, found),
        "issues": sections.issues(issues),
        "left_out": sections.left_out(manifest),
    }


def _clear(folder: Path) -> None:
    """Remove the sample images of an earlier card, so that none remains where not requested."""
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise refused(folder, error) from error


def _classes(manifest: Manifest, cached: cache.Cache) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and images uint8 (n, side, side) of each finding, and of no finding.

    They are the first readable images of different patients.
    """
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


def _strip(folder: Path, name: str, images: np.ndarray) -> list[str]:
    """Write a class's images side by side; returns its row of the table."""
    strip = np.hstack([resize(image, (SIDE, SIDE)) for image in images])
    # A digest, since a finding of one's own may have any name, also one that is no file name.
    file = f"{IMAGES}/{storage.digest(name.encode())[:8]}.jpeg"
    encoded = imagecodecs.jpeg_encode(np.ascontiguousarray(strip), level=QUALITY)
    storage.write_bytes(folder / file, bytes(encoded))
    return [name, markdown.SafeMarkdown(f"![{markdown.escaped(name)}]({file})")]
