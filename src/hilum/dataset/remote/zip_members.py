"""Members of a zip archive as files of their own: its directory is read, then each member alone.

One request brings a member: its local header, whose length the directory nearly states, and its
packed bytes (APPNOTE 4.3). They are unpacked into memory, to no more than the stated size, and
compared with the stated CRC.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from hilum.dataset import _unpack
from hilum.dataset.remote import fetching
from hilum.dataset.remote.listing import Entry
from hilum.dataset.remote.transport import Cut, Stated, Transport, changed
from hilum.errors import BadData, on_one_line

_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of the name and of the extra field
_SLACK = 1024  # bytes by which the extra field may be longer than in the directory
_BUFFER = 1 << 20  # bytes that are read at once of a directory
SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")


def is_zip(source: Transport, archive: Entry) -> bool:
    """Say whether an archive begins as zip archives do."""
    end = min(4, archive.stated.size)
    head = fetching.repeated(
        archive.place, lambda: source.read(archive.place, 0, end, archive.stated.size)
    )
    return head in SIGNATURES


@dataclass(frozen=True)
class ZipMembers:
    """A transport of the members of one archive, by their names in it."""

    source: Transport
    archive: Entry
    members: dict[str, zipfile.ZipInfo]

    @classmethod
    def opened(cls, source: Transport, archive: Entry, shown: str) -> ZipMembers:
        """Read the directory. Raises `BadData` for an archive that is broken or not safe."""
        stream = io.BufferedReader(_Ranged(source, archive), _BUFFER)
        try:
            found = _unpack.zip_directory(stream, shown, archive.stated.size)
        except _unpack.BROKEN as error:
            why = on_one_line(str(error)) or type(error).__name__
            raise BadData(f"{shown} is no whole zip archive: {why}") from error
        members = {one.filename: one for one in found if not one.is_dir()}
        if odd := [one for one in members.values() if one.compress_type not in (0, 8)]:
            raise BadData.listing(
                f"{shown} is packed by other means than deflate; pack it anew",
                [on_one_line(one.filename) for one in odd],
            )
        return cls(source, archive, members)

    def listing(self) -> Iterator[tuple[str, Stated]]:
        """Yield name and facts of each member."""
        for name, member in self.members.items():
            yield name, self._facts(member)

    def stated(self, place: str) -> Stated:
        """Return the facts of a member. Raises `Mismatch` where the archive is another one now."""
        if self.source.stated(self.archive.place) != self.archive.stated:
            raise changed(self.archive.place or "the archive")
        return self._facts(self.members[place])

    def read(self, place: str, start: int, end: int, size: int) -> bytes:
        """Return bytes of a member, which is unpacked as a whole. Raises `Cut`, `BadData`."""
        member = self.members[place]
        name = len(member.orig_filename.encode())
        header = _HEADER.size + name + len(member.extra) + _SLACK
        first = member.header_offset
        if first + _HEADER.size > self.archive.stated.size:
            raise BadData(f"{on_one_line(place)}: lies beyond the end of its archive")
        data = self._bytes(first, first + header + member.compress_size)
        _, name, extra = _HEADER.unpack_from(data)
        begun = _HEADER.size + name + extra
        if (more := begun + member.compress_size - len(data)) > 0:
            data += self._bytes(first + len(data), first + len(data) + more)
        return _unpacked(member, data[begun : begun + member.compress_size])[start:end]

    def _bytes(self, start: int, end: int) -> bytes:
        size = self.archive.stated.size
        end = max(start, min(end, size))
        data = self.source.read(self.archive.place, start, end, size)
        if len(data) != end - start:
            raise Cut(f"{len(data):,} bytes came in place of {end - start:,}")
        return data

    def _facts(self, member: zipfile.ZipInfo) -> Stated:
        of = self.archive.stated
        return Stated(member.file_size, of.mtime_ns, f"{of.tag} {member.CRC:08x}")


def _unpacked(member: zipfile.ZipInfo, packed: bytes) -> bytes:
    try:
        found = packed
        if member.compress_type == zipfile.ZIP_DEFLATED:
            found = zlib.decompressobj(-15).decompress(packed, member.file_size + 1)
    except zlib.error:
        found = b""
    if len(found) != member.file_size or zlib.crc32(found) != member.CRC:
        raise BadData(f"{on_one_line(member.filename)}: is damaged in its archive; copy that anew")
    return found


class _Ranged(io.RawIOBase):
    """An archive as a file that can be read anywhere."""

    def __init__(self, source: Transport, archive: Entry) -> None:
        super().__init__()
        self._source, self._archive, self._at = source, archive, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = (0, self._at, self._archive.stated.size)[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        size = self._archive.stated.size
        start, end = self._at, min(self._at + len(buffer), size)
        if start >= end:
            return 0
        place = self._archive.place
        data = fetching.repeated(place, lambda: self._source.read(place, start, end, size))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
