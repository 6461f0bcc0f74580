"""Read: what the models that come with Hilum say of pictures of one's own, without a run and
without PyTorch.

    OUT/overlay/NAME.jpg           the picture as it was read with its lungs, as `hilum lungs` draws
                                   it; a red frame: nothing was read, or their mask is doubtful
    OUT/CONCEPT/NAME.jpg           the same size, under the map of a model that gives one: brightest
                                   where its score comes from (Zhou et al. 2016, class activation),
                                   or, where CONCEPT is anomaly, where the picture is least like
                                   those that the model knows; each on a scale of its own
    OUT/classify.csv                   a row a picture, model and concept, see COLUMNS; of a picture
                                   that is refused one row that says why

NAME is as in `hilum.inference.segment_images`, which finds images and lungs here too. `hilum.inference.acceptance` says
which images are refused, so that no score is given, and which are scored with a warning: those of
people of another age than those a model was trained on, for example. A warning stands too beside
what a model says of an image that it was trained or tuned on, or of a changed copy of one
(`hilum.inference.training_hashes`).

A call is the score beside the threshold that the model carries from its own tune part, a
probability is calibrated there. Elsewhere, with other prevalence and machines, neither need hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hilum import storage
from hilum.annotations.vocabulary import name_of
from hilum.config import LungCrop
from hilum.drawing.images import heat
from hilum.errors import Mismatch, NotFound, on_one_line
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
from hilum.inference.onnx_model import OnnxModel
from hilum.inference.pretrained import PretrainedModel
from hilum.safety.path_names import as_text
from hilum.statistics import calibration

LEAST = LungCrop.min_mask_quality  # of the lungs: below it regions are not cut along them
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


@dataclass(frozen=True)
class FindingScore:
    """One model's word on one concept. None: there is no such number, or no threshold to call by."""

    model: str
    concept: str
    score: float
    probability: float | None
    threshold: float | None
    call: str | None
    warning: str


@dataclass(frozen=True)
class ImageResult:
    """One picture. `refused` says why nothing is said of it; "" where something is."""

    image: str
    name: str
    refused: str
    quality_flags: str
    lung_quality: float
    age_years: float | None  # as the file tells
    scores: list[FindingScore] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_dict(cls, told: Mapping[str, Any]) -> ImageResult:
        """The inverse of `as_dict`."""
        return cls(**{**told, "scores": [FindingScore(**one) for one in told["scores"]]})


def classify_images(
    images: Sequence[str | Path],
    to: Path | None = None,
    *,
    models: Sequence[PretrainedModel] | None = None,
    watch: Watch = unwatched,
    say: Say = unheard,
) -> tuple[list[ImageResult], list[str]]:
    """What `models`, all that come with Hilum unless they are given, say of each image; and what is
    wrong with those that cannot be read.

    `images`, `say` and errors as in `lungs.find`. Raises `NotFound` where no model comes with this
    installation.
    """
    asked = pretrained.pretrained_models() if models is None else models
    if not asked:
        raise NotFound(
            f"no model that reads pictures comes with this installation (looked in {pretrained.folder()}): install a release of Hilum, "
            f"train them with bench/train_findings.py, or train your own with `hilum run` and ask it with `hilum apply RUN IMAGE`"
        )
    finder, out = segment_images.chosen(), output_folder.Output(to, "classify")

    def work(path: Path, name: str) -> ImageResult:
        one, seen, maps = _one(asked, finder, path, name)
        if out:
            _write(out, one, seen, maps)
        return one

    made_by = [storage.digest_of_file(finder.path), *(model.digest for model in asked)]
    table = table_of(out, TABLE, made_by) if out else None
    found = collect(images, out.folders)
    return for_each(found, work, title="classify", watch=watch, say=say, table=table)


def table_of(
    out: output_folder.Output,
    file: str,
    made_by: object,
    also: tuple[output_folder.Output, ...] = (),
) -> Table[ImageResult]:
    """The table of COLUMNS in an output folder; see `Table`."""
    return Table(out, file, COLUMNS, made_by, rows, ImageResult.as_dict, ImageResult.of_dict, also)


def _one(
    models: Sequence[PretrainedModel], finder: OnnxModel, path: Path, name: str
) -> tuple[ImageResult, segment_images.LungResult, dict[str, np.ndarray]]:
    """What is said of a file, its lungs, and by concept the maps as the picture stands, float32
    (height, width). Raises `BadData`.
    """
    file = image_file.read(path)
    seen = segment_images.segment_image(finder, file, path)
    why = acceptance.refused(
        seen.quality_flags, seen.stated, acceptance.Lungs(bool(seen.own.any()), seen.quality, LEAST)
    )
    said, maps = [], {}
    for model in [] if why else models:
        cut = cut_for(model, seen, finder)
        outputs, warning = model.model(cut.image), warned(model, seen, file.pixel_digest)
        scores = zip(model.concepts, np.atleast_1d(outputs["score"]).tolist(), strict=True)
        said += [
            scored(model.name, concept, score, model.calibration[concept], warning)
            for concept, score in scores
        ]
        if saliency.MAP in outputs:
            found = outputs[saliency.MAP]
            for concept, own in zip(
                model.concepts, found.reshape(-1, *found.shape[-2:]), strict=True
            ):
                maps[concept] = cut.to_file(seen.radiograph.size).back(
                    saliency.grown(own, model.contract.size)
                )
    doubts = ", ".join(doubt.fault for doubt in seen.quality_flags)
    return (
        ImageResult(
            as_text(path), name, why, doubts, round(seen.quality, 4), seen.stated.age_years, said
        ),
        seen,
        maps,
    )


def cut_for(
    model: PretrainedModel, seen: segment_images.LungResult, finder: OnnxModel
) -> lung_crop.Cut:
    """What the model wants to see of a picture. Raises `Mismatch` where it wants lungs found in
    another square than the finder's.
    """
    contract, size = model.contract, seen.radiograph.size
    if contract.content != "crop":
        shown = preprocess(seen.radiograph, contract.size, contract.normalisation)
        return lung_crop.cut(shown, np.zeros_like(shown), LungCrop(size=contract.size), size=size)
    if (model.pixels, contract.normalisation) != (
        finder.contract.size,
        finder.contract.normalisation,
    ):
        raise Mismatch(
            f"{model.place} wants lungs found in pictures of {model.pixels} pixels ({contract.normalisation}), and the lung model finds them in "
            f"{finder.contract.size} ({finder.contract.normalisation}): make it with the lung model of this installation, by bench/train_findings.py"
        )
    return lung_crop.cut(
        seen.image,
        seen.labels,
        model.crop,
        quality=seen.quality,
        typical=model.typical,
        size=size,
    )


def warned(model: PretrainedModel, seen: segment_images.LungResult, pixel_digest: str) -> str:
    """Why a model's word on an image may mean little; "" where nothing speaks against it."""
    told = [
        *acceptance.warnings(seen.stated),
        acceptance.age_warning(
            model.name, acceptance.People(*model.ages, model.people), seen.stated, seen.labels
        ),
    ]
    if model.knows(pixel_digest):
        told.append(
            f"{model.name} was trained or tuned on this very image, "
            f"so what it says of it shows nothing"
        )
    elif training_hashes.is_copy(model.model, seen.image, seen.radiograph.size):
        told.append(
            f"{model.name} was trained or tuned on an image of which this is a changed copy, "
            f"so what it says of it shows nothing"
        )
    return "; ".join(filter(None, told))


def scored(
    model: str, concept: str, score: float, known: Mapping[str, Any] | None, warning: str
) -> FindingScore:
    """A score with its call and probability by `known`, what `hilum.statistics.calibration.to_json` told of
    the concept; None: nothing was fitted.
    """
    threshold, fits = (
        (known["threshold"], calibration.from_json(dict(known))) if known else (None, {})
    )
    call = None if threshold is None else PRESENT if score >= threshold else ABSENT
    probability = float(fits["temperature"](score)) if "temperature" in fits else None
    return FindingScore(model, concept, score, probability, threshold, call, warning)


# -------------------------------------------------------------------------------------------------------------------- what is told


def lines(
    found: Sequence[ImageResult], to: Path | None, written: str = "overlays and table"
) -> str:
    """For a person: a line a picture, a line a finding below it; and where what was `written` lies."""
    told = [line for one in found for line in _lines(one)]
    where = [f"{written}: {to.resolve()}"] if to and found else []
    return "\n".join(
        [*told, *where, "For research only; no diagnosis may stand on it."]
        if found
        else ["nothing was read: no picture could be opened"]
    )


def _lines(one: ImageResult) -> Iterator[str]:
    yield f"{on_one_line(one.image)}: " + (
        f"refused: {one.refused}" if one.refused else f"lungs of quality {one.lung_quality:.2f}"
    )
    for said in one.scores:
        named = name_of(said.concept) if said.concept != "anomaly" else "Anomaly"
        probability = (
            ""
            if said.probability is None
            else f", probability {said.probability:.0%} as calibrated where it was made"
        )
        call = (
            "no threshold"
            if said.threshold is None
            else f"{said.call} (threshold {said.threshold:.3g})"
        )
        yield f"  {named}: {call}, score {said.score:.3g}{probability} [{said.model}]"
    for warning in dict.fromkeys(said.warning for said in one.scores if said.warning):
        yield f"  warning: {warning}"


def cards(models: Sequence[PretrainedModel]) -> list[dict[str, Any]]:
    """What each model says of itself: what it is, of whom and what it has learnt, how it did, and
    what it must not be used for.
    """
    return [
        {
            "model": model.name,
            "file": model.place.name,
            "digest": model.digest,
            "title": model.card.title,
            "says": list(model.concepts),
            "learnt from": f"{model.people}, {model.ages[0]:g} to {model.ages[1]:g} years old; {model.card.counts}",
            "beware": model.card.caveats,
            "licence": model.card.licence,
            "source": model.card.source,
            "figures": model.figures,
        }
        for model in models
    ]


def card_lines(models: Sequence[PretrainedModel]) -> str:
    told = []
    for card in cards(models):
        figures = [f"  {name}: {value}" for name, value in card["figures"].items()]
        about = [
            f"  {name}: {card[name]}" for name in ("learnt from", "beware", "licence", "source")
        ]
        told.append(
            "\n".join(
                [
                    f"{card['model']}: {card['title']} ({card['file']}, {card['digest']})",
                    *about,
                    *figures,
                ]
            )
        )
    return (
        "\n\n".join(told)
        or f"no model that reads pictures comes with this installation (looked in {pretrained.folder()})"
    )


def rows(found: Sequence[ImageResult]) -> Iterator[dict[str, Any]]:
    """A row of COLUMNS a score; of an image without any one that says why."""
    for one in found:
        about = {name: value for name, value in one.as_dict().items() if name != "scores"}
        yield from ({**about, **asdict(said)} for said in one.scores) if one.scores else [about]


def _write(
    out: output_folder.Output,
    one: ImageResult,
    seen: segment_images.LungResult,
    maps: Mapping[str, np.ndarray],
) -> None:
    storage.write_bytes(
        out.path("overlay", f"{one.name}.jpg"),
        segment_images.overlay(seen, framed=bool(one.refused) or not seen.trusted),
    )
    for concept, found in maps.items():
        storage.write_bytes(
            out.path(concept, f"{one.name}.jpg"),
            heat_overlay(to_uint8(seen.radiograph.pixels), found),
        )


def heat_overlay(pixels: np.ndarray, found: np.ndarray) -> bytes:
    """A JPEG of an image, uint8 (height, width), under a map of the same size, brightest where the
    map is highest; at most `lungs.OVERLAY` long.
    """
    scale = min(1.0, segment_images.OVERLAY / max(found.shape))
    size = tuple(max(1, round(side * scale)) for side in found.shape)
    low, high = np.quantile(found[found > 0], (0.5, 0.999)) if (found > 0).any() else (0.0, 1.0)
    drawn = heat(resize(pixels, size), (resize(found, size) - low) / max(high - low, 1e-6))
    return cv2.imencode(".jpg", drawn[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
