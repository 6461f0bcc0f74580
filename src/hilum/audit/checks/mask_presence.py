"""Lung masks: missing, unusable on their image, or not what a lung mask looks like."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from hilum.annotations import lung_masks
from hilum.audit.issues import Issue, Rule
from hilum.dataset import mask_files
from hilum.dataset.manifest import Manifest
from hilum.plugins import Card

CARD = Card(
    title="Lung masks",
    caveats="Missing, unusable, grey and empty masks are certain. One lung alone is told by the parts of the mask: two lungs that touch "
    "and are narrow are taken for one, and a patient may truly have one aerated lung. Whether an outline follows the lung is not checked.",
)
COLUMNS = ("lung_mask", "right_lung_mask", "left_lung_mask")

MISSING = Rule(
    "mask-missing",
    "info",
    "A picture has no lung mask.",
    "It takes no part in training or measuring the lung outlines; the lungs found in it are not compared with anything.",
    "Nothing, where that is meant; else put the mask beside the others under its picture's name.",
)
UNUSABLE = Rule(
    "mask-unusable",
    "error",
    "A mask cannot be read, has other proportions than its image, or values of which nothing says what they stand for.",
    "It would mark the wrong place or the wrong organ, so the image is treated as one without a mask.",
    "Do what the message says: export the mask again in the size of its image, or say in hilum.toml what its values stand for.",
    correction="leave out mask",
)
GREY = Rule(
    "mask-not-binary",
    "warning",
    "A mask holds values between those of its labels.",
    "Where its edge lies depends on a threshold (the middle between two labels here): resized or lossy masks look like this.",
    "Export the mask with one value for each label and without lossy compression, for example 0 outside and 255 inside.",
    correction="leave out mask",
)
INVERTED = Rule(
    "mask-inverted",
    "info",
    "A mask is inverted: dark where lung is, as those beside it are.",
    "It is read so, because the background lies at the border of an image and lungs do not; other programs take the background for lung.",
    "Nothing, where that is meant; else exchange the values of the masks.",
)
UNLIKE = Rule(
    "mask-unlike-folder",
    "warning",
    "In a mask lung and background have each other's value, compared with the masks beside it.",
    "It is read as its own shape says; a program that takes one value for lung in all masks would take the background here.",
    "Exchange the two values of this mask, or of the others.",
    correction="leave out mask",
)
LABEL_MAP = Rule(
    "mask-label-map",
    "info",
    "A mask is a label map with values for more than the lungs, or for pixels to be ignored.",
    "Only right and left lung are used. Other organs count as background; ignored pixels are left out of training and measuring.",
    "Check that the values stand for what the message says; if not, say it in hilum.toml under [mask_values].",
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
    "An empty mask would teach that there is no lung; it is treated as none, and a full one is an outline of nothing.",
    "Draw the mask, or take it out, which leaves the picture without one.",
    correction="leave out mask",
)
ONE_LUNG = Rule(
    "mask-one-lung",
    "warning",
    "A mask marks the lung of one side only.",
    "Overlap per lung is undefined on the other side, and the lung region is cut in half.",
    "Complete the mask, unless the patient truly has one aerated lung.",
    correction="leave out mask",
)
RULES = (MISSING, UNUSABLE, GREY, INVERTED, UNLIKE, LABEL_MAP, SCALED, EMPTY, ONE_LUNG)


def check(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Issue]:
    masks = manifest.table.with_columns(
        mask=pl.concat_str(COLUMNS, separator=" and ", ignore_nulls=True)
    )
    drawn = manifest.shapes.filter(pl.col("concept").is_in(list(lung_masks.REFERENCE)))["image_id"]
    outlined = pl.when(pl.col("image_id").is_in(drawn.implode())).then(
        pl.format("the lungs drawn on {}", "path")
    )
    masks = masks.with_columns(mask=pl.coalesce(pl.col("mask").replace("", None), outlined))
    yield from _missing(masks)
    masks = masks.join(facts, on="image_id")
    yield from UNUSABLE.issue(
        masks.filter(pl.col("mask_error").is_not_null()).select("image_id", message="mask_error")
    )
    used = masks.filter(pl.col("mask_error").is_null() & pl.col("mask_value_count").is_not_null())
    yield from _form(used)
    yield from _content(used)


def _missing(masks: pl.DataFrame) -> Iterator[Issue]:
    """One finding an image where others have a mask, and one for all where nobody has."""
    some = pl.col("mask").is_not_null().any().over("dataset")
    missing = masks.filter(pl.col("mask").is_null())
    bare = masks.filter(~some).group_by("dataset").len()
    yield from MISSING.issue(
        bare.select(
            message=pl.format("no picture of {} has a lung mask (pictures: {})", "dataset", "len")
        )
    )
    alone = missing.join(bare, on="dataset", how="anti")
    yield from MISSING.issue(
        alone.select("image_id", message=pl.format("{} has no lung mask", "path"))
    )


def _form(masks: pl.DataFrame) -> Iterator[Issue]:
    """What is remarkable about the files, by the words of `hilum.dataset.mask_files.MaskFile.form`."""
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
