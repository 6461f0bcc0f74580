"""Serve health, metrics and worklist over HTTP, from the standard library alone.

    /health           JSON; status 503 where a part has been stopped for a while
    /metrics          Prometheus' text
    /worklist         a page for people; /worklist.json the same for programs

The worklist names studies, so it is given only to who has the token, or, where none is set, to this
machine. A request under another host's name is refused, so that no page in a browser reaches it.
"""

from __future__ import annotations

import hmac
import html
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from hilum.annotations.vocabulary import name_of
from hilum.errors import CannotWrite, HilumError
from hilum.node.health import DEGRADED, Health
from hilum.node.journal import Film, Journal
from hilum.node.settings import Monitor, secret
from hilum.safety.loopback import is_loopback

SHOWN, SHOWN_SECONDS = 200, 86400.0  # films of the worklist, and how old at most
_SECONDS = 10.0  # that a client may be silent
_TEXT, _JSON, _HTML = (
    "text/plain; version=0.0.4; charset=utf-8",
    "application/json",
    "text/html; charset=utf-8",
)
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta http-equiv="refresh" content="10"><title>Hilum: worklist</title>
<style>body{{font:14px system-ui;margin:2em}}td,th{{padding:.3em 1em;text-align:left}}</style>
</head><body><h1>Worklist</h1><p>For research only; not for diagnosis. Studies in which a model
calls a finding present stand first; a film outside of a model's domain has no call.</p><table>
<tr><th>Accession</th><th>Study</th><th>Called present</th><th>Results</th><th>Received</th></tr>
{rows}</table></body></html>
"""


class Entry(dict[str, str]):
    """A row of the worklist in JSON types: accession, study, present, state and received."""

    @classmethod
    def of(cls, film: Film) -> Entry:
        """Return the row of a film."""
        received = datetime.fromtimestamp(film.received, UTC).isoformat(timespec="seconds")
        return cls(
            accession=film.accession,
            study=film.study,
            present=", ".join(name_of(one) for one in film.calls.split(",") if one),
            state=film.state,
            received=received,
        )


@contextmanager
def serving(settings: Monitor, health: Health, journal: Journal) -> Iterator[int]:
    """Serve the pages while the block runs; give the port. Raises `CannotWrite`, `BadData`."""
    token, local = secret(settings.token_file), is_loopback(settings.host)

    class Handler(_Handler):
        """Answers with what this node has."""

        def pages(self, path: str) -> tuple[int, str, str]:
            """Return status, type and text of a page."""
            if path == "/health":
                try:
                    report = health.report()
                except HilumError:  # its words may name a file; `hilum node status` shows them
                    return 503, _JSON, json.dumps({"status": DEGRADED})
                status = 503 if report["status"] == DEGRADED else 200
                return status, _JSON, json.dumps(report)
            if path == "/metrics":
                return 200, _TEXT, health.metrics()
            if path in ("/worklist", "/worklist.json"):
                if not self.may_see(token, local):
                    return 401, _TEXT, "the worklist needs the token of [monitor] token_file\n"
                rows = [
                    Entry.of(film) for film in journal.recent(time.time() - SHOWN_SECONDS, SHOWN)
                ]
                as_json = path.endswith(".json")
                return 200, _JSON if as_json else _HTML, json.dumps(rows) if as_json else page(rows)
            return 404, _TEXT, "pages: /health /metrics /worklist /worklist.json\n"

        def expected_host(self, name: str) -> bool:
            """Return whether a request may call this server so."""
            return not local or is_loopback(name)

    try:
        server = ThreadingHTTPServer((settings.host, settings.port), Handler)
    except OSError as error:
        raise CannotWrite(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); choose another "
            f"[monitor] port"
        ) from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def page(rows: list[Entry]) -> str:
    """Return the worklist as HTML."""
    names = ("accession", "study", "present", "state", "received")
    lines = (
        "<tr>" + "".join(f"<td>{html.escape(row[name])}</td>" for name in names) + "</tr>"
        for row in rows
    )
    return _PAGE.format(rows="\n".join(lines))


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD, quietly."""

    timeout, wbufsize = _SECONDS, 1 << 16
    server_version, sys_version = "Hilum", ""

    def pages(self, path: str) -> tuple[int, str, str]:
        """Return status, type and text of a page."""
        raise NotImplementedError

    def expected_host(self, name: str) -> bool:
        """Return whether a request may call this server so."""
        raise NotImplementedError

    def may_see(self, token: str, local: bool) -> bool:
        """Return whether the client may see the worklist."""
        if not token:
            return local
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(given.encode(), token.encode())

    def do_GET(self) -> None:
        """Answer with a page."""
        named = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        if self.expected_host(named):
            status, kind, text = self.pages(urlsplit(self.path).path)
        else:
            status, kind, text = 421, _TEXT, "this server has another name\n"
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing: addresses are no events."""
