"""Search bytes that were written for the identifiers of the input: a second, independent reader.

It knows nothing of data sets and elements. A file is its bytes; runs of them without control
characters are texts, whatever element, sequence or group they belong to. Identifiers are searched
in every encoding that DICOM's character sets have (PS3.3 C.12.1.1.2), without case and separators
too, UIDs and dates as they are. In the pixels only spellings are searched that no noise makes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from hilum.privacy.dicom.identifiers import Identifiers, holds, squeezed, words_of

_ENCODINGS = (
    "utf-8",
    "latin-1",
    *(f"iso8859-{part}" for part in (2, 3, 4, 5, 6, 7, 8, 9, 15)),
    "tis-620",
    "shift_jis",
    "euc_jp",
    "iso2022_jp",
    "iso2022_jp_2",
    "euc_kr",
    "iso2022_kr",
    "gb18030",
    "big5",
    "utf-16-le",
    "utf-16-be",
    "utf-32-le",
)
_PIXELS = re.compile(rb"\xe0\x7f[\x08\x09\x10]\x00|\x7f\xe0\x00[\x08\x09\x10]")
_TEXTS = re.compile(rb"[\x20-\x7e\x80-\xff]{2,}")
_SAFE_IN_NOISE = 8  # bytes: in a hundred megabytes of noise such a run has one chance in 10^11
_NEW_UID = re.compile(rb"2\.25\.\d{20,39}|1\.2\.840\.10008(?:\.\d+)*")
SHORTEST_WORD = 3  # letters; of two there are VRs, views and laterality in every file
_VR = re.compile(rb"[A-Z]{2}")
# With what can stand before and behind it: the last byte of a length, the first of a tag.
_NUMBER = re.compile(rb".?[\d.+\-eE\\ ]+.?", re.DOTALL)
_DATE = re.compile(rb"(?<![\d.])\d{8}(?:\d{6})?(?![\d])")
_CODE_VALUE = (b"\x08\0\0\x01", b"\0\x08\x01\0")  # (0008,0100), little and big endian
_VRS_OF_TEXT = frozenset(b"AE AS CS IS LO LT PN SH ST UC UR UT".split())
_LONG_VRS = (b"UC", b"UR", b"UT")  # with a length of four bytes
_SEGMENT = re.compile(rb"\xff[\xe1-\xef\xfe\x64](..)", re.DOTALL)
_BEFORE_DATA = 1 << 16  # bytes of the pixels within which a first frame's segments are
_ITEMS = b"\xfe\xff"
_ESCAPE = b"\x1b"


def leaks(
    data: bytes, identifiers: Identifiers, made: Iterable[str], own: Iterable[str], place: str
) -> list[str]:
    """Return which kinds of identifiers are found again; an empty list where none is.

    `made` are dates and `own` texts that were written on purpose, `place` is the path of the output
    file.
    """
    header, pixels = _parts(data)
    texts = _texts(header, own)
    joined = "\n".join(squeezed(one.text) for one in texts)
    found = {
        "a UID": any(one.encode() in data for one in identifiers.uids if len(one) > 4),
        "a date": _holds_date(header, identifiers.dates - set(made)),
        "a name or a number": any(holds(joined, part) for part in identifiers.parts),
        "a short name or number": _holds_word(texts, identifiers.short),
        "a name or a number in an encoding of its own": _holds_spelling(header, identifiers),
        "a name or a number in the pixels": any(
            spelt in pixels for spelt in _spellings(identifiers) if len(spelt) >= _SAFE_IN_NOISE
        ),
        "a name or a number in a comment of the compressed pixels": any(
            identifiers.within(text) for text in _comments(pixels)
        ),
        "a name or a number in the file's name": _named(place, identifiers),
    }
    return [what for what, is_so in found.items() if is_so]


def _parts(data: bytes) -> tuple[bytes, bytes]:
    """Return what stands before the last thing that can be the head of pixel data, and the rest."""
    places = [found.start() for found in _PIXELS.finditer(data)]
    cut = places[-1] if places else len(data)
    return data[:cut], data[cut:]


class _Text(NamedTuple):
    """A run of a header without control characters, and what stands before it."""

    text: str
    vr: bytes  # empty where the run is not the value of an element of text
    tag: bytes


def _texts(header: bytes, own: Iterable[str] = ()) -> list[_Text]:
    """Return the texts of a header; numbers alone only where an element of text holds them.

    A time of day or the size of a pixel is as many digits as a Patient ID, and so are codes.
    """
    written = {text.encode() for text in own}
    found = []
    header = header.replace(_ITEMS, b"\0\0")  # the group of items, which follows texts directly
    for match in _TEXTS.finditer(header):
        vr, tag, run = _value(header, match.start(), match[0])
        run = _NEW_UID.sub(b"", run.strip())
        if len(run) < 2 or _VR.fullmatch(run) or run in written:
            continue
        if not _NUMBER.fullmatch(run) or (vr and tag not in _CODE_VALUE):
            found.append(_Text(run.decode("latin-1"), vr, tag))
    return found


def _value(header: bytes, place: int, run: bytes) -> tuple[bytes, bytes, bytes]:
    """Return VR, tag and bytes of the explicit element of text that a run is the value of.

    The run can begin with the length before it and end in the tag behind it, where these are
    letters by chance (PS3.5 7.1.2). Of any other run it is all, without VR and tag.
    """
    for start in (place, place + 1):
        for head in (8, 12):
            before = header[max(0, start - head) : start]
            vr, length = before[4:6], before[-2:] if head == 8 else before[-4:]
            if len(before) == head and vr in _VRS_OF_TEXT and (vr in _LONG_VRS) == (head == 12):
                size = min(int.from_bytes(length, "little"), int.from_bytes(length, "big"))
                return vr, before[:4], run[start - place :][:size]
    return b"", b"", run


def _holds_date(header: bytes, dates: set[str]) -> bool:
    found = {run[:8].decode() for run in _DATE.findall(header)}
    return not found.isdisjoint(dates)


def _holds_word(texts: list[_Text], short: set[str]) -> bool:
    wanted = {word for word in short if len(word) >= SHORTEST_WORD and not word.isdigit()}
    return bool(wanted) and any(
        one.vr != b"CS" and not wanted.isdisjoint(words_of(one.text)) for one in texts
    )


def _holds_spelling(header: bytes, identifiers: Identifiers) -> bool:
    lower = header.lower()
    return any(spelt.lower() in lower for spelt in _spellings(identifiers))


def _spellings(identifiers: Identifiers) -> Iterator[bytes]:
    for text in identifiers.spellings:
        yield from _encoded(text)


@lru_cache(maxsize=4096)
def _encoded(text: str) -> frozenset[bytes]:
    """Return the bytes of a text in each encoding that has its letters.

    Numbers in one byte each are left to the squeezed texts, which respect where a number ends.
    """
    plain = text.isascii()
    encodings = ("utf-16-le", "utf-16-be", "utf-32-le") if plain else _ENCODINGS
    found: set[bytes] = {text.encode()} if plain and not text.isdigit() else set()
    for encoding in encodings:
        try:
            found.add(text.encode(encoding).strip(_ESCAPE))
        except UnicodeEncodeError:
            continue
    return frozenset(one for one in found if len(one) >= 3)


def _comments(pixels: bytes) -> Iterator[str]:
    """Yield the texts of application and comment segments of compressed images.

    JPEG and JPEG-LS (ITU-T T.81 B.2.4.5 and 6) and JPEG 2000 (T.800 A.9.2) have them before their
    data, in which these markers do not occur.
    """
    for match in _SEGMENT.finditer(pixels, 0, _BEFORE_DATA):
        length = int.from_bytes(match[1])
        segment = pixels[match.end() : match.end() + length]
        yield from (run.decode("latin-1") for run in _TEXTS.findall(segment))


def _named(place: str, identifiers: Identifiers) -> bool:
    parts = {squeezed(part) for part in re.split(r"[/\\.]", place)}
    return not parts.isdisjoint(identifiers.parts | identifiers.short) or any(
        one in place for one in identifiers.uids if len(one) > 4
    )


def forms(data: bytes) -> set[str]:
    """Return the squeezed texts, words and neighbouring words before a file's pixels.

    By these `hilum.privacy.dicom.folder` finds what identifies the patient of another file.
    """
    found: set[str] = set()
    for one in _texts(_parts(data)[0]):
        words = [squeezed(word) for word in re.findall(r"[^\W_]+", one.text)]
        found.add(squeezed(one.text))
        found.update(words)
        found.update(first + second for first, second in zip(words, words[1:], strict=False))
    return found
