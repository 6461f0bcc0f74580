"""Catalogue of chest radiograph data sets: what each holds, its licence, and where to obtain it.

A data set that Hilum reads has a reader in `hilum.dataset.readers`. Its title, licence, citation
and caveats are those of the reader's CARD; all other facts come from `NAME.catalog.toml` beside
the reader, which is optional. Data sets that Hilum does not read are sections of
`resources/catalog.toml`, which documents the keys.

Numbers are the publisher's, None where the release does not state them. `hilum datacard` counts
what the files themselves contain.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from hilum import plugins
from hilum.errors import NotFound
from hilum.plugins import Card
from hilum.storage import JsonObject

FACTS = "catalog.toml"  # NAME.catalog.toml beside a reader
NOT_STATED = "not stated"
ACCESS = {
    "public": "free to download, without an account",
    "login": "needs an account",
    "credentialed": "needs an account, training and a signed agreement",
    "bought": "sold",
    "own": "your own images",
    "unstated": "how to obtain it is not stated here",
}


@dataclass(frozen=True)
class Address:
    """A file that anybody may download."""

    name: str  # path below the data set's folder, forward slashes
    url: str
    hash: str = ""  # "md5:…" or "sha256:…"; empty where none is known
    hash_from: str = ""  # who states the hash
    bytes: int | None = None
    unpack: str = ""  # of an archive: the folder it is unpacked into


@dataclass(frozen=True)
class CatalogEntry:
    """What a person needs to know to choose a data set and to obtain it.

    Texts that nobody states are "not stated".
    """

    name: str
    read: bool  # whether Hilum has a reader for it
    title: str
    licence: str
    citation: str
    faults: str
    views: str = NOT_STATED
    labels: str = NOT_STATED
    labels_made: str = NOT_STATED
    marks: str = NOT_STATED
    format: str = NOT_STATED
    size: str = NOT_STATED
    population: str = NOT_STATED
    ages: str = NOT_STATED
    access: str = "unstated"  # a key of ACCESS
    page: str = NOT_STATED
    steps: tuple[str, ...] = ("obtain the files from their publisher and put them into {to}",)
    images: int | None = None
    patients: int | None = None
    addresses_from: str = ""
    overlaps: dict[str, str] = field(default_factory=dict)  # other data set: what both contain
    files: tuple[Address, ...] = ()


@cache
def entries() -> dict[str, JsonObject]:
    """Return the facts as the TOML files state them, by data set; a reader may have none.

    An overlap may be stated by either data set; here both have it.
    """
    found = tomllib.loads(
        resources.files("hilum").joinpath("resources/catalog.toml").read_text(encoding="utf-8")
    )
    found |= {name: plugins.facts("readers", name, FACTS) for name in plugins.names("readers")}
    for name, facts in found.items():
        for other, how in facts.get("overlaps", {}).items():
            found[other].setdefault("overlaps", {}).setdefault(name, how)
    return found


def names() -> list[str]:
    """Return the names of all data sets: those that Hilum reads first, each group sorted."""
    readers = plugins.names("readers")
    return sorted(entries(), key=lambda name: (name not in readers, name))


def entry(name: str) -> CatalogEntry:
    """Return the entry of one data set. Raises `NotFound` with the nearest name."""
    if name not in entries():
        raise NotFound.named("data set", name, entries())
    facts = dict(entries()[name])
    read = name in plugins.names("readers")
    if read:
        facts |= _of_card(plugins.load("readers", name).CARD)
    files = tuple(Address(**file) for file in facts.pop("files", ()))
    if "steps" in facts:
        facts["steps"] = tuple(facts["steps"])
    return CatalogEntry(name=name, read=read, files=files, **facts)


def _of_card(card: Card) -> dict[str, str]:
    return {
        "title": card.title,
        "licence": card.licence,
        "citation": card.citation,
        "faults": card.caveats,
    }
