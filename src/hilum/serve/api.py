"""The API: the one table of its routes, and the OpenAPI document that is written from it."""

from __future__ import annotations

from hilum.serve import api_changes, api_figures, api_history, api_images, openapi, try_film
from hilum.serve.desk import Desk
from hilum.serve.replies import Reply, as_json
from hilum.serve.routing import Call, Route


def document(desk: Desk, call: Call) -> Reply:
    """Answer the OpenAPI document."""
    return as_json(openapi.document(ROUTES))


ROUTES: tuple[Route, ...] = (
    *api_images.ROUTES,
    *api_changes.ROUTES,
    *api_history.ROUTES,
    *api_figures.ROUTES,
    *try_film.ROUTES,
    Route("GET", "/api/v1/openapi.json", "This document", document),
)
