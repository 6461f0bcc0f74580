"""The OpenAPI document of the API, written from the table of routes itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hilum import __version__
from hilum.serve.replies import JSON, Json
from hilum.serve.routing import Route

VERSION = "3.1.0"
_ERROR: Mapping[str, Json] = {
    "description": "Refused: what is wrong, and what to do",
    "content": {
        JSON: {
            "schema": {
                "type": "object",
                "required": ["error", "remedy"],
                "properties": {
                    "error": {"type": "string"},
                    "remedy": {"type": "string"},
                    "current": {"description": "409: the revision that came first"},
                },
            }
        }
    },
}


def document(routes: Sequence[Route]) -> Mapping[str, Json]:
    """Return the document of `routes`."""
    paths: dict[str, dict[str, Json]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": VERSION,
        "info": {
            "title": "Hilum desk",
            "version": __version__,
            "description": "Images, masks, labels, issues and figures of one study. A change needs "
            "the cookie of a session, its token in X-Hilum-Token and the desk's Origin.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": "hilum-PORT"},
                "token": {"type": "apiKey", "in": "header", "name": "X-Hilum-Token"},
            }
        },
        "security": [{"session": []}],
    }


def _operation(route: Route) -> Mapping[str, Json]:
    status = "201" if route.changes and route.method != "DELETE" else "200"
    operation: dict[str, Json] = {
        "operationId": f"{route.method.lower()}_{route.handler.__name__}",
        "summary": route.about,
        "parameters": [
            {
                "name": one.name,
                "in": one.where,
                "required": one.required,
                "description": one.about,
                "schema": {**one.kind.schema(), **_default(one.default)},
            }
            for one in route.parameters
        ],
        "responses": {
            status: {"description": "Done", "content": {route.media_type: {"schema": {}}}},
            "default": _ERROR,
        },
    }
    if route.method != "GET":
        operation["security"] = [{"session": [], "token": []}]
    if route.body is not None:
        schema: Mapping[str, Json] = {"type": "string", "format": "binary"}
        if route.body.content is not None:
            schema = route.body.content.schema()
        operation["requestBody"] = {
            "description": route.body.about,
            "required": True,
            "content": {route.body.media_type: {"schema": schema}},
        }
    return operation


def _default(value: Json) -> Mapping[str, Json]:
    return {} if value is None else {"default": value}
