"""Work that `two_trees` times, each piece in a process of its own, on the tree that is imported.

    PYTHONPATH=TREE/src:. python -m benchmarks.speed.tree_programs NAME ARGUMENTS

Prints what each part took as JSON: {what: [processor seconds, wall seconds]}. Only what is named
is timed, not the imports nor the reading of inputs. The trees call modules and names by the words
of their time; `name` takes the one that the tree has.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

Times = dict[str, list[float]]


def name(now: str, before: str) -> Any:
    """Import MODULE:NAME, or MODULE alone, by its name now or else by its earlier one."""
    faults = []
    for place in (now, before):
        module, _, member = place.partition(":")
        try:
            found = importlib.import_module(f"hilum.{module}")
            return getattr(found, member) if member else found
        except (ImportError, AttributeError) as error:
            faults.append(error)
    raise ImportError(f"this tree has neither hilum.{now} nor hilum.{before}: {faults}")


@contextmanager
def timed(times: Times, what: str) -> Iterator[None]:
    """Add what the block takes to `times`; the least where `what` is timed several times."""
    cpu, wall = time.process_time(), time.perf_counter()
    yield
    spent = [time.process_time() - cpu, time.perf_counter() - wall]
    times[what] = min(times.get(what, spent), spent)


def one_core() -> None:
    """Keep this process on one core, before any library starts its threads."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


# ---------------------------------------------------------------------------------- data sets


def loader_and_cache(times: Times, data: Path) -> None:
    """Fill a cache of 256 x 256; read batches of 32 images and masks once, then 40 times.

    In the first epoch each row is compared with its checksum.
    """
    ingest = name("pipeline.ingest:ingest", "steps.ingest:ingest")
    fill = name("pipeline.cache:fill", "steps.cache:fill")
    pixels = name("config:Pixels", "recipe:Pixels")(size=256)
    cache = name("dataset.pixel_cache:Cache", "cached:Cache")
    manifest, rng = ingest(data), np.random.default_rng(0)

    def epochs(opened: Any, count: int) -> None:
        images = len(opened.images)
        for _ in range(count):
            for rows in np.array_split(rng.permutation(images), images // 32):
                opened.images.read(rows), opened.masks.read(rows)

    with tempfile.TemporaryDirectory() as folder:
        with timed(times, "fill the cache, 300 images"):
            filled = fill(manifest, pixels, Path(folder)).folder
        opened = cache.open(filled, 256, manifest)
        with timed(times, "first epoch of 300 images"):
            epochs(opened, 1)
        with timed(times, "40 more epochs"):
            epochs(opened, 40)


def audit_tables(times: Times, data: Path) -> None:
    """Run every check on the 112,120 rows of ChestX-ray14, with made-up facts of the files."""
    ingest = name("pipeline.ingest:ingest", "steps.ingest:ingest")
    audit = name("pipeline.audit:audit", "steps.audit:audit")
    facts = name("dataset.pixel_cache:FACTS", "cached:FACTS")
    manifest, number = ingest(data), pl.int_range(pl.len())
    known = {
        "row": number,
        "file_digest": number.cast(pl.String),
        "pixel_digest": number.cast(pl.String),
        "height": 1024 + number % 4,
        "width": pl.lit(1024),
        "bits": pl.lit(8),
        "minimum": pl.lit(0),
        "maximum": pl.lit(255),
    }
    table = manifest.table.select("image_id", **known)
    table = table.select(
        pl.col(column).cast(kind) if column in table.columns else pl.lit(None, kind).alias(column)
        for column, kind in facts.items()
    )
    with timed(times, "audit of a table of 112,120 rows"):
        audit(manifest, table)


def duplicates(times: Times, inputs: Path) -> None:
    """Search the fingerprints and images that `two_trees` made for near duplicates."""
    doubles = name("audit.duplicates.near_duplicates", "doubles")
    near = name("imaging.hash_search:near", "likeness:near")
    nearest = name("imaging.spectrum_search:nearest", "imaging.hash_search:nearest")
    keys = name("imaging.perceptual_hash:HashKeys", "fingerprint:Keys")
    cached = name("dataset.pixel_cache", "cached")
    made, squares = np.load(inputs / "keys.npz"), np.load(inputs / "squares.npy")
    index, digests = (pl.read_parquet(inputs / f"{one}.parquet") for one in ("index", "digests"))
    many = keys(made["hashes"], made["spectra"])
    with timed(times, f"hashes within {doubles.DISTANCE} bits, {len(many):,}"):
        near(many.hashes, doubles.DISTANCE)
    with timed(times, f"nearest spectra, {len(many):,}"):
        nearest(many, doubles.NEIGHBOURS)
    with timed(times, f"equal files and pixels, {digests.height:,}"):
        doubles.within(digests)
    with tempfile.TemporaryDirectory() as folder:
        squares.tofile(Path(folder) / cached.IMAGES[8])
        cache = cached.Cache(Path(folder), squares.shape[1], index)
        with timed(times, f"near duplicates with the images, {index.height:,}"):
            doubles.within(cache.index, cache)


# ------------------------------------------------------------------------------- files, images


def first_pass(times: Times, folder: Path) -> None:
    """Read PNG files, preprocess them and digest the result, as filling a cache does."""
    read = name("imaging.files.image_file:read", "files.picture:read")
    preprocess = name("imaging.radiograph:preprocess", "radiograph:prepare")
    digest = name("storage:digest", "store:digest")
    paths = sorted(folder.rglob("*.png"))[:25]
    for size in (256, 512):
        for _ in range(2):
            with timed(times, f"first pass over {len(paths)} PNG, to {size}"):
                for path in paths:
                    file = read(path)
                    file.values.min(), file.values.max()
                    digest(preprocess(file.radiograph(), size, "percentiles").tobytes())


def dicom(times: Times, folder: Path) -> None:
    """Read the plate of 3000 x 2500 in each transfer syntax, and the headers of many files."""
    from pydicom.data import get_testdata_files

    reader = name("imaging.files.dicom", "files.dicom")
    error = name("errors:HilumError", "errors:HilumError")
    for path in sorted(folder.glob("*.dcm")):
        for _ in range(2):
            with timed(times, f"DICOM, {path.stem.replace('_', ' ')}"):
                reader.read(path)

    def readable(path: Path) -> bool:
        try:
            reader.header(path)
        except error:
            return False
        return True

    own = [path for path in map(Path, sorted(get_testdata_files("*.dcm"))) if readable(path)]
    for _ in range(3):
        with timed(times, f"DICOM headers, {5 * len(own)}"):
            for path in own * 5:
                reader.header(path)


def lungs(times: Times, image: Path) -> None:
    """Segment the lungs of one image on one core: the network alone, and with its quality."""
    one_core()
    read = name("imaging.files.image_file:read", "files.picture:read")
    path_of = name("inference.pretrained:path", "shipped:path")
    model_of = name("inference.onnx_model:OnnxModel", "exported:Exported")
    segment = name("inference.segment_images:segment_image", "steps.lungs:look")
    rng = np.random.default_rng(0)
    square = rng.integers(0, 256, (256, 256), np.uint8)
    model = model_of(path_of("lungs.onnx"))
    model(square)
    for _ in range(20):
        with timed(times, "lungs.onnx, the network alone"):
            model(square)
    for _ in range(10):
        with timed(times, "lungs of one file on one core"):
            segment(model, read(image), image)


def classify(times: Times, image: Path) -> None:
    """Classify one image on one core, with the models loaded."""
    one_core()
    run = name("inference.classify_images:classify_images", "steps.read:read")
    pretrained = name("inference.pretrained:pretrained_models", "shipped:readers")()
    for _ in range(6):
        with timed(times, "classify one file on one core"):
            run([image], None, models=pretrained)


# ----------------------------------------------------------------------------------- training


def batches(times: Times, squares: Path) -> None:
    """Read 1,600 images of 256 x 256 in batches of 32, changed to 224 x 224."""
    stack = name("imaging.image_stack:ImageStack", "stack:Stack")(squares, 256)
    augmentation = name("training.augmentation:Augmentation", "augment:Augmentation")
    images = name("training.batches:TrainingImages", "batches:Pictures")(stack)
    loader = name("training.batches", "batches")
    rows = np.arange(1600) % len(stack)
    still = {"contrast": 0, "brightness": 0, "gamma": 0, "crop": 224}
    moves = {"rotation_degrees": 45, "scale": 0.15, "shift": 0.15}
    changes = {
        "affine": augmentation(**moves, **still),
        "crop and flip": augmentation(**dict.fromkeys(moves, 0), flip=True, **still),
    }
    out = np.empty((32, 224, 224), np.float32)
    for what, change in changes.items():
        for _ in range(3):
            with timed(times, f"batches of 1,600 images, {what}"):
                for batch in loader.epoch(images, rows, 32, np.random.default_rng(0), change):
                    loader.as_float(batch.images, out[: len(batch.images)])


def patchcore(times: Times, squares: Path) -> None:
    """Fit PatchCore to 80 images of 224 x 224 in one thread, then score 40."""
    import torch

    module = name("training.models.patchcore", "models.patchcore")
    torch.set_num_threads(1)
    images = np.load(squares)
    with timed(times, "PatchCore, fit to 80 images"):
        network = module.fit(images, np.arange(80), module.Settings(), seed=0)
    with timed(times, "PatchCore, score 40 images"), torch.no_grad():
        for start in range(0, 40, 10):
            network(torch.from_numpy(images[start : start + 10]))


def segmenter(times: Times, inputs: Path) -> None:
    """Train the compact segmenter for 12 batches on 24 images of 256 x 256 in one thread."""
    import torch

    module = name("training.models.compact_unet", "models.compact")
    torch.set_num_threads(1)
    images, masks = np.load(inputs / "train_images.npy"), np.load(inputs / "train_masks.npy")
    settings = module.Settings(epochs=1, least_steps=12, precision="float32")
    with timed(times, "train the compact segmenter, 12 batches"):
        module.fit(images, masks, np.arange(len(images)), settings, seed=0)


PROGRAMS: dict[str, Callable[[Times, Path], None]] = {
    one.__name__: one
    for one in (
        loader_and_cache, audit_tables, duplicates, first_pass, dicom, lungs, classify, batches,
        patchcore, segmenter,
    )
}  # fmt: skip


def main() -> None:
    chosen, source = sys.argv[1:]
    times: Times = {}
    PROGRAMS[chosen](times, Path(source))
    print(json.dumps(times))


if __name__ == "__main__":
    main()
