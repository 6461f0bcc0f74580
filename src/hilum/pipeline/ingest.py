"""Ingest: read a folder into a `Manifest`.

Nothing is filtered; what is left out is a remark with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import polars as pl

from hilum import plugins, storage
from hilum.annotations import eligibility, lung_masks
from hilum.annotations.vocabulary import state_key
from hilum.config import Data, Recipe
from hilum.dataset import corrections, image_columns, merge
from hilum.dataset.image_columns import ImageColumns
from hilum.dataset.manifest import DROPPED, MASK_COLUMNS, Manifest, Remark, Row
from hilum.dataset.plan import account, describe
from hilum.dataset.plan import rows as plan_rows
from hilum.dataset.plan import settings as hilum_toml
from hilum.dataset.plan import understand as plan
from hilum.dataset.plan.account import Account
from hilum.dataset.remote import mirror
from hilum.errors import BadData, NotFound
from hilum.imaging.files import opened
from hilum.imaging.files.links import Links, why_left_out
from hilum.pipeline import _manifest_tables, reader_corrections
from hilum.pipeline.step import StepResult, Summary
from hilum.progress import Progress
from hilum.revisions.uptake import REVISIONS
from hilum.run_folder import Run
from hilum.safety import addresses
from hilum.safety.path_names import as_text
from hilum.safety.untrusted_files import Folder

FALLBACK = merge.OWN  # recognised only where no named set is
OWN_LAYOUT = hilum_toml.FILE  # a folder with this file says itself how it is to be read
# Marks a folder of invented images, so that nobody takes figures from it for real.
MADE_UP = "MADE-UP.txt"
PLAN = "plan.json"  # how the folders of a run were read
SHORT = "read"  # of the summary: the plan in a few lines
DEPTH = 2  # folders below the given one in which a release may lie, as unpacked archives have it


def ingest(
    folder: Path, dataset: str = "auto", patients: str = "", *, links: bool = False
) -> Manifest:
    """Read `folder` as `dataset`, or as the data set that it is recognised as.

    `patients`: one of the data set's `PATIENTS`, "" its default. `links`: follow links that lead
    out of the folder; otherwise what they lead to is left out with a remark.

    Raises `NotFound` where there is no such folder or nothing in it, `BadData` where its content
    does not make a sound table.
    """
    return accounted(folder, dataset, patients, links=links)[0]


def accounted(
    folder: Path, dataset: str = "auto", patients: str = "", *, links: bool = False
) -> tuple[Manifest, Account]:
    """Read `folder` as `ingest` does, and return how it was read, each file used or named as
    unused.
    """
    found = _items(folder, dataset, patients, links)
    mirror.refuse_incomplete(found.root)
    remarks = [item for item in found.items if isinstance(item, Remark)]
    images = image_columns.joined(item for item in found.items if not isinstance(item, Remark))
    found.items.clear()  # a million rows take as much memory as all of the tables
    if not images.table.height:
        raise NotFound(
            f"{addresses.shown(found.root)} was read as {found.name}, but holds no images of its "
            f"layout:"
            f"{_layout(found.module)}"
        )
    terms = found.module.terms(found.root) if hasattr(found.module, "terms") else found.module.TERMS
    table, labels, shapes, joined = _manifest_tables.tables(found.name, terms, images)
    remarks += joined
    manifest = Manifest.of(
        found.root,
        table,
        labels,
        [[r.path, r.severity, r.rule, r.message] for r in remarks],
        shapes,
        links=links,
    )
    return manifest, found.account


@dataclass(frozen=True)
class _Found:
    """What a data set's reader made of a folder."""

    root: Path
    name: str
    module: ModuleType
    items: list[Row | ImageColumns | Remark]
    account: Account


def _refuse_no_folder(folder: Path) -> None:
    """Raise `NotFound` where there is no folder; that of an address is listed again."""
    mirror.refresh(folder)
    remedy = "give the folder that holds the radiographs"
    if folder.is_file():
        raise NotFound(f"{addresses.shown(folder)} is a file, not a folder: {remedy}")
    if not folder.is_dir():
        raise NotFound(f"no folder at {addresses.shown(folder)}: {remedy}")


def _items(folder: Path, dataset: str, patients: str, links: bool = False) -> _Found:
    """Recognise a folder and have its reader read it. Raises as `ingest` does."""
    _refuse_no_folder(folder)
    root, name = recognise(folder) if dataset == "auto" else (folder, dataset)
    module, top = plugins.load("readers", name), root.resolve()
    title = module.CARD.title
    with opened.recorded(Folder(top, links)) as read:
        understood = module.understand(top) if hasattr(module, "understand") else None
        items = (
            plan_rows.rows(understood)
            if understood
            else module.rows(top, **_reading_of_patients(module, name, patients))
        )
        items = [*_made_up(root), *items]
        if not understood:  # what was understood from evidence was searched without the links
            items = items if links else list(_without_links(top, items))
        kept = (
            account.of_reading(understood, title)
            if understood
            else account.of_release(folder, root, name, title, items, read)
        )
    return _Found(top, name, module, items, kept)


def _without_links(
    root: Path, items: Iterable[Row | ImageColumns | Remark]
) -> Iterator[Row | ImageColumns | Remark]:
    """Leave out, with a remark each, images and masks that lead out of the folder."""
    found = Links(root)
    for item in items:
        if isinstance(item, ImageColumns):
            out = found.targets(item.table["image"])
            yield from (_link(place, target) for place, target in out.items())
            yield item.without(out)
            continue
        if isinstance(item, Row):
            if target := found.target(item.image):
                yield _link(item.image, target)
                continue
            if item.lung_mask or item.right_lung_mask or item.left_lung_mask:
                out = {
                    name: outside
                    for name in MASK_COLUMNS
                    if (place := getattr(item, name)) and (outside := found.target(place))
                }
                yield from (_link(getattr(item, name), target) for name, target in out.items())
                item = replace(item, **dict.fromkeys(out)) if out else item
        yield item


def _link(place: str, target: str) -> Remark:
    return Remark(place, "warning", DROPPED, why_left_out(target))


@dataclass(frozen=True)
class Described:
    """How a folder would be read, and what is still to be settled; nothing where `refusal` is
    "".
    """

    account: Account
    questions: tuple[str, ...] = ()
    refusal: str = ""

    @property
    def screen(self) -> str:
        """The account as text for a terminal."""
        return describe.screen(self.account)


def describe_folder(folder: Path) -> Described:
    """Work out how a folder would be read, without making a table of it.

    Raises `NotFound` where it holds no radiograph.
    """
    _refuse_no_folder(folder)
    root, name = recognise(folder)
    if name != FALLBACK:
        return Described(_items(folder, "auto", "").account)
    with opened.recorded(Folder(root.resolve())):
        reading = plan.understand(root.resolve())
    if not reading.images:
        raise NotFound(describe.nothing(reading))
    found = account.of_reading(reading, plugins.load("readers", name).CARD.title)
    questions = tuple(question.text for question in reading.evidence.questions)
    return Described(found, questions, describe.refusal(reading) if questions else "")


def settings_of(folder: Path) -> str:
    """Return the complete hilum.toml of a folder.

    That of a known data set, too, is the one that any folder of its files would get.
    """
    _refuse_no_folder(folder)
    root = recognise(folder)[0].resolve()
    with opened.recorded(Folder(root)):
        return describe.complete(plan.understand(root))


def example(dataset: str, folder: Path, *, images: int, seed: int, size: int | None = None) -> None:
    """Write a made-up copy of a data set's layout into a folder that is empty or does not exist.

    `size` is about the side of an image, the data set's own for None. A file says that it is made
    up.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BadData(f"{folder} is not empty; choose another folder, nothing was written")
    module = plugins.load("readers", dataset)
    with storage.filling(folder) as beside:
        module.example(beside, images=images, seed=seed, **({"size": size} if size else {}))
        options = f"--images {images} --seed {seed}{f' --size {size}' if size else ''}"
        storage.write_text(
            beside / MADE_UP,
            f"Invented by `hilum synthesize {dataset} {options}`: no image here is of a person.\n",
        )
        storage.flush_all()


def _made_up(root: Path) -> list[Remark]:
    return (
        [
            Remark(
                MADE_UP,
                "info",
                "made-up",
                "every image here is invented; no figure says anything about patients",
            )
        ]
        if (root / MADE_UP).exists()
        else []
    )


def read(data: Data) -> tuple[Manifest, list[Account]]:
    """Read all folders that a recipe names into one table, with the corrections made that it
    names too, and how each folder was read.

    Raises as `ingest`, `merge`, `corrections.apply` and `Journal.open` do.
    """
    manifest, accounts = _corrected_by_file(data)
    return reader_corrections.of_named(data, manifest), accounts


def _corrected_by_file(data: Data) -> tuple[Manifest, list[Account]]:
    found = [
        accounted(folder, data.dataset, data.patients, links=data.links) for folder in data.paths
    ]
    manifest = merge.merge([one for one, _ in found])
    if (file := data.corrections_path) is not None:
        manifest = corrections.apply(manifest, corrections.read(file), as_text(file.name))
    return manifest, [one for _, one in found]


def recognise(folder: Path) -> tuple[Path, str]:
    """Return the folder, itself or one below it, that has a data set's layout, and the set's
    name.
    """
    if (folder / OWN_LAYOUT).is_file():
        return folder, FALLBACK
    named = [name for name in plugins.names("readers") if name != FALLBACK]
    # Loaded once: a folder may hold ten thousand folders, and each is shown to every reader.
    readers = {name: plugins.load("readers", name) for name in named}
    level = [folder]
    for _ in range(DEPTH + 1):
        found = [
            (root, name)
            for root in level
            for name, reader in readers.items()
            if reader.detect(root)
        ]
        if len(found) == 1:
            return found[0]
        if found:
            listing = ", ".join(f"{root} ({name})" for root, name in found)
            raise BadData(f"{folder} holds several data sets: {listing}; give one of these folders")
        level = sorted(
            child
            for root in level
            for child in root.iterdir()
            if child.is_dir() and not child.name.startswith(".")
        )
    return folder, FALLBACK


def _reading_of_patients(module: ModuleType, name: str, patients: str) -> dict[str, str]:
    known = getattr(module, "PATIENTS", {})
    if patients and patients not in known:
        raise NotFound.named(f"reading of the patients of {name}", patients, known)
    return {"patients": patients} if patients else {}


def _layout(module: ModuleType) -> str:
    return "\n" + (module.__doc__ or "").strip()


# ---------------------------------------------------------------------------------------- the step


def made_from(run: Run, recipe: Recipe) -> None:
    """Return None: the data folder is read again each time."""
    return


def make(run: Run, recipe: Recipe, progress: Progress) -> StepResult:
    """Read the folders of the recipe; write the manifest and how they were read."""
    manifest, accounts = _corrected_by_file(recipe.data)
    taken = reader_corrections.take_up(run, recipe.data, manifest)
    manifest = taken.uptake.manifest if taken else manifest
    storage.write_json(run / PLAN, {"folders": [one.as_dict() for one in accounts]})
    manifest.write(run.folder)
    progress(1, 1)
    file = recipe.data.corrections_path
    counts = summary(manifest)
    if file:
        counts[f"corrected by {as_text(file.name)}"] = corrections.counts(corrections.read(file))
    made = {"manifest.parquet": manifest.digest}
    if taken:
        storage.write_table(run / REVISIONS, taken.uptake.revisions)
        made[REVISIONS] = storage.digest_of_table(taken.uptake.revisions)
        counts[reader_corrections.SUMMARY] = taken.summary
    counts[SHORT] = [line for one in accounts for line in describe.short(one)]
    return StepResult(made, counts)


def accounts(run: Run) -> list[Account]:
    """Return how the folders of a finished ingest were read."""
    return [Account.from_dict(one) for one in run.json("ingest", PLAN)["folders"]]


def summary(manifest: Manifest) -> Summary:
    """Count images, patients, masks, labels by state, and what was left out."""
    table = manifest.table
    masks = table.filter(pl.any_horizontal(pl.col(MASK_COLUMNS).is_not_null()))["image_id"]
    drawn = manifest.shapes.filter(pl.col("concept").is_in(list(lung_masks.REFERENCE)))["image_id"]
    with_mask = len({*masks, *drawn})
    states = manifest.label_states
    stated = eligibility.counts(eligibility.reasons(table))
    return {
        "data set": ", ".join(table["dataset"].unique().sort()),
        "folder": as_text(addresses.shown(manifest.root)),
        "images": table.height,
        "patients": table["patient_id"].n_unique(),
        "with lung mask": with_mask,
        "labels": {
            state_key(concept, state): count
            for concept in states.of
            for state, count in states.counts(concept).items()
        },
        "left out": manifest.remarks.filter(manifest.remarks["rule"] == DROPPED).height,
        **({"stated not to be frontal chest radiographs": stated} if stated else {}),
    }
