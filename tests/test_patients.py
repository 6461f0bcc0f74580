"""Groups of patients: every member of a component has one name, whatever the order of the pairs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilum.dataset.patients import connected_components

NAMES = st.lists(st.text("abc019", max_size=3), min_size=1, max_size=12, unique=True)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, str]]]:
    names = draw(NAMES)
    name = st.sampled_from(names)
    return names, draw(st.lists(st.tuples(name, name), max_size=15))


def by_flooding(names: list[str], pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Compute the same slowly: spread the smallest name along the edges until nothing changes."""
    smallest = {name: name for name in names}
    for _ in names:
        for one, other in pairs:
            smallest[one] = smallest[other] = min(smallest[one], smallest[other])
    return smallest


@given(graphs())
def test_names_of_components_equal_those_of_a_flood_fill(graph):
    names, pairs = graph
    found = connected_components(names, pairs)
    assert found == by_flooding(names, pairs)
    assert list(found) == names


@given(graphs(), st.randoms(use_true_random=False))
def test_order_and_direction_of_pairs_change_nothing(graph, random):
    names, pairs = graph
    mixed = [random.choice([(one, other), (other, one)]) for one, other in pairs]
    random.shuffle(mixed)
    assert connected_components(names, mixed) == connected_components(names, pairs)


def test_a_long_chain_is_one_component():
    names = [f"{number:05d}" for number in range(20_000)]
    chain = list(zip(names, names[1:], strict=False))
    assert set(connected_components(names, reversed(chain)).values()) == {"00000"}


def test_a_pair_with_an_unknown_name_is_refused():
    with pytest.raises(KeyError):
        connected_components(["a"], [("a", "b")])
