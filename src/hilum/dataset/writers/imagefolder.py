"""Hugging Face imagefolder: one folder a part, in it the pictures and what is known of each.

    train/metadata.jsonl                       one line a picture, `file_name` below its part's folder
    train/kaggle_masks/CHNCXR_0001_0.png       also validation/ and test/ where there is a split

`labels` has every concept of the whole set: "present", "absent", "uncertain" or "not mentioned". Words, and empty texts for what is not
stated, stand where null would: `datasets` (5.2) reads a column's type off each part's first lines and refuses parts that differ, as one
does that has null alone. For the same reason lines with an age come first, and `age_years` is left out, and told, where a whole part
has none. Without a split all pictures lie in train/: the form has no other word for it, and without such a folder it guesses parts from
names.

Source: huggingface.co/docs/datasets, image_dataset. Read it with `datasets.load_dataset("imagefolder", data_dir=FOLDER)`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from hilum import storage
from hilum.annotations.vocabulary import STATE_NAMES
from hilum.dataset.manifest import Manifest
from hilum.dataset.writers import _output_folder, _tables
from hilum.plugins import Card

CARD = Card(
    title="Hugging Face imagefolder with metadata.jsonl",
    source="huggingface.co/docs/datasets/image_dataset",
    caveats="Images are copied; of a DICOM an 8-bit PNG is made, of one that its Exif rotates a PNG. Without a split all of them are called train. Lung masks, boxes and polygons have no place in it: see coco.",
)
PARTS = {None: "train", "train": "train", "tune": "validation", "test": "test"}
TEXTS = (
    "image_id",
    "patient_id",
    "dataset",
    "source",
    "sex",
    "view",
    "body_part",
    "modality",
    "laterality",
    "reading",
    "study",
    "given_part",
)
NOT_MENTIONED = "not mentioned"


def write(manifest: Manifest, folder: Path, *, split: pl.DataFrame | None) -> dict[str, object]:
    by_part = _tables.parts(manifest, split)
    placed, concepts = (
        _output_folder.places(_tables.exported(manifest, split)),
        _tables.concepts_in(manifest),
    )
    with_age = all(images.table["age_years"].count() for images in by_part.values())
    written: Counter[str] = Counter()
    with _output_folder.whole(folder) as beside:
        for part, images in by_part.items():
            written += _output_folder.copy(images, beside / PARTS[part], placed)
            lines = [storage.as_json(line) for line in _lines(images, concepts, placed, with_age)]
            storage.write_text(beside / PARTS[part] / "metadata.jsonl", "\n".join(lines) + "\n")
    counts = {PARTS[part]: images.table.height for part, images in by_part.items()}
    left_out = (
        {}
        if with_age or not manifest.table["age_years"].count()
        else {"left out": "age_years, of which a part has none"}
    )
    return _tables.summary(
        "imagefolder",
        manifest,
        sum(counts.values()),
        parts=counts,
        pictures=_output_folder.copied(written),
        **left_out,
    )


def _lines(
    images: Manifest, concepts: list[str], placed: dict[str, str], with_age: bool
) -> Iterator[dict[str, object]]:
    states = {row["image_id"]: row for row in _tables.wide(images, concepts).iter_rows(named=True)}
    for row in images.table.sort(pl.col("age_years").is_null(), maintain_order=True).iter_rows(
        named=True
    ):
        line = {
            "file_name": placed[row["image_id"]],
            **{column: row[column] or "" for column in TEXTS},
        }
        if with_age:
            line["age_years"] = row["age_years"]
        if concepts:
            line["labels"] = {
                concept: STATE_NAMES.get(states[row["image_id"]][concept], NOT_MENTIONED)
                for concept in concepts
            }
        yield line
