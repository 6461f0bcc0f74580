"""Targets: every state becomes what the recipe's policy says, and all that became something else is
reported.
"""

import numpy as np
import pytest

from hilum.config import Classify, Recipe
from hilum.dataset.manifest import COLUMNS, Manifest
from hilum.errors import BadRecipe, NotFound
from hilum.pipeline.label_policy import SOFT, targets, wanted

CONCEPTS = ("tuberculosis", "effusion")
STATES = {  # image: data set, tuberculosis, effusion
    "a": ("one", 1, None),
    "b": ("one", 0, None),
    "c": ("one", -1, None),
    "d": ("one", None, None),
    "e": ("two", 1, 1),
    "f": ("two", None, -1),
    "g": ("two", 0, None),
    "h": ("three", None, 0),
}
NAN = float("nan")


@pytest.fixture
def manifest(tmp_path):
    images = [
        [f"{name}", dataset, dataset, f"p{name}", f"{name}.png", *[None] * (len(COLUMNS) - 5)]
        for name, (dataset, *_) in STATES.items()
    ]
    labels = [
        [name, concept, state, concept, "test", "column", *[None] * 4]
        for name, (_, *states) in STATES.items()
        for concept, state in zip(CONCEPTS, states, strict=True)
        if state is not None
    ]
    return Manifest.of(tmp_path, images, labels, [])


@pytest.mark.parametrize(
    "uncertain, unmentioned, tuberculosis, effusion",
    [
        (
            "ignore",
            "ignore",
            [1, 0, NAN, NAN, 1, NAN, 0, NAN],
            [NAN, NAN, NAN, NAN, 1, NAN, NAN, 0],
        ),
        ("zeros", "ignore", [1, 0, 0, NAN, 1, NAN, 0, NAN], [NAN, NAN, NAN, NAN, 1, 0, NAN, 0]),
        ("ones", "ignore", [1, 0, 1, NAN, 1, NAN, 0, NAN], [NAN, NAN, NAN, NAN, 1, 1, NAN, 0]),
        (
            "soft",
            "ignore",
            [1, 0, SOFT, NAN, 1, NAN, 0, NAN],
            [NAN, NAN, NAN, NAN, 1, SOFT, NAN, 0],
        ),
        # not mentioned is absent only where the data set states the finding at all: set one knows
        # no effusion, set three no tuberculosis
        ("ignore", "zeros", [1, 0, NAN, 0, 1, 0, 0, NAN], [NAN, NAN, NAN, NAN, 1, NAN, 0, 0]),
    ],
)
def test_each_policy_makes_of_each_state_what_it_says(
    manifest, uncertain, unmentioned, tuberculosis, effusion
):
    found = targets(manifest, CONCEPTS, uncertain=uncertain, unmentioned=unmentioned)
    assert found.values.dtype == np.float32 and found.image_ids.to_list() == list(STATES)
    np.testing.assert_array_equal(found.values, np.float32([tuberculosis, effusion]).T)


def test_nothing_is_relabelled_silently(manifest):
    soft = targets(manifest, CONCEPTS, uncertain="soft", unmentioned="zeros").report()
    assert soft["tuberculosis"] == (
        "2 present, 2 absent, 1 uncertain trained on as 0.7, 2 not mentioned trained on as 0,"
        " 1 not mentioned left out"
    )
    ignored = targets(manifest, CONCEPTS).report()
    assert (
        ignored["tuberculosis"]
        == "2 present, 2 absent, 1 uncertain left out, 3 not mentioned left out"
    )
    assert (
        ignored["effusion"] == "1 present, 1 absent, 1 uncertain left out, 5 not mentioned left out"
    )


def test_rows_and_columns_are_taken_by_name_in_the_targets_order(manifest):
    found = (
        targets(manifest, CONCEPTS)
        .of(manifest.table["image_id"].filter(manifest.table["image_id"].is_in(["e", "b"])))
        .only(["effusion"])
    )
    assert found.image_ids.to_list() == ["b", "e"] and found.concepts == ("effusion",)
    np.testing.assert_array_equal(found.values, np.float32([[NAN], [1]]))


def test_learnable_is_what_has_both_states_after_the_policy(manifest):
    first = manifest.table["image_id"].head(7)
    assert targets(manifest, CONCEPTS).of(first).learnable() == ("tuberculosis",)
    assert targets(manifest, CONCEPTS, unmentioned="zeros").of(first).learnable() == CONCEPTS


def test_wanted_concepts_are_named_once_the_leading_one_first_and_an_unlabelled_one_is_refused(
    manifest,
):
    assert wanted(manifest, "tuberculosis", Classify()) == ("tuberculosis",)
    assert (
        wanted(manifest, "tuberculosis", Classify(other_findings=("effusion", "tuberculosis")))
        == CONCEPTS
    )
    assert wanted(manifest, "tuberculosis", Classify(other_findings=("all",))) == CONCEPTS
    with pytest.raises(NotFound, match="'efusion': did you mean 'effusion'"):
        wanted(manifest, "tuberculosis", Classify(other_findings=("efusion",)))


@pytest.mark.parametrize(
    "key, value",
    [("uncertain", "half"), ("unmentioned", "ones"), ("other_findings", ["all", "effusion"])],
)
def test_a_policy_that_is_none_is_refused(key, value):
    with pytest.raises(BadRecipe, match=rf"\[classify\] {key} must be"):
        Recipe.from_sections({"classify": {key: value}})
