"""Compare what a DICOMDIR states with the files that it lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from hilum.dataset.dicom_index import dicomdir
from hilum.dataset.dicom_index.film import Film

MOST_NAMED = 20  # files that a remark names; more are counted


def of_directory(
    directory: Path, entries: Iterable[dicomdir.Entry], films: Mapping[Path, Film]
) -> list[str]:
    """Return what a DICOMDIR states that its files do not: missing ones, and contradictions.

    `films` are those of files that were read, by resolved path.
    """
    missing, other, medium = [], [], dicomdir.Medium(directory.parent)
    for entry in entries:
        found = medium.located(entry.path)
        film = films.get(found.resolve()) if found else None
        if found is None:
            missing.append(entry.path)
        elif film and _differs(entry, film):
            other.append(entry.path)
    return [
        f"{directory}: {len(paths)} of the files that it lists {what}: {_named(paths)}"
        for paths, what in (
            (missing, "are not there; copy the medium again, whole"),
            (other, "are another image or patient than it states; what the files state counts"),
        )
        if paths
    ]


def _differs(entry: dicomdir.Entry, film: Film) -> bool:
    pairs = ((entry.instance, film.sop_instance_uid), (entry.patient, film.patient_id))
    return any(listed and stated and listed != stated for listed, stated in pairs)


def _named(paths: list[str]) -> str:
    more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
    return ", ".join(paths[:MOST_NAMED]) + more
