"""Write a made-up copy of UniData's set: 12-bit DICOM files, annotations, CSV of links."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from hilum import storage
from hilum.annotations import shapes
from hilum.dataset.readers._unidata_links import ANNOTATIONS, IMAGES
from hilum.imaging import synthetic
from hilum.imaging.synthetic.dicom_file import write_dicom

_COMMON = (  # findings of one patient in five; the others are those of one in ten
    "Petrifications",
    "Nodule/mass",
    "Infiltration/Consolidation",
    "Fibrosis",
    "Pleural effusion",
    "Hilar enlargement",
    "Atelectasis",
)


def write(
    root: Path, findings: Mapping[str, str], *, images: int, seed: int, size: int | None
) -> None:
    """Write studies with all classes of `findings` (concept by class).

    One patient in five has none of them, most others several. Every third image is MONOCHROME1,
    every second patient has two images, the sixth image has no annotation, and the annotation of
    every fifth is found by the CSV alone.
    """
    rng = np.random.default_rng(seed)
    assigned = _assigned_findings(findings, images, np.random.default_rng([seed, 1]))
    lines = ["id,gender,age,dicom_link,annotation_link"]
    patient, body, sex, age = 0, None, "F", 0
    sides = synthetic.frame(300, 290, size)
    for index in range(images):
        if body is None or index % 3 != 2:
            body, patient = synthetic.anatomy(rng), patient + 1
            sex, age = "FM"[int(rng.integers(2))], int(rng.integers(18, 80))
        height, width = (
            max(synthetic.SMALLEST, int(side * rng.uniform(0.9, 1.1))) for side in sides
        )
        terms = assigned[patient - 1]
        signs = [findings[term] for term in terms]
        image = synthetic.draw(body, rng, height=height, width=width, signs=signs)
        study, instance = (
            f"1.2.826.0.1.3680043.10.{seed}.{kind}.{index + 1}" for kind in (1459, 11881)
        )
        noise = rng.integers(0, 16, image.pixels.shape, np.uint16)
        write_dicom(
            root / IMAGES / f"{study}.1.dcm",
            image.pixels.astype(np.uint16) * 16 + noise,
            study,
            instance,
            monochrome1=index % 3 == 1,
            PatientID=f"P{patient:03d}",
            PatientSex=sex,
            PatientAge=f"{age:03d}Y",
        )
        by_csv = index % 5 == 4
        name = f"study{index:03d}.json" if by_csv else f"{instance}.json"
        if index != 5:
            regions = [(term, image.extents[findings[term]]) for term in terms]
            if index % 4 != 3:
                regions = [("Lungs", image.right_lung), ("Lungs", image.left_lung), *regions]
            content = {"size": {"height": height, "width": width}, "objects": _objects(regions)}
            storage.add_bytes(root / ANNOTATIONS / name, (json.dumps(content) + "\n").encode())
        links = (f"dicoms/{study}.1.dcm", f"annotations/{name if by_csv else ''}")
        lines.append(
            ",".join((f"{index},{sex},{age}", *map("https://example.org/{}".format, links)))
        )
    storage.write_text(root / "metadata.csv", "\n".join(lines) + "\n")


def _assigned_findings(
    findings: Collection[str], patients: int, rng: np.random.Generator
) -> list[list[str]]:
    """Assign classes to at least `patients` patients; of every ten the fifth and tenth have none.

    Assigned per ten patients rather than drawn per patient, so that a small copy has every class as
    often as expected.
    """
    assigned: list[list[str]] = [[] for _ in range(-(-patients // 10) * 10)]
    for first in range(0, len(assigned), 10):
        for term in findings:
            if term in _COMMON:
                holders = [first + rng.integers(4), first + 5 + rng.integers(4)]
            else:
                holders = [first + rng.choice([0, 1, 2, 3, 5, 6, 7, 8])]
            for holder in holders:
                assigned[holder].append(term)
    return assigned


def _objects(regions: Collection[tuple[str, np.ndarray]]) -> list[dict[str, object]]:
    parts = [(term, part) for term, region in regions for part in shapes.polygons_of(region)]
    return [
        {"labelerLogin": "invented", "classTitle": term, **shapes.to_supervisely(part)}
        for term, part in parts
    ]
