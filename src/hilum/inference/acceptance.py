"""Decide whether a model of frontal chest radiographs may be applied to an image.

The answer is the same for every model and command.

Refused, which means that no score is given, is an image that

    looks inverted, rotated, mirrored, empty or like no frontal chest radiograph (`hilum.inference.orientation`)
    states in its header a view that is not frontal, another body part or another modality
    (`hilum.annotations.eligibility`)
    shows no lungs, or lungs whose mask cannot be relied on (`hilum.inference.lung_finder`), where the model needs
    them

Scored with a warning is one of a patient of another age than those whom the model was trained on,
by the header or else by the outlines of the lungs (`hilum.inference.age_group`); one with colours; one whose header
states an unknown body part or modality.
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

LEAST_SIDE, LONGEST = 32, 6  # pixels; the longer side over the shorter one
OLDEST_POSSIBLE = 120.0  # years


class Header(Protocol):
    """What is used of a file's header, in the file's own words; None where it states nothing."""

    view: str | None
    body_part: str | None
    modality: str | None
    age_years: float | None


@dataclass(frozen=True)
class Stated:
    """What a file states of its image: a view of `hilum.annotations.acquisition`, body part and modality as
    defined terms.
    """

    view: str | None = None
    body_part: str | None = None
    modality: str | None = None
    age_years: float | None = None
    colour: bool = False  # channels differ, as in no radiograph

    @classmethod
    def of(cls, header: Header | None, *, colour: bool) -> Stated:
        if header is None:
            return cls(colour=colour)
        part, modality = (
            acquisition.body_part_of(header.body_part),
            acquisition.modality_of(header.modality),
        )
        return cls(header.view, part, modality, header.age_years, colour)


@dataclass(frozen=True)
class Lungs:
    """What was found of the lungs. `least` is the quality below which they are not relied on; None:
    they are not needed.
    """

    found: bool
    quality: float
    least: float | None


@dataclass(frozen=True)
class People:
    """Whom a model was trained on: `youngest` to `oldest` in years, and words for them, such as
    "adults of two hospitals".

    `measured` tells ages that are known from ages that only the outlines of lungs suggest.
    """

    youngest: float
    oldest: float
    words: str
    measured: bool = True

    @property
    def range(self) -> str:
        return f", {self.youngest:g} to {self.oldest:g} years old" if self.measured else ""


def impossible(size: Size) -> str:
    """Return why an image of (height, width) pixels cannot show a chest; "" where it can."""
    if min(size) >= LEAST_SIDE and max(size) <= LONGEST * min(size):
        return ""
    return (
        f"{size[0]}x{size[1]} pixels (height x width) cannot show a chest; expected sides of "
        f"{LEAST_SIDE} pixels and more, the longer at most {LONGEST} times the shorter"
    )


def refused(
    doubts: Sequence[QualityFlag], stated: Stated, lungs: Lungs, include: Collection[str] = ()
) -> str:
    """Return why no score may be given to an image; "" where one may.

    `include` names views, body parts or modalities that the model was trained on too, as `[split]
    include` does.
    """
    told = [f"it looks {doubt.words}" for doubt in doubts]
    if objection := eligibility.reason(stated.view, stated.body_part, stated.modality, include):
        told.append(f"the file states: {objection}")
    if told or lungs.least is None:
        return "; ".join(told)
    if not lungs.found:
        return "no lungs were found"
    if lungs.quality < lungs.least:
        found = f"quality {lungs.quality:.2f}, below {lungs.least}"
        return f"the lungs found in it cannot be relied on: {found}"
    return ""


def warnings(stated: Stated) -> list[str]:
    """Return what the file states that no radiograph of a chest should, without being a reason to
    refuse it.
    """
    told = []
    if stated.colour:
        told.append("the file has colours, as no radiograph has: it may be a photograph, or marked")
    if stated.body_part is not None and stated.body_part not in acquisition.body_parts():
        told.append(
            f"the file states body part {stated.body_part!r}, which is not known to be the chest"
        )
    if stated.modality is not None and stated.modality not in acquisition.modalities():
        told.append(
            f"the file states modality {stated.modality!r}, which is not known to be radiography"
        )
    return told


def age_warning(model: str, people: People, stated: Stated, labels: np.ndarray) -> str:
    """Return why the patient's age may lie outside what a model was trained on; "" where nothing
    suggests it.

    `labels` are the lungs, uint8 (size, size) as `hilum.annotations.lung_masks` has them. A model of small children
    warns unless the lungs look like theirs, for most people are none; any other warns where they
    do.
    """
    trained = f"{model} was trained on {people.words}{people.range}"
    years = stated.age_years
    if years is not None:
        within = (
            people.youngest <= years < people.oldest + 1
        )  # a person of `oldest` years is that until the next birthday
        return "" if within else f"the patient is {years:g} years old, and {trained}"
    outlines = "(lungs' outlines; the file states no age)"
    if people.oldest < age_group.OLDEST:
        looks = age_group.looks(labels)
        seems = (
            "it looks like an adult's film"
            if looks == age_group.GROWN
            else "nothing says that it is a small child's film"
        )
        return "" if looks == age_group.SMALL_CHILD else f"{seems} {outlines}, and {trained}"
    if people.youngest >= age_group.OLDEST and age_group.looks(labels) == age_group.SMALL_CHILD:
        return f"it looks like a small child's film {outlines}, and {trained}"
    return ""


def people_by_ages(years: Sequence[float | None], words: str) -> People | None:
    """Return the range of the ages of training patients; None where fewer than nine of ten are
    known.

    Ages beyond `OLDEST_POSSIBLE` are slips of data entry, and so are a few at the ends.
    """
    known = [value for value in years if value is not None and 0 <= value <= OLDEST_POSSIBLE]
    if not known or len(known) < 0.9 * len(years):
        return None
    low, high = np.quantile(known, (0.005, 0.995), method="nearest")
    return People(float(low), float(high), words)


def people_by_outlines(looks: Iterator[str], words: str) -> People | None:
    """Return small children or older people, whichever the outlines of training images suggest;
    None for a mixture.
    """
    told = list(looks)
    small = told.count(age_group.SMALL_CHILD) / max(len(told), 1)
    if told and small >= 0.5:
        return People(
            0,
            age_group.OLDEST - 1,
            f"{words}, most of whom look like small children",
            measured=False,
        )
    if told and small <= 0.05:
        return People(
            age_group.OLDEST,
            OLDEST_POSSIBLE,
            f"{words}, few of whom look like small children",
            measured=False,
        )
    return None
