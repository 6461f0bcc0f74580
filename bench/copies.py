"""Copies of images that a model was trained on: how many are recognised, and how many other images are taken for copies.

    python bench/copies.py --data ../shared/data --work work

Known are the images of a run's cache, as `hilum predict` compares them (`hilum.copies`), and the hashes that come with Hilum, as `hilum read`
does (`hilum.training_hashes`). Each of `COPIES` copies is of an image drawn at random, resized by 0.5 to 1.5, by one of three ways of
interpolation, and saved as JPEG of quality 30 to 95, as PNG or as TIFF of 16 bits. `REMADE` are copies that others made. No other image is of the same patients; but held-out
images of the very hospitals are among them, of which some are of the same patients.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import polars as pl

from hilum import shipped, training_hashes
from hilum.cached import Cache
from hilum.copies import KnownImages
from hilum.files import picture
from hilum.files.collect import collect
from hilum.radiograph import prepare
from hilum.recipe import Pixels
from hilum.steps import cache, ingest
from results import machine, record

COPIES = 300
SETS = {"adults": ("montgomery", "shenzhen"), "children": ("kermany-224",)}
REMADE = {"children": "kermany-448/images"}  # 600 of the same films, by another way from the originals
OTHERS = ("nih-448/images", "covid-448/images")
WAYS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
MOST_SCALED, LEAST_SCALED = 1.5, 0.5
BEST_QUALITY, WORST_QUALITY = 95, 30


@dataclass(frozen=True)
class New:
    """An image as a command sees it: the cached square, the size of the file and its digests."""

    square: np.ndarray
    size: tuple[int, int]
    file_digest: str
    pixel_digest: str

    @classmethod
    def of(cls, path: Path) -> New:
        file = picture.read(path)
        radiograph = file.radiograph()
        return cls(prepare(radiograph, Pixels.size, Pixels.window), radiograph.size, file.file_digest, file.pixel_digest)


@dataclass(frozen=True)
class Known:
    """A set of images: their paths by pixel digest, and its caches."""

    paths: dict[str, Path]
    images: list[KnownImages]
    ids: dict[str, str]  # pixel digest by image id

    def copy_of(self, new: New) -> str | None:
        """Pixel digest of the known image that a new one is told to be."""
        found = [one.find(new.square, new.size, file_digest=new.file_digest, pixel_digest=new.pixel_digest) for one in self.images]
        best = max((copy for copy in found if copy), key=lambda copy: copy.agreement, default=None)
        return None if best is None else self.ids[best.image_id]


def known(data: Path, folders: Iterable[str], work: Path) -> Known:
    paths, images, ids = {}, [], {}
    for folder in folders:
        manifest = ingest.ingest(data / folder)
        filled = cache.fill(manifest, Pixels(), work / folder)
        shown = filled.index.drop_nulls("fingerprint").join(manifest.table.select("image_id", "path"), on="image_id")
        paths |= {digest: manifest.root / path for digest, path in shown.select("pixel_digest", "path").iter_rows()}
        ids |= dict(shown.select("image_id", "pixel_digest").iter_rows())
        images.append(_images(filled, shown))
    return Known(paths, images, ids)


def _images(filled: Cache, shown: pl.DataFrame) -> KnownImages:
    return KnownImages(filled, shown["image_id"])


def changed(path: Path, rng: np.random.Generator) -> bytes:
    """A copy of a file, see above."""
    values = picture.read(path).values
    scale, way = rng.uniform(LEAST_SCALED, MOST_SCALED), int(rng.choice(WAYS))
    copy = cv2.resize(values, None, fx=scale, fy=scale, interpolation=way)
    kind = rng.choice(["jpeg", "png", "tiff"], p=[0.8, 0.1, 0.1])
    if kind == "jpeg":
        eight = copy if copy.dtype == np.uint8 else (copy >> 8).astype(np.uint8)
        return imagecodecs.jpeg_encode(eight, level=int(rng.integers(WORST_QUALITY, BEST_QUALITY + 1)))
    return imagecodecs.png_encode(copy) if kind == "png" else imagecodecs.tiff_encode(copy.astype(np.uint16) * (257 if copy.dtype == np.uint8 else 1))


def copies(paths: dict[str, Path], digests: Sequence[str]) -> Iterator[tuple[str, New]]:
    """Pixel digest of the original and the copy, of `COPIES` of the listed images."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "copy"
        for digest in rng.choice(sorted(digests), COPIES, replace=False).tolist():
            place.write_bytes(changed(paths[digest], rng))
            yield digest, New.of(place)


def others(data: Path, folder: str) -> list[New]:
    return [New.of(path) for path, _ in collect([data / folder]).names]


def share(count: int, of: int) -> str:
    return f"{count} of {of:,} ({count / of:.1%})"


def by_images(known_set: Known, strangers: dict[str, list[New]]) -> Iterator[str]:
    """Rows of the table of `hilum predict`."""
    found = [(digest, known_set.copy_of(new)) for digest, new in copies(known_set.paths, list(known_set.paths))]
    yield f"copies recognised | {share(sum(own == other for own, other in found), len(found))}"
    yield f"copies taken for another image | {share(sum(other not in (None, own) for own, other in found), len(found))}"
    for name, images in strangers.items():
        begun = time.process_time()
        told = sum(known_set.copy_of(new) is not None for new in images)
        yield f"{name} taken for copies ({(time.process_time() - begun) / len(images) * 1000:.0f} ms of processor time each) | {share(told, len(images))}"


def by_hashes(model: shipped.Reader, known_set: Known, strangers: dict[str, list[New]]) -> Iterator[str]:
    """Rows of the table of `hilum read`."""
    listed = set(model.model.metadata["trained_on"]["pixels"])
    told: Callable[[New], bool] = lambda new: training_hashes.is_copy(model.model, new.square, new.size)  # noqa: E731
    yield f"copies recognised | {share(sum(told(new) for _, new in copies(known_set.paths, list(listed & set(known_set.paths)))), COPIES)}"
    held_out = [New.of(path) for digest, path in sorted(known_set.paths.items()) if digest not in listed]
    for name, images in {"held-out images of the same sets": held_out, **strangers}.items():
        yield f"{name} taken for copies | {share(sum(map(told, images)), len(images))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="where caches are kept")
    arguments = parser.parse_args()
    strangers = {f"images of {folder.split('/')[0]}": others(arguments.data, folder) for folder in OTHERS}
    sets = {name: known(arguments.data, folders, arguments.work) for name, folders in SETS.items()}
    lines = []
    remade = {name: others(arguments.data, folder) for name, folder in REMADE.items()}
    for name, known_set in sets.items():
        lines += [f"| predict | {len(known_set.paths):,} {name}' images | {row} |" for row in by_images(known_set, strangers)]
        for images in (remade[name],) if name in remade else ():
            told = sum(known_set.copy_of(new) is not None for new in images)
            lines.append(f"| predict | {len(known_set.paths):,} {name}' images | images of {REMADE[name].split('/')[0]} recognised | {share(told, len(images))} |")
        print("\n".join(lines), flush=True)
    for model in shipped.readers():
        name = "children" if model.name == "pneumonia_child" else "adults"
        known_set = sets[name]
        about = f"{len(set(model.model.metadata['trained_on']['pixels'])):,} hashes of {model.name}"
        lines += [f"| read | {about} | {row} |" for row in by_hashes(model, known_set, strangers)]
        for images in (remade[name],) if name in remade else ():
            told = sum(training_hashes.is_copy(model.model, new.square, new.size) for new in images)
            lines.append(f"| read | {about} | images of {REMADE[name].split('/')[0]} recognised | {share(told, len(images))} |")
        print("\n".join(lines), flush=True)
    record("Copies of training images", "\n".join([
        f"`python bench/copies.py --data ../shared/data --work work` on {machine('numpy', 'opencv-python-headless')}.", "",
        f"{COPIES} copies each: resized by {LEAST_SCALED} to {MOST_SCALED}, saved as JPEG of quality {WORST_QUALITY} to {BEST_QUALITY} (four of five), PNG or TIFF of 16 bits.", "",
        "| command | known | what | images |", "| --- | --- | --- | --: |", *lines,
    ]))  # fmt: skip


if __name__ == "__main__":
    main()
