"""Open, read and parse files that come from outside: the one door through which they enter.

A file is opened only where it is a regular file (never a pipe, a socket or a device, which may
never end), where it lies below the folder that it was named in, once links are followed, and
where it is not larger than `limit`. What is read is the whole file, and the file was not changed
meanwhile. Text, JSON and TOML come with bounds on nesting and on the length of numbers, so that
no file makes a parser of Python fail in its own words.

Everything raises `hilum.errors.HilumError` and nothing else: `NotFound` where nothing is there,
`CannotRead` where the operating system refuses, `BadData` for the rest.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from hilum.errors import BadData, CannotRead, NotFound, on_one_line

MAX_BYTES = 4 << 30  # of one file; the largest radiographs have some hundred megabytes
MAX_TEXT_BYTES = 256 << 20  # of a settings file or an annotation
_LONGEST_NUMBER = 400  # digits: the largest double has 309


@contextmanager
def opened(path: Path, *, root: Path | None = None, limit: int = MAX_BYTES) -> Iterator[BinaryIO]:
    """Open a regular file for reading; with `root`, one that lies below it once links are followed.

    Raises `BadData` when the block ends and the file has another size or time than when it began.
    """
    shown = on_one_line(str(path))
    if root is not None:
        below(root, path)
    try:
        # Not waiting: to open a pipe that nobody writes to would never end.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise NotFound(f"{shown}: there is no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise CannotRead.because(path, error) from error
    with open(descriptor, "rb") as stream:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise BadData(f"{shown}: is {kind_of(before.st_mode)} and is never read; give a file")
        if before.st_size > limit:
            raise BadData(
                f"{shown}: has {before.st_size:,} bytes; expected at most {limit:,}; "
                f"leave the file out or make it smaller"
            )
        try:
            yield stream
        except OSError as error:
            raise CannotRead.because(path, error) from error
        after = os.fstat(descriptor)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise BadData(f"{shown}: was changed while it was read; wait until it is whole")


def read_bytes(path: Path, *, root: Path | None = None, limit: int = MAX_BYTES) -> bytes:
    """Read a whole file, see `opened`."""
    with opened(path, root=root, limit=limit) as stream:
        # To ask for `limit` bytes would reserve as many, whatever the file has.
        data = stream.read(min(limit, os.fstat(stream.fileno()).st_size) + 1)
    if len(data) > limit:  # of a file that states another size than it has
        raise BadData(f"{on_one_line(str(path))}: has more than {limit:,} bytes")
    return data


def read_head(path: Path, length: int, *, root: Path | None = None) -> bytes:
    """Read at most the first `length` bytes of a file of any size."""
    with opened(path, root=root, limit=1 << 62) as stream:
        return stream.read(length)


def read_text(path: Path, *, root: Path | None = None, limit: int = MAX_TEXT_BYTES) -> str:
    """Read UTF-8 text, with or without a byte-order mark."""
    data = read_bytes(path, root=root, limit=limit)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadData(
            f"{on_one_line(str(path))}: is not UTF-8 text ({error.reason} at byte {error.start}); "
            f"save it as UTF-8"
        ) from None


def read_json(path: Path, *, root: Path | None = None, limit: int = MAX_TEXT_BYTES) -> Any:
    """Read one JSON value."""
    return parse_json(read_text(path, root=root, limit=limit), str(path))


def read_toml(path: Path, *, root: Path | None = None, limit: int = MAX_TEXT_BYTES) -> Any:
    """Read a TOML document as a dictionary."""
    return parse_toml(read_text(path, root=root, limit=limit), str(path))


def parse_json(text: str, name: str) -> Any:
    """Return the value of JSON text; `name` is what errors call it."""
    return _parsed(json.loads, text, name, "JSON")


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Return the tables of TOML text; `name` is what errors call it."""
    return _parsed(tomllib.loads, text, name, "TOML")


def _parsed(parse: Callable[[str], Any], text: str, name: str, form: str) -> Any:
    name = on_one_line(name)
    if number := re.search(rf"\d{{{_LONGEST_NUMBER + 1}}}", text):
        line = text.count("\n", 0, number.start()) + 1
        raise BadData(
            f"{name}: line {line} holds a number of more than {_LONGEST_NUMBER} digits; correct it"
        )
    try:
        return parse(text)
    except RecursionError:
        raise BadData(f"{name}: nests its brackets too deeply; no {form} of data does") from None
    except ValueError as error:  # the faults of both parsers are of this kind
        raise BadData(f"{name}: is not {form} ({on_one_line(str(error))}); correct it") from None


def below(root: Path, path: Path | str) -> Path:
    """Return `root / path` where it lies below `root` once links are followed.

    Raises `BadData` for what leaves `root`: an absolute path elsewhere, `..`, or a link.
    """
    whole = root / path
    try:
        top, target = os.path.realpath(root), os.path.realpath(whole)
    except (OSError, ValueError) as error:
        raise CannotRead.because(whole, error) from error
    if target != top and not target.startswith(top.rstrip(os.sep) + os.sep):
        raise BadData(
            f"{on_one_line(str(path))}: leads out of {on_one_line(str(root))}, to "
            f"{on_one_line(target)}, and is not followed; copy the file there in place of the link"
        )
    return whole


def kind_of(mode: int) -> str:
    """Say what a file's `st_mode` is, in words."""
    tests = {
        "a folder": stat.S_ISDIR,
        "a pipe": stat.S_ISFIFO,
        "a socket": stat.S_ISSOCK,
        "a device": lambda of: stat.S_ISBLK(of) or stat.S_ISCHR(of),
    }
    return next((words for words, test in tests.items() if test(mode)), "no regular file")
