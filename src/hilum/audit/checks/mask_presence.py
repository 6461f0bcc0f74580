"""Check lung masks: missing, unusable on their image, or not of the form of a lung mask."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from hilum.annotations import lung_masks
from hilum.audit.checks._pairs import with_facts
from hilum.audit.issues import Issue, Rule
from hilum.dataset import mask_files
from hilum.dataset.manifest import MASK_COLUMNS, Manifest
from hilum.plugins import Card

CARD = Card(
    title="Lung masks",
    caveats="Missing, unusable, grey and empty masks are certain. A single lung is recognised by "
    "the parts of the mask: two lungs that touch and are narrow are taken for one, and a patient "
    "may truly have one aerated lung. Whether an outline follows the lung is not checked here.",
)

MISSING = Rule(
    "mask-missing",
    "info",
    "An image has no lung mask.",
    "It is not used to train or evaluate the lung segmentation; the lungs found in it are not "
    "compared with anything.",
    "Nothing, where that is intended; else put the mask beside the others under the name of its "
    "image.",
)
UNUSABLE = Rule(
    "mask-unusable",
    "error",
    "A mask cannot be read, has other proportions than its image, or values of undefined meaning.",
    "It would mark the wrong place or the wrong organ, so the image is treated as one without a "
    "mask.",
    "Do what the message states: export the mask again in the size of its image, or state in "
    "hilum.toml what its values mean.",
    correction="leave out mask",
)
GREY = Rule(
    "mask-not-binary",
    "warning",
    "A mask has values between those of its labels.",
    "The position of its edge depends on a threshold (the middle between two labels here): resized "
    "or lossy masks are like this.",
    "Export the mask with one value for each label and without lossy compression, for example 0 "
    "outside and 255 inside.",
    correction="leave out mask",
)
INVERTED = Rule(
    "mask-inverted",
    "info",
    "A mask is inverted: dark where lung is, like the masks beside it.",
    "It is read so, because the border of an image is background and never lung; other programs "
    "take the background for lung.",
    "Nothing, where that is intended; else exchange the values of the masks.",
)
UNLIKE = Rule(
    "mask-unlike-folder",
    "warning",
    "Lung and background have each other's value in a mask, compared with the masks beside it.",
    "It is read by its own shape; a program that takes one value for lung in all masks would take "
    "the background here.",
    "Exchange the two values of this mask, or of the others.",
    correction="leave out mask",
)
LABEL_MAP = Rule(
    "mask-label-map",
    "info",
    "A mask is a label map with values for more than the lungs, or for pixels to be ignored.",
    "Only right and left lung are used. Other organs count as background; ignored pixels are left "
    "out of training and evaluation.",
    "Check that the values mean what the message states; if not, define them in hilum.toml under "
    "[mask_values].",
)
SCALED = Rule(
    "mask-scaled",
    "info",
    "A mask has another size than its image, in the same proportions.",
    "It is scaled to its image, so its outline is only as fine as the smaller of the two.",
    "Nothing, unless masks in the size of their images exist.",
)
EMPTY = Rule(
    "mask-empty",
    "warning",
    "A mask marks no pixel, or all of them.",
    "A model trained on an empty mask would find no lungs, so it is treated as missing; a full one "
    "outlines nothing.",
    "Draw the mask, or delete it, which leaves the image without one.",
    correction="leave out mask",
)
ONE_LUNG = Rule(
    "mask-one-lung",
    "warning",
    "A mask marks the lung of one side only.",
    "Overlap per lung is undefined on the other side, and the lung crop is cut in half.",
    "Complete the mask, unless the patient truly has one aerated lung.",
    correction="leave out mask",
)
_MEASURED = (
    "mask_error", "mask_value_count", "mask_form", "right_pixels", "left_pixels", "height", "width",
)  # fmt: skip
RULES = (MISSING, UNUSABLE, GREY, INVERTED, UNLIKE, LABEL_MAP, SCALED, EMPTY, ONE_LUNG)


def check(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Issue]:
    """Yield issues of the presence, the files and the content of masks."""
    masks = manifest.table.select(
        "image_id",
        "dataset",
        "path",
        mask=pl.concat_str(MASK_COLUMNS, separator=" and ", ignore_nulls=True),
    )
    annotated = manifest.shapes.filter(pl.col("concept").is_in(list(lung_masks.REFERENCE)))[
        "image_id"
    ]
    outlined = pl.when(pl.col("image_id").is_in(annotated.implode())).then(
        pl.format("the lungs annotated on {}", "path")
    )
    masks = masks.with_columns(mask=pl.coalesce(pl.col("mask").replace("", None), outlined))
    yield from _missing(masks)
    masks = with_facts(masks, facts, *_MEASURED)
    yield from UNUSABLE.issue(
        masks.filter(pl.col("mask_error").is_not_null()).select("image_id", message="mask_error")
    )
    used = masks.filter(pl.col("mask_error").is_null() & pl.col("mask_value_count").is_not_null())
    yield from _form(used)
    yield from _content(used)


def _missing(masks: pl.DataFrame) -> Iterator[Issue]:
    """Yield one issue for each image where others have a mask, and one for all where none has."""
    some = pl.col("mask").is_not_null().any().over("dataset")
    missing = masks.filter(pl.col("mask").is_null())
    bare = masks.filter(~some).group_by("dataset").len()
    yield from MISSING.issue(
        bare.select(
            message=pl.format("no image of {} has a lung mask (images: {})", "dataset", "len")
        )
    )
    alone = missing.join(bare, on="dataset", how="anti")
    yield from MISSING.issue(
        alone.select("image_id", message=pl.format("{} has no lung mask", "path"))
    )


def _form(masks: pl.DataFrame) -> Iterator[Issue]:
    """Yield issues of the files, from the words of `hilum.dataset.mask_files.MaskFile.form`."""
    words = masks.select(
        "image_id", "mask", "mask_value_count", word=pl.col("mask_form").str.split("; ")
    ).explode("word")
    named = pl.format("{}: {}", "mask", "word")
    other = r"=(heart|none|ignore)\b"
    label_map = pl.col("word").str.starts_with(mask_files.LABEL_MAP) & pl.col("word").str.contains(
        other
    )
    soft = pl.format("{}: {} different values, more than it has labels", "mask", "mask_value_count")
    for rule, chosen, message in (
        (GREY, pl.col("word") == mask_files.SOFT, soft),
        (INVERTED, pl.col("word") == mask_files.INVERTED, named),
        (UNLIKE, pl.col("word") == mask_files.UNLIKE, named),
        (LABEL_MAP, label_map, named),
        (SCALED, pl.col("word").str.starts_with(mask_files.SCALED), named),
    ):
        yield from rule.issue(words.filter(chosen).select("image_id", message=message))


def _content(masks: pl.DataFrame) -> Iterator[Issue]:
    right, left = pl.col("right_pixels"), pl.col("left_pixels")
    none, full = right + left == 0, right + left == pl.col("height") * pl.col("width")
    inside = pl.format(
        "{}: {} pixel is inside",
        "mask",
        pl.when(none).then(pl.lit("no")).otherwise(pl.lit("every")),
    )
    yield from EMPTY.issue(masks.filter(none | full).select("image_id", message=inside))
    side = pl.when(right == 0).then(pl.lit("right")).otherwise(pl.lit("left"))
    other = pl.when(right == 0).then(pl.lit("left")).otherwise(pl.lit("right"))
    alone = pl.format(
        "{}: {} pixels of the {} lung, none of the {} one", "mask", right + left, other, side
    )
    yield from ONE_LUNG.issue(
        masks.filter(~none & ~full & ((right == 0) | (left == 0))).select("image_id", message=alone)
    )
