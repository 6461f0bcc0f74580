"""Facts of a data set by name, computed from its table and from its cache.

The names are those of `resources/published/*.toml`:

    images, patients
    masks                 images with an outline of the lungs, in a mask file or drawn as shapes
    lungs                 lungs with a readable outline, right and left counted separately
    no_finding            images with labels of which none is present
    concept.ID.present    images; likewise absent and uncertain; 0 in a scope where the set labels
                          the concept elsewhere

These may have a scope in front: `source.NAME.` a hospital or collection, `part.train.`,
`part.tune.`, `part.test.` of the official split. Of the whole set alone:

    findings              concepts that are labelled
    classes               labelled concepts that are no subtype of another labelled one, and one
                          more where images have none of them
    torn_patients         patients in several parts of the official split
    studies               examinations, where the source names them
    lung_objects          lungs, or parts of them, that are drawn as shapes and not in a mask file
    shapes, shaped_images shapes other than lungs, and the images that they are drawn on
    formats               of the image files, by the ending of their names, as PNG or JPEG
    bits, bits_used       of a value in the file: stored ("8 and 16" where files differ), and needed
                          for the largest value of the set
    size.min, .median, .max   pixels, [width, height], each side by itself
    sizes                 all [width, height], where there are at most `SIZES`
    age.min, age.max      years

A fact that the folder cannot give has no entry, and `reason` says why. No number is taken from a
card.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import polars as pl

from hilum.annotations.lung_masks import REFERENCE
from hilum.annotations.vocabulary import State, ancestors, concepts, name_of
from hilum.dataset.manifest import PARTS, Manifest
from hilum.pipeline.cache import MASKS

Value = int | float | str | list
Facts = dict[str, Value]  # by name
SIZES = 8
STATES = {"present": State.PRESENT, "absent": State.ABSENT, "uncertain": State.UNCERTAIN}
SCOPED = {
    "images": "images",
    "patients": "patients",
    "masks": "images with a lung mask",
    "lungs": "outlined lungs",
    "no_finding": "images with no finding present",
}
_NO_IMAGE = "no image could be read"
WHOLE = {  # name in words, and why it may not be known
    "findings": ("findings", "nothing is labelled"),
    "classes": ("classes", "nothing is labelled"),
    "torn_patients": ("patients in several parts of the split", "the folder gives no split"),
    "studies": ("examinations", "the table names none"),
    "lung_objects": ("lungs drawn as shapes", "no lung is drawn"),
    "shapes": ("shapes drawn on images", "nothing is drawn"),
    "shaped_images": ("images with a drawn shape", "nothing is drawn"),
    "formats": ("file formats", "there is no image"),
    "bits": ("bits of a value, as stored", _NO_IMAGE),
    "bits_used": ("bits of a value, as used", _NO_IMAGE),
    "size.min": ("smallest width, height", _NO_IMAGE),
    "size.median": ("median width, height", _NO_IMAGE),
    "size.max": ("largest width, height", _NO_IMAGE),
    "sizes": ("sizes (width, height)", f"{_NO_IMAGE}, or there are more than {SIZES} sizes"),
    "age.min": ("youngest age, years", "no age is given"),
    "age.max": ("oldest age, years", "no age is given"),
}
_ENDINGS = {"jpg": "JPEG", "tif": "TIFF", "dcm": "DICOM"}
_NAME = re.compile(
    rf"(?:(?P<scope>source\.[^.]+|part\.(?:{'|'.join(PARTS)}))\.)?"
    rf"(?:(?P<measure>{'|'.join(SCOPED)})|"
    rf"concept\.(?P<concept>[^.]+)\.(?P<state>{'|'.join(STATES)}))"
)


def known(name: str) -> bool:
    """Return whether a fact of that name can be computed, for some folder."""
    found = _NAME.fullmatch(name)
    return name in WHOLE or bool(
        found and (found["concept"] is None or found["concept"] in concepts())
    )


def in_words(name: str) -> str:
    """Return a fact's name for a reader, as `train: Pneumonia present`."""
    if name in WHOLE:
        return WHOLE[name][0]
    found = _NAME.fullmatch(name)
    assert found, name
    what = (
        SCOPED[found["measure"]]
        if found["measure"]
        else f"{name_of(found['concept'])} {found['state']}"
    )
    return f"{found['scope'].partition('.')[2]}: {what}" if found["scope"] else what


def count(found: Facts, name: str) -> int:
    """Return a fact that is a number of things; 0 where it is not known."""
    value = found.get(name, 0)
    return value if isinstance(value, int) else 0


def reason(name: str, found_facts: Facts) -> str:
    """Return why there is no fact of this known name."""
    if name in WHOLE:
        return WHOLE[name][1]
    found = _NAME.fullmatch(name)
    assert found, name
    scope = f"{found['scope']}." if found["scope"] else ""
    if f"{scope}images" not in found_facts:
        kind, _, of = scope.strip(".").partition(".")
        return f"no image here is of {of}" if kind == "source" else f"the folder gives no {of} part"
    return (
        f"{name_of(found['concept'])} is not labelled here"
        if found["concept"]
        else "no mask could be read"
    )


def facts(manifest: Manifest, index: pl.DataFrame) -> Facts:
    """Return all facts of a manifest; `index` is that of its cache."""
    states = manifest.labels.group_by("image_id").agg(highest=pl.col("state").max())
    table = manifest.table.join(index, on="image_id", how="left", maintain_order="left").join(
        states, on="image_id", how="left", maintain_order="left"
    )
    drawn = pl.col("image_id").is_in(_lung_objects(manifest)["image_id"].unique().implode())
    table = table.with_columns(masked=pl.any_horizontal(pl.col(*MASKS).is_not_null(), drawn))
    labels = manifest.labels.select("image_id", "concept", "state").join(
        table.select("image_id", "source", "given_part"), on="image_id"
    )
    found: Facts = (
        dict(_of_labels(manifest, table))
        | dict(_of_files(table))
        | dict(_of_patients(table))
        | dict(_of_shapes(manifest))
    )
    labelled = labels["concept"].unique().sort().to_list()
    found |= dict(_scope("", table, labels, labelled))
    for kind, column in (("source", "source"), ("part", "given_part")):
        for value in table[column].drop_nulls().unique().sort():
            rows = table.filter(pl.col(column) == value)
            found |= dict(
                _scope(f"{kind}.{value}.", rows, labels.filter(pl.col(column) == value), labelled)
            )
    return found


def _lung_objects(manifest: Manifest) -> pl.DataFrame:
    return manifest.shapes.filter(pl.col("concept").is_in(list(REFERENCE)))


def _scope(
    prefix: str, table: pl.DataFrame, labels: pl.DataFrame, labelled: list[str]
) -> Iterator[tuple[str, Value]]:
    yield f"{prefix}images", table.height
    yield f"{prefix}patients", table["patient_id"].n_unique()
    yield f"{prefix}masks", int(table["masked"].sum())
    seen = table.select(pl.col("right_pixels") > 0, pl.col("left_pixels") > 0)
    if seen["right_pixels"].count() or not table["masked"].any():
        yield f"{prefix}lungs", int(seen.sum().sum_horizontal()[0] or 0)
    if labelled:
        yield f"{prefix}no_finding", table.filter(pl.col("highest") < State.PRESENT).height
    counts = {
        (concept, state): count
        for concept, state, count in labels.group_by("concept", "state").len().iter_rows()
    }
    for concept in labelled:
        for word, state in STATES.items():
            yield f"{prefix}concept.{concept}.{word}", counts.get((concept, state), 0)


def _of_labels(manifest: Manifest, table: pl.DataFrame) -> Iterator[tuple[str, Value]]:
    if labelled := set(manifest.labels["concept"].unique()):
        yield "findings", len(labelled)
        widest = sum(not labelled & set(ancestors(concept)) for concept in labelled)
        yield "classes", widest + bool(table.filter(pl.col("highest") < State.PRESENT).height)


def _of_files(table: pl.DataFrame) -> Iterator[tuple[str, Value]]:
    endings = table["path"].str.extract(r"\.([^./]+)$").str.to_lowercase().drop_nulls().unique()
    if len(endings):
        yield (
            "formats",
            sorted({_ENDINGS.get(ending, ending.upper()) for ending in map(str, endings)}),
        )
    read = table.filter(pl.col("error").is_null() & pl.col("width").is_not_null())
    if not read.height:
        return
    bits = read["bits"].unique().sort().to_list()
    yield "bits", bits[0] if len(bits) == 1 else " and ".join(map(str, bits))
    yield "bits_used", int(read["maximum"].to_numpy().max()).bit_length()
    sides = read.select("width", "height")
    for word, side in (("min", sides.min()), ("median", sides.median()), ("max", sides.max())):
        yield f"size.{word}", [int(value + 0.5) for value in side.row(0)]
    if (sizes := sides.unique().sort("width", "height")).height <= SIZES:
        yield "sizes", [list(size) for size in sizes.iter_rows()]


def _of_patients(table: pl.DataFrame) -> Iterator[tuple[str, Value]]:
    if ages := table["age_years"].drop_nulls().to_list():
        yield "age.min", min(ages)
        yield "age.max", max(ages)
    given = table.filter(pl.col("given_part").is_not_null())
    if given.height:
        yield (
            "torn_patients",
            given.group_by("patient_id")
            .agg(pl.col("given_part").n_unique())
            .filter(pl.col("given_part") > 1)
            .height,
        )
    if table["study"].count():
        yield "studies", table["study"].n_unique() - bool(table["study"].null_count())


def _of_shapes(manifest: Manifest) -> Iterator[tuple[str, Value]]:
    if lungs := _lung_objects(manifest).height:
        yield "lung_objects", lungs
    drawn = manifest.shapes.filter(~pl.col("concept").is_in(list(REFERENCE)))
    if drawn.height:
        yield "shapes", drawn.height
        yield "shaped_images", drawn["image_id"].n_unique()
