"""JPEG inside TIFF (compression 7, TIFF Technical Note 2): strips or tiles of which values are missing.

libtiff fills what is missing with grey, as libjpeg does, and its warning does not reach here. Each
strip or tile is a JPEG of its own, whose tables may be kept once for all in the tag JPEGTables.
"""

from __future__ import annotations

from collections.abc import Sequence

from hilum.files import _jpeg_stream, _jpeg_whole

_START, _END = b"\xff\xd8", b"\xff\xd9"


def refuse_missing(data: bytes, places: Sequence[int], sizes: Sequence[int], tables: bytes) -> None:
    """Raise `ValueError` where a strip or tile at `places` is not whole. `tables` may be empty."""
    shared = tables.removeprefix(_START).removesuffix(_END)
    for number, (place, size) in enumerate(zip(places, sizes, strict=True), 1):
        stream = data[place : place + size]
        if not stream.startswith(_START):
            raise ValueError(f"strip {number} of {len(places)} is no JPEG")
        stream = _START + shared + stream.removeprefix(_START)
        try:
            _jpeg_whole.decode(stream, _jpeg_stream.parse(stream))
        except _jpeg_whole.Missing as fault:
            raise ValueError(f"of strip {number} of {len(places)}, {fault}") from fault
