"""A run's answers to the items of reporting checklists.

An answer states what is in the run's tables and recipe, and nothing that would have to be guessed.
It is empty where the run can say nothing.
"""

from __future__ import annotations

import polars as pl

from hilum import __version__, plugins, storage
from hilum.annotations.vocabulary import State, name_of
from hilum.audit.issues import standing
from hilum.config import PRETRAINED
from hilum.dataset.manifest import DROPPED
from hilum.errors import plural
from hilum.pipeline import _selection
from hilum.pipeline.division import TUNE
from hilum.pipeline.evaluate import ALL
from hilum.reporting import text
from hilum.reporting.context import Context
from hilum.reporting.text import listed

SHOWN = ("auroc", "average_precision", "sensitivity", "specificity", "ppv", "npv")
MODELS = ("finding", "anomaly")
SEVERITIES = {"error": "errors", "warning": "warnings", "info": "info"}  # with their plural


def title(context: Context) -> str:
    """Return a sentence on the model, the outcome and the data."""
    if not context.concept:
        return ""
    sets = listed([card.title for card in context.cards])
    finding = name_of(context.concept).lower()
    return f"A classifier of {finding} in chest radiographs, developed and tested on {sets}."


def sources(context: Context) -> str:
    """Return the data sets with their citations, and the images by source."""
    sets = "; ".join(
        f"{card.title} ({'. '.join(filter(None, (card.source, card.citation))).rstrip('.')})"
        for card in context.cards
    )
    held = context.manifest.table.group_by("source").len().sort("source")
    counts = ", ".join(f"{source} {count:,}" for source, count in held.iter_rows())
    return f"{sets}. Images by source: {counts}."


def eligible(context: Context) -> str:
    """Return which images were left out, and how many have a known label."""
    images, readable = context.manifest.table.height, context.cached.readable.height
    dropped = context.manifest.remarks.filter(pl.col("rule") == DROPPED).height
    known = context.table.filter(pl.col("state") >= State.ABSENT).height
    return (
        f"Every radiograph of the folder that could be read: {plural(dropped, 'file')} left out "
        f"when it was read (chapter “The data” gives the reasons), {images - readable:,} of "
        f"{plural(images, 'image')} unreadable; {_excluded(context)}of the "
        f"{context.table.height:,} in the split, {known:,} have a known label and enter the "
        "finding's figures."
    )


def _excluded(context: Context) -> str:
    counts = context.run.summary("split").get(_selection.EXCLUDED, {})
    if not counts:
        return ""
    reasons = ", ".join(f"{reason} ({count:,})" for reason, count in counts.items())
    return f"excluded by the view, body part or modality that the data state: {reasons}; "


def flow(context: Context) -> str:
    """Return images, patients and classes of each part."""
    parts = []
    for part in context.parts:
        rows = context.part(part)
        present, absent = (
            int((rows["state"] == state).sum()) for state in (State.PRESENT, State.ABSENT)
        )
        parts.append(
            f"{part}: {plural(rows.height, 'image')} of "
            f"{plural(rows['patient_id'].n_unique(), 'patient')}, {present:,} with the finding, "
            f"{absent:,} without"
        )
    return "; ".join(parts) + "."


def people(context: Context) -> str:
    """Return ages and sexes in each part."""
    parts = []
    table = context.manifest.table.select("image_id", "sex", "age_years", "view")
    for part in context.parts:
        rows = context.part(part).join(table, on="image_id")
        age, ages = rows["age_years"].drop_nulls(), "ages not known"
        if len(age):
            ages = (
                f"median age {age.median():g} years ({age.min():g} to {age.max():g}; "
                f"{rows.height - len(age):,} not known)"
            )
        counts = {sex: int((rows["sex"] == sex).sum()) for sex in ("female", "male")}
        sexes = ", ".join(f"{count:,} {sex}" for sex, count in counts.items() if count)
        parts.append(f"{part}: {ages}, {sexes or 'sexes not known'}")
    return "; ".join(parts) + "."


def preparation(context: Context) -> str:
    """Return how images were prepared, and how many issues the audit found."""
    pixels, region = context.recipe.pixels, context.recipe.crop
    severities = standing(context.run.table("audit", "issues.parquet"))["severity"]
    counts = {severity: int((severities == severity).sum()) for severity in SEVERITIES}
    issues = ", ".join(
        f"{count:,} {severity if count == 1 else SEVERITIES[severity]}"
        for severity, count in counts.items()
        if count
    )
    black = " and blackened outside" if region.masked else ""
    return (
        f"Each file decoded once and letterboxed to {pixels.size} x {pixels.size} pixels, window "
        f"'{pixels.normalisation}', bright is dense; the lungs' box with a margin of "
        f"{region.margin:.0%} cropped{black}, {region.size} x {region.size} pixels. "
        f"The audit found: {issues or 'nothing'}."
    )


def outcome(context: Context) -> str:
    """Return the finding, and where its labels were read from."""
    if not context.concept:
        why = context.division.why or "no finding is both present and absent on some images"
        return f"None was trained on: {why}."
    labels = context.manifest.labels.filter(pl.col("concept") == context.concept)
    rows = labels.group_by("rule").len().sort("rule")
    rules = ", ".join(f"{rule} ({count:,})" for rule, count in rows.iter_rows())
    corrected = "No corrections were applied"
    if context.recipe.data.corrections:
        corrected = "Corrections were applied: the recipe names their file"
    return (
        f"{name_of(context.concept)}, as the data state it. Labels by where they were read from: "
        f"{rules}. {corrected}."
    )


def missing(context: Context) -> str:
    """Return how many labels are uncertain or not mentioned, and how training treats them."""
    if not context.concept:
        return ""
    states = context.manifest.states(context.concept)["state"]
    policy = context.recipe.section("classify")
    uncertain = int((states == State.UNCERTAIN).sum())
    return (
        f"{uncertain:,} images call {name_of(context.concept).lower()} uncertain (in training: "
        f"{policy['uncertain']}) and {states.null_count():,} do not mention it (in training: "
        f"{policy['unmentioned']}); neither enters a figure. Not mentioned is not taken for absent "
        "unless that says so."
    )


def split(context: Context) -> str:
    """Return how patients were divided."""
    settings, folds = context.recipe.split, context.division.folds
    if folds:
        return (
            f"Cross-validation by patient in {folds} folds (seed {settings.seed}), nested: for "
            "each fold the other patients were assigned to train, which fits, and tune "
            f"({TUNE:.0%}), which chooses thresholds and calibration; figures are of the folds, "
            f"pooled. The reason: {context.division.why}. One split binds lungs, finding and "
            "anomaly. The final models are trained on all images, and no figure is of them."
        )
    official = context.run.summary("split")["given split"]
    return (
        f"Train, tune and test ({settings.train:.0%}, {settings.tune:.0%}, {settings.test:.0%} "
        f"requested, seed {settings.seed}; split of the source: {official}). Train fits, tune "
        "chooses thresholds, test gives the figures. One split binds lungs, finding and anomaly."
    )


def disjoint(context: Context) -> str:
    """Return at which level the parts are disjoint."""
    return (
        "By patient, and by cluster of patients where the audit found one image under several; "
        "evaluation refuses a run that was trained on a tune or test image (chapter “The split” "
        "holds the proof)."
    )


def model(context: Context) -> str:
    """Return the model of each task."""
    recipe = context.recipe
    return (
        f"Lungs: {_lung_model(context)}; finding: {recipe.classify.model}, one image in, one score "
        f"out; anomaly: {recipe.anomaly.model}, fitted on images without the finding. Each is one "
        f"ONNX file with its input contract; the source of each is in Hilum {__version__}."
    )


def training(context: Context) -> str:
    """Return the summary of the step train, and the recipe's settings of all models."""
    summary = ", ".join(f"{key} {value}" for key, value in context.run.summary("train").items())
    settings = "; ".join(
        f"{name} {storage.as_json(context.recipe.section(name))}"
        for name in ("segment", "classify", "anomaly")
    )
    return f"{summary}. Settings: {settings}. What is not named has Hilum's default."


def selected(context: Context) -> str:
    """Return how the final models were chosen."""
    if context.division.folds:
        return (
            "The final models are of the kinds that the recipe names, trained on all images after "
            "the folds were measured; nothing was chosen by figures of a fold's own images, and no "
            "models are averaged."
        )
    return (
        "The run trains the one model of each kind that the recipe names, chooses nothing by "
        "figures of the test part, and averages no models."
    )


def measures(context: Context) -> str:
    """Return the metrics and how intervals are computed."""
    evaluate = context.recipe.evaluate
    return (
        "AUROC, average precision; sensitivity, specificity, PPV, NPV, F1 and accuracy at a "
        "threshold chosen on tune; Brier score, calibration error, slope and intercept; Dice and "
        f"distances of lungs. Intervals of {evaluate.confidence:.0%}: percentile bootstrap over "
        f"patients, {evaluate.bootstrap:,} resamples, seed {evaluate.seed}; of AUROC DeLong's too."
    )


def output(context: Context) -> str:
    """Return what a score means, and where threshold and calibration come from."""
    if context.division.folds:
        return (
            "A score, higher where the finding is likelier. The final models' threshold (Youden) "
            "and calibration, where there is one, were fitted on the pooled out-of-fold scores, "
            "which are those of models trained on fewer images; the figures use what each fold's "
            "own tune part gave."
        )
    return (
        "A score, higher where the finding is likelier, with a calibrated probability beside it "
        "where the tune part was large enough to fit a calibration. Calls use the threshold with "
        "the largest sensitivity + specificity - 1 (Youden) on the tune part, then fixed."
    )


def performance(context: Context) -> str:
    """Return the test part's figures, and AUROC by subgroup."""
    sentences = []
    for task in MODELS:
        figures = context.figures(task)
        shown = ", ".join(
            f"{text.TERMS[metric].name} {text.interval(figures[metric], metric)}"
            for metric in SHOWN
            if metric in figures
        )
        sentences += [f"{task}, test part: {shown}"] if shown else []
    subgroups = _areas(context, ~pl.col("by").is_in([ALL, "source"]))
    return ". ".join([*sentences, *([subgroups] if subgroups else [])])


def by_source(context: Context) -> str:
    """Return the finding's AUROC by source."""
    return _areas(context, pl.col("by") == "source")


def _areas(context: Context, chosen: pl.Expr) -> str:
    """Return the finding's AUROC in chosen subgroups of the test part."""
    if not context.concept:
        return ""
    rows = context.metrics.filter(
        (pl.col("task") == "finding")
        & (pl.col("part") == "test")
        & (pl.col("metric") == "auroc")
        & (pl.col("concept") == context.concept)
        & chosen
    )
    areas = "; ".join(
        f"{row['by']} {row['subgroup']} {text.interval(text.Figure.of(row), 'auroc')}"
        for row in rows.iter_rows(named=True)
    )
    return f"AUROC of the finding by {areas}" if areas else ""


def imbalance(context: Context) -> str:
    """Return the prevalence in the training images with a known label."""
    part = context.part("test" if context.division.folds else "train")
    known = part.filter(pl.col("state") >= State.ABSENT)
    if not known.height:
        return ""
    prevalence = int((known["state"] == State.PRESENT).sum()) / known.height
    return (
        f"{prevalence:.0%} of the training images with a known label have the finding; how the "
        "model accounts for that is in its settings."
    )


def same(context: Context) -> str:
    """Return which sources the test part is from."""
    names = listed(context.part("test")["source"].unique().sort().to_list())
    official = context.run.summary("split")["given split"]
    return (
        f"The test part is other patients of the same data ({names}); split of the source: "
        f"{official}."
    )


def failures(context: Context) -> str:
    """Return where mistakes are shown."""
    if not context.figures("finding"):
        return ""
    return "Chapter “Finding” shows the test images that are most confidently wrong of either kind."


def limits(context: Context) -> str:
    """Return the size of the test part, caveats of the data, and which figures are uncertain."""
    test, figures = context.part("test"), context.figures("finding")
    chosen = {
        metric: figures[metric]
        for metric in ("auroc", "sensitivity", "specificity")
        if metric in figures
    }
    patients = plural(test["group"].n_unique(), "test patient")
    names = listed(test["source"].unique().sort().to_list())
    caveats = [card.caveats for card in context.cards if card.caveats]
    return " ".join(
        [f"{patients} of {names} and no other place.", *caveats, *text.cautions(chosen)]
    )


def unusable(context: Context) -> str:
    """Return what happens to images that cannot be read or are out of distribution."""
    flagged = context.run.summary("predict").get("images with quality flags", 0)
    return (
        "An image that cannot be read is refused; one that seems inverted, rotated, mirrored or "
        f"not a chest is flagged beside its score ({flagged:,} of the images scored here); where "
        "lungs are not segmented reliably, the region is the training part's typical box."
    )


def software(context: Context) -> str:
    """Return the version of Hilum."""
    return (
        f"Hilum {__version__}; the versions of libraries that it was tested with are in its "
        "constraints.txt."
    )


def available(context: Context) -> str:
    """Return the models with their digests, the recipe's digest and the licences of the data."""
    models = ", ".join(
        f"{file} ({digest})"
        for step in ("segment", "train")
        for file, digest in context.run.made(step).items()
        if file.endswith(".onnx")
    )
    licences = "; ".join(f"{card.title}: {card.licence}" for card in context.cards)
    return (
        f"Models with their digests: {models or 'none'}. Recipe: at the end of this page, digest "
        f"{context.recipe.digest}. Code: Hilum {__version__}. Data: {licences}."
    )


def initial(context: Context) -> str:
    """Return the initial weights and the seeds."""
    classify = context.recipe.classify
    settings = {**plugins.defaults("models", classify.model, "Settings"), **classify.settings}
    weights = {True: "weights pretrained on ImageNet", False: "random weights"}
    begun = "as its module says"
    if "pretrained" in settings:
        begun = weights[bool(settings["pretrained"])]
    return (
        f"{classify.model}: {begun}, seed {classify.seed}; lungs: {_lung_model(context)}, seed "
        f"{context.recipe.segment.seed}."
    )


def _lung_model(context: Context) -> str:
    """Return the lung model that was used, which need not be the one that the recipe names."""
    summary = context.run.summary("segment")
    if "model" not in summary:
        return "none"
    untrained = ", not trained in this run" if summary["model"] == PRETRAINED else ""
    return f"{summary['model']}{untrained}"


def explained(context: Context) -> str:
    """Return where explanations of the models are shown."""
    if not context.figures("anomaly"):
        return ""
    return "Anomaly maps of test images are in chapter “Anomaly”."
