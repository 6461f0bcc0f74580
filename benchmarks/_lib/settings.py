"""What `--set NAME=VALUE` means to the benches, in the words of a recipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from hilum import plugins


def chosen(model: str, given: Sequence[str], **own: Any) -> dict[str, Any]:
    """All settings of a model: its defaults, a bench's `own`, and those `given` as NAME=VALUE. Ends the program where one is not known."""
    known = plugins.defaults("models", model, "Settings")
    asked = {name: value for name, _, value in (one.partition("=") for one in given)}
    if unknown := sorted(asked.keys() - known.keys()):
        sys.exit(f"{model} has no setting {', '.join(unknown)}; known: {', '.join(known)}")
    return {**known, **own, **{name: _valued(known[name], value) for name, value in asked.items()}}


def again(given: Sequence[str]) -> str:
    """What was `given`, as the end of the command that gives it again."""
    return "".join(f" --set {one}" for one in given)


def _valued(default: Any, text: str) -> Any:
    """`text` as the type of the setting's default; a string with or without its quotes."""
    return text.strip('"') if isinstance(default, str) else type(default)(json.loads(text))
