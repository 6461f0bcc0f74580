"""Show: what image files are, what their headers state, what was applied to their values, and the
images as models see their brightness.

OUT/NAME.png     the image, uint8, bright is dense; NAME as in `hilum.inference.segment_images`
OUT/inspect.csv     a row an image, see COLUMNS
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from hilum.errors import BadData, on_one_line
from hilum.imaging.batch.each_image import Say, Watch, for_each, unheard, unwatched
from hilum.imaging.batch.results_table import Table
from hilum.imaging.files import dicom, image_file, output_folder, raster
from hilum.imaging.files.find_images import collect
from hilum.imaging.radiograph import to_uint8
from hilum.safety.path_names import as_text

TABLE = "inspect.csv"
FOLDER = Path("shown")  # where nothing else is asked for
OF_HEADER = ("view", "body_part", "modality", "laterality", "sex", "age_years")
COLUMNS = (
    "image",
    "name",
    "picture",
    "kind",
    "height",
    "width",
    "row_spacing_mm",
    "column_spacing_mm",
    "lowest",
    "highest",
    "container_bits",
    *OF_HEADER,
    "account",
    "file_digest",
    "pixel_digest",
)


def describe_images(
    images: Sequence[str | Path],
    to: Path | None = None,
    *,
    watch: Watch = unwatched,
    say: Say = unheard,
) -> tuple[list[dict[str, Any]], list[str]]:
    """What is known of each image, for a program, and what is wrong with those that could not be
    read; the others are shown all the same.

    `images`, `say` and errors as in `hilum.inference.segment_images.segment_images`. `to` is a folder, `FOLDER` unless it
    is given; for one image it may be the PNG to write. Raises `BadData` where that would be written
    over an image that is read.
    """
    to = to or FOLDER
    alone = to.suffix.lower() == ".png" and not to.is_dir()
    found, out = collect(images, [to]), output_folder.Output(to, "inspect")
    if alone and len(found.names) > 1:
        raise BadData(
            f"{to} is one file, and there are {len(found.names)} images to draw; name a folder "
            f"with --out, such as {to.with_suffix('')}"
        )
    if alone and to.exists() and any(path.samefile(to) for path, _ in found.names):
        raise BadData(f"{to}: is the image itself; name another file with --out")

    def work(path: Path, name: str) -> dict[str, Any]:
        file = image_file.read(path)
        radiograph = file.radiograph()
        drawn = to if alone else out.path(f"{name}.png")
        raster.write_png(drawn, to_uint8(radiograph.pixels))
        about = facts(path, name, file, drawn)
        return about | {
            "size": list(radiograph.size),
            "spacing_mm": radiograph.spacing_mm,
            "account": list(radiograph.processing_log),
        }

    table = None if alone else Table(out, TABLE, COLUMNS, made_by=as_text(to), rows=_rows)
    return for_each(found, work, title="inspect", watch=watch, say=say, table=table)


def facts(path: Path, name: str, file: raster.Raster | dicom.Dicom, drawn: Path) -> dict[str, Any]:
    """What is known of a file, for a program."""
    told: dict[str, Any] = {
        "image": as_text(path),
        "name": name,
        "picture": as_text(drawn),
        "kind": file.kind,
    }
    told |= {
        "size": None,
        "spacing_mm": None,
        "values": [int(file.values.min()), int(file.values.max())],
        "container_bits": 8 * file.values.dtype.itemsize,
    }
    told |= {"file_digest": file.file_digest, "pixel_digest": file.pixel_digest}
    if isinstance(file, dicom.Dicom):
        told["header"] = {
            name: str(value) if isinstance(value, date) else value
            for name, value in asdict(file.header).items()
        }
    return told


def _rows(shown: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return map(_row, shown)


def _row(told: dict[str, Any]) -> dict[str, Any]:
    """One of COLUMNS."""
    (height, width), (low, high), spacing = (
        told["size"],
        told["values"],
        told["spacing_mm"] or (None, None),
    )
    row = {
        name: told[name]
        for name in (
            "image",
            "name",
            "picture",
            "kind",
            "container_bits",
            "file_digest",
            "pixel_digest",
        )
    }
    row |= {
        "height": height,
        "width": width,
        "row_spacing_mm": spacing[0],
        "column_spacing_mm": spacing[1],
        "lowest": low,
        "highest": high,
    }
    return (
        row
        | {name: told.get("header", {}).get(name) for name in OF_HEADER}
        | {"account": "; ".join(told["account"])}
    )


def lines(shown: Sequence[dict[str, Any]]) -> str:
    """For a person: what is known of each image, a blank line between two."""
    return "\n\n".join("\n".join(_lines(told)) for told in shown)


def _lines(told: dict[str, Any]) -> list[str]:
    (height, width), (low, high) = told["size"], told["values"]
    spacing = (
        "not told"
        if told["spacing_mm"] is None
        else " x ".join(f"{value:.4g}" for value in told["spacing_mm"]) + " mm"
    )
    image, size = on_one_line(told["image"]), f"{height}x{width} (height x width)"
    values = f"{low} to {high} in {told['container_bits']} bits"
    return [
        f"{image}: {told['kind']}, {size}, values {values}, spacing {spacing}",
        *_header_lines(told.get("header")),
        "applied, in order:",
        *(f"  {on_one_line(line)}" for line in told["account"]),
        f"digest of the file {told['file_digest']}, of the pixels {told['pixel_digest']}",
        f"picture: {on_one_line(told['picture'])}",
    ]


def _header_lines(header: dict[str, Any] | None) -> list[str]:
    """One a fact, in columns; what the header does not tell is named at the end."""
    if header is None:
        return []
    missing = [name.replace("_", " ") for name, value in header.items() if value is None]
    lines = [
        f"  {name.replace('_', ' '):13} {_plain(value)}"
        for name, value in header.items()
        if value is not None
    ]
    return [
        "the header tells:",
        *lines,
        *([f"  not told: {', '.join(missing)}"] if missing else []),
    ]


def _plain(value: Any) -> str:
    return on_one_line(
        ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    )
