"""Tell frontal chest radiographs from all other DICOM objects, by their header alone.

An archive holds hands, laterals and results of other programs, and a model trained on frontal chest
radiographs has an answer for each of them, so the chest must be stated, by whatever attribute. The
view need not be: View Position is of type 2 for Computed Radiography (PS3.3 C.8.1.1), so a film
without one conforms, and whole departments send it empty. Such a film counts where nothing says
that it is no frontal one; the models' domain gates examine the image itself. A reason names no
patient and quotes no free text, so that it may be logged.

    class        Computed Radiography or Digital X-Ray Image Storage (PS3.4 B.5). A Secondary
                 Capture may be a photograph of a screen or a result of another program, also of
                 Hilum; segmentations, reports and presentation states are no images of a patient
    intent       for presentation: values FOR PROCESSING are those of the detector (PS3.3 C.8.11.1)
    modality     CR, DX, and RG, by which early digitizers of film wrote Computed Radiography
    body part    the chest, by Body Part Examined or the Anatomic Region Sequence; where neither
                 states a known one, by the descriptions of series and study; where these name none
                 either, a frontal view must be stated
    view         PA, AP, frontal without saying which, or none. Where none is stated, Patient
                 Orientation must lie in the coronal plane (rows towards L or R, columns towards F
                 or H) if there is one, and no description may name another view alone. One of a
                 whole study, such as "chest PA and lateral", names several and decides nothing
"""

from __future__ import annotations

from hilum.annotations import acquisition, eligibility
from hilum.imaging.files import dicom
from hilum.imaging.files.dicom import Header

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_CLASSES = frozenset((f"{_STORAGE}1", f"{_STORAGE}1.1"))
_FOR_PROCESSING = f"{_STORAGE}1.1.1"
_CAPTURES = f"{_STORAGE}7"
_FRONTAL = acquisition.FRONTAL_VIEWS
MODALITIES = ("CR", "DX", "RG")
_NO_CLASS = "states no SOP class"
_RAW = "holds the detector's values FOR PROCESSING; the study's image for presentation is read"


def reason_not_frontal(header: Header) -> str:
    """Return why an object is no frontal chest radiograph; "" where it is one."""
    part = _body_part(header)
    return (
        _of_object(header)
        or _of_modality(header)
        or eligibility.reason(header.view, part, None)
        or _view(header, part)
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
    if uid in _CLASSES:
        return ""
    return "is of another class than Computed Radiography and Digital X-Ray" if uid else _NO_CLASS


def _of_modality(header: Header) -> str:
    modality = (header.modality or "").upper()
    if modality in MODALITIES or not modality:  # then the class says it
        return ""
    known = modality if modality in acquisition.modalities() else "one that is not known"
    return f"its modality is {known}, expected {', '.join(MODALITIES)}"


def _body_part(header: Header) -> str | None:
    """Return the body part that is stated or, else, described: a recognised one, or None."""
    texts = (header.body_part, *header.descriptions)
    found = [part for text in texts if (part := acquisition.body_part_of(text))]
    known = [part for part in found if part in acquisition.body_parts()]
    stated = acquisition.body_part_of(header.body_part)
    if stated in known:
        return stated
    return next((part for part in known if acquisition.shows_chest(part)), next(iter(known), None))


def _view(header: Header, part: str | None) -> str:
    """Return what speaks against a frontal view where none is stated; "" where nothing does."""
    if header.view:
        return ""
    if part is None:
        return "states neither the body part nor a frontal view"
    views = map(acquisition.view_in_description, header.descriptions)
    if other := next((view for view in views if view not in (None, *_FRONTAL)), None):
        return f"states no view, and is described as {other.lower()}"
    first = {one[:1] for one in header.orientation or ()}
    coronal = len(first & {*"LR"}) == 1 and len(first & {*"HF"}) == 1
    return "" if coronal or not first else "states no view, and its orientation is not frontal"
