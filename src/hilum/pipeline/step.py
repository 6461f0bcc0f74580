"""What the two functions of a step give back: `made_from` its inputs, `make` its files."""

from __future__ import annotations

from typing import Any, NamedTuple

# JSON objects, written to the step's marker file as they are: what a step depends on, by name, and
# what it says of its result, by phrase.
Inputs = dict[str, Any]
Summary = dict[str, Any]


class StepResult(NamedTuple):
    """Files that a step wrote, by path below the run's folder, with their digests; and a
    summary.
    """

    files: dict[str, str]
    summary: Summary
