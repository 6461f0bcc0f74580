"""Outlines of lungs and regions as a Structured Report of TID 1500: SCOORD polylines on the source.

A group for each connected part of a lung, largest first, at most `MOST` of a lung: lungs are one
part, and crumbs would hide them. Coordinates are (column, row) of PS3.3 C.18.6.1.2: 0, 0 is the
upper left corner of the first pixel, and a polyline runs along the outer edges of the pixels,
within a pixel; its last point is its first. Exact to the pixel is the Segmentation alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from hilum.annotations import polygons
from hilum.dicom_out import codes
from hilum.dicom_out.equipment import REGIONS, Origin
from hilum.dicom_out.measurement_report import algorithm, code, comment, report, tracking
from hilum.dicom_out.segmentation import SIDES, protocol

if TYPE_CHECKING:
    from highdicom.sr import Measurement, PlanarROIMeasurementsAndQualitativeEvaluations
    from pydicom import Dataset

MOST = 3
MOST_POINTS = 4000  # of a polyline: its value may have 65,534 bytes (PS3.5 7.1.2), 8 a point
_APART = 0.75  # pixels: how far a polyline may be from the edges of the pixels


@dataclass(frozen=True)
class Outline:
    """A connected part of a mask: a closed polyline, float (n, 2) as (column, row), and its size.

    The polyline is within a pixel of the part's edges, or farther where these are too many.
    """

    points: np.ndarray
    pixels: int


def outlines(mask: np.ndarray) -> list[Outline]:
    """Return the outlines of a mask's largest connected parts, largest first."""
    # Of its own box alone: a lung fills a small part of a large image.
    x, y, across, down = cv2.boundingRect(np.asarray(mask, np.uint8))
    boxed = np.asarray(mask[y : y + down, x : x + across], np.uint8)
    if not boxed.size:
        return []
    count, parts, numbers, _ = cv2.connectedComponentsWithStats(boxed, connectivity=4)
    sizes = numbers[:, cv2.CC_STAT_AREA]
    largest = sorted(range(1, count), key=lambda part: (-sizes[part], part))[:MOST]
    found = []
    for part in largest:
        left, top, width, height = numbers[part, : cv2.CC_STAT_AREA]
        window = parts[top : top + height, left : left + width] == part
        found.append(Outline(_polyline(window) + (x + left, y + top), int(sizes[part])))
    return found


def _polyline(part: np.ndarray) -> np.ndarray:
    exterior, _ = next(polygons.traced(part))
    ring = np.array(exterior, np.float32)[:, ::-1]
    apart, points = _APART, ring
    while len(points) > MOST_POINTS or apart == _APART:
        points = cv2.approxPolyDP(np.ascontiguousarray(ring), apart, True)[:, 0]
        apart *= 2
    if len(points) < 3:  # nothing would be left of a few pixels, or of a narrow part
        points = ring if len(ring) <= MOST_POINTS else cv2.convexHull(ring)[:, 0]
    return np.vstack([points, points[:1]]).astype(float)


def regions_report(origin: Origin) -> Dataset:
    """Return the report of the lungs' outlines, and of other regions."""
    return report(origin, REGIONS, [*_lungs(origin), *_others(origin)])


def _others(origin: Origin) -> Iterator[PlanarROIMeasurementsAndQualitativeEvaluations]:
    """Yield a group for each part of each region that is no lung."""
    for region in origin.findings.regions:
        model = origin.findings.model(region.model)
        coded = codes.of_concept(region.concept)
        name = codes.finding_name(region.concept)
        for number, outline in enumerate(outlines(region.mask), start=1):
            group = _group(
                origin,
                f"{name} by {region.model}, part {number}",
                outline,
                finding_type=code(coded) if coded else None,
                algorithm_id=algorithm(model, [f"region: {region.rule}"]),
            )
            if coded is None:
                comment(group[0], codes.FINDING, name)
            yield group


def _group(
    origin: Origin, name: str, outline: Outline, **stated: Any
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    """Return the group of an outline; `stated` are what highdicom's class takes besides."""
    from highdicom.sr import (
        ImageRegion,
        PlanarROIMeasurementsAndQualitativeEvaluations,
        SourceImageForRegion,
    )

    header = origin.source.header
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(origin, name),
        referenced_region=ImageRegion(
            "POLYLINE",
            outline.points,
            SourceImageForRegion(header.SOPClassUID, header.SOPInstanceUID),
        ),
        measurements=list(_area(origin, outline)),
        **stated,
    )


def _lungs(origin: Origin) -> Iterator[PlanarROIMeasurementsAndQualitativeEvaluations]:
    from highdicom.sr import FindingSite

    findings = origin.findings
    parameters = [
        f"lung protocol: {protocol(origin)}",
        f"estimated Dice with a reference mask: {findings.lung_quality:.4f}",
    ]
    for label, (name, side) in SIDES.items():
        for number, outline in enumerate(outlines(findings.lungs == label), start=1):
            yield _group(
                origin,
                name if number == 1 else f"{name}, part {number}",
                outline,
                finding_type=code(codes.LUNG),
                finding_sites=[FindingSite(code(codes.LUNG), code(side))],
                algorithm_id=algorithm(findings.applied[0], parameters),
            )


def _area(origin: Origin, outline: Outline) -> Iterator[Measurement]:
    """Yield the area of a part, where the source states its spacing."""
    from highdicom.sr import Measurement

    if spacing := origin.source.file.header.spacing_mm:
        area = float(outline.pixels * spacing[0] * spacing[1])
        yield Measurement(code(codes.AREA), area, code(codes.SQUARE_MM))
