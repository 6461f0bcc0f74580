"""Which received objects are films that a node reads: frontal radiographs of others, no results.

Its own results come back, since they make their study complete anew: they are recognised by their
class and modality (`hilum.dataset.dicom_index`), by their UIDs, which the journal has, and by what
made them.
"""

from __future__ import annotations

from hilum.dataset.dicom_index.frontal import reason_not_frontal
from hilum.dicom_out.equipment import NAME
from hilum.imaging.files.dicom import Header
from hilum.node.journal import Journal


def reason_against(header: Header, journal: Journal) -> str:
    """Return why an object is not read; "" where it is a film to be read."""
    if journal.is_result(header.instance or "") or (header.manufacturer or "").strip() == NAME:
        return "it is a result of Hilum"
    return reason_not_frontal(header)
