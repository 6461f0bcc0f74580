"""A node speaks HTTP to those servers alone that its settings name, and trusts no answer."""

import io
import shutil
import socket
import ssl
import subprocess
import threading
from http.server import HTTPServer

import pytest
from web_servers import Quiet

from hilum.errors import BadData, Unreachable
from hilum.node import multipart
from hilum.node.http_client import Peer, Rejected
from hilum.node.multipart import FirstPart
from hilum.safety import web
from hilum.safety.web import Login


class Server(HTTPServer):
    """Answers what a test says, and keeps what it was sent."""

    def __init__(self, answers) -> None:
        self.answers, self.heard = list(answers), []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(Quiet):
    protocol_version, wbufsize = "HTTP/1.1", 1 << 16

    def do_GET(self) -> None:
        self.server.heard.append((self.path, self.headers.get("Authorization")))
        status, headers, body = self.server.answers.pop(0)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = "Content-Length" not in headers or "cut" in headers


@pytest.fixture
def served():
    made = []

    def serve(*answers) -> Server:
        made.append(Server(answers))
        return made[-1]

    yield serve
    for server in made:
        server.shutdown()
        server.server_close()


def whole(body: bytes, status: int = 200, **headers: str):
    return status, {"Content-Length": str(len(body)), **headers}, body


def peer(server: Server, **login: str) -> Peer:
    return Peer(server.url + "/root", Login(**login), 2.0)


def test_credentials_go_to_the_server_and_into_no_text(served):
    server = served(whole(b"{}"), whole(b"{}"))
    for login in ({"user": "me", "password": "secret"}, {"token": "secret"}):
        assert peer(server, **login).get("a").json() == {}
        assert "secret" not in repr(Login(**login))
    assert server.heard == [("/root/a", "Basic bWU6c2VjcmV0"), ("/root/a", "Bearer secret")]


def test_a_redirect_is_not_followed(served):
    server = served(whole(b"", 302, Location="http://elsewhere.example/"))
    with pytest.raises(Rejected, match="302"):
        peer(server).get("a")


def test_a_kept_connection_that_was_closed_is_opened_anew(served):
    server = served((200, {"Content-Length": "2", "cut": ""}, b"{}"), whole(b"[1]"))
    to = peer(server)
    assert to.get("a").json() == {} and to.get("b").json() == [1]


@pytest.mark.parametrize(
    "answer",
    [
        (200, {"Content-Length": "100", "cut": ""}, b"short"),
        whole(b"no", 401),
        whole(b"later", 503),
    ],
    ids=["cut short", "refused", "overloaded"],
)
def test_a_server_at_fault_is_tried_again_later(answer, served):
    with pytest.raises(Unreachable):
        peer(served(answer)).request("GET", "a", into=io.BytesIO())


def test_a_server_that_is_not_there_is_tried_again_later():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable, match="cannot be reached"):
            Peer(f"http://127.0.0.1:{taken.getsockname()[1]}", Login(), 1.0).get("a")


def test_an_answer_without_end_is_not_taken_into_memory(served, monkeypatch):
    monkeypatch.setattr(web, "LONGEST_LIST", 1000)
    with pytest.raises(Rejected, match="more than 1,000 bytes"):
        peer(served(whole(bytes(5000)))).get("a")


def test_an_answer_that_is_no_json_is_refused(served):
    with pytest.raises(BadData, match="JSON"):
        peer(served(whole(b"<html>"))).get("a").json()


def test_a_certificate_must_be_of_the_authority_in_the_settings(tmp_path, served):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out",
         "ca.pem", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
         "subjectAltName=IP:127.0.0.1"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    server = served(whole(b"{}"), whole(b"{}"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = server.url.replace("http:", "https:")
    known = Peer(url, Login(ca=str(tmp_path / "ca.pem")), 2.0)
    assert known.get("a").json() == {}
    known.close()
    with pytest.raises(Unreachable):
        Peer(url, Login(), 2.0).get("a")


# --------------------------------------------------------------------------------- multipart


def first(body: bytes, size: int) -> bytes:
    stream = io.BytesIO()
    part = FirstPart(stream)
    for start in range(0, len(body), size):
        part.write(body[start : start + size])
    part.finish()
    return stream.getvalue()


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_the_first_part_is_found_however_the_bytes_come(size):
    data = b"\r\n--other\r\n" + bytes(range(256)) * 2 + b"\r\n-"
    body, kind = multipart.encoded([data, b"second"])
    assert first(body, size) == data and kind.startswith("multipart/related")
    assert first(b"preamble\r\n" + body, size) == data


@pytest.mark.parametrize("body", [b"", b"DICM" * 10, b"x" * 70_000, b"--a\r\n\r\nhalf an object"])
def test_what_is_no_multipart_body_is_refused(body):
    with pytest.raises(BadData):
        first(body, 1000)
