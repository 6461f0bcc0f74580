"""Patterns for patients from hilum.toml: matched in linear time, as Python's `re` would, or refused
with what is offered.
"""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.dataset.inventory import File
from hilum.dataset.plan import names, patterns
from hilum.dataset.plan.evidence import Evidence

PIECES = (
    "a",
    "b",
    "[ab]",
    ".",
    r"\d",
    "(?:a|ab)",
    "(a+)",
    "a*",
    "b?",
    "[ab]{2}",
    "a{1,3}",
    "^",
    "$",
    "_",
)
pieces = st.lists(st.sampled_from(PIECES), max_size=4).map("".join)


@given(pieces, pieces, pieces, st.lists(st.text("ab_1", max_size=9), min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_a_pattern_finds_what_pythons_re_finds(before, inside, behind, texts):
    pattern = f"{before}(?P<patient>{inside}){behind}"
    expected = [
        found["patient"] or None if (found := re.search(pattern, text)) else None for text in texts
    ]
    assert patterns.fault(pattern) is None
    assert patterns.patients(pattern, texts) == expected


@pytest.mark.parametrize(
    "pattern",
    [
        "(?P<patient>(a+)+)X$",
        "(?P<patient>(a|a)*)X$",
        "(?P<patient>(.*a){12})X$",
        r"(?P<patient>(\w+\s?)+)X$",
    ],
)
def test_a_pattern_that_makes_a_backtracking_engine_hang_is_matched(pattern):
    """Each takes Python's `re` longer than a life on this text."""
    assert patterns.fault(pattern) is None
    assert patterns.patients(pattern, ["a" * 4000]) == [None]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (
            "(?P<patient>a)(?![0-9])",
            r"lookahead and lookbehind are not offered; end it by \(\?:\[\^0-9\]\|\$\)",
        ),
        ("(?<!x)(?P<patient>a)", "lookahead and lookbehind are not offered"),
        (r"(?P<patient>a)\1", "back-references are not offered"),
        ("(?P<patient>(?P<patient>a))", "two groups have one name"),
        ("(?P<patient>(?>a))", "offered are the flags"),
        ("(?P<patient>(a", "unclosed group"),
        ("(?P<other>a)", r"must have a group \(\?P<patient>…\)"),
        ("(?P<patient>(?:a{0,300}){0,300})", "repeats its parts more than 2,000 times"),
        ("(?P<patient>(a{99}[(]){99})", "repeats its parts more than 2,000 times"),
        ("(?P<patient>a{99}*{99})", "repeats its parts more than 2,000 times"),
        ("(?P<patient>a{,99}?{,99})", "repeats its parts more than 2,000 times"),
        ("(?ix)(?P<patient>(a{99}) {99})", "has the flag x"),
        ("(?P<patient>a)" + "b?" * 1000, "has 2,014 characters"),
    ],
)
def test_what_the_engine_does_not_offer_or_cannot_bound_is_refused_with_a_remedy(pattern, words):
    assert re.search(words, patterns.fault(pattern))


@given(st.text("ab(){}0123456789,?*+[]\\|^$. P<>xi:", max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_pattern_or_has_a_fault(text):
    pattern = f"(?P<patient>{text})"
    if patterns.fault(pattern) is None:
        assert len(patterns.patients(pattern, ["ab_1"])) == 1


def test_the_patients_that_names_say_are_found_by_the_pattern_that_is_described():
    files = [File(f"x/patient{number}_{view}.png", "png") for number in (1, 2) for view in "ab"]
    found = names.patients(files, Evidence())
    assert patterns.fault(found.pattern) is None
    assert list(names.found_by(found.pattern, files).values()) == [
        "patient1",
        "patient1",
        "patient2",
        "patient2",
    ]
