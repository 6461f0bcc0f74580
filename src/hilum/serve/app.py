"""The application: the table of routes behind the guard, as one ASGI application."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.routing import Route as Served

from hilum.errors import HilumError
from hilum.revisions.revision import Stale
from hilum.serve import api, facts, incoming, pages, static_files
from hilum.serve.desk import Desk
from hilum.serve.guard import API, Guard, body_of
from hilum.serve.outgoing import LargeReplies
from hilum.serve.preparation import Preparation
from hilum.serve.replies import Json, Refusal, Reply, of_refusal, refusal_of
from hilum.serve.routing import FORM, Call, Route
from hilum.serve.settings import Settings

Endpoint = Callable[[Request], Awaitable[Response]]
_FAILED = Refusal(500, "the desk failed", "the terminal of `hilum serve` says how; report it")


def create_app(preparation: Preparation, settings: Settings) -> tuple[Guard, Desk]:
    """Return the application of one desk, and the desk, which `begin` of `preparation` fills."""
    desk = Desk(preparation, settings)
    large = LargeReplies(settings.limits)
    served: list[BaseRoute] = [
        Served(one.path, _endpoint(desk, one, large), methods=[one.method])
        for one in (*api.ROUTES, *pages.ROUTES)
    ]
    files = static_files.read(resources.files("hilum.serve").joinpath("static"))
    served.append(Served("/static/{name:path}", partial(static_files.answer, files)))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(desk.close)

    app = Starlette(
        routes=served, lifespan=lifespan, exception_handlers={HTTPException: _not_there}
    )
    return Guard(app, settings, desk.sessions), desk


async def _not_there(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    what = "the desk has no such address" if status == 404 else "the address takes no such request"
    return _response(of_refusal(Refusal(status, what, "see /api/v1/openapi.json for all of them")))


def _response(reply: Reply) -> Response:
    headers = {
        name: value.encode("latin-1", "replace").decode("latin-1")
        for name, value in reply.headers.items()
    }
    return Response(bytes(reply.body), reply.status, headers, reply.media_type)


def _endpoint(desk: Desk, route: Route, large: LargeReplies) -> Endpoint:
    """Return the function that answers a route: check, work in a thread, send."""

    async def answer(request: Request) -> Response:
        try:
            if route.changes and desk.settings.read_only:
                raise Refusal(
                    403, "this desk is read-only", "start it without --read-only to change anything"
                )
            if route.is_large:
                return await large.respond(
                    request.state.session, partial(_answered, desk, route, request)
                )
            return _response(await _answered(desk, route, request))
        except HilumError as error:
            # Its frames hold whole images, and would until the next collection of garbage.
            return await _refused(desk, route, request, error.with_traceback(None))
        except Exception:  # noqa: BLE001 (a request must not end the desk; it is printed)
            traceback.print_exc(file=sys.stderr)
            return await _refused(desk, route, request, _FAILED)

    return answer


async def _answered(desk: Desk, route: Route, request: Request) -> Reply:
    """Check a request, do its work and return the reply."""
    values = _values(route, request)
    call = Call(values, request.state.session, address=request.url.query)
    if route.body is None:
        return await desk.work(partial(route.handler, desk, call), route.threads(desk, call))
    limits = desk.settings.limits
    if route.body.media_type == FORM:
        with TemporaryDirectory(prefix="hilum-") as folder:
            place = Path(folder) / "film"
            name = await incoming.save_file(request, place, limits)
            call = Call(values, call.session, file=place, file_name=name)
            return await desk.work(partial(route.handler, desk, call), route.threads(desk, call))
    most = limits.mask_bytes if route.takes_png else limits.json_bytes
    data = await body_of(request.receive, most, limits.body_seconds)
    content: Mapping[str, Json] = {}
    if route.body.content is not None:
        content = incoming.checked_json(data, route.body.content)
    call = Call(values, call.session, content, data)
    return await desk.work(partial(route.handler, desk, call), route.threads(desk, call))


def _values(route: Route, request: Request) -> Mapping[str, Json]:
    """Return the checked values of a request. Raises `Refusal` (422) for a wrong one."""
    found: dict[str, Json] = {}
    for one in route.parameters:
        try:
            found[one.name] = one.read(_given(one.where, one.name, request))
        except ValueError as wrong:
            raise Refusal(422, str(wrong), "see /api/v1/openapi.json") from None
    return found


def _given(where: str, name: str, request: Request) -> Sequence[str]:
    if where == "path":
        return [str(request.path_params[name])]
    if where == "header":
        return request.headers.getlist(name)
    return [one for one in request.query_params.getlist(name) if one != ""]


async def _refused(desk: Desk, route: Route, request: Request, error: HilumError) -> Response:
    """Return an error: as JSON below the API, else as a page."""
    refusal = refusal_of(error)
    if isinstance(error, Stale):
        more = {"current": facts.current(error.current)}
        refusal = Refusal(409, refusal.error, refusal.remedy, more)
    if route.path.startswith(API):
        return _response(of_refusal(refusal))
    call = Call({}, request.state.session)
    return _response(await desk.work(partial(pages.refused, desk, call, refusal)))
