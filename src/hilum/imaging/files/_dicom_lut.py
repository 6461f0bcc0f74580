"""Parse the LUTs of DICOM: modality LUT (PS3.3 C.11.1), VOI LUT (C.11.2), palette (C.7.6.3.1.5-6).

The meaning of the bytes is fixed by LUT Descriptor and by their number, never by the VR: writers
use SS, US and OW interchangeably. Descriptor and entries are unsigned, except for the first value
mapped, which is of the kind of the values that are mapped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.imaging.files import _dicom_values

if TYPE_CHECKING:
    from pydicom import Dataset

# Bits that no entry uses, from which on the descriptor states the size of a cell and not the range.
_FAR_BELOW = 2


class Contradiction(ValueError):
    """Descriptor and data cannot both be meant."""


@dataclass(frozen=True)
class Lut:
    """A table from consecutive values, `first` being that of the first entry, to brightness."""

    first: int  # the value of the first entry, 0 to 65535 as the file has it
    bits: int  # of an entry, as the file states them
    entries: np.ndarray  # float64
    remark: str | None = None

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Return the entries of `values`; values outside take the nearest entry (C.11.1.1.1).

        The first value is taken as negative where `values` reach below 0 and none reaches it as an
        unsigned one.
        """
        negative = self.first >= 1 << 15 and values.min() < 0 and values.max() < self.first
        first = self.first - (1 << 16) if negative else self.first
        return self.entries[
            np.clip(np.round(values).astype(np.int64) - first, 0, len(self.entries) - 1)
        ]

    def white(self) -> tuple[int, str | None]:
        """Return the entry that is white, and a remark where that is not the largest of `bits`."""
        largest = int(self.entries.max())
        needed = largest.bit_length()
        if not needed <= self.bits <= 16:
            return max((1 << needed) - 1, 1), f"entries need {needed} bits, {self.bits} are stated"
        if largest and needed <= self.bits - _FAR_BELOW:
            return (
                largest,
                f"entries end at {largest}, far below the {self.bits} bits stated, which are those "
                f"of a cell: {largest} is white",
            )
        return (1 << self.bits) - 1, None


def item(source: Dataset) -> Lut:
    """Return the table in an item of Modality or VOI LUT Sequence. Raises `Contradiction`."""
    return table(source, "LUTDescriptor", "LUTData")


def table(source: Dataset, descriptor_key: str, data_key: str) -> Lut:
    """Return the table of a descriptor and its data. Raises `Contradiction`."""
    descriptor, data = (_dicom_values.raw(source, key) for key in (descriptor_key, data_key))
    if descriptor is None or len(descriptor.value) != 6:
        raise Contradiction("its descriptor has not three values of two bytes")
    if data is None:
        raise Contradiction("it has no entries")
    count, first, bits = _dicom_values.words(descriptor)
    count = count or 1 << 16
    entries, remark = _entries(data, count, bits)
    return Lut(first, bits, entries.astype(np.float64), remark)


def _entries(data: _dicom_values.Raw, count: int, bits: int) -> tuple[np.ndarray, str | None]:
    """Return the unsigned entries, and a remark where there are too many."""
    size = len(data.value)
    # Two entries in each word, the first in its low byte.
    if bits <= 8 and count <= size <= count + 1 and size > 1:
        packed = np.frombuffer(data.value, np.uint8)
        if not data.little_endian and data.vr not in ("OB", "UN") and size % 2 == 0:
            packed = packed.reshape(-1, 2)[:, ::-1].ravel()
        return packed[:count], None
    entries = np.frombuffer(data.value, "<u2" if data.little_endian else ">u2", size // 2)
    if len(entries) < count:
        raise Contradiction(
            f"its descriptor states {count} entries of {bits} bits, its data are {size} bytes"
        )
    more = len(entries) - count
    return entries[:count], f"{more} entries behind the {count} stated left out" if more else None
