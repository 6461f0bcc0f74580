"""The outlines of the lungs as a Structured Report of TID 1500: SCOORD polylines on the source.

A group for each connected part of a lung, largest first, at most `MOST` of a lung: lungs are one
part, and crumbs would hide them. Coordinates are (column, row) of PS3.3 C.18.6.1.2: 0, 0 is the
upper left corner of the first pixel, and a polyline runs along the outer edges of the pixels; its
last point is its first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from hilum.annotations import polygons
from hilum.annotations.polygons import Ring
from hilum.dicom_out import codes
from hilum.dicom_out.equipment import REGIONS, Origin
from hilum.dicom_out.measurement_report import algorithm, code, report, tracking
from hilum.dicom_out.segmentation import SIDES

if TYPE_CHECKING:
    from highdicom.sr import Measurement, PlanarROIMeasurementsAndQualitativeEvaluations
    from pydicom import Dataset

MOST = 3


def outlines(mask: np.ndarray) -> list[Ring]:
    """Return the exteriors of a mask's connected parts as rings of (row, column), largest first."""
    exteriors = [exterior for exterior, _ in polygons.traced(mask)]
    return sorted(exteriors, key=_area, reverse=True)[:MOST]


def _area(ring: Ring) -> float:
    rows, columns = np.array(ring).T
    return abs(float(rows @ np.roll(columns, 1) - columns @ np.roll(rows, 1))) / 2


def as_polyline(ring: Ring) -> np.ndarray:
    """Return a ring as (column, row), closed."""
    points = np.array(ring, float)[:, ::-1]
    return np.vstack([points, points[:1]])


def regions_report(origin: Origin) -> Dataset:
    """Return the report of the lungs' outlines."""
    return report(origin, REGIONS, list(_groups(origin)))


def _groups(origin: Origin) -> Iterator[PlanarROIMeasurementsAndQualitativeEvaluations]:
    from highdicom.sr import (
        FindingSite,
        ImageRegion,
        PlanarROIMeasurementsAndQualitativeEvaluations,
        SourceImageForRegion,
    )

    findings, header = origin.findings, origin.source.header
    quality = f"estimated Dice with a reference mask: {findings.lung_quality:.4f}"
    for label, (name, side) in SIDES.items():
        for number, ring in enumerate(outlines(findings.lungs == label), start=1):
            part = name if number == 1 else f"{name}, part {number}"
            yield PlanarROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=tracking(origin, part),
                referenced_region=ImageRegion(
                    "POLYLINE",
                    as_polyline(ring),
                    SourceImageForRegion(header.SOPClassUID, header.SOPInstanceUID),
                ),
                finding_type=code(codes.LUNG),
                finding_sites=[FindingSite(code(codes.LUNG), code(side))],
                algorithm_id=algorithm(findings.lung_model, [quality]),
                measurements=list(_size(origin, ring)),
            )


def _size(origin: Origin, ring: Ring) -> Iterator[Measurement]:
    """Yield the area inside an outline, where the source states its spacing."""
    from highdicom.sr import Measurement

    if spacing := origin.source.file.header.spacing_mm:
        area = _area(ring) * spacing[0] * spacing[1]
        yield Measurement(code(codes.AREA), float(area), code(codes.SQUARE_MM))
