"""Reading folders: recognised, complete, and wrong input reported with its remedy."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilum.dataset.readers import _nlm, kaggle_masks, montgomery
from hilum.errors import BadData, NotFound
from hilum.imaging.files import raster
from hilum.pipeline.ingest import ingest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
real_data = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real radiographs of shared/data are not on this machine"
)


def remarks(manifest, rule):
    return manifest.remarks.filter(pl.col("rule") == rule)["path"].to_list()


@pytest.fixture
def kaggle(tmp_path):
    kaggle_masks.example(tmp_path, images=12, seed=1)
    return tmp_path


def image(path: Path) -> None:
    raster.write_png(path, np.random.default_rng(0).integers(0, 255, (80, 70)).astype(np.uint8))


# ----------------------------------------------------------------------------------------- readings


@pytest.mark.parametrize(
    ("text", "sex", "age", "words"),
    [
        (
            "Patient's Sex: F \nPatient's Age: 084Y\nbilateral nodules\n",
            "female",
            84,
            "bilateral nodules",
        ),
        ("male 28yrs\nSTB\n", "male", 28, "STB"),
        ("female, 6 months\r\nnormal", "female", 0.5, "normal"),
        ("Patient's Sex: O\nPatient's Age: 003D\nx", "other", 0.008, "x"),
        ("normal", None, None, "normal"),
        ("", None, None, None),
    ],
)
def test_a_reading_gives_sex_age_and_the_text_as_written(text, sex, age, words):
    reading = _nlm.parse_reading(text)
    assert (reading.sex, reading.age_years, reading.text) == (sex, age, words)


def test_same_patient_notes_name_every_patient_they_mention():
    text = (
        "Patient's Sex: M\nPatient's Age: 049Y\nas before (same pt as MCUCXR_0166_1, MCUCXR_0162_1)"
    )
    assert _nlm.parse_reading(text).same_patient == ("MCUCXR_0166", "MCUCXR_0162")


@given(st.text(max_size=300))
def test_no_reading_breaks_the_parser(text):
    reading = _nlm.parse_reading(text)
    assert reading.sex in (None, "female", "male", "other") and (
        reading.age_years is None or reading.age_years >= 0
    )


def test_same_patient_notes_join_patients(tmp_path):
    montgomery.example(tmp_path, images=8, seed=0)
    manifest = ingest(tmp_path)
    joined = manifest.table.group_by("patient_id").len().filter(pl.col("len") > 1)
    assert joined["len"].to_list() == [2] and len(remarks(manifest, "same-patient")) == 1


def test_a_reading_in_another_encoding_is_read_and_reported(kaggle):
    path = next((kaggle / "ClinicalReadings").glob("CHN*.txt"))
    path.write_bytes("female 41yrs\ntubercule à droite\n".encode("cp1252"))
    manifest = ingest(kaggle)
    row = manifest.table.filter(pl.col("image_id").str.ends_with(path.stem)).row(0, named=True)
    assert (row["sex"], row["age_years"], row["reading"]) == ("female", 41, "tubercule à droite")
    assert remarks(manifest, "reading-encoding") == [f"ClinicalReadings/{path.name}"]
    assert "UTF-8" in manifest.remarks.filter(pl.col("rule") == "reading-encoding")["message"][0]


# ------------------------------------------------------------------------------- what is recognised


def test_a_release_one_folder_down_is_found(tmp_path):
    kaggle_masks.example(tmp_path / "archive" / "Lung Segmentation", images=8)
    assert ingest(tmp_path).root.name == "Lung Segmentation"


def test_two_sets_side_by_side_are_not_guessed_between(tmp_path):
    kaggle_masks.example(tmp_path / "a", images=8)
    montgomery.example(tmp_path / "b", images=8)
    with pytest.raises(BadData, match="give one of these folders"):
        ingest(tmp_path)


def test_images_without_masks_in_the_test_folder_are_rows_without_masks(kaggle):
    table = ingest(kaggle).table
    without = table.filter(pl.col("lung_mask").is_null())
    assert without.height >= 1 and without["path"].str.starts_with("test/").all()


def test_nothing_is_left_out_silently(kaggle):
    (kaggle / "CXR_png" / "Thumbs.db").write_bytes(b"x")
    image(kaggle / "CXR_png" / "holiday.png")
    image(kaggle / "masks" / "CHNCXR_9999_1_mask.png")
    (kaggle / "ClinicalReadings" / "CHNCXR_9998_0.txt").write_text("male 3yrs\nnormal\n")
    manifest = ingest(kaggle)
    assert set(remarks(manifest, "dropped")) == {"CXR_png/Thumbs.db", "CXR_png/holiday.png"}
    assert remarks(manifest, "mask-orphan") == ["masks/CHNCXR_9999_1_mask.png"]
    assert remarks(manifest, "reading-orphan") == ["ClinicalReadings/CHNCXR_9998_0.txt"]


def test_a_copy_in_the_test_folder_is_one_image_stated_twice(kaggle):
    twin = next((kaggle / "CXR_png").glob("CHN*.png"))
    (kaggle / "test" / twin.name).write_bytes(twin.read_bytes())
    manifest = ingest(kaggle)
    assert manifest.table.height == 12 and remarks(manifest, "dropped") == [f"test/{twin.name}"]


# ----------------------------------------------------------------------------------- the own folder


def test_class_folders_give_labels_that_exclude_one_another(tmp_path):
    for place in ("normal/a.png", "PNEUMONIA/b.png", "PNEUMONIA/c.png", "Odd thing/d.png"):
        image(tmp_path / place)
    labels = ingest(tmp_path).labels
    present = labels.filter(pl.col("state") == 1)
    assert dict(present.select("image_id", "concept").iter_rows()) == {
        "folder/PNEUMONIA/b": "pneumonia",
        "folder/PNEUMONIA/c": "pneumonia",
        "folder/Odd thing/d": "local:odd-thing",
    }
    assert labels.filter(pl.col("image_id") == "folder/normal/a")["state"].to_list() == [0, 0]


def test_parts_above_class_folders_are_the_given_split(tmp_path):
    for place in (
        "chest/train/NORMAL/a.png",
        "chest/train/PNEUMONIA/b.png",
        "chest/val/NORMAL/c.png",
        "chest/test/PNEUMONIA/d.png",
    ):
        image(tmp_path / place)
    assert ingest(tmp_path).table["given_part"].to_list() == ["test", "train", "train", "tune"]


def test_images_alone_have_no_labels(tmp_path):
    image(tmp_path / "a.png")
    manifest = ingest(tmp_path)
    assert (
        manifest.table.height == 1
        and manifest.labels.height == 0
        and remarks(manifest, "no-patients") == ["."]
    )


def test_a_csv_names_patients_labels_and_parts(tmp_path):
    for name in "ab":
        image(tmp_path / f"{name}.png")
    (tmp_path / "list.csv").write_text(
        "﻿Image,Finding,Patient,Sex,Age,Split\na.png,TB,7,F,41,train\nb.png,Normal,7,m,41.5,validation\n"
    )
    table = ingest(tmp_path).table
    assert table["patient_id"].to_list() == ["folder/7"] * 2
    assert table.select("sex", "age_years", "given_part").rows() == [
        ("female", 41.0, "train"),
        ("male", 41.5, "tune"),
    ]


# -------------------------------------------------------------------------------------- wrong input


def test_no_folder(tmp_path):
    with pytest.raises(NotFound, match="no folder at"):
        ingest(tmp_path / "nowhere")


def test_an_empty_folder(tmp_path):
    with pytest.raises(NotFound, match="got nothing; expected images"):
        ingest(tmp_path)


def test_a_folder_that_is_no_data_set_says_what_it_holds_and_what_is_known(tmp_path):
    (tmp_path / "letter.docx").write_text("dear")
    with pytest.raises(NotFound, match=r"letter\.docx") as raised:
        ingest(tmp_path)
    assert "expected images" in str(raised.value)


def test_very_many_folders_are_patients_unless_one_is_named_as_a_finding(tmp_path):
    for number in range(62):
        raster.write_png(
            tmp_path / f"patient{number // 2:02d}" / f"{number}.png",
            np.full((8, 8), number, np.uint8),
        )
    manifest = ingest(tmp_path)
    assert manifest.table["patient_id"].n_unique() == 31 and manifest.labels.is_empty()
    assert (
        "31 folders, such as patient00"
        in manifest.remarks.filter(pl.col("rule") == "folders-as-patients")["message"][0]
    )
    (tmp_path / "patient00").rename(tmp_path / "Pneumonia")
    manifest = ingest(tmp_path)
    assert manifest.labels["concept"].to_list() == ["pneumonia"] * 2, (
        "a folder named as a finding is a class, the others stay patients"
    )
    assert manifest.table["patient_id"].n_unique() == 32


def test_an_unknown_data_set_gets_the_nearest_name(tmp_path):
    with pytest.raises(NotFound, match="did you mean 'montgomery'"):
        ingest(tmp_path, "montgommery")


def test_a_table_that_names_no_image_is_refused_with_the_line_that_leaves_it_out(tmp_path):
    image(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("name,label\nz.png,normal\n")
    with pytest.raises(BadData, match="list.csv matches no image of this folder") as raised:
        ingest(tmp_path)
    assert 'unused = ["list.csv"]' in str(raised.value)


def test_cells_that_are_not_understood_are_counted_and_rows_without_a_file_are_named(tmp_path):
    image(tmp_path / "a.png")
    image(tmp_path / "b.png")
    rows = "".join(f"{name},F,1\n" for name in ("a.png", "b.png"))
    (tmp_path / "list.csv").write_text(
        f"image,sex,age\n{rows}c.png,F,1\na.png,F,ten\n../d.png,F,1\n"
    )
    manifest = ingest(tmp_path)
    said = manifest.remarks.select("rule", "message").rows()
    assert manifest.table.select("sex", "age_years").rows() == [("female", 1.0)] * 2
    assert (
        "row-unused",
        "2: list.csv: image 'c.png', list.csv: image '../d.png' names a file that is not there",
    ) in said
    assert any(rule == "fact-conflict" and "age 1, ten" in message for rule, message in said)


def test_an_image_listed_twice_with_the_same_words_is_one_image(tmp_path):
    image(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("image,label\na.png,TB\na.png,TB\n")
    manifest = ingest(tmp_path)
    assert manifest.table.height == 1 and manifest.labels.select("concept", "state").rows() == [
        ("tuberculosis", 1)
    ]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no symbolic links here")
def test_a_loop_of_links_ends(tmp_path):
    image(tmp_path / "a.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert ingest(tmp_path).table.height == 1


# ---------------------------------------------------------------------------------------- real data


def tuberculosis(manifest):
    return (manifest.states("tuberculosis")["state"] == 1).sum()


@real_data
def test_the_real_kaggle_set_is_read_with_the_right_counts():
    manifest = ingest(SHARED / "kaggle-masks-and-labels")
    assert manifest.table.height == 688 and manifest.table["lung_mask"].null_count() == 0
    assert manifest.table["patient_id"].n_unique() == 685
    assert tuberculosis(manifest) == 345 and len(remarks(manifest, "reading-orphan")) == 800 - 688
    assert manifest.table["sex"].null_count() == 0 and manifest.table["age_years"].null_count() == 0


@real_data
@pytest.mark.parametrize(
    ("name", "images", "positive"), [("montgomery", 138, 58), ("shenzhen", 550, 287)]
)
def test_the_real_official_sets_are_read_with_the_right_counts(name, images, positive):
    manifest = ingest(SHARED / name)
    assert manifest.table.height == images and tuberculosis(manifest) == positive
    assert manifest.table["dataset"].unique().to_list() == [name]
