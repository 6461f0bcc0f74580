"""The journal of a run's revisions: append-only, safe against kills, for several writers at once.

    annotations/journal.sqlite    a row for each revision, see `hilum.revisions.revision`
    annotations/masks/            masks, see `hilum.revisions.mask_store`

A writer states the last revision of the subject that it saw; where another came between, it gets
`Stale` and nothing is written.

A journal may come from elsewhere. It is opened only where its schema is exactly that of
`hilum.revisions.journal_file`, its rows are checked when they are read, and damage is reported with
its place and never passed over.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np

from hilum.errors import BadData, CannotWrite, Damaged, HilumError, NotFound
from hilum.revisions import changes, journal_file, mask_store, revision
from hilum.revisions.changes import Change, Read, SetMask, Subject
from hilum.revisions.mask_store import MaskStore
from hilum.revisions.revision import Revision, Row, Stale
from hilum.storage import database

__all__ = ["FILE", "FOLDER", "Journal", "Revision", "Stale"]

FOLDER, FILE, MASKS = "annotations", "journal.sqlite", "masks"
_INSERT = f"INSERT INTO revisions VALUES ({', '.join('?' * len(Row._fields))})"


class Journal:
    """The revisions of one run. Threads may share one; each process opens its own."""

    def __init__(
        self, folder: Path, connection: sqlite3.Connection, read_only: bool = False
    ) -> None:
        self.folder, self.read_only = folder, read_only
        self.masks = MaskStore(folder / MASKS)
        self._connection = connection
        self._lock = threading.RLock()

    @classmethod
    def open(cls, folder: Path, create: bool = True, *, read_only: bool = False) -> Journal:
        """Open the journal in a folder, that is `annotations` of a run; make one where none is.

        Raises `NotFound` where there is none and `create` is False or `read_only` True, `Damaged`
        or `BadData` where the file is no journal, `CannotWrite` where it cannot be made.
        """
        path = folder / FILE
        if not path.exists():
            if read_only or not create:
                raise NotFound(
                    f"{folder} holds no {FILE}: nothing was corrected there. `hilum serve` makes "
                    "one, and `hilum annotations import`"
                )
            journal_file.make(path)
        return cls(folder, journal_file.opened(path), read_only)

    def close(self) -> None:
        """Close the file. Nothing is lost without it."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / FILE

    # ---------------------------------------------------------------------------------- reading

    @property
    def last(self) -> int:
        """The number of the last revision; 0 where there is none."""
        with self._reading() as connection:
            return connection.execute("SELECT max(number) FROM revisions").fetchone()[0] or 0

    def revisions(
        self, since: int = 0, image_id: str | None = None, *, until: int | None = None
    ) -> list[Revision]:
        """Return the revisions with numbers above `since` and up to `until`, in order.

        With `image_id`, those that are about this image. Raises `Damaged` for a broken chain,
        which is followed where all images are wanted, and for a row that holds no valid change.
        """
        condition = "number > ? AND number <= ?"
        values: list[object] = [since, until if until is not None else 1 << 62]
        if image_id is not None:
            condition += " AND (image_id = ? OR other_image_id = ?)"
            values += [image_id, image_id]
        rows = self._rows(condition, values)
        if image_id is None:
            self._refuse_broken(rows, since)
        try:
            return [revision.of_row(row) for row in rows]
        except Damaged as error:
            raise journal_file.damaged(self.path, str(error)) from None

    def revision(self, number: int) -> Revision:
        """Return one revision. Raises `NotFound`, or `Damaged` as `revisions` does."""
        found = self.revisions(number - 1, until=number)
        if not found:
            raise NotFound(f"{self.folder} has no revision {number}; the last one is {self.last}")
        return found[0]

    def latest(self, subject: Subject) -> Revision | None:
        """Return the revision of a subject that stands; None where there is none."""
        text = revision.subject_text(subject)
        rows = self._rows("subject = ?", [text])
        return revision.of_row(rows[-1]) if rows else None

    def mask(self, digest: str) -> np.ndarray:
        """Return a mask, uint8 (height, width), see `hilum.revisions.mask_store`.

        Raises `Damaged` where its file is missing or holds other bytes.
        """
        return self.masks.read(digest)

    def _rows(self, condition: str, values: Sequence[object]) -> list[Row]:
        statement = f"SELECT * FROM revisions WHERE {condition} ORDER BY number"
        with self._reading() as connection:
            return list(map(Row._make, connection.execute(statement, values)))

    def _refuse_broken(self, rows: Sequence[Row], since: int) -> None:
        previous = ""
        if since:
            before = self._rows("number = ?", [since])
            previous = before[0].digest if before else ""
        for expected, row in enumerate(rows, since + 1):
            if wrong := revision.fault_of_chain(row, expected, previous):
                raise journal_file.damaged(self.path, wrong)
            previous = row.digest

    # ---------------------------------------------------------------------------------- writing

    def append(
        self,
        change: Change,
        *,
        author: str,
        expected: int,
        reason: str | None = None,
        was: str | None = None,
    ) -> Revision:
        """Write a change and return its revision, once it is on the disk.

        `expected` is the number of the last revision of the change's subject that the writer saw,
        0 for none; `was` says for people what the data held before. Raises `Stale` where another
        revision stands, `BadData` for a change that cannot be kept, `NotFound` for a mask that
        was not put before, `CannotWrite`.
        """
        return self.append_all([(change, expected)], author=author, reason=reason, was=was)[0]

    def append_all(
        self,
        wanted: Iterable[tuple[Change, int]],
        *,
        author: str,
        reason: str | None = None,
        was: str | None = None,
    ) -> list[Revision]:
        """Write changes, each with the revision expected of its subject: all of them or none."""
        wanted = list(wanted)
        if faults := revision.faults_of_statement(author, reason, was):
            raise BadData.listing("a change without a proper statement of who and why", faults)
        for change, _ in wanted:
            changes.check(change)
        made = []
        with self._writing():
            for change, expected in wanted:
                self.refuse_stale(change.subject(author), expected)
                made.append(self._insert(change, author, expected, reason, was))
        return made

    def undo(self, number: int, author: str, reason: str | None = None) -> Revision:
        """Append the change that takes a revision back, and return its revision.

        Raises `NotFound` for an unknown number, `Stale` where a later revision of the subject
        stands, `HilumError` for the reading of another author.
        """
        if faults := revision.faults_of_statement(author, reason, None):
            raise BadData.listing("a change without a proper statement of who and why", faults)
        with self._writing():
            undone = self.revision(number)
            if isinstance(undone.change, Read) and undone.author != author:
                raise HilumError(
                    f"revision {number} is the reading of {undone.author}, who alone can undo it"
                )
            self.refuse_stale(undone.subject, number)
            return self._insert(self._former(undone), author, number, reason, None, undoes=number)

    def former(self, number: int) -> Change:
        """Return the change that an undo of a revision makes. Raises as `revision` does."""
        return self._former(self.revision(number))

    def _former(self, undone: Revision) -> Change:
        if undone.before:
            return self.revision(undone.before).change
        return changes.neutral(undone.change)

    def put_mask(self, labels: np.ndarray) -> str:
        """Keep a mask and return its digest, which `SetMask` names, once it is on the disk.

        `labels` is uint8 (height, width) in the file's own pixels, a label map. Raises `BadData`
        for anything else, `CannotWrite`.
        """
        data = mask_store.encoded(labels)
        with self._writing():  # its lock holds for processes that put the same mask at once
            return self.masks.put(data)

    def refuse_stale(self, subject: Subject, expected: int) -> None:
        """Raise `Stale` where another revision of a subject stands than a writer expects."""
        current = self.latest(subject)
        if (current.number if current else 0) != expected:
            raise Stale(subject, expected, current)

    def _insert(
        self,
        change: Change,
        author: str,
        before: int,
        reason: str | None,
        was: str | None,
        undoes: int | None = None,
    ) -> Revision:
        if isinstance(change, SetMask) and not self.masks.path(change.digest).is_file():
            raise NotFound(f"{self.masks.folder} holds no mask {change.digest}; put it there first")
        newest = self._connection.execute(
            "SELECT number, digest FROM revisions ORDER BY number DESC LIMIT 1"
        ).fetchone()
        number, previous = newest or (0, "")
        made = Revision(number + 1, revision.now(), author, change, before, reason, was, undoes, "")
        row = revision.chained(revision.row_of(made), previous)
        self._connection.execute(_INSERT, row)
        return replace(made, digest=row.digest)

    # ------------------------------------------------------------------------------------ checks

    def faults(self) -> list[str]:
        """List everything that is wrong with the file, the chain, the rows and the masks."""
        with self._reading() as connection:
            report = [row[0] for row in connection.execute("PRAGMA integrity_check(20)")]
        if report != ["ok"]:
            return report
        found: list[str] = []
        previous, standing = "", dict[str, int]()
        rows = self._rows("true", [])
        for expected, row in enumerate(rows, 1):
            if wrong := revision.fault_of_chain(row, expected, previous):
                return [*found, wrong]  # what follows a broken link proves nothing
            previous = row.digest
            if row.before != standing.get(row.subject, 0):
                found.append(f"revision {row.number} does not follow the last one of its subject")
            standing[row.subject] = row.number
            found += self._faults_of(row)
        return found

    def _faults_of(self, row: Row) -> list[str]:
        try:
            change = revision.of_row(row).change
            if isinstance(change, SetMask):
                self.masks.read(change.digest)
        except HilumError as error:
            return [f"revision {row.number}: {error}".replace(f"revision {row.number}: " * 2, "")]
        return []

    def verify(self) -> None:
        """Raise `Damaged` with everything that `faults` lists."""
        if found := self.faults():
            raise journal_file.damaged(self.path, str(BadData.listing("is damaged", found)))

    # ----------------------------------------------------------------------------------- SQLite

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, journal_file.translated(self.path):
            yield self._connection

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the write lock of all processes; write all that the block inserts, or nothing."""
        if self.read_only:
            raise CannotWrite(f"{self.path} was opened for reading only; open it for writing")
        translated = journal_file.translated(self.path)
        with self._lock, translated, database.transaction(self._connection):
            yield
