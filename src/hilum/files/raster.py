"""PNG, JPEG and TIFF files: bytes to a `Radiograph`, to a mask, and to the facts an audit needs.

Decoding is by imagecodecs (libpng, libjpeg-turbo, libtiff), which keeps all bits. Values become [0, 1] by the file's own range:
0 to 255 for 8 bits; for 16 bits 0 to the smallest of 10, 12, 14 and 16 bits that holds the largest value, because detectors of 10
to 14 bits are stored in 16. A colour picture must be grey in colour's clothes; its channels are averaged. Alpha is dropped.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hilum import store
from hilum.errors import BadData
from hilum.radiograph import Radiograph

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
MOST_PIXELS = 200_000_000  # more is refused before it is decoded: no radiograph is that large, and it would exhaust the memory
_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"II*\x00": "tiff", b"MM\x00*": "tiff"}
_DEPTHS = (10, 12, 14, 16)


@dataclass(frozen=True)
class Raster:
    """A decoded file: `values` uint8 or uint16 (height, width), and what is known of the file."""

    values: np.ndarray
    account: tuple[str, ...]
    file_digest: str  # of the bytes
    pixel_digest: str  # of size, depth and values: equal for one picture in two files

    def radiograph(self) -> Radiograph:
        top = _range_top(self.values)
        return Radiograph(self.values.astype(np.float32) / top, None, (*self.account, f"values 0 to {top} become 0 to 1"))


def read(path: Path) -> Raster:
    """Decode one file. Raises `BadData` naming the file, what is wrong with it and what to do."""
    data = load(path)
    values, account = _grey(path, _decode(path, data))
    return Raster(values, account, store.digest(data), digest_of_pixels(values))


def load(path: Path) -> bytes:
    """All bytes of a file. Raises `BadData` where it cannot be opened."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadData(f"{path}: cannot be opened ({error.strerror}); check that it exists and may be read") from error


def digest_of_pixels(values: np.ndarray) -> str:
    pixels = hashlib.sha256(repr((values.shape, values.dtype.str)).encode() + np.ascontiguousarray(values).tobytes())
    return pixels.hexdigest()[: store.DIGEST_CHARACTERS]


def size(path: Path) -> tuple[int, int] | None:
    """Height and width from the head of a PNG file; None for other kinds and where there is none to read, which decoding tells."""
    try:
        with open(path, "rb") as stream:
            head = stream.read(24)
    except OSError:
        return None
    whole = head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) == 24
    return (int.from_bytes(head[20:24]), int.from_bytes(head[16:20])) if whole else None


def _decode(path: Path, data: bytes) -> np.ndarray:
    import imagecodecs

    if not data:
        raise BadData(f"{path}: the file is empty (0 bytes); copy it again")
    kind = next((kind for signature, kind in _SIGNATURES.items() if data.startswith(signature)), None)
    if kind is None:
        raise BadData(f"{path}: is not a PNG, JPEG or TIFF picture (it starts with {data[:8]!r}); remove it or give it its true ending")
    _refuse_giant(path, kind, data)
    try:
        return {"png": imagecodecs.png_decode, "jpeg": imagecodecs.jpeg_decode, "tiff": imagecodecs.tiff_decode}[kind](data)
    except Exception as error:
        raise BadData(f"{path}: the {kind.upper()} stream is broken or cut short ({error}); copy the file again from its source") from error


def _refuse_giant(path: Path, kind: str, data: bytes) -> None:
    if kind != "png" or len(data) < 24:
        return
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    if width * height > MOST_PIXELS:
        raise BadData(f"{path}: {height}x{width} pixels are more than the {MOST_PIXELS:,} that are read; shrink it first")


def _grey(path: Path, values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """uint8 or uint16 (height, width) of whatever came out of a decoder, and what was done."""
    account = [f"{values.dtype} {values.shape} decoded"]
    if values.dtype == bool:
        values = values.astype(np.uint8) * np.uint8(255)
    if values.dtype not in (np.uint8, np.uint16):
        raise BadData(f"{path}: holds {values.dtype} values; expected 8- or 16-bit whole numbers; save it as a grey PNG")
    if values.ndim == 3 and values.shape[2] in (2, 4):
        values = values[:, :, :-1]
        account.append("alpha dropped")
    if values.ndim == 3 and values.shape[2] == 3:
        values = np.round(values.mean(axis=2)).astype(values.dtype)
        account.append("three channels averaged")
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim != 2:
        raise BadData(f"{path}: has shape {values.shape}; expected one picture, grey or colour; save its one frame as a PNG")
    return values, tuple(account)


def _range_top(values: np.ndarray) -> int:
    if values.dtype == np.uint8:
        return 255
    largest = int(values.max())
    return next((1 << bits) - 1 for bits in _DEPTHS if largest < 1 << bits)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """uint8 or bool (height, width); bool becomes 0 and 255."""
    import imagecodecs

    store.write_bytes(path, imagecodecs.png_encode(pixels.astype(np.uint8) * np.uint8(255) if pixels.dtype == bool else pixels))
