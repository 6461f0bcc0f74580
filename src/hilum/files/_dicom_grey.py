"""The grey transforms of DICOM as one table: the brightness in [0, 1], bright is dense, of each stored value.

In the standard's order: modality LUT or else rescale (PS3.3 C.11.1), the first VOI LUT or else the first window (C.11.2; where both are
there either may be shown, and the LUT is the maker's own curve), then the turn of MONOCHROME1 (C.7.6.3.1.2), padding to black
(C.7.5.1.1.2). Presentation LUT Shape restates the turn (C.8.11.3.1.2): where it contradicts Photometric Interpretation, the latter rules,
being what viewers follow, unless Pixel Intensity Relationship Sign (C.8.11.3.1.2) sides with the former. That sign alone rules in a
picture for processing, which is not meant to be shown. Where no window or LUT is told, or those told show no contrast in the picture,
the values found, padding left out, are stretched from 0 to 1. A window that fits only when moved by half the range, as where signed
values were stored raised, is moved.

Everything depends on the stored value alone, so a table of 2 ** bits entries holds it; `told` takes it all out of pydicom's data set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pydicom import Dataset

_STRIDE = 8  # each so-manieth pixel both ways is looked at first: if these show contrast, all do


@dataclass(frozen=True)
class Lut:
    first: int  # the value of the first entry
    top: int  # the largest entry that its bits allow
    entries: np.ndarray  # float64

    def look_up(self, values: np.ndarray) -> np.ndarray:
        """Values beside the table take its first or last entry (C.11.1.1.1)."""
        return self.entries[np.clip(np.round(values).astype(np.int64) - self.first, 0, len(self.entries) - 1)]


@dataclass(frozen=True)
class Grey:
    photometric: str
    modality: Lut | None
    slope: float
    intercept: float
    windows: tuple[tuple[float, float], ...]  # centre, width
    window_names: tuple[str, ...]
    function: str
    voi: tuple[Lut, ...]
    padding: tuple[int, int] | None  # as the file has them, first and last
    shape: str  # of the presentation LUT
    relationship: str
    sign: int  # 1: higher values are more X-rays; -1: fewer; 0: not told
    for_processing: bool


@dataclass(frozen=True)
class Shown:
    table: np.ndarray  # float32 (2 ** bits,) in [0, 1]
    padding: np.ndarray | None  # bool (2 ** bits,): which values are no picture; None: there are none in it


def told(dataset: Dataset) -> Grey:
    """Raises what pydicom raises over values that cannot be understood."""
    centres, widths = _numbers(dataset.get("WindowCenter")), _numbers(dataset.get("WindowWidth"))
    sequences = ([_lut(item, dataset) for item in dataset.get(name) or ()] for name in ("ModalityLUTSequence", "VOILUTSequence"))
    modality, voi = sequences
    slope, intercept = _numbers(dataset.get("RescaleSlope")), _numbers(dataset.get("RescaleIntercept"))
    first, last = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    padding = None if first is None else (_whole(first), _whole(first if last is None else last))
    names = dataset.get("WindowCenterWidthExplanation") or ()
    return Grey(
        str(dataset.get("PhotometricInterpretation")), modality[0] if modality else None, slope[0] if slope else 1.0, intercept[0] if intercept else 0.0,
        tuple(zip(centres, widths, strict=False)), (names,) if isinstance(names, str) else tuple(map(str, names)),
        _word(dataset, "VOILUTFunction") or "LINEAR", tuple(voi), padding, _word(dataset, "PresentationLUTShape"),
        _word(dataset, "PixelIntensityRelationship"), int(dataset.get("PixelIntensityRelationshipSign") or 0),
        _word(dataset, "PresentationIntentType") == "FOR PROCESSING",
    )  # fmt: skip


def of_colour(grey: Grey) -> Grey:
    """Of a colour picture that is grey: white is white, and the transforms of grey pictures do not apply (C.7.6.3.1.2, C.11.2)."""
    return replace(grey, photometric="MONOCHROME2", modality=None, slope=1.0, intercept=0.0, windows=(), voi=(), padding=None, shape="", sign=0)


def shown(grey: Grey, values: np.ndarray, bits: int, signed: bool, account: list[str]) -> Shown:
    """The table for `values`, uint8 or uint16 with signed ones raised; what was applied is added to `account`."""
    seen = _Seen(values, bits)
    stored = np.arange(1 << bits) - (1 << (bits - 1) if signed else 0)
    padding = _padding(grey.padding, stored, bits, signed, account)
    if padding is not None and not (padding & seen.all).any():
        padding = None
    if padding is not None:
        account.append("padding left out and put to 0 (PS3.3 C.7.5.1.1.2)")
        seen.without(padding)
    output = _modality(grey, stored, account)
    table = _windowed(grey, output, seen, 1 << (bits - 1), account)
    if table is None:
        found = output[seen.range]
        low, high = found.min(), found.max()
        account.append(f"values {low:g} to {high:g}, those found, become 0 to 1")
        table = np.clip((output - low) / max(high - low, 1e-6), 0, 1)
    if _falls(grey, account):
        table = 1 - table
    if padding is not None:
        table[padding] = 0
    return Shown(table.astype(np.float32), padding)


class _Seen:
    """Which stored values are in a picture; looked up no closer than is needed."""

    def __init__(self, values: np.ndarray, bits: int) -> None:
        self._values, self._bits, self._padding = values, bits, None
        self._all: np.ndarray | None = None

    @property
    def all(self) -> np.ndarray:
        if self._all is None:
            self._all = np.zeros(1 << self._bits, bool)
            self._all[self._values.ravel()] = True
        return self._all

    def without(self, padding: np.ndarray) -> None:
        if (self.all & ~padding).any():  # a picture of nothing but padding is looked at as it is
            self._padding = padding

    @property
    def range(self) -> np.ndarray:
        return np.flatnonzero(self.all if self._padding is None else self.all & ~self._padding)

    def contrast(self, table: np.ndarray) -> bool:
        """Whether not all of the picture is of one brightness."""
        sample = self._values[::_STRIDE, ::_STRIDE].ravel()
        sample = sample if self._padding is None else sample[~self._padding[sample]]
        return (sample.size > 0 and bool(np.ptp(table[sample]) > 0)) or bool(np.ptp(table[self.range]) > 0)

    def middle(self) -> int:
        """A value in the middle of the picture's."""
        sample = self._values[::_STRIDE, ::_STRIDE].ravel()
        sample = sample if self._padding is None else sample[~self._padding[sample]]
        return int(np.median(sample)) if sample.size else int(self.range[len(self.range) // 2])


def _padding(limits: tuple[int, int] | None, stored: np.ndarray, bits: int, signed: bool, account: list[str]) -> np.ndarray | None:
    """Which stored values mean that there is no picture; a limit written with the other sign is read as Pixel Representation says."""
    if limits is None:
        return None
    low, high = sorted(_as_stored(limit, bits, signed) for limit in limits)
    padding = (stored >= low) & (stored <= high)
    if padding.all():
        account.append("padding of all values cannot be meant: not used")
        return None
    return padding


def _as_stored(limit: int, bits: int, signed: bool) -> int:
    if signed:
        limit &= 0xFFFF
        return limit - 0x10000 if limit >> 15 else limit - (1 << bits) if limit >> (bits - 1) and limit < 1 << bits else limit
    return limit & 0xFFFF


def _modality(grey: Grey, stored: np.ndarray, account: list[str]) -> np.ndarray:
    if grey.modality:
        account.append("modality LUT applied (PS3.3 C.11.1)")
        return grey.modality.look_up(stored)
    if not grey.slope:
        account.append("Rescale Slope 0 cannot be meant: not used")
        return stored.astype(np.float64)
    if (grey.slope, grey.intercept) != (1, 0):
        account.append(f"rescaled by {grey.slope:g} and {grey.intercept:+g} (PS3.3 C.11.1)")
    return stored * grey.slope + grey.intercept


def _windowed(grey: Grey, output: np.ndarray, seen: _Seen, half: int, account: list[str]) -> np.ndarray | None:
    """`output` in [0, 1] as the first VOI LUT or window that shows contrast does; None where there is none."""
    if not grey.voi and not grey.windows:
        account.append("no window told")
        return None
    if grey.voi:
        table = replace(grey.voi[0], first=_first_of(grey.voi[0], output)).look_up(output) / grey.voi[0].top
        if seen.contrast(table):
            account.append(f"VOI LUT applied (PS3.3 C.11.2.1.1{_others(len(grey.voi) + len(grey.windows))})")
            return table
        account.append("VOI LUT shows no contrast")
    for index, (centre, width) in enumerate(grey.windows[:1]):
        name = f' "{grey.window_names[index]}"' if grey.window_names else ""
        window = f"window {centre:g}, {width:g}{name} ({grey.function})"
        if not (math.isfinite(centre) and math.isfinite(width) and width > 0):
            account.append(f"{window} cannot be meant: not used")
            continue
        table = _through(grey.function, centre, width, output, account)
        if seen.contrast(table):
            account.append(f"{window} applied (PS3.3 C.11.2{_others(len(grey.windows))})")
            return table
        for moved in (half, -half):
            if abs(output[seen.middle()] - centre - moved) <= width / 2:
                account.append(f"{window} shows no contrast: moved by {moved:+d}, half the range, where the values are")
                return _through(grey.function, centre + moved, width, output, account)
        account.append(f"{window} shows no contrast")
    return None


def _others(count: int) -> str:
    return f"; the first of {count}" if count > 1 else ""


def _through(function: str, centre: float, width: float, output: np.ndarray, account: list[str]) -> np.ndarray:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (output - centre) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return np.clip((output - centre) / width + 0.5, 0, 1)
    if function != "LINEAR":
        account.append(f"VOI LUT Function {function} is not known: taken as LINEAR")
    if width <= 1:
        return (output > centre - 0.5).astype(np.float64)
    return np.clip((output - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


def _falls(grey: Grey, account: list[str]) -> bool:
    """Whether high values are to be dark, so that bright is dense."""
    falls = grey.photometric == "MONOCHROME1"
    dense_is_high = {1: False, -1: True}.get(grey.sign)
    if grey.for_processing and dense_is_high is not None and dense_is_high == falls:
        account.append(f"for processing: Pixel Intensity Relationship Sign {grey.sign:+d} rules over {grey.photometric} (PS3.3 C.8.11.3.1.2)")
        falls = not falls
    elif grey.shape in ("IDENTITY", "INVERSE") and (grey.shape == "INVERSE") != falls:
        sides = dense_is_high is not None and dense_is_high == falls
        account.append(f"Presentation LUT Shape {grey.shape} contradicts {grey.photometric}: {'the former' if sides else 'the latter'} rules (PS3.3 C.8.11.3.1.2)")
        falls = falls != sides
    elif dense_is_high is not None and dense_is_high == falls:
        account.append(f"Pixel Intensity Relationship {grey.relationship} {grey.sign:+d} contradicts {grey.photometric}, which rules: look whether bright is dense")
    if falls:
        account.append("turned over, so that bright is dense (PS3.3 C.7.6.3.1.2)")
    return falls


# ------------------------------------------------------------------------------------------------------------------------- the header


def _lut(item: Dataset, dataset: Dataset) -> Lut:
    descriptor, data = item.LUTDescriptor, item.LUTData
    order = "<" if dataset.original_encoding[1] is not False else ">"
    if isinstance(descriptor, bytes):
        descriptor = np.frombuffer(descriptor, f"{order}u2").tolist()
    count, first, bits = (int(value) for value in descriptor)
    count = count or 1 << 16
    if isinstance(data, bytes):
        data = np.frombuffer(data, "u1" if len(data) < 2 * count else f"{order}u2")
    entries = np.asarray(data, np.float64).ravel()[:count]
    if not entries.size:
        raise ValueError("a LUT without entries")
    bits = bits if 2 <= bits <= 16 else 16
    while entries.max() > (1 << bits) - 1 and bits < 16:  # a descriptor that tells too few
        bits += 1
    if first >= 1 << 15 and dataset.get("PixelRepresentation"):  # written as unsigned, meant as signed (C.11.1.1)
        first -= 1 << 16
    return Lut(first, (1 << bits) - 1, entries)


def _first_of(lut: Lut, output: np.ndarray) -> int:
    """A VOI LUT's first value: below 0 where rescaling made values so and it was written as unsigned."""
    return lut.first - (1 << 16) if lut.first >= 1 << 15 and output.min() < 0 and output.max() < lut.first else lut.first


def _numbers(value: Any) -> list[float]:
    """One or several numbers, empty ones left out."""
    values = [value] if value is None or isinstance(value, str | int | float) or not hasattr(value, "__iter__") else list(value)
    return [float(one) for one in values if one is not None and str(one).strip()]


def _whole(value: Any) -> int:
    return int.from_bytes(value[:2], "little") if isinstance(value, bytes) else int(value)


def _word(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip(" \0").upper()
