"""Find which image files are masks, of what, and of which radiograph: by their pixels first, then by words of folders and names.

Files are judged in groups that differ in nothing but numbers: their folder, and a word at either end of their name. A few of each group are
opened; where these disagree, all are. A photograph in a folder called masks/ is neither mask nor radiograph, and is set aside by name.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache

from hilum.dataset.plan import lexicon
from hilum.dataset.plan.evidence import LIKELY, Evidence, shown
from hilum.dataset.plan.inventory import File
from hilum.dataset.plan.settings import Settings

SAMPLED = 3  # files opened of a group
MOST_SAMPLED = 900  # files opened to judge groups, all together
SIDES = ("lungs", "right", "left")
_TOKEN = re.compile(r"[^\W\d_]+|\d+")
_SPLIT = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Seen:
    """What the pixels of a file say: `kind` is "label" (two-valued or a label map), "constant" or "photo"."""

    kind: str
    lungs: bool = True  # its regions lie and look as one lung or both


@dataclass
class Masks:
    """The masks of a folder: path by image and side, and the files that are masks of anything."""

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
        folder = f"{self.folder.replace('#', '*')}/" if self.folder else ""
        first, last = (part.replace("_", "?") for part in self.affix)
        return f"{folder}{first}*{last}.*" if last else f"{folder}{first}*"


Look = Callable[[str], Seen]


def find(
    files: Sequence[File], look: Look, settings: Settings, evidence: Evidence
) -> tuple[Masks, list[File]]:
    """Divide raster files into masks and radiographs and pair them. Returns the masks, and the files left as radiographs."""
    if (
        settings.masks is not None
        or settings.right_masks
        or settings.left_masks
        or settings.other_masks
    ):
        return _by_settings(files, settings, evidence)
    budget = _Budget(look)
    masks, photos, groups = Masks(), [], _groups(files)
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
    shared = frozenset(part for file in photos for part in _affix(file.stem))
    for group in candidates:
        group.role = _role(group, shared)
    if not photos and candidates and any(group.word != "strong" for group in candidates):
        return masks, sorted(
            (file for group in candidates for file in group.files), key=lambda file: file.path
        )
    _pair_all(candidates, photos, budget, masks, evidence)
    return masks, photos


class _Budget:
    """Opens files through `look`, each once, and up to `MOST_SAMPLED` in all."""

    def __init__(self, look: Look) -> None:
        self.look, self.seen = look, {}

    def __call__(self, file: File) -> Seen:
        if file.path not in self.seen:
            self.seen[file.path] = self.look(file.path)
        return self.seen[file.path]

    @property
    def spent(self) -> bool:
        return len(self.seen) >= MOST_SAMPLED


def _groups(files: Iterable[File]) -> list[_Group]:
    found: dict[tuple[str, str, tuple[str, str]], list[File]] = defaultdict(list)
    for file in files:
        ending = file.path.rpartition(".")[2].casefold()
        found[_template(file.folder), ending, _affix(file.stem)].append(file)
    groups = [
        _Group(folder, affix, held)
        for (folder, _, affix), held in sorted(found.items(), key=lambda item: item[0])
    ]
    for group in groups:
        group.word = _word(group)
    return groups


def _word(group: _Group) -> str:
    """Return how strongly a group's words say that it holds masks: by its name's ends, its folder, or a folder above called so.

    A folder called "images" says that it does not, whatever stands above it.
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


@cache
def _affix(stem: str) -> tuple[str, str]:
    """Return the words at both ends of a name that may say that it is a mask: ("mask", "") of mask_001, ("", "lung") of 7-lung."""
    parts = [part for part in _SPLIT.split(stem) if part]
    if len(parts) < 2:
        glued = re.fullmatch(r"([^\W\d_]+)\d+|\d+([^\W\d_]+)", stem)
        return (
            (glued[1] or "", glued[2] or "")
            if glued and _is_mask_word(glued[1] or glued[2])
            else ("", "")
        )
    first, last = 0, len(parts)
    while first < last - 1 and _is_mask_word(parts[first]):
        first += 1
    while last > first + 1 and _is_mask_word(parts[last - 1]):
        last -= 1
    return "_".join(parts[:first]).casefold(), "_".join(parts[last:]).casefold()


def _is_mask_word(word: str) -> bool:
    return lexicon.among(word, "masks", "strong", "weak", "lung", "right", "left", "other")


def _role(group: _Group, shared: frozenset[str]) -> str:
    """Return lungs, right, left or other: what a group's words say that its masks show.

    Folders above the first one with a mask's name say what the images show, not the masks; words of names that images share (`shared`)
    likewise.
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
    """Tell whether a name, or one of its words, stands under one of the kinds of mask words."""
    return any(
        lexicon.among(word, "masks", *kinds) for word in (name, *lexicon.spaced(name).split())
    )


def _judged(group: _Group, budget: _Budget) -> tuple[list[File], list[File]]:
    """Return the files of a group that are label images, and those that are not."""
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


# ---------------------------------------------------------------------------------------------------------------------------- pairs


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
    seen = [budget.seen[file.path] for file in group.files if file.path in budget.seen]
    told = [it for it in seen if it.kind == "label"]
    return not told or sum(it.lungs for it in told) * 2 >= len(told)


def _pair(group: _Group, role: str, pairing: Pairing, masks: Masks, evidence: Evidence) -> None:
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


class Pairing:
    """Find the image of a mask: by its name without mask words, among several by the folders that both share."""

    def __init__(self, images: Sequence[File]) -> None:
        self.exact: dict[str, list[File]] = defaultdict(list)
        self.reduced: dict[str, list[File]] = defaultdict(list)
        for file in images:
            self.exact[file.stem.casefold()].append(file)
            self.reduced[_reduced(file.stem)].append(file)

    def images(self, mask: File) -> list[str]:
        """Return the paths of the image or images that fit best; none where no name fits."""
        stem = mask.stem.casefold()
        for table, name in (
            (self.exact, stem),
            (self.exact, _without_affix(stem)),
            (self.reduced, _reduced(stem)),
        ):
            if found := table.get(name):
                return self._nearest(mask, found)
        longer = [file for name, files in self._with_channel(stem) for file in files]
        return self._nearest(mask, longer) if longer else []

    def _with_channel(self, stem: str) -> list[tuple[str, list[File]]]:
        """Return images named as nnU-Net does: the mask's name and a channel's number behind it."""
        return [(name, self.exact[name]) for name in (f"{stem}_0000",) if name in self.exact]

    def _nearest(self, mask: File, images: Sequence[File]) -> list[str]:
        if len(images) == 1:
            return [images[0].path]
        wanted = _folder_key(mask.folder)

        def shared(file: File) -> tuple[int, int]:
            held = _folder_key(file.folder)
            return sum(name in held for name in wanted), -sum(name not in wanted for name in held)

        best = max(map(shared, images))
        return [file.path for file in images if shared(file) == best]


@cache
def _folder_key(folder: str) -> tuple[str, ...]:
    """Return the names of a path without words for masks or images: ("normal",) of images/Normal and of Normal_masks."""
    kept = []
    for name in filter(None, folder.split("/")):
        if not (_is_mask_word(name) or lexicon.among(name, "masks", "image")):
            words = [
                word
                for word in lexicon.spaced(name).split()
                if not lexicon.among(word, "masks", "strong", "image")
            ]
            kept += [" ".join(words)] if words else []
    return tuple(kept)


def _without_affix(stem: str) -> str:
    """Return a name without the mask words at its ends, its own separators kept."""
    prefix, suffix = _affix(stem)
    for part in filter(None, suffix.split("_")[::-1]):
        stem = re.sub(rf"[\W_]*{re.escape(part)}$", "", stem, flags=re.IGNORECASE)
    for part in filter(None, prefix.split("_")):
        stem = re.sub(rf"^{re.escape(part)}[\W_]*", "", stem, flags=re.IGNORECASE)
    return stem


def _reduced(stem: str) -> str:
    """Return a name's parts without any word for masks or images; the whole name where nothing would be left."""
    tokens = _TOKEN.findall(stem.casefold())
    kept = [
        token
        for token in tokens
        if not (_is_mask_word(token) or lexicon.among(token, "masks", "image"))
    ]
    return " ".join(kept or tokens)


# ------------------------------------------------------------------------------------------------------------------- from hilum.toml


def _by_settings(
    files: Sequence[File], settings: Settings, evidence: Evidence
) -> tuple[Masks, list[File]]:
    """Take masks by the patterns of hilum.toml: "{stem}" and "{folder}" are an image's own, "*" is anything."""
    masks = Masks()
    # Masks of one side or of something else often lie below those of both lungs, so the pattern of both is tried last.
    roles = {
        "right": settings.right_masks,
        "left": settings.left_masks,
        "other": settings.other_masks,
        "lungs": settings.masks or (),
    }
    role_of: dict[str, str] = {}
    for role, patterns in roles.items():
        globs = [re.sub(r"\{(stem|folder)\}", "*", pattern) for pattern in patterns]
        for file in files:
            if file.path not in role_of and any(
                fnmatchcase(file.path.casefold(), glob.casefold()) for glob in globs
            ):
                role_of[file.path] = role
    images = [file for file in files if file.path not in role_of]
    masks.files = set(role_of)
    pairing, held = Pairing(images), {file.path: file for file in files}
    for role in SIDES:
        for pattern in (pattern for pattern in roles[role] if "{stem}" in pattern):
            for image in images:
                place = (
                    pattern.replace("{stem}", image.stem)
                    .replace("{folder}", image.folder)
                    .lstrip("/")
                )
                if role_of.get(place) == role:
                    masks.of.setdefault(image.path, {}).setdefault(role, place)
    used = {place for found in masks.of.values() for place in found.values()}
    for role in SIDES:
        rest = [held[path] for path, given in role_of.items() if given == role and path not in used]
        free = [pattern for pattern in roles[role] if "{stem}" not in pattern]
        if free and rest:
            _pair(
                _Group(shown(free), ("", ""), rest, "strong", role), role, pairing, masks, evidence
            )
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


def patterns(masks: Masks) -> Mapping[str, tuple[str, ...]]:
    """Write which files are masks as patterns for hilum.toml."""
    named: dict[str, list[str]] = {"lungs": [], "right": [], "left": [], "other": []}
    for pattern, _, role in masks.groups:
        named["other" if role == "unclear" else role].append(pattern)
    return {
        "masks": tuple(named["lungs"]),
        "right_masks": tuple(named["right"]),
        "left_masks": tuple(named["left"]),
        "other_masks": tuple(named["other"]),
    }
