"""The order in which masks are best corrected next: by uncertainty, novelty and density."""

import numpy as np
import polars as pl
import pytest

from hilum.errors import BadData
from hilum.inference import next_to_draw
from hilum.inference.next_to_draw import Mix

UNCERTAINTY, NOVELTY, DENSITY = Mix(1, 0, 0), Mix(0, 1, 0), Mix(0, 0, 1)


def candidates(*quality: float | None, **columns: list) -> pl.DataFrame:
    names = [f"image {number}" for number in range(len(quality))]
    return pl.DataFrame(
        {"image_id": names, "quality": quality, **columns}, schema_overrides={"quality": pl.Float64}
    )


def ids(found: pl.DataFrame) -> list[int]:
    return [int(name.removeprefix("image ")) for name in found["image_id"]]


def test_without_features_the_least_certain_mask_comes_first():
    found = next_to_draw.order(candidates(0.9, 0.5, 0.97, 0.0))
    assert ids(found) == [3, 1, 0, 2]
    assert found["rank"].to_list() == [1, 2, 3, 4]
    assert found["gain"].to_list() == pytest.approx([1.0, 0.5, 0.1, 0.03])
    assert found.schema == next_to_draw.COLUMNS


def test_disagreement_counts_as_much_as_the_estimate_and_only_where_it_is_known():
    table = candidates(0.9, 0.8, 0.85, disagreement=[0.5, 0.0, None])
    found = next_to_draw.order(table, mix=UNCERTAINTY)
    assert ids(found) == [0, 2, 1]
    assert found["gain"].to_list() == pytest.approx([0.3, 0.15, 0.1])


def test_a_mask_without_an_estimate_counts_as_the_median():
    found = next_to_draw.order(candidates(0.9, None, 0.5, 0.8))
    assert found.filter(image_id="image 1")["gain"].item() == pytest.approx(0.2)
    assert next_to_draw.order(candidates(None, None))["gain"].to_list() == [0.5, 0.5]


def test_the_least_certain_of_similar_images_stands_for_them_all():
    features = np.array([[0.0], [0.1], [0.2], [9.0], [9.1]])
    found = next_to_draw.order(candidates(0.5, 0.4, 0.5, 0.7, 0.8), features, mix=Mix(1, 1, 0))
    assert ids(found)[:2] == [1, 3]


def test_novelty_counts_from_corrected_images_which_are_not_listed():
    features = np.array([[0.0], [0.1], [9.0]])
    table = candidates(0.5, 0.5, 0.5, corrected=[True, False, False])
    found = next_to_draw.order(table, features, mix=NOVELTY)
    assert ids(found) == [2, 1]
    assert "unlike any image corrected or listed before" in found["why"][0]
    assert "; like an image corrected or listed before" in found["why"][1]


def test_novelty_never_counts_an_image_from_itself_twice():
    rng = np.random.default_rng(0)
    found = next_to_draw.order(candidates(*[0.5] * 30), rng.normal(size=(30, 3)), mix=NOVELTY)
    assert sorted(ids(found)) == list(range(30))
    assert found["gain"].is_between(0, 1).all()
    assert found["gain"].is_sorted(descending=True)


def test_density_prefers_what_many_images_are_like():
    features = np.array([[-9.0], [0.1], [0.0], [0.1], [9.0]])
    found = next_to_draw.order(candidates(0.5, 0.5, 0.5, 0.5, 0.5), features, mix=DENSITY)
    assert set(ids(found)[-2:]) == {0, 4}
    assert "like 60% of all images" in found["why"][0]


def test_the_order_depends_neither_on_rows_nor_on_units():
    rng = np.random.default_rng(1)
    table, features = candidates(*rng.random(50)), rng.normal(size=(50, 4))
    found = next_to_draw.order(table, features, limit=20, mix=Mix(1, 1, 1))
    shuffled = rng.permutation(50)
    again = next_to_draw.order(
        table[shuffled], features[shuffled] * [1, 10, 100, 1000] + 5, limit=20, mix=Mix(1, 1, 1)
    )
    assert found.height == 20
    assert ids(again) == ids(found)
    assert again["gain"].to_list() == pytest.approx(found["gain"].to_list(), rel=1e-3)


def test_large_sets_are_compared_in_parts_with_the_same_result(monkeypatch):
    rng = np.random.default_rng(2)
    table, features = candidates(*rng.random(50)), rng.normal(size=(50, 4))
    table = table.with_columns(corrected=pl.Series(rng.random(50) < 0.2))
    found = next_to_draw.order(table, features, mix=Mix(1, 1, 1))
    monkeypatch.setattr(next_to_draw, "_TOGETHER", 7)
    assert ids(next_to_draw.order(table, features, mix=Mix(1, 1, 1))) == ids(found)


def test_reasons_state_the_estimate_and_the_disagreement():
    table = candidates(0.71, 0.0, None, disagreement=[0.36, None, None])
    why = dict(next_to_draw.order(table).select("image_id", "why").iter_rows())
    assert why["image 0"] == "Estimated Dice 0.71; two predictions agree by a Dice of 0.64."
    assert why["image 1"] == "No lungs were found."
    assert why["image 2"] == "The quality of its mask is not known."


def test_nothing_is_listed_where_nothing_is_open():
    assert next_to_draw.order(candidates(), np.zeros((0, 3))).is_empty()
    assert next_to_draw.order(candidates(0.5, corrected=[True])).is_empty()


def test_images_that_are_the_same_are_all_listed():
    found = next_to_draw.order(candidates(0.5, 0.4), np.ones((2, 3)), mix=Mix(1, 1, 1))
    assert ids(found) == [1, 0]


def test_features_describe_each_image():
    images = np.random.default_rng(3).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    found = next_to_draw.describe(images)
    assert found.shape[0] == 3 and np.isfinite(found).all()
    assert next_to_draw.describe([]).shape == (0, found.shape[1])


@pytest.mark.parametrize(
    ("table", "features", "fault"),
    [
        (pl.DataFrame({"image_id": ["a"]}), None, "no column 'quality'"),
        (candidates(1.5), None, "quality is outside 0 to 1"),
        (candidates(0.5, disagreement=[-0.1]), None, "disagreement is outside 0 to 1"),
        (candidates(float("nan")), None, "quality is outside 0 to 1"),
        (candidates(0.5, corrected=["yes"]), None, "'corrected' is String, expected Boolean"),
        (pl.DataFrame({"image_id": ["a", "a"], "quality": [0.5, 0.5]}), None, "stands twice"),
        (candidates(0.5), np.zeros((2, 3)), r"features are \(2, 3\), expected \(1, values\)"),
        (candidates(0.5), np.array([[np.nan]]), "not finite"),
    ],
)
def test_what_cannot_be_ordered_is_refused(table, features, fault):
    with pytest.raises(BadData, match=fault):
        next_to_draw.order(table, features)
