"""Patients found in names by a user's regular expression, in time linear in the names.

The engine is that of Polars (Rust's `regex` crate), a finite automaton that never backtracks. It
has no lookahead, lookbehind or backreference. A group is written as in Python, `(?P<patient>…)`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl

GROUP = "patient"
_LONGEST = 1000  # characters of a pattern
_MOST_STATES = 2000  # of its automaton, about: 100 µs for a name of 20 characters, at worst
_COUNT = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}")
_REMEDIES = {
    "look-around": "lookahead and lookbehind are not offered; "  # the word of the engine's message
    "end it by (?:[^0-9]|$) in place of (?![0-9])",
    "backreferences": "back-references are not offered; write out what is to be repeated",
    "duplicate capture group": "two groups have one name; give each its own",
    "unrecognized flag": "offered are the flags (?i), (?s) and (?m) and the groups (?:…) and "
    "(?P<name>…)",
}


def fault(pattern: str) -> str | None:
    """Return what is wrong with a pattern; None where it can be used."""
    if len(pattern) > _LONGEST:
        return f"has {len(pattern):,} characters; expected at most {_LONGEST:,}"
    if re.search(r"\(\?[A-Za-z-]*x", pattern):  # comments would mislead `_states`
        return "has the flag x; leave it out, with the spaces that it allows"
    if _states(pattern) > _MOST_STATES:
        return (
            f"repeats its parts more than {_MOST_STATES:,} times in all; use + in place of counts"
        )
    try:
        groups = pl.Series([""]).str.extract_groups(pattern).struct.fields
    except pl.exceptions.ComputeError as error:
        return f"is no regular expression that can be used ({_reason(str(error))})"
    return None if GROUP in groups else f"must have a group (?P<{GROUP}>…)"


def patients(pattern: str, texts: Sequence[str]) -> list[str | None]:
    """Return what the group `patient` matches in each text; None where it matches nothing."""
    found = pl.Series(texts, dtype=pl.String).str.extract_groups(pattern).struct.field(GROUP)
    return [text or None for text in found]


def _states(pattern: str) -> int:
    """Estimate, never too low, how long a pattern is with its counts written out.

    A count behind a single character or class repeats that; any other is taken to repeat all that
    stands before it, since it may follow a group that does.
    """
    states = end = 0
    for count in _COUNT.finditer(pattern):
        states += count.start() - end
        end = count.end()
        number = max(int(digits[:9] or 0) for digits in count.groups(default=""))
        behind = pattern[count.start() - 1 : count.start()]
        states = states * max(number, 1) if behind in ")}?*+" else states + number
    return states + len(pattern) - end


def _reason(message: str) -> str:
    for cause, remedy in _REMEDIES.items():
        if cause in message:
            return remedy
    said = message.partition("error: ")[2].partition("error: ")[2].splitlines()
    return said[0] if said else message.splitlines()[0]
