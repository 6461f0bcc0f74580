"""Run the benchmarks of the registry, one after another, and keep what they measured.

    python -m benchmarks.run --data ../shared/data
    python -m benchmarks.run --data ../shared/data --minutes 25
    python -m benchmarks.run --data ../shared/data --quick

Each script is a process of its own and records its sections as always; with --quick into a folder
that is thrown away. A script whose data or rival is missing is left out, and its rows say so; one
that fails or takes too long loses its own rows alone. With --minutes those scripts are run, in
their order, whose times as the registry estimates them fit, each in full; the rows of the others
are what they recorded last, and say so. What was measured is written to
benchmarks/results/.new.json after each script, for `python -m benchmarks.compare`: a run that was
cut off goes on from there when it is begun again on the same machine with the same source, without
changes that are not committed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from benchmarks._lib import results
from benchmarks._lib.report import NEW, Figure, Report
from benchmarks.registry import DATA, PAGES, ROWS, SCRIPTS, WORK, Row, Script

LONGEST_SECONDS = 3600.0  # of one script


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--quick", action="store_true", help="a subset, in about five minutes")
    parser.add_argument("--minutes", type=float, help="as many scripts as fit, about")
    parser.add_argument("--only", help="scripts whose name holds this text")
    parser.add_argument("--out", type=Path, default=NEW, help="where to write what was measured")
    arguments = parser.parse_args(given)
    begun = Report(_command(arguments), _machine(), arguments.quick, (), revision=_revision())
    report = unfinished(arguments.out, begun) or begun
    apart = dict(_not_run(arguments))
    for script in SCRIPTS:
        if script.module in report.done:
            print(f"{script.module}: measured before the run was cut off", file=sys.stderr)
            continue
        if (why := apart.get(script.module)) and not arguments.quick:
            figures, well = recorded(rows_of(script), why), True
        elif why:
            figures, well = [Figure.missing(row, why) for row in rows_of(script)], True
        else:
            figures, well = run(script, arguments.data, quick=arguments.quick)
        done = (*report.done, script.module) if well else report.done
        report = replace(report, figures=(*report.figures, *figures), done=done)
        report.write(arguments.out)
    report = replace(report, whole=True)
    report.write(arguments.out)
    print(report.page())


def _command(arguments: argparse.Namespace) -> str:
    words = [f"python -m benchmarks.run --data {arguments.data}"]
    words += ["--quick"] if arguments.quick else []
    words += [f"--minutes {arguments.minutes:g}"] if arguments.minutes else []
    words += [f"--only {arguments.only}"] if arguments.only else []
    return results.as_documented(" ".join(words), ["--data", str(arguments.data)])


def _machine() -> str:
    return results.machine("numpy", "onnxruntime", "imagecodecs")


def _revision() -> str:
    """Return the commit of the source; "" where there is none, or where files were changed."""
    git = ["git", "-C", str(Path(__file__).parent)]
    commands = (["rev-parse", "HEAD"], ["status", "--porcelain", "--", ".", "../src", ":!results"])
    said = [subprocess.run([*git, *one], capture_output=True, text=True) for one in commands]
    clean = all(not one.returncode for one in said) and not said[1].stdout
    return said[0].stdout.strip() if clean else ""


def unfinished(out: Path, begun: Report) -> Report | None:
    """Return the run at `out` where it was cut off and is of the same command and source.

    Without the rows of scripts that failed: they are run again.
    """
    if not begun.revision or not out.exists():
        return None
    last = Report.read(out)
    if last.whole or replace(last, figures=(), done=()) != begun:
        return None
    well = {row.name for row in ROWS if row.script in last.done}
    return replace(last, figures=tuple(one for one in last.figures if one.row in well))


def _not_run(arguments: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Yield each script that is not to be run, and why."""
    left = arguments.minutes or float("inf")
    for script in SCRIPTS:
        if script.apart:
            yield script.module, script.apart
        elif arguments.only and arguments.only not in script.module:
            yield script.module, f"the run had those of '{arguments.only}' alone"
        elif script.minutes > left:
            yield script.module, f"{script.minutes:g} minutes did not fit"
        else:
            left -= script.minutes


def rows_of(script: Script) -> list[Row]:
    return [row for row in ROWS if row.script == script.module]


def recorded(rows: Sequence[Row], why: str) -> list[Figure]:
    """Return the figures of rows that are not measured, as their scripts recorded them last."""
    page = "\n".join((results.RESULTS / f"{name}.md").read_text(encoding="utf-8") for name in PAGES)
    found = [Figure.of(row, page) for row in rows]
    return [
        replace(one, why=f"{why}; {one.why}")
        if one.ours is None
        else replace(one, why=why, before=True)
        for one in found
    ]


def run(script: Script, data: Path, *, quick: bool) -> tuple[list[Figure], bool]:
    """Run a script and return the figures of its rows, and whether it ended well."""
    rows = rows_of(script)
    chosen = script.quick if quick else script.arguments
    if why := left_out(script, data, chosen):
        print(f"{script.module}: left out, {why}", file=sys.stderr, flush=True)
        return [Figure.missing(row, why) for row in rows], True
    with tempfile.TemporaryDirectory() as folder:
        pages = Path(folder) / "pages"
        pages.mkdir()
        for name in PAGES:
            (pages / f"{name}.md").write_text("", encoding="utf-8")
        filled = [
            one.replace(DATA, str(data)).replace(WORK, f"{folder}/work") for one in chosen or ()
        ]
        begun = time.monotonic()
        fault = _ended([sys.executable, "-m", script.module, *filled], pages)
        took = time.monotonic() - begun
        print(f"{script.module}: {took:.0f} s", file=sys.stderr, flush=True)
        page = "\n".join((pages / f"{name}.md").read_text(encoding="utf-8") for name in PAGES)
        if fault:
            print(f"  {fault}", file=sys.stderr, flush=True)
        if not quick:
            keep(pages)
    figures = [Figure.of(row, page) for row in rows]
    if fault:
        figures = [one if one.ours is not None else replace(one, why=fault) for one in figures]
    elif not quick:  # a script has sections that it makes with other arguments alone
        apart = recorded(rows, "by other arguments of its script")
        figures = [
            one if one.ours is not None else last for one, last in zip(figures, apart, strict=True)
        ]
    return figures, not fault


def _ended(words: list[str], pages: Path) -> str:
    """Run a command that records into `pages`; return what went wrong, "" where nothing did."""
    try:
        done = subprocess.run(
            words,
            env={**os.environ, results.PLACE: str(pages)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LONGEST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"did not end in {LONGEST_SECONDS / 60:.0f} minutes"
    last = (done.stderr.strip().splitlines() or [""])[-1]
    return f"ended with {done.returncode}: {last}" if done.returncode else ""


def left_out(script: Script, data: Path, chosen: tuple[str, ...] | None) -> str:
    """Return why a script is not run, "" where it is."""
    if chosen is None:
        return "not in the quick subset"
    if missing := [one for one in script.folders if not (data / one).is_dir()]:
        return f"no data in {', '.join(missing)}"
    if missing := [one for one in script.packages if find_spec(one) is None]:
        return f"not installed: {', '.join(missing)}"
    return ""


def keep(pages: Path) -> None:
    """Put the sections that a script recorded into the pages of results."""
    for name in PAGES:
        for title, text in results.sections(pages / f"{name}.md"):
            results.put(results.RESULTS / f"{name}.md", title, text)


if __name__ == "__main__":
    main()
