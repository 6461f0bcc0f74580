"""Files that are whole or not there: digests, atomic replacement, Parquet and JSON.

A file is written beside its place under a hidden name and renamed into it, so a reader never sees half of one and a killed
process leaves at most a hidden file that the next writer replaces.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilum.errors import CannotWrite

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

DIGEST_CHARACTERS = 16  # 64 bits of SHA-256: names folders and tells artefacts apart; not a security measure


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; renamed onto `path` when the block ends well, removed when it does not.

    Raises `CannotWrite` in place of an `OSError` on the way.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        _settle(beside)
        os.replace(beside, path)
    except BaseException as error:
        with suppress(OSError):  # the first error is the one to tell
            beside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise CannotWrite.because(path, error) from error
        raise


def _settle(path: Path) -> None:
    """Force the bytes to the disk before the rename, so that a power cut cannot leave a renamed but empty file."""
    with open(path, "rb+") as stream:
        os.fsync(stream.fileno())


def write_bytes(path: Path, data: bytes) -> None:
    with replacing(path) as beside:
        beside.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def map_pictures(path: Path, size: int) -> np.ndarray:
    """uint8 (n, size, size), read-only, of a file of bare pictures; read from the disk as it is used."""
    import numpy as np

    if not path.stat().st_size:
        return np.zeros((0, size, size), np.uint8)
    return np.memmap(path, np.uint8, "r").reshape(-1, size, size)


def as_json(value: object) -> str:
    """JSON on one line with its keys sorted, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def write_json(path: Path, value: object) -> None:
    """JSON for people to read too: indented, its keys in the order they were given."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_table(path: Path, table: pl.DataFrame) -> None:
    # Through memory, so that a full disk is an OSError of ours and not an error of the Parquet writer's own kind.
    stream = io.BytesIO()
    table.write_parquet(stream, compression="zstd")
    write_bytes(path, stream.getvalue())


def read_table(path: Path) -> pl.DataFrame:
    import polars as pl

    return pl.read_parquet(path, glob=False)  # a folder may be called "run[1]"


def digest(value: object) -> str:
    """The digest of anything JSON can say (keys sorted), or of bytes."""
    data = value if isinstance(value, bytes) else as_json(value).encode()
    return hashlib.sha256(data).hexdigest()[:DIGEST_CHARACTERS]


def digest_of_file(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:DIGEST_CHARACTERS]


def digest_of_table(table: pl.DataFrame) -> str:
    """The digest of a table's names, types and cells in their order; independent of Parquet's encoding and version."""
    schema = {name: str(kind) for name, kind in table.schema.items()}
    found = hashlib.sha256(digest(schema).encode())
    for rows in table.iter_slices(100_000):  # the text of a large table whole would be many times the table
        found.update(rows.write_csv(include_header=False, quote_style="non_numeric").encode())
    return found.hexdigest()[:DIGEST_CHARACTERS]
