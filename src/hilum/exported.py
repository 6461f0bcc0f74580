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


@dataclass(frozen=True)
class Contract:
    """What a model's input must be: uint8 (n, size, size), bright is dense, made by `content` and `window`."""

    task: str  # lungs, finding or anomaly
    size: int
    content: str  # "whole": the letterboxed picture; "region": the lungs cut out of it
    window: str  # see recipe.Pixels
    outputs: tuple[str, ...]
    concept: str = ""  # what a score is a score of

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
        told = self.metadata["contract"]
        return Contract(**{**told, "outputs": tuple(told["outputs"])})

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs for one uint8 (size, size) picture, by name, without the batch axis.

        One picture at a time: on a CPU a batch is no faster, and a score then never depends on its neighbours.
        """
        expected = (self.contract.size, self.contract.size)
        if image.dtype != np.uint8 or image.shape != expected:
            raise ValueError(f"{self.path.name} takes uint8 {expected}, got {image.dtype} {image.shape}")
        found = self._session.run(list(self.contract.outputs), {INPUT: image[None]})
        return {name: output[0] for name, output in zip(self.contract.outputs, found, strict=True)}
