"""The journal of a job: which items are finished, with their results, and which shards run.

One SQLite file, opened by the process that hands out the shards and by no other. Its tables:

    job       made_from: what results depend on besides their items
    shards    number, names (JSON), state (of STATES), owner, lease (seconds since 1970 until which
              the owner has it), tries, digest (of the results)
    items     name (JSON), made_from (digest of the item), result, fault, poisoned, digest, of
              finished items

The results of a shard and its new state are one transaction, so a kill leaves either both or
neither. Rows of `shards` that are not done when the file is opened are of a process that was
killed; their items are simply not finished. A file that SQLite cannot read, or of another job or
version of Hilum, is replaced, and a result with another digest than its own counts as missing: the
journal saves work, and what it lost is done again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from hilum import storage
from hilum.errors import CannotWrite, Damaged, HilumError, refused
from hilum.scale.worker import Outcome
from hilum.storage import database as sqlite
from hilum.storage.database import IN_MEMORY, Fault

STATES = ("running", "done", "lost")
_TABLES = """
CREATE TABLE IF NOT EXISTS job (made_from TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS shards (number INTEGER PRIMARY KEY, names TEXT NOT NULL,
  state TEXT NOT NULL, owner TEXT NOT NULL, lease REAL NOT NULL, tries INTEGER NOT NULL,
  digest TEXT);
CREATE TABLE IF NOT EXISTS items (name TEXT PRIMARY KEY, made_from TEXT NOT NULL,
  result BLOB NOT NULL, fault TEXT NOT NULL, poisoned INTEGER NOT NULL, digest TEXT NOT NULL);
"""
# One process alone, so that no shared memory is needed, which network disks lack. A commit is not
# flushed: a power cut may take the last of them, never the file.
_PRAGMAS = {"locking_mode": "EXCLUSIVE", "journal_mode": "WAL", "synchronous": "NORMAL"}
_FINISHED = "SELECT result, fault, poisoned, digest FROM items"
_AT_HAND = 1 << 24  # bytes of results that wait to be taken; others are read again


class Journal:
    """An open journal; see `opened`."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._at_hand: dict[str, Outcome] = {}  # committed and not yet taken
        self._bytes_at_hand = 0

    def is_empty(self) -> bool:
        """Return whether no item is finished."""
        return self._database.execute("SELECT 1 FROM items LIMIT 1").fetchone() is None

    def find(self, name: str, item: Any) -> Outcome | None:
        """Return the outcome of an item; None where it is not finished, or was another then.

        A poisoned item counts as not finished.
        """
        rows = self._database.execute(
            f"{_FINISHED} WHERE name = ? AND made_from = ? AND NOT poisoned",
            (_key(name), _made_from(item)),
        )
        return next(map(_sound, rows), None)

    def outcome(self, name: str) -> Outcome:
        """Return the outcome of an item that was committed, by this process or before."""
        if (at_hand := self._at_hand.pop(name, None)) is not None:
            self._bytes_at_hand -= len(at_hand.result)
            return at_hand
        found = _sound(
            self._database.execute(f"{_FINISHED} WHERE name = ?", (_key(name),)).fetchone()
        )
        if found is None:
            raise HilumError(f"the journal lost the result of {name}; run the same command again")
        return found

    def results(self) -> Iterator[bytes]:
        """Yield the results of all finished items, without those at fault, in the order of names.

        Results of items that are not part of the latest call are among them.
        """
        for row in self._database.execute(f"{_FINISHED} ORDER BY name"):
            if (found := _sound(row)) is not None and not found.fault:
                yield found.result

    def begin(self, names: Sequence[str], owner: str, seconds: float, tries: int) -> int:
        """Enter a running shard, leased for some seconds; return its number."""
        values = (json.dumps(list(names)), owner, time.time() + seconds, tries)
        entered = self._database.execute(
            "INSERT INTO shards (names, state, owner, lease, tries) VALUES (?, 'running', ?, ?, ?)",
            values,
        )
        return entered.lastrowid or 0

    def lose(self, number: int) -> None:
        """Enter that the process of a running shard was ended."""
        self._database.execute("UPDATE shards SET state = 'lost' WHERE number = ?", (number,))

    def commit(
        self, number: int, items: Iterable[tuple[str, Any]], ended: Iterable[Outcome]
    ) -> None:
        """Enter the outcomes of a shard's items, each (name, item), and that it is done."""
        finished = list(zip(items, ended, strict=True))
        rows = [
            (_key(name), _made_from(item), one.result, one.fault, one.poisoned, _digest(one))
            for (name, item), one in finished
        ]
        whole = storage.digest([row[-1] for row in rows])
        with sqlite.transaction(self._database) as run:
            self._database.executemany(
                "INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?)", rows
            )
            run("UPDATE shards SET state = 'done', digest = ? WHERE number = ?", (whole, number))
        for (name, _), one in finished:
            if self._bytes_at_hand < _AT_HAND:
                self._at_hand[name] = one
                self._bytes_at_hand += len(one.result)


@contextmanager
def opened(path: Path, made_from: object = None) -> Iterator[Journal]:
    """Open the journal at `path`, empty where it is missing, unreadable or of another job.

    Raises `HilumError` where another process has it open, `CannotWrite`.
    """
    text = storage.as_json(made_from)
    try:
        database = _connected(path, text)
    except sqlite3.DatabaseError as error:
        raise _refused(path, error) from error
    except OSError as error:
        raise refused(path, error) from error
    try:
        yield Journal(database)
    except sqlite3.DatabaseError as error:
        raise _refused(path, error) from error
    finally:
        database.close()


def delete(path: Path) -> None:
    """Delete a journal, where there is one, and what SQLite keeps beside it."""
    for ending in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def _connected(path: Path, made_from: str) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        raise CannotWrite(f"{path}: a journal is a regular file; move what stands there away")
    try:
        return _prepared(path, made_from)
    except sqlite3.DatabaseError as error:
        if sqlite.fault(error) is not Fault.DAMAGED:
            raise
        delete(path)  # damaged: what it said is done again
        return _prepared(path, made_from)


def _prepared(path: Path, made_from: str) -> sqlite3.Connection:
    database = sqlite.connected(path, _PRAGMAS)
    try:
        database.executescript(_TABLES)
        _refuse_other_tables(database)
        with sqlite.transaction(database) as run:
            before = run("SELECT made_from FROM job").fetchone()
            if before != (made_from,):
                for table in ("job", "shards", "items"):
                    run(f"DELETE FROM {table}")
                run("INSERT INTO job VALUES (?)", (made_from,))
            run("DELETE FROM shards WHERE state != 'done'")
            if damage := sqlite.damage(database):  # before anything relies on it
                raise sqlite3.DatabaseError(damage)
    except BaseException:
        database.close()
        raise
    return database


def _refuse_other_tables(database: sqlite3.Connection) -> None:
    """Raise `sqlite3.DatabaseError` for a file with tables of another version of Hilum."""
    with closing(sqlite3.connect(IN_MEMORY)) as fresh:
        fresh.executescript(_TABLES)
        if sqlite.schema(database) != sqlite.schema(fresh):
            raise sqlite3.DatabaseError("other tables than those of a journal")


def _key(name: str) -> str:
    """Return a name as JSON: SQLite takes no name with bytes that are no text."""
    return json.dumps(name)


def _sound(row: tuple[bytes, str, int, str]) -> Outcome | None:
    result, fault, poisoned, digest = row
    if not (isinstance(result, bytes) and isinstance(fault, str)):
        return None
    found = Outcome(result, fault, bool(poisoned))
    return found if _digest(found) == digest else None


def _made_from(item: Any) -> str:
    return storage.digest(repr(item).encode())


def _digest(one: Outcome) -> str:
    whole = hashlib.sha256(one.result)
    whole.update(_ending(one) if one.fault or one.poisoned else _NO_FAULT)
    return whole.hexdigest()[: storage.DIGEST_CHARACTERS]


def _ending(one: Outcome) -> bytes:
    return storage.as_json([one.fault, int(one.poisoned)]).encode()


_NO_FAULT = _ending(Outcome())  # of nearly every outcome, so made once


def _refused(path: Path, error: sqlite3.DatabaseError) -> HilumError:
    kind = sqlite.fault(error)
    if kind is Fault.LOCKED:
        return HilumError(
            f"another hilum process uses {path}; wait until it ends, "
            "or choose another folder with --out"
        )
    if kind is Fault.DAMAGED:
        return Damaged(f"{path}: was damaged while it was used ({error}); run the command again")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return CannotWrite.because(path, full if kind is Fault.FULL else OSError(str(error)))
