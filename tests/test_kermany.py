"""Kermany's children: every image once, its cause from its name, and both readings of
whose it is.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.config import Split
from hilum.dataset.manifest import Remark
from hilum.dataset.readers import kermany
from hilum.errors import BadData, HilumError, NotFound
from hilum.imaging.files import raster
from hilum.pipeline.ingest import ingest, recognise
from hilum.pipeline.split import split

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
real_data = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real radiographs of shared/data are not on this machine"
)


def radiograph(path: Path, seed: int = 0) -> None:
    raster.write_png(path, np.random.default_rng(seed).integers(0, 255, (80, 70)).astype(np.uint8))


def remarks(manifest, rule):
    return manifest.remarks.filter(pl.col("rule") == rule)


def patients(root: Path, reading: str) -> dict[str, str]:
    """By the image's name without its ending."""
    return {
        Path(row.image).stem: row.patient
        for row in kermany.rows(root, patients=reading)
        if not isinstance(row, Remark)
    }


@pytest.fixture
def few(tmp_path):
    for place in (
        "train/NORMAL/IM-0115-0001.png",
        "train/NORMAL/IM-0115-0001-0002.png",
        "train/NORMAL/NORMAL2-IM-0007-0001.png",
        "train/PNEUMONIA/person1_bacteria_1.png",
        "train/PNEUMONIA/person1_bacteria_2.png",
        "train/PNEUMONIA/person447_virus_921_1.png",
        "val/NORMAL/NORMAL2-IM-1427-0001.png",
        "val/PNEUMONIA/person1946_bacteria_4874.png",
        "test/NORMAL/IM-0007-0001.png",
        "test/PNEUMONIA/person1_virus_6.png",
        "test/PNEUMONIA/person78_bacteria_378.png",
    ):
        radiograph(tmp_path / place)
    return tmp_path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kermany")
    kermany.example(folder, images=40, seed=1)
    return folder


# ----------------------------------------------------------------------------- parts, labels, names


def test_folders_give_the_parts_and_val_is_the_tune_part(few):
    counts = ingest(few).table["given_part"].value_counts()
    assert dict(counts.rows()) == {"train": 6, "tune": 2, "test": 3}


def test_the_folder_states_pneumonia_and_the_name_its_cause(few):
    labels = ingest(few).labels
    by_image = {image.split("/")[-1]: {} for image in labels["image_id"]}
    for image, concept, state, rule in labels.select("image_id", "concept", "state", "rule").rows():
        by_image[image.split("/")[-1]][concept] = (state, rule)
    assert by_image["IM-0115-0001"] == {"pneumonia": (0, "folder")}
    assert by_image["person1_bacteria_1"] == {
        "pneumonia": (1, "folder"),
        "bacterial_pneumonia": (1, "file name"),
        "viral_pneumonia": (0, "file name"),
    }
    assert by_image["person447_virus_921_1"] == {
        "pneumonia": (1, "folder"),
        "bacterial_pneumonia": (0, "file name"),
        "viral_pneumonia": (1, "file name"),
    }


def test_by_cause_a_number_is_a_child_within_its_cause_or_series(few):
    named = patients(few, "by cause")
    assert named["person1_bacteria_1"] == named["person1_bacteria_2"] != named["person1_virus_6"]
    assert (
        named["IM-0115-0001"] == named["IM-0115-0001-0002"]
        and named["IM-0007-0001"] != named["NORMAL2-IM-0007-0001"]
    )


def test_by_number_a_number_is_one_child(few):
    named = patients(few, "by number")
    assert (
        named["person1_bacteria_1"]
        == named["person1_bacteria_2"]
        == named["person1_virus_6"]
        != named["person78_bacteria_378"]
    )
    assert named["IM-0007-0001"] == named["NORMAL2-IM-0007-0001"] != named["IM-0115-0001"]


def test_a_reading_that_is_not_offered_gets_the_nearest(few):
    with pytest.raises(NotFound, match="did you mean 'by number'"):
        list(kermany.rows(few, patients="by numbers"))


def test_numbers_on_both_sides_are_reported_once_with_count_examples_and_both_readings(few):
    reported = remarks(ingest(few), "patients-unsure")
    assert reported.height == 1
    message = reported["message"][0]
    assert "1 person numbers (person1) and 1 numbers of normal images (IM-0007)" in message
    assert (
        "0 of them under one cause" in message and "by cause" in message and "by number" in message
    )


def test_no_number_on_both_sides_no_remark(few):
    shutil.rmtree(few / "test")
    assert ingest(few).remarks.height == 0


def test_mendeley_names_state_disease_and_patient(tmp_path):
    for place in (
        "train/NORMAL/NORMAL-1003233-0001.png",
        "train/PNEUMONIA/BACTERIA-1008087-0001.png",
        "test/PNEUMONIA/VIRUS-1008087-0002.png",
    ):
        radiograph(tmp_path / place)
    manifest = ingest(tmp_path)
    assert sorted(manifest.table["patient_id"]) == [
        "kermany/1003233",
        "kermany/1008087",
        "kermany/1008087",
    ]
    assert (
        manifest.labels.filter(
            (pl.col("state") == 1) & (pl.col("concept") == "viral_pneumonia")
        ).height
        == 1
    )


def test_a_name_that_contradicts_its_folder_is_reported(few):
    radiograph(few / "train/NORMAL/person9_virus_9.png")
    radiograph(few / "train/PNEUMONIA/IM-0900-0001.png")
    manifest = ingest(few)
    assert set(remarks(manifest, "label-conflict")["path"]) == {
        "train/NORMAL/person9_virus_9.png",
        "train/PNEUMONIA/IM-0900-0001.png",
    }
    labels = manifest.labels.filter(
        pl.col("image_id").is_in(
            ["kermany/train/NORMAL/person9_virus_9", "kermany/train/PNEUMONIA/IM-0900-0001"]
        )
    )
    assert labels.select("concept", "state").rows() == [("pneumonia", 0), ("pneumonia", 1)]


# --------------------------------------------------------------------------------------- the folder


def test_an_image_keeps_its_name_wherever_the_archive_was_unpacked(few, tmp_path_factory):
    below = tmp_path_factory.mktemp("deep")
    shutil.copytree(few, below / "archive" / "chest_xray")
    assert ingest(below).table["image_id"].to_list() == ingest(few).table["image_id"].to_list()


def test_the_archives_second_copy_is_left_out_in_one_line(few):
    shutil.copytree(few, few.parent / "inner")
    shutil.move(few.parent / "inner", few / "chest_xray")
    manifest = ingest(few)
    assert (
        manifest.table.height == 11 and not manifest.table["path"].str.contains("chest_xray").any()
    )
    dropped = remarks(manifest, "dropped").row(0, named=True)
    assert (
        remarks(manifest, "dropped").height == 1
        and dropped["path"] == "chest_xray"
        and "11 images" in dropped["message"]
    )


def test_a_second_copy_that_differs_or_holds_more_is_not_taken_for_a_copy(few):
    radiograph(few / "chest_xray/train/NORMAL/IM-0999-0001.png")
    (few / "chest_xray/train/NORMAL/IM-0115-0001.png").write_bytes(b"short")
    manifest = ingest(few)
    assert (
        "chest_xray/train/NORMAL/IM-0999-0001.png" in set(manifest.table["path"])
        and manifest.table.height == 12
    )
    reported = remarks(manifest, "dropped").row(0, named=True)
    assert (
        reported["severity"] == "warning"
        and "1 images" in reported["message"]
        and "another size" in reported["message"]
    )


def test_nothing_is_left_out_silently(few):
    (few / "__MACOSX/chest_xray").mkdir(parents=True)
    for name in ("._a.jpeg", "._b.jpeg"):
        (few / "__MACOSX/chest_xray" / name).write_bytes(b"x")
    radiograph(few / "train/COVID/c.png")
    radiograph(few / "train/NORMAL/holiday.png")
    (few / "val/NORMAL/notes.txt").write_text("x")
    (few / "readme.txt").write_text("x")
    reported = dict(remarks(ingest(few), "dropped").select("path", "message").rows())
    assert set(reported) == {
        "__MACOSX",
        "train/COVID",
        "train/NORMAL/holiday.png",
        "val/NORMAL/notes.txt",
        "readme.txt",
    }
    assert "2 files" in reported["__MACOSX"]


def test_one_name_with_two_endings_is_refused(few):
    radiograph(few / "train/NORMAL/IM-0115-0001.jpg")
    with pytest.raises(BadData, match="IM-0115-0001 stands in several rows"):
        ingest(few)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no symbolic links here")
def test_a_loop_of_links_ends(few):
    (few / "chest_xray").symlink_to(few)
    (few / "train/NORMAL/again").symlink_to(few / "train")
    (few / "train/NORMAL/IM-0200-0001.png").symlink_to(few / "train/NORMAL/IM-0200-0001.png")
    assert ingest(few).table.height == 11


def test_class_folders_of_other_images_are_not_taken_for_this_set(tmp_path):
    for place in ("train/NORMAL/a.png", "train/PNEUMONIA/b.png"):
        radiograph(tmp_path / place)
    assert recognise(tmp_path)[1] == "folder"


def test_an_empty_folder_says_what_was_expected(tmp_path):
    with pytest.raises(HilumError, match=r"person1000_bacteria_2931\.jpeg"):
        ingest(tmp_path, "kermany")


# ------------------------------------------------------------------------------------------- splits


def test_the_given_split_holds_by_cause_and_is_torn_by_number(made):
    manifest = ingest(made)
    by_number = patients(made, "by number")
    torn = manifest.table.with_columns(
        patient_id=pl.col("path").map_elements(lambda place: by_number[Path(place).stem], pl.String)
    )
    assert (
        manifest.table.group_by("patient_id")
        .agg(pl.col("given_part").n_unique())["given_part"]
        .max()
        == 1
    )
    assert torn.group_by("patient_id").agg(pl.col("given_part").n_unique())["given_part"].max() == 2
    divided = split(manifest, Split(min_per_class=1), finding="pneumonia")
    assert divided["part"].to_list() == manifest.table["given_part"].to_list()


def test_a_larger_tune_part_can_be_made_from_train_by_patient(made):
    manifest = ingest(made)
    divided = split(
        manifest, Split(min_per_class=2, train=0.6, tune=0.2, test=0.2), finding="pneumonia"
    )
    given = manifest.table["given_part"]
    assert (divided["part"] == "tune").sum() > (given == "tune").sum()
    assert divided.filter(given == "test")["part"].unique().to_list() == ["test"]
    assert divided.group_by("patient_id").agg(pl.col("part").n_unique())["part"].max() == 1


def test_the_made_up_copy_has_what_trips_readers(made):
    manifest = ingest(made)
    assert remarks(manifest, "patients-unsure").height == 1
    assert manifest.table.group_by("patient_id").len()["len"].max() >= 2
    assert {"bacterial_pneumonia", "viral_pneumonia", "pneumonia"} == set(
        manifest.labels["concept"]
    )
    assert all(
        (made / place).read_bytes().startswith(b"\xff\xd8\xff") for place in manifest.table["path"]
    )


# ---------------------------------------------------------------------------------------- real data


@real_data
def test_the_real_set_is_read_with_the_published_counts():
    manifest = ingest(SHARED / "kermany-224")
    labels = manifest.labels.filter(pl.col("concept") == "pneumonia").join(
        manifest.table, on="image_id"
    )
    assert {
        (part, state): count
        for part, state, count in labels.group_by("given_part", "state").len().rows()
    } == {
        ("train", 0): 1341,
        ("train", 1): 3875,
        ("tune", 0): 8,
        ("tune", 1): 8,
        ("test", 0): 234,
        ("test", 1): 390,
    }
    assert manifest.table.height == 5856
    reported = remarks(manifest, "patients-unsure")["message"].to_list()
    assert (
        manifest.remarks.height == 1
        and "170 person numbers" in reported[0]
        and ", 0 of them under one cause" in reported[0]
    )
    assert (
        manifest.table.group_by("patient_id")
        .agg(pl.col("given_part").n_unique())["given_part"]
        .max()
        == 1
    )


@real_data
def test_the_real_originals_are_read():
    manifest = ingest(SHARED / "kermany-original")
    assert manifest.table.height == 16 and manifest.remarks.height == 0
