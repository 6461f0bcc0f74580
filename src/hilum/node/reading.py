"""Read the films that wait: one after another, each attempt counted before it begins.

A film that cannot be read is dead at once; one that something unforeseen stopped is tried again,
later each time. A film that ends the process each time it is read is dead after as many attempts.
A full disk is no film's fault.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from hilum.errors import BadData, CannotWrite
from hilum.node.busy import Busy
from hilum.node.inbox import Inbox
from hilum.node.journal import READ, RECEIVED, Film
from hilum.node.reader import Reader, present
from hilum.node.settings import Limits
from hilum.node.source import pause


class Reading:
    """Applies the models to what the inbox has taken in. `said` hears of each film."""

    def __init__(
        self, inbox: Inbox, reader: Reader, limits: Limits, said: Callable[..., None]
    ) -> None:
        self._inbox, self._reader, self._limits, self._said = inbox, reader, limits, said
        self._blameless: Film | None = None  # the film of an attempt that does not count

    def step(self) -> int:
        """Read the next film; return how many there were. Raises `Busy`."""
        if self._blameless:
            self._inbox.journal.put_off(self._blameless)
            self._blameless = None
        films = self._inbox.journal.films(RECEIVED, 1, now=time.time())
        for film in films:
            if film.attempts >= self._limits.attempts:
                words = f"the node ended {film.attempts} times while it read this film"
                self._failed(film, words, "Killed", dead=True)
            elif self._inbox.journal.begin(film):
                self._attempt(film)
        return len(films)

    def _attempt(self, film: Film) -> None:
        try:
            self._read(film)
        except (CannotWrite, Busy) as error:
            self._blameless = film  # for now even the journal may have no room
            raise Busy(str(error)) from error
        except BadData as error:
            self._failed(film, str(error), "BadData", dead=True)
        except Exception as error:  # noqa: BLE001 (whatever one film does, the next one is read)
            last = film.attempts + 1 >= self._limits.attempts
            kind = type(error).__name__
            self._failed(film, f"{kind}: {error}", kind, dead=last)

    def _read(self, film: Film) -> None:
        begun, place, journal = time.monotonic(), self._inbox.place(film.key), self._inbox.journal
        if not place.exists():
            raise BadData(f"its file {place} is gone; send the film again")
        findings = self._reader.findings(place)
        called = present(findings)
        tried = film.attempts + 1
        if not journal.advance(
            film, READ, calls=called, models=self._reader.digest, attempts=tried
        ):
            return
        uids = self._reader.write(place, findings, self._inbox.results_of(film))
        journal.wrote(film, uids)
        self._said(
            "film read", film=film.key, seconds=round(time.monotonic() - begun, 3),
            refused=bool(findings.refused), urgent=bool(called), objects=len(uids),
        )  # fmt: skip

    def _failed(self, film: Film, reason: str, kind: str, *, dead: bool) -> None:
        due = None if dead else time.time() + pause(film.attempts, self._limits)
        if not self._inbox.journal.fail(film, reason, due):
            return
        self._said(
            "film failed", level="error" if dead else "warning", film=film.key, error=kind,
            attempts=film.attempts + 1, dead=dead,
        )  # fmt: skip
