"""Lung labels of an image from its mask files, the same for cache, exports and audit.

A mask file is a label image (`hilum.imaging.files.label_image`). The meaning of its values is
stated by the column `mask_values` of the manifest's table, else is what the masks of its folder
agree on, else follows from its own regions. A mask of another size than its image is scaled where
both have the same proportions, and refused otherwise.

Labels are uint8 (height, width), see `hilum.annotations.lung_masks`: 0 outside, 1 right, 2 left,
255 (`lung_masks.IGNORE`) for pixels to ignore.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from hilum.annotations import lung_masks
from hilum.dataset.manifest import DISPLAY, Manifest
from hilum.errors import BadData
from hilum.imaging.files import dicom, image_file, label_image
from hilum.imaging.files.label_image import Consensus, LabelImage, Settled
from hilum.imaging.files.pose import AS_READ, Display
from hilum.imaging.geometry import Size, resize
from hilum.safety.untrusted_files import Folder, parse_json

# The columns of mask files, each with the side that its masks are of.
COLUMNS = {
    "lung_mask": None,
    "right_lung_mask": lung_masks.RIGHT,
    "left_lung_mask": lung_masks.LEFT,
}
VALUES = "mask_values"
VOTERS = 32  # masks of a group that decide on the meaning of its values
_FOLDER = 8  # masks of a folder that forms a group of its own; smaller folders form one together
_PROPORTIONS = 0.01  # relative difference of the scales of height and width, at most
_BOTH = 3
_ROLE = {
    "none": 0,
    "heart": 0,
    "right": lung_masks.RIGHT,
    "left": lung_masks.LEFT,
    "lungs": _BOTH,
    "ignore": lung_masks.IGNORE,
}
NAMES = {_BOTH: "lungs", lung_masks.RIGHT: "right_lung", lung_masks.LEFT: "left_lung"}
ToDisplay = Callable[[np.ndarray], np.ndarray]

INVERTED, UNLIKE, SOFT = "inverted", "background unlike its folder", "soft edges"
LABEL_MAP, SCALED = "label map", "scaled from "


@dataclass(frozen=True)
class MaskFile:
    """One mask file of an image, at the image file's own size, and what its labels stand for."""

    column: str
    place: str  # below the manifest's root
    image: LabelImage
    settled: Settled
    scaled_from: Size | None  # the mask's own size, where it is another than the image's

    def labels(self, pose: ToDisplay | None = None) -> np.ndarray:
        """Return lung labels in the file's own pixels, or with `pose` in display orientation."""
        found, side = _posed(self.image, pose).numbers, COLUMNS[self.column]
        found = self._roles[found]
        if side is not None:
            return _of_side(found, side)
        both = found == _BOTH
        return np.where(both, lung_masks.split_left_right(both), found) if both.any() else found

    def named(self) -> dict[str, np.ndarray]:
        """Return bool masks in the file's own pixels by name: lungs, right_lung, left_lung.

        An empty mask is returned as well, under the name of its column.
        """
        found, side = self._roles[self.image.numbers], COLUMNS[self.column]
        if side is not None:
            return {NAMES[side]: _of_side(found, side) == side}
        masks = {name: found == label for label, name in NAMES.items() if (found == label).any()}
        return masks or {NAMES[_BOTH]: np.zeros(found.shape, bool)}

    @property
    def others(self) -> str:
        """Return the values of other organs or of pixels to ignore, as "3=heart 255=ignore"."""
        named = (
            f"{key}={role}" for key, role in self._but_background() if role not in label_image.LUNGS
        )
        return " ".join(named)

    @property
    def form(self) -> str:
        """Return the form of the file as words of the cache's index, separated by "; ".

        "binary" or "label map 1=right 2=left 3=heart"; "inverted"; "background unlike its folder";
        "palette", "alpha" or "colour"; "soft edges"; "scaled from HxW".
        """
        image, settled = self.image, self.settled
        words = ["binary"]
        if len(image.keys) > 2 or not set(settled.roles.values()) <= {"none", "lungs"}:
            named = (f"{key}={role}" for key, role in self._but_background())
            words = [" ".join([LABEL_MAP, *named])]
        words += [INVERTED] if settled.inverted else []
        words += [UNLIKE] if settled.unlike else []
        words += [image.form] if image.form != "grey" else []
        words += [SOFT] if image.soft else []
        words += [f"{SCALED}{'x'.join(map(str, self.scaled_from))}"] if self.scaled_from else []
        return "; ".join(words)

    @property
    def _roles(self) -> np.ndarray:
        """Return uint8 by number of the label image: a lung label, `_BOTH`, 0 or IGNORE."""
        return np.array([_ROLE[self.settled.roles[key]] for key in self.image.keys], np.uint8)

    def _but_background(self) -> list[tuple[str, str]]:
        """Return values and their roles without the most frequent value that is no organ."""
        roles, keys = self.settled.roles, self.image.keys
        count = np.bincount(self.image.numbers.ravel(), minlength=len(keys)).tolist()
        none = [at for at, key in enumerate(keys) if roles[key] == "none"]
        ground = max(none, key=lambda at: count[at]) if none else None
        return [(key, roles[key]) for at, key in enumerate(keys) if at != ground]


def groups(manifest: Manifest) -> dict[str, str]:
    """Return the group in which each mask file votes on the meaning of values, by its path.

    A group is the files of one column in one folder. Folders with few masks, such as one per
    patient, form one group for each data set and column.
    """
    placed = list(_placed(manifest))
    sizes = Counter(group for *_, group in placed)
    return {
        place: group if sizes[group] >= _FOLDER else f"{dataset}:{column}"
        for dataset, column, place, group in placed
    }


def _placed(manifest: Manifest) -> Iterable[tuple[str, str, str, str]]:
    """Yield data set, column, path and name of the folder's group of each mask file."""
    for column in COLUMNS:
        for dataset, place in manifest.table.select("dataset", column).iter_rows():
            if place is not None:
                yield dataset, column, place, f"{dataset}:{column}:{PurePosixPath(place).parent}"


class Voter(NamedTuple):
    """A mask that decides on the meaning of values, and its image, as a correction displays it."""

    place: str
    image: str
    display: Display


def voters(manifest: Manifest) -> dict[str, list[Voter]]:
    """Return the voting masks by group, evenly spread over it."""
    of_group: dict[str, dict[str, Voter]] = {}
    group_of = groups(manifest)
    inferred = manifest.table.filter(manifest.table[VALUES].is_null())
    for column in COLUMNS:
        masked = inferred.select(column, "path", *DISPLAY).drop_nulls(column)
        for row in masked.iter_rows(named=True):
            place = row[column]
            voter = Voter(place, row["path"], Display.of(row))
            of_group.setdefault(group_of[place], {})[place] = voter
    chosen = {}
    for group, members in of_group.items():
        places = sorted(members)
        some = np.unique(np.linspace(0, len(places) - 1, min(VOTERS, len(places))).round())
        chosen[group] = [members[places[int(at)]] for at in some]
    return chosen


def agreed(folder: Folder, members: Iterable[Voter]) -> Consensus:
    """Return the meaning of values that these masks agree on; unreadable masks have no vote."""
    meanings = []
    for place, image, display in members:
        try:
            labels = _as_displayed(
                label_image.read(*folder.located(place)), *folder.located(image), display
            )
        except BadData:
            continue  # reported when the mask is read for its own image
        meanings.append(label_image.meaning(labels))
    return label_image.consensus(meanings)


def _as_displayed(
    labels: LabelImage, path: Path, root: Path | None, display: Display
) -> LabelImage:
    """Return a mask of the image at `path` in display orientation."""
    if display == AS_READ and not dicom.is_one(path, root):
        return labels
    pose = image_file.pose(path, root, display)
    return _posed(fitted(labels, pose.source, labels.path), pose.mask)


def _posed(labels: LabelImage, pose: ToDisplay | None) -> LabelImage:
    return labels if pose is None else replace(labels, numbers=pose(labels.numbers))


class Meanings:
    """The meanings of mask values by group, computed when first requested."""

    def __init__(self, manifest: Manifest, known: Mapping[str, Consensus] | None = None) -> None:
        manifest = manifest.stored()
        self._folder, self._group_of, self._voters = (
            manifest.folder,
            groups(manifest),
            voters(manifest),
        )
        self._known = dict(known or {})

    def of(self, place: str) -> Consensus:
        """Return the consensus of the group of the mask at `place` below the root."""
        group = self._group_of.get(place)
        if group is None or group not in self._voters:
            return Consensus()
        if group not in self._known:
            self._known[group] = agreed(self._folder, self._voters[group])
        return self._known[group]


def read(
    folder: Folder,
    image: Mapping[str, str | None],
    size: Size,
    agreed_on: Callable[[str], Consensus],
    pose: ToDisplay | None = None,
) -> list[MaskFile]:
    """Read all mask files of a row of the table.

    `size` is (height, width) of the image file's own pixels; `pose` brings a mask of them to
    display orientation. Raises `BadData` naming the mask and what to do.
    """
    stated, found = _stated_roles(image), []
    for column in COLUMNS:
        if (place := image[column]) is not None:
            labels = replace(label_image.read(*folder.located(place)), path=place)
            fit = fitted(labels, size, place)
            settled = label_image.settled(_posed(fit, pose), agreed_on(place), stated)
            own = labels.numbers.shape
            found.append(MaskFile(column, place, fit, settled, None if own == size else own))
    return found


def _stated_roles(image: Mapping[str, str | None]) -> dict[str, str] | None:
    """Return the roles of values that a row of the table states, or None."""
    text = image.get(VALUES)
    if text is None:
        return None
    stated = parse_json(text, f"{image['path']}: mask_values")
    if not isinstance(stated, dict):
        raise BadData(
            f"{image['path']}: mask_values is {text[:80]}; expected roles by value, for example "
            '{"0": "none", "1": "right", "2": "left"}'
        )
    return label_image.roles_from_toml(stated)


def fitted(labels: LabelImage, size: Size, place: str) -> LabelImage:
    """Return a mask at the size of its image. Raises `BadData` for other proportions."""
    own = labels.numbers.shape
    if own == size:
        return labels
    if not same_proportions(own, size):
        raise BadData(
            f"{place}: mask of {own[0]}x{own[1]} pixels for an image of {size[0]}x{size[1]}, which "
            "has other proportions; export the mask again in its image's size, and check that it "
            "is this image's mask"
        )
    return replace(labels, numbers=resize(labels.numbers, size, labels=True))


def same_proportions(mask: Size, image: Size) -> bool:
    """Return whether sizes differ in scale alone: to 1 %, or to a pixel, for rounding."""
    down, across = image[0] / mask[0], image[1] / mask[1]
    if abs(down - across) < _PROPORTIONS * max(down, across):
        return True
    return abs(mask[1] - image[1] / down) <= 1 or abs(mask[0] - image[0] / across) <= 1


def _of_side(found: np.ndarray, side: int) -> np.ndarray:
    """Return the labels of a file of one lung: all lung but what is the other side's is `side`."""
    inside = (found == side) | (found == _BOTH)
    return np.where(
        inside, np.uint8(side), np.where(found == lung_masks.IGNORE, found, np.uint8(0))
    )


def together(masks: Iterable[MaskFile], size: Size, pose: ToDisplay | None = None) -> np.ndarray:
    """Return the labels of all mask files of an image; one-sided files take precedence."""
    labels = np.zeros(size, np.uint8)
    for mask in masks:
        found = mask.labels(pose)
        labels[found != 0] = found[found != 0]
    return labels
