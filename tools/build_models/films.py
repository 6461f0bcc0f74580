"""Prepare the films of all data sets once, for the scripts that train and evaluate bundled models.

    python -m tools.build_models.films --data ../shared/data --work DIR

Reads every film of `SETS` with Hilum's own readers, finds its lungs with the bundled lung model and
crops it to them as a run does. Films of kermany-224 were squashed to squares: they are stretched to
the median shape of 16 originals first (`KERMANY_SHAPE`). Writes into DIR, all in one row order,

    whole.npy       uint8 (n, 256, 256), letterboxed, window by percentiles
    lungs.npy       uint8 (n, 256, 256), labels of the lungs, 0 where none was found
    crops.npy       uint8 (n, 224, 224), the lung crop; the typical box for a mask not trusted
    facts.parquet   one row per film, see `COLUMNS`

The row order is that of `SETS`, and by image_id within a set. Chunks are kept in DIR/chunks, so the
same command resumes after an interruption.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypedDict

import numpy as np
import polars as pl

from benchmarks._lib.lung_sets import dealt
from hilum import storage
from hilum.annotations.vocabulary import State
from hilum.config import LungCrop
from hilum.imaging.files import image_file
from hilum.imaging.geometry import Letterbox, Size, resize
from hilum.imaging.radiograph import preprocess
from hilum.inference import lung_crop, lung_finder, orientation, pretrained
from hilum.pipeline import ingest

SETS = (
    "montgomery",
    "shenzhen",
    "nih-448",
    "covid-448",
    "kermany-448",
    "nih-sample",
    "kermany-224",
)
FINDING = {"montgomery": "tuberculosis", "shenzhen": "tuberculosis", "kermany-224": "pneumonia"}
YOUNGEST = {"montgomery": 15.0, "shenzhen": 15.0}  # years; younger films get no part
CHILDREN = ("kermany-448", "kermany-224")
KERMANY_SHAPE = 0.72  # height to width: median of 16 originals, 0.58 to 0.96
CHUNK, SEED = 50, 0
TEST, TUNE = (0, 1), (2,)  # tenths of a set's patients
ARRAYS = {"whole": 256, "lungs": 256, "crops": 224}
COLUMNS = {
    "set": pl.String,  # the folder, one of SETS
    "source": pl.String,  # the collection: nih-sample and nih-448 are both "nih", and so on
    "place": pl.String,  # the hospital or place where stated (covid-448)
    "image_id": pl.String,
    "patient_id": pl.String,  # prefixed by the collection
    "sex": pl.String,
    "age_years": pl.Float64,
    "view": pl.String,
    "tuberculosis": pl.Int8,  # 1 present, 0 absent, null not known
    "pneumonia": pl.Int8,
    "findings": pl.String,  # words of the release, separated by |
    "part": pl.String,  # train, tune or test, by patient within a set
    "path": pl.String,
    "height": pl.Int64,  # of the file, after stretching
    "width": pl.Int64,
    "pixel_digest": pl.String,
    "lung_quality": pl.Float64,  # estimated Dice of the lung mask, before quality flags
    "quality_flags": pl.String,
    "cut": pl.String,  # how the crop was made, one of lung_crop.CUTS
}


class Read(TypedDict):
    """What reading one film gives besides its arrays."""

    height: int
    width: int
    pixel_digest: str
    lung_quality: float
    quality_flags: str
    cut: str


# ---------------------------------------------------------------------------- facts


def facts(data: Path, sets: Sequence[str] = SETS) -> pl.DataFrame:
    """Return the facts of the films of `sets` that are known before their files are read."""
    tables = {name: _listed(data, name).sort("image_id") for name in sets}
    if "kermany-448" in tables and (data / "kermany-224").is_dir():
        # The same patients in another resolution: they keep the part that they have there.
        known = _listed(data, "kermany-224").select("patient_id", "part").unique("patient_id")
        tables["kermany-448"] = (
            tables["kermany-448"]
            .drop("part")
            .join(known, on="patient_id", how="left", maintain_order="left")
            .select(tables["kermany-448"].columns)
        )
    return pl.concat(tables.values())


def _listed(data: Path, name: str) -> pl.DataFrame:
    has_labels = (data / name / "labels.csv").exists()
    table = (_from_labels if has_labels else _from_reader)(data, name)
    given = table.pop("given_part")
    frame = pl.DataFrame(table)
    parts = _parts(frame, name, given)
    known = [column for column in COLUMNS if column not in Read.__annotations__]
    return frame.with_columns(
        pl.Series("part", parts, pl.String), pl.lit(name).alias("set")
    ).select(pl.col(column).cast(COLUMNS[column]) for column in known)


def _from_labels(data: Path, name: str) -> dict[str, list[object]]:
    """Read the `labels.csv` of the sets that are stored with a longest side of 448 pixels."""
    table = pl.read_csv(data / name / "labels.csv", infer_schema=False)
    source = name.split("-")[0]
    rows = table.height
    words = table["finding" if "finding" in table.columns else "label"].fill_null("").to_list()

    def column(wanted: str) -> list[object]:
        return table[wanted].to_list() if wanted in table.columns else [None] * rows

    ages = [float(age) if age and age.replace(".", "").isdigit() else None for age in column("age")]
    pneumonia = [None] * rows
    if name == "kermany-448":
        pneumonia = [int(word == "PNEUMONIA") for word in words]
    # NIH has no label of tuberculosis and covid-448 none of these films: absence is not certain.
    return {
        "source": [source] * rows,
        "place": column("location"),
        "image_id": [f"{source}/{Path(str(image)).stem}" for image in table["image"]],
        "patient_id": [f"{source}/{patient}" for patient in table["patient"]],
        "sex": [{"F": "F", "M": "M"}.get(str(sex)) for sex in column("sex")],
        "age_years": ages,
        "view": column("view"),
        "tuberculosis": [None] * rows,
        "pneumonia": pneumonia,
        "findings": words,
        "path": [f"{name}/{image}" for image in table["image"]],
        "given_part": [None] * rows,
    }


def _from_reader(data: Path, name: str) -> dict[str, list[object]]:
    manifest = ingest.ingest(data / name)
    table = manifest.table
    states: dict[str, dict[str, int]] = {}
    for concept in ("tuberculosis", "pneumonia"):
        known = manifest.states(concept) if FINDING.get(name) == concept else None
        states[concept] = {} if known is None else dict(known.select("image_id", "state").rows())
    source = {"nih-sample": "nih", "kermany-224": "kermany"}.get(name, name)
    words = _nih_words(data) if name == "nih-sample" else {}
    ids = table["image_id"].to_list()

    def state(concept: str, image_id: str) -> int | None:
        value = states[concept].get(image_id)
        return value if value in (State.ABSENT, State.PRESENT) else None

    return {
        "source": [source] * table.height,
        "place": [None] * table.height,
        "image_id": [f"{source}/{one.split('/', 1)[1]}" for one in ids],
        "patient_id": [f"{source}/{one.split('/', 1)[1]}" for one in table["patient_id"]],
        "sex": table["sex"].to_list(),
        "age_years": table["age_years"].to_list(),
        "view": table["view"].to_list(),
        "tuberculosis": [state("tuberculosis", one) for one in ids],
        "pneumonia": [state("pneumonia", one) for one in ids],
        "findings": [words.get(Path(one).name, "") for one in ids],
        "path": [f"{name}/{path}" for path in table["path"]],
        "given_part": table["given_part"].to_list(),
    }


def _nih_words(data: Path) -> dict[str, str]:
    table = pl.read_csv(data / "nih-sample" / "sample_labels.csv")
    return {
        Path(image).stem: words for image, words in table["Image Index", "Finding Labels"].rows()
    }


def _parts(frame: pl.DataFrame, name: str, given: list[object]) -> list[str | None]:
    """Return the part of each film: whole patients, dealt as train_findings.py deals them.

    A patient with a film in the official test part is in the test part with all of them.
    """
    parts: list[str | None] = [None] * frame.height
    usable = np.ones(frame.height, bool)
    if name in YOUNGEST:
        ages = frame["age_years"].fill_null(99).to_numpy()
        usable = (ages >= YOUNGEST[name]) & frame["tuberculosis"].is_not_null().to_numpy()
    rows = np.flatnonzero(usable)
    patients = frame["patient_id"].to_numpy()[rows]
    tested = {
        patient for patient, part in zip(frame["patient_id"], given, strict=True) if part == "test"
    }
    for row, patient, tenth in zip(rows, patients, dealt(patients, 10, SEED), strict=True):
        in_test = patient in tested if tested else tenth in TEST
        others = "tune" if tenth in TUNE else "train"
        parts[row] = "test" if in_test else others
    return parts


# ---------------------------------------------------------------------------- arrays


def read(path: Path, typical: dict[str, float], shape: float) -> tuple[dict[str, np.ndarray], Read]:
    """Read one film: its arrays by name, and the facts that only its pixels tell."""
    model = pretrained.lung_model()
    file = image_file.read(path)
    radiograph, size = file.radiograph(), file.radiograph().size
    image = preprocess(radiograph, model.contract.size, model.contract.normalisation)
    flags = orientation.flags_of_image(image, size)
    image, size = stretched(image, size, shape)
    found = lung_finder.segment_lungs(model, image, size)
    cut = lung_crop.cut(
        image, found.labels, LungCrop(), quality=found.quality, typical=typical, size=size
    )
    arrays = {"whole": image, "lungs": found.labels, "crops": cut.image}
    words = "|".join(flag.fault for flag in flags)
    return arrays, Read(
        height=size[0],
        width=size[1],
        pixel_digest=file.pixel_digest,
        lung_quality=found.quality,
        quality_flags=words,
        cut=cut.how,
    )


def stretched(image: np.ndarray, size: Size, shape: float) -> tuple[np.ndarray, Size]:
    """Return a letterboxed image of a square file as it would be had the file been of `shape`."""
    if shape == 1:
        return image, size
    inner = round(image.shape[0] * shape), image.shape[1]
    return Letterbox(inner, image.shape[0]).forward(resize(image, inner)), inner


def _chunk(data: Path, rows: list[tuple[str, str]], to: Path) -> None:
    """Read the films (set, path) of one chunk and write them, whole or not at all."""
    typical = {
        children: pretrained.PretrainedModel(pretrained.path(f"{model}.onnx")).typical
        for children, model in ((True, "pneumonia_child"), (False, "tuberculosis"))
    }
    read_films = [
        read(data / path, typical[name in CHILDREN], KERMANY_SHAPE if name == "kermany-224" else 1)
        for name, path in rows
    ]
    content: dict[str, np.ndarray] = {
        name: np.stack([arrays[name] for arrays, _ in read_films]) for name in ARRAYS
    }
    for column in Read.__annotations__:
        facts_of = [dict(facts) for _, facts in read_films]
        content[column] = np.array([facts[column] for facts in facts_of])
    with storage.replacing(to) as beside, open(beside, "wb") as stream:
        np.savez(stream, **content)


def _chunks(table: pl.DataFrame, data: Path, folder: Path) -> Iterator[tuple[Path, pl.DataFrame]]:
    for start in range(0, table.height, CHUNK):
        yield folder / f"{start:05d}.npz", table.slice(start, CHUNK)


def prepare(data: Path, work: Path, sets: Sequence[str], processes: int) -> None:
    """Write the arrays and facts of all films of `sets` into `work`."""
    table = facts(data, sets)
    (work / "chunks").mkdir(parents=True, exist_ok=True)
    chunks = list(_chunks(table, data, work / "chunks"))
    # A forked process would inherit the locks of Polars' threads and wait for ever.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        waiting = [
            pool.submit(_chunk, data, part.select("set", "path").rows(), path)
            for path, part in chunks
            if not path.exists()
        ]
        for done, one in enumerate(waiting, start=1):
            one.result()
            print(f"{done} of {len(waiting)} chunks", flush=True)
    into = {
        name: np.lib.format.open_memmap(
            work / f"{name}.npy", "w+", np.uint8, (table.height, side, side)
        )
        for name, side in ARRAYS.items()
    }
    columns: dict[str, list[object]] = {name: [] for name in Read.__annotations__}
    for number, (path, part) in enumerate(chunks):
        with np.load(path) as stored:
            for name, array in into.items():
                array[number * CHUNK : number * CHUNK + part.height] = stored[name]
            for name, values in columns.items():
                values += stored[name].tolist()
    for array in into.values():
        array.flush()
    added = [pl.Series(name, values, COLUMNS[name]) for name, values in columns.items()]
    storage.write_table(work / "facts.parquet", table.with_columns(added).select(list(COLUMNS)))


def main() -> None:
    """Parse the command line and prepare the films."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the sets")
    parser.add_argument("--work", type=Path, required=True, help="the folder to write")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    prepare(arguments.data, arguments.work, arguments.sets, arguments.processes)


if __name__ == "__main__":
    main()
