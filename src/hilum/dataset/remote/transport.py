"""Transports: list what is below an address, and read bytes of one file of it.

A transport says only three things, and everything that can go wrong on the way becomes `Cut`, which
may pass, or a `HilumError`, which does not. Places are relative to the address, with forward
slashes; "" is the address itself, where that is a file.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote

from hilum.errors import CannotRead, Mismatch, MissingExtra, NotFound, on_one_line
from hilum.safety import threads, untrusted_files, web
from hilum.safety.addresses import LOCAL, Address

EXTRA = "remote"
HEADS = 16  # files whose size is requested at once, where a listing states none
_SECOND_NS = 10**9
_Facts = Mapping[str, Any]  # of a file, as fsspec gives them; the keys differ by protocol


class Cut(Exception):
    """An attempt that failed, for a reason that may pass."""


@dataclass(frozen=True)
class Stated:
    """What a source states of a file: `tag` changes with its bytes, "" where there is none.

    `mtime_ns` has the source's time in its seconds; the rest of it is made from the tag, so that
    two versions of one size within a second differ in it.
    """

    size: int
    mtime_ns: int
    tag: str

    @classmethod
    def of(cls, size: int, modified: datetime | None, tag: str) -> Stated:
        """Return what a source states as size, time and tag."""
        digest = int.from_bytes(hashlib.sha256(tag.encode()).digest()[:8]) if tag else 0
        seconds = int(modified.timestamp()) if modified else digest % 10**9
        return cls(size, seconds * _SECOND_NS + digest % _SECOND_NS, tag)

    @property
    def md5(self) -> str | None:
        """The MD5 of the bytes, where the tag is one, as that of an object sent in one part is."""
        bare = self.tag.strip('"')
        return bare if re.fullmatch(r"[0-9a-f]{32}", bare) else None


class Transport(Protocol):
    """The three calls that a mirror needs."""

    def listing(self) -> Iterator[tuple[str, Stated]]:
        """Yield place and facts of each file below the address. Raises `Cut` and `HilumError`."""
        ...

    def stated(self, place: str) -> Stated:
        """Return what the source states of a file now."""
        ...

    def read(self, place: str, start: int, end: int, size: int) -> bytes:
        """Return the bytes from `start` to before `end` of a file of `size` bytes."""
        ...


def of(address: Address) -> Transport:
    """Return the transport of an address. Raises `MissingExtra` where its package is missing."""
    if address.protocol == LOCAL:
        return _Disk(Path(address.rest))
    return _Fsspec(address)


@dataclass(frozen=True)
class _Disk:
    """Files on this disk."""

    root: Path

    def listing(self) -> Iterator[tuple[str, Stated]]:
        if self.root.is_file():
            yield "", self.stated("")
            return
        if not self.root.is_dir():
            raise NotFound(f"there is neither a file nor a folder at {on_one_line(str(self.root))}")
        for folder, folders, names in os.walk(self.root):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if path.is_file() and not path.is_symlink():
                    place = path.relative_to(self.root).as_posix()
                    yield place, self.stated(place)

    def stated(self, place: str) -> Stated:
        try:
            found = (self.root / place).stat()
        except OSError as error:
            raise CannotRead.because(self.root / place, error) from error
        return Stated(found.st_size, found.st_mtime_ns, "")

    def read(self, place: str, start: int, end: int, size: int) -> bytes:
        with untrusted_files.opened(self.root / place, self.root, limit=1 << 62) as stream:
            stream.seek(start)
            return stream.read(end - start)


@dataclass(frozen=True)
class _Fsspec:
    """Files that fsspec reaches; a file system is made anew in each process, and kept by fsspec."""

    address: Address

    def listing(self) -> Iterator[tuple[str, Stated]]:
        system, root = self._system()
        system.invalidate_cache()
        with _translated(self.address.target):
            found: Mapping[str, _Facts] = system.find(root, detail=True)
        if not found:
            with _translated(self.address.target):
                found = {root: system.info(root)}
        if root in found:
            yield "", self._facts(root, found[root])
            return
        top = self._unquoted(f"{root.rstrip('/')}/")
        plain = {
            self._unquoted(name): facts
            for name, facts in found.items()
            if not (set("?#") & set(name) or name.endswith("/"))
        }
        named = {
            name.removeprefix(top): facts for name, facts in plain.items() if name.startswith(top)
        }
        with threads.pool(HEADS) as pool:  # a web server's page states no sizes
            yield from zip(named, pool.map(self._listed, named, named.values()), strict=True)

    def _listed(self, place: str, facts: _Facts) -> Stated:
        return self.stated(place) if facts.get("size") is None else self._facts(place, facts)

    def stated(self, place: str) -> Stated:
        system, root = self._system()
        name = self._name(root, place)
        with _translated(self._shown(place)):
            system.invalidate_cache()
            facts = system.info(name)
        return self._facts(place, facts)

    def read(self, place: str, start: int, end: int, size: int) -> bytes:
        system, root = self._system()
        name = self._name(root, place)
        part = {} if (start, end) == (0, size) else {"start": start, "end": end}
        with _translated(self._shown(place)):
            data = system.cat_file(name, **part)
        # A web server that knows no ranges answers with the whole file.
        return data[start:end] if part and len(data) == size else data

    def _unquoted(self, name: str) -> str:
        """Return a name as tables have it: pages of a web server quote it, as part of a URL."""
        return unquote(name) if self.address.protocol in web.SCHEMES else name

    def _name(self, root: str, place: str) -> str:
        quoted = quote(place) if self.address.protocol in web.SCHEMES else place
        return f"{root.rstrip('/')}/{quoted}" if place else root

    def _system(self) -> tuple[Any, str]:
        with MissingExtra.explained(EXTRA, f"reading {self.address.target}"):
            import fsspec
        try:
            return fsspec.url_to_fs(self.address.target)
        except ImportError as error:
            package = _package(self.address.protocol)
            raise MissingExtra.needed(
                package, EXTRA * (package in ("s3fs", "aiohttp")), f"reading {self.address.target}"
            ) from error
        except ValueError as error:
            raise NotFound(
                f"{self.address.target}: {self.address.protocol} is no protocol that fsspec knows; "
                "known are, for example, s3, gs, https"
            ) from error

    def _shown(self, place: str) -> str:
        return f"{self.address.target}/{place}" if place else self.address.target

    def _facts(self, place: str, facts: _Facts) -> Stated:
        if facts.get("type") == "directory" or facts.get("size") is None:
            raise NotFound(
                f"{self._shown(place)}: nothing is there, or its size is not stated; give the "
                "address of a folder whose files are listed, or of one archive"
            )
        tag = facts.get("ETag") or facts.get("etag") or facts.get("md5Hash") or ""
        modified = facts.get("LastModified") or facts.get("Last-Modified") or facts.get("updated")
        return Stated.of(int(facts["size"]), _time(modified), str(tag))


def _package(protocol: str) -> str:
    from fsspec.registry import known_implementations

    needed = re.findall(r"[\w-]+", known_implementations.get(protocol, {}).get("class", ""))
    return "aiohttp" if protocol.startswith("http") else (needed or [protocol])[0]


def _time(value: Any) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        with suppress(ValueError):  # the other form, or none that is known
            return parse(str(value))
    return None


class _translated:
    """Translate what a file system of fsspec raises; each library has its own kinds.

    What was raised is not kept as the cause, because a traceback would print it with its secrets.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is None or not isinstance(error, Exception):
            return
        what = on_one_line(self._what)
        # That of HTTP says so of every failure, with the failure as its cause.
        cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
        if isinstance(cause, Exception) and getattr(cause, "status", 0) not in web.GONE:
            error = cause
        if isinstance(error, FileNotFoundError):
            raise NotFound(f"{what}: there is nothing of that name") from None
        why = web.reason(error)
        refused = isinstance(error, PermissionError) or getattr(error, "status", 0) in web.FORBIDDEN
        if refused or "NoCredentials" in type(error).__name__:
            raise CannotRead(
                f"cannot read {what} ({why}); check the credentials that the protocol's own "
                "settings hold, and the right to read it"
            ) from None
        raise Cut(why) from None


def changed(what: str) -> Mismatch:
    """Return the error for a file that is not the one that was listed."""
    return Mismatch(f"{what}: changed since it was listed; run the same command again")
