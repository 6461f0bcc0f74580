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
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

from hilum.annotations.vocabulary import name_of
from hilum.errors import HilumError
from hilum.node import page_server
from hilum.node.health import DEGRADED, Health
from hilum.node.journal import Film, Journal
from hilum.node.page_server import Page, PageHandler
from hilum.node.settings import Monitor
from hilum.safety.loopback import is_loopback
from hilum.safety.secret_files import secret

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
    token = secret(settings.token_file) if settings.token_file else ""
    local = is_loopback(settings.host)

    class Handler(_Handler):
        """Answers with what this node has."""

        def text(self, path: str) -> tuple[int, str, str]:
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
                return (200, _JSON, json.dumps(rows)) if as_json else (200, _HTML, worklist(rows))
            return 404, _TEXT, "pages: /health /metrics /worklist /worklist.json\n"

        def is_name(self, host: str) -> bool:
            """Return whether a request may call this server so."""
            return not local or is_loopback(host)

    with page_server.serving(Handler, settings.host, settings.port, "[monitor] port") as port:
        yield port


def worklist(rows: list[Entry]) -> str:
    """Return the worklist as HTML."""
    names = ("accession", "study", "present", "state", "received")
    lines = (
        "<tr>" + "".join(f"<td>{html.escape(row[name])}</td>" for name in names) + "</tr>"
        for row in rows
    )
    return _PAGE.format(rows="\n".join(lines))


class _Handler(PageHandler):
    """Answers with texts that change all the time."""

    timeout = _SECONDS

    @abstractmethod
    def text(self, path: str) -> tuple[int, str, str]:
        """Return status, type and text of a page."""

    def page(self) -> Page:
        """Return the page that is requested."""
        status, kind, text = self.text(urlsplit(self.path).path)
        return Page(status, kind, text.encode())

    def may_see(self, token: str, local: bool) -> bool:
        """Return whether the client may see the worklist."""
        if not token:
            return local
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(given.encode(), token.encode())
