"""Read UniData's CSV files of links and metadata: one line per study.

A line links to a DICOM file and, optionally, to its annotation; only the last part of a link, the
file's name, is used. Of the metadata, patient, sex and age are read. Columns and their order vary,
so links are found by their endings, and metadata by the column's name.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from hilum.dataset.readers._reading_log import ReadingLog
from hilum.imaging.files import dicom, text

IMAGES, ANNOTATIONS = "dicoms", "annotations"  # the folders of the release
_COLUMNS = {
    "patient": ("patient", "patient_id", "patientid", "patient id"),
    "sex": ("sex", "gender"),
    "age": ("age", "age_years"),
}
_SEXES = {
    "f": "female",
    "female": "female",
    "m": "male",
    "male": "male",
    "o": "other",
    "other": "other",
}


@dataclass(frozen=True)
class Line:
    """What one line states about one image."""

    where: str  # file and line number
    annotation: str | None  # path of its annotation relative to the root
    patient: str | None
    sex: str | None
    age_years: float | None


def read(log: ReadingLog) -> dict[str, Line]:
    """Return the lines of all CSV files in the folder, by the path of their image."""
    found: dict[str, Line] = {}
    for path in sorted(log.root.glob("*.csv")):
        content = log.text(path, "csv-encoding")
        lines = csv.reader(io.StringIO(content), delimiter=text.delimiter(content))
        header = [cell.strip().lower() for cell in next(lines, [])]
        columns = {name: _place(header, names) for name, names in _COLUMNS.items()}
        for cells in lines:
            where = f"{path.name} line {lines.line_num}"
            images = _linked(cells, dicom.ENDINGS, IMAGES, where, log)
            annotations = _linked(cells, (".json",), ANNOTATIONS, where, log)
            if len(images) > 1 or len(annotations) > 1:
                log.faults.append(
                    f"{where}: names {', '.join((*images, *annotations))}; "
                    "expected one image and one annotation"
                )
            elif images:
                line = _line(where, cells, columns, annotations, log)
                before = found.setdefault(images[0], line)
                if before is not line:
                    log.faults.append(f"{where}: {images[0]} stands in {before.where} already")
    return found


def _place(header: list[str], names: tuple[str, ...]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _linked(
    cells: list[str], endings: tuple[str, ...], folder: str, where: str, log: ReadingLog
) -> list[str]:
    """Return the paths below `folder` that the cells of a line link to, each once."""
    places: dict[str, None] = {}
    for cell in map(str.strip, cells):
        link = urlsplit(cell) if "://" in cell else None
        path = PurePosixPath((link.path if link else cell).replace("\\", "/"))
        if path.suffix.lower() not in endings:
            continue
        outside = path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", cell)
        if not link and outside:
            log.faults.append(
                f"{where}: '{cell}' leads out of the folder; write the path relative to it"
            )
        else:
            places[f"{folder}/{path.name}"] = None
    return list(places)


def _line(
    where: str,
    cells: list[str],
    columns: Mapping[str, int | None],
    annotations: list[str],
    log: ReadingLog,
) -> Line:
    stated = {
        name: cells[place].strip() if place is not None and place < len(cells) else ""
        for name, place in columns.items()
    }
    sex = stated["sex"].lower()
    age = re.fullmatch(r"0*(\d{1,3}(?:\.\d+)?)\s*(?:y|yrs|years)?", stated["age"].lower())
    if stated["age"] and not age:
        message = f"age '{stated['age']}' is not a number of years: it is left empty"
        log.remark(where, "warning", "age-form", message)
    if sex and sex not in _SEXES:
        message = f"sex '{stated['sex']}' is not one of {', '.join(_SEXES)}: it is left empty"
        log.remark(where, "warning", "sex-form", message)
    return Line(
        where,
        next(iter(annotations), None),
        stated["patient"] or None,
        _SEXES.get(sex),
        float(age[1]) if age else None,
    )
