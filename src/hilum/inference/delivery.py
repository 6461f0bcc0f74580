"""Hand on what was found in an image, besides tables and overlays: to a writer of DICOM objects.

The commands that read images call a `Delivery` once for each image, when all about it is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from hilum import storage
from hilum.imaging.files import dicom, output_folder, raster
from hilum.inference.calls import FindingScore, ImageResult
from hilum.inference.onnx_model import OnnxModel
from hilum.statistics.calibration import Fitted


@dataclass(frozen=True)
class ModelIdentity:
    """A model by name and digest of its file; `calibrated` are concepts with fitted probability."""

    name: str
    digest: str
    calibrated: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, name: str, model: OnnxModel, fits: Mapping[str, Fitted] | None = None
    ) -> ModelIdentity:
        """Return the identity of a model; `fits` are its calibrations by concept."""
        fitted = {concept for concept, one in (fits or {}).items() if one.get("temperature")}
        return cls(name, storage.digest_of_file(model.path), frozenset(fitted))


@dataclass(frozen=True)
class Region:
    """Where a model sees a concept: `mask` is bool (height, width) in the file's own pixels.

    `rule` says in words how the mask follows from the model.
    """

    concept: str
    model: str
    mask: np.ndarray
    rule: str


@dataclass(frozen=True)
class Findings:
    """What was found in one image file.

    `lungs` is uint8 (height, width) in the file's own pixels: 0, 1 right, 2 left; `lung_model` is
    None where none was applied, and `lungs` is 0 then. `protocol` says what counts as lung, ""
    where it is not known. `scores` is None where no findings were evaluated;
    `refused` says why none were though they should have been. `models` are those of the scores;
    `thresholds_from` is a digest of the site or run whose thresholds were used, "" for their own.
    `regions` are where models see what they call present, as far as they say where.
    """

    file: raster.Raster | dicom.Dicom
    lungs: np.ndarray
    lung_quality: float
    trusted: bool
    lung_model: ModelIdentity | None
    protocol: str = ""
    scores: tuple[FindingScore, ...] | None = None
    refused: str = ""
    models: tuple[ModelIdentity, ...] = ()
    thresholds_from: str = ""
    regions: tuple[Region, ...] = ()

    def classified(
        self, result: ImageResult, models: Iterable[ModelIdentity], thresholds_from: str = ""
    ) -> Findings:
        """Return it with the scores of an image, and the models that gave them."""
        return replace(
            self,
            scores=tuple(result.scores),
            refused=result.refused,
            models=tuple(models),
            thresholds_from=thresholds_from,
        )

    @property
    def applied(self) -> tuple[ModelIdentity, ...]:
        """Return every model that was applied, that of the lungs first."""
        return (*((self.lung_model,) if self.lung_model else ()), *self.models)

    def model(self, name: str) -> ModelIdentity:
        """Return a model of the scores by its name."""
        return next(one for one in self.models if one.name == name)


class Delivery(Protocol):
    """Takes the findings of each image."""

    @property
    def outputs(self) -> tuple[output_folder.Output, ...]:
        """The folders that it writes into; none where it keeps the findings in memory."""
        ...

    @property
    def made_by(self) -> object:
        """Its settings, in JSON types: with others the same image is delivered again."""
        ...

    def refuse(self, path: Path, file: raster.Raster | dicom.Dicom) -> None:
        """Raise `BadData` for a file that it cannot deliver, before the models are applied."""
        ...

    def deliver(self, path: Path, name: str, findings: Findings) -> None:
        """Take the findings of a file; `name` is unique among the images of a command."""
        ...
