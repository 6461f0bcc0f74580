"""Apply a classifier to an examined image, and call its findings or say why there is no call.

An image may be refused for every model (`refusal`); a model may be known not to call before it is
applied (`reasons_against`); and an image may lie outside the domain of a model that was applied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hilum.config import LungCrop
from hilum.errors import Mismatch, script
from hilum.imaging.radiograph import preprocess
from hilum.inference import (
    acceptance,
    calls,
    domain,
    lung_crop,
    segment_images,
    site_scores,
    training_hashes,
)
from hilum.inference.calls import FindingScore
from hilum.inference.domain import Placement
from hilum.inference.examination import examine_cached
from hilum.inference.onnx_model import OnnxModel
from hilum.inference.pretrained import PretrainedModel
from hilum.inference.site import Site

LEAST = LungCrop.min_mask_quality  # of the lungs: below it images are not cropped along them
NO_SITE = (
    "it counts from what is usual at a site, and no site is given: run `hilum calibrate` on its "
    "images, which need no labels, and pass its file with --site"
)


@dataclass(frozen=True)
class ModelAnswer:
    """What one model gave for one image, and where the image lies in the model's domain."""

    model: PretrainedModel
    cut: lung_crop.Cut
    outputs: Mapping[str, np.ndarray]
    placement: Placement

    @property
    def scores(self) -> dict[str, float]:
        """The scores by concept."""
        values = np.atleast_1d(self.outputs["score"]).tolist()
        return dict(zip(self.model.concepts, values, strict=True))


def refusal(lungs: segment_images.LungResult) -> str:
    """Return why no model is applied to an image; "" where one may be."""
    evidence = acceptance.Lungs(bool(lungs.labels.any()), lungs.quality, LEAST)
    return acceptance.refusal(lungs.quality_flags, lungs.stated, evidence)


def ask(model: PretrainedModel, lungs: segment_images.LungResult, finder: OnnxModel) -> ModelAnswer:
    """Apply a model to the crop that it requires. Raises `Mismatch` as `cut_for` does."""
    cut = cut_for(model, lungs, finder)
    outputs = model.model(cut.image)
    return ModelAnswer(model, cut, outputs, model.model.place(cut.image, outputs))


def reasons_against(
    model: PretrainedModel, lungs: segment_images.LungResult, site: Site | None
) -> tuple[str, str]:
    """Return the reasons against a call that are known before the model is applied; "" is none."""
    of_site = site.domain if site else None
    unusual_where = NO_SITE if model.counts_from_site and of_site is None else ""
    return outside_population(model, lungs), unusual_where


def not_applied(
    model: PretrainedModel, against: Sequence[str], warning: str
) -> Iterator[FindingScore]:
    """Yield for each concept why there is no call, without a score."""
    for concept in model.concepts:
        fitted = model.calibration[concept]
        yield calls.decide(model.name, concept, None, fitted, reasons=against, warning=warning)


def called(
    answer: ModelAnswer, site: Site | None, against: Sequence[str], warning: str
) -> Iterator[FindingScore]:
    """Yield the call of each concept, by the model's own threshold or by the site's."""
    model, features = answer.model, answer.outputs.get(domain.OUTPUT)
    of_site = site.domain if site else None
    scores = site_scores.at_site(model.model.metadata, answer.scores, features, of_site)
    for concept, score in scores.items():
        fitted, placement = model.calibration[concept], answer.placement
        if site and (concept in site.thresholds or model.counts_from_site):
            placement = site.place(answer.cut.image, answer.outputs)
        at_site = site.thresholds.get(concept) if site else None
        if at_site:
            fitted = at_site.as_calibration()
        percentile = None if np.isnan(placement.percentile) else round(placement.percentile, 2)
        one = calls.decide(
            model.name,
            concept,
            score,
            fitted,
            reasons=[placement.reason, *against],
            percentile=percentile,
            warning=warning,
        )
        yield one.warned(at_site.beware) if at_site and one.call == calls.ABSENT else one


def cut_for(
    model: PretrainedModel, lungs: segment_images.LungResult, finder: OnnxModel
) -> lung_crop.Cut:
    """Crop an image as a model requires it.

    Raises `Mismatch` where the model needs lungs found in another square than the finder's.
    """
    contract, radiograph = model.contract, lungs.radiograph
    if contract.content != "crop":
        image = preprocess(radiograph, contract.size, contract.normalisation)
        whole = examine_cached(image, radiograph.size, None)
        return whole.crop(LungCrop(size=contract.size))
    if (model.pixels, contract.normalisation) != (
        finder.contract.size,
        finder.contract.normalisation,
    ):
        raise Mismatch(
            f"{model.place} needs lungs found in images of {model.pixels} pixels "
            f"({contract.normalisation}), but the lung model uses {finder.contract.size} "
            f"({finder.contract.normalisation}): make it with the lung model of this installation, "
            f"by {script('tools.build_models.train_findings')}"
        )
    return lungs.examination.crop(model.crop, model.typical)


def outside_population(model: PretrainedModel, lungs: segment_images.LungResult) -> str:
    """Return why a patient may be none of those a model was trained on; "" where there is none."""
    people = acceptance.People(*model.ages, model.people)
    return acceptance.excluded(model.name, people, lungs.stated, lungs.age_group)


def warned(model: PretrainedModel, lungs: segment_images.LungResult, pixel_digest: str) -> str:
    """Return why a model's call of an image may mean little; "" where there is no reason."""
    reasons = acceptance.warnings(lungs.stated)
    if model.was_trained_on(pixel_digest):
        reasons.append(
            f"{model.name} was trained or tuned on this very image, so its score shows nothing"
        )
    elif training_hashes.is_copy(model.model, lungs.key):
        reasons.append(
            f"{model.name} was trained or tuned on an image of which this is an altered copy, "
            f"so its score shows nothing"
        )
    return "; ".join(reasons)
