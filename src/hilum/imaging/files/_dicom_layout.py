"""Read how a DICOM file's pixels are laid out (image pixel module, PS3.3 C.7.6.3).

Objects that are not one grey image and unknown transfer syntaxes are refused here, before anything
is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum.errors import BadData
from hilum.imaging.files import _dicom_lut, _dicom_object, _dicom_parsing, raster
from hilum.imaging.files._dicom_elements import LONG_VRS, UNKNOWN_LENGTH

if TYPE_CHECKING:
    from pydicom import Dataset

    from hilum.imaging.files._dicom_header import Header
    from hilum.imaging.files._dicom_parsing import Parsed

GREY, COLOUR = (
    ("MONOCHROME1", "MONOCHROME2"),
    ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_PARTIAL_422", "YBR_ICT", "YBR_RCT"),
)
PALETTE = "PALETTE COLOR"
KINDS = {  # the codec that a transfer syntax announces, by the number behind `COMPRESSED`
    **{str(number): "jpeg" for number in range(50, 71)},
    "80": "jpegls",
    "81": "jpegls",
    **dict.fromkeys(("90", "91", "92", "93"), "jpeg2k"),
    **dict.fromkeys(("201", "202", "203"), "htj2k"),
    **dict.fromkeys(("110", "111", "112"), "jpegxl"),
}
COMPRESSED = "1.2.840.10008.1.2.4."  # PS3.5 A.4
RLE, DEFLATED_FRAME = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.8.1"
_NATIVE = frozenset(
    (
        None,
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2.2",
        "1.2.840.10008.1.2.1.99",
    )
)
_COMPRESSED_IN_USE = (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203, 110, 111, 112)
_KNOWN = _NATIVE | {RLE, DEFLATED_FRAME, *(COMPRESSED + number for number in KINDS)}
SYNTAXES = (
    "1.2.840.10008.1.2.1",  # first: what a sender with several is to send
    "1.2.840.10008.1.2",
    *(f"{COMPRESSED}{number}" for number in _COMPRESSED_IN_USE),
    RLE,
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
)


@dataclass(frozen=True)
class Layout:
    """The image pixel module of a header (PS3.3 C.7.6.3), and where the pixels are."""

    rows: int
    columns: int
    samples: int
    planar: bool  # colour by plane, not by pixel
    allocated: int
    bits: int
    high: int
    signed: bool
    photometric: str
    syntax: str | None
    name: str  # of the syntax, for people
    big_endian: bool
    place: int  # offset of the value
    length: int
    vr: str
    palette: np.ndarray | None  # (2 ** bits, 3)

    @property
    def byte_order(self) -> Literal["little", "big"]:
        """The byte order of the file's elements and native pixels."""
        return "big" if self.big_endian else "little"

    @property
    def native(self) -> bool:
        """Whether the pixels are neither compressed nor encapsulated."""
        return self.length != UNKNOWN_LENGTH and self.syntax in _NATIVE


def layout(parsed: Parsed, header: Header, where: object) -> Layout:
    """Return the layout that a parsed file states.

    Raises `BadData` for everything but one grey image of at most 16 bits in a known encoding.
    """
    dataset = parsed.dataset
    _refuse_others(header, where)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    photometric = str(dataset.PhotometricInterpretation)
    samples = int(dataset.get("SamplesPerPixel") or 1)
    if photometric not in (*GREY, *COLOUR, PALETTE) or samples != (
        3 if photometric in COLOUR else 1
    ):
        raise BadData(
            f"{where}: its pixels are {photometric} of {samples} samples; expected MONOCHROME1 or "
            "MONOCHROME2; export it in grey"
        )
    refuse_size(where, rows, columns)
    bits, allocated = int(dataset.BitsStored), int(dataset.BitsAllocated)
    if allocated not in (8, 16, 32) or not 2 <= bits <= min(allocated, 16):
        raise BadData(
            f"{where}: has {bits} bits stored in {allocated}; expected 2 to 16 bits in 8, 16 or "
            "32; export it again"
        )
    order = _dicom_parsing.byte_order(dataset)
    vr, value, length = element_at(parsed.data, parsed.pixels, order)
    high, signed = dataset.get("HighBit"), bool(dataset.PixelRepresentation)
    return Layout(
        rows,
        columns,
        samples,
        bool(dataset.get("PlanarConfiguration")),
        allocated,
        bits,
        bits - 1 if high is None else int(high),
        signed,
        photometric,
        header.syntax,
        _syntax_name(header.syntax),
        order == "big",
        value,
        length,
        vr,
        _palette(dataset, bits, signed) if photometric == PALETTE else None,
    )


def _refuse_others(header: Header, where: object) -> None:
    if (reason := _dicom_object.reason(header)) is not None:
        several = reason.startswith(_dicom_object.MULTI_FRAME)
        remedy = (
            "export the frame you mean as a file of its own"
            if several
            else "take the file out of the folder"
        )
        raise BadData(
            f"{where}: holds {reason} ({_class_name(header)}), not a single image; expected one "
            f"grey image of 8 to 16 bits; {remedy}"
        )
    if header.syntax not in _KNOWN:
        raise BadData(
            f"{where}: its transfer syntax is {header.syntax} ({_syntax_name(header.syntax)}), "
            "which is not supported; expected one of the standard's for images; export the file "
            "uncompressed (Explicit VR Little Endian)"
        )


def _class_name(header: Header) -> str:
    from pydicom.uid import UID

    return UID(header.sop_class).name if header.sop_class else "of no stated kind"


def _syntax_name(syntax: str | None) -> str:
    from pydicom.uid import UID

    if syntax is None:
        return "no transfer syntax stated"
    return name if (name := UID(syntax).name) != syntax else "private or unknown"


def refuse_size(where: object, rows: int, columns: int) -> None:
    """Raise `ValueError` for an image without pixels, `BadData` for one of too many."""
    if rows < 1 or columns < 1:
        raise ValueError(f"the compressed image states {rows}x{columns} pixels")
    if rows * columns > raster.MOST_PIXELS:
        raise BadData(
            f"{where}: {rows}x{columns} pixels are more than the {raster.MOST_PIXELS:,} that are "
            "read; shrink it first"
        )


def element_at(
    data: memoryview, place: int, order: Literal["little", "big"]
) -> tuple[str, int, int]:
    """Return VR, offset and length of the pixel data (PS3.5 7.1).

    Whether the VR is explicit is decided by the element itself, whatever the transfer syntax says:
    the low byte of a length of whole words is never a letter of a VR that pixels have.
    """
    vr = bytes(data[place + 4 : place + 6])
    if vr in (b"US", b"SS"):  # the short form, which no writer should use for pixels
        return vr.decode(), place + 8, int.from_bytes(data[place + 6 : place + 8], order)
    if vr in LONG_VRS and not any(data[place + 6 : place + 8]):
        return vr.decode(), place + 12, int.from_bytes(data[place + 8 : place + 12], order)
    return "OW", place + 8, int.from_bytes(data[place + 4 : place + 8], order)


def _palette(dataset: Dataset, bits: int, signed: bool) -> np.ndarray:
    """Return the colours of all stored values from the lowest on.

    uint16 (2 ** bits, 3), or uint8 where entries have 8 bits.
    """
    if "SegmentedRedPaletteColorLookupTableData" in dataset:
        from pydicom.pixels.processing import apply_color_lut

        return apply_color_lut(np.arange(1 << bits, dtype=np.uint16), dataset)
    stored = np.arange(1 << bits) - (1 << (bits - 1) if signed else 0)
    name = "{}PaletteColorLookupTable{}"
    tables = [
        _dicom_lut.table(dataset, name.format(colour, "Descriptor"), name.format(colour, "Data"))
        for colour in ("Red", "Green", "Blue")
    ]
    kind = (
        np.uint8
        if all(table.bits <= 8 and table.entries.max() < 256 for table in tables)
        else np.uint16
    )
    return np.stack([table.apply(stored).astype(kind) for table in tables], axis=1)
