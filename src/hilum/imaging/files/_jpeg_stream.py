"""Parse the structure of a JPEG (ITU-T T.81 annex B): frame, scans, restart intervals.

The offsets of the compressed values are found, nothing is decoded. Bytes between two segments that
belong to neither are ignored, as decoders do.
"""

from __future__ import annotations

import re
from typing import NamedTuple

BASELINE, EXTENDED, PROGRESSIVE, LOSSLESS = 0xC0, 0xC1, 0xC2, 0xC3  # start of frame, Huffman coded
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # table B.1
ARITHMETIC = frozenset(range(0xC9, 0xD0)) - {0xCC}
_BARE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length
_SCAN, _END, _RESTART_INTERVAL, _TABLES = 0xDA, 0xD9, 0xDD, 0xC4
_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_BEHIND_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # restarts are part of a scan (B.2.1)
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_FILL = 0xFF  # any number of these may stand before a marker (B.1.1.2)


class Component(NamedTuple):
    """A component of a frame (B.2.2)."""

    identifier: int
    across: int  # sampling factors
    down: int


class Scan(NamedTuple):
    """A scan (B.2.3), and where its compressed values are."""

    components: tuple[int, ...]  # identifiers
    first: int  # coefficient; the predictor of a lossless frame
    last: int
    low: int  # bits left to later scans; the point transform of a lossless frame
    interval: int  # minimum coded units between two restarts; 0: none
    begin: int  # offset of the compressed values
    end: int  # offset of the marker behind them, or of the fill bytes before it


class Stream(NamedTuple):
    """A frame with its scans."""

    code: int  # of the start of frame
    place: int  # offset of the start of frame
    bits: int
    height: int
    width: int
    components: tuple[Component, ...]
    scans: tuple[Scan, ...]
    ended: bool  # by an end marker

    @property
    def unit(self) -> tuple[int, int]:
        """(height, width) in pixels of the minimum coded unit of a scan of all components (A.2)."""
        side = 1 if self.code == LOSSLESS else 8
        if len(self.components) == 1:  # sampling factors do not count then (A.2.2)
            return side, side
        return side * self.down, side * self.across

    @property
    def down(self) -> int:
        """The largest vertical sampling factor."""
        return max(component.down for component in self.components)

    @property
    def across(self) -> int:
        """The largest horizontal sampling factor."""
        return max(component.across for component in self.components)


def parse(data: bytes) -> Stream:
    """Return the structure of a JPEG.

    Raises `ValueError` where headers break off, a table is broken or there is no frame.
    """
    at, interval, frame, ended = 2, 0, None, False
    scans: list[Scan] = []
    try:
        while (found := _MARKER.search(data, at)) and not ended:
            place, code, at = found.start(), data[found.end() - 1], found.end()
            ended = code == _END
            if code in _BARE or ended:
                continue
            segment = data[at + 2 : at + _two(data, at)]
            at += max(_two(data, at), 2)
            if code in FRAMES and frame is None:
                frame = _frame(code, place, segment)
            elif code == _RESTART_INTERVAL:
                interval = _two(segment, 0)
            elif code == _TABLES:
                _refuse_tables(segment)
            elif code == _SCAN:
                behind = _BEHIND_SCAN.search(data, at)
                end = _before_fill(data, behind.start()) if behind else len(data)
                scans.append(_scan(segment, interval, at, end))
                at = end
    except IndexError as error:
        raise ValueError("its headers break off") from error
    if frame is None:
        raise ValueError("it has no header of an image")
    return frame._replace(scans=tuple(scans), ended=ended)


def restarts(data: bytes, scan: Scan) -> list[int]:
    """Return the offsets of the restart markers of a scan, or of the fill bytes before them."""
    return [
        _before_fill(data, found.start()) for found in _RESTART.finditer(data, scan.begin, scan.end)
    ]


def _before_fill(data: bytes, at: int) -> int:
    while data[at - 1] == _FILL:
        at -= 1
    return at


def units(stream: Stream, scan: Scan) -> int:
    """Return how many minimum coded units a scan has (A.2)."""
    height, width = stream.unit
    if len(scan.components) == 1 and len(stream.components) > 1:
        one = next(one for one in stream.components if one.identifier == scan.components[0])
        height, width = height // one.down, width // one.across
    return -(-stream.height // height) * -(-stream.width // width)


def _frame(code: int, place: int, segment: bytes) -> Stream:
    """Parse a frame header, behind its length (B.2.2)."""
    components = tuple(
        Component(segment[at], segment[at + 1] >> 4 or 1, segment[at + 1] & 15 or 1)
        for at in range(6, 6 + 3 * segment[5], 3)
    )
    if not components:
        raise ValueError("its frame has no components")
    height, width = _two(segment, 1), _two(segment, 3)
    return Stream(code, place, segment[0], height, width, components, (), False)


def _refuse_tables(segment: bytes) -> None:
    """Raise `ValueError` for invalid Huffman tables (B.2.4.2), about which decoders differ."""
    at = 0
    while at < len(segment):
        count = sum(segment[at + 1 : at + 17])
        symbols = segment[at + 17 : at + 17 + count]
        if len(symbols) < count or len(set(symbols)) < count:
            raise ValueError("a Huffman table breaks off, or has a symbol twice")
        at += 17 + count


def _scan(segment: bytes, interval: int, begin: int, end: int) -> Scan:
    """Parse a scan header, behind its length (B.2.3)."""
    count = segment[0]
    components = tuple(segment[1 + 2 * index] for index in range(count))
    at = 1 + 2 * count
    return Scan(
        components, segment[at], segment[at + 1], segment[at + 2] & 15, interval, begin, end
    )


def _two(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]
