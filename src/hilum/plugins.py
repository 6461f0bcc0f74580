"""Find plug-ins: a plug-in is a module, found by its file name; to add one, add one file.

A module whose name starts with an underscore is not a plug-in.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import tomllib
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
}


@dataclass(frozen=True)
class Card:
    """What a person must know before using a plug-in.

    Texts are plain sentences; an empty one does not apply.
    """

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
    """Read from a plug-in's source the fields of its class `what` with their defaults.

    `what` may also be a dictionary constant. The module is not imported: model plug-ins import
    PyTorch, which listing their settings must not need. Raises `NotFound` as `load`.
    """
    if name not in names(kind):
        raise NotFound.named(KINDS[kind][1], name, names(kind))
    source = (_folder(kind) / f"{name}.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == what:
            return {name: ast.literal_eval(value) for name, value in _assigned(node.body)}
        for name, value in _assigned([node]):
            if name == what:
                return ast.literal_eval(value)
    raise LookupError(f"the {KINDS[kind][1]} '{name}' declares no {what}")


def _assigned(nodes: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    """Yield name and value of each annotated assignment, `name: kind = value`."""
    for node in nodes:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if node.value is not None:
            yield node.target.id, node.value


def load(kind: str, name: str) -> ModuleType:
    """Import a plug-in.

    Raises `NotFound` with the nearest name, `MissingExtra` where a package that it needs is not
    installed.
    """
    if name not in names(kind):
        raise NotFound.named(KINDS[kind][1], name, names(kind))
    with MissingExtra.explained("train", f"'{name}'"):
        return importlib.import_module(f"hilum.{KINDS[kind][0]}.{name}")


def facts(kind: str, name: str, ending: str) -> dict[str, Any]:
    """Return the content of the TOML file NAME.ENDING beside a plug-in's module; empty where there is none.

    Imports no plug-in.
    """
    file = _folder(kind) / f"{name}.{ending}"
    return tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _folder(kind: str) -> Path:
    return Path(__file__).parent.joinpath(*KINDS[kind][0].split("."))
