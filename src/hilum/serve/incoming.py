"""What a request carries: JSON that is checked, and one file that is written to a place of ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Message

from hilum.serve.parameters import Object
from hilum.serve.replies import Json, Refusal
from hilum.serve.settings import Limits

_PART = 1 << 20  # bytes copied at once


def checked_json(data: bytes, content: Object) -> dict[str, Json]:
    """Return a JSON body, checked. Raises `Refusal` (422) saying what was expected."""
    remedy = "see /api/v1/openapi.json"
    try:
        value = json.loads(data or b"{}", parse_constant=_refuse_constant)
    except RecursionError:
        raise Refusal(422, "the body is nested too deeply", remedy) from None
    except ValueError:
        raise Refusal(422, "the body is no JSON", remedy) from None
    try:
        found = content.check(value)
    except ValueError as wrong:
        raise Refusal(422, str(wrong), remedy) from None
    if not isinstance(found, dict):
        raise TypeError("an object is checked to be one")
    return found


def _refuse_constant(name: str) -> Json:
    raise ValueError(f"{name} is no number of JSON")


async def save_file(request: Request, place: Path, limits: Limits) -> str:
    """Write the one file of a form to `place`; return its name as the browser states it.

    Raises `Refusal` for another form (422), one that is too large (413) or too slow (408).
    """
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limits.upload_bytes + _PART:
        raise _too_large(limits)
    form_request = Request(request.scope, _counted(request.receive, limits))
    try:
        async with asyncio.timeout(limits.body_seconds):
            async with form_request.form(max_files=1, max_fields=4) as form:
                file = form.get("file")
                if not isinstance(file, UploadFile):
                    raise Refusal(
                        422, "the form holds no file", "send one file under the name 'file'"
                    )
                await _copy(file, place)
                return file.filename or ""
    except TimeoutError:
        raise Refusal(
            408, f"the film did not arrive within {limits.body_seconds:g} seconds", "send it again"
        ) from None
    except (MultiPartException, HTTPException) as error:
        raise Refusal(
            422, f"the form cannot be read: {error}", "send one file under the name 'file'"
        ) from None


async def _copy(file: UploadFile, place: Path) -> None:
    with place.open("xb") as stream:
        while part := await file.read(_PART):
            await asyncio.to_thread(stream.write, part)


def _counted(
    receive: Callable[[], Awaitable[Message]], limits: Limits
) -> Callable[[], Awaitable[Message]]:
    """Return `receive`, which raises `Refusal` (413) beyond the limit of an upload."""
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limits.upload_bytes + _PART:
            raise _too_large(limits)
        return message

    return counted


def _too_large(limits: Limits) -> Refusal:
    return Refusal(
        413,
        f"the film has more than {limits.upload_bytes:,} bytes, which is the limit here",
        "use `hilum classify FILE`, which has none",
    )
