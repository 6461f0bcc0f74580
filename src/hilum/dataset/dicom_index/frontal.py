"""Tell frontal chest radiographs from all other DICOM objects, by their header alone.

A film is read where its header says so, and refused where it does not: an archive holds hands,
laterals and results of other programs, and a model trained on frontal chest radiographs has an
answer for each of them. A reason names no patient and quotes no free text, so that it may be
logged.

    class        Computed Radiography or Digital X-Ray Image Storage (PS3.4 B.5). A Secondary
                 Capture may be a photograph of a screen or a result of another program, also of
                 Hilum; segmentations, reports and presentation states are no images of a patient
    intent       for presentation: values FOR PROCESSING are those of the detector (PS3.3 C.8.11.1)
    modality     CR, DX, and RG, by which early digitizers of film wrote Computed Radiography
    body part    the chest, by Body Part Examined or the Anatomic Region Sequence; where neither is
                 stated, by the descriptions of series and study, or else by the view: a stated
                 projection of the view PA or AP with no other body part named
    view         PA, AP, or frontal without saying which; where no view is stated, Patient
                 Orientation along the coronal plane (rows towards L or R, columns towards F or H)
"""

from __future__ import annotations

from hilum.annotations import acquisition
from hilum.imaging.files import dicom
from hilum.imaging.files.dicom import Header

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_CLASSES = frozenset((f"{_STORAGE}1", f"{_STORAGE}1.1"))
_FOR_PROCESSING = f"{_STORAGE}1.1.1"
_CAPTURES = f"{_STORAGE}7"
MODALITIES = ("CR", "DX", "RG")
_RAW = "holds the detector's values FOR PROCESSING; the study's image for presentation is read"


def is_frontal_film(header: Header) -> str:
    """Return "" for a frontal chest radiograph, else the reason why it is none."""
    return (
        _of_object(header)
        or _of_modality(header)
        or _of_body_part(header)
        or _of_view(header.view, header.orientation)
    )


def _of_object(header: Header) -> str:
    if kind := dicom.object_kind(header):
        return f"is no single image: {kind}"
    uid = header.sop_class or ""
    if uid == _FOR_PROCESSING or (header.intent or "") == "FOR PROCESSING":
        return _RAW
    if uid == _CAPTURES or uid.startswith(f"{_CAPTURES}."):
        return (
            "is a secondary capture, which may be a photograph of a screen or the result of a "
            "program"
        )
    if uid not in _CLASSES:
        return (
            "is of another class than Computed Radiography and Digital X-Ray"
            if uid
            else ("states no SOP class")
        )
    return ""


def _of_modality(header: Header) -> str:
    modality = (header.modality or "").upper()
    if modality in MODALITIES or not modality:  # then the class says it
        return ""
    known = modality if modality in acquisition.modalities() else "one that is not known"
    return f"its modality is {known}, expected {', '.join(MODALITIES)}"


def _of_body_part(header: Header) -> str:
    part = acquisition.body_part_of(header.body_part)
    parts = (
        [part]
        if part
        else [
            found
            for text in header.descriptions
            if (found := acquisition.body_part_of(text)) in acquisition.body_parts()
        ]
    )
    if any(acquisition.shows_chest(one) for one in parts):
        return ""
    if parts:
        known = parts[0] if parts[0] in acquisition.body_parts() else "one that is not known"
        return f"its body part is {known}, expected CHEST"
    if header.view in acquisition.FRONTAL_VIEWS:
        return ""
    return "states neither the body part nor a frontal view"


def _of_view(view: str | None, orientation: tuple[str, str] | None) -> str:
    if view is not None:
        return "" if view in acquisition.FRONTAL_VIEWS else f"its view is {view}, expected PA or AP"
    first = [part[:1] for part in orientation or ()]
    if len(first) == 2 and len({*first} & {*"LR"}) == 1 and len({*first} & {*"HF"}) == 1:
        return ""
    return "states no view"
