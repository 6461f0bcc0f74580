"""The table between data and everything else: one row an image file, and one row a label.

`Manifest.table` (Polars), one row an image:

    image_id          str    unique, `dataset/name`
    dataset           str    the data-set module that read it
    source            str    the hospital or collection within it; the data set's own name where it is of one piece
    patient_id        str    `dataset/patient`, never null; notes such as "same patient as …" are already joined
    path              str    the picture's place below `root`, see `hilum.safety.path_names`; likewise the masks
    lung_mask         str?   mask of both lungs below `root`; null: the source has none
    right_lung_mask   str?   mask of the patient's right lung
    left_lung_mask    str?   mask of the patient's left lung
    mask_values       str?   what the values of these masks stand for, as JSON: {"1": "right", "2": "left", "255": "ignore"}, see
                             `hilum.imaging.files.label_image`; null: it is worked out from the masks
    given_part        str?   train, tune or test, where the source comes with a split of its own
    sex               str?   female, male or other
    age_years         float?
    view              str?   PA, AP, FRONTAL, LATERAL, OBLIQUE, DECUBITUS or LORDOTIC, see `hilum.annotations.acquisition`
    body_part         str?   DICOM's defined term, such as CHEST or HAND; one that is not recognised as it is stated
    modality          str?   DICOM's defined term, such as CR, DX or CT; XR: radiography of which the kind is not stated
    laterality        str?   R, L, B (both) or U (unpaired), where the source states it
    reading           str?   the text as written
    study             str?   the examination that the image belongs to, in the source's own words
    follow_up         int?   number of the examination within the patient's, where the source counts them
    stated_height     int?   pixels, as the source states them, likewise stated_width; what the file has is found by caching
    row_spacing_mm    float? distance between rows as the source states it, of pixels of the stated size; likewise column_spacing_mm

`Manifest.labels`, one row a label that the source states (not mentioned has no row):

    image_id, concept
    state             int    1 present, 0 absent, -1 uncertain
    term              str    the source's own word
    source            str    where it stands: a file and its column or line, a folder, a file name
    rule              str    how the cell became the state: "column", "file name", "folder", or the reading rule's name
    words             str?   the sentence or clause, where it was read from text
    side              str?   right, left or bilateral
    zone              str?   upper, middle, lower, apex or hilum
    activity          str?   active, old, stable, improving or worsening

`Manifest.shapes`, one row a thing drawn on an image: image_id, concept (of a finding, or right_lung, left_lung, lungs), term, shape
(the JSON text of `hilum.annotations.shapes`), source, author (who drew it; null: not told).

`Manifest.remarks`, what reading the folder met: path, severity (info, warning, error), rule, message. What was left out has rule
`dropped`.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import polars as pl

from hilum import storage
from hilum.annotations import eligibility
from hilum.annotations.acquisition import LATERALITIES, VIEWS
from hilum.annotations.vocabulary import LOCAL, SEX_NAMES, State, concepts
from hilum.errors import BadData, Mismatch, NotFound, on_one_line
from hilum.safety.path_names import as_text, from_text
from hilum.safety.untrusted_files import Folder

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
    "body_part": pl.String,
    "modality": pl.String,
    "laterality": pl.String,
    "reading": pl.String,
    "study": pl.String,
    "follow_up": pl.Int64,
    "stated_height": pl.Int64,
    "stated_width": pl.Int64,
    "row_spacing_mm": pl.Float64,
    "column_spacing_mm": pl.Float64,
}
LABEL_COLUMNS = {
    "image_id": pl.String,
    "concept": pl.String,
    "state": pl.Int8,
    "term": pl.String,
    "source": pl.String,
    "rule": pl.String,
    "words": pl.String,
    "side": pl.String,
    "zone": pl.String,
    "activity": pl.String,
}
SHAPE_COLUMNS = dict.fromkeys(
    ("image_id", "concept", "term", "shape", "source", "author"), pl.String
)
REMARK_COLUMNS = {"path": pl.String, "severity": pl.String, "rule": pl.String, "message": pl.String}
REQUIRED = ("image_id", "dataset", "source", "patient_id", "path")
PLACES = ("path", "lung_mask", "right_lung_mask", "left_lung_mask")  # columns that name files
PARTS = ("train", "tune", "test")
SEXES = tuple(SEX_NAMES.values())
VALUES = {
    "given_part": PARTS,
    "sex": SEXES,
    "view": VIEWS,
    "laterality": LATERALITIES,
}  # of columns with few
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
PLACES = (
    "path",
    "lung_mask",
    "right_lung_mask",
    "left_lung_mask",
)  # columns of files below the root


@dataclass(frozen=True, slots=True)
class Label:
    """What the source says in its own word; the data set's TERMS turn the term into a concept."""

    term: str
    state: State
    source: str
    rule: str = "column"
    words: str | None = None
    side: str | None = None
    zone: str | None = None
    activity: str | None = None
    concept: str | None = (
        None  # where the folder itself says what the term means; null: the data set's TERMS do
    )


@dataclass(frozen=True, slots=True)
class Drawn:
    """Something drawn on an image: `term` in the source's own word, `shape` as `hilum.annotations.shapes` writes it, in the file's own pixels."""

    term: str
    shape: str
    source: str
    author: str | None = None
    concept: str | None = None  # as for `Label`


@dataclass(frozen=True, slots=True)
class Row:
    """One image as a data-set module reads it, in the release's own words."""

    image: str  # path below the root, forward slashes
    name: str  # unique in the data set
    patient: str
    source: str | None = None  # null: the data set is of one piece
    labels: tuple[Label, ...] = ()
    lung_mask: str | None = None
    right_lung_mask: str | None = None
    left_lung_mask: str | None = None
    mask_values: str | None = None
    given_part: str | None = None
    sex: str | None = None
    age_years: float | None = None
    view: str | None = (
        None  # this and the next three as `hilum.annotations.acquisition` normalises them
    )
    body_part: str | None = None
    modality: str | None = None
    laterality: str | None = None
    reading: str | None = None
    same_patient: tuple[str, ...] = ()  # other patients that the source says are this one
    study: str | None = None
    follow_up: int | None = None
    stated_height: int | None = None
    stated_width: int | None = None
    row_spacing_mm: float | None = None
    column_spacing_mm: float | None = None
    drawn: tuple[Drawn, ...] = ()


@dataclass(frozen=True, slots=True)
class Remark:
    """Something met while reading that is not a row: a file left out, a reading that could not be understood."""

    path: str
    severity: str
    rule: str
    message: str


@dataclass(frozen=True)
class Manifest:
    root: Path
    table: pl.DataFrame
    labels: pl.DataFrame
    remarks: pl.DataFrame
    shapes: pl.DataFrame
    links: bool = False  # whether files may lie outside of `root`, where a link leads to them
    # Files by the names that they go by in `table`, where these are not their own, see `hilum.privacy.release`.
    originals: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Folder:
        """Where the files of the table are."""
        return Folder(self.root, self.links)

    @classmethod
    def of(
        cls,
        root: Path,
        images: Sequence[Sequence],
        labels: pl.DataFrame | Sequence[Sequence],
        remarks: Sequence[Sequence],
        shapes: Sequence[Sequence] = (),
        *,
        links: bool = False,
    ) -> Manifest:
        """Build from rows in the order of the columns, order by `image_id` and check. Raises `BadData` with every fault."""
        manifest = cls(
            root,
            pl.DataFrame(images, schema=COLUMNS, orient="row").sort("image_id"),
            pl.DataFrame(labels, schema=LABEL_COLUMNS, orient="row").sort("image_id", "concept"),
            pl.DataFrame(remarks, schema=REMARK_COLUMNS, orient="row").sort(
                "path", "rule", "message"
            ),
            pl.DataFrame(shapes, schema=SHAPE_COLUMNS, orient="row").sort(
                "image_id", "concept", "shape", "author"
            ),
            links,
        )
        manifest.check()
        return manifest

    def check(self) -> None:
        """Raise `BadData` listing every breach of the schema's promises."""
        faults = [
            f"{column} is empty in {count} rows"
            for column in REQUIRED
            if (count := self.table[column].null_count())
        ]
        faults += [
            f"image_id {image} stands in several rows"
            for image in _repeated(self.table, "image_id")
        ]
        faults += [f"path {path} stands in several rows" for path in _repeated(self.table, "path")]
        again = pl.all_horizontal(
            pl.col("image_id", "concept").eq_missing(pl.col("image_id", "concept").shift())
        )  # in their order, twins are neighbours
        faults += [
            f"{image}: several labels for one finding"
            for image in self.labels.filter(again)["image_id"].unique(maintain_order=True)
        ]
        faults += [
            f"label for {image}, which is not in the table"
            for image in self.labels.join(self.table, on="image_id", how="anti")[
                "image_id"
            ].unique()
        ]
        for column, allowed in VALUES.items():
            strange = self.table.filter(
                pl.col(column).is_not_null() & ~pl.col(column).is_in(allowed)
            )
            faults += [
                f"{row['image_id']}: {column} is '{row[column]}', expected one of {', '.join(allowed)}"
                for row in strange.iter_rows(named=True)
            ]
        faults += [
            f"no concept is called '{c}'"
            for c in self.labels["concept"].unique()
            if c not in concepts() and not c.startswith(LOCAL)
        ]
        for column in PLACES:
            place = pl.col(column)
            outside = self.table.filter(
                place.str.starts_with("/")
                | place.str.split("/").list.contains("..")
                | place.str.contains("\0", literal=True)
            )
            faults += [f"{on_one_line(one)}: leads out of the folder" for one in outside[column]]
        if faults:
            raise BadData.listing(f"the table of {self.root} is not sound", faults)

    @cached_property
    def digest(self) -> str:
        """Of everything in it but the folder's place on this machine."""
        return storage.digest(
            [
                storage.digest_of_table(table)
                for table in (self.table, self.labels, self.remarks, self.shapes)
            ]
        )

    def original(self, place: str) -> str:
        """Return where below the root a file lies that the table calls `place`."""
        return self.originals.get(place, place)

    def located(self, place: str) -> tuple[Path, Path | None]:
        """Return the file that the table calls `place`, and the `root` that its readers take."""
        return self.folder.located(self.original(place))

    def stored(self) -> Manifest:
        """Return the manifest with the places of files as they lie on the disk."""
        if not self.originals:
            return self
        places = pl.col("path", "lung_mask", "right_lung_mask", "left_lung_mask")
        table = self.table.with_columns(places.replace(self.originals))
        return replace(self, table=table, originals={})

    def states(self, concept: str) -> pl.DataFrame:
        """image_id, patient_id, dataset and `state` (null: not mentioned) of one concept, one row an image, in the table's order."""
        of_concept = self.labels.filter(pl.col("concept") == concept).select("image_id", "state")
        return self.table.select("image_id", "patient_id", "dataset").join(
            of_concept, on="image_id", how="left", maintain_order="left"
        )

    def eligible(self, include: Collection[str] = ()) -> Manifest:
        """Return the manifest without the images that are excluded; itself where none is.

        `include` is as in `hilum.annotations.eligibility`.
        """
        kept = self.table.filter(eligibility.reasons(self.table, include).is_null())
        return self if kept.height == self.table.height else self.only(kept["image_id"])

    def only(self, image_ids: Iterable[str]) -> Manifest:
        """The manifest of these images alone; remarks stay."""
        wanted = pl.DataFrame({"image_id": image_ids}, schema={"image_id": pl.String})
        table, labels, shapes = (
            part.join(wanted, on="image_id", how="semi", maintain_order="left")
            for part in (self.table, self.labels, self.shapes)
        )
        return replace(self, table=table, labels=labels, shapes=shapes)

    def write(self, folder: Path) -> None:
        storage.write_table(folder / "labels.parquet", self.labels)
        storage.write_table(folder / "remarks.parquet", self.remarks)
        storage.write_table(folder / "shapes.parquet", self.shapes)
        storage.write_json(
            folder / "root.json",
            {"root": as_text(self.root), **({"links": True} if self.links else {})},
        )
        storage.write_table(folder / "manifest.parquet", self.table)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        if not (folder / "manifest.parquet").exists():
            raise NotFound(
                f"{folder} holds no manifest.parquet: write it with `hilum ingest DATA --out {folder}`"
            )
        told = storage.read_json(folder / ROOT)
        if not isinstance(told, dict) or not isinstance(told.get("root"), str):
            raise BadData(f"{folder / ROOT}: names no root; {_again(folder)}")
        root, links = Path(from_text(told["root"])), told.get("links") is True
        tables = {name: storage.read_table(folder / f"{name}.parquet") for name in TABLES}
        for name, columns in TABLES.items():
            _refuse_other_columns(folder, name, tables[name], columns)
        manifest = cls(
            root, *(tables[name].select(list(columns)) for name, columns in TABLES.items()), links
        )
        manifest.check()
        return manifest


def _refuse_other_columns(
    folder: Path, name: str, table: pl.DataFrame, columns: Mapping[str, pl.DataType]
) -> None:
    """Raise `Mismatch` where a column is missing, and `BadData` where one has another type."""
    file = f"{folder}/{name}.parquet"
    if missing := [column for column in columns if column not in table.columns]:
        raise Mismatch(
            f"{file} lacks {', '.join(missing)}: an earlier Hilum wrote it; {_again(folder)}"
        )
    other = {
        column: table[column].dtype for column in columns if table[column].dtype != columns[column]
    }
    if other:
        told = (f"{column} is {kind}, expected {columns[column]}" for column, kind in other.items())
        raise BadData.listing(f"{file} has columns of another type; {_again(folder)}", told)


def _again(folder: Path) -> str:
    return f"make it again with `hilum ingest {shlex.quote(str(folder))}`"


def _repeated(table: pl.DataFrame, column: str) -> list[str]:
    return table.group_by(column).len().filter(pl.col("len") > 1).sort(column)[column].to_list()
