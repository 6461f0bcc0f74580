"""Single images: read one, segment its lungs, classify it with the pretrained models."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hilum.annotations.lung_masks import AIR, LEFT, RIGHT
from hilum.api import _html
from hilum.api._arguments import one_file
from hilum.errors import BadData
from hilum.imaging.files import dicom, image_file, output_folder, raster
from hilum.imaging.geometry import Size
from hilum.imaging.radiograph import Radiograph, to_uint8
from hilum.inference import classify_images, segment_images
from hilum.inference.calls import FindingScore
from hilum.inference.delivery import Findings
from hilum.inference.site import Site
from hilum.runs import calibrate_site
from hilum.safety import addresses


@dataclass(frozen=True)
class Image:
    """One image file that was read: PNG, JPEG, TIFF, BMP, GIF or DICOM."""

    path: Path
    file: raster.Raster | dicom.Dicom
    radiograph: Radiograph

    @property
    def pixels(self) -> np.ndarray:
        """Brightness, float32 (height, width) in [0, 1], bright is dense."""
        return self.radiograph.pixels

    @property
    def size(self) -> Size:
        """(height, width) as displayed."""
        return self.radiograph.size

    @property
    def spacing_mm(self) -> tuple[float, float] | None:
        """Distance between rows and between columns; None where the file does not state it."""
        return self.radiograph.spacing_mm

    @property
    def processing_log(self) -> tuple[str, ...]:
        """What was applied to the stored values, in order."""
        return self.radiograph.processing_log

    def __repr__(self) -> str:
        height, width = self.size
        return f"Image({self.path.name}: {height} x {width} pixels)"

    def _repr_png_(self) -> bytes:
        import imagecodecs

        return bytes(imagecodecs.png_encode(to_uint8(self.pixels)))


@dataclass(frozen=True)
class Lungs:
    """The lungs of an image: bool masks (height, width) in the file's own pixels.

    `quality` estimates the Dice with reference masks, from 0 to 1; `quality_flags` say what may be
    wrong with the image, such as "inverted".
    """

    right: np.ndarray
    left: np.ndarray
    quality: float
    quality_flags: tuple[str, ...]
    overlay: bytes  # a JPEG of the image with the contours
    path: Path = field(repr=False)
    findings: Findings = field(repr=False)

    def to_dicom(
        self, folder: str | Path, *, labelmap: bool = False, viewer_compat: bool = False
    ) -> list[Path]:
        """Write segmentation, report of regions and secondary capture as DICOM; return their paths.

        The image must be DICOM: the objects belong to its study. Options are those of `hilum lungs
        --dicom`. Needs the extra [dicom]. Raises `BadData` for another image.
        """
        return _to_dicom(self.path, self.findings, folder, labelmap, viewer_compat)

    def __repr__(self) -> str:
        flags = f", {', '.join(self.quality_flags)}" if self.quality_flags else ""
        return f"Lungs(quality {self.quality:.2f}{flags})"

    def _repr_jpeg_(self) -> bytes:
        return self.overlay


@dataclass(frozen=True)
class Classification:
    """What the pretrained models report of an image.

    `scores` has one entry per model and finding, with the call, or None and `no_call`, the reason;
    `refused` says why no model was applied, "" where they were.
    """

    scores: tuple[FindingScore, ...]
    refused: str
    quality_flags: str
    lung_quality: float
    path: Path = field(repr=False)
    findings: Findings = field(repr=False)

    def to_dicom(
        self, folder: str | Path, *, labelmap: bool = False, viewer_compat: bool = False
    ) -> list[Path]:
        """Write segmentation, reports and secondary capture as DICOM; return their paths.

        The image must be DICOM: the objects belong to its study. Options are those of `hilum
        classify --dicom`. Needs the extra [dicom]. Raises `BadData` for another image.
        """
        return _to_dicom(self.path, self.findings, folder, labelmap, viewer_compat)

    def __repr__(self) -> str:
        if self.refused:
            return f"Classification(refused: {self.refused})"
        named = ", ".join(f"{one.concept} {_call(one)}" for one in self.scores)
        return f"Classification({named})"

    def _repr_html_(self) -> str:
        if self.refused:
            return _html.facts("refused", {"reason": self.refused})
        calls = {one.concept: _call(one) for one in self.scores}
        return _html.facts("classification", calls)


def _to_dicom(
    path: Path, findings: Findings, folder: str | Path, labelmap: bool, viewer_compat: bool
) -> list[Path]:
    from hilum.dicom_out.write import Options, write_results

    to = addresses.on_this_disk(folder)
    options = Options(labelmap=labelmap, viewer_compat=viewer_compat)
    return write_results(path, findings, to.joinpath, options)


def _call(one: FindingScore) -> str:
    warning = f" (warning: {one.warning})" if one.warning else ""
    return f"{one.call}{warning}" if one.call else f"no call: {one.no_call}"


@dataclass
class _Kept:
    """A delivery that keeps what was found, for `Classification.to_dicom`."""

    outputs: tuple[output_folder.Output, ...] = ()
    made_by: object = None
    findings: list[Findings] = field(default_factory=list)

    def refuse(self, path: Path, file: raster.Raster | dicom.Dicom) -> None:
        """Refuse no file."""

    def deliver(self, path: Path, name: str, findings: Findings) -> None:
        """Keep the findings of a file."""
        self.findings.append(findings)


def read_image(path: str | Path) -> Image:
    """Read one image file of any kind; the content decides which, not the name.

    Raises `BadData` with what is wrong with the file and what to do, `NotFound` where there is
    none, or a folder.

    >>> image = hilum.read_image(file)
    >>> image.pixels.dtype, image.pixels.shape == image.size
    (dtype('float32'), True)
    """
    place = one_file(path)
    file = image_file.read(place)
    return Image(place, file, file.radiograph())


def segment_lungs(image: Image | str | Path, *, protocol: str = AIR) -> Lungs:
    """Segment the lungs with the pretrained model. Needs no PyTorch.

    `protocol` "air" counts as lung what is seen as air, "full" also the lung behind the heart and
    the diaphragm. Raises as `read_image` does, and `Mismatch` for another protocol.

    >>> lungs = hilum.segment_lungs(file)
    >>> lungs.right.shape == hilum.read_image(file).size, 0 <= lungs.quality <= 1
    (True, True)
    """
    read = image if isinstance(image, Image) else read_image(image)
    model = segment_images.load_lung_model()
    found = segment_images.segment_image(model, read.file, read.path, protocol)
    return Lungs(
        right=found.native_labels == RIGHT,
        left=found.native_labels == LEFT,
        quality=found.quality,
        quality_flags=tuple(flag.fault for flag in found.quality_flags),
        overlay=segment_images.overlay(found),
        path=read.path,
        findings=segment_images.findings(found, read.file, model),
    )


def classify(image: Image | str | Path, *, site: Site | str | Path | None = None) -> Classification:
    """Classify an image with the pretrained models: a call of each finding, or why there is none.

    A model does not call what it does not know: images unlike its training images, people unlike
    those it was trained on. There is a score all the same, which is a probability only where
    `probability` is given. With `site`, a file of `hilum.calibrate`, its model alone is applied, at
    the threshold of that site. For research only. Raises as `read_image` does, and `Mismatch` for a
    site of another model.

    >>> result = hilum.classify(file)
    >>> bool(result.refused) != bool(result.scores)
    True
    """
    path = image.path if isinstance(image, Image) else one_file(image)
    known = Site.read(addresses.on_this_disk(site)) if isinstance(site, str | Path) else site
    kept = _Kept()
    found, faults = classify_images.classify_images([path], site=known, scores=True, delivery=kept)
    if faults:
        raise BadData(faults[0])
    (one,), (findings,) = found, kept.findings
    return Classification(
        tuple(one.scores), one.refused, one.quality_flags, one.lung_quality, path, findings
    )


def calibrate(
    model: str | Path,
    folder: str | Path,
    *,
    max_false_positives: float = 0.1,
    confidence: float = 0.95,
) -> Site:
    """Calibrate a pretrained model on a folder of one site's own images.

    With labels it chooses a threshold whose false positive rate at that site is at most
    `max_false_positives`, with `confidence`; in any case it describes what the site's images are
    like. Keep it with `site.write(path)` for `classify`; `site.notes` say what was left out, what
    is promised and how much more it would take. Raises `TooFew` where so few images cannot
    promise that, saying how many more it takes, and `NotFound` for an unknown model.

    >>> hilum.calibrate("tuberculosis", folder)
    Traceback (most recent call last):
    hilum.errors.TooFew: ...
    """
    return calibrate_site.calibrate_site(
        model,
        addresses.located(os.fspath(folder)),
        max_false_positives=max_false_positives,
        confidence=confidence,
    )
