"""Connections that send no request hold up nobody, and end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

import pytest

pytest.importorskip("uvicorn", reason="the desk needs the extra [serve]")

import uvicorn

from hilum.serve import connections
from hilum.serve.connections import Waiting

HALF, WHOLE = b"GET / HTTP/1.1\r\nHost: x", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def application(scope, receive, send):
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@contextlib.contextmanager
def served(waiting: Waiting):
    """Serve with bounded connections, and yield a function that opens one."""
    protocol = connections.bounded(waiting)
    config = uvicorn.Config(
        application, http=protocol, ws="none", lifespan="off", log_level="critical"
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening, contextlib.ExitStack() as opened:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()

        def connect() -> socket.socket:
            made = socket.create_connection(listening.getsockname(), timeout=10)
            return opened.enter_context(made)

        try:
            yield connect
        finally:
            server.should_exit = True
            thread.join()


def is_closed(one: socket.socket) -> bool:
    try:
        return one.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_connection_that_sends_half_a_request_is_closed():
    with served(Waiting(100, 0.2)) as connect:
        silent, half, second = connect(), connect(), connect()
        half.sendall(HALF)
        second.sendall(WHOLE)
        assert second.recv(1000).startswith(b"HTTP/1.1 204")
        second.sendall(HALF)
        assert all(map(is_closed, (silent, half, second)))


def test_half_open_connections_leave_room_for_whole_requests():
    with served(Waiting(20, 60.0)) as connect:
        half = [connect() for _ in range(60)]
        for one in half:
            with contextlib.suppress(ConnectionError):
                one.sendall(HALF)
        whole = connect()
        whole.sendall(WHOLE)
        assert whole.recv(1000).startswith(b"HTTP/1.1 204")
        assert is_closed(half[0])


def test_a_request_that_is_being_answered_is_not_cut_off(monkeypatch):
    at_once = application

    async def slow(scope, receive, send):
        await asyncio.sleep(0.3)
        await at_once(scope, receive, send)

    monkeypatch.setattr(f"{__name__}.application", slow)
    with served(Waiting(100, 0.1)) as connect:
        one = connect()
        one.sendall(WHOLE)
        assert one.recv(1000).startswith(b"HTTP/1.1 204")


def test_there_are_fewer_connections_than_files():
    assert 0 < connections.most() <= connections.MOST
