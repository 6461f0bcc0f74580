"""Verify that a finished run's figures hold, by repeating everything that needs no training.

Each check states what it is of, whether it holds and what was found:

    files      every file has the bytes, and the cache the images, that its step left; files that no
               step made are named
    steps      each step was made from what the steps before it left, and by the present recipe
    split      each patient is in one part
    leaks      no model was trained on an image of tune or test
    models     each model carries the list of training images that is stored beside it
    scores     the stored models, run again on the stored crops, give the stored scores
    figures    the stored scores and masks give the stored figures and the stored calibration

Of a cross-validated run (`hilum.pipeline.division`) the same holds of each fold: its files, steps,
split, models and scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from hilum import storage
from hilum.config import Recipe
from hilum.errors import HilumError, on_one_line
from hilum.inference.onnx_model import OnnxModel
from hilum.pipeline import division, evaluate, predict
from hilum.pipeline._training import TRAINING
from hilum.pipeline.crop import Crops
from hilum.progress import Progress, portion, quietly
from hilum.reporting.text import Figure
from hilum.run_folder import Run
from hilum.runs import verify_files
from hilum.runs.run_all import OF_A_FOLD, STEPS

TOLERANCE = 1e-4  # of a score, against its size where that is above 1: processors round differently
EXACT = 1e-9  # of a figure: the same arithmetic on the same numbers
UNVERSIONED = ("hilum", "version")  # a newer Hilum may verify an older run
SHOWN = 3


class Check(NamedTuple):
    """The result of one check; `report` lists the faults, or what was found."""

    what: str
    holds: bool
    report: str


def reproduce(
    run: Run, *, images: int = 0, seed: int = 0, progress: Progress = quietly
) -> list[Check]:
    """Return every check, also those that do not hold.

    `images` are scored again, sampled at random by `seed`; 0: all of them. Raises `NotFound` where
    the folder is no run.
    """
    if not run.done("evaluate"):
        run.made("evaluate")  # says which command is missing
    files = _checked("files", lambda: verify_files.check(_each(run)))
    # A damaged file is reported by the check of files; the other checks are informative still.
    as_it_is = run.unchecked()
    checks: dict[str, Callable[[Recipe], tuple[list[str], str]]] = {
        "steps": lambda recipe: _steps(as_it_is, recipe),
        "split": lambda recipe: _split(as_it_is),
        "leaks": lambda recipe: _leaks(as_it_is),
        "models": lambda recipe: _models(as_it_is),
        "scores": lambda recipe: _scores(as_it_is, recipe, images, seed, progress),
        "figures": lambda recipe: _figures(as_it_is, recipe),
    }
    more = [
        _checked(what, partial(_by_recipe, as_it_is, check), files)
        for what, check in checks.items()
    ]
    return [files, *more]


def _by_recipe(run: Run, check: Callable[[Recipe], tuple[list[str], str]]) -> tuple[list[str], str]:
    return check(run.edited_recipe())


def _checked(
    what: str, check: Callable[[], tuple[list[str], str]], files: Check | None = None
) -> Check:
    """Run a check; an error that it meets is a fault of the run.

    Where `files` are damaged nothing holds that code relies on, so any error is of this kind.
    """
    try:
        faults, seen = check()
    except HilumError as error:
        faults, seen = [str(error)], ""
    except Exception as error:
        if files is None or files.holds:
            raise
        kind = type(error).__name__
        faults, seen = (
            [f"cannot be checked on damaged files ({kind}: {on_one_line(str(error))})"],
            "",
        )
    more = f"; and {len(faults) - SHOWN:,} more" if len(faults) > SHOWN else ""
    return Check(what, not faults, "; ".join(faults[:SHOWN]) + more if faults else seen)


def _each(run: Run) -> list[tuple[Run, str]]:
    """Return the run and its folds, with the prefix of its messages."""
    folders = sorted((run / "folds").glob("[0-9]*")) if run.parent is None else []
    return [(run, ""), *((run.fold(int(place.name)), f"fold {place.name}: ") for place in folders)]


def _steps(run: Run, recipe: Recipe) -> tuple[list[str], str]:
    """Check all steps but ingest and cache, as the data may have moved."""
    done = [(run, "", name) for name in STEPS if name not in ("ingest", "cache") and run.done(name)]
    done += [
        (fold, of, name) for fold, of in _each(run)[1:] for name in OF_A_FOLD if fold.done(name)
    ]
    faults = []
    for one, of, name in done:
        now, then = (
            _unversioned(made_from)
            for made_from in (STEPS[name].made_from(one, recipe), one.made_from(name))
        )
        changed = sorted(
            key
            for key in now.keys() & then.keys()
            if storage.as_json(now[key]) != storage.as_json(then[key])
        )
        if changed:
            faults.append(
                f"{of}step '{name}' was made with other settings or inputs: {', '.join(changed)}"
            )
    return faults, f"{len(done)} steps were made from what is there"


def _unversioned(made_from: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in made_from.items() if key not in UNVERSIONED}


def _split(run: Run) -> tuple[list[str], str]:
    table = run.table("split", "split.parquet")
    folds = division.folds(run)
    if not folds:
        faults = _in_several(table, "part")
        return faults, f"{table['patient_id'].n_unique():,} patients, each in one part"
    faults = _in_several(table, "fold")
    for fold, of in _each(run)[1:]:
        faults += [
            of + fault for fault in _in_several(fold.table("split", "split.parquet"), "part")
        ]
    return (
        faults,
        f"{table['patient_id'].n_unique():,} patients, each in one of {len(folds)} folds, and in "
        "one part of each",
    )


def _in_several(table: pl.DataFrame, column: str) -> list[str]:
    """Return patients and groups that are in several parts or folds."""
    return [
        f"{kind} {name} is in {' and '.join(map(str, sorted(places)))}"
        for kind in ("patient_id", "group")
        for name, places in table.group_by(kind)
        .agg(pl.col(column).unique())
        .filter(pl.col(column).list.len() > 1)
        .sort(kind)
        .iter_rows()
    ]


def _leaks(run: Run) -> tuple[list[str], str]:
    evaluate.refuse_leaks(run, run.table("split", "split.parquet"))
    of_folds = " of any fold" if division.folds(run) else ""
    return [], (f"no model{of_folds} was trained on an image of tune or test, or of their patients")


def _models(run: Run) -> tuple[list[str], str]:
    faults, seen = [], 0
    for one, of in _each(run):
        training = one.table("train", f"train/{TRAINING}")
        for file in _scoring(one).values():
            seen += 1
            trained = sorted(training.filter(pl.col("model") == file)["image_id"])
            stated = OnnxModel(one.file("train", file), one.folder).metadata["trained_on"]
            if stated["digest"] != storage.digest(trained):
                faults.append(
                    f"{of}{file} was not trained on the images that train/{TRAINING} lists for it"
                )
    return faults, f"{seen} models carry the digest of their training images"


def _scoring(run: Run) -> dict[str, str]:
    return {stage: file for stage, file in predict.STAGES.items() if file in run.made("train")}


def _scores(
    run: Run, recipe: Recipe, images: int, seed: int, progress: Progress
) -> tuple[list[str], str]:
    """Score again by each fold's models, or by the run's own where there is one split.

    That the folds' scores are pooled rightly is proved with the figures.
    """
    each, faults, largest, done = _each(run)[1:] or _each(run), [], 0.0, 0
    stored = run.table("predict", predict.SCORES)
    chosen = stored["image_id"].unique().sort()
    if 0 < images < len(chosen):
        chosen = chosen.sample(images, seed=seed).sort()
    for number, (one, of) in enumerate(each):
        again = _again(one, recipe, chosen, portion(progress, number, len(each)))
        for file, stage, image_id, concept, before, score in again:
            off = abs(score - before) / max(1.0, abs(before))
            largest = max(largest, off)
            if not off <= TOLERANCE:  # also where one of the two is nan
                faults.append(
                    f"{of}{stage} score of {image_id} ({concept}) is stored as {before:.6g}, and "
                    f"{file} gives {score:.6g}"
                )
        done += len({(stage, image_id) for _, stage, image_id, *_ in again})
    return faults, f"{done:,} images scored again, largest difference {largest:.1g}"


def _again(
    run: Run, recipe: Recipe, chosen: pl.Series, progress: Progress
) -> list[tuple[str, str, str, str, float, float]]:
    """Score the `chosen` images that the run has scored again.

    Returns file of the model, stage, image, concept, stored score and new score.
    """
    stored = run.table("predict", predict.SCORES)
    before = {
        (stage, concept, image_id): score
        for stage, concept, image_id, score in stored.select(
            "task", "concept", "image_id", "score"
        ).iter_rows()
    }
    chosen = chosen.filter(chosen.is_in(stored["image_id"].implode()))
    regions, models, found = Crops.of(run, recipe.crop.size), _scoring(run), []
    for index, (stage, file) in enumerate(models.items()):
        model = OnnxModel(run.file("train", file), run.folder)
        for done, (place, image_id) in enumerate(
            zip(regions.rows(chosen), chosen, strict=True), start=1
        ):
            again = np.atleast_1d(model(regions.images[place])["score"])
            for concept, score in zip(model.contract.concepts, again.tolist(), strict=True):
                found.append(
                    (
                        file,
                        stage,
                        image_id,
                        concept,
                        before.get((stage, concept, image_id), float("nan")),
                        score,
                    )
                )
            progress(index * len(chosen) + done, len(models) * len(chosen))
    return found


def _figures(run: Run, recipe: Recipe) -> tuple[list[str], str]:
    in_file = run.table("evaluate", evaluate.OVERLAP_IN_FILE)  # the image files may be elsewhere
    found = evaluate.figures(run, recipe, in_file=in_file)
    faults = [
        *_of_metrics(run.table("evaluate", evaluate.METRICS), found.metrics),
        *_of_calibration(run.json("evaluate", evaluate.CALIBRATION), found.calibration),
    ]
    of_folds = run.json("evaluate", evaluate.OF_FOLDS)
    for number, fitted in found.of_folds.items():
        faults += [
            f"fold {number}: {fault}"
            for fault in _of_calibration(of_folds.get(str(number), {}), fitted)
        ]
    return (
        faults,
        f"{found.metrics.height:,} figures computed again from the stored scores and masks",
    )


def _of_metrics(stored: pl.DataFrame, found: pl.DataFrame) -> Iterator[str]:
    if stored.schema != found.schema or stored.height != found.height:
        yield (
            f"{evaluate.METRICS} holds {stored.height:,} figures, and {found.height:,} are found "
            "now: `hilum evaluate` makes it again"
        )
        return
    for before, now in zip(stored.iter_rows(named=True), found.iter_rows(named=True), strict=True):
        if not all(_alike(before[name], now[name]) for name in before):
            names = (before[name] for name in ("part", "task", "concept", "side", "metric"))
            of = " ".join(filter(None, names))
            stored_as, found_now = (_written(Figure.of(row)) for row in (before, now))
            yield f"{of} is stored as {stored_as} and found to be {found_now}"


def _written(figure: Figure) -> str:
    return f"{figure.value:.6g} ({figure.ci_low:.6g} to {figure.ci_high:.6g})"


def _of_calibration(stored: Any, found: Any) -> Iterator[str]:
    for stage in sorted(stored.keys() | found.keys()):
        for concept in sorted(stored.get(stage, {}).keys() | found.get(stage, {}).keys()):
            before, now = (one.get(stage, {}).get(concept, {}) for one in (stored, found))
            different = sorted(
                key
                for key in before.keys() | now.keys()
                if not _alike(before.get(key), now.get(key))
            )
            if different:
                yield (
                    f"{', '.join(different)} of {stage} {concept} in the stored calibration is not "
                    "what the tune part gives"
                )


def _alike(one: Any, other: Any) -> bool:
    """Return whether values are equal up to the last digits of numbers; nan equals nan."""
    if isinstance(one, float) and isinstance(other, int | float):
        return bool(np.isclose(one, other, rtol=EXACT, atol=EXACT, equal_nan=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return one == other
