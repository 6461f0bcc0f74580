"""The journal of a node: one SQLite file that says which film is in which state.

    received    its file lies in objects/
    read        the models were applied; what they call decides in which order results are sent
    written     its results lie in results/
    sent        the destination has its results, and the node keeps no file of it
    skipped     it is none to be read: a lateral view, say; `reason` says why
    dead        it failed for good; `reason` says why, `stage` is the state that it failed in. Its
                file is kept until it is tried again or dropped

Each change is one transaction, on the disk before the next step begins (write-ahead log,
synchronous FULL). A film that is received again with other bytes has a new `version`, and what was
begun with the former one changes nothing any more. Threads share one connection.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from hilum.errors import BadData, CannotWrite
from hilum.node.busy import Busy
from hilum.storage import database
from hilum.storage.database import Fault

RECEIVED, READ, WRITTEN, SENT = ("received", "read", "written", "sent")
SKIPPED, DEAD = "skipped", "dead"
STATES = (RECEIVED, READ, WRITTEN, SENT, SKIPPED, DEAD)
PENDING = (RECEIVED, READ, WRITTEN)
FORMAT = 1
_PATIENCE = 30.0  # seconds that a writer waits for another process
_PRAGMAS = {"synchronous": "FULL", "trusted_schema": "OFF"}
_DAMAGED = "is no journal of a node, or damaged"
_REMEDY = "stop the node and move the file elsewhere; films that were received are read again"
_DEAD_ONE = "state = ? AND (? = '' OR substr(key, 1, length(?)) = ?)"
_DROPPED = "was dropped after it had failed for good"
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS films (key TEXT PRIMARY KEY, sop TEXT NOT NULL, "
    "study TEXT NOT NULL, series TEXT NOT NULL, accession TEXT NOT NULL, source TEXT NOT NULL, "
    "mark TEXT NOT NULL, digest TEXT NOT NULL, models TEXT NOT NULL, version INTEGER NOT NULL, "
    "state TEXT NOT NULL, stage TEXT NOT NULL, reason TEXT NOT NULL, attempts INTEGER NOT NULL, "
    "due REAL NOT NULL, calls TEXT NOT NULL, received REAL NOT NULL, changed REAL NOT NULL, "
    "bytes INTEGER NOT NULL) STRICT",
    "CREATE INDEX IF NOT EXISTS by_state ON films (state, due)",
    "CREATE INDEX IF NOT EXISTS by_study ON films (study)",
    "CREATE TABLE IF NOT EXISTS results (sop TEXT PRIMARY KEY, film TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS problems (part TEXT PRIMARY KEY, since REAL NOT NULL, "
    "reason TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS cursors (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS visits (source TEXT NOT NULL, study TEXT NOT NULL, "
    "objects INTEGER NOT NULL, since REAL NOT NULL, state TEXT NOT NULL, "
    "attempts INTEGER NOT NULL, due REAL NOT NULL, reason TEXT NOT NULL, "
    "PRIMARY KEY (source, study)) STRICT",
)


@dataclass(frozen=True)
class Film:
    """A row of the journal. Times are seconds since 1970.

    `mark` is by what its source distinguishes its versions, `models` the digest of those that read
    it, `due` when it may be tried next, `calls` the findings called present, separated by commas.
    """

    key: str  # SHA-256 of its SOP Instance UID
    sop: str
    study: str
    series: str
    accession: str
    source: str
    mark: str
    digest: str
    models: str
    version: int
    state: str
    stage: str
    reason: str
    attempts: int
    due: float
    calls: str
    received: float
    changed: float
    bytes: int


_COLUMNS = tuple(part.name for part in fields(Film))
_FILM = f"SELECT {', '.join(_COLUMNS)} FROM films"


class Journal:
    """The journal at a path, made where there is none. Raises `BadData` for another file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _translated(path):
            self._open = database.connected(path, _PRAGMAS, patience_seconds=_PATIENCE)
            _, stated = database.header(self._open)
            if stated:
                database.refuse_other_format(path, stated, FORMAT)
            elif database.schema(self._open):
                raise BadData(f"{path}: is the database of another program; move it elsewhere")
            path.chmod(0o600)
            # Not before: it changes the file.
            self._open.execute("PRAGMA journal_mode = WAL")
            if not stated:
                self._make()

    def _make(self) -> None:
        with self.transaction() as run:
            for statement in _SCHEMA:
                run(statement)
            run(f"PRAGMA user_version = {FORMAT}")

    def check(self) -> None:
        """Raise `BadData` where the file is damaged, as by a disk or a copy that was cut short."""
        with self._lock, _translated(self.path):
            found = database.damage(self._open)
        if found:
            raise BadData(f"{self.path}: {_DAMAGED} ({found}); {_REMEDY}")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._open.close()

    @contextmanager
    def transaction(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        """Give a function that executes statements, all of them or none."""
        with self._lock, _translated(self.path), database.transaction(self._open) as run:
            yield run

    def rows(self, query: str, *values: object) -> list[tuple]:
        """Return the rows of a query."""
        with self._lock, _translated(self.path):
            return self._open.execute(query, values).fetchall()

    # ------------------------------------------------------------------------- films

    def film(self, key: str) -> Film | None:
        """Return a film by its key; None where there is none."""
        rows = self.rows(f"{_FILM} WHERE key = ?", key)
        return Film(*rows[0]) if rows else None

    def films(self, state: str, limit: int = 1000, *, now: float | None = None) -> list[Film]:
        """Return films of a state, those received first first; with `now`, those due by then.

        A film whose last change lies after `now` is due: the clock was set back meanwhile.
        """
        due = float("inf") if now is None else now
        rows = self.rows(
            f"{_FILM} WHERE state = ? AND (due <= ? OR changed > ?) ORDER BY received LIMIT ?",
            *(state, due, due, limit),
        )
        return [Film(*row) for row in rows]

    def to_send(
        self, now: float, limit: int, source: str = "", besides: Sequence[str] = ()
    ) -> list[Film]:
        """Return films whose results are to be sent: of one source, or of all `besides` some.

        Studies with a call of present stand before all others.
        """
        urgent = "study IN (SELECT study FROM films WHERE state = 'written' AND calls != '')"
        places = ", ".join("?" * len(besides))
        of = "source = ?" if source else f"source NOT IN ({places})"
        rows = self.rows(
            f"{_FILM} WHERE state = 'written' AND (due <= ? OR changed > ?) AND {of} "
            f"ORDER BY {urgent} DESC, received LIMIT ?",
            *(now, now, *([source] if source else besides), limit),
        )
        return [Film(*row) for row in rows]

    def take_in(self, film: Film) -> int:
        """Record a film that was received or is to be skipped; return its version.

        0 where it changes nothing: its bytes are those of the film that the journal has, which was
        read by the same models or waits to be.
        """
        with self.transaction() as run:
            row = run("SELECT digest, models, version, state FROM films WHERE key = ?", (film.key,))
            digest, models, version, state = row.fetchone() or ("", "", 0, "")
            same = digest == film.digest and (state in PENDING or models == film.models)
            # What was skipped by other rules, or before it was dropped, is read now.
            if same and state != DEAD and (state == SKIPPED) == (film.state == SKIPPED):
                run(
                    "UPDATE films SET mark = ?, source = iif(source = '', ?, source) WHERE key = ?",
                    (film.mark, film.source, film.key),
                )
                return 0
            values = [
                version + 1 if name == "version" else getattr(film, name) for name in _COLUMNS
            ]
            places = ", ".join("?" * len(values))
            run(f"INSERT OR REPLACE INTO films ({', '.join(_COLUMNS)}) VALUES ({places})", values)
            return version + 1

    def advance(self, film: Film, state: str, **changes: object) -> bool:
        """Move a film to a state, with changes of other columns; its attempts begin anew.

        False, and nothing is changed, where it was received again meanwhile.
        """
        given = {"attempts": 0, "due": 0.0, "reason": "", **changes}
        return self._change(film, {**given, "state": state})

    def fail(self, film: Film, reason: str, due: float | None) -> bool:
        """Record that a film failed and is due again then; with None it is dead."""
        attempts = film.attempts + 1
        if due is None:
            return self._change(
                film,
                {"state": DEAD, "stage": film.state, "reason": reason, "attempts": attempts},
            )
        return self._change(
            film, {"state": film.state, "reason": reason, "attempts": attempts, "due": due}
        )

    def begin(self, film: Film) -> bool:
        """Count an attempt before it begins, since it could end the process."""
        return self._change(film, {"attempts": film.attempts + 1})

    def put_off(self, film: Film) -> bool:
        """Take back a `begin`: what stopped it was not the film's fault."""
        return self._change(film, {"state": film.state, "attempts": film.attempts})

    def begin_again(self) -> None:
        """Let what a process that was killed was reading be read again."""
        with self.transaction() as run:
            run("UPDATE films SET state = ? WHERE state = ?", (RECEIVED, READ))

    def _change(self, film: Film, changes: dict[str, object]) -> bool:
        changes["changed"] = time.time()
        names = ", ".join(f"{name} = ?" for name in changes)
        with self.transaction() as run:
            done = run(
                f"UPDATE films SET {names} WHERE key = ? AND version = ?",
                (*changes.values(), film.key, film.version),
            )
            return done.rowcount == 1

    def revive(self, key: str = "") -> int:
        """Return dead films to the state that they failed in: all, or one; return how many."""
        with self.transaction() as run:
            done = run(
                "UPDATE films SET state = stage, stage = '', reason = '', attempts = 0, due = 0.0, "
                f"changed = ? WHERE {_DEAD_ONE}",
                (time.time(), DEAD, key, key, key),
            )
            return done.rowcount

    def drop(self, key: str = "", before: float = float("inf")) -> int:
        """Skip dead films that failed before a time, all or one; return how many.

        The node removes their files in its next round of tidying.
        """
        with self.transaction() as run:
            done = run(
                "UPDATE films SET state = ?, stage = '', reason = ?, bytes = 0, changed = ? "
                f"WHERE changed < ? AND {_DEAD_ONE}",
                (SKIPPED, _DROPPED, time.time(), before, DEAD, key, key, key),
            )
            return done.rowcount

    def counts(self) -> dict[str, int]:
        """Return the number of films by state, all states."""
        rows = self.rows("SELECT state, count(*) FROM films GROUP BY state")
        return dict.fromkeys(STATES, 0) | dict(rows)

    def pending(self) -> tuple[int, int]:
        """Return the number of films that are not sent yet, and of the bytes of all with a file.

        Dead films keep theirs.
        """
        rows = self.rows(
            "SELECT count(*) FILTER (WHERE state != 'dead'), coalesce(sum(bytes), 0) FROM films "
            f"WHERE state IN ({', '.join('?' * len(PENDING))}, 'dead')",
            *PENDING,
        )
        return rows[0][0], rows[0][1]

    def oldest_pending(self) -> float | None:
        """Return when the film was received that has waited longest; None where none waits."""
        places = ", ".join("?" * len(PENDING))
        return self.rows(f"SELECT min(received) FROM films WHERE state IN ({places})", *PENDING)[0][
            0
        ]

    def skip_reasons(self, limit: int) -> dict[str, int]:
        """Return how many films were skipped for each reason, the most frequent first."""
        rows = self.rows(
            "SELECT reason, count(*) AS films FROM films WHERE state = ? GROUP BY reason "
            "ORDER BY films DESC, reason LIMIT ?",
            *(SKIPPED, limit),
        )
        return dict(rows)

    def knows(self, key: str, mark: str, models: str) -> bool:
        """Return whether a film of this mark needs no second visit."""
        film = self.film(key)
        if film is None or film.mark != mark:
            return False
        return film.state in (*PENDING, SKIPPED, DEAD) or film.models == models

    def forget(self, before: float) -> int:
        """Remove films that were sent or skipped before a time; return how many."""
        with self.transaction() as run:
            done = run(
                "DELETE FROM films WHERE state IN (?, ?) AND changed < ?", (SENT, SKIPPED, before)
            )
            run("DELETE FROM results WHERE film NOT IN (SELECT key FROM films)")
            run("DELETE FROM visits WHERE state IN ('done', 'dead') AND since < ?", (before,))
            return done.rowcount

    # ------------------------------------------------------------------------- results, sources

    def wrote(self, film: Film, sops: Sequence[str]) -> bool:
        """Record that a film's results are written, and their SOP Instance UIDs; see `advance`."""
        with self.transaction() as run:
            done = run(
                "UPDATE films SET state = ?, attempts = 0, due = 0.0, reason = '', changed = ? "
                "WHERE key = ? AND version = ?",
                (WRITTEN, time.time(), film.key, film.version),
            )
            for sop in sops if done.rowcount else ():
                run("INSERT OR REPLACE INTO results VALUES (?, ?)", (sop, film.key))
            return done.rowcount == 1

    def is_result(self, sop: str) -> bool:
        """Return whether a SOP Instance UID is that of an object of this node."""
        return bool(self.rows("SELECT 1 FROM results WHERE sop = ?", sop))

    def set_problem(self, part: str, since: float, reason: str) -> None:
        """Record what stops a part of the node; "" where nothing does any more."""
        with self.transaction() as run:
            run("DELETE FROM problems WHERE part = ?", (part,))
            if reason:
                run("INSERT INTO problems VALUES (?, ?, ?)", (part, since, reason))

    def problems(self) -> list[tuple[str, float, str]]:
        """Return the parts that something stops: since when, and what."""
        return self.rows("SELECT part, since, reason FROM problems ORDER BY part")

    def recent(self, since: float, limit: int) -> list[Film]:
        """Return the films received since a time, urgent ones first, then those received last."""
        rows = self.rows(
            f"{_FILM} WHERE state IN ('read', 'written', 'sent') AND received >= ? "
            "ORDER BY calls != '' DESC, received DESC LIMIT ?",
            since,
            limit,
        )
        return [Film(*row) for row in rows]

    def cursor(self, name: str) -> str:
        """Return where the polling of a source has come to; "" where it has not begun."""
        rows = self.rows("SELECT value FROM cursors WHERE name = ?", name)
        return rows[0][0] if rows else ""


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Raise `Busy` for what may pass, `CannotWrite` for want of rights, else `BadData`."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        kind = database.fault(error)
        if kind in (Fault.FULL, Fault.LOCKED, Fault.DISK):
            raise Busy(f"{path}: {error}; the node waits and tries again") from error
        if kind is Fault.REFUSED:
            raise CannotWrite(f"{path}: {error}; check the folder and its rights") from error
        raise BadData(f"{path}: {_DAMAGED} ({error}); {_REMEDY}") from error


def key_of(sop: str) -> str:
    """Return the key of a film by its SOP Instance UID."""
    return hashlib.sha256(sop.encode("utf-8", "surrogateescape")).hexdigest()
