"""Report: one HTML file that stands alone, made from what the earlier steps left; it sees no model and computes no figure.

    report.html      the data and what is not used, audit, split with its proof, lung outlines, finding, anomaly, how to repeat it, and what reviewers
                     ask (TRIPOD+AI, CLAIM), answered as far as the run can
    model_card.md    what the models are for and are not, for somebody who is given them alone
    test_scores.csv  the test images with their labels, scores and calls; the page links it, and holds it where it is not too large

Charts and pictures are inside the file, nothing is loaded from elsewhere, and it needs no JavaScript. The same run gives the same
bytes: it holds no time and no name of a machine but the folder that the recipe names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from hilum import __version__, plugins, storage
from hilum.annotations.vocabulary import name_of
from hilum.config import PRETRAINED, LungCrop, Recipe
from hilum.dataset.manifest import Manifest
from hilum.drawing import templates
from hilum.inference import lung_crop
from hilum.pipeline import (
    cache,
    crop,
    division,
    evaluate,
    explain,
    ingest,
    predict,
    segment,
    shortcuts,
    truth,
)
from hilum.pipeline._training import TRAINING
from hilum.pipeline.division import Division
from hilum.privacy import run_release
from hilum.privacy.release import PassedOn
from hilum.progress import Progress
from hilum.reporting.sections import (
    audit,
    checklist,
    classification,
    data,
    explanations,
    model_card,
    score_table,
    segmentation,
    small_sets,
    split,
    summary,
)
from hilum.run_folder import Run
from hilum.safety import spreadsheet_cells

VERSION = 8  # change it when the same run gives another page
PAGE, CARD, TEMPLATE = "report.html", "model_card.md", "resources/report.html.j2"
STEPS = ("ingest", "cache", "audit", "split", "segment", "crop", "train", "predict", "evaluate")
OPTIONAL = {
    "shortcuts": shortcuts,
    "explain": explain,
}  # taken in where they were done on what is here now
NAMELESS = "no-patients"  # the remark of a data set in which nothing names the patients
# What is passed on as it is: no text in it is of the data.
_NAMELESS = ("digests", "test_scores", "recipe", "cards")
MADE_UP = "made-up"  # the remark of a folder of invented pictures


def gather(run: Run, recipe: Recipe) -> dict[str, Any]:
    """All that the page shows. Raises `NotFound` where a step has not been done."""
    manifest, cached = run.manifest(), cache.opened(run, recipe)
    passed = run_release.of_run(run, recipe.share, manifest)
    table, metrics = run.table("split", "split.parquet"), run.table("evaluate", evaluate.METRICS)
    divided, folds = Division.of(run), division.folds(run)
    tested = (
        table.with_columns(part=pl.lit("test")) if folds else table
    )  # each image of them once, by its own fold
    concept = divided.trained
    cards = [
        plugins.load("readers", name).CARD for name in manifest.table["dataset"].unique().sort()
    ]
    nameless, fitted = (
        NAMELESS in manifest.remarks["rule"],
        run.json("evaluate", evaluate.CALIBRATION),
    )
    judged = _judged(run, recipe)
    rows = evaluate.transferred(run, run.table("predict", predict.SCORES))
    known = checklist.Facts(run, recipe, manifest, cached, tested, metrics, cards, concept, divided)
    listed = passed.keyed(score_table.table(rows, table, manifest))
    told = {
        "title": run_release.placed(recipe.data),
        "quick": recipe.job.quick,
        "sets": " and ".join(card.title for card in cards),
        "made_up": MADE_UP in manifest.remarks["rule"],
        "cards": cards,
        "finding": name_of(concept) if concept else None,
        "confidence": f"{recipe.evaluate.confidence * 100:g}%",
        "leading": summary.leading(metrics, concept, recipe.pixels.size),
        "limits": summary.limits(
            metrics, tested, cards, concept, fitted, nameless=nameless, folds=len(folds)
        ),
        "division": small_sets.division(divided, table, recipe.split),
        "short": small_sets.short(divided, manifest, table, cached)
        if _nothing_trained(run, folds)
        else None,
        "test_scores": score_table.section(spreadsheet_cells.of_table(listed), listed.height),
        "data": data.section(passed.manifest, passed.cache(cached), concept, recipe.split.include),
        "plans": [replace(one, folder=Path(one.folder).name) for one in ingest.accounts(run)],
        "audit": audit.section(
            segment.findings(run, recipe), cached, segment.Masks.of(run, cached.size)
        ),
        "split": _split(run, recipe, manifest, table),
        "lungs": segmentation.section(
            run, metrics, run.table("evaluate", evaluate.OVERLAP), cached, _left_out(run, tested)
        ),
        "whole": _whole(run.table("crop", crop.INDEX)),
        "stages": _scored(run, recipe, passed, manifest, cached, tested, metrics, fitted, rows),
        "probes": explanations.probes(
            run.table("shortcuts", shortcuts.FILE), shortcuts.seen(recipe.crop)
        )
        if "shortcuts" in judged
        else None,
        "looks": _looks(run, recipe, manifest, concept)
        if concept and "explain" in judged
        else None,
        "methods": _methods(recipe, run.summary("segment"), len(folds)),
        "asked": checklist.section(known),
        "recipe": run_release.placeless(recipe).to_toml(),
        "digests": [
            (step, name, digest)
            for step in (*STEPS, *judged)
            for name, digest in run.made(step).items()
        ],
        "version": __version__,
    }
    kept = {name: told[name] for name in _NAMELESS}
    return {**passed.anything(told), **kept, "known": known, "listed": listed}


def _nothing_trained(run: Run, folds: Sequence[Run]) -> bool:
    return not any(
        one.table(stage, f"{stage}/{TRAINING}").height
        for one in folds or [run]
        for stage in ("segment", "train")
    )


def _training(run: Run) -> dict[str, pl.DataFrame]:
    training = {stage: run.table(stage, f"{stage}/{TRAINING}") for stage in ("segment", "train")}
    training["segment"] = pl.concat(
        [
            training["segment"],
            segment.seen(run).select(model=pl.lit(PRETRAINED), image_id="image_id"),
        ]
    )
    return training


def _split(run: Run, recipe: Recipe, manifest: Manifest, table: pl.DataFrame) -> dict[str, Any]:
    folds = division.folds(run)
    if not folds:
        return split.section(
            table,
            manifest,
            recipe.split,
            _training(run),
            run.table("segment", segment.INDEX),
            run.summary("split"),
        )
    each = [
        split.Fold(
            fold.table("split", "split.parquet"),
            _training(fold),
            fold.table("segment", segment.INDEX),
        )
        for fold in folds
    ]
    return split.cross_validated(each, _training(run), manifest, recipe.split, run.summary("split"))


def _scored(
    run: Run,
    recipe: Recipe,
    passed: PassedOn,
    manifest: Manifest,
    cached: cache.Cache,
    table: pl.DataFrame,
    metrics: pl.DataFrame,
    fitted: Mapping[str, Any],
    carried: pl.DataFrame,
) -> dict[str, Any]:
    """The sections of the finding and of anomaly; `missing` says why there is nothing else. `carried`: scores with what was carried over."""
    divided = Division.of(run)
    told, concept = {}, divided.trained
    sources = carried.join(table.select("image_id", "source"), on="image_id", maintain_order="left")
    known = truth.with_known_state(sources, truth.truths(manifest, [concept] if concept else []))
    rows = {stage: known.filter(pl.col("task") == stage) for stage in predict.STAGES}
    for stage, of_stage in rows.items():
        measured = concept and of_stage.filter(pl.col("part") == "test").height
        told[stage] = (
            classification.section(
                stage, of_stage, metrics, fitted[stage][concept], concept, recipe.evaluate
            )
            if measured
            else {"missing": small_sets.no_finding(divided)}
        )

    def regions(image_ids: pl.Series) -> crop.Crops:
        return crop.Crops.shown(run, recipe.crop.size, image_ids)

    if "missing" not in told["finding"]:
        told_of = passed.manifest.table["reading"]
        readings = dict(zip(manifest.table["image_id"], told_of, strict=True))
        told["finding"]["galleries"] = classification.mistakes(
            rows["finding"], cached, regions, readings
        )
    if "missing" not in told["anomaly"]:
        told["anomaly"]["maps"] = classification.heat_maps(
            carried, table, storage.read_array(run.file("predict", predict.MAPS)), regions
        )
    return told


def _judged(run: Run, recipe: Recipe) -> list[str]:
    """Those of OPTIONAL that were done, and not on what has changed since."""
    return [
        name
        for name, step in OPTIONAL.items()
        if run.done(name) and run.finished(name, step.made_from(run, recipe))
    ]


def _looks(run: Run, recipe: Recipe, manifest: Manifest, concept: str) -> dict[str, Any]:
    table = run.table("explain", explain.TABLE)
    wanted = set(table["image_id"])
    shown = {image_id: one for image_id, one in explain.shown(run, recipe) if image_id in wanted}
    figures, without = (run.table("explain", name) for name in (explain.AVERAGES, explain.COVERS))
    return explanations.looks(
        table,
        figures,
        without,
        storage.read_array(run.file("explain", explain.MAPS)),
        shown,
        explain.drawn_of(manifest, concept),
    )


def _left_out(run: Run, table: pl.DataFrame) -> int:
    test = table.filter(pl.col("part") == "test")
    return test.height - test.join(evaluate.unseen(run, table), on="image_id", how="semi").height


def _whole(regions: pl.DataFrame) -> dict[str, Any]:
    """How many regions are the whole picture for want of lungs, whether all are the whole picture, and whether that was asked for."""
    count, typical = ((regions["cut"] == how).sum() for how in (lung_crop.WHOLE, lung_crop.BOX))
    return {
        "count": count,
        "all": regions["whole"].all(),
        "asked": (regions["cut"] == lung_crop.REQUESTED).any(),
        "typical": typical,
    }


def _methods(recipe: Recipe, segmenting: Mapping[str, Any], folds: int) -> list[tuple[str, str]]:
    pixels, cut = recipe.pixels, recipe.crop
    of_train, of_tune = (
        ("each fold's training part", "the fold's tune part")
        if folds
        else ("the training part", "the tune part")
    )
    window = (
        "stretched from the 0.5th to the 99.5th percentile"
        if pixels.normalisation == "percentiles"
        else "in the range of the file"
    )
    return [
        (
            "Pixels",
            f"each file decoded once, letterboxed to {pixels.size} × {pixels.size} pixels, bright is dense, {window}",
        ),
        ("Lungs", _segmenting(recipe, segmenting)),
        ("Region", _region(cut)),
        ("Finding", f"{recipe.classify.model} on the regions of {of_train} with a known label"),
        (
            "Anomaly",
            f"{recipe.anomaly.model}, fitted on the regions of {of_train} without the finding only",
        ),
        (
            "Threshold",
            f"largest sensitivity + specificity − 1 (Youden) on {of_tune}, then left alone",
        ),
        (
            "Calibration",
            f"temperature with a bias, and isotonic regression, on {of_tune}, then left alone",
        ),
        (
            "Intervals",
            f"percentile bootstrap, {recipe.evaluate.bootstrap:,} resamples of whole patients (clustered where the audit joined them); of AUROC DeLong's too, Obuchowski's where patients have several images",
        ),
    ]


def _region(cut: LungCrop) -> str:
    size, black = (
        f"{cut.size} × {cut.size} pixels",
        ", black outside the lungs" if cut.masked else "",
    )
    if cut.area == "whole":
        return f"the whole picture, {size}{black}"
    box = f"the box of {'both lungs' if cut.area == 'lungs' else f'the {cut.area}'} and {cut.margin:.0%} of its sides around it, {size}{black}"
    return f"{box}; where a mask's quality is below {cut.min_mask_quality:g}, the training part's typical box"


def _segmenting(recipe: Recipe, told: Mapping[str, Any]) -> str:
    """Of the summary of the step `segment`."""
    if told.get("model") == PRETRAINED:
        return f"the model that comes with Hilum, not trained in this run: {told['reason']}"
    if "reason" in told:
        return told["reason"]
    return f"{recipe.segment.model}, trained on the training part's masks; lungs of training images out of fold ({recipe.segment.folds} folds)"


def render(facts: dict[str, Any]) -> str:
    """The page. Every text is escaped by the template, every drawing escaped its own."""
    return templates.render(TEMPLATE, facts, autoescape=True)


# ------------------------------------------------------------------------------------------------------------------------ the step


def made_from(run: Run, recipe: Recipe) -> dict[str, Any]:
    made = {step: run.made(step) for step in (*STEPS, *_judged(run, recipe))}
    if folds := division.folds(run):
        made["folds"] = [
            {step: fold.made(step) for step in ("segment", "crop", "train")} for fold in folds
        ]
    return {**made, "recipe": recipe.digest, "version": VERSION}


def make(run: Run, recipe: Recipe, progress: Progress) -> tuple[dict[str, str], dict[str, Any]]:
    facts = gather(run, recipe)
    made = {
        PAGE: render(facts),
        CARD: model_card.render(facts["known"], limits=facts["limits"], made_up=facts["made_up"]),
        score_table.FILE: spreadsheet_cells.of_table(facts["listed"]),
    }
    for name, text in made.items():
        storage.write_text(run / name, text)
    progress(1, 1)
    return {name: storage.digest(text.encode()) for name, text in made.items()}, {
        "page": PAGE,
        "kB": round(len(made[PAGE].encode()) / 1000),
    }
