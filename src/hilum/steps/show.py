"""Show: what one picture file is, what its header tells, what was applied to its values, and the picture as models see its brightness."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hilum.errors import BadData
from hilum.files import dicom, picture, raster
from hilum.radiograph import to_uint8


def show(path: Path, to: Path | None = None, as_json: bool = False) -> str:
    """The text to print. The picture goes to `to`, a PNG; where that is not given, NAME.shown.png in the working folder.

    Raises `BadData` where the picture cannot be read, or would be written over itself.
    """
    to = to or Path(f"{path.stem}.shown.png")
    if to.exists() and path.exists() and to.samefile(path):
        raise BadData(f"{to}: is the picture itself; name another file with --to")
    file = picture.read(path)
    radiograph = file.radiograph()
    raster.write_png(to, to_uint8(radiograph.pixels))
    told = facts(path, file, to)
    told["size"], told["spacing_mm"], told["account"] = list(radiograph.size), radiograph.spacing_mm, list(radiograph.account)
    return json.dumps(told, indent=1, ensure_ascii=False, default=str) if as_json else "\n".join(_lines(told))


def facts(path: Path, file: raster.Raster | dicom.Dicom, to: Path) -> dict[str, Any]:
    """What is known of a file, for a program."""
    told: dict[str, Any] = {"image": str(path), "picture": str(to), "kind": "DICOM" if isinstance(file, dicom.Dicom) else "raster"}
    told |= {"size": None, "spacing_mm": None, "values": [int(file.values.min()), int(file.values.max())], "container_bits": 8 * file.values.dtype.itemsize}
    told |= {"file_digest": file.file_digest, "pixel_digest": file.pixel_digest}
    if isinstance(file, dicom.Dicom):
        told["header"] = asdict(file.header)
    return told


def _lines(told: dict[str, Any]) -> list[str]:
    (height, width), (low, high) = told["size"], told["values"]
    spacing = "not told" if told["spacing_mm"] is None else " x ".join(f"{value:.4g}" for value in told["spacing_mm"]) + " mm"
    lines = [
        f"{told['image']}: {told['kind']}, {height}x{width} (height x width), values {low} to {high} in {told['container_bits']} bits, spacing {spacing}",
        *_header_lines(told.get("header")), "applied, in order:", *(f"  {line}" for line in told["account"]),
        f"digest of the file {told['file_digest']}, of the pixels {told['pixel_digest']}", f"picture: {told['picture']}",
    ]  # fmt: skip
    return lines


def _header_lines(header: dict[str, Any] | None) -> list[str]:
    """One a fact, in columns; what the header does not tell is named at the end."""
    if header is None:
        return []
    missing = [name.replace("_", " ") for name, value in header.items() if value is None]
    lines = [f"  {name.replace('_', ' '):13} {_plain(value)}" for name, value in header.items() if value is not None]
    return ["the header tells:", *lines, *([f"  not told: {', '.join(missing)}"] if missing else [])]


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
