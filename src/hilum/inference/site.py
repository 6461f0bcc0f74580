"""A site: what a model was found to be worth on some images of one hospital, kept in one JSON file.

    format, hilum, date      of the file
    model                    name and digest of the one model that it is of
    images                   count, patients, and the digest of their pixel digests
    thresholds               by concept, see `SiteThreshold`; {} where too little was labelled
    refusals                 by concept, why there is no threshold and what it would take
    domain                   what the site's images are like, in the form of
                             `hilum.inference.domain`
    scores, percentiles      of the site's images, sorted: what later images are compared with
    notes                    what was left out, what is promised, and how much more it would take
    digest                   of all the rest: a file that was changed by hand is refused

With a threshold the site's own domain and threshold decide; the calibration of the training site is
worth nothing here, so there is no probability. Without one the model's own decide, and the file
only serves to watch for drift. The false positive rate that is promised is of all images without
the finding, whether called or not: what gets no call is not called present. It is of patients, who
are called present where any of their images is.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from hilum import __version__, storage
from hilum.errors import BadData, Mismatch, NotFound
from hilum.inference import domain
from hilum.inference.calls import ImageResult
from hilum.inference.domain import Domain, Placement
from hilum.inference.pretrained import PretrainedModel
from hilum.statistics import two_samples
from hilum.statistics.calibration import Fitted
from hilum.storage import integrity

FORMAT = 1
OF_SITE = "the images of this site"
_DISTANCES = "distances from its images"
RELIABLE = 0.5  # of a sensitivity's lower bound, from which on "absent" needs no warning
DRIFT = 0.01  # probability of a difference as large among images of one kind, over all tests


@dataclass(frozen=True)
class SiteThreshold:
    """A concept's threshold at a site, and what was found with it.

    Of `negatives` patients without the finding `allowed` at most have an image at or above the
    threshold, so the false positive rate is at most `max_false_positives` with `confidence`. Of
    `positives` patients with it `detected` are called present: all of their images lie at or above
    the threshold and within the site's domain, as measured without their own fold.
    `sensitivity_low` and `sensitivity_high` are the exact interval of the sensitivity, 0 and 1
    where there is no such patient.
    """

    threshold: float
    max_false_positives: float
    confidence: float
    negatives: int
    allowed: int
    positives: int
    detected: int
    sensitivity_low: float
    sensitivity_high: float

    def as_calibration(self) -> Fitted:
        """Return it in the form of `statistics.calibration.to_json`, without probabilities."""
        return {
            "threshold": self.threshold,
            "temperature": None,
            "bias": None,
            "isotonic": None,
            "tune_images": self.negatives + self.positives,
            "tune_positives": self.positives,
            "reason": "a site has no probabilities",
        }

    @property
    def beware(self) -> str:
        """Why "absent" means little at this threshold; "" where it means something.

        The promise is of what is called present: a threshold that nothing reaches keeps it.
        """
        if self.sensitivity_low >= RELIABLE:
            return ""
        known = (
            f"between {percent(self.sensitivity_low, 2)} and {percent(self.sensitivity_high, 2)} "
            f"of the patients with the finding are called present at this site's threshold"
            if self.positives
            else "the site was calibrated without a patient with the finding, so nothing is known "
            "of how many are called present"
        )
        return f'"absent" means little: {known}'

    def words(self) -> str:
        """Say what is promised, and what sensitivity to expect."""
        promise = (
            f"false positive rate at most {percent(self.max_false_positives)} with "
            f"{percent(self.confidence)} confidence, from {self.negatives} patients without the "
            f"finding"
        )
        if not self.positives:
            return f"{promise}; no patient has the finding, so nothing is known of the sensitivity"
        found = f"{self.detected} of {self.positives} patients with it are called present"
        between = f"{percent(self.sensitivity_low, 2)} to {percent(self.sensitivity_high, 2)}"
        return f"{promise}; sensitivity {between} ({found})"


@dataclass(frozen=True)
class Site:
    """The content of a site's file."""

    model: str
    model_digest: str
    images: int
    patients: int
    images_digest: str
    date: str
    thresholds: Mapping[str, SiteThreshold]
    refusals: Mapping[str, str]
    domain: Domain
    scores: Mapping[str, np.ndarray]
    percentiles: np.ndarray
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        counted = f"{self.images} images of {self.patients} patients, {self.date}"
        return f"Site({self.model}, {counted})" + "".join(f"\n  {note}" for note in self.notes)

    @property
    def digest(self) -> str:
        """Digest of everything in it."""
        return storage.digest(self.as_json())

    def own_model(self, models: Sequence[PretrainedModel]) -> PretrainedModel:
        """Return the site's model of `models`. Raises `Mismatch` where it is not among them."""
        for model in models:
            if model.digest == self.model_digest:
                return model
        named = [model.digest for model in models if model.name == self.model]
        got = f"this {self.model} is {named[0]}" if named else f"no {self.model} is applied here"
        raise Mismatch(
            f"the site was calibrated for {self.model} {self.model_digest}, and {got}: its "
            f"threshold means nothing for another model; calibrate again with `hilum calibrate`, "
            f"or name its file with --model"
        )

    def place(self, image: np.ndarray, outputs: Mapping[str, np.ndarray]) -> Placement:
        """Place an image, uint8 (size, size), among the site's own by the model's outputs."""
        return self.domain.place(image, outputs.get(domain.OUTPUT))

    def drift(self, results: Sequence[ImageResult]) -> Iterator[str]:
        """Say how a batch of images differs from the site's own, where by more than chance.

        Compares scores and percentiles, see `hilum.statistics.two_samples`. A batch of fewer than
        `two_samples.FEWEST` images that were not refused is not compared.
        """
        of_batch: dict[str, list[float]] = {}
        placed = next(iter(self.thresholds or self.scores), "")  # one distance of each image
        for one in (score for result in results for score in result.scores):
            if one.score is not None:
                of_batch.setdefault(f"scores of {one.concept}", []).append(one.score)
            if one.percentile is not None and one.concept == placed:
                of_batch.setdefault(_DISTANCES, []).append(one.percentile)
        stored = {f"scores of {concept}": values for concept, values in self.scores.items()}
        stored[_DISTANCES] = self.percentiles
        tests = {
            name: two_samples.kolmogorov_smirnov(np.array(values), stored[name])[1]
            for name, values in of_batch.items()
            if len(values) >= two_samples.FEWEST
            and len(stored.get(name, ())) > 0
            # Images nearer than expected are no drift: the site's own are, which it was fitted to.
            and not (name == _DISTANCES and np.mean(values) <= np.mean(stored[name]))
        }
        found = [
            f"{name} (p = {value:.2g})"
            for name, value in tests.items()
            if value < DRIFT / len(tests)
        ]
        if found:
            yield (
                f"these images differ from those that the site was calibrated on: "
                f"{', '.join(found)}. What was promised there may not hold; calibrate again"
            )

    def as_json(self) -> dict[str, object]:
        """Return it in JSON types."""
        return {
            "format": FORMAT,
            "hilum": __version__,
            "date": self.date,
            "model": {"name": self.model, "digest": self.model_digest},
            "images": {
                "count": self.images,
                "patients": self.patients,
                "digest": self.images_digest,
            },
            "thresholds": {concept: asdict(one) for concept, one in self.thresholds.items()},
            "refusals": dict(self.refusals),
            "domain": self.domain.as_json(),
            "scores": {concept: values.tolist() for concept, values in self.scores.items()},
            "percentiles": self.percentiles.tolist(),
            "notes": list(self.notes),
        }

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        storage.write_json(path, integrity.sealed(self.as_json()))

    @classmethod
    def read(cls, path: Path) -> Site:
        """Read a site's file.

        Raises `NotFound` without one, `BadData` for another file, one of another version, and one
        that was changed after it was written.
        """
        try:
            stored = integrity.read_sealed(path)
        except NotFound:
            raise
        except BadData as fault:
            raise BadData(f"{fault}: no whole file of `hilum calibrate`; calibrate again") from None
        if stored.get("format") != FORMAT:
            raise BadData(
                f"{path} is a site's file of format {stored.get('format')!r}, written by Hilum "
                f"{stored.get('hilum')}, and this Hilum reads format {FORMAT}: calibrate again, or "
                f"use that version"
            )
        try:
            thresholds = {
                str(concept): _threshold(one) for concept, one in stored["thresholds"].items()
            }
            return cls(
                str(stored["model"]["name"]),
                str(stored["model"]["digest"]),
                int(stored["images"]["count"]),
                int(stored["images"]["patients"]),
                str(stored["images"]["digest"]),
                str(stored["date"]),
                thresholds,
                {str(concept): str(why) for concept, why in stored["refusals"].items()},
                Domain.from_json(stored["domain"], str(path), OF_SITE),
                {str(name): domain.unpacked(one, 1) for name, one in stored["scores"].items()},
                domain.unpacked(stored["percentiles"], 1),
                tuple(map(str, stored["notes"])),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as fault:
            raise BadData(
                f"{path} is no file of `hilum calibrate`: {type(fault).__name__}: {fault}; "
                f"calibrate again"
            ) from None


def percent(rate: float, digits: int = 6) -> str:
    """Write a rate in percent with its significant digits, so that 0.5% is not called 0%."""
    return f"{100 * rate:.{digits}g}%"


def today() -> str:
    """Return the date for a file."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _threshold(stored: Mapping[str, Any]) -> SiteThreshold:
    """Read a threshold. Raises `TypeError` or `ValueError`."""
    names = [part.name for part in fields(SiteThreshold)]
    if sorted(stored) != sorted(names):
        raise ValueError(f"a threshold has {sorted(stored)}, expected {sorted(names)}")
    found = SiteThreshold(
        threshold=float(stored["threshold"]),
        max_false_positives=float(stored["max_false_positives"]),
        confidence=float(stored["confidence"]),
        negatives=int(stored["negatives"]),
        allowed=int(stored["allowed"]),
        positives=int(stored["positives"]),
        detected=int(stored["detected"]),
        sensitivity_low=float(stored["sensitivity_low"]),
        sensitivity_high=float(stored["sensitivity_high"]),
    )
    if not (
        np.isfinite(found.threshold)
        and 0 < found.max_false_positives < 1
        and 0 < found.confidence < 1
        and 0 <= found.allowed < found.negatives
        and 0 <= found.detected <= found.positives
        and 0 <= found.sensitivity_low <= found.sensitivity_high <= 1
    ):
        raise ValueError(f"a threshold holds numbers that cannot be: {found}")
    return found
