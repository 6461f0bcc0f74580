"""A recipe: all sections of settings of a run, from TOML and back.

An unknown section or key is refused with the nearest name; so is a value of the wrong kind or out
of range. All faults are reported at once. A model's own keys are checked against its module's
`Settings`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from hilum import plugins, storage
from hilum.config import validation
from hilum.config.sections import (
    PRETRAINED,
    Anomaly,
    Classify,
    Data,
    Evaluate,
    Job,
    LungCrop,
    Pixels,
    Segment,
    Share,
    Split,
)
from hilum.errors import BadData, BadRecipe, NotFound, plural, unknown
from hilum.safety import addresses, untrusted_files
from hilum.safety.path_names import as_text, from_text

Step = TypeVar("Step", Segment, Classify, Anomaly)


@dataclass(frozen=True)
class Recipe:
    """All settings of a run; a section that a file leaves out has its defaults."""

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
        cls, sections: Mapping[str, Mapping[str, object]], *, where: str = "the recipe"
    ) -> Recipe:
        """Return the recipe of plain sections, as TOML gives them.

        Raises `BadRecipe` that lists every fault; `where` is what it calls the recipe.
        """
        faults: list[str] = []
        known = {part.name: type(getattr(cls(), part.name)) for part in fields(cls)}
        built = {}
        for name, values in sections.items():
            if name not in known:
                faults.append(unknown("section", name, known))
            elif not isinstance(values, Mapping):
                faults.append(f"[{name}] must be a section, got {values!r}")
            else:
                built[name] = validation.build_section(known[name], name, values, faults)
        if faults:
            raise BadRecipe(_listed(where, faults))
        recipe = cls(**built)
        parts = {part.name: getattr(recipe, part.name) for part in fields(recipe)}
        if faults := validation.range_faults(parts):
            raise BadRecipe(_listed(where, faults))
        return recipe.quick() if recipe.job.quick else recipe

    @classmethod
    def of_source(cls, source: Path) -> Recipe:
        """Return the recipe in a TOML file, or the default one for a folder of radiographs."""
        if source.suffix == ".toml":
            return cls.read(source)
        return cls.of_folders([source])

    @classmethod
    def of_folders(cls, folders: Sequence[Path]) -> Recipe:
        """Return the default recipe for one or more folders, those of addresses by the address."""
        folder, *also = map(_as_named, folders)
        return cls(data=Data(folder=folder, also=tuple(also)))

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read a TOML file; relative paths in it start from the folder of the file.

        Raises `NotFound` without a file, `BadRecipe` that lists every fault.
        """
        try:
            sections = untrusted_files.read_toml(path)
        except NotFound:
            raise NotFound(f"no recipe at {path}") from None
        except BadData as error:
            raise BadRecipe(str(error)) from error
        recipe = cls.from_sections(sections, where=str(path))
        if not recipe.data.folder:
            raise BadRecipe(
                f"{path}: [data] folder is missing; say where the images are: "
                'folder = "path/to/images"'
            )
        folder, *also = (
            _as_named(addresses.located(from_text(folder), path.parent))
            for folder in recipe.data.folders
        )
        corrections, annotations = (
            as_text((path.parent / place).resolve()) if place else ""
            for place in (recipe.data.corrections_path, recipe.data.annotations_path)
        )
        data = replace(
            recipe.data,
            folder=folder,
            also=tuple(also),
            corrections=corrections,
            annotations=annotations,
        )
        settings = _placed(recipe.classify.settings, path.parent)
        return replace(recipe, data=data, classify=replace(recipe.classify, settings=settings))

    def corrected_by(self, file: Path) -> Recipe:
        """Return the same settings with `file` as the corrections to apply.

        Raises `NotFound` without a file, before a run keeps a recipe that names it.
        """
        if not file.is_file():
            raise NotFound(
                f"there is no file of corrections at {file}; write one with "
                f"`hilum propose-fixes RUN --rule RULE --out {file}`"
            )
        return replace(self, data=replace(self.data, corrections=as_text(file.resolve())))

    def sharing(self, settings: Mapping[str, str]) -> Recipe:
        """Return the same settings with these of [share]."""
        return replace(self, share=replace(self.share, **settings))

    def quick(self) -> Recipe:
        """Return the settings of a run in a fraction of the time.

        It has fewer folds, a smaller lung region and the models' own quick settings; settings of
        models that the recipe gives go first.
        """

        return replace(
            self,
            job=replace(self.job, quick=True),
            segment=replace(_quicker(self.segment), folds=2),
            classify=_quicker(self.classify),
            anomaly=_quicker(self.anomaly),
            crop=replace(self.crop, size=min(self.crop.size, 160)),
        )

    def section(self, name: str) -> dict[str, object]:
        """Return a section as a dictionary with lists for tuples, as JSON gives it back.

        A finished step compares it with its marker; a tuple would seem another value.
        """
        values = asdict(getattr(self, name))
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
        }

    @property
    def digest(self) -> str:
        """The digest of all settings."""
        return storage.digest(asdict(self))

    def to_toml(self) -> str:
        """Return TOML text that reads back as an equal recipe."""
        lines = []
        for part in fields(self):
            values = self.section(part.name)
            values.pop("settings", None)
            values |= getattr(getattr(self, part.name), "settings", {})
            lines += [
                f"[{part.name}]",
                *(f"{key} = {toml_value(value)}" for key, value in values.items()),
                "",
            ]
        return "\n".join(lines)


def _as_named(folder: Path) -> str:
    """Return a data folder as a recipe holds it: its address, or its path with links resolved."""
    return as_text(addresses.stored(folder.resolve()))


def model_settings(section: Segment | Classify | Anomaly) -> Any:
    """Return the model's `Settings` with the recipe's values. Imports the model's module."""
    return plugins.load("models", section.model).Settings(**section.settings)


def _placed(settings: Mapping[str, object], place: Path) -> dict[str, object]:
    """Return settings in which a relative path of weights starts from `place`."""
    weights = settings.get("weights")
    placed = {"weights": str((place / str(weights)).resolve())} if weights else {}
    return {**settings, **placed}


def _quicker(step: Step) -> Step:
    """Return a section with the quick settings of its model below those that are given."""
    if step.model == PRETRAINED:
        return step
    quick = plugins.defaults("models", step.model, "QUICK")
    return replace(step, settings={**quick, **step.settings})


def _listed(where: str, faults: list[str]) -> str:
    heading = f"{where}: {plural(len(faults), 'fault')}"
    return "\n".join([heading, *(f"  {fault}" for fault in faults)])


def toml_value(value: object) -> str:
    """Return a bool, number, text or list of texts as TOML writes it."""
    return str(value).lower() if isinstance(value, bool) else storage.as_json(value)
