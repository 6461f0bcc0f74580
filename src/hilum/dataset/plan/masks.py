"""Detection of mask files: which files are masks, of what organ, and of which radiograph.

Pixels decide first, then words in folder and file names. Files are judged in groups whose folders
and names differ in numbers alone. A few files of each group are opened; where these disagree, all
are. A photograph in a folder called masks/ is neither mask nor radiograph, and is set aside.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache

from hilum.dataset.inventory import File
from hilum.dataset.plan import lexicon
from hilum.dataset.plan.evidence import LIKELY, Evidence, shown
from hilum.dataset.plan.mask_pairing import Pairing, affixes
from hilum.dataset.plan.settings import Settings

SAMPLED = 3  # files opened per group
MOST_SAMPLED = 900  # files opened over all groups: some seconds of work
SIDES = ("lungs", "right", "left")


@dataclass(frozen=True)
class Seen:
    """What the pixels of a file are: "label" (two-valued or a label map), "constant" or "photo"."""

    kind: str
    lungs: bool = True  # its regions have the places and shapes of one lung or both


@dataclass
class Masks:
    """The masks of a folder: path by image and side (see `SIDES`), and all files that are masks."""

    of: dict[str, dict[str, str]] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    groups: list[tuple[str, int, str]] = field(default_factory=list)  # pattern, files, role


@dataclass
class _Group:
    folder: str
    affix: tuple[str, str]
    files: list[File]
    word: str = ""  # strong, weak or ""
    role: str = "lungs"

    @property
    def name(self) -> str:
        """Return the pattern of the group's paths, as hilum.toml writes it."""
        folder = f"{self.folder.replace('#', '*')}/" if self.folder else ""
        first, last = (part.replace("_", "?") for part in self.affix)
        return f"{folder}{first}*{last}.*" if last else f"{folder}{first}*"


PixelClassifier = Callable[[str], Seen]


def find(
    files: Sequence[File], classify: PixelClassifier, settings: Settings, evidence: Evidence
) -> tuple[Masks, list[File]]:
    """Divide raster files into masks and radiographs and pair them.

    `classify` opens the file at a path. Returns the masks, and the files left as radiographs.
    """
    one_sided = settings.right_masks or settings.left_masks
    if settings.masks is not None or one_sided or settings.other_masks:
        return _by_settings(files, settings, evidence)
    budget = _Budget(classify)
    photos: list[File] = []
    masks, groups = Masks(), _groups(files)
    candidates: list[_Group] = []
    for group in groups:
        labels, others = _judged(group, budget)
        if labels:
            candidates.append(_Group(group.folder, group.affix, labels, group.word, group.role))
        if others and group.word == "strong":
            evidence.set_aside(
                "file",
                [file.path for file in others],
                "lies among masks but is no label image",
                "warning",
            )
        else:
            photos += others
    photos = sorted(photos, key=lambda file: file.path)
    shared = frozenset(part for file in photos for part in affixes(file.stem))
    for group in candidates:
        group.role = _role(group, shared)
    if not photos and candidates and any(group.word != "strong" for group in candidates):
        return masks, sorted(
            (file for group in candidates for file in group.files), key=lambda file: file.path
        )
    _pair_all(candidates, photos, budget, masks, evidence)
    return masks, photos


class _Budget:
    """Opens each file at most once; `spent` once `MOST_SAMPLED` files were opened."""

    def __init__(self, classify: PixelClassifier) -> None:
        self.classify = classify
        self.seen: dict[str, Seen] = {}

    def __call__(self, file: File) -> Seen:
        if file.path not in self.seen:
            self.seen[file.path] = self.classify(file.path)
        return self.seen[file.path]

    @property
    def spent(self) -> bool:
        """Return whether no more groups should be sampled."""
        return len(self.seen) >= MOST_SAMPLED


def _groups(files: Iterable[File]) -> list[_Group]:
    found: dict[tuple[str, str, tuple[str, str]], list[File]] = defaultdict(list)
    for file in files:
        ending = file.path.rpartition(".")[2].casefold()
        found[_template(file.folder), ending, affixes(file.stem)].append(file)
    groups = [
        _Group(folder, affix, held)
        for (folder, _, affix), held in sorted(found.items(), key=lambda item: item[0])
    ]
    for group in groups:
        group.word = _word(group)
    return groups


def _word(group: _Group) -> str:
    """Return how clearly a group's words name masks: "strong", "weak" or "".

    Words count at the ends of names, in the folder's name, and as the names of folders above. A
    folder called "images" holds none, whatever the folders above are called.
    """
    *above, last = group.folder.split("/")
    if not any(group.affix) and lexicon.among(last, "masks", "image"):
        return ""
    for kind in ("strong", "weak"):
        if any(_has(name, kind) for name in (last, *group.affix)) or any(
            lexicon.among(name, "masks", kind) for name in above
        ):
            return kind
    return ""


@cache
def _template(folder: str) -> str:
    return re.sub(r"[0-9a-f]{8,}(-[0-9a-f]+)+|\d+(\.\d+)*", "#", folder)


def _role(group: _Group, shared: frozenset[str]) -> str:
    """Return what a group's masks show by their words: lungs, right, left or other.

    Folders above the first one named after masks describe the images, not the masks; so do words
    of file names that occur in the names of images as well (`shared`).
    """
    folders = group.folder.split("/")
    first = next(
        (at for at, name in enumerate(folders) if lexicon.among(name, "masks", "strong", "weak")),
        len(folders) - (not any(group.affix)),
    )
    said = [*folders[first:], *(part for part in group.affix if part not in shared)]
    if any(_has(name, "other") for name in said) and not any(_has(name, "lung") for name in said):
        return "other"
    sides = {side for side in ("right", "left") if any(_has(name, side) for name in said)}
    return sides.pop() if len(sides) == 1 else "lungs"


def _has(name: str, *kinds: str) -> bool:
    """Return whether a name, or one of its words, is a mask word of one of these kinds."""
    return any(
        lexicon.among(word, "masks", *kinds) for word in (name, *lexicon.spaced(name).split())
    )


def _judged(group: _Group, budget: _Budget) -> tuple[list[File], list[File]]:
    """Divide a group's files into label images and others, by a sample where that is uniform."""
    step = max(1, (len(group.files) - 1) // (SAMPLED - 1))
    sample = group.files[::step][:SAMPLED]
    if budget.spent:
        return (group.files, []) if group.word == "strong" else ([], group.files)
    kinds = {budget(file).kind for file in sample} - {"constant"}
    if not kinds:
        kinds = {"label" if group.word else "photo"}
    if len(kinds) == 1:
        return (group.files, []) if kinds == {"label"} else ([], group.files)
    labels = [
        file
        for file in group.files
        if budget(file).kind == "label" or (budget(file).kind == "constant" and group.word)
    ]
    chosen = {file.path for file in labels}
    return labels, [file for file in group.files if file.path not in chosen]


def _pair_all(
    candidates: Sequence[_Group],
    photos: Sequence[File],
    budget: _Budget,
    masks: Masks,
    evidence: Evidence,
) -> None:
    pairing = Pairing(photos)
    sided = {group.role for group in candidates}
    for group in candidates:
        masks.files |= {file.path for file in group.files}
        role = group.role
        if role in ("right", "left") and not {"right", "left"} <= sided:
            role = "lungs"  # one side alone: a name such as "L" says something else
        if role == "lungs" and not _shows_lungs(group, budget):
            role = "unclear" if group.word != "other" else "other"
        masks.groups.append((group.name, len(group.files), role))
        if role == "other":
            evidence.set_aside(
                "file",
                [file.path for file in group.files],
                "is a mask of something else than lungs",
            )
        elif role == "unclear":
            evidence.set_aside(
                "file",
                [file.path for file in group.files],
                "is a label image that does not show two lungs",
                "warning",
            )
        else:
            _pair(group, role, pairing, masks, evidence)
    for image, found in list(masks.of.items()):
        if "lungs" in found and len(found) > 1:
            masks.of[image] = {"lungs": found["lungs"]}


def _shows_lungs(group: _Group, budget: _Budget) -> bool:
    """Return whether at least half of the opened label images of a group show lungs."""
    seen = [budget.seen[file.path] for file in group.files if file.path in budget.seen]
    labels = [it for it in seen if it.kind == "label"]
    return not labels or sum(it.lungs for it in labels) * 2 >= len(labels)


def _pair(group: _Group, role: str, pairing: Pairing, masks: Masks, evidence: Evidence) -> None:
    """Add a group's masks of one side to their images; set aside those without exactly one."""
    orphans, unsure = [], []
    for file in group.files:
        images = pairing.images(file)
        if len(images) == 1 and masks.of.get(images[0], {}).get(role) is None:
            masks.of.setdefault(images[0], {})[role] = file.path
        elif images:
            unsure.append(file.path)
        else:
            orphans.append(file.path)
    evidence.set_aside("file", orphans, "is a mask, but there is no image of its name", "warning")
    evidence.set_aside(
        "file",
        unsure,
        "is a mask whose name fits several images, or whose image has another mask",
        "warning",
    )
    paired = len(group.files) - len(orphans) - len(unsure)
    if paired:
        side = {"lungs": "both lungs", "right": "the right lung", "left": "the left lung"}[role]
        certainty = LIKELY if group.word != "strong" else "certain"
        evidence.decide(
            "masks",
            f"{paired} of {side}",
            f"label images {group.name}, paired by name, such as {group.files[0].path}",
            certainty,
        )


def _by_settings(
    files: Sequence[File], settings: Settings, evidence: Evidence
) -> tuple[Masks, list[File]]:
    """Find masks by the patterns of hilum.toml.

    "{stem}" and "{folder}" stand for the image's own, "*" for anything.
    """
    masks = Masks()
    patterns_of = _patterns_of(settings)
    role_of = _roles_by_patterns(files, patterns_of)
    images = [file for file in files if file.path not in role_of]
    masks.files = set(role_of)
    pairing, held = Pairing(images), {file.path: file for file in files}
    for role in SIDES:
        _pair_by_stem(images, role, patterns_of[role], role_of, masks)
    used = {place for found in masks.of.values() for place in found.values()}
    for role in SIDES:
        rest = [held[path] for path, given in role_of.items() if given == role and path not in used]
        free = [pattern for pattern in patterns_of[role] if "{stem}" not in pattern]
        if free and rest:
            group = _Group(shown(free), ("", ""), rest, "strong", role)
            _pair(group, role, pairing, masks, evidence)
        else:
            evidence.set_aside(
                "file",
                [file.path for file in rest],
                "is a mask, but there is no image of its name",
                "warning",
            )
    evidence.set_aside(
        "file",
        [path for path, role in role_of.items() if role == "other"],
        "is no mask of lungs, as hilum.toml says",
    )
    return masks, images


def _patterns_of(settings: Settings) -> dict[str, Sequence[str]]:
    """Return the patterns of hilum.toml by role, in the order in which they are tried.

    Masks of one side or of another organ often lie in folders below those of both lungs, whose
    pattern fits them too, so the pattern of both lungs comes last.
    """
    return {
        "right": settings.right_masks,
        "left": settings.left_masks,
        "other": settings.other_masks,
        "lungs": settings.masks or (),
    }


def _roles_by_patterns(
    files: Sequence[File], patterns_of: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Return the role by path of each file that a pattern fits; the first role that fits counts."""
    role_of: dict[str, str] = {}
    for role, patterns in patterns_of.items():
        globs = [re.sub(r"\{(stem|folder)\}", "*", pattern) for pattern in patterns]
        for file in files:
            if file.path not in role_of and any(
                fnmatchcase(file.path.casefold(), glob.casefold()) for glob in globs
            ):
                role_of[file.path] = role
    return role_of


def _pair_by_stem(
    images: Sequence[File],
    role: str,
    patterns: Sequence[str],
    role_of: Mapping[str, str],
    masks: Masks,
) -> None:
    """Pair images with the masks that patterns with "{stem}" lead to."""
    for pattern in patterns:
        for image in images if "{stem}" in pattern else ():
            place = pattern.replace("{stem}", image.stem).replace("{folder}", image.folder)
            place = place.lstrip("/")
            if role_of.get(place) == role:
                masks.of.setdefault(image.path, {}).setdefault(role, place)


def patterns(masks: Masks) -> Mapping[str, tuple[str, ...]]:
    """Return the keys of hilum.toml that state which files are masks, with their patterns."""
    named: dict[str, list[str]] = {"lungs": [], "right": [], "left": [], "other": []}
    for pattern, _, role in masks.groups:
        named["other" if role == "unclear" else role].append(pattern)
    return {
        "masks": tuple(named["lungs"]),
        "right_masks": tuple(named["right"]),
        "left_masks": tuple(named["left"]),
        "other_masks": tuple(named["other"]),
    }
