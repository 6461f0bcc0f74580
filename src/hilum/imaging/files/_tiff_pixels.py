"""Decode TIFF 6.0 strips and tiles, each of which must give exactly its number of bytes.

libtiff does not assemble the image, because it accepts a strip that inflates to more than its
bytes, or to none, and leaves previous memory contents in place (docs/upstream). Every strip or tile
is decompressed by its codec into a zeroed buffer of its own size; one that is missing, is beyond
the end of the file, or gives fewer or more bytes is an error that names it. The last strip may be
as long as the others, as some programs write it, and an uncompressed one may be padded to a whole
word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hilum.imaging.files import _tiff_fax, _tiff_jpeg
from hilum.imaging.files._raster_header import Unfit

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
        """Bytes of a row of one strip or tile."""
        return (self.part[1] * self.samples * self.bits + 7) // 8

    @property
    def count(self) -> int:
        return self.planes * self.down * self.across

    def rows(self) -> list[int]:
        """How many rows of the image each strip or tile brings; a tile is always whole."""
        each = [self.part[0]] * (self.down * self.across)
        if self.name == "strip":
            each[-1] = self.height - (self.down - 1) * self.part[0]
        return each * self.planes


def read(data: bytes, tags: Tags) -> np.ndarray:
    """Return values as stored, (height, width) or (height, width, samples), 1 and 4 bits as uint8.

    They may be read-only. Raises `ValueError` naming the strip or tile that is not whole.
    """
    layout = _layout(data, tags)
    parts = _parts(data, tags, layout)
    if layout.compression in FAX:
        return _tiff_fax.decode(parts, tags, layout.name, (layout.height, layout.width))
    if layout.compression == JPEG:
        whole = _of_jpeg(parts, tags, layout)
    elif (found := _as_it_lies(data, tags, layout)) is not None:
        whole = found
    else:
        whole = (_of_tiles if layout.name == "tile" else _of_strips)(parts, layout)
    if layout.planes > 1:
        return np.ascontiguousarray(np.moveaxis(whole[..., 0], 0, -1))
    image = whole[0, :, :, 0] if layout.samples == 1 else whole[0]
    return np.require(image, None, ["C", "A"])


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
        height,
        width,
        1 if planar else samples,
        samples if planar else 1,
        one(258, 1),
        _KINDS.get(one(339, 1), "u"),
        "<" if data[:2] == b"II" else ">",
        one(259, 1),
        one(317, 1),
        "tile" if tiled else "strip",
        part,
    )
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
    # Bits in reverse order; libtiff itself restores them for CCITT.
    if tags.get(266) == (2,) and layout.compression not in (JPEG, *FAX):
        import imagecodecs

        return [memoryview(imagecodecs.bitorder_decode(bytes(part))) for part in parts]
    return parts


def _called(layout: _Layout, number: int) -> str:
    return f"{layout.name} {number + 1} of {layout.count}"


def _as_it_lies(data: bytes, tags: Tags, layout: _Layout) -> np.ndarray | None:
    """Return the values of uncompressed strips that are contiguous in the file; else None."""
    if layout.compression != NONE or layout.name == "tile" or layout.bits < 8 or 266 in tags:
        return None
    row, place = layout.row_bytes, tags[273][0]
    for begin, size, rows in zip(tags[273], tags[279], layout.rows(), strict=True):
        if begin != place or size != rows * row:
            return None
        place += size
    cells = np.frombuffer(data, np.uint8, layout.planes * layout.height * row, tags[273][0])
    return _numbers(cells, (layout.planes, layout.height, layout.width, layout.samples), layout)


def _of_strips(parts: Sequence[memoryview], layout: _Layout) -> np.ndarray:
    """Values (planes, height, width, samples)."""
    row = layout.row_bytes
    cells = np.zeros(layout.planes * layout.height * row, np.uint8)
    codec = _Codec(layout)
    begin = 0
    for number, (part, rows) in enumerate(zip(parts, layout.rows(), strict=True)):
        end = begin + rows * row
        codec.fill(cells[begin:end], part, number)
        begin = end
    return _numbers(cells, (layout.planes, layout.height, layout.width, layout.samples), layout)


def _of_tiles(parts: Sequence[memoryview], layout: _Layout) -> np.ndarray:
    """Values (planes, height, width, samples)."""
    shape = (layout.planes, layout.height, layout.width, layout.samples)
    kind = "u1" if layout.bits < 8 else f"{layout.kind}{layout.bits // 8}"
    whole = np.zeros(shape, kind)
    (height, width), down, across = layout.part, layout.down, layout.across
    codec = _Codec(layout)
    cells = np.zeros(height * layout.row_bytes, np.uint8)
    for number, part in enumerate(parts):
        codec.fill(cells, part, number)
        tile = _numbers(cells, (1, height, width, layout.samples), layout)[0]
        top, left = number // across % down * height, number % across * width
        room = whole[number // (down * across), top : top + height, left : left + width]
        room[:] = tile[: room.shape[0], : room.shape[1]]
    return whole


class _Codec:
    """The decompressor of one image's strips or tiles."""

    def __init__(self, layout: _Layout) -> None:
        import imagecodecs

        decoders: Any = {
            NONE: _copied,
            LZW: imagecodecs.lzw_decode,
            PACKBITS: imagecodecs.packbits_decode,
            ZSTANDARD: imagecodecs.zstd_decode,
            **dict.fromkeys(DEFLATE, imagecodecs.deflate_decode),
        }
        self._decode, self._layout = decoders[layout.compression], layout
        # These two stop silently when their buffer is full; the others raise.
        self._counts = layout.compression not in (NONE, LZW)
        self._whole = layout.part[0] * layout.row_bytes
        self._spare = np.zeros(self._whole + 1, np.uint8)  # one more, to detect surplus bytes

    def fill(self, room: np.ndarray, part: memoryview, number: int) -> None:
        """Decompress strip or tile `number` into `room`, which it must fill to the byte."""
        if self._counts:
            try:
                if len(self._decode(part, out=room)) == len(room):
                    return
            except RuntimeError:  # what codecs raise; `_counted` finds out what is wrong
                pass
        room[:] = self._spare[: self._counted(part, len(room), number)]

    def _counted(self, part: memoryview, needed: int, number: int) -> int:
        """Return how many bytes of the spare buffer to take: `needed`. Raises `ValueError`."""
        called = _called(self._layout, number)
        try:
            found = len(self._decode(part, out=self._spare))
        except RuntimeError as error:
            raise ValueError(
                f"{called} is broken, or holds more than its {needed:,} bytes of pixels ({error})"
            ) from error
        padded = needed + needed % _WORD if self._layout.compression == NONE else needed
        if found not in (needed, padded, self._whole):
            size = f"more than {needed:,}" if found > needed else f"{found:,}"
            raise ValueError(f"{called} holds {size} bytes of pixels; {needed:,} are needed")
        return needed


def _copied(part: memoryview, *, out: np.ndarray) -> np.ndarray:
    room = out[: len(part)]
    room[:] = np.frombuffer(part, np.uint8, len(room))
    return room


def _numbers(cells: np.ndarray, shape: tuple[int, ...], layout: _Layout) -> np.ndarray:
    """Values of `shape` (planes, rows, width, samples) of their bytes, the predictor undone."""
    if layout.bits < 8:
        return _unpacked(cells.reshape(shape[0] * shape[1], -1), layout, shape)
    size = layout.bits // 8
    if layout.predictor == _FLOATING:
        return _floating(cells, shape, size)
    values = cells.view(f"{layout.order}u{size}").reshape(shape)
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    if layout.predictor == _HORIZONTAL:
        import imagecodecs

        values = imagecodecs.delta_decode(values, axis=-2, out=values)
    return values if layout.kind == "u" else values.view(f"{layout.kind}{size}")


def _unpacked(rows: np.ndarray, layout: _Layout, shape: tuple[int, ...]) -> np.ndarray:
    used = shape[2] * layout.samples
    if layout.bits == 1:
        return np.unpackbits(rows, axis=-1)[:, :used].reshape(shape)
    both = np.stack([rows >> 4, rows & 15], -1)
    return both.reshape(len(rows), -1)[:, :used].reshape(shape)


def _floating(cells: np.ndarray, shape: tuple[int, ...], size: int) -> np.ndarray:
    import imagecodecs

    # A row's most significant bytes come first, whatever the byte order of the file.
    return imagecodecs.floatpred_decode(cells.view(f"f{size}").reshape(shape), axis=-2)


def _of_jpeg(parts: Sequence[memoryview], tags: Tags, layout: _Layout) -> np.ndarray:
    (height, width), down, across = layout.part, layout.down, layout.across
    whole = np.zeros((layout.planes, layout.height, layout.width, layout.samples), np.uint8)
    for number, (part, rows) in enumerate(zip(parts, layout.rows(), strict=True)):
        try:
            values = _tiff_jpeg.decode(bytes(part), tags, layout.samples)
        except ValueError as fault:
            raise ValueError(f"{_called(layout, number)}: {fault}") from fault
        if values.shape[0] not in (rows, height) or values.shape[1:] != (width, layout.samples):
            raise ValueError(
                f"{_called(layout, number)} holds pixels of shape {values.shape}; expected "
                f"{(rows, width, layout.samples)}"
            )
        top, left = number // across % down * height, number % across * width
        room = whole[number // (down * across), top : top + height, left : left + width]
        room[:] = values[: room.shape[0], : room.shape[1]]
    return whole
