"""Find plug-ins: a plug-in is a module, found by its file name; to add one, add one file.

A module whose name starts with an underscore is not a plug-in.
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

KINDS = {  # kind of plug-in: the package that holds them, and what one is called
    "readers": ("dataset.readers", "data set"),
    "writers": ("dataset.writers", "form of export"),
    "checks": ("audit.checks", "check"),
    "models": ("training.models", "model"),
    "metrics": ("statistics.metrics", "metric"),
    "sections": ("reporting.sections", "chapter of the report"),
}


@dataclass(frozen=True)
class Card:
    """What a person must know before using a plug-in. Texts are plain sentences; an empty one means that it does not apply."""

    title: str
    licence: str = ""
    source: str = ""
    citation: str = ""
    counts: str = ""
    caveats: str = ""


def names(kind: str) -> list[str]:
    """Return the names of the plug-ins of a kind, sorted. Imports none of them."""
    folder = _folder(kind)
    return sorted(
        found.name
        for found in pkgutil.iter_modules([str(folder)])
        if not found.name.startswith("_")
    )


def defaults(kind: str, name: str, what: str) -> dict[str, Any]:
    """The fields of a plug-in's class `what` with their defaults, or its dictionary constant `what`, read from the source alone.

    Model plug-ins import PyTorch; asking for the names and defaults of their settings must not need it. Raises `NotFound` as `load`.
    """
    if name not in names(kind):
        raise NotFound.named(KINDS[kind][1], name, names(kind))
    source = (_folder(kind) / f"{name}.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == what:
            fields = (
                field
                for field in node.body
                if isinstance(field, ast.AnnAssign) and field.value is not None
            )
            return {
                field.target.id: ast.literal_eval(field.value)
                for field in fields
                if isinstance(field.target, ast.Name)
            }
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.target.id == what
            and node.value is not None
        ):
            return ast.literal_eval(node.value)
    raise LookupError(f"the {KINDS[kind][1]} '{name}' declares no {what}")


def load(kind: str, name: str) -> ModuleType:
    """The plug-in's module. Raises `NotFound` with the nearest name, `MissingExtra` where a package that it needs is not installed."""
    if name not in names(kind):
        raise NotFound.named(KINDS[kind][1], name, names(kind))
    with MissingExtra.explained("train", f"'{name}'"):
        return importlib.import_module(f"hilum.{KINDS[kind][0]}.{name}")


def _folder(kind: str) -> Path:
    return Path(__file__).parent.joinpath(*KINDS[kind][0].split("."))
