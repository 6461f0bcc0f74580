"""Turn what a data set's reader yields into the rows of the manifest's tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from hilum import storage
from hilum.annotations.vocabulary import concept_for
from hilum.dataset.manifest import COLUMNS, DISPLAY, LABEL_COLUMNS, Label, Remark, Row
from hilum.errors import BadData

PIECE = 50_000  # rows made into columns at a time


def tables(
    dataset: str, terms_of_set: Mapping[str, str] | None, rows: list[Row]
) -> tuple[pl.DataFrame, pl.DataFrame, list[list], list[Remark]]:
    """Return the rows of the manifest's tables of images, labels and shapes, and remarks on
    patients.

    Terms of the data set become concepts, and patients that a reading names as the same are joined.
    `terms_of_set`: concept by term; None: terms are those of the vocabulary. `rows` is empty
    afterwards, as a million of them take as much memory as all of the tables.
    """
    # Rows share their tuples of labels, a few hundred in 100,000 images: each is read once.
    shared = {id(row.labels): row.labels for row in rows}
    terms = _concepts(dataset, terms_of_set, rows, shared)
    patient, joined = _joined_patients(rows)
    images = pl.concat(_images(dataset, rows, patient))
    shapes = [
        [
            f"{dataset}/{row.name}",
            it.concept or terms[it.term],
            it.term,
            it.shape,
            it.source,
            it.author,
        ]
        for row in rows
        for it in row.drawn
    ]
    keys = pl.Series([id(row.labels) for row in rows], dtype=pl.UInt64)
    rows.clear()
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
        for key, labels in shared.items()
        for it in labels
    ]
    stated = storage.constants_once(
        pl.DataFrame(
            labels,
            schema={
                "key": pl.UInt64,
                **{name: kind for name, kind in LABEL_COLUMNS.items() if name != "image_id"},
            },
            orient="row",
        ).sort("key", "concept")
    )
    image = images.select("image_id", key=keys).sort("image_id")
    return images, _labels(image, stated), shapes, joined


def _labels(image: pl.DataFrame, stated: pl.DataFrame) -> pl.DataFrame:
    """Return the label table, sorted, of images (image_id, key) and the labels `stated` by key.

    Both are sorted. Rows are picked column by column, since a join of millions of labels takes
    twice their memory.
    """
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
    table = pl.DataFrame(columns).with_columns(
        pl.lit(stated[one][0] if stated.height else None, kind).alias(one)
        for one, kind in LABEL_COLUMNS.items()
        if one not in columns
    )
    return table.select(list(LABEL_COLUMNS))


def _numbers(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint32)


def _images(dataset: str, rows: list[Row], patient: Mapping[str, str]) -> Iterator[pl.DataFrame]:
    """Yield the table of images in pieces: as lists it would take three times its memory."""
    for at in range(0, max(len(rows), 1), PIECE):
        piece = [_image(dataset, row, patient[row.patient]) for row in rows[at : at + PIECE]]
        yield pl.DataFrame(piece, schema=COLUMNS, orient="row")


def _image(dataset: str, row: Row, patient: str) -> list:
    """Return a row of the table of images, in the order of `hilum.dataset.manifest.COLUMNS`."""
    return [
        f"{dataset}/{row.name}",
        dataset,
        row.source or dataset,
        f"{dataset}/{patient}",
        row.image,
        row.lung_mask,
        row.right_lung_mask,
        row.left_lung_mask,
        row.mask_values,
        row.given_part,
        row.sex,
        row.age_years,
        row.view,
        row.body_part,
        row.modality,
        row.laterality,
        row.reading,
        row.study,
        row.follow_up,
        row.stated_height,
        row.stated_width,
        row.row_spacing_mm,
        row.column_spacing_mm,
        *[None] * len(DISPLAY),  # set by corrections alone
    ]


def _concepts(
    dataset: str,
    terms_of_set: Mapping[str, str] | None,
    rows: Iterable[Row],
    shared: Mapping[int, Sequence[Label]],
) -> dict[str, str]:
    """Return the concept of each term.

    `shared`: the different tuples of labels, by identity. Raises `BadData` with a count for each
    term that the data set does not map.
    """
    counts = Counter(it.term for row in rows for it in row.drawn if it.concept is None)
    for key, images in Counter(id(row.labels) for row in rows).items():
        for it in shared[key]:
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


def _joined_patients(rows: Iterable[Row]) -> tuple[dict[str, str], list[Remark]]:
    """Return the name each patient goes by, and one remark for each note followed.

    A note is one such as "same patient as …" in the reading of an image.
    """
    rows = list(rows)
    root = {row.patient: row.patient for row in rows}

    def find(name: str) -> str:
        """Follow the notes to the name that the patient goes by."""
        while root[name] != name:
            name = root[name]
        return name

    remarks = []
    for row in rows:
        for other in row.same_patient:
            if other not in root:
                remarks.append(
                    Remark(
                        row.image,
                        "warning",
                        "same-patient",
                        f"its reading names {other} as the same patient, who has no image here",
                    )
                )
                continue
            first, second = sorted((find(row.patient), find(other)))
            root[second] = first
            remarks.append(
                Remark(
                    row.image, "info", "same-patient", f"joined with {other}, as its reading says"
                )
            )
    return {name: find(name) for name in root}, remarks
