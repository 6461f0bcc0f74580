"""Shelves of plug-ins: a plug-in is a module, found by its file name; to add one, add one file.

The shelves are the sub-packages `datasets`, `checks`, `models` and `metrics`. A module whose name starts with an underscore is not
a plug-in.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from hilum.errors import MissingExtra, NotFound


@dataclass(frozen=True)
class Card:
    """What a person must know before using a plug-in. Texts are plain sentences; an empty one means that it does not apply."""

    title: str
    licence: str = ""
    source: str = ""
    citation: str = ""
    counts: str = ""
    caveats: str = ""


def names(shelf: str) -> list[str]:
    """The plug-ins on a shelf, sorted. Imports none of them."""
    folder = Path(__file__).parent / shelf
    return sorted(found.name for found in pkgutil.iter_modules([str(folder)]) if not found.name.startswith("_"))


def load(shelf: str, name: str) -> ModuleType:
    """The plug-in's module. Raises `NotFound` with the nearest name, `MissingExtra` where a package that it needs is not installed."""
    if name not in names(shelf):
        raise NotFound.named(shelf.removesuffix("s").replace("dataset", "data set"), name, names(shelf))
    try:
        return importlib.import_module(f"hilum.{shelf}.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("hilum"):
            raise
        raise MissingExtra.needed(error.name or "", "train", f"'{name}'") from error
