"""Which received objects are films that a node reads: frontal radiographs of others, no results.

Its own results come back, since they make their study complete anew: they are recognised by their
modality, by their UIDs, which the journal has, and by what made them.
"""

from __future__ import annotations

from hilum.annotations import acquisition, eligibility
from hilum.dicom_out.equipment import NAME
from hilum.imaging.files import dicom
from hilum.imaging.files.dicom import Header
from hilum.node.journal import Journal

MODALITIES = ("CR", "DX")


def reason_against(header: Header, journal: Journal) -> str:
    """Return why an object is not read; "" where it is a film to be read."""
    if journal.is_result(header.instance or "") or (header.manufacturer or "").strip() == NAME:
        return "it is a result of Hilum"
    if header.modality not in MODALITIES:
        return f"its modality is none of {', '.join(MODALITIES)}"
    if kind := dicom.object_kind(header):
        return f"it is a {kind}"
    part = acquisition.body_part_of(header.body_part)
    return eligibility.reason(header.view, part, header.modality) or ""
