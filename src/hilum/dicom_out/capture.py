"""A Secondary Capture (PS3.3 A.8) for people: the image with outlines, and the calls in words.

The image stands upright, at most `LONGEST` pixels long, above a strip of text; the text names no
patient. Every line is legible in grey and says what is not known as well as what is called.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2
import imagecodecs
import numpy as np

from hilum import __version__
from hilum.dicom_out.codes import finding_name
from hilum.dicom_out.conform import conform
from hilum.dicom_out.equipment import CAPTURE, NAME, RESEARCH, STATEMENT, Origin
from hilum.imaging.files import image_file
from hilum.imaging.geometry import Size, resize
from hilum.inference.segment_images import draw_lungs

if TYPE_CHECKING:
    from pydicom import Dataset

QUALITY = 90  # of the JPEG
LONGEST = 1024  # pixels of the image's longer side
NARROWEST = 480  # pixels that lines of text need
_FONT, _SCALE, _LINE = cv2.FONT_HERSHEY_SIMPLEX, 0.5, 20  # height of a line in pixels
_WHITE, _AMBER = (235, 235, 235), (255, 190, 60)
_MOST_LINES = 40
_NARROWER = 0.9  # than the average: a line may have wider characters than its sentence


def secondary_capture(origin: Origin) -> Dataset:
    """Return the Secondary Capture, in colours of 8 bits, as JPEG."""
    from highdicom.sc import SCImage
    from pydicom.uid import ExplicitVRLittleEndian

    pixels = drawn(origin)
    made = SCImage.from_ref_dataset(
        ref_dataset=origin.source.header,
        pixel_array=pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # replaced below: highdicom takes none that is empty
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **origin.instance(CAPTURE),
        **origin.device(),
    )
    made["PatientOrientation"].value = origin.source.displayed_orientation
    made.ConversionType = "WSD"
    made.SecondaryCaptureDeviceManufacturer = NAME
    made.SecondaryCaptureDeviceManufacturerModelName = NAME
    made.SecondaryCaptureDeviceSoftwareVersions = __version__
    made.BurnedInAnnotation = origin.source.header.get("BurnedInAnnotation", "NO")
    made.ImageComments = STATEMENT
    made.DerivationDescription = f"Outlines and calls by {NAME} {__version__} drawn on the source"
    _compress(made, pixels)
    return conform(made, origin, CAPTURE)


def _compress(made: Dataset, pixels: np.ndarray) -> None:
    """Replace the pixels by a JPEG of process 1, and state that it loses (PS3.3 C.7.6.1.1.5)."""
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    frame = imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels), level=QUALITY, subsampling="422")
    made.PixelData = encapsulate([bytes(frame)])
    made["PixelData"].VR, made["PixelData"].is_undefined_length = "OB", True
    made.PhotometricInterpretation = "YBR_FULL_422"
    made.LossyImageCompression = "01"
    made.LossyImageCompressionRatio = f"{pixels.size / len(frame):.4g}"
    made.LossyImageCompressionMethod = "ISO_10918_1"
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit


def drawn(origin: Origin) -> np.ndarray:
    """Return the image above the strip of text, uint8 (height, width, 3), red first."""
    file, findings = origin.source.file, origin.findings
    pixels = file.radiograph().pixels
    scale = min(1.0, LONGEST / max(pixels.shape))
    height, width = (max(1, round(side * scale)) for side in pixels.shape)
    size: Size = (height, width)
    labels = resize(image_file.to_display(file, findings.lungs), size, labels=True)
    framed = bool(findings.refused) or not findings.trusted
    image = draw_lungs(resize(pixels, size), labels, framed=framed)[:, :, ::-1]
    across = max(width, NARROWEST)
    lines = wrapped(origin, across - 20)
    canvas = np.zeros((height + 14 + _LINE * len(lines), across, 3), np.uint8)
    canvas[:height, (across - width) // 2 : (across - width) // 2 + width] = image
    for number, line in enumerate(lines, start=1):
        place = (10, height + 4 + _LINE * number - 4)
        colour = _AMBER if number == 1 else _WHITE
        cv2.putText(canvas, line, place, _FONT, _SCALE, colour, 1, cv2.LINE_AA)
    return canvas


def wrapped(origin: Origin, width: int) -> list[str]:
    """Return the lines of text, none wider than `width` pixels, in ASCII: the font has no more."""
    lines = []
    for sentence in sentences(origin):
        plain = sentence.encode("ascii", "replace").decode()
        # Measured, because fonts differ between versions of OpenCV.
        columns = max(20, int(width * len(plain) / _width(plain) * _NARROWER))
        lines += textwrap.wrap(plain, columns, subsequent_indent="    ")
    if len(lines) <= _MOST_LINES:
        return lines
    return [*lines[: _MOST_LINES - 1], "... the rest is in the structured report"]


def _width(text: str) -> int:
    (width, _), _ = cv2.getTextSize(text, _FONT, _SCALE, 1)
    return max(width, 1)


def sentences(origin: Origin) -> Iterator[str]:
    """Yield what the strip says, the statement of research first."""
    findings = origin.findings
    yield f"{RESEARCH} - not for diagnosis - {NAME} {__version__}"
    if findings.scores is not None and findings.refused:
        yield f"Not classified: {findings.refused}"
    for one in findings.scores or ():
        called = one.call or f"no call: {one.no_call}"
        yield f"{finding_name(one.concept)}: {called} [{one.model}]"
    for warning in dict.fromkeys(one.warning for one in findings.scores or () if one.warning):
        yield f"Warning: {warning}"
    if findings.lungs.any():
        state = "" if findings.trusted else ", unreliable"
        yield f"Lungs: estimated quality {findings.lung_quality:.2f}{state}"
    elif findings.lung_model:
        yield "Lungs: none were found"
    else:
        yield "Lungs: not segmented, there is no model of lungs"
