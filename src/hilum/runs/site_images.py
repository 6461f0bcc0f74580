"""A site's images as one model is given them, for `hilum.runs.calibrate_site`.

Images that `hilum classify` would refuse, those of people outside the model's population and those
that the model was trained on are left out and counted. What a file does not state of itself (view,
body part, modality, age) is taken from the site's tables, as `hilum ingest` reads them.

Images of one patient are not independent, nor are copies of one image, whatever patient each is
said to be of: patients who share an image, also a changed one, count as one (`Measured.patients`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hilum.dataset.manifest import Manifest
from hilum.dataset.patients import connected_components
from hilum.errors import BadData
from hilum.imaging.files import image_file
from hilum.imaging.hash_search import near
from hilum.inference import domain, model_answers, segment_images, training_hashes
from hilum.inference.domain import Placement
from hilum.inference.onnx_model import OnnxModel
from hilum.inference.pretrained import PretrainedModel

STATED = ("view", "body_part", "modality", "age_years")  # of a manifest, and of a file's header
UNREADABLE = "could not be read"
TRAINED_ON = "were trained or tuned on, or are copies of such images"
REFUSED = "are refused, as `hilum classify` refuses them"
OTHER_PEOPLE = "are of people unlike those that the model was trained on"


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
    key: np.ndarray | None  # see `hilum.imaging.perceptual_hash.dct_hash`


@dataclass(frozen=True)
class Measured:
    """A site's images that the model can be applied to, and why others were left out."""

    images: list[MeasuredImage]
    left_out: Counter[str]

    @property
    def patients(self) -> np.ndarray:
        """The patient of each image; of patients who share an image the first one's name."""
        names = [one.patient for one in self.images]
        joined = connected_components(
            sorted(set(names)), [(names[one], names[other]) for one, other in self.copies]
        )
        return np.array([joined[name] for name in names])

    @property
    def copies(self) -> list[tuple[int, int]]:
        """The places of each pair of images of which one is a copy of the other."""
        first: dict[str, int] = {}
        found = [
            (first.setdefault(one.pixel_digest, place), place)
            for place, one in enumerate(self.images)
        ]
        keys = {place: one.key for place, one in enumerate(self.images) if one.key is not None}
        hashed = list(keys)
        hashes = np.array(list(keys.values()), np.uint64).reshape(-1, 4)
        pairs = near(hashes, training_hashes.DISTANCE)
        found += [
            (hashed[one], hashed[other])
            for one, other in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
        ]
        return sorted({pair for pair in found if pair[0] != pair[1]})

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


def measure(
    model: PretrainedModel, manifest: Manifest, progress: Callable[[int, int], None]
) -> Measured:
    """Apply a model to all images of a manifest that it can be applied to.

    Raises `BadData` or `Mismatch` where the fault is the model's.
    """
    finder, left_out = segment_images.load_lung_model(), Counter[str]()
    images = []
    for done, row in enumerate(manifest.table.iter_rows(named=True), start=1):
        found = _measure(model, finder, *manifest.located(row["path"]), row)
        if isinstance(found, str):
            left_out[found] += 1
        else:
            images.append(found)
        progress(done, manifest.table.height)
    return Measured(images, left_out)


def _measure(
    model: PretrainedModel,
    finder: OnnxModel,
    path: Path,
    root: Path | None,
    row: Mapping[str, Any],
) -> MeasuredImage | str:
    """Return what the model gives for an image, or why it is left out."""
    try:
        file = image_file.read(path, root)
        lungs = segment_images.segment_image(finder, file, path)
    except BadData:
        return UNREADABLE
    stated = {
        name: row[name] if getattr(lungs.stated, name) is None else getattr(lungs.stated, name)
        for name in STATED
    }
    lungs = replace(lungs, stated=replace(lungs.stated, **stated))
    if model.was_trained_on(file.pixel_digest) or training_hashes.is_copy(model.model, lungs.key):
        return TRAINED_ON
    if model_answers.refusal(lungs):
        return REFUSED
    if model_answers.outside_population(model, lungs):
        return OTHER_PEOPLE
    answer = model_answers.ask(model, lungs, finder)
    return MeasuredImage(
        pixels=answer.cut.image,
        features=answer.outputs.get(domain.OUTPUT),
        placement=answer.placement,
        scores=answer.scores,
        image_id=row["image_id"],
        patient=row["patient_id"],
        pixel_digest=file.pixel_digest,
        key=lungs.key,
    )
