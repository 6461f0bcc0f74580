"""The mirror of an address: a folder with all its names at once, and bytes where they were read.

    MIRRORS/QUOTED/NAME/…           the files; those still to be fetched have their size and time,
                                    take no room, and may not be read past the one door
    MIRRORS/QUOTED/listing.parquet  what the source stated of each
    MIRRORS/QUOTED/parts/           files that are being fetched

`refresh` lists the source again, as every reading of a data set begins; what changed there is to be
fetched again. `provide` is called by `hilum.safety.untrusted_files` for a file that is opened and
still to be fetched. Files that are read in their order are fetched ahead by threads.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from hilum import storage
from hilum.dataset import _unpack
from hilum.dataset.remote import archives, eviction, fetching, transport
from hilum.dataset.remote.listing import FILE, Entry, Listing
from hilum.dataset.remote.transport import Transport
from hilum.dataset.remote.zip_members import ZipMembers, is_zip
from hilum.errors import (
    BadData,
    CannotRead,
    HilumError,
    NotFound,
    Unreachable,
    notice,
    on_one_line,
    refused,
)
from hilum.safety import addresses
from hilum.safety.addresses import Address

AHEAD = 48  # files that are fetched ahead of the one that is read
FETCHERS = 16
LOST_SECONDS = 60.0  # after a failure, in which no other file is tried
PARTS = "parts"


def refresh(root: Path) -> None:
    """Bring the names of a mirror up to date with its source; any other folder is left alone.

    Archives that are new or changed are fetched and unpacked. Where the source cannot be reached
    and was listed before, that listing stays, with a notice. Raises `Unreachable`, `NotFound` where
    nothing is there, `BadData` for names or archives that are not safe.
    """
    found = addresses.of_path(root)
    if found is None:
        return
    address, _ = found
    state = address.mirror.parent
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        with storage.locked(state, wait=True):
            _Refreshing(address, state).run()
    except OSError as error:
        raise refused(state, error, addresses.ELSEWHERE) from error
    _mirrors.pop((os.getpid(), address.text), None)


def provide(path: Path) -> None:
    """Fetch the bytes of a file of a mirror. Raises as `fetching.fetch` does."""
    found = addresses.of_path(path)
    if found is None:
        raise CannotRead(f"cannot read {path}: it belongs to no address")
    address, place = found
    key = os.getpid(), address.text  # threads and connections do not survive a fork
    with _making:
        mirror = _mirrors.get(key) or _mirrors.setdefault(key, _Mirror.opened(address))
    mirror.provide(place)


def restore(path: Path) -> bool:
    """List the source again of a mirror that was deleted; return False for one that is there.

    Raises as `refresh` does.
    """
    found = addresses.of_path(path)
    with _restoring:
        if found is None or (found[0].mirror.parent / FILE).exists():
            return False
        address = found[0].text
        when, lost = _unrestored.get(address, (0.0, None))
        if lost is not None and time.monotonic() - when < LOST_SECONDS:
            raise lost
        try:
            refresh(path)
        except HilumError as error:
            _unrestored[address] = time.monotonic(), error
            raise
        return True


def refuse_incomplete(root: Path) -> None:
    """Raise the first failure to fetch since `refresh`, which a reader may have taken for a fault
    of the file.
    """
    found = addresses.of_path(root)
    mirror = _mirrors.get((os.getpid(), found[0].text)) if found else None
    if mirror and mirror.failures:
        raise mirror.failures[0][1]


@dataclass(frozen=True)
class _Refreshing:
    """One listing of an address, laid out as names."""

    address: Address
    state: Path

    @cached_property
    def source(self) -> Transport:
        return transport.of(self.address)

    def run(self) -> None:
        before = Listing.read(self.state)
        try:
            found = fetching.repeated(self.address.text, self._listed)
        except Unreachable as error:
            if before is None:
                raise
            notice(f"{error}; what was listed before is read")
            return
        _refuse_unsafe(self.address, found)
        packed = self._archives(found)
        apart = {one.place for one in packed}
        listing = Listing.of([one for one in found if one.place not in apart])
        for archive in packed:
            kinds = archives.key(archives.TAR, archive), archives.key(archives.ZIP, archive)
            kept = [one for kind in kinds if before for one in before.of_archive(kind)]
            # The time holds the version, too.
            if not kept or kept[0].stated.mtime_ns != archive.stated.mtime_ns:
                kept = self._members(archive)
            listing = Listing.of([*listing.entries(), *kept])
        if packed:
            _refuse_unsafe(self.address, list(listing.entries()))
        self._lay(listing, before)
        listing.write(self.state)

    def _listed(self) -> list[Entry]:
        return [Entry(place, stated) for place, stated in self.source.listing()]

    def _archives(self, found: list[Entry]) -> list[Entry]:
        """Return the archives to be read as folders; raise `NotFound` where nothing can be."""
        if [one.place for one in found] == [""]:
            if self.address.archives or addresses.is_archive(self.address.rest):
                return found
            raise NotFound(
                f"{self.address.text} is a file, not a folder: give the folder that holds the "
                f"radiographs, or, for an archive, {addresses.ARCHIVES[0]}::{self.address.text}"
            )
        packed = [one for one in found if addresses.is_archive(one.place)]
        return packed if self.address.archives else []

    def _members(self, archive: Entry) -> list[Entry]:
        """Return the files of an archive: of a zip archive as listed, of others unpacked."""
        shown = self.address.of_file(archive.place)
        if is_zip(self.source, archive):
            members = ZipMembers.opened(self.source, archive, on_one_line(shown))
            key = archives.key(archives.ZIP, archive)
            return [
                Entry(archives.inside(archive, name), stated, key)
                for name, stated in members.listing()
            ]
        notice(f"unpacking {on_one_line(shown)} ({archive.stated.size / 1e6:,.1f} MB)")
        folder = archives.unpack(self.address, self.source, archive, self.state)
        entries = archives.entries(folder, archive)
        archives.move(folder, self.address.mirror, archive)
        return entries

    def _lay(self, listing: Listing, before: Listing | None) -> None:
        """Make the names of the mirror those of the listing."""
        root = self.address.mirror
        root.mkdir(parents=True, exist_ok=True)
        if before and (gone := set(before.places) - set(listing.places)):
            for place in gone:
                (root / place).unlink(missing_ok=True)
            _remove_empty(root)
        folders = set()
        for entry in listing.entries():
            path = root / entry.place
            if path.parent not in folders:
                path.parent.mkdir(parents=True, exist_ok=True)
                folders.add(path.parent)
            if not _matches(path, entry):
                fetching.reserve(path, entry.stated, self.state)


def _matches(path: Path, entry: Entry) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return (found.st_size, found.st_mtime_ns) == (entry.stated.size, entry.stated.mtime_ns)


def _remove_empty(root: Path) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        if Path(folder) != root and not os.listdir(folder):
            Path(folder).rmdir()


def _refuse_unsafe(address: Address, entries: Iterable[Entry]) -> None:
    """Raise `BadData` for names that no folder can hold, or that lead out of it."""
    places = [one.place for one in entries if one.place]
    names = set(places)
    faults = [fault for place in places if (fault := _unpack.unsafe(place))]
    faults += [
        f"{on_one_line(place)} has a part that is empty or ."
        for place in places
        if {"", "."} & set(place.split("/"))
    ]
    folders = {folder for folder in (place.rpartition("/")[0] for place in places) if folder}
    faults += [
        f"{on_one_line(str(one))} is a file and a folder"
        for folder in folders
        for one in (Path(folder), *Path(folder).parents)
        if str(one) in names
    ]
    if len(places) > _unpack.MOST_MEMBERS:
        faults.append(f"{len(places):,} files; at most {_unpack.MOST_MEMBERS:,} are read")
    if faults:
        raise BadData.listing(f"{address.text} cannot be laid out as a folder", faults)


@dataclass
class _Mirror:
    """A mirror that is being read in this process."""

    address: Address
    listing: Listing
    source: Transport
    failures: list[tuple[float, HilumError]] = field(default_factory=list)
    _last: int = -AHEAD - 1  # row of the file that was requested last
    _queue: queue.SimpleQueue[int] = field(default_factory=queue.SimpleQueue)
    _queued: int = 0  # the row up to which files are queued
    _held: int | None = None  # bytes in the mirror, where they are bounded
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _unpacking: threading.Lock = field(default_factory=threading.Lock)
    _zips: dict[str, ZipMembers] = field(default_factory=dict)
    _threads: list[threading.Thread] = field(default_factory=list)

    @classmethod
    def opened(cls, address: Address) -> _Mirror:
        """Open the mirror of an address. Raises `NotFound` where it was never listed."""
        listing = Listing.read(address.mirror.parent)
        if listing is None:
            raise NotFound(
                f"{address.mirror.parent / FILE} is missing or damaged; run `hilum ingest "
                f"{address.text}` again"
            )
        return cls(address, listing, transport.of(address))

    def provide(self, place: str) -> None:
        """Fetch one file that is opened now."""
        row = self.listing.position(place)
        if row is None:
            raise NotFound(f"{on_one_line(self.address.of_file(place))}: there is no such file")
        if self.failures:
            when, last = self.failures[-1]
            if isinstance(last, Unreachable) and time.monotonic() - when < LOST_SECONDS:
                raise last
        try:
            self._ahead(row)
            self._bring(row)
        except BadData:  # a fault of the file, which its reader reports
            raise
        except HilumError as error:
            self.failures.append((time.monotonic(), error))
            raise

    def _bring(self, row: int) -> None:
        entry = self.listing.entry(row)
        source, place = self.source, entry.place
        if entry.archive.startswith(f"{archives.ZIP}:"):
            source = self._zip(entry)
            start = archives.folder_of(source.archive)
            place = place.removeprefix(f"{start}/") if start else place
        elif entry.archive:
            self._unpack_again(entry)
            return
        to, parts = self.address.mirror / entry.place, self.address.mirror.parent / PARTS
        if fetching.fetch(source, place, entry.stated, to, parts):
            self._bounded(entry.stated.size)

    def _zip(self, entry: Entry) -> ZipMembers:
        """Return the archive of an entry, whose directory is read once."""
        with self._unpacking:
            if entry.archive not in self._zips:
                place = archives.of_key(entry.archive)
                stated = fetching.repeated(place, partial(self.source.stated, place))
                shown = self.address.of_file(place)
                if stated.mtime_ns != entry.stated.mtime_ns:
                    raise transport.changed(shown)
                self._zips[entry.archive] = ZipMembers.opened(
                    self.source, Entry(place, stated), shown
                )
            return self._zips[entry.archive]

    def _unpack_again(self, entry: Entry) -> None:
        """Unpack an archive once more, of which files were evicted."""
        state = self.address.mirror.parent
        with self._unpacking, storage.locked(state, wait=True):
            if not fetching.is_absent(self.address.mirror / entry.place):
                return
            place = archives.of_key(entry.archive)
            stated = fetching.repeated(place, partial(self.source.stated, place))
            if (stated.mtime_ns, stated.tag) != (entry.stated.mtime_ns, entry.stated.tag):
                raise transport.changed(self.address.of_file(place))
            archive = Entry(place, stated)
            members = self.listing.of_archive(entry.archive)
            wanted = {
                one.place for one in members if fetching.is_absent(self.address.mirror / one.place)
            }
            folder = archives.unpack(self.address, self.source, archive, state)
            moved = archives.move(folder, self.address.mirror, archive, wanted)
        self._bounded(moved, entry.archive)

    def _bounded(self, came: int, archive: str | None = None) -> None:
        """Evict files where more is held now than may be."""
        if (most := eviction.bound()) is None:
            return
        with self._lock:
            self._held = None if self._held is None else self._held + came
            if self._held is None or self._held > most:
                root = self.address.mirror
                self._held = eviction.evict(root, self.listing, most, archive)

    def _ahead(self, row: int) -> None:
        """Have threads fetch what follows, where files are read in their order."""
        with self._lock:
            in_order = abs(row - self._last) <= AHEAD
            self._last = row
            if not in_order:
                self._queued = row
                return
            first = max(row, min(self._queued, row + AHEAD)) + 1
            last = min(row + AHEAD, len(self.listing) - 1)
            for following in range(first, last + 1):
                self._queue.put(following)
            self._queued = max(last, row)
            while len(self._threads) < FETCHERS:
                thread = threading.Thread(target=self._fetch_queued, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _fetch_queued(self) -> None:
        while True:
            row = self._queue.get()
            entry = self.listing.entry(row)
            wanted = fetching.is_absent(self.address.mirror / entry.place)
            packed = entry.archive.startswith(f"{archives.TAR}:")
            if wanted and not packed and not self.failures:
                with suppress(HilumError):  # whoever opens the file meets it, too
                    self._bring(row)


_mirrors: dict[tuple[int, str], _Mirror] = {}
_making = threading.Lock()
_restoring = threading.Lock()
_unrestored: dict[str, tuple[float, HilumError]] = {}  # the last failure, and when it was
