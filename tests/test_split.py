"""What a split promises: by patient, stratified, stable under growth, and it refuses to be too
small.
"""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import cohort, manifest, parts

from hilum.config import Split
from hilum.errors import BadData, Mismatch, NotFound, TooFew
from hilum.pipeline.split import refuse_leak, split, target

FINDING = "tuberculosis"


def divide(of, *, finding=FINDING, same=(), kept=None, **changes):
    return split(of, Split(**changes), finding=finding, same=same, kept=kept)


@settings(max_examples=40, deadline=None)
@given(
    people=st.lists(
        st.tuples(
            st.integers(1, 4), st.sampled_from(["east", "west"]), st.sampled_from([0, 1, -1, None])
        ),
        min_size=60,
        max_size=90,
    ),
    seed=st.integers(0, 10_000),
)
def test_no_patient_is_ever_in_two_parts(people, seed):
    rows = [
        (f"i{p}-{i}", f"p{p}", source, state)
        for p, (count, source, state) in enumerate(people)
        for i in range(count)
    ]
    table = divide(manifest(rows), finding=None, seed=seed)
    assert table.group_by("patient_id").agg(pl.col("part").n_unique())["part"].max() == 1
    assert table.height == len(rows) and table["part"].null_count() == 0


def test_fractions_hold_in_every_stratum_of_source_and_label():
    table = divide(cohort(400), train=0.7, tune=0.1, test=0.2)
    for _, stratum in table.group_by("source", "state"):
        counts = dict(stratum["part"].value_counts().iter_rows())
        assert (
            abs(counts["train"] - 70) <= 2
            and abs(counts["tune"] - 10) <= 2
            and abs(counts["test"] - 20) <= 2
        )


@pytest.mark.parametrize("more", [1, 50, 400])
def test_growing_the_set_moves_nobody(more):
    before = divide(cohort(100))
    after = divide(cohort(100 + more), kept=before)
    assert parts(before).items() <= parts(after).items()


def test_growth_makes_up_for_an_uneven_start():
    uneven = divide(cohort(100)).with_columns(
        part=pl.when(pl.col("part") == "test").then(pl.lit("train")).otherwise("part")
    )
    after = divide(cohort(1000), kept=uneven)
    assert abs((after["part"] == "test").mean() - 0.2) < 0.02


def test_the_order_of_files_does_not_matter():
    rows = [(f"i{n}", f"p{n}", "east", n % 2) for n in range(80)]
    assert parts(divide(manifest(rows), min_per_class=2)) == parts(
        divide(manifest(rows[::-1]), min_per_class=2)
    )


def test_another_seed_gives_another_split():
    assert parts(divide(cohort(100), seed=0)) != parts(divide(cohort(100), seed=1))


def test_patients_with_one_image_between_them_go_together():
    pairs = [(f"made/{n:05d}-0", f"made/{n + 50:05d}-0") for n in range(50)]
    where = parts(divide(cohort(100), same=pairs, min_per_class=2))
    assert all(where[f"made/p{n:05d}"] == where[f"made/p{n + 50:05d}"] for n in range(50))


def test_a_part_with_too_few_positives_is_refused_with_its_number():
    with pytest.raises(TooFew, match=r"tune would hold 2 images with tuberculosis"):
        divide(cohort(40))


def test_a_given_split_is_used_where_it_is_sound():
    people = [(f"i{n}", f"p{n}", "east", n // 3 % 2) for n in range(120)]
    official = [("train", "tune", "test")[n % 3] for n in range(120)]
    table = divide(manifest(people, given=official), official="use")
    assert table["part"].to_list() == [
        part for _, part in sorted(zip([f"made/{p[0]}" for p in people], official, strict=True))
    ]


def test_a_given_split_without_a_tune_part_gets_one_out_of_train():
    people = [(f"i{n:03d}", f"p{n}", "east", n % 2) for n in range(200)]
    official = ["test" if n % 4 > 1 else "train" for n in range(200)]
    table = divide(manifest(people, given=official))
    assert table.filter(pl.Series(official) == "test")["part"].unique().to_list() == ["test"]
    assert 8 <= (table["part"] == "tune").sum() <= 17


@pytest.mark.parametrize(("wanted", "images"), [("auto", 101), ("use", 10)])
def test_a_given_tune_part_far_below_its_fraction_is_dealt_anew_unless_it_is_requested(
    wanted, images
):
    people = [(f"i{n:04d}", f"p{n}", "east", n % 2) for n in range(1000)]
    official = ["test" if n < 200 else "tune" if n < 210 else "train" for n in range(1000)]
    table = divide(manifest(people, given=official), official=wanted)
    assert abs((table["part"] == "tune").sum() - images) <= 2
    assert (table["part"] == "test").sum() == 200


def test_a_given_split_that_tears_a_patient_apart_is_refused_or_left():
    people = [(f"i{n}", f"p{n // 2}", "east", n // 2 % 2) for n in range(200)]
    torn = manifest(people, given=["train", "test"] * 100)
    with pytest.raises(BadData, match="100 faults"):
        divide(torn, official="use")
    assert divide(torn)["part"].n_unique() == 3


def test_patients_joined_after_the_split_are_named_not_moved():
    before = divide(cohort(100))
    where = parts(before)
    trained = next(name for name, part in where.items() if part == "train")
    tested = next(name for name, part in where.items() if part == "test")
    pair = (trained.replace("/p", "/") + "-0", tested.replace("/p", "/") + "-0")
    with pytest.raises(BadData, match="train") as raised:
        divide(cohort(100), kept=before, same=[pair])
    assert trained in str(raised.value) and tested in str(raised.value)


def test_a_model_trained_on_a_test_image_is_refused():
    table = divide(cohort(100))
    tested = table.filter(pl.col("part") == "test").head(1)
    refuse_leak(table, table.filter(pl.col("part") == "train"), "model")
    with pytest.raises(Mismatch, match=tested["image_id"][0]):
        refuse_leak(table, pl.concat([table.filter(pl.col("part") == "train"), tested]), "model")
    with pytest.raises(Mismatch, match="not in the split"):
        refuse_leak(table, pl.DataFrame({"image_id": ["elsewhere/1"]}), "model")


def test_the_finding_is_the_one_with_most_images_of_its_rarer_state():
    assert target(cohort(10)) == FINDING
    assert target(manifest([("a", "a", "east", 1), ("b", "b", "east", 1)])) is None
    with pytest.raises(NotFound, match="did you mean 'tuberculosis'"):
        target(cohort(10), "tuberculoses")
