"""Segment the lungs in image files with the bundled model, without a run and without PyTorch.

    OUT/both/NAME.png      in the file's own pixels: 255 inside a lung, 0 outside
    OUT/right/NAME.png     the same for the patient's right lung alone; OUT/left/NAME.png for the
                           left one
    OUT/overlay/NAME.jpg   the image as it was read, upright, at most OVERLAY pixels long: right
                           lung orange, left lung blue; a red frame where the mask is unreliable
    OUT/lungs.csv          one row per image that was read, sorted by name, see COLUMNS

`hilum.imaging.files.find_images` decides which files are images,
`hilum.imaging.files.portable_names` what NAME is: the file's name without its extension, below the
subfolders of a folder given as argument, and longer where two images would share a name. So the
output does not depend on the order of the arguments. The table is of one call: it names each
output's image, and a later call into OUT replaces it. Nothing is ever written into a folder that is
searched for images, and files written earlier are not taken for images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict, cast

import cv2
import numpy as np

from hilum import storage
from hilum.annotations import eligibility, lung_masks
from hilum.errors import BadData, Mismatch, on_one_line
from hilum.imaging.batch.each_image import Say, Watch, for_each, unheard, unwatched
from hilum.imaging.batch.results_table import Table
from hilum.imaging.files import dicom, image_file, output_folder, raster
from hilum.imaging.files.find_images import collect
from hilum.imaging.geometry import resize
from hilum.imaging.perceptual_hash import dct_hash
from hilum.imaging.radiograph import Radiograph
from hilum.inference import (
    acceptance,
    age_group,
    chest_measurements,
    lung_finder,
    orientation,
    pretrained,
)
from hilum.inference.delivery import Delivery, Findings, ModelIdentity
from hilum.inference.examination import Examination, examine, pixels_of
from hilum.inference.onnx_model import OnnxModel
from hilum.safety.path_names import as_text

OVERLAY = 1024
TABLE = "lungs.csv"
_COLOURS = {lung_masks.RIGHT: (0, 166, 255), lung_masks.LEFT: (247, 214, 54)}  # blue, green, red
_RED = (60, 60, 230)
_TASK, _CONTENT = "lungs", "whole"


class Row(TypedDict):
    """A row of the table; None for what is not known, as where no spacing is stated."""

    image: str
    name: str
    height: int
    width: int
    right_pixels: int
    left_pixels: int  # up to here in the file's own pixels
    row_spacing_mm: float | None
    column_spacing_mm: float | None  # from here on of the upright image with square pixels
    right_mm2: float | None
    left_mm2: float | None
    left_to_right: float | None
    thorax_width_pixels: float | None
    heart_width_pixels: float | None
    thorax_width_mm: float | None
    heart_width_mm: float | None
    width_ratio: float | None
    protocol: str  # of lung_masks.PROTOCOLS
    quality: float
    trusted: bool
    quality_flags: str
    warning: str
    account: str


COLUMNS = tuple(Row.__annotations__)


@dataclass(frozen=True)
class LungResult:
    """The lungs of one image file.

    `examination` holds image and lungs in the model's square. `quality` is limited by what the file
    states of its image, too.
    """

    file: raster.Raster | dicom.Dicom
    radiograph: Radiograph  # the image as it was read
    examination: Examination
    quality: float
    stated: acceptance.Stated
    protocol: str

    @property
    def image(self) -> np.ndarray:
        """The image in the model's square, uint8 (size, size)."""
        return self.examination.image

    @property
    def labels(self) -> np.ndarray:
        """The lungs in the model's square, uint8 (size, size)."""
        return self.examination.lungs.labels

    @property
    def quality_flags(self) -> tuple[orientation.QualityFlag, ...]:
        """The suspected faults of the image."""
        return self.examination.quality_flags

    @cached_property
    def upright_labels(self) -> np.ndarray:
        """The lungs in the pixels of `radiograph`, uint8 (height, width)."""
        return self.examination.upright_labels()

    @cached_property
    def native_labels(self) -> np.ndarray:
        """The lungs in the file's own pixels, uint8 (height, width)."""
        return image_file.to_native(self.file, self.upright_labels, labels=True)

    @cached_property
    def age_group(self) -> str:
        """The age group by the image, see `age_group.classify`; "" where an age is stated."""
        return "" if self.stated.age_years is not None else age_group.classify(self.image)

    @cached_property
    def key(self) -> np.ndarray | None:
        """Its `hilum.imaging.perceptual_hash.dct_hash`, uint64 (4,); None for a single value."""
        return dct_hash(self.image, self.radiograph.size)

    @property
    def trusted(self) -> bool:
        """Whether the mask's estimated quality is good."""
        return self.quality >= lung_finder.GOOD


def segment_images(
    images: Sequence[str | Path],
    to: Path | None = None,
    *,
    model: Path | None = None,
    protocol: str = lung_masks.AIR,
    delivery: Delivery | None = None,
    watch: Watch = unwatched,
    say: Say = unheard,
) -> tuple[list[Row], list[str]]:
    """Segment each image; return a row (COLUMNS) per image and the faults of unreadable ones.

    `images` are files, folders, and patterns with *, ?, [] or **. An unreadable image does not stop
    the others. With `to`, masks, overlays and the table are written there. `protocol`, one of
    lung_masks.PROTOCOLS, says what counts as lung. `delivery` takes what was found in each image.
    `say` receives notes on skipped files. Raises `NotFound` where there is no model, `Mismatch` for
    a model of another kind or protocol, `HilumError` where `to` lies in a folder that is searched,
    `BadData` for an image below `to`.
    """
    finder, out = load_lung_model(model), output_folder.Output(to, "lungs")
    finder.lung_output(protocol)  # a model without it is refused before an image is read

    also = delivery.outputs if delivery else ()
    found = collect(images, output_folder.folders(out, *also))
    made_by: object = storage.digest_of_file(finder.path)
    if delivery:
        made_by = [made_by, delivery.made_by]
    table = Table[Row](out, TABLE, COLUMNS, made_by=made_by, also=also) if out else None
    work = _Segmenting(finder, protocol, out, delivery)
    return for_each(found, work, title="lungs", watch=watch, say=say, table=table)


@dataclass(frozen=True)
class _Segmenting:
    """Segments one file and writes its masks."""

    finder: OnnxModel
    protocol: str
    out: output_folder.Output
    delivery: Delivery | None

    def __call__(self, path: Path, name: str) -> Row:
        file = image_file.read(path)
        if self.delivery:
            self.delivery.refuse(path, file)
        result = segment_image(self.finder, file, path, self.protocol)
        if self.delivery:
            self.delivery.deliver(path, name, findings(result, file, self.finder))
        if self.out:
            write(self.out, name, result)
        return _row(path, name, result)


def load_lung_model(path: Path | None = None) -> OnnxModel:
    """Load the lung model at `path`, or the bundled one of that name; by default the bundled one.

    Raises `Mismatch` for another kind of model.
    """
    name = f"{path}.onnx" if path else pretrained.MODEL
    bundled = name in pretrained.LUNG_MODELS
    model = OnnxModel(path) if path and not bundled else pretrained.lung_model(name)
    if (model.contract.task, model.contract.content) != (_TASK, _CONTENT):
        raise Mismatch(
            f"{model.path} is a model of {model.contract.task} on {model.contract.content}; "
            f"expected one of lungs on whole images"
        )
    return model


def segment_image(
    model: OnnxModel,
    file: raster.Raster | dicom.Dicom,
    path: Path,
    protocol: str = lung_masks.AIR,
) -> LungResult:
    """Segment the lungs of one file; none are found where all its pixels are equal.

    Raises `BadData` for an image whose size or shape cannot be a chest's.
    """
    radiograph = file.radiograph()
    if wrong := acceptance.impossible_size(radiograph.size):
        raise BadData(f"{path}: {wrong}")
    examination = examine(radiograph, model, pixels_of(model.contract), protocol)
    quality, stated = examination.quality, stated_by(file)
    if objection(stated):
        quality = min(quality, lung_finder.CAPS[orientation.OUT_OF_DISTRIBUTION])
    return LungResult(file, radiograph, examination, quality, stated, protocol)


def findings(result: LungResult, file: raster.Raster | dicom.Dicom, model: OnnxModel) -> Findings:
    """Return the lungs of a file as they are delivered."""
    identity = ModelIdentity.of(model.path.name.removesuffix(".onnx"), model)
    return Findings(
        file, result.native_labels, result.quality, result.trusted, identity, result.protocol
    )


def stated_by(file: raster.Raster | dicom.Dicom) -> acceptance.Stated:
    """Return what a file states of its image."""
    header = file.header if isinstance(file, dicom.Dicom) else None
    return acceptance.Stated.of(header, colour=file.colour)


def objection(stated: acceptance.Stated) -> str | None:
    """Return why by its own statement a file is no frontal chest radiograph; None if it may be."""
    return eligibility.reason(stated.view, stated.body_part, stated.modality)


# ---------------------------------------------------------------------------- summaries


def _row(path: Path, name: str, result: LungResult) -> Row:
    pixels = chest_measurements.measure(result.upright_labels)
    spacing = result.radiograph.spacing_mm
    in_mm = chest_measurements.measure(result.upright_labels, spacing) if spacing else None
    # By the full protocol the lungs' inner borders lie behind the heart and say nothing of it.
    heart_seen = result.protocol == lung_masks.AIR
    values = [
        as_text(path),
        name,
        *result.native_labels.shape,
        int(np.count_nonzero(result.native_labels == lung_masks.RIGHT)),
        int(np.count_nonzero(result.native_labels == lung_masks.LEFT)),
        *(spacing or (None, None)),
        *((in_mm.right_area, in_mm.left_area) if in_mm else (None, None)),
        (in_mm or pixels).left_to_right,
        pixels.thorax_width,
        pixels.heart_width if heart_seen else None,
        in_mm.thorax_width if in_mm else None,
        in_mm.heart_width if in_mm and heart_seen else None,
        pixels.width_ratio if heart_seen else None,
        result.protocol,
        result.quality,
        result.trusted,
        ", ".join(flag.fault for flag in result.quality_flags),
        _warning(result),
        "; ".join(result.radiograph.processing_log),
    ]
    rounded = {name: _rounded(value) for name, value in zip(COLUMNS, values, strict=True)}
    return cast(Row, rounded)


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def _warning(result: LungResult) -> str:
    """Return why a mask is not to be trusted; empty where it is."""
    reasons = [f"appears {flag.words}" for flag in result.quality_flags]
    if stated := objection(result.stated):
        reasons.append(f"the file states: {stated}")
    reasons += acceptance.warnings(result.stated)
    if not result.native_labels.any():
        reasons.append("no lungs were found")
    elif not result.trusted:
        reasons.append(
            f"the mask is unreliable: quality {result.quality:.2f}, below {lung_finder.GOOD}"
        )
    return "; ".join(reasons)


def lines(rows: Sequence[Row], to: Path) -> str:
    """Format the rows for a person, and where the output is."""
    if not rows:
        return "no lungs were segmented: no image could be read"
    return "\n".join([*map(_line, rows), f"masks, overlays and table: {to.resolve()}"])


def _line(row: Row) -> str:
    areas = (
        f"right {row['right_mm2'] / 100:.0f} cm2, left {row['left_mm2'] / 100:.0f} cm2"
        if row["right_mm2"] is not None and row["left_mm2"] is not None
        else (f"right {row['right_pixels']:,} pixels, left {row['left_pixels']:,}")
    )
    summary = f"{on_one_line(row['image'])}: {areas}, quality {row['quality']:.2f}"
    return f"{summary}; {row['warning']}" if row["warning"] else summary


# ---------------------------------------------------------------------------- output files


def write(out: output_folder.Output, name: str, result: LungResult) -> None:
    """Write the masks and the overlay of one image."""
    labels = result.native_labels
    masks: dict[str, Callable[[], np.ndarray]] = {
        "both": lambda: labels > 0,
        "right": lambda: labels == lung_masks.RIGHT,
        "left": lambda: labels == lung_masks.LEFT,
    }
    for folder, mask in masks.items():
        raster.write_png(out.path(folder, f"{name}.png"), mask())
    storage.write_bytes(out.path("overlay", f"{name}.jpg"), overlay(result))


def overlay(result: LungResult, *, framed: bool | None = None) -> bytes:
    """Encode the image with the lungs' outlines as JPEG.

    It has a red frame where `framed`; by default where the mask is not trusted.
    """
    framed = not result.trusted if framed is None else framed
    scale = min(1.0, OVERLAY / max(result.upright_labels.shape))
    height, width = (max(1, round(side * scale)) for side in result.upright_labels.shape)
    labels = resize(result.upright_labels, (height, width), labels=True)
    grey = resize(result.radiograph.pixels, (height, width))
    canvas = draw_lungs(grey, labels, framed=framed)
    return cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()


def draw_lungs(grey: np.ndarray, labels: np.ndarray, *, framed: bool) -> np.ndarray:
    """Draw the outlines of lungs over an image, with a red frame where `framed`.

    `grey` is float32 (height, width) in [0, 1], `labels` of the same size. Returns uint8 (height,
    width, 3), blue first.
    """
    low, high = np.quantile(grey, (0.005, 0.995))
    canvas = cv2.cvtColor(
        (np.clip((grey - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8),
        cv2.COLOR_GRAY2BGR,
    )
    height, width = grey.shape
    longest = max(height, width)
    for side, colour in _COLOURS.items():
        contours, _ = cv2.findContours(
            (labels == side).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(canvas, contours, -1, colour, max(1, round(longest / 300)), cv2.LINE_AA)
    if framed:
        cv2.rectangle(canvas, (0, 0), (width - 1, height - 1), _RED, max(1, round(longest / 80)))
    return canvas
