"""Read the header of a compressed image: codec, size, bits, sign, components.

It is read from the first bytes, before anything is allocated: JPEG by its frame header (ITU-T T.81
B.2.2), JPEG-LS likewise (T.87 C.2.2), JPEG 2000 and HTJ2K by the SIZ marker (T.800 A.5.1, T.814),
JPEG XL by its size header (ISO/IEC 18181-1).
"""

from __future__ import annotations

from typing import NamedTuple

# SOF0 to SOF15, without the three markers between them that start no frame.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_LS = 0xF7
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_HIGH_THROUGHPUT = 0x4000  # the bit of Rsiz that T.814 sets
_RATIOS = {
    1: (1, 1),
    2: (12, 10),
    3: (4, 3),
    4: (3, 2),
    5: (16, 9),
    6: (5, 4),
    7: (2, 1),
}  # width to height


class Stream(NamedTuple):
    """What a compressed image states of itself."""

    kind: str  # jpeg, jpegls, jpeg2k, htj2k or jpegxl
    height: int
    width: int
    bits: int | None  # None: not read
    signed: bool
    components: int | None


def parse_header(stream: bytes | memoryview) -> Stream | None:
    """Return the header; None where the bytes begin as no known codec does.

    Raises `ValueError` where they end within the header.
    """
    head = bytes(stream[:4096])
    try:
        if head[:2] == b"\xff\xd8":
            return _jpeg(stream)
        if (place := head.find(b"\xff\x4f\xff\x51")) >= 0 and (place == 0 or head[4:8] == b"jP  "):
            return _jpeg2k(head[place:])
        if head[:2] == b"\xff\x0a" or head[4:8] == b"JXL ":
            return _jpegxl(head)
    except IndexError as error:
        raise ValueError("the compressed image ends in its own header") from error
    return None


def _jpeg(stream: bytes | memoryview) -> Stream | None:
    place, spiff = 2, None
    while True:
        if stream[place] != 0xFF:
            raise ValueError("the JPEG's headers are broken")
        marker = stream[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
        elif marker in _BARE:
            place += 2
        elif marker in _FRAMES or marker == _JPEG_LS:
            bits, components = stream[place + 4], stream[place + 9]
            height, width = _two(stream, place + 5), _two(stream, place + 7)
            # A decoder would allocate memory for the larger of the two.
            if spiff is not None and spiff != (height, width):
                raise ValueError(
                    f"the JPEG's SPIFF header says {spiff[0]}x{spiff[1]}, its frame "
                    f"{height}x{width}"
                )
            return Stream(
                "jpegls" if marker == _JPEG_LS else "jpeg", height, width, bits, False, components
            )
        else:
            if bytes(stream[place + 4 : place + 10]) == b"SPIFF\0" and marker == 0xE8:
                spiff = (
                    int.from_bytes(stream[place + 14 : place + 18]),
                    int.from_bytes(stream[place + 18 : place + 22]),
                )
            place += 2 + max(_two(stream, place + 2), 2)


def _jpeg2k(head: bytes) -> Stream:
    right, bottom, left, top = (
        int.from_bytes(head[place : place + 4]) for place in (8, 12, 16, 20)
    )
    kind = "htj2k" if _two(head, 6) & _HIGH_THROUGHPUT else "jpeg2k"
    return Stream(
        kind,
        bottom - top,
        right - left,
        (head[42] & 0x7F) + 1,
        bool(head[42] & 0x80),
        _two(head, 40),
    )


def _jpegxl(head: bytes) -> Stream:
    if head[4:8] == b"JXL ":
        boxes = [place for name in (b"jxlc", b"jxlp") if (place := head.find(name)) > 0]
        start = head.index(b"\xff\x0a", min(boxes)) if boxes else -1
        if start < 0:
            raise ValueError("the JPEG XL file holds no image")
        head = head[start:]
    if len(head) < 14:
        raise IndexError
    bits, used = int.from_bytes(head[2:14], "little"), 0

    def take(count: int) -> int:
        nonlocal used
        used += count
        return bits >> (used - count) & ((1 << count) - 1)

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    height, ratio = side(), take(3)
    width = height * _RATIOS[ratio][0] // _RATIOS[ratio][1] if ratio else side()
    return Stream("jpegxl", height, width, None, False, None)


def _two(data: bytes | memoryview, place: int) -> int:
    return data[place] << 8 | data[place + 1]
