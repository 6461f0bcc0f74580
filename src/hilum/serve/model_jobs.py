"""What the process of the models does (`hilum.serve.model_process`): functions of files alone.

found_lungs   the lungs that the pretrained model finds in an image of the study
heat_map      a map of the models of a run over an image, as `hilum apply` computes it
film          everything about one film, as `hilum classify`, `hilum lungs` and `hilum apply`
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hilum.errors import BadData
from hilum.imaging.files import image_file
from hilum.imaging.files.pose import Display
from hilum.imaging.radiograph import Radiograph
from hilum.inference import classify_images, saliency, segment_images
from hilum.inference.calls import ImageResult
from hilum.pipeline.predict import Prediction, RunModels
from hilum.run_folder import Run
from hilum.runs import predict_images
from hilum.serve import film_images

SALIENCY, ANOMALY = "saliency", "anomaly"


@dataclass(frozen=True)
class ImagePlace:
    """Where an image of a study is, and how it is displayed."""

    path: Path
    root: Path | None
    display: Display


def found_lungs(image: ImagePlace) -> np.ndarray:
    """Return the lungs of an image, uint8 (height, width) in display orientation."""
    file = image_file.read(image.path, image.root, image.display)
    model = segment_images.load_lung_model()
    return segment_images.segment_image(model, file, image.path).upright_labels


def heat_map(run: Path, image: ImagePlace, kind: str) -> np.ndarray:
    """Return a map in display orientation, float32 (height, width), 0 where it says nothing."""
    models = RunModels.of(Run(run))
    radiograph = image_file.read(image.path, image.root, image.display).radiograph()
    found = models.of_radiograph(radiograph)
    if kind == SALIENCY:
        return _saliency(models, radiograph, found)
    empty = np.zeros(radiograph.size, np.float32)
    return empty if found.anomaly_map is None else found.anomaly_map


def _saliency(models: RunModels, radiograph: Radiograph, found: Prediction) -> np.ndarray:
    """Return the map of the leading finding."""
    model, cut = models.models["finding"], found.region
    column = model.contract.concepts.index(found.concept)
    own = saliency.MAP in model.contract.outputs
    chosen = (saliency.activation if own else saliency.occlusion)(model, cut.image, column)
    grown = saliency.upsample(np.maximum(chosen, 0), cut.image.shape[0])
    return cut.to_file(radiograph.size).back(grown)


@dataclass(frozen=True)
class Film:
    """What the models say of a film: its calls, its lungs in numbers, and files by name."""

    results: list[ImageResult]
    lungs: film_images.LungFacts
    files: dict[str, bytes]


def film(path: Path, run: Path | None, name: str) -> Film:
    """Return everything about one film; with `run`, by that run's models too.

    Overlays are written beside it. Raises `BadData`, which calls it `name`.
    """
    try:
        file = image_file.read(path)
        lungs = segment_images.segment_image(segment_images.load_lung_model(), file, path)
        folder = path.parent / "results"
        results, faults = classify_images.classify_images([path], folder, scores=True)
        if run is not None:
            own, more = predict_images.predict_images(run, [path])
            results, faults = [*results, *own], [*faults, *more]
        if faults:
            raise BadData("; ".join(faults))
    except BadData as error:  # its place is nobody's business
        named = str(error).replace(str(path), name)
        raise BadData(named.replace(str(path.parent), "")) from None
    files = film_images.encoded(lungs, folder)
    files["download"] = film_images.zipped(folder, results, lungs, name)
    return Film(results, film_images.LungFacts.of(lungs), files)
