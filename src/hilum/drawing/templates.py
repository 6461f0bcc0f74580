"""The one Jinja environment: every page and card is rendered from a template of `hilum/resources`.

A name that a template uses and `values` lacks raises `jinja2.UndefinedError`, so that a misspelt
name never becomes an empty place on a page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import resources
from types import MappingProxyType

from jinja2 import Environment, PackageLoader, StrictUndefined

Filters = Mapping[str, Callable[..., object]]
_NO_FILTERS: Filters = MappingProxyType({})


def environment(
    *,
    autoescape: bool,
    filters: Filters = _NO_FILTERS,
    finalize: Callable[..., object] | None = None,
) -> Environment:
    """Return the environment of the templates below `hilum/resources`, for pages of several.

    `autoescape` is for HTML: every value but `Markup` is escaped. `filters` are added to Jinja's
    and to `grouped` (1234 to "1,234"); `finalize` is applied to every value before it is printed.
    """
    made = Environment(
        loader=PackageLoader("hilum", "resources"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    made.filters |= {"grouped": _grouped, **filters}
    return made


def render(
    template: str,
    values: Mapping[str, object],
    *,
    autoescape: bool,
    filters: Filters = _NO_FILTERS,
    finalize: Callable[..., object] | None = None,
) -> str:
    """Render a template, given by its path in the package, as in "resources/report.html.j2".

    The other arguments are those of `environment`.
    """
    pages = environment(autoescape=autoescape, filters=filters, finalize=finalize)
    text = resources.files("hilum").joinpath(template).read_text(encoding="utf-8")
    return pages.from_string(text).render(values)


def _grouped(number: int) -> str:
    return f"{number:,}"
