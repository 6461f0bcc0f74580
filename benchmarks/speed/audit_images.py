"""Measure the audit of images: wall and processor time, peak memory, and what is found.

    python -m benchmarks.speed.audit_images --data FOLDER --work DIR [--old OTHER/src] [--record]
    python -m benchmarks.speed.audit_images --made-up 112120 --work DIR [--record]

`--data` is ingested and cached in `--work` first; `--made-up` writes a cache of so many films there
(`benchmarks._lib.made_up_films`, 64 KB each). Neither is measured, and both are kept for the next
time. Then a process of its own opens the cache, describes every image for the audit, and runs each
check. With `--old`, the source tree of an earlier version does the same before, on the same cache,
and the issues of both are compared. Required: 5,856 images of the Kermany set in 18 s, and 112,120
in 8 minutes and 2 GiB, on two cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from inspect import signature
from pathlib import Path
from types import ModuleType

import polars as pl

from benchmarks._lib import made_up_films
from benchmarks._lib.processes import peak_gib
from benchmarks._lib.results import machine, record
from benchmarks._lib.trees import REPOSITORY, environment
from hilum.audit import checks
from hilum.audit.issues import Issue
from hilum.config import Pixels
from hilum.dataset.manifest import Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.inference import orientation
from hilum.pipeline import audit, cache, ingest

MOST_LISTED = 5  # steps


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, help="a folder of images")
    what.add_argument("--made-up", type=int, metavar="N", help="films to make up")
    parser.add_argument("--work", type=Path, required=True, help="a folder that keeps the cache")
    parser.add_argument("--old", type=Path, help="the src folder of an earlier version")
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/speed.md")
    parser.add_argument("--ask", type=Path, help=argparse.SUPPRESS)  # the process that is measured
    arguments = parser.parse_args()
    if arguments.ask:
        print(json.dumps(measured(arguments)))
        return
    name = f"{arguments.made_up:,} made-up films" if arguments.made_up else arguments.data.name
    prepare(arguments)
    trees = {"before": arguments.old} if arguments.old else {}
    trees["now"] = REPOSITORY / "src"
    found = {}
    for version, tree in trees.items():
        found[version] = ask(tree, arguments, arguments.work / f"issues_{version}.parquet")
        print(version, json.dumps(found[version]), flush=True)
    text = described(found, arguments)
    print(text)
    if arguments.record:
        record(f"Audit of images: {name}", text)


def prepare(arguments: argparse.Namespace) -> None:
    """Write the cache and the manifest where they are not there."""
    if not arguments.made_up:
        cache.fill(ingest.ingest(arguments.data), Pixels(), arguments.work)
    elif not (arguments.work / "films").exists():
        made_up_films.write(arguments.work / "films", arguments.made_up)


def opened(arguments: argparse.Namespace) -> tuple[Manifest, Cache]:
    if arguments.made_up:
        return made_up_films.opened(arguments.work / "films")
    manifest = ingest.ingest(arguments.data)
    return manifest, Cache.open(arguments.work / cache.name(Pixels()), Pixels().size, manifest)


def ask(tree: Path, arguments: argparse.Namespace, to: Path) -> dict:
    """Measure the audit with a tree's source in a process of its own."""
    made = ["--made-up", str(arguments.made_up)] if arguments.made_up else []
    data = [] if made else ["--data", str(arguments.data)]
    words = [sys.executable, "-m", __spec__.name, *made, *data, "--work", str(arguments.work)]
    done = subprocess.run(
        [*words, "--ask", str(to)], env=environment(tree), stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit(f"{tree}: the audit ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def measured(arguments: argparse.Namespace) -> dict:
    """Run the audit's steps; return times, peak memory, and the number of issues of each rule."""
    manifest, cached = opened(arguments)
    before, steps = peak_gib(), {}
    wall, processor = time.perf_counter(), time.process_time()

    def timed(name: str, work: Callable[[], object]) -> object:
        at, begun = time.process_time(), time.perf_counter()
        made = work()
        steps[name] = [time.process_time() - at, time.perf_counter() - begun]
        return made

    facts = timed("orientation", lambda: orientation.describe_cache(cached, cached.index))
    found, modules = [], checks.modules()
    offered = {"manifest": manifest, "facts": facts, "cache": cached, "include": ()}
    for module in modules:
        found += timed(module.__name__.rpartition(".")[2], partial(_issues, module, offered))
    for module in modules:
        found += module.afterwards(manifest, found) if hasattr(module, "afterwards") else ()
    issues = audit.table(found, [rule for module in modules for rule in module.RULES])
    spent = time.process_time() - processor, time.perf_counter() - wall
    issues.write_parquet(arguments.ask)
    return {
        "images": cached.index.height,
        "processor": spent[0],
        "wall": spent[1],
        "tables_gib": before,
        "gib": peak_gib(),
        "steps": steps,
        "rules": dict(issues.group_by("rule").len().sort("rule").iter_rows()),
    }


def _issues(module: ModuleType, offered: dict[str, object]) -> list[Issue]:
    """Return what a check finds, given what it takes."""
    return list(module.check(*(offered[name] for name in signature(module.check).parameters)))


def described(found: dict[str, dict], arguments: argparse.Namespace) -> str:
    """Return the table of versions, and whether their issues are the same."""
    source = f"--made-up {arguments.made_up}" if arguments.made_up else f"--data {arguments.data}"
    return "\n".join(
        [
            f"`python -m benchmarks.speed.audit_images {source} --work WORK`"
            f" on {machine('numpy', 'polars', 'opencv-python-headless', 'onnxruntime')}.",
            "",
            "| version | images | wall (s) | processor (s) | an image (ms) | peak memory (GiB) |"
            " of it the tables | issues | slowest steps (processor s) |",
            "| --- | --: | --: | --: | --: | --: | --: | --: | --- |",
            *(_row(version, one) for version, one in found.items()),
            "",
            *_compared(found, arguments.work),
            "Issues now: "
            + ", ".join(f"{rule} {count:,}" for rule, count in found["now"]["rules"].items())
            + ".",
        ]
    )


def _row(version: str, one: dict) -> str:
    slowest = sorted(one["steps"].items(), key=lambda step: -step[1][0])[:MOST_LISTED]
    return (
        f"| {version} | {one['images']:,} | {one['wall']:.1f} | {one['processor']:.1f} |"
        f" {1000 * one['wall'] / one['images']:.2f} | {one['gib']:.2f} | {one['tables_gib']:.2f} |"
        f" {sum(one['rules'].values()):,} | "
        + ", ".join(f"{name} {spent[0]:.1f}" for name, spent in slowest)
        + " |"
    )


def _compared(found: dict[str, dict], work: Path) -> list[str]:
    if "before" not in found:
        return []
    before, now = (
        set(pl.read_parquet(work / f"issues_{version}.parquet").iter_rows())
        for version in ("before", "now")
    )
    faster = found["before"]["wall"] / found["now"]["wall"]
    return [
        f"{faster:.1f} times as fast in wall time; {len(before & now):,} issues are the same,"
        f" {len(before - now):,} only before, {len(now - before):,} only now.",
        "",
    ]


if __name__ == "__main__":
    main()
