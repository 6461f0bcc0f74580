"""Verb `deidentify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli import console
from hilum.cli._app import DATA, Json
from hilum.privacy.dicom.profile import BurnedIn, Dates, Options, reads_pixels

GROUP, ORDER = DATA, 55
SHARDED = True
SHORT_HELP = "Make DICOM files anonymous"
EXAMPLE = "Example: hilum deidentify data/pacs data/anonymous --key ~/keys/site.key"


def verb(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder of DICOM files, or one file.", metavar="SOURCE", show_default=False
        ),
    ],
    to: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="The new folder to write into.", show_default=False),
    ],
    key: Annotated[
        Path,
        typer.Option(
            "--key",
            help="The file of your site's key, made where it is missing. It may lie neither in nor "
            "beside the data: whoever has it can find out who the patients are.",
            show_default=False,
        ),
    ],
    dates: Annotated[
        Dates,
        typer.Option(
            help="Dates shifted by one number of days per patient, so that intervals are kept, or "
            "removed."
        ),
    ] = Dates.SHIFTED,
    retain_device: Annotated[
        bool, typer.Option("--retain-device", help="Keep station, serial number and detector.")
    ] = False,
    retain_characteristics: Annotated[
        bool,
        typer.Option(
            "--retain-characteristics", help="Keep sex, age (90 for all older), size and weight."
        ),
    ] = False,
    clean_descriptors: Annotated[
        bool,
        typer.Option(
            "--clean-descriptors",
            help="Keep the known words of descriptions, such as CHEST PA, in place of none.",
        ),
    ] = False,
    burned_in: Annotated[
        BurnedIn,
        typer.Option(
            help="Images with text in their pixels, or suspected of it: refuse them, blank the "
            "text that is read, or keep all pixels as they are, because you have seen them."
        ),
    ] = BurnedIn.REFUSE,
    ocr: Annotated[
        bool | None,
        typer.Option(
            "--ocr/--no-ocr",
            help="Read the pixels for text, about a second an image. [default: where the extra "
            "`ocr` is installed]",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write DICOM files without what identifies people, by the Basic Profile of PS3.15.

    The output is searched for every identifier of the input; a file in which one is found is not
    written. What was removed is listed by tag, without values, in OUT/deidentification.json.
    """
    from hilum.privacy.dicom import folder

    options = Options(
        dates,
        retain_device,
        retain_characteristics,
        clean_descriptors,
        burned_in,
        reads_pixels(ocr),
    )
    done = folder.deidentify(source, to, key, options, watch=console.watch)
    for one in done.passed_over:
        console.say(one)
    summary = {"written to": str(to), **done.report["files"]}
    console.summarised(
        json.dumps(done.report, indent=1) if as_json else console.line(summary), done.faults
    )
