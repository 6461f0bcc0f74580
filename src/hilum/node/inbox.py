"""Take in every object that a node receives, by whatever way it came.

    STATE/incoming/*.part     an object that is being received
    STATE/objects/KEY.dcm     a film that waits to be read; KEY is the SHA-256 digest of its SOP
                              Instance UID
    STATE/results/KEY.VERSION/  what is to be sent for it

An object is written whole and flushed to the disk before it gets its place, and has its place
before it is recorded, so that what `accept` has returned survives a power cut. A film that has its
place and no record, since the process ended between the two or the journal was lost, is recorded
when the node starts. Only frontal radiographs stay; others are recorded as skipped.
Files and folders are for their owner alone.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol

from hilum import storage
from hilum.errors import BadData, CannotWrite, HilumError
from hilum.imaging.files import dicom
from hilum.imaging.files.dicom import Header
from hilum.node.busy import Busy
from hilum.node.films import reason_against
from hilum.node.journal import RECEIVED, SENT, SKIPPED, Film, Journal, key_of
from hilum.node.settings import Limits
from hilum.safety import untrusted_files

INCOMING, OBJECTS, RESULTS = "incoming", "objects", "results"
_BLOCK = 1 << 20
_LONGEST_UID = 64  # characters (PS3.5 9.1)


class Stream(Protocol):
    """What an object is written to as it comes."""

    def write(self, data: bytes, /) -> int:
        """Take the next bytes. Raises `BadData` beyond a limit, `OSError`."""
        ...


Content = bytes | Path | Callable[[Stream], None]


@dataclass(frozen=True)
class Accepted:
    """An object that the node has, for good.

    `new` is false where it changed nothing, `skipped` says why it is not read, "" where it is.
    """

    key: str
    new: bool
    skipped: str = ""


@dataclass(frozen=True)
class Refused:
    """An object that the node has not taken, nor will ever: it is broken or too large.

    `reason` may repeat values of its header, so it does not belong into logs.
    """

    reason: str


class _Bounded:
    """A stream that refuses more than `limit` bytes."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self.stream, self.left, self.limit = stream, limit, limit

    def write(self, data: bytes) -> int:
        """Write bytes. Raises `BadData` beyond the limit."""
        self.left -= len(data)
        if self.left < 0:
            raise BadData(f"it has more than the {self.limit:,} bytes of [limits] object_bytes")
        return self.stream.write(data)


class Inbox:
    """The inbox of a node; threads may use it at once.

    `models` is the digest of the models that read what is accepted, `arrived` is called with the
    key of each film that is to be read.
    """

    def __init__(
        self,
        state: Path,
        journal: Journal,
        limits: Limits,
        models: str = "",
        arrived: Callable[[str], None] = lambda key: None,
    ) -> None:
        self.journal, self.limits, self.models, self._arrived = journal, limits, models, arrived
        self.incoming, self.objects = state / INCOMING, state / OBJECTS
        self.results = state / RESULTS
        # A film's file and its row change together, seen from other threads.
        self._placing = threading.Lock()
        for folder in (self.incoming, self.objects, self.results):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def place(self, key: str) -> Path:
        """Return where the file of a film lies."""
        return self.objects / f"{key}.dcm"

    def results_of(self, film: Film) -> Path:
        """Return the folder of a film's results."""
        return self.results / f"{film.key}.{film.version}"

    def refuse_if_busy(self) -> None:
        """Raise `Busy` where nothing can be taken in now."""
        count, held = self.journal.pending()
        if count >= self.limits.pending:
            raise Busy(f"{count:,} films wait, as many as [limits] pending allows")
        if held >= self.limits.state_bytes:
            raise Busy(
                f"films of {held:,} bytes wait or are dead, as many as [limits] state_bytes allows;"
                f" `hilum node drop` removes the dead ones"
            )
        free = shutil.disk_usage(self.objects).free
        if free < self.limits.free_bytes:
            raise Busy(
                f"{free:,} bytes are free on the disk; expected at least {self.limits.free_bytes:,}"
                f" ([limits] free_bytes)"
            )

    def accept(self, content: Content, source: str, mark: str = "") -> Accepted | Refused:
        """Take in an object: its bytes, a file of them, or a function that writes them.

        `source` is the name of where it came from, `mark` by what that distinguishes its versions.
        The same bytes again have no second effect; other bytes under the same SOP Instance UID
        replace it. Raises `Busy` where it cannot be taken in now, and whatever the function raises.
        """
        self.refuse_if_busy()
        try:
            number, name = tempfile.mkstemp(suffix=".part", dir=self.incoming)
        except OSError as error:
            raise _of_system(error) from error
        beside = Path(name)
        try:
            with open(number, "wb") as stream:
                _write(stream, content, self.limits.object_bytes)
            return self._settled(beside, source, mark)
        except BadData as error:
            return Refused(str(error).replace(str(beside), "the object"))
        except OSError as error:
            raise _of_system(error) from error
        finally:
            with suppress(OSError):
                beside.unlink(missing_ok=True)

    def _settled(self, beside: Path, source: str, mark: str) -> Accepted:
        header = dicom.header(beside)
        film = self._film(beside, header, source, mark)
        why = reason_against(header, self.journal)
        with self._placing:
            version = self._skip(film, why) if why else self._keep(film, beside)
        if version and not why:
            self._arrived(film.key)
        return Accepted(film.key, bool(version), why)

    def _skip(self, film: Film, why: str) -> int:
        version = self.journal.take_in(replace(film, state=SKIPPED, reason=why, bytes=0))
        if version:
            self._remove(film.key)  # of a film that it replaces
        return version

    def _keep(self, film: Film, beside: Path) -> int:
        known, place = self.journal.film(film.key), self.place(film.key)
        if known is None or known.digest != film.digest or not place.exists():
            beside.replace(place)
            storage.flush_names(self.objects)
        version = self.journal.take_in(film)
        if version > 1:
            self._remove_results(film.key)
        elif not version and self._is_finished(film.key):
            place.unlink(missing_ok=True)
        return version

    def _is_finished(self, key: str) -> bool:
        film = self.journal.film(key)
        return film is None or film.state in (SENT, SKIPPED)

    def finish(self, film: Film) -> None:
        """Remove the files of a film that was sent, save those of a later version."""
        shutil.rmtree(self.results_of(film), ignore_errors=True)
        with self._placing:
            now = self.journal.film(film.key)
            if now is None or now.version == film.version:
                self._remove(film.key)

    def _remove(self, key: str) -> None:
        self.place(key).unlink(missing_ok=True)
        self._remove_results(key)

    def _remove_results(self, key: str) -> None:
        for folder in self.results.glob(f"{key}.*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _film(self, beside: Path, header: Header, source: str, mark: str) -> Film:
        uids = {
            "SOP Instance UID": header.instance,
            "Study Instance UID": header.study,
            "Series Instance UID": header.series,
        }
        faults = [
            f"{name} is missing or longer than {_LONGEST_UID} characters"
            for name, value in uids.items()
            if not value or len(value) > _LONGEST_UID
        ]
        if faults:
            raise BadData.listing("the object cannot be taken in", faults)
        sop, study, series = (str(value) for value in uids.values())
        now = time.time()
        return Film(
            key=key_of(sop),
            sop=sop,
            study=study,
            series=series,
            accession=(header.accession or "")[:_LONGEST_UID],
            source=source,
            mark=mark,
            digest=storage.digest_of_file(beside),
            models=self.models,
            version=1,
            state=RECEIVED,
            stage="",
            reason="",
            attempts=0,
            due=0.0,
            calls="",
            received=now,
            changed=now,
            bytes=beside.stat().st_size,
        )

    def clear(self) -> None:
        """Remove what a process that was killed left behind; call it before anything is received.

        A film that was received and is not recorded is recorded.
        """
        for path in self.incoming.iterdir():
            path.unlink()
        for path in self.objects.iterdir():
            if self.journal.film(path.stem) is None:
                self._adopt(path)
        self.tidy()
        for folder in self.results.iterdir():
            key, _, version = folder.name.partition(".")
            film = self.journal.film(key)
            if film is None or film.state == RECEIVED or version != str(film.version):
                shutil.rmtree(folder, ignore_errors=True)

    def _adopt(self, path: Path) -> None:
        try:
            self._settled(path, "", "")
        except BadData:
            path.unlink()

    def tidy(self) -> None:
        """Remove the files of films that were sent, skipped or dropped."""
        for path in [*self.objects.iterdir(), *self.results.iterdir()]:
            key = path.name.lstrip(".").partition(".")[0]  # a folder being filled begins with a dot
            with self._placing:
                if self._is_finished(key):
                    self._remove(key)


def _write(stream: BinaryIO, content: Content, limit: int) -> None:
    bounded = _Bounded(stream, limit)
    if isinstance(content, bytes):
        bounded.write(content)
    elif isinstance(content, Path):
        with untrusted_files.opened(content, limit=limit) as source:
            while block := source.read(_BLOCK):
                bounded.write(block)
    else:
        content(bounded)
    stream.flush()
    os.fsync(stream.fileno())


def _of_system(error: OSError) -> HilumError:
    """Return the error for what the operating system refused: `Busy` where space is missing."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return Busy(f"the disk is full, or too many files are open ({error.strerror})")
    return CannotWrite.because("the state of the node", error)
