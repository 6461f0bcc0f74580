"""Every setting of a run: TOML in, checked at once, a digest a section out.

    [data]
    folder = "data/chest"          # the only setting without a default
    [segment]
    model = "attention_unet"       # its own settings (epochs, width …) stand in the same section

An unknown section or key is refused with the nearest name; so is a value of the wrong kind or out of range. All faults are
told at once. A model's own keys are checked against its module's `Settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from hilum import plugins, storage
from hilum.annotations import eligibility
from hilum.errors import BadData, BadRecipe, HilumError, NotFound, unknown
from hilum.safety import untrusted_files
from hilum.safety.path_names import as_text, from_text

PRETRAINED = "pretrained"  # the name of the lung model that comes with Hilum, see `hilum.inference.pretrained`
ALL = "all"  # in [classify] other_findings: every concept that can be learnt
CONTENTS = ("lungs", "right lung", "left lung", "whole")
SHARED = {
    "identifiers": ("pseudonyms", "keep"),
    "file_names": ("masked", "pseudonyms", "keep"),
    "readings": ("published", "keep", "drop"),
}
UNCERTAIN, UNMENTIONED = ("ignore", "zeros", "ones", "soft"), ("ignore", "zeros")


@dataclass(frozen=True)
class Job:
    quick: bool = False  # as --quick asks for: weaker models in less time; the report says so


@dataclass(frozen=True)
class Data:
    folder: str = ""
    also: tuple[str, ...] = ()  # more folders, whose sets are merged with the first one's
    dataset: str = "auto"  # or the name of a data-set module
    patients: str = ""  # how numbers become patients, where a data set offers several readings (its PATIENTS); "": its default
    corrections: str = ""  # a file of corrections, see `hilum.dataset.corrections`, as `hilum propose-fixes` writes one
    links: bool = False  # whether links in the folders are followed to files outside of them, as those of another disk

    @property
    def folders(self) -> tuple[str, ...]:
        return self.folder, *self.also

    @property
    def paths(self) -> tuple[Path, ...]:
        """The folders, which a recipe holds as text (`hilum.safety.path_names`)."""
        return tuple(Path(from_text(folder)) for folder in self.folders)

    @property
    def corrections_path(self) -> Path | None:
        return Path(from_text(self.corrections)) if self.corrections else None

    def refuse_inside(self, place: Path, remedy: str) -> None:
        """Raise `HilumError` where `place` is one of the data folders or lies in one."""
        for folder in self.paths:
            if place.resolve().is_relative_to(folder.resolve()):
                raise HilumError(
                    f"{place} lies inside the data folder {folder.resolve()}, which is never written to; {remedy}"
                )


@dataclass(frozen=True)
class Pixels:
    size: int = 256  # side of the cached square, pixels
    normalisation: str = "percentiles"  # stretch from the 0.5th to the 99.5th percentile; "full": leave the file's range
    depth: int = 8  # bits of a cached pixel, 8 or 16
    ocr: bool = False  # read what is written in the pictures, for the audit: slow, and needs the extra [ocr]


@dataclass(frozen=True)
class Split:
    train: float = 0.7
    tune: float = 0.1
    test: float = 0.2
    seed: int = 0
    official: str = "auto"  # "use" the split the source comes with, "ignore" it, or use it where it is sound ("auto")
    min_per_class: int = 5  # images with and without the finding that each part must hold
    previous: str = ""  # an earlier split.parquet whose patients stay where they are
    include: tuple[
        str, ...
    ] = ()  # further views, body parts and modalities that enter the split, see `hilum.annotations.eligibility`
    folds: int = 0  # of cross-validation, see `hilum.pipeline.division`; 0: where one split is too small; 1: never


@dataclass(frozen=True)
class Segment:
    model: str = "compact_unet"  # or "pretrained": no training, but the lung model that comes with Hilum, which takes no settings
    folds: int = 4  # masks of training images come from the fold that did not see their patient
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LungCrop:
    size: int = 224  # side of the region's square, pixels
    margin: float = 0.08  # added on each side, share of the lungs' box
    area: str = "lungs"  # the box of both; "right lung" or "left lung": of one, the patient's; "whole": the whole picture
    masked: bool = False  # black outside the lungs
    min_mask_quality: float = 0.7  # of a found mask, see `hilum.inference.lung_finder`: below it the region is the training part's typical box


@dataclass(frozen=True)
class Classify:
    model: str = "efficientnet_lite0"
    finding: str = "auto"  # the leading one, a concept id; auto: the one with the most images of its rarer state
    other_findings: tuple[
        str, ...
    ] = ()  # further concepts that the same model learns; ["all"]: every one with both states in the training part
    uncertain: str = "ignore"  # what is learnt from an uncertain label: "ignore", "zeros", "ones" or "soft", see `hilum.pipeline.label_policy`
    unmentioned: str = "ignore"  # and from a finding that is not mentioned: "ignore" or "zeros"
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Anomaly:
    model: str = "padim"
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluate:
    bootstrap: int = 1000  # of patients, for the intervals
    confidence: float = 0.95
    seed: int = 0
    prevalence: float = 0.0  # where the finding is to be looked for, for predictive values there beside the set's own; 0: none given


@dataclass(frozen=True)
class Share:
    """What cards, exports, reports and audit pages tell of people, see `hilum.privacy.release`."""

    identifiers: str = "pseudonyms"  # of patients, studies and annotators; "keep": as they are
    file_names: str = "masked"  # identifiers in them replaced; "pseudonyms": all replaced; "keep"
    readings: str = "published"  # those of public releases; "keep": all; "drop": none

    @property
    def keep_identifiers(self) -> bool:
        return self.identifiers == "keep"


@dataclass(frozen=True)
class Recipe:
    job: Job = Job()
    data: Data = Data()
    pixels: Pixels = Pixels()
    split: Split = Split()
    segment: Segment = field(default_factory=Segment)
    crop: LungCrop = LungCrop()
    classify: Classify = field(default_factory=Classify)
    anomaly: Anomaly = field(default_factory=Anomaly)
    evaluate: Evaluate = Evaluate()
    share: Share = Share()

    @classmethod
    def from_sections(
        cls, sections: Mapping[str, Mapping[str, Any]], *, where: str = "the recipe"
    ) -> Recipe:
        """Build from plain sections. Raises `BadRecipe` with every fault."""
        faults: list[str] = []
        known = {part.name: type(getattr(cls(), part.name)) for part in fields(cls)}
        built = {}
        for name, values in sections.items():
            if name not in known:
                faults.append(unknown("section", name, known))
            elif not isinstance(values, Mapping):
                faults.append(f"[{name}] must be a section, got {values!r}")
            else:
                built[name] = _section(known[name], name, values, faults)
        if not faults:
            recipe = cls(**built)
            faults = _impossible(recipe)
        if faults:
            raise BadRecipe(
                "\n".join(
                    [
                        f"{where}: {len(faults)} fault{'s' * (len(faults) != 1)}",
                        *(f"  {fault}" for fault in faults),
                    ]
                )
            )
        return recipe.quick() if recipe.job.quick else recipe

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """From a TOML file; a relative folder or file is meant from the recipe's own place."""
        try:
            sections = untrusted_files.read_toml(path)
        except NotFound:
            raise NotFound(f"no recipe at {path}") from None
        except BadData as error:
            raise BadRecipe(str(error)) from error
        recipe = cls.from_sections(sections, where=str(path))
        if not recipe.data.folder:
            raise BadRecipe(
                f'{path}: [data] folder is missing; say where the images are: folder = "path/to/images"'
            )
        folder, *also = (as_text((path.parent / folder).resolve()) for folder in recipe.data.paths)
        corrections = (
            as_text((path.parent / file).resolve())
            if (file := recipe.data.corrections_path)
            else ""
        )
        data = replace(recipe.data, folder=folder, also=tuple(also), corrections=corrections)
        return replace(
            recipe,
            data=data,
            classify=replace(
                recipe.classify, settings=_placed(recipe.classify.settings, path.parent)
            ),
        )

    def corrected_by(self, file: Path) -> Recipe:
        """The same job on the data as the corrections in `file` have it."""
        return replace(self, data=replace(self.data, corrections=as_text(file.resolve())))

    def sharing(self, settings: Mapping[str, str]) -> Recipe:
        """The same job with these settings of [share]."""
        return replace(self, share=replace(self.share, **settings))

    def quick(self) -> Recipe:
        """The same job in a fraction of the time: fewer folds and resamples, and the models' own quick settings."""
        return replace(
            self,
            job=replace(self.job, quick=True),
            segment=replace(
                self.segment,
                folds=2,
                settings={**_quick(self.segment.model), **self.segment.settings},
            ),
            classify=replace(
                self.classify, settings={**_quick(self.classify.model), **self.classify.settings}
            ),
            anomaly=replace(
                self.anomaly, settings={**_quick(self.anomaly.model), **self.anomaly.settings}
            ),
            crop=replace(self.crop, size=min(self.crop.size, 160)),
        )

    def section(self, name: str) -> dict[str, Any]:
        """With lists for tuples, as a marker of the run gives them back: else a finished step would seem to be made from something else."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(getattr(self, name)).items()
        }

    @property
    def digest(self) -> str:
        return storage.digest(asdict(self))

    def to_toml(self) -> str:
        lines = []
        for part in fields(self):
            values = self.section(part.name)
            values |= values.pop("settings", {})
            lines += [
                f"[{part.name}]",
                *(f"{key} = {_toml(value)}" for key, value in values.items()),
                "",
            ]
        return "\n".join(lines)


def model_settings(section: Segment | Classify | Anomaly) -> Any:
    """The model's `Settings` with the recipe's values."""
    return plugins.load("models", section.model).Settings(**section.settings)


def _section(kind: type, name: str, values: Mapping[str, Any], faults: list[str]) -> Any:
    own = {part.name: part.default for part in fields(kind) if part.default is not MISSING}
    settings = {key: value for key, value in values.items() if key not in own}
    if settings and hasattr(kind(), "settings"):
        model = values.get("model", own["model"])
        if model == PRETRAINED:
            faults.append(
                f'[{name}] the model "{PRETRAINED}" is trained already and takes no {", ".join(settings)}; leave it out'
            )
            return None
        if model not in plugins.names("models"):
            faults.append(f"[{name}] " + unknown("model", str(model), plugins.names("models")))
            return None
        expected = plugins.defaults("models", model, "Settings")
    else:
        expected = {}
    for key, value in values.items():
        if key not in own | expected:
            faults.append(f"[{name}] " + unknown("key", key, own | expected))
        elif not _fits(value, (own | expected)[key]):
            faults.append(f"[{name}] {key} must be {_kind((own | expected)[key])}, got {value!r}")
    if faults:
        return None
    plain = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in values.items()
        if key in own
    }
    return kind(**plain, settings=settings) if expected else kind(**plain)


def _fits(value: object, example: object) -> bool:
    if isinstance(example, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(example, tuple):
        return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    return type(value) is type(example)


def _kind(example: object) -> str:
    return {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        tuple: "a list of texts",
    }[type(example)]


def _impossible(recipe: Recipe) -> list[str]:
    """Values of the right kind that cannot be."""
    pixels, split, segment, crop, classify, evaluate = (
        recipe.pixels,
        recipe.split,
        recipe.segment,
        recipe.crop,
        recipe.classify,
        recipe.evaluate,
    )
    models, tasks = (
        plugins.names("models"),
        {"segment": segment.model, "classify": classify.model, "anomaly": recipe.anomaly.model},
    )
    shares = (split.train, split.tune, split.test)
    rules = [
        (
            pixels.size % 32 == 0 and 64 <= pixels.size <= 1024,
            f"[pixels] size must be a multiple of 32 from 64 to 1024, got {pixels.size}",
        ),
        (
            pixels.normalisation in ("percentiles", "full"),
            f"[pixels] normalisation must be 'percentiles' or 'full', got '{pixels.normalisation}'",
        ),
        (pixels.depth in (8, 16), f"[pixels] depth must be 8 or 16, got {pixels.depth}"),
        (
            min(shares) > 0 and abs(sum(shares) - 1) < 1e-6,
            f"[split] train, tune and test must be above 0 and sum to 1, got {shares}",
        ),
        (
            split.official in ("auto", "use", "ignore"),
            f"[split] official must be 'auto', 'use' or 'ignore', got '{split.official}'",
        ),
        *(
            (
                False,
                f"[split] include: {unknown('view, body part or modality', value.upper(), eligibility.terms())}",
            )
            for value in eligibility.unknown_terms(split.include)
        ),
        (
            split.min_per_class >= 1,
            f"[split] min_per_class must be at least 1, got {split.min_per_class}",
        ),
        (
            0 <= split.folds <= 20,
            f"[split] folds must be 0 (where needed), 1 (never) or 2 to 20, got {split.folds}",
        ),
        (segment.folds >= 2, f"[segment] folds must be at least 2, got {segment.folds}"),
        (
            crop.size % 32 == 0 and 64 <= crop.size <= 1024,
            f"[crop] size must be a multiple of 32 from 64 to 1024, got {crop.size}",
        ),
        (0 <= crop.margin <= 1, f"[crop] margin must be from 0 to 1, got {crop.margin}"),
        (
            crop.area in CONTENTS,
            f"[crop] area must be {_either(CONTENTS)}, got '{crop.area}'",
        ),
        (
            classify.uncertain in UNCERTAIN,
            f"[classify] uncertain must be {_either(UNCERTAIN)}, got '{classify.uncertain}'",
        ),
        (
            classify.unmentioned in UNMENTIONED,
            f"[classify] unmentioned must be {_either(UNMENTIONED)}, got '{classify.unmentioned}'",
        ),
        (
            ALL not in classify.other_findings or len(classify.other_findings) == 1,
            f"[classify] other_findings must be ['{ALL}'] or concepts, got {list(classify.other_findings)}",
        ),
        (
            evaluate.bootstrap >= 100,
            f"[evaluate] bootstrap must be at least 100, got {evaluate.bootstrap}",
        ),
        (
            0.5 <= evaluate.confidence < 1,
            f"[evaluate] confidence must be from 0.5 to below 1, got {evaluate.confidence}",
        ),
        (
            0 <= evaluate.prevalence < 1,
            f"[evaluate] prevalence must be from 0 (none given) to below 1, got {evaluate.prevalence}",
        ),
        (
            0 <= crop.min_mask_quality <= 1,
            f"[crop] min_mask_quality must be from 0 to 1, got {crop.min_mask_quality}",
        ),
        *(
            (
                getattr(recipe.share, key) in words,
                f"[share] {key} must be {_either(words)}, got '{getattr(recipe.share, key)}'",
            )
            for key, words in SHARED.items()
        ),
        *(
            (
                model in models or (name, model) == ("segment", PRETRAINED),
                f"[{name}] " + unknown("model", model, models),
            )
            for name, model in tasks.items()
        ),
    ]
    return [fault for holds, fault in rules if not holds]


def _placed(settings: Mapping[str, Any], place: Path) -> dict[str, Any]:
    """The settings with the file of weights, where they name one, meant from `place`."""
    return (
        {**settings, "weights": str((place / settings["weights"]).resolve())}
        if settings.get("weights")
        else dict(settings)
    )


def _either(words: tuple[str, ...]) -> str:
    return " or ".join(f"'{word}'" for word in words)


def _quick(model: str) -> Mapping[str, Any]:
    return {} if model == PRETRAINED else plugins.defaults("models", model, "QUICK")


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else storage.as_json(value)
