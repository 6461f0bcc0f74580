"""Inference of a `Reading` from the files of a folder, in a fixed order.

Files by content; masks and radiographs; tables and their columns; folders; words of labels;
patients. Each stage uses only what those before it settled. Nothing is written, and no image is
decoded but the few by which masks are recognised.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from hilum.dataset import inventory
from hilum.dataset.plan import (
    find_files,
    find_labels,
    find_tables,
    folders,
    lexicon,
    names,
)
from hilum.dataset.plan import settings as hilum_toml
from hilum.dataset.plan.columns import STATED_BY_SETTINGS
from hilum.dataset.plan.evidence import CERTAIN, LIKELY, STATED, shown
from hilum.dataset.plan.reading import Reading
from hilum.dataset.plan.settings import Settings
from hilum.errors import BadData


def understand(root: Path, settings: Settings | None = None) -> Reading:
    """Work out how a folder is to be read; `settings` in place of its hilum.toml.

    Raises `BadRecipe` for a faulty hilum.toml, `BadData` for tables that cannot be read.
    """
    settings = settings or hilum_toml.read(root) or Settings()
    reading = Reading(root, settings, inventory.survey(root))
    find_files.sort_files(reading)
    if not reading.images:
        return _accounted(reading)
    find_tables.read_tables(reading)
    find_tables.use_tables(reading)
    _read_folders(reading)
    find_labels.settle_labels(reading)
    find_tables.settle_foreign(reading)
    _settle_patients(reading)
    return _accounted(reading)


def _read_folders(reading: Reading) -> None:
    """Work out the roles of folders, without images in folders of which no table lists any."""
    listed = {
        path for table in reading.tables if table.match for path in table.match.files.values()
    }
    listed |= {path for table in reading.tables for path in table.key_rows}
    if listed:
        listed_folders = {path.rpartition("/")[0] for path in listed}
        by_folder = [
            file.path
            for file in reading.images
            if file.path not in listed and file.folder not in listed_folders
        ]
        strays = by_folder if not _may_be_data(by_folder, listed) else []
        reading.evidence.set_aside(
            "file", strays, "is an image in a folder of which no table lists any", "warning"
        )
        gone = set(strays)
        reading.images = [file for file in reading.images if file.path not in gone]
        rest = [file.path for file in reading.images if file.path not in listed]
        if rest:
            reading.evidence.set_aside(
                "cell",
                rest,
                "is an image that no table lists: it stays, without what tables say",
                "warning",
            )
    reading.folders = folders.understand([file.path for file in reading.images], reading.settings)
    said = Counter(
        (level.role, level.name)
        for file in reading.images
        for level in reading.folders.levels(file.path)
    )
    for role in ("part", "view", "source", folders.UNLABELLED):
        found = [f"{name} ({count})" for (of, name), count in said.items() if of == role]
        if found:
            reading.evidence.decide(
                role if role == folders.UNLABELLED else f"{role}s",
                shown(found, 6),
                "folders are called so",
            )


def _may_be_data(paths: Sequence[str], listed: set[str]) -> bool:
    """Return whether all folders of unlisted images are named after parts, classes or images."""
    tops = {name for path in paths for name in path.split("/")[:-1]}
    return bool(tops) and all(
        lexicon.part_of(name)
        or lexicon.meaning(name)
        or lexicon.among(name, "folders", "container")
        for name in tops
    )


def _settle_patients(reading: Reading) -> None:
    """Decide what identifies the patients: pattern, column, header, folder, names, study or image.

    Raises `BadData` where the pattern of hilum.toml finds no patient in some paths.
    """
    reading.name_views = names.views(reading.images)
    evidence = reading.evidence
    column = next(
        (
            f"column '{name}' of {table.table.name}"
            for table in reading.tables
            if (name := table.first("patient")) and table.is_used
        ),
        None,
    )
    headers = any(
        header.patient and header.patient != reading.nobody for header in reading.headers.values()
    )
    if pattern := reading.settings.patient_pattern:
        _use_pattern(reading, pattern)
    elif column:
        evidence.decide("patients", f"by {column}", "its name says so")
    elif headers:
        evidence.decide(
            "patients",
            "by Patient ID of the DICOM headers",
            "(0010,0020) differs between files",
            CERTAIN,
        )
    elif "patient" in reading.folders.roles.values():
        evidence.decide(
            "patients", "by folder", "folders are numbered, few images each, and no class", LIKELY
        )
    else:
        _infer_patients(reading)


def _use_pattern(reading: Reading, pattern: str) -> None:
    """Find the patients by the pattern of hilum.toml."""
    reading.patients_in_names = names.found_by(pattern, reading.images)
    lost = [file.path for file in reading.images if file.path not in reading.patients_in_names]
    if lost:
        faults = [f"patient_pattern '{pattern}' finds no patient in '{path}'" for path in lost]
        raise BadData.listing(f"{reading.root} does not fit its {inventory.SETTINGS}", faults)
    reading.evidence.decide("patients", "by patient_pattern", STATED_BY_SETTINGS, STATED)


def _infer_patients(reading: Reading) -> None:
    """Decide where nothing states the patients: by names of files, persons, studies or images."""
    evidence, headers = reading.evidence, reading.headers.values()
    reading.name_patients = names.patients(reading.images, evidence)
    if found := reading.name_patients:
        reading.patients_in_names = names.found_by(found.pattern, reading.images)
        how, why, certainty = f"by names of files, {found.pattern}", found.why, found.certainty
        evidence.decide("patients", how, why, certainty)
    elif len({header.person for header in headers} - {None}) > 1:
        reading.persons = True
        evidence.decide(
            "patients",
            "by name and birth date of the DICOM headers",
            "Patient ID says nothing, and these differ between files",
            LIKELY,
        )
    elif any(table.named("study") or table.key for table in reading.tables) or any(
        header.study for header in headers
    ):
        evidence.decide(
            "patients",
            "by study",
            "nothing names the patients, but images of one study are of one person",
            LIKELY,
        )
    else:
        evidence.decide(
            "patients", "every image is a patient of its own", "nothing names the patients", LIKELY
        )


def _accounted(reading: Reading) -> Reading:
    """Set aside every file that no stage used, so that each file is either used or named."""
    named = {
        path for aside in reading.evidence.aside if aside.kind == "file" for path in aside.names
    }
    gone = (
        named
        | {file.path for file in reading.images}
        | reading.masks.files
        | reading.table_files
        | {inventory.SETTINGS}
    )
    rest = [file.path for file in reading.files.files if file.path not in gone]
    reading.evidence.set_aside("file", rest, "is no image or table that Hilum reads")
    for (table, reason, certain), columns in _unused_columns(reading).items():
        reading.evidence.set_aside(
            "column",
            [f"{table}: {name}" for name in columns],
            reason,
            "info" if certain else "warning",
        )
    return reading


def _unused_columns(reading: Reading) -> dict[tuple[str, str, bool], list[str]]:
    """Return the names of unused columns by table, reason and whether the reason is certain."""
    found: dict[tuple[str, str, bool], list[str]] = defaultdict(list)
    for table in reading.tables:
        for column in table.columns.values():
            if column.role == "unused":
                found[table.table.name, column.why, column.certain].append(column.name)
    return found
