"""The table between data and everything else: one row per image file, and one row per label.

`Manifest.table` (Polars), one row per image; a type with ? may be null:

    image_id          str    unique, `dataset/name`
    dataset           str    module of `hilum.dataset.readers` that read it
    source            str    hospital or collection within the data set, else the data set's name
    patient_id        str    `dataset/patient`, never null; notes such as "same patient as …" are
                             already applied
    path              str    image file below `root`, see `hilum.safety.path_names`
    lung_mask         str?   file of the mask of both lungs below `root`
    right_lung_mask   str?   file of the mask of the patient's right lung
    left_lung_mask    str?   file of the mask of the patient's left lung
    mask_values       str?   meaning of the values in these masks, as JSON: {"1": "right",
                             "2": "left", "255": "ignore"}, see `hilum.imaging.files.label_image`;
                             null: it is worked out from the masks
    given_part        str?   train, tune or test, where the source has a split of its own
    sex               str?   female, male or other
    age_years         float?
    view              str?   PA, AP, FRONTAL, LATERAL, OBLIQUE, DECUBITUS or LORDOTIC, see
                             `hilum.annotations.acquisition`
    body_part         str?   DICOM defined term (0018,0015), such as CHEST or HAND; an unknown one
                             as the source states it
    modality          str?   DICOM defined term (0008,0060), such as CR, DX or CT; XR: radiography
                             of unstated kind
    laterality        str?   R, L, B (both) or U (unpaired), where the source states it
    reading           str?   report text as written
    study             str?   examination that the image belongs to, in the source's own words
    follow_up         int?   number of the examination of this patient, where the source counts them
    stated_height     int?   pixels, as the source states them; likewise stated_width. Caching finds
                             the size of the file itself
    row_spacing_mm    float? distance between rows as the source states it, of pixels of the stated
                             size; likewise column_spacing_mm
    rotated           int?   degrees clockwise (90, 180 or 270) by which a correction turns what the
                             file shows; null: not at all, as for the next two
    mirrored          bool?  whether a correction exchanges left and right, after that
    inverted          bool?  whether a correction exchanges dark and bright, see
                             `hilum.imaging.files.image_file.Display`

`Manifest.labels`, one row per label that the source states; "not mentioned" has no row:

    image_id, concept
    state             int    1 present, 0 absent, -1 uncertain
    term              str    the source's own word
    source            str    place of the statement: a file and its column or line, a folder, a name
    rule              str    derivation of the state: "column", "file name", "folder", or the name
                             of a rule of the report parser
    words             str?   sentence or clause, where it was read from text
    side              str?   right, left or bilateral
    zone              str?   upper, middle, lower, apex or hilum
    activity          str?   active, old, stable, improving or worsening

`Manifest.shapes`, one row per drawn shape: image_id, concept (of a finding, or right_lung,
left_lung, lungs, or ignored: pixels that a mask leaves open), term, shape (JSON text of
`hilum.annotations.shapes`), source, author (who drew it; null: not stated).

`Manifest.remarks`, on what reading the folder met: path, severity (info, warning, error), rule,
message. What was left out has the rule `dropped`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from hilum import storage
from hilum.annotations import eligibility
from hilum.annotations.acquisition import LATERALITIES, VIEWS
from hilum.annotations.vocabulary import State
from hilum.dataset import label_states, manifest_checks
from hilum.dataset._label_table import LabelTable
from hilum.dataset.label_states import LabelStates
from hilum.errors import BadData, NotFound
from hilum.safety import addresses
from hilum.safety.path_names import as_text, from_text
from hilum.safety.untrusted_files import Folder
from hilum.storage import stored_table

COLUMNS = {
    "image_id": pl.String,
    "dataset": pl.String,
    "source": pl.String,
    "patient_id": pl.String,
    "path": pl.String,
    "lung_mask": pl.String,
    "right_lung_mask": pl.String,
    "left_lung_mask": pl.String,
    "mask_values": pl.String,
    "given_part": pl.String,
    "sex": pl.String,
    "age_years": pl.Float64,
    "view": pl.String,
    **dict.fromkeys(("body_part", "modality", "laterality", "reading", "study"), pl.String),
    "follow_up": pl.Int64,
    "stated_height": pl.Int64,
    "stated_width": pl.Int64,
    "row_spacing_mm": pl.Float64,
    "column_spacing_mm": pl.Float64,
    "rotated": pl.Int64,
    "mirrored": pl.Boolean,
    "inverted": pl.Boolean,
}
LABEL_COLUMNS = {
    "image_id": pl.String,
    "concept": pl.String,
    "state": pl.Int8,
    **dict.fromkeys(("term", "source", "rule", "words", "side", "zone", "activity"), pl.String),
}
SHAPE_COLUMNS: dict[str, type[pl.String]] = dict.fromkeys(
    ("image_id", "concept", "term", "shape", "source", "author"), pl.String
)
REMARK_COLUMNS = {"path": pl.String, "severity": pl.String, "rule": pl.String, "message": pl.String}
REQUIRED = ("image_id", "dataset", "source", "patient_id", "path")
MASK_COLUMNS = ("lung_mask", "right_lung_mask", "left_lung_mask")
PLACES = ("path", *MASK_COLUMNS)  # files below the root
DISPLAY = ("rotated", "mirrored", "inverted")
PARTS = ("train", "tune", "test")
SEXES = ("female", "male", "other")
# Allowed values of the columns that have few.
VALUES = {"given_part": PARTS, "sex": SEXES, "view": VIEWS, "laterality": LATERALITIES}
SEVERITIES = ("error", "warning", "info")
DROPPED = "dropped"
TABLES = {
    "manifest": COLUMNS,
    "labels": LABEL_COLUMNS,
    "remarks": REMARK_COLUMNS,
    "shapes": SHAPE_COLUMNS,
}
ROOT = "root.json"
FILES = (*(f"{name}.parquet" for name in TABLES), ROOT)


@dataclass(frozen=True, slots=True)
class Label:
    """One label in the source's own word; see the columns of `Manifest.labels`.

    `concept` is None where the TERMS of the data set give the term its concept.
    """

    term: str
    state: State
    source: str
    rule: str = "column"
    words: str | None = None
    side: str | None = None
    zone: str | None = None
    activity: str | None = None
    concept: str | None = None


@dataclass(frozen=True, slots=True)
class Drawn:
    """A shape drawn on an image, in the file's own pixels; see the columns of `Manifest.shapes`.

    `shape` is the JSON text of `hilum.annotations.shapes`, `term` the source's own word.
    """

    term: str
    shape: str
    source: str
    author: str | None = None
    concept: str | None = None  # as for `Label`


@dataclass(frozen=True, slots=True)
class Row:
    """One image as a reader of a data set yields it; see the columns of `Manifest.table`.

    Ids are those of the release, without the prefix of the data set. `same_patient` lists other
    patients that the source states to be this one. View, body part, modality and laterality are
    as `hilum.annotations.acquisition` normalises them.
    """

    image: str  # path below the root, with forward slashes
    name: str  # unique in the data set
    patient: str
    source: str | None = None  # None: the data set has one source
    labels: tuple[Label, ...] = ()
    lung_mask: str | None = None
    right_lung_mask: str | None = None
    left_lung_mask: str | None = None
    mask_values: str | None = None
    given_part: str | None = None
    sex: str | None = None
    age_years: float | None = None
    view: str | None = None
    body_part: str | None = None
    modality: str | None = None
    laterality: str | None = None
    reading: str | None = None
    same_patient: tuple[str, ...] = ()
    study: str | None = None
    follow_up: int | None = None
    stated_height: int | None = None
    stated_width: int | None = None
    row_spacing_mm: float | None = None
    column_spacing_mm: float | None = None
    drawn: tuple[Drawn, ...] = ()


@dataclass(frozen=True, slots=True)
class Remark:
    """A remark on reading a folder: a file that was left out, a report that could not be parsed."""

    path: str
    severity: str
    rule: str
    message: str


@dataclass(frozen=True)
class Manifest:
    """A data set as four checked tables; the module's docstring lists their columns.

    `image_id` is unique, `patient_id` is never null, every concept is known or local, and each
    image has at most one label per concept. Rows are sorted. Paths are below `root`; with `links`
    they may lead out of it through links. Labels that were read from a folder are unpacked when
    the table of them is first used. `originals` gives the files behind names in `table` that
    are not those on disk, see `hilum.privacy.release`.
    """

    root: Path
    table: pl.DataFrame
    if TYPE_CHECKING:
        labels: pl.DataFrame
    else:
        labels: LabelTable = LabelTable()
    remarks: pl.DataFrame
    shapes: pl.DataFrame
    links: bool = False
    originals: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Folder:
        """Return the folder in which the paths of the table are resolved."""
        return Folder(self.root, self.links)

    @classmethod
    def of(
        cls,
        root: Path,
        images: pl.DataFrame | Sequence[Sequence],
        labels: pl.DataFrame | Sequence[Sequence],
        remarks: Sequence[Sequence],
        shapes: Sequence[Sequence] = (),
        *,
        links: bool = False,
    ) -> Manifest:
        """Build a manifest from rows with cells in the order of the columns; sort and check it.

        Raises `BadData` with every fault.
        """
        manifest = cls(
            root,
            stored_table.constants_once(
                manifest_checks.sorted_by(
                    pl.DataFrame(images, schema=COLUMNS, orient="row"), "image_id"
                )
            ),
            LabelTable.of(labels, LABEL_COLUMNS),
            pl.DataFrame(remarks, schema=REMARK_COLUMNS, orient="row").sort(
                "path", "rule", "message"
            ),
            pl.DataFrame(shapes, schema=SHAPE_COLUMNS, orient="row").sort(
                "image_id", "concept", "shape", "author"
            ),
            links,
        )
        if not manifest.label_states.sound:  # which those of ingest are, sorted
            key = ("image_id", "concept")
            manifest = replace(manifest, labels=manifest_checks.sorted_by(manifest.labels, *key))
        manifest.check()
        return manifest

    def check(self) -> None:
        """Raise `BadData` with every breach of what holds of the tables."""
        faults = [
            *manifest_checks.faults_of_ids(self.table, REQUIRED),
            *manifest_checks.faults_of_stated(self.table, self.label_states, lambda: self.labels),
            *manifest_checks.faults_of_values(self.table, VALUES),
            *manifest_checks.faults_of_rotations(self.table),
            *manifest_checks.faults_of_places(self.table, PLACES),
        ]
        if faults:
            raise BadData.listing(f"the table of {self.root} is not sound", faults)

    @cached_property
    def label_states(self) -> LabelStates:
        """Return the labels as numbers, by concept."""
        return LabelTable.unpacked(self, partial(label_states.of, self.table["image_id"]))

    def query_labels(self, query: Callable[[pl.LazyFrame], pl.LazyFrame]) -> pl.DataFrame:
        """Return what a query finds in the labels. Raises `BadData` where they are damaged."""
        return LabelTable.queried(self, query)

    @cached_property
    def digest(self) -> str:
        """Return a digest of the four tables; it does not depend on `root`.

        Columns of `DISPLAY` count only where one has a value, so that runs of before they existed
        stay valid.
        """
        stated = [one for one in DISPLAY if self.table[one].null_count() < self.table.height]
        table = self.table.drop(*(one for one in DISPLAY if one not in stated))
        return storage.digest(
            [
                storage.digest_of_table(table)
                for table in (table, self.labels, self.remarks, self.shapes)
            ]
        )

    def original(self, place: str) -> str:
        """Return the path below the root of the file that the table calls `place`."""
        return self.originals.get(place, place)

    def located(self, place: str) -> tuple[Path, Path | None]:
        """Return the file that the table calls `place`, and the `root` to read it with."""
        return self.folder.located(self.original(place))

    def stored(self) -> Manifest:
        """Return the manifest with the names that the files have on disk."""
        if not self.originals:
            return self
        table = self.table.with_columns(pl.col(*PLACES).replace(self.originals))
        return replace(self, table=table, originals={})

    def states(self, concept: str) -> pl.DataFrame:
        """Return image_id, patient_id, dataset and the state of one concept, in the table's order.

        `state` is 1, 0, -1 or null for "not mentioned".
        """
        return self.table.select(
            "image_id", "patient_id", "dataset", state=self.label_states.column(concept)
        )

    def eligible(self, include: Collection[str] = ()) -> Manifest:
        """Return the manifest without the images that are excluded; itself where none is.

        `include` is as in `hilum.annotations.eligibility`.
        """
        kept = self.table.filter(eligibility.reasons(self.table, include).is_null())
        return self if kept.height == self.table.height else self.only(kept["image_id"])

    def only(self, image_ids: Iterable[str]) -> Manifest:
        """Return the manifest of these images alone, with all remarks."""
        wanted = pl.DataFrame({"image_id": image_ids}, schema={"image_id": pl.String})
        table, labels, shapes = (
            part.join(wanted, on="image_id", how="semi", maintain_order="left")
            for part in (self.table, self.labels, self.shapes)
        )
        return replace(self, table=table, labels=labels, shapes=shapes)

    def write(self, folder: Path) -> None:
        """Write the tables into a folder; manifest.parquet comes last and marks it as complete."""
        storage.write_table(folder / "labels.parquet", LabelTable.packed(self))
        storage.write_table(folder / "remarks.parquet", self.remarks)
        storage.write_table(folder / "shapes.parquet", self.shapes)
        storage.write_json(
            folder / "root.json",
            {
                "root": as_text(addresses.stored(self.root)),
                **({"links": True} if self.links else {}),
            },
        )
        with_states = label_states.beside(self.table, self.label_states, folder / "labels.parquet")
        storage.write_table(folder / "manifest.parquet", *with_states)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read what `write` wrote, and check it.

        Raises `NotFound` without a manifest, `Mismatch` for one of an earlier version, `BadData`
        for one that is not sound.
        """
        if not (folder / "manifest.parquet").exists():
            raise NotFound(
                f"{folder} holds no manifest.parquet: write it with "
                f"`hilum ingest DATA --out {folder}`"
            )
        stated = storage.read_json(folder / ROOT)
        if not isinstance(stated, dict) or not isinstance(stated.get("root"), str):
            raise BadData(f"{folder / ROOT}: names no root; {manifest_checks.again(folder)}")
        later = {"manifest": {one: COLUMNS[one] for one in DISPLAY}}  # old runs lack them
        stored = manifest_checks.stored(folder, TABLES, later)
        images = stored["manifest"].table()
        lacking = (one for one in DISPLAY if one not in images.columns)
        images = images.with_columns(pl.lit(None, COLUMNS[one]).alias(one) for one in lacking)
        remarks, shapes = (
            stored[name].table().select(list(TABLES[name])) for name in ("remarks", "shapes")
        )
        root, links = addresses.located(from_text(stated["root"])), stated.get("links") is True
        manifest = cls(root, images.select(list(COLUMNS)), pl.DataFrame(), remarks, shapes, links)
        LabelTable.hold(manifest, stored["labels"], label_states.stored(images, stored))
        manifest.check()
        return manifest
