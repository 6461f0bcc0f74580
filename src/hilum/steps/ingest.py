"""Ingest: a folder becomes a `Manifest`. Nothing is filtered; what is left out is a remark with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl

from hilum import corrections, lungs, shelf, store
from hilum.errors import BadData, NotFound
from hilum.manifest import DROPPED, LABEL_COLUMNS, Label, Manifest, Remark, Row
from hilum.recipe import Data, Recipe
from hilum.run import Run
from hilum.steps import Progress, merge
from hilum.vocabulary import concept_for

FALLBACK = merge.OWN  # recognised only where no named set is
OWN_LAYOUT = "hilum.toml"  # a folder that says itself how it is to be read is nobody else's
MADE_UP = "MADE-UP.txt"  # lies in a folder whose pictures are invented, so that nobody takes figures from it for real
DEPTH = 2  # folders below the given one in which a release may lie, as unpacked archives have it


def ingest(folder: Path, dataset: str = "auto", patients: str = "") -> Manifest:
    """Read `folder` as `dataset`, or as what it is recognised as; `patients` chooses one of the data set's `PATIENTS`, "" its default.

    Raises `NotFound` where there is no such folder or nothing in it, `BadData` where what is there cannot be a sound table.
    """
    if not folder.is_dir():
        raise NotFound(f"no folder at {folder}: give the folder that holds the radiographs")
    root, name = recognise(folder) if dataset == "auto" else (folder, dataset)
    module = shelf.load("datasets", name)
    rows, remarks = [], _made_up(root)
    for item in module.rows(root.resolve(), **_reading_of_patients(module, name, patients)):
        (rows if isinstance(item, Row) else remarks).append(item)
    if not rows:
        raise NotFound(f"{root} was read as {name}, but holds no pictures of its form:{_layout(module)}")
    terms = module.terms(root.resolve()) if hasattr(module, "terms") else module.TERMS
    images, labels, shapes, joined = _tables(name, terms, rows)
    remarks += joined
    return Manifest.of(root.resolve(), images, labels, [[r.path, r.severity, r.rule, r.message] for r in remarks], shapes)


def example(dataset: str, folder: Path, *, images: int, seed: int) -> None:
    """Write a made-up copy of a data set's layout into a folder that is empty or not there, and say in it that it is one."""
    if folder.exists() and any(folder.iterdir()):
        raise BadData(f"{folder} is not empty; choose another folder, nothing was written")
    shelf.load("datasets", dataset).example(folder, images=images, seed=seed)
    store.write_text(folder / MADE_UP, f"Invented by `hilum example {dataset} --images {images} --seed {seed}`: no picture here is of a person.\n")


def _made_up(root: Path) -> list[Remark]:
    return [Remark(MADE_UP, "info", "made-up", "every picture here is invented; no figure says anything about patients")] if (root / MADE_UP).exists() else []


def read(data: Data) -> Manifest:
    """The table of all folders that a recipe names, with its corrections made. Raises as `ingest`, `merge` and `corrections.apply` do."""
    manifest = merge.merge([ingest(Path(folder), data.dataset, data.patients) for folder in data.folders])
    if not data.corrections:
        return manifest
    file = Path(data.corrections)
    return corrections.apply(manifest, corrections.read(file), file.name)


def recognise(folder: Path) -> tuple[Path, str]:
    """The folder (itself, or one below it) that a data set's layout is found in, and the data set's name."""
    if (folder / OWN_LAYOUT).is_file():
        return folder, FALLBACK
    named = [name for name in shelf.names("datasets") if name != FALLBACK]
    level = [folder]
    for _ in range(DEPTH + 1):
        found = [(root, name) for root in level for name in named if shelf.load("datasets", name).detect(root)]
        if len(found) == 1:
            return found[0]
        if found:
            listing = ", ".join(f"{root} ({name})" for root, name in found)
            raise BadData(f"{folder} holds several data sets: {listing}; give one of these folders")
        level = sorted(child for root in level for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
    if shelf.load("datasets", FALLBACK).detect(folder):
        return folder, FALLBACK
    held = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
    known = "".join(f"\n  {name}: {shelf.load('datasets', name).CARD.title}" for name in shelf.names("datasets"))
    raise NotFound(f"{folder} holds no radiographs: got {held}; expected PNG, JPEG, TIFF or DICOM pictures, or one of the known layouts:{known}")


def _reading_of_patients(module: ModuleType, name: str, patients: str) -> dict[str, str]:
    known = getattr(module, "PATIENTS", {})
    if patients and patients not in known:
        raise NotFound.named(f"reading of the patients of {name}", patients, known)
    return {"patients": patients} if patients else {}


def _layout(module: ModuleType) -> str:
    return "\n" + (module.__doc__ or "").strip()


def _tables(dataset: str, known: Mapping[str, str] | None, rows: list[Row]) -> tuple[list[list], pl.DataFrame, list[list], list[Remark]]:
    """Rows of the manifest's tables of images, labels and shapes, with terms turned into concepts and linked patients joined."""
    # A set of 100,000 pictures has a few hundred different tuples of labels, and its rows share them: each is looked at once.
    told = {id(row.labels): row.labels for row in rows}
    terms = _concepts(dataset, known, rows, told)
    patient, joined = _joined_patients(rows)
    images = [
        [
            f"{dataset}/{row.name}", dataset, row.source or dataset, f"{dataset}/{patient[row.patient]}", row.image, row.lung_mask, row.right_lung_mask,
            row.left_lung_mask, row.mask_values, row.given_part, row.sex, row.age_years, row.view, row.reading, row.study, row.follow_up, row.stated_height, row.stated_width,
            row.row_spacing_mm, row.column_spacing_mm,
        ]
        for row in rows
    ]  # fmt: skip
    labels = [
        [key, terms[it.term], it.state.value, it.term, it.source, it.rule, it.words, it.side, it.zone, it.activity]
        for key, labels in told.items()
        for it in labels
    ]
    stated = pl.DataFrame(labels, schema={"told": pl.UInt64, **{name: kind for name, kind in LABEL_COLUMNS.items() if name != "image_id"}}, orient="row")
    image = pl.DataFrame([(f"{dataset}/{row.name}", id(row.labels)) for row in rows], schema={"image_id": pl.String, "told": pl.UInt64}, orient="row")
    shapes = [[f"{dataset}/{row.name}", terms[it.term], it.term, it.shape, it.source, it.author] for row in rows for it in row.drawn]
    return images, image.join(stated, on="told").drop("told"), shapes, joined


def _concepts(dataset: str, known: Mapping[str, str] | None, rows: Iterable[Row], told: Mapping[int, Sequence[Label]]) -> dict[str, str]:
    """Concept by term. Raises `BadData` with a count for each term that the data set does not map."""
    counts = Counter(it.term for row in rows for it in row.drawn)
    for key, images in Counter(id(row.labels) for row in rows).items():
        for it in told[key]:
            counts[it.term] += images
    if known is None:
        return {term: concept_for(term) for term in counts}
    strange = [f"'{term}' on {count} images" for term, count in sorted(counts.items()) if term not in known]
    if strange:
        raise BadData.listing(f"terms that {dataset} does not map to the vocabulary (add them to its TERMS)", strange)
    return dict(known)


def _joined_patients(rows: Iterable[Row]) -> tuple[dict[str, str], list[Remark]]:
    """The name each patient goes by, after notes such as "same patient as …" are followed; one remark for each note."""
    rows = list(rows)
    root = {row.patient: row.patient for row in rows}

    def find(name: str) -> str:
        while root[name] != name:
            name = root[name]
        return name

    remarks = []
    for row in rows:
        for other in row.same_patient:
            if other not in root:
                remarks.append(Remark(row.image, "warning", "same-patient", f"its reading names {other} as the same patient, who has no picture here"))
                continue
            first, second = sorted((find(row.patient), find(other)))
            root[second] = first
            remarks.append(Remark(row.image, "info", "same-patient", f"joined with {other}, as its reading says"))
    return {name: find(name) for name in root}, remarks


# ------------------------------------------------------------------------------------------------------------------------ the step


def made_from(run: Run, recipe: Recipe) -> None:
    return None


def make(run: Run, recipe: Recipe, progress: Progress) -> tuple[dict[str, str], dict[str, Any]]:
    manifest = read(recipe.data)
    manifest.write(run.folder)
    progress(1, 1)
    file = recipe.data.corrections
    made = {f"corrected by {Path(file).name}": corrections.counts(corrections.read(Path(file)))} if file else {}
    return {"manifest.parquet": manifest.digest}, {**summary(manifest), **made}


def summary(manifest: Manifest) -> dict[str, Any]:
    table = manifest.table
    masks = table.filter(pl.any_horizontal(pl.col("lung_mask", "right_lung_mask", "left_lung_mask").is_not_null()))["image_id"]
    drawn = manifest.shapes.filter(pl.col("concept").is_in(list(lungs.DRAWN)))["image_id"]
    with_mask = len({*masks, *drawn})
    states = manifest.labels.group_by("concept", "state").len().sort("concept", "state")
    return {
        "data set": ", ".join(table["dataset"].unique().sort()),
        "folder": str(manifest.root),
        "images": table.height,
        "patients": table["patient_id"].n_unique(),
        "with lung mask": with_mask,
        "labels": {f"{concept} {_WORDS[state]}": count for concept, state, count in states.iter_rows()},
        "left out": manifest.remarks.filter(manifest.remarks["rule"] == DROPPED).height,
    }


_WORDS = {1: "present", 0: "absent", -1: "uncertain"}
