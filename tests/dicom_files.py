"""Small DICOM files that the tests write themselves: any header, any transfer syntax that can be
encoded.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ComputedRadiographyImageStorage

JPEG = "1.2.840.10008.1.2.4."
ENCODERS = {  # transfer syntax: encoder and how far values may be off
    JPEG + "50": (lambda values: imagecodecs.jpeg8_encode(values, level=98), 4),
    JPEG + "51": (lambda values: imagecodecs.jpeg8_encode(values, level=98, bitspersample=12), 24),
    **{
        f"{JPEG}57 p{predictor}": (
            lambda values, p=predictor: imagecodecs.jpeg8_encode(
                values, lossless=True, predictor=p, bitspersample=16
            ),
            0,
        )
        for predictor in range(1, 8)
    },
    JPEG + "70": (lambda values: imagecodecs.ljpeg_encode(values, bitspersample=16), 0),
    JPEG + "80": (imagecodecs.jpegls_encode, 0),
    JPEG + "81": (lambda values: imagecodecs.jpegls_encode(values, level=2), 2),
    JPEG + "90": (
        lambda values: imagecodecs.jpeg2k_encode(
            values, level=0, codecformat="j2k", reversible=True
        ),
        0,
    ),
    JPEG + "91": (
        lambda values: imagecodecs.jpeg2k_encode(values, level=90, codecformat="j2k"),
        24,
    ),
    JPEG + "201": (imagecodecs.htj2k_encode, 0),
    JPEG + "202": (imagecodecs.htj2k_encode, 0),
    JPEG + "203": (imagecodecs.htj2k_encode, 0),
    JPEG + "110": (
        lambda values: imagecodecs.jpegxl_encode(values, lossless=True, usecontainer=False),
        0,
    ),
}
STAND_INS = {
    JPEG + "110": JPEG + "201",
    "1.2.840.10008.1.2.8.1": JPEG + "90",
}  # of the same length, for those that pydicom does not write
NATIVE = {
    "1.2.840.10008.1.2": "implicit",
    "1.2.840.10008.1.2.1": "explicit",
    "1.2.840.10008.1.2.2": "big endian",
    "1.2.840.10008.1.2.1.99": "deflated",
}


def dataset(stored: np.ndarray, *, bits: int, signed: bool = False, **said) -> Dataset:
    """A CR image of nobody; `said` goes on top, None takes away."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.SOPClassUID, made.SOPInstanceUID, made.StudyInstanceUID, made.SeriesInstanceUID = (
        ComputedRadiographyImageStorage,
        "1.2.3.4",
        "1.2.3.5",
        "1.2.3.6",
    )
    made.Modality, made.PatientID, made.PatientName = "CR", "nobody", "Nobody"
    made.Rows, made.Columns = stored.shape[:2]
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = (
        (stored.ndim == 3 and 3) or 1,
        "MONOCHROME2",
        int(signed),
    )
    made.BitsAllocated, made.BitsStored, made.HighBit = 8 * stored.dtype.itemsize, bits, bits - 1
    for keyword, value in said.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    if "PixelPaddingValue" in made:
        for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
            if keyword in made:
                made[keyword].VR = "SS" if made[keyword].value < 0 else "US"
    return made


def write(
    path: Path,
    stored: np.ndarray,
    *,
    bits: int,
    syntax: str = "1.2.840.10008.1.2.1",
    stream: bytes | list[bytes] | None = None,
    **said,
) -> Path:
    """`stream`: the encoded image, or its fragments, in place of the encoder of `syntax`."""
    made = dataset(stored, bits=bits, **said)
    uid = syntax.split(" ")[0]
    made.file_meta.TransferSyntaxUID = STAND_INS.get(uid, uid)
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = (
        made.SOPClassUID,
        made.SOPInstanceUID,
    )
    if syntax in NATIVE:
        made.PixelData = stored.astype(
            stored.dtype.newbyteorder(">" if syntax.endswith(".2.2") else "<")
        ).tobytes()
        made["PixelData"].VR = "OB" if stored.dtype.itemsize == 1 else "OW"
    elif syntax == "1.2.840.10008.1.2.5" and stream is None:
        made.PixelData = stored.tobytes()
        made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        made.compress(syntax)
    elif isinstance(stream, list):
        made.PixelData = b"".join(
            struct.pack("<HHI", 0xFFFE, 0xE000, len(one)) + one for one in [b"", *stream]
        ) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    else:
        made.PixelData = encapsulate(
            [stream if stream is not None else ENCODERS[syntax][0](stored)]
        )
    if syntax not in NATIVE:
        made["PixelData"].VR, made["PixelData"].is_undefined_length = "OB", True
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    stand_in = STAND_INS.get(uid, uid).encode()
    path.write_bytes(buffer.getvalue().replace(stand_in, uid.encode().ljust(len(stand_in), b"\0")))
    return path


def lut(entries: list[int], first: int, bits: int) -> Dataset:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [len(entries), first, bits], entries
    item["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    item["LUTData"].VR = "US"
    return item
