"""Cache: every picture decoded once into a flat file, and what was seen of its file noted beside it; see `hilum.dataset.pixel_cache`.

Several threads decode, shrink and write, each picture to its own place; the facts go into the journal in the manifest's order, each
behind its pixels. Killed anywhere, it goes on behind the last whole line of the journal. Memory holds a few decoded files and, of each
image, its name and signature; the facts themselves wait on the disk. Pixels are written with `pwrite`, never through a map: on a full
disk that is an error which can be told, where a map would be a bus error.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hilum import storage
from hilum.annotations import lung_masks, shapes
from hilum.config import Pixels, Recipe
from hilum.dataset import mask_files, pixel_cache
from hilum.dataset.manifest import Manifest
from hilum.dataset.pixel_cache import FACTS, Cache
from hilum.errors import BadData, NotFound, refused, working_on
from hilum.imaging import burned_in_text
from hilum.imaging.files import dicom, image_file, raster
from hilum.imaging.files.label_image import Consensus
from hilum.imaging.geometry import Letterbox
from hilum.imaging.perceptual_hash import hash_image
from hilum.imaging.radiograph import preprocess
from hilum.pipeline import _previous_cache
from hilum.progress import Progress, quietly
from hilum.run_folder import Run
from hilum.safety import threads
from hilum.safety.untrusted_files import Folder
from hilum.storage import integrity

VERSION = 6  # change it when the same file and recipe give other pixels or facts
MASKS = tuple(mask_files.COLUMNS)
MEANINGS = "meanings.json"
THREADS = max(
    2, min(8, os.cpu_count() or 1)
)  # the codecs, OpenCV and the digests release Python's lock
AHEAD = 4 * THREADS  # images whose facts may wait for those of an earlier one
SETTLE_EVERY = 256  # images between two forced writes to the disk


def name(pixels: Pixels) -> str:
    told = {"size": pixels.size, "normalisation": pixels.normalisation, "version": VERSION}
    return storage.digest(
        {
            **told,
            **({"depth": pixels.depth} if pixels.depth != 8 else {}),
            **({"text": True} if pixels.ocr else {}),
        }
    )


def fill(manifest: Manifest, pixels: Pixels, parent: Path, progress: Progress = quietly) -> Cache:
    """Bring `parent/<name>` up to date with the manifest: new and changed files are read, all others left as they are."""
    if pixels.ocr:
        burned_in_text.reader()  # what is missing is told before anything is read
    folder = parent / name(pixels)
    journal = folder / "journal.jsonl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        known = _previous_cache.known(folder, journal, pixels)
        meanings = _meanings(manifest, folder)
        signatures = [
            (image["image_id"], _signature(manifest.folder, image, meanings))
            for image in _images(manifest)
        ]
        total = sum(
            known.get(image_id, (0, None))[1] != signature for image_id, signature in signatures
        )
        with ExitStack() as stack:
            files = {
                part: stack.enter_context(storage.in_place(folder / part))
                for part in (pixel_cache.IMAGES[pixels.depth], pixel_cache.MASKS)
            }
            append = stack.enter_context(storage.appending(journal))
            reading = _in_order(
                lambda task: _cached(manifest.folder, *task, pixels, meanings.of, files.values()),
                _tasks(manifest, signatures, known),
            )
            for done, facts in enumerate(reading, start=1):
                if done % SETTLE_EVERY == 0:
                    for descriptor in files.values():
                        os.fsync(descriptor)
                append(f"{storage.as_json(facts)}\n".encode())
                progress(done, total)
        if journal.stat().st_size or not (folder / pixel_cache.INDEX).exists():
            storage.write_table(folder / pixel_cache.INDEX, _previous_cache.index(folder, journal))
        journal.unlink()
    except OSError as error:
        raise refused(folder, error) from error
    return Cache.open(folder, pixels.size, manifest)


def _tasks(
    manifest: Manifest,
    signatures: Sequence[tuple[str, str]],
    known: Mapping[str, tuple[int, str | None]],
) -> Iterator[tuple[dict[str, Any], str, int]]:
    """Image, signature and row of each picture that is new or changed; new ones go behind all others."""
    free = 1 + max((row for row, _ in known.values()), default=-1)
    for image, (image_id, signature) in zip(_images(manifest), signatures, strict=True):
        row, before = known.get(image_id, (free, None))
        if before != signature:
            free += image_id not in known
            yield image, signature, row


def _cached(
    folder: Folder,
    image: Mapping[str, Any],
    signature: str,
    row: int,
    pixels: Pixels,
    meaning: Callable[[str], Consensus],
    files: Iterable[int],
) -> dict[str, Any]:
    """Read one image and put its pictures in their place in the image file and the mask file; its facts."""
    with working_on(folder.path / image["path"]):
        facts, pictures = _read(folder, image, pixels, meaning)
    for descriptor, square in zip(files, pictures, strict=True):
        storage.write_at(descriptor, square.tobytes(), row * square.nbytes)
    facts |= {"image_id": image["image_id"], "row": row, "signature": signature}
    return {**facts, "facts_crc32": pixel_cache.facts_crc32(facts)}


def _images(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Rows of the manifest's table with `drawn`, the lungs drawn on an image that has no mask file: [{concept, shape, source}], else null."""
    wanted = manifest.table.filter(
        pl.all_horizontal(pl.col(column).is_null() for column in MASKS)
    ).select("image_id")
    drawn = manifest.shapes.filter(pl.col("concept").is_in(list(lung_masks.REFERENCE))).join(
        wanted, on="image_id", how="semi", maintain_order="left"
    )
    each = drawn.group_by("image_id", maintain_order=True).agg(
        drawn=pl.struct("concept", "shape", "source")
    )
    return manifest.table.join(each, on="image_id", how="left", maintain_order="left").iter_rows(
        named=True
    )


def _in_order(work: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
    """Results in the order of `tasks`, a few made ahead by threads."""
    with threads.pool(THREADS) as pool:
        waiting: deque = deque()
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _read(
    folder: Folder, image: Mapping[str, Any], pixels: Pixels, meaning: Callable[[str], Consensus]
) -> tuple[dict[str, Any], tuple[np.ndarray, np.ndarray]]:
    """Facts and both cached pictures of one image. A fault of the file is a fact, not an exception."""
    facts: dict[str, Any] = dict.fromkeys(FACTS)
    square = np.zeros((pixels.size, pixels.size), pixel_cache.TYPES[pixels.depth])
    mask = np.zeros(square.shape, np.uint8)
    try:
        file = image_file.read(*folder.located(image["path"]))
    except BadData as fault:
        facts["error"] = str(fault).replace(f"{folder.path}/", "")
    else:
        square = preprocess(file.radiograph(), pixels.size, pixels.normalisation, pixels.depth)
        facts |= _seen(file) | (_written(file) if pixels.ocr else {})
        facts["fingerprint"] = hash_image(square, file.values.shape)
        try:
            mask = _mask(folder, image, file, pixels.size, meaning, facts)
        except BadData as fault:
            facts["mask_error"] = str(fault).replace(f"{folder.path}/", "")
    facts["cached_digest"] = pixel_cache.digest_of_images(square, mask)
    facts |= {"image_crc32": integrity.checksum(square), "mask_crc32": integrity.checksum(mask)}
    return facts, (square, mask)


def _seen(file: raster.Raster | dicom.Dicom) -> dict[str, Any]:
    """What the audit needs of a decoded file, found while its values are at hand; each a column of FACTS."""
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


def _written(file: raster.Raster | dicom.Dicom) -> dict[str, Any]:
    """How much is written in the whole picture; what, is not kept."""
    seen = burned_in_text.read((file.radiograph().pixels * 255).round().astype(np.uint8))
    return {"text_words": seen.words, "text_longest": seen.longest, "text_share": seen.covered}


def _mask(
    folder: Folder,
    image: Mapping[str, Any],
    file: raster.Raster | dicom.Dicom,
    to: int,
    meaning: Callable[[str], Consensus],
    facts: dict[str, Any],
) -> np.ndarray:
    """The lungs of an image as cached labels. Raises `BadData` where a mask cannot be used."""
    if image["drawn"]:
        labels, facts["mask_value_count"] = _painted(image["path"], image["drawn"], file), 2
    else:
        labels, known = _from_files(folder, image, file, meaning)
        facts |= known
    if facts["mask_value_count"]:
        facts |= {
            f"{name}_pixels": int((labels == side).sum()) for name, side in lung_masks.SIDES.items()
        }
    forward = Letterbox(labels.shape, to).forward
    if (ignored := labels == lung_masks.IGNORE).any():
        runs = shapes.RunLengths.of(forward(ignored.astype(np.uint8) * np.uint8(255)) >= 128)
        facts["mask_ignored"] = runs.to_coco()["counts"]
    return lung_masks.downsample_labels(labels, forward)


def _from_files(
    folder: Folder,
    image: Mapping[str, Any],
    file: raster.Raster | dicom.Dicom,
    meaning: Callable[[str], Consensus],
) -> tuple[np.ndarray, dict[str, Any]]:
    """Labels of the mask files, and what was understood of them, a column of FACTS each."""

    def pose(own: np.ndarray) -> np.ndarray:
        return image_file.to_display(file, own)

    masks = mask_files.read(folder, image, image_file.own_size(file), meaning, pose)
    known: dict[str, Any] = {}
    if masks:
        values = len({key for mask in masks for key in mask.image.keys})
        forms = dict.fromkeys(words for mask in masks for words in mask.form.split("; "))
        known["mask_value_count"] = max(values, *(mask.image.distinct for mask in masks))
        known["mask_form"] = "; ".join(forms)
    return mask_files.together(masks, file.values.shape, pose), known


def _painted(
    path: str, drawn: Sequence[Mapping[str, str]], file: raster.Raster | dicom.Dicom
) -> np.ndarray:
    """Labels of the lungs drawn on an image; an outline that names its side goes before one that does not."""
    size, read = image_file.own_size(file), [(one, shapes.from_json(one["shape"])) for one in drawn]
    if wrong := [
        f"{one['source']}: {fault}" for one, shape in read for fault in shapes.faults(shape, size)
    ]:
        raise BadData.listing(
            f"{path}: the lungs drawn on it cannot be used; draw them again", wrong
        )
    labels, unsided = np.zeros(file.values.shape, np.uint8), np.zeros(file.values.shape, bool)
    for one, shape in read:
        side, inside = (
            lung_masks.REFERENCE[one["concept"]],
            image_file.to_display(file, shape.to_mask(size)),
        )
        if side is None:
            unsided |= inside
        else:
            labels[inside] = side
    return np.where(labels > 0, labels, lung_masks.split_left_right(unsided))


def _meanings(manifest: Manifest, folder: Path) -> mask_files.Meanings:
    """What the values of each folder's masks stand for; read from the masks where these are new."""
    place, kept = folder / MEANINGS, {}
    before = _agreed_before(place)
    for group, members in mask_files.voters(manifest).items():
        files = storage.digest([_state(manifest.folder, file) for pair in members for file in pair])
        one = before.get(group)
        if one is None or one["files"] != files:
            found = mask_files.agreed(manifest.folder, members)
            one = {
                "files": files,
                "roles": dict(found.roles),
                "unsettled": dict(found.unsettled),
                "ground": found.ground,
            }
        kept[group] = one
    if kept != before:
        storage.write_json(place, integrity.sealed({"folders": {**before, **kept}}))
    known = {
        group: Consensus(one["roles"], one["unsettled"], one["ground"])
        for group, one in kept.items()
    }
    return mask_files.Meanings(manifest, known)


def _agreed_before(place: Path) -> dict[str, Any]:
    """What an earlier filling found; nothing where it is damaged, so that it is found again."""
    try:
        return integrity.read_sealed(place)["folders"]
    except (NotFound, BadData, KeyError):
        return {}


def _state(folder: Folder, place: str | None) -> str:
    """Size and time of a file, to see that it changed."""
    try:
        told = folder.located(place)[0].stat() if place else None
    except OSError:
        return f"{place}=gone"
    return f"{place or ''}={f'{told.st_size}:{told.st_mtime_ns}' if told else ''}"


def _signature(
    folder: Folder, image: Mapping[str, Any], meanings: mask_files.Meanings | None = None
) -> str:
    files = "|".join(_state(folder, image[column]) for column in ("path", *MASKS))
    parts = [files] if not image["drawn"] else [files, f"drawn={storage.digest(image['drawn'])}"]
    if image[mask_files.VALUES] is not None:
        parts.append(f"values={image[mask_files.VALUES]}")
    elif meanings is not None and (places := [image[column] for column in MASKS if image[column]]):
        agreed = [meanings.of(place) for place in places]
        parts.append(
            f"meaning={storage.digest([[dict(one.roles), dict(one.unsettled), one.ground] for one in agreed])}"
        )
    return "|".join(parts)


# ------------------------------------------------------------------------------------------------------------------------ the step


def made_from(run: Run, recipe: Recipe) -> dict[str, Any]:
    manifest = run.manifest()
    files = storage.digest([_signature(manifest.folder, image) for image in _images(manifest)])
    return {
        "manifest": run.made("ingest")["manifest.parquet"],
        "files": files,
        "pixels": recipe.section("pixels"),
        "version": VERSION,
    }


def make(run: Run, recipe: Recipe, progress: Progress) -> tuple[dict[str, str], dict[str, Any]]:
    index = f"cache/{name(recipe.pixels)}/{pixel_cache.INDEX}"
    if run.is_other("cache", index):  # its rows may be of other images
        (run / index).unlink(missing_ok=True)
    cache = fill(run.manifest(), recipe.pixels, run / "cache", progress)
    told = {
        "images": cache.index.height,
        "unreadable": cache.index.height - cache.readable.height,
        "usable lung masks": cache.with_mask.height,
        "side, pixels": cache.size,
    }
    if forms := _forms(cache):
        told["masks read as"] = forms
    return {index: cache.digest}, told


def _forms(cache: Cache) -> dict[str, int]:
    """How many masks are of each form, the most frequent first; none where all are plain."""
    count = cache.index["mask_form"].drop_nulls().value_counts(sort=True)
    return {} if set(count["mask_form"]) <= {"binary"} else dict(count.iter_rows())


def opened(run: Run, recipe: Recipe) -> Cache:
    """The run's finished cache."""
    run.made("cache")
    folder = run.data / "cache" / name(recipe.pixels)
    run.file("cache", f"cache/{folder.name}/{pixel_cache.INDEX}")
    return Cache.open(folder, recipe.pixels.size, run.manifest())


def damage(run: Run, recipe: Recipe) -> str:
    """Say what is wrong with the images and masks of a finished cache, of which its marker does not tell."""
    return opened(run, recipe).damage()


def verify(run: Run, *, files: bool = False) -> tuple[int, list[tuple[str, str]]]:
    """Read every cached picture, and with `files` every picture file, again: how many, and those that do not fit, with what is wrong.

    The next `hilum cache` reads just these files anew.
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
