"""Cache of preprocessed images and masks of one size, with facts on their files and checksums.

A cache is a folder named by the recipe of its pixels and the version of the code. Labels, splits
and filters do not change it:

    images.u8       uint8 (n, size, size), letterboxed, bright is dense; black for an unreadable
                    image
    images.u16      in its place for 16 bits: uint16, little-endian, 65535 is white
    masks.u8        uint8 (n, size, size): 0 outside, 1 right lung, 2 left; 0 without a usable mask
                    and where a mask is to be ignored. From mask files, else from lungs among
                    `Manifest.shapes`
    index.parquet   one row per image with the columns FACTS; written when the cache is complete
    meanings.json   meaning of the values of each folder's masks, see `hilum.dataset.mask_files`
    journal.sqlite  the same facts while the cache is filled (`hilum.scale.journal`), each after its
                    image's pixels

Masks of one lung alone are in masks.u8 as they are. They are not among `Cache.with_mask`, on which
segmenters are trained and evaluated. A loss that can ignore pixels may also use
`Cache.with_part_of_mask`, with the labels of `Cache.known_masks`: 255 where the other lung may be,
and where a mask is to be ignored.

The columns of the index, FACTS:

    image_id           str
    row                int    of the image in images.u8 and masks.u8
    signature          str?   size and time of the files, and the drawn shapes, by which changes are
                              detected; null: read the file again
    error              str?   why the image could not be read; null: it could
    file_digest        str?
    pixel_digest       str?
    height, width      int?   pixels of the file
    kind               str?   PNG, JPEG, TIFF, BMP, GIF or DICOM, by the file's bytes
    colour             bool?  its channels differ, see `hilum.imaging.files.raster`
    bits               int?
    minimum, maximum   int?
    fingerprint        str?   by which copies are found, see `hilum.imaging.perceptual_hash`; null:
                              the image is uniform
    mask_error         str?   why the mask is not used; null: it is, or there is none
    mask_value_count   int?   different values in the mask files; 2 for lungs from shapes
    mask_form          str?   `hilum.dataset.mask_files.MaskFile.form`; null: no mask files
    mask_ignored       str?   cached pixels to ignore, as COCO's compressed run lengths; null: none
    right_pixels, left_pixels
                       int?   area of the lungs in the file's own pixels
    header_text        str?   what a DICOM header states of burned-in text and names, see
                              `hilum.imaging.files._dicom_burned_in`, separated by commas; null: no
                              DICOM file
    text_words         int?   words in the image but for side markers, see
                              `hilum.imaging.burned_in_text`; null: not read
    text_longest       int?   letters of the longest of these words
    text_fraction      float? fraction of the image that they cover
    cached_digest      str    of the cached image and mask, see `digest_of_images`
    image_crc32, mask_crc32
                       int    of the cached image and mask, checked when they are first read
    facts_crc32        int    of all columns above, see `facts_crc32`
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from hilum import storage
from hilum.annotations import lung_masks, shapes
from hilum.dataset.manifest import Manifest
from hilum.errors import CannotRead, Damaged, NotFound
from hilum.imaging.image_stack import AsUint8, Checksums, ImageStack
from hilum.safety import addresses, threads
from hilum.safety.path_names import path_of
from hilum.storage import integrity

FACTS = {
    "image_id": pl.String,
    "row": pl.Int64,
    "signature": pl.String,
    "error": pl.String,
    "file_digest": pl.String,
    "pixel_digest": pl.String,
    "height": pl.Int64,
    "width": pl.Int64,
    "kind": pl.String,
    "colour": pl.Boolean,
    "bits": pl.Int64,
    "minimum": pl.Int64,
    "maximum": pl.Int64,
    "fingerprint": pl.String,
    "mask_error": pl.String,
    "mask_value_count": pl.Int64,
    "mask_form": pl.String,
    "mask_ignored": pl.String,
    "right_pixels": pl.Int64,
    "left_pixels": pl.Int64,
    "header_text": pl.String,
    "text_words": pl.Int64,
    "text_longest": pl.Int64,
    "text_fraction": pl.Float64,
    "cached_digest": pl.String,
    "image_crc32": pl.Int64,
    "mask_crc32": pl.Int64,
    "facts_crc32": pl.Int64,
}
OF_FILES = ("signature", "facts_crc32")  # differ between copies of the same data
IMAGES = {8: "images.u8", 16: "images.u16"}  # by depth
MASKS, INDEX = "masks.u8", "index.parquet"
TYPES = {8: np.dtype("u1"), 16: np.dtype("<u2")}
_CHECKED_AT_ONCE = 64  # images in memory while a cache is verified
Fact = str | int | float | bool | None


class _StoredRow(NamedTuple):
    """The columns of the index by which one row of a cache is verified."""

    image_id: str
    row: int
    cached_digest: str
    image_crc32: int
    mask_crc32: int
    file_digest: str | None


@dataclass(frozen=True)
class Cache:
    """A complete cache, as far as it concerns the images of one manifest.

    `index` has one row per image, in the order of the manifest, with the columns FACTS.
    """

    folder: Path
    size: int
    index: pl.DataFrame

    @classmethod
    def open(cls, folder: Path, size: int, manifest: Manifest) -> Cache:
        """Open the cache for the images of a manifest. Raises `NotFound` for an incomplete one."""
        if not (folder / INDEX).exists():
            raise NotFound(f"no finished cache in {folder}: fill it with `hilum cache`")
        index = manifest.table.select("image_id").join(
            storage.read_table(folder / INDEX), on="image_id", maintain_order="left"
        )
        return cls(folder, size, index)

    @cached_property
    def depth(self) -> int:
        """Return the bits per pixel: 8 or 16."""
        return next((depth for depth, name in IMAGES.items() if (self.folder / name).exists()), 8)

    @cached_property
    def stored(self) -> ImageStack:
        """Return the images as stored: uint8 or uint16 (n, size, size)."""
        return self._stack(IMAGES[self.depth], "image_crc32", TYPES[self.depth])

    @cached_property
    def images(self) -> ImageStack | AsUint8:
        """Return the images as uint8 (n, size, size), whatever they are stored as."""
        return self.stored if self.depth == 8 else AsUint8(self.stored)

    @cached_property
    def masks(self) -> ImageStack:
        """Return the masks: uint8 (n, size, size), 0 outside, 1 right lung, 2 left."""
        return self._stack(MASKS, "mask_crc32", np.dtype("u1"))

    def _stack(self, file: str, column: str, dtype: np.dtype) -> ImageStack:
        again = f"`hilum cache {shlex.quote(str(self.folder.parents[1]))}` reads its file again"
        sums = Checksums.of(self.index["row"], self.index[column], again)
        return ImageStack(self.folder / file, self.size, dtype, sums)

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        return dict(zip(self.index["image_id"], self.index["row"], strict=True))

    def rows(self, image_ids: Iterable[str]) -> np.ndarray:
        """Return the int64 rows of `images` and `masks`, in the order of `image_ids`."""
        return np.fromiter((self._rows[image_id] for image_id in image_ids), np.int64)

    @property
    def readable(self) -> pl.DataFrame:
        """Return the index of the images that could be read."""
        return self.index.filter(pl.col("error").is_null())

    @property
    def with_mask(self) -> pl.DataFrame:
        """Return the index of images with masks of both lungs, for training and evaluation.

        A mask of one lung alone would train the other lung as background.
        """
        return self.readable.filter(
            pl.col("mask_error").is_null()
            & (pl.col("right_pixels") > 0)
            & (pl.col("left_pixels") > 0)
        )

    @property
    def with_part_of_mask(self) -> pl.DataFrame:
        """Return the index of images with a mask of one lung, for training with `known_masks`."""
        return self.readable.filter(
            pl.col("mask_error").is_null()
            & ((pl.col("right_pixels") > 0) != (pl.col("left_pixels") > 0))
        )

    @cached_property
    def known_masks(self) -> MasksWithIgnore:
        """Return the masks with 255 where the source states nothing."""
        ignored = self.index.filter(pl.col("mask_ignored").is_not_null()).select(
            "row", "mask_ignored"
        )
        return MasksWithIgnore(self.masks, dict(ignored.iter_rows()))

    @property
    def digest(self) -> str:
        """Return a digest of the index, equal for copies of the same data."""
        return storage.digest_of_table(self.index.drop(*OF_FILES))

    def damage(self) -> str:
        """Return which images and masks are not what was written, naming the first; "" for none."""
        rows = dict(zip(self.index["row"], self.index["image_id"], strict=True))
        faults = []
        try:
            for stack in (self.stored, self.masks):
                if damaged := stack.damaged_rows():
                    more = f" and {len(damaged) - 1:,} more" if len(damaged) > 1 else ""
                    faults.append(
                        f"{stack.path} does not hold what was written of {rows[damaged[0]]}{more}"
                    )
        except (Damaged, CannotRead) as fault:
            faults.append(str(fault))
        return "; ".join(faults)

    def mismatches(
        self, root: Path | None = None, paths: Mapping[str, str] | None = None
    ) -> Iterator[tuple[str, str]]:
        """Yield image and fault of rows that are not what was written, in the order of the index.

        With `root` and the images' `paths` below it, also of rows whose files have other bytes
        than those that were read, although size and time are the same.
        """
        paths = paths or {}
        columns = self.index.select(_StoredRow._fields)
        with threads.pool(2) as pool:
            for some in columns.iter_slices(_CHECKED_AT_ONCE):
                rows = [_StoredRow(*values) for values in some.iter_rows()]
                for row, fault in zip(rows, pool.map(self._fault_of, rows), strict=True):
                    if fault is None and root is not None and row.image_id in paths:
                        fault = _fault_of_file(root, paths[row.image_id], row.file_digest)
                    if fault:
                        yield row.image_id, fault

    def invalidate(self, image_ids: Iterable[str]) -> None:
        """Mark images in the index to be read again when the cache is filled next."""
        invalid = pl.col("image_id").is_in(list(image_ids))
        index = storage.read_table(self.folder / INDEX).with_columns(
            signature=pl.when(~invalid).then("signature")
        )
        sums = [facts_crc32(facts) for facts in index.iter_rows(named=True)]
        storage.write_table(
            self.folder / INDEX, index.with_columns(pl.Series("facts_crc32", sums, pl.Int64))
        )

    def _fault_of(self, written: _StoredRow) -> str | None:
        """Return how a row of images and masks differs from what was written, or None."""
        row = written.row
        stored, masks = self._unchecked
        if row >= min(len(stored), len(masks)):
            return f"row {row} is missing: the images' files end before it"
        if digest_of_images(stored[row], masks[row]) == written.cached_digest:
            return None
        sums = {stored: written.image_crc32, masks: written.mask_crc32}
        other = [
            stack.path.name for stack, crc in sums.items() if integrity.checksum(stack[row]) != crc
        ]
        return f"row {row} of {' and '.join(other) or 'both files'} does not hold what was written"

    @cached_property
    def _unchecked(self) -> tuple[ImageStack, ImageStack]:
        """Return the images and masks without verification of their checksums."""
        images = ImageStack(self.folder / IMAGES[self.depth], self.size, TYPES[self.depth])
        return images, ImageStack(self.folder / MASKS, self.size)


class MasksWithIgnore:
    """Masks with 255 where a source does not state whether there is lung, indexed like an array.

    These pixels are the side of the other lung in a mask of one lung alone, see
    `lung_masks.ignore_unlabelled_side`, and those of `ignored`: COCO's compressed run lengths by
    row. Items are uint8, (size, size) for an int key, else (n, size, size).
    """

    def __init__(
        self, masks: np.ndarray | ImageStack, ignored: Mapping[int, str] | None = None
    ) -> None:
        self.masks, self.shape, self.ndim, self.dtype = masks, masks.shape, 3, np.dtype(np.uint8)
        self._ignored = ignored or {}

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, key: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        found, rows = self.masks[key], np.arange(len(self))[key]
        if found.ndim == 2:
            return self._known(found, int(rows))
        if not len(found):
            return found
        pairs = zip(found, rows.tolist(), strict=True)
        return np.stack([self._known(one, row) for one, row in pairs])

    def _known(self, mask: np.ndarray, row: int) -> np.ndarray:
        known = lung_masks.ignore_unlabelled_side(mask)
        if row not in self._ignored:
            return known
        runs = shapes.RunLengths.from_coco({"size": mask.shape, "counts": self._ignored[row]})
        return np.where(runs.to_mask(mask.shape), np.uint8(lung_masks.IGNORE), known)


def digest_of_images(image: np.ndarray, mask: np.ndarray) -> str:
    """Return the digest of the bytes of a cached image and its mask."""
    return storage.content_digest(*(np.ascontiguousarray(one).data for one in (image, mask)))


def facts_crc32(facts: Mapping[str, Fact]) -> int:
    """Return the CRC-32 of the JSON list of an image's facts, in the order of FACTS.

    `facts_crc32` itself is left out.
    """
    values: list[Fact] = []
    for name, kind in FACTS.items():
        if name != "facts_crc32":
            value = facts[name]
            if kind == pl.Float64 and value is not None and not isinstance(value, str):
                value = float(value)  # 1 and 1.0 are one value of a table, but differ in JSON
            values.append(value)
    return integrity.checksum(storage.as_json(values).encode())


def _fault_of_file(root: Path, path: str, expected: str | None) -> str | None:
    """Return how a file differs from the one that was read, or None."""
    try:
        same = expected is None or storage.content_digest_of_file(path_of(root, path)) == expected
    except (CannotRead, NotFound) as error:
        return f"{path} cannot be opened ({addresses.without_root(str(error), root)})"
    if same:
        return None
    return f"{path} holds other bytes than those that were read, with the same size and time"
