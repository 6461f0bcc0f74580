"""Files that are complete or not there: atomic replacement, digests, Parquet and JSON.

A file is written beside its place under a hidden name and renamed onto it, so a reader never sees
half of one, and a killed process leaves at most a hidden file that the next writer replaces. All
files are written by functions of this module, and an error of the operating system becomes a
`HilumError` here.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import xxhash

from hilum.errors import BadData, CannotWrite, HilumError, on_one_line, refused
from hilum.safety import untrusted_files
from hilum.storage import flushing

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from typing_extensions import Buffer

# 64 bits: enough to name folders and distinguish artefacts and images; not a security measure.
DIGEST_CHARACTERS = 16
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC  # how a file is opened to be written
_LARGE = 1 << 16  # bytes of a file that is written out at once; smaller ones are, several together
_BLOCK = 1 << 18  # bytes of a file hashed at a time: read and hashed in the cache of one core
_SORTED = json.JSONEncoder(sort_keys=True, ensure_ascii=False)  # made once: it takes as long as use
# As it is read from JSON or TOML, before anything has checked its keys and values.
JsonObject = dict[str, Any]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to.

    It is renamed onto `path` when the block ends without an error, and removed otherwise. Raises
    `CannotWrite` in place of an `OSError` on the way, `CannotRead` where that names a file
    elsewhere.
    """
    beside = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        flushing.settle(beside, path)
    except BaseException as error:
        with suppress(OSError):  # the first error is the one to report
            beside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise refused(path, error) from error
        raise


@contextmanager
def creating(path: Path) -> Iterator[Path]:
    """Give an empty file beside `path`, under a name of its own, to write to.

    It gets the name `path` when the block ends without an error, unless another process gave it to
    a file meanwhile, which then stays. Raises as `replacing` does.
    """
    beside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(number)
        beside = Path(name)
        yield beside
        beside.chmod(0o644)
        flushing.flush(beside)
        with suppress(FileExistsError):
            os.link(beside, path)
        flush_names(path.parent)
    except OSError as error:
        raise refused(path, error) from error
    finally:
        if beside is not None:
            beside.unlink(missing_ok=True)


def flush_names(folder: Path) -> None:
    """Flush the names of a folder's files, so that a power cut does not undo a rename.

    Raises `OSError`.
    """
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Give a new folder beside `folder`, which must be empty or missing.

    It is renamed onto `folder` when the block ends without an error, and removed otherwise. Raises
    as `replacing` does.
    """
    folder = folder.resolve()
    beside = _beside(folder)
    try:
        if beside.exists():  # of a process that was killed
            shutil.rmtree(beside)
        beside.mkdir(parents=True)
        yield beside
        os.replace(beside, folder)
    except BaseException as error:
        shutil.rmtree(beside, ignore_errors=True)  # the first error is the one to report
        if isinstance(error, OSError):
            raise refused(folder, error) from error
        raise


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Give a binary stream to a file that is complete once the block has ended, see `replacing`."""
    with replacing(path) as beside, open(beside, "wb") as stream:
        yield stream


@contextmanager
def in_place(path: Path) -> Iterator[int]:
    """Give a descriptor of a file, which keeps its content, for `write_at`.

    Raises as `replacing` does.
    """
    with _os_errors_translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not (path.is_file() or path.is_dir()):
            path.unlink()  # a pipe in its place cannot be written at an offset
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def settle(beside: Path, path: Path) -> None:
    """Flush a finished file and give it its name. Raises as `replacing` does."""
    with _os_errors_translated(path):
        flushing.settle(beside, path)


def extend(descriptor: int, length: int) -> None:
    """Make a file at least `length` bytes long; what is added is zeros.

    Raises `OSError`, which `in_place` translates.
    """
    if os.fstat(descriptor).st_size < length:
        os.ftruncate(descriptor, length)


def write_at(descriptor: int, data: bytes, offset: int, *, sparse: bool = False) -> None:
    """Write all of `data` from byte `offset` on.

    `sparse`: zeros are not written where the file holds zeros already, so that what was never
    written in a file of its full length takes no room on the disk. Raises `OSError`, which
    `in_place` translates.
    """
    zeros = sparse and data == bytes(len(data))
    if zeros and os.pread(descriptor, len(data), offset) == data:
        return
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], offset + written)


@contextmanager
def _os_errors_translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise refused(path, error) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file, complete or not at all."""
    with replacing(path) as beside:
        beside.write_bytes(data)


def add_bytes(path: Path, data: bytes) -> None:
    """Write a file of a folder that `filling` gives, for `flush_all` to flush with its others.

    A flush of each file by itself takes longer than making a small image. The system begins to
    write a large file out at once, where it can, so that little is left to be flushed. Raises as
    `replacing` does.
    """
    with _os_errors_translated(path):
        try:
            descriptor = os.open(path, _NEW, 0o666)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, _NEW, 0o666)
        try:
            write_at(descriptor, data, 0)
            if len(data) >= _LARGE:
                flushing.begin(descriptor)
        finally:
            os.close(descriptor)


def flush_all() -> None:
    """Flush all files that were written, as far as the operating system can."""
    getattr(os, "sync", lambda: None)()


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read (mode 0600), complete or not at all."""
    with replacing(path) as beside:
        beside.unlink(missing_ok=True)
        made = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(made, "wb") as stream:
            stream.write(data)


def sealed(data: bytes) -> bytes:
    """Return bytes behind their digest, as `read_sealed` takes them from a file."""
    return hashlib.sha256(data).digest() + data


def write_sealed(path: Path, data: bytes) -> None:
    """Write bytes behind their digest, for `read_sealed`."""
    write_bytes(path, sealed(data))


def read_sealed(path: Path) -> bytes | None:
    """Return the bytes that were `sealed`; None where the file holds anything else."""
    content = untrusted_files.read_bytes(path)
    length = hashlib.sha256().digest_size
    whole = hashlib.sha256(content[length:]).digest() == content[:length]
    return content[length:] if whole else None


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, complete or not at all."""
    write_bytes(path, text.encode())


def as_json(value: object) -> str:
    """Return JSON on one line with sorted keys, so that equal values give equal text."""
    return _SORTED.encode(value)


def write_json(path: Path, value: object) -> None:
    """Write indented JSON with keys in their given order, for people to read too."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read one JSON value. Raises `BadData` where the file holds none."""
    return untrusted_files.read_json(path)


def write_table(path: Path, table: pl.DataFrame, metadata: Mapping[str, str] | None = None) -> None:
    """Write a table as Parquet with `metadata`, complete or not at all.

    Words of an `Enum` are stored as text, in a quarter of the time that text takes.
    """
    import polars as pl

    from hilum.storage.stored_table import words_as_text

    # What an `Enum` is stored as is text; only this states the type that it is read as.
    text = io.BytesIO()
    words_as_text(table.clear()).write_parquet(text)
    text.seek(0)
    stated = {**pl.read_parquet_metadata(text), **(metadata or {})}
    # Through memory, so that a full disk raises OSError and not an error of the Parquet writer.
    stream = io.BytesIO()
    table.write_parquet(stream, compression="zstd", metadata=stated)
    write_bytes(path, stream.getvalue())


def read_table(path: Path) -> pl.DataFrame:
    """Read Parquet, with `constants_once`.

    Raises `BadData` where the file is not readable as Parquet.
    """
    from hilum.storage.stored_table import StoredTable

    return StoredTable.read(path).table()


def read_array(path: Path) -> np.ndarray:
    """Read an array from a .npy file. Raises `BadData` where the file holds none."""
    import numpy as np

    try:
        return np.load(io.BytesIO(untrusted_files.read_bytes(path)), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise BadData(f"{path}: is not an array of NumPy ({on_one_line(str(error))})") from None


def digest(value: object) -> str:
    """Return the digest of bytes, or of any JSON value (with sorted keys)."""
    data = value if isinstance(value, bytes) else as_json(value).encode()
    return hashlib.sha256(data).hexdigest()[:DIGEST_CHARACTERS]


def content_digest(*parts: Buffer) -> str:
    """Return the identity of the bytes of an image, or of its file, one part after the other.

    XXH3, 128 bits, of which the first 64 are kept: it takes a thirtieth of the time of SHA-256,
    which is longer than all other work on an uncompressed film. Images that differ by chance or by
    work done on them have different ones; two files with one such digest can be made on purpose.
    Where that would matter (downloads, models, revisions) SHA-256 is used.
    """
    found = ContentDigest()
    for part in parts:
        found.update(part)
    return found.text()


class ContentDigest:
    """A `content_digest` that is made of one part after the other."""

    def __init__(self) -> None:
        found = xxhash.xxh3_128()
        self.update: Callable[[Buffer], None] = found.update
        self._hexadecimal = found.hexdigest

    def text(self) -> str:
        """Return the digest of all parts so far."""
        return self._hexadecimal()[:DIGEST_CHARACTERS]


def content_digest_of_file(path: Path) -> str:
    """Return the `content_digest` of a file's bytes, wherever they lie."""
    block = bytearray(_BLOCK)
    found = ContentDigest()
    with untrusted_files.opened(path, limit=1 << 62) as stream:
        while length := stream.readinto(block):
            found.update(memoryview(block)[:length])
    return found.text()


def digest_of_file(path: Path) -> str:
    """Return the `digest` of a file's bytes, wherever they lie."""
    with untrusted_files.opened(path, limit=1 << 62) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:DIGEST_CHARACTERS]


def digest_of_table(table: pl.DataFrame) -> str:
    """Return the digest of a table's names, types and cells in their order.

    Independent of Parquet's encoding and version.
    """
    schema = {name: str(kind) for name, kind in table.schema.items()}
    found = hashlib.sha256(digest(schema).encode())
    # In slices, because the text of a large table takes many times its memory.
    for rows in table.iter_slices(100_000):
        found.update(rows.write_csv(include_header=False, quote_style="non_numeric").encode())
    return found.hexdigest()[:DIGEST_CHARACTERS]


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder for one process at a time, until the process ends in whatever way.

    With `wait`, another process that holds it is waited for. Raises `HilumError` where another
    process holds it, `CannotWrite` where it cannot be written to.
    """
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = open(folder / ".lock", "w")  # noqa: SIM115 (held open for as long as the lock is)
    except OSError as error:
        raise CannotWrite.because(folder, error) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise HilumError(
                f"another hilum process uses {folder}; wait until it ends, "
                "or choose another folder with --out"
            ) from None
        yield
