"""Read DICOM files, recognised by their bytes, each holding one grey image.

pydicom parses (`_dicom_parsing`), imagecodecs decodes (`_dicom_pixels`), and the standard says
which brightness is shown (`_dicom_intensity`) in which orientation (`_dicom_orientation`); each
step notes in the processing log what it applied, with the clause. `header` alone is many times
faster than parsing (`_dicom_tags`, `_dicom_facts`), and `object_kind` names objects that hold no
single image.

`values` are the stored ones, signed ones with an offset of half their range, so that all are uint8
or uint16. They are in the standard view, and `pose` leads back to the file's own pixels, in which
masks and outlines are drawn. The brightness shown depends on the stored value alone: it is one
table of 2 ** bits entries. Several frames, real colour, unknown transfer syntaxes and incomplete
pixel data are refused with an error that names them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hilum import storage
from hilum.errors import BadData, CannotRead, HilumError, NotFound
from hilum.imaging.files import (
    _dicom_facts,
    _dicom_intensity,
    _dicom_layout,
    _dicom_object,
    _dicom_orientation,
    _dicom_parsing,
    _dicom_pixels,
    _dicom_values,
    raster,
)
from hilum.imaging.files._dicom_decimal import decimals
from hilum.imaging.files._dicom_header import Header
from hilum.imaging.files._dicom_parsing import quietly
from hilum.imaging.files.pose import Pose
from hilum.imaging.radiograph import Radiograph
from hilum.safety import freed_memory, untrusted_files

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = [
    "ENDINGS",
    "TRANSFER_SYNTAXES",
    "Dicom",
    "Header",
    "Pose",
    "dataset",
    "header",
    "header_of_answer",
    "is_one",
    "object_kind",
    "placeholder",
    "quietly",
    "read",
]

Result = TypeVar("Result")

ENDINGS = (".dcm", ".dicom")
TRANSFER_SYNTAXES = _dicom_layout.SYNTAXES  # UIDs of those that are decoded
_MOST_WARNINGS = 3  # of pydicom's in the processing log: a broken file can raise hundreds
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


@dataclass(frozen=True)
class Dicom:
    """A decoded file: `values` uint8 or uint16 (height, width), and what is known of the file."""

    values: np.ndarray  # in the standard view
    processing_log: tuple[str, ...]
    file_digest: str  # of the bytes
    pixel_digest: str  # of size, depth and values as stored
    header: Header
    lut: np.ndarray  # float32 (2 ** bits,): the brightness in [0, 1] of each value
    pose: Pose  # from the file's own pixels to `values`
    padding: np.ndarray | None = None  # bool (2 ** bits,): the values that are padding
    kind = "DICOM"
    colour = False  # an image with real colour is refused

    @property
    def is_corrected(self) -> bool:
        """Whether the image is displayed otherwise than its Patient Orientation implies."""
        return self.pose.turns != _dicom_orientation.stated_turns(self.header.orientation)

    @property
    def inverted(self) -> Dicom:
        """Return the file with dark and bright exchanged; padding stays dark."""
        table = 1 - self.lut
        if self.padding is not None:
            table[self.padding] = 0
        return replace(self, lut=table)

    def radiograph(self) -> Radiograph:
        """Return the image in the standard view, with the spacing that it has there."""
        return Radiograph(
            self.values,
            _dicom_orientation.spacing(self.header, self.pose),
            self.processing_log,
            self.lut,
        )


def is_one(path: Path, root: Path | None = None) -> bool:
    """Return whether a file's first bytes are DICOM's, whatever its name.

    False for pipes and devices, and for a file that cannot be opened.
    """
    try:
        return holds(untrusted_files.read_head(path, 132, root=root))
    except HilumError:
        return False


def holds(head: bytes) -> bool:
    """Return whether a file's first bytes are DICOM's."""
    return head[128:132] == b"DICM" or _dicom_parsing.is_bare_dataset(head[:132])


def header(path: Path, root: Path | None = None) -> Header:
    """Read the header of a file without its pixels. Raises `BadData` naming the file."""
    return _understood(path, lambda: _dicom_facts.read(path, root), "header is broken or cut short")


def header_of_answer(answer: Dataset, place: str) -> Header:
    """Return the header that a server's answer to a query states; `place` is what errors call it.

    A size in it stands for pixels. Raises `BadData`.
    """
    with quietly():
        try:
            return _dicom_facts.of_answer(answer)
        except Exception as error:
            raise BadData(
                f"{place}: an answer to the query is broken ({type(error).__name__}); expected "
                f"values that fit their attributes (PS3.18 annex F); see the server's log"
            ) from error


def dataset(path: Path, root: Path | None = None) -> tuple[Dataset, str]:
    """Return a file's parsed data set without its pixels, and the digest of its bytes.

    Its values are as anyone wrote them; pydicom converts each when it is first used, and may raise
    then. Raises as `read` does.
    """
    data = raster.load(path, root)
    with quietly():
        parsed = _understood(
            path, lambda: _dicom_parsing.parsed(data), "data set is broken or cut short"
        )
    return parsed.dataset, storage.content_digest(data)


def object_kind(header: Header) -> str | None:
    """Return in a few words what a file holds instead of a single image.

    For example "structured report" or "multi-frame image of 12 frames"; None for a single image of
    any modality.
    """
    return _dicom_object.reason(header)


def placeholder(headers: Iterable[Header]) -> str | None:
    """Return the one Patient ID of images from several studies, else None.

    Such an ID is what anonymisation left, and no person's.
    """
    pairs = [(one.patient, one.study) for one in headers]
    patients, studies = ({pair[at] for pair in pairs} for at in (0, 1))
    return pairs[0][0] if len(patients) == 1 < len(studies) else None


def read(path: Path, root: Path | None = None) -> Dicom:
    """Decode one file; with `root`, one that lies below it.

    Raises `BadData` naming the file, what is wrong with it and what to do.
    """
    return decoded(path, raster.load(path, root))


def decoded(path: Path, data: bytes) -> Dicom:
    """Decode a file's bytes; `path` is what errors call it. Raises as `read` does."""
    freed_memory.keep()
    with quietly() as warnings:
        parsed = _understood(
            path, lambda: _dicom_parsing.parsed(data), "data set is broken or cut short"
        )
        stated = _understood(
            path, lambda: _dicom_facts.of_file(data, parsed), "header is broken or cut short"
        )
        layout = _understood(
            path,
            lambda: _dicom_layout.layout(parsed, stated, path),
            "description of the pixels is broken",
        )
        grey = _understood(
            path,
            lambda: _dicom_intensity.described(parsed.dataset),
            "description of the grey values is broken",
        )
        aspect = _understood(
            path,
            lambda: decimals(_dicom_values.text(parsed.dataset, "PixelAspectRatio")),
            "Pixel Aspect Ratio is broken",
        )
        spacing = _understood(
            path, lambda: _spacing_line(stated, parsed.dataset), "spacing is broken"
        )
    what = f"pixels are {layout.photometric} ({layout.name}) and broken or cut short"
    pixels = _understood(path, lambda: _dicom_pixels.decode(parsed, layout, path), what)
    account = [*pixels.processing_log]
    if layout.photometric not in _dicom_layout.GREY:
        grey = _dicom_intensity.of_colour(grey)
    shown = _dicom_intensity.shown(grey, pixels.values, pixels.bits, pixels.signed, account)
    pose = _dicom_orientation.of(
        stated, pixels.values.shape, aspect if len(aspect) == 2 and all(aspect) else None, account
    )
    account += [spacing, *(f"pydicom: {text[:120]}" for text in warnings[:_MOST_WARNINGS])]
    if found := pixels.findings:
        file_digest, pixel_digest = found.file_digest, found.pixel_digest
    else:
        file_digest = storage.content_digest(data)
        pixel_digest = raster.digest_of_pixels(pixels.values)
    values = _dicom_orientation.to_display(pixels.values, pose, shown.padding)
    return Dicom(
        values,
        tuple(account),
        file_digest,
        pixel_digest,
        stated,
        shown.table,
        pose,
        shown.padding,
    )


def _spacing_line(header: Header, dataset: Dataset) -> str:
    if header.spacing_from:
        return f"spacing: {header.spacing_from}"
    for keyword in _SPACINGS:
        if text := _dicom_values.text(dataset, keyword).strip(" \0"):
            return f"spacing is not known: {keyword} {text!r} is not two decimal numbers above 0"
    return "spacing is not stated"


def _understood(path: Path, work: Callable[[], Result], what: str) -> Result:
    """Return what `work` returns; anything that pydicom or a decoder raises becomes `BadData`."""
    try:
        return work()
    except BadData:
        raise
    except (NotFound, CannotRead) as error:
        raise BadData(str(error)) from error
    except Exception as error:
        raise BadData(
            f"{path}: its {what} ({type(error).__name__}: {' '.join(str(error).split())[:120]}); "
            "copy the file again from its source"
        ) from error
