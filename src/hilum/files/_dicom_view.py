"""Which view a DICOM header states: PA, AP or LATERAL.

In this order: View Position (PS3.3 C.8.1.1), View Code Sequence (C.8.11.5), Projection Eponymous
Name Code Sequence, Patient Orientation where it is a lateral's (C.7.6.1.1.1), and the words of
Series Description, Protocol Name and Acquisition Device Processing Description where these name
one view only. Words are English, German, French, Spanish, Italian or Portuguese.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_CODES = {  # PS3.16 CID 4010, in SNOMED CT and in the SNOMED RT that went before
    "272479007": "PA", "R-10214": "PA", "399348003": "AP", "R-10206": "AP",
    "399067008": "LATERAL", "R-102CD": "LATERAL",
    "399173006": "LATERAL", "R-10236": "LATERAL", "399198007": "LATERAL", "R-10232": "LATERAL",
}  # fmt: skip
_FRONTAL = "frontal"  # one of PA and AP, not said which
_WORDS = {
    **dict.fromkeys(
        ("PA", "POSTEROANTERIOR", "POSTEROANTERIEUR", "POSTEROANTERIEURE", "POSTEROANTERIORE"), "PA"
    ),
    **dict.fromkeys(("DORSOVENTRAL", "DORSOVENTRALE", "DORSOVENTRALER"), "PA"),
    **dict.fromkeys(
        ("AP", "ANTEROPOSTERIOR", "ANTEROPOSTERIEUR", "ANTEROPOSTERIEURE", "ANTEROPOSTERIORE"), "AP"
    ),
    **dict.fromkeys(("VENTRODORSAL", "VENTRODORSALE", "VENTRODORSALER"), "AP"),
    **dict.fromkeys(
        ("LAT", "LATERAL", "LATERALE", "LATERALES", "LATEROLATERAL", "LATEROLATERALE"), "LATERAL"
    ),
    **dict.fromkeys(("LLAT", "RLAT", "SEITLICH", "SEITLICHE", "SEITLICHER", "SEITL"), "LATERAL"),
    **dict.fromkeys(("SEITAUFNAHME", "SEITENAUFNAHME", "PROFIL", "PERFIL", "PROFILO"), "LATERAL"),
    **dict.fromkeys(
        ("FRONTAL", "FRONTALE", "FACE", "FRENTE", "FRONT", "FRONTALAUFNAHME"), _FRONTAL
    ),
}
_POSITIONS = {"PA": "PA", "AP": "AP", "LL": "LATERAL", "RL": "LATERAL"}  # defined terms
_DECUBITUS = re.compile(r"\b(?:DECUB\w*|LLD|RLD)\b")  # on the side, with the beam from the front
_LINKED = re.compile(
    r"\b(ANTERO|POSTERO|LATERO|DORSO|VENTRO)[- ]+(?=ANTERI|POSTERI|VENTRAL|DORSAL|LATERAL)"
)
_LETTERS = re.compile(r"\b(?:([AP])[.\- ]{0,2}[.\-/]+[.\- ]{0,2}([AP]))\b\.?")


@lru_cache(maxsize=256)  # files of one device say the same
def stated(
    position: str,
    codes: tuple[tuple[str, str], ...],
    orientation: tuple[str, str] | None,
    descriptions: tuple[tuple[str, str], ...],
) -> tuple[str | None, str | None]:
    """Return the view and the attribute that states it, or None and None.

    `codes` are (value, meaning) of View Code Sequence and Projection Eponymous Name Code Sequence,
    `descriptions` are (attribute, text).
    """
    if view := _POSITIONS.get(position.strip().upper()) or in_words(position):
        return view, "View Position"
    names = ("View Code Sequence", "Projection Eponymous Name Code Sequence")
    for (value, meaning), name in zip(codes, names, strict=True):
        if view := _CODES.get(value) or in_words(meaning):
            return view, name
    if orientation:
        letters = {part[0] for part in orientation}
        if {"A", "P"} & letters and {"H", "F"} & letters:
            return "LATERAL", "Patient Orientation"
    return next(
        ((view, name) for name, text in descriptions if (view := in_words(text))), (None, None)
    )


def in_words(text: str) -> str | None:
    """Return the one view that a text names; None where it names none or several, as one of a whole
    study does."""
    if not text:
        return None
    plain = _without_accents(text).upper().replace("_", " ")
    plain = _LINKED.sub(r"\1", _LETTERS.sub(_joined, plain))
    if _DECUBITUS.search(plain):
        plain = re.sub(r"\bLAT\w*", "", plain)
    views = {_WORDS[word] for word in re.findall(r"[A-Z]+", plain) if word in _WORDS}
    if views & {"PA", "AP"}:
        views.discard(_FRONTAL)
    return views.pop() if len(views) == 1 and _FRONTAL not in views else None


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    return "".join(
        letter
        for letter in unicodedata.normalize("NFKD", text)
        if not unicodedata.combining(letter)
    )


def _joined(found: re.Match[str]) -> str:
    """`p.a.`, `a-p` and `P/A` as words."""
    return f" {found[1]}{found[2]} " if found[1] != found[2] else found[0]
