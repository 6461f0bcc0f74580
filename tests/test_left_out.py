"""Each source is left out once, by patient, and measured by models that have not seen it."""

from dataclasses import replace

import polars as pl
import pytest
from conftest import hilum
from made_up import manifest

from benchmarks._lib.small_job import small_job
from hilum.config import Split
from hilum.pipeline import evaluate, left_out, split
from hilum.reporting import calls_summary
from hilum.reporting.context import Context
from hilum.reporting.sections import calls
from hilum.run_folder import Run
from hilum.runs import compare, leave_one_out
from hilum.runs.finished_run import FinishedRun


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


# ---------------------------------------------------------------------------- a run

QUICKER = {
    "epochs = 2\nleast_steps = 8": "epochs = 1\nleast_steps = 2",
    "epochs = 1\nleast_steps = 4": 'model = "linear_probe"',
    "bootstrap = 100": 'bootstrap = 100\nleave_out = "source"',
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of two sources, each left out once, whose models are trained no longer than need be."""
    folder = tmp_path_factory.mktemp("left_out")
    recipe = small_job(folder, images=48)
    words = recipe.read_text()
    for before, after in QUICKER.items():
        assert before in words
        words = words.replace(before, after)
    recipe.write_text(words)
    done = hilum("run", recipe, "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    return Run(folder / "run")


def test_every_labelled_image_is_scored_once_by_models_without_its_source(made):
    scores = made.table("evaluate", evaluate.LEFT_OUT).filter(pl.col("task") == "finding")
    leading = scores.filter(pl.col("concept") == made.summary("split")["finding"])
    assert leading["image_id"].is_unique().all() and leading["source"].n_unique() == 2
    for number, (source, one) in enumerate(left_out.runs(made, made.recipe())):
        trained = one.table("train", "train/training.parquet")["image_id"]
        of_source = leading.filter(pl.col("source") == source)
        assert set(of_source["fold"]) == {number}
        assert not set(of_source["image_id"]) & set(trained)


def test_figures_at_sources_left_out_stand_beside_those_of_the_test_part(made):
    metrics = made.table("evaluate", evaluate.METRICS)
    without = metrics.filter(pl.col("part") == left_out.PART)
    assert {"finding", "anomaly", "lungs"} >= set(without["task"]) >= {"finding", "anomaly"}
    assert {"all", "montgomery", "shenzhen"} == set(without["source"])
    page = (made.folder / "report.html").read_text()
    assert "at a source left out" in page and "left out" in page.split('id="calls"')[1]
    assert any("at sources left out" in name for name in made.summary("evaluate"))


def test_the_report_names_the_sources_that_could_not_be_left_out(made, monkeypatch):
    context = Context.of(made, made.recipe())
    assert calls_summary.not_left_out(context) == ""
    some = left_out.plan(made, made.recipe())
    lacking = {"shenzhen": "the other sources lack a state of tuberculosis"}
    monkeypatch.setattr(left_out, "plan", lambda run, recipe: replace(some, skipped=lacking))
    named = "Not left out: shenzhen: the other sources lack a state of tuberculosis."
    cards = {title: words for title, _, words in calls_summary.headlines(context)}
    assert cards["Calls of tuberculosis, at a source left out"].endswith(named)
    assert calls.section(context).not_left_out == named
    why = calls_summary.why_not_measured(context)
    assert named in why and "Set leave_out" not in why


def test_two_runs_are_compared_at_sources_left_out_too(made):
    tasks = set(compare.compare(made, made).table["task"])
    assert "finding at sources left out" in tasks and "finding" in tasks


def test_sets_are_trained_together_but_one_and_figures_are_those_of_the_run(made, tmp_path):
    member = FinishedRun("both", made)
    recipe = leave_one_out.recipe_of([member, member])
    assert recipe.evaluate.leave_out == "source" and recipe.data == member.recipe.data
    table = leave_one_out.table_of(made, tmp_path)
    assert set(table["model"]) == {leave_one_out.OTHERS}
    assert set(table["set"]) == {"montgomery", "shenzhen"}
    metrics = made.table("evaluate", evaluate.METRICS).filter(pl.col("part") == left_out.PART)
    row = table.filter((pl.col("task") == "finding") & (pl.col("set") == "shenzhen")).row(
        0, named=True
    )
    same = metrics.filter(
        (pl.col("source") == "shenzhen")
        & (pl.col("task") == "finding")
        & (pl.col("concept") == row["concept"])
        & (pl.col("metric") == "specificity")
    )
    assert row["transferred_specificity"] == pytest.approx(same["value"][0], nan_ok=True)
    assert (tmp_path / leave_one_out.CSV).exists()
