"""DICOM files, recognised by their bytes: one grey image each, to a `Radiograph`, to the facts an audit needs, and to its header.

pydicom parses (`_dicom_parsing`), imagecodecs decodes (`_dicom_pixels`), and the standard says what is shown (`_dicom_grey`) and which
way up (`_dicom_pose`); each tells in the account what it applied, with the clause. `header` alone is many times quicker than parsing
(`_dicom_walk`, `_dicom_facts`), and `object_kind` says of it what holds no single image. `values` are the stored ones, signed ones raised by half of their range, so that all are uint8 or
uint16; they lie as the standard view wants, and `pose` leads back to the file's own pixels, in which masks and outlines are drawn.
What is shown depends on the stored value alone: it is one table of 2 ** bits entries. Several frames, colour that is not grey in
colour's clothes, unknown transfer syntaxes, and pixels of which some are missing are refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum import storage
from hilum.errors import BadData, CannotRead, HilumError, NotFound
from hilum.imaging.files import (
    _dicom_facts,
    _dicom_intensity,
    _dicom_object,
    _dicom_orientation,
    _dicom_parsing,
    _dicom_pixels,
    _dicom_values,
    raster,
)
from hilum.imaging.files._dicom_decimal import decimals
from hilum.imaging.files._dicom_header import Header
from hilum.imaging.files._dicom_orientation import Pose
from hilum.imaging.radiograph import Radiograph
from hilum.safety import untrusted_files

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = [
    "ENDINGS",
    "Dicom",
    "Header",
    "Pose",
    "header",
    "is_one",
    "object_kind",
    "placeholder",
    "read",
]

ENDINGS = (".dcm", ".dicom")
_DOUBTS = 3  # of pydicom's that are told
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
    kind = "DICOM"
    colour = False  # a picture with real colour is refused

    def radiograph(self) -> Radiograph:
        return Radiograph(
            self.values,
            _dicom_orientation.spacing(self.header, self.pose),
            self.processing_log,
            self.lut,
        )


def is_one(path: Path, root: Path | None = None) -> bool:
    """Whether a file's bytes say DICOM, whatever its name; no for pipes and devices, and where it cannot be opened."""
    try:
        return holds(untrusted_files.read_head(path, 132, root=root))
    except HilumError:
        return False


def holds(head: bytes) -> bool:
    """Tell whether a file's first bytes are DICOM's."""
    return head[128:132] == b"DICM" or _dicom_parsing.is_bare_dataset(head[:132])


def header(path: Path, root: Path | None = None) -> Header:
    """What the header tells; pixels are not read. Raises `BadData` naming the file."""
    return _understood(path, lambda: _dicom_facts.read(path, root), "header is broken or cut short")


def object_kind(header: Header) -> str | None:
    """Return in a few words what a file holds instead of a single image, as "structured report" or "multi-frame image of
    12 frames"; None for a single image, of whatever modality."""
    return _dicom_object.reason(header)


def placeholder(headers: Iterable[Header]) -> str | None:
    """The one Patient ID of pictures from several studies: what anonymising left, and no person's."""
    patients, studies = (
        zip(*((it.patient, it.study) for it in headers), strict=True)
        if (headers := list(headers))
        else ((), ())
    )
    return patients[0] if len(set(patients)) == 1 < len(set(studies)) else None


def read(path: Path, root: Path | None = None) -> Dicom:
    """Decode one file; with `root`, one that lies below it. Raises `BadData` naming the file, what is wrong with it and what to do."""
    return decoded(path, raster.load(path, root))


def decoded(path: Path, data: bytes) -> Dicom:
    """Decode a file's bytes; `path` is what errors call it. Raises as `read` does."""
    with _dicom_parsing.quietly() as doubts:
        parsed = _understood(
            path, lambda: _dicom_parsing.parsed(data), "data set is broken or cut short"
        )
        told = _understood(
            path, lambda: _dicom_facts.of_file(data, parsed), "header is broken or cut short"
        )
        layout = _understood(
            path,
            lambda: _dicom_pixels.layout(parsed, told, path),
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
            path, lambda: _spacing_line(told, parsed.dataset), "spacing is broken"
        )
    what = f"pixels are {layout.photometric} ({layout.name}) and broken or cut short"
    pixels = _understood(path, lambda: _dicom_pixels.decode(parsed, layout, path), what)
    account = [*pixels.processing_log]
    if layout.photometric not in _dicom_pixels.GREY:
        grey = _dicom_intensity.of_colour(grey)
    shown = _dicom_intensity.shown(grey, pixels.values, pixels.bits, pixels.signed, account)
    pose = _dicom_orientation.of(
        told, pixels.values.shape, aspect if len(aspect) == 2 and all(aspect) else None, account
    )
    account += [spacing, *(f"pydicom: {doubt[:120]}" for doubt in doubts[:_DOUBTS])]
    digest = raster.digest_of_pixels(pixels.values)
    values = _dicom_orientation.to_display(pixels.values, pose, shown.padding)
    return Dicom(values, tuple(account), storage.digest(data), digest, told, shown.table, pose)


def _spacing_line(header: Header, dataset: Dataset) -> str:
    if header.spacing_from:
        return f"spacing: {header.spacing_from}"
    for keyword in _SPACINGS:
        if text := _dicom_values.text(dataset, keyword).strip(" \0"):
            return f"spacing is not known: {keyword} {text!r} is not two decimal numbers above 0"
    return "spacing is not told"


def _understood(path: Path, work: Callable[[], Any], what: str) -> Any:
    """What `work` gives; anything that pydicom or a decoder stumbles over becomes `BadData`."""
    try:
        return work()
    except BadData:
        raise
    except (NotFound, CannotRead) as error:
        raise BadData(str(error)) from error
    except Exception as error:
        raise BadData(
            f"{path}: its {what} ({type(error).__name__}: {' '.join(str(error).split())[:120]}); copy the file again from its source"
        ) from error
