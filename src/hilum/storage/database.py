"""Open SQLite files, change them whole or not at all, and tell what their errors mean.

Each journal of Hilum is one such file with tables of its own; how durable it is and what its
damage means for the user is said where it is kept.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path

from hilum.errors import BadData

IN_MEMORY = ":memory:"
_PRIMARY = 0xFF  # of an error's code; the rest says which call failed
_SCHEMA = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL"


class Fault(Enum):
    """What an error of SQLite is about: the other processes, the disk, or the file itself."""

    LOCKED = auto()
    FULL = auto()
    DISK = auto()
    REFUSED = auto()
    DAMAGED = auto()


_FAULTS = {
    sqlite3.SQLITE_BUSY: Fault.LOCKED,
    sqlite3.SQLITE_LOCKED: Fault.LOCKED,
    sqlite3.SQLITE_PROTOCOL: Fault.LOCKED,
    sqlite3.SQLITE_FULL: Fault.FULL,
    sqlite3.SQLITE_IOERR: Fault.DISK,
    sqlite3.SQLITE_NOMEM: Fault.DISK,  # passes too, and says nothing against the file
    sqlite3.SQLITE_READONLY: Fault.REFUSED,
    sqlite3.SQLITE_CANTOPEN: Fault.REFUSED,
    sqlite3.SQLITE_PERM: Fault.REFUSED,
    sqlite3.SQLITE_AUTH: Fault.REFUSED,
}


def connected(
    place: Path | str,
    pragmas: Mapping[str, str],
    *,
    create: bool = True,
    patience_seconds: float = 0.0,
) -> sqlite3.Connection:
    """Open a file, or `IN_MEMORY`, with settings of SQLite; threads may share the connection.

    Statements outside of a `transaction` are on the disk at once. A lock of another process is
    waited for `patience_seconds`. Without `create` the file exists; one that may only be read is
    opened so. Raises `sqlite3.Error`.
    """
    name = str(place)
    if isinstance(place, Path):
        name = f"{place.resolve().as_uri()}?mode={'rwc' if create else 'rw'}"
    connection = sqlite3.connect(
        name, patience_seconds, isolation_level=None, check_same_thread=False, uri=True
    )
    try:
        for pragma, value in pragmas.items():
            connection.execute(f"PRAGMA {pragma} = {value}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[Callable[..., sqlite3.Cursor]]:
    """Give a function that executes statements: all of them or none, held against all writers."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection.execute
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has rolled back already
            connection.execute("ROLLBACK")
        raise


def header(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return which program and which version of its format a file states; 0 where neither."""
    found = [
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("application_id", "user_version")
    ]
    return found[0], found[1]


def schema(connection: sqlite3.Connection) -> set[tuple[str, str, str]]:
    """Return kind, name and statement of all tables, indices, views and triggers."""
    return {*connection.execute(_SCHEMA)}


def refuse_other_format(path: Path, stated: int, expected: int) -> None:
    """Raise `BadData` for a file that another version of Hilum wrote."""
    if stated != expected:
        raise BadData(
            f"{path}: is of format {stated}, and this Hilum reads {expected}; use the Hilum that "
            "wrote it"
        )


def damage(connection: sqlite3.Connection) -> str:
    """Return the first damaged page that SQLite finds; "" where there is none."""
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return "" if found == "ok" else found


def fault(error: sqlite3.Error) -> Fault:
    """Return what an error is about, by its code; SQLite's words are for people."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return _FAULTS.get(code & _PRIMARY, Fault.DAMAGED)
