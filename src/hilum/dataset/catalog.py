"""Sets of chest radiographs that Hilum reads or only knows of, and where they can be had; facts from `resources/catalog.toml`.

A set that Hilum reads has a module on the shelf `datasets`; its title, licence, citation and faults are those of the module's CARD. Numbers
are the publisher's, None where the release does not say; what is in the files themselves `hilum datacard` counts.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from hilum import plugins
from hilum.errors import NotFound

ACCESS = {
    "public": "free to fetch, without an account",
    "login": "needs an account",
    "credentialed": "needs an account, training and a signed agreement",
    "bought": "sold",
    "own": "your own pictures",
}


@dataclass(frozen=True)
class Address:
    """One file that anybody may fetch. `name` is its path below the folder, `hash` is "md5:…" or "sha256:…" where one is known."""

    name: str
    url: str
    hash: str = ""
    hash_from: str = ""  # who states the hash
    bytes: int | None = None
    unpack: str = ""  # the folder it is unpacked into, for an archive


@dataclass(frozen=True)
class CatalogEntry:
    """What a person must know to choose a set. `overlaps` is other sets' names and how they share pictures with this one."""

    name: str
    read: bool  # whether Hilum has a module that reads it
    title: str
    licence: str
    citation: str
    faults: str
    views: str
    labels: str
    labels_made: str
    marks: str
    format: str
    size: str
    population: str
    ages: str
    access: str  # one of ACCESS
    page: str
    steps: tuple[str, ...]
    images: int | None = None
    patients: int | None = None
    addresses_from: str = ""
    overlaps: dict[str, str] = field(default_factory=dict)
    files: tuple[Address, ...] = ()


@cache
def entries() -> dict[str, dict[str, Any]]:
    """The file as it is, by set."""
    return tomllib.loads(
        resources.files("hilum").joinpath("resources/catalog.toml").read_text(encoding="utf-8")
    )


def names() -> list[str]:
    """Those that are read first, then those that are only known, each sorted."""
    return sorted(entries(), key=lambda name: (name not in plugins.names("readers"), name))


def entry(name: str) -> CatalogEntry:
    """Raises `NotFound` with the nearest name."""
    if name not in entries():
        raise NotFound.named("data set", name, entries())
    told = dict(entries()[name])
    read = name in plugins.names("readers")
    if read:
        card = plugins.load("readers", name).CARD
        told |= {
            "title": card.title,
            "licence": card.licence,
            "citation": card.citation,
            "faults": card.caveats,
        }
    files = tuple(Address(**file) for file in told.pop("files", ()))
    return CatalogEntry(name=name, read=read, steps=tuple(told.pop("steps")), files=files, **told)
