"""Write a made-up copy of ChestX-ray14: table, boxes, official lists and images of 256x256.

Each patient has a random generator of its own, so that processes share the patients among them
and write the same bytes as one (`hilum.scale`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from hilum import storage
from hilum.dataset.readers._nih_layout import BOXES, ENTRIES, IMAGES, OFFICIAL
from hilum.errors import BadData
from hilum.imaging import synthetic
from hilum.imaging.files import raster
from hilum.scale import shards
from hilum.scale.worker import Outcome

_PIXELS = 256  # side of an image; boxes are in pixels of 1024x1024, as those of the release
_BOX_PIXELS = 1024
_CASES = (  # disease of the phantom, finding labels, what the list of boxes calls it
    (None, "No Finding", ""),
    ("effusion", "Effusion", "Effusion"),
    ("pneumonia", "Infiltration|Pneumonia", "Infiltrate"),
    (None, "No Finding", ""),
    ("tuberculosis", "Consolidation|Nodule", "Nodule"),
)
_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
_ORIGINALS = (  # height, width, spacing in mm
    (2048, 2500, 0.168),
    (2991, 2992, 0.143),
    (2544, 3056, 0.139),
)
_AT_ONCE = 16  # patients that are written together


@dataclass(frozen=True)
class _Patient:
    """A patient whose images are to be written."""

    ordinal: int  # from 0
    number: int  # in the names of files; there are gaps, as in the release
    first: int  # running number of the first image in the set
    images: int


@dataclass
class _Lines:
    """What the tables of the set say about some patients."""

    table: list[str] = field(default_factory=list)
    boxes: list[str] = field(default_factory=list)
    lists: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in OFFICIAL})


def write(root: Path, *, images: int, seed: int, size: int | None) -> None:
    """Write patients with one to three images; every fifth patient is in the official test list.

    Every second image with a visible change has a box. The fourth image is RGBA, as some of the
    release are.
    """
    patients = _patients(images, np.random.default_rng(seed))
    groups = {
        str(at): tuple(patients[at : at + _AT_ONCE]) for at in range(0, len(patients), _AT_ONCE)
    }
    with closing(shards.run(_Writing(root, seed, size or _PIXELS), groups, None)) as outcomes:
        written = [_Lines(**json.loads(_sound(outcome))) for outcome in outcomes]
    names: dict[str, list[str]] = {
        name: list(chain.from_iterable(lines.lists[name] for lines in written)) for name in OFFICIAL
    }
    table = chain([_HEADER], *(lines.table for lines in written))
    boxes = chain(["Image Index,Finding Label,Bbox [x,y,w,h],,,"], *(one.boxes for one in written))
    for file, lines in {ENTRIES[0]: table, BOXES: boxes, **names}.items():
        storage.write_text(root / file, "\n".join(lines) + "\n")


def _sound(outcome: Outcome) -> bytes:
    """Return what was written; raise `BadData` where no process survived it."""
    if outcome.fault:
        raise BadData(outcome.fault)
    return outcome.result


@dataclass(frozen=True)
class _Writing:
    """Writes the images of some patients below `root`, and gives their lines of the tables."""

    root: Path
    seed: int
    size: int

    def __call__(self, patients: tuple[_Patient, ...]) -> bytes:
        return json.dumps(asdict(_write(self.root, patients, self.seed, self.size))).encode()


def _patients(images: int, rng: np.random.Generator) -> list[_Patient]:
    """Draw patients until they have `images`. The first has three, so that few have a follow-up."""
    found: list[_Patient] = []
    number = first = 0
    while first < images:
        number += int(rng.integers(1, 4))
        count = min(int(rng.integers(1, 4)) if found else 3, images - first)
        found.append(_Patient(len(found), number, first, count))
        first += count
    return found


def _write(root: Path, patients: Sequence[_Patient], seed: int, size: int) -> _Lines:
    """Write the images of some patients; return what the tables say about them."""
    lines = _Lines()
    for patient in patients:
        rng = np.random.default_rng([seed, patient.ordinal])
        body = synthetic.anatomy(rng)
        age, sex = int(rng.integers(16, 88)), "FM"[int(rng.integers(2))]
        official = lines.lists["train_val_list.txt" if patient.ordinal % 5 < 4 else "test_list.txt"]
        for follow_up in range(patient.images):
            index = patient.first + follow_up
            name = f"{patient.number:08d}_{follow_up:03d}.png"
            disease, labels, term = _CASES[index % len(_CASES)]
            if follow_up:
                body = synthetic.at_another_visit(body, rng)
            image = synthetic.draw(body, rng, height=size, width=size, disease=disease)
            height, width, spacing = _ORIGINALS[int(rng.integers(len(_ORIGINALS)))]
            view = "AP" if rng.uniform() < 0.4 else "PA"
            about = f"{follow_up},{patient.number},{age},{sex},{view}"
            lines.table.append(f"{name},{labels},{about},{width},{height},{spacing},{spacing}")
            if index % 2 and disease:
                lines.boxes += _box(name, term, image.extents[disease])
            official.append(name)
            pixels = _rgba(image.pixels) if index == 3 else image.pixels
            storage.add_bytes(root / IMAGES / name, raster.png(pixels, quick=True))
    return lines


def _rgba(pixels: np.ndarray) -> np.ndarray:
    return np.dstack([pixels] * 3 + [np.full_like(pixels, 255)])


def _box(name: str, term: str, extent: np.ndarray) -> list[str]:
    """Return the line of the box around what a disease changed; empty where nothing is visible."""
    left, top, width, height = cv2.boundingRect(extent.view(np.uint8))
    if not width:
        return []
    scale = _BOX_PIXELS / len(extent)
    numbers = (round(scale * number) for number in (left, top, width, height))
    return [",".join((name, term, *map(str, numbers)))]
