"""Detect images that are not upright frontal chest radiographs with bright-is-dense pixels.

Images are uint8 (n, size, size) as the cache holds them: letterboxed, bright is dense. `sizes` are
the (height, width) of the original files, from which the letterbox follows. A feature table has one
row per image and the columns of `FEATURES`:

    inverted             log-odds that dark is dense
    rotated              log-odds that the image is rotated by 90, 180 or 270 degrees
    quarter_turns        most likely number of counterclockwise quarter turns, 0 to 3
    mirrored             log-odds that left and right are exchanged; near 0 where the image does
                         not show it. Situs inversus is indistinguishable from a mirrored image
    out_of_distribution  log-odds that the image is not a frontal chest radiograph
    distance             Mahalanobis distance of the network's features to the nearest of 16
                         orientation classes (8 orientations, inverted or not), in units of the
                         99.9th percentile of the training images (Lee et al. 2018,
                         arXiv:1807.03888)
    border               fraction of the image that is a flat border
    flat                 fraction of the pixels inside the border with the most frequent value
    black, white         fractions inside the border at 0 and at 255
    spread               grey levels between the 5th and the 95th percentile inside the border

Method. Flat borders are removed, the rest is resized to `SIDE` x `SIDE` pixels and its grey levels
are replaced by their ranks, which makes the result almost independent of window, gamma and padding.
A small network (`resources/orientation.onnx`; its card names the training script and data) is
evaluated on the image and on its mirror image, and its outputs are made equivariant to mirroring.
Rotations of up to 15 degrees count as upright.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import polars as pl

from hilum import storage
from hilum.dataset.pixel_cache import Cache
from hilum.errors import BadData
from hilum.imaging.geometry import Letterbox, Size, content_box, resize
from hilum.imaging.image_stack import AsUint8, ImageStack
from hilum.inference.onnx_model import OnnxModel
from hilum.progress import Progress, quietly
from hilum.safety import threads
from hilum.scale import shards
from hilum.scale.journal import delete

SIDE = 64
MODEL = "resources/orientation.onnx"
BATCH = 64  # larger batches are no faster
INVERTED, ROTATED, QUARTER_TURNS, MIRRORED, OUT_OF_DISTRIBUTION, DISTANCE = OUTPUTS = (
    "inverted",
    "rotated",
    "quarter_turns",
    "mirrored",
    "out_of_distribution",
    "distance",
)
FEATURES = {
    **{name: pl.Int8 if name == QUARTER_TURNS else pl.Float32 for name in OUTPUTS},
    **dict.fromkeys(("border", "flat", "black", "white", "spread"), pl.Float32),
}
EMPTY = "empty"
EMPTY_FRACTION = 0.95  # of the pixels with one value; at most 0.23 in 1,400 real radiographs
WORDS = {
    EMPTY: "empty: nearly all pixels have one value",
    INVERTED: "inverted: dark where it is dense",
    MIRRORED: "mirrored: the heart on the wrong side",
    OUT_OF_DISTRIBUTION: "not to be a frontal chest radiograph",
}
ROTATIONS = {
    1: "rotated by 90° counterclockwise",
    2: "rotated by 180°",
    3: "rotated by 90° clockwise",
}


@dataclass(frozen=True)
class QualityFlag:
    """A suspected fault of an image.

    `fault` is EMPTY, INVERTED, ROTATED, MIRRORED or OUT_OF_DISTRIBUTION; `words` describe it and
    complete the phrase "it appears ...". `upright` is of a rotated image: the degrees clockwise
    that make it upright.
    """

    fault: str
    words: str
    upright: int | None = None


def describe_orientation(images: np.ndarray, sizes: Sequence[Size]) -> pl.DataFrame:
    """Compute the `FEATURES` of each image; a row never depends on the other images."""
    parts = [
        _batch(images[start : start + BATCH], sizes[start : start + BATCH])
        for start in range(0, len(sizes), BATCH)
    ]
    return pl.concat(parts) if parts else pl.DataFrame(schema=FEATURES)


def describe_cache(
    cached: Cache,
    index: pl.DataFrame,
    progress: Progress = quietly,
    journal: Path | None = None,
) -> pl.DataFrame:
    """Add the `FEATURES` to rows of a cache's `index`; null for unreadable images.

    Any executor may carry it (`hilum.scale`), in shards that `journal` keeps, a file, until all are
    done. Raises `BadData` that lists the images on which process after process was ended.
    """
    readable = index.filter(pl.col("error").is_null())
    chunks = {chunk["image_id"][0]: _Chunk.of(chunk) for chunk in readable.iter_slices(BATCH)}
    work, made_from, cores = _Describing(cached.images), [digest(), cached.digest], threads.cores()
    outcomes = shards.run(work, chunks, journal, made_from=made_from, threads=cores)
    parts, set_aside = [pl.DataFrame(schema=FEATURES)], list[str]()
    with closing(outcomes):
        each = zip(chunks.items(), outcomes, strict=True)
        for done, ((name, chunk), outcome) in enumerate(each, start=1):
            if outcome.fault:
                rows = readable[readable["image_id"].index_of(name) :][: len(chunk.rows)]
                set_aside += _at_fault(work, rows) or [outcome.fault]
            else:
                parts.append(pl.DataFrame(json.loads(outcome.result), FEATURES))
            progress(min(BATCH * done, readable.height), readable.height)
    if set_aside:
        raise BadData.listing("images of the cache that cannot be described", set_aside)
    if journal is not None:
        delete(journal)
    features = pl.concat(parts).with_columns(readable["image_id"])
    return index.join(features, on="image_id", how="left", maintain_order="left")


class _Chunk(NamedTuple):
    """Images of a cache: their rows in it, and (height, width) of each file."""

    rows: tuple[int, ...]
    sizes: tuple[Size, ...]

    @classmethod
    def of(cls, chunk: pl.DataFrame) -> _Chunk:
        return cls(tuple(chunk["row"]), tuple(chunk.select("height", "width").iter_rows()))


@dataclass(frozen=True)
class _Describing:
    """Gives the columns of `FEATURES` of a chunk of images as JSON."""

    images: ImageStack | AsUint8

    def __call__(self, chunk: _Chunk) -> bytes:
        found = describe_orientation(self.images[list(chunk.rows)], chunk.sizes)
        return json.dumps(found.to_dict(as_series=False)).encode()


def _at_fault(work: _Describing, rows: pl.DataFrame) -> list[str]:
    """Do each image of a chunk that was set aside alone; return what is said of those at fault."""
    alone = {one["image_id"][0]: _Chunk.of(one) for one in rows.iter_slices(1)}
    return [one.fault for one in shards.run(work, alone, None) if one.fault]


def flags_of_image(image: np.ndarray, size: Size) -> tuple[QualityFlag, ...]:
    """Return the suspected faults of one image of a file of (height, width) `size`.

    They are those of its row of features, without the cost of a table.
    """
    content, tones = network_input(image, size)
    row = {name: float(answer) for name, answer in _network()(content).items()}
    return tuple(_flags({**row, "flat": float(np.float32(tones["flat"]))}))


def _batch(images: np.ndarray, sizes: Sequence[Size]) -> pl.DataFrame:
    inputs, tones = zip(
        *(network_input(image, size) for image, size in zip(images, sizes, strict=True)),
        strict=True,
    )
    answers = _network().many(np.stack(inputs))
    return pl.DataFrame(
        {**answers, **pl.DataFrame(list(tones)).to_dict(as_series=False)},
        schema=FEATURES,
        strict=False,
    )


def network_input(image: np.ndarray, size: Size) -> tuple[np.ndarray, dict[str, float]]:
    """Return the network's input, uint8 (SIDE, SIDE), and the features that do not need it."""
    inside = image[Letterbox(size, image.shape[0]).inside()]
    cropped = inside[content_box(inside)]
    counts = cv2.calcHist([np.ascontiguousarray(cropped)], [0], None, [256], [0, 256]).ravel()
    fractions = counts / cropped.size
    low, high = np.searchsorted(np.cumsum(fractions), (0.05, 0.95))
    tones = {
        "border": 1 - cropped.size / inside.size,
        "flat": float(fractions.max()),
        "black": float(fractions[0]),
        "white": float(fractions[255]),
        "spread": float(high - low),
    }
    return ranks(cropped), tones


def ranks(cropped: np.ndarray) -> np.ndarray:
    """Resize an image without borders to (SIDE, SIDE) and replace grey levels by their ranks."""
    return cv2.equalizeHist(resize(np.ascontiguousarray(cropped), (SIDE, SIDE)))


def quality_flags(features: pl.DataFrame) -> Iterator[list[QualityFlag]]:
    """Yield the suspected faults of each row of a feature table; an empty list for a sound image.

    An image that is empty or not a chest gets no other flag, since the other outputs mean nothing
    then; nor is a rotated image called mirrored. Rows of nulls get none.
    """
    yield from map(_flags, features.select(*OUTPUTS, "flat").iter_rows(named=True))


def _flags(row: Mapping[str, float | None]) -> list[QualityFlag]:
    """Return the suspected faults by one image's `OUTPUTS` and its feature "flat"."""
    exceeded = {
        name
        for name, limit in _network().metadata["limits"].items()
        if (value := row[name]) is not None and value > limit
    }
    if (flat := row["flat"]) is not None and flat >= EMPTY_FRACTION:
        faults = [EMPTY]
    elif exceeded & {OUT_OF_DISTRIBUTION, DISTANCE}:
        faults = [OUT_OF_DISTRIBUTION]
    else:
        faults = [
            fault
            for fault in (INVERTED, ROTATED, MIRRORED)
            if fault in exceeded and not (fault == MIRRORED and ROTATED in exceeded)
        ]
    turns = int(row[QUARTER_TURNS] or 0)
    return [
        QualityFlag(ROTATED, ROTATIONS[turns], 90 * turns)
        if fault == ROTATED
        else QualityFlag(fault, WORDS[fault])
        for fault in faults
    ]


def digest() -> str:
    """Return the digest of the network file, on which every feature depends."""
    return storage.digest(resources.files("hilum").joinpath(MODEL).read_bytes())


@cache
def _network() -> OnnxModel:
    with resources.as_file(resources.files("hilum").joinpath(MODEL)) as path:
        return OnnxModel(Path(path))
