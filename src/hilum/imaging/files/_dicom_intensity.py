"""Apply the grey scale transforms of DICOM as one table: stored value to brightness in [0, 1].

Bright is dense. The order is the standard's: modality LUT, else rescale (PS3.3 C.11.1); the first
VOI LUT, else the first window (C.11.2; where both exist either may be shown, and the LUT is the
vendor's own curve); the inversion of MONOCHROME1 (C.7.6.3.1.2); padding to black (C.7.5.1.1.2).

Presentation LUT Shape restates the inversion (C.8.11.3.1.2). Where it contradicts Photometric
Interpretation, the latter counts, which is what viewers follow, unless Pixel Intensity Relationship
Sign (C.8.11.3.1.2) agrees with the former. That sign alone counts in an image FOR PROCESSING, which
is not meant to be shown. Where no window or LUT is stated, or those stated show no contrast in the
image, the values present, without padding, are stretched from 0 to 1. A window that fits only when
shifted by half the range, as where signed values were stored with an offset, is shifted.

A window or VOI LUT that cannot be parsed is not used, and the processing log says so. A modality
LUT or rescale that cannot be parsed is an error: without it the values mean something else.

Brightness depends on the stored value alone, so a table of 2 ** bits entries holds it; `described`
extracts all settings from pydicom's data set.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hilum.imaging.files import _dicom_lut, _dicom_values
from hilum.imaging.files._dicom_decimal import decimal, decimals
from hilum.imaging.files._dicom_lut import Lut

if TYPE_CHECKING:
    from pydicom import Dataset

_STRIDE = 8  # every eighth row and column is checked first: if these show contrast, all do
_FIRST_STRIDE = 64  # and before them so few that they take no time


Window = tuple[float | None, float | None]  # centre, width; None: empty or not a number


@dataclass(frozen=True)
class Grey:
    """The grey scale settings of a header, as parsed and before they are applied."""

    photometric: str
    modality: Lut | None
    slope: float
    intercept: float
    windows: tuple[Window, ...]
    window_names: tuple[str, ...]
    function: str
    voi: tuple[Lut, ...]
    padding: tuple[int, int] | None  # first and last padding value, as stored
    shape: str  # of the presentation LUT
    relationship: str
    sign: int  # 1: higher values are more X-rays; -1: fewer; 0: not stated
    for_processing: bool
    remarks: tuple[str, ...] = ()  # what of the header is not used


@dataclass(frozen=True)
class Shown:
    """The brightness of every stored value, and which of the values are padding."""

    table: np.ndarray  # float32 (2 ** bits,) in [0, 1]
    padding: np.ndarray | None  # bool (2 ** bits,): padding values; None: the image has none


def described(dataset: Dataset) -> Grey:
    """Return the grey scale settings of a data set.

    Raises `ValueError` for a modality LUT or rescale that cannot be parsed, and what pydicom
    raises.
    """
    remarks: list[str] = []
    explanations = _dicom_values.text(dataset, "WindowCenterWidthExplanation")
    return Grey(
        photometric=str(dataset.get("PhotometricInterpretation")),
        modality=_modality_lut(dataset),
        slope=_rescale(dataset, "RescaleSlope", 1.0),
        intercept=_rescale(dataset, "RescaleIntercept", 0.0),
        windows=_windows(dataset, remarks),
        window_names=tuple(part.strip(" \0") for part in explanations.split("\\"))
        if explanations
        else (),
        function=_word(dataset, "VOILUTFunction").replace(" ", "_") or "LINEAR",
        voi=_voi_luts(dataset, remarks),
        padding=_padding_limits(dataset),
        shape=_word(dataset, "PresentationLUTShape"),
        relationship=_word(dataset, "PixelIntensityRelationship"),
        sign=_dicom_values.whole(dataset, "PixelIntensityRelationshipSign", signed=True) or 0,
        for_processing=_word(dataset, "PresentationIntentType") == "FOR PROCESSING",
        remarks=tuple(remarks),
    )


def of_colour(grey: Grey) -> Grey:
    """Return the settings for an image stored in colour whose colours are grey.

    White is white, and the transforms of grey scale images do not apply (C.7.6.3.1.2, C.11.2).
    """
    plain = replace(grey, photometric="MONOCHROME2", shape="", sign=0, padding=None, remarks=())
    return replace(plain, modality=None, slope=1.0, intercept=0.0, windows=(), voi=())


def shown(grey: Grey, values: np.ndarray, bits: int, signed: bool, account: list[str]) -> Shown:
    """Return the table for `values`; what was applied is appended to `account`.

    `values` are uint8 or uint16, signed ones with an offset of half the range.
    """
    account += grey.remarks
    seen = _Seen(values, bits)
    stored = np.arange(1 << bits) - (1 << (bits - 1) if signed else 0)
    padding = _padding(grey.padding, stored, bits, signed, account)
    if padding is not None and not (padding & seen.all).any():
        padding = None
    if padding is not None:
        account.append("padding excluded and set to 0 (PS3.3 C.7.5.1.1.2)")
        seen.without(padding)
    output = _modality(grey, stored, account)
    table = _windowed(grey, output, seen, 1 << (bits - 1), account)
    if table is None:
        found = output[seen.range]
        low, high = found.min(), found.max()
        account.append(f"values {low:g} to {high:g}, the range in the image, become 0 to 1")
        table = np.clip((output - low) / max(high - low, 1e-6), 0, 1)
    if _falls(grey, account):
        table = 1 - table
    if padding is not None:
        table[padding] = 0
    return Shown(table.astype(np.float32), padding)


class _Seen:
    """The stored values that occur in an image; found only as far as is needed."""

    def __init__(self, values: np.ndarray, bits: int) -> None:
        self._values, self._bits = values, bits
        self._padding: np.ndarray | None = None
        self._all: np.ndarray | None = None

    @property
    def all(self) -> np.ndarray:
        """bool (2 ** bits,): which values occur, padding included."""
        if self._all is None:
            self._all = np.zeros(1 << self._bits, bool)
            self._all[self._values.ravel()] = True
        return self._all

    def without(self, padding: np.ndarray) -> None:
        """Exclude padding values from now on, unless the image consists of nothing else."""
        if (self.all & ~padding).any():
            self._padding = padding

    @property
    def range(self) -> np.ndarray:
        """The values that occur, in ascending order, padding excluded."""
        return np.flatnonzero(self.all if self._padding is None else self.all & ~self._padding)

    def contrast(self, table: np.ndarray) -> bool:
        """Return whether `table` shows the image in more than one brightness."""
        samples = (self._sample(stride) for stride in (_FIRST_STRIDE, _STRIDE))
        return any(sample.size and np.ptp(table[sample]) > 0 for sample in samples) or bool(
            np.ptp(table[self.range]) > 0
        )

    def _sample(self, stride: int) -> np.ndarray:
        """Return the values of every `stride`-th row and column, without padding."""
        sample = self._values[::stride, ::stride].ravel()
        return sample if self._padding is None else sample[~self._padding[sample]]

    def middle(self) -> int:
        """Return the median of a sample of the image's values."""
        sample = self._sample(_STRIDE)
        return int(np.median(sample)) if sample.size else int(self.range[len(self.range) // 2])


def _padding(
    limits: tuple[int, int] | None, stored: np.ndarray, bits: int, signed: bool, account: list[str]
) -> np.ndarray | None:
    """Return which stored values are padding.

    A limit written with the wrong sign is interpreted as Pixel Representation says.
    """
    if limits is None:
        return None
    low, high = sorted(_as_stored(limit, bits, signed) for limit in limits)
    padding = (stored >= low) & (stored <= high)
    if padding.all():
        account.append("padding of all values is implausible: not used")
        return None
    return padding


def _as_stored(limit: int, bits: int, signed: bool) -> int:
    """Return a 16-bit padding limit as a stored value; a signed one may be cut to `bits`."""
    limit &= 0xFFFF
    if not signed:
        return limit
    if limit >> 15:
        return limit - 0x10000
    return limit - (1 << bits) if limit >> (bits - 1) and limit < 1 << bits else limit


def _modality(grey: Grey, stored: np.ndarray, account: list[str]) -> np.ndarray:
    if grey.modality:
        account.append(f"modality LUT applied (PS3.3 C.11.1){_remark(grey.modality.remark)}")
        return grey.modality.apply(stored)
    if not grey.slope:
        account.append("Rescale Slope 0 is implausible: not used")
        return stored.astype(np.float64)
    if (grey.slope, grey.intercept) != (1, 0):
        account.append(f"rescaled by {grey.slope:g} and {grey.intercept:+g} (PS3.3 C.11.1)")
    return stored * grey.slope + grey.intercept


def _windowed(
    grey: Grey, output: np.ndarray, seen: _Seen, half: int, account: list[str]
) -> np.ndarray | None:
    """Return `output` through the first VOI LUT or window that shows contrast; else None."""
    if not grey.voi and not grey.windows:
        account.append("no window stated")
        return None
    if grey.voi:
        white, remark = grey.voi[0].white()
        table = grey.voi[0].apply(output) / white
        if seen.contrast(table):
            others = _others(len(grey.voi) + len(grey.windows))
            remarks = f"{_remark(grey.voi[0].remark)}{_remark(remark)}"
            account.append(f"VOI LUT applied (PS3.3 C.11.2.1.1{others}){remarks}")
            return table
        account.append("VOI LUT shows no contrast")
    window = _first_window(grey, account)
    return None if window is None else _by_window(grey, *window, output, seen, half, account)


def _remark(text: str | None) -> str:
    return f"; {text}" if text else ""


def _first_window(grey: Grey, account: list[str]) -> tuple[int, float, float] | None:
    """Return index, centre and width of the first complete and plausible window."""
    for index, (centre, width) in enumerate(grey.windows):
        if centre is None or width is None:
            lacking = "centre" if centre is None else "width"
            number = f"{index + 1} of {len(grey.windows)}"
            account.append(f"window {number} lacks its {lacking}: not used")
            continue
        if width > 0:
            return index, centre, width
        account.append(f"window {centre:g}, {width:g} ({grey.function}) is implausible: not used")
    return None


def _by_window(
    grey: Grey,
    index: int,
    centre: float,
    width: float,
    output: np.ndarray,
    seen: _Seen,
    half: int,
    account: list[str],
) -> np.ndarray | None:
    name = grey.window_names[index] if index < len(grey.window_names) else ""
    quoted = f' "{name}"' if name else ""
    window = f"window {centre:g}, {width:g}{quoted} ({grey.function})"
    table = _through(grey.function, centre, width, output, account)
    if seen.contrast(table):
        account.append(f"{window} applied (PS3.3 C.11.2{_others(len(grey.windows), index)})")
        return table
    for moved in (half, -half):
        if abs(output[seen.middle()] - centre - moved) <= width / 2:
            account.append(
                f"{window} shows no contrast: shifted by {moved:+d}, half the range, to where the "
                "values are"
            )
            return _through(grey.function, centre + moved, width, output, account)
    account.append(f"{window} shows no contrast")
    return None


def _others(count: int, index: int = 0) -> str:
    if count == 1:
        return ""
    return f"; number {index + 1} of {count}" if index else f"; the first of {count}"


def _through(
    function: str, centre: float, width: float, output: np.ndarray, account: list[str]
) -> np.ndarray:
    """Apply a window (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    LINEAR is defined for widths of at least 1, the other functions for all widths above 0.
    """
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (output - centre) / width, -700, 700)))
    if function not in ("LINEAR", "LINEAR_EXACT"):
        account.append(f"VOI LUT Function {function} is unknown: taken as LINEAR")
    if function != "LINEAR_EXACT" and width < 1:
        account.append(
            f"a width of {width:g} is below the 1 that LINEAR needs: taken as LINEAR_EXACT "
            "(PS3.3 C.11.2.1.2)"
        )
        function = "LINEAR_EXACT"
    if function == "LINEAR_EXACT":
        return np.clip((output - centre) / width + 0.5, 0, 1)
    if width == 1:
        return (output > centre - 0.5).astype(np.float64)
    return np.clip((output - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


def _falls(grey: Grey, account: list[str]) -> bool:
    """Return whether the values must be inverted for bright to be dense."""
    falls = grey.photometric == "MONOCHROME1"
    dense_is_high = {1: False, -1: True}.get(grey.sign)
    if grey.for_processing and dense_is_high is not None and dense_is_high == falls:
        account.append(
            f"for processing: Pixel Intensity Relationship Sign {grey.sign:+d} overrides "
            f"{grey.photometric} (PS3.3 C.8.11.3.1.2)"
        )
        falls = not falls
    elif grey.shape in ("IDENTITY", "INVERSE") and (grey.shape == "INVERSE") != falls:
        sides = dense_is_high is not None and dense_is_high == falls
        counts = "the former" if sides else "the latter"
        account.append(
            f"Presentation LUT Shape {grey.shape} contradicts {grey.photometric}: {counts} counts "
            "(PS3.3 C.8.11.3.1.2)"
        )
        falls = falls != sides
    elif dense_is_high is not None and dense_is_high == falls:
        account.append(
            f"Pixel Intensity Relationship {grey.relationship} {grey.sign:+d} contradicts "
            f"{grey.photometric}, which counts: check that bright is dense"
        )
    if falls:
        account.append("inverted, so that bright is dense (PS3.3 C.7.6.3.1.2)")
    return falls


# ------------------------------------------------------------------------------------ the header


def _modality_lut(dataset: Dataset) -> Lut | None:
    items = dataset.get("ModalityLUTSequence")
    return _dicom_lut.item(items[0]) if items else None


def _voi_luts(dataset: Dataset, remarks: list[str]) -> tuple[Lut, ...]:
    """Return the VOI LUTs that are consistent."""
    luts = []
    for item in dataset.get("VOILUTSequence") or ():
        try:
            luts.append(_dicom_lut.item(item))
        except _dicom_lut.Contradiction as fault:
            remarks.append(f"VOI LUT not used: {fault}")
    return tuple(luts)


def _rescale(dataset: Dataset, keyword: str, absent: float) -> float:
    text = _dicom_values.text(dataset, keyword)
    if not text.strip(" \0"):
        return absent
    if (value := decimal(text.split("\\")[0])) is None:
        raise ValueError(f"{keyword} {text.strip()!r} is no decimal number")
    return value


def _windows(dataset: Dataset, remarks: list[str]) -> tuple[Window, ...]:
    """Return centre and width by position, as many as the longer of the two elements has."""
    texts = [_dicom_values.text(dataset, keyword) for keyword in ("WindowCenter", "WindowWidth")]
    centres, widths = (decimals(text) for text in texts)
    for name, text, values in zip(
        ("Window Center", "Window Width"), texts, (centres, widths), strict=True
    ):
        odd = [
            part.strip()
            for part, value in zip(text.split("\\"), values, strict=False)
            if value is None and part.strip(" \0")
        ]
        remarks += [f"{name} {part!r} is no decimal number" for part in odd]
    count = max(len(centres), len(widths))
    first, second = ((*values, *[None] * (count - len(values))) for values in (centres, widths))
    return tuple(zip(first, second, strict=True))


def _padding_limits(dataset: Dataset) -> tuple[int, int] | None:
    first, last = (
        _dicom_values.whole(dataset, f"PixelPadding{name}", signed=False)
        for name in ("Value", "RangeLimit")
    )
    return None if first is None else (first, first if last is None else last)


def _word(dataset: Dataset, keyword: str) -> str:
    return _dicom_values.text(dataset, keyword).strip(" \0").upper()
