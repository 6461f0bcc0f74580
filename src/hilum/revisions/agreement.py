"""Blind readings of two authors compared: Cohen's kappa, and the images on which they disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations

from hilum.errors import NotFound, TooFew
from hilum.revisions.changes import STATES, Read
from hilum.revisions.revision import Revision
from hilum.revisions.state import State
from hilum.statistics import reader_agreement
from hilum.statistics.bootstrap import Interval


@dataclass(frozen=True)
class Disagreement:
    """An image that two authors read differently, and their revisions."""

    image_id: str
    first: Revision
    second: Revision

    @property
    def states(self) -> tuple[str, str]:
        """The two states."""
        return _state(self.first), _state(self.second)


@dataclass(frozen=True)
class Agreement:
    """The readings of one concept by two authors, on the images that both have read.

    `table` counts images by the first and the second author's state; `observed` is the fraction of
    images on which they agree; intervals are over patients.
    """

    concept: str
    authors: tuple[str, str]
    images: int
    patients: int
    kappa: Interval
    observed: Interval
    table: Mapping[tuple[str, str], int]
    disagreements: tuple[Disagreement, ...]


def authors_of(state: State, concept: str) -> dict[str, int]:
    """Return how many images each author has read for a concept, the most diligent first."""
    count = Counter(author for _, of, author in state.readings if of == concept)
    return dict(sorted(count.items(), key=lambda pair: (-pair[1], pair[0])))


def concepts_of(state: State) -> list[str]:
    """Return the concepts that were read."""
    return sorted({concept for _, concept, _ in state.readings})


def agreement(
    state: State,
    concept: str,
    authors: Collection[str],
    patient_of: Mapping[str, str],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Agreement:
    """Compare the blind readings of two authors.

    `patient_of` gives the patient of each image of the data; readings of other images are left
    out. Raises `NotFound` for an author without a reading of the concept, `TooFew` where no image
    was read by both.
    """
    first, second = authors
    known = authors_of(state, concept)
    for one in (first, second):
        if one not in known:
            raise NotFound.named(f"reader of {concept}", one, known)
    by_author = {
        author: {
            image_id: one
            for (image_id, of, who), one in state.readings.items()
            if of == concept and who == author and image_id in patient_of
        }
        for author in (first, second)
    }
    both = sorted(by_author[first].keys() & by_author[second].keys())
    if not both:
        raise TooFew(
            f"no image was read for {concept} by both {first} and {second}; kappa needs images "
            "that both have read"
        )
    states = [[_state(by_author[author][image_id]) for image_id in both] for author in authors]
    patients = [patient_of[image_id] for image_id in both]
    found = reader_agreement.agreement(
        states[0],
        states[1],
        patients,
        resamples=resamples,
        confidence=confidence,
        seed=seed,
    )
    count = Counter(zip(*states, strict=True))
    return Agreement(
        concept,
        (first, second),
        len(both),
        len(set(patients)),
        found.kappa,
        found.observed,
        {(one, other): count[one, other] for one in STATES for other in STATES},
        tuple(
            Disagreement(image_id, by_author[first][image_id], by_author[second][image_id])
            for image_id, one, other in zip(both, *states, strict=True)
            if one != other
        ),
    )


def pairs(state: State, concept: str) -> list[tuple[str, str]]:
    """Return all pairs of authors who read a concept."""
    return list(combinations(authors_of(state, concept), 2))


def _state(one: Revision) -> str:
    assert isinstance(one.change, Read)  # `State.readings` holds no other kind
    return one.change.state or ""
