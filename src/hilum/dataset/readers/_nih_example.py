"""Write a made-up copy of ChestX-ray14: table, boxes, official lists and images of 256x256."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hilum import storage
from hilum.dataset.readers._nih_layout import BOXES, ENTRIES, IMAGES, OFFICIAL
from hilum.imaging import synthetic

_PIXELS = 256  # side of an image; boxes are in pixels of 1024x1024, as those of the release
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


@dataclass
class _Patient:
    """The patient whose images are being written."""

    number: int
    body: synthetic.Anatomy
    age: int
    sex: str
    last: int  # follow-up number of the last image


def write(root: Path, *, images: int, seed: int) -> None:
    """Write patients with one to three images; every fifth patient is in the official test list.

    Every second image with a visible change has a box. The fourth image is RGBA, as some of the
    release are.
    """
    from imagecodecs import png_encode

    rng = np.random.default_rng(seed)
    lists: dict[str, list[str]] = {name: [] for name in OFFICIAL}
    table = [_HEADER]
    boxes = ["Image Index,Finding Label,Bbox [x,y,w,h],,,"]
    patients = follow_up = 0
    patient: _Patient | None = None
    for index in range(images):
        follow_up += 1
        if patient is None or follow_up > patient.last:
            patient, patients, follow_up = _next_patient(patient, rng), patients + 1, 0
        name = f"{patient.number:08d}_{follow_up:03d}.png"
        disease, labels, term = _CASES[index % len(_CASES)]
        healthy = _drawn(patient, copy.deepcopy(rng), None)
        pixels = _drawn(patient, rng, disease)
        height, width, spacing = _ORIGINALS[int(rng.integers(len(_ORIGINALS)))]
        view = "AP" if rng.uniform() < 0.4 else "PA"
        about = f"{follow_up},{patient.number},{patient.age},{patient.sex},{view}"
        table.append(f"{name},{labels},{about},{width},{height},{spacing},{spacing}")
        if index % 2:
            boxes += _box(name, term, pixels, healthy)
        lists["test_list.txt" if patients % 5 == 0 else "train_val_list.txt"].append(name)
        rgba = np.dstack([pixels] * 3 + [np.full_like(pixels, 255)])
        encoded = png_encode(rgba if index == 3 else pixels)
        storage.write_bytes(root / IMAGES / name, bytes(encoded))
    for file, lines in {ENTRIES[0]: table, BOXES: boxes, **lists}.items():
        storage.write_text(root / file, "\n".join(lines) + "\n")


def _next_patient(before: _Patient | None, rng: np.random.Generator) -> _Patient:
    """Draw a patient. The first has three images, so that a small copy has a follow-up."""
    number = (before.number if before else 0) + int(rng.integers(1, 4))
    last = int(rng.integers(3)) if before else 2
    body, age, sex = synthetic.anatomy(rng), int(rng.integers(16, 88)), "FM"[int(rng.integers(2))]
    return _Patient(number, body, age, sex, last)


def _drawn(patient: _Patient, rng: np.random.Generator, disease: str | None) -> np.ndarray:
    """Return uint8 (height, width)."""
    body = patient.body
    return synthetic.draw(body, rng, height=_PIXELS, width=_PIXELS, disease=disease).pixels


def _box(name: str, term: str, pixels: np.ndarray, healthy: np.ndarray) -> list[str]:
    """Return the line of the box around what a disease changed; empty where nothing is visible."""
    changed = np.argwhere(np.abs(pixels.astype(int) - healthy) > 8)
    if not len(changed):
        return []
    (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0) + 1
    scale = 1024 // _PIXELS
    numbers = (left, top, right - left, bottom - top)
    return [",".join((name, term, *(str(scale * number) for number in numbers)))]
