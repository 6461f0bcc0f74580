"""Whether a picture is what it should be: a frontal chest radiograph, upright, bright is dense, the heart on the picture's right.

Conventions. Pictures are uint8 (n, size, size) as a cache shows them: letterboxed, bright is dense. `sizes` are the files' own
(height, width), which tell where the letterbox put the picture. A table of looks has one row a picture, see `LOOKS`:

    inverted       log-odds that dark is dense
    turned         log-odds that the picture is not upright, by 90, 180 or 270 degrees
    turn           the likeliest quarter turns by which it was turned counterclockwise, 0 to 3
    mirrored       log-odds that left and right are exchanged; near 0 where the picture does not tell. Situs inversus looks the same
    strange        log-odds that it is no frontal chest radiograph
    distance       of the network's features from those of chest radiographs: Mahalanobis, to the nearest of 16 postures, in units of
                   the 99.9th percentile of the pictures it was fitted to (Lee et al. 2018, arXiv:1807.03888)
    border         share of the picture that is a flat border
    flat           share of the picture inside its border that has one and the same value, the commonest
    black, white   shares inside the border at the ends of the range, 0 and 255
    spread         levels between the 5th and the 95th percentile inside the border

How it sees. Flat borders are cut off, the rest is squeezed to `SIDE` x `SIDE` pixels and its grey levels are replaced by their ranks, so
window, gamma and padding hardly matter. A small network (resources/orientation.onnx, made by bench/train_posture.py; its card says from what)
answers for the picture and for its mirror image, and what mirroring must exchange is exchanged. Small turns, up to 15 degrees, are right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import polars as pl

from hilum import storage
from hilum.dataset.pixel_cache import Cache
from hilum.imaging.geometry import Letterbox, Size, content_box, resize
from hilum.inference.onnx_model import OnnxModel

SIDE = 64
MODEL = "resources/orientation.onnx"
BATCH = 64  # more is no faster
INVERTED, TURNED, TURN, MIRRORED, STRANGE, DISTANCE = NETWORK = (
    "inverted",
    "turned",
    "turn",
    "mirrored",
    "strange",
    "distance",
)
FEATURES = {
    **{name: pl.Int8 if name == TURN else pl.Float32 for name in NETWORK},
    **dict.fromkeys(("border", "flat", "black", "white", "spread"), pl.Float32),
}
EMPTY, EMPTY_SHARE = (
    "empty",
    0.95,
)  # of the pixels with one value; at most 0.23 in 1,400 real radiographs
WORDS = {
    EMPTY: "empty: nearly all pixels have one value",
    INVERTED: "inverted: dark where it is dense",
    MIRRORED: "mirrored: the heart on the wrong side",
    STRANGE: "like no frontal chest radiograph",
}
ROTATIONS = {
    1: "turned by 90° counterclockwise",
    2: "turned upside down",
    3: "turned by 90° clockwise",
}


@dataclass(frozen=True)
class QualityFlag:
    """What is doubted of a picture: one of EMPTY, INVERTED, TURNED, MIRRORED, STRANGE, and words that follow "it looks"."""

    fault: str
    words: str


def describe_orientation(pictures: np.ndarray, sizes: Sequence[Size]) -> pl.DataFrame:
    """`LOOKS` of each picture; an answer does not depend on the pictures beside it."""
    parts = [
        _batch(pictures[start : start + BATCH], sizes[start : start + BATCH])
        for start in range(0, len(sizes), BATCH)
    ]
    return pl.concat(parts) if parts else pl.DataFrame(schema=FEATURES)


def describe_cache(
    cached: Cache,
    index: pl.DataFrame,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pl.DataFrame:
    """`index`, rows of the cache's, with the `LOOKS` of each picture; null where it could not be read."""
    readable, parts = index.filter(pl.col("error").is_null()), []
    for some in readable.iter_slices(BATCH):
        pictures = cached.images[some["row"].to_numpy()]
        parts.append(describe_orientation(pictures, some.select("height", "width").rows()))
        progress(min(BATCH * len(parts), readable.height), readable.height)
    looks = pl.concat([pl.DataFrame(schema=FEATURES), *parts]).with_columns(readable["image_id"])
    return index.join(looks, on="image_id", how="left", maintain_order="left")


def _batch(pictures: np.ndarray, sizes: Sequence[Size]) -> pl.DataFrame:
    seen, tones = zip(
        *(standard(picture, size) for picture, size in zip(pictures, sizes, strict=True)),
        strict=True,
    )
    asked = dict(zip(NETWORK, _network().many(np.stack(seen)).values(), strict=True))
    return pl.DataFrame(
        {**asked, **pl.DataFrame(list(tones)).to_dict(as_series=False)},
        schema=FEATURES,
        strict=False,
    )


def standard(picture: np.ndarray, size: Size) -> tuple[np.ndarray, dict[str, float]]:
    """What the network sees, uint8 (SIDE, SIDE) of ranks, and the looks that need no network."""
    inside = picture[Letterbox(size, picture.shape[0]).inside()]
    rows, columns = content_box(inside)
    cut = inside[rows, columns]
    counts = cv2.calcHist([np.ascontiguousarray(cut)], [0], None, [256], [0, 256]).ravel()
    share = counts / cut.size
    low, high = np.searchsorted(np.cumsum(share), (0.05, 0.95))
    tones = {
        "border": 1 - cut.size / inside.size,
        "flat": float(share.max()),
        "black": float(share[0]),
        "white": float(share[255]),
        "spread": float(high - low),
    }
    return ranks(cut), tones


def ranks(cut: np.ndarray) -> np.ndarray:
    """A picture without borders, of any shape, as the network sees it."""
    return cv2.equalizeHist(resize(np.ascontiguousarray(cut), (SIDE, SIDE)))


def quality_flags(looks: pl.DataFrame) -> Iterator[list[QualityFlag]]:
    """For each row of looks what is doubted of the picture, nothing of a right one.

    Of a picture that is empty or no chest nothing else is said: the other answers mean nothing then. Nor is a turned picture called
    mirrored. Nothing is said of rows without looks.
    """
    limits = _network().metadata["doubted"]
    for row in looks.select(*NETWORK, "flat").iter_rows(named=True):
        over = {
            name for name, limit in limits.items() if row[name] is not None and row[name] > limit
        }
        if row["flat"] is not None and row["flat"] >= EMPTY_SHARE:
            faults = [EMPTY]
        elif over & {STRANGE, DISTANCE}:
            faults = [STRANGE]
        else:
            faults = [
                fault
                for fault in (INVERTED, TURNED, MIRRORED)
                if fault in over and not (fault == MIRRORED and TURNED in over)
            ]
        yield [
            QualityFlag(fault, ROTATIONS[row[TURN]] if fault == TURNED else WORDS[fault])
            for fault in faults
        ]


def digest() -> str:
    """Of the network: what it says changes with it."""
    return storage.digest(resources.files("hilum").joinpath(MODEL).read_bytes())


@cache
def _network() -> OnnxModel:
    with resources.as_file(resources.files("hilum").joinpath(MODEL)) as path:
        return OnnxModel(Path(path))
