"""Who has come in: sessions of browsers, one-time addresses, and the password.

A session is known by a cookie that scripts cannot read. Each has a token of its own, which pages
send back with every change, so that another site cannot make a browser change anything. Everything
is in memory: who comes after a restart comes in anew.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from hilum.serve.settings import Settings

MOST_SESSIONS, MOST_INVITATIONS = 256, 32
IDLE_SECONDS = 12 * 3600.0
MOST_FAILURES, FAILURES_SECONDS = 5, 60.0  # wrong passwords of everyone together
_BYTES = 32  # of randomness in each secret


@dataclass
class Session:
    """A browser that came in. `author` is the name its changes carry; "" until it is given."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(_BYTES))
    author: str = ""
    seen: float = field(default_factory=time.monotonic)
    images: int = 0  # that are being sent to it


class Sessions:
    """All sessions of one desk. Threads may share it."""

    def __init__(self, settings: Settings) -> None:
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._invitations: OrderedDict[str, None] = OrderedDict()
        self._salt = secrets.token_bytes(16)
        self._password = self._digest(settings.password) if settings.password else None
        self._failures: list[float] = []

    def invite(self) -> str:
        """Return a new one-time token, which `enter` takes once."""
        token = secrets.token_urlsafe(_BYTES)
        with self._lock:
            self._invitations[token] = None
            while len(self._invitations) > MOST_INVITATIONS:
                self._invitations.popitem(last=False)
        return token

    def enter(self, token: str) -> str | None:
        """Return the cookie of a new session for a one-time token; None where it is not valid."""
        with self._lock:
            known = next((one for one in self._invitations if _same(one, token)), None)
            if known is None:
                return None
            del self._invitations[known]
        return self.start()

    def start(self, author: str = "") -> str:
        """Start a session and return its cookie; the one that is idle longest goes for it."""
        cookie = secrets.token_urlsafe(_BYTES)
        with self._lock:
            self._sessions[cookie] = Session(author=author)
            while len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)
        return cookie

    def of(self, cookie: str | None) -> Session | None:
        """Return the session of a cookie; None where there is none, or none any more."""
        if not cookie:
            return None
        with self._lock:
            session = self._sessions.get(cookie)
            if session is None:
                return None
            now = time.monotonic()
            if now - session.seen > IDLE_SECONDS:
                del self._sessions[cookie]
                return None
            session.seen = now
            self._sessions.move_to_end(cookie)
            return session

    @property
    def has_password(self) -> bool:
        """Whether a password lets people in."""
        return self._password is not None

    def throttled(self) -> bool:
        """Whether so many wrong passwords came that the next one has to wait."""
        with self._lock:
            since = time.monotonic() - FAILURES_SECONDS
            self._failures = [one for one in self._failures if one > since]
            return len(self._failures) >= MOST_FAILURES

    def has(self, password: str) -> bool:
        """Say whether this is the password, and count it where it is not."""
        right = self._password is not None and hmac.compare_digest(
            self._digest(password), self._password
        )
        if not right:
            with self._lock:
                self._failures.append(time.monotonic())
        return right

    def _digest(self, password: str) -> bytes:
        return hashlib.scrypt(
            password.encode("utf-8", "replace"), salt=self._salt, n=1 << 14, r=8, p=1
        )


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode("utf-8", "replace"))


def is_token(session: Session, given: str) -> bool:
    """Say whether a request's token is that of its session."""
    return _same(session.token, given)
