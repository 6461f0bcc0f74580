"""The pages: each is a template filled with the JSON that its route of the API answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from urllib.parse import parse_qsl

from jinja2 import Environment, PackageLoader, StrictUndefined

from hilum.serve import api_figures, api_history, api_images, facts, listing, queries, try_film
from hilum.serve.desk import Desk
from hilum.serve.facts import Facts
from hilum.serve.parameters import Parameter
from hilum.serve.replies import HTML, Refusal, Reply, finite
from hilum.serve.routing import ROW, Call, Route

Data = Callable[[Desk, Call], Facts]


@lru_cache(maxsize=1)
def _templates() -> Environment:
    """Return the environment of `hilum/serve/templates`; every value is escaped."""
    return Environment(
        loader=PackageLoader("hilum.serve", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _page(name: str, data: Data) -> Callable[[Desk, Call], Reply]:
    """Return the handler of a page; while the study is being prepared it says how far that is."""

    def answer(desk: Desk, call: Call) -> Reply:
        study = facts.study_facts(desk, call.session)
        if not desk.preparation.is_ready:
            return _rendered("preparing", "worklist", study, study, call)
        return _rendered(name, name, study, data(desk, call), call)

    return answer


def _rendered(template: str, page: str, study: Facts, data: Facts, call: Call) -> Reply:
    text = (
        _templates()
        .get_template(f"{template}.html")
        .render(
            study=study,
            token=call.session.token,
            author=call.session.author or None,
            read_only=study["read_only"],
            page=page,
            data=finite(data),
            query=parse_qsl(call.address),
        )
    )
    return Reply(text.encode("utf-8", "replace"), HTML)


def refused(desk: Desk, call: Call, refusal: Refusal) -> Reply:
    """Return the page of an error."""
    study = facts.study_facts(desk, call.session)
    text = (
        _templates()
        .get_template("error.html")
        .render(
            study=study,
            token=call.session.token,
            author=call.session.author or None,
            read_only=study["read_only"],
            page="error",
            data={},
            query=[],
            status=refusal.status,
            message=f"{refusal.error}; {refusal.remedy}",
        )
    )
    return Reply(text.encode("utf-8", "replace"), HTML, refusal.status)


def _worklist(desk: Desk, call: Call) -> Facts:
    return listing.page(desk, call.query)


def _route(path: str, name: str, data: Data, parameters: tuple[Parameter, ...]) -> Route:
    return Route("GET", path, f"The page {name}", _page(name, data), parameters, media_type=HTML)


ROUTES = (
    _route("/", "worklist", _worklist, queries.PARAMETERS),
    _route(
        "/images/{row}",
        "image",
        api_images.image_facts,
        (ROW, api_images.BLIND, *queries.PARAMETERS),
    ),
    _route("/issues", "issues", api_images.issue_list, api_images.ISSUE_FILTERS),
    _route("/readings", "readings", api_history.agreement_facts, api_history.AGREEMENT),
    _route("/figures", "figures", api_figures.figure_facts, api_figures.PARAMETERS),
    _route("/try", "try", try_film.models_facts, ()),
    _route("/revisions", "revisions", api_history.revision_list, api_history.REVISIONS),
)
