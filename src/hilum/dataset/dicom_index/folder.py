"""Index the DICOM images of a folder, with the DICOMDIRs in it, or of a DICOMDIR alone.

Each file is read in shards that any executor may carry (`hilum.scale`), from its kind to its film,
so that this process alone does little for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hilum.dataset import inventory
from hilum.dataset.dicom_index import dicomdir
from hilum.dataset.dicom_index.film import Film, film
from hilum.dataset.dicom_index.index import Collector, FilmIndex
from hilum.dataset.dicom_index.remarks import of_directory
from hilum.errors import BadData, HilumError, NotFound
from hilum.imaging.files import dicom, opened
from hilum.progress import Progress, quietly
from hilum.safety.path_names import as_text, from_text
from hilum.safety.untrusted_files import Folder
from hilum.scale import in_groups

Found = TypeVar("Found")


def index_of(source: Path, progress: Progress = quietly) -> FilmIndex:
    """Return the index of a folder's DICOM files, of any depth, or of the files a DICOMDIR lists.

    Places are paths. A file that cannot be read, or that a DICOMDIR lists and that is not there, is
    a note. Raises `NotFound` where there is nothing, `BadData` for a file that is no DICOMDIR.
    """
    if not source.exists():
        raise NotFound(f"there is no file or folder {source}; name a folder or a DICOMDIR")
    return _of_folder(source, progress) if source.is_dir() else _of_directory(source, progress)


@dataclass(frozen=True)
class _FilmAt:
    """Return the film of a file of a folder, by its place; None for one that is not DICOM.

    Of a DICOMDIR its path.
    """

    folder: Folder

    def __call__(self, place: str) -> Film | Path | None:
        path, root = self.folder.located(place)
        if inventory.kind_at(path, place) != "dicom":
            return None
        header = dicom.header(path, root)
        if dicom.object_kind(header) == dicomdir.NAME:
            return path
        return film(header, as_text(path))


@dataclass(frozen=True)
class _FilmOf:
    """Return the film of a listed file, by its path, which must lie below `root`."""

    root: Path

    def __call__(self, path: Path) -> Film:
        return film(dicom.header(path, self.root), as_text(path))


def _of_folder(root: Path, progress: Progress) -> FilmIndex:
    folder = Folder(root, opened.follows_links())
    places = inventory.regular(root)
    collector, directories = Collector(), list[Path]()
    named = {f"{as_text(root)}/{place}": place for place in places}
    read = in_groups.run(_FilmAt(folder), named)
    for found in _noted(read, len(places), collector, progress):
        if isinstance(found, Path):
            directories.append(found)
        elif found is not None:
            collector.take(found)
    # Most folders hold no DICOMDIR, and to resolve a path takes half as long as to read its header.
    films = collector.films if directories else ()
    known = {Path(from_text(one.place)).resolve(): one for one in films}
    for path in directories:
        try:
            notes = of_directory(path, dicomdir.entries(path, folder.root), known)
        except HilumError as error:
            notes = [str(error)]
        for note in notes:
            collector.note(note)
    return collector.index()


def _of_directory(path: Path, progress: Progress) -> FilmIndex:
    entries = dicomdir.entries(path)
    collector, known, medium = Collector(), dict[Path, Film](), dicomdir.Medium(path.parent)
    listed = {as_text(at): at for one in entries if (at := medium.located(one.path))}
    read = in_groups.run(_FilmOf(path.parent), listed)
    for found in _noted(read, len(listed), collector, progress):
        known[listed[found.place].resolve()] = found
        collector.take(found)
    for note in of_directory(path, entries, known):
        collector.note(note)
    return collector.index()


def _noted(
    results: Iterable[tuple[str, Found | BadData]],
    count: int,
    collector: Collector,
    progress: Progress,
) -> Iterator[Found]:
    """Yield what was found in files; `collector` notes those that cannot be read."""
    for done, (_, found) in enumerate(results, start=1):
        if isinstance(found, BadData):
            collector.note(str(found))
        else:
            yield found
        progress(done, count)
