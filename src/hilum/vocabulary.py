"""Findings and their states: the words that labels are made of.

A concept is one row of `data/vocabulary.csv`; its id never changes meaning. A state is what a source says of one concept on one
image: present 1, absent 0, uncertain -1; not mentioned is null and has no row in a label table.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from importlib import resources

LOCAL = "local:"  # prefix of a concept that only the user's own folder knows


class State(IntEnum):
    UNCERTAIN = -1
    ABSENT = 0
    PRESENT = 1


@dataclass(frozen=True)
class Concept:
    id: str
    name: str
    parent: str
    meaning: str


@cache
def concepts() -> dict[str, Concept]:
    """All shipped concepts by id, in the order of the file."""
    text = resources.files("hilum").joinpath("data/vocabulary.csv").read_text(encoding="utf-8")
    return {row["concept"]: Concept(row["concept"], row["name"], row["parent"], row["meaning"]) for row in csv.DictReader(text.splitlines())}


def name_of(concept: str) -> str:
    """The words to show for a concept id, local ones included."""
    known = concepts().get(concept)
    return known.name if known else concept.removeprefix(LOCAL).replace("-", " ")


def concept_for(word: str) -> str:
    """The concept a user's own word names: a shipped id or name spelt alike but for case and separators, else a local concept."""
    slug = re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")
    for concept in concepts().values():
        if slug in (concept.id, re.sub(r"[^a-z0-9]+", "-", concept.name.lower())):
            return concept.id
    return LOCAL + slug
