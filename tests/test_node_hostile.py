"""Whatever is sent to a node's DICOM port, it is refused at its own cost and the next film is taken.

Nothing that a peer sends is repeated in a log.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import threading
import time
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import dicom_sources
import numpy as np
import pytest
from dicom_files import write

pytest.importorskip("pynetdicom", reason="needs the extra [dicom]")

from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    Verification,
)

from hilum.errors import BadData, BadRecipe, CannotRead, CannotWrite, Unreachable
from hilum.imaging.files import dicom
from hilum.node import associations, dimse
from hilum.node.inbox import Inbox
from hilum.node.journal import RECEIVED, SKIPPED, Journal
from hilum.node.settings import Caller, Destination, Limits, Listen, Settings

SECRET = "Doe^Jane"
CALLER = "MODALITY"
SMALL = np.arange(64, dtype=np.uint16).reshape(8, 8)
BOUNDS = Limits(
    request_seconds=0.6, object_bytes=1 << 20, free_bytes=0, state_bytes=1 << 30, pending=1000
)


@dataclass
class Node:
    """A node that listens, and what it said."""

    port: int
    inbox: Inbox
    said: list[str] = field(default_factory=list)

    def store(self, *paths: Path, title: str = "HILUM", caller: str = CALLER, **tls):
        to = Destination(
            to="dimse",
            host="127.0.0.1",
            port=self.port,
            ae_title=title,
            calling_ae_title=caller,
            **tls,
        )
        return dimse.store(paths, to, 5.0)

    def connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def reasons(self) -> str:
        return "\n".join(self.said)

    def settled(self) -> None:
        """Wait until no association is left."""
        for _ in range(400):
            names = [one.name for one in threading.enumerate()]
            if not any("AcceptorThread" in name for name in names):
                return
            time.sleep(0.01)
        raise AssertionError("associations are left over")


@contextmanager
def listening(folder: Path, listen: Listen | None = None, limits: Limits = BOUNDS):
    journal = Journal(folder / "journal.sqlite")
    inbox = Inbox(folder, journal, limits)
    of = listen or Listen(port=0, allowed_callers=(Caller(CALLER, "127.0.0.1"),))
    said: list[str] = []

    def say(event: str, level: str = "info", **fields: object) -> None:
        said.append(f"{level} {event} {fields}")

    node = Settings(listen=of, limits=limits)
    with dimse.listen(inbox, node, say) as port:
        made = Node(port, inbox, said)
        yield made
    journal.close()


@pytest.fixture
def node(tmp_path, capfd, recwarn):
    with listening(tmp_path / "node") as made:
        yield made
        made.settled()
        printed = [made.reasons(), *capfd.readouterr(), *(str(one.message) for one in recwarn)]
        assert SECRET not in "".join(printed)
        assert not list(made.inbox.incoming.iterdir()), "nothing half is left"


def film(path: Path, number: int = 1, **header) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    chest = {**dicom_sources.FULL, "PatientName": SECRET, "SOPInstanceUID": f"1.2.1.{number}"}
    del chest["PatientOrientation"]
    return write(path, SMALL, bits=12, **{**chest, **header})


def still_works(node: Node, folder: Path, number: int = 99) -> None:
    """A film is still taken, and is in the journal; a slow machine may be late at first."""
    before = len(node.inbox.journal.films(RECEIVED, 1000))
    path, last = film(folder / "after.dcm", number), time.monotonic() + 10
    while True:
        try:
            assert node.store(path) == {}
            break
        except Unreachable:
            if time.monotonic() > last:
                raise
    assert len(node.inbox.journal.films(RECEIVED, 1000)) == before + 1


# -------------------------------------------------------------------------------- what is usual


def test_echo_and_store_work_and_what_is_stored_is_the_file(node, tmp_path):
    entity = AE(CALLER)
    association = entity.associate(
        "127.0.0.1", node.port, [_context(Verification)], ae_title="HILUM"
    )
    assert association.send_c_echo().Status == 0
    association.release()
    sent = film(tmp_path / "a.dcm")
    assert node.store(sent) == {} and node.store(sent) == {}, "twice is once"
    (found,) = node.inbox.journal.films(RECEIVED, 10)
    there, here = dcmread(node.inbox.place(found.key)), dcmread(sent)
    assert there == here and there.file_meta.TransferSyntaxUID == here.file_meta.TransferSyntaxUID


def _context(uid, syntax=None):
    from pynetdicom import build_context

    return build_context(uid, syntax or [ExplicitVRLittleEndian])


def test_what_is_decoded_is_taken_as_it_is_encoded(node):
    for syntax in dicom.TRANSFER_SYNTAXES:
        association = AE(CALLER).associate(
            "127.0.0.1",
            node.port,
            [_context(ComputedRadiographyImageStorage, syntax)],
            ae_title="HILUM",
        )
        assert association.is_established and association.accepted_contexts, syntax
        association.release()


def test_objects_of_other_classes_are_skipped_or_not_taken(node, tmp_path):
    capture = film(tmp_path / "sc.dcm", 2, SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    slice_ = film(tmp_path / "ct.dcm", 3, SOPClassUID=CTImageStorage, Modality="CT")
    refused = node.store(capture, slice_)
    assert list(refused) == [slice_] and "takes no objects of the class" in refused[slice_]
    assert len(node.inbox.journal.films(SKIPPED, 10)) == 1
    assert "objects not taken" in node.reasons()


def test_a_transfer_syntax_that_is_not_read_is_refused(node, tmp_path):
    video = "1.2.840.10008.1.2.4.102"
    entity = AE(CALLER)
    association = entity.associate(
        "127.0.0.1", node.port, [_context(ComputedRadiographyImageStorage, video)], ae_title="HILUM"
    )
    assert [one.result for one in association.rejected_contexts] == [4]  # PS3.8 table 9-18
    association.abort()
    node.settled()
    assert "transfer syntaxes not read" in node.reasons()


# --------------------------------------------------------------------------------- who may call


@pytest.mark.parametrize(
    ("title", "caller", "reason"),
    [
        ("OTHER", CALLER, "called AE title"),
        ("HILUM", "NOBODY", "caller AE title"),
        ("HILUM", SECRET, "caller AE title"),
    ],
)
def test_wrong_ae_titles_are_rejected(title, caller, reason, node, tmp_path):
    with pytest.raises(Unreachable, match="rejects the node"):
        node.store(film(tmp_path / "a.dcm"), title=title, caller=caller)
    assert reason in node.reasons()
    still_works(node, tmp_path)


def test_a_title_is_known_from_its_own_host_alone(tmp_path):
    callers = (Caller(CALLER, "127.0.0.2"), Caller("LOCAL", "127.0.0.1"))
    with listening(tmp_path / "node", Listen(port=0, allowed_callers=callers)) as node:
        with pytest.raises(Unreachable, match="rejects the node"):
            node.store(film(tmp_path / "a.dcm"))
        assert node.store(film(tmp_path / "a.dcm"), caller="LOCAL") == {}
    elsewhere = Listen(port=0, allowed_callers=(Caller(CALLER, "127.0.0.2"),))
    with listening(tmp_path / "other", elsewhere) as node:
        with pytest.raises(Unreachable, match="does not answer"):
            node.store(film(tmp_path / "a.dcm"))
        assert "connection refused" in node.reasons()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, a certificate that it signed, and one that it did not."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")

    def run(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    local = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    for name in ("mine", "other"):
        run(*new, *local, "-days", "2", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    return folder


def test_with_tls_only_those_with_a_certificate_come_in(certificates, tmp_path):
    def tls(name: str) -> dict:
        return {"certificate": f"{certificates}/{name}.pem", "key": f"{certificates}/{name}.key"}

    authority = {"ca": f"{certificates}/mine.pem"}
    listen = Listen(port=0, allowed_callers=(Caller(CALLER),), **tls("mine"), **authority)
    sent = film(tmp_path / "a.dcm")
    with listening(tmp_path / "node", listen) as node:
        assert node.store(sent, tls=True, **tls("mine"), **authority) == {}
        silent = node.connected()  # delays nobody
        assert node.store(sent, tls=True, **tls("mine"), **authority) == {}
        for options in (
            {},
            {"tls": True, **authority},
            {"tls": True, **tls("other"), **authority},
            {"tls": True, **tls("mine"), "ca": f"{certificates}/other.pem"},
        ):
            with pytest.raises(Unreachable):
                node.store(sent, **options)
        silent.close()
        assert "not begun" in node.reasons()
    wrong = replace(listen, key=f"{certificates}/other.key")
    with pytest.raises(CannotRead, match="cannot be used"), listening(tmp_path / "wrong", wrong):
        pass


def test_a_port_that_is_taken_and_settings_without_one_are_refused(node, tmp_path):
    of = Listen(port=node.port, allowed_callers=(Caller(CALLER),))
    with pytest.raises(CannotWrite, match="cannot be listened on"), listening(tmp_path / "b", of):
        pass
    with pytest.raises(BadRecipe, match="no section"), dimse.listen(node.inbox, Settings()):
        pass


# -------------------------------------------------------------------------------- broken bytes


def request(*, syntax: bytes = b"1.2.840.10008.1.2.1") -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 9.3.2) that offers Computed Radiography."""

    def item(kind: int, data: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(data)) + data

    syntaxes = item(0x30, b"1.2.840.10008.5.1.4.1.1.1") + item(0x40, syntax)
    body = struct.pack(">HH", 1, 0) + f"{'HILUM':16}{CALLER:16}".encode() + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1")
    body += item(0x20, b"\1\0\0\0" + syntaxes)
    body += item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3"))
    return struct.pack(">BBI", 1, 0, len(body)) + body


def part(data: bytes, *, command: bool = False, last: bool = True) -> bytes:
    """A P-DATA-TF of one presentation data value (PS3.8 9.3.5)."""
    value = bytes([1, command + 2 * last]) + data
    return struct.pack(">BBI", 4, 0, len(value) + 4) + struct.pack(">I", len(value)) + value


def command(uid: bytes = b"1.2.1.5\0", *, number: int = 1) -> bytes:
    """The command set of a C-STORE-RQ (PS3.7 9.3.1), implicit little endian."""

    def element(tag: int, value: bytes) -> bytes:
        return struct.pack("<HHI", 0, tag, len(value)) + value

    body = element(2, b"1.2.840.10008.5.1.4.1.1.1\0") + element(0x100, b"\1\0")
    body += element(0x110, struct.pack("<H", number)) + element(0x700, b"\0\0")
    body += element(0x800, b"\1\0") + element(0x1000, uid)
    return element(0, struct.pack("<I", len(body))) + body


def answered(connection: socket.socket) -> bytes:
    """Return all that comes until the node hangs up."""
    connection.settimeout(5)
    data = b""
    with suppress(OSError):
        while block := connection.recv(4096):
            data += block
    return data


BROKEN = {
    "random": os.urandom(200),
    "another protocol": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "no such PDU": b"\x42\0\0\0\0\4abcd",
    "a length beyond all": b"\1\0\xff\xff\xff\xff" + bytes(100),
    "a length beyond the bound": struct.pack(">BBI", 1, 0, associations.MOST_PDU + 1) + bytes(100),
    "a request of zeros": struct.pack(">BBI", 1, 0, 200) + bytes(200),
    "an item that is too long": request()[:74] + b"\x10\0\xff\xff" + request()[78:],
    "an item of no length": request()[:74] + b"\x10\0\0\0" * 20,
    "a request cut short": request()[:50],
    "an accept": struct.pack(">BBI", 2, 0, len(request()) - 6) + request()[6:],
    "data before any request": part(command(), command=True),
    "an abort at once": struct.pack(">BBI", 7, 0, 4) + bytes(4),
    "a release at once": struct.pack(">BBI", 5, 0, 4) + bytes(4),
    "nothing": b"",
}


def test_broken_requests_end_their_connection_alone(node, tmp_path):
    for number, (name, data) in enumerate(BROKEN.items()):
        with node.connected() as connection:
            connection.sendall(data)
            if name in ("nothing", "a request cut short"):  # a silent client: the node hangs up
                answered(connection)
        still_works(node, tmp_path, 100 + number)


AFTER_ACCEPT = {
    "data set before a command": part(b"x" * 20),
    "a command that is none": part(b"\xff" * 64, command=True),
    "a command without end": part(command(), command=True, last=False) * 100,
    "another context": part(command(), command=True).replace(b"\1\3", b"\5\3", 1),
    "an empty value": struct.pack(">BBI", 4, 0, 6) + struct.pack(">I", 2) + b"\1\3",
    "no value": struct.pack(">BBI", 4, 0, 0),
    "a value too long": struct.pack(">BBI", 4, 0, 20) + struct.pack(">I", 999) + bytes(16),
    "a PDU too long": struct.pack(">BBI", 4, 0, 1 << 30) + bytes(64),
    "a second request": request(),
    "two messages at once": (part(command(), command=True) + part(b"x" * 20)) * 40,
    "half a data set": part(command(), command=True) + part(b"x" * 1000, last=False),
    "an object too large": part(command(), command=True) + part(bytes(1 << 16), last=False) * 17,
    "a data set of nothing": part(command(), command=True) + part(b""),
    "a data set that is none": part(command(), command=True) + part(SECRET.encode() * 99),
    "a name that is no UID": part(command(SECRET.encode()), command=True) + part(b"abc"),
}


def test_broken_messages_end_their_association_alone(node, tmp_path):
    for number, (name, data) in enumerate(AFTER_ACCEPT.items()):
        with node.connected() as connection:
            connection.sendall(request())
            assert _pdu(connection)[:1] == b"\2", f"the association is accepted before {name}"
            with suppress(OSError):
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            answered(connection)
        still_works(node, tmp_path, 100 + number)


@settings(max_examples=15, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 250), st.binary(min_size=1, max_size=4))
def test_any_bytes_end_their_connection_alone(rest, place, changed):
    node = _shared()
    whole = request()
    mutated = whole[:place] + changed + whole[place + len(changed) :] + rest
    with node.connected() as connection, suppress(OSError):
        connection.sendall(mutated)
        connection.shutdown(socket.SHUT_WR)
    assert node.port


def _shared() -> Node:
    return _SHARED[0]


_SHARED: list[Node] = []


@pytest.fixture(autouse=True, scope="module")
def shared(tmp_path_factory):
    """A node for the test of any bytes, which takes a film at the end."""
    folder = tmp_path_factory.mktemp("shared")
    with listening(folder / "node") as node:
        _SHARED.append(node)
        yield
        still_works(node, folder)
        _SHARED.clear()


def test_half_a_file_and_then_silence_costs_nothing(node, tmp_path):
    with node.connected() as connection:
        connection.sendall(request() + part(command(), command=True))
        connection.sendall(part(bytes(1 << 16), last=False) * 4)
        assert answered(connection), "the node hangs up in the end"
    node.settled()
    assert not node.inbox.journal.films(RECEIVED, 10)
    still_works(node, tmp_path)


def test_a_client_that_sends_byte_by_byte_does_not_stay(node, tmp_path):
    with node.connected() as connection:
        begun = time.monotonic()
        with suppress(OSError):
            for byte in request() * 9:
                connection.sendall(bytes([byte]))
                time.sleep(0.02)
        assert time.monotonic() - begun < 4
    still_works(node, tmp_path)


def test_a_hundred_associations_at_once_are_bounded(tmp_path):
    patient = replace(BOUNDS, request_seconds=10.0)
    with listening(tmp_path / "node", limits=patient) as node:
        _hundred(node)
        node.settled()
        still_works(node, tmp_path)


def _hundred(node: Node) -> None:
    held = [node.connected() for _ in range(100)]
    for connection in held:
        with suppress(OSError):
            connection.sendall(request())
    replies = [answered_with(connection) for connection in held]
    accepted = replies.count(b"\2")
    assert 1 <= accepted <= associations.MOST_ASSOCIATIONS
    assert set(replies) <= {b"\2", b"\3", b""}  # accepted, rejected, not let in
    for connection in held:
        connection.close()


def answered_with(connection: socket.socket) -> bytes:
    connection.settimeout(5)
    try:
        return connection.recv(1)
    except OSError:
        return b""


# ---------------------------------------------------------------------------------- DICOM bombs


def stored(node: Node, path: Path) -> str:
    """Store a file; return what was said against it, at once or when it is read."""
    refused = node.store(path)
    if refused:
        return next(iter(refused.values()))
    newest = node.inbox.journal.films(RECEIVED, 10)
    try:
        dicom.read(node.inbox.place(newest[-1].key))
    except BadData as error:
        return str(error)
    return ""


def test_huge_images_that_a_header_states_are_refused_when_they_are_read(node, tmp_path):
    for rows, columns in ((65535, 65535), (65535, 1)):
        source = film(tmp_path / "huge.dcm", rows + columns)
        made = dcmread(source)
        made.Rows, made.Columns = rows, columns
        made.save_as(source)
        assert stored(node, source)
    still_works(node, tmp_path)


def test_a_deflated_bomb_is_refused(node, tmp_path):
    source = film(tmp_path / "bomb.dcm")
    made = dcmread(source)
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    made.save_as(source)
    head = source.read_bytes()
    at = head.index(b"DICM") + 4 + 12 + int.from_bytes(head[140:144], "little")
    plain = zlib.decompress(head[at:], -15)
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = engine.compress(plain + b"\xe1\x7f\x10\0OB\0\0" + struct.pack("<I", 1 << 30))
    zeros = bytes(1 << 20)
    for _ in range(80):
        bomb += engine.compress(zeros)
    source.write_bytes(head[:at] + bomb + engine.flush())
    assert source.stat().st_size < BOUNDS.object_bytes
    refused = sent_raw(node, source.read_bytes()[at:], DeflatedExplicitVRLittleEndian)
    assert refused, "broken, or refused when read"
    still_works(node, tmp_path)


def test_sequences_nested_without_end_are_refused(node, tmp_path):
    depth = 20_000
    item = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"
    head = b"\x08\0\x16\0UI\x1a\x001.2.840.10008.5.1.4.1.1.1\0"
    assert sent_raw(node, head + item * depth, ExplicitVRLittleEndian)
    still_works(node, tmp_path)


def sent_raw(node: Node, data: bytes, syntax: str) -> bool:
    """Send a data set's bytes as they are; return whether it is refused, now or when it is read."""
    with node.connected() as connection:
        connection.settimeout(10)
        connection.sendall(request(syntax=syntax.encode()))
        assert _pdu(connection)[:1] == b"\2", "the association is accepted"
        connection.sendall(part(command(), command=True))
        for at in range(0, len(data), 16000):
            last = at + 16000 >= len(data)
            connection.sendall(part(data[at : at + 16000], last=last))
        answer = _pdu(connection)
    status = answer.index(b"\0\0\0\x09\2\0\0\0") + 8
    if answer[status : status + 2] != b"\0\0":
        return True
    waiting = node.inbox.journal.films(RECEIVED, 10)
    try:
        for one in waiting:
            dicom.read(node.inbox.place(one.key))
    except BadData:
        return True
    return not waiting


def _pdu(connection: socket.socket) -> bytes:
    head = connection.recv(6, socket.MSG_WAITALL)
    return head + connection.recv(int.from_bytes(head[2:], "big"), socket.MSG_WAITALL)


def test_a_full_node_says_so_and_takes_films_again_later(tmp_path):
    full = replace(BOUNDS, pending=1)
    with listening(tmp_path / "node", limits=full) as node:
        assert node.store(film(tmp_path / "a.dcm", 1)) == {}
        with pytest.raises(Unreachable, match="has no space"):
            node.store(film(tmp_path / "b.dcm", 2))
        assert "busy" in node.reasons()
        (first,) = node.inbox.journal.films(RECEIVED, 10)
        node.inbox.journal.advance(first, SKIPPED)
        assert node.store(film(tmp_path / "b.dcm", 2)) == {}


def test_an_archive_that_does_not_answer_is_at_fault_and_no_film(node, tmp_path):
    sent = film(tmp_path / "a.dcm")
    with pytest.raises(Unreachable, match="does not answer"):
        replace(node, port=9).store(sent)
