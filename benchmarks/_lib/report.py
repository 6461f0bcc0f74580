"""What one run of the benchmarks measured: kept as JSON, shown as a page with the summary first."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.registry import ROWS, Row

RESULTS = Path(__file__).parents[1] / "results"
LAST = RESULTS / "last.json"  # the last recorded run
NEW = RESULTS / ".new.json"  # the run that was made last, recorded or not
PAGE = RESULTS / "README.md"
SAME_RUN, PUBLISHED, ALONE = "same run", "published", "none"


@dataclass(frozen=True)
class Figure:
    """What was measured of a row; `ours` is None where it was not, and `why` says why.

    `before`: it was not measured in this run; it is what the script recorded last.
    """

    row: str
    ours: float | None
    theirs: float | None
    ratio: float | None
    held: bool
    rival_is: str  # SAME_RUN, PUBLISHED or ALONE
    why: str = ""
    before: bool = False

    @classmethod
    def of(cls, row: Row, page: str) -> Figure:
        """Read a row's figures from what its script recorded."""
        try:
            ours = row.ours.read(page)
            theirs = row.theirs.read(page) if row.theirs else None
        except LookupError as error:
            return cls.missing(row, str(error.args[0]))
        kind = SAME_RUN if row.theirs else ALONE
        if row.published:
            kind, theirs = PUBLISHED, row.published[0]
        held = row.held(ours, theirs)
        return cls(row.name, ours, theirs, row.ratio(ours, theirs), held, kind)

    @classmethod
    def missing(cls, row: Row, why: str) -> Figure:
        """Return the figure of a row that was not measured."""
        return cls(row.name, None, None, None, False, ALONE, why)


@dataclass(frozen=True)
class Report:
    """All figures of a run, the command and the machine that made them."""

    command: str
    machine: str
    quick: bool
    figures: tuple[Figure, ...]
    done: tuple[str, ...] = ()  # scripts that ended well, which a run that goes on leaves out
    revision: str = ""  # commit of the source
    whole: bool = False  # whether the run came to its end

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read what `write` wrote. Raises `FileNotFoundError`."""
        plain = json.loads(path.read_text(encoding="utf-8"))
        figures = tuple(Figure(**one) for one in plain.pop("figures"))
        return cls(figures=figures, done=tuple(plain.pop("done", ())), **plain)

    def write(self, path: Path) -> None:
        """Write JSON that people can compare, too."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")

    def page(self) -> str:
        """Return the page: the summary, then how it was made."""
        rows = {row.name: row for row in ROWS}
        lines = [
            "| what | Hilum | beside | its figure | ratio | to reach | |",
            "| --- | --: | --- | --: | --: | --: | --- |",
            *(_line(rows[one.row], one) for one in self.figures if one.row in rows),
        ]
        kind = (
            "the quick subset" if self.quick else "all scripts but those whose rows say otherwise"
        )
        return "\n".join(
            [
                "# Benchmarks",
                "",
                f"Made by one run, {kind}: `{self.command}` on {self.machine}.",
                "",
                *lines,
                "",
                "A ratio above 1 is in favour of Hilum. A rival is measured in the same run, in",
                "turn with Hilum, unless its figure is called published. What was measured before",
                "is of the script's own last run, whose command and machine are in its section.",
                "`last.json` beside this page has the same figures for",
                "`python -m benchmarks.compare`. In full:",
                "[speed](speed.md), [accuracy](accuracy.md), [robustness](robustness.md);",
                "[how to run them](../README.md).",
                "",
            ]
        )


def _line(row: Row, figure: Figure) -> str:
    if figure.ours is None:
        return f"| {row.name} | | {row.rival or '-'} | | | {_target(row)} | not run: {figure.why} |"
    beside = row.rival or "-"
    if row.published:
        beside += f" (published: {row.published[1]})"
    theirs = "" if figure.theirs is None else f"{_shown(figure.theirs)} {row.unit}"
    ratio = "" if figure.ratio is None else _shown(figure.ratio)
    held = "held" if figure.held else "**missed**"
    if figure.before:
        held += f"; measured before: {figure.why}"
    return (
        f"| {row.name} | {_shown(figure.ours)} {row.unit} | {beside} | {theirs} | {ratio} | "
        f"{_target(row)} | {held} |"
    )


def _target(row: Row) -> str:
    if row.rival:
        return f">= {row.target:g}"
    return f"{'>=' if row.more_is_better else '<='} {row.target:g} {row.unit}"


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
