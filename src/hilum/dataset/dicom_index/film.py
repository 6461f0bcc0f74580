"""One DICOM image of a source, as its header states it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from hilum.annotations import acquisition
from hilum.dataset.dicom_index.frontal import reason_not_frontal
from hilum.imaging.files.dicom import Header


@dataclass(frozen=True)
class Film:
    """An image: what its header states, None where it states nothing, and where the image is.

    `patient_id` is as stored; `person` is a digest of name and birth date. `body_part`, `modality`
    and `laterality` are in the terms of `hilum.annotations.acquisition`. `refusal` says why the
    image is no frontal chest radiograph, "" where it is one.
    """

    sop_instance_uid: str | None
    series_uid: str | None
    study_uid: str | None
    patient_id: str | None
    issuer: str | None
    person: str | None
    modality: str | None
    body_part: str | None
    view_position: str | None
    laterality: str | None
    acquired: datetime | None
    rows: int | None
    columns: int | None
    transfer_syntax: str | None
    place: str
    refusal: str = ""

    @property
    def patient(self) -> tuple[str, str] | None:
        """Return issuer and Patient ID, which identify the patient together; None without an ID."""
        return (self.issuer or "", self.patient_id) if self.patient_id else None


def film(header: Header, place: str) -> Film:
    """Return the film that a header describes; `place` is a path or an address."""
    rows, columns = header.size or (None, None)
    acquired = acquisition.in_header(header.body_part, header.modality, header.laterality)
    return Film(
        sop_instance_uid=header.instance,
        series_uid=header.series,
        study_uid=header.study,
        patient_id=header.patient,
        issuer=header.issuer,
        person=header.person,
        modality=acquired["modality"],
        body_part=acquired["body_part"],
        view_position=header.view,
        laterality=acquired["laterality"],
        acquired=header.acquired,
        rows=rows,
        columns=columns,
        transfer_syntax=header.syntax,
        place=place,
        refusal=reason_not_frontal(header),
    )
