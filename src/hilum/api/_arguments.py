"""Refuse arguments of another kind than a function takes, saying how to get the right one."""

from __future__ import annotations

from pathlib import Path

from hilum.errors import NotFound
from hilum.safety import addresses


def expect(value: object, kind: type, source: str) -> None:
    """Raise `TypeError` unless `value` is a `kind`; `source` is the call that makes one."""
    if not isinstance(value, kind):
        name = kind.__name__
        raise TypeError(f"expected a {name}, got {value!r}; {source} gives a {name}")


def one_file(path: str | Path) -> Path:
    """Return the path of one file. Raises `NotFound` for a folder and where there is nothing."""
    place = addresses.on_this_disk(path)
    if place.is_dir():
        raise NotFound(f"{place} is a folder: give one image file, and call once for each")
    if not place.exists():
        raise NotFound(f"there is no file {place}: give a PNG, JPEG, TIFF, BMP, GIF or DICOM file")
    return place
