"""Read passwords and tokens from files of their own: on a command line any user would see them."""

from __future__ import annotations

from pathlib import Path

from hilum.errors import BadData
from hilum.safety import untrusted_files

LONGEST_SECRET = 4096  # bytes of a file


def secret(path: Path | str) -> str:
    """Return the first line of a file with a password or token, without blanks around it.

    Raises as every reader of files does, and `BadData` for a file without one.
    """
    text = untrusted_files.read_text(path, limit=LONGEST_SECRET)
    if not text.strip():
        raise BadData(f"{path}: is empty; expected a password or token in its first line")
    word = text.splitlines()[0].strip()
    if not word:
        raise BadData(f"{path}: its first line is empty; expected a password or token there")
    if not word.isprintable():
        raise BadData(
            f"{path}: its first line holds characters that no password or token has; write it anew "
            "as plain text"
        )
    return word
