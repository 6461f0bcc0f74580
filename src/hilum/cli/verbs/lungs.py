"""Verb `lungs`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli import console
from hilum.cli._app import (
    IMAGES,
    DicomTo,
    Images,
    Json,
    LabelMap,
    PresentationState,
    ViewerCompat,
    dicom_writer,
    written_to,
)

GROUP, ORDER = IMAGES, 30
SHARDED = True
SHORT_HELP = "Segment the lungs in images"
EXAMPLE = (
    "Examples: hilum lungs image.png --out out; "
    "hilum lungs data/chest 'more/*.dcm' --out out --json"
)


class LungProtocol(StrEnum):
    """The values of --protocol, see `hilum.annotations.lung_masks`."""

    AIR = "air"
    FULL = "full"


def verb(
    images: Images,
    to: Annotated[
        Path, written_to("Where masks, overlays and the table lungs.csv are written.")
    ] = Path("lungs"),
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            help="A lung model of your own, or lungs_ccby: the bundled one that was trained "
            "without non-commercial masks.",
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[
        LungProtocol,
        typer.Option(
            "--protocol",
            help="What counts as lung. air: what is seen as air; full: also the lung behind the "
            "heart and the diaphragm.",
        ),
    ] = LungProtocol.AIR,
    dicom: DicomTo = None,
    viewer_compat: ViewerCompat = False,
    labelmap: LabelMap = False,
    presentation_state: PresentationState = False,
    as_json: Json = False,
) -> None:
    """Segment the lungs: masks in the file's own pixels, overlays, and a table with areas and the
    estimated quality of the masks. Needs no PyTorch.
    """
    from hilum.inference import segment_images as step

    delivery = dicom_writer(
        dicom,
        "lungs",
        viewer_compat=viewer_compat,
        labelmap=labelmap,
        presentation_state=presentation_state,
    )
    rows, faults = step.segment_images(
        images,
        to,
        model=model,
        protocol=protocol.value,
        delivery=delivery,
        watch=console.watch,
        say=console.say,
    )
    console.summarised(json.dumps(rows, indent=1) if as_json else step.lines(rows, to), faults)
