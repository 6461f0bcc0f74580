"""Derive the view that a DICOM header states, one of `hilum.annotations.acquisition.VIEWS`.

The attributes are tried in this order: View Position (PS3.3 C.8.1.1), View Code Sequence
(C.8.11.5), Projection Eponymous Name Code Sequence, Patient Orientation where it is lateral
(C.7.6.1.1.1), and Series Description, Protocol Name and Acquisition Device Processing Description
where these name one view only; `hilum.annotations.acquisition` has the terms.
"""

from __future__ import annotations

from functools import lru_cache

from hilum.annotations import acquisition

_CODES = {  # PS3.16 CID 4010, in SNOMED CT and in its predecessor SNOMED RT
    "272479007": "PA",
    "R-10214": "PA",
    "399348003": "AP",
    "R-10206": "AP",
    "399067008": "LATERAL",
    "R-102CD": "LATERAL",
    "399173006": "LATERAL",
    "R-10236": "LATERAL",
    "399198007": "LATERAL",
    "R-10232": "LATERAL",
}


@lru_cache(maxsize=256)  # files of one device repeat the same values
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
    if view := acquisition.view_of(position):
        return view, "View Position"
    names = ("View Code Sequence", "Projection Eponymous Name Code Sequence")
    for (value, meaning), name in zip(codes, names, strict=True):
        if view := _CODES.get(value) or acquisition.view_in_description(meaning):
            return view, name
    if orientation:
        letters = {part[0] for part in orientation}
        if {"A", "P"} & letters and {"H", "F"} & letters:
            return "LATERAL", "Patient Orientation"
    return next(
        (
            (view, name)
            for name, text in descriptions
            if (view := acquisition.view_in_description(text))
        ),
        (None, None),
    )
