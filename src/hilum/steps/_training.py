"""What the training steps share: fit one model of the shelf, export it with its contract, and note what it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from hilum import shelf, store
from hilum.errors import MissingExtra
from hilum.exported import Contract, Exported
from hilum.recipe import Anomaly, Classify, Segment, model_settings
from hilum.run import Run

TRAINING = "training.parquet"  # model, image_id: what each model of a step was trained on


@dataclass(frozen=True)
class Lesson:
    """One model to train: `file` is where it goes below the run, `image_ids` what it learns from, `fit` the call of its module.

    `fit(module, settings, checkpoint)` returns the trained network; what it puts into `epochs`, `_loop.Epoch`s, the model carries as
    metadata of that name.
    """

    file: str
    section: Segment | Classify | Anomaly
    size: int
    content: str
    window: str
    image_ids: Sequence[str]
    fit: Callable[[ModuleType, Any, Path], Any]
    concepts: tuple[str, ...] = ()
    epochs: list[Any] = field(default_factory=list)

    def learn(self, run: Run, made_from: Mapping[str, Any]) -> Exported:
        """The trained model; at once where it is finished already."""
        name = self.file.removesuffix(".onnx").replace("/", "-")
        made_from = {**made_from, "images": store.digest(list(self.image_ids))}
        if not run.finished(name, made_from):
            module = shelf.load("models", self.section.model)
            with MissingExtra.told("train", f"training '{self.section.model}'"):
                network = self.fit(module, model_settings(self.section), (run / self.file).with_suffix(".checkpoint"))
                self._export(run, module, network)
            run.finish(name, made_from, {self.file: store.digest_of_file(run / self.file)}, {"images": len(self.image_ids)})
        return Exported(run / self.file, run.folder)

    def _export(self, run: Run, module: ModuleType, network: Any) -> None:
        from hilum.models import _export

        contract = Contract(module.TASK, self.size, self.content, self.window, tuple(module.OUTPUTS), self.concepts)
        trained_on = {"images": len(self.image_ids), "digest": store.digest(sorted(self.image_ids))}
        told = {"contract": asdict(contract), "card": asdict(module.CARD), "trained_on": trained_on}
        if self.epochs:
            told["epochs"] = [asdict(epoch) for epoch in self.epochs]
        metadata = {key: store.as_json(value) for key, value in told.items()}
        _export.to_onnx(network, run / self.file, size=self.size, outputs=module.OUTPUTS, metadata=metadata)


def digests(run: Run, files: Sequence[str]) -> dict[str, str]:
    return {file: store.digest_of_file(run / file) for file in files}
