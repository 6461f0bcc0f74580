"""A trained model as it leaves: one ONNX file that carries its input contract and card, run by ONNX Runtime alone.

Metadata of the file, JSON text each: `contract` (what goes in and comes out), `card` (what it is, licence, limits),
`trained_on` (digest and number of the training images, see the run's training lists).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hilum.errors import BadData, NotFound

INPUT = "images"
POSTURE = "frontal chest, upright, the patient's right on the picture's left"


@dataclass(frozen=True)
class Contract:
    """What a model's input must be: uint8 (n, size, size), made by `content` and `window`, of a picture that is as the rest says."""

    task: str  # lungs, finding or anomaly
    size: int
    content: str  # "whole": the letterboxed picture; "region": the lungs cut out of it
    window: str  # see recipe.Pixels
    outputs: tuple[str, ...]
    concepts: tuple[str, ...] = ()  # what each column of a score is a score of
    depth: int = 8  # bits of a pixel; 0 is the lowest value and 2^depth - 1 the highest
    bright: str = "dense"  # bones are bright, air is dark
    posture: str = POSTURE  # what must be seen; see `hilum.posture` for what is doubted of a picture

    def misfits(self, *, content: str, size: int, window: str) -> list[str]:
        """What is wrong with pictures that are made this way, in plain words."""
        made = {"content": content, "size": size, "window": window}
        return [f"{name} must be {getattr(self, name)!r}, got {value!r}" for name, value in made.items() if getattr(self, name) != value]


@dataclass(frozen=True)
class Exported:
    path: Path

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        if not self.path.exists():
            raise NotFound(f"no model at {self.path}: train it with `hilum train`")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads leave the processor to others
        try:
            return onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise BadData(f"{self.path} is not a model ONNX Runtime can read: {error}; train it again or copy it anew") from error

    @cached_property
    def metadata(self) -> dict[str, Any]:
        return {key: json.loads(value) for key, value in self._session.get_modelmeta().custom_metadata_map.items()}

    @cached_property
    def contract(self) -> Contract:
        if "contract" not in self.metadata:
            raise BadData(f"{self.path} carries no input contract, so nothing says what may be fed to it: use a model exported by Hilum")
        told = {name: value for name, value in self.metadata["contract"].items() if name != "concept"}  # of models with one concept at most
        return Contract(**{**told, "outputs": tuple(told["outputs"]), "concepts": tuple(told.get("concepts", ()))})

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs for one uint8 (size, size) picture, by name, without the batch axis.

        One picture at a time: on a CPU a batch is no faster, and a score then never depends on its neighbours.
        """
        return {name: output[0] for name, output in self.many(image[None]).items()}

    def many(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs for uint8 (n, size, size) pictures, by name, each (n, ...). Every picture's shape and range are those of the contract."""
        expected = (self.contract.size, self.contract.size)
        if images.dtype != np.uint8 or images.shape[1:] != expected:
            raise ValueError(f"{self.path.name} takes uint8 {expected}, got {images.dtype} {images.shape[1:]}")
        found = self._session.run(list(self.contract.outputs), {INPUT: images})
        return dict(zip(self.contract.outputs, found, strict=True))
