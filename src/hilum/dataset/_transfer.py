"""Resumable download of one file over HTTP.

Received bytes are in the file `NAME.part`; `NAME.part.json` has what the server stated of them:
address, size and validator (a strong ETag, else Last-Modified). A later attempt requests the rest
with `Range` and `If-Range` (RFC 9110, 13.1.5 and 14). The rest is appended to the same file only:
where the server sends the whole (200), another size or another validator, the download starts
again. The caller checks whether the bytes are the right ones.
"""

from __future__ import annotations

import os
import re
import shutil
import time
import urllib.error
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import TypedDict

from hilum import storage
from hilum.errors import BadData, CannotWrite, HilumError, NotFound
from hilum.progress import Progress
from hilum.safety import web

WAITS_SECONDS = (1.0, 4.0, 15.0, 30.0)  # before each attempt that follows one without a new byte
LONGEST_WAIT_SECONDS = 60.0  # of those that a server may request
BLOCK = 1 << 20
CHANGED = "the file changed at the server; starting again"


class _Notes(TypedDict):
    """What the server stated of a file; `total` is None and `validator` "" where it did not."""

    url: str
    total: int | None
    validator: str


class _Cut(Exception):
    """An attempt that ended early; `wait_seconds` is the pause that the server requests."""

    def __init__(self, why: str, wait_seconds: float = 0.0) -> None:
        super().__init__(why)
        self.wait_seconds = wait_seconds


def _notes_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def drop(part: Path) -> None:
    """Delete the received bytes and their notes."""
    part.unlink(missing_ok=True)
    _notes_of(part).unlink(missing_ok=True)


def download(url: str, part: Path, progress: Progress) -> None:
    """Fetch `url` into `part` until it is complete, continuing what an earlier call left there.

    `progress` gets the bytes received, and 0 for the whole where its size is unknown. Raises
    `NotFound` where the address gives no file, `CannotWrite` where the disk fails, and `HilumError`
    where the connection fails repeatedly; received bytes are kept.
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
                    f"{url} was cut {idle} times without a new byte ({cut}); {have:,} bytes have "
                    "come and are kept: run the same command again, it goes on there"
                ) from cut
            time.sleep(
                max(WAITS_SECONDS[max(idle - 1, 0)], min(cut.wait_seconds, LONGEST_WAIT_SECONDS))
            )


def _have(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _attempt(url: str, part: Path, progress: Progress) -> None:
    """Fetch what is missing. Raises `_Cut` where part of it did not come."""
    notes = _notes(url, part)
    have = _have(part) if notes else 0
    if notes and have == notes["total"]:
        return
    headers = {}
    if notes and have:
        headers = {"Range": f"bytes={have}-", "If-Range": notes["validator"]}
    with _open(url, headers, part) as answer:
        start, total, validator = _stated(answer, have)
        stated: _Notes = {"url": url, "total": total, "validator": validator}
        if notes and start:
            # A 206 need not repeat Last-Modified.
            if total != notes["total"] or validator not in ("", notes["validator"]):
                drop(part)
                raise _Cut(CHANGED)
            stated = notes
        _write(answer, part, start, stated, progress)


def _notes(url: str, part: Path) -> _Notes | None:
    """Return the notes on the received bytes; None where the download must start again."""
    if not _notes_of(part).exists() or not part.exists():
        return None
    try:
        notes = storage.read_json(_notes_of(part))
    except BadData:
        return None
    if not isinstance(notes, dict) or notes.keys() != {"url", "total", "validator"}:
        return None
    if notes["url"] != url or not notes["validator"] or not notes["total"]:
        return None
    return {"url": url, "total": notes["total"], "validator": notes["validator"]}


def _open(url: str, headers: dict[str, str], part: Path) -> HTTPResponse:
    try:
        answer = web.opened(url, headers)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # there is no such rest, so what has come is of another file
                drop(part)
                raise _Cut(CHANGED) from error
            if error.code in web.PASSING:
                wait = error.headers.get("Retry-After", "")
                raise _Cut(
                    f"the server answered {error.code} {error.reason}",
                    float(wait) if wait.isdecimal() else 0.0,
                ) from error
            raise NotFound(
                f"{url} answered {error.code} {error.reason}: the address may have changed, or "
                "want an account now"
            ) from error
    except web.FAILURES as error:
        raise _Cut(web.reason(error)) from error
    if answer.headers.get_content_type() == "text/html":
        answer.close()
        raise NotFound(
            f"{url} answered with a web page, not with the file: the address may have changed, or "
            "want an account now"
        )
    return answer


def _stated(answer: HTTPResponse, have: int) -> tuple[int, int | None, str]:
    """Return where the answer's bytes start, the size of the whole file, and its validator.

    The size is None where unknown, the validator "" without a strong ETag or Last-Modified.
    """
    etag = answer.headers.get("ETag", "")
    validator = etag if etag.startswith('"') else answer.headers.get("Last-Modified", "")
    if answer.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        if found and int(found[1]) == have:
            return have, int(found[2]), validator
        got = answer.headers.get("Content-Range")
        raise NotFound(f"{answer.url} answered with a range that was not requested: {got}")
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None, validator


def _write(answer: HTTPResponse, part: Path, start: int, notes: _Notes, progress: Progress) -> None:
    """Write the notes and the answer's bytes from `start` on. Raises `_Cut`, `CannotWrite`."""
    total = notes["total"]
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(part.parent).free + (_have(part) - start)
        if total is not None and total - start > free:
            raise CannotWrite(
                f"cannot write {part}: {total - start:,} bytes are to come, {free:,} are free; "
                "free some space or choose another folder with --out"
            )
        if not start:
            # Before the notes change, so that they never describe bytes of another file.
            part.unlink(missing_ok=True)
        storage.write_json(_notes_of(part), notes)
        with open(part, "r+b" if start else "wb") as stream:
            stream.seek(start)
            stream.truncate()
            written = start
            for block in _blocks(answer):
                written += stream.write(block)
                progress(written, total or 0)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:  # the disk's: those of the connection became `_Cut`
        raise CannotWrite.because(part, error) from error
    if total is not None and (have := _have(part)) != total:
        raise _Cut(f"the connection was cut after {have:,} of {total:,} bytes")


def _blocks(answer: HTTPResponse) -> Iterator[bytes]:
    """Yield the bytes of an answer as they come. Raises `_Cut` where the connection fails."""
    while True:
        try:
            block = answer.read1(BLOCK)
        except web.FAILURES as error:
            raise _Cut(f"the connection was cut: {web.reason(error)}") from error
        if not block:
            return
        yield block
