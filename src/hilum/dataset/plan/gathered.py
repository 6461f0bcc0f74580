"""What tables, folders and COCO files say of images, gathered before the rows of the manifest are made."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from hilum.dataset.manifest import Drawn, Remark
from hilum.dataset.plan.statements import Statement


@dataclass
class Gathered:
    """What tables say of the images: facts, statements and boxes by path, and what is wrong with cells."""

    facts: dict[str, dict[str, list[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    statements: dict[str, list[Statement]] = field(default_factory=lambda: defaultdict(list))
    words: dict[tuple[str, str], dict[str, list[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )  # by image and column, then reader
    drawn: dict[str, list[Drawn]] = field(default_factory=lambda: defaultdict(list))
    people: dict[str, str] = field(
        default_factory=dict
    )  # patient by the name of a patient's folder
    keys: dict[str, str] = field(default_factory=dict)  # what joins an image's tables, by path
    remarks: list[Remark] = field(default_factory=list)
    odd: Counter[tuple[str, str]] = field(
        default_factory=Counter
    )  # cells that a fact's column should not hold
    dropped: Counter[str] = field(default_factory=Counter)

    def remark(self, path: str, rule: str, message: str, severity: str = "warning") -> None:
        self.remarks.append(Remark(path, severity, rule, message))
