"""Roles of the folders above the radiographs: part, label, patient, study, view, source, container.

Roles are given to groups of sibling names: the children of all folders with one role (of every
part of a split, of every patient) form one group. So train/NORMAL and test/NORMAL are classes
below parts, at any depth.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hilum.annotations import acquisition
from hilum.dataset.plan import lexicon
from hilum.dataset.plan.labels import known
from hilum.dataset.plan.lexicon import ABSENT, FINDING, NORMAL, UNCERTAIN
from hilum.dataset.plan.settings import LEVELS, Settings

CONTAINER, UNKNOWN, UNLABELLED = "container", "unknown", "unlabelled"
MOST_CLASSES = 30  # sibling folders, above which unknown names are patients and not classes
FEW_IMAGES = 20  # images in the folder of one patient, as a rule at most
_NUMBERED = re.compile(r"(?P<word>\D*?)[-_ .]*(?P<number>\d[\d._-]*)(?P<tail>\D*)")
_HEX = re.compile(r"(?=.*\d)[0-9a-f]{6,}(-[0-9a-f]+)*")


@dataclass(frozen=True)
class Level:
    """One folder above an image: its role and its name."""

    role: str
    name: str


@dataclass
class Folders:
    """The roles of all folders, by path; `unknown` are groups of sibling names without a role."""

    roles: dict[str, str] = field(default_factory=dict)
    unknown: list[tuple[str, ...]] = field(default_factory=list)

    def levels(self, path: str) -> list[Level]:
        """Return the folders above a file from the top, each with its role."""
        names = path.split("/")[:-1]
        return [
            Level(self.roles.get("/".join(names[: at + 1]), CONTAINER), name)
            for at, name in enumerate(names)
        ]

    def value(self, path: str, role: str) -> str | None:
        """Return the name of the topmost folder with a role, or None."""
        return next((level.name for level in self.levels(path) if level.role == role), None)


def understand(paths: Sequence[str], settings: Settings) -> Folders:
    """Return the roles of the folders above the files at `paths`, worked out from the top down."""
    folders = Folders()
    if settings.folders is not None:
        _by_patterns(paths, settings.folders, folders)
        return folders
    children: dict[str, set[str]] = defaultdict(set)
    count: Counter[str] = Counter()
    for path in paths:
        names = path.split("/")[:-1]
        for at, name in enumerate(names):
            children["/".join(names[:at])].add(name)
            count["/".join(names[: at + 1])] += 1
    groups: list[tuple[list[str], frozenset[str]]] = [([""], frozenset())]
    while groups:
        parents, above = groups.pop()
        below = {parent: children[parent] for parent in parents if parent in children}
        images: Counter[str] = Counter()
        inside: dict[str, set[str]] = defaultdict(set)
        for parent, held in below.items():
            for name in held:
                images[name] += count[_join(parent, name)]
                inside[name] |= children.get(_join(parent, name), set())
        if not images:
            continue
        roles = _roles(sorted(images), images, above, settings, folders, inside)
        after: dict[str, list[str]] = defaultdict(list)
        for parent, held in below.items():
            for name in held:
                folders.roles[_join(parent, name)] = roles[name]
                after[roles[name]].append(_join(parent, name))
        groups += [(held, above | {role}) for role, held in after.items()]
    return folders


def _join(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent else name


def _roles(
    names: Sequence[str],
    images: Mapping[str, int],
    above: frozenset[str],
    settings: Settings,
    folders: Folders,
    inside: Mapping[str, set[str]],
) -> dict[str, str]:
    """Return the role of each name of a group of siblings.

    `images`: number of images below each name; `above`: roles of the folders that contain the
    group; `inside`: names of the folders in each.
    """
    roles = {name: _word_role(name, settings) for name in names}
    spoken = {role for role in roles.values() if role}
    rest = [name for name in names if roles[name] is None]
    if not rest:
        return _single_part(roles, names)
    if "label" in spoken:
        kind = "label" if len(names) <= MOST_CLASSES else CONTAINER
        if _family(rest) in ("patient", "study"):
            kind = "patient"
        return {name: roles[name] or kind for name in names}
    family = _family(rest)
    if family in ("patient", "study") or (family == "number" and _are_people(rest, images)):
        role = _identity(family, above, rest, inside)
        return {name: roles[name] or role for name in names}
    if family in ("batch", "source"):
        role = "source" if family == "source" else CONTAINER
        return {name: roles[name] or role for name in names}
    if len(rest) == 1 or spoken & {"part", "view"}:
        return _single_part({name: roles[name] or CONTAINER for name in names}, names)
    if len(rest) > MOST_CLASSES and "patient" not in above:
        return {name: roles[name] or "patient" for name in names}
    if "patient" in above or "label" in above:
        return {
            name: roles[name] or ("study" if "patient" in above else CONTAINER) for name in names
        }
    folders.unknown.append(tuple(rest))
    return {name: roles[name] or UNKNOWN for name in names}


def _single_part(roles: Mapping[str, str | None], names: Sequence[str]) -> dict[str, str]:
    """Return the roles with a part of a split that has no sibling as a container."""
    alone = (
        len({lexicon.part_of(name) for name in names if roles[name] == "part"}) == 1
        and len(names) == 1
    )
    return {
        name: CONTAINER if alone and role == "part" else role or CONTAINER
        for name, role in roles.items()
    }


def _word_role(name: str, settings: Settings) -> str | None:
    """Return the role that a folder's name states by itself, or None."""
    meaning = known(name, settings)
    if name in settings.terms or name in settings.normal or name in settings.drop:
        return "label"
    if lexicon.part_of(name):
        return "part"
    if lexicon.among(name, "folders", "container"):
        return CONTAINER
    if meaning and meaning.kind in (FINDING, NORMAL, ABSENT, UNCERTAIN, lexicon.UNUSABLE):
        return "label"
    if view_of(name):
        return "view"
    if lexicon.among(name, "folders", "unlabelled") or name in settings.unlabelled:
        return UNLABELLED
    return None


def view_of(name: str) -> str | None:
    """Return the view that the whole name of a folder states, such as "lateral" or "PA view"."""
    codes = acquisition.view_of(name) if len(lexicon.key(name)) in (2, 3) else None
    return acquisition.view_in_path(f"{name}/-") or codes


def _family(names: Sequence[str]) -> str | None:
    """Return what numbered names are by the word before their number.

    patient, study, batch or source; "number" for another word or none; None where the names are
    not numbered alike.
    """
    spaced = [re.fullmatch(r"(?P<word>.+) [a-z]", lexicon.spaced(name)) for name in names]
    lettered = {match["word"] if match else None for match in spaced}
    word = next(iter(lettered)) if len(lettered) == 1 else None
    if word is not None:  # siteA, siteB
        head = lexicon.key(word)
        return next(
            (family for family in ("batch", "source") if head in lexicon.words("folders", family)),
            None,
        )
    if all(_HEX.fullmatch(name.casefold()) for name in names):
        return "number"
    numbered = [match for name in names if (match := _NUMBERED.fullmatch(name))]
    if len(numbered) < len(names):
        return None
    heads = Counter(lexicon.key(match["word"]) for match in numbered)
    head, often = heads.most_common(1)[0]
    if often < 0.8 * len(names):
        return "number" if len(names) > MOST_CLASSES else None
    for family in ("batch", "source", "patient", "study"):
        if head in lexicon.words("folders", family):
            return family
    return "number"


def _are_people(names: Sequence[str], images: Mapping[str, int]) -> bool:
    """Return whether numbered folders are patients.

    They are where there are many, or where their numbers are long or zero-padded and each holds
    few images.
    """
    few = max(images[name] for name in names) <= FEW_IMAGES
    digits = [re.sub(r"\D", "", name) for name in names]
    long = all(
        len(number) >= 3 or (number.startswith("0") and len(number) > 1) for number in digits
    )
    return len(names) > MOST_CLASSES or (few and long and len(names) > 1)


def _identity(
    family: str, above: frozenset[str], names: Sequence[str], inside: Mapping[str, set[str]]
) -> str:
    """Return the role of identities: patient at the first level, study below, then container."""
    if "study" in above:
        return CONTAINER
    if "patient" in above:
        return "study"
    buckets = [
        name
        for name in names
        if any(child.startswith(name) and child != name for child in inside.get(name, ()))
    ]
    if len(buckets) == len(names):
        return CONTAINER  # p10/p10000032: the first digits of the patients inside
    return "study" if family == "study" else "patient"


def _by_patterns(paths: Iterable[str], patterns: Sequence[str], folders: Folders) -> None:
    """Set roles by patterns of hilum.toml such as "{part}/{label}/images"; the first fit counts."""
    split = [pattern.strip("/").split("/") for pattern in patterns if pattern.strip("/")]
    for path in paths:
        names = path.split("/")[:-1]
        parts = next(
            (
                parts
                for parts in split
                if len(parts) == len(names) and all(map(_fits, parts, names))
            ),
            [],
        )
        for at, part in enumerate(parts):
            role = part[1:-1] if part.startswith("{") else CONTAINER
            folders.roles["/".join(names[: at + 1])] = role


def _fits(part: str, name: str) -> bool:
    if part == "{part}":
        return lexicon.part_of(name) is not None
    return part == "*" or part.startswith("{") or part == name


def patterns(folders: Folders, paths: Iterable[str]) -> tuple[str, ...]:
    """Return the roles of all folders as patterns for hilum.toml."""
    found = {"/".join(map(_pattern, folders.levels(path))): None for path in paths}
    # The first pattern that fits counts, so the most literal ones come first.
    return tuple(sorted(found, key=lambda pattern: pattern.count("{")))


def _pattern(level: Level) -> str:
    if level.role in LEVELS:
        return f"{{{level.role}}}"
    return level.name if "*" not in level.name and "{" not in level.name else "*"
