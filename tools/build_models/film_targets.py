"""Turn the facts of `tools.build_models.films` into the targets of `tools.build_models.multitask`.

A label is nan where its source does not state it: NIH ChestX-ray14 and covid-448 have no label of
tuberculosis, so its absence there is assumed by a recipe, never stated here.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from hilum.dataset.readers.nih14 import FINDINGS
from tools.build_models.multitask import TASKS

NORMAL_WORDS = ("No Finding", "NORMAL")
UNKNOWN_WORDS = ("", "todo", "Unknown")
OLDEST = 90.0  # years; age is trained on as a fraction of it


def targets(facts: pl.DataFrame) -> np.ndarray:
    """Return the targets, float32 (n, tasks), nan where not stated."""
    made = np.full((facts.height, len(TASKS)), np.nan, np.float32)
    columns = {name: made[:, number] for number, name in enumerate(TASKS)}
    words = facts["findings"].fill_null("").to_list()
    tuberculosis, pneumonia = (_floats(facts[name]) for name in ("tuberculosis", "pneumonia"))
    columns["tuberculosis"][:] = tuberculosis
    stated = np.array([word not in UNKNOWN_WORDS for word in words])
    normal = np.array([word in NORMAL_WORDS for word in words])
    columns["abnormal"][:] = np.where(stated, ~normal, np.nan)
    for known in (tuberculosis, pneumonia):
        columns["abnormal"][:] = np.where(np.isnan(known), columns["abnormal"], known)
    columns["pneumonia"][:] = pneumonia
    covid = (facts["source"] == "covid").to_numpy() & stated
    columns["pneumonia"][covid] = ~normal[covid]
    columns["female"][:] = _floats(facts["sex"].str.starts_with("F").cast(pl.Int8))
    columns["age"][:] = np.clip(_floats(facts["age_years"]) / OLDEST, 0, 1)
    columns["ap_view"][:] = _floats(facts["view"].str.starts_with("AP").cast(pl.Int8))
    nih = (facts["source"] == "nih").to_numpy()
    for word, name in FINDINGS.items():
        has = np.array([word in stated.split("|") for stated in words])
        columns[f"nih_{name}"][nih] = has[nih]
    return made


def _floats(column: pl.Series) -> np.ndarray:
    return column.cast(pl.Float32).fill_null(float("nan")).to_numpy().astype(np.float32)
