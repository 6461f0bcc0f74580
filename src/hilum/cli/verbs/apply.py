"""Verb `apply`."""

from __future__ import annotations

import json
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

GROUP, ORDER = IMAGES, 10
SHARDED = True
SHORT_HELP = "Score images with a finished run"
EXAMPLE = "Example: hilum apply runs/chest new/a.png 'more/*.dcm' --out out"


def verb(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="A finished run.", show_default=False)
    ],
    images: Images,
    to: Annotated[
        Path | None,
        written_to("Where apply.csv and, below masks/, lung masks and anomaly maps are written."),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            "--masks", help="Write lung masks and anomaly maps here instead.", show_default=False
        ),
    ] = None,
    dicom: DicomTo = None,
    viewer_compat: ViewerCompat = False,
    labelmap: LabelMap = False,
    presentation_state: PresentationState = False,
    as_json: Json = False,
) -> None:
    """Score images with the models of a finished run.

    Images that `hilum classify` refuses are refused here too. Needs no PyTorch.
    """
    from hilum.inference import classify_images
    from hilum.runs import predict_images

    delivery = dicom_writer(
        dicom,
        "apply",
        viewer_compat=viewer_compat,
        labelmap=labelmap,
        presentation_state=presentation_state,
    )
    found, faults = predict_images.predict_images(
        folder, images, masks, to=to, delivery=delivery, watch=console.watch, say=console.say
    )
    if as_json:
        console.summarised(json.dumps([one.as_dict() for one in found], indent=1), faults)
    else:
        text = classify_images.lines(found, to or masks, "written to", scores=True)
        console.summarised(text, faults)
