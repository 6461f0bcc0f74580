"""Time two source trees against each other, in turns: both use this Python and its packages."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = "benchmarks.speed.tree_programs"


@dataclass(frozen=True)
class Seconds:
    """What a piece of work took: processor time, user and system, of all threads; and wall time."""

    cpu: float
    wall: float


Timed = Mapping[str, Seconds]  # by what was timed


@dataclass(frozen=True)
class Compared:
    """One row: the runs of each tree. A ratio is old / new: 1 means as quick as before."""

    what: str
    old: Sequence[Seconds]
    new: Sequence[Seconds]

    @property
    def ratio(self) -> float:
        """Of the median processor times."""
        return _median(self.old, "cpu") / _median(self.new, "cpu")

    @property
    def least_ratio(self) -> float:
        """Of the least processor times, which other work on the machine disturbs least."""
        return min(one.cpu for one in self.old) / min(one.cpu for one in self.new)

    def cells(self) -> list[str]:
        """Return the row of a table, see `HEAD`."""
        times = [_median(runs, kind) for kind in ("cpu", "wall") for runs in (self.old, self.new)]
        ratios = [self.ratio, self.least_ratio]
        old, new, *walls = [*(f"{one:.3f}" for one in times)]
        return [
            self.what,
            str(len(self.new)),
            old,
            new,
            *(f"{one:.2f}" for one in ratios),
            *walls,
        ]


HEAD = ("what", "runs", "CPU old, s", "CPU new, s", "ratio", "ratio of the least")
HEAD = (*HEAD, "wall old, s", "wall new, s")


def _median(runs: Sequence[Seconds], kind: str) -> float:
    return statistics.median(getattr(one, kind) for one in runs)


def compared(
    old: Path, new: Path, runs: int, timed: Callable[[Path], Timed], *, warm: bool = True
) -> list[Compared]:
    """Run `timed` on each tree `runs` times; which tree comes first alternates.

    `warm` adds a run of each before, which fills the system's caches and is not counted.
    """
    trees = {"old": old.resolve(), "new": new.resolve()}
    taken: dict[str, list[Timed]] = {name: [] for name in trees}
    for number in range(-1 if warm else 0, runs):
        for name in sorted(trees, reverse=number % 2 == 0):
            spent = timed(trees[name])
            taken[name] += [spent] if number >= 0 else []

    def runs_of(name: str, what: str) -> list[Seconds]:
        return [one[what] for one in taken[name]]

    return [Compared(what, runs_of("old", what), runs_of("new", what)) for what in taken["new"][0]]


def environment(tree: Path) -> dict[str, str]:
    """Return the variables under which a tree's source, and this repository's benchmarks, run."""
    paths = os.pathsep.join([str(tree), str(REPOSITORY)])
    return os.environ | {"PYTHONPATH": paths, "ORT_DISABLE_TELEMETRY": "1"}


def command(tree: Path, arguments: Sequence[str]) -> Seconds:
    """Time `python ARGUMENTS` with a tree's source, from start to end.

    Raises `SystemExit` with what it printed where it fails.
    """
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], env=environment(tree), capture_output=True, text=True
    )
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(f"{tree}: {' '.join(arguments)} ended with\n{done.stderr or done.stdout}")
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return Seconds(user + system, wall)


def program(tree: Path, name: str, arguments: Sequence[str | Path]) -> dict[str, Seconds]:
    """Run a program of `PROGRAMS` with a tree's source; return the times that it printed."""
    done = subprocess.run(
        [sys.executable, "-m", PROGRAMS, name, *map(str, arguments)],
        env=environment(tree),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{tree}: {name} ended with\n{done.stderr or done.stdout}")
    printed = json.loads(done.stdout.splitlines()[-1])
    return {what: Seconds(*both) for what, both in printed.items()}
