"""Print for people: a summary on a line, a table in columns, the issues of an audit, progress."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hilum.errors import on_one_line, plural

if TYPE_CHECKING:
    import polars as pl

    from hilum.progress import Progress

SHOWN = 10  # issues of one rule; issues.parquet and the audit's page have them all
FOLDED = 3  # findings that a summary of labels names
COLOURS = {"error": "red", "warning": "yellow", "info": "dim"}


def line(summary: Mapping[str, object]) -> str:
    """Return a step's summary on one line; counts of labels are folded (`folded`)."""
    parts = []
    for key, value in summary.items():
        if key == "labels" and isinstance(value, dict):
            parts.append(on_one_line(f"{key}: {folded(value)}"))
            continue
        shown = (
            ", ".join(f"{inner} {number}" for inner, number in value.items())
            if isinstance(value, dict)
            else value
        )
        parts.append(on_one_line(f"{key}: {shown}"))
    return "; ".join(parts)


def folded(counts: Mapping[str, int]) -> str:
    """Return counts of labels by "concept state" as the number of findings and the most frequent.

    For example "39 findings; tuberculosis 345 present, 343 absent; and 38 more".
    """
    from hilum.annotations.vocabulary import split_state_key

    of: dict[str, list[str]] = {}
    images: dict[str, int] = {}
    for key, count in counts.items():
        concept, state = split_state_key(key)
        of.setdefault(concept, []).append(f"{count} {state}")
        images[concept] = images.get(concept, 0) + count
    if not of:
        return "none"
    leading = sorted(of, key=lambda concept: -images[concept])[:FOLDED]
    named = "; ".join(f"{concept} {', '.join(of[concept])}" for concept in leading)
    more = f"; and {len(of) - FOLDED} more" if len(of) > FOLDED else ""
    return f"{plural(len(of), 'finding')}; {named}{more}"


def division(summary: Mapping[str, object]) -> str:
    """Say what is done in place of one split, from the summary of the step `split`."""
    if "folds" not in summary:
        return (
            f"{summary['mode']}, so nothing is trained: {summary['because']}. "
            f"The report says what is missing"
        )
    return (
        f"cross-validated by patient in {summary['folds']} folds: {summary['because']}. "
        f"Every image is scored once, by models that have not seen its patient; "
        f"the final models are trained on all images"
    )


def columns(table: pl.DataFrame) -> str:
    """Return a table as aligned columns, null as a dash; a cell stays on its line."""
    rows = [
        list(table.columns),
        *(
            [("–" if cell is None else on_one_line(str(cell))) for cell in row]
            for row in table.iter_rows()
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def plain(table: pl.DataFrame) -> list[dict[str, object]]:
    """Return rows for JSON, which has no nan: null in its place."""
    return [
        {key: None if cell != cell else cell for key, cell in row.items()}
        for row in table.iter_rows(named=True)
    ]


def summarised(text: str, faults: Sequence[str]) -> None:
    """Print what was found, then on standard error what was wrong.

    Exits with code 1 where something was wrong.
    """
    import typer

    if text:
        echo(text)
    for fault in faults:
        say(fault)
    if faults:
        raise typer.Exit(1)


def echo(text: str = "", *, err: bool = False) -> None:
    """Print text for a terminal: names of files and words of others in it cannot steer one."""
    import typer

    typer.echo(harmless(text), err=err)


def say(sentence: str) -> None:
    """Print a sentence for the person at the keyboard on standard error."""
    echo(f"hilum: {sentence}", err=True)


def harmless(text: str) -> str:
    """Return text that every terminal can show, without what could steer it.

    Control characters but line breaks become escapes, and so do halves of characters, which stand
    for bytes of names that are no text.
    """
    return "\n".join(map(on_one_line, text.split("\n")))


def issues(found: pl.DataFrame) -> None:
    """Print issues by rule, in colour on a terminal.

    Errors and warnings have a line each, up to `SHOWN` of a rule; of infos the first is shown.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    if not found.height:
        console.print("no issues")
    summary = Table("severity", "rule", "issues", "remedy", box=None, pad_edge=False)
    for (severity, rule), rows in found.group_by("severity", "rule", maintain_order=True):
        summary.add_row(
            Text(severity, COLOURS[severity]),
            Text(rule),
            str(rows.height),
            Text(harmless(rows["remedy"][0])),
        )
        console.print(
            Text.assemble(
                "\n",
                (f"{severity}: {rule}, {rows.height}", COLOURS[severity]),
                f"\n  remedy: {harmless(rows['remedy'][0])}",
            )
        )
        shown = SHOWN if severity != "info" else 1
        for row in rows.head(shown).iter_rows(named=True):
            words = ", ".join(
                filter(None, (row["image_id"], row["other_image_id"], row["message"]))
            )
            console.print(Text("  " + harmless(words)))
        if rows.height > shown:
            console.print(f"  … and {rows.height - shown} more")
    if found.height and console.is_terminal:
        console.print()
        console.print(summary)


def several(found: Mapping[str, pl.DataFrame], as_json: bool) -> None:
    """Print the issues of several data sets, each under its name; as one JSON object with
    `as_json`.
    """
    if as_json:
        echo(json.dumps({name: table.to_dicts() for name, table in found.items()}, indent=1))
        return
    for name, table in found.items():
        echo(f"\n{on_one_line(name)}\n{'=' * len(name)}")
        issues(table)


@contextmanager
def watch(step: str) -> Iterator[Progress]:
    """Show a bar with rate and time left on standard error where that is a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Rate(ProgressColumn):
        """Items a second, over the last seconds."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.3g}/s" if speed else "")

    columns = (
        TextColumn("{task.description:9}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(step, total=None)
        yield lambda done, total: bars.update(
            task, completed=done, total=total or None
        )  # 0: nobody knows
