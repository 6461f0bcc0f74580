"""Flag DICOM headers that state burned-in text or a person's identity, without repeating either.

Source: PS3.3 C.7.6.1.1.2 (Image Type), C.7.6.1.1.6 (Burned In Annotation), C.7.6.1.1.7
(Recognizable Visual Features), C.8.6.1 (Conversion Type), C.7.1.1 (Patient Identity Removed).
"""

from __future__ import annotations

import re

from hilum.imaging.files._dicom_tags import Texts

FLAGS = BURNT_IN, RECOGNIZABLE, CAPTURE, IDENTITY = (
    "burnt in",
    "recognizable",
    "capture",
    "identity",
)
_SECONDARY_CAPTURE = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.7(\.[1-4])?")
# Workstation, drawing, scanned document, digitized video.
_FROM_SCREEN_OR_PAPER = ("WSD", "DRW", "SD", "DV")
_NOBODY = frozenset(
    (  # what anonymisation and tests leave in place of a name
        "ANON",
        "ANONYM",
        "ANONYMOUS",
        "ANONYMIZED",
        "ANONYMISED",
        "CASE",
        "DEIDENTIFIED",
        "DOE",
        "EXAMPLE",
        "NAME",
        "NOBODY",
        "NONE",
        "PATIENT",
        "PHANTOM",
        "REMOVED",
        "SUBJECT",
        "TEST",
        "UNKNOWN",
    )
)
_LONG_NUMBER = re.compile(r"\d{5,}")


def flags(texts: Texts) -> tuple[str, ...]:
    """Return the flags that the header raises, in the order of `FLAGS`.

    They hold no name and no number of the patient.
    """
    by_class = _SECONDARY_CAPTURE.fullmatch(_word(texts, 0x00080016))
    by_type = _word(texts, 0x00080008).split("\\")[:2] == ["DERIVED", "SECONDARY"]
    captured = by_class or by_type or _word(texts, 0x00080064) in _FROM_SCREEN_OR_PAPER
    kept = _word(texts, 0x00120062) == "NO" and _names_a_person(texts)
    holds = (_word(texts, 0x00280301) == "YES", _word(texts, 0x00280302) == "YES", captured, kept)
    return tuple(word for word, is_so in zip(FLAGS, holds, strict=True) if is_so)


def _names_a_person(texts: Texts) -> bool:
    """Return whether the patient has a name, or an ID that is a name or a long number."""
    name, number = _word(texts, 0x00100010), _word(texts, 0x00100020)
    return _of_a_person(name) or _of_a_person(number) or _LONG_NUMBER.fullmatch(number) is not None


def _word(texts: Texts, tag: int) -> str:
    return texts.get(tag, "").upper()


def _of_a_person(text: str) -> bool:
    """Return whether text has two parts of letters only, and none is in `_NOBODY`."""
    parts = [part for part in re.split(r"[\^=,. _-]+", text) if part]
    return (
        not _NOBODY & set(parts)
        and not re.search(r"\d", text)
        and sum(len(part) >= 2 and part.isalpha() for part in parts) >= 2
    )
