"""Describe every setting of a recipe for people, from its declaration in `config.sections`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any

from hilum import plugins
from hilum.config.recipe import Recipe, toml_value
from hilum.config.sections import MEANING

_WIDTH = 100  # columns of the TOML text


@dataclass(frozen=True)
class SettingDescription:
    """One key of a recipe. `default` is a bool, int, float, str or tuple of str."""

    section: str
    key: str
    default: Any
    meaning: str

    @property
    def toml_default(self) -> str:
        """The default as a recipe writes it."""
        return toml_value(self.default)


def describe_settings() -> list[SettingDescription]:
    """Return every key of every section, in the order of a recipe.

    The settings of models, which their modules declare, are not among them.
    """
    return [
        SettingDescription(part.name, one.name, one.default, one.metadata[MEANING])
        for part, one in _declarations()
        if one.default is not MISSING
    ]


def default_recipe_toml() -> str:
    """Return a complete recipe as TOML text: every key with its default, below its meaning.

    The settings of the default models are in it as comments. The text reads back as `Recipe()`.
    """
    lines = [
        "# Every setting of a Hilum run with its default. Only [data] folder must be given; a key",
        "# that is left out has the value shown here.",
    ]
    section = ""
    for part, one in _declarations():
        if part.name != section:
            section = part.name
            lines += ["", f"[{section}]"]
        if one.default is MISSING:
            lines += _model_lines(getattr(Recipe(), section).model)
            continue
        lines += _comment(one.metadata[MEANING])
        lines.append(f"{one.name} = {toml_value(one.default)}")
    return "\n".join(lines) + "\n"


def _declarations() -> Iterator[tuple[Field[Any], Field[Any]]]:
    """Yield each field of each section, with the field of `Recipe` that holds the section."""
    recipe = Recipe()
    for part in fields(recipe):
        for one in fields(getattr(recipe, part.name)):
            yield part, one


def _model_lines(model: str) -> list[str]:
    defaults = plugins.defaults("models", model, "Settings")
    keys = [f"# {key} = {toml_value(value)}" for key, value in defaults.items()]
    return [*_comment(f"Settings of the model {model}; another model has others:"), *keys]


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text[:1].upper() + text[1:], _WIDTH, initial_indent="# ", subsequent_indent="# "
    )
