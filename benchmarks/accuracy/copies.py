"""Count how many copies of training images are recognised, and how many other images are taken
for copies.

    python -m benchmarks.accuracy.copies --data ../shared/data --work work

Known are the images of a run's cache, as `hilum apply` compares them
(`hilum.audit.duplicates.known_images`), and the hashes that come with Hilum, as `hilum classify`
does (`hilum.inference.training_hashes`). Each of `COPIES` copies is of an image drawn at random,
resized by 0.5 to 1.5, by one of three ways of interpolation, and saved as JPEG of quality 30 to 95,
as PNG or as TIFF of 16 bits. `REMADE` are copies that others made. No other image is of the same
patients; but held-out images of the very hospitals are among them, of which some are of the same
patients.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import polars as pl

from benchmarks._lib.results import machine, record
from hilum.audit.duplicates.known_images import KnownImages
from hilum.config import Pixels
from hilum.dataset.pixel_cache import Cache
from hilum.imaging.files import image_file
from hilum.imaging.files.find_images import collect
from hilum.imaging.perceptual_hash import dct_hash
from hilum.imaging.radiograph import preprocess
from hilum.inference import pretrained, training_hashes
from hilum.inference.onnx_model import OnnxModel
from hilum.pipeline import cache, ingest

COPIES = 300
SETS = {"adults": ("montgomery", "shenzhen"), "children": ("kermany-224",)}
REMADE = {"children": ("kermany-448/images",)}  # 600 of the same films, by another way
OTHERS = ("nih-448/images", "covid-448/images")
WAYS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
MOST_SCALED, LEAST_SCALED = 1.5, 0.5
BEST_QUALITY, WORST_QUALITY = 95, 30


@dataclass(frozen=True)
class New:
    """Hold an image as a command sees it: the cached square, the size of the file and
    its digests.
    """

    square: np.ndarray
    size: tuple[int, int]
    file_digest: str
    pixel_digest: str

    @classmethod
    def of(cls, path: Path) -> New:
        file = image_file.read(path)
        radiograph = file.radiograph()
        return cls(
            preprocess(radiograph, Pixels.size, Pixels.normalisation),
            radiograph.size,
            file.file_digest,
            file.pixel_digest,
        )


Images = dict[str, list[New]]


@dataclass(frozen=True)
class Known:
    """Hold a set of images: their paths by pixel digest, and its caches."""

    paths: dict[str, Path]
    images: list[KnownImages]
    ids: dict[str, str]  # pixel digest by image id

    def copy_of(self, new: New) -> str | None:
        """Return the pixel digest of the known image that a new one is reported to be."""
        found = [
            one.find(
                new.square, new.size, file_digest=new.file_digest, pixel_digest=new.pixel_digest
            )
            for one in self.images
        ]
        best = max((copy for copy in found if copy), key=lambda copy: copy.agreement, default=None)
        return None if best is None else self.ids[best.image_id]


def known(data: Path, folders: Iterable[str], work: Path) -> Known:
    paths, images, ids = {}, [], {}
    for folder in folders:
        manifest = ingest.ingest(data / folder)
        filled = cache.fill(manifest, Pixels(), work / folder)
        shown = filled.index.drop_nulls("fingerprint").join(
            manifest.table.select("image_id", "path"), on="image_id"
        )
        paths |= {
            digest: manifest.root / path
            for digest, path in shown.select("pixel_digest", "path").iter_rows()
        }
        ids |= dict(shown.select("image_id", "pixel_digest").iter_rows())
        images.append(_images(filled, shown))
    return Known(paths, images, ids)


def _images(filled: Cache, shown: pl.DataFrame) -> KnownImages:
    return KnownImages(filled, shown["image_id"])


def changed(path: Path, rng: np.random.Generator) -> bytes:
    """Return a copy of a file, see above."""
    values = image_file.read(path).values
    scale, way = rng.uniform(LEAST_SCALED, MOST_SCALED), int(rng.choice(WAYS))
    copy = cv2.resize(values, None, fx=scale, fy=scale, interpolation=way)
    kind = rng.choice(["jpeg", "png", "tiff"], p=[0.8, 0.1, 0.1])
    if kind == "jpeg":
        eight = copy if copy.dtype == np.uint8 else (copy >> 8).astype(np.uint8)
        return imagecodecs.jpeg_encode(
            eight, level=int(rng.integers(WORST_QUALITY, BEST_QUALITY + 1))
        )
    return (
        imagecodecs.png_encode(copy)
        if kind == "png"
        else imagecodecs.tiff_encode(
            copy.astype(np.uint16) * (257 if copy.dtype == np.uint8 else 1)
        )
    )


def copies(paths: dict[str, Path], digests: Sequence[str]) -> Iterator[tuple[str, New]]:
    """Yield the pixel digests of the original and the copy, for `COPIES` of the listed images."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "copy"
        for digest in rng.choice(sorted(digests), COPIES, replace=False).tolist():
            place.write_bytes(changed(paths[digest], rng))
            yield digest, New.of(place)


def others(data: Path, folders: Iterable[str]) -> Images:
    """Return images by description."""
    found = {f"images of {folder.split('/')[0]}": collect([data / folder]) for folder in folders}
    return {name: [New.of(path) for path, _ in of.names] for name, of in found.items()}


def fraction(count: int, of: int) -> str:
    return f"{count} of {of:,} ({count / of:.1%})"


def by_images(known_set: Known, foreign: Images, remade: Images) -> Iterator[str]:
    """Yield the cells of the table of `hilum apply`."""
    paths = known_set.paths
    found = [(own, known_set.copy_of(new)) for own, new in copies(paths, list(paths))]
    right = sum(own == other for own, other in found)
    wrong = sum(other not in (None, own) for own, other in found)
    yield f"copies recognised | {fraction(right, COPIES)}"
    yield f"copies taken for another image | {fraction(wrong, COPIES)}"
    for name, images in foreign.items():
        begun = time.process_time()
        reported = sum(known_set.copy_of(new) is not None for new in images)
        each = (time.process_time() - begun) / len(images) * 1000
        yield (
            f"{name} taken for copies, {each:.0f} ms of CPU each |"
            f" {fraction(reported, len(images))}"
        )
    for name, images in remade.items():
        reported = sum(known_set.copy_of(new) is not None for new in images)
        yield f"{name} recognised | {fraction(reported, len(images))}"


def by_hashes(model: OnnxModel, known_set: Known, foreign: Images, remade: Images) -> Iterator[str]:
    """Yield the cells of the table of `hilum classify`."""
    paths, listed = known_set.paths, set(model.metadata["trained_on"]["pixels"])
    held_out = [New.of(path) for digest, path in sorted(paths.items()) if digest not in listed]
    copied = [new for _, new in copies(paths, list(listed & set(paths)))]
    yield f"copies recognised | {fraction(recognised(model, copied), COPIES)}"
    for name, images in {"held-out images of the same sets": held_out, **foreign}.items():
        yield f"{name} taken for copies | {fraction(recognised(model, images), len(images))}"
    for name, images in remade.items():
        yield f"{name} recognised | {fraction(recognised(model, images), len(images))}"


def recognised(model: OnnxModel, images: Iterable[New]) -> int:
    return sum(training_hashes.is_copy(model, dct_hash(new.square, new.size)) for new in images)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="where caches are kept")
    arguments = parser.parse_args()
    foreign = others(arguments.data, OTHERS)
    remade = {name: others(arguments.data, folders) for name, folders in REMADE.items()}
    sets = {name: known(arguments.data, folders, arguments.work) for name, folders in SETS.items()}
    lines = []
    for name, known_set in sets.items():
        reported = f"{len(known_set.paths):,} images of {name}"
        cells = by_images(known_set, foreign, remade.get(name, {}))
        lines += [f"| apply | {reported} | {cell} |" for cell in cells]
    for model in (reader.model for reader in pretrained.pretrained_models()):
        name = "children" if model.path.stem == "pneumonia_child" else "adults"
        reported = (
            f"{len(set(model.metadata['trained_on']['pixels'])):,} hashes of {model.path.stem}"
        )
        cells = by_hashes(model, sets[name], foreign, remade.get(name, {}))
        lines += [f"| classify | {reported} | {cell} |" for cell in cells]
    about = (
        "`python -m benchmarks.accuracy.copies --data ../shared/data --work work` on"
        f" {machine('numpy')}."
    )
    made = (
        f"{COPIES} copies each: resized by {LEAST_SCALED} to {MOST_SCALED}, saved as JPEG of "
        f"quality {WORST_QUALITY} to {BEST_QUALITY} (four of five), PNG or TIFF of 16 bits."
    )
    head = ["| command | known | what | images |", "| --- | --- | --- | --: |"]
    record("Copies of training images", "\n".join([about, "", made, "", *head, *lines]))


if __name__ == "__main__":
    main()
