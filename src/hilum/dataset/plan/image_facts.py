"""Facts of one image (patient, sex, age, view …), from its tables' rows, header, folders and name.

Columns take precedence over the DICOM header, and the header over folders and names. Rows of one
image that differ are reported, and the first is taken; a cell that cannot be parsed is counted in
`Gathered.odd` and leaves the fact empty.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hilum.annotations import acquisition
from hilum.dataset.inventory import File
from hilum.dataset.plan import cells, folders, lexicon
from hilum.dataset.plan.evidence import shown
from hilum.dataset.plan.gather import AGE_COLUMN
from hilum.dataset.plan.gathered import Gathered
from hilum.dataset.plan.reading import Reading
from hilum.imaging.files.dicom import Header

MAX_PIXELS = 1e9  # a stated height or width above it is an error of the table
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class ImageFacts:
    """What a settled reading states of one image; `stated` are the cells of its rows by role."""

    reading: Reading
    file: File
    stated: Mapping[str, Sequence[str]]
    header: Header | None
    gathered: Gathered

    @classmethod
    def of(cls, reading: Reading, file: File, gathered: Gathered) -> ImageFacts:
        """Collect the facts of one file."""
        stated = gathered.facts.get(file.path, {})
        return cls(reading, file, stated, reading.headers.get(file.path), gathered)

    def one(self, role: str) -> str | None:
        """Return the first cell that states a fact; report cells that differ."""
        said = list(dict.fromkeys(self.stated.get(role, ())))
        if len(said) > 1:
            self._conflict(f"its rows say {role} {' and '.join(said[:3])}: {said[0]} is taken")
        return said[0] if said else None

    def parsed(self, role: str, parse: Callable[[str], _Value | None]) -> _Value | None:
        """Return a fact as `parse` reads it; count a cell that it cannot read."""
        cell = self.one(role)
        if cell is None:
            return None
        value = parse(cell)
        if value is None:
            self.gathered.odd[role, cell] += 1
        return value

    def pixels(self, role: str) -> int | None:
        """Return a stated height or width in pixels."""
        value = self.parsed(role, cells.number)
        if value is None or not value.is_integer() or not 0 < value < MAX_PIXELS:
            return None
        return int(value)

    def patient(self) -> str:
        """Return the patient by hilum.toml, column, header, folder, name, else study or image."""
        reading, path = self.reading, self.file.path
        if reading.settings.patient_pattern and path in reading.patients_in_names:
            return reading.patients_in_names[path]
        if stated := self.one("patient"):
            return stated
        if known := header_patient(reading, path):
            return known
        if folder := reading.folders.value(path, "patient"):
            return self.gathered.people.get(folder, folder)
        if reading.name_patients and path in reading.patients_in_names:
            return reading.patients_in_names[path]
        if self.header and self.header.person and reading.persons:
            return f"person {self.header.person}"
        stated_study = next(iter(self.stated.get("study", ())), None)
        header_study = self.header.study if self.header else None
        if study := stated_study or header_study or self.gathered.keys.get(path):
            return f"study {study}"  # images of one study are of one person
        return self.name

    @property
    def name(self) -> str:
        """Return the path below the folder without the ending of the file."""
        return f"{self.file.folder}/{self.file.stem}" if self.file.folder else self.file.stem

    def study(self) -> str | None:
        """Return the study by column, header or folder."""
        header_study = self.header.study if self.header else None
        folder = self.reading.folders.value(self.file.path, "study")
        return self.one("study") or header_study or folder

    def sex(self) -> str | None:
        """Return the sex by column, else by header."""
        header_sex = self.header.sex if self.header else None
        return self.parsed("sex", lexicon.sex_of) or header_sex

    def part(self) -> str | None:
        """Return the part of the source's split: by column, folder or name of the listing table."""
        if stated := self.parsed("part", lexicon.part_of):
            return stated
        if folder := self.reading.folders.value(self.file.path, "part"):
            return lexicon.part_of(folder)
        return self.reading.table_parts.get(self.file.path)

    def age_years(self) -> float | None:
        """Return the age by column, else between birth and study, else by header."""
        if stated := self.stated.get("age"):
            return self._age_of_column(stated)
        birth, study = (self.parsed(role, cells.day) for role in ("birth_date", "study_date"))
        if (years := cells.years_between(birth, study)) is not None:
            return years
        if (born := self.parsed("birth_year", cells.year)) and study:
            years = study.year - born
            return float(years) if 0 <= years <= acquisition.OLDEST_YEARS else None
        return self.header.age_years if self.header else None

    def _age_of_column(self, stated: Sequence[str]) -> float | None:
        cell, _, column = stated[0].partition(AGE_COLUMN)
        ages = [one.partition(AGE_COLUMN)[0] for one in stated]
        if len(set(ages)) > 1:
            self._conflict(f"its rows say age {shown(ages)}: {cell} is taken")
        years = cells.age_years(cell, cells.age_unit(column))
        if years is None:
            self.gathered.odd["age", cell] += 1
        return years

    def view(self) -> str | None:
        """Return the view: by columns, which may state it together, else header, folder or name."""
        stated = list(dict.fromkeys(self.stated.get("view", ())))
        for cell in stated:
            if acquisition.view_of(cell) is None and not acquisition.is_unstated(cell):
                self.gathered.odd["view", cell] += 1
        view = acquisition.view_of(*stated) or (self.header.view if self.header else None)
        folder = self.reading.folders.value(self.file.path, "view")
        in_folder = folders.view_of(folder) if folder else None
        return view or in_folder or self.reading.name_views.get(self.file.path)

    def acquisition(self) -> dict[str, str | None]:
        """Return body_part, modality and laterality: by column, else by header."""
        stated = acquisition.in_header(
            self.one("body_part"), self.one("modality"), self.one("laterality")
        )
        header = self.header
        if header is None:
            return stated
        known = acquisition.in_header(header.body_part, header.modality, header.laterality)
        return {name: value or known.get(name) for name, value in stated.items()}

    def _conflict(self, message: str) -> None:
        self.gathered.remark(self.file.path, "fact-conflict", message)


def header_patient(reading: Reading, path: str) -> str | None:
    """Return the Patient ID of a DICOM file, unless it is the placeholder of all files."""
    header = reading.headers.get(path)
    return header.patient if header and header.patient != reading.nobody else None


def people_of_folders(reading: Reading, gathered: Gathered) -> dict[str, str]:
    """Return by folder the one patient whom its columns and headers name.

    All files of the folder, including those without a row or header, then are that patient's.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for file in reading.images:
        stated = gathered.facts.get(file.path, {}).get("patient")
        known = header_patient(reading, file.path)
        if folder := reading.folders.value(file.path, "patient"):
            found[folder].update(stated or ([known] if known else []))
    return {folder: next(iter(people)) for folder, people in found.items() if len(people) == 1}
