"""The model card, in Markdown, after Mitchell et al., "Model cards for model reporting", FAT* 2019: what a run's models are for, and are not.

It says what the report says, for somebody who is given the models alone. Nothing in it is computed here.
"""

from __future__ import annotations

from hilum import __version__
from hilum.annotations.vocabulary import State, name_of
from hilum.config import Recipe
from hilum.reporting.card import markdown
from hilum.reporting.sections import small_sets, text
from hilum.reporting.sections.checklist import MODELS, SHOWN, Facts, section

TEMPLATE = "resources/model_card.md.j2"


def render(facts: Facts, *, limits: list[str], made_up: bool) -> str:
    """`limits`: what the figures do not show, in sentences."""
    recipe, made = facts.recipe, {**facts.run.made("segment"), **facts.run.made("train")}
    named = {
        "segment/lungs.onnx": ("lungs", facts.run.summary("segment").get("model", "none")),
        "train/finding.onnx": ("finding", recipe.classify.model),
        "train/anomaly.onnx": ("anomaly", recipe.anomaly.model),
    }
    answers = {item["tripod"]: item["told"] for item in section(facts)["rows"]}
    told = {
        "title": " and ".join(card.title for card in facts.cards),
        "quick": recipe.job.quick,
        "folds": facts.division.folds,
        "why_none": small_sets.no_finding(facts.division),
        "made_up": made_up,
        "version": __version__,
        "finding": name_of(facts.concept) if facts.concept else None,
        "models": [
            [kind, model, file, made[file]] for file, (kind, model) in named.items() if file in made
        ],
        "input": f"frontal chest radiographs{_included(recipe)}; letterboxed to {recipe.pixels.size} pixels, the lungs' region to {recipe.crop.size}; bright is dense",
        "output": answers["15"],
        "parts": [_part(facts, part) for part in facts.parts],
        "people": answers["20b"],
        "labels": answers["8a"],
        "missing": answers["11"],
        "training": answers["12c"],
        "figures": [
            _figure(facts, stage, metric)
            for stage in MODELS
            for metric in SHOWN
            if metric in facts.figures(stage)
        ],
        "by_source": answers["23b"],
        "limits": limits,
        "licences": [[card.title, card.licence, card.citation] for card in facts.cards],
        "recipe": recipe.digest,
    }
    return markdown.render(told, TEMPLATE)


def _included(recipe: Recipe) -> str:
    return (
        f", and images stated to be {', '.join(recipe.split.include)}"
        if recipe.split.include
        else ""
    )


def _part(facts: Facts, part: str) -> list[object]:
    rows = facts.part(part)
    present, absent = (
        int((rows["state"] == state).sum()) for state in (State.PRESENT, State.ABSENT)
    )
    return [
        part,
        rows.height,
        rows["patient_id"].n_unique(),
        present,
        absent,
        rows.height - present - absent,
    ]


def _figure(facts: Facts, stage: str, metric: str) -> list[object]:
    figure = facts.figures(stage)[metric]
    return [
        stage,
        text.TERMS[metric].name,
        text.interval(figure, metric),
        figure["images"],
        figure["patients"],
    ]
