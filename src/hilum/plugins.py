"""Find plug-ins: a plug-in is a module, found by its file name; to add one, add one file.

A module whose name starts with an underscore is not a plug-in.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from dataclasses import dataclass, fields
from functools import cache
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
    "verbs": ("cli.verbs", "verb"),
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
    return list(_modules(_folder(kind)))


@cache  # every `load` needs them, and an audit loads its checks several times
def _modules(folder: Path) -> tuple[str, ...]:
    found = (module.name for module in pkgutil.iter_modules([str(folder)]))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def defaults(kind: str, name: str, what: str) -> dict[str, object]:
    """Return the fields and defaults of a plug-in's dataclass `what`, or its dictionary `what`.

    They are read from the source, without importing the plug-in: model plug-ins import PyTorch,
    which the names and defaults of their settings must not need. Fields of base classes come
    first, see `_inherited`. Raises `NotFound` as `load`.
    """
    if name not in names(kind):
        raise NotFound.named(KINDS[kind][1], name, names(kind))
    source = (_folder(kind) / f"{name}.py").read_text(encoding="utf-8")
    body = ast.parse(source).body
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name == what:
            found: dict[str, object] = {}
            for base in node.bases:
                found |= _inherited(ast.unparse(base), body)
            own = (
                field
                for field in node.body
                if isinstance(field, ast.AnnAssign) and field.value is not None
            )
            return found | {
                field.target.id: ast.literal_eval(field.value)
                for field in own
                if isinstance(field.target, ast.Name) and field.value is not None
            }
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.target.id == what
            and node.value is not None
        ):
            return ast.literal_eval(node.value)
    raise LookupError(f"the {KINDS[kind][1]} '{name}' declares no {what}")


def _inherited(base: str, body: list[ast.stmt]) -> dict[str, object]:
    """Return the fields and defaults of a dataclass that a plug-in's source imports by name.

    The module that defines it, such as `hilum.training.settings`, is imported, so it must not need
    PyTorch. Raises `LookupError` for a base that is not imported as `from MODULE import NAME`.
    """
    for node in body:
        imported = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom) and node.module and base in imported:
            kind = getattr(importlib.import_module(node.module), base)
            return {part.name: part.default for part in fields(kind)}
    raise LookupError(f"the base class {base} is not imported as `from MODULE import {base}`")


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
    """Return the content of the TOML file NAME.ENDING beside a plug-in's module; empty where there
    is none.

    Imports no plug-in.
    """
    import tomllib  # takes 2 ms, and `hilum --help` needs names of plug-ins alone

    file = _folder(kind) / f"{name}.{ending}"
    return tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _folder(kind: str) -> Path:
    return Path(__file__).parent.joinpath(*KINDS[kind][0].split("."))
