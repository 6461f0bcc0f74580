"""What a folder was understood as: the type that planning fills and that rows, boxes, the account and `hilum describe` read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hilum.dataset import tables
from hilum.dataset.plan.columns import TableReading
from hilum.dataset.plan.evidence import Evidence
from hilum.dataset.plan.folders import Folders
from hilum.dataset.plan.inventory import File, Inventory
from hilum.dataset.plan.labels import Vocabulary
from hilum.dataset.plan.masks import Masks
from hilum.dataset.plan.names import NamedPatients
from hilum.dataset.plan.settings import Settings
from hilum.imaging.files import opened
from hilum.imaging.files.dicom import Header
from hilum.safety.untrusted_files import Folder


@dataclass
class Reading:
    """A folder as it was understood: what every file is, and how tables, folders and names are read."""

    root: Path
    settings: Settings
    files: Inventory
    evidence: Evidence = field(default_factory=Evidence)
    images: list[File] = field(default_factory=list)
    headers: dict[str, Header] = field(default_factory=dict)
    nobody: str | None = None  # the Patient ID that anonymising left in every header
    persons: bool = (
        False  # names and birth dates in headers tell persons apart, where Patient ID does not
    )
    masks: Masks = field(default_factory=Masks)
    tables: list[TableReading] = field(default_factory=list)
    foreign: list[TableReading] = field(default_factory=list)  # tables that belong to no image
    table_files: set[str] = field(default_factory=set)
    coco: dict[str, tables.Coco] = field(default_factory=dict)
    folders: Folders = field(default_factory=Folders)
    vocabularies: dict[str, Vocabulary] = field(
        default_factory=dict
    )  # by `source_of`, FOLDERS or NAMES
    findings: dict[str, Mapping[str, int]] = field(
        default_factory=dict
    )  # state by cell, by `source_of`
    concepts: dict[str, str | None] = field(
        default_factory=dict
    )  # by `source_of`; None: of the healthy
    blank_is_absent: set[str] = field(
        default_factory=set
    )  # tables whose empty cells of findings say absent
    table_parts: dict[str, str] = field(
        default_factory=dict
    )  # by image path: train.csv lists the training images
    name_labels: dict[str, str] = field(default_factory=dict)
    name_views: dict[str, str] = field(default_factory=dict)
    name_patients: NamedPatients | None = None
    patients_in_names: dict[str, str] = field(
        default_factory=dict
    )  # by image path, where a pattern finds them

    @property
    def folder(self) -> Folder:
        """The folder as what its files are found in."""
        return Folder(self.root, opened.follows_links())


FOLDERS, NAMES = "folders", "names of files"


def source_of(reading: TableReading, column: str) -> str:
    """Return the name that a column goes by among all tables."""
    return f"{reading.table.name}:{column}"
