"""Find and open the bundled models under `resources/`: usable offline and without PyTorch.

    lungs.onnx         the lungs by two protocols (`hilum.annotations.lung_masks`), 8-bit
    lungs_ccby.onnx    the lungs from images and masks whose licences allow commercial use, 8-bit
    orientation.onnx   see `hilum.inference.orientation`
    age_group.onnx     see `hilum.inference.age_group`
    *.onnx             any other file is a classifier (`PretrainedModel`); put a file there to
                       bundle one

They are exported by training (`hilum.inference.onnx_model`): the contract states the input they
require, the card what they were made of and under which terms. Their metadata `trained_on` holds,
besides the number of images,

    sources            names of the collections (`source` of a manifest) of the training images
    pixels_xxh3        `pixel_digest` of each training image, sorted, as in a cache's index

so that a run can determine which of its images such a model was trained on, whatever they are
called there. A resized or recompressed copy has another digest: it is recognised by its perceptual
hash (`hilum.inference.training_hashes`), and all images of a named collection count as training
images.

A classifier's metadata holds in addition (tools/build_models/train_findings.py writes them)

    crop               the crop that it requires, where its contract's content is "crop": `pixels`,
                       the side of the square in which lungs are found; margin, masked and
                       min_mask_quality of `hilum.config.LungCrop`; and `typical`, the box used
                       where lungs are not trusted
    calibration        for each concept, or for "anomaly", what was fitted on its tune part, in the
                       form of `hilum.statistics.calibration.to_json`
    population         age_years: [from, to] of the people it was trained on, and `words` for them
    figures            its results, and on which images, in words

and where its score counts from what is usual at a site, `site_direction`, see
`hilum.inference.site_scores`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any, TypedDict

import polars as pl

from hilum import storage
from hilum.config import PRETRAINED, LungCrop
from hilum.errors import BadData, NotFound, install_command, script
from hilum.inference import classifier_metadata, site_scores, training_hashes
from hilum.inference.onnx_model import LUNG_OUTPUTS, InputContract, OnnxModel
from hilum.plugins import Card
from hilum.run_folder import is_run
from hilum.statistics.calibration import Fitted

NAME = PRETRAINED  # the name in a recipe and in the tables of a run
LUNG_MODELS = (MODEL, FREE) = ("lungs.onnx", "lungs_ccby.onnx")
AGE_GROUP = "age_group.onnx"
OTHERS = (*LUNG_MODELS, "orientation.onnx", AGE_GROUP)  # bundled models that are no classifiers
READING = ("finding", "anomaly")  # tasks of a classifier
REQUIRED_METADATA = (
    "contract",
    "card",
    "trained_on",
    "calibration",
    "population",
    "figures",
)


def folder() -> Path:
    """Return the folder of the bundled models. Packages are installed as files, never zipped."""
    return Path(str(resources.files("hilum").joinpath("resources")))


def path(name: str = MODEL) -> Path:
    """Return the path of a bundled model, which may not exist."""
    return folder() / name


def is_bundled(name: str = MODEL) -> bool:
    """Return whether this installation has the model."""
    return path(name).is_file()


def lung_model(name: str = MODEL) -> OnnxModel:
    """Open a bundled lung model. Raises `NotFound` where this installation has none."""
    return opened(_existing(name))


def _existing(name: str) -> Path:
    place = path(name)
    if not place.is_file():
        raise NotFound(
            f"this installation of Hilum has no lung model at {place}: install Hilum again "
            f"(`{install_command()}`), name a model of your own with --model, or make one with "
            f"{script('tools.build_models.train_lungs')}"
        )
    return place


def lung_models() -> list[OnnxModel]:
    """Return the bundled lung models that this installation has."""
    return [lung_model(name) for name in LUNG_MODELS if is_bundled(name)]


# The card of a lung model for JSON: a functional definition, since keys hold spaces.
LungCard = TypedDict(
    "LungCard",
    {
        "model": str,
        "file": str,
        "digest": str,
        "title": str,
        "protocols": str,
        "trained on": str,
        "beware": str,
        "licence": str,
        "source": str,
        "figures": Mapping[str, str],
    },
)


def lung_cards() -> list[LungCard]:
    """Return the card of each bundled lung model, with the protocols that it follows."""
    return [
        {
            "model": model.path.name.removesuffix(".onnx"),
            "file": model.path.name,
            "digest": storage.digest_of_file(model.path),
            "title": model.metadata["card"]["title"],
            "protocols": ", ".join(
                name for name, output in LUNG_OUTPUTS.items() if output in model.contract.outputs
            ),
            "trained on": model.metadata["card"]["counts"],
            "beware": model.metadata["card"]["caveats"],
            "licence": model.metadata["card"]["licence"],
            "source": model.metadata["card"]["source"],
            "figures": json.loads(model.metadata["card"].get("figures", "{}")),
        }
        for model in lung_models()
    ]


@cache
def opened(place: Path) -> OnnxModel:
    """Open a model once per process."""
    return OnnxModel(place)


def training_sets(model: OnnxModel, images: pl.DataFrame) -> pl.DataFrame:
    """Select the rows of `images` that the model was trained on.

    `images` has the columns image_id, source, pixel_digest and fingerprint. Training images are
    recognised by digest, as altered copies, or by collection.
    """
    sources = model.metadata.get("trained_on", {}).get("sources", ())
    by_pixels = pl.col("pixel_digest").is_in(list(model.trained_on))
    by_source = pl.col("source").is_in(list(sources))
    copies = training_hashes.are_copies(model, images["fingerprint"])
    return images.filter((by_pixels | by_source).fill_null(False) | copies)


# ---------------------------------------------------------------------------- classifiers


@dataclass(frozen=True)
class PretrainedModel:
    """A bundled classifier with its metadata, read from `place` when first needed."""

    place: Path

    @property
    def name(self) -> str:
        """The file's name without extensions."""
        return self.place.name.removesuffix(".onnx").removesuffix(".int8")

    @cached_property
    def model(self) -> OnnxModel:
        """The model. Raises `BadData` where the file lacks metadata that a classifier must have."""
        found = opened(self.place)
        if missing := [what for what in REQUIRED_METADATA if what not in found.metadata]:
            raise BadData(
                f"{self.place} carries no {', no '.join(missing)}, so it cannot classify images: "
                f"make it with {script('tools.build_models.train_findings')}"
            )
        contract = found.contract
        faults = classifier_metadata.faults(found.metadata, _score_names(contract))
        if contract.task not in READING:
            faults.append(f"its task is '{contract.task}', expected {' or '.join(READING)}")
        if contract.content == "crop" and "crop" not in found.metadata:
            faults.append("it requires crops and does not state how they are made")
        if faults:
            raise BadData.listing(f"{self.place} cannot classify images", faults)
        return found

    @property
    def contract(self) -> InputContract:
        """The model's input contract."""
        return self.model.contract

    @property
    def concepts(self) -> tuple[str, ...]:
        """The concepts of its scores, in their order."""
        return _score_names(self.contract)

    @property
    def digest(self) -> str:
        """Digest of the file."""
        return storage.digest_of_file(self.place)

    @property
    def card(self) -> Card:
        """The model's card."""
        stored = self._metadata("card")
        return Card(**{name: stored[name] for name in Card.__dataclass_fields__ if name in stored})

    @property
    def calibration(self) -> dict[str, Fitted]:
        """By concept, or for "anomaly", the fits as of `hilum.statistics.calibration.to_json`."""
        return self._metadata("calibration")

    @property
    def ages(self) -> tuple[float, float]:
        """Youngest and oldest age of the training population, in years."""
        low, high = self._metadata("population")["age_years"]
        return float(low), float(high)

    @property
    def people(self) -> str:
        """The training population, as in "trained on ..."."""
        return self._metadata("population")["words"]

    @property
    def pixels(self) -> int:
        """Side of the square in which it requires the lungs to be found."""
        return (
            int(self._metadata("crop")["pixels"])
            if self.contract.content == "crop"
            else self.contract.size
        )

    @property
    def crop(self) -> LungCrop:
        """The crop that it requires."""
        stored = self._metadata("crop")
        return LungCrop(
            size=self.contract.size,
            margin=stored["margin"],
            masked=stored["masked"],
            min_mask_quality=stored["min_mask_quality"],
        )

    @property
    def typical(self) -> dict[str, float]:
        """The box to crop where lungs are not trusted, in fractions of the image."""
        return self._metadata("crop")["typical"]

    @property
    def figures(self) -> dict[str, str]:
        """Its results, and on which images, in words."""
        return self._metadata("figures")

    @property
    def counts_from_site(self) -> bool:
        """Whether its scores count from what is usual at a site, `hilum.inference.site_scores`."""
        return site_scores.METADATA in self.model.metadata

    def was_trained_on(self, pixel_digest: str) -> bool:
        """Return whether it was trained on this very image."""
        return pixel_digest in self.model.trained_on

    def _metadata(self, what: str) -> Any:
        return self.model.metadata[what]


def _score_names(contract: InputContract) -> tuple[str, ...]:
    return contract.concepts if contract.task == "finding" else (contract.task,)


def pretrained_models() -> list[PretrainedModel]:
    """Return the bundled classifiers by name; the 8-bit file where there are two of one name."""
    found: dict[str, PretrainedModel] = {}
    for place in sorted(
        folder().glob("*.onnx"), key=lambda place: (place.name.endswith(".int8.onnx"), place.name)
    ):
        if place.name not in OTHERS:
            found[PretrainedModel(place).name] = PretrainedModel(place)
    return [found[name] for name in sorted(found)]


def named(model: str | Path) -> PretrainedModel:
    """Return a bundled classifier by its name, or the one in the model file at a path.

    Raises `NotFound` for an unknown name, `BadData` for a file that is no such model. A run's own
    models find lungs and make crops as the run does: none of them is one.
    """
    if is_run(Path(model)):
        raise NotFound(
            f"{model} is a run, whose models are applied with `hilum apply`, inside the domain and "
            f"at the threshold of its own data; expected the name of a pretrained model "
            f"(`hilum models`) or a file made with {script('tools.build_models.train_findings')}"
        )
    if Path(model).suffix == ".onnx":
        found = PretrainedModel(Path(model))
        found.model  # noqa: B018  # a file that cannot classify is refused before any work
        return found
    known = {one.name: one for one in pretrained_models()}
    if str(model) not in known:
        raise NotFound.named("pretrained model", str(model), known)
    return known[str(model)]
