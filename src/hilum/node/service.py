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
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from hilum import storage
from hilum.errors import CannotWrite, HilumError, Interrupted, MissingExtra
from hilum.node import monitor, web_servers
from hilum.node.busy import Busy
from hilum.node.cautions import cautions
from hilum.node.dicomweb import DicomWebServer
from hilum.node.health import Health
from hilum.node.inbox import Inbox
from hilum.node.journal import Journal
from hilum.node.logs import Log
from hilum.node.orthanc import OrthancServer
from hilum.node.reader import Reader
from hilum.node.reading import Reading
from hilum.node.sender import Sender, Store, stow
from hilum.node.settings import DIMSE, SOURCE, Settings
from hilum.node.source import Source, pause

JOURNAL = "journal.sqlite"
GRACE = 20.0  # seconds that parts have to end their round
_IDLE = 1.0  # seconds until a part that nothing woke has another round
_LONGEST_PAUSE = 30.0  # seconds of a part, so that what stopped it is not outlived for long
_TIDY = 600.0  # seconds between two rounds of tidying
_DAY = 86400.0


@dataclass(frozen=True)
class Part:
    """A part of a node: its `step` is one round, and says whether there was anything to do."""

    name: str
    step: Callable[[], object]
    idle: float
    woken: threading.Event


def journal_of(settings: Settings) -> Journal:
    """Open the journal of a node."""
    return Journal(settings.state / JOURNAL)


@dataclass(frozen=True)
class Node:
    """A node that is put together; nothing of it runs yet."""

    settings: Settings
    journal: Journal
    inbox: Inbox
    health: Health
    said: Log
    parts: tuple[Part, ...]


@contextmanager
def assembled(settings: Settings, reader: Reader, stream: TextIO) -> Iterator[Node]:
    """Hold the folder of a node, and give its parts, ready to go on from the journal.

    Its log goes to `stream`. Raises `HilumError` where another node uses the folder.
    """
    _refuse_open(settings.state)
    with storage.locked(settings.state), ExitStack() as stack:
        journal = journal_of(settings)
        stack.callback(journal.close)
        journal.check()
        health, woken = Health(journal), threading.Event()
        said = Log(stream, health.hear)

        def arrived(key: str) -> None:
            """Wake the reader."""
            said("film received", film=key)
            woken.set()

        inbox = Inbox(settings.state, journal, settings.limits, reader.digest, arrived)
        journal.begin_again()
        inbox.clear()
        parts = tuple(_parts(settings, inbox, reader, woken, said))
        yield Node(settings, journal, inbox, health, said, parts)


def _refuse_open(state: Path) -> None:
    """Make the folder of a node, or refuse one that others may enter, since patients' films lie
    there.
    """
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CannotWrite.because(state, error) from error
    if state.stat().st_mode & 0o077:
        raise HilumError(
            f"{state} is open to other users of this machine, and patients' films would lie there; "
            f"close it with `chmod 700`, or choose another folder in [node] state"
        )


def run(
    settings: Settings,
    say: Callable[[str], None],
    until: Callable[[], None] | None = None,
) -> None:
    """Run a node until Ctrl-C, SIGTERM, or until `until` returns; `say` hears where it listens.

    Raises `HilumError` where it cannot start: another node uses the folder, a model is missing, a
    port is taken.
    """
    with MissingExtra.explained("dicom", "a node, which writes results as DICOM objects,"):
        import highdicom  # noqa: F401
    for caution in cautions(settings):
        say(caution)
    reader, failures = Reader.of(settings), 0
    with suppress(Interrupted):
        while True:
            try:
                return _run(settings, reader, say, until)
            except Busy as error:  # the disk is full: it waits here as it would later
                say(str(error))
                time.sleep(pause(failures, settings.limits))
                failures += 1


def _run(
    settings: Settings,
    reader: Reader,
    say: Callable[[str], None],
    until: Callable[[], None] | None,
) -> None:
    monitored = settings.monitor
    with assembled(settings, reader, sys.stderr) as node, ExitStack() as stack:
        port = stack.enter_context(monitor.serving(monitored, node.health, node.journal))
        say(f"health, metrics and worklist at http://{monitored.host}:{port}/")
        stack.enter_context(_working(node))
        if settings.listen:
            stack.enter_context(_listening(node.inbox, settings, node.said))
        node.said("node started", models=reader.digest)
        _wait(node, until)


def _parts(
    settings: Settings, inbox: Inbox, reader: Reader, arrived: threading.Event, said: Log
) -> Iterator[Part]:
    limits, reading = settings.limits, Reading(inbox, reader, settings.limits, said)
    senders = tuple(_senders(settings, inbox, said))

    def read() -> int:
        """Read a film, and wake the senders."""
        done = reading.step()
        for one in senders if done else ():
            one.woken.set()
        return done

    yield Part("reader", read, _IDLE, arrived)
    yield from senders
    if settings.orthanc:
        peer = web_servers.rest_of(settings.orthanc, settings).connect()
        server = OrthancServer(peer, settings.orthanc, inbox.journal)
        source = Source(server, inbox, limits, said)
        yield Part("orthanc", source.step, settings.orthanc.poll_seconds, threading.Event())
    if settings.dicomweb:
        peer = web_servers.servers(settings)["source.dicomweb"].connect()
        of_web = DicomWebServer(peer, settings.dicomweb, inbox.journal)
        source = Source(of_web, inbox, limits, said)
        yield Part("dicomweb", source.step, settings.dicomweb.poll_seconds, threading.Event())


def _senders(settings: Settings, inbox: Inbox, said: Log) -> Iterator[Part]:
    """Yield a part for each archive that takes results: one that fails delays no other."""
    stores = _stores(settings)
    besides = tuple(filter(None, stores))
    for source, store in stores.items():
        sending = Sender(inbox, store, settings.limits, said, source, besides)
        yield Part(f"sender {source}".strip(), sending.step, _IDLE, threading.Event())


def _stores(settings: Settings) -> dict[str, Store]:
    """Return what stores results, by the source of a film; "" for any other."""
    if settings.destination.to == DIMSE:
        return {"": _by_dimse(settings)}
    first, *others = web_servers.servers(settings).items()
    found = {"": stow(first[1].connect())}
    if settings.destination.to == SOURCE:
        found |= {name.removeprefix("source."): stow(one.connect()) for name, one in others}
    return found


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
def _working(node: Node) -> Iterator[None]:
    """Let each part work on a thread of its own; at the end they end their rounds."""
    stopping = threading.Event()
    threads = [
        threading.Thread(target=_rounds, args=(part, node, stopping), daemon=True)
        for part in node.parts
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for part in node.parts:
            part.woken.set()
        last = time.monotonic() + GRACE
        for thread in threads:
            thread.join(max(0.0, last - time.monotonic()))
        node.said("node stopped", in_time=not any(thread.is_alive() for thread in threads))


def _rounds(part: Part, node: Node, stopping: threading.Event) -> None:
    failures = 0
    while not stopping.is_set():
        part.woken.clear()
        try:
            again = part.step()
        except Exception as error:  # noqa: BLE001 (no error of a round ends a part)
            _stopped(part, node, error)
            # What arrives does not wake a part that is stopped.
            stopping.wait(min(_LONGEST_PAUSE, pause(failures, node.settings.limits)))
            failures += 1
            continue
        failures = 0
        if node.health.works(part.name):
            node.said("part works again", part=part.name)
        if not again and not stopping.is_set():
            part.woken.wait(part.idle)


def _stopped(part: Part, node: Node, error: Exception) -> None:
    if node.health.stopped(part.name, error):
        level = "warning" if isinstance(error, HilumError) else "error"
        node.said("part stopped", level=level, part=part.name, error=type(error).__name__)


def _wait(node: Node, until: Callable[[], None] | None) -> None:
    """Wait until the node is to be stopped, and tidy now and then."""
    if until:
        return until()
    with suppress(Interrupted):
        while True:
            with suppress(HilumError, OSError):  # the parts say what is wrong
                tidy(node)
            time.sleep(_TIDY)


def tidy(node: Node) -> None:
    """Remove what is older than [limits] keep_days, and the files of films that were dropped."""
    before = time.time() - node.settings.limits.keep_days * _DAY
    node.journal.drop(before=before)
    node.journal.forget(before)
    node.inbox.tidy()
