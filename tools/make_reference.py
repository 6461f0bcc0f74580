"""Write the reference pages of the documentation from the code: `python -m tools.make_reference`.

With `--check` nothing is written; the exit code is 1 where a page is not what the code says.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from pathlib import Path

from typer.main import get_command

import hilum
from hilum import plugins
from hilum.cli.verbs import app
from hilum.config import describe_settings
from hilum.config.recipe import toml_value
from hilum.training import settings

PAGES = Path(__file__).parents[1] / "docs" / "reference"
NOTE = "<!-- Written by `python -m tools.make_reference`; edit the code instead. -->\n\n"
FUNCTION = re.compile(r"<function (\w+) at 0x[0-9a-f]+>")  # a default that is a function
TITLES = {
    "readers": "Data sets",
    "writers": "Forms of export",
    "checks": "Checks of the audit",
    "models": "Models",
    "metrics": "Metrics",
}


def command_line() -> str:
    """Return the page of the verbs: what `hilum VERB --help` prints, by group."""
    command = get_command(app)
    groups: dict[str, list[str]] = {}
    for name, verb in command.commands.items():
        groups.setdefault(verb.rich_help_panel, []).append(name)
    parts = ["# Command line\n"]
    for title, names in groups.items():
        parts.append(f"## {title}\n")
        for name in names:
            verb = command.commands[name]
            parts.append(f"### hilum {name}\n\n{inspect.cleandoc(verb.help or '')}\n")
            rows = [_option(parameter) for parameter in verb.params if parameter.name != "help"]
            parts.append("| argument | meaning |\n| --- | --- |\n" + "\n".join(rows) + "\n")
            parts.append(f"{verb.epilog}\n")
    return "\n".join(parts)


def _option(parameter) -> str:
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if parameter.param_type_name == "argument":
        names = f"`{(parameter.metavar or parameter.name).upper()}`"
    meaning = " ".join((getattr(parameter, "help", None) or "").split())
    return f"| {names} | {meaning} |".replace("|*", "\\|*")


def interface() -> str:
    """Return the page of the Python interface: each public name with signature and docstring."""
    parts = ["# Python\n", "`import hilum` gives these names; each is loaded when first used.\n"]
    for name in hilum.__all__:
        thing = getattr(hilum, name)
        if inspect.ismodule(thing):
            parts.append(f"## hilum.{name}\n\n{inspect.cleandoc(thing.__doc__ or '')}\n")
            continue
        signature = "" if isinstance(thing, type) else str(inspect.signature(thing))
        signature = FUNCTION.sub(r"\1", signature)
        parts.append(f"## hilum.{name}\n")
        parts.append(f"```python\n{name}{signature}\n```\n\n{_prose(thing)}\n")
        if isinstance(thing, type) and not issubclass(thing, Exception):
            parts += [f"- `{member}`: {words}" for member, words in _members(thing)]
            parts.append("")
    return "\n".join(parts)


def _prose(thing) -> str:
    """Return a docstring with its examples in a block."""
    lines, out, within = inspect.cleandoc(thing.__doc__ or "").split("\n"), [], False
    for line in lines:
        if line.startswith(">>>") and not within:
            out.append("```pycon")
            within = True
        out.append(line)
    return "\n".join(out + ["```"] * within)


def _members(thing: type) -> list[tuple[str, str]]:
    found = []
    for name, member in vars(thing).items():
        if name.startswith("_") or not (inspect.isfunction(member) or isinstance(member, property)):
            continue
        if words := inspect.getdoc(member):
            found.append((name, " ".join(words.split("\n\n")[0].split())))
    return found


def configuration() -> str:
    """Return the page of the recipe's settings: key, default and meaning by section, then those
    of models."""
    parts, section = ["# Configuration\n", "`hilum config --init` prints all of it to edit."], ""
    for one in describe_settings():
        if one.section != section:
            section = one.section
            parts.append(f"\n## [{section}]\n\n| key | default | meaning |\n| --- | --- | --- |")
        meaning = " ".join(one.meaning.split()).replace("|", "\\|")
        parts.append(f"| `{one.key}` | `{one.toml_default}` | {meaning} |")
    return "\n".join([*parts, *_model_settings()])


def _model_settings() -> list[str]:
    """Return what the settings of models mean, those that models share first."""
    shared = [thing for thing in vars(settings).values() if inspect.isclass(thing)]
    parts = [
        "\n## Settings of models\n",
        "Keys of [segment], [classify] and [anomaly] beside those above; each model has those that "
        "its table lists.\n",
        *(f"{inspect.cleandoc(kind.__doc__ or '')}\n" for kind in shared),
    ]
    for name in plugins.names("models"):
        own = plugins.load("models", name).Settings
        parts.append(f"### {name}\n\n{inspect.cleandoc(own.__doc__ or '')}\n")
        parts.append("| key | default |\n| --- | --- |")
        defaults = plugins.defaults("models", name, "Settings")
        parts += [f"| `{key}` | `{toml_value(value)}` |" for key, value in defaults.items()]
        parts.append("")
    return parts


def plugin_lists() -> str:
    """Return the page of data sets, forms of export, checks, models and metrics, from
    their cards.
    """
    parts = ["# Data sets, checks, models, metrics\n"]
    for kind, title in TITLES.items():
        parts.append(f"## {title}\n\n| name | what it is |\n| --- | --- |")
        for name in plugins.names(kind):
            parts.append(f"| `{name}` | {_about(kind, name)} |")
        parts.append("")
    return "\n".join(parts)


def _about(kind: str, name: str) -> str:
    module = plugins.load(kind, name)
    card = getattr(module, "CARD", None)
    words = card.title if card else (module.__doc__ or "").split("\n")[0]
    return " ".join(words.split()).replace("|", "\\|")


PAGES_OF = {
    "configuration.md": configuration,
    "cli.md": command_line,
    "api.md": interface,
    "plugins.md": plugin_lists,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    check = parser.parse_args().check
    stale = []
    for name, page in PAGES_OF.items():
        text = NOTE + page().rstrip() + "\n"
        place = PAGES / name
        if not place.exists() or place.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                place.write_text(text, encoding="utf-8")
    if check and stale:
        sys.exit(f"docs/reference: {', '.join(stale)}: run `python -m tools.make_reference`")


if __name__ == "__main__":
    main()
