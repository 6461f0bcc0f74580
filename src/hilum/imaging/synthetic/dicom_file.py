"""Write made-up pixels as a DICOM file, as a digital radiography system would."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from hilum import storage

_BITS = 12


def write_dicom(
    path: Path,
    stored: np.ndarray,
    study: str,
    instance: str,
    *,
    monochrome1: bool = False,
    **attributes: object,
) -> None:
    """Write an uncompressed 12-bit DX image of nobody, see `storage.add_bytes`.

    `stored` is uint16 (height, width) below 4096, bright is dense; as MONOCHROME1 the file has the
    inverted values. `study` and `instance` are UIDs; `attributes` are further ones by DICOM
    keyword.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = instance
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(instance)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, f"{study}.1"
    dataset.Modality, dataset.ViewPosition, dataset.ImagerPixelSpacing = "DX", "PA", [0.5, 0.5]
    dataset.PhotometricInterpretation = "MONOCHROME1" if monochrome1 else "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, _BITS, _BITS - 1
    dataset.WindowCenter, dataset.WindowWidth = 2 ** (_BITS - 1), 2**_BITS
    values = np.uint16(2**_BITS - 1) - stored if monochrome1 else stored
    dataset.PixelData = values.astype("<u2").tobytes()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    storage.add_bytes(path, stream.getvalue())
