"""Classify image files with the bundled models, without a run and without PyTorch.

    OUT/overlay/NAME.jpg    the image as it was read with its lungs, as `hilum lungs` draws it; a
                            red frame where the image was refused or its mask is unreliable
    OUT/CONCEPT/NAME.jpg    where there is a call, the same size, under the map of a model that
                            gives one: brightest where its score comes from (class activation, Zhou
                            et al. 2016), or, where CONCEPT is anomaly, where the image differs most
                            from the normal images of the training set; each map is scaled by itself
    OUT/classify.csv        one row per image, model and concept, see COLUMNS, with scores also
                            `calls.NUMBERS`; for a refused image one row that says why

NAME is as in `hilum.inference.segment_images`, which finds images and lungs here too.
`hilum.inference.acceptance` decides which images are refused, so that no model is applied.
Whether a model calls a finding on the others is decided by `hilum.inference.calls`: not outside the
model's domain (`hilum.inference.domain`) nor outside its population. A warning accompanies the call
of an image that the model was trained or tuned on, or of an altered copy of one
(`hilum.inference.training_hashes`).

A call compares the score with the threshold that the model carries from its own tune (validation)
part, or with that of a site (`hilum.inference.site`), inside that site's own domain. Scores, and
maps of what is not called, are given on request only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hilum import storage
from hilum.annotations.vocabulary import name_of
from hilum.config import LungCrop
from hilum.drawing.images import heat
from hilum.errors import Mismatch, NotFound, on_one_line, script
from hilum.imaging.batch.each_image import Say, Watch, for_each, unheard, unwatched
from hilum.imaging.batch.results_table import Table
from hilum.imaging.files import dicom, image_file, output_folder, raster
from hilum.imaging.files.find_images import collect
from hilum.imaging.geometry import resize
from hilum.imaging.radiograph import preprocess, to_uint8
from hilum.inference import (
    acceptance,
    calls,
    domain,
    lung_crop,
    model_cards,
    pretrained,
    saliency,
    segment_images,
    site_scores,
    training_hashes,
)
from hilum.inference.calls import FindingScore, ImageResult
from hilum.inference.delivery import Delivery, ModelIdentity
from hilum.inference.domain import Placement
from hilum.inference.examination import examine_cached
from hilum.inference.onnx_model import OnnxModel
from hilum.inference.pretrained import PretrainedModel
from hilum.inference.site import Site
from hilum.safety.path_names import as_text

LEAST = LungCrop.min_mask_quality  # of the lungs: below it images are not cropped along them
TABLE = "classify.csv"
NO_SITE = (
    "it counts from what is usual at a site, and no site is given: run `hilum calibrate` on its "
    "images, which need no labels, and pass its file with --site"
)
COLUMNS = (
    "image",
    "name",
    "refused",
    "quality_flags",
    "lung_quality",
    "age_years",
    "model",
    "concept",
    "call",
    "no_call",
    "warning",
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


def classify_images(
    images: Sequence[str | Path],
    to: Path | None = None,
    *,
    models: Sequence[PretrainedModel] | None = None,
    scores: bool = False,
    site: Site | None = None,
    delivery: Delivery | None = None,
    watch: Watch = unwatched,
    say: Say = unheard,
) -> tuple[list[ImageResult], list[str]]:
    """Classify each image; return the results and the faults of unreadable images.

    `models` are all bundled ones by default. With `scores` the table has the numbers and maps are
    drawn also without a call. With `site` its model alone is applied, at the site's threshold, and
    `say` hears where the images differ from the site's. `delivery` takes what was found in each
    image. `images`, `say` and errors are otherwise
    those of `segment_images.segment_images`. Raises `NotFound` where this installation has no
    models, `Mismatch` where the site was calibrated for none of them.
    """
    classifiers = pretrained.pretrained_models() if models is None else models
    if site:
        classifiers = [site.own_model(classifiers)]
    if not classifiers:
        raise NotFound(
            f"{model_cards.NO_MODEL} (searched {pretrained.folder()}): install a release of Hilum, "
            f"train the models with {script('tools.build_models.train_findings')}, "
            f"or train your own with `hilum run` and apply it "
            f"with `hilum apply RUN IMAGE`"
        )
    finder, out = segment_images.load_lung_model(), output_folder.Output(to, "classify")

    at_site = site.digest if site else ""
    identities = [ModelIdentity.of(one.name, one.model, one.calibration) for one in classifiers]

    def work(path: Path, name: str) -> ImageResult:
        """Classify one file and write its overlays."""
        file = image_file.read(path)
        if delivery:
            delivery.refuse(path, file)
        result, lungs, maps = _classify(classifiers, finder, path, name, file, site)
        if delivery:
            found = segment_images.findings(lungs, file, finder)
            delivery.deliver(path, name, found.classified(result, identities, at_site))
        if out:
            called = {one.concept for one in result.scores if scores or one.call}
            shown = {concept: of for concept, of in maps.items() if concept in called}
            _write(out, result, lungs, shown)
        return result

    digests = [model.digest for model in classifiers]
    made_by = [storage.digest_of_file(finder.path), *digests, scores, at_site]
    also = delivery.outputs if delivery else ()
    made_by += [delivery.made_by] if delivery else []
    table = table_of(out, TABLE, made_by, also, scores=scores) if out else None
    found = collect(images, output_folder.folders(out, *also))
    results, faults = for_each(found, work, title="classify", watch=watch, say=say, table=table)
    for sentence in site.drift(results) if site else ():
        say(sentence)
    return results, faults


def table_of(
    out: output_folder.Output,
    file: str,
    made_by: object,
    also: tuple[output_folder.Output, ...] = (),
    *,
    scores: bool,
) -> Table[ImageResult]:
    """Return the table in an output folder, see `Table`; with `scores` their numbers too."""
    columns = (*COLUMNS, *calls.NUMBERS) if scores else COLUMNS

    def chosen(found: Sequence[ImageResult]) -> Iterator[Mapping[str, object]]:
        """Yield the rows of the table."""
        return rows(found, scores=scores)

    return Table(
        out, file, columns, made_by, chosen, ImageResult.as_dict, ImageResult.of_dict, also
    )


def _classify(
    models: Sequence[PretrainedModel],
    finder: OnnxModel,
    path: Path,
    name: str,
    file: raster.Raster | dicom.Dicom,
    site: Site | None,
) -> tuple[ImageResult, segment_images.LungResult, dict[str, np.ndarray]]:
    """Return a file's calls, its lungs, and by concept the maps, float32 (height, width), upright.

    Raises `BadData`.
    """
    lungs = segment_images.segment_image(finder, file, path)
    why = refusal(lungs)
    found: list[FindingScore] = []
    maps: dict[str, np.ndarray] = {}
    for model in [] if why else models:
        answer = ask(model, lungs, finder)
        found += _called(answer, lungs, file.pixel_digest, site)
        if saliency.MAP in answer.outputs:
            maps |= _upright_maps(model, answer.outputs[saliency.MAP], answer.cut, lungs)
    flags = ", ".join(flag.fault for flag in lungs.quality_flags)
    quality, age = round(lungs.quality, 4), lungs.stated.age_years
    return ImageResult(as_text(path), name, why, flags, quality, age, found), lungs, maps


def refusal(lungs: segment_images.LungResult) -> str:
    """Return why no model is applied to an image; "" where one may be."""
    evidence = acceptance.Lungs(bool(lungs.native_labels.any()), lungs.quality, LEAST)
    return acceptance.refusal(lungs.quality_flags, lungs.stated, evidence)


def ask(model: PretrainedModel, lungs: segment_images.LungResult, finder: OnnxModel) -> ModelAnswer:
    """Apply a model to the crop that it requires. Raises `Mismatch` as `cut_for` does."""
    cut = cut_for(model, lungs, finder)
    outputs = model.model(cut.image)
    return ModelAnswer(model, cut, outputs, model.model.place(cut.image, outputs))


def _called(
    answer: ModelAnswer, lungs: segment_images.LungResult, pixel_digest: str, site: Site | None
) -> Iterator[FindingScore]:
    """Yield the call of each concept, by the model's own threshold or by the site's."""
    model, warning = answer.model, warned(answer.model, lungs, pixel_digest)
    of_people = outside_population(model, lungs)
    features = answer.outputs.get(domain.OUTPUT)
    of_site = site.domain if site else None
    unusual_where = NO_SITE if model.counts_from_site and of_site is None else ""
    scores = site_scores.at_site(model.model.metadata, answer.scores, features, of_site)
    for concept, score in scores.items():
        fitted, placement = model.calibration[concept], answer.placement
        if site and (concept in site.thresholds or model.counts_from_site):
            placement = site.place(answer.cut.image, answer.outputs)
        if site and concept in site.thresholds:
            fitted = site.thresholds[concept].as_calibration()
        percentile = None if np.isnan(placement.percentile) else round(placement.percentile, 2)
        yield calls.decide(
            model.name,
            concept,
            score,
            fitted,
            reasons=[placement.reason, of_people, unusual_where],
            percentile=percentile,
            warning=warning,
        )


def _upright_maps(
    model: PretrainedModel,
    maps: np.ndarray,
    cut: lung_crop.Cut,
    lungs: segment_images.LungResult,
) -> dict[str, np.ndarray]:
    """Return a model's maps by concept in the radiograph's pixels."""
    back = cut.to_file(lungs.radiograph.size).back
    by_concept = zip(model.concepts, maps.reshape(-1, *maps.shape[-2:]), strict=True)
    return {
        concept: back(saliency.upsample(one, model.contract.size)) for concept, one in by_concept
    }


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
    elif training_hashes.is_copy(model.model, lungs.image, lungs.radiograph.size):
        reasons.append(
            f"{model.name} was trained or tuned on an image of which this is an altered copy, "
            f"so its score shows nothing"
        )
    return "; ".join(reasons)


# ---------------------------------------------------------------------------- summaries


def lines(
    found: Sequence[ImageResult],
    to: Path | None,
    written: str = "overlays and table",
    *,
    scores: bool = False,
    notes: Sequence[str] = (),
) -> str:
    """Format the results for a person: one line per image and finding, and where `written` lies.

    With `scores` their numbers follow the calls; `notes` are about all images together.
    """
    if not found:
        return "nothing was classified: no image could be read"
    text = [line for one in found for line in _lines(one, scores)]
    where = [f"{written}: {to.resolve()}"] if to else []
    text += [f"note: {note}" for note in notes]
    return "\n".join([*text, *where, "For research only; not for diagnosis."])


def _lines(one: ImageResult, scores: bool) -> Iterator[str]:
    summary = (
        f"refused: {one.refused}" if one.refused else f"lungs of quality {one.lung_quality:.2f}"
    )
    yield f"{on_one_line(one.image)}: {summary}"
    for score in one.scores:
        named = name_of(score.concept) if score.concept != "anomaly" else "Anomaly"
        call = score.call or f"no call: {score.no_call}"
        yield f"  {named}: {call}{_numbers(score) if scores else ''} [{score.model}]"
    for warning in dict.fromkeys(score.warning for score in one.scores if score.warning):
        yield f"  warning: {warning}"


def _numbers(score: FindingScore) -> str:
    threshold = "" if score.threshold is None else f" (threshold {score.threshold:.3g})"
    probability = (
        ""
        if score.probability is None
        else f", probability {score.probability:.0%} as calibrated on the training site"
    )
    return f"; score {score.score:.3g}{threshold}{probability}"


def rows(found: Sequence[ImageResult], *, scores: bool) -> Iterator[Mapping[str, object]]:
    """Yield a row of the table per call; for a refused image one that says why."""
    for one in found:
        about = {key: value for key, value in one.as_dict().items() if key != "scores"}
        called = [score.reported(scores=scores) for score in one.scores]
        yield from ({**about, **of_model} for of_model in called) if called else [about]


# ---------------------------------------------------------------------------- output files


def _write(
    out: output_folder.Output,
    result: ImageResult,
    lungs: segment_images.LungResult,
    maps: Mapping[str, np.ndarray],
) -> None:
    framed = bool(result.refused) or not lungs.trusted
    storage.write_bytes(
        out.path("overlay", f"{result.name}.jpg"), segment_images.overlay(lungs, framed=framed)
    )
    for concept, found in maps.items():
        storage.write_bytes(
            out.path(concept, f"{result.name}.jpg"),
            heat_overlay(to_uint8(lungs.radiograph.pixels), found),
        )


def heat_overlay(pixels: np.ndarray, found: np.ndarray) -> bytes:
    """Encode an image, uint8 (height, width), under a map of the same size as JPEG.

    Brightest where the map is highest; at most `segment_images.OVERLAY` pixels long.
    """
    scale = min(1.0, segment_images.OVERLAY / max(found.shape))
    height, width = (max(1, round(side * scale)) for side in found.shape)
    # The median of the positive values is where colour begins, so that faint maps stay visible.
    low, high = np.quantile(found[found > 0], (0.5, 0.999)) if (found > 0).any() else (0.0, 1.0)
    strength = (resize(found, (height, width)) - low) / max(high - low, 1e-6)
    canvas = heat(resize(pixels, (height, width)), strength)
    return cv2.imencode(".jpg", canvas[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
