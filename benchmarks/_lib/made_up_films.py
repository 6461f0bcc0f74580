"""Make up a set of radiographs the size of ChestX-ray14, as a cache and a manifest, for benchmarks.

All films are alike in layout, as real ones are: a chest, its patient's own coarse and fine
structure, and what changes from film to film (pose, tones, noise). A patient has several. The
strengths are set so that the films' hashes and phases crowd as those of real films do: 117 bits of
256 between two films, about 60 in one of 10,000 pairs, and a clear shift in one candidate of ten.
One film in `COPIED` is a changed copy of another. Labels are random, at the frequencies of
ChestX-ray14.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import polars as pl

from hilum.dataset import pixel_cache
from hilum.dataset.manifest import COLUMNS, LABEL_COLUMNS, REMARK_COLUMNS, SHAPE_COLUMNS, Manifest
from hilum.dataset.pixel_cache import FACTS, Cache
from hilum.imaging import synthetic
from hilum.imaging.perceptual_hash import hash_image
from hilum.storage.integrity import checksum

SIDE = 256
PER_PATIENT, MOST_OF_PATIENT = 3.6, 60  # films, on average and at most
COPIED = 200
COARSE, FINE = (3, 5, 8, 13, 22), (36, 60, 100, 160)  # cells across of noise
CHESTS = 24
OF_CHEST, OF_COARSE, OF_FINE, OF_FILM = 1.0, 0.17, 0.045, 0.65  # strengths
FREQUENCIES = {
    "infiltration": 0.177, "effusion": 0.119, "atelectasis": 0.103, "nodule": 0.056,
    "mass": 0.052, "pneumothorax": 0.047, "consolidation": 0.042, "pleural_thickening": 0.03,
    "cardiomegaly": 0.025, "emphysema": 0.022, "edema": 0.021, "fibrosis": 0.015,
    "pneumonia": 0.013, "hernia": 0.002,
}  # fmt: skip


@cache
def _chest(seed: int) -> np.ndarray:
    """Return a synthetic chest, float32 (SIDE, SIDE) in 0 to 1."""
    rng = np.random.default_rng(seed)
    chest = synthetic.draw(synthetic.anatomy(rng), rng, height=SIDE, width=SIDE)
    return chest.pixels.astype(np.float32) / 255


def _noise(rng: np.random.Generator, cells: tuple[int, ...]) -> np.ndarray:
    """Return smooth noise of several scales, float32 (SIDE, SIDE) with deviation about 1."""
    fields = [
        cv2.resize(
            rng.standard_normal((count, count), np.float32),
            (SIDE, SIDE),
            interpolation=cv2.INTER_CUBIC,
        )
        for count in cells
    ]
    return np.sum(fields, axis=0) * np.float32(1.4 / len(cells) ** 0.5)


def films_of(patient: int, films: int) -> Iterator[np.ndarray]:
    """Yield the films of a patient, uint8 (SIDE, SIDE)."""
    rng = np.random.default_rng([patient, 1])
    own = OF_COARSE * _noise(rng, COARSE) + OF_FINE * _noise(rng, FINE)
    body = OF_CHEST * _chest(int(rng.integers(CHESTS)))
    for _ in range(films):
        other = OF_COARSE * _noise(rng, COARSE) + OF_FINE * _noise(rng, FINE)
        shown = body + own * np.float32(1 - OF_FILM / 2) + other * np.float32(OF_FILM)
        turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), rng.normal(0, 2), rng.normal(1, 0.04))
        turn[:, 2] += rng.normal(0, 6, 2)
        shown = cv2.warpAffine(shown, turn, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)
        shown += 0.01 * rng.standard_normal(shown.shape, np.float32)
        low, high = np.percentile(shown[::4, ::4], (0.5, 99.5))
        tones = np.clip((shown - low) / (high - low), 0, 1) ** np.float32(rng.uniform(0.8, 1.25))
        yield np.rint(tones * 255).astype(np.uint8)


def changed(image: np.ndarray, way: int) -> np.ndarray:
    """Return a copy of a film: smaller, saved as JPEG, mirrored, cropped or rotated."""
    match way % 5:
        case 0:
            half = cv2.resize(image, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA)
            return cv2.resize(half, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        case 1:
            encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
            return cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
        case 2:
            return np.ascontiguousarray(image[:, ::-1])
        case 3:
            return cv2.resize(image[12:-12, 12:-12], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        case _:
            turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), 3, 1)
            return cv2.warpAffine(image, turn, (SIDE, SIDE))


def films_per_patient(count: int) -> list[int]:
    """Return how many films each patient has, `count` in all."""
    some = np.random.default_rng(0).geometric(1 / PER_PATIENT, count).clip(1, MOST_OF_PATIENT)
    ends = np.cumsum(some)
    patients = int(np.searchsorted(ends, count)) + 1
    some = some[:patients]
    some[-1] -= ends[patients - 1] - count
    return some.tolist()


def write(folder: Path, count: int) -> None:
    """Write a cache of `count` films, and their manifest, into `folder`, or nothing."""
    per_patient, target = films_per_patient(count), folder
    folder = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows: list[tuple[int, int, str, int]] = []
    with (
        (folder / pixel_cache.IMAGES[8]).open("wb") as file,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for start in range(0, len(per_patient), 64):
            some = range(start, min(start + 64, len(per_patient)))
            for patient, films in pool.map(lambda one: (one, _made(one, per_patient[one])), some):
                for film, fingerprint in films:
                    rows.append((len(rows), patient, fingerprint, checksum(film)))
                    file.write(film.tobytes())
    with (folder / pixel_cache.MASKS).open("wb") as masks:
        masks.truncate(count * SIDE * SIDE)
    _index(rows).write_parquet(folder / pixel_cache.INDEX)
    _manifest(rows).write(folder)
    folder.rename(target)


def _made(patient: int, count: int) -> list[tuple[np.ndarray, str | None]]:
    films = list(films_of(patient, count))
    if patient % COPIED == 0 and patient:  # the patients of made-up sets are never far apart
        films[0] = changed(next(films_of(patient - 1, 1)), patient // COPIED)
    return [(film, hash_image(film, film.shape)) for film in films]


def opened(folder: Path) -> tuple[Manifest, Cache]:
    """Open what `write` wrote."""
    manifest = Manifest.read(folder)
    return manifest, Cache.open(folder, SIDE, manifest)


def _name(row: int) -> str:
    return f"made/{row:08d}.png"


def _index(rows: list[tuple[int, int, str, int]]) -> pl.DataFrame:
    known = pl.DataFrame(
        rows, schema=["row", "patient", "fingerprint", "image_crc32"], orient="row"
    )
    number = pl.col("row").cast(pl.String)
    known = known.with_columns(
        image_id=pl.Series(map(_name, known["row"])),
        file_digest=pl.concat_str(pl.lit("f"), number),
        pixel_digest=pl.concat_str(pl.lit("p"), number),
        height=SIDE,
        width=SIDE,
        kind=pl.lit("PNG"),
        colour=pl.lit(False),
        bits=8,
        minimum=0,
        maximum=255,
        mask_crc32=checksum(np.zeros((SIDE, SIDE), np.uint8)),
    )
    return known.select(
        (pl.col(name) if name in known.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in FACTS.items()
    )


def _manifest(rows: list[tuple[int, int, str, int]]) -> Manifest:
    rng, count = np.random.default_rng(1), len(rows)
    patient = np.array([row[1] for row in rows])
    people = rng.integers(0, 2, patient.max() + 1), rng.integers(15, 85, patient.max() + 1)
    known = pl.DataFrame(
        {
            "image_id": [_name(row) for row in range(count)],
            "patient_id": [f"made/p{one:06d}" for one in patient],
            "path": [f"images/{row:08d}.png" for row in range(count)],
            "sex": np.array(["female", "male"])[people[0][patient]],
            "age_years": people[1][patient].astype(float),
            "view": np.array(["PA", "AP"])[rng.integers(0, 2, count)],
        }
    ).with_columns(dataset=pl.lit("made"), source=pl.lit("made"))
    labels = [
        known.select(
            "image_id",
            concept=pl.lit(concept),
            state=pl.Series(rng.random(count) < often).cast(pl.Int8),
            source=pl.lit("made up"),
            term=pl.lit(concept),
            rule=pl.lit("column"),
        )
        for concept, often in FREQUENCIES.items()
    ]
    return Manifest(
        Path("/made/up"),
        _typed(known, COLUMNS),
        _typed(pl.concat(labels), LABEL_COLUMNS).sort("image_id", "concept"),
        pl.DataFrame(schema=REMARK_COLUMNS),
        pl.DataFrame(schema=SHAPE_COLUMNS),
    )


def _typed(table: pl.DataFrame, columns: dict[str, pl.DataType]) -> pl.DataFrame:
    return table.select(
        (pl.col(name) if name in table.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in columns.items()
    )
