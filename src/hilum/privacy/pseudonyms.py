"""Keyed pseudonyms: what stands in place of identifiers in everything that is made to be passed on.

A pseudonym is the start of BLAKE2b (RFC 7693) in its keyed mode over the kind and the value. With
one key a value has one pseudonym, so rows of one patient stay together; without the key nobody can
try out the numbers of a hospital until one fits, which an unkeyed digest would let them do.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path

from hilum import storage
from hilum.errors import BadData

KEY_BYTES = 32  # 256 bits: no key is found by trying
DIGITS = 12  # hexadecimal; among a million values two alike have a probability of 1 in 560
LETTERS = {
    "patient": "P",
    "study": "S",
    "image": "I",
    "mask": "M",
    "folder": "F",
    "person": "R",  # who drew or read, not who is seen
    "identifier": "U",  # a DICOM UID of whatever
}


@dataclass(frozen=True)
class Pseudonyms:
    """Pseudonyms of one key: the same kind and value always give the same one."""

    key: bytes

    @classmethod
    def forgotten(cls) -> Pseudonyms:
        """Draw a key that is kept nowhere: nobody can go back from these pseudonyms."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def kept(cls, path: Path) -> Pseudonyms:
        """Take the key in a file, which is made where it is missing, for its owner alone to read.

        Raises `BadData` where the file holds something else, `CannotRead` or `CannotWrite`.
        """
        if not path.exists():
            storage.write_private(path, storage.sealed(secrets.token_bytes(KEY_BYTES)))
        return cls.taken(path)

    @classmethod
    def taken(cls, path: Path) -> Pseudonyms:
        """Take the key in a file that exists. Raises as `kept`, `NotFound` where it is missing."""
        key = storage.read_sealed(path)
        if key is None or len(key) != KEY_BYTES:
            raise BadData(
                f"{path} holds other bytes than were written; expected the {KEY_BYTES} of a key. "
                f"Delete it to draw another, which gives everybody another pseudonym"
            )
        return cls(key)

    def of(self, kind: str, value: str) -> str:
        """Return the pseudonym of a value of one of the `LETTERS`, such as `P-4f2a91c0d3e7`."""
        said = f"{kind}\0{value}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(said, key=self.key, digest_size=DIGITS // 2).hexdigest()
        return f"{LETTERS[kind]}-{digest}"
