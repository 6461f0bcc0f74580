"""Cache: decode every image once into a flat file, and record facts of its file beside it.

The files are those of `hilum.dataset.pixel_cache`. Threads, or other processes
(`hilum.scale.shards`), decode, shrink and write, each image to its own place; its facts go into a
journal after its pixels. Killed at any moment, filling resumes with the images that are not in it.
Memory holds a few decoded files and, of each image, its name and signature; the facts wait on disk.
Pixels are written with `pwrite` and never through a memory map: a full disk then raises an error
that can be reported, where a map would end the process with a bus error.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hilum import storage
from hilum.annotations import lung_masks, mask_codecs, shapes
from hilum.config import Pixels, Recipe
from hilum.dataset import pixel_cache
from hilum.dataset.manifest import Manifest
from hilum.dataset.pixel_cache import FACTS, Cache, Fact
from hilum.errors import BadData, refused, working_on
from hilum.imaging import burned_in_text
from hilum.imaging.files import dicom, image_file, raster
from hilum.imaging.files.label_image import Consensus
from hilum.imaging.files.pose import Display
from hilum.imaging.geometry import Letterbox
from hilum.imaging.perceptual_hash import hash_image
from hilum.imaging.radiograph import preprocess
from hilum.pipeline import _previous_cache, reference_masks
from hilum.pipeline.reference_masks import ImageRow, MeaningOf
from hilum.pipeline.step import Inputs, StepResult
from hilum.progress import Progress, quietly
from hilum.run_folder import Run
from hilum.safety import addresses, threads
from hilum.safety.untrusted_files import Folder
from hilum.scale import journal as scale_journal
from hilum.scale import shards
from hilum.storage import integrity

VERSION = 9  # to be raised when the same file and recipe give other pixels or facts
# More threads than cores help little; they do run at once, as the codecs, OpenCV and the digests
# release Python's lock.
THREADS = max(2, min(8, threads.cores()))
SYNC_EVERY = 256  # images between two forced writes to disk
Facts = dict[str, Fact]  # of one image, by the keys of FACTS


def name(pixels: Pixels) -> str:
    """Return the folder's name: a digest of all settings on which the cached pixels depend."""
    settings: Inputs = {
        "size": pixels.size,
        "normalisation": pixels.normalisation,
        "version": VERSION,
    }
    # Options added later count only where they are set, so that older caches keep their names.
    if pixels.depth != 8:
        settings["depth"] = pixels.depth
    if pixels.ocr:
        settings["text"] = True
    return storage.digest(settings)


def fill(manifest: Manifest, pixels: Pixels, parent: Path, progress: Progress = quietly) -> Cache:
    """Bring `parent/<name>` up to date with the manifest, and open it.

    New and changed files are read; all others are left as they are. Raises `MissingExtra` where the
    settings ask for text recognition and its package is missing, before any file is read.
    """
    if pixels.ocr:
        burned_in_text.reader()
    folder = parent / name(pixels)
    journal = folder / _previous_cache.JOURNAL
    try:
        folder.mkdir(parents=True, exist_ok=True)
        set_aside = _read_new(manifest, pixels, folder, journal, progress)
        new = [*_previous_cache.results(journal), *set_aside]
        if new or not (folder / pixel_cache.INDEX).exists():
            storage.write_table(folder / pixel_cache.INDEX, _previous_cache.index(folder, new))
        scale_journal.delete(journal)
    except OSError as error:
        raise refused(folder, error) from error
    return Cache.open(folder, pixels.size, manifest)


def _read_new(
    manifest: Manifest, pixels: Pixels, folder: Path, journal: Path, progress: Progress
) -> list[bytes]:
    """Read what is new or changed into the files of the cache and the journal.

    Return the facts, as JSON, of images that were set aside.
    """
    known = _previous_cache.known(folder, journal, pixels)
    meanings = reference_masks.inferred_meanings(manifest, folder)
    signatures = [
        (image["image_id"], reference_masks.signature(manifest.folder, image, meanings))
        for image in reference_masks.images(manifest)
    ]
    rows = dict(_rows(signatures, known))
    tasks = _Tasks(manifest, dict(signatures), rows, meanings.of)
    places = tuple(folder / part for part in (pixel_cache.IMAGES[pixels.depth], pixel_cache.MASKS))
    work, set_aside = _Caching(manifest.folder, pixels, places), list[bytes]()
    with ExitStack() as stack:
        files = [stack.enter_context(storage.in_place(place)) for place in places]
        for descriptor, square in zip(files, _black(pixels), strict=True):
            storage.extend(descriptor, (1 + max(rows.values(), default=-1)) * square.nbytes)
        outcomes = shards.run(work, tasks, journal, threads=THREADS)
        stack.enter_context(closing(outcomes))
        for done, (image_id, outcome) in enumerate(zip(rows, outcomes, strict=True), start=1):
            if outcome.poisoned:
                set_aside.append(work.unreadable(tasks[image_id], outcome.fault))
            if done % SYNC_EVERY == 0:
                for descriptor in files:
                    os.fsync(descriptor)
            progress(done, len(rows))
    return set_aside


def _rows(
    signatures: Sequence[tuple[str, str]], known: Mapping[str, tuple[int, str | None]]
) -> Iterator[tuple[str, int]]:
    """Yield name and row in the cache of each new or changed image.

    New images are appended after all others.
    """
    free = 1 + max((row for row, _ in known.values()), default=-1)
    for image_id, signature in signatures:
        row, before = known.get(image_id, (free, None))
        if before != signature:
            free += image_id not in known
            yield image_id, row


class _Tasks(Mapping[str, "_Task"]):
    """What is to be done, by image id; each row is taken from the table when it is needed."""

    def __init__(
        self,
        manifest: Manifest,
        signatures: Mapping[str, str],
        rows: Mapping[str, int],
        meaning: MeaningOf,
    ) -> None:
        self._table = reference_masks.image_table(manifest)
        self._at = {image_id: at for at, image_id in enumerate(self._table["image_id"])}
        self._signatures, self._rows, self._meaning = signatures, rows, meaning

    def __getitem__(self, image_id: str) -> _Task:
        image = self._table.row(self._at[image_id], named=True)
        places = [image[column] for column in reference_masks.COLUMNS if image[column]]
        meanings = {place: self._meaning(place) for place in places}
        return _Task(image, self._signatures[image_id], self._rows[image_id], meanings)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


class _Task(NamedTuple):
    """An image to read: its row of the manifest, signature, row of the cache, meanings of masks."""

    image: ImageRow
    signature: str
    row: int
    meanings: Mapping[str, Consensus]


@dataclass(frozen=True)
class _Caching:
    """Reads an image of `folder`, writes image and mask in their `places`, and gives its facts."""

    folder: Folder
    pixels: Pixels
    places: tuple[Path, ...]

    def __call__(self, task: _Task) -> bytes:
        with working_on(self.folder.path / task.image["path"]):
            facts, squares = _read(self.folder, task.image, self.pixels, task.meanings.__getitem__)
        return self.written(task, facts, squares)

    def unreadable(self, task: _Task, why: str) -> bytes:
        """Write black in the places of an image that cannot be read, and give its facts."""
        squares = _black(self.pixels)
        return self.written(task, _facts_of({"error": why}, *squares), squares)

    def written(self, task: _Task, facts: Facts, squares: tuple[np.ndarray, np.ndarray]) -> bytes:
        """Write image and mask, and return the facts as JSON."""
        for place, square in zip(self.places, squares, strict=True):
            data = square.tobytes()
            with storage.in_place(place) as descriptor:
                storage.write_at(descriptor, data, task.row * len(data), sparse=True)
        facts |= {
            "image_id": task.image["image_id"],
            "row": task.row,
            "signature": task.signature,
        }
        return storage.as_json({**facts, "facts_crc32": pixel_cache.facts_crc32(facts)}).encode()


def _black(pixels: Pixels) -> tuple[np.ndarray, np.ndarray]:
    """Return an image and a mask without anything."""
    square = np.zeros((pixels.size, pixels.size), pixel_cache.TYPES[pixels.depth])
    return square, np.zeros(square.shape, np.uint8)


def _facts_of(facts: Facts, square: np.ndarray, mask: np.ndarray) -> Facts:
    """Return the facts of an image with all of FACTS, and the digests of what is cached of it."""
    return {
        **dict.fromkeys(FACTS),
        **facts,
        "cached_digest": pixel_cache.digest_of_images(square, mask),
        "image_crc32": integrity.checksum(square),
        "mask_crc32": integrity.checksum(mask),
    }


def _read(
    folder: Folder, image: ImageRow, pixels: Pixels, meaning: MeaningOf
) -> tuple[Facts, tuple[np.ndarray, np.ndarray]]:
    """Return the facts of one image, and image and mask as they are cached.

    A fault of a file is recorded as a fact, and not raised.
    """
    facts: Facts = dict.fromkeys(FACTS)
    square, mask = _black(pixels)
    try:
        file = image_file.read(*folder.located(image["path"]), Display.of(image))
    except BadData as fault:
        facts["error"] = addresses.without_root(str(fault), folder.path)
    else:
        square = preprocess(file.radiograph(), pixels.size, pixels.normalisation, pixels.depth)
        facts |= _file_facts(file) | (_text_facts(file) if pixels.ocr else {})
        facts["fingerprint"] = hash_image(square, file.values.shape)
        try:
            mask = _mask(folder, image, file, pixels.size, meaning, facts)
        except BadData as fault:
            facts["mask_error"] = addresses.without_root(str(fault), folder.path)
    return _facts_of(facts, square, mask), (square, mask)


def _file_facts(file: raster.Raster | dicom.Dicom) -> Facts:
    """Return the columns of FACTS that the audit needs of a decoded file."""
    return {
        "file_digest": file.file_digest,
        "pixel_digest": file.pixel_digest,
        "height": file.values.shape[0],
        "width": file.values.shape[1],
        "kind": file.kind,
        "colour": file.colour,
        "bits": 8 * file.values.dtype.itemsize,
        "minimum": int(file.values.min()),
        "maximum": int(file.values.max()),
        "header_text": ",".join(file.header.text) if isinstance(file, dicom.Dicom) else None,
    }


def _text_facts(file: raster.Raster | dicom.Dicom) -> Facts:
    """Measure how much text is burned into the whole image; the text itself is not kept."""
    seen = burned_in_text.read((file.radiograph().pixels * 255).round().astype(np.uint8))
    return {"text_words": seen.words, "text_longest": seen.longest, "text_fraction": seen.covered}


def _mask(
    folder: Folder,
    image: ImageRow,
    file: raster.Raster | dicom.Dicom,
    to: int,
    meaning: MeaningOf,
    facts: Facts,
) -> np.ndarray:
    """Return the reference mask as cached labels, uint8 (to, to), and add what is known of it.

    Raises `BadData` where a mask cannot be used.
    """
    labels, facts["mask_value_count"], facts["mask_form"] = reference_masks.read(
        folder, image, file, meaning
    )
    if facts["mask_value_count"]:
        facts |= {
            f"{name}_pixels": int((labels == side).sum()) for name, side in lung_masks.SIDES.items()
        }
    forward = Letterbox(labels.shape, to).forward
    if (ignored := labels == lung_masks.IGNORE).any():
        runs = shapes.RunLengths.of(forward(ignored.astype(np.uint8) * np.uint8(255)) >= 128)
        facts["mask_ignored"] = mask_codecs.rle_encode(runs.counts)
    return lung_masks.downsample_labels(labels, forward)


# ---------------------------------------------------------------------------------------- the step


def made_from(run: Run, recipe: Recipe) -> Inputs:
    """Return what the cache depends on; every file's size and time are read again."""
    manifest = run.manifest()
    files = storage.digest(
        [
            reference_masks.signature(manifest.folder, image)
            for image in reference_masks.images(manifest)
        ]
    )
    return {
        "manifest": run.made("ingest")["manifest.parquet"],
        "files": files,
        "pixels": recipe.section("pixels"),
        "version": VERSION,
    }


def make(run: Run, recipe: Recipe, progress: Progress) -> StepResult:
    """Fill the run's cache."""
    index = f"cache/{name(recipe.pixels)}/{pixel_cache.INDEX}"
    if run.is_other("cache", index):  # its rows may be of other images
        (run / index).unlink(missing_ok=True)
    cache = fill(run.manifest(), recipe.pixels, run / "cache", progress)
    counts = {
        "images": cache.index.height,
        "unreadable": cache.index.height - cache.readable.height,
        "usable lung masks": cache.with_mask.height,
        "side, pixels": cache.size,
    }
    forms = _forms(cache)
    return StepResult(
        {index: cache.digest}, {**counts, **({"masks read as": forms} if forms else {})}
    )


def _forms(cache: Cache) -> dict[str, int]:
    """Count masks by form, the most frequent first; {} where all are plain binary masks."""
    count = cache.index["mask_form"].drop_nulls().value_counts(sort=True)
    return {} if set(count["mask_form"]) <= {"binary"} else dict(count.iter_rows())


def opened(run: Run, recipe: Recipe, manifest: Manifest | None = None) -> Cache:
    """Open the run's finished cache; `manifest` is the run's own, where it was read before.

    Raises `NotFound` where the cache is not finished.
    """
    run.made("cache")
    folder = run.data / "cache" / name(recipe.pixels)
    run.file("cache", f"cache/{folder.name}/{pixel_cache.INDEX}")
    return Cache.open(folder, recipe.pixels.size, manifest or run.manifest())


def damage(run: Run, recipe: Recipe) -> str:
    """Say what is wrong with the cached pixels, of which the step's marker keeps no digest; or
    "".
    """
    return opened(run, recipe).damage()


def verify(run: Run, *, files: bool = False) -> tuple[int, list[tuple[str, str]]]:
    """Read every cached image again, and with `files` every image file.

    Return how many there are, and (image_id, what is wrong) of those that do not match what was
    written. The next `hilum cache` reads the files of just these images anew.
    """
    recipe = run.recipe()
    with run.locked():
        manifest, cache = run.manifest(), opened(run, recipe)
        paths = dict(manifest.table.select("image_id", "path").iter_rows()) if files else None
        wrong = list(cache.mismatches(manifest.root if files else None, paths))
        if wrong:
            run.forget("cache")
            cache.invalidate(image_id for image_id, _ in wrong)
    return cache.index.height, wrong
