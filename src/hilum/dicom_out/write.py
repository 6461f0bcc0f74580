"""Write the DICOM objects of each image: DIR/NAME/segmentation.dcm, findings.dcm and so on.

NAME is that of the image among the images of the command (`hilum.imaging.files.portable_names`).
Lungs give a Segmentation, a report of regions and, where requested, a presentation state; none of
them is written where no lungs were found, but the report where there are other regions. Findings
give their report, also for an image that was refused. The Secondary Capture is always written.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hilum import storage
from hilum.dicom_out import equipment, source
from hilum.dicom_out.equipment import Kind, Origin
from hilum.errors import MissingExtra
from hilum.imaging.files import dicom, output_folder, raster
from hilum.inference.delivery import Findings

if TYPE_CHECKING:
    from pydicom import Dataset

EXTRA = "dicom"
_WHY = "writing results as DICOM objects"


@dataclass(frozen=True)
class Options:
    """What is written besides the usual objects, and how.

    `labelmap` makes the Segmentation a LABELMAP, `viewer_compat` gives it a geometry that was not
    measured, for viewers that need one, `presentation` adds a presentation state.
    """

    labelmap: bool = False
    viewer_compat: bool = False
    presentation: bool = False

    @property
    def settings(self) -> tuple[str, ...]:
        """What distinguishes the objects of these options: others have other UIDs."""
        chosen = {"labelmap": self.labelmap, "viewer_compat": self.viewer_compat}
        return tuple(name for name, wanted in chosen.items() if wanted)


_USUAL = Options()


def objects(origin: Origin, options: Options) -> Iterator[tuple[Kind, Dataset]]:
    """Yield the objects of an image. Raises `MissingExtra` without highdicom."""
    for kind, make in _makers(origin, options):
        with MissingExtra.explained(EXTRA, _WHY), dicom.quietly():
            made = make()
        yield kind, made


def _makers(origin: Origin, options: Options) -> Iterator[tuple[Kind, Callable[[], Dataset]]]:
    from hilum.dicom_out import (
        capture,
        findings_report,
        presentation,
        regions_report,
        segmentation,
    )

    if origin.findings.lungs.any():
        yield (
            equipment.SEGMENTATION,
            lambda: segmentation.segmentation(
                origin, labelmap=options.labelmap, viewer_compat=options.viewer_compat
            ),
        )
        if options.presentation:
            yield equipment.PRESENTATION, lambda: presentation.presentation_state(origin)
    if origin.findings.lungs.any() or origin.findings.regions:
        yield equipment.REGIONS, lambda: regions_report.regions_report(origin)
    if origin.findings.scores is not None:
        yield equipment.FINDINGS, lambda: findings_report.findings_report(origin)
    yield equipment.CAPTURE, lambda: capture.secondary_capture(origin)


def encoded(made: Dataset) -> bytes:
    """Return an object as a DICOM file."""
    stream = io.BytesIO()
    with dicom.quietly():
        made.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def made(
    path: Path, findings: Findings, options: Options = _USUAL
) -> Iterator[tuple[Kind, Dataset]]:
    """Yield the objects of one image, made from its file. Raises as `write_results`."""
    yield from objects(
        Origin(source.read(path, findings.file), findings, options.settings), options
    )


def files(path: Path, findings: Findings, options: Options = _USUAL) -> Iterator[tuple[str, bytes]]:
    """Yield the objects of one image as names and bytes of DICOM files. Raises as `write_results`.

    Nothing is written, so that they can be sent instead.
    """
    for kind, one in made(path, findings, options):
        yield f"{kind.name}.dcm", encoded(one)


def write_results(
    path: Path, findings: Findings, place: Callable[[str], Path], options: Options = _USUAL
) -> list[Path]:
    """Write the objects of one image; return their paths.

    `place` gives the path of a file by its name. Raises `BadData` where `path` is no DICOM image
    or changed, `MissingExtra` without the extra, `CannotWrite`.
    """
    written = []
    for file, data in files(path, findings, options):
        written.append(place(file))
        storage.write_bytes(written[-1], data)
    return written


@dataclass
class DicomWriter:
    """Writes the objects of each image of a command below a folder; a `Delivery`."""

    to: Path
    verb: str
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        with MissingExtra.explained(EXTRA, _WHY):
            import highdicom  # noqa: F401  (before any image is read)
        self.output = output_folder.Output(self.to, self.verb)

    @property
    def outputs(self) -> tuple[output_folder.Output, ...]:
        """The folder."""
        return (self.output,)

    @property
    def made_by(self) -> object:
        """The options that objects depend on."""
        return [equipment.FORMAT, *self.options.settings, self.options.presentation]

    def refuse(self, path: Path, file: raster.Raster | dicom.Dicom) -> None:
        """Raise `BadData` for a file that is not DICOM."""
        source.expected(path, file)

    def deliver(self, path: Path, name: str, findings: Findings) -> None:
        """Write the objects of an image."""

        def place(file: str) -> Path:
            return self.output.path(name, file)

        write_results(path, findings, place, self.options)
