"""Decode an image file with other decoders, for comparison with Hilum's pixels.

OpenCV is always there. Pillow, and pydicom's plug-ins (pylibjpeg, gdcm), are used where they can be
imported; they are no dependencies of Hilum.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from hilum.imaging.files.dicom import Dicom
from hilum.imaging.files.raster import Raster

LOSSY = 3  # by which decoders of lossy images may differ: they round otherwise


def compared(file: Raster | Dicom, data: bytes) -> Iterator[tuple[str, str]]:
    """Yield name of each decoder and "equal", "refused", "other form" or how its pixels differ."""
    if isinstance(file, Dicom):
        if file.pose.drawn_out:  # its pixels are interpolated
            return
        yield (
            "pydicom",
            _outcome(lambda: _by_pydicom(file, data), file.pose.back(file.values), data),
        )
        return
    if any("orientation" in line or "inverted" in line for line in file.processing_log):
        return
    yield "OpenCV", _outcome(lambda: _by_opencv(data), file.values, data)
    try:
        import PIL  # noqa: F401
    except ImportError:
        return
    yield "Pillow", _outcome(lambda: _by_pillow(data), file.values, data)


def _outcome(theirs: Callable[[], np.ndarray | None], ours: np.ndarray, data: bytes) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = theirs()
    except Exception:  # noqa: BLE001 - whatever another decoder raises, it refuses
        return "refused"
    if values is None:
        return "refused"
    if values.shape != ours.shape or values.dtype.itemsize < ours.dtype.itemsize:
        return f"other form: {values.dtype} {values.shape}, {ours.dtype} {ours.shape} here"
    slack = LOSSY if _lossy(data) else 0
    differing = np.count_nonzero(np.abs(values.astype(np.int64) - ours) > slack)
    return f"{differing} pixels differ" if differing else "equal"


def _lossy(data: bytes) -> bool:
    """Return whether a JPEG of a lossy kind is in it."""
    return any(data.find(marker) >= 0 for marker in (b"\xff\xc0", b"\xff\xc1", b"\xff\xc2"))


def _grey(values: np.ndarray) -> np.ndarray:
    """Return (height, width) as Hilum makes it of one to four channels."""
    if values.ndim == 2:
        return values
    colour = values[:, :, : values.shape[2] - 1 + values.shape[2] % 2]
    total = colour.astype(np.uint32).sum(axis=2)
    mean = total if colour.shape[2] == 1 else (total + 1) // 3
    return mean.astype(values.dtype)


def _by_opencv(data: bytes) -> np.ndarray | None:
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    values = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return None if values is None else _grey(values)


def _by_pillow(data: bytes) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        if image.mode == "1":
            return np.asarray(image).astype(np.uint8) * 255
        if image.mode == "P":
            image = image.convert("RGB")
        return _grey(np.asarray(image))


def _by_pydicom(file: Dicom, data: bytes) -> np.ndarray:
    from pydicom import dcmread
    from pydicom.pixels import get_decoder

    dataset = dcmread(io.BytesIO(data), force=True)
    decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    values, meta = decoder.as_array(dataset, index=0, raw=True)
    signed = bool(meta["pixel_representation"])
    bits = file.lut.size.bit_length() - 1  # of the compressed image where the header states less
    values = values.astype(np.int64) & ((1 << bits) - 1)
    if signed:
        values ^= 1 << (bits - 1)
    return values
