"""Record measured figures: one section per benchmark in the page of its kind, replaced when it is
run again.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"  # accuracy.md, speed.md, robustness.md
DATA = "../shared/data"  # where the documentation has the data sets
PLACE = "HILUM_BENCHMARK_PAGES"  # another folder of pages, which `benchmarks.run` names


def record(title: str, text: str) -> None:
    """Put `text` under `## title` in the page of the running script's kind, replacing what is
    there. Folders of this machine go by the names that the documentation gives them.
    """
    page = Path(os.environ.get(PLACE, RESULTS)) / f"{kind()}.md"
    put(page, title, as_documented(text, sys.argv[1:]))


def as_documented(text: str, arguments: Sequence[str]) -> str:
    """Return text in which the absolute paths of a command's arguments go by other names.

    A folder of data sets goes by that of the documentation, any other by its option in capitals.
    """
    option, named = "path", dict[str, str]()
    for argument in arguments:
        if argument.startswith("--"):
            option, _, argument = argument.partition("=")
        _, within, place = argument.rstrip("/").partition(DATA.removeprefix(".."))
        if within:
            named[argument.rstrip("/")] = f"{DATA}{place}"
        elif argument.startswith("/") and argument.strip("/"):
            named[argument.rstrip("/")] = option.strip("-").upper()
    for path in sorted(named, key=len, reverse=True):  # a folder after those in it
        text = re.sub(rf"{re.escape(path)}(?![\w.-])", named[path], text)
    return text


def put(results: Path, title: str, text: str) -> None:
    """Put `text` under `## title` in a page, replacing what is there."""
    page = results.read_text(encoding="utf-8")
    section = f"## {title}\n\n{text.strip()}\n"
    pattern = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    page = (
        pattern.sub(lambda _: section + "\n", page)
        if pattern.search(page)
        else f"{page.rstrip()}\n\n{section}"
    )
    results.write_text(page.rstrip() + "\n", encoding="utf-8")


def sections(page: Path) -> list[tuple[str, str]]:
    """Return title and text of each section of a page."""
    return re.findall(
        r"^## (.*?)\n(.*?)(?=^## |\Z)", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def kind() -> str:
    """Return the kind of the running script: accuracy, speed or robustness."""
    spec = sys.modules["__main__"].__spec__
    parts = spec.name.split(".") if spec else []
    return parts[1] if parts[:1] == ["benchmarks"] else "accuracy"


def machine(*packages: str) -> str:
    """Return processor, cores, memory, Python and the versions of `packages`, on one line."""
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in packages)
    return (
        f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB; Python {platform.python_version()},"
        f" {versions}"
    )
