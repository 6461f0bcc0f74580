"""Read a DICOMDIR, the directory of a medium (PS3.3 annex F, PS3.10 section 8).

Its records form a tree of patients, studies, series and images, linked by offsets in the file. It
is taken for a list of the medium's files and not for the truth on them: what a file states counts,
and a record that states another image or patient is reported. Links are followed once each, so a
circle comes to an end; records that no link reaches are listed without a patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.errors import BadData, on_one_line
from hilum.imaging.files import dicom
from hilum.safety import untrusted_files

if TYPE_CHECKING:
    from pydicom import Dataset

NAME = "DICOMDIR"
MOST_PARTS = 8  # of a File ID (PS3.10 8.2)
MOST_BYTES = 1 << 30  # of a directory: some 500 bytes an image
_NEXT = "OffsetOfTheNextDirectoryRecord"
_LOWER = "OffsetOfReferencedLowerLevelDirectoryEntity"
_FIRST = "OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity"
_LONGEST_PART = 255  # characters of a part of a File ID; the standard has 8, and writers have more


@dataclass(frozen=True)
class Entry:
    """A file that the directory lists: its path below the directory's folder, and what it states.

    `patient` is the Patient ID of the record above it. Both are "" where nothing is stated.
    """

    path: str
    instance: str
    patient: str


def entries(path: Path, root: Path | None = None) -> list[Entry]:
    """Return the files that a DICOMDIR lists, in its order, each path once.

    Raises `BadData` for a file that is no DICOMDIR, whose records cannot be read, or that names a
    file outside of its folder.
    """
    if path.stat().st_size > MOST_BYTES:
        raise BadData(
            f"{path} has more than {MOST_BYTES:,} bytes; expected a directory of a medium"
        )
    directory, _ = dicom.dataset(path, root)
    with dicom.quietly():
        try:
            records: list[Dataset] = list(directory["DirectoryRecordSequence"].value or ())
            patients = _patients(directory, records)
            listed = [
                _entry(record, patients.get(number, ""))
                for number, record in enumerate(records)
                if record.get("ReferencedFileID")
            ]
        except BadData as error:
            raise BadData(f"{path}: {error}") from error
        except Exception as error:
            raise BadData(
                f"{path} is no directory of a medium, or broken ({type(error).__name__}); name the "
                f"folder with the files instead"
            ) from error
    return list({one.path: one for one in listed}.values())


def _entry(record: Dataset, patient: str) -> Entry:
    parts = record["ReferencedFileID"].value
    names = [str(one) for one in ([parts] if isinstance(parts, str) else parts)]
    for name in names:
        plain = name not in ("", ".", "..") and name.isprintable() and not set(name) & set("/\\:")
        if not plain or len(name) > _LONGEST_PART:
            raise BadData(
                f"a record names the file {on_one_line(name[:80])!r}; expected names below the "
                f"folder of the directory (PS3.10 8.2)"
            )
    if len(names) > MOST_PARTS:
        raise BadData(f"a File ID has {len(names)} parts, expected at most {MOST_PARTS}")
    return Entry("/".join(names), str(record.get("ReferencedSOPInstanceUIDInFile", "")), patient)


def _patients(directory: Dataset, records: list[Dataset]) -> dict[int, str]:
    """Return the Patient ID above each record, by its number, as far as the links lead."""
    by_place = {
        int(getattr(record, "seq_item_tell", 0) or 0): number
        for number, record in enumerate(records)
    }
    found: dict[int, str] = {}
    pending = [(int(directory.get(_FIRST, 0) or 0), "")]
    while pending:
        place, patient = pending.pop()
        number = by_place.get(place) if place else None
        if number is None or number in found:
            continue
        record = records[number]
        found[number] = str(record.get("PatientID") or "") or patient
        pending.append((int(record.get(_NEXT, 0) or 0), patient))
        pending.append((int(record.get(_LOWER, 0) or 0), found[number]))
    return found


class Medium:
    """Finds the files of entries below a directory's folder, each of whose folders it lists once.

    Media are mounted with names in lower case as often as in upper case.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listed: dict[Path, dict[str, Path]] = {}

    def located(self, place: str) -> Path | None:
        """Return the file of an entry; None where there is none."""
        here = self._folder
        for part in place.split("/"):
            exact = here / part
            here = exact if exact.exists() else self._in_other_case(here, part)
            if here is None:
                return None
        inside = untrusted_files.holds(str(self._folder.resolve()), str(here.resolve()))
        return here if inside and here.is_file() else None

    def _in_other_case(self, folder: Path, name: str) -> Path | None:
        if folder not in self._listed:
            paths = sorted(folder.iterdir(), reverse=True) if folder.is_dir() else []
            self._listed[folder] = {one.name.casefold(): one for one in paths}
        return self._listed[folder].get(name.casefold())
