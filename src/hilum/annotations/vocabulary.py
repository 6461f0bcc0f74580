"""Findings and their states: the vocabulary that labels are made of.

A concept is one row of `resources/vocabulary.csv`; its id never changes meaning. A state is what a
source states of one concept on one image: present 1, absent 0, uncertain -1; not mentioned is null
and has no row in a label table. "No finding" is not a concept: it means that the source mentioned
none of the findings on its own list, which differs between sources and is not "normal".

A parent is wider than its children: an image with the child has the parent too. Opacities and the
cardiac silhouette are ordered as in CheXpert (Irvin et al. 2019, figure 1); meanings follow the
Fleischner Society's glossary (Hansell et al. 2008). Where a source merges two findings in one class
("Nodule/mass"), the merged class is a concept of its own, the parent of the two.

Codes are SNOMED CT (SCT), RadLex (RADLEX) and DICOM's own (DCM). Column `verified` names the codes
whose meaning was compared with the concept's, and how: D DICOM PS3.16; F its fully specified name
in a public FHIR value set or in SNOMED International's documents; O OMOP vocabulary; M MedDRA to
SNOMED CT map; R two or more unrelated projects agree; B BioPortal, C RadLex 4.3 table, T RadLex 4.3
ontology. All others, also codes that are only near the concept, are candidates for verification and
are never exported.
"""

from __future__ import annotations

import csv
import re
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
STATE_NAMES: dict[int, str] = {
    State.PRESENT: "present",
    State.ABSENT: "absent",
    State.UNCERTAIN: "uncertain",
}
# The same with the name of there being no label.
LABEL_NAMES: dict[State | None, str] = {
    **{State(state): name for state, name in STATE_NAMES.items()},
    None: "not mentioned",
}
# DICOM Patient's Sex (0010,0040), PS3.3 C.7.1.1, to the names in a manifest.
SEX_NAMES = {"F": "female", "M": "male", "O": "other"}


@dataclass(frozen=True)
class Concept:
    """One finding of the vocabulary.

    `verified` says of each checked code how it was checked, as "SCT:D+M RADLEX:C".
    """

    id: str
    name: str
    parent: str  # id, empty at the top
    meaning: str
    snomed: str = ""
    radlex: str = ""
    dicom: str = ""
    verified: str = ""

    def codes(self, verified_only: bool = True) -> dict[str, str]:
        """Return code by DICOM coding scheme designator (SCT, RADLEX, DCM).

        Only verified codes may be written to an output.
        """
        given = {"SCT": self.snomed, "RADLEX": self.radlex, "DCM": self.dicom}
        checked = {how.partition(":")[0] for how in self.verified.split()}
        return {
            scheme: code
            for scheme, code in given.items()
            if code and (scheme in checked or not verified_only)
        }


@cache
def concepts() -> dict[str, Concept]:
    """Return all shipped concepts by id, in the order of the file."""
    text = resources.files("hilum").joinpath("resources/vocabulary.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {row["concept"]: Concept(row.pop("concept"), **row) for row in rows}


def name_of(concept: str) -> str:
    """Return the display name of a concept id, also of a local one."""
    known = concepts().get(concept)
    return known.name if known else concept.removeprefix(LOCAL).replace("-", " ")


def concept_for(word: str) -> str:
    """Return the concept that a user's own word names.

    A shipped id or name, compared without case and separators, else a local concept.
    """
    slug = _slug(word)
    return _by_slug().get(slug, LOCAL + slug)


@cache
def _by_slug() -> dict[str, str]:
    """Return the concept by its id and its name; of equal names the first concept's counts."""
    found: dict[str, str] = {}
    for concept in concepts().values():
        for word in (concept.id, concept.name):
            found.setdefault(_slug(word), concept.id)
    return found


def ancestors(concept: str) -> tuple[str, ...]:
    """Return all wider concepts, nearest first; none for a local concept.

    Raises `NotFound` with the nearest name.
    """
    if concept.startswith(LOCAL):
        return ()
    _check(concept)
    found: list[str] = []
    while parent := concepts()[found[-1] if found else concept].parent:
        found.append(parent)
    return tuple(found)


def state_key(concept: str, state: int) -> str:
    """Return the key of a concept in a state in a step's summary: "pleural-effusion absent"."""
    return f"{concept} {STATE_NAMES[state]}"


def split_state_key(key: str) -> tuple[str, str]:
    """Return the concept and the name of the state of a key that `state_key` made."""
    concept, _, state = key.rpartition(" ")
    return concept, state


def _check(concept: str) -> None:
    if concept not in concepts():
        raise NotFound.named("concept", concept, concepts())


def _slug(word: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")
