"""What PS3.15 table E.1-1 wants done with each attribute, with the options that Hilum offers.

The table is that of dicom-anonymizer (edition 2026c), which follows the standard; the actions are
carried out by `hilum.privacy.dicom.cleaning`. Where the table leaves a choice by the type that an
IOD gives an attribute, the choice is the one that keeps the IODs of radiography valid: X/Z becomes
Z, X/D becomes X, Z/D becomes D, X/Z/D becomes Z, and X/Z/U* keeps the references with new UIDs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from hilum.errors import MissingExtra

EDITION = "2026c"


class Action(StrEnum):
    """What is done with an element that the table lists."""

    REMOVE = "removed"
    EMPTY = "emptied"
    REPLACE = "replaced"
    UID = "new UID"
    DESCEND = "items cleaned"
    CLEAN = "known words kept"
    KEEP = "kept"


class BurnedIn(StrEnum):
    """What happens to an image with text in its pixels, or one suspected of it."""

    REFUSE = "refuse"
    BLANK = "blank"
    KEEP = "keep"


class Dates(StrEnum):
    """What happens to dates: all of a patient's moved by the same days, or none left."""

    SHIFTED = "shifted"
    REMOVED = "removed"


@dataclass(frozen=True)
class Options:
    """The options of the profile (PS3.15 E.3)."""

    dates: Dates = Dates.SHIFTED
    device: bool = False  # keep the identity of the device
    characteristics: bool = False  # keep sex, age, size and weight
    descriptors: bool = False  # keep the known words of descriptions
    burned_in: BurnedIn = BurnedIn.REFUSE
    ocr: bool = False  # read the pixels of each image for text


_TABLES = {
    "D_TAGS": Action.REPLACE,
    "Z_TAGS": Action.EMPTY,
    "X_TAGS": Action.REMOVE,
    "U_TAGS": Action.UID,
    "Z_D_TAGS": Action.REPLACE,
    "X_Z_TAGS": Action.EMPTY,
    "X_D_TAGS": Action.REMOVE,
    "X_Z_D_TAGS": Action.EMPTY,
    "X_Z_U_STAR_TAGS": Action.DESCEND,
}
# Where the choice above would break an IOD, or where the table replaces a sequence as a whole and
# its items can be cleaned one by one (PS3.15 E.3.4, clean structured content).
_OWN = {
    0x00080082: Action.REMOVE,  # Institution Code Sequence: may not be empty
    0x00181000: Action.REPLACE,  # Device Serial Number: type 1 in enhanced objects
    0x0040A730: Action.DESCEND,  # Content Sequence
    0x00700001: Action.DESCEND,  # Graphic Annotation Sequence
    0x0040A160: Action.REPLACE,  # Text Value, of structured content
}
_DEVICE = (
    0x00081010,
    0x0016004E,
    0x0016004F,
    0x00160050,
    0x00160051,
    0x00181000,
    0x00181002,
    0x00181004,
    0x00181005,
    0x00181007,
    0x00181008,
    0x00181009,
    0x0018100A,
    0x0018100B,
    0x00185011,
    0x0018700A,
    0x00189367,
    0x00189371,
    0x00189373,
    0x00321020,
    0x00321021,
    0x00400001,
    0x00400010,
    0x00400011,
    0x00400241,
    0x00400242,
    0x00500020,
    0x30080105,
    0x300A00B2,
    0x300A0216,
    0x3010002D,
    0x30100043,
)
_CHARACTERISTICS = (
    0x00100040,
    0x00101010,
    0x00101020,
    0x00101030,
    0x001021A0,
    0x001021C0,
    0x00102203,
)
_DESCRIPTORS = (
    0x00081030,
    0x0008103E,
    0x00082111,
    0x00181030,
    0x00181400,
    0x00204000,
    0x00321060,
    0x00400007,
    0x00400254,
)
NEVER_SHIFTED = frozenset((0x00100030, 0x00100032, 0x00100033, 0x00100034))  # of birth, of death
# Coded values of the options (PS3.16 CID 7050).
_CODES = {
    "113100": "Basic Application Confidentiality Profile",
    "113101": "Clean Pixel Data Option",
    "113104": "Clean Structured Content Option",
    "113105": "Clean Descriptors Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113109": "Retain Device Identity Option",
}


@lru_cache(maxsize=16)
def actions(options: Options) -> Mapping[int, Action]:
    """Return the action for each listed tag. Raises `MissingExtra` without the tables."""
    with MissingExtra.explained("dicom", "de-identification"):
        from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as tables
    found: dict[int, Action] = {}
    for name, action in _TABLES.items():
        # Entries of four numbers are masks of repeating groups, which go as a whole.
        found |= {one[0] << 16 | one[1]: action for one in getattr(tables, name) if len(one) == 2}
    found |= _OWN
    if options.device:
        found |= dict.fromkeys(_DEVICE, Action.KEEP)
    if options.characteristics:
        found |= dict.fromkeys(_CHARACTERISTICS, Action.KEEP)
    if options.descriptors:
        found |= dict.fromkeys(_DESCRIPTORS, Action.CLEAN)
    return found


def codes(options: Options, *, pixels_cleaned: bool, structured: bool) -> list[tuple[str, str]]:
    """Return value and meaning of the profile and of the options that were applied to an object."""
    applied = {
        "113100": True,
        "113101": pixels_cleaned,
        "113104": structured,
        "113105": options.descriptors,
        "113107": options.dates is Dates.SHIFTED,
        "113108": options.characteristics,
        "113109": options.device,
    }
    return [(code, _CODES[code]) for code, is_so in applied.items() if is_so]


def reads_pixels(wanted: bool | None) -> bool:
    """Return whether pixels are read: as it is wanted, else where the reader is installed."""
    return importlib.util.find_spec("rapidocr") is not None if wanted is None else wanted
