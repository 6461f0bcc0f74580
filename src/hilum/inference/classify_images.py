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

A model that could not call, of other people or without the site that its scores count from, is
applied only where scores are requested or the images of a site are watched.

A call compares the score with the threshold that the model carries from its own tune (validation)
part, or with that of a site (`hilum.inference.site`), inside that site's own domain. Scores, and
maps of what is not called, are given on request only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hilum import storage
from hilum.annotations.vocabulary import name_of
from hilum.drawing.images import heat
from hilum.errors import NotFound, on_one_line, script
from hilum.imaging.batch.each_image import Say, Watch, for_each, unheard, unwatched
from hilum.imaging.batch.results_table import Table
from hilum.imaging.files import dicom, image_file, output_folder, raster
from hilum.imaging.files.find_images import collect
from hilum.imaging.geometry import resize
from hilum.imaging.radiograph import to_uint8
from hilum.inference import (
    calls,
    model_answers,
    model_cards,
    pretrained,
    saliency,
    segment_images,
)
from hilum.inference.calls import FindingScore, ImageResult
from hilum.inference.delivery import Delivery, ModelIdentity
from hilum.inference.model_answers import ModelAnswer
from hilum.inference.onnx_model import OnnxModel
from hilum.inference.pretrained import PretrainedModel
from hilum.inference.site import Site
from hilum.safety.path_names import as_text

TABLE = "classify.csv"
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
    drawn also without a call; otherwise a model that could not call is not applied and its score is
    None. With `site` its model alone is applied, at the site's threshold, and
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
    identities = tuple(
        ModelIdentity.of(one.name, one.model, one.calibration) for one in classifiers
    )

    digests = [model.digest for model in classifiers]
    made_by = [storage.digest_of_file(finder.path), *digests, scores, at_site]
    also = delivery.outputs if delivery else ()
    made_by += [delivery.made_by] if delivery else []
    table = table_of(out, TABLE, made_by, also, scores=scores) if out else None
    found = collect(images, output_folder.folders(out, *also))
    work = _Classifying(tuple(classifiers), finder, site, scores, identities, out, delivery)
    results, faults = for_each(
        found,
        work,
        title="classify",
        watch=watch,
        say=say,
        table=table,
        plain=ImageResult.as_dict,
        restored=ImageResult.of_dict,
    )
    for sentence in site.drift(results) if site else ():
        say(sentence)
    return results, faults


@dataclass(frozen=True)
class _Classifying:
    """Classifies one file and writes its overlays."""

    models: tuple[PretrainedModel, ...]
    finder: OnnxModel
    site: Site | None
    scores: bool
    identities: tuple[ModelIdentity, ...]
    out: output_folder.Output
    delivery: Delivery | None

    def __call__(self, path: Path, name: str) -> ImageResult:
        file = image_file.read(path)
        if self.delivery:
            self.delivery.refuse(path, file)
        result, lungs, answers = classify_file(
            self.models, self.finder, file, path, name, site=self.site, scores=self.scores
        )
        if self.delivery:
            found = segment_images.findings(lungs, file, self.finder)
            at_site = self.site.digest if self.site else ""
            self.delivery.deliver(path, name, found.classified(result, self.identities, at_site))
        if self.out:
            called = {one.concept for one in result.scores if self.scores or one.call}
            _write(self.out, result, lungs, _upright_maps(answers, called, lungs))
        return result


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

    return Table(out, file, columns, made_by, chosen, also)


def classify_file(
    models: Sequence[PretrainedModel],
    finder: OnnxModel,
    file: raster.Raster | dicom.Dicom,
    path: Path,
    name: str,
    *,
    site: Site | None = None,
    scores: bool = False,
) -> tuple[ImageResult, segment_images.LungResult, list[ModelAnswer]]:
    """Return the calls of a file that was read, its lungs, and what the applied models gave.

    Raises `BadData`.
    """
    lungs = segment_images.segment_image(finder, file, path)
    why = model_answers.refusal(lungs)
    found: list[FindingScore] = []
    answers: list[ModelAnswer] = []
    for model in [] if why else models:
        warning = model_answers.warned(model, lungs, file.pixel_digest)
        against = model_answers.reasons_against(model, lungs, site)
        if any(against) and not scores and not site:
            found += model_answers.not_applied(model, against, warning)
            continue
        answers.append(model_answers.ask(model, lungs, finder))
        found += model_answers.called(answers[-1], site, against, warning)
    flags = ", ".join(flag.fault for flag in lungs.quality_flags)
    quality, age = round(lungs.quality, 4), lungs.stated.age_years
    return ImageResult(as_text(path), name, why, flags, quality, age, found), lungs, answers


def _upright_maps(
    answers: Iterable[ModelAnswer], concepts: Collection[str], lungs: segment_images.LungResult
) -> dict[str, np.ndarray]:
    """Return the maps of some concepts, float32 (height, width) in the radiograph's pixels."""
    found = {}
    for answer in answers:
        if saliency.MAP not in answer.outputs:
            continue
        maps, back = answer.outputs[saliency.MAP], answer.cut.to_file(lungs.radiograph.size).back
        of_concepts = maps.reshape(-1, *maps.shape[-2:])
        for concept, one in zip(answer.model.concepts, of_concepts, strict=True):
            if concept in concepts:
                found[concept] = back(saliency.upsample(one, answer.model.contract.size))
    return found


# ---------------------------------------------------------------------------- summaries


def lines(
    found: Sequence[ImageResult],
    to: Path | None,
    written: str = "overlays and table",
    *,
    scores: bool = False,
) -> str:
    """Format the results for a person: one line per image and finding, and where `written` lies.

    With `scores` their numbers follow the calls.
    """
    if not found:
        return "nothing was classified: no image could be read"
    text = [line for one in found for line in _lines(one, scores)]
    where = [f"{written}: {to.resolve()}"] if to else []
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
    if score.score is None:
        return ""
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
