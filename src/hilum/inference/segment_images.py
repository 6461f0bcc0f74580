"""Lungs: find the lungs in pictures of one's own with the model that comes with Hilum, without a
run and without PyTorch.

    OUT/both/NAME.png      the file's own pixels: 255 inside a lung, 0 outside
    OUT/right/NAME.png     the same of the patient's right lung alone, and OUT/left/NAME.png of the
                           left one
    OUT/overlay/NAME.jpg   the picture as it was read, upright, at most OVERLAY pixels long: right
                           lung orange, left lung blue; a picture whose mask is doubtful has a red
                           frame
    OUT/lungs.csv          one row a picture that was read, sorted by name, see COLUMNS

Which files are images is decided by `hilum.imaging.files.find_images`, NAME by `hilum.imaging.files.portable_names`: the file's
name without its ending, below the folders that a folder given as argument holds, and longer where
two would have one name. So what is written does not depend on the order of the arguments. The table
is of one call: it names each output's image, and a later call into OUT writes it anew. Nothing is
ever written into a folder that is searched for images, and what was written there before is not
taken for images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hilum import storage
from hilum.annotations import eligibility, lung_masks
from hilum.errors import BadData, Mismatch, on_one_line
from hilum.imaging.batch.each_image import Say, Watch, for_each, unheard, unwatched
from hilum.imaging.batch.results_table import Table
from hilum.imaging.files import dicom, image_file, output_folder, raster
from hilum.imaging.files.find_images import collect
from hilum.imaging.geometry import Letterbox, resize
from hilum.imaging.radiograph import Radiograph, preprocess
from hilum.inference import acceptance, chest_measurements, lung_finder, orientation, pretrained
from hilum.inference.onnx_model import OnnxModel
from hilum.safety.path_names import as_text

OVERLAY = 1024
TABLE = "lungs.csv"
COLUMNS = (
    "image",
    "name",
    "height",
    "width",
    "right_pixels",
    "left_pixels",  # of the file's own
    "row_spacing_mm",
    "column_spacing_mm",  # from here on of the picture as it stands, upright and with square pixels
    "right_mm2",
    "left_mm2",
    "left_to_right",
    "thorax_width_pixels",
    "heart_width_pixels",
    "thorax_width_mm",
    "heart_width_mm",
    "width_ratio",
    "quality",
    "trusted",
    "quality_flags",
    "warning",
    "account",
)
_COLOURS = {lung_masks.RIGHT: (0, 166, 255), lung_masks.LEFT: (247, 214, 54)}  # blue, green, red
_RED = (60, 60, 230)
_TASK, _CONTENT = "lungs", "whole"


@dataclass(frozen=True)
class LungResult:
    """One picture's lungs: `own` labels in the file's own pixels, `standing` labels and radiograph
    as it was read, upright; `shown` and `labels` the picture and its lungs in the model's square,
    uint8 (size, size).
    """

    own: np.ndarray
    standing: np.ndarray
    radiograph: Radiograph
    image: np.ndarray
    labels: np.ndarray
    quality: float
    quality_flags: tuple[orientation.QualityFlag, ...]
    stated: acceptance.Stated  # by the file

    @property
    def trusted(self) -> bool:
        return self.quality >= lung_finder.GOOD


def segment_images(
    images: Sequence[str | Path],
    to: Path | None = None,
    *,
    model: Path | None = None,
    watch: Watch = unwatched,
    say: Say = unheard,
) -> tuple[list[dict[str, Any]], list[str]]:
    """A row (COLUMNS) of each image, and what is wrong with those that could not be read; the
    others are done all the same.

    `images` are files, folders, and patterns with *, ?, [] or **. With `to` masks, overlays and the
    table are written there. `say` hears what was passed over. Raises `NotFound` where there is no
    model, `Mismatch` for a model of another kind, `HilumError` where `to` lies in a folder that is
    searched, `BadData` for an image below `to`.
    """
    asked, out = chosen(model), output_folder.Output(to, "lungs")

    def work(path: Path, name: str) -> dict[str, Any]:
        seen = segment_image(asked, image_file.read(path), path)
        if out:
            write(out, name, seen)
        return _row(path, name, seen)

    found = collect(images, out.folders)
    table = Table(out, TABLE, COLUMNS, made_by=storage.digest_of_file(asked.path)) if out else None
    return for_each(found, work, title="lungs", watch=watch, say=say, table=table)


def chosen(path: Path | None = None) -> OnnxModel:
    """The lung model at `path`, or the one that comes with Hilum."""
    asked = OnnxModel(path) if path else pretrained.lung_model()
    if (asked.contract.task, asked.contract.content) != (_TASK, _CONTENT):
        raise Mismatch(
            f"{asked.path} is a model of {asked.contract.task} on {asked.contract.content}; expected one of lungs on whole pictures"
        )
    return asked


def segment_image(model: OnnxModel, file: raster.Raster | dicom.Dicom, path: Path) -> LungResult:
    """The lungs of one file that was read; none where all its pixels are alike. Raises `BadData`
    where it is too small or long for any.
    """
    radiograph, contract = file.radiograph(), model.contract
    if wrong := acceptance.impossible(radiograph.size):
        raise BadData(f"{path}: {wrong}")
    shown = preprocess(radiograph, contract.size, contract.normalisation)
    (doubts,) = orientation.quality_flags(
        orientation.describe_orientation(shown[None], [radiograph.size])
    )
    if radiograph.stored_values.min() == radiograph.stored_values.max():
        found = lung_finder.no_lungs(contract.size)
    else:
        found = lung_finder.segment_lungs(model, shown, radiograph.size)
    standing = lung_masks.upsample_labels(
        found.labels, found.likely, Letterbox(radiograph.size, contract.size).back
    )
    own, sure, stated = (
        image_file.to_native(file, standing, labels=True),
        lung_finder.is_unreliable(found.quality, doubts),
        stated_by(file),
    )
    if objection(stated):
        sure = min(sure, lung_finder.CAPS[orientation.STRANGE])
    return LungResult(own, standing, radiograph, shown, found.labels, sure, tuple(doubts), stated)


def stated_by(file: raster.Raster | dicom.Dicom) -> acceptance.Stated:
    """What a file states of its image."""
    return acceptance.Stated.of(
        file.header if isinstance(file, dicom.Dicom) else None, colour=file.colour
    )


def objection(stated: acceptance.Stated) -> str | None:
    """Why by its own statement a file is no frontal chest radiograph; None where it says nothing of
    the kind.
    """
    return eligibility.reason(stated.view, stated.body_part, stated.modality)


# -------------------------------------------------------------------------------------------------------------------- what is told


def _row(path: Path, name: str, seen: LungResult) -> dict[str, Any]:
    pixels = chest_measurements.measure(seen.standing)
    spacing = seen.radiograph.spacing_mm
    in_mm = chest_measurements.measure(seen.standing, spacing) if spacing else None
    right, left = (int((seen.own == side).sum()) for side in (lung_masks.RIGHT, lung_masks.LEFT))
    told = [
        as_text(path),
        name,
        *seen.own.shape,
        right,
        left,
        *(spacing or (None, None)),
        *((in_mm.right_area, in_mm.left_area) if in_mm else (None, None)),
        (in_mm or pixels).left_to_right,
        pixels.thorax_width,
        pixels.heart_width,
        *((in_mm.thorax_width, in_mm.heart_width) if in_mm else (None, None)),
        pixels.width_ratio,
        seen.quality,
        seen.trusted,
        ", ".join(doubt.fault for doubt in seen.quality_flags),
        _warning(seen),
        "; ".join(seen.radiograph.processing_log),
    ]
    return {column: _rounded(value) for column, value in zip(COLUMNS, told, strict=True)}


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def _warning(seen: LungResult) -> str:
    """Why a mask is not to be trusted; empty where it is."""
    told = [f"looks {doubt.words}" for doubt in seen.quality_flags]
    if stated := objection(seen.stated):
        told.append(f"the file states: {stated}")
    told += acceptance.warnings(seen.stated)
    if not seen.own.any():
        told.append("no lungs were found")
    elif not seen.trusted:
        told.append(f"the mask is doubtful: quality {seen.quality:.2f}, below {lung_finder.GOOD}")
    return "; ".join(told)


def lines(rows: Sequence[dict[str, Any]], to: Path) -> str:
    """The rows for a person, and where the rest lies."""
    return "\n".join(
        [*map(_line, rows), f"masks, overlays and table: {to.resolve()}"]
        if rows
        else ["no lungs were looked for: no picture could be read"]
    )


def _line(row: dict[str, Any]) -> str:
    areas = (
        f"right {row['right_mm2'] / 100:.0f} cm2, left {row['left_mm2'] / 100:.0f} cm2"
        if row["right_mm2"] is not None
        else (f"right {row['right_pixels']:,} pixels, left {row['left_pixels']:,}")
    )
    told = f"{on_one_line(row['image'])}: {areas}, quality {row['quality']:.2f}"
    return f"{told}; {row['warning']}" if row["warning"] else told


# -------------------------------------------------------------------------------------------------------------------- what is written


def write(out: output_folder.Output, name: str, seen: LungResult) -> None:
    masks: dict[str, Callable[[], np.ndarray]] = {
        "both": lambda: seen.own > 0,
        "right": lambda: seen.own == lung_masks.RIGHT,
        "left": lambda: seen.own == lung_masks.LEFT,
    }
    for folder, mask in masks.items():
        raster.write_png(out.path(folder, f"{name}.png"), mask())
    storage.write_bytes(out.path("overlay", f"{name}.jpg"), overlay(seen))


def overlay(seen: LungResult, *, framed: bool | None = None) -> bytes:
    """A JPEG; with a red frame where it is `framed`, as a doubtful mask is unless told otherwise."""
    scale = min(1.0, OVERLAY / max(seen.standing.shape))
    size = tuple(max(1, round(side * scale)) for side in seen.standing.shape)
    labels = resize(seen.standing, size, labels=True)
    grey = resize(seen.radiograph.pixels, size)
    low, high = np.quantile(grey, (0.005, 0.995))
    shown = cv2.cvtColor(
        (np.clip((grey - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8),
        cv2.COLOR_GRAY2BGR,
    )
    for side, colour in _COLOURS.items():
        contours, _ = cv2.findContours(
            (labels == side).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(shown, contours, -1, colour, max(1, round(max(size) / 300)), cv2.LINE_AA)
    if not seen.trusted if framed is None else framed:
        cv2.rectangle(
            shown, (0, 0), (size[1] - 1, size[0] - 1), _RED, max(1, round(max(size) / 80))
        )
    return cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
