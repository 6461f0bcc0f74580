"""Recognise altered copies of the images that the bundled models were trained or tuned on.

A model carries digests of these images' pixels (`hilum.inference.pretrained`), which a copy that
was saved again or resized does not match. `FILE` holds a perceptual hash of each (256 bits,
`hilum.imaging.perceptual_hash`), from which no image can be reconstructed, in rows of

    training_list   digest of the model's list of pixel digests: hashes of another training are
                    never mistaken for this one's
    hash            Binary, 32 bytes

tools/build_models/training_hashes.py makes it. Copies are recognised within `DISTANCE` bits,
including mirrored and inverted ones; cropped, rotated or annotated copies are mostly missed
(benchmarks/accuracy/copies.py measures both, and false alarms).
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
import polars as pl

from hilum import storage
from hilum.imaging.hash_search import any_near, near
from hilum.imaging.perceptual_hash import decode
from hilum.inference.onnx_model import OnnxModel

FILE = "resources/training_hashes.parquet"
COLUMNS = {"training_list": pl.String, "hash": pl.Binary}
# Bits of 256: of 2,104 radiographs of other sources none is nearer than 52 to any of 6,544.
DISTANCE = 32


def is_copy(model: OnnxModel, key: np.ndarray | None) -> bool:
    """Return whether an image is a copy of a training or tuning image of the model.

    `key` is the image's `hilum.imaging.perceptual_hash.dct_hash`. False where it has none or the
    model's hashes are not in `FILE`.
    """
    return key is not None and any_near(key, DISTANCE, _hashes(model.training_list))


def are_copies(model: OnnxModel, fingerprints: pl.Series) -> pl.Series:
    """Return `is_copy` for each fingerprint (`hilum.imaging.perceptual_hash`); false for null."""
    known, present = _hashes(model.training_list), fingerprints.is_not_null().to_numpy()
    copies = np.zeros(len(fingerprints), bool)
    if len(known) and present.any():
        pairs = near(decode(fingerprints.drop_nulls()).hashes, DISTANCE, known)
        copies[np.flatnonzero(present)[pairs.first]] = True
    return pl.Series(copies)


@cache
def _hashes(training_list: str) -> np.ndarray:
    """Return the hashes of a training list, uint64 (n, 4)."""
    with resources.as_file(resources.files("hilum").joinpath(FILE)) as path:
        rows = storage.read_table(path).filter(pl.col("training_list") == training_list)
    return np.frombuffer(b"".join(rows["hash"]), np.uint64).reshape(-1, 4)
