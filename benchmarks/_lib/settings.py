"""Read `--set NAME=VALUE` of the benchmarks as a recipe does."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from hilum import plugins


def chosen(model: str, given: Sequence[str], **own: Any) -> dict[str, Any]:
    """Return all settings of a model: its defaults, a benchmark's `own`, and those `given` as
    NAME=VALUE. Ends the program where one is not known.
    """
    known = plugins.defaults("models", model, "Settings")
    requested = {name: value for name, _, value in (one.partition("=") for one in given)}
    if unknown := sorted(requested.keys() - known.keys()):
        sys.exit(f"{model} has no setting {', '.join(unknown)}; known: {', '.join(known)}")
    return {
        **known,
        **own,
        **{name: _valued(known[name], value) for name, value in requested.items()},
    }


def again(given: Sequence[str]) -> str:
    """Return what was `given` as the end of the command that gives it again."""
    return "".join(f" --set {one}" for one in given)


def _valued(default: Any, text: str) -> Any:
    """Return `text` as the type of the setting's default; a string with or without its quotes."""
    return text.strip('"') if isinstance(default, str) else type(default)(json.loads(text))
