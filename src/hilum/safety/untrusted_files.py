"""Open, read and parse untrusted files: the only way in which files from outside are read.

A file is opened only where it is a regular file (never a pipe, a socket or a device, which may
never end), where it is below the folder that it was named in, once links are followed, and where it
is not larger than `limit`. Its place is that of the opened descriptor, not of its name, so that a
name that becomes a link meanwhile has no effect. The whole file is read, and a file that changed
meanwhile is refused. Text, JSON and TOML come with bounds on nesting and on the length of numbers,
so that no file makes a parser of Python raise an error of its own.

Everything raises `hilum.errors.HilumError` and nothing else: `NotFound` where nothing is there,
`CannotRead` where the operating system refuses, `BadData` for the rest.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import Any

from hilum.errors import BadData, CannotRead, HilumError, NotFound, on_one_line
from hilum.safety import addresses, path_names

MAX_BYTES = 4 << 30  # of one file; the largest radiographs have some hundred megabytes
MAX_TEXT_BYTES = 256 << 20  # of a settings file or an annotation
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
_ZERO = re.compile(r"(?<!\\)(?:\\\\)*\\(?:u0000|U00000000)")  # as TOML and JSON write one
_LONGEST_NUMBER = 400  # digits: the largest double has 309
_LONG_NUMBER = re.compile(rf"\d{{{_LONGEST_NUMBER + 1}}}")
_TEXT_OR_LONG_NUMBER = re.compile(rf'"[^"\\]*(?:\\.[^"\\]*)*"|{_LONG_NUMBER.pattern}', re.DOTALL)
# Not waiting: to open a pipe that nobody writes to would never end. A terminal is not taken over.
_FLAGS = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY", "O_BINARY")
)
REMEDY = (
    "copy the file there in place of the link (cp --dereference), or, where you trust the "
    "folder's links, write a recipe with this line under [data]: links = true"
)
# Mode of a file of a mirror (`hilum.safety.addresses`) whose bytes are still to be fetched: no
# other file may be executed and not read, and what opens it past this module is refused.
ABSENT = 0o100
_PROVIDER = "hilum.dataset.remote.mirror"
_TRIES = 8  # where what was fetched is evicted before it is opened
_OPEN_FILES = "/proc/self/fd"  # where Linux says what file a descriptor is


@dataclass(frozen=True)
class Folder:
    """A folder of data, whose files are known by their place in it (`hilum.safety.path_names`).

    `links`: whether a link in the folder may lead to a file outside of it. Only the user decides
    this, never the folder itself.
    """

    path: Path
    links: bool = False

    @property
    def root(self) -> Path | None:
        """The `root` for functions that read a file; None where files may be anywhere."""
        return None if self.links else self.path

    def located(self, place: str) -> tuple[Path, Path | None]:
        """Return the file at a place and `root`, which every reader of a file takes."""
        return path_names.path_of(self.path, place), self.root


def descriptor(path: Path | str, root: Path | None = None) -> tuple[int, os.stat_result]:
    """Open a regular file for reading, see `opened`; return its descriptor, to be closed."""
    number, status = _opened(path)
    try:
        _refuse_other_kinds(path, status)
        if root is not None:
            _refuse_outside(root, path, _location(number, path, status))
    except HilumError:
        os.close(number)
        raise
    return number, status


def _opened(path: Path | str) -> tuple[int, os.stat_result]:
    """Open a regular file, fetched first where its bytes lie elsewhere."""
    for _ in range(_TRIES):
        try:
            status = os.stat(path)
            _refuse_other_kinds(path, status)  # opening a device can already do something
            if _is_elsewhere(path, status):
                _provide(path)
            number = os.open(path, _FLAGS)
        except FileNotFoundError:
            if _restored(path):
                continue
            raise NotFound(_nothing(path)) from None
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            if isinstance(error, PermissionError) and _is_elsewhere(path, os.stat(path)):
                continue
            raise CannotRead.because(_shown(path), error) from error
        status = os.fstat(number)
        if not _is_elsewhere(path, status):
            return number, status
        os.close(number)
    raise CannotRead(
        f"{_shown(path)}: was removed {_TRIES} times to make room before it was read; raise "
        "HILUM_MIRROR_GB"
    )


def _is_elsewhere(path: Path | str, status: os.stat_result) -> bool:
    return stat.S_IMODE(status.st_mode) == ABSENT and addresses.of_path(path) is not None


def _restored(path: Path | str) -> bool:
    """Lay out a mirror that was deleted, and say whether that was done."""
    if addresses.of_path(path) is None:
        return False
    return importlib.import_module(_PROVIDER).restore(Path(path))


def _provide(path: Path | str) -> None:
    # By its name, because it stands above this module, and because every process opens files, also
    # one that was started with nothing of it imported.
    importlib.import_module(_PROVIDER).provide(Path(path))


def _shown(path: Path | str) -> str:
    return on_one_line(addresses.shown(path))


def _nothing(path: Path | str) -> str:
    shown = _shown(path)
    if os.path.islink(path):
        return (
            f"{shown}: is a link to nothing ({on_one_line(os.readlink(path))}); put the file there"
        )
    return f"{shown}: there is no such file"


def _refuse_other_kinds(path: Path | str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = kind_of(status.st_mode)
        raise BadData(f"{_shown(path)}: is {kind} and is never read; give a file")


def _location(number: int, path: Path | str, status: os.stat_result) -> str:
    """Return the path of an opened file, with all links resolved."""
    try:
        return os.readlink(f"{_OPEN_FILES}/{number}")
    except OSError:  # no Linux
        target = os.path.realpath(path)
        if not os.path.samestat(os.stat(target, follow_symlinks=False), status):
            raise BadData(f"{_shown(path)}: was replaced while it was opened") from None
        return target


@lru_cache(maxsize=64)
def _resolved(root: Path) -> str:
    return os.path.realpath(root)


@contextmanager
def opened(
    path: Path | str, root: Path | None = None, *, limit: int = MAX_BYTES
) -> Iterator[BufferedReader]:
    """Open a regular file for reading; with `root`, one below it once links are followed.

    Raises `BadData` when the block ends and the file has another size or time than when it began.
    """
    number, before = descriptor(path, root)
    with open(number, "rb") as stream:
        if before.st_size > limit:
            raise BadData(
                f"{_shown(path)}: has {before.st_size:,} bytes; expected at most {limit:,}; "
                f"leave the file out or make it smaller"
            )
        try:
            yield stream
        except OSError as error:
            raise CannotRead.because(_shown(path), error) from error
        after = os.fstat(number)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise BadData(f"{_shown(path)}: was changed while it was read; wait until it is whole")


def read_bytes(path: Path | str, root: Path | None = None, *, limit: int = MAX_BYTES) -> bytes:
    """Read a whole file, see `opened`."""
    with opened(path, root=root, limit=limit) as stream:
        size = os.fstat(stream.fileno()).st_size
        # Past the buffer, which would copy; one call reads a whole file, but for the largest.
        data = stream.raw.read(size + 1) or b""
        if len(data) < size:
            data += stream.read(size + 1 - len(data))
        if len(data) != size:  # also of what states another size than it has
            raise BadData(
                f"{_shown(path)}: has another size than its {size:,} bytes; "
                f"wait until it is whole, or copy it again"
            )
    return data


def read_head(path: Path | str, length: int, *, root: Path | None = None) -> bytes:
    """Read at most the first `length` bytes of a file of any size."""
    number, _ = descriptor(path, root)
    try:
        return os.read(number, length)
    except OSError as error:
        raise CannotRead.because(_shown(path), error) from error
    finally:
        os.close(number)


def read_text(path: Path | str, *, root: Path | None = None, limit: int = MAX_TEXT_BYTES) -> str:
    """Read UTF-8 text, with or without a byte-order mark."""
    data = read_bytes(path, root=root, limit=limit)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadData(
            f"{_shown(path)}: is not UTF-8 text ({error.reason} at byte {error.start}); "
            f"save it as UTF-8"
        ) from None


def read_json(path: Path | str, *, root: Path | None = None, limit: int = MAX_TEXT_BYTES) -> Any:
    """Read one JSON value."""
    return parse_json(read_text(path, root=root, limit=limit), str(path))


def read_toml(path: Path | str, *, root: Path | None = None, limit: int = MAX_TEXT_BYTES) -> Any:
    """Read a TOML document as a dictionary."""
    return parse_toml(read_text(path, root=root, limit=limit), str(path))


def parse_json(text: str, name: str) -> Any:
    """Return the value of JSON text; `name` is what errors call it."""
    return _parsed(json.loads, text, name, "JSON")


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Return the tables of TOML text; `name` is what errors call it.

    Raises `BadData` for text with a zero character too, which no name of a file can hold.
    """
    found = _parsed(tomllib.loads, text, name, "TOML")
    if _ZERO.search(text) and _ZERO.search(json.dumps(found, default=str)):
        raise BadData(f"{on_one_line(name)}: a text in it holds a zero character; correct it")
    return found


def _parsed(parse: Callable[[str], Any], text: str, name: str, form: str) -> Any:
    name = on_one_line(name)
    if (start := _long_number(text, form)) is not None:
        line = text.count("\n", 0, start) + 1
        raise BadData(
            f"{name}: line {line} holds a number of more than {_LONGEST_NUMBER} digits; correct it"
        )
    try:
        value = parse(text)
        if _HALF_CHARACTER.search(text):  # JSON can name one, which no table or file can hold
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError:
        raise BadData(f"{name}: a text in it holds half of a character; correct it") from None
    except RecursionError:
        raise BadData(f"{name}: nests its brackets too deeply; no {form} of data does") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise BadData(
            f"{name} {place}: is not whole JSON ({error.msg}); copy the file again from its source"
        ) from None
    except ValueError as error:
        raise BadData(f"{name}: is not {form} ({on_one_line(str(error))}); correct it") from None


def _long_number(text: str, form: str) -> int | None:
    """Return where a number of too many digits begins, in JSON outside of texts; else None.

    Run lengths of a mask as COCO compresses them may be a long row of digits.
    """
    found = _LONG_NUMBER.search(text)
    if found and form == "JSON":
        apart = (one for one in _TEXT_OR_LONG_NUMBER.finditer(text) if not one[0].startswith('"'))
        found = next(apart, None)
    return found.start() if found else None


def holds(folder: str, path: str) -> bool:
    """Say whether a resolved path is a resolved folder or below it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _refuse_outside(root: Path, path: Path | str, target: str) -> None:
    if not holds(_resolved(root), target):
        raise BadData(
            f"{_shown(path)}: leads out of {on_one_line(os.fspath(root))}, to "
            f"{on_one_line(target)}, and is not followed; {REMEDY}"
        )


def kind_of(mode: int) -> str:
    """Say what a file's `st_mode` is, in words."""
    tests = {
        "a folder": stat.S_ISDIR,
        "a pipe": stat.S_ISFIFO,
        "a socket": stat.S_ISSOCK,
        "a device": lambda of: stat.S_ISBLK(of) or stat.S_ISCHR(of),
    }
    return next((words for words, test in tests.items() if test(mode)), "no regular file")
