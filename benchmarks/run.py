"""Run the benchmarks of the registry, one after another, and keep what they measured.

    python -m benchmarks.run --data ../shared/data
    python -m benchmarks.run --data ../shared/data --quick

Each script is a process of its own and records its sections as always; with --quick into a folder
that is thrown away. A script whose data or rival is missing is left out, and its rows say so. What
was measured is written to benchmarks/results/.new.json, for `python -m benchmarks.compare`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from benchmarks._lib import results
from benchmarks._lib.report import NEW, Figure, Report
from benchmarks.registry import DATA, PAGES, ROWS, SCRIPTS, WORK, Script

LONGEST_SECONDS = 3600.0  # of one script


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--quick", action="store_true", help="a subset, in about five minutes")
    parser.add_argument("--only", help="scripts whose name holds this text")
    parser.add_argument("--out", type=Path, default=NEW, help="where to write what was measured")
    arguments = parser.parse_args()
    figures: list[Figure] = []
    for script in SCRIPTS:
        if not arguments.only or arguments.only in script.module:
            figures += run(script, arguments.data, quick=arguments.quick)
    quick = " --quick" if arguments.quick else ""
    report = Report(
        results.as_documented(
            f"python -m benchmarks.run --data {arguments.data}{quick}", sys.argv[1:]
        ),
        results.machine("numpy", "onnxruntime", "imagecodecs"),
        arguments.quick,
        tuple(figures),
    )
    report.write(arguments.out)
    print(report.page())


def run(script: Script, data: Path, *, quick: bool) -> list[Figure]:
    """Run a script and return the figures of its rows."""
    rows = [row for row in ROWS if row.script == script.module]
    chosen = script.quick if quick else script.arguments
    if why := left_out(script, data, chosen):
        print(f"{script.module}: left out, {why}", file=sys.stderr, flush=True)
        return [Figure.missing(row, why) for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        pages = Path(folder) / "pages"
        pages.mkdir()
        for name in PAGES:
            (pages / f"{name}.md").write_text("", encoding="utf-8")
        filled = [
            one.replace(DATA, str(data)).replace(WORK, f"{folder}/work") for one in chosen or ()
        ]
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", script.module, *filled],
            env={**os.environ, results.PLACE: str(pages)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LONGEST_SECONDS,
            check=False,
        )
        took = time.monotonic() - begun
        print(f"{script.module}: {took:.0f} s", file=sys.stderr, flush=True)
        page = "\n".join((pages / f"{name}.md").read_text(encoding="utf-8") for name in PAGES)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [""])[-1]
            print(f"  ended with {done.returncode}: {last}", file=sys.stderr, flush=True)
        if not quick:
            keep(pages)
    return [Figure.of(row, page) for row in rows]


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
