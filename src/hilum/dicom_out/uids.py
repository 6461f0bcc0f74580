"""UIDs that follow from the source image and the models, so that a repeat gives the same.

They are UUID-derived (PS3.5 B.2): 2.25 and a UUID of version 8 (RFC 9562 5.8) as a decimal number,
here of a SHA-256 digest.
"""

from __future__ import annotations

import hashlib
import json

ROOT = "2.25."
_VERSION, _VARIANT = 8 << 76, 2 << 62  # bits of a UUID
_CLEAR = ~(0xF << 76 | 3 << 62) & (1 << 128) - 1


def derived(*parts: str) -> str:
    """Return the UID of an ordered list of texts, of at most 44 characters."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    number = int.from_bytes(digest[:16], "big")
    return f"{ROOT}{number & _CLEAR | _VERSION | _VARIANT}"
