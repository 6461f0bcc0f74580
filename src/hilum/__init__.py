"""Hilum: folders of chest radiographs in; checked data, splits, lung masks, findings, anomaly maps
and honest figures out.

    import hilum

    dataset = hilum.open_dataset("data/chest")
    issues = hilum.find_issues(dataset)
    lungs = hilum.segment_lungs("image.dcm")
    run = hilum.run("data/chest", out="runs/chest")

Each name is loaded when it is first used, so that importing the package is quick. Importing it
changes nothing global but one thing: `ORT_DISABLE_TELEMETRY` is set in the environment unless it is
there already. Else ONNX Runtime writes a device id and events to the home folder and resolves a
host name, from the moment when it is imported, whoever imports it.
"""

from __future__ import annotations

import os as _os

# As in `typing`, whose import would take as long as the interpreter's start.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any as _Any

    from hilum.api.datasets import Dataset as Dataset
    from hilum.api.datasets import Issues as Issues
    from hilum.api.datasets import find_issues as find_issues
    from hilum.api.datasets import open_dataset as open_dataset
    from hilum.api.datasets import split as split
    from hilum.api.datasets import synthesize as synthesize
    from hilum.api.datasets import to_torchxrayvision as to_torchxrayvision
    from hilum.api.images import Classification as Classification
    from hilum.api.images import Image as Image
    from hilum.api.images import Lungs as Lungs
    from hilum.api.images import classify as classify
    from hilum.api.images import read_image as read_image
    from hilum.api.images import segment_lungs as segment_lungs
    from hilum.api.runs import FinishedRun as FinishedRun
    from hilum.api.runs import open_run as open_run
    from hilum.api.runs import run as run
    from hilum.api.runs import torch_dataset as torch_dataset
    from hilum.config import Recipe as Recipe
    from hilum.errors import BadData as BadData
    from hilum.errors import HilumError as HilumError
    from hilum.errors import NotFound as NotFound
    from hilum.statistics import metrics as metrics
    from hilum.statistics.bootstrap import bootstrap_patients as bootstrap_patients

__version__ = "0.1.0"

_PLACES = {  # public name: the module that holds it
    "Dataset": "hilum.api.datasets",
    "Issues": "hilum.api.datasets",
    "find_issues": "hilum.api.datasets",
    "open_dataset": "hilum.api.datasets",
    "split": "hilum.api.datasets",
    "synthesize": "hilum.api.datasets",
    "to_torchxrayvision": "hilum.api.datasets",
    "Classification": "hilum.api.images",
    "Image": "hilum.api.images",
    "Lungs": "hilum.api.images",
    "classify": "hilum.api.images",
    "read_image": "hilum.api.images",
    "segment_lungs": "hilum.api.images",
    "FinishedRun": "hilum.api.runs",
    "open_run": "hilum.api.runs",
    "run": "hilum.api.runs",
    "torch_dataset": "hilum.api.runs",
    "Recipe": "hilum.config",
    "BadData": "hilum.errors",
    "HilumError": "hilum.errors",
    "NotFound": "hilum.errors",
    "metrics": "hilum.statistics",
    "bootstrap_patients": "hilum.statistics.bootstrap",
}
__all__ = sorted(_PLACES)  # noqa: PLE0605 (a list of names)

_os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> _Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'hilum' has no attribute '{name}'")
    from importlib import import_module

    if name == "metrics":
        return import_module("hilum.statistics.metrics")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
