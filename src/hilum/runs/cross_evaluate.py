"""Evaluate every run's models on every run's images, to measure the loss at another hospital.

    cross_evaluation.parquet, .csv  a row for each model, set, task and concept, see
                                    `hilum.runs.cross_evaluation_figures.COLUMNS`
    cross_evaluation.html           AUROC as heat tables, and all figures
    scores/MODEL--SET.parquet       image_id, task, concept, score of a model on another run's
                                    images; kept while neither run changes

A run's models are its whole chain: lung model, lung crop, finding and anomaly model. They are run
on the other run's cached images, which must be made the same way (size and normalisation). On its
own set a model is measured on the test part. On another set it is measured on the train and test
part, as it was trained on neither, and the tune part is left for choosing a threshold again.
Patients that the model was trained or tuned on are left out and counted where names mean the same
in both sets. Images that it was trained on under another name stop everything, since nobody could
say what else the sets have in common.

A cross-validated run is represented on its own set by the folds' pooled scores, on others by its
final models. Those were trained on all its images, so that for another run's model every one of its
images is a test image, and there is no tune part.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from hilum import storage
from hilum.errors import HilumError, Mismatch
from hilum.inference import segment_images
from hilum.inference.examination import examine_cached
from hilum.pipeline import predict
from hilum.progress import Progress
from hilum.run_folder import Run
from hilum.runs import cross_evaluation_figures, cross_evaluation_page, dataset_overlap
from hilum.runs.finished_run import SCORES, FinishedRun
from hilum.safety import spreadsheet_cells

VERSION = 2  # change it when the same models and images give other scores
TABLE, CSV, PAGE = "cross_evaluation.parquet", "cross_evaluation.csv", "cross_evaluation.html"
UNTIL = "evaluate"  # the step that a run needs done
EXAMPLES = 5  # images named in an error


def refuse_fewer_than_two(members: Sequence[object]) -> None:
    """Raise `HilumError` unless there are two runs or more."""
    if len(members) < 2:
        raise HilumError(
            f"cross-evaluation needs two runs or more, got {len(members)}; name further recipes "
            "or run folders"
        )


def cross_evaluate(
    members: Sequence[FinishedRun], to: Path, watch: segment_images.Watch
) -> pl.DataFrame:
    """Return the table of every model on every set, written to the folder `to` with its page.

    Raises `Mismatch` before anything is scored where a set's images are made otherwise than a
    model's, or where a model was trained on some of them; `HilumError` for fewer than two runs.
    """
    refuse_fewer_than_two(members)
    for member in members:
        member.recipe.data.refuse_inside(to, "choose another folder with --out")
    pairs = [(model, target) for model in members for target in members]
    usable = {
        (model.name, target.name): unseen(model, target)
        for model, target in pairs
        if model is not target
    }
    rows: list[cross_evaluation_figures.Row] = []
    for model, target in pairs:
        own = model is target
        allowed = target.split.select("image_id") if own else usable[model.name, target.name]
        scores = model.scores if own else _kept(model, target, allowed, to, watch)
        left_out = target.split.height - allowed.height
        rows += cross_evaluation_figures.rows(model, target, scores, left_out)
    table = pl.DataFrame(rows, schema=cross_evaluation_figures.COLUMNS)
    page = cross_evaluation_page.page(table, [member.name for member in members])
    storage.write_table(to / TABLE, table)
    storage.write_text(to / CSV, spreadsheet_cells.of_table(table))
    storage.write_text(to / PAGE, page)
    return table


# --------------------------------------------------------------------------- what may be scored


def unseen(model: FinishedRun, target: FinishedRun) -> pl.DataFrame:
    """Return the image_id of the target's images that the model can be measured on.

    Raises `Mismatch` where they were made otherwise, or where it was trained on some of them.
    """
    ours, theirs = model.recipe.pixels, target.recipe.pixels
    if (ours.size, ours.normalisation) != (theirs.size, theirs.normalisation):
        raise Mismatch(
            f"the models of {model.name} need images of {ours.size} pixels, normalisation "
            f"'{ours.normalisation}', and those of {target.name} are cached with {theirs.size} "
            f"pixels, normalisation '{theirs.normalisation}': set size and normalisation under "
            "[pixels] alike in both recipes and run again"
        )
    rows = _new_patients(model, target)
    trained = model.data.index.join(model.held, on="image_id", how="semi")
    digests = trained.select("pixel_digest").drop_nulls()
    known = (
        target.data.index.join(rows, on="image_id", how="semi")
        .join(digests, on="pixel_digest", how="semi")
        .sort("image_id")
    )
    if known.height:
        examples = ", ".join(known["image_id"].head(EXAMPLES))
        raise Mismatch(
            f"{known.height} images of {target.name} are among those that the models of "
            f"{model.name} were trained or tuned on, under other names: {examples}. Figures on "
            f"that set would be worthless; `hilum audit {model.run.folder} {target.run.folder}` "
            "lists the images that are in both: leave them out of one of the sets"
        )
    return rows


def _new_patients(model: FinishedRun, target: FinishedRun) -> pl.DataFrame:
    """Return the image_id of patients that the model was not trained or tuned on.

    All of them, where names mean nothing from one set to the other.
    """
    rows = target.split.select("image_id", "group")
    names = dataset_overlap.named_alike(model.data, target.data)
    if names is None:
        return rows.select("image_id")
    met = model.data.images.join(model.held, on="image_id", how="semi").select(names[1]).unique()
    known = (
        target.data.images.join(met, on=names[1], how="semi")
        .select("image_id")
        .join(rows, on="image_id")
        .select("group")
        .unique()
    )
    return rows.join(known, on="group", how="anti", maintain_order="left").select("image_id")


# ---------------------------------------------------------------------------------- the scores


def _kept(
    model: FinishedRun,
    target: FinishedRun,
    rows: pl.DataFrame,
    to: Path,
    watch: segment_images.Watch,
) -> pl.DataFrame:
    """Return the model's scores of `rows`, computed if missing or if either run has changed."""
    name, kept = f"{model.name}--{target.name}", Run(to)
    step, file = f"scores-{name}", f"scores/{name}.parquet"
    made_from = {
        **{one: model.run.made(one) for one in ("segment", "crop", "train")},
        "images": target.run.made("cache"),
        "rows": storage.digest(rows["image_id"].to_list()),
        "version": VERSION,
    }
    if not kept.finished(step, made_from):
        with watch(name) as progress:
            storage.write_table(to / file, score(model, target, rows, progress))
        digests = {file: storage.digest_of_file(to / file)}
        kept.finish(step, made_from, digests, {"images": rows.height})
    return kept.table(step, file)


def score(
    model: FinishedRun, target: FinishedRun, rows: pl.DataFrame, progress: Progress
) -> pl.DataFrame:
    """Score the target's `rows` by the model's whole chain; returns the columns `SCORES`."""
    chain, cached = predict.RunModels.of(model.run), target.pixels
    index = cached.index.select("image_id", "height", "width")
    sizes = {image_id: (height, width) for image_id, height, width in index.iter_rows()}
    concepts = {
        task: cross_evaluation_figures.concepts(model, target, task) for task in predict.STAGES
    }
    found: list[list[str | float]] = []
    for done, image_id in enumerate(rows["image_id"], start=1):
        image = cached.images[cached.rows([image_id])[0]]
        examined = examine_cached(image, sizes[image_id], chain.models.get("lungs"))
        cut = examined.crop(model.recipe.crop, chain.typical)
        for task, named in concepts.items():
            if task in chain.models and named:
                values = np.atleast_1d(chain.models[task](cut.image)["score"]).tolist()
                found += [
                    [image_id, task, concept, value]
                    for concept, value in zip(named, values, strict=True)
                ]
        progress(done, rows.height)
    return pl.DataFrame(found, schema=SCORES, orient="row")
