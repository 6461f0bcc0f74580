"""Describe image files (`hilum inspect`): kind, header, processing log, and the image as PNG.

OUT/NAME.png       the image, uint8, bright is dense; NAME as in `hilum.inference.segment_images`
OUT/inspect.csv    a row for each image, see COLUMNS
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
FOLDER = Path("shown")  # the default output folder
OF_HEADER = ("view", "body_part", "modality", "laterality", "sex", "age_years")
_WRITTEN = "written_to"  # column of inspect.csv and key of its JSON: the PNG that was written
COLUMNS = (
    "image",
    "name",
    _WRITTEN,
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
    """Describe each image for a program, and list the faults of those that could not be read.

    `images`, `say` and errors as in `hilum.inference.segment_images.segment_images`. `to` is a
    folder, by default `FOLDER`; for one image it may be the PNG to write. Raises `BadData` where
    that would overwrite an image that is read.
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

    def described(path: Path, name: str) -> dict[str, Any]:
        """Write one image as PNG and return its description."""
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
    return for_each(found, described, title="inspect", watch=watch, say=say, table=table)


def facts(path: Path, name: str, file: raster.Raster | dicom.Dicom, drawn: Path) -> dict[str, Any]:
    """Return the description of a file, in JSON types."""
    entry: dict[str, Any] = {
        "image": as_text(path),
        "name": name,
        _WRITTEN: as_text(drawn),
        "kind": file.kind,
    }
    entry |= {
        "size": None,
        "spacing_mm": None,
        "values": [int(file.values.min()), int(file.values.max())],
        "container_bits": 8 * file.values.dtype.itemsize,
    }
    entry |= {"file_digest": file.file_digest, "pixel_digest": file.pixel_digest}
    if isinstance(file, dicom.Dicom):
        entry["header"] = {
            name: str(value) if isinstance(value, date) else value
            for name, value in asdict(file.header).items()
        }
    return entry


def _rows(shown: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return map(_row, shown)


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    """Convert a description to a row of COLUMNS."""
    (height, width), (low, high) = entry["size"], entry["values"]
    spacing = entry["spacing_mm"] or (None, None)
    row = {
        name: entry[name]
        for name in (
            "image",
            "name",
            _WRITTEN,
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
        | {name: entry.get("header", {}).get(name) for name in OF_HEADER}
        | {"account": "; ".join(entry["account"])}
    )


def lines(shown: Sequence[dict[str, Any]]) -> str:
    """Return the descriptions as text, a blank line between two images."""
    return "\n\n".join("\n".join(_lines(entry)) for entry in shown)


def _lines(entry: dict[str, Any]) -> list[str]:
    (height, width), (low, high) = entry["size"], entry["values"]
    spacing = (
        "not stated"
        if entry["spacing_mm"] is None
        else " x ".join(f"{value:.4g}" for value in entry["spacing_mm"]) + " mm"
    )
    image, size = on_one_line(entry["image"]), f"{height}x{width} (height x width)"
    values = f"{low} to {high} in {entry['container_bits']} bits"
    return [
        f"{image}: {entry['kind']}, {size}, values {values}, spacing {spacing}",
        *_header_lines(entry.get("header")),
        "applied, in order:",
        *(f"  {on_one_line(line)}" for line in entry["account"]),
        f"digest of the file {entry['file_digest']}, of the pixels {entry['pixel_digest']}",
        f"written to: {on_one_line(entry[_WRITTEN])}",
    ]


def _header_lines(header: dict[str, Any] | None) -> list[str]:
    """Return a line for each fact in columns, and a last line with what the header lacks."""
    if header is None:
        return []
    missing = [name.replace("_", " ") for name, value in header.items() if value is None]
    lines = [
        f"  {name.replace('_', ' '):13} {_plain(value)}"
        for name, value in header.items()
        if value is not None
    ]
    return [
        "the header states:",
        *lines,
        *([f"  not stated: {', '.join(missing)}"] if missing else []),
    ]


def _plain(value: Any) -> str:
    return on_one_line(
        ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    )
