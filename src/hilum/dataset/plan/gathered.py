"""Facts, labels and boxes of images, collected before the rows of the manifest are made."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from hilum.dataset.manifest import Drawn, Remark
from hilum.dataset.plan.statements import Statement


@dataclass
class Gathered:
    """What the sources state of the images, by image path unless stated otherwise.

    facts       cells by role
    statements  what is said of findings
    words       words of labels, by image path and source (`reading.source_of`), then by reader
    drawn       boxes
    people      patient by the name of a patient's folder
    keys        the cell that joins the image's tables
    odd         how many images have a cell that could not be parsed, by role and cell
    dropped     how often a word of labels occurred that says nothing of findings
    """

    facts: dict[str, dict[str, list[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    statements: dict[str, list[Statement]] = field(default_factory=lambda: defaultdict(list))
    words: dict[tuple[str, str], dict[str, list[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    drawn: dict[str, list[Drawn]] = field(default_factory=lambda: defaultdict(list))
    people: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    odd: Counter[tuple[str, str]] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    def remark(self, path: str, rule: str, message: str, severity: str = "warning") -> None:
        """Add a remark on one image."""
        self.remarks.append(Remark(path, severity, rule, message))
