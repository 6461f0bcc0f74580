"""One file over HTTP, which goes on where it was cut.

What has come lies in the file `NAME.part`, and what the server said of it in `NAME.part.json`: address, size and validator (a strong
ETag, else Last-Modified). A later attempt asks for the rest with `Range` and `If-Range` (RFC 9110, 13.1.5 and 14). The rest is appended
only to the file it is the rest of: where the server sends the whole (200), another size or another validator, the attempt starts again.
Whether the bytes are the right ones is for the caller to check.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hilum import __version__, storage
from hilum.errors import BadData, CannotWrite, HilumError, NotFound
from hilum.progress import Progress

WAITS_SECONDS = (
    1.0,
    4.0,
    15.0,
    30.0,
)  # before each new attempt that follows one without a new byte
LONGEST_WAIT_SECONDS = 60.0  # that a server may ask for
SILENCE_SECONDS = 60.0  # without a byte, after which a connection is taken for cut
BLOCK = 1 << 20
CHANGED = "the file changed at the server; starting again"
PASSING = {408, 425, 429, 500, 502, 503, 504}  # answers that another attempt may change


class _Cut(Exception):
    """An attempt that ended early; another may go on. `wait_seconds` is what the server asks for."""

    def __init__(self, why: str, wait_seconds: float = 0.0) -> None:
        super().__init__(why)
        self.wait_seconds = wait_seconds


def _notes_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def drop(part: Path) -> None:
    """Forget what has come."""
    part.unlink(missing_ok=True)
    _notes_of(part).unlink(missing_ok=True)


def download(url: str, part: Path, progress: Progress) -> None:
    """Fetch `url` into `part` until all of it has come, going on from what an earlier call left there.

    `progress` is told bytes, and 0 for the whole where the server does not say. Raises `NotFound` where the address does not give a file,
    `CannotWrite` where the disk does not take it, and `HilumError` where the connection fails again and again; what has come is kept.
    """
    idle, furthest = 0, -1
    while True:
        try:
            _attempt(url, part, progress)
            return
        except _Cut as cut:
            have = _have(part)
            idle = 0 if have > furthest else idle + 1
            furthest = max(have, furthest)
            if idle > len(WAITS_SECONDS):
                raise HilumError(
                    f"{url} was cut {idle} times without a new byte ({cut}); {have:,} bytes have come and are kept: "
                    "run the same command again, it goes on there"
                ) from cut
            time.sleep(
                max(WAITS_SECONDS[max(idle - 1, 0)], min(cut.wait_seconds, LONGEST_WAIT_SECONDS))
            )


def _have(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _attempt(url: str, part: Path, progress: Progress) -> None:
    """Fetch what is missing. Raises `_Cut` where it did not all come."""
    notes = _notes(url, part)
    have = _have(part) if notes else 0
    if notes and have == notes["total"]:
        return
    headers = {"Range": f"bytes={have}-", "If-Range": notes["validator"]} if have else {}
    with _open(url, headers, part) as answer:
        start, total, validator = _told(answer, have)
        if start and (
            total != notes["total"] or validator not in ("", notes["validator"])
        ):  # a 206 need not repeat Last-Modified
            drop(part)
            raise _Cut(CHANGED)
        _write(
            answer,
            part,
            start,
            total,
            notes if start else {"url": url, "total": total, "validator": validator},
            progress,
        )


def _notes(url: str, part: Path) -> dict[str, Any]:
    """What the server said of the bytes that have come; empty where they cannot be gone on from."""
    if not _notes_of(part).exists() or not part.exists():
        return {}
    try:
        notes = storage.read_json(_notes_of(part))
    except BadData:
        return {}
    whole = isinstance(notes, dict) and notes.keys() == {"url", "total", "validator"}
    return notes if whole and notes["url"] == url and notes["validator"] and notes["total"] else {}


def _open(url: str, headers: dict[str, str], part: Path) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": f"hilum/{__version__}", **headers})
    try:
        answer = urllib.request.urlopen(request, timeout=SILENCE_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # there is no such rest, so what has come is of another file
                drop(part)
                raise _Cut(CHANGED) from error
            if error.code in PASSING:
                asked = error.headers.get("Retry-After", "")
                raise _Cut(
                    f"the server answered {error.code} {error.reason}",
                    float(asked) if asked.isdecimal() else 0.0,
                ) from error
            raise NotFound(
                f"{url} answered {error.code} {error.reason}: the address may have changed, or want an account now"
            ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(str(getattr(error, "reason", error)) or type(error).__name__) from error
    if url.startswith("https:") and not answer.url.startswith("https:"):
        answer.close()
        raise NotFound(
            f"{url} leads on to {answer.url}, which is not encrypted; nothing was fetched"
        )
    if answer.headers.get_content_type() == "text/html":
        answer.close()
        raise NotFound(
            f"{url} answered with a web page, not with the file: the address may have changed, or want an account now"
        )
    return answer


def _told(answer: Any, have: int) -> tuple[int, int | None, str]:
    """Where the bytes that come start, the size of the whole file, and its validator ("" where it has none to trust)."""
    etag = answer.headers.get("ETag", "")
    validator = etag if etag.startswith('"') else answer.headers.get("Last-Modified", "")
    if answer.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        if found and int(found[1]) == have:
            return have, int(found[2]), validator
        raise NotFound(
            f"{answer.url} answered with a range that was not asked for: {answer.headers.get('Content-Range')}"
        )
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None, validator


def _write(
    answer: Any,
    part: Path,
    start: int,
    total: int | None,
    notes: dict[str, Any],
    progress: Progress,
) -> None:
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(part.parent).free + (_have(part) - start)
        if total is not None and total - start > free:
            raise CannotWrite(
                f"cannot write {part}: {total - start:,} bytes are to come, {free:,} are free; free some space or choose another folder with --out"
            )
        if not start:
            part.unlink(
                missing_ok=True
            )  # before the notes change, so that they never speak of another file's bytes
        storage.write_json(_notes_of(part), notes)
        with open(part, "r+b" if start else "wb") as stream:
            stream.seek(start)
            stream.truncate()
            for block in _blocks(answer):
                stream.write(block)
                progress(stream.tell(), total or 0)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:  # the disk's: those of the connection became `_Cut`
        raise CannotWrite.because(part, error) from error
    if total is not None and (have := _have(part)) != total:
        raise _Cut(f"the connection was cut after {have:,} of {total:,} bytes")


def _blocks(answer: Any) -> Iterator[bytes]:
    while True:
        try:
            block = answer.read1(BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _Cut(f"the connection was cut: {error}") from error
        if not block:
            return
        yield block
