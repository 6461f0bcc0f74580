"""Scores of the regions that a run's models are shown, one image at a time.

What does it is sent to other processes, which import this module and nothing else of the step.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from hilum.imaging.geometry import resize
from hilum.imaging.image_stack import ImageStack
from hilum.inference.domain import Placement, farther
from hilum.inference.onnx_model import OnnxModel

MAP = 56  # side of the stored anomaly maps: finer than the models' own grids


class Answer(TypedDict):
    """What one model says of one image; `map` is float16 (MAP, MAP) in base 64, or ""."""

    scores: dict[str, float]
    percentile: float
    reason: str
    map: str


@dataclass(frozen=True)
class Scoring:
    """Scores the region in one row by all models; gives an `Answer` by task as JSON."""

    models: Mapping[str, OnnxModel]
    images: np.ndarray | ImageStack

    def __call__(self, row: int) -> bytes:
        image, answers = self.images[row], dict[str, Answer]()
        outside: Placement | None = None  # by the models so far; an anomaly model sees no features
        for task, model in self.models.items():
            found = model(image)
            placed = model.place(image, found)
            outside = placed if outside is None else farther(outside, placed)
            drawn = b""
            if task == "anomaly":
                drawn = resize(found["map"], (MAP, MAP)).astype(np.float16).tobytes()
            answers[task] = {
                "scores": by_concept(model, found),
                "percentile": outside.percentile,
                "reason": outside.reason,
                "map": base64.b64encode(drawn).decode(),
            }
        return json.dumps(answers).encode()


def by_concept(model: OnnxModel, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the score of each concept of a model, in their order, by its outputs."""
    return dict(zip(model.contract.concepts, np.atleast_1d(outputs["score"]).tolist(), strict=True))
