"""`hilum cross-evaluate`: every model on every set; what it may score, which thresholds it uses,
and what it refuses.
"""

import json
import math
import shutil
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from conftest import hilum
from sklearn.metrics import roc_auc_score

from hilum import storage
from hilum.cli import console
from hilum.config import Data, Evaluate
from hilum.drawing import heat_table
from hilum.errors import HilumError, Mismatch
from hilum.imaging import synthetic
from hilum.imaging.files import raster
from hilum.pipeline import audit, cache, crop, evaluate, ingest, predict, split
from hilum.pipeline._training import digests
from hilum.progress import quietly
from hilum.run_folder import Run
from hilum.runs import cross_evaluate, cross_evaluation_figures, cross_evaluation_page
from hilum.statistics.metrics import discrimination


def watch(step):
    return nullcontext(quietly)


def do(run, recipe, name, step):
    made, summary = step.make(run, recipe, quietly)
    run.finish(name, step.made_from(run, recipe) or {}, made, summary)


def begun(small_run, data, folder) -> tuple[Run, object]:
    """A run of `data` by the small run's recipe, up to its split, with the small run's models
    copied in.
    """
    recipe = replace(small_run.recipe(), data=Data(str(data)), evaluate=Evaluate(bootstrap=100))
    run = Run(folder)
    run.write_recipe(recipe)
    for name, step in {"ingest": ingest, "cache": cache, "audit": audit, "split": split}.items():
        do(run, recipe, name, step)
    for name in ("segment", "train"):
        shutil.copytree(small_run / name, run / name)
        run.finish(name, {}, small_run.made(name), small_run.summary(name))
    (run / "crop").mkdir()
    shutil.copy(small_run / crop.TYPICAL, run / crop.TYPICAL)
    run.finish("crop", {}, digests(run, [crop.TYPICAL]), {})
    return run, recipe


def scored(run) -> None:
    """What `predict` would leave, by the very chain that the matrix uses."""
    member = cross_evaluate.FinishedRun("it", run)
    empty = pl.DataFrame(
        [[*["x"] * 4, 0.0, ""]], schema=predict.COLUMNS, orient="row"
    ).with_columns(task=pl.lit("finding"), concept=pl.lit(member.finding))
    storage.write_table(run / predict.SCORES, empty)
    run.finish("predict", {}, digests(run, [predict.SCORES]), {})
    found = cross_evaluate.score(
        member, member, member.split.filter(pl.col("part") != "train").select("image_id"), quietly
    )
    table = (
        found.join(member.split.select("image_id", "part"), on="image_id")
        .with_columns(quality_flags=pl.lit(""))
        .select(list(predict.COLUMNS))
    )
    storage.write_table(run / predict.SCORES, table)
    run.finish("predict", {}, digests(run, [predict.SCORES]), {})


def drawn(folder, count=30, seed=3):
    rng = np.random.default_rng(seed)
    for number in range(count):
        made = synthetic.draw(
            synthetic.anatomy(rng),
            rng,
            height=150,
            width=140,
            disease="effusion" if number % 2 else None,
        )
        raster.write_png(
            folder / ("TUBERCULOSIS" if number % 2 else "NORMAL") / f"{seed}-{number}.png",
            made.pixels,
        )
    return folder


@pytest.fixture(scope="module")
def other_run(small_run, tmp_path_factory):
    run, _ = begun(
        small_run,
        drawn(tmp_path_factory.mktemp("other")),
        tmp_path_factory.mktemp("runs") / "other",
    )
    scored(run)
    return run


@pytest.fixture
def members(small_run, other_run):
    return [
        cross_evaluate.FinishedRun("small", small_run),
        cross_evaluate.FinishedRun("other", other_run),
    ]


@pytest.fixture(scope="module")
def made(small_run, other_run, tmp_path_factory):
    to = tmp_path_factory.mktemp("matrix")
    return to, cross_evaluate.cross_evaluate(
        [
            cross_evaluate.FinishedRun("small", small_run),
            cross_evaluate.FinishedRun("other", other_run),
        ],
        to,
        watch,
    )


def row(table, model, of, stage="finding"):
    return table.row(
        by_predicate=(pl.col("model") == model) & (pl.col("set") == of) & (pl.col("task") == stage),
        named=True,
    )


def test_every_model_is_measured_on_every_set(made):
    to, table = made
    assert (
        table.schema == pl.Schema(cross_evaluation_figures.COLUMNS)
        and table.height == 8
        and set(table["task"]) == {"finding", "anomaly"}
    )
    assert (
        storage.read_table(to / cross_evaluate.TABLE).equals(table)
        and (to / cross_evaluate.CSV).read_text().count("\n") == 9
    )


def test_its_own_set_is_the_test_part_with_the_figures_of_evaluation(made, small_run):
    own, reported = row(made[1], "small", "small"), storage.read_table(small_run / evaluate.METRICS)
    for name, measure in (
        ("auroc", "auroc"),
        ("sensitivity", "transferred_sensitivity"),
        ("specificity", "reoptimised_specificity"),
    ):
        same = reported.filter(
            (pl.col("task") == "finding")
            & (pl.col("part") == "test")
            & (pl.col("source") == "all")
            & (pl.col("metric") == name)
        ).row(0, named=True)
        assert (
            own[measure] == pytest.approx(same["value"], nan_ok=True)
            and own["images"] == same["images"]
        )


def test_a_foreign_set_is_measured_without_its_tune_part_and_a_threshold_is_chosen_there(
    made, members
):
    (small, other), (to, table) = members, made
    scores = storage.read_table(to / "scores/small--other.parquet").filter(
        pl.col("task") == "finding"
    )
    known = scores.join(other.truth("tuberculosis"), on="image_id")
    measured, tune = known.filter(pl.col("part") != "tune"), known.filter(pl.col("part") == "tune")
    reported = row(table, "small", "other")
    assert reported["images"] == measured.height == 30 - tune.height and reported["left_out"] == 0
    assert reported["auroc"] == pytest.approx(roc_auc_score(measured["state"], measured["score"]))
    own = (
        small.scores.filter(pl.col("task") == "finding")
        .join(small.truth("tuberculosis"), on="image_id")
        .filter(pl.col("part") == "tune")
    )
    for kind, rows in (("transferred", own), ("reoptimised", tune)):
        threshold = discrimination.youden_threshold(
            rows["state"].to_numpy(), rows["score"].to_numpy()
        )
        called = measured["score"] >= threshold
        assert reported[f"{kind}_threshold"] == threshold
        assert reported[f"{kind}_sensitivity"] == pytest.approx(
            called.filter(measured["state"] == 1).mean()
        )
        assert reported[f"{kind}_specificity"] == pytest.approx(
            1 - called.filter(measured["state"] == 0).mean()
        )


def test_scores_are_those_that_the_run_gives_the_file_itself(made, small_run, members):
    other = members[1]
    scores = storage.read_table(made[0] / "scores/small--other.parquet")
    image_id, path = other.data.manifest.table.select("image_id", "path").row(0)
    said = predict.RunModels.of(small_run).read(other.data.manifest.root / path).scores
    for (stage, concept), expected in {
        (stage, concept): score for stage, found in said.items() for concept, score in found.items()
    }.items():
        stored = scores.filter(
            (pl.col("image_id") == image_id)
            & (pl.col("task") == stage)
            & (pl.col("concept") == concept)
        )
        assert stored["score"].item() == pytest.approx(expected, rel=1e-5)


def test_scores_are_kept_and_made_again_where_the_set_has_changed(made, members, monkeypatch):
    to, table = made
    with monkeypatch.context() as patched:
        patched.setattr(cross_evaluate, "score", lambda *reported: pytest.fail("scored again"))
        assert cross_evaluate.cross_evaluate(members, to, watch).equals(table)
    monkeypatch.setattr(cross_evaluate, "VERSION", 0)
    heard = []
    monkeypatch.setattr(
        cross_evaluate,
        "score",
        lambda model, target, rows, progress: (
            heard.append((model.name, target.name)) or pl.DataFrame(schema=cross_evaluate.SCORES)
        ),
    )
    cross_evaluate.cross_evaluate(members, to, watch)
    assert heard == [("small", "other"), ("other", "small")]
    monkeypatch.undo()
    assert cross_evaluate.cross_evaluate(members, to, watch).equals(table)


def test_an_image_that_a_model_was_trained_on_stops_everything(small_run, members, tmp_path):
    """A training image of the one run is planted, under another name, among the other's test
    images.
    """
    small = members[0]
    planted = small.data.manifest.table.join(
        small.split.filter(pl.col("part") == "train"), on="image_id"
    )["path"][0]
    data = drawn(tmp_path / "data")
    shutil.copy(small.data.manifest.root / planted, data / "NORMAL" / "planted.png")
    run, _ = begun(small_run, data, tmp_path / "run")
    scored(run)
    with pytest.raises(Mismatch, match=r"1 images of leaky .*planted"):
        cross_evaluate.cross_evaluate(
            [small, cross_evaluate.FinishedRun("leaky", run)], tmp_path / "to", watch
        )
    assert not (tmp_path / "to").exists(), "nothing was scored before"


def test_patients_that_a_model_has_met_are_left_out_of_another_run_of_the_same_set(
    small_run, tmp_path
):
    one, again = (
        cross_evaluate.FinishedRun("one", small_run),
        cross_evaluate.FinishedRun("again", small_run),
    )
    left = cross_evaluate.unseen(one, again)
    held = one.split.filter(pl.col("part") != "test")["patient_id"]
    patients = one.split.join(left, on="image_id", how="semi")["patient_id"]
    assert left.height == (one.split["part"] == "test").sum() and not set(patients) & set(held)


def test_images_made_otherwise_and_a_single_run_are_refused(members, tmp_path):
    small, other = members
    changed = cross_evaluate.FinishedRun("changed", other.run)
    changed.__dict__["recipe"] = replace(
        other.recipe, pixels=replace(other.recipe.pixels, size=128)
    )
    with pytest.raises(Mismatch, match=r"64 pixels.*128 pixels.*alike in both recipes"):
        cross_evaluate.cross_evaluate([small, changed], tmp_path, watch)
    with pytest.raises(HilumError, match="two runs or more"):
        cross_evaluate.cross_evaluate([small], tmp_path, watch)


def test_what_is_undefined_is_nan_with_its_reason():
    none = pl.DataFrame(
        {"group": [], "state": [], "score": []},
        schema={"group": pl.String, "state": pl.Int8, "score": pl.Float64},
    )
    reported = cross_evaluation_figures.figures(none, float("nan"), 0.5, Evaluate(bootstrap=100))
    assert (
        math.isnan(reported["auroc"])
        and "no image of this set" in reported["reason"]
        and "no threshold to transfer" in reported["reason"]
    )
    same = pl.DataFrame({"group": ["a", "b"], "state": [1, 1], "score": [0.1, 0.9]})
    reported = cross_evaluation_figures.figures(same, 0.5, 0.5, Evaluate(bootstrap=100))
    assert (
        math.isnan(reported["auroc"])
        and math.isnan(reported["transferred_specificity"])
        and reported["transferred_sensitivity"] == 0.5
        and "one class" in reported["reason"]
    )
    assert json.loads(json.dumps(console.plain(pl.DataFrame([reported]))))[0]["auroc"] is None


def test_the_page_stands_alone_and_escapes_names(made):
    hostile = made[1].with_columns(
        model=pl.col("model").str.replace("small", "<script>"),
        set=pl.col("set").str.replace("small", "<script>"),
    )
    page = cross_evaluation_page.page(hostile, ["<script>", "other"])
    assert (
        "<script" not in page
        and "&lt;script&gt;" in page
        and "http" not in page
        and page.count("<svg") == 2
    )
    assert page == cross_evaluation_page.page(hostile, ["<script>", "other"])


def test_a_heat_table_is_darker_where_the_number_is_higher_and_says_where_there_is_none():
    cells = {
        ("a", "a"): heat_table.Cell(1.0),
        ("a", "b"): heat_table.Cell(0.5, "below"),
        ("b", "b"): heat_table.Cell(float("nan"), hint="<why>"),
    }
    drawn = str(
        heat_table.heat_table(["a", "b"], ["a", "b"], cells, low=0.5, high=1.0, alt_text="it")
    )
    assert (
        'fill-opacity="0.550"' in drawn
        and drawn.count('fill-opacity="0.000"') == 2
        and drawn.count("<rect") == 3
    )
    assert ">–<" in drawn and "&lt;why&gt;" in drawn and ">below<" in drawn


def test_the_command_prints_the_table_and_the_same_as_json(
    small_run, other_run, tmp_path, monkeypatch
):
    from typer.testing import CliRunner

    from hilum.cli.verbs import app
    from hilum.cli.verbs import cross_evaluate as verb

    monkeypatch.setattr(verb, "performed", lambda source, *more: (None, Run(source), {}))
    arguments = [
        "cross-evaluate",
        str(small_run.folder),
        str(other_run.folder),
        "--out",
        str(tmp_path / "to"),
    ]
    done, as_json = (CliRunner().invoke(app, [*arguments, *more]) for more in ([], ["--json"]))
    assert done.exit_code == 0 and "sens transferred" in done.stdout
    assert cross_evaluate.PAGE in done.stdout
    assert len(json.loads(as_json.stdout)) == 8
    assert (
        "Traceback"
        not in hilum("cross-evaluate", tmp_path / "nowhere.toml", small_run.folder).stderr
    )
