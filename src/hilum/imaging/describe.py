"""Describe image files (`hilum inspect`): kind, header, processing log, and the image as PNG.

OUT/NAME.png       the image, uint8, bright is dense; NAME as in `hilum.inference.segment_images`
OUT/inspect.csv    a row for each image, see COLUMNS
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, TypedDict

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
COLUMNS = (
    "image",
    "name",
    "written_to",
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


class _OfDicom(TypedDict, total=False):
    header: dict[str, object]


class Described(_OfDicom):
    """What is found in one file, in JSON types; `written_to` is the PNG that was written."""

    image: str
    name: str
    written_to: str
    kind: str
    size: list[int]
    spacing_mm: tuple[float, float] | None
    values: list[int]
    container_bits: int
    file_digest: str
    pixel_digest: str
    account: list[str]


def describe_images(
    images: Sequence[str | Path],
    to: Path | None = None,
    *,
    watch: Watch = unwatched,
    say: Say = unheard,
) -> tuple[list[Described], list[str]]:
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

    table = None if alone else Table(out, TABLE, COLUMNS, made_by=as_text(to), rows=_rows)
    work = _Describing(to if alone else None, out)
    return for_each(found, work, title="inspect", watch=watch, say=say, table=table)


@dataclass(frozen=True)
class _Describing:
    """Writes one image as PNG, the file `alone` or one in `out`, and describes it."""

    alone: Path | None
    out: output_folder.Output

    def __call__(self, path: Path, name: str) -> Described:
        file = image_file.read(path)
        radiograph = file.radiograph()
        drawn = self.alone or self.out.path(f"{name}.png")
        raster.write_png(drawn, to_uint8(radiograph.pixels))
        return {
            "image": as_text(path),
            "name": name,
            "written_to": as_text(drawn),
            "kind": file.kind,
            "size": list(radiograph.size),
            "spacing_mm": radiograph.spacing_mm,
            "values": [int(file.values.min()), int(file.values.max())],
            "container_bits": 8 * file.values.dtype.itemsize,
            "file_digest": file.file_digest,
            "pixel_digest": file.pixel_digest,
            **_header(file),
            "account": list(radiograph.processing_log),
        }


def _header(file: raster.Raster | dicom.Dicom) -> _OfDicom:
    """Return what a DICOM header states, in JSON types."""
    if not isinstance(file, dicom.Dicom):
        return {}
    stated = asdict(file.header).items()
    return {
        "header": {name: str(value) if isinstance(value, date) else value for name, value in stated}
    }


def _rows(shown: Sequence[Described]) -> Iterator[dict[str, object]]:
    return map(_row, shown)


def _row(entry: Described) -> dict[str, object]:
    """Convert a description to a row of COLUMNS."""
    (height, width), (low, high) = entry["size"], entry["values"]
    spacing = entry["spacing_mm"] or (None, None)
    return {
        **{name: value for name, value in entry.items() if name in COLUMNS},
        **{name: entry.get("header", {}).get(name) for name in OF_HEADER},
        "height": height,
        "width": width,
        "row_spacing_mm": spacing[0],
        "column_spacing_mm": spacing[1],
        "lowest": low,
        "highest": high,
        "account": "; ".join(entry["account"]),
    }


def lines(shown: Sequence[Described]) -> str:
    """Return the descriptions as text, a blank line between two images."""
    return "\n\n".join("\n".join(_lines(entry)) for entry in shown)


def _lines(entry: Described) -> list[str]:
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
        f"written to: {on_one_line(entry['written_to'])}",
    ]


def _header_lines(header: dict[str, object] | None) -> list[str]:
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
