"""Serve pages from this process: what the node's HTTP servers have in common.

Each answers GET and HEAD, writes no log, since addresses name studies, and refuses a request under
a name that is not its own, as a page in a browser could send one.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit

from hilum.errors import CannotWrite

_TEXT = "text/plain; charset=utf-8"


class Page(NamedTuple):
    """What is answered: the status of HTTP, the type and the bytes, and further headers."""

    status: int
    kind: str
    body: bytes
    headers: Mapping[str, str] = {}


class PageHandler(ABC, BaseHTTPRequestHandler):
    """Answers with what `page` returns."""

    wbufsize = 1 << 16
    server_version, sys_version = "Hilum", ""

    @abstractmethod
    def page(self) -> Page:
        """Return the page that is requested."""

    @abstractmethod
    def is_name(self, host: str) -> bool:
        """Return whether a request may call this server so."""

    def do_GET(self) -> None:
        """Answer with a page."""
        named = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        other = Page(421, _TEXT, b"this server has another name\n")
        page = self.page() if self.is_name(named) else other
        self.send_response(page.status)
        headers = {
            "Content-Type": page.kind,
            "Content-Length": str(len(page.body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **page.headers,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""


@contextmanager
def serving(handler: type[PageHandler], host: str, port: int, option: str) -> Iterator[int]:
    """Serve while the block runs; give the port. `option` is what chooses it.

    Raises `CannotWrite` where the port is taken.
    """
    try:
        server = ThreadingHTTPServer((host, port), handler)
    except OSError as error:
        raise CannotWrite(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another {option}"
        ) from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
