"""Archives unpacked into a new folder, whole or not at all: zip, and tar with or without compression.

Only files and folders below the new folder are taken. An archive with a member that leads out of it, with a link, a device, or two
members in one place, is refused, and nothing of it stays.
"""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import IO

from hilum.errors import BadData, CannotWrite
from hilum.steps import Progress

BLOCK = 1 << 20
# What the libraries raise on archives they cannot read; zipfile says NotImplementedError of a compression that it does not know.
BROKEN = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


def unpack(archive: Path, folder: Path, progress: Progress) -> None:
    """Write what is in `archive` into `folder`, which is made anew.

    `progress` is told members, and 0 for all where the archive does not say. Raises `BadData` where the archive is broken or not safe,
    `CannotWrite` where the disk does not take it; `folder` is gone then.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        with _either(archive) as opened:
            (_zip if isinstance(opened, zipfile.ZipFile) else _tar)(opened, folder, progress)
        os.sync()  # once for all files, before the caller shows the folder
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, BROKEN):
            raise BadData(f"{archive.name} is no whole zip or tar archive: {error or type(error).__name__}") from error
        if isinstance(error, (FileExistsError, NotADirectoryError, IsADirectoryError)):
            raise BadData(f"{archive.name} holds two members in one place: {Path(error.filename).relative_to(folder)}") from error
        if isinstance(error, OSError):
            raise CannotWrite.because(folder, error) from error
        raise


@contextmanager
def _either(archive: Path) -> Iterator[zipfile.ZipFile | tarfile.TarFile]:
    with zipfile.ZipFile(archive) if zipfile.is_zipfile(archive) else tarfile.open(archive) as opened:
        yield opened


def _zip(opened: zipfile.ZipFile, folder: Path, progress: Progress) -> None:
    members = opened.infolist()
    faults = [fault for member in members if (fault := _unsafe(member.filename) or _odd(member))]
    if faults:
        raise BadData.listing(f"{Path(str(opened.filename)).name} is not safe to unpack", faults)
    size, free = sum(member.file_size for member in members), shutil.disk_usage(folder).free
    if size > free:
        raise CannotWrite(f"cannot write {folder}: {size:,} bytes are to be unpacked, {free:,} are free; free some space and run the same command again")
    for done, member in enumerate(members, 1):
        if member.is_dir():
            (folder / member.filename).mkdir(parents=True, exist_ok=True)
        else:
            with opened.open(member) as stream:
                _write(stream, folder / member.filename)
        progress(done, len(members))


def _odd(member: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return f"{member.filename} is a link or a device"
    return f"{member.filename} is encrypted" if member.flag_bits & 1 else ""


def _tar(opened: tarfile.TarFile, folder: Path, progress: Progress) -> None:
    """Member by member: to look at all names first would mean to decompress everything twice."""
    for done, member in enumerate(opened, 1):
        fault = _unsafe(member.name) or ("" if member.isreg() or member.isdir() else f"{member.name} is a link or a device")
        if fault:
            raise BadData.listing(f"{Path(str(opened.name)).name} is not safe to unpack", [fault])
        if member.isdir():
            (folder / member.name).mkdir(parents=True, exist_ok=True)
        elif stream := opened.extractfile(member):
            with stream:
                _write(stream, folder / member.name)
        progress(done, 0)
    while opened.fileobj and opened.fileobj.read(BLOCK):  # the archive ends before the compressor's checksum, which is the last thing to be read
        pass


def _unsafe(name: str) -> str:
    out = name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/") or PureWindowsPath(name).drive
    return f"{name} leads out of the folder" if out else ""


def _write(stream: IO[bytes], place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place, "xb") as out:
        shutil.copyfileobj(stream, out, BLOCK)
