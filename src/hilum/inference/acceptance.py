"""Decide whether a model of frontal chest radiographs may be applied to an image.

The answer is the same for every model and command.

Refused, which means that no score is given, is an image that

    appears inverted, rotated, mirrored, empty or like no frontal chest radiograph
    (`hilum.inference.orientation`)
    states in its header a view that is not frontal, another body part or another modality
    (`hilum.annotations.eligibility`)
    shows no lungs, or lungs whose mask cannot be relied on (`hilum.inference.lung_finder`), where
    the model needs them

Not called by a model is an image of a patient outside its age range, by the header or else by the
image itself (`hilum.inference.age_group`), see `excluded`. A warning accompanies the call of an
image with colours, and of one whose header states an unknown body part or modality.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hilum.annotations import acquisition, eligibility
from hilum.imaging.geometry import Size
from hilum.inference import age_group
from hilum.inference.orientation import QualityFlag

LEAST_SIDE, LONGEST = 32, 6  # pixels; ratio of the longer side to the shorter one
LEAST_KNOWN = 0.9  # fraction of the patients whose age must be known to state a range
MOSTLY, FEW = 0.5, 0.05  # fractions of images of children: at least, at most


class Header(Protocol):
    """The fields of a file's header that are used, in its own words; None where absent."""

    @property
    def view(self) -> str | None:
        """View position."""
        ...

    @property
    def body_part(self) -> str | None:
        """Body part examined."""
        ...

    @property
    def modality(self) -> str | None:
        """Modality."""
        ...

    @property
    def age_years(self) -> float | None:
        """Patient's age in years."""
        ...


@dataclass(frozen=True)
class Stated:
    """What a file states of its image.

    `view` is one of `hilum.annotations.acquisition`; body part and modality are defined terms.
    """

    view: str | None = None
    body_part: str | None = None
    modality: str | None = None
    age_years: float | None = None
    colour: bool = False  # the channels differ, as in no radiograph

    @classmethod
    def of(cls, header: Header | None, *, colour: bool) -> Stated:
        """Return the statements of a header in defined terms; none where there is no header."""
        if header is None:
            return cls(colour=colour)
        part = acquisition.body_part_of(header.body_part)
        modality = acquisition.modality_of(header.modality)
        return cls(header.view, part, modality, header.age_years, colour)


@dataclass(frozen=True)
class Lungs:
    """The lungs found in an image.

    `least` is the quality below which they are not relied on; None where the model needs no lungs.
    """

    found: bool
    quality: float
    least: float | None


@dataclass(frozen=True)
class People:
    """The population that a model was trained on.

    `youngest` to `oldest` in years, and `words` such as "adults of two hospitals". `measured` is
    false for ages that only the outlines of lungs suggest.
    """

    youngest: float
    oldest: float
    words: str
    measured: bool = True

    @property
    def range(self) -> str:
        """The age range for a sentence; "" where it was not measured."""
        return f", {self.youngest:g} to {self.oldest:g} years old" if self.measured else ""


def impossible_size(size: Size) -> str:
    """Return why an image of (height, width) pixels cannot show a chest; "" where it can."""
    if min(size) >= LEAST_SIDE and max(size) <= LONGEST * min(size):
        return ""
    return (
        f"{size[0]}x{size[1]} pixels (height x width) cannot show a chest; expected sides of "
        f"{LEAST_SIDE} pixels and more, the longer at most {LONGEST} times the shorter"
    )


def refusal(
    flags: Sequence[QualityFlag], stated: Stated, lungs: Lungs, include: Collection[str] = ()
) -> str:
    """Return why no score may be given to an image; "" where one may.

    `include` names views, body parts or modalities that the model was trained on too, as `[split]
    include` does.
    """
    reasons = [f"it appears {flag.words}" for flag in flags]
    if objection := eligibility.reason(stated.view, stated.body_part, stated.modality, include):
        reasons.append(f"the file states: {objection}")
    if reasons or lungs.least is None:
        return "; ".join(reasons)
    if not lungs.found:
        return "no lungs were found"
    if lungs.quality < lungs.least:
        found = f"quality {lungs.quality:.2f}, below {lungs.least}"
        return f"the lungs found in it cannot be relied on: {found}"
    return ""


def warnings(stated: Stated) -> list[str]:
    """Return the statements that no chest radiograph should make, but that do not refuse one."""
    found = []
    if stated.colour:
        found.append(
            "the file has colours, as no radiograph has: it may be a photograph, or annotated"
        )
    if stated.body_part is not None and stated.body_part not in acquisition.body_parts():
        found.append(
            f"the file states body part {stated.body_part!r}, which is not known to be the chest"
        )
    if stated.modality is not None and stated.modality not in acquisition.modalities():
        found.append(
            f"the file states modality {stated.modality!r}, which is not known to be radiography"
        )
    return found


def excluded(model: str, people: People, stated: Stated, measured: str) -> str:
    """Return why a patient is not of a model's training population; "" where it may answer.

    The stated age decides. Without one `measured` does, an answer of `age_group.classify`: a model
    of small children answers for a measured child alone, since most patients are none; any other
    model answers unless a child or an adult was measured whose ages are all outside its own.
    """
    trained = f"{model} was trained on {people.words}{people.range}"
    years = stated.age_years
    if years is not None:
        # A person of `oldest` years is that old until the next birthday.
        within = people.youngest <= years < people.oldest + 1
        return "" if within else f"the patient is {_age(years)} old, and {trained}"
    stated_no_age = "(by the image; the file states no age)"
    if people.oldest < age_group.OLDEST_CHILD:
        if measured == age_group.CHILD:
            return ""
        seems = (
            "it appears to be an adult's image"
            if measured == age_group.ADULT
            else "nothing indicates that it is a child's image"
        )
        return f"{seems} {stated_no_age}, and {trained}"
    if people.oldest < age_group.YOUNGEST_ADULT and measured == age_group.ADULT:
        return f"it appears to be an adult's image {stated_no_age}, and {trained}"
    if people.youngest >= age_group.OLDEST_CHILD and measured == age_group.CHILD:
        return f"it appears to be a child's image {stated_no_age}, and {trained}"
    return ""


def _age(years: float) -> str:
    """Write an age in whole years, or of less than two years in whole months."""
    return f"{int(years)} years" if years >= 2 else f"{int(12 * years + 1e-6)} months"


def people_by_ages(years: Sequence[float | None], words: str) -> People | None:
    """Return the range of the training patients' ages; None where fewer than nine of ten are known.

    Ages beyond `acquisition.OLDEST_YEARS` are data entry errors; so may a few at the ends be,
    which are left out.
    """
    known = [
        value for value in years if value is not None and 0 <= value <= acquisition.OLDEST_YEARS
    ]
    if not known or len(known) < LEAST_KNOWN * len(years):
        return None
    low, high = np.quantile(known, (0.005, 0.995), method="nearest")
    return People(float(low), float(high), words)


def people_by_images(groups: Iterator[str], words: str) -> People | None:
    """Return children or older people, as the training images suggest.

    `groups` are answers of `age_group.classify`. None for a mixture, or where there is none.
    """
    answers = list(groups)
    children = answers.count(age_group.CHILD) / max(len(answers), 1)
    if answers and children >= MOSTLY:
        return People(
            0,
            age_group.OLDEST_CHILD - 1,
            f"{words}, most of whom appear to be children",
            measured=False,
        )
    if answers and children <= FEW:
        return People(
            age_group.OLDEST_CHILD,
            acquisition.OLDEST_YEARS,
            f"{words}, few of whom appear to be children",
            measured=False,
        )
    return None
