"""A folder of your own, interpreted from evidence or as its hilum.toml says.

    NORMAL/a.png  TB/b.png                 class folders, in several languages: 'healthy' and 'TB',
                                           'gesund' and 'Tuberkulose'
    train/NORMAL/a.png  test/TB/b.png      above them the parts of a split, kept as the official one
    patient001/a.png  patient002/b.png     folders of patients, and of their studies
    images/a.png  masks/a.png              masks of the lungs, found by their pixels and paired
                                           by name
    labels.csv                             tables (.csv .tsv .xlsx .parquet .jsonl): a row per
                                           image, several rows per image, or a row per patient or
                                           study, joined by what both name
    PAT01/ST01/SE01/IM0001                 DICOM files with or without an ending; reports and
                                           documents among them are set aside

A file `hilum.toml` in the folder decides what evidence does not, or changes it; lines are optional:

    tables = ["labels.csv"]                    # the tables to read; others are ignored
    image = "File"                             # the column that names the files; likewise patient,
                                               # study, view, sex, age, birth_date, study_date,
                                               # part, reading, mask, right_mask, left_mask,
                                               # reader, source; and box with four columns: left,
                                               # top, width and height
    label = "Findings"                         # a column of words for findings, such as
                                               # "TB|Effusion"
    separator = "|"
    findings = ["TB", "Effusion"]              # columns of one finding each, with cells for
                                               # present, absent and uncertain
    present = ["1"]                            # more words for these; likewise absent, uncertain
    normal = ["No finding"]                    # words that say that there is no finding
    unlabelled = ["pending"]                   # words that say nothing
    drop = ["Rotated"]                         # words that are no finding
    unlisted = "not mentioned"                 # else a finding that a labelled image does not list
                                               # is absent, rule "not listed"
    folders = ["{part}/{label}"]               # what folders are: part, label, patient, study,
                                               # view, source, or * for nothing
    patient_pattern = "^(?P<patient>p[0-9]+)_" # the patient, from the path or name of the image
    masks = ["lungs/{stem}_mask.png"]          # {stem} and {folder} of the image; likewise
                                               # right_masks, left_masks, other_masks
    unused = ["previews/*"]                    # files that are not part of the data; likewise
                                               # unused_columns = ["Smoker"]
    [terms]                                    # what words mean: a concept's id, or "local:…"
    TB = "tuberculosis"                        # for one of your own
    [mask_values]                              # what the values of masks are: right, left, lungs,
    3 = "none"                                 # heart, ignore, none

`hilum describe FOLDER` shows the interpretation. A column is written as its name, or as
"labels.csv:File" where only one table is meant. `hilum describe FOLDER --toml` prints all of it.
What remains ambiguous is refused, with the lines to add: Hilum never guesses which of two unknown
words is the disease.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hilum import storage
from hilum.dataset.manifest import Remark, Row
from hilum.dataset.plan import describe
from hilum.dataset.plan import rows as plan_rows
from hilum.dataset.plan import understand as plan
from hilum.dataset.plan.reading import Reading
from hilum.errors import BadData, NotFound
from hilum.imaging import synthetic
from hilum.imaging.files import raster
from hilum.plugins import Card

CARD = Card(
    title="A folder of your own",
    licence="yours to state",
    caveats="Where nothing names the patients every image counts as a patient of its own; if a "
    "person has several images, a split cannot keep them together.",
)
TERMS = None


def detect(root: Path) -> bool:
    """Return True for any folder; this reader is tried after all others."""
    return root.is_dir()


def understand(root: Path) -> Reading:
    """Interpret the folder.

    Raises `NotFound` where it has no radiograph, and `BadData` with the lines to add to hilum.toml
    where something is ambiguous.
    """
    reading = plan.understand(root)
    if not reading.images:
        raise NotFound(describe.nothing(reading))
    if reading.evidence.questions:
        raise BadData(describe.refusal(reading))
    return reading


def rows(root: Path) -> Iterator[Row | Remark]:
    """Yield the images and remarks. Raises as `understand`."""
    yield from plan_rows.rows(understand(root))


def example(root: Path, *, images: int = 12, seed: int = 0, size: int | None = None) -> None:
    """Write two class folders, and a CSV that names patients.

    The first patient has two images; every fourth image has a mask.
    """
    rng = np.random.default_rng(seed)
    lines = ["image,label,patient,sex,age"]
    body, sex, age = None, "F", 0
    height, width = synthetic.frame(320, 300, size)
    for index in range(images):
        if body is None or index != 1:
            body = synthetic.anatomy(rng)
            sex, age = "FM"[int(rng.integers(2))], int(rng.integers(1, 90))
        ill = bool(index % 2)
        disease = "pneumonia" if ill else None
        phantom = synthetic.draw(body, rng, height=height, width=width, disease=disease)
        label = "PNEUMONIA" if ill else "NORMAL"
        place = f"{label}/image{index:03d}.png"
        storage.add_bytes(root / place, raster.png(phantom.pixels, quick=True))
        if index % 4 == 0:
            mask = phantom.right_lung | phantom.left_lung
            storage.add_bytes(
                root / "masks" / f"image{index:03d}.png", raster.png(mask, quick=True)
            )
        lines.append(f"{place},{label.lower()},p{max(index, 1):03d},{sex},{age}")
    storage.write_text(root / "labels.csv", "\n".join(lines) + "\n")
