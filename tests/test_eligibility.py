"""Which images are excluded by what the data state, in which words, and how a recipe
includes them.
"""

import json
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import cohort

from hilum.annotations import acquisition, eligibility
from hilum.config import Recipe
from hilum.errors import BadRecipe

REASONS = [
    ((None, None, None), None),
    (("PA", "CHEST", "DX"), None),
    (("AP", None, "CR"), None),
    (("FRONTAL", "CHESTABDOMEN", "XR"), None),
    (("LATERAL", "CHEST", "DX"), "lateral view"),
    (("OBLIQUE", None, None), "oblique view"),
    (("DECUBITUS", None, None), "decubitus view"),
    (("PA", "HAND", "DX"), "body part HAND"),
    ((None, None, "CT"), "modality CT"),
    (("LATERAL", "HAND", "MR"), "lateral view, body part HAND, modality MR"),
    ((None, "STANDARD FILM", None), None),
    ((None, None, "SC"), None),
    ((None, None, "BLOCKBUSTER"), None),
]
STATED = st.tuples(
    st.sampled_from([None, *acquisition.VIEWS]),
    st.sampled_from([None, "CHEST", "HAND", "KNEE", "FILM"]),
    st.sampled_from([None, "DX", "CT", "OT"]),
)


def table(rows) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys(eligibility.COLUMNS, pl.String), orient="row")


@pytest.mark.parametrize(("stated", "reason"), REASONS)
def test_a_reason_says_what_is_stated_and_what_is_not_stated_is_no_reason(stated, reason):
    assert eligibility.reason(*stated) == reason


@given(
    st.lists(STATED, max_size=20), st.lists(st.sampled_from(["LATERAL", "hand", "CT"]), max_size=2)
)
def test_a_table_has_the_reason_of_each_of_its_rows(rows, include):
    assert eligibility.reasons(table(rows), include).to_list() == [
        eligibility.reason(*row, include) for row in rows
    ]


@given(st.lists(STATED, min_size=1, max_size=20))
def test_the_setting_that_is_offered_includes_every_image(rows):
    include = json.loads(eligibility.include_setting(table(rows)).removeprefix("include = "))
    assert eligibility.reasons(table(rows), include).null_count() == len(rows)
    assert eligibility.unknown_terms(include) == []


def test_an_image_stays_out_while_anything_that_excludes_it_is_not_listed():
    assert eligibility.reason("LATERAL", "HAND", "DX", ["lateral"]) == "body part HAND"
    assert eligibility.reason("LATERAL", "HAND", "DX", ["lateral", "HAND"]) is None
    assert eligibility.reason("LATERAL", "HAND", "CT", ["all"]) is None


def test_every_value_means_one_thing_in_include():
    assert len(set(eligibility.terms())) == len(eligibility.terms())
    assert not {*acquisition.FRONTAL_VIEWS, *eligibility.RADIOGRAPHY, "CHEST"} & set(
        eligibility.terms()
    )


def test_a_recipe_refuses_a_word_that_nothing_is_called_and_names_the_nearest():
    assert Recipe.from_sections(
        {"split": {"include": ["LATERAL", "hand", "all"]}}
    ).split.include == (
        "LATERAL",
        "hand",
        "all",
    )
    with pytest.raises(
        BadRecipe,
        match=r"\[split\] include: no view, body part or modality is called 'LATERL': did you mean 'LATERAL'",
    ):
        Recipe.from_sections({"split": {"include": ["laterl"]}})


def test_a_manifest_without_what_is_excluded_keeps_the_others_as_they_are():
    whole = cohort(6)
    assert whole.eligible() is whole
    side = pl.when(pl.col("patient_id") == "made/p00002").then(pl.lit("LATERAL"))
    mixed = replace(whole, table=whole.table.with_columns(view=side))
    assert mixed.eligible().table["patient_id"].to_list() == [
        f"made/p0000{n}" for n in (0, 1, 3, 4, 5)
    ]
    assert eligibility.unstated(mixed.table) == {"view": 5}
