"""Two CSV files, for spreadsheets and for R: one wide table of images, and the ledger of where each label comes from.

    images.csv     one row an image: the manifest's columns (`hilum.dataset.manifest`), part, and one column a concept
    ledger.csv     one row a label: image_id, concept, state, term, source, rule, words, side, zone, activity

States are 1 present, 0 absent, -1 uncertain; an empty cell is not mentioned. Both are UTF-8; paths are below the data's own folder.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hilum import storage
from hilum.dataset.manifest import Manifest
from hilum.dataset.writers import _output_folder, _tables
from hilum.plugins import Card
from hilum.safety import spreadsheet_cells
from hilum.safety.path_names import as_text

CARD = Card(
    title="CSV: a wide table of images and a ledger of labels",
    caveats="Pictures stay where they are. What is drawn on images (boxes, polygons, masks) has no place in it: see coco.",
)


def write(manifest: Manifest, folder: Path, *, split: pl.DataFrame | None) -> dict[str, object]:
    told = _tables.exported(manifest, split)
    images = told.table
    for more in (_tables.part_of(told, split), _tables.wide(told, _tables.concepts_in(manifest))):
        images = images.join(more, on="image_id", how="left", maintain_order="left")
    with _output_folder.whole(folder) as beside:
        storage.write_text(beside / "images.csv", spreadsheet_cells.of_table(images))
        storage.write_text(beside / "ledger.csv", spreadsheet_cells.of_table(told.labels))
    return _tables.summary(
        "csv_tables",
        manifest,
        images.height,
        labels=told.labels.height,
        root=as_text(manifest.root),
    )
