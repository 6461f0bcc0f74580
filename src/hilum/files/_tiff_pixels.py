"""TIFF 6.0 strips and tiles to values, each counted: exactly its bytes must come out of it.

libtiff is not asked to put an image together, because it calls a strip whole that inflates to more
than its bytes, or to none, and leaves what was in memory before (docs/upstream). Every strip or
tile is decompressed by its codec into zeros of its own size; one that is missing, lies beyond the
end of the file, or gives fewer or more bytes is a fault that names it. The last strip may be as
long as the others, as some programs write it, and an uncompressed one may be padded to a whole
word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hilum.files import _tiff_fax, _tiff_jpeg
from hilum.files._head import Unfit

Tags = Mapping[int, tuple[int, ...]]

NONE, FAX, LZW, JPEG, PACKBITS, ZSTANDARD = 1, (2, 3, 4), 5, 7, 32773, 50000
DEFLATE = (8, 32946)
_PREDICTED = (LZW, *DEFLATE, ZSTANDARD)  # before which all readers take values as differenced
_HORIZONTAL, _FLOATING = 2, 3  # predictors (TIFF 6.0 section 14, Adobe's TIFF Technical Note 3)
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}  # of SampleFormat
_MOST_PADDING = 1 << 26  # bytes that tiles may have beyond the image, and as many as it has
_WORD = 2  # bytes, to a multiple of which an uncompressed strip may be padded


class _Layout(NamedTuple):
    height: int
    width: int
    samples: int  # of a pixel of one plane
    planes: int
    bits: int
    kind: str
    order: str  # "<" or ">"
    compression: int
    predictor: int
    name: str  # "strip" or "tile"
    part: tuple[int, int]  # (height, width) of a strip or tile

    @property
    def down(self) -> int:
        return -(-self.height // self.part[0])

    @property
    def across(self) -> int:
        return -(-self.width // self.part[1])

    @property
    def row_bytes(self) -> int:
        """Of a row of one strip or tile."""
        return (self.part[1] * self.samples * self.bits + 7) // 8

    @property
    def count(self) -> int:
        return self.planes * self.down * self.across

    def rows(self, number: int) -> int:
        """How many rows of the image strip or tile `number` brings; a tile is always whole."""
        if self.name == "tile":
            return self.part[0]
        return min(self.part[0], self.height - number % self.down * self.part[0])


def read(data: bytes, tags: Tags) -> np.ndarray:
    """Return values as stored, (height, width) or (height, width, samples), 1 and 4 bits as uint8.

    Raises `ValueError` naming the strip or tile that is not whole, or what its codec raises.
    """
    layout = _layout(data, tags)
    parts = _parts(data, tags, layout)
    if layout.compression in FAX:
        return _tiff_fax.decode(parts, tags, layout.name, (layout.height, layout.width))
    if layout.compression == JPEG:
        cells = _of_jpeg(parts, tags, layout)
    else:
        cells = _numbers(_decompressed(parts, layout), layout)
    whole = cells.transpose(0, 1, 3, 2, 4, 5).reshape(
        layout.planes, layout.down * layout.part[0], layout.across * layout.part[1], layout.samples
    )[:, : layout.height, : layout.width]
    if layout.planes > 1:
        return np.ascontiguousarray(np.moveaxis(whole[..., 0], 0, -1))
    values = whole[0, :, :, 0] if layout.samples == 1 else whole[0]
    return np.ascontiguousarray(values)


def _layout(data: bytes, tags: Tags) -> _Layout:
    def one(tag: int, default: int) -> int:
        return tags.get(tag, (default,))[0]

    height, width, samples = one(257, 0), one(256, 0), one(277, 1)
    tiled = 322 in tags or 324 in tags
    planar = samples > 1 and one(284, 1) == 2
    part = (one(323, 0), one(322, 0)) if tiled else (min(one(278, height), height), width)
    if not part[0] or not part[1]:
        raise ValueError("its strips or tiles have no size")
    layout = _Layout(
        height, width, 1 if planar else samples, samples if planar else 1, one(258, 1),
        _KINDS.get(one(339, 1), "u"), "<" if data[:2] == b"II" else ">", one(259, 1),
        one(317, 1), "tile" if tiled else "strip", part,
    )  # fmt: skip
    needed = layout.planes * height * ((width * layout.samples * layout.bits + 7) // 8)
    if layout.count * part[0] * layout.row_bytes > 2 * needed + _MOST_PADDING:
        raise ValueError(f"its {layout.name}s are far larger than its image")
    _refuse_predictor(layout)
    return layout


def _refuse_predictor(layout: _Layout) -> None:
    """Raise `Unfit` for differences that readers do not agree about, or that are not defined."""
    if layout.predictor == 1 or layout.compression in (JPEG, *FAX):  # of which nothing is predicted
        return
    kinds = {_HORIZONTAL: "ui", _FLOATING: "f"}.get(layout.predictor, "")
    if layout.compression not in _PREDICTED or layout.kind not in kinds or layout.bits < 8:
        raise Unfit(
            f"states predictor {layout.predictor} for values of {layout.bits} bits compressed by "
            f"method {layout.compression}, which readers do not agree about; save it without one"
        )


def _parts(data: bytes, tags: Tags, layout: _Layout) -> list[memoryview]:
    """The compressed bytes of each strip or tile. Raises `ValueError` for those not in the file."""
    places = tags.get(273) or tags.get(324, ())
    sizes = tags.get(279) or tags.get(325, ())
    if len(places) != layout.count or len(sizes) != layout.count:
        raise ValueError(
            f"it states the places of {len(places)} and the sizes of {len(sizes)} {layout.name}s; "
            f"{layout.count} make its image"
        )
    view, parts = memoryview(data), []
    for number, (place, size) in enumerate(zip(places, sizes, strict=True)):
        if not place or not size:
            raise ValueError(f"{_called(layout, number)} is missing")
        if place + size > len(data):
            raise ValueError(
                f"{_called(layout, number)} lies beyond the end of the file: it ends at byte "
                f"{place + size:,} of {len(data):,}"
            )
        parts.append(view[place : place + size])
    if tags.get(266) == (2,) and layout.compression not in (JPEG, *FAX):  # libtiff turns the latter
        import imagecodecs

        return [memoryview(imagecodecs.bitorder_decode(bytes(part))) for part in parts]
    return parts


def _called(layout: _Layout, number: int) -> str:
    return f"{layout.name} {number + 1} of {layout.count}"


def _decompressed(parts: Sequence[memoryview], layout: _Layout) -> np.ndarray:
    """Bytes of all strips or tiles, uint8 (number, height of one, bytes of a row)."""
    row = layout.row_bytes
    cells = np.zeros((layout.count, layout.part[0] * row), np.uint8)
    decompress = _copied if layout.compression == NONE else _codec(layout.compression)
    spare = np.zeros(layout.part[0] * row + 1, np.uint8)  # one more, so that too much is seen
    for number, part in enumerate(parts):
        needed = layout.rows(number) * row
        room = cells[number] if needed == cells.shape[1] else cells[number, :needed]
        try:
            found = decompress(part, room, spare)
        except RuntimeError as error:  # what the codecs raise
            raise ValueError(
                f"{_called(layout, number)} is broken, or holds more than its {needed:,} bytes of "
                f"pixels ({error})"
            ) from error
        if found not in (needed, layout.part[0] * row):
            size = f"more than {needed:,}" if found > needed else f"{found:,}"
            raise ValueError(
                f"{_called(layout, number)} holds {size} bytes of pixels; {needed:,} are needed"
            )
    return cells.reshape(layout.count, layout.part[0], row)


def _copied(part: memoryview, room: np.ndarray, spare: np.ndarray) -> int:
    whole = len(spare) - 1
    if len(part) - len(room) in (0, len(room) % _WORD, whole - len(room)):
        room[:] = np.frombuffer(part, np.uint8, len(room))
        return len(room)
    return len(part)


def _codec(compression: int) -> Callable[[memoryview, np.ndarray, np.ndarray], int]:
    """What decompresses into `room`, with the help of `spare`, and returns how much it was.

    Beyond the length of `spare` nothing is decompressed.
    """
    import imagecodecs

    decode: Any = {
        LZW: imagecodecs.lzw_decode,
        PACKBITS: imagecodecs.packbits_decode,
        ZSTANDARD: imagecodecs.zstd_decode,
        **dict.fromkeys(DEFLATE, imagecodecs.deflate_decode),
    }[compression]

    def through_spare(part: memoryview, room: np.ndarray, spare: np.ndarray) -> int:
        found = len(decode(part, out=spare))
        room[: min(found, len(room))] = spare[: min(found, len(room))]
        return found

    def direct(part: memoryview, room: np.ndarray, spare: np.ndarray) -> int:
        try:
            return len(decode(part, out=room))
        except RuntimeError:  # of a codec, for bytes that are broken or that find no room
            return through_spare(part, room, spare)

    return through_spare if compression == LZW else direct  # that of LZW stops when all is full


def _numbers(cells: np.ndarray, layout: _Layout) -> np.ndarray:
    """(planes, down, across, height, width, samples) of the strips or tiles, predictors undone."""
    shape = (layout.planes, layout.down, layout.across, *layout.part, layout.samples)
    if layout.bits < 8:
        return _unpacked(cells, layout).reshape(shape)
    size = layout.bits // 8
    if layout.predictor == _FLOATING:
        return _floating(cells, layout).reshape(shape)
    values = cells.view(f"{layout.order}u{size}").reshape(shape)
    if size > 1 and not values.dtype.isnative:
        values = values.byteswap().view(values.dtype.newbyteorder("="))
    if layout.predictor == _HORIZONTAL:
        import imagecodecs

        values = imagecodecs.delta_decode(values, axis=-2, out=values)
    return values if layout.kind == "u" else values.view(f"{layout.kind}{size}")


def _unpacked(cells: np.ndarray, layout: _Layout) -> np.ndarray:
    used = layout.part[1] * layout.samples
    if layout.bits == 1:
        return np.unpackbits(cells, axis=-1)[..., :used]
    both = np.stack([cells >> 4, cells & 15], -1)
    return both.reshape(*cells.shape[:2], -1)[..., :used]


def _floating(cells: np.ndarray, layout: _Layout) -> np.ndarray:
    import imagecodecs

    kind = np.dtype(f"f{layout.bits // 8}")
    rows = cells.reshape(-1, layout.part[1], layout.samples * kind.itemsize)
    values = rows.view(kind)  # a row's bytes of highest worth come first, whatever the byte order
    return imagecodecs.floatpred_decode(values, axis=-2)


def _of_jpeg(parts: Sequence[memoryview], tags: Tags, layout: _Layout) -> np.ndarray:
    cells = np.zeros((layout.count, *layout.part, layout.samples), np.uint8)
    for number, part in enumerate(parts):
        try:
            values = _tiff_jpeg.decode(bytes(part), tags, layout.samples)
        except ValueError as fault:
            raise ValueError(f"{_called(layout, number)}: {fault}") from fault
        rows = layout.rows(number)
        if values.shape[0] not in (rows, layout.part[0]) or values.shape[1:] != cells.shape[2:]:
            raise ValueError(
                f"{_called(layout, number)} holds pixels of shape {values.shape}; expected "
                f"{(rows, *cells.shape[2:])}"
            )
        cells[number, :rows] = values[:rows]
    return cells.reshape(layout.planes, layout.down, layout.across, *cells.shape[1:])
