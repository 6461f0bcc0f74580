"""Rows of the manifest, one per image, and remarks, from a folder whose reading is settled."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from hilum.dataset.inventory import File
from hilum.dataset.manifest import Remark, Row
from hilum.dataset.plan import boxes, gather, image_facts, remarks, statements
from hilum.dataset.plan.gathered import Gathered
from hilum.dataset.plan.image_facts import ImageFacts
from hilum.dataset.plan.reading import Reading


def rows(reading: Reading) -> Iterator[Row | Remark]:
    """Yield a row for each image, then the remarks. The reading must be settled."""
    gathered = Gathered()
    for table in reading.tables:
        gather.from_table(reading, table, gathered)
    boxes.from_coco(reading, gathered)
    gather.from_folders_and_names(reading, gathered)
    gathered.people = image_facts.people_of_folders(reading, gathered)
    made = [_row(reading, file, gathered) for file in reading.images]
    yield from _with_unique_names(made)
    yield from remarks.of_reading(reading, gathered)


def _row(reading: Reading, file: File, gathered: Gathered) -> Row:
    path, facts = file.path, ImageFacts.of(reading, file, gathered)
    labels, conflicts = statements.settle(gathered.statements.get(path, ()))
    for conflict in conflicts:
        gathered.remark(path, "label-conflict", conflict)
    masks = reading.masks.of.get(path, {})
    mask_values = reading.settings.mask_values
    header = facts.header
    row_spacing, column_spacing = (header.spacing_mm if header else None) or (None, None)
    acquired = facts.acquisition()
    return Row(
        image=path,
        name=facts.name,
        patient=facts.patient(),
        source=facts.one("source") or reading.folders.value(path, "source"),
        labels=labels,
        mask_values=json.dumps(dict(mask_values)) if masks and mask_values else None,
        lung_mask=masks.get("lungs"),
        right_lung_mask=masks.get("right"),
        left_lung_mask=masks.get("left"),
        given_part=facts.part(),
        sex=facts.sex(),
        age_years=facts.age_years(),
        view=facts.view(),
        body_part=acquired["body_part"],
        modality=acquired["modality"],
        laterality=acquired["laterality"],
        reading=facts.one("reading"),
        study=facts.study(),
        stated_height=facts.pixels("height"),
        stated_width=facts.pixels("width"),
        row_spacing_mm=row_spacing,
        column_spacing_mm=column_spacing,
        drawn=tuple(gathered.drawn.get(path, ())),
    )


def _with_unique_names(made: Sequence[Row]) -> Iterator[Row]:
    """Yield the rows; images whose names differ in nothing but their ending keep it."""
    often = Counter(row.name for row in made)
    for row in made:
        yield replace(row, name=row.image) if often[row.name] > 1 else row
