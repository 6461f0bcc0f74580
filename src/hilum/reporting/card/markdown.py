"""GitHub's Markdown in which text of the data is only ever text.

It cannot become a table's border, a link, an image, HTML or a new line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hilum.drawing import templates

DASH = "–"
TEMPLATE = "resources/card.md.j2"
_SPECIAL = re.compile(r"([\\`*\[\]|~$])")
_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")  # within a word it means nothing
# Line ends and other control characters, and those that change the direction of writing.
_CONTROL = re.compile("[\\s\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]+")


class SafeMarkdown(str):
    """Markdown that is not escaped again."""


def one_line(text: str) -> str:
    """Replace line ends and control characters by single spaces."""
    return _CONTROL.sub(" ", text).strip()


def escaped(value: Any) -> str:
    """Return any value as Markdown within one line.

    Numbers are grouped, None is a dash, a list of whole numbers is `width × height`.
    """
    if isinstance(value, SafeMarkdown):
        return value
    if value is None or value == "":
        return DASH
    if isinstance(value, (int, float)):
        return f"{value:,}" if isinstance(value, int) else f"{value:,g}"
    if isinstance(value, (list, tuple)):
        numbers = all(isinstance(item, int) for item in value)
        return SafeMarkdown(
            (" × " if numbers else ", ").join(
                escaped(item) if not numbers else str(item) for item in value
            )
        )
    text = one_line(str(value)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _UNDERSCORE.sub(r"\\_", _SPECIAL.sub(r"\\\1", text))


def table(rows: Sequence[Sequence[Any]], *head: str) -> SafeMarkdown:
    """Return a table; columns of whole numbers alone are aligned to the right."""
    right = [
        bool(rows) and all(isinstance(row[place], int) or row[place] is None for row in rows)
        for place in range(len(head))
    ]
    lines = [
        head,
        ["--:" if of_numbers else "---" for of_numbers in right],
        *([escaped(cell) for cell in row] for row in rows),
    ]
    return SafeMarkdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def block(lines: Sequence[str]) -> SafeMarkdown:
    """Return a code block of these lines."""
    return SafeMarkdown(
        "\n".join(
            "    " + _CONTROL.sub(lambda found: " " * len(found.group()), line) for line in lines
        )
    )


def render(content: Mapping[str, object], template: str = TEMPLATE) -> str:
    """Render a template below the package, with every value escaped."""
    filters = {"table": table, "block": block}
    text = templates.render(template, content, autoescape=False, filters=filters, finalize=escaped)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
