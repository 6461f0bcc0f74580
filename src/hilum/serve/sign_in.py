"""The page for a browser that has not come in yet."""

from __future__ import annotations

from importlib import resources

from jinja2 import Environment, StrictUndefined

from hilum.serve.replies import HTML, Reply

TEMPLATE = "resources/sign_in.html.j2"


def page(has_password: bool, address: str, fault: str = "", status: int = 401) -> Reply:
    """Return the page: a form where there is a password, else where the address is found.

    `address` is what the browser wanted. A cookie that is sent to its own site only is absent when
    a link elsewhere is followed; the page's link to the same address then leads in.
    """
    text = resources.files("hilum").joinpath(TEMPLATE).read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(text)
    body = template.render(has_password=has_password, address=address, fault=fault)
    return Reply(body.encode(), HTML, status)
