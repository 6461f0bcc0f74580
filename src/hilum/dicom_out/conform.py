"""Make an object of highdicom's conform: what dciodvfy finds in it, and what depends on the clock.

General Image, DX     Patient Orientation is required though it may be empty (PS3.3 C.7.6.1),
                      Laterality unless the body part has no sides (C.7.3.1);
                          never in a Segmentation, whose segments have sides
Structured Report     a reference to a frame of a single-frame image, and to a segment beside
                      one to a frame, is not allowed (C.17.3.5)
times                 those of the source: the object says the same whenever it is made
UIDs                  those that were drawn at random become derived ones
text                  in the source's character set where that holds it, else in UTF-8
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hilum.dicom_out import uids
from hilum.dicom_out.clean_values import printable
from hilum.dicom_out.equipment import Kind, Origin
from hilum.dicom_out.source import OPTIONAL, REQUIRED, UTF_8, Source

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

_REGISTERED = "1.2.840.10008."  # UIDs of the standard itself
_IMAGES = ("OT", "PR", "SEG")
# Body parts without sides (PS3.16 L): Laterality may not be stated.
UNPAIRED = frozenset(
    [
        "ABDOMEN",
        "ABDOMENPELVIS",
        "CHEST",
        "CHESTABDOMEN",
        "CHESTABDPELVIS",
        "COCCYX",
        "CSPINE",
        "ESOPHAGUS",
        "HEAD",
        "HEADNECK",
        "HEART",
        "LSPINE",
        "LSSPINE",
        "MEDIASTINUM",
        "NECK",
        "NECKCHEST",
        "NECKCHESTABDOMEN",
        "NECKCHESTABDPELV",
        "PELVIS",
        "SKULL",
        "SPINE",
        "SSPINE",
        "STERNUM",
        "TLSPINE",
        "TRACHEA",
        "TSPINE",
        "WHOLEBODY",
    ]
)
_TEXT = ("LO", "LT", "PN", "SH", "ST", "UC", "UT")
_DEFAULT = ((), ("",), ("ISO_IR 6",), ("ISO 2022 IR 6",))
_LINES = ("LT", "ST", "UT")
_CLOCK = (
    "InstanceCreationDate",
    "InstanceCreationTime",
    "DateOfSecondaryCapture",
    "TimeOfSecondaryCapture",
)
_MOMENTS = ("Acquisition", "Content", "Series", "Study")  # each has a date and a time
_NO_DATE, _NO_TIME = "19000101", "000000"  # where the source states none: type 1


def conform(made: Dataset, origin: Origin, kind: Kind) -> Dataset:
    """Return an object of highdicom's, changed in place, as it is written."""
    source = origin.source
    _patient_and_study(made, source)
    made.SeriesDescription = kind.description
    if made.Modality in _IMAGES:
        _laterality(made, source)
    _references(made)
    _times(made, source)
    _uids(made, origin, kind)
    made.remove_private_tags()
    _text(made, source)
    return made


def _patient_and_study(made: Dataset, source: Source) -> None:
    for keyword in (*REQUIRED, *OPTIONAL):
        if keyword in source.header:
            setattr(made, keyword, source.header[keyword].value)
    if "InstitutionName" in source.header:
        made.InstitutionName = source.header.InstitutionName


def _laterality(made: Dataset, source: Source) -> None:
    header = source.header
    body_part = header.get("BodyPartExamined", "")
    made.pop("Laterality", None)
    if body_part:
        made.BodyPartExamined = body_part
    if body_part not in UNPAIRED and made.Modality != "SEG":
        made.Laterality = header.get("ImageLaterality", header.get("Laterality", ""))
    if made.Modality != "PR" and "PatientOrientation" not in made:
        made.PatientOrientation = header.PatientOrientation


def _references(made: Dataset) -> None:
    for item in _items(made):
        if "ReferencedSOPInstanceUID" not in item or made.Modality != "SR":
            continue
        for keyword in ("ReferencedFrameNumber", "ReferencedSegmentNumber"):
            item.pop(keyword, None)


def _times(made: Dataset, source: Source) -> None:
    """Set the content's date and time to the source's acquisition, and remove the clock's."""
    for keyword in _CLOCK:
        made.pop(keyword, None)
    date, time = moment(source)
    if "ContentDate" in made:
        made.ContentDate, made.ContentTime = date, time
    if "PresentationCreationDate" in made:
        made.PresentationCreationDate, made.PresentationCreationTime = date, time
    for item in _items(made):
        item.pop("ContributionDateTime", None)


def moment(source: Source) -> tuple[str, str]:
    """Return date and time of the source: acquisition, content, series or study."""
    for name in _MOMENTS:
        if date := source.header.get(f"{name}Date"):
            return str(date), str(source.header.get(f"{name}Time") or _NO_TIME)
    return _NO_DATE, _NO_TIME


def _uids(made: Dataset, origin: Origin, kind: Kind) -> None:
    """Replace UIDs that are neither the standard's, nor the source's, nor derived already."""
    header = origin.source.header
    known = {str(element.value) for element in header if element.VR == "UI"}
    found: dict[str, str] = {}
    for item in (made, *_items(made)):
        for element in item:
            value = str(element.value) if element.VR == "UI" else ""
            if not value or value in known or value.startswith((_REGISTERED, uids.ROOT)):
                continue
            element.value = found.setdefault(value, origin.uid(kind.name, "uid", str(len(found))))


def _text(made: Dataset, source: Source) -> None:
    """Set the character set: the source's, or UTF-8 where it cannot hold all text."""
    elements = [
        element for item in (made, *_items(made)) for element in item if element.VR in _TEXT
    ]
    for element in elements:
        values = element.value if element.VM > 1 else [element.value]
        cleaned = [printable(str(one or ""), lines=element.VR in _LINES) for one in values]
        element.value = cleaned if element.VM > 1 else cleaned[0]
    held = all(_holds(source.character_set, element) for element in elements)
    character_set = list(source.character_set) if held else [UTF_8]
    made.pop("SpecificCharacterSet", None)
    if character_set:
        made.SpecificCharacterSet = character_set if len(character_set) > 1 else character_set[0]


def _holds(character_set: tuple[str, ...], element: DataElement) -> bool:
    """Return whether the text of an element survives its encoding."""
    from pydicom.charset import convert_encodings, decode_bytes, encode_string

    text = str(element.value)
    # pydicom takes Latin-1 for the default repertoire, which holds ASCII alone (PS3.5 6.1.2.1).
    if character_set[:1] in _DEFAULT and any("\x80" <= one <= "\xff" for one in text):
        return False
    encodings = convert_encodings(list(character_set))
    parts = re.split(r"[\^=]", text) if element.VR == "PN" else [text]
    try:
        return all(
            part.isascii() or decode_bytes(encode_string(part, encodings), encodings, set()) == part
            for part in parts
        )
    except (UnicodeError, LookupError, ValueError):
        return False


def _items(dataset: Dataset) -> Iterator[Dataset]:
    """Yield the items of all sequences, at any depth."""
    for element in dataset:
        if element.VR != "SQ":
            continue
        for item in element.value:
            yield item
            yield from _items(item)
