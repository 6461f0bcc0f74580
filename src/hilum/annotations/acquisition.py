"""Normalise what a header, a table or a file name states of how an image was acquired.

    view         PA, AP, FRONTAL (PA or AP, which is not stated), LATERAL, OBLIQUE, DECUBITUS (lying
                 on one side) or LORDOTIC
    body part    a defined term of DICOM Body Part Examined (PS3.16 Annex L), such as CHEST, HAND,
                 ABDOMEN; a word that is not recognised as it is stated, in upper case
    modality     a defined term of DICOM Modality (PS3.3 C.7.3.1.1.1), such as CR, DX, CT; XR:
                 radiography of which the kind is not stated; a word that is not recognised as it is
                 stated, in upper case
    laterality   R, L, B (both) or U (unpaired), as DICOM Laterality and Image Laterality

None stands for "not stated", for words that state nothing ("unknown", "n/a"), and for a view or
laterality that is not recognised or contradicts itself. Case, accents, punctuation and underscores
do not matter. `resources/acquisition_terms.csv` has words of English, German, French, Spanish and
Italian, a row a meaning: kind, value, words (alternatives separated by |). The longest run of whole
words wins: "thoracic spine" is no chest.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib import resources

TERMS = "resources/acquisition_terms.csv"
VIEWS = ("PA", "AP", "FRONTAL", "LATERAL", "OBLIQUE", "DECUBITUS", "LORDOTIC")
FRONTAL_VIEWS = ("PA", "AP", "FRONTAL")
LATERALITIES = ("R", "L", "B", "U")
# Only one person is known to have grown older (122 years); beyond it are errors of entry, and
# placeholders such as 999.
OLDEST_YEARS = 120
# Kinds of words that count where a field states the view, and in free text. Those for a supine or
# prone patient say "frontal" where no view is named.
LYING = "lying"
FIELD = ("view", "view code", "view field", LYING)
DESCRIPTION = ("view", "view code", LYING)
LONGEST = 3  # words of the longest term
BESIDE = {"view", "views", "projection", "image", "images", "img", "xray", "cxr", "chest", "thorax"}
MANY = 4096  # texts that are remembered: a hundred thousand headers hold a few different ones
Terms = Mapping[tuple[str, ...], tuple[str, str]]


@lru_cache(MANY)
def view_of(*texts: str | None) -> str | None:
    """Return the view that fields such as View Position or a column of a table state together.

    Several fields may share the work, as "Frontal" and "AP" do in CheXpert.
    """
    words = _words(" ".join(text for text in texts if text))
    letter = _terms(("view letter",)).get(tuple(words))
    return letter[1] if letter else _view(_found(words, _terms(FIELD)))


@lru_cache(MANY)
def view_in_description(text: str | None) -> str | None:
    """Return the one view that free text names; None where it names none or several.

    The description of a whole study ("chest PA and lateral") names several.
    """
    return _view(_found(_words(text or ""), _terms(DESCRIPTION)))


def view_in_path(path: str) -> str | None:
    """Return the view that the name of a file or of its folders spells out: `p1/view2_lateral.jpg`.

    Abbreviations such as PA, AP and LL do not count: in names they are as often initials.
    A folder counts only where its whole name is of views.
    """
    *folders, name = path.replace("\\", "/").split("/")
    names = [name, *filter(_names_views_alone, folders)]
    terms = _terms(("view",))
    return _view([one for name in names for one in _found(_words(name), terms)])


@lru_cache(MANY)
def body_part_of(text: str | None) -> str | None:
    """Return the body part that a field states; of several named the chest, else the first."""
    values = [value for _, value in _found(_words(text or ""), _terms(("body part",)))]
    return _first_or_stated(sorted(values, key=lambda value: not shows_chest(value)), text)


@lru_cache(MANY)
def modality_of(text: str | None) -> str | None:
    """Return the modality that a field states."""
    values = [value for _, value in _found(_words(text or ""), _terms(("modality",)))]
    return _first_or_stated(values, text)


def in_header(
    body_part: str | None, modality: str | None, laterality: str | None
) -> dict[str, str | None]:
    """Return these fields of a DICOM header by the names that they have in a manifest."""
    return {
        "body_part": body_part_of(body_part),
        "modality": modality_of(modality),
        "laterality": laterality_of(laterality),
    }


@lru_cache(MANY)
def laterality_of(text: str | None) -> str | None:
    """Return the side that a field states; both where it names right and left."""
    values = {value for _, value in _found(_words(text or ""), _terms(("laterality",)))}
    if {"R", "L"} <= values:
        return "B"
    return values.pop() if len(values) == 1 else None


@cache
def body_parts() -> frozenset[str]:
    """Return all body parts that are recognised."""
    return frozenset(value for _, value in _terms(("body part",)).values())


@cache
def modalities() -> frozenset[str]:
    """Return all modalities that are recognised."""
    return frozenset(value for _, value in _terms(("modality",)).values())


@cache
def words() -> frozenset[str]:
    """Return all single words, in lower case without accents, that say how an image was made."""
    kinds = ("view", "view code", "view field", LYING, "body part", "modality", "laterality")
    return frozenset(word for term in _terms(kinds) for word in term) | BESIDE


def shows_chest(body_part: str) -> bool:
    """Say whether a body part is the chest, alone or with its neighbours (CHESTABDOMEN)."""
    return "CHEST" in body_part


def is_unstated(text: str | None) -> bool:
    """Say whether a text states nothing: empty, no letter in it, or a word such as "unknown"."""
    words = _words(text or "")
    return not words or tuple(words) in _terms(("not stated",))


def _first_or_stated(values: Sequence[str], text: str | None) -> str | None:
    if values:
        return values[0]
    return None if is_unstated(text) else " ".join((text or "").upper().split())


def _view(found: Sequence[tuple[str, str]]) -> str | None:
    """Settle on one view of all that were named."""
    named = {value for kind, value in found if kind != LYING} or {value for _, value in found}
    if "DECUBITUS" in named:  # beside a projection: "AP lateral decubitus"
        return "DECUBITUS"
    if "LATERAL" in named and named & set(FRONTAL_VIEWS):
        return None
    if {"PA", "AP"} <= named:
        named = named - {"PA", "AP"} | {"FRONTAL"}
    # Of several the most special counts: "AP lordotic", "PA frontal", "lateral oblique".
    order = ("OBLIQUE", "LORDOTIC", "LATERAL", "PA", "AP", "FRONTAL")
    return next((view for view in order if view in named), None)


@lru_cache(MANY)
def _names_views_alone(folder: str) -> bool:
    words = _words(folder)
    return bool(words) and all(word in BESIDE or (word,) in _terms(("view",)) for word in words)


def _words(text: str) -> list[str]:
    """Split into words without accents.

    Separate letters are joined ("p. a." is pa), as are prefixes ("postero-anterior").
    """
    parted = unicodedata.normalize("NFKD", text.casefold()).replace("_", " ")
    plain = parted.encode("ascii", "ignore").decode()
    plain = re.sub(r"\b([a-z])[^a-z0-9]{1,3}(?=[a-z]\b)", r"\1", plain)
    plain = re.sub(r"\b(postero|antero|dorso|ventro|latero)[^a-z0-9]+(?=[a-z])", r"\1", plain)
    return re.findall("[a-z]+", plain)


def _found(words: Sequence[str], terms: Terms) -> list[tuple[str, str]]:
    """Return kind and value of each term in the words, in their order; the longest run counts."""
    found, at = [], 0
    while at < len(words):
        runs = (tuple(words[at : at + length]) for length in range(LONGEST, 0, -1))
        run = next((run for run in runs if run in terms), None)
        if run:
            found.append(terms[run])
        at += len(run) if run else 1
    return found


@cache
def _terms(kinds: tuple[str, ...]) -> Terms:
    """Return kind and value by words."""
    text = resources.files("hilum").joinpath(TERMS).read_text(encoding="utf-8")
    return {
        tuple(words.split(" ")): (row["kind"], row["value"])
        for row in csv.DictReader(text.splitlines())
        if row["kind"] in kinds
        for words in row["words"].split("|")
    }
