"""Safe unpacking of zip and (compressed) tar archives into a new folder, completely or not at all.

Only files and folders below the new folder are written. An archive is refused, and nothing of it
stays, where a member leads out of the folder, is a link, a device or sparse, where two members
have one path or overlap in the archive, where it grows beyond any data set, and where a member
does not fit on the disk.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path, PureWindowsPath
from typing import IO

from hilum.errors import BadData, CannotWrite, HilumError, on_one_line
from hilum.progress import Progress
from hilum.safety import untrusted_files

BLOCK = 1 << 20
MOST_MEMBERS = 1_000_000  # nine times the images of ChestX-ray14; more is an archive bomb
_SMALL = 4096  # bytes read at once from a decompressor that does not bound what it returns
_DISK_BLOCK = 4096  # bytes that the smallest file takes on a disk
_ALWAYS, _TIMES = 64 << 20, 200  # an archive may grow to so many bytes, or to so many times its own
_MOST_DIRECTORY = 64 << 20  # bytes of a zip archive's directory: about a million members
_MOST_HEADER = 256 << 10  # bytes of the headers of one member of a tar archive
_LOCAL_HEADER = 30  # bytes of a member's local header in a zip archive (APPNOTE 4.3.7)
_LONGEST, _DEEPEST = 255, 64  # bytes of a name, folders above a file
_STREAMS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
# What the libraries raise on archives they cannot read: RuntimeError stands for its own kinds
# RecursionError and NotImplementedError, ValueError for text that is not UTF-8.
BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    ValueError,
    ArithmeticError,
    LookupError,
    struct.error,
    MemoryError,
)


def unpack(archive: Path, folder: Path, progress: Progress) -> None:
    """Write the members of `archive` into `folder`, which is replaced.

    `progress` gets the members written, and 0 for all of a tar archive, which has no directory.
    Raises `BadData` where the archive is broken or unsafe, `CannotWrite` where the disk fails;
    `folder` is removed then.
    """
    shutil.rmtree(folder, ignore_errors=True)
    with untrusted_files.opened(archive, limit=1 << 62) as stream:
        try:
            _Unpacking(archive, stream, folder).run(progress)
            os.sync()  # once for all files, before the caller shows the folder
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if own := _own_error(error, archive, folder):
                raise own from error
            raise


def _own_error(error: BaseException, archive: Path, folder: Path) -> HilumError | None:
    """Return the error of Hilum for what a library or the operating system raised, or None."""
    name = on_one_line(archive.name)
    if isinstance(error, (FileExistsError, NotADirectoryError, IsADirectoryError)):
        place = on_one_line(str(Path(error.filename).relative_to(folder)))
        return BadData(f"{name} holds two members in one place: {place}")
    # bz2 says that its data are broken by an OSError without a number.
    if isinstance(error, BROKEN) or (isinstance(error, OSError) and error.errno is None):
        why = on_one_line(str(error)) or type(error).__name__
        return BadData(f"{name} is no whole zip or tar archive: {why}")
    return CannotWrite.because(folder, error) if isinstance(error, OSError) else None


class _Metered:
    """A readable file that gives at most `allowed` bytes until that is set again, else `BadData`.

    Libraries read as many bytes into memory as a header states, which this bounds.
    """

    def __init__(self, stream: IO[bytes], allowed: int, what: str) -> None:
        self._stream, self.allowed, self._what = stream, allowed, what

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes. Raises `BadData` beyond `allowed`."""
        blocks: list[bytes] = []
        left = self.allowed + 1 if size < 0 else min(size, self.allowed + 1)
        while left and (block := self._stream.read(min(left, BLOCK))):
            blocks.append(block)
            left -= len(block)
            self.allowed -= len(block)
        if self.allowed < 0:
            raise BadData(f"{self._what}; it is not unpacked")
        return b"".join(blocks)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a position, as `io.IOBase.seek` does."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """Return the position, as `io.IOBase.tell` does."""
        return self._stream.tell()

    def seekable(self) -> bool:
        """Return True: archives are files on disk."""
        return True


class _Unpacking:
    """The unpacking of one archive, with the bytes that it may still take on the disk."""

    def __init__(self, archive: Path, stream: IO[bytes], folder: Path) -> None:
        self._name, self._stream, self._folder = on_one_line(archive.name), stream, folder
        self._left = self._most = max(_ALWAYS, _TIMES * os.fstat(stream.fileno()).st_size)

    def run(self, progress: Progress) -> None:
        """Write all members. Raises as `unpack` does, and what libraries raise."""
        self._folder.mkdir(parents=True)
        is_zip = zipfile.is_zipfile(self._stream)
        self._stream.seek(0)
        (self._zip if is_zip else self._tar)(progress)

    def _zip(self, progress: Progress) -> None:
        with _safe_zip(self._stream, self._name) as opened:
            members = opened.infolist()
            self._fits(sum(member.file_size for member in members))
            for done, member in enumerate(members, 1):
                self._count(member.filename, member.file_size, done)
                place = self._folder / member.filename
                if member.is_dir():
                    place.mkdir(parents=True, exist_ok=True)
                else:
                    bounded = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                    with opened.open(member) as stream:
                        _write(stream, place, BLOCK if bounded else _SMALL)
                progress(done, len(members))

    def _tar(self, progress: Progress) -> None:
        """Unpack member by member, since reading all names first would decompress twice."""
        head = self._stream.read(6)
        self._stream.seek(0)
        kind = next((kind for magic, kind in _STREAMS.items() if head.startswith(magic)), None)
        plain: IO[bytes] = kind(self._stream) if kind else self._stream  # type: ignore[assignment]
        what = f"{self._name} has a member whose headers are longer than any name"
        metered = _Metered(plain, _MOST_HEADER, what)
        done = 0
        with tarfile.open(fileobj=metered, mode="r:") as opened:  # type: ignore[arg-type]
            while member := opened.next():
                done += 1
                opened.members.clear()  # which would hold all of them in memory
                if fault := unsafe(member.name) or _odd_in_tar(member):
                    raise BadData.listing(f"{self._name} is not safe to unpack", [fault])
                self._count(member.name, member.size, done)
                self._take(opened, member, metered)
                metered.allowed = _MOST_HEADER
                progress(done, 0)
            self._to_the_end(opened.offset, metered)

    def _take(self, opened: tarfile.TarFile, member: tarfile.TarInfo, metered: _Metered) -> None:
        place = self._folder / member.name
        if member.isdir():
            place.mkdir(parents=True, exist_ok=True)
        elif stream := opened.extractfile(member):
            metered.allowed = member.size + BLOCK
            with stream:
                _write(stream, place, BLOCK)

    def _to_the_end(self, offset: int, metered: _Metered) -> None:
        """Read what follows the last member: an empty block, and the compressor's checksum.

        A header that is damaged ends an archive for `tarfile`, as an empty block does.
        """
        metered.allowed = self._left
        metered.seek(offset)
        if metered.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"a damaged header at byte {offset:,}, or no end")
        while metered.read(BLOCK):
            pass

    def _count(self, name: str, size: int, done: int) -> None:
        """Refuse what no data set holds, and a member that does not fit on the disk any more."""
        self._left -= max(size, _DISK_BLOCK)
        if self._left < 0 or done > MOST_MEMBERS:
            raise BadData(
                f"{self._name} would grow to more than {self._most:,} bytes on the disk, "
                f"{_TIMES} times its own, or more than {MOST_MEMBERS:,} files, with "
                f"{on_one_line(name)}; it is not unpacked"
            )
        self._fits(size)

    def _fits(self, size: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if size > free:
            raise CannotWrite(
                f"cannot write {self._folder}: {size:,} bytes are to be unpacked, {free:,} are "
                "free; free some space and run the same command again"
            )


def zip_directory(stream: IO[bytes], name: str, size: int) -> list[zipfile.ZipInfo]:
    """Return the members of a zip archive of `size` bytes; `name` is what errors call it.

    Raises `BadData` where it is not safe to unpack, and what libraries raise (`BROKEN`).
    """
    with _safe_zip(stream, name) as opened:
        members = opened.infolist()
    most = max(_ALWAYS, _TIMES * size)
    grown = sum(max(member.file_size, _DISK_BLOCK) for member in members)
    if grown > most or len(members) > MOST_MEMBERS:
        raise BadData(
            f"{name} would grow to {grown:,} bytes in {len(members):,} files; at most {most:,} "
            f"bytes, {_TIMES} times its own, and {MOST_MEMBERS:,} files are read"
        )
    return members


def _safe_zip(stream: IO[bytes], name: str) -> zipfile.ZipFile:
    """Open a zip archive of which every member may be written below a folder."""
    metered = _Metered(stream, _MOST_DIRECTORY, f"{name} lists more members than any data set has")
    opened = zipfile.ZipFile(metered)  # type: ignore[arg-type]
    metered.allowed = 1 << 62  # each member ends where the directory says
    members = opened.infolist()
    faults = [fault for one in members if (fault := unsafe(one.filename) or _odd(one))]
    if faults := faults or _overlaps(members):
        raise BadData.listing(f"{name} is not safe to unpack", faults)
    return opened


def _odd(member: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return f"{on_one_line(member.filename)} is a link or a device"
    if member.compress_type == zipfile.ZIP_BZIP2:  # `zipfile` lets 45 bytes of it become 46 MB
        return f"{on_one_line(member.filename)} is packed by bzip2; pack the archive by deflate"
    return f"{on_one_line(member.filename)} is encrypted" if member.flag_bits & 1 else ""


def _odd_in_tar(member: tarfile.TarInfo) -> str:
    name = on_one_line(member.name)
    if not (member.isreg() or member.isdir()):
        return f"{name} is a link or a device"
    if member.issparse():
        return f"{name} is stored with gaps; pack the archive without --sparse"
    return f"{name} has {member.size} bytes" if member.size < 0 else ""


def _overlaps(members: list[zipfile.ZipInfo]) -> list[str]:
    """Name the members whose bytes in the archive another member has, too."""
    faults, end, before = [], 0, ""
    for member in sorted(members, key=lambda member: member.header_offset):
        if member.header_offset < end:
            faults.append(f"{on_one_line(member.filename)} shares bytes with {before}")
        end = member.header_offset + _LOCAL_HEADER + member.compress_size
        before = on_one_line(member.filename)
    return faults


def unsafe(name: str) -> str:
    """Return why a name in an archive or a bucket is not written to a folder; "" where it is."""
    shown, parts = on_one_line(name), name.split("/")
    if name.startswith("/") or "\\" in name or ".." in parts or PureWindowsPath(name).drive:
        return f"{shown} leads out of the folder"
    if "\0" in name:
        return f"{shown} has a zero byte in its name"
    if len(parts) > _DEEPEST:
        return f"{shown[:80]}… lies {len(parts) - 1} folders deep; at most {_DEEPEST} are unpacked"
    if max(len(os.fsencode(part)) for part in parts) > _LONGEST:
        return f"{shown[:80]}… has a name of more than {_LONGEST} bytes"
    return ""


def _write(stream: IO[bytes], place: Path, block: int) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place, "xb") as out:
        shutil.copyfileobj(stream, out, block)
