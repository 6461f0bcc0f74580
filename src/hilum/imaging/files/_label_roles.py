"""Decide what the labels of masks stand for: by all masks of a folder, or by the user's settings.

A label stands for the same thing in all masks of a folder, so each mask has a vote (`consensus`).
What neither the mask nor its folder settles is refused with the lines of `hilum.toml` that settle
it (`settled`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hilum.errors import BadData, unknown
from hilum.imaging.files._label_meaning import ValueMeaning, meaning, number
from hilum.imaging.files._labels import LabelImage

ROLES = ("right", "left", "lungs", "heart", "ignore", "none")
LUNGS = ("right", "left", "lungs")
SECTION = "mask_values"
_NO_LUNG = ("heart", "none")
_AGREED = 0.8  # of the votes of a folder
_NEAR = 8  # of 255, that a value of a lossy image may be from one that is named
_BARE = re.compile(r"[A-Za-z0-9_-]+")
Votes = Mapping[str, int]  # masks by role


@dataclass(frozen=True)
class Consensus:
    """What labels stand for in a set of masks, and the votes on keys that they disagree on."""

    roles: Mapping[str, str] = field(default_factory=dict)
    unsettled: Mapping[str, Votes] = field(default_factory=dict)
    ground: str | None = None  # the key of the background, where nearly all have the same


@dataclass(frozen=True)
class Settled:
    """The role of each label of one mask, and what is remarkable about it."""

    roles: Mapping[str, str]
    inverted: bool = False  # the background is brighter than the lungs
    unlike: bool = False  # its background has another value than that of its folder


def consensus(meanings: Sequence[ValueMeaning]) -> Consensus:
    """Let masks vote on what their labels stand for; where any are sure, only those."""
    roles, unsettled = {}, {}
    for key, count in _votes(meanings).items():
        (role, most), total = count.most_common(1)[0], sum(count.values())
        no_lung = sum(count[one] for one in _NO_LUNG)
        if most >= _AGREED * total or (role in _NO_LUNG and no_lung >= _AGREED * total):
            roles[key] = role
        else:
            unsettled[key] = dict(count.most_common())
    grounds = Counter(one.ground for one in _voting(meanings))
    leading = grounds.most_common(1)
    agreed = bool(leading) and leading[0][1] >= _AGREED * grounds.total()
    return Consensus(roles, unsettled, leading[0][0] if agreed else None)


def _voting(meanings: Sequence[ValueMeaning]) -> Sequence[ValueMeaning]:
    return [one for one in meanings if one.sure] or meanings


def _votes(meanings: Sequence[ValueMeaning]) -> dict[str, Counter[str]]:
    """Count votes by key. A mask of one lung cannot say which one it is: others go first."""
    firm: dict[str, Counter[str]] = {}
    weak: dict[str, Counter[str]] = {}
    for one in _voting(meanings):
        for key, role in one.roles.items():
            if key not in one.unsettled and key not in one.tiny:
                alone = role == "lungs" and one.side != "both"
                (weak if alone else firm).setdefault(key, Counter())[role] += 1
    return {**weak, **firm}


def settled(
    image: LabelImage,
    agreed: Consensus | None = None,
    said: Mapping[str, str] | None = None,
) -> Settled:
    """Settle the role of each label of a mask: as `said`, else as `agreed`, else by itself.

    Raises `BadData` naming the mask, the values that are not settled and the lines of `hilum.toml`
    that settle them.
    """
    if said is not None:
        roles = _as_said(image, said)
        return Settled(roles, _is_inverted(image, roles))
    own, agreed = meaning(image), agreed or Consensus()
    roles, unclear = {}, {}
    for key in image.keys:
        roles[key], settles = _role(key, own, agreed)
        if not settles:
            votes = agreed.unsettled.get(key, {})
            words = ", ".join(f"{role} in {count} masks" for role, count in votes.items())
            unclear[key] = words or own.evidence.get(key, "")
    if unclear:
        raise BadData(_refusal(image.path, unclear, roles, "can be more than one thing"))
    unlike = own.sure and agreed.ground not in (None, own.ground)
    return Settled(roles, _is_inverted(image, roles), unlike)


def _role(key: str, own: ValueMeaning, agreed: Consensus) -> tuple[str, bool]:
    """Return the role of one label, and whether it is settled.

    The folder's consensus goes before the mask's own meaning, because a single shape can deceive.
    Exceptions are a value to ignore, which other masks of the folder may use as an ordinary value,
    and a mask whose background certainly has another value. Where the folder does not agree on
    right and left, a single mask cannot decide either.
    """
    mine = own.roles[key]
    if own.sure and own.ground != agreed.ground:
        return mine, not _about_sides(agreed.unsettled.get(key, {}))
    if key in agreed.roles:
        theirs = agreed.roles[key]
        keeps = own.sure and (mine == "ignore" or (theirs == "ignore" and own.side == "both"))
        return (mine if keeps else theirs), True
    votes = agreed.unsettled.get(key, {})
    return mine, key not in own.unsettled and not _about_sides(votes) and (own.sure or not votes)


def _about_sides(votes: Votes) -> bool:
    return "right" in votes and "left" in votes


def _is_inverted(image: LabelImage, roles: Mapping[str, str]) -> bool:
    """Whether the background is brighter than the lungs; the colours of a palette mean nothing."""
    count = np.bincount(image.numbers.ravel(), minlength=len(image.keys))
    lungs = [at for at, key in enumerate(image.keys) if roles[key] in LUNGS]
    others = [at for at, key in enumerate(image.keys) if roles[key] == "none"]
    if not lungs or not others or image.form == "palette":
        return False
    ground = max(others, key=lambda at: count[at])
    return image.brightness[ground] > max(image.brightness[at] for at in lungs)


# ----------------------------------------------------------------------------- the user's settings


def _as_said(image: LabelImage, said: Mapping[str, str]) -> dict[str, str]:
    """Return roles by the user's settings; the background need not be named."""
    named = {key: _named_near(image, key, said) for key in image.keys}
    missing = [key for key, role in named.items() if role is None]
    if not missing:
        return {key: role for key, role in named.items() if role is not None}
    own = meaning(image)
    ground = own.ground if own.roles[own.ground] == "none" else None
    if unnamed := [key for key in missing if key != ground]:
        roles = {**said, **{key: own.roles.get(key, "none") for key in missing}}
        why = "is not among the values that are named"
        raise BadData(_refusal(image.path, dict.fromkeys(unnamed, ""), roles, why))
    return {key: role or "none" for key, role in named.items()}


def _named_near(image: LabelImage, key: str, said: Mapping[str, str]) -> str | None:
    if key in said or image.exact or not key.isdigit():
        return said.get(key)
    near = [other for other in said if other.isdigit() and abs(int(other) - int(key)) <= _NEAR]
    return said[near[0]] if len(near) == 1 else None


def _refusal(path: str, evidence: Mapping[str, str], roles: Mapping[str, str], why: str) -> str:
    """Return the error about the keys of `evidence`; `roles` are the example to paste."""
    values = " and ".join(f"{key} ({words})" if words else key for key, words in evidence.items())
    return (
        f"{path}: what its value {values} stands for {why}; say it in hilum.toml "
        f"(roles: {', '.join(ROLES)}), for example\n{toml_of(roles)}"
    )


def toml_of(roles: Mapping[str, str]) -> str:
    """Return the section of `hilum.toml` that says what values stand for."""
    lines = (f'{_toml_key(key)} = "{roles[key]}"' for key in sorted(roles, key=number))
    return "\n".join([f"[{SECTION}]", *lines])


def _toml_key(key: str) -> str:
    return key if _BARE.fullmatch(key) else f'"{key}"'


def roles_from_toml(said: Mapping[str, object]) -> dict[str, str]:
    """Parse the roles by key of a `hilum.toml` section. Raises `BadData` with every fault."""
    roles, faults = {}, []
    for key, role in said.items():
        if not isinstance(role, str) or role not in ROLES:
            faults.append(f"{_toml_key(key)}: {unknown('role', str(role), ROLES)}")
        else:
            roles[key.strip().lower()] = role
    if not faults and not any(role in LUNGS for role in roles.values()):
        faults.append("no value stands for a lung; give one the role right, left or lungs")
    if faults:
        raise BadData.listing(
            f"[{SECTION}] does not say what the values of masks stand for", faults
        )
    return roles
