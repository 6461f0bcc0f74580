"""The lungs of an image as its mask files have them: the same for the cache, exports and audit.

A mask file is a label image (`hilum.imaging.files.label_image`). What its values stand for is said by the
column `mask_values` of the manifest's table, else by what the masks of its folder agree on, else by
its own shapes. A mask of another size than its image is scaled where both have the same
proportions, and refused where they have not.

Labels are uint8 (height, width), see `hilum.annotations.lung_masks`: 0 outside, 1 right, 2 left, 255
(`lungs.UNKNOWN`) where the mask says to ignore.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from hilum.annotations import lung_masks
from hilum.dataset.manifest import Manifest
from hilum.errors import BadData
from hilum.imaging.files import dicom, image_file, label_image
from hilum.imaging.files.label_image import Consensus, LabelImage, Settled
from hilum.imaging.geometry import Size, resize
from hilum.safety.untrusted_files import Folder, parse_json

COLUMNS = {
    "lung_mask": None,
    "right_lung_mask": lung_masks.RIGHT,
    "left_lung_mask": lung_masks.LEFT,
}  # and the side of each
VALUES = "mask_values"
VOTERS = 32  # masks of a folder that say what its values stand for
_FOLDER = 8  # masks from which a folder is asked alone; smaller ones are asked together
_PROPORTIONS = 0.01  # by which height and width may be scaled differently
_BOTH = 3
_ROLE = {
    "none": 0,
    "heart": 0,
    "right": lung_masks.RIGHT,
    "left": lung_masks.LEFT,
    "lungs": _BOTH,
    "ignore": lung_masks.IGNORE,
}
NAMES = {
    _BOTH: "lungs",
    lung_masks.RIGHT: "right_lung",
    lung_masks.LEFT: "left_lung",
}  # of what a mask shows
Pose = Callable[[np.ndarray], np.ndarray]

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

    def labels(self, pose: Pose | None = None) -> np.ndarray:
        """Lung labels in the file's own pixels, or with `pose` as the radiograph stands."""
        found, side = _posed(self.image, pose).numbers, COLUMNS[self.column]
        found = self._roles[found]
        if side is not None:
            return _of_side(found, side)
        both = found == _BOTH
        return np.where(both, lung_masks.split_left_right(both), found) if both.any() else found

    def named(self) -> dict[str, np.ndarray]:
        """Bool masks in the file's own pixels by name: lungs, right_lung, left_lung.

        An empty mask is there too, under the name of its column.
        """
        found, side = self._roles[self.image.numbers], COLUMNS[self.column]
        if side is not None:
            return {NAMES[side]: _of_side(found, side) == side}
        masks = {name: found == label for label, name in NAMES.items() if (found == label).any()}
        return masks or {NAMES[_BOTH]: np.zeros(found.shape, bool)}

    @property
    def others(self) -> str:
        """Values that stand for another organ or are to be ignored, as "3=heart 255=ignore"."""
        named = (
            f"{key}={role}" for key, role in self._but_background() if role not in label_image.LUNGS
        )
        return " ".join(named)

    @property
    def form(self) -> str:
        """What the file is like, in words that stand in the cache's index, separated by "; ".

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
        """uint8 by number: a lung label, `_BOTH`, 0 or `lungs.UNKNOWN`."""
        return np.array([_ROLE[self.settled.roles[key]] for key in self.image.keys], np.uint8)

    def _but_background(self) -> list[tuple[str, str]]:
        """Values and their roles, without the most frequent value that is no organ."""
        roles, keys = self.settled.roles, self.image.keys
        count = np.bincount(self.image.numbers.ravel(), minlength=len(keys)).tolist()
        none = [at for at, key in enumerate(keys) if roles[key] == "none"]
        ground = max(none, key=lambda at: count[at]) if none else None
        return [(key, roles[key]) for at, key in enumerate(keys) if at != ground]


# ------------------------------------------------------------------------------ what folders say


def groups(manifest: Manifest) -> dict[str, str]:
    """The set of masks that each mask file votes with, by its place below the root.

    Files of one column in one folder; those of folders with few masks, as of one patient each,
    vote together with the others of their data set.
    """
    placed = list(_placed(manifest))
    sizes = Counter(group for *_, group in placed)
    return {
        place: group if sizes[group] >= _FOLDER else f"{dataset}:{column}"
        for dataset, column, place, group in placed
    }


def _placed(manifest: Manifest) -> Iterable[tuple[str, str, str, str]]:
    for column in COLUMNS:
        for dataset, place in manifest.table.select("dataset", column).iter_rows():
            if place is not None:
                yield dataset, column, place, f"{dataset}:{column}:{PurePosixPath(place).parent}"


def voters(manifest: Manifest) -> dict[str, list[tuple[str, str]]]:
    """Place of the mask and of its image, of the masks that vote in each group: evenly spread."""
    of_group: dict[str, dict[str, str]] = {}
    group_of = groups(manifest)
    inferred = manifest.table.filter(manifest.table[VALUES].is_null())
    for column in COLUMNS:
        for place, image in inferred.select(column, "path").iter_rows():
            if place is not None:
                of_group.setdefault(group_of[place], {})[place] = image
    chosen = {}
    for group, members in of_group.items():
        places = sorted(members)
        some = np.unique(np.linspace(0, len(places) - 1, min(VOTERS, len(places))).round())
        chosen[group] = [(places[int(at)], members[places[int(at)]]) for at in some]
    return chosen


def agreed(folder: Folder, members: Iterable[tuple[str, str]]) -> Consensus:
    """What the values of these masks stand for. Masks that cannot be read have no vote."""
    meanings = []
    for place, image in members:
        try:
            labels = _as_the_radiograph_stands(
                label_image.read(*folder.located(place)), *folder.located(image)
            )
        except BadData:
            continue  # reading the mask for its own image reports the fault
        meanings.append(label_image.meaning(labels))
    return label_image.consensus(meanings)


def _as_the_radiograph_stands(labels: LabelImage, path: Path, root: Path | None) -> LabelImage:
    """A mask drawn on the image at `path`; only a DICOM file's own pixels can lie another way."""
    if not dicom.is_one(path, root):
        return labels
    file = dicom.read(path, root)
    fit = fitted(labels, image_file.own_size(file), labels.path)
    return _posed(fit, lambda own: image_file.to_display(file, own))


def _posed(labels: LabelImage, pose: Pose | None) -> LabelImage:
    return labels if pose is None else replace(labels, numbers=pose(labels.numbers))


class Meanings:
    """What the folders of a manifest agree on, worked out when it is first asked for."""

    def __init__(self, manifest: Manifest, known: Mapping[str, Consensus] | None = None) -> None:
        manifest = manifest.stored()
        self._folder, self._group_of, self._voters = (
            manifest.folder,
            groups(manifest),
            voters(manifest),
        )
        self._known = dict(known or {})

    def of(self, place: str) -> Consensus:
        """The consensus for the mask at `place` below the root."""
        group = self._group_of.get(place)
        if group not in self._voters:
            return Consensus()
        if group not in self._known:
            self._known[group] = agreed(self._folder, self._voters[group])
        return self._known[group]


# --------------------------------------------------------------------------------------- one image


def read(
    folder: Folder,
    image: Mapping[str, Any],
    size: Size,
    agreed_on: Callable[[str], Consensus],
    pose: Pose | None = None,
) -> list[MaskFile]:
    """Read all mask files of a row of the table.

    `size` (height, width) is that of the image file's own pixels, `pose` brings a mask drawn on
    them to the standard view. Raises `BadData` naming the mask and what to do.
    """
    said, found = _said(image), []
    for column in COLUMNS:
        if (place := image[column]) is not None:
            labels = replace(label_image.read(*folder.located(place)), path=place)
            fit = fitted(labels, size, place)
            settled = label_image.settled(_posed(fit, pose), agreed_on(place), said)
            own = labels.numbers.shape
            found.append(MaskFile(column, place, fit, settled, None if own == size else own))
    return found


def _said(image: Mapping[str, Any]) -> dict[str, str] | None:
    """Roles of values that the table gives."""
    text = image.get(VALUES)
    if text is None:
        return None
    said = parse_json(text, f"{image['path']}: mask_values")
    if not isinstance(said, dict):
        raise BadData(
            f"{image['path']}: mask_values is {text[:80]}; expected roles by value, for example "
            '{"0": "none", "1": "right", "2": "left"}'
        )
    return label_image.roles_from_toml(said)


def fitted(labels: LabelImage, size: Size, place: str) -> LabelImage:
    """A mask at its image's size. Raises `BadData` where it has other proportions."""
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
    """Whether a mask is its image scaled: to 1 %, or to the pixel that rounding may take."""
    down, across = image[0] / mask[0], image[1] / mask[1]
    if abs(down - across) < _PROPORTIONS * max(down, across):
        return True
    return abs(mask[1] - image[1] / down) <= 1 or abs(mask[0] - image[0] / across) <= 1


def _of_side(found: np.ndarray, side: int) -> np.ndarray:
    """Of a file of one lung: all that is lung, but what is said to be the other one."""
    inside = (found == side) | (found == _BOTH)
    return np.where(
        inside, np.uint8(side), np.where(found == lung_masks.IGNORE, found, np.uint8(0))
    )


def together(masks: Iterable[MaskFile], size: Size, pose: Pose | None = None) -> np.ndarray:
    """Lung labels of all mask files of an image; a file of one side goes before one of both."""
    labels = np.zeros(size, np.uint8)
    for mask in masks:
        found = mask.labels(pose)
        labels[found != 0] = found[found != 0]
    return labels
