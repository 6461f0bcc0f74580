"""Probe: can the source, the sex, the age and the finding be told from parts of the pictures that have nothing to do with the finding?

    probes.parquet   one row a question and part, see PROBES: what is told (`target`), within which source ("all": of all), from which part
                     (`view`), the AUROC with its interval over patients, and what the same probe reaches with shuffled labels

Parts are those of `hilum.pipeline._shortcut_probes` and, after the region step, `box` (the lungs' box, cut out) and `lungs` (that with all but the lungs
black). Only training images take part, by the lungs that were found in them, so that a recipe can be chosen by what is read here and the test
part stays unseen; all parts are of the same images, those whose lungs are believed. Where these are fewer than half, all images take part and
only parts that need no lungs are asked. Of more than two classes the AUROC is the mean of each class against the rest. Intervals are of the
answers, not of other fits. `why` says why there is no figure.

Not a step of the chain: `hilum shortcuts RUN` does it, and the next report takes it in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from hilum import storage
from hilum.annotations.vocabulary import State, name_of
from hilum.config import Evaluate, LungCrop, Recipe
from hilum.imaging.geometry import Letterbox, Size
from hilum.inference import lung_crop
from hilum.pipeline import _shortcut_probes, cache, segment
from hilum.pipeline._training import digests
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
    "whole": "the whole picture",
    "unmarked": "the picture without its corners and border",
    "border": "the border alone",
    "outside": "outside of the lungs alone",
    "outline": "the lungs' outline alone",
    BOX: "the lungs' box",
    LUNGS: "the lungs alone",
}
FEWEST = 10  # patients of a class, below which it is not asked about
MOST = 2000  # images; of more, whole patients are drawn
TOLD, SURELY = (
    0.7,
    0.6,
)  # AUROC of a finding from a lungless part, and the lower end of its interval, that are a warning
AGES = (
    (18, "below 18"),
    (40, "18 to 39"),
    (60, "40 to 59"),
    (np.inf, "60 and above"),
)  # years: up to, band
AT_ONCE = 64  # pictures described together
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
    """What is to be told of each image: one of `names`, as its place there; -1 where it is not known or not asked about."""

    target: str
    classes: np.ndarray  # int64 (n,)
    names: Sequence[str]
    within: str = ALL


# --------------------------------------------------------------------------------------------------------------------------- questions


def questions(table: pl.DataFrame, finding: str | None) -> Iterator[Question]:
    """Of rows with source, sex, age_years and state (of the finding): each fact, then the finding, of all and within each source."""
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
        None
        if age is None
        else f"{next(place for place, (end, _) in enumerate(AGES) if age < end)}"
        for age in ages
    ]
    return pl.Series(
        [None if band is None else AGES[int(band)][1] for band in bands], dtype=pl.String
    )


# ----------------------------------------------------------------------------------------------------------------------------- pictures


def views(
    picture: np.ndarray, labels: np.ndarray, size: Size, settings: LungCrop
) -> dict[str, np.ndarray]:
    """Each of VIEWS of one cached picture of a file of (height, width) `size`: squares of uint8, the last two of the region's size."""
    inside = Letterbox(size, picture.shape[0]).inside()
    shown = {
        name: _shortcut_probes.part(name, picture, labels, inside)
        for name in _shortcut_probes.PARTS
    }
    cuts = {
        name: LungCrop(size=settings.size, margin=settings.margin, masked=name == LUNGS)
        for name in (BOX, LUNGS)
    }  # whatever the models are shown
    return shown | {
        name: lung_crop.cut(picture, labels, one, size=size).image for name, one in cuts.items()
    }


def described(
    pictures: Callable[[int], tuple[np.ndarray, np.ndarray, Size]],
    count: int,
    settings: LungCrop,
    progress: Progress,
    describe: Describe = _shortcut_probes.features,
    names: Sequence[str] = VIEWS,
) -> dict[str, np.ndarray]:
    """Features of each view of `names`, float32 (count, p); `pictures(k)` gives the k-th picture, its lungs and its file's size."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for start in range(0, count, AT_ONCE):
        shown = [views(*pictures(k), settings) for k in range(start, min(start + AT_ONCE, count))]
        for name in names:
            found[name].append(describe(np.stack([one[name] for one in shown])))
        progress(min(start + AT_ONCE, count), count)
    return {name: np.concatenate(parts) for name, parts in found.items() if parts}


# ------------------------------------------------------------------------------------------------------------------------------ answers


def answers(
    found: Mapping[str, np.ndarray],
    asked: Sequence[Question],
    groups: np.ndarray,
    settings: Evaluate,
    progress: Progress,
) -> pl.DataFrame:
    """The table of PROBES: each question put to each view's features; `groups` (n,) name the patients."""
    rows: list[dict[str, Any]] = []
    for number, question in enumerate(asked):
        at, classes, names, why = _fit_to_ask(question, groups)
        about = {
            "target": question.target,
            "within": question.within,
            "images": len(at),
            "patients": len(np.unique(groups[at])),
        }
        about["classes"] = ", ".join(
            f"{name} {int((classes == place).sum())}" for place, name in enumerate(names)
        )
        for place, (view, features) in enumerate(found.items()):
            figure = _nothing(why) if why else _figure(features[at], classes, groups[at], settings)
            rows.append({**about, "view": view, **figure})
            progress(number * len(found) + place + 1, len(asked) * len(found))
    return pl.DataFrame(rows, schema=PROBES, orient="row")


def _fit_to_ask(
    question: Question, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[str], str]:
    """Rows, their classes anew from 0, the classes' names, and why it cannot be asked ("": it can). Classes of too few patients are left out."""
    people = [
        len(np.unique(groups[question.classes == place])) for place in range(len(question.names))
    ]
    kept = [place for place, count in enumerate(people) if count >= FEWEST]
    at = np.flatnonzero(np.isin(question.classes, kept))
    names = [question.names[place] for place in kept]
    why = (
        ""
        if len(kept) > 1
        else f"fewer than two groups of {FEWEST} patients: "
        + (
            ", ".join(f"{name} {count}" for name, count in zip(question.names, people, strict=True))
            or "not known of any image"
        )
    )
    return at, np.searchsorted(kept, question.classes[at]) if kept else at, names, why


def _nothing(why: str) -> dict[str, Any]:
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
) -> dict[str, Any]:
    told = _shortcut_probes.cross_validate(features, classes, groups, seed=settings.seed)
    reached = bootstrap.bootstrap_patients(
        lambda rows: macro_auroc(classes[rows], told.scores[rows]),
        groups,
        resamples=settings.bootstrap,
        confidence=settings.confidence,
        seed=settings.seed,
    )
    chance = [macro_auroc(*pair) for pair in zip(told.shuffled_classes, told.shuffled, strict=True)]
    return {
        **reached._asdict(),
        "shuffled": float(np.mean(chance)),
        "shuffled_most": float(np.max(chance)),
        "reason": "",
    }


def macro_auroc(classes: np.ndarray, scores: np.ndarray) -> float:
    """Mean AUROC of each class against the rest by its own column; of two classes, that of the second. nan where a class has no row."""
    columns = [1] if scores.shape[1] == 2 else range(scores.shape[1])
    return float(np.mean([auroc(classes == column, scores[:, column]) for column in columns]))


# -------------------------------------------------------------------------------------------------------------------------------- words


def warnings(probes: pl.DataFrame) -> list[str]:
    """A sentence for each finding that a lungless part tells."""
    facts = ("source", "sex", "age")
    sure = (
        (pl.col("value") >= TOLD)
        & (pl.col("ci_low") >= SURELY)
        & (pl.col("value") > pl.col("shuffled_most"))
    )
    rows = probes.filter(
        ~pl.col("target").is_in(facts)
        & pl.col("view").is_in(LUNGLESS)
        & pl.col("value").is_not_nan()
        & sure
    )
    return [
        f"{name_of(row['target'])}{'' if row['within'] == ALL else ' within ' + row['within']} can be told at AUROC {row['value']:.2f} "
        f"({row['ci_low']:.2f} to {row['ci_high']:.2f}) from {WORDS[row['view']]}: what a model reaches may not come from the lungs"
        for row in rows.iter_rows(named=True)
    ]


def seen(settings: LungCrop) -> str:
    """Which of VIEWS the models are shown."""
    whole = settings.area == "whole"
    return "whole" if whole else LUNGS if settings.masked else BOX


def columns(probes: pl.DataFrame) -> pl.DataFrame:
    """A row a question, a column a view: figures as text."""
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


# ------------------------------------------------------------------------------------------------------------------------------ the step


def made_from(run: Run, recipe: Recipe) -> dict[str, Any]:
    made = {step: run.made(step) for step in ("ingest", "cache", "split", "segment", "crop")}
    return {
        **made,
        "region settings": recipe.section("crop"),
        "evaluate": recipe.section("evaluate"),
        "version": VERSION,
    }


def make(run: Run, recipe: Recipe, progress: Progress) -> tuple[dict[str, str], dict[str, Any]]:
    rows, names = _images(run, recipe)
    pictures, masks = cache.opened(run, recipe), segment.found_masks(run, recipe.pixels.size)
    places, nothing = (
        list(rows.select("row", "mask", "height", "width").iter_rows()),
        np.zeros((recipe.pixels.size,) * 2, np.uint8),
    )

    def picture(k: int) -> tuple[np.ndarray, np.ndarray, Size]:
        row, mask, *size = places[k]
        return pictures.images[row], nothing if mask is None else masks[mask], tuple(size)

    found = described(picture, rows.height, recipe.crop, progress, names=names)
    asked = list(questions(rows, run.summary("split")["finding"]))
    probes = (
        answers(found, asked, rows["group"].to_numpy(), recipe.evaluate, progress)
        if found
        else pl.DataFrame(schema=PROBES)
    )
    storage.write_table(run / FILE, probes)
    told = {"images": rows.height, "questions": len(asked), "warnings": len(warnings(probes))}
    return digests(run, [FILE]), told


def _images(run: Run, recipe: Recipe) -> tuple[pl.DataFrame, Sequence[str]]:
    """At most about MOST training images and the views to show of them: group, source, sex, age_years, state, row, mask, height, width."""
    facts = cache.opened(run, recipe).readable.select("image_id", "row", "height", "width")
    lungs = run.table("segment", segment.INDEX).select("image_id", "quality", mask="row")
    people = run.manifest().table.select("image_id", "sex", "age_years")
    rows = run.table("split", "split.parquet").filter(pl.col("part") == "train").sort("image_id")
    for other in (facts, lungs, people):
        rows = rows.join(other, on="image_id", how="left", maintain_order="left")
    rows = rows.drop_nulls("row")
    believed = rows.filter(pl.col("quality") >= recipe.crop.min_mask_quality)
    if 2 * believed.height >= rows.height:
        return _some(believed), VIEWS
    return _some(rows), NEED_NO_LUNGS


def _some(rows: pl.DataFrame) -> pl.DataFrame:
    step = -(-rows.height // MOST)
    names = np.random.default_rng(0).permutation(rows["group"].unique().sort().to_numpy())
    return (
        rows.filter(pl.col("group").is_in(names[: -(-len(names) // step)].tolist()))
        if step > 1
        else rows
    )
