"""Calibrate a bundled model on one site's images: a threshold with a guarantee, and a domain.

Images that `hilum classify` would refuse, and those of people outside the model's population, are
left out and counted; so are those that the model was trained on. Labels, patients and views are
understood as `hilum ingest` understands them. An image whose label is uncertain or not mentioned
serves the domain only. Of a patient with several images without the finding the highest score
counts, and of one with several images with it the lowest, so that each patient counts once and
what is promised is on the safe side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hilum import storage
from hilum.annotations.vocabulary import State, name_of
from hilum.dataset.manifest import Manifest
from hilum.errors import BadData, NotFound, TooFew
from hilum.imaging.batch.each_image import Watch, unwatched
from hilum.imaging.files import image_file
from hilum.inference import (
    domain,
    model_answers,
    pretrained,
    segment_images,
    site_scores,
    training_hashes,
)
from hilum.inference.domain import Placement
from hilum.inference.onnx_model import OnnxModel
from hilum.inference.pretrained import PretrainedModel
from hilum.inference.site import OF_SITE, Site, SiteThreshold, today
from hilum.pipeline import ingest
from hilum.statistics import folds, risk_control

INSIDE = 0.95  # of a site's further images lie within each detector's limit
SURE = 0.95  # confidence of a statement on how far a site is from the training hospitals
RESERVE = 3  # images above the threshold that make it worth while: how many more it would take
HALF_WIDTH = 0.1  # of a sensitivity's interval that is narrow enough to rely on


@dataclass(frozen=True)
class MeasuredImage:
    """One image as the model sees it: uint8 (size, size), with its features and scores."""

    pixels: np.ndarray
    features: np.ndarray | None
    placement: Placement  # in the model's own domain
    scores: Mapping[str, float]
    image_id: str
    patient: str
    pixel_digest: str


@dataclass(frozen=True)
class Measured:
    """A site's images that the model can be applied to, and why others were left out."""

    images: list[MeasuredImage]
    left_out: Counter[str]

    @property
    def patients(self) -> np.ndarray:
        """The patient of each image."""
        return np.array([one.patient for one in self.images])

    @property
    def image_ids(self) -> list[str]:
        """The identifier of each image."""
        return [one.image_id for one in self.images]

    @property
    def percentiles(self) -> np.ndarray:
        """Those of the images that the model's own domain places."""
        found = np.array([one.placement.percentile for one in self.images])
        return found[np.isfinite(found)]

    def of(self, concept: str) -> np.ndarray:
        """Return the scores of a concept, (n,)."""
        return np.array([one.scores[concept] for one in self.images])


@dataclass(frozen=True)
class Calibrated:
    """A site, and what a person should read of how it was made."""

    site: Site
    notes: list[str]


def calibrate_site(
    model: str | Path,
    folder: Path,
    *,
    max_false_positives: float = 0.1,
    confidence: float = 0.95,
    watch: Watch = unwatched,
) -> Calibrated:
    """Calibrate a model on the images of a folder.

    `model` is the name of a bundled model or the path of a model file. Raises `TooFew` where images
    are labelled and too few to promise the false positive rate, or too few to describe; `NotFound`
    for an unknown model, `BadData` for a rate or confidence outside (0, 1).
    """
    if not (0 < max_false_positives < 1 and 0 < confidence < 1):
        raise BadData(
            f"expected a false positive rate and a confidence between 0 and 1, got "
            f"{max_false_positives} and {confidence}"
        )
    chosen, manifest = named_model(model), ingest.ingest(folder)
    with watch("calibrate") as progress:
        measured = measure(chosen, manifest, progress)
    if len(measured.images) < domain.FEWEST:
        raise TooFew(
            f"{folder} has {len(measured.images)} images that {chosen.name} can be applied to"
            f"{_listed(measured.left_out)}; at least {domain.FEWEST} are needed to describe a site"
        )
    return site_of(chosen, measured, manifest, max_false_positives, confidence)


def site_of(
    model: PretrainedModel,
    measured: Measured,
    manifest: Manifest,
    max_false_positives: float,
    confidence: float,
) -> Calibrated:
    """Return the site of measured images; raises as `calibrate_site` does."""
    own, placed = _domain(measured)
    measured = _at_site(model, measured, own)
    thresholds: dict[str, SiteThreshold] = {}
    refusals: dict[str, str] = {}
    for concept in model.concepts:
        found = _threshold(measured, manifest, concept, max_false_positives, confidence)
        if isinstance(found, SiteThreshold):
            thresholds[concept] = found
        else:
            refusals[concept] = found
    site = Site(
        model=model.name,
        model_digest=model.digest,
        images=len(measured.images),
        patients=len(set(measured.patients.tolist())),
        images_digest=storage.digest(sorted(one.pixel_digest for one in measured.images)),
        date=today(),
        thresholds=thresholds,
        refusals=refusals,
        domain=own,
        scores={concept: np.sort(measured.of(concept)) for concept in model.concepts},
        percentiles=np.sort(placed if thresholds else measured.percentiles),
    )
    return Calibrated(site, list(_notes(site, measured)))


def named_model(model: str | Path) -> PretrainedModel:
    """Return a bundled model by its name, or the model file at a path."""
    if Path(model).suffix == ".onnx":
        return PretrainedModel(Path(model))
    found = {one.name: one for one in pretrained.pretrained_models()}
    if str(model) not in found:
        raise NotFound.named("bundled model", str(model), found)
    return found[str(model)]


def measure(
    model: PretrainedModel, manifest: Manifest, progress: Callable[[int, int], None]
) -> Measured:
    """Apply a model to all images of a manifest that it can be applied to."""
    finder, left_out = segment_images.load_lung_model(), Counter[str]()
    images = []
    table = manifest.table.select("image_id", "patient_id", "path")
    for done, (image_id, patient, place) in enumerate(table.iter_rows(), start=1):
        try:
            found = _measure(model, finder, manifest.root / place, image_id, patient)
        except BadData:
            found = "could not be read"
        if isinstance(found, str):
            left_out[found] += 1
        else:
            images.append(found)
        progress(done, table.height)
    return Measured(images, left_out)


def _measure(
    model: PretrainedModel, finder: OnnxModel, path: Path, image_id: str, patient: str
) -> MeasuredImage | str:
    """Return what the model gives for an image, or why it is left out. Raises `BadData`."""
    file = image_file.read(path)
    lungs = segment_images.segment_image(finder, file, path)
    if model.was_trained_on(file.pixel_digest) or training_hashes.is_copy(model.model, lungs.key):
        return "were trained or tuned on, or are copies of such images"
    if model_answers.refusal(lungs):
        return "are refused, as `hilum classify` refuses them"
    if model_answers.outside_population(model, lungs):
        return "are of people unlike those that the model was trained on"
    answer = model_answers.ask(model, lungs, finder)
    return MeasuredImage(
        answer.cut.image,
        answer.outputs.get(domain.OUTPUT),
        answer.placement,
        answer.scores,
        image_id,
        patient,
        file.pixel_digest,
    )


def _domain(measured: Measured) -> tuple[domain.Domain | None, np.ndarray]:
    """Fit the site's domain; return it and the percentile of each of its images, out of fold."""
    features = [one.features for one in measured.images if one.features is not None]
    pixels = np.stack([one.pixels for one in measured.images])
    rows = domain.measurements(pixels, np.stack(features) if features else None)
    distances = domain.crossed_distances(rows, folds.by_name_order(pl.Series(measured.patients)))
    own = domain.fit_crossed(rows, distances, inside=INSIDE, whose=OF_SITE)
    if own is None:
        return None, np.empty(0)
    each = [
        own.of_distances({name: float(of[row]) for name, of in distances.items()}).percentile
        for row in range(len(measured.images))
    ]
    return own, np.array(each)


def _at_site(model: PretrainedModel, measured: Measured, own: domain.Domain | None) -> Measured:
    """Return the images with their scores as they count at the site."""
    metadata = model.model.metadata
    images = [
        replace(one, scores=site_scores.at_site(metadata, one.scores, one.features, own))
        for one in measured.images
    ]
    return Measured(images, measured.left_out)


def _threshold(
    measured: Measured,
    manifest: Manifest,
    concept: str,
    max_false_positives: float,
    confidence: float,
) -> SiteThreshold | str:
    """Choose a concept's threshold, or say why nothing is labelled to choose it on.

    Raises `TooFew` where too little is labelled.
    """
    states = dict(manifest.states(concept).select("image_id", "state").iter_rows())
    state = np.array([states.get(image_id, State.UNCERTAIN) for image_id in measured.image_ids])
    score, patients = measured.of(concept), measured.patients
    negatives = _by_patient(score, patients, state == State.ABSENT, max)
    positives = _by_patient(score, patients, state == State.PRESENT, min)
    needed = risk_control.negatives_needed(max_false_positives, confidence)
    named = name_of(concept).lower()
    promise = f"a false positive rate of at most {max_false_positives:.0%} with {confidence:.0%}"
    if not negatives.size:
        return f"no image is labelled as without {named}; {needed} of as many patients would do"
    found = risk_control.guaranteed_threshold(negatives, max_false_positives, confidence)
    if found is None:
        raise TooFew(
            f"images without {named} of {negatives.size} patients cannot promise {promise} "
            f"confidence: at least {needed} are needed, {needed - negatives.size} more"
            f"{_listed(measured.left_out)}. A higher --max-false-positives or a lower "
            f"--confidence needs fewer"
        )
    detected = int(np.count_nonzero(positives >= found.threshold))
    low, high = risk_control.interval(detected, positives.size, confidence)
    return SiteThreshold(
        found.threshold,
        max_false_positives,
        confidence,
        found.images,
        found.allowed,
        positives.size,
        detected,
        low,
        high,
    )


def _by_patient(
    score: np.ndarray, patients: np.ndarray, rows: np.ndarray, choose: Callable[..., Any]
) -> np.ndarray:
    """Return one score of each patient, chosen among those of `rows`."""
    names = np.unique(patients[rows])
    return np.array([choose(score[rows & (patients == name)]) for name in names])


def _notes(site: Site, measured: Measured) -> list[str]:
    """Say what was left out, what is promised, and how much more it would take."""
    notes = [f"{count} images {why}: left out" for why, count in measured.left_out.items()]
    if measured.percentiles.size:
        outside = sum(not one.placement.inside for one in measured.images)
        count = len(measured.images)
        least = risk_control.lower_bound(outside, count, SURE)
        notes.append(
            f"{outside} of {count} images lie outside the model's own domain: with {SURE:.0%} "
            f"confidence at least {least:.0%} of the images here, and about one in twenty at its "
            f"training hospitals"
        )
    for concept, one in site.thresholds.items():
        notes.append(f"{name_of(concept)}: {one.words()}")
        more = risk_control.negatives_needed(
            one.max_false_positives, one.confidence, one.allowed + RESERVE
        )
        notes.append(
            f"{more - one.negatives} more patients without the finding would let {RESERVE} more "
            f"of them lie above the threshold, which lowers it"
        )
        rate = one.detected / one.positives if one.positives else 0.8
        enough = risk_control.images_needed(rate, HALF_WIDTH, one.confidence)
        if enough > one.positives:
            notes.append(
                f"{enough - one.positives} more patients with the finding would narrow the "
                f"interval of the sensitivity to {2 * HALF_WIDTH:.0%}"
            )
    notes += [f"{name_of(concept)}: no threshold, {why}" for concept, why in site.refusals.items()]
    return notes


def _listed(left_out: Mapping[str, int]) -> str:
    words = ", ".join(f"{count} {why}" for why, count in left_out.items())
    return f" ({words})" if words else ""
