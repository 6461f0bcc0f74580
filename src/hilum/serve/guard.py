"""The guard before every route: who may come in, from which site, and what browsers are held to.

It knows no web framework, only ASGI messages, so nothing reaches a route around it.

* The Host must be this machine's, where the desk listens for it alone (DNS rebinding).
* Everything but static files and the ways in needs a session.
* Every method but GET and HEAD needs an Origin that is the desk's own, and the session's token.
* Every response forbids scripts, styles and images from elsewhere, framing, and keeping it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from hilum.serve import sign_in
from hilum.serve.replies import Refusal, Reply, of_refusal
from hilum.serve.sessions import Session, Sessions, is_token
from hilum.serve.settings import Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

STATIC, SIGN_IN, API = "/static/", "/sign-in", "/api/"
SAFE = ("GET", "HEAD")
TOKEN_HEADER = "x-hilum-token"
MOST_FORM_BYTES = 4096
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
NO_STORE = "no-store"
_EXPIRED = Refusal(
    401,
    "this browser has not come in, or its session has ended",
    "open the address that `hilum serve` printed",
)


@dataclass(frozen=True)
class Guard:
    """An ASGI application that lets requests through to `app`, with `session` in their state."""

    app: App
    settings: Settings
    sessions: Sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        request = _Request(scope)
        guarded = _with_headers(send, request.path)
        reply = await self._refused(request, receive)
        if reply is None:
            await self.app(scope, receive, guarded)
        else:
            await respond(reply, guarded)

    async def _refused(self, request: _Request, receive: Receive) -> Reply | None:
        """Return the reply that ends a request here; None where it goes through."""
        try:
            self._refuse_host(request)
            if request.path.startswith(STATIC) and request.method in SAFE:
                return None
            if request.method not in SAFE:
                self._refuse_origin(request)
            if request.path == SIGN_IN and self.sessions.has_password:
                return await self._signing_in(request, receive)
            session = self._session(request)
            if session is None:
                return self._way_in(request)
            if request.method not in SAFE and not is_token(
                session, request.header(TOKEN_HEADER) or ""
            ):
                raise Refusal(403, "the request carries no valid X-Hilum-Token", "reload the page")
        except Refusal as refused:
            return of_refusal(refused)
        request.scope.setdefault("state", {})["session"] = session
        return None

    def _refuse_host(self, request: _Request) -> None:
        if self.settings.is_local and request.host not in _local_hosts(self.settings):
            raise Refusal(
                421,
                "the request names another host than this desk",
                f"open {self.settings.address}",
            )

    def _refuse_origin(self, request: _Request) -> None:
        origin = request.header("origin")
        allowed = [f"http://{request.host}", f"https://{request.host}"]
        if self.settings.is_local:
            allowed = [f"http://{host}" for host in _local_hosts(self.settings)]
        if self.settings.origin:
            allowed.append(self.settings.origin)
        if origin not in allowed:
            raise Refusal(
                403,
                "a change must come from the desk's own pages, and its Origin says otherwise",
                f"open the desk at {self.settings.address}; a program sends that as Origin",
            )

    def _session(self, request: _Request) -> Session | None:
        """Return the session of a request; where a proxy names the person, its session starts."""
        session = self.sessions.of(request.cookies.get(cookie_name(self.settings)))
        if not self.settings.user_header:
            return session
        person = " ".join((request.header(self.settings.user_header) or "").split())
        if not person:
            raise Refusal(
                401,
                f"the request came without {self.settings.user_header}, in which the reverse proxy "
                "names whom it has let in",
                "open the desk through the proxy",
            )
        if session is not None and session.author not in ("", person):
            return None
        if session is not None:
            session.author = person
        return session

    def _way_in(self, request: _Request) -> Reply:
        """Return what a request without a session gets: a session where it may have one."""
        query = dict(parse_qsl(request.query))
        cookie = None
        if self.settings.user_header and request.method in SAFE:
            cookie = self.sessions.start(
                " ".join((request.header(self.settings.user_header) or "").split())
            )
        elif request.method in SAFE and (token := query.pop("token", "")):
            cookie = self.sessions.enter(token)
        if cookie is not None:
            place = _below(request.path) + (f"?{urlencode(query)}" if query else "")
            return Reply(b"", "text/plain", 303, {"location": place, **self._cookie(cookie)})
        if request.path.startswith(API) or request.method not in SAFE:
            return of_refusal(_EXPIRED)
        return sign_in.page(self.sessions.has_password, _address(request))

    async def _signing_in(self, request: _Request, receive: Receive) -> Reply:
        if request.method != "POST":
            return sign_in.page(True, "/")
        form = parse_qs((await body_of(receive, MOST_FORM_BYTES, 10.0)).decode("utf-8", "replace"))
        if self.sessions.throttled():
            return sign_in.page(True, "/", "Too many wrong passwords: wait a minute.", 429)
        password = form.get("password", [""])[0]
        right = await asyncio.to_thread(self.sessions.has, password)
        if not right:
            return sign_in.page(True, "/", "That is not the password.", 403)
        cookie = self.sessions.start()
        return Reply(b"", "text/plain", 303, {"location": "/", **self._cookie(cookie)})

    def _cookie(self, value: str) -> Mapping[str, str]:
        secure = "; Secure" if self.settings.address.startswith("https:") else ""
        name = cookie_name(self.settings)
        return {"set-cookie": f"{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}"}


@dataclass(frozen=True)
class _Request:
    """What the guard reads of a request."""

    scope: Scope

    @property
    def method(self) -> str:
        return str(self.scope["method"])

    @property
    def path(self) -> str:
        return str(self.scope["path"])

    @property
    def query(self) -> str:
        return bytes(self.scope.get("query_string", b"")).decode("latin-1")

    def header(self, name: str) -> str | None:
        """Return a header's value; None where it is absent or stands there more than once."""
        wanted = name.lower().encode()
        headers: Sequence[tuple[bytes, bytes]] = self.scope["headers"]
        found = [value for key, value in headers if key.lower() == wanted]
        return found[0].decode("latin-1") if len(found) == 1 else None

    @property
    def host(self) -> str:
        return self.header("host") or ""

    @property
    def cookies(self) -> Mapping[str, str]:
        try:
            jar = SimpleCookie(self.header("cookie") or "")
        except CookieError:
            return {}
        return {name: one.value for name, one in jar.items()}


def cookie_name(settings: Settings) -> str:
    """Return the cookie's name; browsers keep cookies by host, and a host may have several desks."""
    return f"hilum-{settings.port}"


def _local_hosts(settings: Settings) -> list[str]:
    hosts = [f"{name}:{settings.port}" for name in ("127.0.0.1", "localhost", "[::1]")]
    named = [urlsplit(settings.origin).netloc] if settings.origin else []
    return [*hosts, *named]


def _address(request: _Request) -> str:
    """Return the address of a request below the desk, for a link to it."""
    return _below(request.path) + (f"?{request.query}" if request.query else "")


def _below(path: str) -> str:
    """Return a path that no browser takes for the address of another host."""
    return "/" + path.replace("\\", "/").lstrip("/")


def _with_headers(send: Send, path: str) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [pair for pair in message.get("headers", []) if pair[0] != b"server"]
            names = {bytes(name).lower() for name, _ in headers}
            added = dict(HEADERS)
            if not path.startswith(STATIC):
                headers = [pair for pair in headers if pair[0].lower() != b"cache-control"]
                added["cache-control"] = NO_STORE
            headers += [
                (name.encode(), value.encode())
                for name, value in added.items()
                if name.encode() not in names or name == "cache-control"
            ]
            message = {**message, "headers": headers}
        await send(message)

    return sending


async def body_of(receive: Receive, most: int, seconds: float) -> bytes:
    """Read a body of at most `most` bytes. Raises `Refusal` (413, 408) for a larger or slow one."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refusal(400, "the client went away", "send the request again")
                part = message.get("body", b"")
                size += len(part)
                if size > most:
                    raise Refusal(
                        413,
                        f"the request has more than {most:,} bytes, which is the limit here",
                        "send a smaller file",
                    )
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise Refusal(
            408, f"the request did not arrive within {seconds:g} seconds", "send it again"
        ) from None


async def respond(reply: Reply, send: Send) -> None:
    """Send a whole reply."""
    headers = {
        "content-type": reply.media_type,
        "content-length": str(len(reply.body)),
        **reply.headers,
    }
    pairs = [
        (name.lower().encode(), value.encode("latin-1", "replace"))
        for name, value in headers.items()
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": pairs})
    await send({"type": "http.response.body", "body": bytes(reply.body)})
