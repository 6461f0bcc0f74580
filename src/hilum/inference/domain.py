"""The domain of a model: what its training images are like, and whether another image is like them.

A model carries its domain as metadata `domain` of its ONNX file, JSON:

    {"format": 1, "detectors": {NAME: {"mean": ..., "scale": ..., "components": ..., "variances":
    ..., "residual": ..., "quantiles": ..., "limit": ...}}}

Each detector measures a distance from the training images (`hilum.statistics.subspace`):

    features   of the model's own output `features`, float32 (n, d): statistics of its network's
               early stages, see `hilum.training.staged_features`
    image      of intensities, sharpness and noise of the image that the model is given
               (`hilum.inference.image_statistics`)

`quantiles` are the distances below which 0, 1, ... 100 % of held-out images of the training
hospitals lie, images that the subspace was not fitted to; `limit` is the distance beyond which an
image is outside. An image is outside the domain where any detector places it outside. Arrays are
lists of numbers or {"dtype": "float16" or "float32", "shape": [...], "base64": "..."}, little
endian.

Sources: residual of principal components of features: Ndiour, Ahuja and Tickoo, arXiv:2012.04250;
Mahalanobis' distance of features: Lee et al., NeurIPS 2018.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hilum.errors import BadData
from hilum.inference import image_statistics
from hilum.statistics import subspace
from hilum.statistics.subspace import Subspace

FORMAT = 1
METADATA = "domain"  # key of an ONNX file
OUTPUT = "features"  # of a model: what its domain is measured in
FEATURES, IMAGE = "features", "image"
TRAINING = "the training images"
DETECTORS = {  # name: what it compares, for a sentence
    FEATURES: "as the network sees it, this image is unlike",
    IMAGE: "intensities, sharpness or noise of this image are unlike those of",
}
COMPONENTS = {FEATURES: 64, IMAGE: 6}
MOST_FITTED = 4000  # images that a subspace is fitted to; more change nothing but the time
FEWEST = 20  # images to fit to, and as many to choose the limit on
INSIDE = 0.975  # of held-out images lie within the limit of a detector
LEVELS = np.arange(101)  # percent
MOST_NUMBERS = 4_000_000  # of one stored array
_DTYPES = {"float16": "<f2", "float32": "<f4"}


@dataclass(frozen=True)
class Placement:
    """Where an image lies: `percentile` % of the training hospitals' images lie nearer.

    `reason` says in words why it is outside; "" where it is inside.
    """

    inside: bool
    percentile: float
    reason: str


def farther(first: Placement, second: Placement) -> Placement:
    """Return the placement of an image that two models place: outside where either does."""
    if first.inside == second.inside:
        return max(first, second, key=lambda one: np.nan_to_num(one.percentile, nan=-1.0))
    return second if first.inside else first


UNPLACED = Placement(
    False,
    float("nan"),
    "the model does not carry what its training images are like, so nothing shows whether this "
    "one is like them",
)


@dataclass(frozen=True)
class Detector:
    """A distance from the training images, `quantiles` (101,) of held-out ones, and the limit."""

    subspace: Subspace
    quantiles: np.ndarray
    limit: float

    def percentiles(self, distances: np.ndarray) -> np.ndarray:
        """Return what percentage of the held-out images lies nearer, from 0 to 100."""
        return np.interp(distances, self.quantiles, LEVELS)


@dataclass(frozen=True)
class Domain:
    """The detectors of a model, by name; `whose` images they describe, for a sentence."""

    detectors: Mapping[str, Detector]
    whose: str = TRAINING

    @property
    def needs_features(self) -> bool:
        """Whether the model must give its features."""
        return FEATURES in self.detectors

    def distances(self, images: np.ndarray, features: np.ndarray | None) -> dict[str, np.ndarray]:
        """Return the distance by each detector, (n,).

        `images` are uint8 (n, size, size) as the model is given them, `features` float32 (n, d),
        the model's output for them. Raises `BadData` where they have another number of columns
        than those that the domain was fitted to, or are missing.
        """
        given = measurements(images, features)
        found = {}
        for name, detector in self.detectors.items():
            rows, columns = given.get(name), detector.subspace.mean.size
            if rows is None or rows.shape[1] != columns:
                got = "none" if rows is None else str(rows.shape[1])
                raise BadData(
                    f"the model's domain was fitted to {columns} {name} values of an image, and "
                    f"there are {got}: its network and its domain do not belong together; train "
                    f"the model again"
                )
            found[name] = detector.subspace.distances(rows)
        return found

    def place(self, image: np.ndarray, features: np.ndarray | None) -> Placement:
        """Place one image, uint8 (size, size), with its features, float32 (d,)."""
        several = None if features is None else features[None]
        return self.of_distances(
            {name: one[0] for name, one in self.distances(image[None], several).items()}
        )

    def of_distances(self, distances: Mapping[str, float]) -> Placement:
        """Place an image by its distance to each detector."""
        excess = {name: found / self.detectors[name].limit for name, found in distances.items()}
        percentile = {
            name: float(self.detectors[name].percentiles(np.array([found]))[0])
            for name, found in distances.items()
        }
        if all(one <= 1 for one in excess.values()):  # nan is not
            return Placement(True, max(percentile.values()), "")
        worst = max(excess, key=lambda name: np.nan_to_num(excess[name], nan=np.inf))
        if np.isnan(percentile[worst]):
            return Placement(False, percentile[worst], f"{DETECTORS[worst]} {self.whose}")
        nearer = "all" if percentile[worst] >= 99.95 else f"{int(percentile[worst])} %"
        reason = f"{DETECTORS[worst]} {self.whose}: {nearer} of these are closer"
        return Placement(False, percentile[worst], reason)

    def as_json(self) -> dict[str, object]:
        """Return the domain in JSON types."""
        detectors = {name: _detector_json(one) for name, one in self.detectors.items()}
        return {"format": FORMAT, "detectors": detectors}

    @classmethod
    def from_json(cls, stored: object, where: str, whose: str = TRAINING) -> Domain:
        """Read what `as_json` returned. Raises `BadData` naming `where` and every fault."""
        faults: list[str] = []
        named = stored.get("detectors") if isinstance(stored, dict) else None
        if not isinstance(stored, dict) or not isinstance(named, dict) or not named:
            raise BadData(f"{where}: its domain holds no detectors; train the model again")
        if stored.get("format") != FORMAT:
            faults.append(f"it is of format {stored.get('format')!r}, expected {FORMAT}")
        detectors = {}
        for name, one in named.items():
            if name not in DETECTORS:
                faults.append(f"unknown detector {name!r}, expected {' or '.join(DETECTORS)}")
                continue
            try:
                detectors[name] = _detector(one)
            except (KeyError, TypeError, ValueError, OverflowError) as fault:
                faults.append(f"detector {name!r}: {type(fault).__name__}: {fault}")
        if faults:
            raise BadData.listing(f"{where}: its domain cannot be read", faults)
        return cls(detectors, whose)


def measurements(images: np.ndarray, features: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return what each detector compares: rows by name, float64 (n, values)."""
    rows = [image_statistics.describe_pixels(image) for image in images]
    found = {IMAGE: np.array(rows).reshape(len(images), len(image_statistics.NAMES))}
    if features is not None:
        found[FEATURES] = np.asarray(features, np.float64)
    return found


def fit(
    rows: Mapping[str, np.ndarray],
    held_out: Mapping[str, np.ndarray],
    *,
    inside: float = INSIDE,
    whitened: bool = True,
) -> Domain | None:
    """Fit a domain to training images, and its limits to held-out images of the same hospitals.

    Both as `measurements` returns them, of different patients. `inside` is the fraction of further
    such images within the limit of each detector. `whitened` measures along the components too, as
    of the detector `image` in any case; of few images (`fit_crossed`) it is better not to. None
    where either are fewer than `FEWEST`.
    """
    detectors = {}
    for name, values in rows.items():
        if min(len(values), len(held_out[name])) < FEWEST:
            return None
        fitted = _subspace(name, values, whitened)
        detectors[name] = _with_limit(fitted, fitted.distances(held_out[name]), inside)
    return Domain(detectors)


def crossed_distances(
    rows: Mapping[str, np.ndarray], folds: np.ndarray, *, whitened: bool = False
) -> dict[str, np.ndarray]:
    """Return the distance of each row from the rows of the other folds, by detector, (n,).

    `folds` (n,) are numbers, with all images of a patient in one; `FEWEST` patients or more are
    enough for each fold to have others. Raises `ValueError` for a fold without two other rows.
    """
    found = {name: np.empty(len(values)) for name, values in rows.items()}
    for fold in np.unique(folds):
        held = folds == fold
        for name, values in rows.items():
            others = _subspace(name, values[~held], whitened)
            found[name][held] = others.distances(values[held])
    return found


def fit_crossed(
    rows: Mapping[str, np.ndarray],
    distances: Mapping[str, np.ndarray],
    *,
    inside: float = INSIDE,
    whitened: bool = False,
    whose: str = TRAINING,
) -> Domain:
    """Fit a domain to few images, of `FEWEST` patients or more, and its limits to their
    `crossed_distances`.
    """
    detectors = {
        name: _with_limit(_subspace(name, values, whitened), distances[name], inside)
        for name, values in rows.items()
    }
    return Domain(detectors, whose)


def _subspace(name: str, values: np.ndarray, whitened: bool) -> Subspace:
    some = values[:: max(1, -(-len(values) // MOST_FITTED))]
    found = subspace.fit(some, COMPONENTS[name], whitened=whitened or name == IMAGE)
    # Limits must be of the numbers that are stored, which are shorter.
    return replace(
        found,
        mean=found.mean.astype(np.float32).astype(np.float64),
        scale=found.scale.astype(np.float32).astype(np.float64),
        components=found.components.astype(np.float16).astype(np.float64),
    )


def _with_limit(fitted: Subspace, distances: np.ndarray, inside: float) -> Detector:
    """Return a detector with the limit of split conformal prediction.

    A further image of the same kind lies within it with a probability of at least `inside`, or
    nearer than the farthest held-out one where these are too few for that (Vovk et al.,
    "Algorithmic Learning in a Random World", 2005).
    """
    ranked = np.sort(distances)
    place = min(int(np.ceil((ranked.size + 1) * inside)), ranked.size) - 1
    return Detector(fitted, np.quantile(ranked, LEVELS / 100), float(ranked[place]))


# ---------------------------------------------------------------------------- JSON


def packed(values: np.ndarray, dtype: str = "float32") -> dict[str, object]:
    """Return an array in JSON types, as `unpacked` reads it."""
    content = np.ascontiguousarray(values, _DTYPES[dtype]).tobytes()
    return {
        "dtype": dtype,
        "shape": list(values.shape),
        "base64": base64.b64encode(content).decode("ascii"),
    }


def unpacked(stored: object, dimensions: int) -> np.ndarray:
    """Return a stored array as float64.

    Raises `ValueError`, `KeyError`, `TypeError`, or `OverflowError` for a number beyond float64.
    """
    if isinstance(stored, dict):
        shape, dtype = tuple(stored["shape"]), _DTYPES[stored["dtype"]]
        count = int(np.prod(shape)) if all(isinstance(side, int) for side in shape) else -1
        if not 0 <= count <= MOST_NUMBERS:
            raise ValueError(f"an array of shape {shape}")
        content = base64.b64decode(stored["base64"], validate=True)
        values = np.frombuffer(content, dtype).reshape(shape).astype(np.float64)
    else:
        values = np.array(stored, np.float64)
    if values.ndim != dimensions or not np.isfinite(values).all():
        raise ValueError(f"expected {dimensions}-dimensional finite numbers, got {values.shape}")
    return values


def _detector_json(detector: Detector) -> dict[str, object]:
    of = detector.subspace
    return {
        "mean": packed(of.mean),
        "scale": packed(of.scale),
        "components": packed(of.components, "float16"),
        "variances": of.variances.tolist(),
        "residual": of.residual,
        "quantiles": detector.quantiles.tolist(),
        "limit": detector.limit,
    }


def _detector(stored: Mapping[str, Any]) -> Detector:
    """Read a detector. Raises as `unpacked` does."""
    mean, scale = unpacked(stored["mean"], 1), unpacked(stored["scale"], 1)
    components, variances = unpacked(stored["components"], 2), unpacked(stored["variances"], 1)
    quantiles = unpacked(stored["quantiles"], 1)
    residual, limit = float(stored["residual"]), float(stored["limit"])
    if not mean.shape == scale.shape == components.shape[1:]:
        raise ValueError(f"mean {mean.shape}, scale {scale.shape}, components {components.shape}")
    if variances.size not in (0, len(components)) or quantiles.size != LEVELS.size:
        raise ValueError(f"{variances.size} variances and {quantiles.size} quantiles")
    if not (scale > 0).all() or not (variances > 0).all() or (np.diff(quantiles) < 0).any():
        raise ValueError("scales and variances must be above 0, and quantiles rise")
    if not (np.isfinite([residual, limit]).all() and residual >= 0 and limit > 0):
        raise ValueError(f"residual {residual}, limit {limit}")
    return Detector(Subspace(mean, scale, components, variances, residual), quantiles, limit)
