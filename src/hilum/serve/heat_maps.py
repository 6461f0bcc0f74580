"""Heat maps of the run's own models over an image, as `hilum apply` computes them.

    saliency   where the score of the leading finding comes from: the model's own activation map
               where it gives one, else occlusion (`hilum.inference.saliency`)
    anomaly    where the image differs most from the normal images of the training part

The models are the final ones of the run. A map has the size of the pixels that are sent, and is
scaled by its own highest value; what is below 0 is 0.
"""

from __future__ import annotations

import imagecodecs
import numpy as np

from hilum.errors import NotFound
from hilum.imaging.geometry import resize
from hilum.imaging.radiograph import to_uint8
from hilum.run_folder import Run
from hilum.serve import model_jobs
from hilum.serve.desk import Desk
from hilum.serve.model_jobs import ANOMALY, SALIENCY
from hilum.serve.pixels import Shown

_LEVEL = 1  # of PNG compression: quick rather than small


def available(desk: Desk, row: int) -> tuple[str, ...]:
    """Return the kinds of heat map that an image can have."""
    study = desk.study
    return () if study.cached.index["error"][row] is not None else _kinds(study.run)


def _kinds(run: Run) -> tuple[str, ...]:
    if not run.done("train"):
        return ()
    made = run.made("train")
    kinds = {"train/finding.onnx": SALIENCY, "train/anomaly.onnx": ANOMALY}
    return tuple(kind for file, kind in kinds.items() if file in made)


def encoded(desk: Desk, row: int, kind: str, run: str = "") -> bytes:
    """Return a heat map as grey PNG, by the models of the study's run or of another one.

    Raises `NotFound` where the run has no such model.
    """
    image_id = desk.study.image_id(row)
    models = (desk.other(run) if run else desk.study).run
    if kind not in _kinds(models) or not available(desk, row):
        raise NotFound(
            f"{image_id} has no map of {kind}: the run has no such model; `hilum run` trains it"
        )
    return desk.masks.get((row, "heat", kind, run), lambda: _made(desk, row, kind, models))


def _made(desk: Desk, row: int, kind: str, run: Run) -> bytes:
    found = desk.models.run(model_jobs.heat_map, run.folder, desk.study.place(row), kind)
    return as_png(found, desk.shown(row))


def as_png(found: np.ndarray, shown: Shown) -> bytes:
    """Encode a map, float32 in display orientation, at the size that is sent."""
    scaled = np.maximum(found, 0) / max(float(found.max()), 1e-6)
    sent = resize(to_uint8(scaled), shown.size)
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(sent), level=_LEVEL))
