"""Films by C-STORE from those who may, results by C-STORE (PS3.4 annex B, PS3.7, PS3.8).

A caller is known by its AE title and its host; the node answers to its own AE title alone. Of
radiographs every transfer syntax that Hilum decodes is taken; other objects that studies of
radiography hold are taken too and skipped by the inbox, so that an archive can send a study whole.
The answer 0000H means that the object is on the disk and in the journal:

    0000H    taken in, or nothing to be done with it
    A700H    the disk is full or too many films wait; the sender is to try again
    C000H    broken, or larger than an object may be
    C001H    the node could not take it in
"""

from __future__ import annotations

import logging
import ssl
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilum.errors import BadRecipe, CannotRead, CannotWrite, MissingExtra, Unreachable
from hilum.imaging.files import dicom
from hilum.node.busy import Busy
from hilum.node.inbox import Inbox, Refused, Stream
from hilum.node.settings import Caller, Destination, Listen, Settings

if TYPE_CHECKING:
    from pydicom import Dataset
    from pynetdicom import AE
    from pynetdicom.association import Association
    from pynetdicom.events import Event
    from pynetdicom.presentation import PresentationContext

    from hilum.node.associations import Bounds, Say, Spool

EXTRA, SOURCE = "dicom", "dimse"
SUCCESS, OUT_OF_RESOURCES, NOT_UNDERSTOOD, CANNOT_PROCESS = 0x0000, 0xA700, 0xC000, 0xC001
_WRONG_CALLER, _WRONG_CALLED = (0x01, 0x01, 0x03), (0x01, 0x01, 0x07)  # PS3.8 table 9-21
_NEGOTIATION_S = 10.0  # from the connection to the request of an association
_VERIFICATION = "1.2.840.10008.1.1"  # of C-ECHO
_STORAGE = "1.2.840.10008.5.1.4.1.1."
RADIOGRAPHS = tuple(_STORAGE + end for end in ("1", "1.1", "1.1.1"))
OTHERS = tuple(  # captures, reports, presentation states, segmentations, key images, PDF
    _STORAGE + end
    for end in ("7", "88.11", "88.22", "88.33", "88.34", "88.67", "88.59")
    + ("11.1", "66.4", "66.7", "104.1")
)
_UNCOMPRESSED = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
_MOST_CONTEXTS = 128  # of an association (PS3.8 9.3.2.2)


def _silent(event: str, level: str = "info", **fields: object) -> None:
    """Say nothing."""


@contextmanager
def listen(inbox: Inbox, settings: Settings, say: Say = _silent) -> Iterator[int]:
    """Receive objects while the block runs; yield the port.

    Raises `BadRecipe` without [listen], `CannotRead` for certificates that cannot be read,
    `CannotWrite` where the port is taken, `MissingExtra` without the extra.
    """
    of = settings.listen
    if of is None:
        raise BadRecipe("node.toml has no section [listen]; add it, with allowed_callers")
    with MissingExtra.explained(EXTRA, "receiving films by C-STORE"):
        from pynetdicom import evt

        from hilum.node import associations
    bounds = associations.Bounds(
        folder=inbox.incoming,
        object_bytes=settings.limits.object_bytes,
        seconds=settings.limits.request_seconds,
        busy=lambda: _is_busy(inbox),
        hosts=_hosts(of.allowed_callers),
        say=say,
    )
    entity = _entity(of.ae_title, bounds.seconds)
    entity.maximum_associations = associations.MOST_ASSOCIATIONS
    entity.require_called_aet = True
    handlers: list[Any] = [
        (evt.EVT_REQUESTED, _request_handler(of, say)),
        (evt.EVT_ACCEPTED, _contexts_handler(say)),
        (evt.EVT_C_STORE, _store_handler(inbox, say)),
        (evt.EVT_C_ECHO, lambda event: SUCCESS),
    ]
    with _quiet(), _unwarned(), _served(entity, of, bounds, handlers) as port:
        yield port


@contextmanager
def _served(entity: AE, of: Listen, bounds: Bounds, handlers: list[Any]) -> Iterator[int]:
    import threading

    from hilum.node import associations

    try:
        server = entity.make_server(
            (of.host, of.port),
            evt_handlers=handlers,
            server_class=associations.Server,  # pyright: ignore[reportArgumentType]
            bounds=bounds,
            tls=_server_tls(of),
        )
    except OSError as error:
        raise CannotWrite(
            f"port {of.port} of {of.host} cannot be listened on ({error.strerror}); choose another "
            f"in [listen], or end what uses it"
        ) from error
    entity._servers.append(server)  # pyright: ignore  (its shutdown takes it out again)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        for association in server.active_associations:
            association.abort()
        server.shutdown()
        thread.join()


def _entity(title: str, seconds: float) -> AE:
    from pynetdicom import AE, build_context

    from hilum.node.associations import MOST_PDU

    entity = AE(title)
    entity.maximum_pdu_size = MOST_PDU
    entity.network_timeout = entity.dimse_timeout = entity.connection_timeout = seconds
    entity.acse_timeout = min(_NEGOTIATION_S, seconds)
    entity.supported_contexts = [
        build_context(_VERIFICATION, list(_UNCOMPRESSED)),
        *(build_context(uid, list(dicom.TRANSFER_SYNTAXES)) for uid in RADIOGRAPHS),
        *(build_context(uid, list(dicom.TRANSFER_SYNTAXES)) for uid in OTHERS),
    ]
    return entity


def _is_busy(inbox: Inbox) -> bool:
    try:
        inbox.refuse_if_busy()
    except Busy:
        return True
    return False


def _hosts(callers: Sequence[Caller]) -> set[str] | None:
    """Return the addresses that may connect; None where a caller may come from anywhere."""
    from hilum.node.associations import addresses_of

    if not all(one.host for one in callers):
        return None
    return {found for one in callers for found in addresses_of(one.host)}


# -------------------------------------------------------------------------- what callers request


def _request_handler(of: Listen, say: Say) -> Callable[[Event], None]:
    from hilum.node.associations import address_of, addresses_of

    allowed = [
        (one.ae_title.strip(), addresses_of(one.host) if one.host else None)
        for one in of.allowed_callers
    ]

    def requested(event: Event) -> None:
        """Reject a request from a title and host that do not belong together."""
        primitive: Any = event.assoc.requestor.primitive
        host = address_of(event.assoc)
        title = (primitive.calling_ae_title or "").strip()
        called = (primitive.called_ae_title or "").strip()
        known = any(title == name and (at is None or host in at) for name, at in allowed)
        if known and called == of.ae_title.strip():
            return
        why, answer = ("called", _WRONG_CALLED) if known else ("caller", _WRONG_CALLER)
        # An unknown title is not repeated: it may be anything.
        say("association refused", level="warning", reason=f"{why} AE title", host=host)
        event.assoc.acse.send_reject(*answer)
        event.assoc.kill()

    return requested


def _contexts_handler(say: Say) -> Callable[[Event], None]:
    def accepted(event: Event) -> None:
        """Report what a caller offered that is not taken, by the standard's identifiers."""
        known = {*RADIOGRAPHS, *OTHERS}
        rejected = event.assoc.rejected_contexts
        unread = sum(str(one.abstract_syntax) in known for one in rejected)
        if unread:
            say("transfer syntaxes not read", level="warning", contexts=unread)
        if len(rejected) > unread:
            say("objects not taken", contexts=len(rejected) - unread)

    return accepted


def _store_handler(inbox: Inbox, say: Say) -> Callable[[Event], int | Dataset]:
    def stored(event: Event) -> int | Dataset:
        """Take an object in, and answer when it is on the disk."""
        request: Any = event.request
        spool: Spool = request.DataSet
        try:
            if spool.full:
                raise Busy("the disk is full, or too many films wait")
            taken = inbox.accept(lambda stream: _write(stream, event, spool), SOURCE)
        except (Busy, CannotWrite):
            say("object refused", level="warning", reason="busy")
            return OUT_OF_RESOURCES
        except Exception as error:  # noqa: BLE001 (an answer is due whatever happens)
            say("object refused", level="error", reason="fault", error=type(error).__name__)
            return CANNOT_PROCESS
        finally:
            spool.close()
        if isinstance(taken, Refused):
            say("object refused", level="warning", reason="broken")
            return _commented(NOT_UNDERSTOOD, "not a DICOM object that can be read")
        return SUCCESS

    return stored


def _commented(status: int, comment: str) -> Dataset:
    from pydicom import Dataset

    answer = Dataset()
    answer.Status, answer.ErrorComment = status, comment
    return answer


def _write(stream: Stream, event: Event, spool: Spool) -> None:
    """Write what came as a file (PS3.10 7.1)."""
    from pydicom.filewriter import write_file_meta_info

    head = BytesIO()
    with dicom.quietly():
        write_file_meta_info(head, event.file_meta)  # pyright: ignore[reportArgumentType]
    stream.write(bytes(128) + b"DICM" + head.getvalue())
    for block in spool.blocks():
        stream.write(block)


# ------------------------------------------------------------------------------ storing results


def store(paths: Sequence[Path], to: Destination, seconds: float = 30.0) -> Mapping[Path, str]:
    """Store files by C-STORE in one association; return why some were refused, by path.

    Raises `Unreachable` where the archive is at fault: it does not answer, lets nobody in, or has
    no space.
    """
    with MissingExtra.explained(EXTRA, "storing results by C-STORE"):
        from pynetdicom import build_context
    headers = {path: dicom.header(path) for path in paths}
    wanted = dict.fromkeys((one.sop_class or "", one.syntax or "") for one in headers.values())
    contexts = [build_context(uid, syntax) for uid, syntax in wanted][:_MOST_CONTEXTS]
    classes = {path: one.sop_class or "" for path, one in headers.items()}
    with _associated(to, contexts, seconds) as association:
        return _stored(association, classes, _where(to))


def echo(to: Destination, seconds: float) -> None:
    """Raise `Unreachable` where a destination does not answer C-ECHO (PS3.7 9.1.5)."""
    with MissingExtra.explained(EXTRA, "storing results by C-STORE"):
        from pynetdicom import build_context
    with _associated(to, [build_context(_VERIFICATION)], seconds) as association:
        if association.send_c_echo().get("Status") != SUCCESS:
            raise Unreachable(f"{_where(to)} does not answer C-ECHO")


def _where(to: Destination) -> str:
    return f"{to.host}:{to.port} as {to.ae_title}"


@contextmanager
def _associated(
    to: Destination, contexts: list[PresentationContext], seconds: float
) -> Iterator[Association]:
    from pynetdicom import AE

    entity = AE(to.calling_ae_title)
    entity.network_timeout = entity.dimse_timeout = entity.connection_timeout = seconds
    entity.acse_timeout = seconds
    with _quiet():
        association = entity.associate(
            to.host,
            to.port,
            contexts=contexts,
            ae_title=to.ae_title,
            tls_args=(_client_tls(to), to.host) if to.tls else None,
        )
        if not association.is_established:
            why = "rejects the node" if association.is_rejected else "does not answer"
            raise Unreachable(
                f"{_where(to)} {why}; check its list of AE titles, address, port and certificate"
            )
        try:
            yield association
        finally:
            association.release() if association.is_established else association.abort()


def _stored(association: Association, classes: Mapping[Path, str], where: str) -> dict[Path, str]:
    taken = {str(one.abstract_syntax) for one in association.accepted_contexts}
    refused = {}
    for path, uid in classes.items():
        if uid not in taken:
            refused[path] = f"{where} takes no objects of the class {uid} as they are encoded"
            continue
        answer = association.send_c_store(path)
        status = answer.get("Status")
        if status is None:
            raise Unreachable(f"{where} ended the association")
        if status >> 8 == OUT_OF_RESOURCES >> 8:
            raise Unreachable(f"{where} has no space")
        if status != SUCCESS and status >> 12 != 0xB:  # warnings: it is stored
            refused[path] = f"{where} refused an object: status {status:04X}H"
    return refused


# ------------------------------------------------------------------------------------- security


def examine(of: Listen) -> None:
    """Raise `CannotRead` for certificates that cannot be used, `NotFound` for an unknown host."""
    _server_tls(of)
    _hosts([one for one in of.allowed_callers if one.host])


def _server_tls(of: Listen) -> ssl.SSLContext | None:
    """Return the TLS of the node's port; with an authority, callers need a certificate of it."""
    if not of.certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, of.certificate, of.key, of.ca)
    if of.ca:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _client_tls(to: Destination) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which demands a certificate of that host
    if not to.ca:
        context.load_default_certs()
    _load(context, to.certificate, to.key, to.ca)
    return context


def _load(context: ssl.SSLContext, certificate: str, key: str, authority: str) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if certificate:
            # Without a password, OpenSSL would ask for one at the terminal.
            context.load_cert_chain(certificate, key, password=lambda: "")
        if authority:
            context.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as error:
        raise CannotRead(
            f"the certificate {certificate or authority} cannot be used ({type(error).__name__}); "
            f"expected PEM files, the key without a password and fitting the certificate"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence pynetdicom's log, which repeats what peers send, within the block."""
    log = logging.getLogger("pynetdicom")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)


@contextmanager
def _unwarned() -> Iterator[None]:
    """Drop pydicom's warnings, which repeat values, while the node listens; for the process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"pydicom\b")
        yield
