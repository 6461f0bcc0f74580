"""Decode DICOM pixel data: native, RLE, deflated frames and every form that imagecodecs decodes.

Pixel data that are incomplete, or longer than the header states, are refused: values are counted,
fragments, segments and tiles accounted for, and no other decoder is tried where one refuses.

`decode` returns stored values as uint8 or uint16 (height, width), unused high bits cleared; signed
ones have an offset of half their range. Bits beside Bits Stored are masked, among them the overlays
of older standards (PS3.5 8.1.1). Where a compressed image and the header disagree on size, bits,
sign or codec, the image counts, as PS3.5 8.2 requires, and the processing log says so. Colour that
is grey (three equal channels, flat chroma, a palette of greys) becomes one channel.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

from hilum.errors import BadData
from hilum.imaging.files import (
    _dicom_fragments,
    _dicom_rle,
    _dicom_stream,
    _jpeg2k_complete,
    _jpeg_complete,
    _jpeg_stream,
    _one_pass,
)
from hilum.imaging.files._decoder_warnings import as_data
from hilum.imaging.files._dicom_elements import UNKNOWN_LENGTH
from hilum.imaging.files._dicom_layout import (
    COMPRESSED,
    DEFLATED_FRAME,
    KINDS,
    PALETTE,
    RLE,
    Layout,
    refuse_size,
)
from hilum.imaging.files._dicom_parsing import Parsed
from hilum.imaging.files._raster_header import Unfit

_BLOCK = 512  # bytes of a block of a disk
_PLAUSIBLE = 16  # a compressed image of more than so many times the stated pixels is broken
_COLOURED = 1e-3  # of the pixels of a grey image may be coloured: a stamp or a mark
_MARKER_BYTES = 8  # at the end of a JPEG-LS stream, within which its end marker stands


@dataclass(frozen=True)
class Pixels:
    """Decoded pixel data: the stored values and what was done to them."""

    values: np.ndarray  # uint8 or uint16 (height, width)
    bits: int
    signed: bool  # values have an offset of half the range of `bits`
    processing_log: tuple[str, ...]
    findings: _one_pass.Findings | None = None  # where `values` are bytes of the file as it is


def decode(parsed: Parsed, stated: Layout, where: object) -> Pixels:
    """Decode the pixels that `stated` describes; `where` is the file's name in errors.

    Raises `BadData` for colour, and whatever a decoder raises for a broken stream.
    """
    account: list[str] = []
    findings = None
    if stated.native:
        if stated.place + stated.length > len(parsed.data):
            raise ValueError(
                f"their value states {stated.length:,} bytes; "
                f"{len(parsed.data) - stated.place:,} are left"
            )
        values = _native(parsed.data[stated.place : stated.place + stated.length], stated, account)
        if parsed.is_whole_file and _is_plain(values, stated):
            findings = _one_pass.of(parsed.data, stated.place, values)
    else:
        stream = _frame(parsed, stated)
        if stated.syntax == RLE:
            values = _run_lengths(stream, stated, account)
        elif stated.syntax == DEFLATED_FRAME:
            values = _native(memoryview(_inflated(stream, stated)), stated, account)
        else:
            try:
                stated, values = _compressed(stream, stated, where, account)
            except Unfit as unfit:
                raise BadData(f"{where}: {unfit}") from unfit
    if values.ndim == 3:
        values = _without_colour(where, values, stated, account)
    unchanged = values
    values, stated = _unsigned(values, stated, account, findings)
    if stated.palette is not None:
        values, stated = _with_palette(where, values, stated.palette, stated, account)
    sign = "signed" if stated.signed else "unsigned"
    return Pixels(
        values,
        stated.bits,
        stated.signed,
        (f"{stated.bits}-bit {sign} {stated.name} decoded", *account),
        findings if values is unchanged else None,
    )


# ------------------------------------------------------------------------------------------- forms


def _native(data: memoryview, stated: Layout, account: list[str]) -> np.ndarray:
    """Return the values of uncompressed cells (PS3.5 8.1.1), without a copy where possible."""
    kind = f"{'>' if stated.big_endian else '<'}u{stated.allocated // 8}"
    count = stated.rows * stated.columns * stated.samples
    if stated.photometric == "YBR_FULL_422":
        return _subsampled(_counted(data, stated.rows * stated.columns * 2), stated)
    # The bytes of each word are swapped then (PS3.5 A.3, 8.1.2).
    if stated.big_endian and stated.allocated == 8 and stated.vr == "OW":
        data = memoryview(np.frombuffer(data, "<u2", len(data) // 2).byteswap().tobytes())
    whole, data = len(data), _counted(data, count * stated.allocated // 8)
    if whole > len(data) + 1:
        account.append(f"{whole - len(data)} zeros behind the pixels ignored")
    values = np.frombuffer(data, kind, count)
    if stated.samples == 3:
        return (
            values.reshape(3, stated.rows, stated.columns).transpose(1, 2, 0)
            if stated.planar
            else values.reshape(stated.rows, stated.columns, 3)
        )
    return values.reshape(stated.rows, stated.columns)


def _counted(data: memoryview, needed: int) -> memoryview:
    """Return the `needed` bytes. Raises `ValueError` for fewer, or for more that mean something.

    One byte more may fill a whole word (PS3.5 8.1.1), and zeros a whole block, as some writers do.
    """
    beyond = len(data) - needed
    if beyond < 0 or beyond >= _BLOCK or (beyond > needed % 2 and any(data[needed:])):
        raise ValueError(f"{len(data)} bytes, {needed} are needed")
    return data[:needed]


def _subsampled(data: memoryview, stated: Layout) -> np.ndarray:
    """Return YBR_FULL_422 with full chroma: two luma values share two chroma (C.7.6.3.1.2)."""
    cells = np.frombuffer(data, np.uint8, stated.rows * stated.columns * 2).reshape(
        stated.rows, stated.columns // 2, 4
    )
    return np.stack(
        [
            cells[:, :, :2].reshape(stated.rows, -1),
            *(np.repeat(cells[:, :, place], 2, axis=1) for place in (2, 3)),
        ],
        axis=2,
    )


def _frame(parsed: Parsed, stated: Layout) -> memoryview:
    """Return the bytes of the single frame of compressed pixels."""
    data, order = parsed.data, stated.byte_order
    if stated.length != UNKNOWN_LENGTH and not _dicom_fragments.encapsulated(
        data, stated.place, order
    ):
        return _counted(data[stated.place : stated.place + stated.length], stated.length)
    frame = _dicom_fragments.joined(data, stated.place, stated.length, order)
    # Eight bytes for each frame (PS3.3 C.7.6.3.1.8).
    lengths = parsed.dataset.get("ExtendedOffsetTableLengths")
    if lengths and (
        len(lengths) != 8 or not len(frame) - 1 <= int.from_bytes(lengths, order) <= len(frame)
    ):
        raise ValueError(
            f"its extended offset table states other frames than one of {len(frame)} bytes"
        )
    return frame


def _inflated(stream: memoryview, stated: Layout) -> bytes:
    """Inflate a deflated frame (PS3.5 A.4.12), no further than the image needs."""
    needed = stated.rows * stated.columns * stated.samples * stated.allocated // 8
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    cells = engine.decompress(stream, needed + 2)
    if not engine.eof or len(cells) > needed + needed % 2:
        raise ValueError(
            f"its deflated frame breaks off, or inflates to more than the {needed} bytes that are "
            "needed"
        )
    return cells


def _run_lengths(stream: memoryview, stated: Layout, account: list[str]) -> np.ndarray:
    """Decode RLE (PS3.5 annex G), whose segments are bytes of a sample, so colour is by plane."""
    cells = _dicom_rle.decode(
        stream, stated.rows * stated.columns, stated.samples, stated.allocated // 8
    )
    native = replace(
        stated,
        big_endian=False,
        planar=True,
        vr="OB",
        photometric="RGB" if stated.samples == 3 else stated.photometric,
    )
    return _native(cells, native, account)


def _compressed(
    stream: memoryview, stated: Layout, where: object, account: list[str]
) -> tuple[Layout, np.ndarray]:
    """Decode a compressed image; return its values and the layout that it has itself."""
    seen = _dicom_stream.parse_header(stream)
    if seen is None:
        raise ValueError("the compressed image begins as no supported codec does")
    refuse_size(where, seen.height, seen.width)
    pixels, area = seen.height * seen.width, stated.rows * stated.columns
    if not area / _PLAUSIBLE <= pixels <= area * _PLAUSIBLE:
        raise ValueError(
            f"Rows and Columns say {stated.rows}x{stated.columns}, the compressed image "
            f"{seen.height}x{seen.width}"
        )
    announced = KINDS.get((stated.syntax or "").removeprefix(COMPRESSED))
    if announced != seen.kind and {announced, seen.kind} != {"jpeg2k", "htj2k"}:
        account.append(f"the image is {seen.kind}, whatever the transfer syntax says")
    values = _values(stream, seen, account)
    return _settled(stated, seen, values, account), values


def _values(stream: memoryview, seen: _dicom_stream.Stream, account: list[str]) -> np.ndarray:
    """Decode a compressed image; the decoder's warnings are appended to `account`."""
    import imagecodecs

    if seen.kind == "jpeg":
        space = ("YCBCR", "YCBCR") if seen.components == 3 else None
        data = bytes(stream)
        return _jpeg_complete.decode(data, _jpeg_stream.parse(data), space)
    if seen.kind in ("jpeg2k", "htj2k"):
        values, warnings = _jpeg2k_complete.decode(stream, high_throughput=seen.kind == "htj2k")
        account += [f"decoder: {warning[:120]}" for warning in warnings[:3]]
        return values
    if seen.kind == "jpegls":
        # CharLS searches for seconds where the end is missing.
        if b"\xff\xd9" not in bytes(stream[-_MARKER_BYTES:]):
            raise ValueError("its end marker is missing")
        return imagecodecs.jpegls_decode(as_data(stream))
    return imagecodecs.jpegxl_decode(as_data(stream))


def _settled(
    stated: Layout, seen: _dicom_stream.Stream, values: np.ndarray, account: list[str]
) -> Layout:
    """Return the layout with what the image states instead of the header (PS3.5 8.2)."""
    height, width = values.shape[:2]
    if (height, width) != (stated.rows, stated.columns):
        account.append(
            f"Rows and Columns say {stated.rows}x{stated.columns}, the compressed image is "
            f"{height}x{width} (used, PS3.5 8.2)"
        )
    bits, signed = stated.bits, stated.signed
    if (
        seen.bits
        and bits < seen.bits <= 16
        and not signed
        and not seen.signed
        and values.ndim == 2
        and int(values.max(initial=0)) >> bits
    ):
        account.append(
            f"Bits Stored says {bits}, the compressed image has {seen.bits} (used, PS3.5 8.2)"
        )
        bits = seen.bits
    if seen.kind in ("jpeg2k", "htj2k") and seen.signed != signed and values.ndim == 2:
        if seen.signed:
            account.append(
                "Pixel Representation says unsigned, the compressed image is signed (used, "
                "PS3.5 8.2)"
            )
            bits, signed = min(max(bits, seen.bits or bits), 16), True
        else:  # some writers store two's complement in an unsigned image
            account.append(
                "Pixel Representation says signed, the compressed image is unsigned: taken as "
                f"two's complement of {bits} bits"
            )
    return replace(stated, rows=height, columns=width, bits=bits, high=bits - 1, signed=signed)


# ------------------------------------------------------------------------------------------ values


def _is_plain(values: np.ndarray, stated: Layout) -> bool:
    """Return whether stored bytes may be the values as they are, if no higher bit is set."""
    return (
        values.ndim == 2
        and values.dtype in (np.uint8, np.uint16)
        and not stated.signed
        and not stated.big_endian
        and stated.palette is None
        and stated.high + 1 == stated.bits > 8 * values.dtype.itemsize - 8
    )


def _unsigned(
    values: np.ndarray,
    stated: Layout,
    account: list[str],
    findings: _one_pass.Findings | None,
) -> tuple[np.ndarray, Layout]:
    """Clear the bits beside Bits Stored, and add half the range to signed values."""
    bits, shift = stated.bits, stated.high + 1 - stated.bits
    if not 0 <= shift <= stated.allocated - bits:
        account.append(f"High Bit {stated.high} is impossible, {bits - 1} used")
        shift = 0
    if values.dtype.kind == "i" or values.dtype.itemsize > 2 or not values.dtype.isnative:
        # Signed values wrap here; the offset below corrects them.
        values = (values >> values.dtype.type(shift)).astype(np.uint16)
    elif shift:
        values = values >> values.dtype.type(shift)
    if bits < 8 * values.dtype.itemsize and (
        stated.signed or (findings.largest if findings else int(values.max(initial=0))) >> bits
    ):
        if not stated.signed:
            account.append(f"bits above the {bits} stored cleared (PS3.5 8.1.1)")
        values = values & values.dtype.type((1 << bits) - 1)
    if stated.signed:
        values = values ^ values.dtype.type(1 << (bits - 1))
    kind = np.uint8 if bits <= 8 else np.uint16
    return (values if values.dtype == kind else values.astype(kind)), stated


def _without_colour(
    where: object, values: np.ndarray, stated: Layout, account: list[str]
) -> np.ndarray:
    """Return one of three equal channels, or luma where chroma is flat.

    Raises `BadData` for an image with real colour.
    """
    middle, slack = 1 << (stated.bits - 1), max(1 << stated.bits >> 6, 1)
    first, second, third = (values[:, :, channel].astype(np.int32) for channel in range(3))
    for chroma in (False, True):
        off = [np.abs(one - (middle if chroma else first)) > slack for one in (second, third)]
        if (off[0] | off[1]).mean() <= _COLOURED:
            used = "its brightness" if chroma else "one of three equal channels"
            account.append(f"{stated.photometric} that is grey: {used} taken")
            return np.ascontiguousarray(values[:, :, 0])
    raise BadData(
        f"{where}: its pixels are {stated.photometric}, in colour; expected MONOCHROME1 or "
        "MONOCHROME2; export it in grey"
    )


def _with_palette(
    where: object,
    values: np.ndarray,
    palette: np.ndarray,
    stated: Layout,
    account: list[str],
) -> tuple[np.ndarray, Layout]:
    """Return the greys of a palette (PS3.3 C.7.6.3.1.5).

    Raises `BadData` where an entry in use is coloured.
    """
    used = np.flatnonzero(np.bincount(values.ravel(), minlength=len(palette)))
    if np.ptp(palette[used].astype(np.int32), axis=1).max() > np.iinfo(palette.dtype).max >> 6:
        raise BadData(
            f"{where}: its pixels are {PALETTE}, in colour; expected MONOCHROME1 or MONOCHROME2; "
            "export it in grey"
        )
    account.append("palette of greys applied")
    return palette[:, 0][values], replace(stated, bits=8 * palette.dtype.itemsize, signed=False)
