"""Detect stored files that are not what was written, by digests noted when they were.

Three kinds of check, one for each way of reading:

    whole files     `digest_of` against a digest noted elsewhere; computed once for each state of a
                    file (device, inode, size and times), so that opening it again costs nothing
    sealed JSON     an object that carries the digest of its own other keys, see `sealed`
    rows            CRC-32 of each image of a flat file or line of a journal, see `checksum`

The digests detect damage: flipped bits, truncated and exchanged files. They are no signature:
whoever can write to the folder can write digests to match.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hilum import storage
from hilum.errors import BadData, HilumError, NotFound
from hilum.safety import untrusted_files
from hilum.storage import JsonObject

_SEAL = "digest"
_LARGEST = 1 << 62  # of a file that is only hashed; images of a large set have many gigabytes
_digests: dict[tuple[int, ...], str] = {}


def digest_of(path: Path) -> str:
    """Return the digest of a regular file's bytes. Raises `HilumError` where it cannot be read."""
    with untrusted_files.opened(path, limit=_LARGEST) as stream:
        found = os.fstat(stream.fileno())
        state = (
            found.st_dev,
            found.st_ino,
            found.st_size,
            found.st_mtime_ns,
            found.st_ctime_ns,
        )
        if state not in _digests:
            _digests[state] = hashlib.file_digest(stream, "sha256").hexdigest()
        return _digests[state][: storage.DIGEST_CHARACTERS]


def fault(path: Path, expected: str) -> str:
    """Say how a file differs from one with the digest `expected`; "" where it does not."""
    try:
        return "" if digest_of(path) == expected else "has other bytes than were written"
    except NotFound:
        return "is missing"
    except HilumError as error:
        return str(error).removeprefix(f"{path}: ")


def checksum(data: Any) -> int:
    """Return the CRC-32 of a buffer, such as a contiguous image."""
    return zlib.crc32(data)


def sealed(value: Mapping[str, object]) -> JsonObject:
    """Return a JSON object with the digest of all its other keys as its last one."""
    rest = {key: one for key, one in value.items() if key != _SEAL}
    rest = json.loads(json.dumps(rest))  # as it will be read: its keys text, its tuples lists
    return {**rest, _SEAL: storage.digest(rest)}


def read_sealed(path: Path) -> JsonObject:
    """Read an object that `sealed` made, without its digest.

    Raises `BadData` where it is damaged or carries no digest.
    """
    value = untrusted_files.read_json(path)
    if not isinstance(value, dict) or _SEAL not in value:
        raise BadData(f"{path}: carries no digest of itself, as files of an earlier Hilum do not")
    rest = {key: one for key, one in value.items() if key != _SEAL}
    if storage.digest(rest) != value[_SEAL]:
        raise BadData(f"{path}: has another content than was written")
    return rest
