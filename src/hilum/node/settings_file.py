"""Read node.toml, the settings of a node.

Relative paths start from the folder of the file. An unknown section or key is refused with the
nearest name, a value of the wrong kind or one that cannot be meant too (`settings_rules`), all
faults at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TypeVar

from hilum.config.validation import build_section
from hilum.errors import BadData, BadRecipe, NotFound, plural, unknown
from hilum.node import settings_rules
from hilum.node.settings import (
    Caller,
    Destination,
    DicomWeb,
    Limits,
    Listen,
    Models,
    Monitor,
    Node,
    Orthanc,
    Results,
    Settings,
)
from hilum.safety import untrusted_files
from hilum.storage import JsonObject

Section = TypeVar("Section")
_KINDS = {
    "node": Node,
    "destination": Destination,
    "limits": Limits,
    "models": Models,
    "results": Results,
    "monitor": Monitor,
}
_SOURCES = {"orthanc": Orthanc, "dicomweb": DicomWeb}
_FILES = ("state", "password_file", "token_file", "ca", "certificate", "key", "run", "site")


def read(path: Path) -> Settings:
    """Read a settings file. Raises `NotFound`, or `BadRecipe` that lists every fault."""
    try:
        tables = untrusted_files.read_toml(path)
    except NotFound:
        raise NotFound(
            f"no settings of a node at {path}; write one as the documentation of `hilum node` shows"
        ) from None
    except BadData as error:
        raise BadRecipe(str(error)) from error
    faults: list[str] = []
    built: JsonObject = dict(_sections(tables, faults))
    if not faults:
        built = {"node": Node(), **built}  # whose folder has a place even by default
        made = Settings(**{name: _placed(one, path.parent) for name, one in built.items()})
        faults += settings_rules.faults(made)
        if not faults:
            return replace(made, path=path)
    raise BadRecipe("\n  ".join([f"{path}: {plural(len(faults), 'fault')}", *faults]))


def _sections(tables: Mapping[str, object], faults: list[str]) -> Iterator[tuple[str, object]]:
    for name, values in tables.items():
        if not isinstance(values, Mapping):
            faults.append(f"[{name}] must be a section, got {values!r}")
        elif name == "source":
            for of, inner in values.items():
                if of not in _SOURCES or not isinstance(inner, Mapping):
                    faults.append(f"[source] {unknown('section', of, _SOURCES)}")
                else:
                    yield of, build_section(_SOURCES[of], f"source.{of}", inner, faults)
        elif name == "listen":
            yield name, _listen(values, faults)
        elif name in _KINDS:
            yield name, build_section(_KINDS[name], name, values, faults)
        else:
            faults.append(unknown("section", name, (*_KINDS, "listen", "source")))


def _listen(values: Mapping[str, object], faults: list[str]) -> Listen | None:
    own = {key: value for key, value in values.items() if key != "allowed_callers"}
    built = build_section(Listen, "listen", own, faults)
    listed = values.get("allowed_callers", [])
    if not isinstance(listed, list) or not all(isinstance(one, Mapping) for one in listed):
        faults.append(
            "[listen] allowed_callers must be a list of tables, as "
            f'[{{ae_title = "PACS", host = "10.0.0.5"}}], got {listed!r}'
        )
        return None
    callers = [build_section(Caller, "listen.allowed_callers", one, faults) for one in listed]
    return None if faults else replace(built, allowed_callers=tuple(callers))


def _placed(section: Section, folder: Path) -> Section:
    """Return a section whose relative paths start from a folder."""
    names = {part.name for part in fields(section)} & set(_FILES)  # pyright: ignore
    placed = {
        name: str((folder / getattr(section, name)).absolute())
        for name in names
        if getattr(section, name)
    }
    return replace(section, **placed)  # pyright: ignore
