"""Shelves of plug-ins: a plug-in is a module, found by its file name; to add one, add one file.

The shelves are the sub-packages `datasets`, `checks`, `models`, `metrics` and `exports`. A module whose name starts with an underscore is not
a plug-in.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

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


def literals(shelf: str, name: str, what: str) -> dict[str, Any]:
    """The fields of a plug-in's class `what` with their defaults, or its dictionary constant `what`, read from the source alone.

    Model plug-ins import PyTorch; asking for the names and defaults of their settings must not need it. Raises `NotFound` as `load`.
    """
    if name not in names(shelf):
        raise NotFound.named(_kind(shelf), name, names(shelf))
    source = (Path(__file__).parent / shelf / f"{name}.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == what:
            fields = (field for field in node.body if isinstance(field, ast.AnnAssign) and field.value is not None)
            return {field.target.id: ast.literal_eval(field.value) for field in fields if isinstance(field.target, ast.Name)}
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == what and node.value is not None:
            return ast.literal_eval(node.value)
    raise LookupError(f"the {_kind(shelf)} '{name}' declares no {what}")


def load(shelf: str, name: str) -> ModuleType:
    """The plug-in's module. Raises `NotFound` with the nearest name, `MissingExtra` where a package that it needs is not installed."""
    if name not in names(shelf):
        raise NotFound.named(_kind(shelf), name, names(shelf))
    with MissingExtra.told("train", f"'{name}'"):
        return importlib.import_module(f"hilum.{shelf}.{name}")


def _kind(shelf: str) -> str:
    return shelf.removesuffix("s").replace("dataset", "data set")
