"""The reading of a folder: what planning works out, for rows, the account and `hilum describe`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hilum.dataset import tables
from hilum.dataset.inventory import File, Inventory
from hilum.dataset.manifest import Remark
from hilum.dataset.plan.columns import TableReading
from hilum.dataset.plan.evidence import Evidence
from hilum.dataset.plan.folders import Folders
from hilum.dataset.plan.labels import Vocabulary
from hilum.dataset.plan.masks import Masks
from hilum.dataset.plan.names import NamedPatients
from hilum.dataset.plan.settings import Settings
from hilum.imaging.files import opened
from hilum.imaging.files.dicom import Header
from hilum.safety.untrusted_files import Folder


@dataclass
class Reading:
    """How a folder is read: the kind of every file, and the use of tables, folders and names.

    files              inventory of the folder
    images, masks      the radiographs, and the mask files with their images
    headers            DICOM headers by image path
    header_remarks     what headers, and DICOMDIRs beside them, state that cannot all be true
    nobody             the Patient ID that de-identification left in every header
    persons            names and birth dates of headers identify patients, in place of Patient ID
    tables, foreign    all tables; those that should belong to images and match none
    table_files        paths of files that are used as tables or reported as such
    coco               COCO files by path
    vocabularies       words of labels by source: `source_of`, FOLDERS or NAMES
    findings           state by cell (1, 0, -1), by `source_of` the column of one finding
    concepts           concept by `source_of`; None: the column is of the normal state
    blank_is_absent    names of tables whose empty cells of findings mean absent
    table_parts        part of a split by image path, where train.csv lists training images
    name_labels, name_views, patients_in_names
                       what names of files state, by image path
    """

    root: Path
    settings: Settings
    files: Inventory
    evidence: Evidence = field(default_factory=Evidence)
    images: list[File] = field(default_factory=list)
    masks: Masks = field(default_factory=Masks)
    headers: dict[str, Header] = field(default_factory=dict)
    header_remarks: list[Remark] = field(default_factory=list)
    nobody: str | None = None
    persons: bool = False
    tables: list[TableReading] = field(default_factory=list)
    foreign: list[TableReading] = field(default_factory=list)
    table_files: set[str] = field(default_factory=set)
    coco: dict[str, tables.Coco] = field(default_factory=dict)
    folders: Folders = field(default_factory=Folders)
    vocabularies: dict[str, Vocabulary] = field(default_factory=dict)
    findings: dict[str, Mapping[str, int]] = field(default_factory=dict)
    concepts: dict[str, str | None] = field(default_factory=dict)
    blank_is_absent: set[str] = field(default_factory=set)
    table_parts: dict[str, str] = field(default_factory=dict)
    name_labels: dict[str, str] = field(default_factory=dict)
    name_views: dict[str, str] = field(default_factory=dict)
    name_patients: NamedPatients | None = None
    patients_in_names: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Folder:
        """Return the folder in which the paths of files are resolved, links included if allowed."""
        return Folder(self.root, opened.follows_links())


FOLDERS, NAMES = "folders", "names of files"


def source_of(reading: TableReading, column: str) -> str:
    """Return the name of a column among all tables, "table.csv:column"."""
    return f"{reading.table.name}:{column}"
