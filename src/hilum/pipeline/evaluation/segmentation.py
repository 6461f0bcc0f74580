"""Found lungs against drawn ones: overlap and distance of each image, and their means with intervals.

Distances between outlines are in pixels of the cached pictures, and in millimetres too where the manifest tells the file's spacing (of
rows and columns as the picture stands; detectors have square pixels). They are nan where one of the two masks has no pixel, and
millimetres where no spacing is known. A mean is of the images that have a value: its figure counts these in `images`, counts in `missed`
those in which nothing of a drawn lung was found (their Dice is 0), and says in `warning` how many it leaves out and why. So a distance
that gets better because more lungs are missed can be told from one that is better.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from hilum.annotations import lung_masks
from hilum.annotations.image_scale import Scale, same_proportions
from hilum.config import Evaluate
from hilum.errors import Mismatch
from hilum.imaging.geometry import Letterbox, Size
from hilum.pipeline import cache
from hilum.pipeline.evaluation import estimate
from hilum.statistics.metrics import overlap, surface_distance

BOTH = "both"
Spacing = Mapping[str, tuple[float | None, float | None]]
DISTANCES = tuple(
    f"{metric}_{unit}" for unit in ("pixels", "mm") for metric in surface_distance.METRICS
)
PER_IMAGE = dict.fromkeys(("image_id", "part", "source", "side"), pl.String) | dict.fromkeys(
    (*overlap.METRICS, *DISTANCES), pl.Float64
)


def overlaps(
    table: pl.DataFrame,
    truth: cache.Cache,
    found: pl.DataFrame,
    masks: np.ndarray,
    spacing: Spacing | None = None,
    reference: Any = None,
) -> pl.DataFrame:
    """Agreement of found and drawn lungs of the tune and test images that have a mask, per image and side.

    Pixels that `reference`, the cached labels by row (`truth.masks` where it is not given), says to ignore count neither as found nor
    as drawn; `Cache.known_masks` knows them.

    `spacing`: millimetres between rows and between columns of the file's pixels, by image id; where it is not known, none or None.
    Raises `Mismatch` where lungs were found in some images and not looked for in others that have a mask.
    """
    row_of = dict(zip(found["image_id"], found["row"], strict=True))
    drawn = table.filter(
        (pl.col("part") != "train")
        & pl.col("image_id").is_in(truth.with_mask["image_id"].implode())
    )
    size_of = {
        image_id: size
        for image_id, *size in truth.index.select("image_id", "height", "width").iter_rows()
    }
    reference, rows = truth.masks if reference is None else reference, []
    if not row_of:  # no model: nothing is measured
        return pl.DataFrame(schema=PER_IMAGE)
    _refuse_unsearched(drawn["image_id"].to_list(), row_of)
    for image_id, part, source in drawn.select("image_id", "part", "source").iter_rows():
        known, got = reference[truth.rows([image_id])[0]], masks[row_of[image_id]]
        ignored = known == lung_masks.IGNORE
        expected, got = (np.where(ignored, np.uint8(0), one) for one in (known, got))
        in_mm = _cached_spacing(tuple(size_of[image_id]), truth.size, (spacing or {}).get(image_id))
        for side, lung in ((BOTH, None), *lung_masks.SIDES.items()):
            pair = (expected > 0, got > 0) if lung is None else (expected == lung, got == lung)
            rows.append(
                [
                    image_id,
                    part,
                    source,
                    side,
                    *(float(metric(*pair)) for metric in overlap.METRICS.values()),
                    *_distances(*pair, in_mm),
                ]
            )
    return pl.DataFrame(rows, schema=PER_IMAGE, orient="row")


def file_spacing(table: pl.DataFrame, index: pl.DataFrame) -> dict[str, tuple[float, float]]:
    """Millimetres between rows and between columns of each file's pixels, by image id; an image of
    which they are not known has no entry.

    A source states spacing for the size that it states, of which the file may be a smaller copy: it
    is scaled, and not known where the two have other proportions. `table`: the manifest's; `index`:
    the cache's, with the height and width of each file as the image stands.
    """
    stated = ("stated_height", "stated_width", "row_spacing_mm", "column_spacing_mm")
    told = table.select("image_id", *stated).drop_nulls(["row_spacing_mm", "column_spacing_mm"])
    told = told.join(index.select("image_id", "height", "width"), on="image_id", how="inner")
    found = {}
    for image_id, *given, rows_mm, columns_mm, height, width in told.drop_nulls(
        ["height", "width"]
    ).iter_rows():
        size = tuple(given) if None not in given else (height, width)
        if size == (width, height) and rows_mm == columns_mm:
            found[image_id] = (rows_mm, columns_mm)  # a DICOM that stands on its side in the file
        elif same_proportions(size, (height, width)):
            found[image_id] = Scale.between(size, (height, width)).spacing((rows_mm, columns_mm))
    return found


def _refuse_unsearched(image_ids: Sequence[str], row_of: Mapping[str, int]) -> None:
    lacking = [image_id for image_id in image_ids if image_id not in row_of]
    if lacking:
        some = ", ".join(lacking[:3])
        raise Mismatch(
            f"lungs were not looked for in {len(lacking)} of {len(image_ids)} images with a mask ({some}), "
            "so figures would leave them out: run `hilum segment` and `hilum evaluate` again"
        )


def _cached_spacing(
    size: Size, to: int, spacing: tuple[float | None, float | None] | None
) -> tuple[float, float] | None:
    """Millimetres between rows and columns of the cached picture of a file of (height, width) `size`."""
    if spacing is None or None in spacing or min(spacing) <= 0:
        return None
    return tuple(
        own * side / inner
        for own, side, inner in zip(spacing, size, Letterbox(size, to).inner, strict=True)
    )


def _distances(
    expected: np.ndarray, got: np.ndarray, in_mm: tuple[float, float] | None
) -> list[float]:
    """In the order of DISTANCES."""
    units = (surface_distance.PIXELS, in_mm)
    return [
        metric(expected, got, unit) if unit else float("nan")
        for unit in units
        for metric in surface_distance.METRICS.values()
    ]


def lung_figures(
    per_image: pl.DataFrame, table: pl.DataFrame, settings: Evaluate
) -> Iterator[dict[str, Any]]:
    """Yield the mean over images of each overlap and distance, by part, source and side.

    There are no millimetres where no image of a cell has any.
    """
    told = per_image.join(table.select("image_id", "group"), on="image_id", maintain_order="left")
    for part, source, rows in estimate.cells(told):
        for (side,), of_side in rows.group_by("side", maintain_order=True):
            values = {name: of_side[name].to_numpy() for name in (*overlap.METRICS, *DISTANCES)}
            missed, undrawn = _missed(of_side), np.isnan(values["recall"])
            reasons = {
                "the lungs were missed" if side == BOTH else "the lung was missed": missed,
                "no lung is drawn": undrawn,
                "no pixel spacing is known": ~missed & ~undrawn,
            }
            about = {"task": "lungs", "side": side, **estimate.place(part, source)}
            about["missed"] = int(np.count_nonzero(missed))
            shown = {
                name: of
                for name, of in values.items()
                if not (name.endswith("_mm") and np.isnan(of).all())
            }
            yield from estimate.means(settings, of_side, shown, about, reasons)


def _missed(rows: pl.DataFrame) -> np.ndarray:
    """Where a lung is drawn and nothing was found: recall is 0 of something, precision 0 of nothing."""
    precision, recall = rows["precision"].to_numpy(), rows["recall"].to_numpy()
    return ~np.isnan(recall) & np.isnan(precision)
