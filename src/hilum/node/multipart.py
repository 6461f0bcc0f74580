"""The parts of a multipart/related body, as DICOMweb sends them (PS3.18 8.6.1, RFC 2387)."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from hilum.errors import BadData
from hilum.node.inbox import Stream

DICOM = "application/dicom"
_LONGEST_HEAD = 1 << 16  # bytes before a part's body
_NO_BODY = (
    "the answer of the server is no multipart body; expected multipart/related as of WADO-RS: "
    "check that the address is the root of its DICOMweb services"
)


def encoded(parts: Iterable[bytes]) -> tuple[bytes, str]:
    """Return a body of DICOM files, and its Content-Type."""
    boundary = f"hilum-{secrets.token_hex(16)}"
    head = f"--{boundary}\r\nContent-Type: {DICOM}\r\n\r\n".encode()
    body = b"".join(piece for part in parts for piece in (head, part, b"\r\n"))
    kind = f'multipart/related; type="{DICOM}"; boundary={boundary}'
    return body + f"--{boundary}--\r\n".encode(), kind


class FirstPart:
    """A stream that passes on the body of the first part of what is written to it.

    It holds back no more than a boundary, so that an object of any size takes little memory.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream, self._held, self._end, self._state = stream, b"", b"", "head"

    def write(self, data: bytes) -> int:
        """Take the next bytes of a multipart body. Raises `BadData` where it is none."""
        self._held += data
        if self._state == "head":
            self._head()
        if self._state == "body":
            self._body()
        if self._state == "end":
            self._held = b""
        return len(data)

    def _head(self) -> None:
        start, behind = self._held.find(b"--"), self._held.find(b"\r\n\r\n")
        if behind < 0:
            if len(self._held) > _LONGEST_HEAD:
                raise BadData(_NO_BODY)
            return
        line = self._held[start : self._held.find(b"\r\n", start)]
        if start < 0 or not line.strip(b"-"):
            raise BadData(_NO_BODY)
        self._end, self._state = b"\r\n" + line, "body"
        self._held = self._held[behind + 4 :]

    def _body(self) -> None:
        end = self._held.find(self._end)
        if end >= 0:
            self._stream.write(self._held[:end])
            self._state = "end"
            return
        safe = max(0, len(self._held) - len(self._end))
        self._stream.write(self._held[:safe])
        self._held = self._held[safe:]

    def finish(self) -> None:
        """Raise `BadData` where the first part was not whole."""
        if self._state != "end":
            raise BadData(
                "the answer of the server ends within an object; it is fetched again, and where "
                "that ends so too, see the server's log"
            )
