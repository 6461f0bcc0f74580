"""Order images by what correcting their lung masks next is expected to gain.

A reader who corrects masks from a model's proposals has time for a few. Each image gets

    gain = uncertainty^a x novelty^b x density^c

with the exponents of a `Mix`:

    uncertainty   the Dice that the proposal is expected to lack: 1 - `quality`
                  (`hilum.inference.lung_finder`), or the mean of it and `disagreement` where
                  that is known
    novelty       1 - the similarity to the nearest image whose mask is corrected or that stands
                  earlier in the order
    density       the mean similarity to all images: what is trained on it serves those like it

and the order is greedy: novelty counts from what stands before. Similarity is exp(-(d / s)^2) of
the Euclidean distance d between standardised features, s the median distance between images.

benchmarks/accuracy/next_to_draw.py measures it against random order; `MIX` was chosen there, on one
hospital, and judged on others.

Sources: Lewis and Gale, SIGIR 1994 (uncertainty sampling); Settles and Craven, EMNLP 2008
(information density); Gonzalez, TCS 38:293 (1985) and Sener and Savarese, ICLR 2018 (farthest-first
selection).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from hilum.errors import BadData
from hilum.inference import image_statistics

LIMIT = 100  # images that are ordered by default: more than one sitting corrects
COLUMNS = {"image_id": pl.String, "rank": pl.Int64, "gain": pl.Float64, "why": pl.String}
REQUIRED = {"image_id": pl.String, "quality": pl.Float64}
OPTIONAL = {"disagreement": pl.Float64, "corrected": pl.Boolean}
_SAMPLE = 1000  # images that stand for all where each is compared with all
_TOGETHER = 4096  # images that are compared at once, which bounds the memory
_FARTHEST = 4.0  # standard deviations at which a feature is capped: one odd image must not rule
_UNKNOWN = 0.5  # uncertainty where no image has an estimate
_ALIKE, _UNLIKE = 0.8, 0.5  # similarity from which images are called alike, below which unlike


@dataclass(frozen=True)
class Mix:
    """Exponents of the parts of the gain; 0 leaves a part out."""

    uncertainty: float
    novelty: float
    density: float


MIX = Mix(uncertainty=1.0, novelty=1.0, density=0.0)


def order(
    candidates: pl.DataFrame,
    features: np.ndarray | None = None,
    *,
    limit: int = LIMIT,
    mix: Mix = MIX,
) -> pl.DataFrame:
    """Return the `limit` images whose masks are best corrected next, the best first, as `COLUMNS`.

    `candidates` has a row per image: `image_id`; `quality`, the estimated Dice of its mask in
    [0, 1], null where it was not estimated (then it counts as the median); optionally
    `disagreement`, 1 - Dice between its masks by two models or protocols, null where unknown; and
    optionally `corrected`, whether its mask needs no work: such images are not returned, and
    novelty counts from them too. `features` are float (rows, values), in the order of the rows, as
    of `describe`; without them only uncertainty counts. The result does not depend on the order of
    the rows. `rank` counts from 1, `gain` is of that place in the order, `why` says it in words.
    Raises `BadData` for columns, values or features that are not as described.
    """
    _check(candidates, features)
    rows = np.argsort(candidates["image_id"].to_numpy().astype(str), kind="stable")
    table = candidates[rows]
    corrected = np.zeros(table.height, bool)
    if "corrected" in table.columns:
        corrected = table["corrected"].fill_null(value=False).to_numpy()
    points = None if features is None else _standardised(np.asarray(features, np.float64)[rows])
    places = _Places(points, corrected, mix)
    wanted = _uncertainty(table) ** mix.uncertainty * places.density**mix.density
    found = []
    for rank in range(1, min(limit, int((~corrected).sum())) + 1):
        gain = np.where(places.open, wanted * places.novelty**mix.novelty, -1.0)
        row = int(gain.argmax())
        found.append(
            (table["image_id"][row], rank, float(gain[row]), _why(table, places, row, mix))
        )
        places.take(row)
    return pl.DataFrame(found, schema=COLUMNS, orient="row")


def describe(images: Iterable[np.ndarray]) -> np.ndarray:
    """Compute features of images as a cache holds them, uint8 (size, size): float64 (n, values).

    They are those of `hilum.inference.image_statistics`.
    """
    found = [image_statistics.describe_pixels(image) for image in images]
    return np.array(found).reshape(len(found), len(image_statistics.NAMES))


class _Places:
    """Where images lie among one another: which are open, how novel each is, how dense it lies.

    Without `points` each image is as novel and as dense as any other.
    """

    def __init__(self, points: np.ndarray | None, corrected: np.ndarray, mix: Mix) -> None:
        count = len(corrected)
        self.points, self.mix = points, mix
        self.open, self.taken = ~corrected, int(corrected.sum())
        self.novelty, self.density = np.ones(count), np.ones(count)
        self.alike = np.zeros(count)  # fraction of all images that are like this one
        if points is None or not count:
            return
        sample = _thinned(points)
        self.spread = _median_distance(sample)
        if mix.density:
            for part, similar in self._similarities(sample):
                self.density[part] = similar.mean(axis=1)
                self.alike[part] = (similar >= _ALIKE).mean(axis=1)
        if mix.novelty and corrected.any():
            for part, similar in self._similarities(_thinned(points[corrected])):
                self.novelty[part] = 1 - similar.max(axis=1)

    def _similarities(self, others: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the similarities of some images to all `others`, (some, others), in [0, 1]."""
        assert self.points is not None
        for at in range(0, len(self.points), _TOGETHER):
            part = slice(at, at + _TOGETHER)
            yield part, np.exp(-_squares(self.points[part], others) / self.spread**2)

    def take(self, row: int) -> None:
        """Put an image into the order: novelty counts from it too."""
        self.open[row] = False
        self.taken += 1
        if self.points is not None and self.mix.novelty:
            for part, similar in self._similarities(self.points[row : row + 1]):
                self.novelty[part] = np.minimum(self.novelty[part], 1 - similar[:, 0])


def _check(candidates: pl.DataFrame, features: np.ndarray | None) -> None:
    faults = [f"no column {name!r}" for name in REQUIRED if name not in candidates.columns]
    known = REQUIRED | OPTIONAL
    faults += [
        f"column {name!r} is {candidates[name].dtype}, expected {kind}"
        for name, kind in known.items()
        if name in candidates.columns and candidates[name].dtype not in (kind, pl.Null)
    ]
    if not faults:
        if candidates["image_id"].null_count() or candidates["image_id"].is_duplicated().any():
            faults.append("an image_id is missing or stands twice, expected one row per image")
        faults += [
            f"{name} is outside 0 to 1"
            for name in ("quality", "disagreement")
            if name in candidates.columns and not _fractions(candidates[name])
        ]
    if features is not None:
        given = np.asarray(features)
        if given.ndim != 2 or len(given) != candidates.height:
            faults.append(
                f"features are {given.shape}, expected ({candidates.height}, values): one row each"
            )
        elif not np.isfinite(given).all():
            faults.append("features hold values that are not finite; leave such images out")
    if faults:
        raise BadData.listing("the images cannot be ordered", faults)


def _fractions(values: pl.Series) -> bool:
    found = values.drop_nulls().cast(pl.Float64).to_numpy()
    return bool(((found >= 0) & (found <= 1)).all())


def _uncertainty(table: pl.DataFrame) -> np.ndarray:
    """Return the Dice that each mask is expected to lack, in [0, 1]."""
    lacking = 1 - table["quality"].cast(pl.Float64)
    if "disagreement" in table.columns:
        apart = table["disagreement"].cast(pl.Float64)
        lacking = ((lacking + apart) / 2).fill_null(lacking).fill_null(apart)
    median = lacking.median()
    return lacking.fill_null(_UNKNOWN if median is None else median).to_numpy()


def _standardised(features: np.ndarray) -> np.ndarray:
    """Return features in standard deviations from their mean, float32; constant ones are 0."""
    if not len(features):
        return features.astype(np.float32)
    centred, spread = features - features.mean(axis=0), features.std(axis=0)
    scaled = centred / np.where(spread > 0, spread, 1)
    return np.clip(scaled, -_FARTHEST, _FARTHEST).astype(np.float32)


def _thinned(points: np.ndarray) -> np.ndarray:
    """Return at most `_SAMPLE` rows, evenly spread."""
    return points[:: max(1, -(-len(points) // _SAMPLE))]


def _median_distance(points: np.ndarray) -> float:
    """Return the median distance between points, 1 where it is 0."""
    between = _squares(points, points)[np.triu_indices(len(points), 1)]
    return float(np.sqrt(np.median(between))) or 1.0 if between.size else 1.0


def _squares(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return squared Euclidean distances, (points, others)."""
    lengths = (points**2).sum(1)[:, None] + (others**2).sum(1)[None]
    return np.maximum(lengths - 2 * points @ others.T, 0)


def _why(table: pl.DataFrame, places: _Places, row: int, mix: Mix) -> str:
    """Say in words why an image stands where it stands."""
    quality = table["quality"][row]
    parts = ["the quality of its mask is not known"]
    if quality is not None:
        parts = ["no lungs were found" if quality == 0 else f"estimated Dice {quality:.2f}"]
    apart = table["disagreement"][row] if "disagreement" in table.columns else None
    if apart is not None:
        parts.append(f"two predictions agree by a Dice of {1 - apart:.2f}")
    if places.points is not None and mix.novelty and places.taken:
        similar = 1 - places.novelty[row]
        if similar < _UNLIKE:
            parts.append("unlike any image corrected or listed before it")
        elif similar >= _ALIKE:
            parts.append("like an image corrected or listed before it")
    if places.points is not None and mix.density:
        parts.append(f"like {places.alike[row]:.0%} of all images")
    words = "; ".join(parts)
    return words[0].upper() + words[1:] + "."
