"""Time two source trees against each other, in turns: both use this Python and its packages."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parents[2] / "src"
Seconds = Mapping[str, float]  # by what was timed


def arguments_of(description: str, runs: int) -> argparse.Namespace:
    """Read the command line of a benchmark that compares two trees."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--old", type=Path, required=True, help="the src folder of the other tree")
    parser.add_argument("--new", type=Path, default=HERE)
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--record", action="store_true", help="write the page of results")
    return parser.parse_args()


def compared(arguments: argparse.Namespace, timed: Callable[[Path], Seconds]) -> str:
    """Return a table of the medians of `timed` of each tree; a ratio is old / new.

    The runs alternate, and which tree comes first alternates too.
    """
    trees = {"old": arguments.old.resolve(), "new": arguments.new.resolve()}
    taken: dict[str, list[Seconds]] = {name: [] for name in trees}
    for number in range(-1, arguments.runs):  # the first of each fills the system's caches
        for name in sorted(trees, reverse=number % 2 == 0):
            spent = timed(trees[name])
            taken[name] += [spent] if number >= 0 else []
    lines = []
    for what in taken["new"][0]:
        times = {name: [one[what] for one in some] for name, some in taken.items()}
        old, new = (statistics.median(times[name]) for name in ("old", "new"))
        least = min(times["old"]) / min(times["new"])
        lines.append(f"| {what} | {old:.3f} | {new:.3f} | {old / new:.3f} | {least:.3f} |")
    head = f"{arguments.runs} runs each, seconds.\n\n| | old | new | ratio | ratio of the least |\n"
    return head + "| --- | --- | --- | --- | --- |\n" + "\n".join(lines)
