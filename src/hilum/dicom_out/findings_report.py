"""The findings as a Structured Report of template TID 1500: a group for each model and finding.

    Finding                  its code; in words where no code of it was verified
    Algorithm Name, Version  of the model; as Algorithm Parameters its digest, the operating point,
                             the state of its calibration and the place in its domain
    Score                    as the model gives it: no probability; with its full precision
    Certainty of Finding     in percent, only where the model is calibrated and knows such images
    Presence of property     Present or Absent; Undetermined where there is no call
    Comment                  why there is no call; what to beware of

An image that was refused has one group that says why and no finding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hilum.dicom_out import codes
from hilum.dicom_out.equipment import FINDINGS, Origin
from hilum.dicom_out.measurement_report import algorithm, code, comment, report, tracking
from hilum.inference import calls
from hilum.inference.calls import FindingScore

if TYPE_CHECKING:
    from highdicom.sr import Measurement, MeasurementsAndQualitativeEvaluations
    from pydicom import Dataset

NO_CALL = "no call: "
PRESENCE = {calls.PRESENT: codes.PRESENT, calls.ABSENT: codes.ABSENT, None: codes.UNDETERMINED}


def findings_report(origin: Origin) -> Dataset:
    """Return the report of the scores."""
    scores = origin.findings.scores or ()
    groups = [_group(origin, one) for one in scores]
    return report(origin, FINDINGS, groups or [_refused(origin)])


def _group(origin: Origin, one: FindingScore) -> MeasurementsAndQualitativeEvaluations:
    from highdicom.sr import MeasurementsAndQualitativeEvaluations, QualitativeEvaluation

    coded = codes.of_concept(one.concept)
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(origin, f"{codes.finding_name(one.concept)} by {one.model}"),
        finding_type=code(coded) if coded else None,
        algorithm_id=algorithm(origin.findings.model(one.model), list(_parameters(origin, one))),
        measurements=list(_numbers(one)),
        qualitative_evaluations=[
            QualitativeEvaluation(code(codes.PRESENCE), code(PRESENCE[one.call]))
        ],
        source_images=[_source_image(origin)],
    )
    if coded is None:
        comment(group[0], codes.FINDING, codes.finding_name(one.concept))
    if one.no_call:
        comment(group[0], codes.COMMENT, f"{NO_CALL}{one.no_call}")
    if one.warning:
        comment(group[0], codes.COMMENT, f"warning: {one.warning}")
    return group


def _numbers(one: FindingScore) -> Iterator[Measurement]:
    from highdicom.sr import Measurement

    if one.score is not None:
        yield Measurement(code(codes.SCORE), float(one.score), code(codes.NO_UNITS))
    if one.probability is not None:
        percent = float(100 * one.probability)
        yield Measurement(code(codes.CERTAINTY), percent, code(codes.PERCENT))


def _parameters(origin: Origin, one: FindingScore) -> Iterator[str]:
    if one.threshold is None:
        yield "operating point: none was chosen"
    else:
        yield f"operating point: present from a score of {one.threshold:.6g} on"
        if chosen := origin.findings.thresholds_from:
            yield f"operating point chosen by the site or run of digest {chosen}"
    calibrated = one.concept in origin.findings.model(one.model).calibrated
    if one.probability is not None:
        yield "calibration: on the tune (validation) part of the training site"
    elif calibrated:
        yield "calibration: of the training site, not valid for this image"
    else:
        yield "calibration: none, so the score is no probability"
    if one.percentile is None:
        yield "domain: not known for this image"
    else:
        inside = "inside" if one.call or one.no_call == calls.BETWEEN else "no call, see comment"
        yield (
            f"domain: {inside}; {one.percentile:g} % of the training hospitals' images lie nearer "
            f"to their centre"
        )


def _refused(origin: Origin) -> MeasurementsAndQualitativeEvaluations:
    from highdicom.sr import MeasurementsAndQualitativeEvaluations

    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(origin, "Image refused"), source_images=[_source_image(origin)]
    )
    comment(group[0], codes.COMMENT, f"{NO_CALL}the image was refused: {origin.findings.refused}")
    return group


def _source_image(origin: Origin):
    from highdicom.sr import SourceImageForMeasurementGroup

    header = origin.source.header
    return SourceImageForMeasurementGroup(header.SOPClassUID, header.SOPInstanceUID)
