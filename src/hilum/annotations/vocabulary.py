"""Findings and their states: the words that labels are made of.

A concept is one row of `resources/vocabulary.csv`; its id never changes meaning. A state is what a source says of one concept on one
image: present 1, absent 0, uncertain -1; not mentioned is null and has no row in a label table. "No finding" is not a concept: it
means that the source mentioned none of the findings on its own list, which differs between sources and is not "normal".

A parent is wider than its children: whoever has the child has the parent. Opacities and the heart's outline are ordered as in
CheXpert (Irvin et al. 2019, figure 1); meanings follow the Fleischner Society's glossary (Hansell et al. 2008). Where a source
merges two findings in one class ("Nodule/mass"), the merged class is a concept of its own, the parent of the two.

Codes are SNOMED CT (SCT), RadLex (RADLEX) and DICOM's own (DCM). Column `verified` names those whose meaning was looked up and is
the concept's own, and how: D DICOM PS3.16; F its fully specified name in a public FHIR value set or in SNOMED International's
documents; O OMOP vocabulary; M MedDRA to SNOMED CT map; R two or more unrelated projects agree; B BioPortal, C RadLex 4.3 table, T
RadLex 4.3 ontology. All others, also codes that are only near the concept, stand in the file to be looked at and never leave it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from importlib import resources

from hilum.errors import NotFound

LOCAL = "local:"  # prefix of a concept that is defined by the user's own folder only


class State(IntEnum):
    """What a source states of one finding on one image; "not mentioned" is null, not a state."""

    UNCERTAIN = -1
    ABSENT = 0
    PRESENT = 1


# Names of states in tables, exports and reports, in the order in which they are listed.
STATE_NAMES = {State.PRESENT: "present", State.ABSENT: "absent", State.UNCERTAIN: "uncertain"}
# DICOM Patient's Sex (0010,0040), PS3.3 C.7.1.1, to the names in a manifest.
SEX_NAMES = {"F": "female", "M": "male", "O": "other"}


@dataclass(frozen=True)
class Concept:
    """One finding. `verified` says of each checked code how it was checked, as "SCT:D+M RADLEX:C"."""

    id: str
    name: str
    parent: str  # id, empty at the top
    meaning: str
    snomed: str = ""
    radlex: str = ""
    dicom: str = ""
    verified: str = ""

    def codes(self, verified_only: bool = True) -> dict[str, str]:
        """Code by DICOM coding scheme designator (SCT, RADLEX, DCM); only verified ones may stand in an output."""
        given = {"SCT": self.snomed, "RADLEX": self.radlex, "DCM": self.dicom}
        checked = {how.partition(":")[0] for how in self.verified.split()}
        return {
            scheme: code
            for scheme, code in given.items()
            if code and (scheme in checked or not verified_only)
        }


@cache
def concepts() -> dict[str, Concept]:
    """All shipped concepts by id, in the order of the file."""
    text = resources.files("hilum").joinpath("resources/vocabulary.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {row["concept"]: Concept(row.pop("concept"), **row) for row in rows}


def name_of(concept: str) -> str:
    """The words to show for a concept id, local ones included."""
    known = concepts().get(concept)
    return known.name if known else concept.removeprefix(LOCAL).replace("-", " ")


def concept_for(word: str) -> str:
    """The concept a user's own word names: a shipped id or name spelt alike but for case and separators, else a local concept."""
    slug = _slug(word)
    return _by_slug().get(slug, LOCAL + slug)


@cache
def _by_slug() -> dict[str, str]:
    """Concept by id and by name; where a name is spelt as an earlier concept's, that one counts."""
    found: dict[str, str] = {}
    for concept in concepts().values():
        for word in (concept.id, concept.name):
            found.setdefault(_slug(word), concept.id)
    return found


def ancestors(concept: str) -> tuple[str, ...]:
    """All wider concepts, the nearest first. A local concept has none. Raises `NotFound` with the nearest name."""
    if concept.startswith(LOCAL):
        return ()
    _check(concept)
    found: list[str] = []
    while parent := concepts()[found[-1] if found else concept].parent:
        found.append(parent)
    return tuple(found)


def roll_up(states: Mapping[str, State]) -> dict[str, State]:
    """The states of one image with every ancestor of a present concept present, also one that the source calls absent or uncertain.

    Nothing else follows: a parent is not absent because its children are, nor uncertain because one of them is. Raises `NotFound`.
    """
    implied = [
        parent
        for concept, state in states.items()
        for parent in ancestors(concept)
        if state == State.PRESENT
    ]
    return {**states, **dict.fromkeys(implied, State.PRESENT)}


def _check(concept: str) -> None:
    if concept not in concepts():
        raise NotFound.named("concept", concept, concepts())


def _slug(word: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")
