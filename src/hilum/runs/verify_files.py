"""Verify every byte of a run's folder against what its steps noted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from hilum.dataset import pixel_cache
from hilum.errors import HilumError
from hilum.privacy.pseudonyms import Pseudonyms
from hilum.privacy.run_release import KEY
from hilum.revisions.journal import FILE, FOLDER, Journal
from hilum.run_folder import MARKERS, Run
from hilum.runs.run_all import OF_A_FOLD, STEPS
from hilum.storage import integrity

LOCK = ".lock"  # empty: it is held, not read
SHOWN = 5


def check(runs: Sequence[tuple[Run, str]]) -> tuple[list[str], str]:
    """Return the faults of all files of a run and its folds, and a summary.

    `runs` are the run, then its folds, each with the prefix of its messages.
    """
    faults, known = [], set()
    for run, of in runs:
        markers = sorted((run / MARKERS).glob("*.json"))
        for marker in markers:
            known.add(marker)
            faults += [of + fault for fault in _of_step(run, marker.stem, known)]
        faults += [f"{of}{fault}" for fault in _missing_markers(run, {one.stem for one in markers})]
    whole = runs[0][0]
    faults += [*_of_cache(whole, known), *_of_key(whole, known), *_of_journal(whole, known)]
    unknown = [place for place in _all_files(whole.folder) if place not in known]
    report = f"{len(known)} files are as they were left"
    if unknown:
        names = ", ".join(str(place.relative_to(whole.folder)) for place in unknown[:SHOWN])
        more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        report += f"; not made by a step that is finished, and not checked: {names}{more}"
    return faults, report


def _of_step(run: Run, step: str, known: set[Path]) -> Iterator[str]:
    try:
        files = run.files(step)
    except HilumError as error:
        yield str(error)
        return
    for name, expected in files.items():
        place = run.home(step) / name
        known.add(place)
        if wrong := integrity.fault(place, expected):
            yield (
                f"{name} is missing"
                if wrong == "is missing"
                else f"{name} is not what step '{step}' left: it {wrong}"
            )


def _missing_markers(run: Run, there: set[str]) -> Iterator[str]:
    """Name markers that must be there because later steps are finished."""
    order = ("split", *OF_A_FOLD) if run.parent else ("recipe", *STEPS)
    last = max((place for place, step in enumerate(order) if step in there), default=-1)
    yield from (
        f"{MARKERS}/{step}.json is missing" for step in order[: last + 1] if step not in there
    )


def _of_cache(run: Run, known: set[Path]) -> Iterator[str]:
    """Compare all images and masks of the run's cache, also those of images that it has no more."""
    try:
        index = next(name for name in run.files("cache") if name.endswith(f"/{pixel_cache.INDEX}"))
        pixels = run.made_from("cache")["pixels"]
        folder = (run / index).parent
        known |= {folder / pixel_cache.IMAGES[pixels["depth"]], folder / pixel_cache.MASKS}
        whole = pixel_cache.Cache(folder, pixels["size"], run.unchecked().table("cache", index))
        yield from (f"{image_id}: {wrong} in {folder}" for image_id, wrong in whole.mismatches())
        rows = int(whole.index["row"].to_numpy().max()) + 1 if whole.index.height else 0
        for stack in (whole.stored, whole.masks):
            if (size := stack.path.stat().st_size) != rows * stack.image_bytes:
                yield f"{stack.path} has {size:,} bytes, expected {rows * stack.image_bytes:,}"
    except HilumError as error:
        yield str(error)
    except (StopIteration, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        yield f"the cache cannot be checked ({type(error).__name__}: {error})"


def _of_key(run: Run, known: set[Path]) -> Iterator[str]:
    """Check the key of the pseudonyms, which no step leaves and nothing can make again."""
    place = run / KEY
    if place.exists():
        known.add(place)
        try:
            Pseudonyms.kept(place)
        except HilumError as error:
            yield str(error)


def _of_journal(run: Run, known: set[Path]) -> Iterator[str]:
    """Check the corrections of readers, which no step leaves and nothing can make again."""
    folder = run.data / FOLDER
    if not (folder / FILE).exists():
        return
    known |= set(folder.rglob("*"))
    try:
        with Journal.open(folder, create=False, read_only=True) as journal:
            journal.verify()
    except HilumError as error:
        yield str(error)


def _all_files(folder: Path) -> Iterator[Path]:
    """Yield everything below a folder that is no folder; links are not followed."""
    for place, _, names in os.walk(folder):
        for name in sorted(names):
            if Path(place, name) != folder / LOCK or Path(place, name).stat().st_size:
                yield Path(place, name)
