"""Compare predicted lungs with reference masks: overlap and distance by image, means with
intervals.

Two grids are measured, and each row of `metrics.parquet` says which: `CACHED`, the letterboxed
square that the segmenter sees (256 pixels by default), and `FILE`, the pixels of each image's
file (`hilum.pipeline.evaluation.file_grid`). Distances between outlines are in pixels of that
grid, and in millimetres too where the manifest states the file's spacing, between rows and
between columns in display orientation. They are nan where one of the two masks is empty, and
millimetres where no spacing is known.

A mean is over the images that have a value. Its row counts these in `images`, counts in `missed`
the images in which a lung of the reference mask was not found at all (their Dice is 0), and
states in `warning` how many are left out and why. So a distance that falls because more lungs
are missed can be distinguished from one that improves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from hilum.annotations import lung_masks
from hilum.annotations.image_scale import Scale, same_proportions
from hilum.config import Evaluate
from hilum.dataset.pixel_cache import Cache, MasksWithIgnore
from hilum.errors import Mismatch
from hilum.imaging.geometry import Letterbox, Size
from hilum.imaging.image_stack import ImageStack
from hilum.pipeline.evaluation import estimate
from hilum.pipeline.evaluation.estimate import EstimateRow
from hilum.statistics.metrics import overlap, surface_distance

BOTH = "both"
CACHED, FILE = "cached", "file"
Spacing = Mapping[str, tuple[float | None, float | None]]
Distances = Callable[[np.ndarray, np.ndarray, tuple[float, float] | None], list[float]]
DISTANCES = tuple(
    f"{metric}_{unit}" for unit in ("pixels", "mm") for metric in surface_distance.METRICS
)
PER_IMAGE = dict.fromkeys(("image_id", "part", "source", "side"), pl.String) | dict.fromkeys(
    (*overlap.METRICS, *DISTANCES), pl.Float64
)


def overlaps(
    table: pl.DataFrame,
    truth: Cache,
    found: pl.DataFrame,
    masks: np.ndarray | ImageStack,
    spacing: Spacing | None = None,
    reference: np.ndarray | ImageStack | MasksWithIgnore | None = None,
) -> pl.DataFrame:
    """Compare lungs in the cached pixels, for each tune and test image with a reference mask.

    `found`: image_id and row of each predicted mask in `masks`, uint8 (n, size, size). `spacing`:
    millimetres between rows and between columns of the file's pixels, by image id; None where it is
    not known. `reference`: cached labels by row, by default `truth.masks`; pixels that it marks as
    ignored (`Cache.known_masks` does) count neither as found nor as reference.

    Returns rows of `PER_IMAGE`. Raises `Mismatch` where some image with a mask has no prediction.
    """
    row_of = dict(zip(found["image_id"], found["row"], strict=True))
    if not row_of:  # no model: nothing is measured
        return pl.DataFrame(schema=PER_IMAGE)
    measured = table.filter(
        (pl.col("part") != "train")
        & pl.col("image_id").is_in(truth.with_mask["image_id"].implode())
    )
    _refuse_unsearched(measured["image_id"].to_list(), row_of)
    sizes = {
        image_id: (int(height), int(width))
        for image_id, height, width in truth.index.select("image_id", "height", "width").iter_rows()
        if height is not None
    }
    labels = truth.masks if reference is None else reference
    rows = []
    for image_id, part, source in measured.select("image_id", "part", "source").iter_rows():
        expected = labels[truth.rows([image_id])[0]]
        in_mm = _cached_spacing(sizes[image_id], truth.size, (spacing or {}).get(image_id))
        for side in measured_sides(expected, masks[row_of[image_id]], in_mm, _distances):
            rows.append([image_id, part, source, *side])
    return pl.DataFrame(rows, schema=PER_IMAGE, orient="row")


def measured_sides(
    expected: np.ndarray,
    found: np.ndarray,
    in_mm: tuple[float, float] | None,
    distances: Distances,
) -> Iterator[list[float | str]]:
    """Yield side, overlaps and distances of two label maps (height, width): both lungs, then each.

    Where `expected` is `IGNORE`, neither counts.
    """
    ignored = expected == lung_masks.IGNORE
    expected, found = (np.where(ignored, np.uint8(0), one) for one in (expected, found))
    for side, lung in ((BOTH, None), *lung_masks.SIDES.items()):
        pair = (expected > 0, found > 0) if lung is None else (expected == lung, found == lung)
        ratios = [float(metric(*pair)) for metric in overlap.METRICS.values()]
        yield [side, *ratios, *distances(*pair, in_mm)]


def file_spacing(table: pl.DataFrame, index: pl.DataFrame) -> dict[str, tuple[float, float]]:
    """Return millimetres between rows and between columns of each file's pixels, by image id.

    An image of which they are not known has no entry. A source states spacing for the size that it
    states, of which the file may be a smaller copy: it is then scaled, and not known where the two
    have other proportions. `table`: the manifest's; `index`: the cache's, with the height and width
    of each file in display orientation.
    """
    columns = ("stated_height", "stated_width", "row_spacing_mm", "column_spacing_mm")
    stated = table.select("image_id", *columns).drop_nulls(["row_spacing_mm", "column_spacing_mm"])
    stated = stated.join(index.select("image_id", "height", "width"), on="image_id", how="inner")
    found = {}
    for image_id, *given, rows_mm, columns_mm, height, width in stated.drop_nulls(
        ["height", "width"]
    ).iter_rows():
        size = (given[0], given[1]) if None not in given else (height, width)
        if size == (width, height) and rows_mm == columns_mm:
            found[image_id] = (rows_mm, columns_mm)  # a DICOM file rotated by a quarter turn
        elif same_proportions(size, (height, width)):
            found[image_id] = Scale.between(size, (height, width)).spacing((rows_mm, columns_mm))
    return found


def _refuse_unsearched(image_ids: Sequence[str], row_of: Mapping[str, int]) -> None:
    lacking = [image_id for image_id in image_ids if image_id not in row_of]
    if lacking:
        some = ", ".join(lacking[:3])
        raise Mismatch(
            f"{len(lacking)} of {len(image_ids)} images with a reference mask have no predicted "
            f"lungs ({some}), so figures would leave them out: run `hilum segment` and "
            f"`hilum evaluate` again"
        )


def _cached_spacing(
    size: Size, to: int, spacing: tuple[float | None, float | None] | None
) -> tuple[float, float] | None:
    """Return millimetres between rows and columns of the cached image of a file of `size`."""
    known = known_spacing(spacing)
    if known is None:
        return None
    inner = Letterbox(size, to).inner
    return known[0] * size[0] / inner[0], known[1] * size[1] / inner[1]


def known_spacing(
    spacing: tuple[float | None, float | None] | None,
) -> tuple[float, float] | None:
    """Return a spacing of two positive numbers, or None."""
    if (
        spacing is None
        or spacing[0] is None
        or spacing[1] is None
        or min(spacing[0], spacing[1]) <= 0
    ):
        return None
    return spacing[0], spacing[1]


def _distances(
    expected: np.ndarray, found: np.ndarray, in_mm: tuple[float, float] | None
) -> list[float]:
    """Return the distances in the order of DISTANCES."""
    unknown = dict.fromkeys(surface_distance.METRICS, float("nan"))
    measured = [
        surface_distance.of_masks(expected, found, unit) if unit else unknown
        for unit in (surface_distance.PIXELS, in_mm)
    ]
    return [one[name] for one in measured for name in surface_distance.METRICS]


def lung_figures(
    per_image: pl.DataFrame, table: pl.DataFrame, settings: Evaluate, grid: str = CACHED
) -> Iterator[EstimateRow]:
    """Yield the mean over images of each overlap and distance, by part, source and side.

    `per_image`: rows of `PER_IMAGE`, measured on `grid`. Where no image of a cell has a spacing,
    there is no row in millimetres.
    """
    grouped = per_image.join(
        table.select("image_id", "group"), on="image_id", maintain_order="left"
    )
    for part, source, rows in estimate.cells(grouped):
        for (side,), of_side in rows.group_by("side", maintain_order=True):
            values = {name: of_side[name].to_numpy() for name in (*overlap.METRICS, *DISTANCES)}
            missed, unlabelled = _missed(of_side), np.isnan(values["recall"])
            reasons = {
                "the lungs were missed" if side == BOTH else "the lung was missed": missed,
                "no lung is drawn": unlabelled,
                "no pixel spacing is known": ~missed & ~unlabelled,
            }
            about: EstimateRow = {
                "task": "lungs",
                "side": str(side),
                "grid": grid,
                "missed": int(np.count_nonzero(missed)),
                **estimate.place(part, source),
            }
            shown = {
                name: of
                for name, of in values.items()
                if not (name.endswith("_mm") and np.isnan(of).all())
            }
            yield from estimate.means(settings, of_side, shown, about, reasons)


def _missed(rows: pl.DataFrame) -> np.ndarray:
    """Return where nothing was found of a lung in the reference mask, bool (rows,).

    There recall is 0 of something, and precision undefined, 0 of nothing.
    """
    precision, recall = rows["precision"].to_numpy(), rows["recall"].to_numpy()
    return ~np.isnan(recall) & np.isnan(precision)
