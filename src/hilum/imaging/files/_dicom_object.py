"""Name the DICOM objects that hold no single image, by their header (PS3.4 B.5, PS3.6 annex A)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hilum.imaging.files._dicom_header import Header

NO_PIXELS, MULTI_FRAME = "no pixel data", "multi-frame image"
_DICOMDIR = "1.2.840.10008.1.3.10"
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_KINDS = (  # by the first components behind `_STORAGE`, longer ones first
    ("9", "waveform"),
    ("11", "presentation state"),
    ("30", "parametric map"),
    ("66.4", "segmentation"),
    ("66.5", "surface segmentation"),
    ("66.6", "tractography"),
    ("66.7", "segmentation"),
    ("66.1", "spatial registration"),
    ("66.2", "spatial fiducials"),
    ("66.3", "spatial registration"),
    ("66", "raw data"),
    ("67", "real world value mapping"),
    ("68", "surface scan"),
    ("88.59", "key object selection"),
    ("88", "structured report"),
    ("104.1", "encapsulated PDF"),
    ("104.2", "encapsulated clinical document"),
    ("104", "encapsulated 3D model"),
    ("200", "acquisition protocol"),
    ("481.2", "radiotherapy dose"),
    ("481.3", "radiotherapy structure set"),
    ("481.5", "radiotherapy plan"),
    ("481.8", "radiotherapy plan"),
    *((f"481.{number}", "radiotherapy treatment record") for number in (4, 6, 7, 9)),
)
_SYNTAXES = "1.2.840.10008.1.2.4."
_VIDEO = frozenset(f"{_SYNTAXES}{number}" for number in range(100, 109))
_FRAGMENTABLE = ".1"
_ELSEWHERE = frozenset(f"{_SYNTAXES}{number}" for number in (94, 95, 204, 205))  # JPIP


def reason(header: Header) -> str | None:
    """Return in a few words what a file holds instead of a single image; else None.

    A single image has whole numbers. Modality and body part do not count: a CT slice is one.
    """
    if header.sop_class == _DICOMDIR:
        return "DICOMDIR"
    if kind := _by_class(header.sop_class or ""):
        return kind
    if (header.syntax or "").removesuffix(_FRAGMENTABLE) in _VIDEO:
        return "video"
    if header.syntax in _ELSEWHERE:
        return "image whose pixels are kept on a server (JPIP)"
    if header.pixels is None:
        return NO_PIXELS
    if header.pixels == "float":
        return "image of floating-point pixels"
    if header.frames is not None and header.frames > 1:
        return f"{MULTI_FRAME} of {header.frames} frames"
    return None


@lru_cache(maxsize=256)
def _by_class(uid: str) -> str | None:
    if not uid.startswith(_STORAGE):
        return None
    rest = uid.removeprefix(_STORAGE)
    return next((kind for start, kind in _KINDS if f"{rest}.".startswith(f"{start}.")), None)
