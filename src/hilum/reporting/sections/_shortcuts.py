"""Shortcuts: what linear probes predict from parts of the image in which it cannot be seen."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from hilum.annotations.vocabulary import name_of
from hilum.pipeline import shortcuts
from hilum.reporting import text
from hilum.reporting.context import Context

FACTS = ("source", "sex", "age")  # targets that are no findings


@dataclass(frozen=True)
class Question:
    """AUROC of one target from parts of the image; `chance` is the most with shuffled labels."""

    target: str
    within: str
    classes: str
    cells: list[str]
    chance: str


@dataclass(frozen=True)
class Shortcuts:
    """What the section shows; `seen` is the part of the image that the models are given."""

    heads: list[str]
    rows: list[Question]
    seen: str
    skipped: list[str]
    warnings: list[str]


def of_context(context: Context) -> Shortcuts | None:
    """Describe the probes of the step `shortcuts`; None where it was not done on what is here."""
    if "shortcuts" not in context.optional:
        return None
    table = context.run.table("shortcuts", shortcuts.FILE)
    return describe(table, shortcuts.seen(context.recipe.crop))


def describe(table: pl.DataFrame, seen: str) -> Shortcuts:
    """Describe probes; `seen` is which of `shortcuts.VIEWS` the models are given."""
    heads = [_head(view, given=view == seen) for view in shortcuts.VIEWS]
    answered = table.filter(pl.col("reason") == "")
    skipped = table.filter(pl.col("reason") != "").select("target", "within", "reason")
    return Shortcuts(
        heads=heads,
        rows=[
            _question(str(target), str(within), rows)
            for (target, within), rows in answered.group_by("target", "within", maintain_order=True)
        ],
        seen=shortcuts.WORDS[seen],
        skipped=[
            f"{_target(target)}{_within(within)}: {why}"
            for target, within, why in skipped.unique(maintain_order=True).iter_rows()
        ],
        warnings=shortcuts.warnings(table),
    )


def _head(view: str, *, given: bool) -> str:
    name = shortcuts.WORDS[view].removeprefix("the ").capitalize()
    return f"{name} (given to models)" if given else name


def _question(target: str, within: str, rows: pl.DataFrame) -> Question:
    cells = {
        view: f"{value:.2f} ({low:.2f}–{high:.2f})"
        for view, value, low, high in rows.select("view", "value", "ci_low", "ci_high").iter_rows()
    }
    return Question(
        target=_target(target),
        within=_within(within),
        classes=rows["classes"][0],
        cells=[cells.get(view, text.DASH) for view in shortcuts.VIEWS],
        chance=f"{float(rows['shuffled_most'].to_numpy().max()):.2f}",
    )


def _target(name: str) -> str:
    return name if name in FACTS else name_of(name)


def _within(within: str) -> str:
    return "" if within == shortcuts.ALL else f" within {within}"
