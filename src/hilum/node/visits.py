"""The studies that a polled source holds, and which of them are to be visited, in the journal.

    settling    seen, and its number of objects may still change
    waiting     to be visited: its films are to be fetched
    done        visited
    dead        visits failed for good; `reason` says why

What is noticed is recorded together with where the polling has come to, in one transaction, so that
a study is neither lost nor visited for ever. A study that is noticed again while it is visited is
visited again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from hilum.node.journal import Journal

RECHECK_SECONDS = 10.0  # until a changing study is examined
LONGEST_PAUSE = 86400.0  # seconds of the longest pause that settings allow
SETTLING, WAITING, DONE, DEAD = ("settling", "waiting", "done", "dead")


@dataclass(frozen=True)
class Visit:
    """A study of a source: its id there, the number of objects last seen, and since when."""

    source: str
    study: str
    objects: int
    since: float
    state: str
    attempts: int
    due: float
    reason: str


_VISIT = "SELECT source, study, objects, since, state, attempts, due, reason FROM visits"


class Visits:
    """The studies of one source in the journal."""

    def __init__(self, journal: Journal, source: str) -> None:
        self.journal, self.source = journal, source

    def notice(self, stable: Iterable[str], cursor: str, changing: Iterable[str] = ()) -> None:
        """Record stable studies, which wait, changing ones, and where the polling has come to."""
        now = time.time()
        states = dict.fromkeys(changing, (SETTLING, now + RECHECK_SECONDS))
        states |= dict.fromkeys(stable, (WAITING, 0.0))
        with self.journal.transaction() as run:
            for study, (state, due) in states.items():
                run(
                    "INSERT OR REPLACE INTO visits VALUES (?, ?, 0, ?, ?, 0, ?, '')",
                    (self.source, study, now, state, due),
                )
            run("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (self.source, cursor))

    def settle(self, visit: Visit, stable: bool) -> None:
        """Record whether a study that was changing is stable; else it is to be examined later."""
        due = 0.0 if stable else time.time() + RECHECK_SECONDS
        self._change(visit, WAITING if stable else SETTLING, 0, due, "")

    def see(self, study: str, objects: int, stable_seconds: float) -> None:
        """Record the number of a study's objects; it waits once that has been stable."""
        now, before = time.time(), self.of(study)
        if before is None or before.objects != objects:
            self._put(Visit(self.source, study, objects, now, SETTLING, 0, 0.0, ""))
        elif before.state == SETTLING and abs(now - before.since) >= stable_seconds:
            self._put(Visit(self.source, study, objects, before.since, WAITING, 0, 0.0, ""))

    def _put(self, visit: Visit) -> None:
        values = tuple(vars(visit).values())
        with self.journal.transaction() as run:
            run("INSERT OR REPLACE INTO visits VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)

    def of(self, study: str) -> Visit | None:
        """Return what is recorded of a study."""
        rows = self.journal.rows(f"{_VISIT} WHERE source = ? AND study = ?", self.source, study)
        return Visit(*rows[0]) if rows else None

    def due(self, now: float, state: str = WAITING) -> list[Visit]:
        """Return the studies of a state whose time has come, those not tried yet first.

        A time after all pauses is no one's: the clock was set back meanwhile.
        """
        rows = self.journal.rows(
            f"{_VISIT} WHERE source = ? AND state = ? AND (due <= ? OR due > ?) "
            "ORDER BY due, since LIMIT 100",
            *(self.source, state, now, now + LONGEST_PAUSE),
        )
        return [Visit(*row) for row in rows]

    def finish(self, visit: Visit) -> None:
        """Record that a study was visited, unless it was noticed anew meanwhile."""
        self._change(visit, DONE, 0, 0.0, "")

    def put_off(self, visit: Visit) -> None:
        """Let all other studies be visited before this one is tried again."""
        self._change(visit, WAITING, visit.attempts, time.time(), visit.reason)

    def fail(self, visit: Visit, reason: str, due: float | None) -> None:
        """Record that a visit failed and is due again then; with None it is dead."""
        state = DEAD if due is None else WAITING
        self._change(visit, state, visit.attempts + 1, due or 0.0, reason)

    def _change(self, visit: Visit, state: str, attempts: int, due: float, reason: str) -> None:
        with self.journal.transaction() as run:
            run(
                "UPDATE visits SET state = ?, attempts = ?, due = ?, reason = ? "
                "WHERE source = ? AND study = ? AND since = ?",
                (state, attempts, due, reason, visit.source, visit.study, visit.since),
            )


def counts(journal: Journal) -> dict[str, int]:
    """Return the number of studies by state, all states, of all sources."""
    rows = journal.rows("SELECT state, count(*) FROM visits GROUP BY state")
    return dict.fromkeys((SETTLING, WAITING, DONE, DEAD), 0) | dict(rows)


def dead(journal: Journal, limit: int = 1000) -> list[Visit]:
    """Return the studies whose visits failed for good."""
    rows = journal.rows(f"{_VISIT} WHERE state = ? ORDER BY since LIMIT ?", DEAD, limit)
    return [Visit(*row) for row in rows]


def drop(journal: Journal) -> int:
    """Give up dead studies until they are noticed again; return how many."""
    with journal.transaction() as run:
        return run("UPDATE visits SET state = ? WHERE state = ?", (DONE, DEAD)).rowcount


def revive(journal: Journal) -> int:
    """Let dead studies be visited again; return how many."""
    with journal.transaction() as run:
        return run(
            "UPDATE visits SET state = ?, attempts = 0, due = 0.0, reason = '' WHERE state = ?",
            (WAITING, DEAD),
        ).rowcount
