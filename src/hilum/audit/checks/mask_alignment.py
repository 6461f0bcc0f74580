"""Check lung masks against their images: an outline that was shifted, or is another image's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from hilum import storage
from hilum.audit.checks import _mask_contours
from hilum.audit.issues import Issue, Rule
from hilum.dataset.manifest import Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.plugins import Card
from hilum.statistics.folds import by_digest

CARD = Card(
    title="Alignment of lung masks",
    caveats="Estimated from the edges of the image and from the other masks of the data set, so it "
    "points to masks worth reviewing and is never certain: of carefully annotated masks two to "
    "four in a hundred are named, most of them of opacified or unusual lungs. A shift of less than "
    "a thirtieth of the side, or a mask of another image that happens to fit, is not detected. In "
    "a data set with fewer than 40 masks only gross mismatches are.",
)
SHIFTED = Rule(
    "mask-shifted",
    "warning",
    "A mask would fit its image better at another position.",
    "A model trained on a shifted outline takes ribs for lung, and a good model is measured as a "
    "bad one.",
    "Review the image with its mask. If it is shifted, export the mask again without cropping or "
    "padding that was not applied to the image.",
    correction="leave out mask",
)
MISFIT = Rule(
    "mask-misfit",
    "warning",
    "A mask does not follow the edges of its image, or is not what the other masks of the data set "
    "predict.",
    "It may be the mask of another image; a model is trained on it, and evaluated with it.",
    "Review the image with its mask; check that the names agree, or draw it again.",
    correction="leave out mask",
)
RULES = (SHIFTED, MISFIT)

FEWEST = 40  # masks of a source from which others can be predicted
# Masks that the regression is fitted to, and other masks that are compared with each image; both
# are spread over the data set.
FITTED, PANEL = 1200, 32
# Fraction of the side between a mask's position and its best one, beyond the source's median.
FARTHEST = 0.027
GAIN = 0.03  # of agreement by moving the mask there
# Fraction of the other masks' score on the image that is subtracted: some images agree with any
# lung mask.
FRACTION_OF_OTHERS = 0.6
UNLIKELY = -2.75  # standard deviations of a source's scores
GROSS = 0.1  # of agreement, below which an outline follows nothing
MEASURES = ("agreement", "best", "down", "right", "alike", "others_agreement", "others_alike")


def check(manifest: Manifest, facts: pl.DataFrame, cache: Cache | None = None) -> Iterator[Issue]:
    """Yield issues of masks that do not fit their images, by source; none without a cache."""
    if cache is None or not cache.with_mask.height:
        return
    annotated = manifest.table.join(
        cache.with_mask.select("image_id"), on="image_id", how="semi"
    ).sort("image_id")
    for _, rows in annotated.with_columns(mask=_mask_contours.NAMED).group_by(
        "dataset", "source", maintain_order=True
    ):
        yield from _judged(rows.hstack(measured(rows, cache)))


def measured(rows: pl.DataFrame, cache: Cache) -> pl.DataFrame:
    """Compute `MEASURES` of each image of one source.

    Those against other masks are null in a source with fewer than `FEWEST` masks.
    """
    folds = by_digest(rows["patient_id"], _mask_contours.FOLDS)
    places = cache.rows(rows["image_id"])
    regression = panel = None
    if rows.height >= FEWEST:
        digests = np.array([storage.digest(image_id) for image_id in rows["image_id"]])
        chosen = np.argsort(digests, kind="stable")[:FITTED]
        regression = _fitted(cache, places[chosen], folds[chosen])
        others = cache.masks[places[chosen[:PANEL]]]
        panel = _mask_contours.rims(others, others).masks, _mask_contours.small_masks(others)
    found = [
        _of_batch(cache, places[some], folds[some], regression, panel)
        for some in _mask_contours.batches(np.arange(rows.height))
    ]
    return pl.DataFrame(
        np.concatenate(found), schema=dict.fromkeys(MEASURES, pl.Float64), orient="row"
    ).fill_nan(None)


def _fitted(cache: Cache, places: np.ndarray, folds: np.ndarray) -> _mask_contours.MaskRegression:
    parts = _mask_contours.batches(places)
    images = [_mask_contours.small_images(cache.images[part]) for part in parts]
    masks = [_mask_contours.small_masks(cache.masks[part]) for part in parts]
    return _mask_contours.MaskRegression(np.concatenate(images), np.concatenate(masks), folds)


def _of_batch(
    cache: Cache,
    places: np.ndarray,
    folds: np.ndarray,
    regression: _mask_contours.MaskRegression | None,
    panel: tuple[np.ndarray, np.ndarray] | None,
) -> np.ndarray:
    """Compute measures, float64 (n, len(MEASURES)), nan where there is nothing to compare with.

    `panel` is other masks, as gradients and as small masks.
    """
    images, masks = cache.images[places], cache.masks[places]
    rims = _mask_contours.rims(images, masks)
    best, shift = rims.best()
    found = np.full((len(places), len(MEASURES)), np.nan)
    found[:, 0], found[:, 1], found[:, 2:4] = rims.agreement(), best, shift
    if regression is not None and panel is not None:
        predicted = regression.predict(_mask_contours.small_images(images), folds)
        found[:, 4] = np.diag(_mask_contours.alike(predicted, _mask_contours.small_masks(masks)))
        found[:, 5] = rims.agreement_of(panel[0]).mean(axis=1)
        found[:, 6] = _mask_contours.alike(predicted, panel[1]).mean(axis=1)
    return found


def _judged(rows: pl.DataFrame) -> Iterator[Issue]:
    value = {name: rows[name].to_numpy() for name in MEASURES}
    usual = [
        float(np.median(value[name])) if rows.height >= FEWEST else 0.0
        for name in ("down", "right")
    ]
    down, right = value["down"] - usual[0], value["right"] - usual[1]
    far = (np.hypot(down, right) >= FARTHEST) & (value["best"] - value["agreement"] >= GAIN)
    unlikely = scores(value) < UNLIKELY if rows.height >= FEWEST else value["agreement"] < GROSS
    shifted = far & (unlikely | (rows.height >= FEWEST))
    off = {"far": np.hypot(down, right) * 100, "down": -down * 100, "right": -right * 100}
    measured_rows = rows.with_columns(
        pl.Series(name, cells)
        for name, cells in {**off, "shifted": shifted, "unlikely": unlikely & ~shifted}.items()
    )
    moved = pl.format(
        "{} is {} % of the image's side away from where it fits best ({}, {})",
        "mask",
        pl.col("far").round(1),
        _way("down", "down", "up"),
        _way("right", "right", "left"),
    )
    yield from SHIFTED.issue(measured_rows.filter("shifted").select("image_id", message=moved))
    usual_agreement = pl.lit(
        f", usual in its source is {np.median(value['agreement']):.2f}"
        if rows.height >= FEWEST
        else ""
    )
    loose = pl.format(
        "{}: its rim agrees with the image's edges by {} (1 is everywhere, 0 as by chance){}",
        "mask",
        pl.col("agreement").round(2),
        usual_agreement,
    )
    yield from MISFIT.issue(measured_rows.filter("unlikely").select("image_id", message=loose))


def scores(value: dict[str, np.ndarray]) -> np.ndarray:
    """Compute how well each mask fits, in standard deviations of its source.

    The sum of its agreement at the rim and with the predicted mask, each less what other masks
    score on the same image.
    """
    total = np.zeros(len(value["agreement"]))
    for own in ("agreement", "alike"):
        wide = _mask_contours.spread(value[own], 0.01)
        total += (
            value[own]
            - np.median(value[own])
            - FRACTION_OF_OTHERS * (value[f"others_{own}"] - np.median(value[f"others_{own}"]))
        ) / wide
    return _mask_contours.robust(total, 0.1)


def _way(column: str, more: str, less: str) -> pl.Expr:
    """Describe in words how far the mask is from its best position along one axis."""
    word = pl.when(pl.col(column) < 0).then(pl.lit(less)).otherwise(pl.lit(more))
    return pl.format("{} % {}", pl.col(column).abs().round(1), word)
