"""The finding: figures of the classifier, its mistakes, saliency maps, and possible shortcuts."""

from __future__ import annotations

from dataclasses import dataclass

from hilum.reporting import small_sets
from hilum.reporting.context import Context, LungCrops
from hilum.reporting.sections import _galleries, _saliency, _scored_task, _shortcuts

TITLE, ORDER = "Finding", 50


@dataclass(frozen=True)
class Finding:
    """What the chapter shows; `missing` is the reason where there is no classifier."""

    division: small_sets.DivisionNote
    crops: LungCrops
    task: _scored_task.ScoredTask | None
    galleries: list[_galleries.Mistakes]
    saliency: _saliency.Saliency | None
    shortcuts: _shortcuts.Shortcuts | None
    missing: str = ""


def section(context: Context) -> Finding | None:
    """Describe the classifier; None where nothing was trained."""
    if context.untrained:
        return None
    described = _scored_task.of_context(context, "finding")
    galleries: list[_galleries.Mistakes] = []
    if described:
        # Readings of people stay out of the report unless the recipe shares them.
        readings = dict(
            zip(
                context.manifest.table["image_id"],
                context.passed.manifest.table["reading"],
                strict=True,
            )
        )
        galleries = _galleries.mistakes(described[1], context.cached, context.crops_of, readings)
    return Finding(
        division=small_sets.division(context.division, context.split, context.recipe.split),
        crops=context.crops,
        task=described[0] if described else None,
        galleries=galleries,
        saliency=_saliency.of_context(context),
        shortcuts=_shortcuts.of_context(context),
        missing="" if described else small_sets.no_finding(context.division),
    )
