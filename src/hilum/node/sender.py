"""Store results in the archive: several films in one request or association, urgent ones first.

A film counts as sent when the archive has confirmed each of its objects; then its files go. What is
sent a second time, since the node was ended before it could record the first, replaces itself.
Where the archive cannot be reached, all wait and no film is at fault; a film whose objects the
archive refuses is tried again by itself, and is dead after [limits] attempts.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from hilum.errors import BadData
from hilum.node.http_client import Peer, Rejected
from hilum.node.inbox import Inbox
from hilum.node.journal import RECEIVED, SENT, WRITTEN, Film, Journal
from hilum.node.multipart import encoded
from hilum.node.reader import RESULTS
from hilum.node.settings import Limits
from hilum.node.source import pause
from hilum.safety import untrusted_files
from hilum.storage import JsonObject

BATCH = 8  # films
_BATCH_BYTES = 64 << 20
_FAILED, _FAILURE_REASON, _REFERENCED_UID = "00081198", "00081197", "00081155"


class Store(Protocol):
    """Stores files in an archive; returns why it refused some, by path."""

    def __call__(self, paths: Sequence[Path]) -> Mapping[Path, str]:
        """Store files. Raises `Unreachable` where the archive is at fault."""
        ...


def results_place(state: Path, film: Film) -> Path:
    """Return the folder of a film's results."""
    return state / RESULTS / f"{film.key}.{film.version}"


class Sender:
    """Sends what is written. `stores` by the source of a film, "" for all others."""

    def __init__(
        self,
        state: Path,
        inbox: Inbox,
        stores: Mapping[str, Store],
        limits: Limits,
        said: Callable[..., None],
    ) -> None:
        self._state, self._inbox, self._stores = state, inbox, stores
        self._limits, self._said = limits, said

    @property
    def _journal(self) -> Journal:
        return self._inbox.journal

    def step(self) -> int:
        """Send one batch; return how many films it had. Raises `Unreachable`, `Busy`."""
        films = self._journal.films(WRITTEN, BATCH, now=time.time())
        by_source: dict[str, list[Film]] = defaultdict(list)
        for film in films:
            by_source[film.source if film.source in self._stores else ""].append(film)
        for source, some in by_source.items():
            self._send(self._stores[source], some)
        return len(films)

    def _send(self, store: Store, films: Sequence[Film]) -> None:
        batch: dict[Path, Film] = {}
        for film in films:
            files = sorted(results_place(self._state, film).glob("*.dcm"))
            if not files:  # lost by a power cut: the film is there still
                self._journal.advance(film, RECEIVED)
            batch |= dict.fromkeys(files, film)
        if not batch:
            return
        try:
            refused = store(list(batch))
        except (Rejected, BadData) as error:
            if len(films) > 1:  # one of them may be at fault
                for film in films:
                    self._send(store, [film])
                return
            refused = dict.fromkeys(batch, str(error))
        reasons = {batch[path].key: why for path, why in refused.items()}
        for film in dict.fromkeys(batch.values()):
            self._settle(film, reasons.get(film.key))

    def _settle(self, film: Film, why: str | None) -> None:
        if why is None:
            sent = self._journal.advance(film, SENT)
            self.drop(film, whole=sent)
            if sent:
                self._said(
                    "film sent", film=film.key, seconds=round(time.time() - film.received, 3)
                )
            return
        last = film.attempts + 1 >= self._limits.attempts
        due = None if last else time.time() + pause(film.attempts, self._limits)
        self._journal.fail(film, why, due)
        self._said(
            "film refused by the archive", level="error" if last else "warning", film=film.key,
            attempts=film.attempts + 1, dead=last,
        )  # fmt: skip

    def drop(self, film: Film, *, whole: bool) -> None:
        """Remove the results of a film, and with `whole` the film; it was sent."""
        shutil.rmtree(results_place(self._state, film), ignore_errors=True)
        if whole:
            self._inbox.place(film.key).unlink(missing_ok=True)


def clear(state: Path, journal: Journal) -> None:
    """Remove results of films that were sent or received anew; call it before anything is read."""
    (state / RESULTS).mkdir(parents=True, exist_ok=True, mode=0o700)
    for folder in (state / RESULTS).iterdir():
        key, _, version = folder.name.partition(".")
        film = journal.film(key)
        if film is None or film.state in (SENT, RECEIVED) or version != str(film.version):
            shutil.rmtree(folder, ignore_errors=True)


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
        answer = peer.request("POST", "studies", body, headers, expected=(200, 202, 409))
        failed = _failed(answer.json() or {})
        if answer.status == 409 and not failed:
            raise Rejected("the archive stored none of the objects", 409)
        return {path: failed[uid] for path in paths if failed and (uid := _uid(path)) in failed}

    return store


def _failed(answer: JsonObject) -> dict[str, str]:
    """Return the reasons by SOP Instance UID (PS3.18 I.2)."""
    failed = {}
    for item in answer.get(_FAILED, {}).get("Value", ()):
        uid = item.get(_REFERENCED_UID, {}).get("Value", [""])[0]
        code = item.get(_FAILURE_REASON, {}).get("Value", [0])[0]
        failed[str(uid)] = f"the archive refused an object: failure reason {int(code):04X}H"
    return failed


def _uid(path: Path) -> str:
    from hilum.imaging.files import dicom

    return dicom.header(path).instance or ""
