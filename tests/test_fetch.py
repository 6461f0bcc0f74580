"""Fetching, against a server on this machine: cut, resumed, changed, refused, unpacked safely.
Nothing beyond 127.0.0.1 is evaluated.
"""

import errno
import hashlib
import io
import json
import os
import sys
import tarfile
import threading
import urllib.request
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.response import addinfourl

import numpy as np
import pytest
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.dataset import _transfer, _unpack, catalog, download
from hilum.dataset.catalog import Address
from hilum.dataset.readers import montgomery
from hilum.errors import BadData, CannotWrite, HilumError, MissingExtra, NotFound
from hilum.pipeline.ingest import ingest
from hilum.progress import quietly

DATA = np.random.default_rng(7).integers(0, 256, 3_000_001, np.uint8).tobytes()
OTHER = DATA[::-1]


class Server:
    """One file behind one address. `plan` is what happens to the next requests: ("cut", n),
    ("status", code, headers), else all goes well.
    """

    def __init__(self):
        self.data, self.type, self.ranges, self.checks_if_range, self.headers = (
            DATA,
            "application/zip",
            True,
            True,
            {},
        )
        self.etag, self.plan, self.requested, self.sent = '"one"', [], [], 0
        self.http = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (Handler,), {"owner": self})
        )
        self.url = f"http://127.0.0.1:{self.http.server_port}/file"

    def start_of(self, headers) -> int:
        wanted = headers.get("Range")
        if not (self.ranges and wanted) or (
            self.checks_if_range
            and headers.get("If-Range") != (self.etag or self.headers.get("Last-Modified"))
        ):
            return 0
        return int(wanted.removeprefix("bytes=").removesuffix("-"))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        reported = self.owner
        reported.requested.append(dict(self.headers))
        step = reported.plan.pop(0) if reported.plan else ("all",)
        self.close_connection = True
        if step[0] == "status":
            self._head(step[1], {"Content-Length": "0", **(step[2] if len(step) > 2 else {})})
            return
        start = reported.start_of(self.headers)
        if start >= len(reported.data):
            self._head(416, {"Content-Length": "0"})
            return
        body = reported.data[start:]
        about = {
            "Content-Length": str(len(body)),
            "Content-Type": reported.type,
            **reported.headers,
        }
        if reported.etag:
            about["ETag"] = reported.etag
        if start:
            about["Content-Range"] = f"bytes {start}-{len(reported.data) - 1}/{len(reported.data)}"
        self._head(206 if start else 200, about)
        body = body[: step[1]] if step[0] == "cut" else body
        reported.sent += len(body)
        self.wfile.write(body)

    def _head(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@pytest.fixture(autouse=True)
def here_and_at_once(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(_transfer, "WAITS_SECONDS", (0.0, 0.0, 0.0))


@pytest.fixture
def server():
    reported = Server()
    thread = threading.Thread(
        target=reported.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()
    yield reported
    reported.http.shutdown()
    reported.http.server_close()
    thread.join()


@pytest.fixture
def part(tmp_path):
    return tmp_path / "work" / "file.zip.part"


# One file


def test_a_file_comes_whole_and_progress_ends_at_its_size(server, part):
    seen = []
    _transfer.download(server.url, part, lambda done, total: seen.append((done, total)))
    assert part.read_bytes() == DATA and seen[-1] == (len(DATA), len(DATA)) and seen == sorted(seen)
    assert (
        server.requested[0]["Accept-Encoding"] == "identity"
    )  # else the bytes counted are not those of the file


def test_a_connection_cut_in_the_middle_is_gone_on_with(server, part):
    server.plan = [("cut", 1_000_000), ("cut", 500_000)]
    _transfer.download(server.url, part, quietly)
    assert part.read_bytes() == DATA and server.sent == len(DATA)
    assert [requested.get("Range") for requested in server.requested] == [
        None,
        "bytes=1000000-",
        "bytes=1500000-",
    ]
    assert server.requested[1]["If-Range"] == '"one"'


def test_a_later_call_goes_on_where_the_earlier_one_gave_up(server, part):
    server.plan = [("cut", 1_000_000), *[("cut", 0)] * 9]
    with pytest.raises(
        HilumError, match=r"1,000,000 bytes have come and are kept: run the same command again"
    ):
        _transfer.download(server.url, part, quietly)
    assert len(server.requested) == 2 + len(
        _transfer.WAITS_SECONDS
    )  # bounded: the first, and those without a new byte
    server.plan = []
    _transfer.download(server.url, part, quietly)
    assert part.read_bytes() == DATA and server.sent == len(DATA)


def test_what_came_whole_is_not_requested_again(server, part):
    for _ in range(2):
        _transfer.download(server.url, part, quietly)
    assert len(server.requested) == 1


def test_a_server_without_ranges_sends_all_again(server, part):
    server.ranges, server.plan = False, [("cut", 1_000_000)]
    _transfer.download(server.url, part, quietly)
    assert part.read_bytes() == DATA and server.sent == 1_000_000 + len(DATA)


@pytest.mark.parametrize(
    "checks", [True, False], ids=["server heeds If-Range", "server ignores If-Range"]
)
def test_a_file_changed_between_attempts_is_never_glued_together(server, part, checks):
    server.plan = [("cut", 1_000_000), *[("cut", 0)] * 9]
    with pytest.raises(HilumError):
        _transfer.download(server.url, part, quietly)
    server.data, server.etag, server.plan, server.checks_if_range = OTHER, '"two"', [], checks
    _transfer.download(server.url, part, quietly)
    assert part.read_bytes() == OTHER


def test_a_file_grown_under_the_same_etag_is_begun_again(server, part):
    server.plan = [("cut", 1_000_000), *[("cut", 0)] * 9]
    with pytest.raises(HilumError):
        _transfer.download(server.url, part, quietly)
    server.data, server.plan = OTHER + b"more", []
    _transfer.download(server.url, part, quietly)
    assert part.read_bytes() == OTHER + b"more"


def test_a_file_shrunk_below_what_came_is_begun_again(server, part):
    server.plan = [("cut", 1_000_000), *[("cut", 0)] * 9]
    with pytest.raises(HilumError):
        _transfer.download(server.url, part, quietly)
    server.data, server.plan = b"short", []
    _transfer.download(server.url, part, quietly)
    assert part.read_bytes() == b"short"


@pytest.mark.parametrize(
    ("etag", "headers", "resumed"),
    [
        ("", {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}, True),
        ("", {}, False),
        ('W/"one"', {}, False),
    ],
    ids=[
        "a date will do",
        "no validator to notice a change by",
        "a weak ETag does not promise equal bytes",
    ],
)
def test_the_rest_is_requested_only_where_a_change_would_be_noticed(
    server, part, etag, headers, resumed
):
    server.etag, server.headers, server.plan = etag, headers, [("cut", 1_000_000)]
    _transfer.download(server.url, part, quietly)
    assert part.read_bytes() == DATA and ("Range" in server.requested[1]) == resumed


def test_notes_that_cannot_be_read_are_no_ground_to_go_on_from(server, part):
    part.parent.mkdir()
    part.write_bytes(b"x" * 1000)
    part.with_name(f"{part.name}.json").write_text('{"url": ')
    _transfer.download(server.url, part, quietly)
    assert part.read_bytes() == DATA and "Range" not in server.requested[0]


def test_another_address_does_not_go_on_with_these_bytes(server, part):
    server.plan = [("cut", 1_000_000), *[("cut", 0)] * 9]
    with pytest.raises(HilumError):
        _transfer.download(server.url, part, quietly)
    server.data, server.plan = OTHER, []
    _transfer.download(f"{server.url}?other", part, quietly)
    assert part.read_bytes() == OTHER and "Range" not in server.requested[-1]


def test_a_busy_server_is_waited_for_as_long_as_it_asks(server, part, monkeypatch):
    waits = []
    monkeypatch.setattr(_transfer.time, "sleep", waits.append)
    server.plan = [("status", 503, {"Retry-After": "7"}), ("status", 429, {"Retry-After": "86400"})]
    _transfer.download(server.url, part, quietly)
    assert part.read_bytes() == DATA and waits == [7.0, _transfer.LONGEST_WAIT_SECONDS]


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_an_address_that_is_gone_is_reported_at_once(server, part, code):
    server.plan = [("status", code)] * 9
    with pytest.raises(NotFound, match=f"answered {code}"):
        _transfer.download(server.url, part, quietly)
    assert len(server.requested) == 1 and not part.exists()


def test_a_web_page_is_not_taken_for_the_file(server, part):
    server.type, server.data = "text/html; charset=utf-8", b"<html>please log in</html>"
    with pytest.raises(NotFound, match="a web page, not with the file"):
        _transfer.download(server.url, part, quietly)


def test_an_address_that_leads_on_to_an_open_line_is_refused(server, part, monkeypatch):
    class Encrypted(urllib.request.HTTPSHandler):
        def https_open(self, request):
            answer = addinfourl(io.BytesIO(), Message(), request.full_url, 302)
            answer.headers["Location"], answer.msg = f"{server.url}?key=signed", "Found"
            return answer

    opened = urllib.request.build_opener
    monkeypatch.setattr(urllib.request, "build_opener", lambda *given: opened(*given, Encrypted))
    with pytest.raises(NotFound, match="not encrypted") as found:
        _transfer.download("https://here/file?key=signed", part, quietly)
    assert "signed" not in str(found.value)
    assert not server.requested


def test_nobody_at_the_address_is_reported_after_some_attempts(part):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as closed:
        port = closed.server_port
    with pytest.raises(HilumError, match="without a new byte"):
        _transfer.download(f"http://127.0.0.1:{port}/", part, quietly)


def test_too_little_room_is_reported_before_a_byte_is_written(server, part, monkeypatch):
    monkeypatch.setattr(_transfer.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(CannotWrite, match="3,000,001 bytes are to come, 1,000 are free"):
        _transfer.download(server.url, part, quietly)
    assert not part.exists()


def test_a_disk_that_fills_up_keeps_what_came_and_the_same_call_goes_on(server, part, monkeypatch):
    class Filling(io.FileIO):
        def write(self, block):
            if self.tell() + len(block) > 1_000_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(block)

    monkeypatch.setattr(_transfer, "BLOCK", 100_000)
    monkeypatch.setattr(_transfer, "open", Filling, raising=False)
    with pytest.raises(CannotWrite, match="disk is full"):
        _transfer.download(server.url, part, quietly)
    monkeypatch.delattr(_transfer, "open")
    kept = part.stat().st_size
    assert 0 < kept <= 1_000_000
    _transfer.download(server.url, part, quietly)
    assert part.read_bytes() == DATA and server.requested[-1]["Range"] == f"bytes={kept}-"


# Archives


def zipped(members: dict[str, bytes], modes=None) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = (modes or {}).get(name, 0o100644) << 16
            archive.writestr(member, data)
    return stream.getvalue()


def tarred(members: dict[str, bytes], kinds=None, mode="w:gz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.type = len(data), (kinds or {}).get(name, tarfile.REGTYPE)
            if member.type != tarfile.REGTYPE:
                member.size, member.linkname = 0, data.decode()
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


GOOD = {"set/CXR_png/a.png": b"a" * 5000, "set/readings/a.txt": b"normal", "top.txt": b""}


@pytest.fixture
def unpacked(tmp_path):
    """Unpack bytes; gives the folder, and proves that nothing else was written."""

    def do(data: bytes):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / "archive").write_bytes(data)
        try:
            _unpack.unpack(tmp_path / "in" / "archive", tmp_path / "in" / "out", quietly)
        finally:
            assert [path.name for path in tmp_path.iterdir()] == ["in"]
            assert {path.name for path in (tmp_path / "in").iterdir()} <= {"archive", "out"}
        return tmp_path / "in" / "out"

    return do


@pytest.mark.parametrize(
    "data",
    [zipped(GOOD), tarred(GOOD), tarred(GOOD, mode="w"), tarred(GOOD, mode="w:xz")],
    ids=["zip", "tgz", "tar", "txz"],
)
def test_an_archive_is_unpacked_whole(unpacked, data):
    folder = unpacked(data)
    assert {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    } == GOOD


@pytest.mark.parametrize(
    "name", ["../evil", "set/../../evil", "/tmp/evil", "..\\evil", "C:\\evil", "C:evil", "set/.."]
)
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_member_that_leads_out_of_the_folder_is_refused(unpacked, pack, name):
    with pytest.raises(BadData, match="leads out of the folder"):
        unpacked(pack({**GOOD, name: b"evil"}))


@pytest.mark.parametrize(
    "data",
    [
        zipped({**GOOD, "link": b"/etc/passwd"}, {"link": 0o120777}),
        zipped({**GOOD, "pipe": b""}, {"pipe": 0o010644}),
        tarred({**GOOD, "link": b"../.."}, {"link": tarfile.SYMTYPE}),
        tarred({**GOOD, "link": b"/etc/passwd"}, {"link": tarfile.LNKTYPE}),
        tarred({**GOOD, "device": b""}, {"device": tarfile.CHRTYPE}),
    ],
    ids=["zip link", "zip pipe", "tar link", "tar hard link", "tar device"],
)
def test_links_and_devices_are_refused_and_nothing_stays(unpacked, tmp_path, data):
    with pytest.raises(BadData, match="is a link or a device"):
        unpacked(data)
    assert not (tmp_path / "in" / "out").exists()


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_an_archive_cut_short_is_refused_and_nothing_stays(unpacked, tmp_path, pack, share):
    noise = np.random.default_rng(1).integers(0, 256, 40_000, np.uint8).tobytes()
    data = pack({"a": noise, "b": noise})
    with pytest.raises(BadData, match="no whole zip or tar archive"):
        unpacked(data[: int(share * len(data))])
    assert not (tmp_path / "in" / "out").exists()


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_changed_byte_is_noticed(unpacked, pack):
    data = bytearray(
        pack({"a": np.random.default_rng(1).integers(0, 256, 40_000, np.uint8).tobytes()})
    )
    data[20_000] ^= 1
    with pytest.raises(BadData):
        unpacked(bytes(data))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "second", ["set/a", "set"], ids=["one file twice", "a file where a folder is"]
)
def test_two_members_in_one_place_are_refused(unpacked, second):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("set/a", b"1")
        archive.writestr(second, b"2")
    with pytest.raises(BadData, match="two members in one place"):
        unpacked(stream.getvalue())


def test_an_archive_that_would_not_fit_is_reported_before_a_byte_is_written(unpacked, monkeypatch):
    monkeypatch.setattr(_unpack.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(CannotWrite, match="5,006 bytes are to be unpacked, 100 are free"):
        unpacked(zipped(GOOD))


# A set


@pytest.fixture
def pooch():
    return pytest.importorskip("pooch", reason="pip install '.[download]'")


@contextmanager
def unwatched(_):
    yield quietly


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def one(server):
    """Montgomery with one archive at the server of these tests."""
    server.data = zipped(GOOD)
    file = Address(
        "set.zip",
        server.url,
        sha256(server.data),
        "published beside the file",
        len(server.data),
        "set",
    )
    return replace(catalog.entry("montgomery"), files=(file,))


def with_file(about, **changes):
    return replace(about, files=(replace(about.files[0], **changes),))


def bring(about, folder):
    return download.fetch(about, folder, accepted=True, watch=unwatched)


def test_nothing_is_fetched_before_the_terms_are_accepted(one, server, tmp_path):
    with pytest.raises(download.NotAccepted, match="--accept"):
        download.fetch(one, tmp_path / "set", accepted=False, watch=unwatched)
    assert not server.requested and not (tmp_path / "set").exists()


def test_the_terms_say_the_licence_and_where_everything_comes_from(one):
    text = download.terms(one)
    assert (
        one.licence in " ".join(text.split())
        and one.files[0].url in text
        and "as documented on" in text
        and one.citation[:20] in text
    )
    assert "no hash is published" in " ".join(download.terms(with_file(one, hash="")).split())


def test_without_pooch_the_command_that_installs_it_is_named(one, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingExtra, match=r"pip install .*\[download\]"):
        bring(one, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_set_is_fetched_checked_unpacked_and_written_down(pooch, one, server, tmp_path):
    server.plan = [("cut", 100)]
    done = bring(one, tmp_path / "set")
    assert (
        done["fetched"] == ["set.zip"]
        and not done["kept"]
        and not done["unchecked"]
        and done["left"] == [f"hilum run {tmp_path / 'set'}"]
    )
    assert (tmp_path / "set" / "set" / "set" / "CXR_png" / "a.png").read_bytes() == GOOD[
        "set/CXR_png/a.png"
    ]
    assert {path.name for path in (tmp_path / "set").iterdir()} == {"set", "FETCHED.json", ".lock"}
    record = json.loads((tmp_path / "set" / "FETCHED.json").read_text())
    assert record["licence"] == one.licence and record["files"]["set.zip"]["hash"] == sha256(
        server.data
    )
    requested = len(server.requested)
    assert (
        bring(one, tmp_path / "set")["kept"] == ["set.zip"] and len(server.requested) == requested
    )


def test_wrong_bytes_are_deleted_and_named_with_both_hashes(pooch, one, server, tmp_path):
    right, server.data = server.data, zipped({"evil": b"evil"})
    with pytest.raises(BadData) as raised:
        bring(one, tmp_path / "set")
    for data in (right, server.data):
        assert sha256(data).removeprefix("sha256:") in str(raised.value)
    assert "published beside the file" in str(raised.value)
    assert not [
        path for path in (tmp_path / "set").rglob("*") if path.is_file() and path.name != ".lock"
    ]
    server.data, server.etag = right, '"two"'
    assert bring(one, tmp_path / "set")["fetched"] == ["set.zip"]


def test_where_no_hash_is_published_the_first_one_seen_is_held_to(pooch, one, server, tmp_path):
    about = with_file(one, hash="", hash_from="", name="tables/list.csv", unpack="")
    server.data = b"image,label\n"
    done = bring(about, tmp_path / "set")
    assert done["unchecked"] == ["tables/list.csv"] and "no hash is published" in download.summary(
        done
    )
    assert (tmp_path / "set" / "tables" / "list.csv").read_bytes() == server.data
    (tmp_path / "set" / "tables" / "list.csv").unlink()
    server.data = b"image,other\n"
    with pytest.raises(BadData, match="seen when it was first fetched"):
        bring(about, tmp_path / "set")


def test_a_kill_while_unpacking_costs_no_second_download(pooch, one, server, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(_unpack, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            bring(one, tmp_path / "set")
    assert not (tmp_path / "set" / "set").exists()
    assert bring(one, tmp_path / "set")["fetched"] == ["set.zip"] and len(server.requested) == 1


def test_a_kill_while_the_hash_is_compared_costs_no_second_download(
    pooch, one, server, tmp_path, monkeypatch
):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pooch.core, "hash_matches", killed)
        with pytest.raises(KeyboardInterrupt):
            bring(one, tmp_path / "set")
    assert bring(one, tmp_path / "set")["fetched"] == ["set.zip"] and len(server.requested) == 1


@pytest.mark.parametrize(
    "broken", [b"not an archive at all", zipped({"../evil": b"evil"})], ids=["broken", "unsafe"]
)
def test_an_archive_that_cannot_be_unpacked_is_deleted_and_fetched_anew(
    pooch, one, server, tmp_path, broken
):
    right, server.data = server.data, broken
    about = with_file(one, hash="", hash_from="")
    with pytest.raises(BadData, match="was deleted"):
        bring(about, tmp_path / "set")
    server.data, server.etag = right, '"two"'
    assert bring(about, tmp_path / "set")["fetched"] == ["set.zip"]


def test_what_lies_there_already_is_never_overwritten(pooch, one, server, tmp_path):
    (tmp_path / "set" / "set").mkdir(parents=True)
    (tmp_path / "set" / "set" / "mine.png").write_bytes(b"mine")
    with pytest.raises(BadData, match="was not fetched by Hilum"):
        bring(one, tmp_path / "set")
    assert (tmp_path / "set" / "set" / "mine.png").read_bytes() == b"mine" and not server.requested


def test_one_folder_holds_one_set(pooch, one, tmp_path):
    bring(one, tmp_path / "set")
    with pytest.raises(BadData, match="holds montgomery, not shenzhen"):
        bring(replace(one, name="shenzhen"), tmp_path / "set")
    (tmp_path / "set" / "FETCHED.json").write_text("[]")
    with pytest.raises(BadData, match="is not what `hilum download` writes"):
        bring(one, tmp_path / "set")


def test_a_fetched_set_is_read_as_what_it_is(pooch, one, server, tmp_path):
    """As the National Library of Medicine packs it: the release in a folder of the zip."""
    montgomery.example(tmp_path / "made", images=6, seed=1)
    files = {
        f"MontgomerySet/{path.relative_to(tmp_path / 'made').as_posix()}": path.read_bytes()
        for path in (tmp_path / "made").rglob("*.*")
    }
    server.data = zipped(files)
    bring(with_file(one, hash=sha256(server.data), unpack="NLM-MontgomeryCXRSet"), tmp_path / "set")
    table = ingest(tmp_path / "set").table
    assert table.height == 6 and table["dataset"].unique().to_list() == ["montgomery"]


# The command


@pytest.fixture
def served(monkeypatch, one):
    monkeypatch.setattr(catalog, "entry", lambda name: one)


def test_the_command_shows_the_terms_and_refuses_without_a_yes(served, one, server, tmp_path):
    done = CliRunner().invoke(app, ["download", "montgomery", "--out", str(tmp_path / "set")])
    assert (
        isinstance(done.exception, download.NotAccepted)
        and one.licence in " ".join(done.stdout.split())
        and not server.requested
    )


@pytest.mark.parametrize("answer", ["y\n", "n\n", ""])
def test_on_a_terminal_the_command_asks(pooch, served, server, tmp_path, monkeypatch, answer):
    monkeypatch.setattr("hilum.cli.verbs.download.at_a_terminal", lambda: True)
    done = CliRunner().invoke(
        app, ["download", "montgomery", "--out", str(tmp_path / "set")], input=answer
    )
    assert "Do you accept" in done.output
    assert (
        (done.exit_code == 0)
        == bool(server.requested)
        == (tmp_path / "set").exists()
        == (answer == "y\n")
    )


def test_the_command_says_what_to_run_next(pooch, served, tmp_path):
    done = CliRunner().invoke(
        app, ["download", "montgomery", "--out", str(tmp_path / "set"), "--accept"]
    )
    assert done.exit_code == 0 and f"hilum run {tmp_path / 'set'}" in done.stdout.replace(
        "\n      ", " "
    )


def test_json_is_all_that_goes_to_standard_output(pooch, served, tmp_path):
    done = CliRunner().invoke(
        app, ["download", "montgomery", "--out", str(tmp_path / "set"), "--accept", "--json"]
    )
    assert json.loads(done.stdout)["fetched"] == ["set.zip"] and "licence:" in done.stderr


@pytest.mark.parametrize(
    "name", [name for name in catalog.names() if not catalog.entry(name).files]
)
def test_a_set_without_public_addresses_lists_each_step_and_asks_for_nothing(name, tmp_path):
    done = CliRunner().invoke(app, ["download", name, "--out", str(tmp_path / "x")])
    reported = " ".join(done.stdout.split())
    assert (
        done.exit_code == 0
        and "how to get it: 1. " in reported
        and f"hilum run {tmp_path / 'x'}" in reported
        and "{to}" not in reported
    )
    assert catalog.entry(name).licence in reported and not (tmp_path / "x").exists()


def test_an_unknown_set_gets_the_nearest_name(tmp_path):
    done = CliRunner().invoke(
        app, ["download", "kermani", "--accept", "--out", str(tmp_path / "x")]
    )
    assert isinstance(done.exception, NotFound) and "did you mean 'kermany'" in str(done.exception)
