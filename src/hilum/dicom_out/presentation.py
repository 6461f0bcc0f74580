"""The outlines as a Grayscale Softcopy Presentation State (PS3.3 A.33): shown over the source.

Optional, as fewer viewers show it than structured reports. It changes no grey value; outlines are
in the source's own pixels (PS3.3 C.10.5), in a layer that says that it is for research.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.dicom_out.conform import conform
from hilum.dicom_out.equipment import PRESENTATION, RESEARCH, Origin
from hilum.dicom_out.regions_report import outlines
from hilum.dicom_out.segmentation import SIDES

if TYPE_CHECKING:
    from pydicom import Dataset

_LEGEND = (5.0, 5.0)  # column and row at which the legend begins


def presentation_state(origin: Origin) -> Dataset:
    """Return the presentation state of the source."""
    from highdicom.pr import (
        AnnotationUnitsValues,
        GraphicAnnotation,
        GraphicLayer,
        GraphicObject,
        GrayscaleSoftcopyPresentationState,
        TextObject,
    )

    header, lungs = origin.source.header, origin.findings.lungs
    layer = GraphicLayer("LUNGS", order=1, description=f"AI lungs - {RESEARCH}")
    pixel = AnnotationUnitsValues.PIXEL
    graphics = [
        GraphicObject("POLYLINE", outline.points, pixel)
        for label in SIDES
        for outline in outlines(lungs == label)
    ]
    legend = TextObject(RESEARCH, pixel, anchor_point=_LEGEND, anchor_point_visible=False)
    made = GrayscaleSoftcopyPresentationState(
        referenced_images=[header],
        content_label="LUNGS",
        content_description=f"AI lungs - {RESEARCH}",
        graphic_layers=[layer],
        graphic_annotations=[
            GraphicAnnotation([header], layer, graphic_objects=graphics, text_objects=[legend])
        ],
        **origin.instance(PRESENTATION),
        **origin.device(),
    )
    return conform(made, origin, PRESENTATION)
