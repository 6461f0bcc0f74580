"""The anomaly model: figures of its score, and maps of where images are unusual."""

from __future__ import annotations

from dataclasses import dataclass

from hilum import storage
from hilum.pipeline import predict
from hilum.reporting import small_sets
from hilum.reporting.context import Context, LungCrops
from hilum.reporting.sections import _galleries, _scored_task

TITLE, ORDER = "Anomaly", 60


@dataclass(frozen=True)
class Anomaly:
    """What the chapter shows; `missing` is the reason where there is no model."""

    crops: LungCrops
    task: _scored_task.ScoredTask | None
    maps: _galleries.AnomalyMaps | None
    missing: str = ""


def section(context: Context) -> Anomaly | None:
    """Describe the anomaly model; None where nothing was trained."""
    if context.untrained:
        return None
    described = _scored_task.of_context(context, "anomaly")
    if not described:
        missing = small_sets.no_finding(context.division)
        return Anomaly(context.crops, None, None, missing)
    maps = storage.read_array(context.run.file("predict", predict.MAPS))
    scores = context.scores.of("anomaly")
    galleries = _galleries.anomaly_maps(scores, context.table, maps, context.crops_of)
    return Anomaly(context.crops, described[0], galleries)
