"""Two readers who read blind: kappa with an interval over patients, and where they disagree."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hilum.errors import NotFound, TooFew
from hilum.revisions import agreement
from hilum.revisions.changes import STATES, Read
from hilum.revisions.journal import Journal
from hilum.revisions.state import State
from hilum.statistics import reader_agreement

READ = Read("set/0", "tuberculosis", "present")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_kappa_is_scikit_learns(pairs):
    metrics = pytest.importorskip("sklearn.metrics")
    first, second = np.array(pairs).T
    assume(len({*first, *second}) > 1)
    assert reader_agreement.cohens_kappa(first, second) == pytest.approx(
        metrics.cohen_kappa_score(first, second)
    )


def test_kappa_of_a_textbook_table():
    """Of 50 images both call 20 present and 15 absent: (0.7 - 0.5) / (1 - 0.5)."""
    first = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    second = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    assert reader_agreement.cohens_kappa(first, second) == pytest.approx(0.4)


@pytest.mark.parametrize("same", [np.array([], int), np.array([2, 2, 2])])
def test_kappa_is_undefined_where_chance_alone_agrees(same):
    assert math.isnan(reader_agreement.cohens_kappa(same, same))


def test_the_interval_is_over_patients():
    """Ten images of each patient are no ten patients: with them the interval stays as wide."""
    generator = np.random.default_rng(0)
    first = generator.choice(["present", "absent"], 60)
    second = np.where(generator.random(60) < 0.8, first, "absent")
    patients = np.arange(60).astype(str)
    once = reader_agreement.agreement(first, second, patients, seed=1)
    tenfold = reader_agreement.agreement(*(np.repeat(one, 10) for one in (first, second, patients)))
    assert once.kappa.value == pytest.approx(tenfold.kappa.value)
    assert once.kappa.ci_low < once.kappa.value < once.kappa.ci_high
    widths = [one.kappa.ci_high - one.kappa.ci_low for one in (once, tenfold)]
    assert widths[0] == pytest.approx(widths[1], rel=0.15)
    again = reader_agreement.agreement(first, second, patients, seed=1)
    assert once == again


@pytest.fixture
def journal(tmp_path):
    with Journal.open(tmp_path) as opened:
        yield opened


def read(journal: Journal, author: str, states: str) -> None:
    """Append a reading of each image: p, a, u or n, and - for none."""
    words = {word[0]: word for word in STATES}
    for number, letter in enumerate(states):
        if letter != "-":
            change = replace(READ, image_id=f"set/{number}", state=words[letter])
            journal.append(change, author=author, expected=0)


PATIENT_OF = {f"set/{number}": f"patient {number // 2}" for number in range(20)}


def test_disagreements_are_listed_with_both_readings(journal):
    read(journal, "Ann", "ppppaaaaunp-")
    read(journal, "Bob", "pppaaaaau-pp")
    found = agreement.agreement(State.of(journal), "tuberculosis", ("Ann", "Bob"), PATIENT_OF)
    assert (found.images, found.patients, found.authors) == (10, 6, ("Ann", "Bob"))
    assert found.observed.value == pytest.approx(0.9)
    [one] = found.disagreements
    assert (one.image_id, one.states) == ("set/3", ("present", "absent"))
    assert (one.first.author, one.second.author) == ("Ann", "Bob")
    assert found.table["present", "absent"] == 1 and sum(found.table.values()) == 10
    assert found.kappa.ci_low <= found.kappa.value <= found.kappa.ci_high


def test_a_reading_never_changes_the_state_of_the_data(journal):
    read(journal, "Ann", "pau")
    state = State.of(journal)
    assert not state.labels and not state.corrections() and len(state.readings) == 3


def test_only_what_both_read_of_the_data_counts_and_later_readings_replace_earlier_ones(journal):
    read(journal, "Ann", "pp")
    read(journal, "Bob", "aa")
    journal.append(replace(READ, state="absent"), author="Ann", expected=1)
    state = State.of(journal)
    found = agreement.agreement(state, "tuberculosis", ("Ann", "Bob"), {"set/0": "a", "set/1": "b"})
    assert found.observed.value == 0.5
    with pytest.raises(TooFew, match="by both Ann and Bob"):
        agreement.agreement(state, "tuberculosis", ("Ann", "Bob"), {"other/1": "a"})
    with pytest.raises(NotFound, match="did you mean 'Ann'"):
        agreement.agreement(state, "tuberculosis", ("Anna", "Bob"), PATIENT_OF)
    assert agreement.authors_of(state, "tuberculosis") == {"Ann": 2, "Bob": 2}
    assert agreement.concepts_of(state) == ["tuberculosis"]
    assert agreement.pairs(state, "tuberculosis") == [("Ann", "Bob")]
