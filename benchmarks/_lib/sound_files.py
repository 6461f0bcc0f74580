"""Make a small sound file of every kind of image that Hilum reads, for `damaged_images`."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache

import cv2
import imagecodecs
import numpy as np

PIXELS = (
    np.add.outer(np.arange(48) * 2, np.arange(56))
    + np.random.default_rng(0).integers(0, 9, (48, 56))
).astype(np.uint8)
DEEP = PIXELS.astype(np.uint16) * 16
COLOUR = np.stack([PIXELS, 255 - PIXELS, PIXELS], -1)


@cache
def sound() -> dict[str, bytes]:
    """Return a small file of every kind, by name."""
    return {**rasters(), **dicoms()}


def rasters() -> dict[str, bytes]:
    png, jpeg, tiff = imagecodecs.png_encode, imagecodecs.jpeg8_encode, imagecodecs.tiff_encode
    alpha = np.full_like(PIXELS, 255)
    return {
        "grey.png": png(PIXELS),
        "deep.png": png(DEEP),
        "colour.png": png(COLOUR),
        "alpha.png": png(np.dstack([COLOUR, alpha])),
        "grey_alpha.png": png(np.dstack([PIXELS, alpha])),
        "palette.png": hand_png(4, 3, 0),
        "bits.png": hand_png(1, 0, 0),
        "interlaced.png": hand_png(8, 0, 1),
        "grey.jpg": jpeg(PIXELS),
        "colour.jpg": jpeg(COLOUR),
        "twelve.jpg": jpeg(DEEP >> 4, bitspersample=12),
        "lossless.jpg": jpeg(DEEP, lossless=True),
        "exif.jpg": with_exif(jpeg(PIXELS)),
        "grey.tif": tiff(PIXELS),
        "deep.tif": tiff(DEEP.copy(), byteorder=">"),
        "colour.tif": tiff(COLOUR),
        "lzw.tif": tiff(PIXELS, compression=5),
        "deflate.tif": tiff(DEEP, compression=8, predictor=True),
        "tiles.tif": tiff(DEEP, tile=(16, 16)),
        "packbits.tif": tiff(PIXELS, compression=32773),
        "jpeg.tif": tiff(PIXELS, compression=7),
        "zstd.tif": tiff(PIXELS, compression=50000),
        "big.tif": tiff(PIXELS, bigtiff=True),
        "white.tif": tiff(PIXELS, photometric=0),
        "fax.tif": tiff(PIXELS > 60, compression=4),
        "fax_3.tif": tiff(PIXELS > 60, compression=3, rowsperstrip=16),
        "huffman.tif": tiff(PIXELS > 60, compression=2),
        "strips.tif": tiff(PIXELS, compression=8, rowsperstrip=5),
        "planes.tif": tiff(
            np.moveaxis(COLOUR, 2, 0).copy(),
            photometric="rgb",
            planarconfig="separate",
            compression=5,
        ),
        "deep_interlaced.png": hand_png(16, 0, 1),
        "progressive.jpg": with_scans(),
        "extended.jpg": jpeg(PIXELS, level=60, optimize=True),
        "grey.bmp": opencv(".bmp", PIXELS),
        "colour.bmp": opencv(".bmp", COLOUR),
        "grey.gif": imagecodecs.gif_encode(PIXELS),
    }


def opencv(ending: str, pixels: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(ending, pixels, options)[1].tobytes()


def with_scans() -> bytes:
    return opencv(".jpg", PIXELS, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def hand_png(bits: int, kind: int, interlaced: int) -> bytes:
    """Return a form of PNG that the encoder does not write. All bytes are below 5, so that each
    could say a row's filter: where the rows of an interlaced one begin is left to the decoder.
    """
    rows = np.random.default_rng(1).integers(0, 5, (100, 1 + 56 * bits // 8)).astype(np.uint8)
    palette = chunk(b"PLTE", bytes(range(48))) if kind == 3 else b""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 56, 48, bits, kind, 0, 0, interlaced))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + palette
        + chunk(b"tIME", bytes(7))
        + chunk(b"IDAT", zlib.compress(rows.tobytes()))
        + chunk(b"IEND", b"")
    )


def with_exif(jpeg: bytes) -> bytes:
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, 6, 0, 0)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def dicoms() -> dict[str, bytes]:
    from pydicom import uid

    stored, grey = DEEP.tobytes(), PIXELS.tobytes()
    return {
        "explicit.dcm": dicom(uid.ExplicitVRLittleEndian, stored, 16, 12),
        "implicit.dcm": dicom(
            uid.ImplicitVRLittleEndian,
            stored,
            16,
            12,
            WindowCenter=1000,
            WindowWidth=1500,
            RescaleSlope=2,
            RescaleIntercept=-1024,
        ),
        "big_endian.dcm": dicom(uid.ExplicitVRBigEndian, DEEP.byteswap().tobytes(), 16, 12),
        "deflated.dcm": dicom(
            uid.DeflatedExplicitVRLittleEndian,
            stored,
            16,
            12,
            PhotometricInterpretation="MONOCHROME1",
        ),
        "signed.dcm": dicom(
            uid.ExplicitVRLittleEndian, stored, 16, 16, PixelRepresentation=1, PixelPaddingValue=-5
        ),
        "rle.dcm": dicom(uid.RLELossless, rle(PIXELS), 8, 8),
        "jpeg.dcm": dicom(uid.JPEGBaseline8Bit, imagecodecs.jpeg8_encode(PIXELS), 8, 8),
        "jpeg_lossless.dcm": dicom(
            uid.JPEGLosslessSV1, imagecodecs.jpeg8_encode(DEEP, lossless=True), 16, 16
        ),
        "jpeg_ls.dcm": dicom(uid.JPEGLSLossless, imagecodecs.jpegls_encode(DEEP), 16, 16),
        "jpeg_2000.dcm": dicom(
            uid.JPEG2000Lossless,
            imagecodecs.jpeg2k_encode(DEEP, codecformat="j2k", reversible=True),
            16,
            16,
        ),
        "htj2k.dcm": dicom(uid.HTJ2KLossless, imagecodecs.htj2k_encode(PIXELS), 8, 8),
        "htj2k_tiles.dcm": dicom(
            uid.HTJ2KLossless, imagecodecs.htj2k_encode(DEEP, tile=(16, 32), tilepart=1), 16, 16
        ),
        "j2k_lossy.dcm": dicom(
            uid.JPEG2000, imagecodecs.jpeg2k_encode(PIXELS, level=40, codecformat="j2k"), 8, 8
        ),
        "progressive.dcm": dicom(uid.JPEGBaseline8Bit, with_scans(), 8, 8),
        "fragments.dcm": dicom(
            uid.JPEGLSLossless, imagecodecs.jpegls_encode(PIXELS), 8, 8, fragments=3
        ),
        "rle_16.dcm": dicom(
            uid.RLELossless,
            rle((DEEP >> 8).astype(np.uint8), (DEEP & 255).astype(np.uint8)),
            16,
            12,
        ),
        "plain.dcm": dicom(uid.ExplicitVRLittleEndian, grey, 8, 8, VOILUTSequence=True),
    }


def rle(*planes: np.ndarray) -> bytes:
    """Return segments of DICOM's run lengths (PS3.5 G), of literal runs only."""
    segments, places = [], [64]
    for plane in planes:
        data = plane.tobytes()
        runs = b"".join(
            bytes([len(run) - 1]) + run
            for run in (data[at : at + 128] for at in range(0, len(data), 128))
        )
        segments.append(runs + b"\0" * (len(runs) % 2))
        places.append(places[-1] + len(segments[-1]))
    return struct.pack("<16I", len(planes), *places[:-1], *[0] * (15 - len(planes))) + b"".join(
        segments
    )


def dicom(
    syntax: str, pixels: bytes, allocated: int, stored: int, fragments: int = 1, **more: object
) -> bytes:
    from pydicom import Dataset, Sequence
    from pydicom.dataset import FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = UID(syntax)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3.4"
    (
        data.StudyInstanceUID,
        data.SeriesInstanceUID,
        data.PatientID,
        data.Modality,
        data.PatientAge,
    ) = (
        "1.2.3",
        "1.2.5",
        "made up",
        "CR",
        "045Y",
    )
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = (
        48,
        56,
        1,
        "MONOCHROME2",
    )
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = (
        allocated,
        stored,
        stored - 1,
        0,
    )
    data.PixelSpacing = [0.2, 0.2]
    if more.pop("VOILUTSequence", None):
        item = Dataset()
        item.LUTDescriptor, item.LUTData = [256, 0, 8], bytes(range(256))
        item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
        data.VOILUTSequence = Sequence([item])
    for keyword, value in more.items():
        setattr(data, keyword, value)
    data.PixelData = (
        encapsulate([pixels], fragments_per_frame=fragments)
        if UID(syntax).is_encapsulated
        else pixels
    )
    data["PixelData"].VR = "OW" if allocated == 16 or UID(syntax).is_encapsulated else "OB"
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
