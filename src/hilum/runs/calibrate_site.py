"""Calibrate a pretrained model on one site's images: a threshold with a guarantee, and a domain.

The images are those that `hilum.runs.site_images` keeps; labels and patients are understood as
`hilum ingest` understands them. An image whose label is uncertain or not mentioned serves the
domain only. What is promised is of patients: of one with several images without the finding the
highest score counts, and of one with several images with it the lowest, so that a patient is
called present where any image is, and detected where all are.

The labels of the anomaly model are those of any abnormality: absent where the images are labelled
as normal, present where any finding is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hilum import storage
from hilum.annotations.vocabulary import State, name_of
from hilum.config import Data
from hilum.dataset.manifest import Manifest
from hilum.errors import BadData, HilumError, TooFew
from hilum.imaging.batch.each_image import Watch, unwatched
from hilum.inference import domain, pretrained, site_scores
from hilum.inference.pretrained import PretrainedModel
from hilum.inference.site import OF_SITE, Site, SiteThreshold, percent, today
from hilum.pipeline import ingest
from hilum.runs.site_images import Measured, measure
from hilum.safety.path_names import as_text
from hilum.statistics import folds, risk_control

ANOMALY, ABNORMALITY = "anomaly", "abnormality"  # a model's task; the concept of its labels
INSIDE = 0.95  # of a site's further images lie within each detector's limit
SURE = 0.95  # confidence of a statement on how far a site is from the training hospitals
RESERVE = 3  # images above the threshold that make it worth while: how many more it would take
HALF_WIDTH = 0.1  # of a sensitivity's interval that is narrow enough to rely on


def calibrate_site(
    model: str | Path,
    folder: Path,
    *,
    max_false_positives: float = 0.1,
    confidence: float = 0.95,
    watch: Watch = unwatched,
) -> Site:
    """Calibrate a model on the images of a folder.

    `model` is the name of a pretrained model or the path of a model file. Raises `TooFew` where
    patients are labelled and too few to promise the false positive rate, or too few to describe;
    `NotFound` for an unknown model, `BadData` for a rate or confidence outside (0, 1) and for one
    that no number of images can support.
    """
    if not (0 < max_false_positives < 1 and 0 < confidence < 1):
        raise BadData(
            f"expected a false positive rate and a confidence between 0 and 1, got "
            f"{max_false_positives} and {confidence}"
        )
    if risk_control.negatives_needed(max_false_positives, confidence) is None:
        raise BadData(
            f"a false positive rate of at most {percent(max_false_positives)} with "
            f"{percent(confidence)} confidence takes more than {risk_control.MOST_IMAGES:,} "
            f"patients; expected a higher --max-false-positives or a lower --confidence"
        )
    chosen, manifest = pretrained.named(model), ingest.ingest(folder)
    with watch("calibrate") as progress:
        measured = measure(chosen, manifest, progress)
    return site_of(chosen, measured, manifest, max_false_positives, confidence)


def refuse_place(to: Path, folder: Path) -> None:
    """Raise `HilumError` where a site's file may not be written at `to`.

    That is in `folder`, the site's images, and in place of anything but a site's file.
    """
    Data(folder=as_text(folder)).refuse_inside(to, "choose another file with --out")
    if not to.exists():
        return
    try:
        Site.read(to)
    except HilumError:
        raise HilumError(
            f"{to} exists already and is no file of `hilum calibrate`; choose another name with "
            f"--out, or delete it"
        ) from None


def site_of(
    model: PretrainedModel,
    measured: Measured,
    manifest: Manifest,
    max_false_positives: float,
    confidence: float,
) -> Site:
    """Return the site of measured images; raises as `calibrate_site` does."""
    own, distances = _domain(measured)
    placed = [
        own.of_distances({name: float(of[row]) for name, of in distances.items()})
        for row in range(len(measured.images))
    ]
    measured, inside = _at_site(model, measured), np.array([one.inside for one in placed])
    thresholds: dict[str, SiteThreshold] = {}
    refusals: dict[str, str] = {}
    few = ""
    for concept in model.concepts:
        labelled = _labelled(measured, manifest, concept, inside)
        found = _threshold(labelled, max_false_positives, confidence)
        if isinstance(found, SiteThreshold):
            thresholds[concept] = found
        else:
            refusals[concept] = found
            few = few or (found if labelled.negatives.size else "")
    if few and not thresholds:
        raise TooFew(f"{few}{_listed(measured.left_out)}")
    within = thresholds or model.counts_from_site  # of its own domain, see `classify_images`
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
        percentiles=np.sort([one.percentile for one in placed] if within else measured.percentiles),
    )
    return replace(site, notes=tuple(_notes(site, measured, manifest)))


def _domain(measured: Measured) -> tuple[domain.Domain, Mapping[str, np.ndarray]]:
    """Fit the site's domain; return it and the distances of each of its images, out of fold.

    Raises `TooFew` for images of fewer than `domain.FEWEST` patients.
    """
    count, people = len(measured.images), len(set(measured.patients.tolist()))
    if people < domain.FEWEST:
        raise TooFew(
            f"the model can be applied to {count} images of {people} patients here"
            f"{_listed(measured.left_out)}; at least {domain.FEWEST} patients are needed to "
            f"describe a site"
        )
    features = [one.features for one in measured.images if one.features is not None]
    pixels = np.stack([one.pixels for one in measured.images])
    rows = domain.measurements(pixels, np.stack(features) if features else None)
    distances = domain.crossed_distances(rows, folds.by_name_order(pl.Series(measured.patients)))
    own = domain.fit_crossed(rows, distances, inside=INSIDE, whose=OF_SITE)
    return own, distances


def _at_site(model: PretrainedModel, measured: Measured) -> Measured:
    """Return the images with their scores as they count at the site without their own patient."""
    features = [one.features for one in measured.images if one.features is not None]
    if not (model.counts_from_site and features):
        return measured
    direction = site_scores.Direction.of(model.model.metadata)
    found = direction.without_own(np.stack(features), measured.patients).tolist()
    images = [
        replace(one, scores=dict.fromkeys(one.scores, score))
        for one, score in zip(measured.images, found, strict=True)
    ]
    return Measured(images, measured.left_out)


@dataclass(frozen=True)
class Labelled:
    """A concept's scores by patient, without it and with it.

    `positives` are minus infinity where an image of the patient lies outside the site's domain,
    and so would get no call. `others` are the concepts that the site's images are labelled with.
    """

    concept: str
    negatives: np.ndarray
    positives: np.ndarray
    others: Sequence[str]


def _labelled(measured: Measured, manifest: Manifest, concept: str, inside: np.ndarray) -> Labelled:
    """Select the labelled patients of a concept; `inside` (n,) is of the site's domain."""
    states = _states(manifest, concept)
    state = np.array([states.get(image_id, State.UNCERTAIN) for image_id in measured.image_ids])
    score, patients = measured.of(concept), measured.patients
    return Labelled(
        concept,
        _by_patient(score, patients, state == State.ABSENT, max),
        _by_patient(np.where(inside, score, -np.inf), patients, state == State.PRESENT, min),
        manifest.labels["concept"].unique().sort().to_list(),
    )


def _states(manifest: Manifest, concept: str) -> Mapping[str, int | None]:
    """Return the state of a concept by image; of the anomaly model's that of any abnormality."""
    if concept != ANOMALY:
        return dict(manifest.states(concept).select("image_id", "state").iter_rows())
    found = dict(manifest.states(ABNORMALITY).select("image_id", "state").iter_rows())
    present = manifest.labels.filter(pl.col("state") == State.PRESENT)["image_id"]
    return found | dict.fromkeys(present, State.PRESENT)


def _threshold(
    labelled: Labelled, max_false_positives: float, confidence: float
) -> SiteThreshold | str:
    """Choose a concept's threshold, or say why there is none."""
    named, negatives, positives = _named(labelled.concept), labelled.negatives, labelled.positives
    needed = risk_control.negatives_needed(max_false_positives, confidence)
    if not negatives.size:
        others = ", ".join(name_of(one) for one in labelled.others)
        labels = f"labels here are of {others}" if others else "there are no labels here"
        return f"no image is labelled as without {named}, which takes {needed} patients; {labels}"
    found = risk_control.guaranteed_threshold(negatives, max_false_positives, confidence)
    if found is None:
        return (
            f"images without {named} of {negatives.size} patients cannot promise a false positive "
            f"rate of at most {percent(max_false_positives)} with {percent(confidence)} "
            f"confidence: at least {needed} are needed, {(needed or 0) - negatives.size} more. A "
            f"higher --max-false-positives or a lower --confidence needs fewer"
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


def _named(concept: str) -> str:
    return name_of(ABNORMALITY if concept == ANOMALY else concept).lower()


def _by_patient(
    score: np.ndarray, patients: np.ndarray, rows: np.ndarray, choose: Callable[..., Any]
) -> np.ndarray:
    """Return one score of each patient, chosen among those of `rows`."""
    names = np.unique(patients[rows])
    return np.array([choose(score[rows & (patients == name)]) for name in names])


def _notes(site: Site, measured: Measured, manifest: Manifest) -> list[str]:
    """Say what was left out, what is promised, and how much more it would take."""
    notes = [f"{count} images {why}: left out" for why, count in measured.left_out.items()]
    if copies := measured.copies:
        notes.append(
            f"{len({other for _, other in copies})} images are copies of others: patients who "
            f"share an image count as one"
        )
    if (manifest.table["patient_id"] == manifest.table["image_id"]).any():
        notes.append(
            "nothing names the patients, so every image counts as a patient of its own: where "
            "several are of one patient, what is promised does not hold; add a column of patients"
        )
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
        notes.append(f"{name_of(concept).capitalize()}: {one.words()}")
        notes += _more(one)
    notes += [
        f"{name_of(concept).capitalize()}: no threshold, {why}"
        for concept, why in site.refusals.items()
    ]
    return notes


def _more(one: SiteThreshold) -> list[str]:
    """Say how many more patients would lower a threshold, and narrow its sensitivity."""
    found = []
    more = risk_control.negatives_needed(
        one.max_false_positives, one.confidence, one.allowed + RESERVE
    )
    if more is not None:
        found.append(
            f"{more - one.negatives} more patients without the finding would let {RESERVE} more "
            f"of them lie above the threshold, which lowers it"
        )
    rate = one.detected / one.positives if one.positives else 0.8
    enough = risk_control.images_needed(rate, HALF_WIDTH, one.confidence)
    if enough > one.positives:
        found.append(
            f"{enough - one.positives} more patients with the finding would narrow the "
            f"interval of the sensitivity to {2 * HALF_WIDTH:.0%}"
        )
    return found


def _listed(left_out: Mapping[str, int]) -> str:
    words = ", ".join(f"{count} {why}" for why, count in left_out.items())
    return f" ({words})" if words else ""
