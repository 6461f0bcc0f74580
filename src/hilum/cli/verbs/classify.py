"""Verb `classify`."""

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

GROUP, ORDER = IMAGES, 40
SHARDED = True
SHORT_HELP = "Classify images with pretrained models"
EXAMPLE = "Examples: hilum classify image.dcm --out out; hilum classify data/chest 'more/*.png'"


def verb(
    images: Images,
    to: Annotated[
        Path, written_to("Where overlays and the table classify.csv are written.")
    ] = Path("classify"),
    scores: Annotated[
        bool,
        typer.Option(
            "--scores",
            help="Give the scores too, also where there is no call; they are no probabilities "
            "there.",
        ),
    ] = False,
    site: Annotated[
        Path | None,
        typer.Option(
            "--site",
            help="A file of `hilum calibrate`: its model alone is applied, at the threshold and "
            "within the domain of that site.",
            show_default=False,
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="Apply this model alone: a name of `hilum models`, or a model file; may be given "
            "again.",
            show_default=False,
        ),
    ] = None,
    dicom: DicomTo = None,
    viewer_compat: ViewerCompat = False,
    labelmap: LabelMap = False,
    presentation_state: PresentationState = False,
    as_json: Json = False,
) -> None:
    """Classify images with the pretrained models: findings called present or absent, or no call
    with the reason, where a model cannot know; refuses what the models were not made for.
    """
    from hilum.inference import classify_images as step
    from hilum.inference import pretrained
    from hilum.inference.site import Site

    of_site = Site.read(site) if site else None
    delivery = dicom_writer(
        dicom,
        "classify",
        viewer_compat=viewer_compat,
        labelmap=labelmap,
        presentation_state=presentation_state,
    )
    found, faults = step.classify_images(
        images,
        to,
        models=[pretrained.named(model) for model in models] if models else None,
        scores=scores,
        site=of_site,
        delivery=delivery,
        watch=console.watch,
        say=console.say,
    )
    console.summarised(
        json.dumps([one.reported(scores=scores) for one in found], indent=1)
        if as_json
        else step.lines(found, to, scores=scores),
        faults,
    )
