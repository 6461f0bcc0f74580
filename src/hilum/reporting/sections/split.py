"""The split: what each part holds, by which rule, and the proof that no stage learnt from what it is tested on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import polars as pl

from hilum.annotations.vocabulary import State
from hilum.config import PRETRAINED, Split
from hilum.dataset.manifest import PARTS, Manifest
from hilum.pipeline import _selection
from hilum.pipeline.division import TUNE
from hilum.pipeline.segment import WHOLE
from hilum.reporting.sections.text import plural


def section(
    table: pl.DataFrame,
    manifest: Manifest,
    settings: Split,
    training: Mapping[str, pl.DataFrame],
    finders: pl.DataFrame,
    summary: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what the chapter shows.

    `training` holds each stage's list (model, image_id), `finders` the model that found each image's lungs,
    `summary` is that of the step.
    """
    return {
        "parts": [_part(part, table.filter(pl.col("part") == part)) for part in PARTS],
        "rule": [*_rule(table, manifest, settings, settings.seed), *_selected(settings, summary)],
        "proof": [
            {"model": _named(stage, model), **_learnt(table, rows)}
            for stage, learnt in training.items()
            for (model,), rows in learnt.group_by("model", maintain_order=True)
        ],
        "out_of_fold": _out_of_fold(table, training["segment"], finders),
        "folds": [],
        "final": [],
    }


class Fold(NamedTuple):
    """Hold of one fold its split, each stage's list (model, image_id) and each image's finder."""

    table: pl.DataFrame
    training: Mapping[str, pl.DataFrame]
    finders: pl.DataFrame


def cross_validated(
    folds: Sequence[Fold],
    final: Mapping[str, pl.DataFrame],
    manifest: Manifest,
    settings: Split,
    summary: Mapping[str, Any],
) -> dict[str, Any]:
    """Make what `section` makes, of folds; `final`: the lists of the models trained on all images."""
    proof, seen = [], []
    for number, fold in enumerate(folds):
        found = section(fold.table, manifest, settings, fold.training, fold.finders, {})
        proof += [
            {**line, "model": f"Fold {number}: {line['model'][0].lower()}{line['model'][1:]}"}
            for line in found["proof"]
        ]
        seen += [found["out_of_fold"]] if found["out_of_fold"] else []
    rows = [_part("test", fold.table.filter(pl.col("part") == "test")) for fold in folds]
    held = [
        {part: (fold.table["part"] == part).sum() for part in ("train", "tune")} for fold in folds
    ]
    return {
        "folds": [
            {**row, **of, "name": f"Fold {number}"}
            for number, (row, of) in enumerate(zip(rows, held, strict=True))
        ],
        "parts": [],
        "rule": [
            *_rule(folds[0].table, manifest, None, settings.seed),
            *_selected(settings, summary),
        ],
        "proof": proof,
        "final": [
            name
            for name, kept in (("lungs", final["segment"].height), *_of_train(final["train"]))
            if kept
        ],
        "out_of_fold": {key: sum(one[key] for one in seen) for key in ("images", "seen")}
        if seen
        else None,
    }


def _of_train(training: pl.DataFrame) -> list[tuple[str, int]]:
    return [
        (PurePosixPath(model).stem, rows.height)
        for (model,), rows in training.group_by("model", maintain_order=True)
    ]


def _part(part: str, rows: pl.DataFrame) -> dict[str, Any]:
    sources = rows.group_by("source").len().sort("source")
    present, absent = ((rows["state"] == state).sum() for state in (State.PRESENT, State.ABSENT))
    return {
        "name": part,
        "images": rows.height,
        "patients": rows["patient_id"].n_unique(),
        "present": present,
        "absent": absent,
        "unknown": rows.height - present - absent,
        "sources": ", ".join(f"{source} {count:,}" for source, count in sources.iter_rows()),
    }


def _rule(table: pl.DataFrame, manifest: Manifest, settings: Split | None, seed: int) -> list[str]:
    """Say by which rule parts were dealt; `settings` None: the patients were dealt into folds."""
    several = table.group_by("patient_id").len().filter(pl.col("len") > 1)
    joined = (
        table.group_by("group")
        .agg(pl.col("patient_id").n_unique().alias("patients"))
        .filter(pl.col("patients") > 1)
    )
    told = [
        f"Whole patients are dealt out, never single images: {plural(several.height, 'patient')} here {'has' if several.height == 1 else 'have'} several images.",
        f"Patients under whom the audit found the very same picture stay in one part and count as one in the figures: {plural(joined.height, 'such group')} here.",
    ]
    if settings is None:
        told.append(
            f"Patients are dealt into folds, and those outside a fold into train and tune "
            f"({TUNE:.0%}), stratified by the rarest finding they have; seed {seed}."
        )
        return told
    shares = ", ".join(f"{part} {getattr(settings, part):.0%}" for part in PARTS)
    given = table.join(manifest.table.select("image_id", "given_part"), on="image_id").drop_nulls(
        "given_part"
    )
    kept = (given["part"] == given["given_part"]).sum()
    if kept < table.height:
        told.append(
            f"Shares asked for: {shares}, kept within each source and state of the finding; seed {seed}."
        )
    if given.height:
        told.append(
            f"The data come with a split of their own ({plural(given.height, 'image')}); {kept:,} of these stand in the part it gives them."
        )
    if settings.previous:
        told.append("Patients of an earlier split stay where they were.")
    return told


def _selected(settings: Split, summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield which images are excluded, and which are included on request or with something not stated."""
    if excluded := summary.get(_selection.EXCLUDED):
        counts = ", ".join(f"{reason} ({count:,})" for reason, count in excluded.items())
        yield (
            f"In no part, since the data state that they are not frontal chest radiographs: {counts}. "
            f"What [split] include lists is not excluded."
        )
    if settings.include:
        yield f"Included beside frontal chest radiographs by [split] include: {', '.join(settings.include)}."
    if unstated := summary.get(_selection.NOT_STATED):
        counts = ", ".join(
            f"{field} ({plural(count, 'image')})" for field, count in unstated.items()
        )
        yield f"Included although not stated: {counts}."


def _named(stage: str, model: str) -> str:
    """A model's name for a reader: `fold0` of the segmenter, `train/finding.onnx` of the others."""
    if stage != "segment":
        return PurePosixPath(model).stem.capitalize()
    if model == PRETRAINED:
        return "Lungs, the model that comes with Hilum"
    return (
        "Lungs, for tune and test"
        if model == WHOLE
        else f"Lungs, for inner fold {model.removeprefix('fold')} of train"
    )


def _learnt(table: pl.DataFrame, rows: pl.DataFrame) -> dict[str, Any]:
    """What a model was trained on, and how many of its images and patients stand in tune or test."""
    part_of = table.select("image_id", "patient_id", "group", "part")
    learnt = rows.join(part_of, on="image_id", how="left")
    groups = learnt.select("group").unique()
    counts = {}
    for part in ("tune", "test"):
        held = part_of.filter(pl.col("part") == part)
        shared = held.select("group").unique().join(groups, on="group", how="semi").height
        counts[part] = {"images": (learnt["part"] == part).sum(), "patients": shared}
    return {"images": learnt.height, "patients": learnt["patient_id"].n_unique(), **counts}


def _out_of_fold(
    table: pl.DataFrame, training: pl.DataFrame, finders: pl.DataFrame
) -> dict[str, int] | None:
    """How many training images had their lungs found by a model that had learnt from their patient; None where no lungs were found."""
    if not finders.height:
        return None
    group_of = table.select("image_id", "group")
    learnt = training.join(group_of, on="image_id").select("model", "group").unique()
    found = finders.join(
        table.filter(pl.col("part") == "train").select("image_id", "group"), on="image_id"
    )
    return {
        "images": found.height,
        "seen": found.join(learnt, on=["model", "group"], how="semi").height,
    }
