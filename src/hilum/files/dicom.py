"""DICOM files: one grey picture each, to a `Radiograph`, to the facts an audit needs, and to what the header tells.

Parsing is by pydicom, decoding by imagecodecs. `values` are the stored ones; signed ones are raised by half of their range, so that
all are uint8 or uint16. What is shown depends on the stored value alone, so it is one table of 2 ** bits entries, made in the
standard's order: modality LUT or rescale (PS3.3 C.11.1), the first VOI window or else VOI LUT (C.11.2), MONOCHROME1 turned over so
that bright is dense (C.7.6.3.1.2), padding put to black (C.7.5.1.1.2). Without a window, or where the window shows none of the
picture's contrast, the values found, padding left out, are stretched from 0 to 1.

Spacing is Pixel Spacing, or where there is none Imager Pixel Spacing, which is at the detector and not in the patient.
Colour and several frames are refused by name.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum import store
from hilum.errors import BadData
from hilum.files import raster
from hilum.radiograph import Radiograph

if TYPE_CHECKING:
    from pydicom import Dataset

ENDINGS = (".dcm", ".dicom")
_CODECS = {  # transfer syntax: decoder of imagecodecs
    **dict.fromkeys(("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"), "jpeg8_decode"),
    **dict.fromkeys(("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"), "jpegls_decode"),
    **dict.fromkeys(("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"), "jpeg2k_decode"),
    **dict.fromkeys(("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"), "htj2k_decode"),
    **dict.fromkeys(("1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.111", "1.2.840.10008.1.2.4.112"), "jpegxl_decode"),
}
_RLE = "1.2.840.10008.1.2.5"
_YEARS = {"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 1 / 52.18, "D": 1 / 365.25}
_SEXES = {"F": "female", "M": "male", "O": "other"}
_VIEWS = {"PA": "PA", "AP": "AP", "LL": "LATERAL", "RL": "LATERAL", "LATERAL": "LATERAL", "LAT": "LATERAL"}


@dataclass(frozen=True)
class Header:
    """What a file says of its picture; null where it says nothing or something that cannot be meant."""

    instance: str | None  # SOP Instance UID
    series: str | None
    study: str | None
    patient: str | None
    sex: str | None  # female, male or other
    age_years: float | None
    view: str | None  # PA, AP or LATERAL
    size: tuple[int, int] | None  # height, width in pixels
    spacing_mm: tuple[float, float] | None  # between rows, between columns


@dataclass(frozen=True)
class Dicom:
    """A decoded file: `values` uint8 or uint16 (height, width), and what is known of the file."""

    values: np.ndarray
    account: tuple[str, ...]
    file_digest: str  # of the bytes
    pixel_digest: str  # of size, depth and values
    header: Header
    shown: np.ndarray  # float32 (2 ** bits,): the brightness in [0, 1] of each value

    def radiograph(self) -> Radiograph:
        return Radiograph(self.shown[self.values], self.header.spacing_mm, self.account)


def is_one(path: Path) -> bool:
    """Whether the file's bytes say DICOM; no where it cannot be opened, which the reader then tells."""
    try:
        with open(path, "rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def header(path: Path) -> Header:
    """What the header tells; pixels are not read. Raises `BadData` naming the file."""
    from pydicom import dcmread

    return _understood(path, lambda: _header(dcmread(path, stop_before_pixels=True)), "header is broken or cut short")


def placeholder(headers: Iterable[Header]) -> str | None:
    """The one Patient ID of pictures from several studies: what anonymising left, and no person's."""
    patients, studies = zip(*((it.patient, it.study) for it in headers), strict=True) if (headers := list(headers)) else ((), ())
    return patients[0] if len(set(patients)) == 1 < len(set(studies)) else None


def read(path: Path) -> Dicom:
    """Decode one file. Raises `BadData` naming the file, what is wrong with it and what to do."""
    from pydicom import dcmread

    data = raster.load(path)
    dataset = _understood(path, lambda: dcmread(io.BytesIO(data)), "data set is broken or cut short")
    told = _understood(path, lambda: _header(dataset), "header is broken or cut short")
    bits, signed = _understood(path, lambda: _depth(path, dataset, told), "description of the pixels is broken")
    stored = _understood(path, lambda: _decoded(dataset), f"pixels ({dataset.file_meta.TransferSyntaxUID.name}) are broken or cut short")
    if stored.shape != told.size:
        raise BadData(f"{path}: Rows and Columns say {told.size}, the pixels are {stored.shape} (height, width); copy the file again from its source")
    values = _unsigned(stored, bits, signed)
    account = [f"{bits}-bit {'signed' if signed else 'unsigned'} {dataset.file_meta.TransferSyntaxUID.name} decoded"]
    shown = _understood(path, lambda: _shown(dataset, values, bits, signed, account), "description of the grey values is broken")
    return Dicom(values, tuple(account), store.digest(data), raster.digest_of_pixels(values), told, shown)


def _understood(path: Path, work: Callable[[], Any], what: str) -> Any:
    """What `work` gives; anything that pydicom or a decoder stumbles over becomes `BadData`."""
    try:
        return work()
    except BadData:
        raise
    except Exception as error:
        raise BadData(f"{path}: its {what} ({type(error).__name__}: {str(error)[:120]}); copy the file again from its source") from error


# --------------------------------------------------------------------------------------------------------------------------- header


def _header(dataset: Dataset) -> Header:
    rows, columns = dataset.get("Rows"), dataset.get("Columns")
    return Header(
        *(_text(dataset, keyword) for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID")),
        _SEXES.get((_text(dataset, "PatientSex") or "").upper()),
        _age(_text(dataset, "PatientAge") or ""),
        _VIEWS.get((_text(dataset, "ViewPosition") or "").upper()),
        (int(rows), int(columns)) if rows and columns else None,
        _spacing(dataset),
    )  # fmt: skip


def _text(dataset: Dataset, keyword: str) -> str | None:
    return str(dataset.get(keyword) or "").strip(" \0") or None


def _age(text: str) -> float | None:
    found = re.fullmatch(r"(\d{1,4})([YMWD]?)", text.upper())
    return round(int(found[1]) * _YEARS[found[2]], 3) if found else None


def _spacing(dataset: Dataset) -> tuple[float, float] | None:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        spacing = [float(value) for value in dataset.get(keyword) or ()]
        if len(spacing) == 2 and all(0 < value < math.inf for value in spacing):
            return spacing[0], spacing[1]
    return None


# --------------------------------------------------------------------------------------------------------------------------- pixels


def _depth(path: Path, dataset: Dataset, told: Header) -> tuple[int, bool]:
    """Bits stored and whether they are signed. Raises `BadData` for all that is not one grey picture."""
    if "PixelData" not in dataset or told.size is None:
        what = "float pixels" if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset else "no picture"
        kind = getattr(dataset.get("SOPClassUID"), "name", "of no stated kind")
        raise BadData(f"{path}: holds {what} ({kind}); expected one grey picture of 8 to 16 bits; take the file out of the folder")
    if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
        raise BadData(f"{path}: holds {frames} frames; expected one picture; export the frame you mean as a file of its own")
    shown = str(dataset.get("PhotometricInterpretation"))
    if shown not in ("MONOCHROME1", "MONOCHROME2") or dataset.SamplesPerPixel != 1:
        raise BadData(f"{path}: its pixels are {shown}; expected MONOCHROME1 or MONOCHROME2; export it in grey")
    if math.prod(told.size) > raster.MOST_PIXELS:
        raise BadData(f"{path}: {told.size[0]}x{told.size[1]} pixels are more than the {raster.MOST_PIXELS:,} that are read; shrink it first")
    bits, allocated = int(dataset.BitsStored), int(dataset.BitsAllocated)
    if allocated not in (8, 16) or not 2 <= bits <= allocated:
        raise BadData(f"{path}: has {bits} bits stored in {allocated}; expected 2 to 16 bits in 8 or 16; export it again")
    return bits, bool(dataset.PixelRepresentation)


def _decoded(dataset: Dataset) -> np.ndarray:
    """Stored values as uint8 or uint16 containers (height, width), unused high bits as the file has them."""
    import imagecodecs
    from pydicom.encaps import get_frame

    syntax = dataset.file_meta.TransferSyntaxUID
    size, wide = (int(dataset.Rows), int(dataset.Columns)), dataset.BitsAllocated == 16
    if syntax in _CODECS:
        values = getattr(imagecodecs, _CODECS[syntax])(get_frame(dataset.PixelData, 0, number_of_frames=1))
        return values.astype(np.uint16)  # signed ones wrap; `_unsigned` puts them right
    if syntax == _RLE:
        data, order = imagecodecs.dicomrle_decode(get_frame(dataset.PixelData, 0, number_of_frames=1), "<u2" if wide else "u1"), "<"
    elif syntax.is_encapsulated:
        raise ValueError("no decoder for this transfer syntax")
    else:
        data, order = dataset.PixelData, "<" if syntax.is_little_endian else ">"
    values = np.frombuffer(data, f"{order}u2" if wide else "u1", count=math.prod(size)).reshape(size)
    return values.astype(np.uint16) >> np.uint16(max(int(dataset.HighBit) + 1 - int(dataset.BitsStored), 0))


def _unsigned(stored: np.ndarray, bits: int, signed: bool) -> np.ndarray:
    """Without unused high bits; signed values raised by half of their range."""
    values = stored & np.uint16((1 << bits) - 1)
    if signed:
        values ^= np.uint16(1 << (bits - 1))
    return values.astype(np.uint8) if bits <= 8 else values


# ---------------------------------------------------------------------------------------------------------------------- brightness


def _shown(dataset: Dataset, values: np.ndarray, bits: int, signed: bool, account: list[str]) -> np.ndarray:
    """The table of `Dicom.shown`; what was applied is added to `account`."""
    stored = np.arange(1 << bits) - (1 << (bits - 1) if signed else 0)
    padding = _padding(dataset, stored)
    present = np.bincount(values.ravel(), minlength=1 << bits) > 0
    found = present & ~padding if (present & ~padding).any() else present
    output = _modality(dataset, stored, account)
    table = _windowed(dataset, output, account)
    if table is None or (np.ptp(table[found]) == 0 < np.ptp(output[found])):
        low, high = output[found].min(), output[found].max()
        told = "no window" if table is None else "the window shows no contrast"
        account.append(f"{told}: values {low:g} to {high:g} become 0 to 1")
        table = np.clip((output - low) / max(high - low, 1e-6), 0, 1)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        account.append("MONOCHROME1 turned over")
        table = 1 - table
    if (padding & present).any():
        account.append("padding put to 0")
        table[padding] = 0
    return table.astype(np.float32)


def _padding(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    """Which stored values mean that there is no picture."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, bool)
    last = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((int(first), int(first if last is None else last)))
    return (stored >= low) & (stored <= high)


def _modality(dataset: Dataset, stored: np.ndarray, account: list[str]) -> np.ndarray:
    if sequence := dataset.get("ModalityLUTSequence"):
        account.append("modality LUT applied")
        return _looked_up(dataset, sequence[0], stored)[0]
    slope, intercept = (float(value) if (value := dataset.get(name)) is not None else default for name, default in (("RescaleSlope", 1), ("RescaleIntercept", 0)))
    if (slope, intercept) != (1, 0):
        account.append(f"rescaled by {slope:g} and {intercept:+g}")
    return stored * slope + intercept


def _windowed(dataset: Dataset, output: np.ndarray, account: list[str]) -> np.ndarray | None:
    """`output` in [0, 1] as the first window, or else the first VOI LUT, shows it; None where there is neither."""
    centre, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is not None and width is not None:
        function = _text(dataset, "VOILUTFunction") or "LINEAR"
        account.append(f"window {centre:g}, {width:g} ({function}) applied")
        if function == "SIGMOID":
            return 1 / (1 + np.exp(np.clip(-4 * (output - centre) / width, -700, 700)))
        if function == "LINEAR_EXACT":
            return np.clip((output - centre) / width + 0.5, 0, 1)
        if width <= 1:
            return (output > centre - 0.5).astype(np.float64)
        return np.clip((output - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    if sequence := dataset.get("VOILUTSequence"):
        account.append("VOI LUT applied")
        shown, top = _looked_up(dataset, sequence[0], np.round(output).astype(np.int64))
        return shown / top
    return None


def _first(value: object) -> float | None:
    """The first of one or several numbers; None where there is none."""
    from pydicom.multival import MultiValue

    values = value if isinstance(value, MultiValue) else [value]
    return next((float(one) for one in values if one is not None and str(one).strip()), None)


def _looked_up(dataset: Dataset, item: Dataset, values: np.ndarray) -> tuple[np.ndarray, int]:
    """`values` through a LUT, float64, and its largest possible entry. Values beside it take its first or last entry (C.11.1.1.1)."""
    entries, first, bits = (int(value) for value in item.LUTDescriptor)
    entries, data = entries or 1 << 16, item.LUTData
    if isinstance(data, bytes):
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        data = np.frombuffer(data, "u1" if len(data) < 2 * entries else f"{order}u2")
    table = np.asarray(data, np.float64)[:entries]
    return table[np.clip(values - first, 0, len(table) - 1)], (1 << bits) - 1
