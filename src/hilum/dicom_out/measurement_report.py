"""What the two Structured Reports share: template TID 1500 (PS3.16), its observer, its groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hilum import __version__
from hilum.dicom_out import codes
from hilum.dicom_out.conform import conform
from hilum.dicom_out.equipment import NAME, STATEMENT, Kind, Origin
from hilum.inference.delivery import ModelIdentity

if TYPE_CHECKING:
    from highdicom.sr import (
        AlgorithmIdentification,
        MeasurementsAndQualitativeEvaluations,
        PlanarROIMeasurementsAndQualitativeEvaluations,
        TrackingIdentifier,
    )
    from pydicom import Dataset
    from pydicom.sr.coding import Code

    Groups = (
        Sequence[MeasurementsAndQualitativeEvaluations]
        | Sequence[PlanarROIMeasurementsAndQualitativeEvaluations]
    )


def report(origin: Origin, kind: Kind, groups: Groups, remarks: Sequence[str] = ()) -> Dataset:
    """Return a complete, unverified Comprehensive SR of measurement groups.

    `remarks` follow the statement that it is for research.
    """
    from highdicom.sr import ComprehensiveSR, MeasurementReport

    content = MeasurementReport(
        observation_context=_observer(origin),
        procedure_reported=code(codes.RADIOGRAPHY),
        imaging_measurements=groups,
    )
    for remark in (STATEMENT, *remarks):
        comment(content[0], codes.COMMENT, remark)
    made = ComprehensiveSR(
        evidence=[origin.source.header],
        content=content[0],
        is_complete=True,
        **origin.instance(kind),
        **origin.device(),
    )
    return conform(made, origin, kind)


def _observer(origin: Origin):
    from highdicom.sr import (
        DeviceObserverIdentifyingAttributes,
        ObservationContext,
        ObserverContext,
    )
    from pydicom.sr.codedict import codes as known

    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=known.DCM.Device,
            observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                uid=origin.models, name=NAME, manufacturer_name=NAME, model_name=NAME
            ),
        )
    )


def code(coded: codes.Coded) -> Code:
    """Return a code as pydicom and highdicom take it."""
    from pydicom.sr.coding import Code

    return Code(*coded)


def tracking(origin: Origin, name: str) -> TrackingIdentifier:
    """Return the identifier of a group; its UID is the same whenever the report is made."""
    from highdicom.sr import TrackingIdentifier

    return TrackingIdentifier(uid=origin.uid("tracking", name), identifier=name)


def algorithm(model: ModelIdentity, parameters: Sequence[str]) -> AlgorithmIdentification:
    """Return which model of which version said it."""
    from highdicom.sr import AlgorithmIdentification

    return AlgorithmIdentification(
        name=f"{NAME} {model.name}",
        version=__version__,
        parameters=[f"model digest: {model.digest}", *parameters],
    )


def comment(container: Dataset, name: codes.Coded, words: str) -> None:
    """Append a text to a container."""
    from highdicom.sr import RelationshipTypeValues, TextContentItem

    container.ContentSequence.append(
        TextContentItem(code(name), words, RelationshipTypeValues.CONTAINS)
    )
