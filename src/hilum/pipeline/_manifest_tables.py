"""Turn what a data set's reader yields into the rows of the manifest's tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import polars as pl

from hilum.annotations.vocabulary import concept_for
from hilum.dataset.image_columns import ImageColumns
from hilum.dataset.manifest import COLUMNS, LABEL_COLUMNS, Remark
from hilum.errors import BadData

MOST_WORDS = 4096  # of a column of labels that is kept as their numbers


def tables(
    dataset: str, terms_of_set: Mapping[str, str] | None, found: ImageColumns
) -> tuple[pl.DataFrame, pl.DataFrame, list[list], list[Remark]]:
    """Return the rows of the manifest's tables of images, labels and shapes, and remarks on
    patients.

    Terms of the data set become concepts, and patients that a reading names as the same are joined.
    `terms_of_set`: concept by term; None: terms are those of the vocabulary.
    """
    terms = _concepts(dataset, terms_of_set, found)
    patient, joined = _joined_patients(found)
    images = _images(dataset, found.table, patient)
    shapes = [
        [
            f"{dataset}/{name}",
            it.concept or terms[it.term],
            it.term,
            it.shape,
            it.source,
            it.author,
        ]
        for name, it in found.drawn
    ]
    labels = [
        [
            key,
            it.concept or terms[it.term],
            it.state.value,
            it.term,
            it.source,
            it.rule,
            it.words,
            it.side,
            it.zone,
            it.activity,
        ]
        for key, labels in enumerate(found.labels)
        for it in labels
    ]
    kinds = {"key": pl.UInt32, **LABEL_COLUMNS}
    del kinds["image_id"]
    stated = pl.DataFrame(labels, schema=kinds, orient="row").sort("key", "concept")
    image = images.select("image_id", key=found.table["labels"]).sort("image_id")
    return images, _labels(image, stated), shapes, joined


def _labels(image: pl.DataFrame, stated: pl.DataFrame) -> pl.DataFrame:
    """Return the label table, sorted, of images (image_id, key) and the labels `stated` by key.

    Both are sorted. Rows are picked column by column, since a join of millions of labels takes
    twice their memory. Columns of few words have them as an `Enum`, with a byte each for the 16
    of text.
    """
    stated = stated.with_columns(
        words.cast(pl.Enum(words.drop_nulls().unique().sort()))
        for words in stated
        if words.dtype == pl.String and words.n_unique() <= MOST_WORDS
    )
    keys, first, times = np.unique(stated["key"], return_index=True, return_counts=True)
    image = image.filter(pl.col("key").is_in(keys))
    place = np.searchsorted(keys, image["key"].to_numpy())
    count = times[place].astype(np.int32)
    # The row in `stated` of each label: those of an image are neighbours there too.
    row = np.arange(count.sum(), dtype=np.int32)
    row += np.repeat((first[place] - (np.cumsum(count) - count)).astype(np.int32), count)
    columns = {"image_id": image["image_id"].gather(np.repeat(_numbers(image.height), count))}
    columns |= {
        one: stated[one].gather(row)
        for one in LABEL_COLUMNS
        if one != "image_id" and stated[one].n_unique() > 1
    }
    return pl.DataFrame(columns).select(
        one if one in columns else pl.lit(stated[one].first(), stated.schema[one]).alias(one)
        for one in LABEL_COLUMNS
    )


def _numbers(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint32)


def _images(dataset: str, found: pl.DataFrame, patient: Mapping[str, str]) -> pl.DataFrame:
    """Return the table of images. `patient`: the name of those who do not go by their own."""
    name = pl.col("patient").replace(patient) if patient else pl.col("patient")
    of_set = pl.lit(f"{dataset}/")
    source = pl.lit(dataset)
    if "source" in found.columns:
        source = pl.when(pl.col("source") != "").then("source").otherwise(source)
    made = {
        "image_id": of_set + pl.col("name"),
        "dataset": pl.lit(dataset),
        "source": source,
        "patient_id": of_set + name,
        "path": pl.col("image"),
    }
    facts = {one: pl.col(one) if one in found.columns else pl.lit(None) for one in COLUMNS}
    return found.select(
        column.cast(COLUMNS[one]).alias(one) for one, column in (facts | made).items()
    )


def _concepts(
    dataset: str, terms_of_set: Mapping[str, str] | None, found: ImageColumns
) -> dict[str, str]:
    """Return the concept of each term.

    Raises `BadData` with a count for each term that the data set does not map.
    """
    counts = Counter(it.term for _, it in found.drawn if it.concept is None)
    for key, images in found.table["labels"].value_counts().iter_rows():
        for it in found.labels[key]:
            counts[it.term] += images if it.concept is None else 0
    if terms_of_set is None:
        return {term: concept_for(term) for term in counts}
    unmapped = [
        f"'{term}' on {count} images"
        for term, count in sorted(counts.items())
        if term not in terms_of_set
    ]
    if unmapped:
        raise BadData.listing(
            f"terms that {dataset} does not map to the vocabulary (add them to its TERMS)",
            unmapped,
        )
    return dict(terms_of_set)


def _joined_patients(found: ImageColumns) -> tuple[dict[str, str], list[Remark]]:
    """Return the name of each patient who goes by that of another, and one remark for each note
    followed.

    A note is one such as "same patient as …" in the reading of an image.
    """
    if not found.notes:
        return {}, []
    root = {name: name for name in found.table["patient"].unique()}

    def find(name: str) -> str:
        """Follow the notes to the name that the patient goes by."""
        while root[name] != name:
            name = root[name]
        return name

    remarks = []
    for image, patient, other in found.notes:
        if other not in root:
            message = f"its reading names {other} as the same patient, who has no image here"
            remarks.append(Remark(image, "warning", "same-patient", message))
            continue
        first, second = sorted((find(patient), find(other)))
        root[second] = first
        message = f"joined with {other}, as its reading says"
        remarks.append(Remark(image, "info", "same-patient", message))
    return {name: find(name) for name in root if root[name] != name}, remarks
