"""Ask a finished run's models about pictures of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hilum import store
from hilum.errors import BadData
from hilum.files import raster
from hilum.radiograph import to_uint8
from hilum.run import Run
from hilum.steps import evaluate, predict, region


def ask(folder: Path, images: Sequence[Path], masks: Path | None = None) -> tuple[list[dict[str, Any]], list[str]]:
    """What the run in `folder` says of each picture, and what is wrong with those that could not be read; the others are still told.

    With `masks`, writes NAME_lungs.png (127 right lung, 255 left) and NAME_anomaly.png of each picture there, in its own pixels.
    """
    reader = predict.Reader.of(Run(folder))
    fitted = store.read_json(folder / evaluate.CALIBRATION) if (folder / evaluate.CALIBRATION).exists() else {}
    told, faults = [], []
    for path in images:
        try:
            found = reader.read(path)
        except BadData as fault:
            faults.append(str(fault))
            continue
        told.append(_about(path, found, fitted))
        if masks:
            _write(masks, path.stem, found)
    return told, faults


def _about(path: Path, found: predict.Prediction, fitted: dict[str, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    about: dict[str, Any] = {"image": str(path), "finding": found.concept}
    for stage, scores in found.scores.items():
        about[f"{stage} score"] = scores[found.concept]
        threshold = fitted.get(stage, {}).get(found.concept, {}).get("threshold")
        if threshold is not None:
            about[f"{stage} positive"] = scores[found.concept] >= threshold
        about |= {f"{concept} score": score for concept, score in scores.items() if concept != found.concept}
    about["right lung pixels"], about["left lung pixels"] = (int((found.lungs == side).sum()) for side in (1, 2))
    about["lung quality"] = round(found.quality, 4)
    about["doubts"] = ", ".join(doubt.fault for doubt in found.doubts)
    warnings = [f"{path.name} looks {doubt.words}; the scores mean little if it is" for doubt in found.doubts]
    if found.cut in region.DOUBTED:
        warnings.append(f"no lungs were found that can be believed: the scores are of the {found.cut} and mean little")
    if warnings:
        about["warning"] = "; ".join(warnings)
    return about


def _write(folder: Path, stem: str, found: predict.Prediction) -> None:
    raster.write_png(folder / f"{stem}_lungs.png", np.array([0, 127, 255], np.uint8)[found.lungs])
    if found.anomaly_map is not None:
        raster.write_png(folder / f"{stem}_anomaly.png", to_uint8(found.anomaly_map / max(float(found.anomaly_map.max()), 1e-6)))
