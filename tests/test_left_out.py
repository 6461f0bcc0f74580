"""Each source is left out once, by patient, and measured by models that have not seen it."""

import polars as pl
import pytest
from made_up import manifest

from hilum.config import Split
from hilum.pipeline import left_out, split


def three_sources(lacking=()):
    """Forty patients of each of three sources; those of sources `lacking` are all without."""
    rows = [
        (f"{source}{number}", f"{source}{number}", source, 0 if source in lacking else number % 2)
        for source in ("here", "there", "yonder")
        for number in range(40)
    ]
    return manifest(rows)


def divided(of, same=()):
    table, _ = split.divide(of, Split(), same=same)
    return table, left_out.divide(table, of, ["tuberculosis"], 0)


def test_each_source_is_the_test_part_once_and_no_patient_of_it_is_trained_on():
    of = three_sources()
    table, plan = divided(of)
    assert list(plan.tables) == ["here", "there", "yonder"] and plan.skipped == {}
    for source, parts in plan.tables.items():
        test = parts.filter(pl.col("part") == "test")
        assert set(test["source"]) == {source} and test.height == 40
        others = parts.filter(pl.col("part") != "test")
        assert source not in others["source"] and set(others["part"]) == {"train", "tune"}
        assert parts.height == table.height


def test_a_patient_of_two_sources_is_not_trained_on_where_either_is_left_out():
    of = three_sources()
    _, plan = divided(of, same=[("made/here0", "made/there0")])
    parts = plan.tables["here"]
    group = parts.filter(pl.col("image_id") == "made/here0")["group"][0]
    assert parts.filter(pl.col("group") == group)["image_id"].to_list() == ["made/here0"]
    assert parts.filter(pl.col("image_id") == "made/there0").height == 0


def test_a_source_without_which_nothing_can_be_trained_is_not_left_out_and_the_reason_named():
    _, plan = divided(three_sources(lacking=("there", "yonder")))
    assert list(plan.tables) == ["there", "yonder"]
    assert "lack a state of tuberculosis" in plan.skipped["here"]


def test_of_one_source_nothing_is_left_out():
    of = manifest([(f"a{number}", f"a{number}", "here", number % 2) for number in range(40)])
    _, plan = divided(of)
    assert plan.tables == {} and "no other source" in plan.skipped["here"]


@pytest.mark.parametrize("seed", [0, 3])
def test_the_same_seed_deals_alike(seed):
    of = three_sources()
    table, _ = split.divide(of, Split())
    first, again = (left_out.divide(table, of, ["tuberculosis"], seed) for _ in range(2))
    assert all(first.tables[source].equals(again.tables[source]) for source in first.tables)
