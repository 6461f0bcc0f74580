"""Take part in DICOM associations as one who trusts no caller (PS3.8).

pynetdicom runs the protocol. What it leaves open to a hostile or broken peer is closed here:

    a connection     only from hosts that are allowed, and `MOST_CONNECTIONS` at once; TLS is
                     negotiated on the connection's own thread, so a silent peer delays no other
    a PDU            at most `MOST_PDU` bytes, and whole within the seconds of silence allowed
    a message        a command of at most `MOST_COMMAND` bytes, and none before the one before it is
                     answered; its data set goes to a file without a name, which vanishes with the
                     association, of at most the bytes that an object may have

What breaks a bound ends its own association, and nothing else. This module imports pynetdicom, so
`hilum.node.dimse` imports it where it is needed.
"""

from __future__ import annotations

import queue
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from ipaddress import ip_address
from pathlib import Path
from typing import IO, Any

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import (
    AddressInformation,
    AssociationSocket,
    RequestHandler,
    ThreadedAssociationServer,
)

from hilum.errors import NotFound

MOST_CONNECTIONS = 64
MOST_ASSOCIATIONS = 16
MOST_PDU = 1 << 17  # bytes
MOST_COMMAND = 1 << 14  # bytes; the longest of a C-STORE has some 300
_CHUNK = 1 << 16
_INVALID = "Evt19"  # of the protocol's state machine: an invalid PDU, which ends the association
_PRINTED = (evt.EVT_DIMSE_RECV, evt.EVT_DIMSE_SENT, evt.EVT_PDU_RECV, evt.EVT_PDU_SENT)

Say = Callable[..., None]  # an event, its level, and names and numbers by keyword


class TooMuch(Exception):
    """A peer broke a bound. The text repeats nothing that the peer sent, so it may be logged."""


@dataclass(frozen=True)
class Bounds:
    """What callers may cost, and who may call.

    `folder` is where data sets are spooled, `seconds` are those of silence and of one PDU, `busy`
    says whether no object can be taken in now, `hosts` are the addresses that may connect, None for
    any.
    """

    folder: Path
    object_bytes: int
    seconds: float
    busy: Callable[[], bool]
    hosts: Collection[str] | None
    say: Say


class Spool(BytesIO):
    """The data set of a message as it comes.

    `full` is set where it is not kept, since the node is busy or the disk is full: what comes is
    counted and forgotten, so that the peer can be answered. Raises `TooMuch` beyond the bound.
    """

    def __init__(self, bounds: Bounds) -> None:
        super().__init__()
        self.length, self.full = 0, False
        self._bounds = bounds
        self._file: IO[bytes] | None = None

    def write(self, data: Any, /) -> int:
        """Keep the next bytes."""
        if not self.length:
            self._open()
        self.length += len(data)
        if self.length > self._bounds.object_bytes:
            self.close()
            raise TooMuch("an object larger than [limits] object_bytes")
        if self._file is not None:
            try:
                self._file.write(data)
            except OSError:
                self.full = True
                self.close()
        return len(data)

    def _open(self) -> None:
        self.full = self._bounds.busy()
        try:
            if not self.full:
                self._file = tempfile.TemporaryFile(dir=self._bounds.folder)  # noqa: SIM115
        except OSError:
            self.full = True

    def blocks(self) -> Iterator[bytes]:
        """Yield what was kept, from its beginning."""
        if self._file is not None:
            self._file.seek(0)
            while block := self._file.read(_CHUNK):
                yield block

    def close(self) -> None:
        """Forget what was kept."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # of bytes that the disk has no space for
                file.close()


class _Command(BytesIO):
    """The command set of a message as it comes. Raises `TooMuch` beyond its bound."""

    def write(self, data: Any, /) -> int:
        """Keep the next bytes."""
        if self.tell() + len(data) > MOST_COMMAND:
            raise TooMuch("a command too long for any message")
        return super().write(data)


class Messages(DIMSEServiceProvider):
    """Puts the messages of an association together, within its bounds."""

    def __init__(self, association: Association, bounds: Bounds) -> None:
        super().__init__(association)
        self._bounds = bounds

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the next part of a message."""
        try:
            if self.msg_queue.qsize():
                raise TooMuch("a message before the one before it was answered")
            if self.message is None:
                self.message = DIMSEMessage()
                self.message.encoded_command_set = _Command()
                self.message.data_set = Spool(self._bounds)
            super().receive_primitive(primitive)
        except Exception as error:  # noqa: BLE001 (whatever a peer's bytes raise ends it alone)
            why = str(error) if isinstance(error, TooMuch) else "a message that is none"
            self._bounds.say("association ended", level="warning", reason=why)
            self.drop()
            self.dul.event_queue.put(_INVALID)

    def drop(self) -> None:
        """Forget the message that is incomplete, and those that nobody answers any more."""
        message, self.message = self.message, None
        _close(message.data_set if message else None)
        while not self.msg_queue.empty():
            with suppress(queue.Empty):
                _, request = self.msg_queue.get_nowait()
                _close(getattr(request, "DataSet", None))


def _close(data_set: BytesIO | None) -> None:
    if data_set is not None:
        data_set.close()


class BoundedSocket(AssociationSocket):
    """A connection that gives no PDU more bytes or time than it may have."""

    bounds: Bounds

    def recv(self, nr_bytes: int) -> bytearray:
        """Return bytes of the peer, fewer where it hung up. Raises `OSError`."""
        if nr_bytes > MOST_PDU or self.socket is None:
            self.bounds.say("association ended", level="warning", reason="a PDU of too many bytes")
            raise OSError("a PDU of too many bytes")
        data, last = bytearray(), time.monotonic() + self.bounds.seconds
        while len(data) < nr_bytes:
            left = last - time.monotonic()
            if left <= 0:
                self.bounds.say(
                    "association ended", level="warning", reason="a PDU came too slowly"
                )
                raise TimeoutError
            self.socket.settimeout(left)
            block = self.socket.recv(min(_CHUNK, nr_bytes - len(data)))
            if not block:
                break
            data += block
        self.socket.settimeout(self.bounds.seconds)
        return data


class Connection(RequestHandler):
    """Begins the association of one connection."""

    server: Server

    def handle(self) -> None:
        """Negotiate TLS where the node speaks it, then let the association run on its threads."""
        self.request.settimeout(self.server.bounds.seconds)
        if self.server.tls:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().handle()

    def _create_association(self) -> Association:
        association, bounds = super()._create_association(), self.server.bounds
        with suppress(queue.Empty):  # the event of the socket that is replaced
            association.dul.event_queue.get_nowait()
        connection = BoundedSocket(association, client_socket=self.request)
        connection.bounds = bounds
        association.dul.socket = connection
        messages = association.dimse = Messages(association, bounds)
        for event in _PRINTED:
            handlers: Any = association.get_handlers(event)
            for handler, _ in list(handlers):
                association.unbind(event, handler)
        association.run = _guarded(association.run, bounds, messages.drop)
        association.dul.run = _guarded(association.dul.run, bounds, messages.drop)
        return association


def _guarded(run: Callable[[], None], bounds: Bounds, after: Callable[[], None]):
    """Return what a thread runs, so that nothing is printed of what a peer's bytes raise."""

    def guarded() -> None:
        """Run, and clear away."""
        try:
            run()
        except Exception as error:  # noqa: BLE001 (as above)
            name = type(error).__name__
            bounds.say("association ended", level="warning", reason="invalid", error=name)
        finally:
            after()

    return guarded


class Server(ThreadedAssociationServer):
    """Listens for connections; `bounds` and `tls` are set before it does."""

    daemon_threads = True
    request_queue_size = 128
    bounds: Bounds
    tls: ssl.SSLContext | None = None

    def __init__(self, *arguments: Any, bounds: Bounds, tls: ssl.SSLContext | None, **named: Any):
        self.bounds, self.tls = bounds, tls
        self._opening, self._lock = 0, threading.Lock()
        super().__init__(*arguments, request_handler=Connection, **named)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return whether a connection may be: from where it comes, and how many there are."""
        hosts, host = self.bounds.hosts, as_ipv4(str(client_address[0]))
        if hosts is not None and host not in hosts:
            self.bounds.say("connection refused", level="warning", reason="host", host=host)
            return False
        with self._lock:
            if self._opening + len(self.active_associations) >= MOST_CONNECTIONS:
                self.bounds.say("connection refused", level="warning", reason="too many", host=host)
                return False
            self._opening += 1
        return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Begin an association on a thread of its own."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._opening -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report a connection that did not become an association."""
        host = str(client_address[0])
        self.bounds.say("connection refused", level="warning", reason="not begun", host=host)


def addresses_of(host: str) -> set[str]:
    """Return the addresses of a host, by name or address. Raises `NotFound` for an unknown one."""
    try:
        return {as_ipv4(str(found[4][0])) for found in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError) as error:
        raise NotFound(
            f"the host {host} of [listen] allowed_callers is not known ({error}); give its address"
        ) from error


def address_of(association: Association) -> str:
    """Return the address of the peer that requests an association."""
    info = association.requestor.address_info
    return as_ipv4(info.address) if isinstance(info, AddressInformation) else ""


def as_ipv4(address: str) -> str:
    """Return an address as IPv4 where it is an IPv4 address written as IPv6 (RFC 4291 2.5.5.2)."""
    try:
        return str(getattr(ip_address(address), "ipv4_mapped", None) or address)
    except ValueError:
        return address
