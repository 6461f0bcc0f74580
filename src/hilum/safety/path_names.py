r"""Paths as text, and back: the names of files in tables, JSON and terminals.

A name on a disk is bytes that need not be UTF-8; Python represents other bytes by lone surrogates,
which no table, JSON or terminal accepts. As text such a byte is an escape, \xe9, and the backslash
of a name that happens to hold such an escape is \x5c. So two files never have the same text, and
`from_text` returns the file's name exactly.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath

_LIKE_ESCAPE = re.compile(r"\\(?=x(?:[89a-f][0-9a-f]|5c))")
_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f]|5c)")


def as_text(path: PurePath | str) -> str:
    r"""Return a path as text that every table holds; a byte that is no UTF-8 becomes \xe9."""
    name = os.fspath(path)
    if name.isascii() and "\\" not in name:  # nearly every name
        return name
    data = os.fsencode(_LIKE_ESCAPE.sub(r"\\x5c", name))
    return data.decode("utf-8", "backslashreplace")


def from_text(text: str) -> str:
    """Return the path that `as_text` made this text of."""
    if "\\" not in text:
        return text
    data = text.encode("utf-8", "surrogateescape")
    return os.fsdecode(_ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), data))


def below(root: Path, path: Path) -> str:
    """Return the place of a file below `root` as text, with forward slashes."""
    return as_text(path.relative_to(root).as_posix())


def path_of(root: Path, place: str) -> Path:
    """Return the file at a place, as `below` wrote it."""
    return root / from_text(place)
