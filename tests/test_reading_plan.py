"""The reading plan: what a folder means is worked out from evidence, shown in full, kept, and never
guessed.
"""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import hilum
from hypothesis import HealthCheck, given, settings

from benchmarks.accuracy.random_layouts import faults, layouts
from hilum.dataset.plan import describe, lexicon
from hilum.dataset.plan.understand import understand
from hilum.errors import BadData
from hilum.imaging.files import raster
from hilum.imaging.synthetic.dicom_file import write_dicom
from hilum.pipeline import ingest
from hilum.pipeline.ingest import accounted, describe_folder


def image(path: Path, seed: int = 0) -> None:
    raster.write_png(
        path,
        (
            np.random.default_rng(seed).integers(0, 60, (48, 40)) + np.linspace(30, 180, 40)[None]
        ).astype(np.uint8),
    )


def images(root: Path, *places: str) -> None:
    for seed, place in enumerate(places):
        image(root / place, seed)


def mask(path: Path) -> None:
    rows, columns = np.mgrid[0:48, 0:40]
    raster.write_png(
        path,
        np.any(
            [((rows - 24) / 16) ** 2 + ((columns - across) / 6) ** 2 < 1 for across in (10, 28)],
            axis=0,
        ),
    )


def table(path: Path, *rows: tuple) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")


def present(manifest) -> dict[str, set[str]]:
    path = dict(manifest.table.select("image_id", "path").iter_rows())
    found: dict[str, set[str]] = {place: set() for place in path.values()}
    for key, concept in (
        manifest.labels.filter(pl.col("state") == 1).select("image_id", "concept").iter_rows()
    ):
        found[path[key]].add(concept)
    return found


# ----------------------------------------------------------------------------- true by construction


@settings(
    max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
@given(layout=layouts())
def test_random_folders_are_conserved_and_their_labels_come_back_or_are_refused(
    tmp_path_factory, layout
):
    found = faults(tmp_path_factory.mktemp("layout"), layout)
    assert not found, found


def test_files_met_are_files_used_and_files_named(tmp_path):
    images(tmp_path, "images/a.png", "images/b.png", "overlays/a_overlay.png")
    mask(tmp_path / "masks/a.png")
    mask(tmp_path / "masks/zzz.png")
    for name in (".DS_Store", "images/Thumbs.db", "notes.docx", "model.pth", "__MACOSX/._a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\5\x16\7 data")
    table(
        tmp_path / "labels.csv",
        ("image", "label", "shoe"),
        ("a.png", "normal", "42"),
        ("b.png", "TB", "43"),
        ("gone.png", "TB", "1"),
    )
    manifest, account = accounted(tmp_path)
    assert account.files_met == 11 == account.files_used + account.files_named
    assert {role.role: role.count for role in account.roles} == {
        "radiographs": 2,
        "masks": 1,
        "tables": 1,
    }
    named = {name for aside in account.aside for name in aside.names}
    assert {
        "overlays/a_overlay.png",
        "masks/zzz.png",
        "notes.docx",
        "model.pth",
        "labels.csv: shoe",
        "labels.csv: image 'gone.png'",
    } <= named
    assert manifest.table.height == 2


def test_a_known_release_is_accounted_for_too(tmp_path):
    ingest.example("montgomery", tmp_path / "set", images=12, seed=0)
    (tmp_path / "set" / "extra.docx").write_text("x")
    account = accounted(tmp_path / "set")[1]
    assert (
        account.dataset == "montgomery"
        and account.files_met == account.files_used + account.files_named
    )
    assert "extra.docx" in {name for aside in account.aside for name in aside.names}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_are_not_opened_and_links_out_of_the_folder_are_not_followed(tmp_path):
    root = tmp_path / "set"
    images(root, "a.png")
    images(tmp_path, "outside.png")
    os.mkfifo(root / "pipe.png")
    (root / "link.png").symlink_to(tmp_path / "outside.png")
    (root / "more").symlink_to(tmp_path)
    manifest, account = accounted(root)
    assert manifest.table["path"].to_list() == ["a.png"]
    assert account.files_met == 4 == account.files_used + account.files_named


# ------------------------------------------------------------------------------------ never guessed


UNSETTLED = {
    "two unknown folders": lambda root: images(
        root, *(f"{name}/{i}.png" for name in ("alpha", "beta") for i in range(3))
    ),
    "folders 0 and 1": lambda root: images(
        root, *(f"{name}/{i}.png" for name in "01" for i in range(3))
    ),
    "a disease and an unknown folder": lambda root: images(
        root, *(f"{name}/{i}.png" for name in ("TB", "others of them") for i in range(3))
    ),
    "numbers of classes in a column called label": lambda root: (
        images(root, "a.png", "b.png", "c.png"),
        table(root / "labels.csv", ("image", "label"), ("a.png", 0), ("b.png", 1), ("c.png", 2)),
    ),
    "states of an unknown name": lambda root: (
        images(root, "a.png", "b.png"),
        table(root / "labels.csv", ("image", "zzz"), ("a.png", "no"), ("b.png", "yes")),
    ),
    "cells that are no known state": lambda root: (
        images(root, "a.png", "b.png"),
        table(
            root / "labels.csv", ("image", "pneumonia"), ("a.png", "rather"), ("b.png", "hardly")
        ),
    ),
    "outlines of nothing": lambda root: (
        images(root, "a.png", "b.png"),
        table(root / "labels.csv", ("image", "rle"), ("a.png", "1 5 9 3"), ("b.png", "-1")),
    ),
    "a table of other images": lambda root: (
        images(root, "a.png", "b.png"),
        table(root / "labels.csv", ("image", "label"), ("x.png", "TB"), ("y.png", "normal")),
    ),
    "scores alone": lambda root: (
        images(root, "a.png", "b.png"),
        table(root / "labels.csv", ("image", "pneumonia"), ("a.png", 2), ("b.png", 3)),
    ),
    "words with quotes and accents": lambda root: (
        images(root, "a.png", "b.png"),
        table(
            root / "labels.csv",
            ("image", "label"),
            ("a.png", 'ein "Wort"'),
            ("b.png", "größer\\kleiner"),
        ),
    ),
}


@pytest.mark.parametrize("write", UNSETTLED.values(), ids=UNSETTLED)
def test_what_is_not_settled_is_refused_and_the_lines_to_add_work_when_pasted(tmp_path, write):
    write(tmp_path)
    with pytest.raises(BadData, match="is not settled by what it holds") as raised:
        ingest.ingest(tmp_path)
    (tmp_path / "hilum.toml").write_text(str(raised.value).split("again:\n\n")[1], encoding="utf-8")
    assert ingest.ingest(tmp_path).table.height >= 2


def test_lines_to_add_keep_what_hilum_toml_says_already(tmp_path):
    UNSETTLED["numbers of classes in a column called label"](tmp_path)
    (tmp_path / "hilum.toml").write_text('patient_pattern = "(?P<patient>[a-z])"\n')
    with pytest.raises(BadData, match=r"Replace the lines of hilum\.toml by these") as raised:
        ingest.ingest(tmp_path)
    (tmp_path / "hilum.toml").write_text(str(raised.value).split("again:\n\n")[1])
    manifest = ingest.ingest(tmp_path)
    assert present(manifest)["a.png"] == set() and manifest.table["patient_id"].to_list() == [
        "folder/a",
        "folder/b",
        "folder/c",
    ]


def test_numbers_as_labels_are_one_finding_or_a_question(tmp_path):
    images(tmp_path, "a.png", "b.png")
    table(tmp_path / "labels.csv", ("image", "pneumonia"), ("a.png", 0), ("b.png", 1))
    assert ingest.ingest(tmp_path).labels.select("concept", "state").rows() == [
        ("pneumonia", 0),
        ("pneumonia", 1),
    ]
    table(tmp_path / "labels.csv", ("image", "target"), ("a.png", 0), ("b.png", 1))
    manifest = ingest.ingest(tmp_path)
    assert manifest.labels.select("concept", "state").rows() == [
        ("local:target", 0),
        ("local:target", 1),
    ]
    assert any(
        "[terms] target" in message
        for message in manifest.remarks.filter(pl.col("severity") == "warning")["message"]
    )
    (tmp_path / "hilum.toml").write_text('[terms]\ntarget = "tuberculosis"\n')
    assert ingest.ingest(tmp_path).labels["concept"].to_list() == ["tuberculosis"] * 2


def test_an_unknown_word_beside_a_healthy_one_is_a_finding_of_your_own(tmp_path):
    images(tmp_path, "gesund/a.png", "Trichterbrust/b.png")
    assert present(ingest.ingest(tmp_path)) == {
        "gesund/a.png": set(),
        "Trichterbrust/b.png": {"local:trichterbrust"},
    }


@pytest.mark.parametrize("missing", ["", "NA", "NaN", "None", "N/A", "null", "unknown"])
def test_words_for_a_missing_value_are_no_finding(tmp_path, missing):
    images(tmp_path, "a.png", "b.png", "c.png")
    table(
        tmp_path / "labels.csv",
        ("image", "label"),
        ("a.png", "normal"),
        ("b.png", "pneumonia"),
        ("c.png", missing),
    )
    manifest = ingest.ingest(tmp_path)
    assert manifest.labels.select("image_id", "concept", "state").rows() == [
        ("folder/a", "pneumonia", 0),
        ("folder/b", "pneumonia", 1),
    ]


# --------------------------------------------------------------------------------------- understood


@pytest.mark.parametrize(
    ("healthy", "ill", "concept"),
    [
        ("healthy", "TB", "tuberculosis"),
        ("gesund", "Lungenentzündung", "pneumonia"),
        ("sano", "neumonía", "pneumonia"),
        ("sain", "tuberculose", "tuberculosis"),
        ("No Finding", "Effusion", "effusion"),
        ("COVID_neg", "COVID_pos", "covid"),
        ("without_tb", "with_tb", "tuberculosis"),
        ("TB-", "TB+", "tuberculosis"),
        ("1_Normal", "2_Pneumonia", "pneumonia"),
        ("unauffällig", "auffällig", "abnormality"),
        ("negative", "positive", "abnormality"),
        ("Normal cases", "Pneumonia patients", "pneumonia"),
    ],
)
def test_the_healthy_class_is_known_in_many_words(tmp_path, healthy, ill, concept):
    images(tmp_path, f"{healthy}/a.png", f"{ill}/b.png")
    manifest = ingest.ingest(tmp_path)
    assert manifest.labels.select("image_id", "concept", "state").sort("state").rows() == [
        (f"folder/{healthy}/a", concept, 0),
        (f"folder/{ill}/b", concept, 1),
    ]


@pytest.mark.parametrize(
    "cell",
    [
        "images/a.png",
        "images\\a.png",
        "a.png",
        "a",
        "A.PNG",
        "./images/a.png",
        "/kaggle/input/x/images/a.png",
        "https://x.org/images/a.png",
    ],
)
def test_a_cell_names_its_file_in_many_ways(tmp_path, cell):
    images(tmp_path, "images/a.png", "images/b.png")
    table(
        tmp_path / "labels.csv",
        ("image", "label"),
        (cell, "TB"),
        (cell.replace("a.", "b.").replace("A.", "B.") if "." in cell else "b", "normal"),
    )
    assert present(ingest.ingest(tmp_path)) == {
        "images/a.png": {"tuberculosis"},
        "images/b.png": set(),
    }


def test_a_file_that_two_folders_hold_is_found_by_its_folders_or_left_open(tmp_path):
    images(tmp_path, "train/a.png", "test/a.png")
    table(
        tmp_path / "labels.csv", ("image", "label"), ("train/a.png", "TB"), ("test/a.png", "normal")
    )
    assert present(ingest.ingest(tmp_path)) == {
        "test/a.png": set(),
        "train/a.png": {"tuberculosis"},
    }
    table(tmp_path / "labels.csv", ("image", "label"), ("a.png", "TB"), ("train/a.png", "normal"))
    manifest = ingest.ingest(tmp_path)
    assert present(manifest)["test/a.png"] == set() and "names several files" in " ".join(
        manifest.remarks["message"]
    )


@pytest.mark.parametrize(
    ("cells", "concepts"),
    [
        (
            ("['TB' 'Effusion']", "['Normal']"),
            [{"tuberculosis", "effusion"}, set()],
        ),  # as NumPy prints a list
        (("['TB', 'Effusion']", '["Normal"]'), [{"tuberculosis", "effusion"}, set()]),
        (("TB?", "TB"), [set(), {"tuberculosis"}]),
    ],
)
def test_lists_and_uncertainties_are_read_out_of_cells(tmp_path, cells, concepts):
    images(tmp_path, "a.png", "b.png")
    table(tmp_path / "labels.csv", ("image", "label"), *zip(("a.png", "b.png"), cells, strict=True))
    assert list(present(ingest.ingest(tmp_path)).values()) == concepts


@pytest.mark.parametrize("word", ["no evidence of TB", "No TB, no effusion here", "healed TB"])
def test_words_around_a_known_word_are_a_question_and_never_a_finding(tmp_path, word):
    images(tmp_path, "a.png", "b.png", "c.png")
    table(
        tmp_path / "labels.csv",
        ("image", "label"),
        ("a.png", "normal"),
        ("b.png", "TB"),
        ("c.png", word),
    )
    with pytest.raises(BadData, match="is not settled"):
        ingest.ingest(tmp_path)


def test_a_column_of_the_healthy_state_alone_says_who_is_abnormal(tmp_path):
    images(tmp_path, "a.png", "b.png")
    table(tmp_path / "labels.csv", ("image", "No Finding"), ("a.png", 1), ("b.png", 0))
    assert ingest.ingest(tmp_path).labels.select("concept", "state").rows() == [
        ("abnormality", 0),
        ("abnormality", 1),
    ]


def test_an_image_that_is_healthy_and_ill_in_one_row_is_reported(tmp_path):
    images(tmp_path, "a.png", "b.png")
    table(tmp_path / "labels.csv", ("image", "Normal", "TB"), ("a.png", 1, 1), ("b.png", 1, 0))
    manifest = ingest.ingest(tmp_path)
    assert manifest.remarks.filter(pl.col("rule") == "label-conflict")["path"].to_list() == [
        "a.png"
    ]


def test_names_that_differ_in_case_alone_are_two_files(tmp_path):
    images(tmp_path, "a.png", "A.png")
    table(tmp_path / "labels.csv", ("image", "label"), ("a.png", "TB"), ("A.png", "normal"))
    assert present(ingest.ingest(tmp_path)) == {"A.png": set(), "a.png": {"tuberculosis"}}


def test_a_word_for_an_unknown_patient_is_nobody(tmp_path):
    images(tmp_path, "a.png", "b.png", "c.png")
    table(
        tmp_path / "labels.csv",
        ("image", "patient"),
        ("a.png", "unknown"),
        ("b.png", "unknown"),
        ("c.png", "P1"),
    )
    assert ingest.ingest(tmp_path).table["patient_id"].n_unique() == 3


def test_masks_are_known_by_their_pixels_whatever_their_folder_is_called(tmp_path):
    images(tmp_path, "films/a.png", "films/b.png")
    for name in "ab":
        mask(tmp_path / "stuff" / f"{name}.png")
    manifest = ingest.ingest(tmp_path)
    assert manifest.table.select("path", "lung_mask").rows() == [
        ("films/a.png", "stuff/a.png"),
        ("films/b.png", "stuff/b.png"),
    ]


def test_masks_of_equal_names_belong_to_the_images_whose_folders_they_share(tmp_path):
    images(tmp_path, "Normal/a.png", "Pneumonia/a.png", "train/images/b.png", "test/images/b.png")
    for place in (
        "Normal_masks/a.png",
        "Pneumonia_masks/a.png",
        "train/masks/b.png",
        "test/masks/b.png",
    ):
        mask(tmp_path / place)
    pairs = dict(ingest.ingest(tmp_path).table.select("path", "lung_mask").iter_rows())
    assert pairs == {
        "Normal/a.png": "Normal_masks/a.png",
        "Pneumonia/a.png": "Pneumonia_masks/a.png",
        "train/images/b.png": "train/masks/b.png",
        "test/images/b.png": "test/masks/b.png",
    }


def test_photographs_among_masks_are_neither(tmp_path):
    images(tmp_path, "images/a.png", "images/b.png", "masks/overlay.png")
    mask(tmp_path / "masks/a.png")
    manifest = ingest.ingest(tmp_path)
    assert (
        manifest.table.height == 2
        and "masks/overlay.png"
        in manifest.remarks.filter(pl.col("rule") == "dropped")["path"].to_list()
    )


def test_tables_are_joined_by_what_both_name(tmp_path):
    images(tmp_path, *(f"films/{i:03}.png" for i in range(6)))
    table(
        tmp_path / "films.csv", ("file", "exam"), *((f"{i:03}.png", f"E{i // 2}") for i in range(6))
    )
    table(tmp_path / "exams.csv", ("exam", "pid"), *((f"E{i}", f"P{i % 2}") for i in range(3)))
    table(tmp_path / "people.csv", ("pid", "sex"), ("P0", "F"), ("P1", "M"), ("P2", "F"))
    table(
        tmp_path / "reports.csv",
        ("exam", "diagnosis"),
        ("E0", "TB"),
        ("E1", "normal"),
        ("E2", "normal"),
    )
    manifest = ingest.ingest(tmp_path)
    assert (
        present(manifest)["films/000.png"] == {"tuberculosis"} == present(manifest)["films/001.png"]
    )
    assert manifest.table["patient_id"].to_list() == [f"folder/P{i}" for i in (0, 0, 1, 1, 0, 0)]


def test_readers_who_disagree_leave_a_finding_uncertain(tmp_path):
    images(tmp_path, "a.png", "b.png")
    rows = [
        ("a.png", "Cardiomegaly", "R1"),
        ("a.png", "No finding", "R2"),
        ("b.png", "Cardiomegaly", "R1"),
        ("b.png", "Cardiomegaly", "R2"),
    ]
    table(tmp_path / "labels.csv", ("image_id", "class_name", "rad_id"), *rows)
    labels = ingest.ingest(tmp_path).labels
    assert labels.select("image_id", "state", "rule").rows() == [
        ("folder/a", -1, "readers disagree"),
        ("folder/b", 1, "column"),
    ]


def test_rows_that_contradict_one_another_are_uncertain_and_reported(tmp_path):
    images(tmp_path, "a.png", "b.png")
    table(
        tmp_path / "labels.csv",
        ("image", "label"),
        ("a.png", "TB"),
        ("a.png", "normal"),
        ("b.png", "normal"),
    )
    manifest = ingest.ingest(tmp_path)
    assert manifest.labels.select("image_id", "state").rows() == [("folder/a", -1), ("folder/b", 0)]
    assert manifest.remarks.filter(pl.col("rule") == "label-conflict")["path"].to_list() == [
        "a.png"
    ]


def test_boxes_drawn_on_another_size_are_scaled_and_those_that_leave_the_image_are_left_out(
    tmp_path,
):
    images(tmp_path, "a.png", "b.png")
    head = ("image", "finding", "x_min", "y_min", "x_max", "y_max", "width", "height")
    table(
        tmp_path / "boxes.csv",
        head,
        ("a.png", "mass", 20, 24, 40, 48, 80, 96),
        ("b.png", "mass", 30, 30, 90, 90, 40, 48),
    )
    manifest = ingest.ingest(tmp_path)
    assert manifest.shapes.select("image_id", "concept", "shape").rows() == [
        ("folder/a", "mass", '{"box":[12.0,10.0,12.0,10.0]}')
    ]
    assert manifest.remarks.filter(pl.col("rule") == "box-misfit")["path"].to_list() == ["b.png"]


def test_dicom_without_endings_is_a_radiograph_and_reports_are_set_aside_by_name(tmp_path):
    for number in range(2):
        place = tmp_path / f"PAT{number}" / "ST1" / "SE1" / "IM0001"
        write_dicom(
            place,
            np.arange(5600, dtype=np.uint16).reshape(70, 80),
            f"1.2.{number}",
            f"1.3.{number}",
            PatientID=f"P{number}",
        )
    manifest = ingest.ingest(tmp_path)
    assert manifest.table["patient_id"].to_list() == ["folder/P0", "folder/P1"]


# -------------------------------------------------------------------------------------------- shown


FOLDERS = {
    "classes, parts and masks": lambda root: (
        images(
            root,
            *(
                f"{part}/{name}/{i}{name}{part}.png"
                for part in ("train", "test")
                for name in ("Normal", "TB")
                for i in range(3)
            ),
        ),
        [mask(root / "masks" / f"{i}Normaltrain.png") for i in range(3)],
    ),
    "one column a finding": lambda root: (
        images(root, *(f"{i}.png" for i in range(4))),
        table(
            root / "l.csv",
            ("Path", "Sex", "No Finding", "Edema", "Mass"),
            *((f"{i}.png", "FM"[i % 2], i % 2, 1 - i % 2, -1) for i in range(4)),
        ),
    ),
    "words and patients": lambda root: (
        images(root, *(f"{i}.png" for i in range(4))),
        table(
            root / "l.csv",
            ("Datei", "Befund", "Patient"),
            *((f"{i}.png", ("gesund", "TB|Erguss")[i % 2], f"P{i // 2}") for i in range(4)),
        ),
    ),
    "patients by name": lambda root: images(
        root,
        *(
            f"{name}/patient{i}_{k}.png"
            for i, name in enumerate(("Normal", "COVID"))
            for k in range(2)
        ),
    ),
}


@pytest.mark.parametrize("write", FOLDERS.values(), ids=FOLDERS)
def test_a_folder_read_with_its_own_printed_hilum_toml_gives_the_same_table(tmp_path, write):
    write(tmp_path)
    before = ingest.ingest(tmp_path)
    (tmp_path / "hilum.toml").write_text(ingest.settings_of(tmp_path), encoding="utf-8")
    after = ingest.ingest(tmp_path)
    assert (
        after.table.equals(before.table)
        and after.labels.equals(before.labels)
        and after.shapes.equals(before.shapes)
    )


def test_describing_writes_nothing_and_shows_every_role_with_its_evidence(tmp_path):
    FOLDERS["classes, parts and masks"](tmp_path)
    (tmp_path / "spare.docx").write_text("x")
    held = sorted(tmp_path.rglob("*"))
    screen = describe_folder(tmp_path).screen
    for words in (
        "radiographs      12",
        "masks             3",
        "Normal = healthy",
        "TB = tuberculosis",
        "train (6)",
        "spare.docx",
        "every image is a patient of its own  [likely]",
    ):
        assert words in screen, words
    assert sorted(tmp_path.rglob("*")) == held and len(screen.splitlines()) < 45


def test_the_command_prints_the_plan_before_ingest_and_keeps_it_in_the_run(tmp_path):
    FOLDERS["words and patients"](tmp_path / "data")

    done = hilum("ingest", tmp_path / "data", "--out", tmp_path / "run")
    assert done.returncode == 0 and "patients: by column 'Patient' of l.csv" in done.stdout
    kept = json.loads((tmp_path / "run" / "plan.json").read_text())["folders"][0]
    assert kept["files_met"] == 5 == kept["files_used"] + kept["files_named"]
    reported = hilum("describe", tmp_path / "data")
    assert reported.returncode == 0 and "label = 'Befund'" in reported.stdout
    UNSETTLED["folders 0 and 1"](tmp_path / "open")
    refused = hilum("describe", tmp_path / "open")
    assert (
        refused.returncode == 1
        and 'normal = ["0"]' in refused.stderr
        and "Traceback" not in refused.stderr
    )


def test_every_word_of_the_lexicon_means_one_thing_in_its_own_place():
    for section, names in (
        ("labels", ("normal", "abnormal", "uncertain", "missing", "unusable")),
        ("folders", ("part_train", "part_tune", "part_test")),
        ("sex", ("female", "male")),
    ):
        words = [word for name in names for word in lexicon.words(section, name)]
        twice = sorted({word for word in words if words.count(word) > 1})
        assert not twice, f"{section}: {twice}"
    for concept in lexicon._sections()["terms"]:
        assert lexicon.concept_of(concept) == concept, f"{concept} is no concept of the vocabulary"


def test_a_plan_that_is_complete_leaves_nothing_to_infer(tmp_path):
    FOLDERS["one column a finding"](tmp_path)
    reading = understand(tmp_path)
    assert describe.complete_settings(reading).findings == ("No Finding", "Edema", "Mass")
