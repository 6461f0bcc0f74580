"""Codes of DICOM PS3.16 and of the vocabulary; none leaves that was not verified.

A finding's code is one of `resources/vocabulary.csv` whose column `verified` says how its meaning
was compared: first those that stand in DICOM itself (D), then SNOMED CT, then RadLex. A finding
without one is written in words. The others here stand in PS3.16, in the copy that pydicom carries.
"""

from __future__ import annotations

from typing import NamedTuple

from hilum.annotations.vocabulary import concepts, name_of

SCHEMES = ("DCM", "SCT", "RADLEX")  # in the order of preference
OF_DICOM = "D"  # in column `verified`: stands in DICOM PS3.16


class Coded(NamedTuple):
    """A code with its scheme and its meaning, in the order of pydicom's `Code`."""

    value: str
    scheme: str
    meaning: str


LUNG = Coded("39607008", "SCT", "Lung")
RIGHT, LEFT = Coded("24028007", "SCT", "Right"), Coded("7771000", "SCT", "Left")
ANATOMY = Coded("91723000", "SCT", "Anatomical Structure")
RADIOGRAPHY = Coded("168537006", "SCT", "Plain radiography")
FINDING, COMMENT = Coded("121071", "DCM", "Finding"), Coded("121106", "DCM", "Comment")
PRESENCE = Coded("121052", "DCM", "Presence of property")
PRESENT = Coded("52101004", "SCT", "Present")  # of CID 240, as the next two
ABSENT = Coded("272519000", "SCT", "Absent")
UNDETERMINED = Coded("373068000", "SCT", "Undetermined")
SCORE = Coded("246262008", "SCT", "Score")
CERTAINTY = Coded("111012", "DCM", "Certainty of Finding")
NO_UNITS, PERCENT = Coded("1", "UCUM", "no units"), Coded("%", "UCUM", "Percent")
AREA, SQUARE_MM = Coded("42798000", "SCT", "Area"), Coded("mm2", "UCUM", "square millimeter")
ARTIFICIAL_INTELLIGENCE = Coded("123110", "DCM", "Artificial Intelligence")


def finding_name(concept: str) -> str:
    """Return the name of a concept for people; also of a local one, and of "anomaly"."""
    name = name_of(concept)
    return name[:1].upper() + name[1:]


def of_concept(concept: str) -> Coded | None:
    """Return the verified code of a concept; None where it has none, as a local concept."""
    known = concepts().get(concept)
    if known is None:
        return None
    of_dicom = {how.partition(":")[0] for how in known.verified.split() if _of_dicom(how)}
    given = known.codes(verified_only=True)
    order = sorted(given, key=lambda scheme: (scheme not in of_dicom, SCHEMES.index(scheme)))
    return Coded(given[order[0]], order[0], known.name) if order else None


def _of_dicom(how: str) -> bool:
    return OF_DICOM in how.partition(":")[2].split("+")
