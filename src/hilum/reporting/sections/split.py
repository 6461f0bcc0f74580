"""The split: what each part holds, by which rule, and proof that no test image was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import NamedTuple

import polars as pl

from hilum.annotations.vocabulary import State
from hilum.config import PRETRAINED
from hilum.config import Split as Settings
from hilum.dataset.manifest import PARTS, Manifest
from hilum.errors import plural
from hilum.pipeline import _selection, segment
from hilum.pipeline._training import TRAINING
from hilum.pipeline.division import TUNE
from hilum.pipeline.segment import WHOLE
from hilum.reporting.context import Context
from hilum.run_folder import Run
from hilum.storage import JsonObject

TITLE, ORDER = "The split", 30

Training = Mapping[str, pl.DataFrame]  # by step: model and image_id of every training image


@dataclass(frozen=True)
class Part:
    """What one part or fold holds; `train` and `tune` count the other images of a fold."""

    name: str
    images: int
    patients: int
    present: int
    absent: int
    unknown: int
    sources: str
    train: int = 0
    tune: int = 0


@dataclass(frozen=True)
class Leaked:
    """Training images of a model, and patients with one, that are in a held-out part."""

    images: int
    patients: int


@dataclass(frozen=True)
class Proof:
    """The images and patients that a model was trained on, and those of them held out: 0 each."""

    model: str
    images: int
    patients: int
    tune: Leaked
    test: Leaked


@dataclass(frozen=True)
class OutOfFold:
    """Training images with segmented lungs, and those whose patient trained the segmenter."""

    images: int
    seen: int


@dataclass(frozen=True)
class Split:
    """What the chapter shows: `parts` of one split, or `folds` and the names of `final` models."""

    finding: str | None = None
    rule: list[str] = field(default_factory=list)
    proof: list[Proof] = field(default_factory=list)
    out_of_fold: OutOfFold | None = None
    parts: list[Part] = field(default_factory=list)
    folds: list[Part] = field(default_factory=list)
    final: list[str] = field(default_factory=list)


class Fold(NamedTuple):
    """Split, training images by step, and the model that segmented each image, of one fold."""

    table: pl.DataFrame
    training: Training
    segmented_by: pl.DataFrame

    @classmethod
    def of(cls, run: Run) -> Fold:
        """Read those of a fold, or of a run with one split."""
        table, index = run.table("split", "split.parquet"), run.table("segment", segment.INDEX)
        return cls(table, training_images(run), index)


def section(context: Context) -> Split | None:
    """Describe the split; None where nothing was trained."""
    if context.untrained:
        return None
    settings, summary = context.recipe.split, context.run.summary("split")
    if context.folds:
        folds = [Fold.of(fold) for fold in context.folds]
        final = training_images(context.run)
        found = cross_validated(folds, final, context.manifest, settings, summary)
    else:
        found = single(Fold.of(context.run), context.manifest, settings, summary)
    return replace(found, finding=context.finding)


def training_images(run: Run) -> Training:
    """Return, for segment and train, model and image_id of every image that was trained on."""
    lists = {step: run.table(step, f"{step}/{TRAINING}") for step in ("segment", "train")}
    # The pretrained lung model was trained elsewhere, on images that the run may hold too.
    pretrained = segment.seen(run).select(model=pl.lit(PRETRAINED), image_id="image_id")
    return lists | {"segment": pl.concat([lists["segment"], pretrained])}


def single(fold: Fold, manifest: Manifest, settings: Settings, summary: JsonObject) -> Split:
    """Describe one split; `summary` is that of the step `split`."""
    table = fold.table
    return Split(
        parts=[_part(part, table.filter(pl.col("part") == part)) for part in PARTS],
        rule=[*_rule(table, manifest, settings, settings.seed), *_selected(settings, summary)],
        proof=[
            leaks(_model_name(step, str(model)), table, rows)
            for step, images in fold.training.items()
            for (model,), rows in images.group_by("model", maintain_order=True)
        ],
        out_of_fold=out_of_fold(table, fold.training["segment"], fold.segmented_by),
    )


def cross_validated(
    folds: Sequence[Fold],
    final: Training,
    manifest: Manifest,
    settings: Settings,
    summary: JsonObject,
) -> Split:
    """Describe folds; `final` are the training images of the models trained on all images."""
    proof, seen, parts = [], [], []
    for number, fold in enumerate(folds):
        found = single(fold, manifest, settings, {})
        proof += [
            replace(one, model=f"Fold {number}: {one.model[0].lower()}{one.model[1:]}")
            for one in found.proof
        ]
        seen += [found.out_of_fold] if found.out_of_fold else []
        part = _part(f"Fold {number}", fold.table.filter(pl.col("part") == "test"))
        train, tune = (int((fold.table["part"] == name).sum()) for name in ("train", "tune"))
        parts.append(replace(part, train=train, tune=tune))
    total = OutOfFold(sum(one.images for one in seen), sum(one.seen for one in seen))
    by_model = final["train"].group_by("model", maintain_order=True)
    models = [PurePosixPath(str(model)).stem for (model,), _ in by_model]
    return Split(
        folds=parts,
        rule=[
            *_rule(folds[0].table, manifest, None, settings.seed),
            *_selected(settings, summary),
        ],
        proof=proof,
        final=(["lungs"] if final["segment"].height else []) + models,
        out_of_fold=total if seen else None,
    )


def _part(name: str, rows: pl.DataFrame) -> Part:
    sources = rows.group_by("source").len().sort("source")
    present, absent = (
        int((rows["state"] == state).sum()) for state in (State.PRESENT, State.ABSENT)
    )
    return Part(
        name=name,
        images=rows.height,
        patients=rows["patient_id"].n_unique(),
        present=present,
        absent=absent,
        unknown=rows.height - present - absent,
        sources=", ".join(f"{source} {count:,}" for source, count in sources.iter_rows()),
    )


def _rule(
    table: pl.DataFrame, manifest: Manifest, settings: Settings | None, seed: int
) -> list[str]:
    """Return by which rule parts were assigned; `settings` None: patients went into folds."""
    several = table.group_by("patient_id").len().filter(pl.col("len") > 1).height
    patients = table.group_by("group").agg(pl.col("patient_id").n_unique().alias("patients"))
    joined = patients.filter(pl.col("patients") > 1).height
    sentences = [
        "Whole patients are assigned, never single images: "
        f"{plural(several, 'patient')} here {'has' if several == 1 else 'have'} several images.",
        "Patients under whom the audit found the same image stay in one part and count as one in "
        f"the figures: {plural(joined, 'such group')} here.",
    ]
    if settings is None:
        return [
            *sentences,
            "Patients are assigned to folds, and those outside a fold to train and tune "
            f"({TUNE:.0%}), stratified by the rarest finding they have; seed {seed}.",
        ]
    given = table.join(manifest.table.select("image_id", "given_part"), on="image_id").drop_nulls(
        "given_part"
    )
    kept = int((given["part"] == given["given_part"]).sum())
    if kept < table.height:
        fractions = ", ".join(f"{part} {getattr(settings, part):.0%}" for part in PARTS)
        sentences.append(
            f"Fractions requested: {fractions}, kept within each source and state of the finding; "
            f"seed {seed}."
        )
    if given.height:
        sentences.append(
            f"The data come with an official split ({plural(given.height, 'image')}); {kept:,} of "
            "these are in the part that it gives them."
        )
    if settings.previous:
        sentences.append("Patients of an earlier split stay where they were.")
    return sentences


def _selected(settings: Settings, summary: JsonObject) -> Iterator[str]:
    """Yield which images are excluded, and which are included on request or without a statement."""
    if excluded := summary.get(_selection.EXCLUDED):
        counts = ", ".join(f"{reason} ({count:,})" for reason, count in excluded.items())
        yield (
            "In no part, since the data state that they are not frontal chest radiographs: "
            f"{counts}. What [split] include lists is not excluded."
        )
    if settings.include:
        listed = ", ".join(settings.include)
        yield f"Included beside frontal chest radiographs by [split] include: {listed}."
    if unstated := summary.get(_selection.NOT_STATED):
        counts = ", ".join(
            f"{field} ({plural(count, 'image')})" for field, count in unstated.items()
        )
        yield f"Included although not stated: {counts}."


def _model_name(step: str, model: str) -> str:
    """Name a model for a reader: `fold0` of the segmenter, `train/finding.onnx` of the others."""
    if step != "segment":
        return PurePosixPath(model).stem.capitalize()
    if model == PRETRAINED:
        return "Lungs, the model that comes with Hilum"
    if model == WHOLE:
        return "Lungs, for tune and test"
    return f"Lungs, for inner fold {model.removeprefix('fold')} of train"


def leaks(model: str, table: pl.DataFrame, rows: pl.DataFrame) -> Proof:
    """Count a model's training images (`rows`), and those that are in tune or test of `table`."""
    part_of = table.select("image_id", "patient_id", "group", "part")
    trained = rows.join(part_of, on="image_id", how="left")
    groups = trained.select("group").unique()

    def leaked(part: str) -> Leaked:
        """Count training images, and patients with one, in a held-out part."""
        held = part_of.filter(pl.col("part") == part).select("group").unique()
        patients = held.join(groups, on="group", how="semi").height
        return Leaked(int((trained["part"] == part).sum()), patients)

    patients = trained["patient_id"].n_unique()
    return Proof(model, trained.height, patients, leaked("tune"), leaked("test"))


def out_of_fold(
    table: pl.DataFrame, training: pl.DataFrame, segmented_by: pl.DataFrame
) -> OutOfFold | None:
    """Count training images whose lungs a model segmented that was trained on their patient.

    `segmented_by` has image_id and model. None where no lungs were segmented.
    """
    if not segmented_by.height:
        return None
    group_of = table.select("image_id", "group")
    trained = training.join(group_of, on="image_id").select("model", "group").unique()
    train = table.filter(pl.col("part") == "train").select("image_id", "group")
    found = segmented_by.join(train, on="image_id")
    seen = found.join(trained, on=["model", "group"], how="semi").height
    return OutOfFold(found.height, seen)
