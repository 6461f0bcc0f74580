"""Patients, views and labels in the names of image files, for where nothing else states them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from hilum.annotations import acquisition
from hilum.dataset.inventory import File
from hilum.dataset.plan import lexicon, patterns
from hilum.dataset.plan.evidence import CERTAIN, LIKELY, Evidence
from hilum.dataset.plan.lexicon import FINDING, MISSING, UNUSABLE

MOSTLY = 0.8  # fraction of the names that must hold the code of a view for codes to count
_SIGNS = re.compile(r"[\W\d_]+")
_NIH = r"^(?P<patient>\d{8})_\d{3}$"
_PAIRED = re.compile(r"(?P<first>\w*?\d+)[-_. ](?P<second>[^\W_]{1,3})")


@dataclass(frozen=True)
class NamedPatients:
    """A pattern with a group `patient` that finds the patient in every name."""

    pattern: str
    why: str
    certainty: str


def patients(files: Sequence[File], evidence: Evidence) -> NamedPatients | None:
    """Find a pattern for patients that every file name follows, or None.

    Names whose first number only repeats are no proof: the pattern for them is proposed in a
    warning and not used.
    """
    stems = [file.stem for file in files]
    if not stems:
        return None
    if all(patterns.patients(_NIH, stems)):
        return NamedPatients(
            _NIH, "names are those of ChestX-ray14: patient, then number of the image", CERTAIN
        )
    words = "|".join(
        sorted(
            (word for word in lexicon.words("folders", "patient") if len(word) > 1),
            key=len,
            reverse=True,
        )
    )
    for pattern in (
        rf"(?i)(?:^|[^a-z])(?P<patient>(?:{words})[-_ ]?[0-9]+[a-z]?)(?:[^0-9a-z]|$)",
        r"(?:^|[^A-Za-z])(?P<patient>[Pp][-_ ]?[0-9]{2,})(?:[^0-9]|$)",
    ):
        found = patterns.patients(pattern, stems)
        if all(found):
            return NamedPatients(
                pattern, f"every name says the patient, as '{found[0]}' in '{stems[0]}'", LIKELY
            )
    _offer(stems, evidence)
    return None


def _offer(stems: Sequence[str], evidence: Evidence) -> None:
    """Propose a pattern in a warning where the first part of names repeats as patients do."""
    found = [match for stem in stems if (match := _PAIRED.fullmatch(stem))]
    firsts = Counter(match["first"] for match in found)
    repeated = [first for first, often in firsts.items() if often > 1]
    if len(stems) == len(found) and len(repeated) * 2 > len(firsts) > 1:
        example = next(match for match in found if match["first"] == repeated[0])
        reason = (
            f"names such as '{example[0]}' repeat '{example['first']}': if that is the patient, "
            "add to hilum.toml: patient_pattern = '^(?P<patient>[^/]*?[0-9]+)[-_. ][^/]*$'"
        )
        evidence.set_aside("cell", [example[0]], reason, "warning")


def found_by(pattern: str, files: Sequence[File]) -> dict[str, str]:
    """Return the patient by path, as a pattern finds it in path, else name, else stem."""
    places = ([file.path, file.path.rpartition("/")[2], file.stem] for file in files)
    found = iter(patterns.patients(pattern, [place for three in places for place in three]))
    return {
        file.path: patient
        for file in files
        if (patient := next(filter(None, [next(found), next(found), next(found)]), None))
    }


def views(files: Sequence[File]) -> dict[str, str]:
    """Return the view by path where names spell it out ("view1_frontal").

    Codes ("P012_S1_PA") count only where most names have one.
    """
    found = {file.path: view for file in files if (view := acquisition.view_in_path(file.path))}
    coded = {file.path: view for file in files if (view := _coded(file.stem))}
    return {**coded, **found} if len(coded) >= MOSTLY * len(files) else found


def _coded(stem: str) -> str | None:
    """Return the view whose code (PA, AP, LL, LAT …) a name contains; None for none or several."""
    parts = [part for part in _SIGNS.split(stem) if len(part) in (2, 3)]
    said = {view for part in parts if (view := acquisition.view_of(part))}
    return said.pop() if len(said) == 1 else None


def labels(files: Sequence[File]) -> dict[str, str]:
    """Return the word of a label by path where every name begins with one: "COVID-1", "normal_002".

    Empty where the words have one meaning only.
    """
    found = {}
    for file in files:
        if not (word := _label(file.stem)):
            return {}
        found[file.path] = word
    kinds = defaultdict(int)
    for word in found.values():
        kinds[lexicon.meaning(word)] += 1
    return found if len(kinds) > 1 else {}


def _label(stem: str) -> str | None:
    """Return the longest beginning of a name that is a known label, or None."""
    head = re.match(r"[^\d]*(?:covid[-_ ]?19[-_ ]?)?", stem, re.IGNORECASE)
    parts = [part for part in re.split(r"[\W_]+", head[0] if head else "") if part]
    for last in range(len(parts), 0, -1):
        word = " ".join(parts[:last])
        meaning = lexicon.meaning(word)
        if (
            meaning
            and meaning.kind not in (MISSING, UNUSABLE)
            and not (meaning.kind == FINDING and len(word) < 2)
        ):
            return word
    return None
