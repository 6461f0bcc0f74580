"""Where measured figures are kept: one section of RESULTS.md a benchmark, replaced when it is run again."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).parent / "RESULTS.md"
HEAD = "# Measured\n\nEach section is written by the script that it names; run it again to replace it.\n"


def record(title: str, text: str) -> None:
    """Put `text` under `## title`, in place of what stood there."""
    page = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else HEAD
    section = f"## {title}\n\n{text.strip()}\n"
    pattern = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    page = (
        pattern.sub(lambda _: section + "\n", page)
        if pattern.search(page)
        else f"{page.rstrip()}\n\n{section}"
    )
    RESULTS.write_text(page.rstrip() + "\n", encoding="utf-8")


def machine(*packages: str) -> str:
    """Processor, cores, memory, Python and the versions of `packages`, on one line."""
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
    return f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB; Python {platform.python_version()}, {versions}"
