"""Metrics: pure functions of the truth and of what was predicted, nan where undefined.

A module offers `METRICS`, name to function; `discrimination` also offers `METRICS_AT`, whose
functions take a threshold besides. Intervals and groups are applied above them. Every metric is
also an attribute of this package: `metrics.dice`, `metrics.auroc`.

>>> from hilum.statistics import metrics
>>> metrics.auroc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
0.75
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from hilum import plugins


@cache
def _by_name() -> dict[str, Callable[..., float]]:
    """Return every metric of the modules beside this one."""
    found: dict[str, Callable[..., float]] = {}
    for name in plugins.names("metrics"):
        module = plugins.load("metrics", name)
        found |= {**module.METRICS, **getattr(module, "METRICS_AT", {})}
    return found


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name in plugins.names("metrics"):
        raise AttributeError(name)  # of a module beside this one, which importing it provides
    try:
        return _by_name()[name]
    except KeyError:
        raise AttributeError(
            f"no metric is called '{name}'; there are {', '.join(_by_name())}"
        ) from None


def __dir__() -> list[str]:
    return sorted(_by_name())
