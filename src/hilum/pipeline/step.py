"""What the two functions of a step give back: `made_from` its inputs, `make` its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

# JSON objects, written to the step's marker file as they are: what a step depends on, by name, and
# what it says of its result, by phrase.
Inputs = dict[str, object]
Summary = dict[str, object]


class StepResult(NamedTuple):
    """Files that a step wrote, by path below the run's folder, with their digests; and a
    summary.
    """

    files: dict[str, str]
    summary: Mapping[str, object]
