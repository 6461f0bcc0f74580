"""Structured logs: one JSON object a line, with no word that comes from a patient's data.

    time     of UTC, ISO 8601
    level    info, warning or error
    event    what happened, a fixed text
    film     the first 16 digits of the SHA-256 digest of a SOP Instance UID; study: the same of a
             Study Instance UID, or of a study's id at its source

and numbers, truth values, and names of sources and kinds of errors. The words of errors, which can
repeat values of a header, stand in the journal alone, where `hilum node status` shows them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TextIO

SHOWN = 16  # hexadecimal digits of a digest
DIGESTS = ("film", "study")
Value = str | int | float | bool
Heard = Callable[[str, dict[str, Value]], None]


class Log:
    """Writes events to a stream, and hands them to those who `hear`, as the metrics do."""

    def __init__(self, stream: TextIO, hear: Heard = lambda event, fields: None) -> None:
        self._stream, self._hear, self._lock = stream, hear, threading.Lock()

    def __call__(self, event: str, level: str = "info", **fields: Value) -> None:
        """Write an event."""
        self._hear(event, fields)
        shown = {
            name: str(value)[:SHOWN] if name in DIGESTS else value for name, value in fields.items()
        }
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "level": level, "event": event, **shown})
        # Who reads the log may be gone, or its disk be full: the node goes on.
        with self._lock, suppress(OSError, ValueError):
            self._stream.write(f"{line}\n")
            self._stream.flush()
