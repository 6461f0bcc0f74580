"""Count what was done with which tag, file by file: no value, no name of a file of the input."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import NamedTuple, TypedDict

from hilum.privacy.dicom import profile
from hilum.privacy.dicom.cleaning import Account
from hilum.privacy.dicom.profile import Options


class Outcome(NamedTuple):
    """What became of one file."""

    place: str | None  # below the output; None where it was not written
    fault: str = ""
    is_dicom: bool = True
    account: Account | None = None
    verdict: str = ""  # on the pixels
    whole: frozenset[int] = frozenset()  # digests of full names and numbers
    unsearchable: int = 0

    def as_json(self) -> bytes:
        """Return it as JSON, from which `of_json` makes it."""
        counts = [[*key, count] for key, count in (self.account or {}).items()]
        account = None if self.account is None else counts
        values = {**self._asdict(), "account": account, "whole": sorted(self.whole)}
        return json.dumps(values).encode()

    @classmethod
    def of_json(cls, data: bytes) -> Outcome:
        """Return what `as_json` was given."""
        values = json.loads(data)
        if values["account"] is not None:
            values["account"] = Counter({(tag, how): n for tag, how, n in values["account"]})
        return cls(**{**values, "whole": frozenset(values["whole"])})


class Reported(TypedDict):
    """The report: counts and tags."""

    profile: str
    options: dict[str, object]
    files: dict[str, int]
    pixels: dict[str, int]
    elements: dict[str, dict[str, int]]
    identifiers_too_short_to_search: int


@dataclass
class Tally:
    """Sums over files, which take the place of their accounts in memory."""

    elements: dict[str, Counter[str]] = field(default_factory=dict)
    pixels: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)
    everybody: set[int] = field(default_factory=set)  # digests of all persons' names and numbers
    unsearchable: int = 0

    def add(self, outcome: Outcome) -> Outcome:
        """Add what became of a file; return it without what was added."""
        written = outcome.place is not None
        self.files["refused"] += not written and outcome.is_dicom
        self.files["no DICOM"] += not outcome.is_dicom
        self.pixels[outcome.verdict] += written
        self.everybody |= outcome.whole
        self.unsearchable += outcome.unsearchable
        for (tag, action), count in (outcome.account or {}).items():
            self.elements.setdefault(tag, Counter())[action] += count
        return Outcome(outcome.place, outcome.fault, outcome.is_dicom)

    def report(self, options: Options) -> Reported:
        """Return the sums as they are written."""
        return Reported(
            profile=f"PS3.15 table E.1-1, Basic Application Confidentiality Profile, "
            f"{profile.EDITION}",
            options=asdict(options),
            files=dict(self.files),
            pixels={verdict: count for verdict, count in self.pixels.items() if count},
            elements={
                tag: dict(sorted(self.elements[tag].items())) for tag in sorted(self.elements)
            },
            identifiers_too_short_to_search=self.unsearchable,
        )


def digest(text: str) -> int:
    """Return 63 bits of a digest: by it a text is recognised without being kept."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1
