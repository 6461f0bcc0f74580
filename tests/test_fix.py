"""Corrections: proposed from issues, written for people, made when the folder is read, and undone
by taking the file away.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import hilum

from hilum import storage
from hilum.audit.issues import COLUMNS
from hilum.config import Data, Recipe
from hilum.dataset import corrections
from hilum.dataset.corrections import Correction
from hilum.dataset.manifest import Manifest
from hilum.dataset.readers import kaggle_masks, montgomery
from hilum.errors import BadData, HilumError, NotFound
from hilum.imaging.files import raster
from hilum.pipeline import ingest
from hilum.run_folder import Run
from hilum.runs import propose_corrections


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    montgomery.example(tmp_path / "data", images=6)
    return ingest.ingest(tmp_path / "data")


def images_of(manifest: Manifest) -> list[str]:
    return manifest.table["image_id"].to_list()


def issues(*rows: tuple[str, str, str | None, str | None]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            (rule, severity, first, second, f"seen in {first}", "Mend it.")
            for rule, severity, first, second in rows
        ],
        schema=COLUMNS,
        orient="row",
    )


def test_each_action_does_what_it_says_and_nothing_else(manifest):
    first, second, third, fourth, fifth, sixth = images_of(manifest)
    done = corrections.apply(
        manifest,
        [
            Correction(first, "leave out", rule="image-constant"),
            Correction(second, "keep one of pair", third, "duplicate-file"),
            Correction(fourth, "leave out mask"),
            Correction(fifth, "exchange mask sides"),
            Correction(sixth, "same patient as", third),
        ],
        "fixes.toml",
    )
    assert images_of(done) == [third, fourth, fifth, sixth]
    before, after = (
        dict(zip(images_of(one), one.table.iter_rows(named=True), strict=True))
        for one in (manifest, done)
    )
    assert after[fourth] == before[fourth] | {"right_lung_mask": None, "left_lung_mask": None}
    assert after[fifth] == before[fifth] | {
        "right_lung_mask": before[fifth]["left_lung_mask"],
        "left_lung_mask": before[fifth]["right_lung_mask"],
    }
    assert after[sixth] == before[sixth] | {"patient_id": before[third]["patient_id"]}
    assert after[third] == before[third]
    assert set(done.labels["image_id"]) <= set(images_of(done))


def test_each_correction_is_a_remark_that_names_the_file(manifest):
    first, second, third, *_ = images_of(manifest)
    done = corrections.apply(
        manifest,
        [
            Correction(first, "leave out", rule="image-constant"),
            Correction(second, "same patient as", third, why="one scar"),
        ],
        "fixes.toml",
    )
    reported = (
        done.remarks.filter(pl.col("message").str.contains("fixes.toml"))
        .select("path", "rule", "message")
        .rows()
    )
    path = dict(manifest.table.select("image_id", "path").iter_rows())
    assert reported == [
        (path[first], "dropped", "left out by fixes.toml: image-constant"),
        (path[second], "corrected", f"same patient as {third}, by fixes.toml: one scar"),
    ]


def test_the_order_of_entries_makes_no_difference_and_a_doubled_one_counts_once(manifest):
    first, second, third, fourth, *_ = images_of(manifest)
    entries = [
        Correction(first, "same patient as", second),
        Correction(third, "same patient as", second),
        Correction(fourth, "leave out"),
    ]
    straight = corrections.apply(manifest, entries, "f.toml")
    assert (
        corrections.apply(manifest, entries[::-1] + entries[:1], "f.toml").digest == straight.digest
    )
    assert (
        straight.table.filter(pl.col("image_id").is_in([first, second, third]))[
            "patient_id"
        ].n_unique()
        == 1
    )
    assert corrections.counts([*entries, *entries]) == {"leave out": 1, "same patient as": 2}


def test_lungs_that_are_drawn_are_left_out_or_exchanged_like_files(manifest):
    first, second = images_of(manifest)[:2]
    drawn = [
        [image, f"{side}_lung", f"{side} lung", "{}", "a.json", None]
        for image in (first, second)
        for side in ("right", "left")
    ]
    shaped = Manifest.of(
        manifest.root, manifest.table.rows(), manifest.labels, manifest.remarks.rows(), drawn
    )
    done = corrections.apply(
        shaped,
        [Correction(first, "leave out mask"), Correction(second, "exchange mask sides")],
        "f.toml",
    )
    assert done.shapes.select("image_id", "concept", "term").sort("concept").rows() == [
        (second, "left_lung", "right lung"),
        (second, "right_lung", "left lung"),
    ]


def test_all_that_does_not_fit_the_data_is_reported_at_once_with_the_nearest_names(manifest):
    first, second, *_ = images_of(manifest)
    wrong = [
        Correction(first[:-1] + "9", "leave out"),
        Correction(first, "same patient as", first),
        Correction(first, "keep one of pair", second),
        Correction(second, "leave out"),
    ]
    with pytest.raises(BadData) as raised:
        corrections.apply(manifest, wrong, "fixes.toml")
    assert (
        "3 faults" in str(raised.value)
        and "did you mean" in str(raised.value)
        and "names the image itself" in str(raised.value)
    )
    assert f"{second} is kept, but that is left out too" in str(raised.value)


def test_a_file_of_wrong_form_is_reported_whole(tmp_path):
    (tmp_path / "f.toml").write_text(
        'extra = 1\n[[correction]]\nimage_id = "a"\naction = "leav out"\n[[correction]]\naction = "same patient as"\nimage = "b"\n[[correction]]\nimage_id = 3\naction = "leave out"\n'
    )
    with pytest.raises(BadData) as raised:
        corrections.read(tmp_path / "f.toml")
    for part in (
        "no key is called 'extra'",
        "did you mean 'leave out'?",
        "entry 2: image_id is missing",
        "needs the second image",
        "image_id must be text",
    ):
        assert part in str(raised.value)
    (tmp_path / "f.toml").write_text("[[correction]\n")
    with pytest.raises(BadData, match="is not TOML"):
        corrections.read(tmp_path / "f.toml")
    with pytest.raises(NotFound, match="hilum propose-fixes"):
        corrections.read(tmp_path / "nowhere.toml")


def test_a_single_bracket_is_reported(tmp_path):
    (tmp_path / "f.toml").write_text('[correction]\nimage_id = "a"\naction = "leave out"\n')
    with pytest.raises(BadData, match="write the brackets twice"):
        corrections.read(tmp_path / "f.toml")


def test_issues_become_one_correction_for_each_image_worst_first():
    found = issues(
        ("image-constant", "error", "a", None),
        ("image-flat", "warning", "a", None),
        ("mask-empty", "warning", "a", None),
        ("mask-pieces", "warning", "b", None),
        ("mask-missing", "info", "c", None),
        ("no-patients", "warning", None, None),
        ("duplicate-patients", "warning", "d", "e"),
    )
    assert {
        (one.image_id, one.action, one.other, one.rule)
        for one in propose_corrections.proposed(found)
    } == {
        ("a", "leave out", None, "image-constant"),
        ("b", "leave out mask", None, "mask-pieces"),
        ("d", "same patient as", "e", "duplicate-patients"),
    }


def test_of_copies_that_chain_up_all_but_one_are_left_out():
    chain = issues(
        ("duplicate-file", "warning", "b", "a"),
        ("duplicate-file", "warning", "c", "b"),
        ("duplicate-pixels", "warning", "d", "c"),
    )
    assert {(one.image_id, one.other) for one in propose_corrections.proposed(chain)} == {
        ("b", "a"),
        ("c", "a"),
        ("d", "a"),
    }
    broken = issues(
        ("image-constant", "error", "a", None), ("duplicate-pixels", "warning", "b", "a")
    )
    assert [(one.image_id, one.action) for one in propose_corrections.proposed(broken)] == [
        ("a", "leave out")
    ]


def test_choices_are_by_rule_and_image_and_unknown_ones_are_refused():
    found = issues(
        ("image-flat", "warning", "set/a", None),
        ("image-flat", "warning", "set/b", None),
        ("mask-empty", "warning", "set/b", None),
    )
    assert len(propose_corrections.proposed(found, ["image-flat"])) == 2
    assert [one.rule for one in propose_corrections.proposed(found, ["mask-empty"], ["set/b"])] == [
        "mask-empty"
    ]
    with pytest.raises(NotFound, match="did you mean 'image-flat'"):
        propose_corrections.proposed(found, ["image-flatt"])
    with pytest.raises(NotFound, match="no image with issues"):
        propose_corrections.proposed(found, [], ["set/zzzz"])


def test_what_is_written_is_what_is_read(tmp_path):
    entries = [
        Correction('set/ü "quoted"', "keep one of pair", "set/b\\c", "duplicate-file", "a\nb"),
        Correction("set/a", "leave out"),
    ]
    text = propose_corrections.to_toml(entries, Path("data"), Path("data"), Path("fixes.toml"))
    (tmp_path / "f.toml").write_text(text)
    assert set(corrections.read(tmp_path / "f.toml")) == set(entries)
    assert all(action in text.partition("[[correction]]")[0] for action in corrections.ACTIONS)


def test_a_file_that_is_there_or_lies_in_the_data_is_not_written(tmp_path):
    montgomery.example(tmp_path / "data", images=4)
    run = Run(tmp_path / "run")
    run.write_recipe(Recipe(data=Data(folder=str(tmp_path / "data"))))
    storage.write_table(run / "issues.parquet", issues(("image-flat", "warning", "a", None)))
    run.finish("audit", {}, {"issues.parquet": ""}, {})
    (tmp_path / "mine.toml").write_text("# by hand\n")
    for place, words in (
        (tmp_path / "mine.toml", "by hand"),
        (tmp_path / "data" / "f.toml", "never written to"),
    ):
        with pytest.raises(HilumError, match=words):
            propose_corrections.propose_corrections(run, run.folder, ["image-flat"], [], place)
    assert (tmp_path / "mine.toml").read_text() == "# by hand\n"
    assert propose_corrections.propose_corrections(run, run.folder, [], [], None)[
        "action"
    ].to_list() == ["leave out"]


def test_corrections_that_the_run_was_made_with_are_kept(tmp_path):
    montgomery.example(tmp_path / "data", images=4)
    first = [Correction("set/b", "leave out mask", why="seen by hand")]
    (tmp_path / "first.toml").write_text(
        propose_corrections.to_toml(first, Path("data"), Path("data"), Path("first.toml"))
    )
    run = Run(tmp_path / "run")
    run.write_recipe(
        Recipe(data=Data(folder=str(tmp_path / "data"))).corrected_by(tmp_path / "first.toml")
    )
    storage.write_table(run / "issues.parquet", issues(("image-flat", "warning", "set/a", None)))
    run.finish("audit", {}, {"issues.parquet": ""}, {})
    propose_corrections.propose_corrections(
        run, run.folder, ["image-flat"], [], tmp_path / "second.toml"
    )
    assert [(one.image_id, one.action) for one in corrections.read(tmp_path / "second.toml")] == [
        ("set/a", "leave out"),
        ("set/b", "leave out mask"),
    ]


def test_from_audit_to_file_to_run_and_back(tmp_path):
    """The command line: what is left out is counted and reported, the data are untouched, and
    without the file all is as before.
    """
    data, run, file = tmp_path / "data", tmp_path / "run", tmp_path / "fixes.toml"
    kaggle_masks.example(data, images=12)
    spoilt = sorted((data / "CXR_png").iterdir())[1]
    raster.write_png(spoilt, np.full((300, 300), 7, np.uint8))
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    (tmp_path / "recipe.toml").write_text('[data]\nfolder = "data"\n[pixels]\nsize = 64\n')
    assert hilum("audit", tmp_path / "recipe.toml", "--out", run).returncode == 0
    plain = storage.read_json(run / "finished" / "ingest.json")
    listed = hilum("propose-fixes", run)
    assert (
        listed.returncode == 0
        and "image-constant" in listed.stdout
        and "leave out" in listed.stdout
    )
    assert hilum("propose-fixes", run, "--rule", "image-constant", "--out", file).returncode == 0
    assert [entry["image_id"] for entry in tomllib.loads(file.read_text())["correction"]] == [
        f"kaggle_masks/{spoilt.stem}"
    ]
    fixed = hilum("audit", tmp_path / "recipe.toml", "--out", run, "--corrections", file)
    assert (
        fixed.returncode == 0
        and "corrected by fixes.toml: leave out 1" in fixed.stdout
        and "error: image-constant" not in fixed.stdout
    )
    assert f"kaggle_masks/{spoilt.stem}" not in images_of(Manifest.read(run))
    assert hilum("audit", tmp_path / "recipe.toml", "--out", run).returncode == 0
    again = storage.read_json(run / "finished" / "ingest.json")
    assert (again["made"], again["summary"]) == (plain["made"], plain["summary"])
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


def test_a_recipe_names_its_corrections_from_its_own_place(tmp_path):
    (tmp_path / "recipe.toml").write_text('[data]\nfolder = "data"\ncorrections = "fixes.toml"\n')
    assert Recipe.read(tmp_path / "recipe.toml").data.corrections == str(tmp_path / "fixes.toml")
    assert Recipe.from_sections({"data": {"folder": "x"}}).data.corrections == ""
