"""Lung masks against their pictures: an outline that was shifted, or is another picture's."""

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

CARD = Card(
    title="Lung masks on their pictures",
    caveats="Told from the picture's edges and from the set's other masks, so it points to masks worth a look and is never certain: of real masks "
    "drawn with care two to four in a hundred are named, most of them of clouded or odd lungs. A shift of less than a thirtieth of the side, or a "
    "mask of another picture that happens to fit, is not seen. In a set with fewer than 40 masks only gross misfits are.",
)
SHIFTED = Rule(
    "mask-shifted",
    "warning",
    "A mask would fit its picture better in another place.",
    "A shifted outline teaches that ribs are lung, and makes a good model look bad.",
    "Look at the picture with its mask. If it is shifted, export the mask again without cropping or padding that the picture did not get.",
    correction="leave out mask",
)
MISFIT = Rule(
    "mask-misfit",
    "warning",
    "A mask does not follow the edges of its picture, or is not what the set's other masks lead to expect.",
    "It may be the mask of another picture; a model learns from it, and is measured by it.",
    "Look at the picture with its mask; check that the names agree, or draw it again.",
    correction="leave out mask",
)
RULES = (SHIFTED, MISFIT)

FEWEST = 40  # masks of a source from which others can be judged
LEARNERS, PANEL = (
    1200,
    32,
)  # masks that are learnt from, and others that are tried on each picture; both spread over the set
FARTHEST = 0.027  # share of the side between a mask's place and its best one, beyond what is usual in its source
GAIN = 0.03  # of agreement by moving the mask there
SHARE_OF_OTHERS = 0.6  # of what other masks score on the picture that is taken off: some pictures agree with any lung
UNLIKELY = -2.75  # standard deviations of a source's scores
GROSS = 0.1  # of agreement, below which an outline follows nothing
MEASURES = ("agreement", "best", "down", "right", "alike", "others_agreement", "others_alike")


def check(manifest: Manifest, facts: pl.DataFrame, cache: Cache | None = None) -> Iterator[Issue]:
    if cache is None or not cache.with_mask.height:
        return
    told = manifest.table.join(cache.with_mask.select("image_id"), on="image_id", how="semi").sort(
        "image_id"
    )
    for _, rows in told.with_columns(mask=_mask_contours.NAMED).group_by(
        "dataset", "source", maintain_order=True
    ):
        yield from _judged(rows.hstack(measured(rows, cache)))


def measured(rows: pl.DataFrame, cache: Cache) -> pl.DataFrame:
    """`MEASURES` of each image of one source; those against other masks are null in a source with too few."""
    folds = np.array(
        [
            int(storage.digest(patient)[:8], 16) % _mask_contours.FOLDS
            for patient in rows["patient_id"]
        ],
        np.int64,
    )
    places = cache.rows(rows["image_id"])
    learnt = panel = None
    if rows.height >= FEWEST:
        learners = np.argsort(
            [storage.digest(image_id) for image_id in rows["image_id"]], kind="stable"
        )[:LEARNERS]
        learnt = _learnt(cache, places[learners], folds[learners])
        panel = cache.masks.read(places[learners[:PANEL]])
    tried = (
        (_mask_contours.rims(panel, panel).masks, _mask_contours.small_masks(panel))
        if panel is not None
        else None
    )
    found = [
        _of_batch(cache, places[some], folds[some], learnt, tried)
        for some in _mask_contours.batches(np.arange(rows.height))
    ]
    return pl.DataFrame(
        np.concatenate(found), schema=dict.fromkeys(MEASURES, pl.Float64), orient="row"
    ).fill_nan(None)


def _learnt(cache: Cache, places: np.ndarray, folds: np.ndarray) -> _mask_contours.Learnt:
    some = _mask_contours.batches(places)
    pictures = np.concatenate(
        [_mask_contours.small_pictures(cache.images.read(part)) for part in some]
    )
    return _mask_contours.Learnt(
        pictures,
        np.concatenate([_mask_contours.small_masks(cache.masks.read(part)) for part in some]),
        folds,
    )


def _of_batch(
    cache: Cache,
    places: np.ndarray,
    folds: np.ndarray,
    learnt: _mask_contours.Learnt | None,
    tried: tuple[np.ndarray, np.ndarray] | None,
) -> np.ndarray:
    """float64 (n, len(MEASURES)), nan where there is nothing to compare with."""
    images, masks = cache.images.read(places), cache.masks.read(places)
    rims = _mask_contours.rims(images, masks)
    best, shift = rims.best()
    found = np.full((len(places), len(MEASURES)), np.nan)
    found[:, 0], found[:, 1], found[:, 2:4] = rims.agreement(), best, shift
    if learnt is not None and tried is not None:
        foretold = learnt.foretold(_mask_contours.small_pictures(images), folds)
        found[:, 4] = np.diag(_mask_contours.alike(foretold, _mask_contours.small_masks(masks)))
        found[:, 5] = rims.agreement_of(tried[0]).mean(axis=1)
        found[:, 6] = _mask_contours.alike(foretold, tried[1]).mean(axis=1)
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
    told = rows.with_columns(
        pl.Series(name, cells)
        for name, cells in {**off, "shifted": shifted, "unlikely": unlikely & ~shifted}.items()
    )
    moved = pl.format(
        "{} lies {} % of the picture's side from where it fits best ({}, {})",
        "mask",
        pl.col("far").round(1),
        *_way(),
    )
    yield from SHIFTED.issue(told.filter("shifted").select("image_id", message=moved))
    usual_agreement = pl.lit(
        f", usual in its source is {np.median(value['agreement']):.2f}"
        if rows.height >= FEWEST
        else ""
    )
    loose = pl.format(
        "{}: its rim agrees with the picture's edges by {} (1 is everywhere, 0 as by chance){}",
        "mask",
        pl.col("agreement").round(2),
        usual_agreement,
    )
    yield from MISFIT.issue(told.filter("unlikely").select("image_id", message=loose))


def scores(value: dict[str, np.ndarray]) -> np.ndarray:
    """How well each mask fits, in standard deviations of its source: at the rim and against what was learnt, less what any mask would score."""
    total = np.zeros(len(value["agreement"]))
    for own in ("agreement", "alike"):
        wide = _mask_contours.spread(value[own], 0.01)
        total += (
            value[own]
            - np.median(value[own])
            - SHARE_OF_OTHERS * (value[f"others_{own}"] - np.median(value[f"others_{own}"]))
        ) / wide
    return _mask_contours.robust(total, 0.1)


def _way() -> tuple[pl.Expr, pl.Expr]:
    """Where the mask lies from its best place, in words."""
    words = (("down", "down", "up"), ("right", "right", "left"))
    return tuple(
        pl.format(
            "{} % {}",
            pl.col(column).abs().round(1),
            pl.when(pl.col(column) < 0).then(pl.lit(less)).otherwise(pl.lit(more)),
        )
        for column, more, less in words
    )
