"""Text files of any age: UTF-8 where it is, and said aloud where it is not."""

from __future__ import annotations

from pathlib import Path

from hilum.imaging.files import opened
from hilum.safety import untrusted_files


def delimiter(words: str) -> str:
    """What parts the cells of a table: comma, semicolon or tab, whichever its first line holds most of."""
    header = words.partition("\n")[0]
    return max(",;\t", key=header.count)


def read(path: Path) -> tuple[str, str | None]:
    """A file's words, and the name of the encoding they were taken for where that is not UTF-8.

    Raises as `hilum.safety.untrusted_files.opened` does; of a data set that is being read, also for a file that lies outside of it.
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
