"""How found lungs are measured against drawn ones: in which pixels, in which unit, and what is left
out.
"""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.annotations import lung_masks
from hilum.config import Evaluate
from hilum.errors import Mismatch
from hilum.pipeline import evaluate
from hilum.reporting import text
from hilum.reporting.sections import lungs


class Drawn:
    """What `overlaps` asks of a cache: three images of files of 200 x 100 pixels, letterboxed to 64
    x 64.
    """

    size = 64

    def __init__(self):
        self.index = pl.DataFrame(
            {"image_id": ["a", "b", "c"], "row": [0, 1, 2], "height": [200] * 3, "width": [100] * 3}
        )
        self.with_mask = self.index
        mask = np.zeros((64, 64), np.uint8)
        mask[20:50, 20:28], mask[20:50, 36:44] = lung_masks.RIGHT, lung_masks.LEFT
        self.masks = self.known_masks = np.stack([mask] * 3)

    def rows(self, image_ids):
        return self.index.filter(pl.col("image_id").is_in(list(image_ids)))["row"].to_numpy()


@pytest.fixture
def per_image():
    table = pl.DataFrame(
        {"image_id": ["a", "b", "c"], "part": "test", "source": "s", "group": ["a", "b", "c"]}
    )
    truth = Drawn()
    found = truth.masks.copy()
    found[0] = np.roll(found[0], 2, axis=0)
    found[1] = 0
    rows = evaluate.overlaps(
        table, truth, truth.index, found, {"a": (0.5, 0.5), "b": (0.5, 0.5), "c": (None, None)}
    )
    return table, rows


def test_distances_are_of_cached_pixels_and_of_their_millimetres(per_image):
    a = (
        per_image[1]
        .filter((pl.col("image_id") == "a") & (pl.col("side") == "both"))
        .row(0, named=True)
    )
    assert a["hausdorff95_pixels"] == 2
    assert a["hausdorff95_mm"] == pytest.approx(2 * 0.5 * 200 / 64)
    assert a["average_distance_mm"] == pytest.approx(a["average_distance_pixels"] * 0.5 * 200 / 64)


def test_nothing_found_has_no_distance_and_no_spacing_has_no_millimetres(per_image):
    rows = {
        row["image_id"]: row
        for row in per_image[1].filter(pl.col("side") == "right").iter_rows(named=True)
    }
    assert rows["b"]["dice"] == 0 and all(np.isnan(rows["b"][name]) for name in evaluate.DISTANCES)
    assert rows["c"]["hausdorff95_pixels"] == 0 and np.isnan(rows["c"]["hausdorff95_mm"])


def test_a_mean_leaves_out_what_is_undefined_and_millimetres_are_reported_only_where_some_are_known(
    per_image,
):
    table, rows = per_image
    figures = {
        (row["metric"], row["side"]): row
        for row in evaluate.lung_figures(rows, table, Evaluate(bootstrap=100))
    }
    assert (
        figures["hausdorff95_pixels", "both"]["value"] == 1
        and figures["dice", "both"]["images"] == 3
    )
    assert figures["hausdorff95_mm", "both"]["value"] == pytest.approx(2 * 0.5 * 200 / 64)
    unspaced = rows.with_columns(
        pl.lit(float("nan")).alias(name) for name in evaluate.DISTANCES if name.endswith("_mm")
    )
    assert not [
        row
        for row in evaluate.lung_figures(unspaced, table, Evaluate(bootstrap=100))
        if row["metric"].endswith("_mm")
    ]


def scattered(images, missed, undrawn, unspaced):
    """Rows of `images` images: the first have their right lung missed, the next have none drawn,
    and the last have no known spacing; all else is the better the later it stands.
    """
    truth = Drawn()
    ids = [f"i{number:02}" for number in range(images)]
    truth.index = pl.DataFrame(
        {"image_id": ids, "row": range(images), "height": [64] * images, "width": [64] * images}
    )
    truth.with_mask = truth.index
    truth.masks = np.stack([truth.masks[0]] * images)
    found = np.stack(
        [np.roll(mask, images - number, axis=0) for number, mask in enumerate(truth.masks)]
    )
    for number in range(missed):
        found[number][found[number] == lung_masks.RIGHT] = 0
    for number in range(missed, missed + undrawn):
        truth.masks[number][truth.masks[number] == lung_masks.RIGHT] = 0
    spacing = dict.fromkeys(ids[: images - unspaced], (0.5, 0.5))
    table = pl.DataFrame(
        {"image_id": ids, "part": "test", "source": ["s", "t"] * (images // 2), "group": ids}
    )
    return table, evaluate.overlaps(table, truth, truth.index, found, spacing)


METRICS = ("dice", "iou", "precision", "recall", *evaluate.DISTANCES)


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
@settings(max_examples=8, deadline=None)
def test_a_mean_says_of_how_many_images_it_is_and_why_not_of_all(missed, undrawn, unspaced):
    table, rows = scattered(48, missed, undrawn, unspaced)
    figures = list(evaluate.lung_figures(rows, table, Evaluate(bootstrap=5)))
    assert {(one["subgroup"], one["side"]) for one in figures} == {
        (group, side) for group in ("all", "s", "t") for side in ("both", "right", "left")
    }
    reported = evaluate.as_table(figures)
    for one in reported.iter_rows(named=True):
        groups = ["s", "t"] if one["subgroup"] == "all" else [one["subgroup"]]
        of = rows.filter((pl.col("side") == one["side"]) & pl.col("source").is_in(groups))
        values = of[one["metric"]].to_numpy()
        assert one["images"] == np.count_nonzero(~np.isnan(values)) and one[
            "value"
        ] == pytest.approx(np.nanmean(values))
        assert bool(one["warning"]) == (one["images"] < of.height)
        assert not one["warning"] or one["warning"].startswith(
            f"mean of {one['images']} of {of.height} images: in "
        )
    right = {
        one["metric"]: one
        for one in reported.filter(
            (pl.col("side") == "right") & (pl.col("source") == "all")
        ).iter_rows(named=True)
    }
    assert list(right) == list(METRICS) and {one["missed"] for one in right.values()} == {missed}
    reasons = {"missed": missed, "drawn": undrawn}
    for word, count in reasons.items():
        assert (
            f"in {count} " in right["hausdorff95_pixels"]["warning"]
            and word in right["hausdorff95_pixels"]["warning"]
        ) == bool(count)
    assert ("spacing" in right["hausdorff95_mm"]["warning"]) == bool(unspaced)
    assert not right["dice"]["warning"] and "spacing" not in right["hausdorff95_pixels"]["warning"]


def test_a_lung_that_is_missed_in_every_image_has_no_distance_and_the_reason_is_reported():
    table, rows = scattered(6, 6, 0, 0)
    right = {
        one["metric"]: one
        for one in evaluate.lung_figures(rows, table, Evaluate(bootstrap=5))
        if one["side"] == "right" and one["source"] == "all"
    }
    assert right["dice"]["value"] == 0 and right["dice"]["images"] == right["dice"]["missed"] == 6
    assert (
        np.isnan(right["hausdorff95_pixels"]["value"])
        and right["hausdorff95_pixels"]["images"] == 0
    )
    assert (
        right["hausdorff95_pixels"]["reason"] == "mean of 0 of 6 images: in 6 the lung was missed"
    )


def test_images_with_a_mask_that_were_not_searched_for_lungs_are_refused():
    table, truth = (
        pl.DataFrame({"image_id": ["a", "b", "c"], "part": "test", "source": "s"}),
        Drawn(),
    )
    with pytest.raises(Mismatch, match="2 of 3 images with a reference mask .*b, c.*hilum segment"):
        evaluate.overlaps(table, truth, truth.index.head(1), truth.masks)
    assert evaluate.overlaps(table, truth, truth.index.clear(), truth.masks).is_empty()


def test_the_step_says_how_many_lungs_were_missed():
    table, rows = scattered(6, 2, 0, 0)
    metrics = evaluate.as_table(list(evaluate.lung_figures(rows, table, Evaluate(bootstrap=20))))
    assert (
        evaluate.summary(metrics, None)["test lungs missed, without a distance"]
        == "right in 2 of 6 images"
    )


def test_the_report_says_of_how_many_images_a_distance_is_the_mean():
    figure = text.Figure(value=2.0, ci_low=1.0, ci_high=3.0, images=9, patients=9)
    assert text.mean(figure, "hausdorff95_mm", of_all=False) == "2.000 (1.000 to 3.000; 9 images)"
    assert text.mean(figure, "hausdorff95_mm", of_all=True) == "2.000 (1.000 to 3.000)"
    table, rows = scattered(6, 2, 0, 0)
    metrics = evaluate.as_table(list(evaluate.lung_figures(rows, table, Evaluate(bootstrap=20))))
    reported = list(lungs.means(metrics))
    assert "Right lung: missed in 2 images, whose Dice is 0." in reported
    assert any(
        line.startswith("Right lung: Precision, 95 % Hausdorff, pixels")
        and "mean of 4 of 6 images" in line
        for line in reported
    )
