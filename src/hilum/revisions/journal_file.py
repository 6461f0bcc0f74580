"""The SQLite file of a journal: made whole, opened only where it is one, its errors translated.

SQLite keeps the rows in a rollback journal rather than a write-ahead log: between writes all of it
is one file, which can be copied, and read from a folder that is read-only or on a network. Triggers
refuse changes of what was written.
"""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from hilum import storage
from hilum.errors import BadData, CannotWrite, Damaged, HilumError
from hilum.safety import untrusted_files
from hilum.storage import database
from hilum.storage.database import Fault

LARGEST = 1 << 30  # bytes of a journal: a million revisions have about half of it
FORMAT = 1
_APPLICATION = 0x48494C4D  # HILM, in the file's header
_SIGNATURE = b"SQLite format 3\0"
_PATIENCE = 30.0  # seconds that a writer waits for another process
_PRAGMAS = {"trusted_schema": "OFF", "cell_size_check": "ON", "synchronous": "EXTRA"}
_LONGEST_VALUE = 1 << 20  # bytes of a row
_TABLE = (
    "CREATE TABLE revisions (number INTEGER PRIMARY KEY, time TEXT NOT NULL, author TEXT NOT NULL, "
    "subject TEXT NOT NULL, image_id TEXT, other_image_id TEXT, before INTEGER NOT NULL, "
    "change TEXT NOT NULL, reason TEXT, was TEXT, undoes INTEGER, digest TEXT NOT NULL) STRICT"
)
_SCHEMA = (
    _TABLE,
    "CREATE UNIQUE INDEX by_subject ON revisions (subject, before)",
    "CREATE INDEX by_image ON revisions (image_id)",
    "CREATE INDEX by_other_image ON revisions (other_image_id)",
    *(
        f"CREATE TRIGGER no_{verb} BEFORE {verb} ON revisions BEGIN "
        "SELECT RAISE(ABORT, 'revisions are only appended'); END"
        for verb in ("UPDATE", "DELETE")
    ),
)


def opened(path: Path) -> sqlite3.Connection:
    """Open the file of a journal, which exists.

    Raises `Damaged` or `BadData` where it is none, `CannotWrite` where the system refuses.
    """
    # Not `untrusted_files.opened`, which refuses a file that another process writes meanwhile.
    if untrusted_files.read_head(path, len(_SIGNATURE)) != _SIGNATURE:
        raise damaged(path, "is no SQLite file")
    if (size := path.stat().st_size) > LARGEST:
        raise BadData(f"{path}: has {size:,} bytes; expected at most {LARGEST:,}")
    with translated(path):
        connection = _connected(path)
        try:
            _refuse_other(path, connection)
        except BaseException:
            connection.close()
            raise
    return connection


def _connected(path: Path) -> sqlite3.Connection:
    """Open an existing file; one that may only be read is opened so.

    For reading alone it would be refused after a kill, which leaves half a transaction to take
    back.
    """
    connection = database.connected(path, _PRAGMAS, create=False, patience_seconds=_PATIENCE)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
    return connection


def make(path: Path) -> None:
    """Make the file of an empty journal, whole or not at all; one that is there stays.

    Raises `CannotWrite`.
    """
    with (
        storage.creating(path) as beside,
        translated(path),
        closing(_connected(beside)) as connection,
        database.transaction(connection) as run,
    ):
        for statement in _SCHEMA:
            run(statement)
        run(f"PRAGMA application_id = {_APPLICATION}")
        run(f"PRAGMA user_version = {FORMAT}")


def _refuse_other(path: Path, connection: sqlite3.Connection) -> None:
    application, stated = database.header(connection)
    if application != _APPLICATION:
        raise BadData(f"{path}: is no journal of Hilum's revisions; move it elsewhere")
    database.refuse_other_format(path, stated, FORMAT)
    if {sql for _, _, sql in database.schema(connection)} != set(_SCHEMA):
        raise damaged(path, "has other tables, indices or triggers than a journal has")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise `HilumError` in place of what SQLite raises."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        kind = database.fault(error)
        if kind is Fault.LOCKED:
            raise HilumError(
                f"{path}: another process has been writing for {_PATIENCE:.0f} s; try again"
            ) from error
        if kind is not Fault.DAMAGED:
            raise CannotWrite(
                f"cannot open or write {path}: {error}; check the rights and the space on the disk"
            ) from error
        raise damaged(path, str(error)) from error
    except OverflowError as error:
        raise damaged(path, str(error)) from error
    except UnicodeDecodeError as error:  # of SQLite's own message, which quotes the damage
        raise damaged(path, "its schema is no text") from error


def damaged(path: Path, what: str) -> Damaged:
    """Return the error for damage to a journal, with what to do."""
    here = shlex.quote(str(path.parent))
    return Damaged(
        f"{path}: {what}. Restore the folder from a copy. Without one, `hilum annotations verify "
        f"{here}` names the first revision that is damaged, `hilum annotations export {here} "
        "--until NUMBER` saves those before it, and `hilum annotations import` puts them into a "
        "new journal"
    )
