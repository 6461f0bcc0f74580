"""Decode a JPEG, and make certain that no compressed values are missing.

Decoders continue where the values of a JPEG break off: libjpeg-turbo feeds zeros to the current
block, leaves all that follow grey, and only warns, which imagecodecs does not pass on. Missing
values are detected from what it decodes:

- *One scan without restarts* (nearly every file): the height in the frame header is raised by one
  row of blocks. Where the values broke off before, the decoder leaves the first block of that row
  untouched, exactly mid-grey. Where they did not, that block is the first to break off, and is
  filled from the padding bits. Where another block of that row is filled too, there are more
  values than the image has: tables or values are broken. So a block there that is not mid-grey
  proves that everything before it is complete, at the cost of one row of blocks. Where the last
  row of the image would be blended with the added one (chroma of half the height that is not
  grey), the image is decoded a second time.
- *All others* (progressive, restarts, several scans, or a mid-grey end): each run of values is
  lengthened by a few bytes. These are ignored where the values were complete; where they were not,
  they are decoded, and the pixels differ. This costs a second decoding. Scans and restarts that are
  missing altogether are counted.

Arithmetic coding is refused: it may omit zeros at its end, so that a complete stream cannot be
distinguished from a truncated one. Damage that leaves the right number of values is not detected:
the format has no checksum.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np

from hilum.imaging.files import _jpeg_stream
from hilum.imaging.files._jpeg_stream import BASELINE, EXTENDED, LOSSLESS, PROGRESSIVE, Stream
from hilum.imaging.files._raster_header import Unfit

Space = tuple[str, str]  # colour space as stored and as returned, by imagecodecs' names

_HIGHEST = 65_500  # the most rows that libjpeg-turbo decodes
_MOST_WORK = 1 << 30  # scans times values: a scan of a progressive image costs as much as the image
_COEFFICIENTS = 64
_BLENDED = 4  # rows at the end of which the colour of the last depends
_MOST_TRIES = 24  # lengthenings of a file that is quick to decode
_SEVERAL_TRIES = 1 << 19  # pixels that are decoded several times over


class Missing(ValueError):
    """Compressed values are missing: no other decoder can do better."""


def decode(data: bytes, stream: Stream, space: Space | None = None) -> np.ndarray:
    """Return values uint8 or uint16 (height, width) or (height, width, channels).

    `stream` is the parsed `data`; without `space` the decoder decides. Raises `Missing`, `Unfit`,
    or what the decoder raises for streams that are broken otherwise.
    """
    _refuse(data, stream)
    if not _in_one_run(stream):
        values = _decoded(data, space)
    else:
        probe = _decoded(_taller(data, stream), space)
        values = probe[: stream.height]
        if _mixes(stream) and not _ends_grey(values, space):
            values = _decoded(data, space)
        if _goes_on(probe, stream):
            if _is_left_over(probe, stream):
                raise Missing("its values go on behind its last row, or are broken")
            return values
    for index in range(_tries(stream)):
        longer = _decoded(_lengthened(data, stream, _more(index)), space)
        if not np.array_equal(values, longer):
            differs = (values != longer).reshape(stream.height, -1).any(axis=1)
            rows = np.flatnonzero(differs) + 1
            raise Missing(
                f"its values end too soon: rows {rows[0]} to {rows[-1]} of {stream.height} "
                "are incomplete"
            )
    return values


def _decoded(data: bytes, space: Space | None) -> np.ndarray:
    import imagecodecs

    stored, returned = space or (None, None)
    return imagecodecs.jpeg8_decode(data, colorspace=stored, outcolorspace=returned)


def _tries(stream: Stream) -> int:
    """Return how often to lengthen the values, each time by other bytes.

    One of a thousand lengthenings happens to decode as zeros do. That is possible only where a
    stream was cut within its last few bytes. Images that need this at all are slow to decode, and
    the larger one is, the less of it is in those bytes; one run that ends in mid-grey is rare.
    """
    if _in_one_run(stream):
        return _MOST_TRIES
    return max(1, min(_MOST_TRIES // 3, _SEVERAL_TRIES // (stream.height * stream.width)))


def _more(index: int) -> bytes:
    """Return 32 bytes that hold no marker."""
    return hashlib.sha256(bytes((index,))).digest().replace(b"\xff", b"\xfe")


def _refuse(data: bytes, stream: Stream) -> None:
    """Raise for what cannot be decoded reliably or in reasonable time, and for missing scans."""
    if stream.code in _jpeg_stream.ARITHMETIC:
        raise Unfit(
            "is a JPEG with arithmetic coding, whose completeness cannot be checked; expected "
            "Huffman coding; save it again (for example with `jpegtran -optimize`)"
        )
    work = len(stream.scans) * stream.height * stream.width * len(stream.components)
    if work > _MOST_WORK:
        raise ValueError(f"its {len(stream.scans)} scans would take too long")
    if lacking := _lacking(stream):
        raise Missing(f"scans are missing: {lacking}")
    for scan in stream.scans:
        parts = -(-_jpeg_stream.units(stream, scan) // scan.interval) if scan.interval else 1
        if scan.interval and (found := len(_jpeg_stream.restarts(data, scan)) + 1) < parts:
            raise Missing(f"{parts - found} of {parts} restart intervals are missing")


def _lacking(stream: Stream) -> str:
    """Return which values no scan provides (T.81 G.1.1.1); empty where all are there."""
    if stream.code != PROGRESSIVE:  # whatever first and last coefficient their scans state
        sent = {identifier for scan in stream.scans for identifier in scan.components}
        return ", ".join(
            f"component {one.identifier}" for one in stream.components if one.identifier not in sent
        )
    left = {one.identifier: [1] * _COEFFICIENTS for one in stream.components}
    for scan in stream.scans:
        for identifier in scan.components:
            for coefficient in range(scan.first, min(scan.last + 1, _COEFFICIENTS)):
                left.setdefault(identifier, [0] * _COEFFICIENTS)[coefficient] = scan.low
    parts = [(identifier, sum(bits > 0 for bits in each)) for identifier, each in left.items()]
    return ", ".join(
        f"{count} of {_COEFFICIENTS} coefficients of component {identifier}"
        for identifier, count in parts
        if count
    )


def _in_one_run(stream: Stream) -> bool:
    """Return whether one scan without restarts holds everything, and a row can be added."""
    if stream.code not in (BASELINE, EXTENDED, LOSSLESS) or len(stream.scans) != 1:
        return False
    scan = stream.scans[0]
    whole = len(scan.components) == len(stream.components)
    return whole and not scan.interval and 0 < stream.height <= _HIGHEST - 2 * stream.unit[0]


def _added(stream: Stream) -> int:
    """Return the row of pixels at which an added row of blocks begins."""
    return -(-stream.height // stream.unit[0]) * stream.unit[0]


def _taller(data: bytes, stream: Stream) -> bytes:
    """Return the file with one more row of blocks in its frame header."""
    height = _added(stream) + stream.unit[0]
    at = stream.place + 5  # behind marker, length and bits
    return b"".join((data[:at], height.to_bytes(2), data[at + 2 :]))


def _mixes(stream: Stream) -> bool:
    """Return whether chroma has fewer rows than luma, so that neighbouring rows are blended."""
    return len({component.down for component in stream.components}) > 1


def _ends_grey(values: np.ndarray, space: Space | None) -> bool:
    """Return whether the last rows have no colour, as in nearly all radiographs.

    Blending with an added row has no effect then.
    """
    rows = values[-_BLENDED:].astype(np.int16)
    neutral = 128 if space and space[1] == "YCBCR" else rows[:, :, :1]
    return bool((rows[:, :, 1:] == neutral).all())


def _goes_on(probe: np.ndarray, stream: Stream) -> bool:
    """Return whether the decoder reached the added row.

    A lossless row is decoded as a whole; of others the first block counts.
    """
    block = probe[_added(stream) :]
    if _mixes(stream):
        block = block[_BLENDED:]
    if stream.code != LOSSLESS:
        block = block[:, : stream.unit[1]]
    return bool((block != 1 << (stream.bits - 1)).any())


def _is_left_over(probe: np.ndarray, stream: Stream) -> bool:
    """Return whether values fill more than the first block of the added row, which padding fills.

    Always False for lossless images, of which a row is decoded as a whole.
    """
    beyond = probe[_added(stream) + (_BLENDED if _mixes(stream) else 0) :]
    beyond = beyond[:, stream.unit[1] + _BLENDED :]
    return stream.code != LOSSLESS and bool((beyond != 1 << (stream.bits - 1)).any())


def _lengthened(data: bytes, stream: Stream, more: bytes) -> bytes:
    """Return the file with `more` behind each run of compressed values."""
    ends = [end for scan in stream.scans for end in (*_jpeg_stream.restarts(data, scan), scan.end)]
    parts = [data[begin:end] for begin, end in pairwise((0, *ends, len(data)))]
    return more.join(parts)
