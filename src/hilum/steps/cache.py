"""Cache: every picture decoded once into a memory map, and what was seen of its file noted beside it.

A cache is a folder named by the pixels recipe and this module's `VERSION`; labels, splits and filters do not touch it:

    images.u8       uint8 (n, size, size), letterboxed, bright is dense; a picture that could not be read is black
    masks.u8        uint8 (n, size, size), 0 outside, 1 right lung, 2 left; 0 where there is no usable mask; from the mask files, or
                    where an image has none from the lungs drawn on it (`Manifest.shapes`)
    index.parquet   one row an image, see FACTS; written when all are in
    journal.jsonl   the same facts while it is being filled, one line an image, written after its pixels

Killed anywhere, it goes on behind the last whole line of the journal. Pixels are written with `pwrite`, never through the map: on a
full disk that is an error which can be told, where a map would be a bus error.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hilum import lungs, shapes, store
from hilum.errors import BadData, CannotWrite, NotFound
from hilum.files import picture, raster
from hilum.manifest import Manifest
from hilum.radiograph import Letterbox, Radiograph, to_uint8
from hilum.recipe import Pixels, Recipe
from hilum.run import Run
from hilum.steps import Progress, quietly

VERSION = 1  # change it when the same file and recipe give other pixels
FACTS = {
    "image_id": pl.String,
    "row": pl.Int64,  # in images.u8 and masks.u8
    "signature": pl.String,  # size and time of the files and what is drawn, to see that they changed
    "error": pl.String,  # why the picture could not be read; null: it could
    "file_digest": pl.String,
    "pixel_digest": pl.String,
    "height": pl.Int64,  # of the file
    "width": pl.Int64,
    "bits": pl.Int64,
    "minimum": pl.Int64,
    "maximum": pl.Int64,
    "mask_error": pl.String,  # why the mask is not used; null: it is, or there is none
    "mask_values": pl.Int64,  # number of different values in the mask files; 2 where the lungs are drawn
    "right_pixels": pl.Int64,  # of the lungs in the file's own pixels
    "left_pixels": pl.Int64,
    "cached_digest": pl.String,  # of both cached pictures
}
MASKS = ("lung_mask", "right_lung_mask", "left_lung_mask")
READERS = 2 if (os.cpu_count() or 1) < 4 else 4
AHEAD = 4 * READERS  # decoded pictures that wait for their turn; bounds the memory
SETTLE_EVERY = 256  # images between two forced writes to the disk


@dataclass(frozen=True)
class Cache:
    folder: Path
    size: int
    index: pl.DataFrame

    @classmethod
    def open(cls, folder: Path, size: int, manifest: Manifest) -> Cache:
        """The cache as far as it concerns the images of `manifest`; others that it holds are not seen."""
        if not (folder / "index.parquet").exists():
            raise NotFound(f"no finished cache in {folder}: fill it with `hilum cache`")
        index = manifest.table.select("image_id").join(store.read_table(folder / "index.parquet"), on="image_id", maintain_order="left")
        return cls(folder, size, index)

    @cached_property
    def images(self) -> np.ndarray:
        return store.map_pictures(self.folder / "images.u8", self.size)

    @cached_property
    def masks(self) -> np.ndarray:
        return store.map_pictures(self.folder / "masks.u8", self.size)

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        return dict(zip(self.index["image_id"], self.index["row"], strict=True))

    def rows(self, image_ids: Iterable[str]) -> np.ndarray:
        """int64 rows of the memory maps, in the order of `image_ids`."""
        return np.fromiter((self._rows[image_id] for image_id in image_ids), np.int64)

    @property
    def readable(self) -> pl.DataFrame:
        return self.index.filter(pl.col("error").is_null())

    @property
    def with_mask(self) -> pl.DataFrame:
        """Images whose mask is fit to learn from and to measure by: a mask of one lung alone would teach that the other is background."""
        return self.readable.filter(pl.col("mask_error").is_null() & (pl.col("right_pixels") > 0) & (pl.col("left_pixels") > 0))

    @property
    def digest(self) -> str:
        return store.digest_of_table(self.index.drop("signature"))


def prepare(radiograph: Radiograph, size: int, window: str) -> np.ndarray:
    """The one way from a radiograph to what models see: uint8 (size, size), letterboxed, stretched as `window` says."""
    geometry = Letterbox(radiograph.size, size)
    square = geometry.forward(radiograph.pixels)
    if window == "percentiles":
        picture = square[geometry.inside()]
        low, high = np.percentile(picture, (0.5, 99.5))
        square[geometry.inside()] = (picture - low) / max(high - low, 1e-6)
    return to_uint8(square)


def name(pixels: Pixels) -> str:
    return store.digest({"size": pixels.size, "window": pixels.window, "version": VERSION})


def fill(manifest: Manifest, pixels: Pixels, parent: Path, progress: Progress = quietly) -> Cache:
    """Bring `parent/<name>` up to date with the manifest: new and changed files are read, all others left as they are."""
    folder = parent / name(pixels)
    known = {facts["image_id"]: facts for facts in _known(folder)}
    tasks = []
    for image in _images(manifest):
        signature = _signature(manifest.root, image)
        if known.get(image["image_id"], {}).get("signature") != signature:
            tasks.append((image, signature))
    free = iter(range(len(known), len(known) + len(tasks)))
    rows = [known[image["image_id"]]["row"] if image["image_id"] in known else next(free) for image, _ in tasks]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            descriptors = {part: stack.enter_context(_opened_in_place(folder / f"{part}.u8")) for part in ("images", "masks")}
            journal = stack.enter_context(open(folder / "journal.jsonl", "a", encoding="utf-8"))
            reading = _in_order(lambda task: _read(manifest.root, task[0], pixels), tasks)
            for done, ((image, signature), row, (facts, pictures)) in enumerate(zip(tasks, rows, reading, strict=True), start=1):
                for part, picture in pictures.items():
                    _write_all(descriptors[part], picture.tobytes(), row * pixels.size**2)
                if done % SETTLE_EVERY == 0:
                    for descriptor in descriptors.values():
                        os.fsync(descriptor)
                known[image["image_id"]] = {"image_id": image["image_id"], "row": row, "signature": signature, **facts}
                journal.write(store.as_json(known[image["image_id"]]) + "\n")
                journal.flush()
                progress(done, len(tasks))
    except OSError as error:
        raise CannotWrite.because(folder, error) from error
    if tasks or not (folder / "index.parquet").exists():
        index = pl.DataFrame(sorted(known.values(), key=lambda facts: facts["row"]), schema=FACTS)
        store.write_table(folder / "index.parquet", index)
    (folder / "journal.jsonl").unlink()
    return Cache.open(folder, pixels.size, manifest)


def _images(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Rows of the manifest's table with `drawn`, the lungs drawn on an image that has no mask file: [{concept, shape, source}], else null."""
    wanted = manifest.table.filter(pl.all_horizontal(pl.col(column).is_null() for column in MASKS)).select("image_id")
    drawn = manifest.shapes.filter(pl.col("concept").is_in(list(lungs.DRAWN))).join(wanted, on="image_id", how="semi", maintain_order="left")
    each = drawn.group_by("image_id", maintain_order=True).agg(drawn=pl.struct("concept", "shape", "source"))
    return manifest.table.join(each, on="image_id", how="left", maintain_order="left").iter_rows(named=True)


def _known(folder: Path) -> Iterator[dict[str, Any]]:
    """Facts of finished images: the index, then the journal's whole lines, which are newer."""
    if (folder / "index.parquet").exists():
        yield from store.read_table(folder / "index.parquet").iter_rows(named=True)
    journal = folder / "journal.jsonl"
    if journal.exists():
        lines = journal.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        if len(whole) < len(lines):  # a line cut by a kill would spoil the next one written behind it
            store.write_text(journal, "".join(whole))
        yield from map(json.loads, whole)


def _in_order(work, tasks: Sequence[Any]) -> Iterator[Any]:
    """Results in the order of `tasks`, a few read ahead by threads: the codecs release Python's lock."""
    with ThreadPoolExecutor(READERS) as pool:
        waiting: deque = deque()
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _read(root: Path, image: Mapping[str, Any], pixels: Pixels) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Facts and both cached pictures of one image. A fault of the file is a fact, not an exception."""
    black = np.zeros((pixels.size, pixels.size), np.uint8)
    facts: dict[str, Any] = dict.fromkeys(FACTS.keys() - {"image_id", "row", "signature"})
    pictures = {"images": black, "masks": black}
    try:
        file = picture.read(root / image["path"])
    except BadData as fault:
        facts["error"] = str(fault).replace(f"{root}/", "")
    else:
        facts |= {
            "file_digest": file.file_digest, "pixel_digest": file.pixel_digest, "height": file.values.shape[0], "width": file.values.shape[1],
            "bits": 8 * file.values.dtype.itemsize, "minimum": int(file.values.min()), "maximum": int(file.values.max()),
        }  # fmt: skip
        pictures["images"] = prepare(file.radiograph(), pixels.size, pixels.window)
        try:
            pictures["masks"] = _mask(root, image, file.values.shape, pixels.size, facts)
        except BadData as fault:
            facts["mask_error"] = str(fault).replace(f"{root}/", "")
    facts["cached_digest"] = store.digest(pictures["images"].tobytes() + pictures["masks"].tobytes())
    return facts, pictures


def _mask(root: Path, image: Mapping[str, Any], size: tuple[int, int], to: int, facts: dict[str, Any]) -> np.ndarray:
    """The lungs of an image as cached labels. Raises `BadData` where a mask cannot be laid on its picture."""
    labels, values = _painted(image["path"], image["drawn"], size) if image["drawn"] else _from_files(root, image, size)
    if values:
        facts |= {"mask_values": values, "right_pixels": int((labels == lungs.RIGHT).sum()), "left_pixels": int((labels == lungs.LEFT).sum())}
    return lungs.resized(labels, Letterbox(size, to).forward)


def _from_files(root: Path, image: Mapping[str, Any], size: tuple[int, int]) -> tuple[np.ndarray, int]:
    """Labels of the mask files, and how many different values these hold."""
    labels = np.zeros(size, np.uint8)
    values: set[int] = set()
    for column, side in zip(MASKS, (None, lungs.RIGHT, lungs.LEFT), strict=True):
        if image[column] is None:
            continue
        mask = raster.read(root / image[column]).values
        if mask.shape != size:
            raise BadData(
                f"{image[column]}: mask of {mask.shape[0]}x{mask.shape[1]} pixels for a picture of {size[0]}x{size[1]}; "
                f"export the mask again in its picture's size"
            )
        values |= set(np.unique(mask).tolist())
        inside = mask > max(int(mask.max()) // 2, 0)
        labels = lungs.sides(inside) if side is None else np.where(inside, np.uint8(side), labels)
    return labels, len(values)


def _painted(path: str, drawn: Sequence[Mapping[str, str]], size: tuple[int, int]) -> tuple[np.ndarray, int]:
    """Labels of the lungs drawn on an image; an outline that names its side goes before one that does not."""
    read = [(one, shapes.from_json(one["shape"])) for one in drawn]
    if wrong := [f"{one['source']}: {fault}" for one, shape in read for fault in shapes.faults(shape, size)]:
        raise BadData.listing(f"{path}: the lungs drawn on it cannot be used; draw them again", wrong)
    labels, unsided = np.zeros(size, np.uint8), np.zeros(size, bool)
    for one, shape in read:
        side = lungs.DRAWN[one["concept"]]
        if side is None:
            unsided |= shape.to_mask(size)
        else:
            labels[shape.to_mask(size)] = side
    return np.where(labels > 0, labels, lungs.sides(unsided)), 2


def _signature(root: Path, image: Mapping[str, Any]) -> str:
    def one(place: str | None) -> str:
        try:
            told = (root / place).stat() if place else None
        except OSError:
            return "gone"
        return f"{told.st_size}:{told.st_mtime_ns}" if told else ""

    files = "|".join(f"{image[column] or ''}={one(image[column])}" for column in ("path", *MASKS))
    return f"{files}|drawn={store.digest(image['drawn'])}" if image["drawn"] else files


@contextmanager
def _opened_in_place(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], offset + written)


# ------------------------------------------------------------------------------------------------------------------------ the step


def made_from(run: Run, recipe: Recipe) -> dict[str, Any]:
    manifest = Manifest.read(run.folder)
    files = store.digest([_signature(manifest.root, image) for image in _images(manifest)])
    return {"manifest": run.made("ingest")["manifest.parquet"], "files": files, "pixels": recipe.section("pixels"), "version": VERSION}


def make(run: Run, recipe: Recipe, progress: Progress) -> tuple[dict[str, str], dict[str, Any]]:
    cache = fill(Manifest.read(run.folder), recipe.pixels, run / "cache", progress)
    index = f"cache/{cache.folder.name}/index.parquet"
    told = {
        "images": cache.index.height,
        "unreadable": cache.index.height - cache.readable.height,
        "usable lung masks": cache.with_mask.height,
        "side, pixels": cache.size,
    }
    return {index: cache.digest}, told


def opened(run: Run, recipe: Recipe) -> Cache:
    """The run's finished cache."""
    run.made("cache")
    return Cache.open(run / "cache" / name(recipe.pixels), recipe.pixels.size, Manifest.read(run.folder))
