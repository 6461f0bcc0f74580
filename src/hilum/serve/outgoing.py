"""Replies of megabytes: a few at once, a few for each session, and none for a reader that stalls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from hilum.serve.replies import Reply
from hilum.serve.sessions import Session
from hilum.serve.settings import Limits

_PART = 1 << 18  # bytes sent at once
_GRACE = 10.0  # seconds in which a reader may be slow


class LargeReplies:
    """The places for large replies that are being sent, of one desk."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._sending = 0
        self._freed = asyncio.Condition()

    async def respond(self, session: Session, make: Callable[[], Awaitable[Reply]]) -> Response:
        """Return the response whose reply is made once there is a place for it."""
        await self._take(session)
        try:
            reply = await make()
        except BaseException:
            await self._free(session)
            raise
        return _Large(reply, self._limits, lambda: self._free(session))

    async def _take(self, session: Session) -> None:
        limits = self._limits
        async with self._freed:
            await self._freed.wait_for(
                lambda: (
                    self._sending < limits.images_at_once
                    and session.images < limits.images_per_session
                )
            )
            self._sending += 1
            session.images += 1

    async def _free(self, session: Session) -> None:
        async with self._freed:
            self._sending -= 1
            session.images -= 1
            self._freed.notify_all()


class _Large(StreamingResponse):
    """A reply that is sent in parts; its place is free when it has ended in any way."""

    def __init__(self, reply: Reply, limits: Limits, done: Callable[[], Awaitable[None]]) -> None:
        headers = {**reply.headers, "content-length": str(len(reply.body))}
        super().__init__(
            _parts(reply.body), reply.status, headers=headers, media_type=reply.media_type
        )
        self._limits, self._done, self._size = limits, done, len(reply.body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun, sent = time.monotonic(), 0

        async def sending(message: Message) -> None:
            nonlocal sent
            async with asyncio.timeout(self._limits.chunk_seconds):
                await send(message)
            sent += len(message.get("body", b""))
            passed = time.monotonic() - begun
            if passed > _GRACE and sent < passed * self._limits.slow_bytes_per_second < self._size:
                raise TimeoutError

        try:
            await super().__call__(scope, receive, sending)
        except TimeoutError:
            return  # the connection is closed by the server, as its reply is not whole
        finally:
            await self._done()


async def _parts(body: bytes | memoryview) -> AsyncIterator[bytes]:
    view = memoryview(body)
    for start in range(0, len(view), _PART):
        yield bytes(view[start : start + _PART])
