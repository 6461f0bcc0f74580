"""Two CSV files, for spreadsheets and R: a wide table of images, and the origin of each label.

    images.csv     one row per image: the manifest's columns (`hilum.dataset.manifest`), part, and
                   one column per concept
    ledger.csv     one row per label: image_id, concept, state, term, source, rule, words, side,
                   zone, activity

States are 1 present, 0 absent, -1 uncertain; an empty cell is not mentioned. Both are UTF-8; paths
are relative to the data's own folder.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hilum import storage
from hilum.dataset.manifest import Manifest
from hilum.dataset.writers import _output_folder, _tables
from hilum.plugins import Card
from hilum.safety import addresses, spreadsheet_cells
from hilum.safety.path_names import as_text

CARD = Card(
    title="CSV: a wide table of images and a ledger of labels",
    caveats="Images are not copied. Boxes, polygons and masks have no place in it: see coco.",
)
COPIES_IMAGES = False


def write(manifest: Manifest, folder: Path, *, split: pl.DataFrame | None) -> dict[str, object]:
    """Write both tables; see `hilum.dataset.writers`."""
    exported = _tables.exported(manifest, split)
    images = exported.table
    for more in (
        _tables.part_of(exported, split),
        _tables.wide(exported, _tables.concepts_in(manifest)),
    ):
        images = images.join(more, on="image_id", how="left", maintain_order="left")
    with _output_folder.whole(folder) as beside:
        storage.write_text(beside / "images.csv", spreadsheet_cells.of_table(images))
        storage.write_text(beside / "ledger.csv", spreadsheet_cells.of_table(exported.labels))
    return _tables.summary(
        "csv_tables",
        manifest,
        images.height,
        labels=exported.labels.height,
        root=as_text(addresses.stored(manifest.root)),
    )
