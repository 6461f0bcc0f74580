"""Remarks and faults collected while a folder is read, to raise all faults together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hilum.dataset.manifest import Remark
from hilum.imaging.files import text
from hilum.safety import path_names

SHOWN = 3  # names listed in a message that counts many


@dataclass
class ReadingLog:
    """What was noticed while reading `root`: remarks to yield, and faults to raise together."""

    root: Path
    remarks: list[Remark] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def place(self, path: Path) -> str:
        """Return a path relative to the root, with forward slashes."""
        return path_names.below(self.root, path)

    def remark(self, path: str, severity: str, rule: str, message: str) -> None:
        """Add a remark on a file or folder, given by its path relative to the root."""
        self.remarks.append(Remark(path, severity, rule, message))

    def text(self, path: Path, rule: str) -> str:
        """Return the text of a file, with a remark of `rule` where it is not UTF-8."""
        content, encoding = text.read(path)
        if encoding:
            message = f"is not UTF-8; it was read as {encoding}; save it again as UTF-8"
            self.remark(self.place(path), "warning", rule, message)
        return content


def first_of(names: Sequence[str]) -> str:
    """Return the first names of many, such as "a, b, c, …"."""
    return f"{', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''}"


def counted(names: Sequence[str]) -> str:
    """Return the number of names and the first of them, such as "14 (a, b, c, …)"."""
    return f"{len(names)} ({first_of(names)})"
