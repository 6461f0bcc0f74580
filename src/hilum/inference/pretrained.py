"""The models that come with Hilum, under `data/`: ready as it is installed, without a download and without PyTorch.

    lungs.onnx         the lungs, float32
    lungs.int8.onnx    the same with weights of 8 bits, smaller and on many processors quicker
    orientation.onnx   see `hilum.inference.orientation`
    *.onnx             any other file is a model that reads pictures (`Reader`); to ship one, put it there

They are what a training leaves (`hilum.inference.onnx_model`): the contract says what they want to see, the card what they were made of and under
which terms. Their metadata `trained_on` holds, besides the number of pictures,

    sources            names of the collections (`source` of a manifest) that pictures were learnt from
    pixels             `pixel_digest` of each picture that was learnt from, sorted, as a cache's index has it

so that a run can tell which of its pictures such a model has learnt from, whatever they are called there. A resized or recompressed copy
has other digests: it is told by its perceptual hash (`hilum.inference.training_hashes`), and pictures of a collection that is named count as learnt
from, all of them.

A reader's metadata holds besides these (bench/train_findings.py writes them)

    region             the cut that it wants, where its contract's content is "crop": `pixels`, the side of the square in which lungs are found,
                       the margin, masked and min_mask_quality of `hilum.config.LungCrop`, and `typical`, the box where lungs are not believed
    calibration        of each concept, or of "anomaly", what was fitted on its tune part, as `hilum.statistics.calibration.to_json` tells it
    population         age_years: [from, to] of the people it has learnt from, and `words` that name them
    figures            how it did, and on what, in words
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import polars as pl

from hilum import storage
from hilum.config import PRETRAINED, LungCrop
from hilum.errors import BadData, NotFound, install_command
from hilum.inference import training_hashes
from hilum.inference.onnx_model import InputContract, OnnxModel
from hilum.plugins import Card

NAME = PRETRAINED  # what a recipe calls it, and the tables of a run
MODEL, SMALL = "lungs.onnx", "lungs.int8.onnx"
OTHERS = (MODEL, SMALL, "orientation.onnx")  # models that read nothing by themselves
READING = ("finding", "anomaly")  # tasks of a reader
TOLD = (
    "contract",
    "card",
    "trained_on",
    "calibration",
    "population",
    "figures",
)  # what a reader must carry


def folder() -> Path:
    """Where the models lie. Packages are installed as files: the wheel is never read zipped."""
    return Path(str(resources.files("hilum").joinpath("resources")))


def path(name: str = MODEL) -> Path:
    return folder() / name


def is_bundled(name: str = MODEL) -> bool:
    return path(name).is_file()


def lung_model(name: str = MODEL) -> OnnxModel:
    """Raises `NotFound` where this installation has none."""
    return opened(_there(name))


def _there(name: str) -> Path:
    place = path(name)
    if not place.is_file():
        raise NotFound(
            f"this installation of Hilum has no lung model at {place}: install Hilum again (`{install_command()}`), "
            f"name a model of your own with --model, or make one with bench/train_lungs.py"
        )
    return place


@cache
def opened(place: Path) -> OnnxModel:
    return OnnxModel(place)


def training_sets(model: OnnxModel, pictures: pl.DataFrame) -> pl.DataFrame:
    """The rows of `pictures` (image_id, source, pixel_digest, fingerprint) that the model has learnt from.

    They are told by digest, as changed copies, or by collection.
    """
    told = model.metadata.get("trained_on", {})
    by_pixels = pl.col("pixel_digest").is_in(list(told.get("pixels", ())))
    by_source = pl.col("source").is_in(list(told.get("sources", ())))
    copies = training_hashes.are_copies(model, pictures["fingerprint"])
    return pictures.filter((by_pixels | by_source).fill_null(False) | copies)


# ---------------------------------------------------------------------------------------------------------------------- the readers


@dataclass(frozen=True)
class PretrainedModel:
    """A model that reads pictures, with what it must say of itself. Everything but the place is read when it is asked for."""

    place: Path

    @property
    def name(self) -> str:
        return self.place.name.removesuffix(".onnx").removesuffix(".int8")

    @cached_property
    def model(self) -> OnnxModel:
        """Raises `BadData` where the file does not carry what a reader must."""
        found = opened(self.place)
        if missing := [what for what in TOLD if what not in found.metadata]:
            raise BadData(
                f"{self.place} carries no {', no '.join(missing)}, so it cannot be asked about pictures: make it with bench/train_findings.py"
            )
        wanted, known = found.contract, found.metadata["calibration"]
        faults = (
            [f"its task is '{wanted.task}', expected {' or '.join(READING)}"]
            if wanted.task not in READING
            else []
        )
        faults += [
            f"no calibration of {concept}" for concept in _asked(wanted) if concept not in known
        ]
        faults += (
            ["it wants regions and does not say how they are cut"]
            if wanted.content == "crop" and "crop" not in found.metadata
            else []
        )
        if faults:
            raise BadData.listing(f"{self.place} cannot be asked about pictures", faults)
        return found

    @property
    def contract(self) -> InputContract:
        return self.model.contract

    @property
    def concepts(self) -> tuple[str, ...]:
        """What its scores are of, in their order."""
        return _asked(self.contract)

    @property
    def digest(self) -> str:
        return storage.digest_of_file(self.place)

    @property
    def card(self) -> Card:
        told = self.model.metadata["card"]
        return Card(**{name: told[name] for name in Card.__dataclass_fields__ if name in told})

    @property
    def calibration(self) -> dict[str, dict[str, Any]]:
        """Of each concept, or of "anomaly", what `hilum.statistics.calibration.to_json` told of its tune part."""
        return self._told("calibration")

    @property
    def ages(self) -> tuple[float, float]:
        """From and to, in years."""
        low, high = self._told("population")["age_years"]
        return float(low), float(high)

    @property
    def people(self) -> str:
        """Whom it has learnt from, as in "learnt from …"."""
        return self._told("population")["words"]

    @property
    def pixels(self) -> int:
        """Side of the square in which it wants the lungs found."""
        return (
            int(self._told("crop")["pixels"])
            if self.contract.content == "crop"
            else self.contract.size
        )

    @property
    def crop(self) -> LungCrop:
        told = self._told("crop")
        return LungCrop(
            size=self.contract.size,
            **{name: told[name] for name in ("margin", "masked", "min_mask_quality")},
        )

    @property
    def typical(self) -> dict[str, float]:
        return self._told("crop")["typical"]

    @property
    def figures(self) -> dict[str, str]:
        """How it did, and on what."""
        return self._told("figures")

    def knows(self, pixel_digest: str) -> bool:
        """Whether it has learnt from this very picture."""
        return pixel_digest in self._told("trained_on").get("pixels", ())

    def _told(self, what: str) -> Any:
        return self.model.metadata[what]


def _asked(contract: InputContract) -> tuple[str, ...]:
    return contract.concepts if contract.task == "finding" else (contract.task,)


def pretrained_models() -> list[PretrainedModel]:
    """The models that read pictures, by name; where a file stands in float32 and in 8 bits, the one in 8 bits."""
    found: dict[str, PretrainedModel] = {}
    for place in sorted(
        folder().glob("*.onnx"), key=lambda place: (place.name.endswith(".int8.onnx"), place.name)
    ):
        if place.name not in OTHERS:
            found[PretrainedModel(place).name] = PretrainedModel(place)
    return [found[name] for name in sorted(found)]
