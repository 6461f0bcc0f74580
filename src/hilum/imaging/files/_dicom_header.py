"""Interpret the elements of a DICOM header.

`_dicom_facts` reads the elements, `_dicom_view` derives the view and `_dicom_age` the age. Spacing
is between rows, then between columns (PS3.3 10.7.1.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from hilum import storage
from hilum.annotations.vocabulary import SEX_NAMES
from hilum.imaging.files import _dicom_age, _dicom_burned_in, _dicom_moment, _dicom_view
from hilum.imaging.files._dicom_decimal import decimals, positive
from hilum.imaging.files._dicom_tags import (
    MEDIA_CLASS,
    PIXELS,
    SYNTAX,
    WHOLE_PIXELS,
    Facts,
    Texts,
)

_VIEW_CODES = (0x00540220, 0x00185104)
_DESCRIPTIONS = {
    0x0008103E: "Series Description",
    0x00181030: "Protocol Name",
    0x00181400: "Acquisition Device Processing Description",
}
# Day and time of acquisition, content and study.
_MOMENTS = ((0x00080022, 0x00080032), (0x00080023, 0x00080033), (0x00080020, 0x00080030))
_DATES = (0x00080020, 0x00080021, 0x00080022, 0x00080023)  # of study, series, acquisition, content


@dataclass(frozen=True)
class Header:
    """What a file states of its image; None where it states nothing, or an impossible value."""

    instance: str | None  # SOP Instance UID
    series: str | None
    study: str | None
    patient: str | None
    sex: str | None  # female, male or other
    age_years: float | None
    view: str | None  # one of `hilum.annotations.acquisition.VIEWS`
    size: tuple[int, int] | None  # height, width in pixels, as stored
    spacing_mm: tuple[float, float] | None  # between rows, between columns, as stored
    view_from: str | None = None  # the attribute that states the view
    spacing_from: str | None = None  # the attributes that state it, and where it was measured
    # Patient Orientation: the direction of the rows, then of the columns
    orientation: tuple[str, str] | None = None
    laterality: str | None = None  # R, L, U (unpaired) or B (both)
    modality: str | None = None
    body_part: str | None = None
    syntax: str | None = None  # UID of the transfer syntax
    text: tuple[str, ...] = ()  # burned-in text and identity, of `_dicom_burned_in.FLAGS`
    sop_class: str | None = None  # UID; a DICOMDIR's is that of its file meta information
    frames: int | None = None  # None where Number of Frames is absent: one
    pixels: str | None = None  # "integer" or "float"; None where there are none
    study_date: date | None = None  # or else the series', the acquisition's or the content's
    accession: str | None = None
    institution: str | None = None
    manufacturer: str | None = None
    person: str | None = None  # digest of name and birth date, where Patient ID says nothing
    issuer: str | None = None  # of the Patient ID: two hospitals may give out the same
    acquired: datetime | None = None  # else the content or the study; midnight without a time
    intent: str | None = None  # Presentation Intent Type, such as "FOR PROCESSING"
    descriptions: tuple[str, ...] = ()  # of series, protocol, processing and study: free text


def header(facts: Facts) -> Header:
    """Return the header that the facts, by tag, make up."""
    texts = _texts(facts)
    text = texts.get
    rows, columns = _number(facts, 0x00280010), _number(facts, 0x00280011)
    orientation = _orientation(texts)
    codes = tuple((code[0], code[2]) for code in (_code(facts, tag) for tag in _VIEW_CODES))
    descriptions = tuple((name, text(tag, "")) for tag, name in _DESCRIPTIONS.items())
    view, view_from = _dicom_view.stated(text(0x00185101, ""), codes, orientation, descriptions)
    spacing, spacing_from = _spacing(texts)
    studied = next((found for tag in _DATES if (found := _dicom_age.day(text(tag)))), None)
    pixels = facts.get(PIXELS)
    kind = "integer" if pixels == WHOLE_PIXELS else "float"
    return Header(
        instance=text(0x00080018),
        series=text(0x0020000E),
        study=text(0x0020000D),
        patient=text(0x00100020),
        sex=SEX_NAMES.get(text(0x00100040, "").upper()),
        age_years=_dicom_age.years(text(0x00101010), _dicom_age.day(text(0x00100030)), studied),
        view=view,
        size=(rows, columns) if rows and columns else None,
        spacing_mm=spacing,
        view_from=view_from,
        spacing_from=spacing_from,
        orientation=orientation,
        laterality=text(0x00200062) or text(0x00200060),
        modality=text(0x00080060),
        body_part=text(0x00180015) or _code(facts, 0x00082218)[2] or None,
        syntax=text(SYNTAX),
        text=_dicom_burned_in.flags(texts),
        sop_class=text(0x00080016) or text(MEDIA_CLASS),
        frames=_frames(texts),
        pixels=kind if pixels else None,
        study_date=studied,
        accession=text(0x00080050),
        institution=text(0x00080080),
        manufacturer=text(0x00080070),
        person=_person(texts),
        issuer=text(0x00100021),
        acquired=_acquired(texts),
        intent=text(0x00080068, "").upper() or None,
        descriptions=(*(said for _, said in descriptions if said), *_studied_as(texts)),
    )


def _texts(facts: Facts) -> Texts:
    """Return the texts that say something, each value of them without its padding."""
    texts = {}
    for tag, value in facts.items():
        if isinstance(value, str) and (
            kept := value.strip(" \0")
            if "\\" not in value
            else "\\".join(part.strip(" \0") for part in value.split("\\"))
        ):
            texts[tag] = kept
    return texts


def _studied_as(texts: Texts) -> tuple[str, ...]:
    """Return Study Description, which often names the body part, as a tuple of one or none."""
    text = texts.get(0x00081030)
    return (text,) if text else ()


def _acquired(texts: Texts) -> datetime | None:
    """Return when the image was acquired, else made, else studied: the first that is a date."""
    if moment := _dicom_moment.of_datetime(texts.get(0x0008002A)):
        return moment
    for day, time in _MOMENTS:
        if moment := _dicom_moment.of_pair(texts.get(day), texts.get(time)):
            return moment
    return None


def _person(texts: Texts) -> str | None:
    """Return a digest of Patient's Name and Birth Date; None without a name.

    It distinguishes persons without naming them.
    """
    words = " ".join(texts.get(0x00100010, "").replace("^", " ").casefold().split())
    return storage.digest(f"{words}/{texts.get(0x00100030, '')}") if words else None


def _number(facts: Facts, tag: int) -> int | None:
    value = facts.get(tag)
    return value if isinstance(value, int) else None


def _code(facts: Facts, tag: int) -> tuple[str, str, str]:
    """Return (value, scheme, meaning); empty text where there is no code."""
    value = facts.get(tag)
    return value if isinstance(value, tuple) else ("", "", "")


def _frames(texts: Texts) -> int | None:
    text = texts.get(0x00280008, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _orientation(texts: Texts) -> tuple[str, str] | None:
    parts = texts.get(0x00200020, "").upper().split("\\")
    return (parts[0], parts[1]) if len(parts) == 2 and all(parts) else None


def _spacing(texts: Texts) -> tuple[tuple[float, float] | None, str | None]:
    """Return the spacing and the attributes that state it.

    Pixel Spacing comes first, then Imager Pixel Spacing, which is at the detector and is divided by
    the magnification where that is known.
    """
    if spacing := _pair(texts, 0x00280030):
        kind = texts.get(0x00280A02, "").upper()
        if kind in ("GEOMETRY", "FIDUCIAL"):
            at = f"calibrated: {kind}"
        elif spacing == _pair(texts, 0x00181164):
            at = "at the detector"
        else:
            at = "calibration not stated"
        return spacing, f"Pixel Spacing ({at})"
    if spacing := _pair(texts, 0x00181164):
        factor = positive(texts.get(0x00181114))
        # The distance from source to detector over that from source to patient: never below 1.
        if factor and 1 < factor < 5:
            return (
                (spacing[0] / factor, spacing[1] / factor),
                "Imager Pixel Spacing over the Estimated Radiographic Magnification Factor "
                f"{factor:g}",
            )
        return spacing, "Imager Pixel Spacing (at the detector)"
    spacing = _pair(texts, 0x00182010)
    return spacing, "Nominal Scanned Pixel Spacing (on the film)" if spacing else None


def _pair(texts: Texts, tag: int) -> tuple[float, float] | None:
    values = [value for value in decimals(texts.get(tag)) if value is None or value > 0]
    if len(values) != 2:
        return None
    first, second = values
    return None if first is None or second is None else (first, second)
