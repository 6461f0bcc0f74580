"""Download of public data sets: description and terms first, then files, or steps to do by hand.

    DIR/NAME or DIR/FOLDER   a file, or the contents of an archive; present once complete
    DIR/FETCHED.json         the accepted terms, and address and hash of each file
    DIR/.fetching/           incomplete files, with which the same command continues

The hash of a file is compared with the one in `hilum.dataset.catalog`. Where that has none, the
first hash is recorded and later files are compared with it, which detects a change but does not
prove that the first file was right.
"""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TypedDict

from hilum import storage
from hilum.dataset import _transfer, _unpack
from hilum.dataset.catalog import ACCESS, Address, CatalogEntry
from hilum.errors import BadData, CannotWrite, HilumError, MissingExtra
from hilum.progress import Progress

RECORD = "FETCHED.json"
WORK = ".fetching"
WIDTH = 110  # characters of a line on the terminal
SEEN = "seen when it was first fetched; none is published"
Watch = Callable[[str], AbstractContextManager[Progress]]


class Downloaded(TypedDict):
    """What `fetch` did: names of files that came, were there, have no hash; steps that are left."""

    set: str
    folder: str
    fetched: list[str]
    kept: list[str]
    unchecked: list[str]
    left: list[str]


class _Hash(TypedDict):
    hash: str  # "sha256:…" or "md5:…"; "" where unknown
    hash_from: str


class _FileRecord(_Hash):
    url: str
    bytes: int


class _Record(TypedDict):
    """The contents of FETCHED.json."""

    set: str
    licence: str
    citation: str
    accepted: str  # date and time, ISO 8601, UTC
    files: dict[str, _FileRecord]


class NotAccepted(HilumError):
    """The terms of a set were shown and not accepted."""


def describe(about: CatalogEntry) -> str:
    """Return all that is known of a data set, one fact per line."""
    facts = {
        "licence": about.licence,
        "cite": about.citation,
        "mind": about.faults,
        "images": _count(about.images),
        "patients": _count(about.patients),
        "views": about.views,
        "labels": f"{about.labels}; {about.labels_made}",
        "masks and boxes": about.marks,
        "files": f"{about.format}; {about.size}",
        "people": f"{about.population}; {about.ages}",
        "shares images with": "; ".join(
            f"{other} ({how})" for other, how in about.overlaps.items()
        ),
        "where": f"{about.page} ({ACCESS[about.access]})",
    }
    reads = "read by Hilum" if about.read else "known, without a reader of its own"
    return "\n".join(
        [
            f"{about.name}: {about.title} ({reads})",
            *(_wrapped(f"{key}: {text}") for key, text in facts.items() if text),
        ]
    )


def _wrapped(text: str) -> str:
    """Return text wrapped for a terminal; addresses stay on one line, to be copied."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent="  ",
        subsequent_indent="      ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def line(about: CatalogEntry) -> str:
    """Return the line of a data set in a list."""
    images = "" if about.images is None else f"{about.images:,} images"
    status = "read" if about.read else "known"
    return f"{about.name:15} {status:5} {images:>17}  {about.access:12}  {about.title}"


def terms(about: CatalogEntry) -> str:
    """Return what to read before accepting: the set, its licence, and what would be fetched."""
    if not about.files:
        return describe(about)
    sizes = [file.bytes for file in about.files]
    size = f"{sum(filter(None, sizes)) / 1e9:.1f} GB" if all(sizes) else about.size
    unchecked = sum(not file.hash for file in about.files)
    checked = (
        f"; for {unchecked} no hash is published, so the first bytes are taken as they come"
        if unchecked
        else ""
    )
    listing = [f"    {file.url}" for file in about.files]
    number = f"{len(about.files)} file{'s' * (len(about.files) != 1)}"
    source = f"addresses as documented on {about.addresses_from}"
    what = f"to fetch: {number}, {size}, {source}{checked}"
    return "\n".join([describe(about), _wrapped(what), *listing])


def by_hand(about: CatalogEntry, folder: Path) -> list[str]:
    """Return the steps that a person has to take, and the command to run afterwards."""
    last = f"hilum run {folder}"
    if not about.read:
        last = (
            "Hilum has no reader of its own for it: put one CSV beside the images "
            f"(README, What it reads: folder), then {last}"
        )
    return [*(step.replace("{to}", str(folder)) for step in about.steps), last]


def summary(done: Downloaded) -> str:
    """Return for a person what `fetch` did and what is left to do."""
    lines = [f"fetched: {', '.join(done['fetched'])}"] if done["fetched"] else []
    lines += [f"already there: {', '.join(done['kept'])}"] if done["kept"] else []
    if done["unchecked"]:
        lines.append(
            f"no hash is published for {', '.join(done['unchecked'])}; what came is written down "
            f"in {done['folder']}/{RECORD}"
        )
    steps = [_wrapped(f"{number}. {step}") for number, step in enumerate(done["left"], 1)]
    return "\n".join(
        ["", *lines, "now:" if done["fetched"] or done["kept"] else "how to get it:", *steps]
    )


def fetch(about: CatalogEntry, folder: Path, *, accepted: bool, watch: Watch) -> Downloaded:
    """Fetch the files with a public address into `folder`, and return what was done.

    Raises `NotAccepted`, `MissingExtra`, `NotFound` for an address that gives no file, `BadData`
    for wrong bytes or an archive that is broken or unsafe, `CannotWrite`, and `HilumError` where
    the connection fails repeatedly.
    """
    done: Downloaded = {
        "set": about.name,
        "folder": str(folder),
        "fetched": [],
        "kept": [],
        "unchecked": [],
        "left": by_hand(about, folder),
    }
    if not about.files:
        return done
    if not accepted:
        raise NotAccepted(
            f"the licence of {about.name} was not accepted, so nothing was fetched: read it, and "
            "say --accept or answer yes"
        )
    _pooch()  # so that a missing extra is reported before a folder is made
    with storage.locked(folder):
        record = _record(about, folder)
        for file in about.files:
            kept = _is_there(file, folder, record)
            if not kept:
                _bring(file, folder, record, watch)
            done["kept" if kept else "fetched"].append(file.name)
            if record["files"][file.name]["hash_from"] == SEEN:
                done["unchecked"].append(file.name)
        shutil.rmtree(folder / WORK, ignore_errors=True)
    return done


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _record(about: CatalogEntry, folder: Path) -> _Record:
    """Return what earlier calls recorded, or a new record.

    Raises `BadData` where the folder belongs to another data set.
    """
    path = folder / RECORD
    if not path.exists():
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return {
            "set": about.name,
            "licence": about.licence,
            "citation": about.citation,
            "accepted": now,
            "files": {},
        }
    try:
        record = storage.read_json(path)
        found = record["set"], record["files"].keys()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadData(
            f"{path} is not what `hilum download` writes; delete it, or choose another folder "
            "with --out"
        ) from error
    if found[0] != about.name:
        raise BadData(
            f"{folder} holds {found[0]}, not {about.name}; choose another folder with --out"
        )
    return record


def _is_there(file: Address, folder: Path, record: _Record) -> bool:
    """Return whether a file is complete. Raises `BadData` for one that is not in the record."""
    place = folder / (file.unpack or file.name)
    if not place.exists():
        return False
    if file.name not in record["files"]:
        raise BadData(
            f"{place} is there, but was not fetched by Hilum; move it away, or choose another "
            "folder with --out"
        )
    return True


def _bring(file: Address, folder: Path, record: _Record, watch: Watch) -> None:
    """Fetch, check and unpack one file, record its hash, then move it to its place.

    In this order a file in its place is always complete and recorded.
    """
    work = folder / WORK
    _clear(work)
    stated: _Hash = {"hash": file.hash, "hash_from": file.hash_from}
    known = stated if file.hash else record["files"].get(file.name, stated)
    whole, hashed = _retrieve(file, work, known, watch)
    ready = whole
    if file.unpack:
        ready = work / f"{whole.name}.unpacked"
        try:
            with watch(f"unpacking {file.name}") as progress:
                _unpack.unpack(whole, ready, progress)
        except BadData as error:
            whole.unlink()
            raise BadData(
                f"{error}\nit came from {file.url} and was deleted; run the same command again"
            ) from error
    record["files"][file.name] = {"url": file.url, "bytes": whole.stat().st_size, **hashed}
    place = folder / (file.unpack or file.name)
    storage.write_json(folder / RECORD, record)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(ready, place)
        whole.unlink(missing_ok=True)
    except OSError as error:
        raise CannotWrite.because(place, error) from error


def _clear(work: Path) -> None:
    """Remove what a killed process left half done, but for downloaded bytes."""
    for left in (*work.glob("tmp*"), *work.glob("*.unpacked")):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def _pooch() -> ModuleType:
    with MissingExtra.explained("download", "downloading data"):
        import pooch
    pooch.get_logger().setLevel("WARNING")  # `watch` reports each file, so pooch need not
    return pooch


def _retrieve(file: Address, work: Path, known: _Hash, watch: Watch) -> tuple[Path, _Hash]:
    """Return the complete file in `work` and its hash, checked by pooch against a known one."""
    pooch = _pooch()
    name = file.name.replace("/", "_")
    part = work / f"{name}.part"
    with watch(file.name) as progress:
        try:
            pooch.retrieve(
                file.url,
                known["hash"] or None,
                fname=name,
                path=work,
                downloader=partial(_hand_over, part=part, progress=progress),
            )
        except ValueError as error:
            _transfer.drop(part)
            raise BadData(
                f"the wrong bytes came from {file.url}: {error}\n"
                f"Expected is the hash {known['hash_from']}. Run the same command again; if it "
                "fails again, the file was changed, by its publisher or by somebody else"
            ) from error
        except OSError as error:
            raise CannotWrite.because(work, error) from error
    _transfer.drop(part)
    whole = work / name
    return whole, {
        "hash": known["hash"] or f"sha256:{pooch.file_hash(str(whole))}",
        "hash_from": known["hash_from"] or SEEN,
    }


def _hand_over(url: str, wanted: str, _: object, *, part: Path, progress: Progress) -> None:
    """Download for pooch, into `part` and by a hard link into the file `wanted` that pooch checks.

    The link lets `part` survive a kill during the check.
    """
    _transfer.download(url, part, progress)
    os.unlink(wanted)
    try:
        os.link(part, wanted)
    except OSError:  # a disk without hard links
        os.replace(part, wanted)
