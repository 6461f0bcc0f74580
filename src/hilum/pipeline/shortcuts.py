"""Shortcuts: predict source, sex, age and finding from image parts that do not show the finding.

    probes.parquet   one row for each question and part, see PROBES: what is predicted (`target`),
                     within which source ("all": of all), from which part (`view`), the AUROC with
                     its interval over patients, and what the same probe reaches with shuffled
                     labels

Parts are those of `hilum.pipeline._shortcut_probes` and, of the step crop, `box` (the lungs'
box, cut out) and `lungs` (that with all but the lungs black). Only training images take part,
with the lungs predicted in them, so that a recipe can be chosen by the result and the test part
stays unseen; all parts are of the same images, those with a reliable mask. Where these are fewer
than half, all images take part and only parts that need no lungs are evaluated. Of more than two
classes the AUROC is the mean of each class against the rest. Intervals are over the predictions,
not over other fits. `reason` says why there is no figure.

Not a step of `hilum run`: `hilum shortcuts RUN` does it, and the next report includes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from hilum import storage
from hilum.annotations.vocabulary import State, name_of
from hilum.config import Evaluate, LungCrop, Recipe
from hilum.imaging.geometry import Letterbox, Size
from hilum.inference import lung_crop
from hilum.pipeline import _shortcut_probes, cache, segment
from hilum.pipeline._shortcut_probes import ProbeRow
from hilum.pipeline._training import digests
from hilum.pipeline.step import Inputs, StepResult
from hilum.progress import Progress
from hilum.run_folder import Run
from hilum.statistics import bootstrap
from hilum.statistics.metrics.discrimination import auroc

VERSION = 1
FILE = "probes.parquet"
ALL = "all"
BOX, LUNGS = "box", "lungs"
VIEWS = (*_shortcut_probes.PARTS, BOX, LUNGS)
NEED_NO_LUNGS = ("whole", "border")
LUNGLESS = ("border", "outside")  # a finding of the lungs cannot be seen there
WORDS = {
    "whole": "the whole image",
    "unmarked": "the image without its corners and border",
    "border": "the border alone",
    "outside": "outside of the lungs alone",
    "outline": "the lungs' outline alone",
    BOX: "the lungs' box",
    LUNGS: "the lungs alone",
}
FEWEST = 10  # patients of a class, below which it is left out
MOST = 2000  # images; of more, patients are sampled
# AUROC of a finding from a part without lungs, and the lower end of its interval, for a warning.
WARN_AUROC, WARN_CI_LOW = 0.7, 0.6
# Years below which an age is in the band.
AGES = ((18, "below 18"), (40, "18 to 39"), (60, "40 to 59"), (np.inf, "60 and above"))
AT_ONCE = 64  # images whose features are computed together
PROBES = {
    "target": pl.String,
    "within": pl.String,
    "view": pl.String,
    "classes": pl.String,
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "n_undefined": pl.Int64,
    "shuffled": pl.Float64,
    "shuffled_most": pl.Float64,
    "images": pl.Int64,
    "patients": pl.Int64,
    "reason": pl.String,
}
Describe = Callable[[np.ndarray], np.ndarray]  # uint8 (n, side, side) to float32 (n, p)


@dataclass(frozen=True)
class Question:
    """What is to be predicted of each image.

    `classes` are places in `names`; -1 where the class is not known or not of this question.
    """

    target: str
    classes: np.ndarray  # int64 (n,)
    names: Sequence[str]
    within: str = ALL


# --------------------------------------------------------------------------------------- questions


def questions(table: pl.DataFrame, finding: str | None) -> Iterator[Question]:
    """Yield source, sex and age, then the finding, of all images and within each source.

    `table`: source, sex, age_years and state of the finding.
    """
    yield _question("source", table["source"])
    yield _question("sex", table["sex"])
    yield _question("age", _band(table["age_years"]))
    if finding:
        words = table["state"].replace_strict(
            {State.ABSENT: "absent", State.PRESENT: "present"}, default=None, return_dtype=pl.String
        )
        yield _question(finding, words)
        for source in table["source"].unique().sort() if table["source"].n_unique() > 1 else []:
            yield _question(
                finding, words.zip_with(table["source"] == source, words.clear(words.len())), source
            )


def _question(target: str, words: pl.Series, within: str = ALL) -> Question:
    names = words.drop_nulls().unique().sort().to_list()
    places = {name: place for place, name in enumerate(names)}
    classes = np.array([places.get(word, -1) for word in words], np.int64)
    return Question(target, classes, names, within)


def _band(ages: pl.Series) -> pl.Series:
    bands = [
        None if age is None else next(band for below, band in AGES if age < below) for age in ages
    ]
    return pl.Series(bands, dtype=pl.String)


# ---------------------------------------------------------------------------------------- images


def views(
    image: np.ndarray, labels: np.ndarray, size: Size, settings: LungCrop
) -> dict[str, np.ndarray]:
    """Return each of VIEWS of one cached image, uint8 squares, the last two at the region's size.

    `size`: (height, width) of the image's file.
    """
    inside = Letterbox(size, image.shape[0]).inside()
    shown = {
        name: _shortcut_probes.part(name, image, labels, inside) for name in _shortcut_probes.PARTS
    }
    # The views are the same whatever region the recipe's models are shown.
    crops = {
        name: LungCrop(size=settings.size, margin=settings.margin, masked=name == LUNGS)
        for name in (BOX, LUNGS)
    }
    return shown | {
        name: lung_crop.cut(image, labels, one, size=size).image for name, one in crops.items()
    }


def described(
    image: Callable[[int], tuple[np.ndarray, np.ndarray, Size]],
    count: int,
    settings: LungCrop,
    progress: Progress,
    describe: Describe = _shortcut_probes.features,
    names: Sequence[str] = VIEWS,
) -> dict[str, np.ndarray]:
    """Return the features of each view of `names`, float32 (count, p).

    `image(k)` returns the k-th image, its lungs and its file's size.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for start in range(0, count, AT_ONCE):
        shown = [views(*image(k), settings) for k in range(start, min(start + AT_ONCE, count))]
        for name in names:
            found[name].append(describe(np.stack([one[name] for one in shown])))
        progress(min(start + AT_ONCE, count), count)
    return {name: np.concatenate(parts) for name, parts in found.items() if parts}


# ----------------------------------------------------------------------------------------- answers


def answers(
    found: Mapping[str, np.ndarray],
    listed: Sequence[Question],
    groups: np.ndarray,
    settings: Evaluate,
    progress: Progress,
) -> pl.DataFrame:
    """Return PROBES: the AUROC of each question from each view's features.

    `found`: features by view, (n, p); `groups` (n,) name the patients.
    """
    rows: list[ProbeRow] = []
    for number, question in enumerate(listed):
        at, classes, names, why = _with_enough_patients(question, groups)
        counts = [f"{name} {int((classes == place).sum())}" for place, name in enumerate(names)]
        about: ProbeRow = {
            "target": question.target,
            "within": question.within,
            "images": len(at),
            "patients": len(np.unique(groups[at])),
            "classes": ", ".join(counts),
        }
        for place, (view, features) in enumerate(found.items()):
            figure = _nothing(why) if why else _figure(features[at], classes, groups[at], settings)
            rows.append({**about, "view": view, **figure})
            progress(number * len(found) + place + 1, len(listed) * len(found))
    return pl.DataFrame(rows, schema=PROBES, orient="row")


def _with_enough_patients(
    question: Question, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[str], str]:
    """Return rows, their classes renumbered from 0, the classes' names, and why there is no figure.

    Classes of too few patients are left out; "" where at least two are left.
    """
    people = [
        len(np.unique(groups[question.classes == place])) for place in range(len(question.names))
    ]
    kept = [place for place, count in enumerate(people) if count >= FEWEST]
    at = np.flatnonzero(np.isin(question.classes, kept))
    names = [question.names[place] for place in kept]
    why = ""
    if len(kept) < 2:
        counts = [f"{name} {count}" for name, count in zip(question.names, people, strict=True)]
        listing = ", ".join(counts) or "not known of any image"
        why = f"fewer than two groups of {FEWEST} patients: {listing}"
    return at, np.searchsorted(kept, question.classes[at]) if kept else at, names, why


def _nothing(why: str) -> ProbeRow:
    return {
        "value": np.nan,
        "ci_low": np.nan,
        "ci_high": np.nan,
        "n_undefined": 0,
        "shuffled": np.nan,
        "shuffled_most": np.nan,
        "reason": why,
    }


def _figure(
    features: np.ndarray, classes: np.ndarray, groups: np.ndarray, settings: Evaluate
) -> ProbeRow:
    predicted = _shortcut_probes.cross_validate(features, classes, groups, seed=settings.seed)
    reached = bootstrap.bootstrap_patients(
        lambda rows: macro_auroc(classes[rows], predicted.scores[rows]),
        groups,
        resamples=settings.bootstrap,
        confidence=settings.confidence,
        seed=settings.seed,
    )
    chance = [
        macro_auroc(*pair)
        for pair in zip(predicted.shuffled_classes, predicted.shuffled, strict=True)
    ]
    return {
        "value": reached.value,
        "ci_low": reached.ci_low,
        "ci_high": reached.ci_high,
        "n_undefined": reached.n_undefined,
        "shuffled": float(np.mean(chance)),
        "shuffled_most": float(np.max(chance)),
        "reason": "",
    }


def macro_auroc(classes: np.ndarray, scores: np.ndarray) -> float:
    """Return the mean AUROC of each class against the rest, by the class's own column of `scores`.

    Of two classes it is that of the second; nan where a class has no row.
    """
    columns = [1] if scores.shape[1] == 2 else range(scores.shape[1])
    return float(np.mean([auroc(classes == column, scores[:, column]) for column in columns]))


# ------------------------------------------------------------------------------------------- words


def warnings(probes: pl.DataFrame) -> list[str]:
    """Return a sentence for each finding that a part without lungs predicts."""
    facts = ("source", "sex", "age")
    predicts = (
        (pl.col("value") >= WARN_AUROC)
        & (pl.col("ci_low") >= WARN_CI_LOW)
        & (pl.col("value") > pl.col("shuffled_most"))
    )
    rows = probes.filter(
        ~pl.col("target").is_in(facts)
        & pl.col("view").is_in(LUNGLESS)
        & pl.col("value").is_not_nan()
        & predicts
    )
    sentences = []
    for row in rows.iter_rows(named=True):
        within = "" if row["within"] == ALL else f" within {row['within']}"
        sentences.append(
            f"{name_of(row['target'])}{within} can be predicted at AUROC {row['value']:.2f} "
            f"({row['ci_low']:.2f} to {row['ci_high']:.2f}) from {WORDS[row['view']]}: what a "
            f"model reaches may not come from the lungs"
        )
    return sentences


def seen(settings: LungCrop) -> str:
    """Return which of VIEWS the models are shown."""
    if settings.area == "whole":
        return "whole"
    return LUNGS if settings.masked else BOX


def columns(probes: pl.DataFrame) -> pl.DataFrame:
    """Return a row for each question and a column for each view, figures as text."""
    rows = []
    for (target, within), of in probes.group_by("target", "within", maintain_order=True):
        cells = {
            row["view"]: f"{row['value']:.2f} ({row['ci_low']:.2f}-{row['ci_high']:.2f})"
            if not row["reason"]
            else "–"
            for row in of.iter_rows(named=True)
        }
        chance = of["shuffled_most"].max() if not of["reason"][0] else None
        rows.append(
            {
                "what": target,
                "within": within,
                **cells,
                "chance up to": chance and f"{chance:.2f}",
                "images": of["images"][0],
            }
        )
    return pl.DataFrame(rows)


# ---------------------------------------------------------------------------------------- the step


def made_from(run: Run, recipe: Recipe) -> Inputs:
    """Return the digests of all earlier results that the figures depend on, and the settings."""
    made = {step: run.made(step) for step in ("ingest", "cache", "split", "segment", "crop")}
    return {
        **made,
        "region settings": recipe.section("crop"),
        "evaluate": recipe.section("evaluate"),
        "version": VERSION,
    }


def make(run: Run, recipe: Recipe, progress: Progress) -> StepResult:
    """Compute and write all probes."""
    rows, names = _images(run, recipe)
    cached, masks = cache.opened(run, recipe), segment.found_masks(run, recipe.pixels.size)
    places = list(rows.select("row", "mask", "height", "width").iter_rows())
    nothing = np.zeros((recipe.pixels.size, recipe.pixels.size), np.uint8)

    def image(k: int) -> tuple[np.ndarray, np.ndarray, Size]:
        """Return the k-th image, its lungs and its file's size."""
        row, mask, height, width = places[k]
        return cached.images[row], nothing if mask is None else masks[mask], (height, width)

    found = described(image, rows.height, recipe.crop, progress, names=names)
    listed = list(questions(rows, run.summary("split")["finding"]))
    probes = (
        answers(found, listed, rows["group"].to_numpy(), recipe.evaluate, progress)
        if found
        else pl.DataFrame(schema=PROBES)
    )
    storage.write_table(run / FILE, probes)
    counts = {"images": rows.height, "questions": len(listed), "warnings": len(warnings(probes))}
    return StepResult(digests(run, [FILE]), counts)


def _images(run: Run, recipe: Recipe) -> tuple[pl.DataFrame, Sequence[str]]:
    """Return at most about MOST training images, and the views to evaluate of them.

    Columns: group, source, sex, age_years, state, row, mask, height, width.
    """
    facts = cache.opened(run, recipe).readable.select("image_id", "row", "height", "width")
    lungs = run.table("segment", segment.INDEX).select("image_id", "quality", mask="row")
    people = run.manifest().table.select("image_id", "sex", "age_years")
    rows = run.table("split", "split.parquet").filter(pl.col("part") == "train").sort("image_id")
    for other in (facts, lungs, people):
        rows = rows.join(other, on="image_id", how="left", maintain_order="left")
    rows = rows.drop_nulls("row")
    reliable = rows.filter(pl.col("quality") >= recipe.crop.min_mask_quality)
    if 2 * reliable.height >= rows.height:
        return _some(reliable), VIEWS
    return _some(rows), NEED_NO_LUNGS


def _some(rows: pl.DataFrame) -> pl.DataFrame:
    step = -(-rows.height // MOST)
    names = np.random.default_rng(0).permutation(rows["group"].unique().sort().to_numpy())
    if step <= 1:
        return rows
    return rows.filter(pl.col("group").is_in(names[: -(-len(names) // step)].tolist()))
