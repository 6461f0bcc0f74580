"""Judge text in the pixels of a radiograph, blank it, or refuse the image.

The header is judged always (`hilum.imaging.files._dicom_burned_in`), the pixels where they are to
be read (`hilum.imaging.burned_in_text`). Neither proves that an image is clean: an image that the
header suspects passes only where its pixels were read too, and one that states burned-in text in
which none is found is refused. Side markers belong to the image and stay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import BadData
from hilum.imaging import burned_in_text
from hilum.imaging.files import dicom
from hilum.imaging.files.dicom_dataset import (
    BURNT_IN,
    CAPTURE,
    RECOGNIZABLE,
    Opened,
    PixelElement,
    stored_values,
)
from hilum.imaging.radiograph import to_uint8
from hilum.privacy.dicom.profile import BurnedIn, Options

if TYPE_CHECKING:
    from pydicom import Dataset

# Lower than where words are counted: to blank a rib costs little, to leave a name costs much.
_SURE = 0.5
_MARGIN = 0.35  # of a line's height, around its box
_EXPLICIT = "1.2.840.10008.1.2.1"
_OVERLAY_POSITION = 0x0102


@dataclass(frozen=True)
class Judged:
    """What becomes of an object's pixels, and how they were judged, in words of the report."""

    pixels: PixelElement | None
    syntax: str
    verdict: str
    cleaned: bool = False  # read, and blanked where there was text


def judge(opened: Opened, path: Path, data: bytes, options: Options) -> Judged:
    """Return the pixels to write. Raises `BadData` where the image is refused."""
    pixels, syntax = opened.pixels, opened.syntax
    if pixels is None:
        return Judged(None, syntax, "no pixels")
    flags = opened.header.text
    if RECOGNIZABLE in flags:
        raise BadData(
            f"{path}: its header states recognizable features of the patient (Recognizable Visual "
            f"Features); no image of a face is passed on; leave the file out"
        )
    if options.burned_in is BurnedIn.KEEP:
        return Judged(_without_spare_bits(opened, path), syntax, "kept unread, as you decided")
    suspected = [flag for flag in (BURNT_IN, CAPTURE) if flag in flags]
    if not options.ocr or opened.object_kind is not None:
        if suspected:
            raise BadData(_suspected(path, suspected, opened))
        return Judged(_without_spare_bits(opened, path), syntax, "by header alone")
    try:
        image = dicom.decoded(path, data)
    except BadData as fault:  # colour, or a form that is not decoded
        raise BadData(f"{fault}; its pixels cannot be read for text, so it is not passed on") from (
            fault
        )
    shown = to_uint8(image.radiograph().pixels)
    mask = text_mask(shown)
    if not mask.any():
        if BURNT_IN in suspected:
            raise BadData(_suspected(path, [BURNT_IN], opened))
        return Judged(_without_spare_bits(opened, path), syntax, "read, no text found", True)
    if options.burned_in is BurnedIn.REFUSE:
        raise BadData(
            f"{path}: text is burned into its pixels; blank it with --burned-in blank, or leave "
            f"the file out"
        )
    shown[mask > 0] = 0
    if text_mask(shown).any():
        raise BadData(
            f"{path}: text can still be read in its pixels after blanking; leave the file out"
        )
    own = image.pose.back(mask, labels=True).astype(bool)
    return Judged(_blanked(opened, path, data, own), _EXPLICIT, "read, text blanked", True)


def _suspected(path: Path, flags: list[str], opened: Opened) -> str:
    why = {
        BURNT_IN: "its header states burned-in text (Burned In Annotation YES)",
        CAPTURE: "it is a capture of a screen or a scan of paper, which often hold names",
    }[flags[0]]
    what = f"holds {opened.object_kind}, whose pixels are not read" if opened.object_kind else ""
    return (
        f"{path}: {why}{f', and it {what}' if what else ''}, and nothing was found or read that "
        f"proves otherwise; have the pixels read and blanked (extra [ocr], --burned-in blank), "
        f"or, where you have seen that they hold no name, use --burned-in keep"
    )


def text_mask(image: np.ndarray) -> np.ndarray:
    """Return where a uint8 (height, width) image holds text beside side markers, as uint8 0 or 1.

    Raises `MissingExtra` where the reader is not installed.
    """
    mask = np.zeros(image.shape, np.uint8)
    for text, sure, box in burned_in_text.lines(image):
        found = [word for word in re.split(r"[\W_]+", text) if len(word) > 1]
        if sure < _SURE or all(word.upper() in burned_in_text.MARKERS for word in found):
            continue
        (x, y), (x_end, y_end) = np.floor(box.min(0)), np.ceil(box.max(0))
        margin = max(2, round(_MARGIN * min(x_end - x, y_end - y)))
        top, left = max(0, int(y) - margin), max(0, int(x) - margin)
        mask[top : int(y_end) + margin + 1, left : int(x_end) + margin + 1] = 1
    return mask


def _blanked(opened: Opened, path: Path, data: bytes, text: np.ndarray) -> PixelElement:
    """Return the pixels uncompressed, black where `text` is; the data set then describes them."""
    values, bits = stored_values(path, data)
    dataset = opened.dataset
    inverted = str(dataset.PhotometricInterpretation) == "MONOCHROME1"
    black = values.max() if inverted else values.min()
    values = np.where(text, black, values).astype(values.dtype)
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    dataset.BitsAllocated = 8 * values.dtype.itemsize
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    for keyword in ("PlanarConfiguration", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            del dataset[keyword]
    value = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    value += b"\0" * (len(value) % 2)
    return PixelElement(0x7FE00010, "OW", value, False, "little")


def _without_spare_bits(opened: Opened, path: Path) -> PixelElement | None:
    """Return the pixels with the bits cleared that are no part of a value (PS3.5 8.1.1).

    Older writers keep overlays in them. Raises `BadData` for such an overlay in compressed pixels.
    """
    pixels, dataset = opened.pixels, opened.dataset
    if pixels is None or pixels.tag != 0x7FE00010:
        return pixels
    if pixels.encapsulated:
        if any(_in_pixels(dataset, group) for group in range(0x6000, 0x6020, 2)):
            raise BadData(
                f"{path}: an overlay lies within its compressed pixels, where it cannot be "
                f"removed; export the image uncompressed"
            )
        return pixels
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    high = int(dataset.get("HighBit", stored - 1))
    if allocated not in (8, 16) or not 1 <= stored < allocated:
        return pixels
    mask = ((1 << stored) - 1) << max(0, high - stored + 1) & (1 << allocated) - 1
    order = ">" if pixels.order == "big" else "<"
    kind = np.dtype(f"{order}u{allocated // 8}")
    values = np.frombuffer(pixels.value, kind)
    spare = values & kind.type(~mask & (1 << allocated) - 1)
    if not spare.any():
        return pixels
    kept = values & kind.type(mask)
    if int(dataset.PixelRepresentation):
        sign = kind.type(1 << high)
        above = kind.type(~((1 << high + 1) - 1) & (1 << allocated) - 1)
        kept = np.where(kept & sign, kept | above, kept).astype(kind)
    return PixelElement(pixels.tag, pixels.vr, kept.tobytes(), False, pixels.order)


def _in_pixels(dataset: Dataset, group: int) -> bool:
    """Return whether an overlay is declared whose bits are those of the pixels (C.9.2)."""
    return (group, _OVERLAY_POSITION) in dataset and (group, 0x3000) not in dataset
