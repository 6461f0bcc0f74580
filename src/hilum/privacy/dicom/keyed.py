"""Pseudonyms, UIDs and date shifts of one site's key, by HMAC-SHA-256 (RFC 2104).

With one key an identifier always gives the same result, in every file, run and year: references
between files, and studies of one patient, stay together without a table of who is who. Nobody can
go back from a result; whoever has the key can try the identifiers of a list (`reidentified`).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import stat
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from hilum.errors import BadData
from hilum.privacy.pseudonyms import Pseudonyms
from hilum.safety import untrusted_files

LONGEST_SHIFT_DAYS = 3650  # ten years: seasons and ages keep their order of magnitude
_PSEUDONYM_BYTES = 10  # 80 bits: among a million patients two alike have one chance in 2 * 10^12
_UUID_VERSION = 8  # of one's own making (RFC 9562 5.8)


@dataclass(frozen=True)
class Keyed:
    """What the key of a site makes of identifiers."""

    key: bytes

    def patient(self, identifier: str) -> str:
        """Return the Patient ID in place of one, 17 characters such as "HK4T2..."."""
        return "H" + base64.b32encode(self._of("patient", identifier)[:_PSEUDONYM_BYTES]).decode()

    def uid(self, original: str) -> str:
        """Return the UID in place of one: a UUID under 2.25 (PS3.5 B.2)."""
        number = int.from_bytes(self._of("uid", original)[:16])
        number = number & ~(0xF << 76) | _UUID_VERSION << 76
        number = number & ~(0x3 << 62) | 0x2 << 62
        return f"2.25.{uuid.UUID(int=number).int}"

    def shift_days(self, identifier: str) -> int:
        """Return by how many days a patient's dates move, all of them alike: -1 to -3650."""
        drawn = int.from_bytes(self._of("shift", identifier)[:8])
        return -1 - drawn % LONGEST_SHIFT_DAYS

    def _of(self, kind: str, value: str) -> bytes:
        said = f"{kind}\0{value}".encode("utf-8", "surrogatepass")
        return hmac.new(self.key, said, hashlib.sha256).digest()


def kept(path: Path, apart_from: Iterable[Path]) -> Keyed:
    """Take the key in a file, which is made where it is missing, for its owner alone to read.

    `apart_from` are the data: the key may be neither in them nor beside them. Raises `BadData`
    where it is, where others may read the file, or where it holds something else.
    """
    _refuse_beside(path, apart_from)
    if path.exists() and os.name == "posix":
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise BadData(
                f"{path}: others may read or change this key (mode {mode:04o}); expected 0600; "
                f"give it that with chmod 600, and think of who may have copied it"
            )
    return Keyed(Pseudonyms.kept(path).key)


def _refuse_beside(path: Path, apart_from: Iterable[Path]) -> None:
    place = Path(os.path.realpath(path))
    for one in apart_from:
        data = Path(os.path.realpath(one))
        beside = place.parent == data.parent
        if beside or place.is_relative_to(data):
            raise BadData(
                f"{path}: lies {'beside' if beside else 'in'} {one}; whoever is given the data "
                f"would have the key that identifies the patients; put it into another folder, "
                f"such as ~/keys, which is never passed on"
            )


class Reidentified(TypedDict):
    """Who a pseudonym stands for, and by how much a patient's dates were moved."""

    identifier: str
    shift_days: int


def reidentified(key: Path, pseudonyms: Iterable[str], among: Path) -> dict[str, Reidentified]:
    """Return, of the identifiers in a text file, one a line, which one each pseudonym stands for.

    Patient IDs and UIDs are tried; what is not found is left out. Without `pseudonyms` every line
    is taken for a Patient ID and has its pseudonym in the result. Raises `NotFound` where the key
    or the list is missing: a new key would find nobody.
    """
    keyed = Keyed(Pseudonyms.taken(key).key)
    wanted = set(pseudonyms)
    found: dict[str, Reidentified] = {}
    for identifier in filter(None, map(str.strip, untrusted_files.read_text(among).splitlines())):
        patient = keyed.patient(identifier)
        for made in (patient, keyed.uid(identifier)):
            if made in wanted or (not wanted and made is patient):
                found[made] = Reidentified(
                    identifier=identifier, shift_days=keyed.shift_days(identifier)
                )
    return found
