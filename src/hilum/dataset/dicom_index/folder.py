"""Index the DICOM images of a folder, with the DICOMDIRs in it, or of a DICOMDIR alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from hilum.dataset import inventory
from hilum.dataset.dicom_index import dicomdir
from hilum.dataset.dicom_index.index import Collector, FilmIndex
from hilum.dataset.dicom_index.remarks import of_directory
from hilum.errors import BadData, HilumError, NotFound
from hilum.imaging.batch.dicom_headers import headers
from hilum.imaging.files import dicom, opened
from hilum.imaging.files.dicom import Header
from hilum.progress import Progress, quietly
from hilum.safety.path_names import as_text
from hilum.safety.untrusted_files import Folder


def index_of(source: Path, progress: Progress = quietly) -> FilmIndex:
    """Return the index of a folder's DICOM files, of any depth, or of the files a DICOMDIR lists.

    Places are paths. A file that cannot be read, or that a DICOMDIR lists and that is not there, is
    a note. Raises `NotFound` where there is nothing, `BadData` for a file that is no DICOMDIR.
    """
    if not source.exists():
        raise NotFound(f"there is no file or folder {source}; name a folder or a DICOMDIR")
    return _of_folder(source, progress) if source.is_dir() else _of_directory(source, progress)


def _of_folder(root: Path, progress: Progress) -> FilmIndex:
    folder = Folder(root, opened.follows_links())
    paths = [folder.located(file.path)[0] for file in inventory.survey(root).of("dicom")]
    collector, listed, directories = Collector(), list[tuple[Path, Header]](), list[Path]()
    for path, header in _headers(paths, folder.root, collector, progress):
        if dicom.object_kind(header) == dicomdir.NAME:
            directories.append(path)
        else:
            listed.append((path, header))
            collector.add(header, as_text(path))
    # Most folders hold no DICOMDIR, and to resolve a path takes half as long as to read its header.
    known = {path.resolve(): header for path, header in listed} if directories else {}
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
    collector, known, medium = Collector(), dict[Path, Header](), dicomdir.Medium(path.parent)
    listed = [found for entry in entries if (found := medium.located(entry.path))]
    for found, header in _headers(listed, path.parent, collector, progress):
        known[found.resolve()] = header
        collector.add(header, as_text(found))
    for note in of_directory(path, entries, known):
        collector.note(note)
    return collector.index()


def _headers(
    paths: Sequence[Path], root: Path | None, collector: Collector, progress: Progress
) -> Iterator[tuple[Path, Header]]:
    """Yield files with their headers; `collector` notes those that cannot be read."""
    found = dict(headers({as_text(path): (path, root) for path in paths}, progress))
    for path in paths:
        header = found[as_text(path)]
        if isinstance(header, BadData):
            collector.note(str(header))
        else:
            yield path, header
