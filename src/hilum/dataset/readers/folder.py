"""A folder of your own: whatever lies in it is understood from evidence (`hilum describe FOLDER` shows how), or as its hilum.toml says.

    NORMAL/a.png  TB/b.png                            class folders, in several languages; 'healthy' and 'TB', 'gesund' and 'Tuberkulose'
    train/NORMAL/a.png  test/TB/b.png                 above them the parts of a split, kept as the given one
    patient001/a.png  patient002/b.png                folders of patients, and of their studies
    images/a.png  masks/a.png                         masks of the lungs, found by their pixels and paired by name
    labels.csv                                        tables (.csv .tsv .xlsx .parquet .jsonl): a row an image, several rows an image, or a
                                                      row a patient or study, joined by what both name
    PAT01/ST01/SE01/IM0001                            DICOM files with or without an ending; reports and documents among them are set aside

A file `hilum.toml` in the folder settles what evidence does not, or changes it; each line is optional:

    tables = ["labels.csv"]                    # the tables to read; others are left alone
    image = "File"                             # the column that names the files; likewise patient, study, view, sex, age, birth_date,
                                               # study_date, part, reading, mask, right_mask, left_mask, reader, source
    label = "Findings"                         # a column of words for findings, such as "TB|Effusion"
    separator = "|"
    findings = ["TB", "Effusion"]              # columns of one finding each, with cells for present, absent and uncertain
    present = ["1"]                            # more words for them; likewise absent, uncertain
    normal = ["No finding"]                    # words that say that there is no finding
    unlabelled = ["pending"]                   # words that say nothing
    drop = ["Rotated"]                         # words that are no finding
    unlisted = "not mentioned"                 # else what a labelled image is not said to have counts as absent, rule "not listed"
    folders = ["{part}/{label}"]               # what folders are: part, label, patient, study, view, source, or * for nothing
    patient_pattern = "^(?P<patient>p[0-9]+)_" # the patient, out of the path or name of the image
    masks = ["lungs/{stem}_mask.png"]          # {stem} and {folder} of the image; likewise right_masks, left_masks, other_masks
    unused = ["previews/*"]                    # files that are not part of the data; unused_columns = ["Smoker"]
    [terms]                                    # what words mean: a concept's id, or "local:…" for one of your own
    TB = "tuberculosis"
    [mask_values]                              # what the values of masks are: right, left, lungs, heart, ignore, none
    3 = "none"

A column is written as its name, or as "labels.csv:File" where one table only is meant. `hilum describe FOLDER --toml` prints all of it.
What stays open is refused, with the lines to add: Hilum never guesses which of two unknown words is the disease.
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
    caveats="Where nothing names the patients every image is taken for a patient of its own; if a person has several, a split cannot know it.",
)
TERMS = None


def detect(root: Path) -> bool:
    """Tell that this reader takes any folder; it is asked last."""
    return root.is_dir()


def understand(root: Path) -> Reading:
    """Work out what the folder means. Raises `NotFound` where it holds no radiograph, `BadData` with the lines to add where a question is open."""
    reading = plan.understand(root)
    if not reading.images:
        raise NotFound(describe.nothing(reading))
    if reading.evidence.questions:
        raise BadData(describe.refusal(reading))
    return reading


def rows(root: Path) -> Iterator[Row | Remark]:
    """Yield what the folder holds, as it is understood."""
    yield from plan_rows.rows(understand(root))


def example(root: Path, *, images: int = 12, seed: int = 0) -> None:
    """Two class folders and a CSV that names patients, one of them with two pictures; every fourth picture has a mask."""
    rng = np.random.default_rng(seed)
    lines = ["image,label,patient,sex,age"]
    for index in range(images):
        if index != 1:  # the second picture is of the first patient
            body, sex, age = (
                synthetic.anatomy(rng),
                "FM"[int(rng.integers(2))],
                int(rng.integers(1, 90)),
            )
        ill = bool(index % 2)
        drawn = synthetic.draw(
            body, rng, height=320, width=300, disease="pneumonia" if ill else None
        )
        place = f"{'PNEUMONIA' if ill else 'NORMAL'}/image{index:03d}.png"
        raster.write_png(root / place, drawn.pixels)
        if index % 4 == 0:
            raster.write_png(
                root / "masks" / f"image{index:03d}.png", drawn.right_lung | drawn.left_lung
            )
        lines.append(f"{place},{place.split('/')[0].lower()},p{max(index, 1):03d},{sex},{age}")
    storage.write_text(root / "labels.csv", "\n".join(lines) + "\n")
