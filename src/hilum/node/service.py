"""Run a node: a thread for each source, one that reads, one that sends, until it is stopped.

Each part works in rounds. What stops one (a server that does not answer, a full disk) stops it
alone: it waits, longer each time, and goes on from the journal. Ctrl-C and SIGTERM let each part
end its round; whatever ends the process otherwise costs no film.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hilum import storage
from hilum.errors import HilumError, Interrupted, MissingExtra
from hilum.node import monitor, sender
from hilum.node.busy import Busy
from hilum.node.dicomweb import DicomWebServer
from hilum.node.health import Health
from hilum.node.http_client import Login, Peer, Rejected, Unreachable
from hilum.node.inbox import Inbox
from hilum.node.journal import Journal
from hilum.node.logs import Log
from hilum.node.orthanc import OrthancServer
from hilum.node.reader import Reader
from hilum.node.reading import Reading
from hilum.node.sender import Sender, Store, stow
from hilum.node.settings import DICOMWEB, DIMSE, Destination, DicomWeb, Orthanc, Settings, secret
from hilum.node.source import Source, pause

JOURNAL = "journal.sqlite"
GRACE = 20.0  # seconds that parts have to end their round
_IDLE = 1.0  # seconds until a part that nothing woke has another round
_TIDY = 3600.0  # seconds between two removals of old rows
_DAY = 86400.0


@dataclass(frozen=True)
class Part:
    """A part of a node: its `step` is one round, and says whether there was anything to do."""

    name: str
    step: Callable[[], object]
    idle: float
    woken: threading.Event


class Stopping:
    """Whether the node is being stopped; waking a part that waits for it."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.event = threading.Event()

    def now(self) -> None:
        """Stop every part at the end of its round."""
        self.event.set()
        for part in self.parts:
            part.woken.set()


def journal_of(settings: Settings) -> Journal:
    """Open the journal of a node."""
    return Journal(settings.state / JOURNAL)


def run(
    settings: Settings,
    say: Callable[[str], None],
    until: Callable[[threading.Event], None] | None = None,
) -> None:
    """Run a node until Ctrl-C, SIGTERM, or until `until` returns; `say` hears where it listens.

    Raises `HilumError` where it cannot start: another node uses the folder, a model is missing, a
    port is taken.
    """
    with MissingExtra.explained("dicom", "a node, which writes results as DICOM objects,"):
        import highdicom  # noqa: F401
    with storage.locked(settings.state), ExitStack() as stack:
        settings.state.chmod(0o700)
        journal = journal_of(settings)
        stack.callback(journal.close)
        health = Health(journal)
        said = Log(sys.stderr, health.hear)
        reader = Reader.of(settings)
        stopping = Stopping()
        woken = threading.Event()
        inbox = _inbox(settings, journal, reader, woken, said)
        stopping.parts = list(_parts(settings, inbox, reader, woken, said))
        port = stack.enter_context(monitor.serving(settings.monitor, health, journal))
        stack.enter_context(_working(stopping, health, said, settings))
        say(f"health, metrics and worklist at http://{settings.monitor.host}:{port}/")
        if settings.listen:
            stack.enter_context(_listening(inbox, settings, said))
        said("node started", models=reader.digest)
        _wait(stopping.event, journal, settings, until)
        said("node stopping")


def _inbox(
    settings: Settings, journal: Journal, reader: Reader, woken: threading.Event, said: Log
) -> Inbox:
    def arrived(key: str) -> None:
        """Wake the reader."""
        said("film received", film=key)
        woken.set()

    inbox = Inbox(settings.state, journal, settings.limits, reader.digest, arrived)
    journal.begin_again()
    inbox.clear()
    sender.clear(settings.state, journal)
    return inbox


def _parts(
    settings: Settings, inbox: Inbox, reader: Reader, arrived: threading.Event, said: Log
) -> Iterator[Part]:
    state, limits, written = settings.state, settings.limits, threading.Event()
    reading = Reading(state, inbox, reader, limits, said)
    sending = Sender(state, inbox, _stores(settings), limits, said)

    def read() -> int:
        """Read a film, and wake the sender."""
        done = reading.step()
        if done:
            written.set()
        return done

    yield Part("reader", read, _IDLE, arrived)
    yield Part("sender", sending.step, _IDLE, written)
    if settings.orthanc:
        server = OrthancServer(
            _peer(settings.orthanc.url, settings.orthanc, settings), settings.orthanc, inbox.journal
        )
        source = Source(server, inbox, limits, said)
        yield Part("orthanc", source.step, settings.orthanc.poll_seconds, threading.Event())
    if settings.dicomweb:
        peer = _peer(settings.dicomweb.url, settings.dicomweb, settings)
        of_web = DicomWebServer(peer, settings.dicomweb, inbox.journal)
        source = Source(of_web, inbox, limits, said)
        yield Part("dicomweb", source.step, settings.dicomweb.poll_seconds, threading.Event())


def _peer(url: str, of: Orthanc | DicomWeb | Destination, settings: Settings) -> Peer:
    token = "" if isinstance(of, Orthanc) else secret(of.token_file)
    login = Login(of.user, secret(of.password_file), token, of.ca)
    return Peer(url, login, settings.limits.request_seconds)


def _stores(settings: Settings) -> dict[str, Store]:
    """Return what stores results, by the source of a film; "" for any other."""
    to = settings.destination
    if to.to == DICOMWEB:
        return {"": stow(_peer(to.url, to, settings))}
    if to.to == DIMSE:
        return {"": _by_dimse(settings)}
    found = {}
    if settings.orthanc:
        root = f"{settings.orthanc.url.rstrip('/')}/{settings.orthanc.dicomweb.strip('/')}"
        found["orthanc"] = stow(_peer(root, settings.orthanc, settings))
    if settings.dicomweb:
        found["dicomweb"] = stow(_peer(settings.dicomweb.url, settings.dicomweb, settings))
    return found | {"": next(iter(found.values()))}


def _by_dimse(settings: Settings) -> Store:
    from hilum.node import dimse

    def store(paths: Sequence[Path]) -> dict[Path, str]:
        """Store files in one association."""
        return dict(dimse.store(paths, settings.destination))

    return store


def _listening(inbox: Inbox, settings: Settings, said: Log):
    from hilum.node import dimse

    return dimse.listen(inbox, settings, said)


@contextmanager
def _working(stopping: Stopping, health: Health, said: Log, settings: Settings) -> Iterator[None]:
    """Let each part work on a thread of its own; at the end they end their rounds."""
    threads = [
        threading.Thread(target=_rounds, args=(part, stopping, health, said, settings), daemon=True)
        for part in stopping.parts
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.now()
        last = time.monotonic() + GRACE
        for thread in threads:
            thread.join(max(0.0, last - time.monotonic()))


def _rounds(part: Part, stopping: Stopping, health: Health, said: Log, settings: Settings) -> None:
    failures = 0
    while not stopping.event.is_set():
        part.woken.clear()
        try:
            again, wait = part.step(), part.idle
        except Exception as error:  # noqa: BLE001 (no error of a round ends a part)
            again, wait = False, pause(failures, settings.limits)
            failures += 1
            known = isinstance(error, Unreachable | Rejected | Busy | HilumError)
            if health.stopped(part.name, error):
                said(
                    "part stopped", level="warning" if known else "error", part=part.name,
                    error=type(error).__name__,
                )  # fmt: skip
            stopping.event.wait(wait)  # what arrives does not wake a part that is stopped
            continue
        failures = 0
        if health.works(part.name):
            said("part works again", part=part.name)
        if not again:
            part.woken.wait(wait)


def _wait(
    stopping: threading.Event,
    journal: Journal,
    settings: Settings,
    until: Callable[[threading.Event], None] | None,
) -> None:
    """Wait until the node is to be stopped, and remove old rows now and then."""
    tidied = 0.0
    try:
        if until:
            until(stopping)
            return
        while not stopping.wait(_IDLE):
            if time.monotonic() - tidied > _TIDY or not tidied:
                tidied = time.monotonic()
                journal.forget(time.time() - settings.limits.keep_days * _DAY)
    except Interrupted:
        return
