"""Classify image files with the bundled models, without a run and without PyTorch.

    OUT/overlay/NAME.jpg    the image as it was read with its lungs, as `hilum lungs` draws it; a
                            red frame where the image was refused or its mask is unreliable
    OUT/CONCEPT/NAME.jpg    the same size, under the map of a model that gives one: brightest where
                            its score comes from (class activation, Zhou et al. 2016), or, where
                            CONCEPT is anomaly, where the image differs most from the normal images
                            of the training set; each map is scaled by itself
    OUT/classify.csv        one row per image, model and concept, see COLUMNS; for a refused image
                            one row that says why

NAME is as in `hilum.inference.segment_images`, which finds images and lungs here too.
`hilum.inference.acceptance` decides which images are refused, so that no score is given, and which
are scored with a warning, for example for an age outside a model's training population. A warning
also accompanies the score of an image that the model was trained or tuned on, or of an altered copy
of one (`hilum.inference.training_hashes`).

A call compares the score with the threshold that the model carries from its own tune (validation)
part; a probability is calibrated there. Elsewhere, with other prevalence and devices, neither need
hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
from hilum.imaging.files import image_file, output_folder
from hilum.imaging.files.find_images import collect
from hilum.imaging.geometry import resize
from hilum.imaging.radiograph import preprocess, to_uint8
from hilum.inference import (
    acceptance,
    lung_crop,
    pretrained,
    saliency,
    segment_images,
    training_hashes,
)
from hilum.inference.examination import examine_cached
from hilum.inference.onnx_model import OnnxModel
from hilum.inference.pretrained import PretrainedModel
from hilum.safety.path_names import as_text
from hilum.statistics import calibration
from hilum.statistics.calibration import Fitted
from hilum.storage import JsonObject

LEAST = LungCrop.min_mask_quality  # of the lungs: below it images are not cropped along them
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
    "score",
    "probability",
    "threshold",
    "call",
    "warning",
)
PRESENT, ABSENT = "present", "absent"
_NO_MODEL = "this installation has no bundled classifier"


@dataclass(frozen=True)
class FindingScore:
    """One model's score of one concept.

    `probability` is None without a calibration, `threshold` and `call` without a threshold.
    """

    model: str
    concept: str
    score: float
    probability: float | None
    threshold: float | None
    call: str | None
    warning: str


@dataclass(frozen=True)
class ImageResult:
    """The scores of one image; `refused` says why there are none, "" where there are."""

    image: str
    name: str
    refused: str
    quality_flags: str
    lung_quality: float
    age_years: float | None  # as stated by the file
    scores: list[FindingScore] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """Return the result for JSON."""
        return asdict(self)

    @classmethod
    def of_dict(cls, stored: JsonObject) -> ImageResult:
        """Return the result that `as_dict` was made of."""
        return cls(**{**stored, "scores": [FindingScore(**one) for one in stored["scores"]]})


def classify_images(
    images: Sequence[str | Path],
    to: Path | None = None,
    *,
    models: Sequence[PretrainedModel] | None = None,
    watch: Watch = unwatched,
    say: Say = unheard,
) -> tuple[list[ImageResult], list[str]]:
    """Classify each image; return the results and the faults of unreadable images.

    `models` are all bundled ones by default; `images`, `say` and errors are those of
    `segment_images.segment_images`. Raises `NotFound` where this installation has no models.
    """
    classifiers = pretrained.pretrained_models() if models is None else models
    if not classifiers:
        raise NotFound(
            f"{_NO_MODEL} (searched {pretrained.folder()}): install a release of Hilum, train the "
            f"models with {script('tools.build_models.train_findings')}, "
            f"or train your own with `hilum run` and apply it "
            f"with `hilum apply RUN IMAGE`"
        )
    finder, out = segment_images.load_lung_model(), output_folder.Output(to, "classify")

    def work(path: Path, name: str) -> ImageResult:
        """Classify one file and write its overlays."""
        result, lungs, maps = _classify(classifiers, finder, path, name)
        if out:
            _write(out, result, lungs, maps)
        return result

    made_by = [storage.digest_of_file(finder.path), *(model.digest for model in classifiers)]
    table = table_of(out, TABLE, made_by) if out else None
    found = collect(images, out.folders)
    return for_each(found, work, title="classify", watch=watch, say=say, table=table)


def table_of(
    out: output_folder.Output,
    file: str,
    made_by: object,
    also: tuple[output_folder.Output, ...] = (),
) -> Table[ImageResult]:
    """Return the table of COLUMNS in an output folder; see `Table`."""
    return Table(out, file, COLUMNS, made_by, rows, ImageResult.as_dict, ImageResult.of_dict, also)


def _classify(
    models: Sequence[PretrainedModel], finder: OnnxModel, path: Path, name: str
) -> tuple[ImageResult, segment_images.LungResult, dict[str, np.ndarray]]:
    """Return a file's scores, its lungs, and by concept the maps, float32 (height, width), upright.

    Raises `BadData`.
    """
    file = image_file.read(path)
    lungs = segment_images.segment_image(finder, file, path)
    evidence = acceptance.Lungs(bool(lungs.native_labels.any()), lungs.quality, LEAST)
    why = acceptance.refusal(lungs.quality_flags, lungs.stated, evidence)
    scores: list[FindingScore] = []
    maps: dict[str, np.ndarray] = {}
    for model in [] if why else models:
        cut = cut_for(model, lungs, finder)
        outputs, warning = model.model(cut.image), warned(model, lungs, file.pixel_digest)
        values = np.atleast_1d(outputs["score"]).tolist()
        scores += [
            scored(model.name, concept, value, model.calibration[concept], warning)
            for concept, value in zip(model.concepts, values, strict=True)
        ]
        if saliency.MAP in outputs:
            maps |= _upright_maps(model, outputs[saliency.MAP], cut, lungs)
    flags = ", ".join(flag.fault for flag in lungs.quality_flags)
    quality, age = round(lungs.quality, 4), lungs.stated.age_years
    return ImageResult(as_text(path), name, why, flags, quality, age, scores), lungs, maps


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


def warned(model: PretrainedModel, lungs: segment_images.LungResult, pixel_digest: str) -> str:
    """Return why a model's score of an image may mean little; "" where there is no reason."""
    people = acceptance.People(*model.ages, model.people)
    reasons = [
        *acceptance.warnings(lungs.stated),
        acceptance.age_warning(model.name, people, lungs.stated, lungs.labels),
    ]
    if model.was_trained_on(pixel_digest):
        reasons.append(
            f"{model.name} was trained or tuned on this very image, so its score shows nothing"
        )
    elif training_hashes.is_copy(model.model, lungs.image, lungs.radiograph.size):
        reasons.append(
            f"{model.name} was trained or tuned on an image of which this is an altered copy, "
            f"so its score shows nothing"
        )
    return "; ".join(filter(None, reasons))


def scored(
    model: str, concept: str, score: float, known: Fitted | None, warning: str
) -> FindingScore:
    """Return a score with its call and probability.

    `known` is the concept's calibration as written by `hilum.statistics.calibration.to_json`; None
    where nothing was fitted.
    """
    threshold = known["threshold"] if known else None
    fits = calibration.from_json(known) if known else {}
    call = None
    if threshold is not None:
        call = PRESENT if score >= threshold else ABSENT
    probability = float(fits["temperature"](np.array(score))) if "temperature" in fits else None
    return FindingScore(model, concept, score, probability, threshold, call, warning)


# ---------------------------------------------------------------------------- summaries


def lines(
    found: Sequence[ImageResult], to: Path | None, written: str = "overlays and table"
) -> str:
    """Format the results for a person: one line per image and finding, and where `written` lies."""
    if not found:
        return "nothing was classified: no image could be read"
    text = [line for one in found for line in _lines(one)]
    where = [f"{written}: {to.resolve()}"] if to else []
    return "\n".join([*text, *where, "For research only; not for diagnosis."])


def _lines(one: ImageResult) -> Iterator[str]:
    summary = (
        f"refused: {one.refused}" if one.refused else f"lungs of quality {one.lung_quality:.2f}"
    )
    yield f"{on_one_line(one.image)}: {summary}"
    for score in one.scores:
        named = name_of(score.concept) if score.concept != "anomaly" else "Anomaly"
        probability = (
            ""
            if score.probability is None
            else f", probability {score.probability:.0%} as calibrated on the training site"
        )
        call = (
            "no threshold"
            if score.threshold is None
            else f"{score.call} (threshold {score.threshold:.3g})"
        )
        yield f"  {named}: {call}, score {score.score:.3g}{probability} [{score.model}]"
    for warning in dict.fromkeys(score.warning for score in one.scores if score.warning):
        yield f"  warning: {warning}"


def cards(models: Sequence[PretrainedModel]) -> list[dict[str, object]]:
    """Return each model's card for JSON: its data, population, figures and limits."""
    return [
        {
            "model": model.name,
            "file": model.place.name,
            "digest": model.digest,
            "title": model.card.title,
            "says": list(model.concepts),
            "trained on": f"{model.people}, {model.ages[0]:g} to {model.ages[1]:g} years old; "
            f"{model.card.counts}",
            "beware": model.card.caveats,
            "licence": model.card.licence,
            "source": model.card.source,
            "figures": model.figures,
        }
        for model in models
    ]


def card_lines(models: Sequence[PretrainedModel]) -> str:
    """Format the models' cards for a person."""
    return "\n\n".join(map(_card_text, models, cards(models))) or (
        f"{_NO_MODEL} (searched {pretrained.folder()})"
    )


def _card_text(model: PretrainedModel, card: Mapping[str, object]) -> str:
    about = [f"  {name}: {card[name]}" for name in ("trained on", "beware", "licence", "source")]
    figures = [f"  {name}: {value}" for name, value in model.figures.items()]
    title = f"{card['model']}: {card['title']} ({card['file']}, {card['digest']})"
    return "\n".join([title, *about, *figures])


def rows(found: Sequence[ImageResult]) -> Iterator[dict[str, object]]:
    """Yield a row of COLUMNS per score; for an image without scores one that says why."""
    for one in found:
        about = {name: value for name, value in one.as_dict().items() if name != "scores"}
        yield from ({**about, **asdict(score)} for score in one.scores) if one.scores else [about]


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
