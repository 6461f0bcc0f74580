"""Plan which lung model is trained on which masks, out of fold.

No training image's lungs are found by a model that was trained on its patient.
"""

from __future__ import annotations

import polars as pl

from hilum.pipeline import division
from hilum.pipeline._training import FEWEST_MASKS

FEWEST_OF_A_FOLD = 8  # masks to train on where a fold is left out
WHOLE = "lungs"  # the model of the whole training part


def plan(table: pl.DataFrame, with_mask: pl.DataFrame, folds: int, seed: int) -> pl.DataFrame:
    """Add `fold`, `finder` and `trains` to the split's rows.

    `fold` is null outside train; `finder` is the model to apply; `trains` says whether a model is
    trained on the mask.
    """
    training = table.filter(pl.col("part") == "train")
    dealt = division.assign_parts(
        training, {}, {str(number): 1 / folds for number in range(folds)}, seed
    )
    fold = division.by_group(table, training.select("group", fold=dealt.cast(pl.Int64)).unique())
    own_fold = pl.format("fold{}", fold)
    return table.with_columns(
        fold=fold,
        finder=pl.when(fold.is_null()).then(pl.lit(WHOLE)).otherwise(own_fold),
        trains=pl.col("image_id").is_in(with_mask["image_id"].implode())
        & (pl.col("part") == "train"),
    )


def lessons(planned: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return the rows to train on, by model; {} where a model would have too few."""
    training = planned.filter("trains")
    folds = planned["fold"].drop_nulls().unique().sort()
    rows = {f"fold{fold}": training.filter(pl.col("fold") != fold) for fold in folds} | {
        WHOLE: training
    }
    return (
        rows
        if training.height >= FEWEST_MASKS
        and min(part.height for part in rows.values()) >= FEWEST_OF_A_FOLD
        else {}
    )
