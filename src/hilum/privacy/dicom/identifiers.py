"""Gather what identifies somebody in a data set, before anything is removed from it.

Names are those of all persons (patient, physicians, operators), numbers those that the profile
removes, UIDs all that are not registered ones, dates all. Each kind is compared in its own way:

    parts     words of names and whole identifiers, squeezed: without case, accents, separators
    short     words too short for that: compared as whole words of texts only
    uids      as they are
    dates     eight digits
    spellings as they stand in the file, to be searched in every encoding

What descriptions and private elements hold is searched for as a whole where it is long enough to
identify something; their single words ("chest", "portable") are not.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from hilum.privacy.dicom.profile import Action

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

# Squeezed characters from which an identifier is searched within other words: of letters alone,
# more, because short names are parts of common words ("Allen" of "challenge").
_LONG, _LONG_OF_LETTERS = 5, 7
_UNLIKELY = 8  # digits from which a number is no other file's version, count or time by chance
_TELLING = 12  # squeezed characters from which a whole description is searched
_SHORTEST = 2
_TEXT = frozenset(("SH", "LO", "ST", "LT", "UT", "UC", "AE", "UR"))
_DESCRIPTIVE = re.compile(
    "Description|Comment|Protocol|Label|Reason|History|Status|Method|Narrative|Notes|TextValue|"
    "Agent|Preference|Language|Diagnos|Software|Station|Department|Arrangements|Version|Service|"
    "Value$|Text$|Needs|Alert|Make$|Model|Specification"
)
_TITLES = "dr md mr mrs ms miss prof phd jr sr"
_PLACEHOLDERS = "anonymous anonymized anonymised removed unknown none nobody patient test phantom"
_NOBODY = frozenset((*_TITLES.split(), *_PLACEHOLDERS.split()))
_IDENTIFYING_WORD = re.compile(r"[^\s,;]*\d[^\s,;]{4,}|[^\s,;@]+@[^\s,;]+")
_MEASURED = re.compile(r"[\d.+\-eE\\*]*\.[\d.+\-eE\\*]*")
_VARIED = 3  # characters from which a number is none of zeros or nines
_PRINTABLE = re.compile(rb"[\x20-\x7e\x80-\xff]{4,}")


@dataclass
class Identifiers:
    """The identifiers of one file, in the forms in which they are searched for."""

    parts: set[str] = field(default_factory=set)
    short: set[str] = field(default_factory=set)
    uids: set[str] = field(default_factory=set)
    dates: set[str] = field(default_factory=set)
    spellings: set[str] = field(default_factory=set)
    whole: set[str] = field(default_factory=set)  # full names and numbers, of the person

    def add_name(self, value: str) -> None:
        """Add the groups and components of a person's name (PS3.5 6.2.1)."""
        for group in value.split("="):
            words = [word for word in re.split(r"[\^\s,.\-]+", group) if word]
            words = [word for word in words if squeezed(word) not in _NOBODY]
            for word in words:
                self._add(word)
            if len(words) > 1:
                joined = [squeezed(word) for word in words]
                self._add_whole("".join(joined))
                self._add_whole("".join(reversed(joined)))

    def add_number(self, value: str) -> None:
        """Add an identifier such as a Patient ID, an accession number, an address."""
        value = value.strip(" \0")
        if squeezed(value) in _NOBODY:
            return
        self._add(value)
        if any(map(str.isdigit, value)):
            self._add_whole(squeezed(value))

    def add_text(self, value: str) -> None:
        """Add a description as a whole, and the words in it that may be numbers of somebody."""
        if len(squeezed(value)) >= _TELLING and len(value.split()) > 1:
            self.parts.add(squeezed(value))
            self.spellings.add(value.strip())
        for word in _IDENTIFYING_WORD.findall(value):
            if not (_MEASURED.fullmatch(word) or registered(word) or len(set(word)) < _VARIED):
                self._add(word)

    def _add(self, value: str) -> None:
        form = squeezed(value)
        long = _LONG_OF_LETTERS if form.isalpha() and form.isascii() else _LONG
        if len(form) >= long or (len(form) >= _SHORTEST and not form.isascii()):
            self.parts.add(form)
            self.spellings.add(value)
        elif len(form) >= _SHORTEST:
            self.short.add(form)

    def _add_whole(self, form: str) -> None:
        if len(form) > _LONG:
            self.parts.add(form)
            if not form.isdigit() or len(form) >= _UNLIKELY:
                self.whole.add(form)

    def within(self, text: str, *, coded: bool = False) -> bool:
        """Return whether a text holds one of the names, numbers or dates.

        In a `coded` one, a term of an enumeration, short names are not sought: Lin is one, and LIN
        is how pixels follow the dose.
        """
        form = squeezed(text)
        if any(holds(form, part) for part in self.parts):
            return True
        if any(one in form for day in self.dates for one in _orders(day)):
            return True
        return bool(self.short and not coded and self.short & words_of(text))


@lru_cache(maxsize=4096)
def _orders(day: str) -> tuple[str, ...]:
    """Return a date as it is written in texts: year, month or day first."""
    year, month, number = day[:4], day[4:6], day[6:8]
    return (day, number + month + year, month + number + year) if len(day) == 8 else ()


def holds(form: str, part: str) -> bool:
    """Return whether a squeezed text holds a squeezed identifier; a number only as a whole one."""
    place = form.find(part)
    if place < 0 or not (part.isdigit() and len(part) < 8):
        return place >= 0
    return bool(re.search(rf"(?<!\d){part}(?!\d)", form))


@lru_cache(maxsize=4096)
def squeezed(text: str) -> str:
    """Return text without case, accents, widths and separators: letters and digits."""
    if text.isascii():
        return "".join(filter(str.isalnum, text.lower()))
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(filter(str.isalnum, plain))


def words_of(text: str) -> set[str]:
    """Return the squeezed words of a text."""
    return {squeezed(word) for word in re.findall(r"[^\W_]+", text)}


def gathered(dataset: Dataset, actions: Mapping[int, Action]) -> Identifiers:
    """Return the identifiers of a data set, of its sequences and of its file meta information."""
    found = Identifiers()
    for element in _elements(dataset):
        _gather(element, actions, found)
    meta = getattr(dataset, "file_meta", None)
    for element in _elements(meta) if meta is not None else ():
        if element.VR == "AE":
            found.add_number(str(element.value))
    return found


def _elements(dataset: Dataset) -> Iterator[DataElement]:
    for element in dataset:
        yield element
        for item in element.value if element.VR == "SQ" else ():
            yield from _elements(item)


def _gather(element: DataElement, actions: Mapping[int, Action], found: Identifiers) -> None:
    tag, vr = int(element.tag), element.VR
    private = bool((tag >> 16) & 1)
    for value in _values(element):
        if vr == "PN":
            found.add_name(value)
        elif vr == "UI":
            if not registered(value):
                found.uids.add(value)
        elif vr in ("DA", "DT"):
            found.dates.add(value.replace(".", "")[:8])
        elif private and vr not in ("SQ", "DS", "IS", "CS", "TM", "AS"):
            found.add_text(value)
        elif vr in _TEXT and actions.get(tag, Action.KEEP) not in (Action.KEEP, Action.CLEAN):
            named = element.keyword or ""
            (found.add_text if _DESCRIPTIVE.search(named) else found.add_number)(value)
        elif vr in ("LT", "ST", "UT"):
            found.add_text(value)


def _values(element: DataElement) -> Iterable[str]:
    value = element.value
    if value is None or element.VR == "SQ":
        return ()
    if isinstance(value, bytes):
        if not (int(element.tag) >> 16) & 1 or len(value) > 65536:
            return ()
        return (run.decode("latin-1") for run in _PRINTABLE.findall(value))
    if isinstance(value, int | float):
        return ()
    several = isinstance(value, list | tuple) or type(value).__name__ == "MultiValue"
    return [str(one).strip(" \0") for one in (value if several else (value,))]


def registered(uid: str) -> bool:
    """Return whether a UID is one of DICOM's own (PS3.6 annex A), which identifies nobody."""
    from pydicom._uid_dict import UID_dictionary  # a UID object warns of every word that is none

    return not uid or uid in UID_dictionary
