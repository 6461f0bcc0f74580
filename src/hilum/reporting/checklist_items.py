"""What reviewers ask of a study, answered as far as the run itself can answer, and what is left for the person who writes it up.

Items are those of TRIPOD+AI (Collins et al., BMJ 2024;385:e078378: a study that develops a prediction model or evaluates one) and of CLAIM in
its 2024 update (Tejani et al., Radiology: AI 2024;6(4):e240300: artificial intelligence in medical imaging), by their numbers and in our own
words; where both ask for the same they share a row. An answer states what stands in the run's tables and recipe, and nothing that would have to
be guessed: why, where, when and by whom is not in a folder of pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from hilum import __version__, plugins, storage
from hilum.annotations.vocabulary import State, name_of
from hilum.config import PRETRAINED, Recipe
from hilum.dataset.manifest import DROPPED, PARTS, Manifest
from hilum.pipeline import _selection
from hilum.pipeline.cache import Cache
from hilum.pipeline.division import TUNE, Division
from hilum.pipeline.evaluate import ALL
from hilum.plugins import Card
from hilum.reporting.sections import text
from hilum.reporting.sections.text import listed, plural
from hilum.run_folder import Run

TOLD, PARTLY, YOURS = "answered by the run", "answered in part", "for you to fill"
SHOWN = ("auroc", "average_precision", "sensitivity", "specificity", "ppv", "npv")
MODELS = ("finding", "anomaly")


@dataclass(frozen=True)
class Facts:
    """What a run knows of itself."""

    run: Run
    recipe: Recipe
    manifest: Manifest
    cached: Cache
    table: (
        pl.DataFrame
    )  # split.parquet; of a cross-validated run all images in test, as each is there once
    metrics: pl.DataFrame
    cards: list[Card]
    concept: str | None
    division: Division = Division()

    @property
    def parts(self) -> list[str]:
        return [part for part in PARTS if self.part(part).height]

    def part(self, name: str) -> pl.DataFrame:
        return self.table.filter(pl.col("part") == name)

    def figures(self, stage: str, source: str = ALL) -> dict[str, dict[str, Any]]:
        """The test part's figures of the leading finding, by metric."""
        rows = self.metrics.filter(
            (pl.col("task") == stage) & (pl.col("part") == "test") & (pl.col("source") == source)
        )
        found: dict[str, dict[str, Any]] = {}
        for row in rows.iter_rows(named=True):
            if row.get("concept", self.concept) in (self.concept, "", None):
                found.setdefault(row["metric"], row)
        return found


class Item(NamedTuple):
    """`answer` of a run; None: it can say nothing. `left` is what a person must add; "": nothing."""

    tripod: str
    claim: str
    asks: str
    answer: Callable[[Facts], str] | None = None
    left: str = ""


def section(facts: Facts) -> dict[str, Any]:
    """Rows (tripod, claim, asks, told, left, state), and how many there are of each state."""
    rows = []
    for item in ITEMS:
        told = item.answer(facts) if item.answer else ""
        state = YOURS if not told else PARTLY if item.left else TOLD
        rows.append(
            {
                "tripod": item.tripod,
                "claim": item.claim,
                "asks": item.asks,
                "told": told,
                "left": item.left if told else item.left or "yours to say",
                "state": state,
            }
        )
    return {
        "rows": rows,
        "counts": {
            state: sum(row["state"] == state for row in rows) for state in (TOLD, PARTLY, YOURS)
        },
    }


# ----------------------------------------------------------------------------------------------------------------------- the answers


def _sources(facts: Facts) -> str:
    held = facts.manifest.table.group_by("source").len().sort("source")
    sets = "; ".join(
        f"{card.title} ({'. '.join(filter(None, (card.source, card.citation))).rstrip('.')})"
        for card in facts.cards
    )
    return f"{sets}. Images by source: {', '.join(f'{source} {count:,}' for source, count in held.iter_rows())}."


def _eligible(facts: Facts) -> str:
    images, readable = facts.manifest.table.height, facts.cached.readable.height
    dropped = facts.manifest.remarks.filter(pl.col("rule") == DROPPED).height
    known = facts.table.filter(pl.col("state") >= State.ABSENT).height
    return (
        f"Every radiograph of the folder that could be read: {plural(dropped, 'file')} left out when it was read (chapter 1 says why), {images - readable:,} of "
        f"{plural(images, 'image')} unreadable; {_excluded(facts)}of the {facts.table.height:,} in the split, {known:,} have a known label and enter the finding's figures."
    )


def _excluded(facts: Facts) -> str:
    counts = facts.run.summary("split").get(_selection.EXCLUDED, {})
    told = ", ".join(f"{reason} ({count:,})" for reason, count in counts.items())
    return (
        f"excluded by the view, body part or modality that the data state: {told}; "
        if counts
        else ""
    )


def _flow(facts: Facts) -> str:
    told = []
    for part in facts.parts:
        rows = facts.part(part)
        present, absent = (
            (rows["state"] == state).sum() for state in (State.PRESENT, State.ABSENT)
        )
        told.append(
            f"{part}: {plural(rows.height, 'image')} of {plural(rows['patient_id'].n_unique(), 'patient')}, {present:,} with the finding, {absent:,} without"
        )
    return "; ".join(told) + "."


def _people(facts: Facts) -> str:
    told = []
    people = facts.manifest.table.select("image_id", "sex", "age_years", "view")
    for part in facts.parts:
        rows = facts.part(part).join(people, on="image_id")
        age = rows["age_years"].drop_nulls()
        ages = (
            f"median age {age.median():g} years ({age.min():g} to {age.max():g}; {rows.height - len(age):,} not known)"
            if len(age)
            else "ages not known"
        )
        sexes = (
            ", ".join(
                f"{(rows['sex'] == sex).sum():,} {sex}"
                for sex in ("female", "male")
                if (rows["sex"] == sex).any()
            )
            or "sexes not known"
        )
        told.append(f"{part}: {ages}, {sexes}")
    return "; ".join(told) + "."


def _preparation(facts: Facts) -> str:
    pixels, region = facts.recipe.pixels, facts.recipe.crop
    findings = facts.run.table("audit", "issues.parquet")
    counts = ", ".join(
        f"{count:,} {severity}{'s' * (count != 1 and severity != 'info')}"
        for severity in ("error", "warning", "info")
        if (count := (findings["severity"] == severity).sum())
    )
    return (
        f"Each file decoded once and letterboxed to {pixels.size} x {pixels.size} pixels, window '{pixels.normalisation}', bright is dense; the lungs' box with a margin of "
        f"{region.margin:.0%} cut out{' and blackened outside' if region.masked else ''}, {region.size} x {region.size} pixels. The audit found: {counts or 'nothing'}."
    )


def _outcome(facts: Facts) -> str:
    if not facts.concept:
        return f"None was trained on: {facts.division.why or 'no finding is both present and absent on some images'}."
    rows = (
        facts.manifest.labels.filter(pl.col("concept") == facts.concept)
        .group_by("rule")
        .len()
        .sort("rule")
    )
    rules = ", ".join(f"{rule} ({count:,})" for rule, count in rows.iter_rows())
    corrected = (
        "Corrections were applied: the recipe names their file"
        if facts.recipe.data.corrections
        else "No corrections were applied"
    )
    return f"{name_of(facts.concept)}, as the data state it. Labels by where they were read from: {rules}. {corrected}."


def _missing(facts: Facts) -> str:
    if not facts.concept:
        return ""
    states = facts.manifest.states(facts.concept)["state"]
    policy = facts.recipe.section("classify")
    return (
        f"{(states == State.UNCERTAIN).sum():,} images call {name_of(facts.concept).lower()} uncertain (in training: {policy['uncertain']}) and {states.null_count():,} do not "
        f"mention it (in training: {policy['unmentioned']}); neither enters a figure. Not mentioned is not taken for absent unless that says so."
    )


def _split(facts: Facts) -> str:
    split, folds = facts.recipe.split, facts.division.folds
    if folds:
        return (
            f"Cross-validation by patient in {folds} folds (seed {split.seed}), nested: for each fold the other patients were dealt into train, which fits, and tune ({TUNE:.0%}), which "
            f"chooses thresholds and calibration; figures are of the folds, pooled. The reason: {facts.division.why}. One split binds lungs, finding and anomaly. The final "
            f"models are trained on all images, and no figure is of them."
        )
    return (
        f"Train, tune and test ({split.train:.0%}, {split.tune:.0%}, {split.test:.0%} asked for, seed {split.seed}; split of the source: {facts.run.summary('split')['given split']}). "
        f"Train fits, tune chooses thresholds, test gives the figures. One split binds lungs, finding and anomaly."
    )


def _disjoint(facts: Facts) -> str:
    return "By patient, and by cluster of patients where the audit found one picture under several; evaluation refuses a run that learnt from a tune or test image (chapter 3 holds the proof)."


def _model(facts: Facts) -> str:
    recipe = facts.recipe
    return (
        f"Lungs: {_lungs(facts)}; finding: {recipe.classify.model}, one picture in, one score out; anomaly: {recipe.anomaly.model}, fitted on images without the "
        f"finding. Each is one ONNX file with its input contract; the source of each is in Hilum {__version__}."
    )


def _training(facts: Facts) -> str:
    summary = facts.run.summary("train")
    told = ", ".join(f"{key} {value}" for key, value in summary.items())
    own = {
        section: storage.as_json(facts.recipe.section(section))
        for section in ("segment", "classify", "anomaly")
    }
    return f"{told}. Settings: {'; '.join(f'{name} {settings}' for name, settings in own.items())}. What is not named has Hilum's default."


def _selected(facts: Facts) -> str:
    if facts.division.folds:
        return "The final models are of the kinds that the recipe names, trained on all images after the folds were measured; nothing was chosen by figures of a fold's own images, and no models are averaged."
    return "The run trains the one model of each kind that the recipe names, chooses nothing by figures of the test part, and averages no models."


def _measures(facts: Facts) -> str:
    evaluate = facts.recipe.evaluate
    return (
        f"AUROC, average precision; sensitivity, specificity, PPV, NPV, F1 and accuracy at a threshold chosen on tune; Brier score, calibration error, slope and intercept; "
        f"Dice and distances of lungs. Intervals of {evaluate.confidence:.0%}: percentile bootstrap over patients, {evaluate.bootstrap:,} resamples, seed {evaluate.seed}; of AUROC "
        f"DeLong's too."
    )


def _output(facts: Facts) -> str:
    if facts.division.folds:
        return (
            "A score, higher where the finding is likelier. The final models' threshold (Youden) and calibration, where there is one, were fitted on the pooled out-of-fold scores, which are those of "
            "models trained on fewer images; the figures use what each fold's own tune part gave."
        )
    return (
        "A score, higher where the finding is likelier; a calibration that was fitted on the tune part, where that could carry one, stands beside it. "
        "Calls use the threshold with the largest sensitivity + specificity - 1 (Youden) on the tune part, then left alone."
    )


def _performance(facts: Facts) -> str:
    told = []
    for stage in MODELS:
        figures = facts.figures(stage)
        shown = ", ".join(
            f"{text.TERMS[metric].name} {text.interval(figures[metric], metric)}"
            for metric in SHOWN
            if metric in figures
        )
        told += [f"{stage}, test part: {shown}"] if shown else []
    subgroups = _divided(facts, ~pl.col("by").is_in([ALL, "source"]))
    return ". ".join([*told, *([subgroups] if subgroups else [])])


def _by_source(facts: Facts) -> str:
    return _divided(facts, pl.col("by") == "source")


def _divided(facts: Facts, cells: pl.Expr) -> str:
    """The finding's AUROC in these cells of the test part."""
    if not facts.concept:
        return ""
    rows = facts.metrics.filter(
        (pl.col("task") == "finding")
        & (pl.col("part") == "test")
        & (pl.col("metric") == "auroc")
        & cells
    )
    told = [
        f"{row['by']} {row['subgroup']} {text.interval(row, 'auroc')}"
        for row in rows.filter(pl.col("concept") == facts.concept).iter_rows(named=True)
    ]
    return f"AUROC of the finding by {'; '.join(told)}" if told else ""


def _imbalance(facts: Facts) -> str:
    rows = facts.part("test" if facts.division.folds else "train").filter(
        pl.col("state") >= State.ABSENT
    )
    return (
        f"{(rows['state'] == State.PRESENT).mean():.0%} of the training images with a known label have the finding; what the model makes of that stands in its settings."
        if rows.height
        else ""
    )


def _same(facts: Facts) -> str:
    sources = text.listed(facts.part("test")["source"].unique().sort().to_list())
    return f"The test part is other patients of the same data ({sources}); split of the source: {facts.run.summary('split')['given split']}."


def _failures(facts: Facts) -> str:
    return (
        "Chapter 5 shows the test images that are most confidently wrong of either kind, with their pictures."
        if facts.figures("finding")
        else ""
    )


def _limits(facts: Facts) -> str:
    test = facts.part("test")
    figures = facts.figures("finding")
    doubts = text.doubts(
        {
            metric: figures[metric]
            for metric in ("auroc", "sensitivity", "specificity")
            if metric in figures
        }
    )
    caveats = [card.caveats for card in facts.cards if card.caveats]
    told = [
        f"{plural(test['group'].n_unique(), 'test patient')} of {listed(test['source'].unique().sort().to_list())} and no other place.",
        *caveats,
        *doubts,
    ]
    return " ".join(told)


def _unusable(facts: Facts) -> str:
    doubted = facts.run.summary("predict").get("doubtful images", 0)
    return (
        f"A picture that cannot be read is refused; one that looks inverted, turned, mirrored or no chest is told beside its score ({doubted:,} of the images scored here); "
        f"where lungs are not found well, the region is the training part's typical box."
    )


def _software(facts: Facts) -> str:
    return f"Hilum {__version__}; the versions of libraries that it was tested with stand in its constraints.txt."


def _available(facts: Facts) -> str:
    files = [
        (file, digest)
        for step in ("segment", "train")
        for file, digest in facts.run.made(step).items()
        if file.endswith(".onnx")
    ]
    models = ", ".join(f"{file} ({digest})" for file, digest in files)
    licences = "; ".join(f"{card.title}: {card.licence}" for card in facts.cards)
    return f"Models with their digests: {models or 'none'}. Recipe: at the end of this page, digest {facts.recipe.digest}. Code: Hilum {__version__}. Data: {licences}."


def _initial(facts: Facts) -> str:
    classify = facts.recipe.classify
    known = {**plugins.defaults("models", classify.model, "Settings"), **classify.settings}
    begun = {True: "weights learnt from ImageNet", False: "random weights"}.get(
        known.get("pretrained"), "as its module says"
    )
    return f"{classify.model}: {begun}, seed {classify.seed}; lungs: {_lungs(facts)}, seed {facts.recipe.segment.seed}."


def _lungs(facts: Facts) -> str:
    """The lung model that was used, which need not be the one that the recipe names."""
    told = facts.run.summary("segment")
    return (
        "none"
        if "model" not in told
        else f"{told['model']}{', not trained in this run' if told['model'] == PRETRAINED else ''}"
    )


def _looks(facts: Facts) -> str:
    return "Anomaly maps of test images stand in chapter 6." if facts.figures("anomaly") else ""


def _title(facts: Facts) -> str:
    return (
        f"A classifier of {name_of(facts.concept).lower()} in chest radiographs, developed and tested on {listed([card.title for card in facts.cards])}."
        if facts.concept
        else ""
    )


ITEMS = (
    Item(
        "1",
        "1",
        "Say in the title that a prediction model by machine learning is developed or tested, of what and in whom",
        _title,
        "the title itself",
    ),
    Item("2", "2", "A structured abstract", None, "the abstract"),
    Item(
        "3a",
        "3",
        "The clinical setting, why a model is wanted, what models there are",
        None,
        "the background",
    ),
    Item(
        "3b",
        "",
        "Whom the model is meant for, where in care, and who would use it",
        None,
        "the intended use",
    ),
    Item("3c", "", "Known inequalities in health between groups", None, "what is known of them"),
    Item("4", "4, 6", "Aims: to develop, to test, or both; the study's goal", None, "the aims"),
    Item(
        "",
        "5",
        "Looking forward or back",
        lambda facts: "Back: the run reads pictures that are there.",
        "whether they were collected for this",
    ),
    Item(
        "5a",
        "7",
        "Where the data come from, and how well they stand for those the model is for",
        _sources,
        "why these data, and whom they stand for",
    ),
    Item("5b", "", "When the data were collected", None, "the dates, from the data's publishers"),
    Item(
        "6a",
        "",
        "The places: how many, of what kind, where",
        None,
        "the places, from the data's publishers",
    ),
    Item("6b", "8", "Who was eligible", _eligible, "whom the publishers had chosen before"),
    Item(
        "6c",
        "",
        "Treatments, where they bear on the outcome",
        None,
        "treatments, or that they do not",
    ),
    Item("7", "9", "How data were prepared and checked", _preparation),
    Item("", "10", "Which subsets of the data were used", _eligible),
    Item(
        "",
        "11",
        "How names were removed",
        None,
        "how the publishers did it; the audit looks for what was left",
    ),
    Item(
        "8a", "14", "The outcome, and how it was determined", _outcome, "what the readers went by"
    ),
    Item("8b", "16", "Who determined it, with what training", None, "the readers' qualifications"),
    Item(
        "8c",
        "17",
        "Whether those who determined it were blind, and how the test part was annotated",
        None,
        "from the data's publishers",
    ),
    Item("", "15", "Why this reference standard", None, "the reason"),
    Item("", "18", "How much readers differ", None, "agreement between and within readers"),
    Item(
        "9a",
        "",
        "Which predictors were considered",
        lambda facts: "The picture alone: no other predictor is given to a model.",
        "",
    ),
    Item(
        "9b",
        "13",
        "How predictors are measured: acquisition of the pictures",
        None,
        "machines and protocols, from the data's publishers",
    ),
    Item(
        "9c",
        "",
        "Who assesses predictors that need judgement",
        lambda facts: "Nobody: the picture is read by the model.",
        "",
    ),
    Item("10", "21", "The size of the sample, and why it is enough", _flow, "why it is enough"),
    Item("11", "12", "Missing and uncertain data", _missing),
    Item("12a", "19", "How data were divided, and what each part was used for", _split),
    Item("", "20", "At which level parts have nothing in common", _disjoint),
    Item("12b", "", "How predictors enter the model", _preparation),
    Item("12c", "22", "The model: type, build, inputs and outputs", _model, "why this one"),
    Item("", "23", "Software", _software, "the versions that you used"),
    Item("", "24", "Where weights begin", _initial),
    Item("", "25", "How it was trained", _training),
    Item(
        "",
        "26, 27",
        "How the final model was chosen; whether several are combined",
        _selected,
        "what was tried before this run",
    ),
    Item(
        "12d",
        "",
        "Differences between places: how they are handled",
        None,
        "how; `hilum cross-evaluate` measures them",
    ),
    Item("12e", "28, 29", "Measures of performance and of doubt", _measures),
    Item(
        "12f",
        "",
        "Whether the model was updated after testing",
        lambda facts: "Not by the run: what it tests is what it trained.",
        "",
    ),
    Item(
        "12g",
        "",
        "How predictions are made",
        lambda facts: (
            "By ONNX Runtime from the exported file, one picture at a time; `hilum predict` gives the same for any file."
        ),
        "",
    ),
    Item("13", "", "Class imbalance", _imbalance),
    Item("14", "", "What was done for fairness", None, "what was done, or that nothing was"),
    Item("15", "", "What the model gives out, and how thresholds were chosen", _output),
    Item(
        "16",
        "32",
        "How training and test data differ; test on data of the same kind",
        _same,
        "whether a split that came with the data differs in more than patients",
    ),
    Item("17", "", "Ethical approval", None, "approval or why none is needed"),
    Item("18a", "44", "Funding", None, "funding"),
    Item("18b", "", "Conflicts of interest", None, "conflicts"),
    Item("18c", "42", "Protocol", None, "where it is"),
    Item("18d", "34", "Registration", None, "where it is registered"),
    Item(
        "18e",
        "",
        "Whether the data can be had",
        lambda facts: "; ".join(
            f"{card.title}: {card.source or 'source not told'}, {card.licence}"
            for card in facts.cards
        ),
        "",
    ),
    Item("18f", "43", "Whether code and models can be had", _available, "where you put them"),
    Item("19", "", "What patients and the public had to do with it", None, "what they had"),
    Item("20a", "35", "Flow of people and images, with and without the outcome", _flow),
    Item("20b", "36", "Who they are, in each part", _people),
    Item("20c", "", "How development and test compare", _people),
    Item("21", "", "How many people and outcomes each analysis had", _flow),
    Item("22", "", "The whole model, so that others can use it", _available, "where you put it"),
    Item(
        "23a",
        "37, 38",
        "Performance with intervals, in each part and subgroup",
        _performance,
        "subgroups beyond those of the data's columns",
    ),
    Item("23b", "", "Performance by place", _by_source, "other places: `hilum cross-evaluate`"),
    Item("", "30", "How robust it is", None, "what was changed, and what came of it"),
    Item("", "31", "What it looks at", _looks, "what to make of it"),
    Item(
        "",
        "33",
        "Test on data from elsewhere",
        None,
        "a set of another place: `hilum cross-evaluate` measures on it",
    ),
    Item(
        "24", "", "Results of updating", lambda facts: "None: the run does not update a model.", ""
    ),
    Item("", "39", "Where it fails", _failures, "what the failures have in common"),
    Item("25", "41", "What it means", None, "the interpretation"),
    Item("26", "40", "Limits", _limits, "limits of the design"),
    Item("27a", "", "What happens with input that is poor or missing", _unusable),
    Item("27b", "", "What users must do or know", None, "their part and training"),
    Item("27c", "", "Next steps", None, "what is to be studied next"),
)
