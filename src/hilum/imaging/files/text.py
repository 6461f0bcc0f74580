"""Read text files in UTF-8, or in an older encoding, which is then reported."""

from __future__ import annotations

from pathlib import Path

from hilum.imaging.files import opened
from hilum.safety import untrusted_files


def delimiter(words: str) -> str:
    """Return the separator of a table: comma, semicolon or tab, the commonest in its first line."""
    header = words.partition("\n")[0]
    return max(",;\t", key=header.count)


def read(path: Path) -> tuple[str, str | None]:
    """Return a file's text, and the name of the assumed encoding where that is not UTF-8.

    Raises as `hilum.safety.untrusted_files.opened` does; while a data set is being read, also for a
    file outside of it.
    """
    opened.note(path)
    data = untrusted_files.read_bytes(
        path, root=opened.root(), limit=untrusted_files.MAX_TEXT_BYTES
    )
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace"), "UTF-16"
    try:
        return data.decode("utf-8-sig"), None
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace"), "Windows-1252"
