"""Speak HTTP to one other server: one kept connection, bounded answers, no redirects, no proxies.

The address, the credentials and the authority that signs the server's certificate come from the
settings alone. A server that cannot be reached, or that answers that it is overloaded or does not
let the node in, raises `Unreachable`: the fault is not that of a film. Each thread has its own.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hilum.errors import HilumError, Unreachable, on_one_line
from hilum.safety import untrusted_files, web
from hilum.safety.web import Login

if TYPE_CHECKING:
    from hilum.node.inbox import Stream

# Status codes of `Unreachable`; 500 is of a server that fails on this one request.
_LATER = {*web.PASSING, *web.FORBIDDEN, 407, 507} - {500}
_LONGEST_REASON = 200  # characters of a server's answer that are repeated


class Rejected(HilumError):
    """A server answered, and does not do what it was to do; `status` is that of HTTP."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """What a server answered; `body` is empty where it was written into a stream."""

    status: int
    kind: str  # its Content-Type
    body: bytes

    def json(self) -> Any:
        """Return the JSON of the body; None for an empty one. Raises `BadData`."""
        if not self.body.strip():
            return None
        text = self.body.decode("utf-8", "replace")
        return untrusted_files.parse_json(text, "the answer of the server")


class Peer:
    """A server at `url`, which ends with the root of its services.

    Raises `CannotRead` where the authority's certificates cannot be read.
    """

    def __init__(self, url: str, login: Login, seconds: float) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port
        self._root, self._login, self._seconds = parts.path.rstrip("/"), login, seconds
        self._trusted = login.trusted() if parts.scheme == "https" else None
        self._open: http.client.HTTPConnection | None = None

    def get(self, path: str, **headers: str) -> Answer:
        """Return the answer to GET. Raises `Unreachable` or `Rejected`."""
        return self.request("GET", path, headers={"Accept": "application/json", **headers})

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        into: Stream | None = None,
        expected: tuple[int, ...] = (200, 204),
    ) -> Answer:
        """Send a request and return the answer, its body written `into` a stream where one is.

        A kept connection that the server has closed is opened anew, once. Raises `Unreachable`,
        `Rejected` for a status that is not `expected`, and whatever the stream raises.
        """
        kept = self._open is not None
        try:
            response = self._sent(method, path, body, headers or {})
        except web.FAILURES as error:
            self.close()
            if not kept:
                raise self._unreachable(error) from error
            return self.request(method, path, body, headers, into, expected)
        if response.status not in expected:
            raise self._refusal(response)
        return self._received(response, into)

    def _sent(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        if self._open is None:
            self._open = self._connection()
        self._open.request(method, f"{self._root}/{path}", body, {**headers, **self._login.headers})
        return self._open.getresponse()

    def _connection(self) -> http.client.HTTPConnection:
        if self._trusted is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._seconds)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=self._seconds, context=self._trusted
        )

    def _received(self, response: http.client.HTTPResponse, into: Stream | None) -> Answer:
        kind, held, length = response.headers.get("Content-Type", ""), [], 0
        try:
            for block in self._blocks(response):
                length += len(block)
                if into is None and length > web.LONGEST_LIST:
                    raise Rejected(
                        f"{self._host} answered with more than {web.LONGEST_LIST:,} bytes; "
                        "expected a page of a list: check the address, and the server's log",
                        response.status,
                    )
                (held.append if into is None else into.write)(block)
        except BaseException:
            self.close()  # what is left of the answer would be taken for the next one's
            raise
        return Answer(response.status, kind, b"".join(held))

    def _blocks(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        """Yield the body. Raises `Unreachable` for errors of the connection alone."""
        try:
            yield from web.blocks(response)
        except web.FAILURES as error:
            raise self._unreachable(error) from error

    def _refusal(self, response: http.client.HTTPResponse) -> HilumError:
        said = b""
        with suppress(*web.FAILURES):
            said = response.read(_LONGEST_REASON)
        self.close()
        words = on_one_line(said.decode("utf-8", "replace"))
        sentence = f"{self._host} answered {response.status}: {words}"
        if response.status in _LATER:
            return Unreachable(sentence)
        return Rejected(sentence, response.status)

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(f"{self._host} cannot be reached ({web.reason(error)})")

    def close(self) -> None:
        """Close the kept connection."""
        if self._open is not None:
            self._open.close()
        self._open = None
