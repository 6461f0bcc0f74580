"""The lungs as a Segmentation (PS3.3 A.51): right and left, coded, in the source's own pixels.

BINARY by default, the class that every viewer knows: one frame per lung, a bit per pixel. LABELMAP
(PS3.3 C.8.20.2) holds both in one frame, compressed, in a tenth of the space; few viewers know it.

A radiograph has no position in the patient, so the object states none. Some viewers show a
segmentation only with one: with `viewer_compat` it states a plane and a spacing that were not
measured, and says so in its Content Description and in the description of each segment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum import __version__
from hilum.annotations.lung_masks import LEFT, RIGHT
from hilum.dicom_out import codes, run_length
from hilum.dicom_out.conform import conform
from hilum.dicom_out.equipment import NAME, RESEARCH, SEGMENTATION, Origin

if TYPE_CHECKING:
    from pydicom import Dataset

SIDES = {RIGHT: ("Right lung", codes.RIGHT), LEFT: ("Left lung", codes.LEFT)}
INVENTED = "geometry not measured, for viewers only"
_COLOURS = {RIGHT: (75.6, 21.5, 78.9), LEFT: (79.6, -27.5, -28.6)}  # CIELab: orange, blue
_BITS = 8  # of a byte
_FALLBACK_MM = 1.0  # between pixels, where viewers need a number and the source states none


def segmentation(origin: Origin, *, labelmap: bool = False, viewer_compat: bool = False) -> Dataset:
    """Return the Segmentation of both lungs; a lung that was not found is an empty mask.

    With `viewer_compat` it is a label map, too, where masks of a bit per pixel do not fill whole
    bytes: OHIF 3.13 stops at such ("The calculated length … does not match the actual length").
    """
    from highdicom.seg import Segmentation, SegmentationTypeValues
    from pydicom.uid import ExplicitVRLittleEndian

    source, findings = origin.source, origin.findings
    labelmap = labelmap or (viewer_compat and findings.lungs.size % _BITS != 0)
    remark = f"; {INVENTED}" if viewer_compat else ""
    made = Segmentation(
        source_images=[source.header],
        pixel_array=np.ascontiguousarray(findings.lungs, dtype=np.uint8),
        segmentation_type=(
            SegmentationTypeValues.LABELMAP if labelmap else SegmentationTypeValues.BINARY
        ),
        segment_descriptions=[_description(origin, label) for label in SIDES],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=False,
        content_label="LUNGS",
        content_description=f"AI lungs{remark or f' - {RESEARCH}'}"[:64],
        **origin.instance(SEGMENTATION),
        **origin.device(),
    )
    for item in made.SegmentSequence:
        if item.SegmentNumber in SIDES:  # a LABELMAP describes its background too
            _refine(item, origin, remark)
    if viewer_compat:
        _invent_geometry(made, origin)
        # OHIF counts segments by their place, so with the background first each lung would have
        # the colour of the one before it. Pixel Padding Value says which value is no segment.
        made.SegmentSequence = [one for one in made.SegmentSequence if one.SegmentNumber in SIDES]
    if labelmap:
        run_length.compress(made)
    return conform(made, origin, SEGMENTATION)


def protocol(origin: Origin) -> str:
    """Return what counts as lung (`hilum.annotations.lung_masks`), in a word."""
    return origin.findings.protocol or "not stated"


def _description(origin: Origin, label: int):
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from pydicom.sr.coding import Code

    model = origin.findings.applied[0]  # lungs that were found have a model
    return SegmentDescription(
        segment_number=label,
        segment_label=SIDES[label][0],
        segmented_property_category=Code(*codes.ANATOMY),
        segmented_property_type=Code(*codes.LUNG),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=f"{NAME} {model.name}"[:64],
            family=Code(*codes.ARTIFICIAL_INTELLIGENCE),
            version=__version__,
            parameters={"model digest": model.digest, "lung protocol": protocol(origin)},
        ),
        tracking_uid=origin.uid("lung", str(label)),
        tracking_id=SIDES[label][0],
        display_color=CIELabColor(*_COLOURS[label]),
    )


def _refine(item: Dataset, origin: Origin, remark: str) -> None:
    """Add to a segment's description its side, which highdicom has no argument for, and words."""
    name, side = SIDES[item.SegmentNumber]
    of_lung = item.SegmentedPropertyTypeCodeSequence[0]
    of_lung.SegmentedPropertyTypeModifierCodeSequence = [_code(side)]
    item.SegmentDescription = (
        f"{name}, estimated Dice with a reference mask {origin.findings.lung_quality:.2f}; "
        f"{RESEARCH}{remark}"
    )


def _code(coded: codes.Coded) -> Dataset:
    from pydicom import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = coded
    return item


def _invent_geometry(made: Dataset, origin: Origin) -> None:
    """Add a plane at the origin, and the spacing that the source states or else 1 mm."""
    from pydicom import Dataset

    shared = made.SharedFunctionalGroupsSequence[0]
    measures, orientation = Dataset(), Dataset()
    stated = origin.source.file.header.spacing_mm or (_FALLBACK_MM, _FALLBACK_MM)
    measures.PixelSpacing = [f"{one:.10g}" for one in stated]
    measures.SliceThickness = f"{_FALLBACK_MM:g}"
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    for frame in made.PerFrameFunctionalGroupsSequence:
        position = Dataset()
        position.ImagePositionPatient = [0, 0, 0]
        frame.PlanePositionSequence = [position]
