"""Keep the words of a description that are known to describe images, and no others.

A list of what may stay is the only one that no name can slip through: PS3.15 E.3.5 leaves to the
implementation how descriptors are cleaned.
"""

from __future__ import annotations

import re
from functools import cache

from hilum.annotations import acquisition
from hilum.annotations.vocabulary import concepts
from hilum.privacy.dicom.identifiers import squeezed

_MORE = (
    "and at bed bedside bone compressed contrast cr ct digital dual dx edge energy enhanced "
    "enhancement erect exam examination exposure expiration filter for frontal grid high in "
    "inspiration inverted jpeg left lossless lossy low lung mg mobile no of only or portable "
    "post pre processed processing raw right rotated routine scaled screening series single soft "
    "standard standing study supine tissue upright view views with without"
)


def cleaned(text: str) -> str:
    """Return the known words of a text in their order; numbers and all other words go."""
    kept = [word for word in re.findall(r"[^\W\d_]+", text) if squeezed(word) in _known()]
    return " ".join(kept)


@cache
def _known() -> frozenset[str]:
    findings = (word for one in concepts().values() for word in re.findall("[a-z]+", one.name))
    return acquisition.words() | frozenset(findings) | frozenset(_MORE.split())
