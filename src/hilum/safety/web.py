"""Speak HTTP as a client: what may be an address, who is trusted, what is taken of an answer.

All of Hilum that fetches from a server keeps to it: no credentials in an address, none without
encryption, no redirect from an encrypted address to an open one, no answer of any length, and no
secret in a message.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO
from urllib.parse import urlsplit

from hilum import __version__
from hilum.errors import CannotRead, NotFound, on_one_line
from hilum.safety.loopback import is_loopback

SCHEMES = ("http", "https")
SILENCE_SECONDS = 60.0  # without a byte, after which a connection counts as lost
BLOCK = 1 << 20  # bytes that are taken of an answer at once
LONGEST_LIST = 64 << 20  # bytes of JSON in one answer
FAILURES = (OSError, HTTPException)  # of a connection
# Status codes (RFC 9110 section 15): what may pass, who may not come in, what is no more.
PASSING = (408, 425, 429, 500, 502, 503, 504)
FORBIDDEN, GONE = (401, 403), (404, 410)
_EXAMPLE = "https://pacs.example.org/dicom-web"
# Whatever a library says may hold an address with a signature, or a key.
_SECRET = re.compile(r"\?\S+|(?<=://)[^/\s]*@|(?:AWS|aws)\w*\s*[=:]\s*\S+")
_VARIABLES = re.compile(r"(?i)secret|token|password|credential|access_key")
_LONGEST_REASON = 300


@dataclass(frozen=True)
class Login:
    """The credentials for a server: user and password, or a bearer token; and its authority."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    ca: str = ""  # path of a file of certificates; "" for those of the system

    @property
    def headers(self) -> dict[str, str]:
        """The header that carries the credentials (RFC 6750, RFC 7617)."""
        if self.token:
            return {"Authorization": f"Bearer {self.token}"}
        if self.user:
            pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        return {}

    def trusted(self) -> ssl.SSLContext:
        """Return whose certificates are trusted. Raises `CannotRead` for a file with none."""
        try:
            return ssl.create_default_context(cafile=self.ca or None)
        except (OSError, ValueError) as error:
            raise CannotRead(
                f"{self.ca} holds no certificates that can be read; expected those of an "
                "authority, as PEM"
            ) from error


def fault_of_address(url: str) -> str:
    """Return why an address of a server cannot be used, as the end of a sentence; "" if it can."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in SCHEMES and parts.hostname and parts.port != 0
    except ValueError:  # of a port
        whole, parts = False, urlsplit("")
    if not whole or not url.isprintable() or " " in url:
        return f"must be an address as {_EXAMPLE}, got {url!r}"
    if parts.username or parts.password or parts.query or parts.fragment:
        return (
            "must hold neither user, password nor query, which logs and lists of processes would "
            "show; credentials are given by files"
        )
    return ""


def is_open(url: str) -> bool:
    """Return whether what is sent to an address can be read on the way."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects, but none from an encrypted address to one that is not."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            place, target = (_SECRET.sub("…", on_one_line(one)) for one in (req.full_url, newurl))
            raise NotFound(
                f"{place} leads on to {target}, which is not encrypted; nothing was fetched"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def opened(url: str, headers: Mapping[str, str] | None = None) -> HTTPResponse:
    """Request a file by GET and return the answer, to be closed; proxies are the system's.

    Raises `NotFound` for a redirect that would give up encryption, `urllib.error.HTTPError` for a
    status that is no success, others of `FAILURES` where the connection fails.
    """
    named = {"User-Agent": f"hilum/{__version__}", **(headers or {})}
    request = urllib.request.build_opener(_Redirects).open
    return request(urllib.request.Request(url, headers=named), timeout=SILENCE_SECONDS)


def blocks(answer: HTTPResponse) -> Iterator[bytes]:
    """Yield the bytes of an answer. Raises `FAILURES`, also where fewer come than were stated."""
    while block := answer.read(BLOCK):
        yield block
    if answer.length:
        raise ConnectionError("the answer was cut short")


def reason(error: Exception) -> str:
    """Return what an error of a connection or library says, on one line and without secrets."""
    error = _wrapped(error)
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    for name, value in os.environ.items():
        if len(value) > 3 and _VARIABLES.search(name):
            text = text.replace(value, "…")
    return on_one_line(_SECRET.sub("…", text))[:_LONGEST_REASON]


def _wrapped(error: Exception) -> Exception:
    """Return the error that urllib, urllib3 and requests wrap, which says what happened."""
    inner = (getattr(error, "reason", None), *error.args[:1])
    if nested := next((one for one in inner if isinstance(one, Exception)), None):
        return _wrapped(nested)
    cause = error.__cause__
    return cause if isinstance(cause, OSError) and not isinstance(error, OSError) else error
