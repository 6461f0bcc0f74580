"""DICOM pixel data to whole numbers: native, RLE, deflated frames and every compressed form that imagecodecs decodes.

Pixels of which some are missing, or of which there are more than the header tells, are refused: values are counted, fragments,
segments and tiles accounted for, and no other decoder is tried where one refuses.

`decode` gives stored values as uint8 or uint16 (height, width), unused high bits off; signed ones are raised by half of their range.
Bits beside Bits Stored are masked, overlays of old (PS3.5 8.1.1) among them. Where a compressed picture and the header disagree in
size, bits, sign or kind, the picture is believed, as PS3.5 8.2 wants, and the account says so. A transfer
syntax that is not known is refused: nothing says how its pixels are written. Colour that is grey (three equal channels, flat chroma, a palette of greys) becomes one channel.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hilum.errors import BadData
from hilum.imaging.files import (
    _dicom_lut,
    _dicom_object,
    _dicom_parsing,
    _dicom_stream,
    _jpeg_complete,
    _jpeg_stream,
    raster,
)
from hilum.imaging.files._dicom_elements import LONG_VRS, UNKNOWN_LENGTH
from hilum.imaging.files._raster_header import Unfit

if TYPE_CHECKING:
    from pydicom import Dataset

    from hilum.imaging.files._dicom_header import Header
    from hilum.imaging.files._dicom_parsing import Parsed

GREY, COLOUR = (
    ("MONOCHROME1", "MONOCHROME2"),
    ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_PARTIAL_422", "YBR_ICT", "YBR_RCT"),
)
PALETTE = "PALETTE COLOR"
_KINDS = {  # the kind of picture that a transfer syntax announces, by what follows 1.2.840.10008.1.2.4. (PS3.5 A.4)
    **{str(number): "jpeg" for number in range(50, 71)},
    "80": "jpegls",
    "81": "jpegls",
    **dict.fromkeys(("90", "91", "92", "93"), "jpeg2k"),
    **dict.fromkeys(("201", "202", "203"), "htj2k"),
    **dict.fromkeys(("110", "111", "112"), "jpegxl"),
}
_COMPRESSED = "1.2.840.10008.1.2.4."
RLE, DEFLATED_FRAME = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.8.1"
_NATIVE = frozenset(
    (
        None,
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2.2",
        "1.2.840.10008.1.2.1.99",
    )
)
_KNOWN = _NATIVE | {RLE, DEFLATED_FRAME, *(_COMPRESSED + number for number in _KINDS)}
_BLOCK = 512  # bytes of a block of a disk
_BELIEVED = 16  # times more or fewer pixels than the header tells, and a compressed picture is taken as broken
_COLOURED = (
    1e-3  # of the pixels may be coloured, a stamp or a mark, in a picture that counts as grey
)


@dataclass(frozen=True)
class Layout:
    """The image pixel module of a header (PS3.3 C.7.6.3), and where the pixels are."""

    rows: int
    columns: int
    samples: int
    planar: bool  # colour by plane, not by pixel
    allocated: int
    bits: int
    high: int
    signed: bool
    photometric: str
    syntax: str | None
    name: str  # of the syntax, for people
    big_endian: bool
    place: int  # of the value
    length: int
    vr: str
    palette: np.ndarray | None  # (2 ** bits, 3)

    @property
    def native(self) -> bool:
        return self.length != UNKNOWN_LENGTH and self.syntax in _NATIVE


@dataclass(frozen=True)
class Pixels:
    values: np.ndarray  # uint8 or uint16 (height, width)
    bits: int
    signed: bool  # raised by half of the range of `bits`
    processing_log: tuple[str, ...]


def layout(parsed: Parsed, header: Header, where: object) -> Layout:
    """Raises `BadData` for all that is not one grey image of at most 16 bits, or is written in a way that is not known."""
    dataset = parsed.dataset
    _refuse_others(header, where)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    photometric, samples = (
        str(dataset.PhotometricInterpretation),
        int(dataset.get("SamplesPerPixel") or 1),
    )
    if photometric not in (*GREY, *COLOUR, PALETTE) or samples != (
        3 if photometric in COLOUR else 1
    ):
        raise BadData(
            f"{where}: its pixels are {photometric} of {samples} samples; expected MONOCHROME1 or MONOCHROME2; export it in grey"
        )
    _within(where, rows, columns)
    bits, allocated = int(dataset.BitsStored), int(dataset.BitsAllocated)
    if allocated not in (8, 16, 32) or not 2 <= bits <= min(allocated, 16):
        raise BadData(
            f"{where}: has {bits} bits stored in {allocated}; expected 2 to 16 bits in 8, 16 or 32; export it again"
        )
    order = _dicom_parsing.byte_order(dataset)
    vr, value, length = _element(parsed.data, parsed.pixels, order)
    high, signed = dataset.get("HighBit"), bool(dataset.PixelRepresentation)
    return Layout(
        rows,
        columns,
        samples,
        bool(dataset.get("PlanarConfiguration")),
        allocated,
        bits,
        bits - 1 if high is None else int(high),
        signed,
        photometric,
        header.syntax,
        _syntax_name(header.syntax),
        order == "big",
        value,
        length,
        vr,
        _palette(dataset, bits, signed) if photometric == PALETTE else None,
    )


def _refuse_others(header: Header, where: object) -> None:
    if (reason := _dicom_object.reason(header)) is not None:
        several = reason.startswith(_dicom_object.MULTI_FRAME)
        remedy = (
            "export the frame you mean as a file of its own"
            if several
            else "take the file out of the folder"
        )
        raise BadData(
            f"{where}: holds {reason} ({_class_name(header)}), not a single image; expected one grey image of 8 to 16 bits; {remedy}"
        )
    if header.syntax not in _KNOWN:
        raise BadData(
            f"{where}: its transfer syntax is {header.syntax} ({_syntax_name(header.syntax)}), which is not read; "
            "expected one of the standard's for images; export the file uncompressed (Explicit VR Little Endian)"
        )


def _class_name(header: Header) -> str:
    from pydicom.uid import UID

    return UID(header.sop_class).name if header.sop_class else "of no stated kind"


def _syntax_name(syntax: str | None) -> str:
    from pydicom.uid import UID

    if syntax is None:
        return "no transfer syntax stated"
    return name if (name := UID(syntax).name) != syntax else "private or unknown"


def _within(where: object, rows: int, columns: int) -> None:
    if rows < 1 or columns < 1:
        raise ValueError(f"the compressed picture says that it has {rows}x{columns} pixels")
    if rows * columns > raster.MOST_PIXELS:
        raise BadData(
            f"{where}: {rows}x{columns} pixels are more than the {raster.MOST_PIXELS:,} that are read; shrink it first"
        )


def _element(data: memoryview, place: int, order: Literal["little", "big"]) -> tuple[str, int, int]:
    """VR, place and length of the pixels' value (PS3.5 7.1).

    Explicit or not is seen by the element itself, whatever the transfer syntax says: the low byte of a length of whole words
    is never a letter of a VR that pixels have.
    """
    vr = bytes(data[place + 4 : place + 6])
    if vr in (b"US", b"SS"):  # the short form, which no writer should use for pixels
        return vr.decode(), place + 8, int.from_bytes(data[place + 6 : place + 8], order)
    if vr in LONG_VRS and not any(data[place + 6 : place + 8]):
        return vr.decode(), place + 12, int.from_bytes(data[place + 8 : place + 12], order)
    return "OW", place + 8, int.from_bytes(data[place + 4 : place + 8], order)


def _palette(dataset: Dataset, bits: int, signed: bool) -> np.ndarray:
    """The colours of all stored values from the lowest on: uint16 (2 ** bits, 3), or uint8 where entries have 8 bits."""
    if "SegmentedRedPaletteColorLookupTableData" in dataset:
        from pydicom.pixels.processing import apply_color_lut

        return apply_color_lut(np.arange(1 << bits, dtype=np.uint16), dataset)
    stored = np.arange(1 << bits) - (1 << (bits - 1) if signed else 0)
    name = "{}PaletteColorLookupTable{}"
    tables = [
        _dicom_lut.table(dataset, name.format(colour, "Descriptor"), name.format(colour, "Data"))
        for colour in ("Red", "Green", "Blue")
    ]
    kind = (
        np.uint8
        if all(table.bits <= 8 and table.entries.max() < 256 for table in tables)
        else np.uint16
    )
    return np.stack([table.look_up(stored).astype(kind) for table in tables], axis=1)


def decode(parsed: Parsed, stated: Layout, where: object) -> Pixels:
    """Raises `BadData` for colour, whatever a decoder raises for broken streams."""
    account: list[str] = []
    if stated.native:
        if stated.place + stated.length > len(parsed.data):
            raise ValueError(
                f"their value states {stated.length:,} bytes; {len(parsed.data) - stated.place:,} are left"
            )
        values = _native(parsed.data[stated.place : stated.place + stated.length], stated, account)
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
    values, stated = _unsigned(values, stated, account)
    if stated.palette is not None:
        values, stated = _painted(where, values, stated, account)
    sign = "signed" if stated.signed else "unsigned"
    return Pixels(
        values,
        stated.bits,
        stated.signed,
        (f"{stated.bits}-bit {sign} {stated.name} decoded", *account),
    )


# ---------------------------------------------------------------------------------------------------------------------------- forms


def _native(data: memoryview, stated: Layout, account: list[str]) -> np.ndarray:
    """Values of uncompressed cells (PS3.5 8.1.1); no copy where they need no change."""
    kind = f"{'>' if stated.big_endian else '<'}u{stated.allocated // 8}"
    count = stated.rows * stated.columns * stated.samples
    if stated.photometric == "YBR_FULL_422":
        return _subsampled(_counted(data, stated.rows * stated.columns * 2), stated)
    if (
        stated.big_endian and stated.allocated == 8 and stated.vr == "OW"
    ):  # bytes of each word are swapped (PS3.5 A.3, 8.1.2)
        data = memoryview(np.frombuffer(data, "<u2", len(data) // 2).byteswap().tobytes())
    whole, data = len(data), _counted(data, count * stated.allocated // 8)
    if whole > len(data) + 1:
        account.append(f"{whole - len(data)} zeros behind the pixels left out")
    values = np.frombuffer(data, kind, count)
    if stated.samples == 3:
        return (
            values.reshape(3, stated.rows, stated.columns).transpose(1, 2, 0)
            if stated.planar
            else values.reshape(stated.rows, stated.columns, 3)
        )
    return values.reshape(stated.rows, stated.columns)


def _counted(data: memoryview, needed: int) -> memoryview:
    """The `needed` bytes, which another may fill up to a whole word (PS3.5 8.1.1), and zeros up to a whole block, as some writers do."""
    beyond = len(data) - needed
    if beyond < 0 or beyond >= _BLOCK or (beyond > needed % 2 and any(data[needed:])):
        raise ValueError(f"{len(data)} bytes, {needed} are needed")
    return data[:needed]


def _subsampled(data: memoryview, stated: Layout) -> np.ndarray:
    """Two brightnesses, then one pair of colours for both (PS3.3 C.7.6.3.1.2)."""
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
    """The one frame of encapsulated pixels."""
    from hilum.imaging.files import _dicom_fragments

    data, order = parsed.data, "big" if stated.big_endian else "little"
    if stated.length != UNKNOWN_LENGTH and not _dicom_fragments.encapsulated(
        data, stated.place, order
    ):
        return _counted(data[stated.place : stated.place + stated.length], stated.length)
    frame = _dicom_fragments.joined(data, stated.place, stated.length, order)
    lengths = parsed.dataset.get(
        "ExtendedOffsetTableLengths"
    )  # eight bytes for each frame (PS3.3 C.7.6.3.1.8)
    if lengths and (
        len(lengths) != 8 or not len(frame) - 1 <= int.from_bytes(lengths, order) <= len(frame)
    ):
        raise ValueError(
            f"its extended offset table tells of other frames than one of {len(frame)} bytes"
        )
    return frame


def _inflated(stream: memoryview, stated: Layout) -> bytes:
    """PS3.5 A.4.12: each frame deflated by itself. No more than the picture needs is inflated."""
    needed = stated.rows * stated.columns * stated.samples * stated.allocated // 8
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    cells = engine.decompress(stream, needed + 2)
    if not engine.eof or len(cells) > needed + needed % 2:
        raise ValueError(
            f"its deflated frame breaks off, or inflates to more than the {needed} bytes that are needed"
        )
    return cells


def _run_lengths(stream: memoryview, stated: Layout, account: list[str]) -> np.ndarray:
    """PS3.5 annex G. Segments are bytes of a sample, so colour comes by plane."""
    from hilum.imaging.files import _dicom_rle

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
    seen = _dicom_stream.parse_header(stream)
    if seen is None:
        raise ValueError("the compressed picture begins as none of the kinds that are read")
    _within(where, seen.height, seen.width)
    if (
        not stated.rows * stated.columns / _BELIEVED
        <= seen.height * seen.width
        <= stated.rows * stated.columns * _BELIEVED
    ):
        raise ValueError(
            f"Rows and Columns say {stated.rows}x{stated.columns}, the compressed picture {seen.height}x{seen.width}"
        )
    announced = _KINDS.get((stated.syntax or "").removeprefix(_COMPRESSED))
    if announced != seen.kind and {announced, seen.kind} != {"jpeg2k", "htj2k"}:
        account.append(f"the picture is {seen.kind}, whatever the transfer syntax says")
    values = _values(stream, seen, account)
    return _settled(stated, seen, values, account), values


def _values(stream: memoryview, seen: _dicom_stream.Stream, account: list[str]) -> np.ndarray:
    """What a compressed picture holds; the decoder's warnings are put into the account."""
    import imagecodecs

    if seen.kind == "jpeg":
        options = {"colorspace": "YCBCR", "outcolorspace": "YCBCR"} if seen.components == 3 else {}
        data = bytes(stream)
        return _jpeg_complete.decode(data, _jpeg_stream.parse(data), **options)
    if seen.kind in ("jpeg2k", "htj2k"):
        from hilum.imaging.files import _jpeg2k_complete

        values, warnings = _jpeg2k_complete.decode(stream, high_throughput=seen.kind == "htj2k")
        account += [f"decoder: {warning[:120]}" for warning in warnings[:3]]
        return values
    if seen.kind == "jpegls":
        if b"\xff\xd9" not in bytes(
            stream[-8:]
        ):  # CharLS searches on for seconds where the end is missing
            raise ValueError("its end marker is missing")
        return imagecodecs.jpegls_decode(stream)
    return imagecodecs.jpegxl_decode(stream)


def _settled(
    stated: Layout, seen: _dicom_stream.Stream, values: np.ndarray, account: list[str]
) -> Layout:
    """The layout with what the picture says in place of what the header says (PS3.5 8.2)."""
    height, width = values.shape[:2]
    if (height, width) != (stated.rows, stated.columns):
        account.append(
            f"Rows and Columns say {stated.rows}x{stated.columns}, the compressed picture is {height}x{width} (believed, PS3.5 8.2)"
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
            f"Bits Stored says {bits}, the compressed picture has {seen.bits} (believed, PS3.5 8.2)"
        )
        bits = seen.bits
    if seen.kind in ("jpeg2k", "htj2k") and seen.signed != signed and values.ndim == 2:
        if seen.signed:
            account.append(
                "Pixel Representation says unsigned, the compressed picture is signed (believed, PS3.5 8.2)"
            )
            bits, signed = min(max(bits, seen.bits or bits), 16), True
        else:  # writers that put two's complement into an unsigned picture: only so do its values fit a signed header
            account.append(
                f"Pixel Representation says signed, the compressed picture is unsigned: taken as two's complement of {bits} bits"
            )
    return replace(stated, rows=height, columns=width, bits=bits, high=bits - 1, signed=signed)


# --------------------------------------------------------------------------------------------------------------------------- values


def _unsigned(values: np.ndarray, stated: Layout, account: list[str]) -> tuple[np.ndarray, Layout]:
    """Without the bits beside Bits Stored; signed values raised by half of their range."""
    bits, shift = stated.bits, stated.high + 1 - stated.bits
    if not 0 <= shift <= stated.allocated - bits:
        account.append(f"High Bit {stated.high} cannot be, {bits - 1} taken")
        shift = 0
    if values.dtype.kind == "i" or values.dtype.itemsize > 2 or not values.dtype.isnative:
        values = (values >> values.dtype.type(shift)).astype(
            np.uint16
        )  # signed ones wrap, and are put right below
    elif shift:
        values = values >> values.dtype.type(shift)
    if bits < 8 * values.dtype.itemsize and (stated.signed or int(values.max(initial=0)) >> bits):
        if not stated.signed:
            account.append(f"bits above the {bits} stored left out (PS3.5 8.1.1)")
        values = values & values.dtype.type((1 << bits) - 1)
    if stated.signed:
        values = values ^ values.dtype.type(1 << (bits - 1))
    kind = np.uint8 if bits <= 8 else np.uint16
    return (values if values.dtype == kind else values.astype(kind)), stated


def _without_colour(
    where: object, values: np.ndarray, stated: Layout, account: list[str]
) -> np.ndarray:
    """One channel of three: brightness where the other two are flat chroma, else any where all are equal. Raises `BadData` for colour."""
    middle, slack = 1 << (stated.bits - 1), max(1 << stated.bits >> 6, 1)
    first, second, third = (values[:, :, channel].astype(np.int32) for channel in range(3))
    for chroma in (False, True):
        off = [np.abs(one - (middle if chroma else first)) > slack for one in (second, third)]
        if (off[0] | off[1]).mean() <= _COLOURED:
            account.append(
                f"{stated.photometric} that is grey: {'its brightness' if chroma else 'one of three equal channels'} taken"
            )
            return np.ascontiguousarray(values[:, :, 0])
    raise BadData(
        f"{where}: its pixels are {stated.photometric}, in colour; expected MONOCHROME1 or MONOCHROME2; export it in grey"
    )


def _painted(
    where: object, values: np.ndarray, stated: Layout, account: list[str]
) -> tuple[np.ndarray, Layout]:
    """Greys of a palette's entries (PS3.3 C.7.6.3.1.5). Raises `BadData` where those in use are coloured."""
    assert stated.palette is not None
    palette: Any = stated.palette
    used = np.flatnonzero(np.bincount(values.ravel(), minlength=len(palette)))
    if np.ptp(palette[used].astype(np.int32), axis=1).max() > np.iinfo(palette.dtype).max >> 6:
        raise BadData(
            f"{where}: its pixels are {PALETTE}, in colour; expected MONOCHROME1 or MONOCHROME2; export it in grey"
        )
    account.append("palette of greys applied")
    return palette[:, 0][values], replace(stated, bits=8 * palette.dtype.itemsize, signed=False)
