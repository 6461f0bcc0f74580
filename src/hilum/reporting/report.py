"""Write the report: one self-contained HTML file, made from what the earlier steps left.

    report.html      the head with the leading figures and their limits, then the chapters of
                     `hilum.reporting.sections`
    model_card.md    what the models are for and are not, for somebody who is given them alone
    test_scores.csv  the test images with their labels, scores and calls; the page links it, and
                     holds it where it is not too large

No model is run and no figure computed here. Charts and images are inside the file, nothing is
loaded from elsewhere, and it needs no JavaScript. The same run gives the same bytes: the file holds
no time and no name of a machine except the folder that the recipe names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from types import ModuleType
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from hilum import plugins, storage
from hilum.config import Recipe
from hilum.drawing import templates
from hilum.pipeline import division
from hilum.pipeline.step import Inputs, StepResult
from hilum.privacy import run_release
from hilum.progress import Progress
from hilum.reporting import calls_summary, model_card, score_table, small_sets, summary
from hilum.reporting.context import Context, done_on_this
from hilum.reporting.sections.repeat import STEPS
from hilum.run_folder import Run
from hilum.safety import spreadsheet_cells

VERSION = 11  # change it when the same run gives another page
PAGE, CARD = "report.html", "model_card.md"
PAGE_TEMPLATE, MACROS = "report.html.j2", "report/macros.html.j2"


@dataclass(frozen=True)
class Head:
    """What stands above the chapters."""

    title: str
    sets: str
    quick: bool
    made_up: bool
    images: int
    patients: int
    masked: int
    finding: str | None
    confidence: str
    division: small_sets.DivisionNote
    shortages: small_sets.Shortages | None
    leading: list[summary.Headline]
    limits: list[str]


@dataclass(frozen=True)
class Chapter:
    """A section of the page, rendered."""

    name: str
    title: str
    html: Markup


def chapters() -> list[ModuleType]:
    """Return the modules of `hilum.reporting.sections` in their order."""
    modules = [plugins.load("sections", name) for name in plugins.names("sections")]
    return sorted(modules, key=lambda module: module.ORDER)


def head(context: Context) -> Head:
    """Gather what stands above the chapters."""
    table = context.manifest.table
    settings = context.recipe.split
    shortages = None
    if context.untrained:
        shortages = small_sets.shortages(
            context.division, context.manifest, context.split, context.cached
        )
    return Head(
        title=run_release.placed(context.recipe.data),
        sets=" and ".join(card.title for card in context.cards),
        quick=context.recipe.job.quick,
        made_up=context.made_up,
        images=table.height,
        patients=table["patient_id"].n_unique(),
        masked=context.cached.with_mask.height,
        finding=context.finding,
        confidence=context.confidence,
        division=small_sets.division(context.division, context.split, settings),
        shortages=shortages,
        leading=[
            *(summary.Headline(*one) for one in calls_summary.headlines(context)),
            *summary.leading(context.metrics, context.concept, context.cached.size),
        ],
        limits=summary.limits(context),
    )


def render(context: Context, above: Head, test_scores: score_table.Link) -> str:
    """Return the page.

    Every text is escaped by the templates, every drawing has escaped its own.
    """
    rendered = []
    for module in chapters():
        if (content := module.section(context)) is not None:
            name = module.__name__.rpartition(".")[2]
            html = chapter_html(module, _passed_on(context, module, content))
            rendered.append(Chapter(name, module.TITLE, html))
    return (
        _environment()
        .get_template(PAGE_TEMPLATE)
        .render(head=context.passed.anything(above), test_scores=test_scores, chapters=rendered)
    )


def chapter_html(module: ModuleType, content: Any) -> Markup:
    """Return the HTML of what the `section` of a chapter's module returned."""
    pages, source = _environment(), getattr(module, "TEMPLATE", None)
    name = module.__name__.rpartition(".")[2]
    template = pages.from_string(source) if source else pages.get_template(_file(name))
    return Markup(template.render(section=content))


def _file(name: str) -> str:
    return f"report/{name}.html.j2"


def _passed_on(context: Context, module: ModuleType, content: Any) -> Any:
    """Return a chapter's content under the names that may leave the run's folder."""
    passed = context.passed.anything(content)
    kept = getattr(module, "VERBATIM", ())
    return replace(passed, **{name: getattr(content, name) for name in kept}) if kept else passed


@lru_cache(maxsize=1)  # each chapter asks for it, and compiling a template takes milliseconds
def _environment() -> Environment:
    pages = templates.environment(autoescape=True)
    macros = pages.get_template(MACROS).module
    pages.globals |= {name: getattr(macros, name) for name in ("table", "stacked", "terms")}
    return pages


# ------------------------------------------------------------------------------------ the step


def made_from(run: Run, recipe: Recipe) -> Inputs:
    """Return digests of everything that the report is made from."""
    made: Inputs = {step: run.made(step) for step in (*STEPS, *done_on_this(run, recipe))}
    if folds := division.folds(run):
        made["folds"] = [
            {step: fold.made(step) for step in ("segment", "crop", "train")} for fold in folds
        ]
    return {**made, "recipe": recipe.digest, "version": VERSION}


def make(run: Run, recipe: Recipe, progress: Progress) -> StepResult:
    """Write the page, the model card and the table; return their digests and a summary.

    Raises `NotFound` where a step before it has not been done.
    """
    context = Context.of(run, recipe)
    above = head(context)
    listed = context.passed.keyed(
        score_table.table(context.scores, context.split, context.manifest)
    )
    table = spreadsheet_cells.of_table(listed)
    limits = context.passed.anything(above.limits)
    made = {
        PAGE: render(context, above, score_table.table_link(table, listed.height)),
        CARD: model_card.render(context, limits=limits),
        score_table.FILE: table,
    }
    for name, text in made.items():
        storage.write_text(run / name, text)
    progress(1, 1)
    return StepResult(
        {name: storage.digest(text.encode()) for name, text in made.items()},
        {"page": PAGE, "kB": round(len(made[PAGE].encode()) / 1000)},
    )
