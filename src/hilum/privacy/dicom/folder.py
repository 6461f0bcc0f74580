"""De-identify a folder of DICOM files into a new one: whole, searched twice, or not there.

    OUT/PATIENT/STUDY/INSTANCE.dcm    named after the new identifiers alone
    OUT/deidentification.json         what was done, by tag and without a value (`REPORT`)

Everything is written into a hidden folder beside OUT that takes its name at the end. A file that is
refused, or in which something is found again, is not in it, and has its line among the faults.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hilum import storage
from hilum.errors import BadData, HilumError, working_on
from hilum.imaging import burned_in_text
from hilum.imaging.batch.each_image import Watch, unwatched
from hilum.imaging.files import dicom_dataset
from hilum.privacy.dicom import keyed, profile, search
from hilum.privacy.dicom.keyed import Keyed
from hilum.privacy.dicom.listing import Listing, listed
from hilum.privacy.dicom.one_file import deidentified
from hilum.privacy.dicom.profile import Options
from hilum.privacy.dicom.report import Outcome, Reported, Tally, digest
from hilum.safety import threads, untrusted_files
from hilum.scale import shards

REPORT = "deidentification.json"
_INCOMING = ".incoming"  # files of the workers, before it is known that no two are one object
_CLEAN, _LEAKING = b"clean", b"leaking"  # what the second search finds in a file


@dataclass
class Done:
    """What a folder's de-identification came to."""

    report: Reported
    faults: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)  # no DICOM, with the reason


def deidentify(
    source: Path,
    to: Path,
    key: Path,
    options: Options | None = None,
    *,
    watch: Watch = unwatched,
) -> Done:
    """De-identify the DICOM files of `source` into the new folder `to`.

    `key` is the file of the site's key (`hilum.privacy.dicom.keyed.kept`). Raises `HilumError`
    where nothing can be done; what is wrong with single files is in the result.
    """
    options = options or Options()
    profile.actions(options)  # a missing extra is reported before a key is made
    if options.ocr:
        burned_in_text.reader()
    _refuse_overlap(source, to)
    files = listed(source)
    site = keyed.kept(key, (source, to))
    with storage.filling(to) as staged:
        tally = Tally()
        outcomes = [tally.add(one) for one in _cleaned(files, staged, site, options, watch)]
        done = _settled(files, staged, outcomes, tally.report(options))
        with threads.pool(1, "hilum-flush") as beside:  # the search leaves the disk idle
            flushed = beside.submit(storage.flush_all)
            _search_again(staged, tally.everybody, done, watch)
            flushed.result()
        if not done.report["files"]["written"]:
            raise BadData.listing(
                f"{source}: no file could be de-identified, so {to} was not made",
                [*done.faults, *done.passed_over],
            )
        storage.write_json(staged / REPORT, done.report)
    return done


def _refuse_overlap(source: Path, to: Path) -> None:
    here, there = os.path.realpath(source), os.path.realpath(to)
    if untrusted_files.holds(here, there) or untrusted_files.holds(there, here):
        raise HilumError(
            f"{to} and {source} lie in one another; what is de-identified goes into a folder of "
            f"its own, beside {source}"
        )
    if to.exists() and not (to.is_dir() and not any(to.iterdir())):
        raise HilumError(f"{to} is not empty; choose a new folder, which is made as a whole")


def _cleaned(
    files: Listing, staged: Path, site: Keyed, options: Options, watch: Watch
) -> Iterator[Outcome]:
    """Write each file that may leave into the incoming folder, under its number."""
    incoming = staged / _INCOMING
    incoming.mkdir()
    jobs = {str(number): path for number, path in enumerate(files.files)}
    work = _Cleaning(files.root, incoming, site, options)
    items = {number: (number, path) for number, path in jobs.items()}
    # In memory: what is known of patients is never written, and OUT is made as a whole.
    outcomes = shards.run(work, items, None)
    with watch("cleaned") as progress, closing(outcomes):
        for count, (path, one) in enumerate(zip(jobs.values(), outcomes, strict=True), 1):
            fault = f"{path}: {one.fault.partition(': ')[2]}"
            yield Outcome(None, fault) if one.fault else Outcome.of_json(one.result)
            progress(count, len(jobs))


@dataclass(frozen=True)
class _Cleaning:
    """De-identifies one file, if it is DICOM, into the incoming folder."""

    root: Path
    incoming: Path
    site: Keyed
    options: Options

    def __call__(self, item: tuple[str, Path]) -> bytes:
        number, path = item
        to = self.incoming / f"{number}.dcm"
        return _one(path, self.root, to, self.site, self.options).as_json()


def _one(path: Path, root: Path, to: Path, site: Keyed, options: Options) -> Outcome:
    """De-identify one file, if it is DICOM, into the file `to`."""
    try:
        with working_on(path, "de-identifying"):
            is_dicom = dicom_dataset.holds(untrusted_files.read_head(path, 132, root=root))
            if not is_dicom:
                return Outcome(None, f"{path}: is no DICOM file and was not copied", is_dicom)
            data = untrusted_files.read_bytes(path, root)
            cleaned = deidentified(path, data, site, options)
    except HilumError as fault:
        return Outcome(None, str(fault))
    storage.add_bytes(to, cleaned.data)
    whole = frozenset(map(digest, cleaned.whole))
    return Outcome(
        cleaned.place, "", True, cleaned.account, cleaned.verdict, whole, cleaned.unsearchable
    )


def _settled(files: Listing, staged: Path, outcomes: Sequence[Outcome], report: Reported) -> Done:
    """Give each file its place; refuse a second object of one UID. Return the report so far."""
    done = Done(report, passed_over=list(files.passed_over))
    first: dict[str, Path] = {}
    for number, (path, outcome) in enumerate(zip(files.files, outcomes, strict=True)):
        if outcome.place is None:
            (done.faults if outcome.is_dicom else done.passed_over).append(outcome.fault)
            continue
        incoming, place = staged / _INCOMING / f"{number}.dcm", staged / outcome.place
        if outcome.place in first:
            done.faults += _second(path, first[outcome.place], incoming, place)
            incoming.unlink()
            continue
        first[outcome.place] = path
        place.parent.mkdir(parents=True, exist_ok=True)
        incoming.rename(place)
    (staged / _INCOMING).rmdir()
    done.report["files"] |= {
        "written": len(first),
        "the same object again": sum(one.place is not None for one in outcomes) - len(first),
    }
    return done


def _second(path: Path, first: Path, incoming: Path, place: Path) -> list[str]:
    """Return the fault of a file with the SOP Instance UID of another, unless it is the same."""
    if storage.digest_of_file(incoming) == storage.digest_of_file(place):
        return []
    return [
        f"{path}: has the SOP Instance UID of {first} and another content; only that was written; "
        f"take out the one that is not meant"
    ]


def _search_again(staged: Path, digests: set[int], done: Done, watch: Watch) -> None:
    """Search every file that was written, as it lies on the disk, for everybody's identifiers.

    A file in which one is found, or that cannot be searched, is removed, and its fault names it by
    its new place.
    """
    everybody = np.sort(np.fromiter(digests, np.int64))
    places = {str(path.relative_to(staged)): path for path in sorted(staged.rglob("*.dcm"))}
    outcomes = shards.run(_Searching(everybody), places, None)
    leaked = []
    with watch("searched") as progress, closing(outcomes):
        for number, (path, one) in enumerate(zip(places.values(), outcomes, strict=True), 1):
            leaked += [path] if one.result != _CLEAN else []
            progress(number, len(places))
    for path in leaked:
        path.unlink()
        for emptied in (path.parent, path.parent.parent):
            if not any(emptied.iterdir()):
                emptied.rmdir()
        done.faults.append(
            f"{path.relative_to(staged)}: a name or a number of a patient was found in this file "
            f"of the output, which was removed; find its source by `hilum reidentify`"
        )
    done.report["files"] |= {
        "written": done.report["files"]["written"] - len(leaked),
        "removed by the second search": len(leaked),
    }


@dataclass(frozen=True)
class _Searching:
    """Says whether a file holds no text whose digest is among those of everybody, sorted."""

    everybody: np.ndarray

    def __call__(self, path: Path) -> bytes:
        everybody = self.everybody
        forms = search.forms(untrusted_files.read_bytes(path))
        digests = np.fromiter((digest(one) for one in forms if len(one) > 5), np.int64)
        nearest = np.searchsorted(everybody, digests).clip(max=len(everybody) - 1)
        found = len(everybody) and (everybody[nearest] == digests).any()
        return _LEAKING if found else _CLEAN
