"""Walk a DICOM file's elements without pydicom, which is many times slower, to index large folders.

`walked` follows the elements of PS3.5 section 7 (explicit, implicit, big endian, deflated;
sequences of known and unknown length) up to the pixels, and keeps those in `WANTED`. Whatever it
cannot follow with certainty it leaves to pydicom by returning None: no preamble, a VR that does not
exist or does not fit the tag, tags out of order, a length beyond the end, a character set other
than Latin-1 and UTF-8. Like pydicom it goes by the first element where a data set has VRs and its
transfer syntax says otherwise, or none is stated. So both give the same facts.

Facts are by tag: whole numbers, text as stored (several values separated by backslashes), a code as
(value, scheme, meaning); and under `PIXELS` the tag of the pixels, where there are any.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

from hilum.errors import CannotRead
from hilum.imaging.files._dicom_elements import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    ITEM,
    LONG_VRS,
    SEQUENCE_END,
    SHORT_VRS,
    TEXT_VRS,
    UNKNOWN_LENGTH,
    Form,
    Odd,
    behind_unknown,
    elements,
    is_vr,
)
from hilum.safety import untrusted_files

TEXT, NUMBER, CODE = "text", "number", "code"
MEDIA_CLASS, SYNTAX, CHARSET = 0x00020002, 0x00020010, 0x00080005
_TEXTS = (
    MEDIA_CLASS,
    SYNTAX,
    CHARSET,
    0x00080008,
    0x00080016,
    0x00080018,
    0x00080020,
    0x00080021,
    0x00080022,
    0x00080023,
    0x0008002A,
    0x00080030,
    0x00080032,
    0x00080033,
    0x00080050,
    0x00080060,
    0x00080064,
    0x00080068,
    0x00080070,
    0x00080080,
    0x00081030,
    0x0008103E,
    0x00100010,
    0x00100020,
    0x00100021,
    0x00100030,
    0x00100040,
    0x00101010,
    0x00120062,
    0x00180015,
    0x00181030,
    0x00181114,
    0x00181164,
    0x00181400,
    0x00182010,
    0x00185101,
    0x0020000D,
    0x0020000E,
    0x00200020,
    0x00200060,
    0x00200062,
    0x00280008,
    0x00280030,
    0x00280301,
    0x00280302,
    0x00280A02,
)
_NUMBERS, _CODED = (0x00280010, 0x00280011), (0x00082218, 0x00185104, 0x00540220)
WANTED = dict.fromkeys(_TEXTS, TEXT) | dict.fromkeys(_NUMBERS, NUMBER) | dict.fromkeys(_CODED, CODE)
PIXELS = 0x7FE00000  # not an element's tag: the group's
PIXEL_TAGS = FLOAT_PIXELS, DOUBLE_PIXELS, WHOLE_PIXELS = 0x7FE00008, 0x7FE00009, 0x7FE00010
# The last of group 0, of commands; the group of the file meta information, around which are
_COMMANDS, _META, _BEFORE_META, _BEHIND_META = 0x0000FFFF, 2, 0x0001FFFF, 0x00030000
CODES = (0x00080100, 0x00080102, 0x00080104)  # value, scheme, meaning
# Text of an unknown VR is that of its tag (PS3.5 6.2.2).
FITTING = {TEXT: TEXT_VRS | {b"UN"}, NUMBER: frozenset((b"US",)), CODE: frozenset((b"SQ",))}
_FITTING_TAG = {tag: FITTING[kind] for tag, kind in WANTED.items()}
BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_DEFLATED = DEFLATED.encode()
# The prefix, and the head of the element that states the length of what follows (PS3.10 7.1).
_META_BEGINS = b"DICM\x02\0\0\0UL\x04\0"
_FORMS = {"1.2.840.10008.1.2": IMPLICIT_LITTLE, BIG_ENDIAN: EXPLICIT_BIG}
_ENCODINGS = {"": "latin-1", "ISO_IR 6": "latin-1", "ISO_IR 100": "latin-1", "ISO_IR 192": "utf-8"}
# Where no transfer syntax is stated: a first group as high is that of a big endian data set.
_BIG_ENDIAN_GROUP = 1024 >> 8
_SHORTEST = 8  # bytes of the head of an element
_HEAD = 8192  # bytes read at first, which most headers fit
_MORE = 64  # times as many bytes are read of an element that did not fit: each reading begins anew
_MOST = 8 << 20  # bytes read of one element

Fact = str | int | tuple[str, str, str]
Facts = Mapping[int, Fact]
Texts = Mapping[int, str]  # those of the facts that say something, without padding


class _Window:
    """Some bytes of a file: `data` from offset `start` on.

    Inflated bytes of which more may follow have no `size`.
    """

    def __init__(
        self, data: bytes, size: int | None, read: Callable[[int, int], bytes] | None = None
    ) -> None:
        self.data, self.start, self.size, self._read = data, 0, size, read

    def move(self, place: int) -> None:
        """Move to the element at `place`; where it is there already, read more of its bytes.

        Raises `Odd` where there are no more.
        """
        again, length = place == self.start, len(self.data)
        if self._read is None or self.size is None or place >= self.size:
            raise Odd
        if again and (length >= _MOST or place + length >= self.size):
            raise Odd
        length = min(_MORE * length, _MOST) if again else _HEAD
        self.start, self.data = place, self._read(place, length)


def walked(path: Path, root: Path | None = None) -> Facts | None:
    """Return the wanted facts of a file; None where it must be left to pydicom.

    Raises as `hilum.safety.untrusted_files.opened`.
    """
    descriptor, status = untrusted_files.descriptor(path, root)
    try:

        def read(place: int, length: int) -> bytes:
            """Read `length` bytes from the offset `place` on."""
            os.lseek(descriptor, place, os.SEEK_SET)
            return os.read(descriptor, length)

        return _facts(_Window(os.read(descriptor, _HEAD), status.st_size, read))
    except OSError as error:
        raise CannotRead.because(path, error) from error
    except (Odd, ValueError, struct.error, IndexError):
        return None
    finally:
        os.close(descriptor)


def walked_bytes(data: bytes) -> Facts | None:
    """Return the wanted facts of a file's bytes; None where they must be left to pydicom."""
    try:
        return _facts(_Window(data, len(data)))
    except (Odd, ValueError, struct.error, IndexError):
        return None


def _facts(window: _Window) -> Facts:
    head = window.data
    if head[128:132] != b"DICM":
        raise Odd
    found: dict[int, bytes] = {}
    deflated = behind_deflated_meta(head)
    if deflated is None:
        place, _ = _collect(window, 132, EXPLICIT_LITTLE, found, _BEHIND_META)
    else:
        _collect(_Window(head[:deflated], deflated), 132, EXPLICIT_LITTLE, found, _BEHIND_META)
        place, window = 0, _inflated(head[deflated : deflated + 8 * _HEAD])
    stated = found.get(SYNTAX)
    syntax = (stated or b"").strip(b"\0 ").decode("ascii")
    if stated is not None and not syntax.replace(".", "").isdigit():
        raise Odd
    if (syntax == DEFLATED) != (deflated is not None):
        raise Odd
    if place - window.start + 6 > len(window.data):
        window.move(place)
    at = place - window.start
    written = is_vr(window.data[at + 4 : at + 6])
    form = _FORMS.get(syntax, EXPLICIT_LITTLE)
    if form.implicit == written:
        # Not written as the transfer syntax says; the first element decides.
        if form is EXPLICIT_BIG:
            raise Odd
        form = EXPLICIT_LITTLE if form.implicit else IMPLICIT_LITTLE
    if stated is None and written and window.data[at + 1] >= _BIG_ENDIAN_GROUP:
        raise Odd
    _, pixels = _collect(window, place, form, found, FLOAT_PIXELS)
    encoding = encoding_of(found.get(CHARSET, b""))
    facts: dict[int, Fact] = {PIXELS: pixels} if pixels else {}
    for tag in _NUMBERS:
        if value := found.pop(tag, None):
            facts[tag] = number(value, form is EXPLICIT_BIG)
    for tag in _CODED:
        if code := _first_code(found.pop(tag, b""), form, encoding):
            facts[tag] = code
    together = b"".join(found.values())
    if together.isascii() and b"\x1b" not in together:  # as `decoded` sees it, but all at once
        facts |= {tag: value.decode("ascii") for tag, value in found.items()}
    else:
        facts |= {tag: decoded(value, encoding) for tag, value in found.items()}
    return facts


def _inflated(data: bytes) -> _Window:
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        whole = engine.decompress(data, 8 * _HEAD)
    except zlib.error as error:
        raise Odd from error
    return _Window(whole, len(whole) if engine.eof else None)


def _collect(
    window: _Window, place: int, form: Form, found: dict[int, bytes], behind: int
) -> tuple[int, int]:
    """Put the wanted elements from `place` on into `found`.

    Returns place and tag of the first element at or after `behind`, or the file's end and 0.
    """
    (implicit, unpack, unpack_long), in_meta = form, behind == _BEHIND_META
    last = _BEFORE_META if in_meta else _COMMANDS
    while True:
        data, at = window.data, place - window.start
        try:
            # As few steps as there can be: most of the time goes into this loop.
            while True:
                group, element, vr, length = unpack(data, at)
                tag = group << 16 | element
                if not last < tag < behind:
                    out_of_order = group == _META if in_meta else tag <= last
                    if out_of_order or (behind == FLOAT_PIXELS and tag not in PIXEL_TAGS):
                        raise Odd
                    return window.start + at, tag
                if vr in SHORT_VRS and not implicit:
                    value = at + 8
                    end = value + length
                else:
                    value = at + (8 if implicit else 12)
                    if not implicit and vr not in LONG_VRS:
                        raise Odd
                    (length,) = unpack_long(data, value - 4)
                    unknown = length == UNKNOWN_LENGTH
                    end = behind_unknown(data, value, form, vr) if unknown else value + length
                if tag in _FITTING_TAG:
                    if end > len(data):
                        raise IndexError
                    if group == _META and not in_meta:
                        raise Odd
                    if not implicit and (
                        vr not in _FITTING_TAG[tag] or (vr == b"UN" and length == UNKNOWN_LENGTH)
                    ):
                        raise Odd
                    found[tag] = data[value:end]
                last, at = tag, end
        except (struct.error, IndexError):  # the elements go on behind these bytes
            place = window.start + at
            if window.size is not None and place + _SHORTEST > window.size:
                # The file ends, perhaps within an unwanted value or a head, as pydicom allows too.
                return window.size, 0
            window.move(place)


@lru_cache(maxsize=256)  # files of one device repeat the same values
def _first_code(value: bytes, form: Form, encoding: str | None) -> tuple[str, str, str] | None:
    if not value:
        return None
    group, element, *_ = form.element(value, 0)
    (length,) = form.length(value, 4)
    if (group << 16 | element) == SEQUENCE_END:  # a sequence of unknown length without an item
        return None
    if (group << 16 | element) != ITEM:
        raise Odd
    item = value[8:] if length == UNKNOWN_LENGTH else value[8 : 8 + length]
    parts = {tag: item[begin:end] for tag, begin, end in elements(item, 0, form)}
    if CHARSET in parts:
        raise Odd
    value_of, scheme, meaning = (
        decoded(parts.get(tag, b""), encoding).strip(" \0") for tag in CODES
    )
    return value_of, scheme, meaning


def encoding_of(charset: bytes) -> str | None:
    """Return Python's name of a Specific Character Set; None where pydicom is needed."""
    return _ENCODINGS.get(charset.strip(b"\0 ").decode("ascii"))


def decoded(value: bytes, encoding: str | None) -> str:
    """Decode text. Raises `ValueError` for text that only pydicom can decode."""
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii")
    if encoding is None or b"\x1b" in value:
        raise ValueError("a character set that is not supported here")
    return value.decode(encoding)


def number(value: bytes, big_endian: bool) -> int:
    """Return one unsigned number of two bytes. Raises `ValueError` for any other length."""
    if len(value) != 2:
        raise ValueError(f"a number of {len(value)} bytes")
    return int.from_bytes(value, "big" if big_endian else "little")


def behind_deflated_meta(data: bytes) -> int | None:
    """Return where the deflated part of a deflated file begins; None for any other file."""
    if data[128:140] != _META_BEGINS:
        return None
    end = 144 + int.from_bytes(data[140:144], "little")
    return end if data.find(_DEFLATED, 144, min(end, 2048)) >= 0 else None


def stated_pixels(data: bytes) -> int:
    """Return rows times columns at the beginning of an explicit little endian data set, else 0."""
    found: dict[int, bytes] = {}
    try:
        _collect(_Window(data, None), 0, EXPLICIT_LITTLE, found, 0x00280012)
    except (Odd, struct.error, IndexError):
        found.clear()
    rows, columns = (int.from_bytes(found.get(tag, b""), "little") for tag in _NUMBERS)
    return rows * columns
