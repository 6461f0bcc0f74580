"""Write random folders of radiographs from a truth, read them, and compare: files are conserved
and labels come back, or the folder is refused.

    python -m benchmarks.accuracy.random_layouts --examples 2000

A layout draws how images lie (flat, below images/, in class folders, in parts, in folders of
patients), what they are called, whether a table lists them (its kind, delimiter, header's language,
how it names files), how labels stand (words in one or several languages, several in a cell, a
column for each finding), whether masks lie beside, and what else lies about. Images are noise,
masks are two ellipses.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import imagecodecs
import numpy as np
import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hilum.annotations.vocabulary import ancestors
from hilum.errors import BadData
from hilum.pipeline import ingest

FINDINGS = {  # words that people write, by concept
    "tuberculosis": ("TB", "Tuberculosis", "Tuberkulose", "tuberculose", "PTB"),
    "pneumonia": ("Pneumonia", "neumonía", "Pneumonie", "PNEUMONIA", "polmonite"),
    "effusion": ("Effusion", "Pleural Effusion", "derrame pleural", "Pleuraerguss"),
    "cardiomegaly": ("Cardiomegaly", "cardiomegalia", "enlarged heart"),
    "covid": ("COVID", "COVID-19", "covid19"),
}
HEALTHY = (
    "Normal",
    "normal",
    "No Finding",
    "healthy",
    "gesund",
    "sano",
    "sain",
    "unauffällig",
    "Control",
)
IMAGE_COLUMNS = (
    "image",
    "Image Index",
    "filename",
    "file_path",
    "Datei",
    "archivo",
    "image_id",
    "Path",
)
LABEL_COLUMNS = ("label", "Finding Labels", "class", "diagnosis", "Befund", "diagnóstico", "labels")
PATIENT_COLUMNS = ("patient", "Patient ID", "subject_id", "paciente", "PatientID")
SEPARATORS = ("|", ";", ",", "/", " + ")
CLUTTER = {
    ".DS_Store": b"\0\0\0\1Bud1",
    "README.md": b"# films\n",
    "LICENSE": b"CC BY 4.0\n",
    "notes.pdf": b"%PDF-1.4",
    "Thumbs.db": b"\xd0\xcf\x11\xe0",
}


@dataclass(frozen=True)
class Layout:
    """Hold what is drawn: how images lie and are called, and what says their labels and
    patients.
    """

    folders: str  # flat, images, classes, parts, parts-and-classes, patients
    names: str  # pattern of names
    ending: str
    count: int
    labels: str  # none, folders, words, several, one-hot
    findings: tuple[str, ...]  # concepts
    words: tuple[str, ...]  # one for each concept
    healthy: str
    columns: tuple[str, str, str]  # image, label, patient
    table: str  # csv, tsv, semicolon, cr, utf16, xlsx, parquet, jsonl
    naming: str  # path, name, stem, backslash, absolute, prefix
    separator: str
    patients: str  # none, column, folders, names
    masks: str  # none, folder, beside, parallel
    clutter: tuple[str, ...]
    states: tuple[str, str]  # present and absent in one-hot columns


@dataclass
class Truth:
    """Hold what a careful person reads out of the folder that was written."""

    images: list[str] = field(default_factory=list)
    present: dict[str, set[str]] = field(
        default_factory=dict
    )  # concepts by image; an image that is not in it is not labelled
    patients: dict[str, str] = field(default_factory=dict)
    masks: set[str] = field(default_factory=set)
    files: int = 0


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    labels = draw(st.sampled_from(("none", "folders", "words", "several", "one-hot")))
    folders = draw(
        st.sampled_from(
            ("flat", "images", "parts", "patients")
            if labels != "folders"
            else ("classes", "parts-and-classes")
        )
    )
    findings = draw(
        st.lists(
            st.sampled_from(sorted(FINDINGS)),
            min_size=1 if labels != "several" else 2,
            max_size=3,
            unique=True,
        )
    )
    words = tuple(draw(st.sampled_from(FINDINGS[concept])) for concept in findings)
    separator = draw(st.sampled_from(SEPARATORS))
    table = draw(
        st.sampled_from(("csv", "tsv", "semicolon", "cr", "utf16", "xlsx", "parquet", "jsonl"))
    )
    patients = (
        "folders"
        if folders == "patients"
        else draw(
            st.sampled_from(
                ("none", "names") if labels in ("none", "folders") else ("none", "column", "names")
            )
        )
    )
    return Layout(
        folders,
        (
            "patient{patient:03}_{index:02}"
            if patients == "names"
            else draw(
                st.sampled_from(("img_{index:03}", "{index:04}", "x{index}", "scan-{index:02}"))
            )
        ),
        draw(st.sampled_from((".png", ".jpg", ".tif", ".PNG"))),
        draw(st.integers(6, 12)),
        labels,
        tuple(findings),
        words,
        draw(st.sampled_from(HEALTHY)),
        (
            draw(st.sampled_from(IMAGE_COLUMNS)),
            draw(st.sampled_from(LABEL_COLUMNS)),
            draw(st.sampled_from(PATIENT_COLUMNS)),
        ),
        table,
        draw(st.sampled_from(("path", "name", "stem", "backslash", "absolute", "prefix"))),
        separator,
        patients,
        draw(st.sampled_from(("none", "folder", "beside", "parallel"))),
        tuple(draw(st.lists(st.sampled_from(sorted(CLUTTER)), max_size=3, unique=True))),
        draw(
            st.sampled_from(
                (
                    ("1", "0"),
                    ("1.0", "0.0"),
                    ("yes", "no"),
                    ("True", "False"),
                    ("positive", "negative"),
                    ("Y", "N"),
                )
            )
        ),
    )


@cache
def _image(index: int, ending: str) -> bytes:
    rng = np.random.default_rng(index)
    pixels = (rng.integers(0, 60, (48, 40)) + np.linspace(30, 180, 40)[None]).astype(np.uint8)
    return _encoded(pixels, ending)


@cache
def _mask(index: int, ending: str) -> bytes:
    rows, columns = np.mgrid[0:48, 0:40]
    lungs = [
        ((rows - 24) / 16) ** 2 + ((columns - across - index % 3) / 6) ** 2 < 1
        for across in (10, 28)
    ]
    return _encoded(((lungs[0] | lungs[1]) * 255).astype(np.uint8), ending)


def _encoded(pixels: np.ndarray, ending: str) -> bytes:
    encode = {".jpg": imagecodecs.jpeg_encode, ".tif": imagecodecs.tiff_encode}.get(
        ending.lower(), imagecodecs.png_encode
    )
    return encode(pixels)


def write(root: Path, layout: Layout) -> Truth:
    """Write the folder that a layout describes; returns its truth."""
    truth = Truth()
    classes = [layout.healthy, *layout.words]
    for index in range(layout.count):
        patient = index // 2
        which = index % (len(layout.findings) + 1)
        present = {layout.findings[which - 1]} if which else set()
        if layout.labels == "several" and which and index % 2:
            present.add(layout.findings[which % len(layout.findings)])
        part = "train" if index % 3 else "test"
        folder = {
            "flat": "",
            "images": "images/",
            "classes": f"{classes[which]}/",
            "parts": f"{part}/",
            "parts-and-classes": f"{part}/{classes[which]}/",
            "patients": f"patient_{patient:03}/",
        }[layout.folders]
        path = folder + layout.names.format(index=index, patient=patient) + layout.ending
        _put(root / path, _image(index, layout.ending), truth)
        truth.images.append(path)
        if layout.labels != "none":
            truth.present[path] = present
        if layout.patients != "none":
            truth.patients[path] = str(patient)
        _put_mask(root, layout, path, index, truth)
    if layout.labels in ("words", "several", "one-hot") or layout.patients == "column":
        _put_table(root, layout, truth)
    for name in layout.clutter:
        _put(root / name, CLUTTER[name], truth)
    return truth


def _put(path: Path, data: bytes, truth: Truth) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    truth.files += 1


def _put_mask(root: Path, layout: Layout, path: str, index: int, truth: Truth) -> None:
    stem, name = path.rpartition(".")[0], Path(path).name
    place = {
        "none": None,
        "folder": f"masks/{Path(path).stem}.png",
        "beside": f"{stem}_mask.png",
        "parallel": f"{path.replace('images/', '')[: -len(name)]}masks/{Path(path).stem}.png",
    }[layout.masks]
    if place and index % 4:
        _put(root / place, _mask(index, ".png"), truth)
        truth.masks.add(path)


def _put_table(root: Path, layout: Layout, truth: Truth) -> None:
    image, label, patient = layout.columns
    word = dict(zip(layout.findings, layout.words, strict=True))
    rows = []
    for path in truth.images:
        row = {image: _named(root, layout, path)}
        present = truth.present.get(path)
        if layout.labels == "one-hot":
            row |= (
                {layout.healthy: layout.states[bool(present)]}
                if layout.healthy != "Control"
                else {}
            )
            row |= {
                word[concept]: layout.states[concept not in present] for concept in layout.findings
            }
        elif present is not None:
            row[label] = (
                layout.separator.join(
                    word[concept] for concept in layout.findings if concept in present
                )
                or layout.healthy
            )
        if layout.patients == "column":
            row[patient] = f"P{truth.patients[path]}"
        rows.append(row)
    _write_table(root, layout.table, rows, truth)


def _named(root: Path, layout: Layout, path: str) -> str:
    return {
        "path": path,
        "name": Path(path).name,
        "stem": Path(path).stem,
        "backslash": path.replace("/", "\\"),
        "absolute": str(root.resolve() / path),
        "prefix": f"/kaggle/input/films/{path}",
    }[layout.naming]


def _write_table(root: Path, kind: str, rows: list[dict[str, str]], truth: Truth) -> None:
    if kind in ("csv", "tsv", "semicolon", "cr", "utf16"):
        text = io.StringIO()
        writer = csv.DictWriter(
            text,
            list(rows[0]),
            delimiter={"tsv": "\t", "semicolon": ";"}.get(kind, ","),
            lineterminator="\r" if kind == "cr" else "\n",
        )
        writer.writeheader()
        writer.writerows(rows)
        name = "labels.tsv" if kind == "tsv" else "labels.csv"
        _put(root / name, text.getvalue().encode("utf-16" if kind == "utf16" else "utf-8"), truth)
    elif kind == "jsonl":
        _put(root / "labels.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode(), truth)
    else:
        frame = pl.DataFrame(rows)
        if kind == "parquet":
            frame.write_parquet(root / "labels.parquet")
        else:
            _write_workbook(root / "labels.xlsx", frame)
        truth.files += 1


def _write_workbook(path: Path, frame: pl.DataFrame) -> None:
    from openpyxl import Workbook

    book = Workbook()
    book.active.append(frame.columns)
    for row in frame.iter_rows():
        book.active.append(row)
    book.save(path)


def faults(root: Path, layout: Layout) -> list[str] | None:
    """Write a layout, read it and list what is wrong; None where it was refused."""
    truth = write(root, layout)
    try:
        manifest, account = ingest.accounted(root)
    except BadData as refusal:
        return None if "hilum.toml" in str(refusal) else [f"refused without a remedy: {refusal}"]
    found = []
    if (
        account.files_met != truth.files
        or account.files_met != account.files_used + account.files_named
    ):
        found.append(
            f"{truth.files} files, {account.files_met} met = {account.files_used} used +"
            f" {account.files_named} named"
        )
    path_of = dict(manifest.table.select("image_id", "path").iter_rows())
    if sorted(path_of.values()) != sorted(truth.images):
        found.append(f"images {sorted(set(path_of.values()) ^ set(truth.images))[:4]}")
    present: dict[str, set[str]] = {path: set() for path in path_of.values()}
    labelled: dict[str, set[str]] = {path: set() for path in path_of.values()}
    for image, concept, state in manifest.labels.select("image_id", "concept", "state").iter_rows():
        labelled[path_of[image]].add(concept)
        if state == 1:
            present[path_of[image]].add(concept)
    for path in truth.images:
        wanted = truth.present.get(path)
        wider = {above for concept in wanted or () for above in ancestors(concept)}
        if present.get(path, set()) | wider != (wanted or set()) | wider:
            found.append(f"{path}: present {present.get(path)}, written {wanted}")
        elif wanted is not None and set(layout.findings) - labelled.get(path, set()) - wider:
            found.append(
                f"{path}: nothing said of {set(layout.findings) - labelled.get(path, set())}"
            )
    masked = set(manifest.table.filter(pl.col("lung_mask").is_not_null())["path"])
    if masked != truth.masks:
        found.append(f"masks of {sorted(masked ^ truth.masks)[:4]}")
    if truth.patients:
        found += _torn(manifest.table, truth)
    return found


def _torn(table: pl.DataFrame, truth: Truth) -> list[str]:
    read = dict(table.select("path", "patient_id").iter_rows())
    groups = [
        frozenset(path for path in truth.images if side.get(path) == of)
        for side in (read, truth.patients)
        for of in set(side.values())
    ]
    odd = [group for group, often in Counter(groups).items() if often == 1]
    return [f"patients: {sorted(group)[:3]}" for group in odd[:2]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=2000)
    wanted = parser.parse_args().examples
    reported: Counter[str] = Counter()
    wrong: list[str] = []

    @settings(
        max_examples=wanted,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(layouts())
    def check(layout: Layout) -> None:
        root = Path(tempfile.mkdtemp(prefix="layout-"))
        try:
            found = faults(root, layout)
        finally:
            shutil.rmtree(root)
        outcome = "wrong" if found else "right"
        reported["refused" if found is None else outcome] += 1
        if found:
            wrong.append(f"{layout}\n    " + "\n    ".join(found[:4]))
        if found is None:
            reported[f"refused: labels {layout.labels}, separator '{layout.separator}'"] += 1

    begun = time.monotonic()
    check()
    print("\n".join(wrong[:20]))
    print(
        f"{reported['right']} right, {reported['refused']} refused with lines to add,"
        f" {reported['wrong']} wrong of {wanted}; {time.monotonic() - begun:.0f} s"
    )


if __name__ == "__main__":
    main()
