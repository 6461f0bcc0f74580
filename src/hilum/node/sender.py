"""Store results in the archive: several films in one request or association, urgent ones first.

A film counts as sent when the archive has confirmed each of its objects; then its files go. What is
sent a second time, since the node was ended before it could record the first, replaces itself.
Where the archive fails, all wait and no film is at fault; a film whose objects the archive refuses,
or with which it fails while it takes others, is tried again by itself, and is dead after [limits]
attempts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from hilum.errors import BadData, Unreachable
from hilum.node.busy import Busy
from hilum.node.http_client import Peer, Rejected
from hilum.node.inbox import Inbox
from hilum.node.journal import RECEIVED, SENT, Film, Journal
from hilum.node.multipart import encoded
from hilum.node.settings import Limits
from hilum.node.source import pause
from hilum.safety import untrusted_files
from hilum.storage import JsonObject

BATCH = 8  # films
_BATCH_BYTES = 64 << 20
# Answers for which what was sent may be at fault. Others, such as a redirect to a page where people
# sign in, or an error of the server, come whatever is sent.
_OF_OBJECTS = (400, 409, 413, 415, 422)
_FAILED, _FAILURE_REASON, _REFERENCED_UID = "00081198", "00081197", "00081155"


class Store(Protocol):
    """Stores files in an archive; returns why it refused some, by path."""

    def __call__(self, paths: Sequence[Path]) -> Mapping[Path, str]:
        """Store files. Raises `Unreachable` where the archive is at fault."""
        ...


class Sender:
    """Sends what is written to one archive: results of films of one `source`, or of all `besides`
    some.

    `_stalled` are films with which the archive failed, those of the latest failure last. They are
    tried one by one once the archive has taken others, and only then count a failure as theirs: so
    neither a film that no archive takes stops the others, nor an archive that fails costs a film.
    """

    def __init__(
        self,
        inbox: Inbox,
        store: Store,
        limits: Limits,
        said: Callable[..., None],
        source: str = "",
        besides: Sequence[str] = (),
    ) -> None:
        self._inbox, self._store, self._limits, self._said = inbox, store, limits, said
        self._source, self._besides = source, besides
        self._stalled: dict[str, None] = {}
        self._works = False  # whether the archive took what it was sent last

    @property
    def _journal(self) -> Journal:
        return self._inbox.journal

    def step(self) -> int:
        """Send one batch; return how many films it had. Raises `Unreachable`, `Busy`."""
        films = self._journal.to_send(
            time.time(), BATCH + len(self._stalled), self._source, self._besides
        )
        waiting = {film.key: film for film in films}
        self._stalled = {key: None for key in self._stalled if key in waiting}
        fresh = [film for film in films if film.key not in self._stalled]
        stalled = [waiting[key] for key in self._stalled]
        if stalled and (self._works or not fresh):
            self._send_stalled(stalled[0], alone=not fresh)
            return 1
        if fresh:
            self._send_fresh(fresh[:BATCH])
        return len(fresh[:BATCH])

    def _send_fresh(self, films: Sequence[Film]) -> None:
        try:
            self._send(films)
        except Busy:
            raise
        except Exception:
            self._works = False
            self._stalled |= dict.fromkeys(film.key for film in films)
            raise
        self._works = True

    def _send_stalled(self, film: Film, *, alone: bool) -> None:
        del self._stalled[film.key]
        took_others, self._works = self._works, False
        try:
            self._send([film])
        except Busy:
            raise
        except Exception as error:
            if took_others:
                self._settle(film, f"the archive takes others, and of this one: {error}")
                return
            self._stalled[film.key] = None
            raise
        self._works = True
        if alone and not took_others:  # the archive failed, and no film
            self._stalled.clear()

    def _send(self, films: Sequence[Film]) -> None:
        batch: dict[Path, Film] = {}
        for film in films:
            files = sorted(self._inbox.results_of(film).glob("*.dcm"))
            if not files:  # lost by a power cut: the film is there still
                self._journal.advance(film, RECEIVED)
            batch |= dict.fromkeys(files, film)
        if not batch:
            return
        try:
            refused = self._store(list(batch))
        except (Rejected, BadData) as error:
            if len(films) > 1:  # one of them may be at fault
                for film in films:
                    self._send([film])
                return
            refused = dict.fromkeys(batch, str(error))
        reasons = {batch[path].key: why for path, why in refused.items()}
        for film in dict.fromkeys(batch.values()):
            self._settle(film, reasons.get(film.key))

    def _settle(self, film: Film, why: str | None) -> None:
        if why is None:
            if self._journal.advance(film, SENT):
                seconds = max(0.0, round(time.time() - film.received, 3))
                self._said("film sent", film=film.key, seconds=seconds)
            self._inbox.finish(film)
            return
        last = film.attempts + 1 >= self._limits.attempts
        due = None if last else time.time() + pause(film.attempts, self._limits)
        if self._journal.fail(film, why, due):
            self._said(
                "film refused by the archive", level="error" if last else "warning", film=film.key,
                attempts=film.attempts + 1, dead=last,
            )  # fmt: skip


def stow(peer: Peer) -> Store:
    """Return what stores by STOW-RS (PS3.18 10.5)."""

    def store(paths: Sequence[Path]) -> Mapping[Path, str]:
        """Store files in one request."""
        # Above a bound in halves: a server may limit its requests.
        if len(paths) > 1 and sum(path.stat().st_size for path in paths) > _BATCH_BYTES:
            half = len(paths) // 2
            return {**store(paths[:half]), **store(paths[half:])}
        body, kind = encoded(untrusted_files.read_bytes(path) for path in paths)
        headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
        try:
            answer = peer.request("POST", "studies", body, headers, expected=(200, 202, 409))
            failed = _failed(answer.json())
        except BadData as error:
            raise Unreachable(f"the archive does not answer as one: {error}") from error
        except Rejected as error:
            if error.status in _OF_OBJECTS:
                raise
            raise Unreachable(str(error)) from error
        if answer.status == 409 and not failed:
            raise Rejected("the archive stored none of the objects", 409)
        return {path: failed[uid] for path in paths if failed and (uid := _uid(path)) in failed}

    return store


def _failed(answer: JsonObject | None) -> dict[str, str]:
    """Return the reasons by SOP Instance UID (PS3.18 I.2). Raises `BadData`."""
    failed = {}
    try:
        for item in (answer or {}).get(_FAILED, {}).get("Value", ()):
            uid = item.get(_REFERENCED_UID, {}).get("Value", [""])[0]
            code = item.get(_FAILURE_REASON, {}).get("Value", [0])[0]
            failed[str(uid)] = f"the archive refused an object: failure reason {int(code):04X}H"
    except (AttributeError, TypeError, ValueError, IndexError) as error:
        raise BadData("its answer is not that of STOW-RS (PS3.18 I.2)") from error
    return failed


def _uid(path: Path) -> str:
    from hilum.imaging.files import dicom

    return dicom.header(path).instance or ""
