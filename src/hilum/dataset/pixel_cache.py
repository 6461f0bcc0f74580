"""A filled cache: pictures of one size, what was seen of their files, and whether what is stored is still what was written.

A cache is a folder named by the pixels recipe and the code's version; labels, splits and filters do not touch it:

    images.u8       uint8 (n, size, size), letterboxed, bright is dense; a picture that could not be read is black
    images.u16      in its place where the recipe asks for 16 bits: uint16, little-endian, 65535 is white
    masks.u8        uint8 (n, size, size), 0 outside, 1 right lung, 2 left; 0 where there is no usable mask or it says to ignore; from
                    the mask files, or where an image has none from the lungs drawn on it (`Manifest.shapes`)
    index.parquet   one row an image, see FACTS; written when all are in
    meanings.json   what the values of each folder's masks stand for, see `hilum.dataset.mask_files`
    journal.jsonl   the same facts while it is being filled, one line an image, written after its pixels

Masks of one lung alone stand in masks.u8 as they were drawn. They are not among `Cache.with_mask`, by which lungs are learnt and measured. Who
can leave pixels out of a loss takes `Cache.with_part_of_mask` too, and labels from `Cache.known_masks`: 255 where the other lung may be,
and where a mask says to ignore its pixels.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hilum import storage
from hilum.annotations import lung_masks, shapes
from hilum.dataset.manifest import Manifest
from hilum.errors import CannotRead, Damaged, NotFound
from hilum.imaging.image_stack import AsUint8, Checksums, ImageStack
from hilum.safety import threads
from hilum.safety.path_names import path_of
from hilum.storage import integrity

FACTS = {
    "image_id": pl.String,
    "row": pl.Int64,  # in the pictures' files
    "signature": pl.String,  # size and time of the files and what is drawn, to see that they changed; null: read it again
    "error": pl.String,  # why the picture could not be read; null: it could
    "file_digest": pl.String,
    "pixel_digest": pl.String,
    "height": pl.Int64,  # of the file
    "width": pl.Int64,
    "kind": pl.String,  # PNG, JPEG, TIFF, BMP, GIF or DICOM, by the file's bytes
    "colour": pl.Boolean,  # its channels differ, see `hilum.imaging.files.raster`
    "bits": pl.Int64,
    "minimum": pl.Int64,
    "maximum": pl.Int64,
    "fingerprint": pl.String,  # to find copies by, see `hilum.imaging.perceptual_hash`; null: the picture shows nothing
    "mask_error": pl.String,  # why the mask is not used; null: it is, or there is none
    "mask_value_count": pl.Int64,  # number of different values in the mask files; 2 where the lungs are drawn
    "mask_form": pl.String,  # what was understood of the mask files, see `hilum.dataset.mask_files.MaskFile.form`; null: there are none
    "mask_ignored": pl.String,  # cached pixels that a mask says to ignore, as COCO's compressed run lengths; null: none
    "right_pixels": pl.Int64,  # of the lungs in the file's own pixels
    "left_pixels": pl.Int64,
    "header_text": pl.String,  # what a DICOM header tells of writing and names, see `hilum.imaging.files._dicom_burned_in`, by commas; null: another kind
    "text_words": pl.Int64,  # words read in the picture but a side marker's, see `hilum.imaging.burned_in_text`; null: not read
    "text_longest": pl.Int64,  # letters of the longest of them
    "text_share": pl.Float64,  # of the picture, that they cover
    "cached_digest": pl.String,  # of both cached pictures, see `digest_of_pictures`
    "image_crc32": pl.Int64,  # of the cached image, by which it is checked when it is first read
    "mask_crc32": pl.Int64,  # likewise of the cached mask
    "facts_crc32": pl.Int64,  # of all columns above, see `facts_crc32`
}
OF_FILES = ("signature", "facts_crc32")  # differ between copies of the same data
IMAGES = {8: "images.u8", 16: "images.u16"}  # by depth
MASKS, INDEX = "masks.u8", "index.parquet"
TYPES = {8: np.dtype("u1"), 16: np.dtype("<u2")}
_CHECKED_AT_ONCE = 64  # pictures in memory while a cache is verified


@dataclass(frozen=True)
class Cache:
    folder: Path
    size: int
    index: pl.DataFrame

    @classmethod
    def open(cls, folder: Path, size: int, manifest: Manifest) -> Cache:
        """The cache as far as it concerns the images of `manifest`; others that it holds are not seen."""
        if not (folder / INDEX).exists():
            raise NotFound(f"no finished cache in {folder}: fill it with `hilum cache`")
        index = manifest.table.select("image_id").join(
            storage.read_table(folder / INDEX), on="image_id", maintain_order="left"
        )
        return cls(folder, size, index)

    @cached_property
    def depth(self) -> int:
        """Bits of a pixel: 8 or 16."""
        return next((depth for depth, name in IMAGES.items() if (self.folder / name).exists()), 8)

    @cached_property
    def stored(self) -> ImageStack:
        """The pictures in the depth they are stored in: uint8 or uint16 (n, size, size)."""
        return self._stack(IMAGES[self.depth], "image_crc32", TYPES[self.depth])

    @cached_property
    def images(self) -> ImageStack | AsUint8:
        """The pictures as uint8 (n, size, size), whatever they are stored in."""
        return self.stored if self.depth == 8 else AsUint8(self.stored)

    @cached_property
    def masks(self) -> ImageStack:
        return self._stack(MASKS, "mask_crc32", np.dtype("u1"))

    def _stack(self, file: str, column: str, dtype: np.dtype) -> ImageStack:
        again = f"`hilum cache {shlex.quote(str(self.folder.parents[1]))}` reads its file again"
        sums = Checksums.of(self.index["row"], self.index[column], again)
        return ImageStack(self.folder / file, self.size, dtype, sums)

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        return dict(zip(self.index["image_id"], self.index["row"], strict=True))

    def rows(self, image_ids: Iterable[str]) -> np.ndarray:
        """int64 rows of `images` and `masks`, in the order of `image_ids`."""
        return np.fromiter((self._rows[image_id] for image_id in image_ids), np.int64)

    @property
    def readable(self) -> pl.DataFrame:
        return self.index.filter(pl.col("error").is_null())

    @property
    def with_mask(self) -> pl.DataFrame:
        """Images whose mask is fit to learn from and to measure by: a mask of one lung alone would teach that the other is background."""
        return self.readable.filter(
            pl.col("mask_error").is_null()
            & (pl.col("right_pixels") > 0)
            & (pl.col("left_pixels") > 0)
        )

    @property
    def with_part_of_mask(self) -> pl.DataFrame:
        """Images with a mask of one lung alone: to learn from by `known_masks`, never to measure by."""
        return self.readable.filter(
            pl.col("mask_error").is_null()
            & ((pl.col("right_pixels") > 0) != (pl.col("left_pixels") > 0))
        )

    @cached_property
    def known_masks(self) -> MasksWithIgnore:
        ignored = self.index.filter(pl.col("mask_ignored").is_not_null()).select(
            "row", "mask_ignored"
        )
        return MasksWithIgnore(self.masks, dict(ignored.iter_rows()))

    @property
    def digest(self) -> str:
        return storage.digest_of_table(self.index.drop(*OF_FILES))

    def damage(self) -> str:
        """Say which image or mask is not what was written, the first of each; "" where all are."""
        rows = dict(zip(self.index["row"], self.index["image_id"], strict=True))
        told = []
        try:
            for stack in (self.stored, self.masks):
                if damaged := stack.damaged_rows():
                    more = f" and {len(damaged) - 1:,} more" if len(damaged) > 1 else ""
                    told.append(
                        f"{stack.path} does not hold what was written of {rows[damaged[0]]}{more}"
                    )
        except (Damaged, CannotRead) as fault:
            told.append(str(fault))
        return "; ".join(told)

    def mismatches(
        self, root: Path | None = None, paths: Mapping[str, str] | None = None
    ) -> Iterator[tuple[str, str]]:
        """Images whose stored pictures are not those that were written, and what is wrong with each, in the index's order.

        With `root` and the images' `paths` below it, also those whose files are not those that were read, although their size and
        time say so.
        """
        paths = paths or {}
        columns = self.index.select(
            "image_id", "row", "cached_digest", "image_crc32", "mask_crc32", "file_digest"
        )
        with threads.pool(2) as pool:
            for some in columns.iter_slices(_CHECKED_AT_ONCE):
                rows = list(some.iter_rows(named=True))
                for row, wrong in zip(rows, pool.map(self._wrong_with, rows), strict=True):
                    if wrong is None and root is not None and row["image_id"] in paths:
                        wrong = _file_wrong(root, paths[row["image_id"]], row["file_digest"])
                    if wrong:
                        yield row["image_id"], wrong

    def invalidate(self, image_ids: Iterable[str]) -> None:
        """Note in the index that these images must be read again when the cache is filled next."""
        spoilt = pl.col("image_id").is_in(list(image_ids))
        index = storage.read_table(self.folder / INDEX).with_columns(
            signature=pl.when(~spoilt).then("signature")
        )
        sums = [facts_crc32(facts) for facts in index.iter_rows(named=True)]
        storage.write_table(
            self.folder / INDEX, index.with_columns(pl.Series("facts_crc32", sums, pl.Int64))
        )

    def _wrong_with(self, facts: Mapping[str, int | str]) -> str | None:
        row = facts["row"]
        stored, masks = self._plain
        if row >= min(len(stored), len(masks)):
            return f"row {row} is missing: the pictures' files end before it"
        if digest_of_images(stored[row], masks[row]) == facts["cached_digest"]:
            return None
        sums = {stored: facts["image_crc32"], masks: facts["mask_crc32"]}
        other = [
            stack.path.name for stack, crc in sums.items() if integrity.checksum(stack[row]) != crc
        ]
        return f"row {row} of {' and '.join(other) or 'both files'} does not hold what was written"

    @cached_property
    def _plain(self) -> tuple[ImageStack, ImageStack]:
        """The images and masks whatever they hold."""
        images = ImageStack(self.folder / IMAGES[self.depth], self.size, TYPES[self.depth])
        return images, ImageStack(self.folder / MASKS, self.size)


class MasksWithIgnore:
    """Masks with 255 where a source does not say whether there is lung: indexed by one row, or by several.

    Of one lung alone the other's side, see `lungs.partly_known`; and what a mask says to ignore, as
    COCO's compressed run lengths by row in `ignored`.
    """

    def __init__(
        self, masks: np.ndarray | ImageStack, ignored: Mapping[int, str] | None = None
    ) -> None:
        self.masks, self.shape, self.ndim, self.dtype = masks, masks.shape, 3, np.dtype(np.uint8)
        self._ignored = ignored or {}

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, key: int | slice | Iterable[int]) -> np.ndarray:
        found, rows = self.masks[key], np.arange(len(self))[key]
        if found.ndim == 2:
            return self._known(found, int(rows))
        return (
            np.stack([self._known(one, row) for one, row in zip(found, rows.tolist(), strict=True)])
            if len(found)
            else found
        )

    def _known(self, mask: np.ndarray, row: int) -> np.ndarray:
        known = lung_masks.ignore_unlabelled_side(mask)
        if row not in self._ignored:
            return known
        runs = shapes.RunLengths.from_coco({"size": mask.shape, "counts": self._ignored[row]})
        return np.where(runs.to_mask(mask.shape), np.uint8(lung_masks.IGNORE), known)


def digest_of_images(image: np.ndarray, mask: np.ndarray) -> str:
    return storage.digest(image.tobytes() + mask.tobytes())


def facts_crc32(facts: Mapping[str, Any]) -> int:
    """Return the CRC-32 of an image's facts, as JSON of FACTS but for this one, in their order."""
    told = [
        float(facts[name]) if kind == pl.Float64 and facts[name] is not None else facts[name]
        for name, kind in FACTS.items()
        if name != "facts_crc32"
    ]
    return integrity.checksum(storage.as_json(told).encode())


def _file_wrong(root: Path, path: str, expected: str | None) -> str | None:
    try:
        same = expected is None or storage.digest_of_file(path_of(root, path)) == expected
    except OSError as error:
        return f"{path} cannot be opened ({error.strerror})"
    return (
        None
        if same
        else f"{path} holds other bytes than those that were read, with the same size and time"
    )
