"""Hugging Face imagefolder: one folder per part with its images and their metadata.

    train/metadata.jsonl                       one line per image, `file_name` relative to its part
    train/kaggle_masks/CHNCXR_0001_0.png       also validation/ and test/ where there is a split

`labels` has every concept of the whole data set: "present", "absent", "uncertain" or "not
mentioned". Words, and empty texts for what is not stated, are used where null would be expected:
`datasets` (5.2) infers a column's type from each part's first lines and refuses parts that differ,
as a part does that has only null. For the same reason lines with an age come first, and
`age_years` is left out, with a note in the summary, where a whole part has none. Without a split
all images are in train/: the format has no other word for it, and without such a folder it guesses
parts from names.

Source: huggingface.co/docs/datasets, image_dataset. Read it with
`datasets.load_dataset("imagefolder", data_dir=FOLDER)`.
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
    caveats="Images are copied; of a DICOM an 8-bit PNG is made, of one that its Exif rotates a "
    "PNG. Without a split all of them are called train. Lung masks, boxes and polygons have no "
    "place in it: see coco.",
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
    """Write images and metadata; see `hilum.dataset.writers`."""
    by_part = _tables.parts(manifest, split)
    placed = _output_folder.places(_tables.exported(manifest, split))
    concepts = _tables.concepts_in(manifest)
    with_age = all(images.table["age_years"].count() for images in by_part.values())
    written: Counter[str] = Counter()
    with _output_folder.whole(folder) as beside:
        for part, images in by_part.items():
            written += _output_folder.copy(images, beside / PARTS[part], placed)
            lines = [storage.as_json(line) for line in _lines(images, concepts, placed, with_age)]
            storage.write_text(beside / PARTS[part] / "metadata.jsonl", "\n".join(lines) + "\n")
    counts = {PARTS[part]: images.table.height for part, images in by_part.items()}
    left_out = {}
    if manifest.table["age_years"].count() and not with_age:
        left_out = {"left out": "age_years, of which a part has none"}
    return _tables.summary(
        "imagefolder",
        manifest,
        sum(counts.values()),
        parts=counts,
        **{"image files": _output_folder.copied(written)},
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
