"""The sections of a recipe: one frozen dataclass each, one field a key, declared by `setting`.

A field's metadata hold the key's meaning, from which `hilum.config.description` makes the
documentation. Sections that name a model also hold that model's own settings as `settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hilum.errors import HilumError
from hilum.safety import addresses
from hilum.safety.path_names import from_text

MEANING = "meaning"  # key of a field's metadata
PRETRAINED = "pretrained"  # the lung model that comes with Hilum, see `hilum.inference.pretrained`
ALL = "all"  # in [classify] other_findings: every concept that can be trained on
AREAS = ("lungs", "right lung", "left lung", "whole")
SHARE_CHOICES = {
    "identifiers": ("pseudonyms", "keep"),
    "file_names": ("masked", "pseudonyms", "keep"),
    "readings": ("published", "keep", "drop"),
}
UNCERTAIN, UNMENTIONED = ("ignore", "zeros", "ones", "soft"), ("ignore", "zeros")

T = TypeVar("T")


def setting(default: T, meaning: str) -> T:
    """Declare a key of a recipe: its default and one sentence that says what it means.

    Returns a dataclass field, annotated as its default's type, as `dataclasses.field` is.
    """
    found: Any = field(default=default, metadata={MEANING: meaning})
    return found


def model_keys() -> Mapping[str, object]:
    """Declare the settings of a section's model, which are keys of the section in TOML."""
    found: Any = field(
        default_factory=dict, metadata={MEANING: "the model's own settings, as further keys"}
    )
    return found


@dataclass(frozen=True)
class Job:
    """[job]: how thoroughly the run is done."""

    quick: bool = setting(
        False, "as --quick: smaller models and fewer epochs; the report says that it was quick"
    )


@dataclass(frozen=True)
class Data:
    """[data]: where the images are, and what is known of them."""

    folder: str = setting(
        "", "folder with the images, or an address such as s3://bucket/folder; required"
    )
    also: tuple[str, ...] = setting(
        (), "further folders, whose data sets are merged with the first"
    )
    dataset: str = setting(
        "auto", "name of the reader (`hilum datasets`); auto: the one that recognises the folder"
    )
    patients: str = setting(
        "",
        "how numbers become patients, where a data set offers several rules (its PATIENTS); "
        "empty: its default",
    )
    corrections: str = setting(
        "", "file of corrections to apply, as `hilum propose-fixes` writes one; empty: none"
    )
    annotations: str = setting(
        "",
        "folder of corrections made with `hilum serve`, that of a run or its annotations, to take "
        "up; empty: those in the run's own folder, if any",
    )
    links: bool = setting(False, "follow links in the folders to files outside of them")

    @property
    def folders(self) -> tuple[str, ...]:
        """All data folders as text, the first one first."""
        return self.folder, *self.also

    @property
    def paths(self) -> tuple[Path, ...]:
        """The folders, which a recipe holds as text (`hilum.safety.path_names`).

        Of an address it is the folder that is its mirror.
        """
        return tuple(addresses.located(from_text(folder)) for folder in self.folders)

    @property
    def corrections_path(self) -> Path | None:
        """The file of corrections; None where there is none."""
        return Path(from_text(self.corrections)) if self.corrections else None

    @property
    def annotations_path(self) -> Path | None:
        """The folder of corrections made with `hilum serve`; None where none is named."""
        return Path(from_text(self.annotations)) if self.annotations else None

    def refuse_inside(self, place: Path, remedy: str) -> None:
        """Raise `HilumError` where `place` is one of the data folders or inside one."""
        for folder in self.paths:
            if place.resolve().is_relative_to(folder.resolve()):
                raise HilumError(
                    f"{place} lies inside the data folder {folder.resolve()}, which is never "
                    f"written to; {remedy}"
                )


@dataclass(frozen=True)
class Pixels:
    """[pixels]: the grey values that every model sees."""

    size: int = setting(256, "side of the cached square, pixels; a multiple of 32 from 64 to 1024")
    normalisation: str = setting(
        "percentiles",
        "how grey values become 0 to 1. percentiles: stretch from the 0.5th to the 99.5th; full: "
        "the file's own range",
    )
    depth: int = setting(8, "bits of a cached pixel, 8 or 16")
    ocr: bool = setting(
        False, "let the audit read text burned into the images; slow, needs the extra [ocr]"
    )


@dataclass(frozen=True)
class Split:
    """[split]: which patients train, tune and test."""

    train: float = setting(0.7, "fraction of the patients in the training part")
    tune: float = setting(0.1, "fraction in the tune (validation) part")
    test: float = setting(0.2, "fraction in the test part; the three sum to 1")
    seed: int = setting(0, "seed of the random assignment")
    official: str = setting(
        "auto",
        "the split that the source comes with. use: take it; ignore: do not; auto: take it where "
        "it is sound",
    )
    min_per_class: int = setting(
        5, "images with and without the finding that each part must hold, at least 1"
    )
    previous: str = setting(
        "", "an earlier split.parquet whose patients keep their part; empty: none"
    )
    include: tuple[str, ...] = setting(
        (),
        'views, body parts and modalities to include besides frontal chest radiographs; ["all"]: '
        "every image",
    )
    folds: int = setting(
        0, "folds of cross-validation, 2 to 20; 0: only where one split is too small; 1: never"
    )


@dataclass(frozen=True)
class Segment:
    """[segment]: the lung segmentation model."""

    model: str = setting(
        "compact_unet",
        "name of the model; pretrained: no training, the lung model that comes with Hilum, which "
        "takes no settings",
    )
    # Against the reference masks of training parts, three folds differ from four by -0.0002,
    # -0.0010 and 0.0006 in Dice (Montgomery with Shenzhen, Kermany, Montgomery alone; 95 %
    # intervals within 0.0011 of these), for 0.76 of the batches; two folds by -0.0025, -0.0040 and
    # -0.0006.
    folds: int = setting(
        3, "masks of training images come from the fold that did not see their patient; at least 2"
    )
    seed: int = setting(0, "seed of weights, order and augmentation")
    test_time_changes: bool = setting(
        True,
        "find the lungs in slightly changed copies of each image too, whose agreement is part "
        "of the quality; false: three times as fast, and the quality is an upper limit",
    )
    settings: Mapping[str, object] = model_keys()


@dataclass(frozen=True)
class LungCrop:
    """[crop]: the lung region that the classifier and the anomaly model see."""

    size: int = setting(224, "side of the crop, a square, pixels; a multiple of 32 from 64 to 1024")
    margin: float = setting(
        0.08, "margin on each side as a fraction of the lungs' bounding box, from 0 to 1"
    )
    area: str = setting(
        "lungs",
        "what the crop surrounds. lungs: both; right lung or left lung (the patient's): "
        "one; whole: the whole image",
    )
    masked: bool = setting(False, "set the pixels outside the lungs to black")
    min_mask_quality: float = setting(
        0.7,
        "estimated quality of a predicted mask, from 0 to 1, below which the crop is the "
        "typical box of the training part",
    )


@dataclass(frozen=True)
class Classify:
    """[classify]: the classifier of findings."""

    model: str = setting("efficientnet_lite0", "name of the model")
    finding: str = setting(
        "auto",
        "the leading finding, a concept id; auto: the one with the most images of its rarer state",
    )
    other_findings: tuple[str, ...] = setting(
        (),
        "further concepts that the same model is trained on; "
        '["all"]: every one with both states in the training part',
    )
    uncertain: str = setting(
        "ignore",
        "training target of an uncertain label. ignore: none; zeros: absent; ones: present; soft: "
        "in between, see `hilum.pipeline.label_policy`",
    )
    unmentioned: str = setting(
        "ignore", "training target of a finding that is not mentioned. ignore: none; zeros: absent"
    )
    seed: int = setting(0, "seed of weights, order and augmentation")
    settings: Mapping[str, object] = model_keys()


@dataclass(frozen=True)
class Anomaly:
    """[anomaly]: the anomaly model, trained on normal images alone."""

    model: str = setting("padim", "name of the model")
    seed: int = setting(0, "seed of weights, order and augmentation")
    settings: Mapping[str, object] = model_keys()


@dataclass(frozen=True)
class Evaluate:
    """[evaluate]: figures and their intervals."""

    bootstrap: int = setting(1000, "resamples of patients for the intervals, at least 100")
    confidence: float = setting(0.95, "confidence level of the intervals, from 0.5 to below 1")
    seed: int = setting(0, "seed of the resamples")
    prevalence: float = setting(
        0.0,
        "prevalence of the finding where the model is to be used, for predictive values there; "
        "0: none given",
    )
    target_error: float = setting(
        0.1, "largest fraction of wrong calls, for which the report says how many images get one"
    )
    leave_out: str = setting(
        "",
        "source: train everything once more without each source in turn, and measure it there; "
        "empty: do not",
    )


@dataclass(frozen=True)
class Share:
    """[share]: what cards, exports, reports and audit pages disclose of people.

    See `hilum.privacy.release`.
    """

    identifiers: str = setting(
        "pseudonyms",
        "identifiers of patients, studies and annotators. pseudonyms: replaced; keep: as they are",
    )
    file_names: str = setting(
        "masked",
        "names of files. masked: identifiers in them replaced; pseudonyms: names replaced; keep: "
        "as they are",
    )
    readings: str = setting(
        "published", "texts of readings. published: those of public releases; keep: all; drop: none"
    )

    @property
    def keep_identifiers(self) -> bool:
        """Whether identifiers are written as they are."""
        return self.identifiers == "keep"
