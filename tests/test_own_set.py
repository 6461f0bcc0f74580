"""A person's own set, described by hilum.toml: what it says counts, what it leaves out is worked
out, and what cannot be meant is refused.
"""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.dataset.readers import folder, kaggle_masks
from hilum.errors import BadData, BadRecipe, HilumError
from hilum.imaging.files import raster
from hilum.imaging.synthetic.dicom_file import write_dicom
from hilum.pipeline.ingest import ingest

WORDS = """
tables = ["list.csv"]
image = "File"
patient_pattern = "^(?P<patient>p[0-9]+)_"
label = "Findings"
separator = "|"
normal = ["No finding"]
drop = ["Rotated"]
masks = ["lungs/{stem}_seg.png"]
[terms]
TB = "tuberculosis"
Tuberc = "tuberculosis"
Effusion = "effusion"
"Big heart" = "local:big-heart"
"""
COLUMNS = """
tables = ["list.csv"]
image = "File"
patient = "Who"
present = ["1", "yes"]
absent = ["0"]
uncertain = ["-1"]
[terms]
TB = "tuberculosis"
Effusion = "effusion"
"""


def radiograph(path: Path) -> None:
    raster.write_png(path, np.random.default_rng(0).integers(0, 255, (80, 70)).astype(np.uint8))


def mask(path: Path) -> None:
    lungs = np.zeros((80, 70), np.uint8)
    lungs[20:60, 8:28] = lungs[20:60, 42:60] = 255
    raster.write_png(path, lungs)


def own(
    root: Path,
    toml: str,
    table: str = "",
    radiographs: tuple[str, ...] = ("p1_a.png", "p1_b.png", "p2_a.png", "p3_a.png"),
) -> Path:
    for name in radiographs:
        radiograph(root / name)
    (root / "hilum.toml").write_text(toml)
    if table:
        (root / "list.csv").write_text(table)
    return root


def states(manifest, image: str) -> dict[str, int]:
    return dict(
        manifest.labels.filter(pl.col("image_id") == f"folder/{image}")
        .select("concept", "state")
        .iter_rows()
    )


# ---------------------------------------------------------------------------------- what it can say


def test_words_in_one_column_become_states_with_their_source(tmp_path):
    table = "File;Findings\np1_a.png;TB|Effusion\np1_b.png;No finding\np2_a.png;\np3_a.png;Rotated| Big heart\n"
    manifest = ingest(own(tmp_path, WORDS, table))
    assert states(manifest, "p1_a") == {"tuberculosis": 1, "effusion": 1, "local:big-heart": 0}
    assert (
        states(manifest, "p1_b") == {"tuberculosis": 0, "effusion": 0, "local:big-heart": 0}
        and states(manifest, "p2_a") == {}
    )
    assert states(manifest, "p3_a") == {"tuberculosis": 0, "effusion": 0, "local:big-heart": 1}
    assert manifest.table["patient_id"].to_list() == [
        "folder/p1",
        "folder/p1",
        "folder/p2",
        "folder/p3",
    ]
    stated = manifest.labels.filter(
        (pl.col("image_id") == "folder/p1_a") & (pl.col("concept") == "tuberculosis")
    ).row(0, named=True)
    assert (stated["term"], stated["source"], stated["rule"]) == (
        "TB",
        "list.csv line 2, column Findings",
        "column",
    )
    assert set(manifest.labels.filter(pl.col("state") == 0)["rule"]) == {"not listed"}
    assert manifest.remarks.filter(pl.col("rule") == "word-dropped")["message"].to_list() == [
        "'Rotated' of 1 images says nothing of findings: it is dropped"
    ]
    assert not manifest.remarks.filter(pl.col("rule") == "no-patients").height


def test_an_image_with_dropped_words_alone_is_not_labelled(tmp_path):
    table = "File,Findings\np1_a.png,Rotated\np1_b.png,Rotated|No finding\np2_a.png,TB\n"
    manifest = ingest(own(tmp_path, WORDS, table, ("p1_a.png", "p1_b.png", "p2_a.png")))
    assert states(manifest, "p1_a") == {} and set(states(manifest, "p1_b").values()) == {0}


def test_what_is_not_listed_can_be_left_open(tmp_path):
    table = "File,Findings\np1_a.png,Tuberc\np1_b.png,Effusion\n"
    manifest = ingest(
        own(tmp_path, 'unlisted = "not mentioned"' + WORDS, table, ("p1_a.png", "p1_b.png"))
    )
    assert states(manifest, "p1_a") == {"tuberculosis": 1} and states(manifest, "p1_b") == {
        "effusion": 1
    }


def test_a_column_for_each_finding_gives_all_three_states(tmp_path):
    table = "File,Who,TB,Effusion\np1_a.png,7,1,\np1_b.png,7,0,-1\np2_a.png,8,yes,0\np3_a.png,9,,\n"
    manifest = ingest(own(tmp_path, COLUMNS, table))
    found = [states(manifest, image) for image in ("p1_a", "p1_b", "p2_a", "p3_a")]
    assert found == [
        {"tuberculosis": 1},
        {"tuberculosis": 0, "effusion": -1},
        {"tuberculosis": 1, "effusion": 0},
        {},
    ]
    assert manifest.table["patient_id"].to_list() == [
        "folder/7",
        "folder/7",
        "folder/8",
        "folder/9",
    ]


def test_a_blank_cell_can_mean_absent(tmp_path):
    table = "File,Who,TB,Effusion\np1_a.png,7,1,\np1_b.png,8,0,1\n"
    manifest = ingest(own(tmp_path, 'blank = "absent"' + COLUMNS, table, ("p1_a.png", "p1_b.png")))
    assert states(manifest, "p1_a") == {"tuberculosis": 1, "effusion": 0}


def test_class_folders_with_terms_and_masks_of_a_pattern(tmp_path):
    toml = 'patient_pattern = "(?P<patient>p[0-9]+)_"\nmasks = ["{folder}/{stem}.lungs.png", "seg/{stem}.png"]\n[terms]\nsick = "pneumonia"\n'
    own(
        tmp_path,
        toml,
        radiographs=("train/sick/p1_a.png", "train/normal/p2_a.png", "test/sick/p3_a.png"),
    )
    for place in ("train/sick/p1_a.lungs.png", "seg/p2_a.png", "seg/p9.png"):
        mask(tmp_path / place)
    manifest = ingest(tmp_path)
    assert manifest.table.select("path", "lung_mask", "given_part", "patient_id").rows() == [
        ("test/sick/p3_a.png", None, "test", "folder/p3"),
        ("train/normal/p2_a.png", "seg/p2_a.png", "train", "folder/p2"),
        ("train/sick/p1_a.png", "train/sick/p1_a.lungs.png", "train", "folder/p1"),
    ]
    assert manifest.labels.select("concept", "state", "rule").rows() == [
        ("pneumonia", 1, "folder"),
        ("pneumonia", 0, "not listed"),
        ("pneumonia", 1, "folder"),
    ]
    assert manifest.remarks.filter(pl.col("rule") == "mask-orphan")["path"].to_list() == [
        "seg/p9.png"
    ]


def test_several_tables_make_one_set(tmp_path):
    own(
        tmp_path,
        WORDS.replace('["list.csv"]', '["list.csv", "more.csv"]'),
        "File,Findings\np1_a.png,TB\n",
        ("p1_a.png", "p2_a.png"),
    )
    (tmp_path / "more.csv").write_text("File,Findings\np2_a.png,Effusion\n")
    assert ingest(tmp_path).table.height == 2


def test_folders_can_be_described_by_patterns(tmp_path):
    toml = 'folders = ["{source}/{patient}", "{source}"]\n'
    manifest = ingest(
        own(tmp_path, toml, radiographs=("north/17/a.png", "north/17/b.png", "south/c.png"))
    )
    assert manifest.table.select("source", "patient_id").rows() == [
        ("north", "folder/17"),
        ("north", "folder/17"),
        ("south", "folder/south/c"),
    ]


def test_a_word_can_deny_one_finding_or_make_it_uncertain(tmp_path):
    toml = '[terms]\nA = "no tuberculosis"\nB = "tuberculosis"\nC = "uncertain tuberculosis"\n'
    manifest = ingest(own(tmp_path, toml, radiographs=("A/1.png", "B/2.png", "C/3.png")))
    assert manifest.labels.select("concept", "state").rows() == [
        ("tuberculosis", 0),
        ("tuberculosis", 1),
        ("tuberculosis", -1),
    ]


def test_dicom_images_state_what_the_table_does_not(tmp_path):
    for name, patient in (("a", "P7"), ("b", "P7"), ("c", "P8")):
        write_dicom(
            tmp_path / f"{name}.dcm",
            np.zeros((70, 80), np.uint16),
            f"1.2.{ord(name)}",
            f"1.3.{ord(name)}",
            PatientID=patient,
            PatientSex="F",
            PatientAge="040Y",
        )
    row = ingest(tmp_path).table.row(0, named=True)
    assert ingest(tmp_path).table["patient_id"].to_list() == ["folder/P7", "folder/P7", "folder/P8"]
    assert (row["sex"], row["age_years"], row["view"], row["row_spacing_mm"], row["study"]) == (
        "female",
        40,
        "PA",
        0.5,
        "1.2.97",
    )


def test_one_patient_id_in_all_dicom_files_names_nobody(tmp_path):
    for name in "ab":
        write_dicom(
            tmp_path / f"{name}.dcm",
            np.zeros((70, 80), np.uint16),
            f"1.2.{ord(name)}",
            f"1.3.{ord(name)}",
            PatientID="ANON",
        )
    manifest = ingest(tmp_path)
    assert (
        manifest.table["patient_id"].n_unique() == 2
        and manifest.remarks.filter(pl.col("rule") == "no-patients").height == 1
    )


def test_a_folder_that_describes_itself_is_read_so_whatever_it_resembles(tmp_path):
    kaggle_masks.example(tmp_path, images=8, seed=0)
    (tmp_path / "hilum.toml").write_text('masks = ["masks/{stem}_mask.png", "masks/{stem}.png"]\n')
    manifest = ingest(tmp_path)
    assert (
        manifest.table["dataset"].unique().to_list() == ["folder"]
        and manifest.table["lung_mask"].drop_nulls().len() >= 6
    )


# ------------------------------------------------------------------------------------ what is wrong


def test_all_faults_of_the_toml_are_reported_at_once_with_the_nearest_names(tmp_path):
    toml = """
    lable = "Findings"
    separator = 7
    blank = "none"
    unlisted = "unknown"
    """
    with pytest.raises(BadRecipe, match="2 faults") as raised:
        ingest(own(tmp_path, toml))
    assert "no key is called 'lable': did you mean 'label'?" in str(
        raised.value
    ) and "separator must be a text, got 7" in str(raised.value)
    toml = """
    tables = ["../out.csv"]
    blank = "none"
    unlisted = "unknown"
    present = ["1"]
    absent = ["1"]
    normal = ["TB"]
    patient_pattern = "p[0-9"
    folders = ["{part}/{lable}"]
    masks = ["../{stem}.png", "masks/{name}.png"]
    [terms]
    TB = "tuberculosys"
    [mask_values]
    3 = "liver"
    """
    with pytest.raises(BadRecipe, match="11 faults") as raised:
        ingest(own(tmp_path, toml))
    expected = (
        "blank must be one of not mentioned, absent, got 'none'",
        "unlisted must be one of",
        "'1' stands for two states",
        "'TB' stands under normal and in [terms]",
        "patient_pattern 'p[0-9' is no regular expression",
        "'../{stem}.png' leads out of the folder",
        "tables: '../out.csv' leads out",
        "no part of a pattern is called 'name'",
        "no level is called 'lable': did you mean 'label'?",
        "did you mean 'tuberculosis'?",
        "[mask_values] '3': no role is called 'liver'",
    )
    for words in expected:
        assert words in str(raised.value), words


def test_tables_and_columns_that_are_not_there_get_the_nearest_name(tmp_path):
    with pytest.raises(BadData, match=r"no table is called 'lst\.csv': did you mean 'list\.csv'\?"):
        ingest(own(tmp_path, 'tables = ["lst.csv"]\n', "File,Findings\np1_a.png,TB\n"))
    with pytest.raises(BadRecipe, match="no column is called 'Fil': did you mean 'File'") as raised:
        ingest(
            own(
                tmp_path,
                'image = "Fil"\nlabel = "list.csv:Finding"\n',
                "File,Findings\np1_a.png,TB\n",
            )
        )
    assert "did you mean 'Findings'" in str(raised.value) or "list.csv:Finding" in str(raised.value)


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("tables = [", "is not TOML"),
        ('patient_pattern = "p"', "must have a group"),
        (
            'tables = ["list.csv"]\nimage = "File"\npatient = "File"\npatient_pattern = "(?P<patient>p)"',
            "both name the patients",
        ),
    ],
)
def test_a_toml_that_cannot_be_meant(tmp_path, toml, words):
    with pytest.raises(BadRecipe, match=words):
        ingest(own(tmp_path, toml, "File,Findings\np1_a.png,TB\n"))


def test_a_cell_whose_state_is_not_known_is_a_question(tmp_path):
    with pytest.raises(
        BadData, match="column 'TB' of list.csv: what 'maybe not' says of the finding is not known"
    ):
        ingest(
            own(
                tmp_path,
                COLUMNS,
                "File,Who,TB,Effusion\np1_a.png,7,maybe not,\np1_b.png,7,1,1\n",
                ("p1_a.png", "p1_b.png"),
            )
        )


def test_every_image_that_the_pattern_finds_no_patient_in_is_reported(tmp_path):
    with pytest.raises(
        BadData, match=r"2 faults\n.*patient_pattern .* finds no patient in 'x\.png'"
    ):
        ingest(
            own(
                tmp_path,
                WORDS,
                "File,Findings\np1_a.png,TB\nx.png,TB\ny.png,TB\n",
                ("p1_a.png", "x.png", "y.png"),
            )
        )


def test_the_settings_in_the_documentation_are_read(tmp_path):
    lines = folder.__doc__.split("lines are optional:\n")[1].split("`hilum describe")[0]
    table = "File,Findings\np1_a.png,TB|Effusion\np1_b.png,No finding\n"
    reported = [line.strip().replace("labels.csv", "list.csv") for line in lines.splitlines()]
    kept = [
        line for line in reported if not line.startswith(("#", "findings", "folders"))
    ]  # which this table and these names do not have
    manifest = ingest(own(tmp_path, "\n".join(kept), table, ("p1_a.png", "p1_b.png")))
    assert states(manifest, "p1_a") == {"tuberculosis": 1, "effusion": 1}
    assert manifest.table["patient_id"].to_list() == ["folder/p1"] * 2


def test_columns_that_are_said_to_be_unused_name_no_files(tmp_path):
    table = "File,TB\np1_a.png,1\np1_b.png,0\np2_a.png,0\np3_a.png,1\n"
    toml = 'unused_columns = ["File"]\nlabel = "TB"\n'
    with pytest.raises(HilumError, match="list.csv"):
        ingest(own(tmp_path / "unused", toml, table))
    manifest = ingest(own(tmp_path / "used", toml.replace("unused_columns", "image"), table))
    assert manifest.labels.height == 4


@pytest.mark.parametrize("names", ["a,b,c,d", "y,x,height,width"])
def test_the_columns_of_a_box_are_read_by_their_names_or_by_their_order(tmp_path, names):
    cells = "10,20,30,40" if names == "a,b,c,d" else "20,10,40,30"
    table = f"File,Findings,{names}\np1_a.png,mass,{cells}\n"
    toml = f'tables = ["list.csv"]\nimage = "File"\nlabel = "Findings"\nbox = {names.split(",")}\n'
    shapes = ingest(own(tmp_path, toml, table)).shapes
    assert shapes["shape"].to_list() == ['{"box":[20.0,10.0,40.0,30.0]}']


def test_a_box_of_three_columns_is_refused_with_what_is_expected(tmp_path):
    toml = 'tables = ["list.csv"]\nimage = "File"\nlabel = "Findings"\nbox = ["a", "b", "c"]\n'
    table = "File,Findings,a,b,c\np1_a.png,mass,1,2,3\n"
    with pytest.raises(BadRecipe, match="expected four: left, top, width, height"):
        ingest(own(tmp_path, toml, table))
