"""The model card in Markdown: what a run's models are for, and are not.

After Mitchell et al., "Model cards for model reporting", FAT* 2019. It states what the report
states, for somebody who is given the models alone. Nothing in it is computed here.
"""

from __future__ import annotations

from hilum import __version__
from hilum.annotations.vocabulary import State
from hilum.config import Recipe
from hilum.reporting import small_sets, text
from hilum.reporting.card import markdown
from hilum.reporting.checklist_answers import MODELS, SHOWN
from hilum.reporting.checklist_items import answered
from hilum.reporting.context import Context

TEMPLATE = "resources/model_card.md.j2"

Row = list[str | int]


def render(context: Context, *, limits: list[str]) -> str:
    """Return the card; `limits` are sentences on what the figures do not show."""
    recipe = context.recipe
    answers = {row.tripod: row.answer for row in answered(context).rows}
    return markdown.render(
        {
            "title": " and ".join(card.title for card in context.cards),
            "quick": recipe.job.quick,
            "folds": context.division.folds,
            "why_none": small_sets.no_finding(context.division),
            "made_up": context.made_up,
            "version": __version__,
            "finding": context.finding,
            "models": _models(context),
            "input": f"frontal chest radiographs{_included(recipe)}; letterboxed to "
            f"{recipe.pixels.size} pixels, the lungs' region to {recipe.crop.size}; bright is "
            "dense",
            "output": answers["15"],
            "parts": [_part(context, part) for part in context.parts],
            "people": answers["20b"],
            "labels": answers["8a"],
            "missing": answers["11"],
            "training": answers["12c"],
            "figures": [
                _figure(context, task, metric)
                for task in MODELS
                for metric in SHOWN
                if metric in context.figures(task)
            ],
            "by_source": answers["23b"],
            "limits": limits,
            "licences": [[card.title, card.licence, card.citation] for card in context.cards],
            "recipe": recipe.digest,
        },
        TEMPLATE,
    )


def _models(context: Context) -> list[Row]:
    """Return kind, model, file and digest of every model that the run made."""
    run, recipe = context.run, context.recipe
    made = run.made("segment") | run.made("train")
    names = {
        "segment/lungs.onnx": ("lungs", run.summary("segment").get("model", "none")),
        "train/finding.onnx": ("finding", recipe.classify.model),
        "train/anomaly.onnx": ("anomaly", recipe.anomaly.model),
    }
    return [
        [kind, model, file, made[file]] for file, (kind, model) in names.items() if file in made
    ]


def _included(recipe: Recipe) -> str:
    if not recipe.split.include:
        return ""
    return f", and images stated to be {', '.join(recipe.split.include)}"


def _part(context: Context, part: str) -> Row:
    rows = context.part(part)
    present, absent = (
        int((rows["state"] == state).sum()) for state in (State.PRESENT, State.ABSENT)
    )
    patients, unknown = rows["patient_id"].n_unique(), rows.height - present - absent
    return [part, rows.height, patients, present, absent, unknown]


def _figure(context: Context, task: str, metric: str) -> Row:
    figure = context.figures(task)[metric]
    written = text.interval(figure, metric)
    return [task, text.TERMS[metric].name, written, figure.images, figure.patients]
