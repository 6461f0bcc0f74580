"""How found lungs are measured against drawn ones: in which pixels, in which unit, and what is left out."""

import numpy as np
import polars as pl
import pytest

from hilum import lungs
from hilum.recipe import Evaluate
from hilum.steps import evaluate


class Drawn:
    """What `overlaps` asks of a cache: three pictures of files of 200 x 100 pixels, letterboxed to 64 x 64."""

    size = 64

    def __init__(self):
        self.index = pl.DataFrame({"image_id": ["a", "b", "c"], "row": [0, 1, 2], "height": [200] * 3, "width": [100] * 3})
        self.with_mask = self.index
        mask = np.zeros((64, 64), np.uint8)
        mask[20:50, 20:28], mask[20:50, 36:44] = lungs.RIGHT, lungs.LEFT
        self.masks = self.known_masks = np.stack([mask] * 3)

    def rows(self, image_ids):
        return self.index.filter(pl.col("image_id").is_in(list(image_ids)))["row"].to_numpy()


@pytest.fixture
def per_image():
    table = pl.DataFrame({"image_id": ["a", "b", "c"], "part": "test", "source": "s", "group": ["a", "b", "c"]})
    truth = Drawn()
    found = truth.masks.copy()
    found[0] = np.roll(found[0], 2, axis=0)
    found[1] = 0
    rows = evaluate.overlaps(table, truth, truth.index, found, {"a": (0.5, 0.5), "b": (0.5, 0.5), "c": (None, None)})
    return table, rows


def test_distances_are_of_cached_pixels_and_of_their_millimetres(per_image):
    a = per_image[1].filter((pl.col("image_id") == "a") & (pl.col("side") == "both")).row(0, named=True)
    assert a["hausdorff95_pixels"] == 2
    assert a["hausdorff95_mm"] == pytest.approx(2 * 0.5 * 200 / 64)
    assert a["average_distance_mm"] == pytest.approx(a["average_distance_pixels"] * 0.5 * 200 / 64)


def test_nothing_found_has_no_distance_and_no_spacing_has_no_millimetres(per_image):
    rows = {row["image_id"]: row for row in per_image[1].filter(pl.col("side") == "right").iter_rows(named=True)}
    assert rows["b"]["dice"] == 0 and all(np.isnan(rows["b"][name]) for name in evaluate.DISTANCES)
    assert rows["c"]["hausdorff95_pixels"] == 0 and np.isnan(rows["c"]["hausdorff95_mm"])


def test_a_mean_leaves_out_what_is_undefined_and_millimetres_are_told_only_where_some_are_known(per_image):
    table, rows = per_image
    figures = {(row["metric"], row["side"]): row for row in evaluate.lung_figures(rows, table, Evaluate(resamples=100))}
    assert figures["hausdorff95_pixels", "both"]["value"] == 1 and figures["dice", "both"]["images"] == 3
    assert figures["hausdorff95_mm", "both"]["value"] == pytest.approx(2 * 0.5 * 200 / 64)
    unspaced = rows.with_columns(pl.lit(float("nan")).alias(name) for name in evaluate.DISTANCES if name.endswith("_mm"))
    assert not [row for row in evaluate.lung_figures(unspaced, table, Evaluate(resamples=100)) if row["metric"].endswith("_mm")]
