"""Merging: several folders as one table, whatever their order, and never two of one thing."""

import re
import shutil

import polars as pl
import pytest
from conftest import hilum
from typer.testing import CliRunner

from hilum import plugins
from hilum.cli.verbs import app
from hilum.config import Data, Recipe
from hilum.dataset.manifest import Manifest
from hilum.dataset.merge import merge
from hilum.dataset.readers import folder as own
from hilum.errors import BadData, BadRecipe, HilumError, Mismatch, NotFound
from hilum.pipeline import ingest
from hilum.run_folder import Run
from hilum.runs import run_all

SETS = ("montgomery", "nih14", "kermany")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three data sets side by side; read only."""
    folder = tmp_path_factory.mktemp("sets")
    for name in SETS:
        plugins.load("readers", name).example(folder / name, images=12, seed=4)
    return folder


def read(*folders) -> Manifest:
    first, *also = map(str, folders)
    return ingest.read(Data(folder=first, also=tuple(also)))[0]


def own_folder(place, seed=0):
    own.example(place, images=4, seed=seed)
    return place


def test_a_merged_table_holds_every_image_label_shape_and_remark_of_each(data):
    merged, parts = (
        read(*(data / name for name in SETS)),
        [ingest.ingest(data / name) for name in SETS],
    )
    merged.check()
    for part in ("table", "labels", "shapes", "remarks"):
        assert getattr(merged, part).height == sum(getattr(one, part).height for one in parts)
    assert merged.table["dataset"].unique().sort().to_list() == sorted(SETS)
    for one in parts:
        assert set(one.table["patient_id"]) <= set(merged.table["patient_id"]) and set(
            one.table["image_id"]
        ) <= set(merged.table["image_id"])


def test_labels_of_two_sets_line_up_in_one_concept(data):
    merged = read(*(data / name for name in SETS))
    reported = merged.states("pneumonia").drop_nulls("state")
    assert set(reported["dataset"]) == {"kermany", "nih14"}


def test_paths_lead_from_the_deepest_common_folder_to_the_files(data):
    merged = read(data / "montgomery", data / "nih14")
    assert merged.root == data.resolve()
    for column in ("path", "lung_mask", "right_lung_mask", "left_lung_mask"):
        assert all((merged.root / place).is_file() for place in merged.table[column].drop_nulls())
    assert merged.table["right_lung_mask"].null_count() < merged.table.height


def test_remarks_keep_their_words_and_say_in_which_folder(data, tmp_path):
    for name in ("montgomery", "kermany"):
        shutil.copytree(data / name, tmp_path / name)
    (tmp_path / "montgomery" / "CXR_png" / "Thumbs.db").write_bytes(b"x")
    reported = {
        (row["path"], row["rule"])
        for row in read(tmp_path / "montgomery", tmp_path / "kermany").remarks.iter_rows(named=True)
    }
    assert ("montgomery/CXR_png/Thumbs.db", "dropped") in reported and (
        "kermany",
        "patients-unsure",
    ) in reported


def test_the_order_of_folders_makes_no_difference(data):
    digests = {
        read(*(data / name for name in order)).digest
        for order in (SETS, SETS[::-1], (SETS[1], SETS[2], SETS[0]))
    }
    assert len(digests) == 1


def test_a_merged_table_does_not_depend_on_where_the_folders_stand(data, tmp_path):
    shutil.copytree(data, tmp_path / "elsewhere")
    assert (
        read(data / "kermany", data / "nih14").digest
        == read(tmp_path / "elsewhere/nih14", tmp_path / "elsewhere/kermany").digest
    )


def test_one_folder_alone_is_not_changed(data):
    assert read(data / "nih14").digest == ingest.ingest(data / "nih14").digest


def test_folders_with_nothing_in_common_but_the_root_of_the_disk_are_merged(data, tmp_path):
    own_folder(tmp_path / "mine")
    elsewhere = ingest.ingest(tmp_path / "mine")
    near = ingest.ingest(data / "nih14")
    merged = merge([elsewhere, near])
    assert merged.root in elsewhere.root.parents and merged.root in near.root.parents
    assert all((merged.root / path).is_file() for path in merged.table["path"])


# -------------------------------------------------------------------------- own folders, split sets


def test_patients_of_two_own_folders_stay_two_though_their_numbers_are_the_same(tmp_path):
    for name in "ab":
        own_folder(tmp_path / name)
    merged, alone = read(tmp_path / "a", tmp_path / "b"), ingest.ingest(tmp_path / "a")
    assert merged.table["patient_id"].n_unique() == 2 * alone.table["patient_id"].n_unique()
    assert (
        set(merged.table["source"]) == {"a", "b"}
        and merged.table["image_id"].str.starts_with("folder/a/").sum() == alone.table.height
    )
    assert merged.labels.height == 2 * alone.labels.height


def test_own_folders_of_one_name_are_distinguished_by_what_lies_above(tmp_path):
    for name in ("east/chest", "west/chest"):
        own_folder(tmp_path / name)
    assert set(read(tmp_path / "east/chest", tmp_path / "west/chest").table["source"]) == {
        "east/chest",
        "west/chest",
    }


def test_adding_a_folder_to_a_merged_set_renames_nobody(data, tmp_path):
    own_folder(tmp_path / "a")
    own_folder(tmp_path / "b", seed=1)
    before, after = (
        read(tmp_path / "a", data / "nih14"),
        read(tmp_path / "a", data / "nih14", tmp_path / "b"),
    )
    assert set(before.table["patient_id"]) < set(after.table["patient_id"])


def test_a_data_set_in_two_folders_is_one_and_its_patients_keep_their_names(data, tmp_path):
    """Two images of one patient, each in a folder of its own."""
    whole = ingest.ingest(data / "nih14").table
    patient = whole.group_by("patient_id").len().filter(pl.col("len") > 1)["patient_id"].sort()[0]
    first, second = whole.filter(pl.col("patient_id") == patient)["path"].head(2)
    for name, left_out in (("one", second), ("two", first)):
        shutil.copytree(data / "nih14", tmp_path / name)
        for path in (tmp_path / name / "images").iterdir():
            if (path.name == left_out.split("/")[-1]) or (
                name == "two" and path.name != second.split("/")[-1]
            ):
                path.unlink()
    merged = read(tmp_path / "one", tmp_path / "two")
    assert (
        merged.table.filter(pl.col("patient_id") == patient).height >= 2
        and merged.table.height == whole.height
    )


# -------------------------------------------------------------------------------------- wrong input


def test_nothing_to_merge():
    with pytest.raises(HilumError, match="no folders"):
        merge([])


def test_a_folder_given_twice_is_named(data):
    with pytest.raises(HilumError, match=r"nih14 is given twice"):
        read(data / "nih14", data / "montgomery", data / "nih14" / ".." / "nih14")


def test_a_folder_within_another_is_named(tmp_path):
    own_folder(tmp_path / "a")
    with pytest.raises(HilumError, match=r"/a/NORMAL lies in .*/a, "):
        read(tmp_path / "a", tmp_path / "a" / "NORMAL")


def test_two_copies_of_a_data_set_are_refused_with_both_names_and_the_count(data, tmp_path):
    shutil.copytree(data / "montgomery", tmp_path / "copy")
    with pytest.raises(BadData, match=r"12 images, the first montgomery/MCUCXR") as raised:
        read(data / "montgomery", tmp_path / "copy")
    assert str(data / "montgomery") in str(raised.value) and str(tmp_path / "copy") in str(
        raised.value
    )


def test_a_folder_that_is_not_there_is_named(data, tmp_path):
    with pytest.raises(NotFound, match=r"no folder at .*/nowhere"):
        read(data / "nih14", tmp_path / "nowhere")


@pytest.mark.parametrize("value", ['"b"', "[1]", '["b", 2]', "true"])
def test_also_must_be_a_list_of_texts(tmp_path, value):
    (tmp_path / "r.toml").write_text(f'[data]\nfolder = "a"\nalso = {value}\n')
    with pytest.raises(BadRecipe, match=r"\[data\] also must be a list of texts"):
        Recipe.read(tmp_path / "r.toml")


# -------------------------------------------------------------------------------- recipe, run, verb


def test_folders_of_a_recipe_are_meant_from_its_own_place_and_survive_being_written(tmp_path):
    (tmp_path / "r.toml").write_text('[data]\nfolder = "a"\nalso = ["b", "sub/c"]\n')
    recipe = Recipe.read(tmp_path / "r.toml")
    assert recipe.data.folders == tuple(str(tmp_path / name) for name in ("a", "b", "sub/c"))
    (tmp_path / "again.toml").write_text(recipe.to_toml())
    assert Recipe.read(tmp_path / "again.toml") == recipe


def test_a_run_of_merged_sets_goes_on_in_any_order_and_refuses_other_folders(data, tmp_path):
    folders = [str(data / name) for name in SETS]
    run = Run(tmp_path / "run")

    def ingested(*named):
        recipe = Recipe(data=Data(folder=named[0], also=tuple(named[1:])))
        return [
            done.summary["images"]
            for done in run_all.perform(run, recipe, lambda step: _nobody(), until="ingest")
        ]

    assert ingested(*folders) == ingested(*folders[::-1]) == [36]
    with pytest.raises(Mismatch, match=r"is a run of .* and .*, not of "):
        ingested(*folders[:2])
    with pytest.raises(HilumError, match="inside the data folder"):
        list(
            run_all.perform(
                Run(data / "nih14" / "run"),
                Recipe(data=Data(folder=folders[0], also=(folders[1],))),
                lambda step: _nobody(),
            )
        )


class _nobody:
    def __enter__(self):
        return lambda done, total: None

    def __exit__(self, *_):
        return None


def test_the_verb_writes_a_run_that_a_run_goes_on_from(data, tmp_path):
    done = hilum(
        "merge", data / "kermany", data / "montgomery", "--out", tmp_path / "run", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert Manifest.read(tmp_path / "run").table.height == 24
    again = hilum("cache", tmp_path / "run")
    assert again.returncode == 0 and re.search(r"images: 24; unreadable: 0", again.stdout)


def test_the_verb_reports_a_fault_in_one_line(data, tmp_path):
    done = CliRunner().invoke(
        app, ["merge", str(data / "kermany"), str(data / "kermany"), "--out", str(tmp_path / "run")]
    )
    assert isinstance(done.exception, HilumError) and "given twice" in str(done.exception)
    assert not (tmp_path / "run" / "manifest.parquet").exists()
