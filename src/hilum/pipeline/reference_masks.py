"""Read the reference lung masks of a data set, in the pixels of each image's own file.

A reference mask comes from the mask files that the manifest names (`hilum.dataset.mask_files`), or,
for an image without one, from outlines in the manifest's table of shapes. The cache shrinks it, and
the evaluation measures predicted masks against it at full size.

Labels are uint8 (height, width) in the radiograph's display orientation, see
`hilum.annotations.lung_masks`: 0 background, 1 right lung, 2 left lung, 255 ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import polars as pl

from hilum import storage
from hilum.annotations import lung_masks, shapes
from hilum.dataset import mask_files
from hilum.dataset.manifest import Manifest
from hilum.errors import BadData, NotFound
from hilum.imaging.files import dicom, image_file, raster
from hilum.imaging.files.label_image import Consensus
from hilum.imaging.files.pose import AS_READ, Display
from hilum.safety.untrusted_files import Folder
from hilum.storage import integrity

COLUMNS = tuple(mask_files.COLUMNS)  # of the manifest's table: places of mask files
MEANINGS = "meanings.json"  # in a cache's folder: what the values of each folder's masks stand for

# A row of the manifest's table, with `drawn` as `images` adds it.
ImageRow = Mapping[str, Any]
MeaningOf = Callable[[str], Consensus]  # of a mask file, by its place below the root


class _Inferred(TypedDict):
    """What the values of a group's masks stand for, see `Consensus`; `files` is their digest."""

    files: str
    roles: dict[str, str]
    unsettled: Mapping[str, Mapping[str, int]]
    ground: str | None


class ReferenceLabels(NamedTuple):
    """Lung labels of one image, and how its mask files were understood.

    `value_count` and `form` are the columns `mask_value_count` and `mask_form` of
    `hilum.dataset.pixel_cache.FACTS`; null without a mask file.
    """

    labels: np.ndarray
    value_count: int | None = None
    form: str | None = None


def images(manifest: Manifest) -> Iterator[ImageRow]:
    """Yield the rows of `image_table`."""
    return image_table(manifest).iter_rows(named=True)


def image_table(manifest: Manifest) -> pl.DataFrame:
    """Return the manifest's table with `drawn`.

    `drawn` lists the lung outlines of an image without a mask file as
    [{concept, shape, source}]; null where there are none.
    """
    without_file = manifest.table.filter(
        pl.all_horizontal(pl.col(column).is_null() for column in COLUMNS)
    ).select("image_id")
    outlines = manifest.shapes.filter(pl.col("concept").is_in(list(lung_masks.REFERENCE))).join(
        without_file, on="image_id", how="semi", maintain_order="left"
    )
    by_image = outlines.group_by("image_id", maintain_order=True).agg(
        drawn=pl.struct("concept", "shape", "source")
    )
    return manifest.table.join(by_image, on="image_id", how="left", maintain_order="left")


def read(
    folder: Folder, image: ImageRow, file: raster.Raster | dicom.Dicom, meaning: MeaningOf
) -> ReferenceLabels:
    """Return the reference labels of an image, at the size of `file`, its decoded image file.

    Raises `BadData` where a mask or an outline cannot be used.
    """
    if image["drawn"]:
        return ReferenceLabels(_from_outlines(image["path"], image["drawn"], file), 2)
    return from_mask_files(folder, image, file, meaning)


def from_mask_files(
    folder: Folder, image: ImageRow, file: raster.Raster | dicom.Dicom, meaning: MeaningOf
) -> ReferenceLabels:
    """Return the labels of an image's mask files. Raises `BadData` naming a mask that is
    unusable.
    """

    def to_display(mask: np.ndarray) -> np.ndarray:
        """Bring a mask of the file's own pixels to display orientation."""
        return image_file.to_display(file, mask)

    masks = mask_files.read(folder, image, image_file.own_size(file), meaning, to_display)
    labels = mask_files.together(masks, file.values.shape, to_display)
    if not masks:
        return ReferenceLabels(labels)
    values = len({key for mask in masks for key in mask.image.keys})
    forms = dict.fromkeys(words for mask in masks for words in mask.form.split("; "))
    count = max(values, *(mask.image.distinct for mask in masks))
    return ReferenceLabels(labels, count, "; ".join(forms))


def _from_outlines(
    path: str, outlines: Sequence[Mapping[str, str]], file: raster.Raster | dicom.Dicom
) -> np.ndarray:
    """Return the labels of outlines; one that names its side takes precedence over one without."""
    size = image_file.own_size(file)
    read_shapes = [(one, shapes.from_json(one["shape"])) for one in outlines]
    faults = [
        f"{one['source']}: {fault}"
        for one, shape in read_shapes
        for fault in shapes.faults(shape, size)
    ]
    if faults:
        raise BadData.listing(
            f"{path}: the lungs drawn on it cannot be used; draw them again", faults
        )
    labels, unsided = np.zeros(file.values.shape, np.uint8), np.zeros(file.values.shape, bool)
    for one, shape in read_shapes:
        side = lung_masks.REFERENCE[one["concept"]]
        inside = image_file.to_display(file, shape.to_mask(size))
        if side is None:
            unsided |= inside
        else:
            labels[inside] = side
    return np.where(labels > 0, labels, lung_masks.split_left_right(unsided))


# ------------------------------------------------------------------------ meaning of mask values


def inferred_meanings(manifest: Manifest, folder: Path) -> mask_files.Meanings:
    """Return what the values of each folder's masks stand for, inferred where the masks are new.

    `folder`: the cache's, which keeps what was inferred.
    """
    before = _stored_meanings(folder)
    kept: dict[str, _Inferred] = {}
    for group, members in mask_files.voters(manifest).items():
        files = storage.digest(
            [state for voter in members for state in _states(manifest.folder, voter)]
        )
        one: _Inferred | None = before.get(group)
        if one is None or one["files"] != files:
            found = mask_files.agreed(manifest.folder, members)
            one = {
                "files": files,
                "roles": dict(found.roles),
                "unsettled": dict(found.unsettled),
                "ground": found.ground,
            }
        kept[group] = one
    if kept != before:
        sealed = integrity.sealed({"folders": {**before, **kept}})
        storage.write_json(folder / MEANINGS, sealed)
    return _meanings(manifest, kept)


def _states(folder: Folder, voter: mask_files.Voter) -> list[str]:
    """Return the states of a mask and its image, and how the image is displayed if not as read."""
    states = [file_state(folder, place) for place in (voter.place, voter.image)]
    return states if voter.display == AS_READ else [*states, str(voter.display)]


def stored_meanings(manifest: Manifest, folder: Path) -> mask_files.Meanings:
    """Return the meanings that the cache in `folder` was filled with."""
    return _meanings(manifest, _stored_meanings(folder))


def _meanings(manifest: Manifest, stored: Mapping[str, _Inferred]) -> mask_files.Meanings:
    known = {
        group: Consensus(one["roles"], one["unsettled"], one["ground"])
        for group, one in stored.items()
    }
    return mask_files.Meanings(manifest, known)


def _stored_meanings(folder: Path) -> dict[str, _Inferred]:
    """Read what was inferred before, by group; {} where the file is damaged, so it is inferred
    anew.
    """
    try:
        return integrity.read_sealed(folder / MEANINGS)["folders"]
    except (NotFound, BadData, KeyError):
        return {}


def file_state(folder: Folder, place: str | None) -> str:
    """Return the size and modification time of a file, by which a change of it is noticed."""
    try:
        state = folder.located(place)[0].stat() if place else None
    except OSError:
        return f"{place}=gone"
    return f"{place or ''}={f'{state.st_size}:{state.st_mtime_ns}' if state else ''}"


def signature(folder: Folder, image: ImageRow, meanings: mask_files.Meanings | None = None) -> str:
    """Return what changes whenever an image's cached pixels or mask may change."""
    parts = ["|".join(file_state(folder, image[column]) for column in ("path", *COLUMNS))]
    if (display := Display.of(image)) != AS_READ:
        parts.append(f"display={display}")
    if image["drawn"]:
        parts.append(f"drawn={storage.digest(image['drawn'])}")
    places = [image[column] for column in COLUMNS if image[column]]
    if image[mask_files.VALUES] is not None:
        parts.append(f"values={image[mask_files.VALUES]}")
    elif meanings is not None and places:
        agreed = [meanings.of(place) for place in places]
        words = [[dict(one.roles), dict(one.unsettled), one.ground] for one in agreed]
        parts.append(f"meaning={storage.digest(words)}")
    return "|".join(parts)
