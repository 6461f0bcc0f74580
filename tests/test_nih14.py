"""ChestX-ray14: every form it is handed round in is read alike, and every fault of a copy is
reported with its file and line.
"""

import gzip
import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hilum.annotations import shapes
from hilum.config import Split
from hilum.dataset.image_columns import ImageColumns
from hilum.dataset.manifest import DROPPED
from hilum.dataset.readers import nih14
from hilum.errors import BadData, HilumError
from hilum.imaging.files import raster
from hilum.pipeline.ingest import ingest
from hilum.pipeline.split import split

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
real_data = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real radiographs of shared/data are not on this machine"
)

HEADER_2017 = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
HEADER_2020 = HEADER_2017[:-1].replace("Gender", "Sex")
HEADER_SAMPLE = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View "
    "Position,OriginalImageWidth,OriginalImageHeight,"
    "OriginalImagePixelSpacing_x,OriginalImagePixelSpacing_y"
)
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
# As published for the file of 2020; see also Wang et al. 2017.
COUNTS_2020 = {
    "atelectasis": 11559,
    "cardiomegaly": 2776,
    "effusion": 13317,
    "infiltration": 19894,
    "mass": 5782,
    "nodule": 6331,
    "pneumonia": 1431,
    "pneumothorax": 5302,
    "consolidation": 4667,
    "edema": 2303,
    "emphysema": 2516,
    "fibrosis": 1686,
    "hernia": 227,
    "pleural_thickening": 3385,
}


def line(
    name="00000001_000.png",
    labels="No Finding",
    patient="1",
    age="58",
    sex="M",
    view="PA",
    follow_up="0",
    size="2500,2048",
    spacing="0.168,0.143",
):
    return f"{name},{labels},{follow_up},{patient},{age},{sex},{view},{size},{spacing}"


def write(
    folder: Path, *lines: str, name: str = "Data_Entry_2017_v2020.csv", header: str = HEADER_2020
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join([header, *lines]) + "\n")
    return folder


def image(path: Path, height: int = 80, width: int = 70) -> None:
    raster.write_png(
        path, np.random.default_rng(0).integers(0, 255, (height, width)).astype(np.uint8)
    )


def remarks(manifest, rule):
    return manifest.remarks.filter(pl.col("rule") == rule)["message"].to_list()


def faults(folder: Path) -> str:
    with pytest.raises(BadData) as raised:
        ingest(folder, "nih14")
    return str(raised.value)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nih14")
    nih14.example(folder, images=16, seed=1)
    return folder


@pytest.fixture
def copy(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "copy"))


# --------------------------------------------------------------------------------- what a line says


def test_every_column_of_a_line_arrives(tmp_path):
    folder = write(tmp_path, line("00000007_002.png", "Mass|Hernia", "7", "44", "F", "AP", "3"))
    row = ingest(folder).table.row(0, named=True)
    assert (row["image_id"], row["patient_id"], row["path"]) == (
        "nih14/00000007_002",
        "nih14/7",
        "images/00000007_002.png",
    )
    assert (row["sex"], row["age_years"], row["view"], row["follow_up"]) == (
        "female",
        44.0,
        "AP",
        3,
    )
    assert (
        row["stated_height"],
        row["stated_width"],
        row["row_spacing_mm"],
        row["column_spacing_mm"],
    ) == (2048, 2500, 0.143, 0.168)


def test_what_is_listed_is_present_and_all_else_is_absent_by_a_rule_of_its_own(tmp_path):
    labels = ingest(write(tmp_path, line(labels="Hernia|Mass"))).labels
    assert labels.height == 14
    assert set(labels.filter(pl.col("state") == 1).select("concept", "term", "rule").rows()) == {
        ("hernia", "Hernia", "column"),
        ("mass", "Mass", "column"),
    }
    assert set(labels.filter(pl.col("state") == 0)["rule"]) == {"not listed"}
    assert set(labels["source"]) == {"Data_Entry_2017_v2020.csv, column Finding Labels"}


def test_no_finding_is_no_concept_and_makes_none_present(tmp_path):
    labels = ingest(write(tmp_path, line())).labels
    assert labels["state"].to_list() == [0] * 14 and "no_finding" not in set(labels["concept"])


def test_no_finding_beside_a_finding_is_reported(tmp_path):
    manifest = ingest(write(tmp_path, line(labels="No Finding|Edema"), line("00000002_000.png")))
    assert manifest.labels.filter(pl.col("state") == 1)["concept"].to_list() == ["edema"]
    assert (
        len(remarks(manifest, "label-conflict")) == 1
        and "line 2" in remarks(manifest, "label-conflict")[0]
    )


@pytest.mark.parametrize(
    ("age", "years"),
    [
        ("058Y", 58.0),
        ("58", 58.0),
        ("000Y", 0.0),
        ("006M", 0.5),
        ("003D", 0.008),
        ("120", 120.0),
        ("", None),
    ],
)
def test_ages_in_all_their_forms(tmp_path, age, years):
    assert ingest(write(tmp_path, line(age=age))).table["age_years"].to_list() == [years]


@pytest.mark.parametrize("age", ["148", "411Y"])
def test_an_impossible_age_is_left_empty_and_reported(tmp_path, age):
    manifest = ingest(write(tmp_path, line(age=age)))
    assert manifest.table["age_years"].to_list() == [None]
    assert remarks(manifest, "age-impossible") == [
        f"Data_Entry_2017_v2020.csv line 2 states an age of {int(age.rstrip('Y'))} years: it "
        f"is left empty"
    ]


@pytest.mark.parametrize(
    ("name", "header", "tail"),
    [
        ("Data_Entry_2017.csv", HEADER_2017, ","),
        ("Data_Entry_2017_v2020.csv", HEADER_2020, ""),
        ("sample_labels.csv", HEADER_SAMPLE, ""),
    ],
)
def test_the_columns_of_all_editions_give_one_table(tmp_path, name, header, tail):
    manifest = ingest(
        write(
            tmp_path,
            line(age="058Y") + tail,
            line("00000002_000.png", "Edema", "2") + tail,
            name=name,
            header=header,
        )
    )
    assert manifest.table.height == 2 and manifest.table.select(
        "stated_width", "column_spacing_mm", "sex"
    ).row(0) == (2500, 0.168, "male")


def test_of_two_tables_the_newer_one_counts_and_the_other_is_named(tmp_path):
    write(tmp_path, line(labels="Edema"), name="Data_Entry_2017.csv", header=HEADER_2017)
    manifest = ingest(write(tmp_path, line(labels="Mass")))
    assert manifest.labels.filter(pl.col("state") == 1)["concept"].to_list() == ["mass"]
    assert manifest.remarks.filter(pl.col("rule") == "dropped")["path"].to_list() == [
        "Data_Entry_2017.csv"
    ]


# ------------------------------------------------------------------------------------ where it lies


@pytest.mark.parametrize(
    "places",
    [["images"], ["images_001/images", "images_012/images"], ["images_001", "images_002"], ["."]],
)
def test_images_are_found_wherever_the_archives_put_them(tmp_path, places):
    names = [f"0000000{n}_000.png" for n in (1, 2)]
    folder = write(tmp_path, *(line(name, patient=str(n)) for n, name in enumerate(names, start=1)))
    for n, name in enumerate(names):
        image(folder / places[n % len(places)] / name)
    manifest = ingest(folder)
    assert manifest.table["path"].to_list() == [
        (Path(places[n % len(places)]) / name).as_posix() for n, name in enumerate(names)
    ]
    assert manifest.remarks.height == 0


def test_packed_tables_are_read(copy):
    before = ingest(copy)
    for name in ("Data_Entry_2017_v2020.csv", "BBox_List_2017.csv"):
        (copy / f"{name}.gz").write_bytes(gzip.compress((copy / name).read_bytes()))
        (copy / name).unlink()
    after = ingest(copy)
    assert after.table.equals(before.table) and after.labels.drop("source").equals(
        before.labels.drop("source")
    )
    assert after.shapes["shape"].equals(before.shapes["shape"])


def test_a_packed_table_cut_short_says_so(tmp_path):
    tmp_path.joinpath("Data_Entry_2017.csv.gz").write_bytes(
        gzip.compress(HEADER_2017.encode() * 50)[:-20]
    )
    assert "cannot be unpacked" in faults(tmp_path)


def test_without_any_image_the_table_is_read_alone_and_that_is_reported_once(copy):
    shutil.rmtree(copy / "images")
    manifest = ingest(copy)
    assert manifest.table.height == 16 and manifest.table["path"].str.starts_with("images/").all()
    assert (
        manifest.remarks["rule"].to_list() == ["images-missing"]
        and "16 images" in manifest.remarks["message"][0]
    )


def test_of_a_sample_the_lines_without_an_image_are_left_out_with_one_count(copy):
    for path in sorted((copy / "images").iterdir())[3:]:
        path.unlink()
    manifest = ingest(copy)
    assert manifest.table.height == 3
    assert [message.split(" (")[0] for message in remarks(manifest, "dropped")] == [
        "13"
    ] and "of its 16 images" in remarks(manifest, "dropped")[0]


def test_images_that_no_line_lists_copies_and_unknown_files_are_reported(copy):
    first = next((copy / "images").iterdir())
    image(copy / "images" / "holiday.png")
    image(copy / "images_001" / "images" / first.name)
    (copy / "images" / "Thumbs.db").write_bytes(b"x")
    manifest = ingest(copy)
    assert manifest.table.height == 16 and set(
        manifest.table["path"].str.split("/").list.first()
    ) == {"images"}
    reported = " ".join(remarks(manifest, "dropped"))
    assert (
        "holiday.png" in reported
        and f"images_001/images/{first.name}" in reported
        and "Thumbs.db" in reported
    )


# ---------------------------------------------------------------------------------- boxes and parts


def test_a_box_covers_the_pixels_that_the_list_names(tmp_path):
    folder = write(tmp_path, line(labels="Infiltration"))
    write(folder, "00000001_000.png,Infiltrate,10,20.4,30,5.2", name=nih14.BOXES, header=BOX_HEADER)
    image(folder / "images" / "00000001_000.png", 1024, 1024)
    drawn = ingest(folder).shapes.row(0, named=True)
    assert (drawn["concept"], drawn["term"], drawn["source"]) == (
        "infiltration",
        "Infiltrate",
        "BBox_List_2017.csv line 2",
    )
    expected = np.zeros((80, 70), bool)
    expected[20:26, 10:40] = True  # rows whose centres lie in 20.4 to 25.6
    assert np.array_equal(shapes.from_json(drawn["shape"]).to_mask((80, 70)), expected)


def test_the_made_up_boxes_hold_what_was_drawn(made):
    manifest = ingest(made)
    places = dict(manifest.table.select("image_id", "path").rows())
    present = set(manifest.labels.filter(pl.col("state") == 1).select("image_id", "concept").rows())
    assert (
        manifest.shapes.height >= 3
        and set(manifest.shapes.select("image_id", "concept").rows()) <= present
    )
    for row in manifest.shapes.iter_rows(named=True):
        size = raster.read(made / places[row["image_id"]]).values.shape
        assert shapes.faults(shapes.from_json(row["shape"]), size) == []


def test_a_box_beyond_its_image_is_a_fault_with_its_line(copy):
    name = min((copy / "images").iterdir()).name
    with open(copy / nih14.BOXES, "a") as stream:
        stream.write(f"{name},Mass,1000,10,100,20\n{name},Mass,10,10,0,20\n{name},Cyst,1,1,x,2\n")
    reported = faults(copy)
    assert (
        "outside the image" in reported
        and "1024x1024" in reported
        and "0 wide" in reported
        and "'Cyst' is not one of" in reported
        and "'x' is not a number" in reported
    )
    assert "BBox_List_2017.csv line" in reported


def test_a_box_on_an_image_that_no_line_lists_is_reported(copy):
    with open(copy / nih14.BOXES, "a") as stream:
        stream.write("00099999_000.png,Mass,1,1,10,10\n")
    assert "00099999_000.png" in remarks(ingest(copy), "box-orphan")[0]


def test_the_official_lists_give_the_parts_and_a_split_keeps_them(tmp_path):
    nih14.example(tmp_path, images=40, seed=2)
    manifest = ingest(tmp_path)
    lists = {name: (tmp_path / name).read_text().split() for name in nih14.OFFICIAL}
    parts = dict(
        zip(
            manifest.table["path"].str.split("/").list.last(),
            manifest.table["given_part"],
            strict=True,
        )
    )
    assert parts == dict.fromkeys(lists["train_val_list.txt"], "train") | dict.fromkeys(
        lists["test_list.txt"], "test"
    )
    divided = split(manifest, Split(min_per_class=1), finding="effusion").join(
        manifest.table.select("image_id", "given_part"), on="image_id"
    )
    assert set(divided.filter(pl.col("given_part") == "test")["part"]) == {
        "test"
    } and "test" not in set(divided.filter(pl.col("given_part") == "train")["part"])


@pytest.mark.parametrize("ending", ["_list.txt", ".txt"])
def test_the_lists_in_common_use_give_three_parts(tmp_path, ending):
    folder = write(tmp_path, *(line(f"0000000{n}_000.png", patient=str(n)) for n in (1, 2, 3)))
    for n, part in enumerate(("train", "val", "test"), start=1):
        (folder / f"{part}{ending}").write_text(f"0000000{n}_000.png{' 0' * 14}\n")
    assert ingest(folder).table["given_part"].to_list() == ["train", "tune", "test"]


def test_of_two_splits_the_official_one_counts_and_the_other_is_named(copy):
    name = next((copy / "images").iterdir()).name
    for part in ("train", "val", "test"):
        (copy / f"{part}.txt").write_text(f"{name}{' 0' * 14}\n")
    manifest = ingest(copy)
    assert (
        "tune" not in set(manifest.table["given_part"]) and len(remarks(manifest, "dropped")) == 3
    )


def test_an_image_in_two_lists_is_a_fault_and_one_in_none_is_reported(copy):
    names = (copy / "train_val_list.txt").read_text().split()
    (copy / "train_val_list.txt").write_text("\n".join(names[1:]))
    assert names[0] in remarks(ingest(copy), "part-missing")[0]
    with open(copy / "test_list.txt", "a") as stream:
        stream.write(f"{names[1]}\n")
    assert f"{names[1]} stands in train_val_list.txt line 1 already" in faults(copy)


# -------------------------------------------------------------------------------------- wrong input


def test_all_faults_of_a_copy_are_reported_at_once_with_file_and_line(tmp_path):
    folder = write(
        tmp_path,
        line(labels="Cyst|Mass|Lump"),
        line(),
        line("../../etc/passwd"),
        line("/tmp/a.png"),
        line("00000005_000.png", patient="five"),
        line("00000006_000.png", age="old", sex="X", view="L"),
        line("00000007_000.png", size="wide,2", spacing="0,nan"),
        line("00000002_000.png"),
        line("00000002_000.png"),
        line("00000008_000.png", labels="Mass|Mass"),
        "00000009_000.png,Mass,0,9",
    )
    reported = faults(folder)
    file = "Data_Entry_2017_v2020.csv line"
    for words in (
        f"{file} 2: Finding Labels 'Cyst|Mass|Lump' names 'Cyst', 'Lump', which is none of "
        f"the 14 findings",
        f"{file} 4: Image Index '../../etc/passwd' leads out",
        f"{file} 5: Image Index '/tmp/a.png' leads out",
        f"{file} 6: Patient ID 'five'",
        f"{file} 7: Patient Age 'old'",
        f"{file} 7: Patient Gender 'X'",
        f"{file} 7: View Position 'L'",
        f"{file} 8: OriginalImage[Width 'wide'",
        f"{file} 8: OriginalImagePixelSpacing[x '0'",
        f"{file} 8: y] 'nan'",
        f"{file} 10: 00000002_000.png stands in line 9 already",
        f"{file} 11: Finding Labels 'Mass|Mass' names a finding twice",
        f"{file} 12: has 4 cells, expected 11",
        "13 faults",
    ):
        assert words in reported


# Cells by column: sound ones, and others that are at fault or that the csv module reads its own way.
CELLS = (
    ("name", ["00000001_000.png", "00000002_000.png", "00000002_001.png", "a-b.c.png"],
     ["../x.png", "", "plain", " 00000003_000.png ", "two words.png", "\u2028.png", ".."]),
    ("labels", ["No Finding", "Mass|Hernia", "Edema"],
     ["Cyst|Mass", "Mass|Mass", "No Finding|Edema", "", " Mass ", "Infiltrate"]),
    ("patient", ["1", "2", "123456789"], ["01", "five", "", "1234567890", "0", "\u0663", " 2"]),
    ("age", ["58", "058Y", "006M"], ["148", "411Y", "old", "", "003D ", "3.5"]),
    ("sex", ["M", "F"], ["X", "", "O", " F"]),
    ("view", ["PA", "AP"], ["L", "", "pa"]),
    ("follow_up", ["0", "3"], ["", "-1", "1.0", "07"]),
    ("size", ["2500,2048"], ["0,1", "wide,2", ",", "2500", "1,2,3"]),
    ("spacing", ["0.168,0.143"], ["0,1", "nan,1", "inf,1", ",", "1e-3,.5", "0.1"]),
)  # fmt: skip
LINES = ["", "   ", ",", "x", "\t", '"a', line() + ",", '"' + line().replace(",", '",', 1)]


@st.composite
def tables(draw):
    """The text of a table, of which few cells are odd."""
    lines = [
        {name: draw(st.sampled_from(sound)) for name, sound, _ in CELLS}
        for _ in range(draw(st.integers(0, 5)))
    ]
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2])) if lines else 0):
        name, _, odd = draw(st.sampled_from(CELLS))
        draw(st.sampled_from(lines))[name] = draw(st.sampled_from(odd))
    header = draw(st.sampled_from([HEADER_2017, HEADER_2020, HEADER_SAMPLE]))
    written = [line(**cells) + "," * (header == HEADER_2017) for cells in lines]
    if draw(st.integers(0, 3)) == 3:
        at = draw(st.integers(0, len(written)))
        written.insert(at, draw(st.sampled_from(LINES)))
    if draw(st.integers(0, 9)) == 9:
        header = header.replace("Patient ID", draw(st.sampled_from([" Patient ID ", "Person"])))
    ending = draw(st.sampled_from(["\n", "\r\n"]))
    mark = draw(st.sampled_from(["", "\ufeff"]))
    return mark + ending.join([header, *written]) + draw(st.sampled_from(["", ending, ending * 2]))


def read(folder: Path, text: str) -> tuple[object, ...]:
    """What the reader makes of a table with this text: rows, labels, remarks; or its faults."""
    (folder / "Data_Entry_2017_v2020.csv").write_bytes(text.encode())
    try:
        *found, images = nih14.rows(folder)
    except BadData as error:
        return (str(error),)
    assert isinstance(images, ImageColumns)
    labels = [images.labels[place] for place in images.table["labels"]]
    return found, images.table.drop("labels").rows(), images.table.columns, labels


@settings(max_examples=100, deadline=None)
@given(tables())
def test_a_table_says_the_same_whether_or_not_a_cell_of_it_is_quoted(tmp_path_factory, text):
    """A table without quotes is read column by column, any other line by line."""
    folder = tmp_path_factory.getbasetemp() / "quoted"
    folder.mkdir(exist_ok=True)
    assert read(folder, text) == read(folder, text.replace("Image Index", '"Image Index"', 1))


def test_missing_columns_are_all_named(tmp_path):
    folder = write(
        tmp_path, line(), header=HEADER_2020.replace("Patient ID", "Person").replace("y]", "z]")
    )
    reported = faults(folder)
    assert (
        "line 1: no column Patient ID, no column y] or OriginalImagePixelSpacing_y" in reported
        and "Person" in reported
    )


def test_a_byte_order_mark_changes_nothing(copy):
    before = ingest(copy).digest
    for name in ("Data_Entry_2017_v2020.csv", "BBox_List_2017.csv", "test_list.txt"):
        (copy / name).write_bytes(
            b"\xef\xbb\xbf" + (copy / name).read_bytes().replace(b"\n", b"\r\n")
        )
    assert ingest(copy).digest == before


def test_another_encoding_is_read_and_reported(copy):
    path = copy / "Data_Entry_2017_v2020.csv"
    path.write_bytes(path.read_text().encode("utf-16"))
    manifest = ingest(copy)
    assert manifest.table.height == 16 and "UTF-16" in remarks(manifest, "csv-encoding")[0]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no symbolic links here")
def test_a_loop_of_links_ends(copy):
    (copy / "images" / "loop").symlink_to(copy)
    (copy / "images_001").symlink_to(copy / "images_001")
    (copy / "images" / "00099999_000.png").symlink_to(copy / "images" / "00099999_000.png")
    assert ingest(copy).table.height == 16


def test_a_table_without_lines_is_not_a_data_set(tmp_path):
    with pytest.raises(HilumError, match="holds no images of its layout"):
        ingest(write(tmp_path), "nih14")


def test_a_table_called_sample_labels_of_another_set_is_not_taken_for_this_one(tmp_path):
    (tmp_path / "sample_labels.csv").write_text("image,label\na.png,normal\n")
    assert not nih14.detect(tmp_path)


# ---------------------------------------------------------------------------------------- real data


@real_data
def test_the_real_table_has_the_published_counts():
    manifest = ingest(SHARED / "nih-metadata")
    assert (
        manifest.table.height,
        manifest.table["patient_id"].n_unique(),
        manifest.shapes.height,
    ) == (112_120, 30_805, 984)
    present = manifest.labels.filter(pl.col("state") == 1)
    assert dict(present.group_by("concept").len().rows()) == COUNTS_2020
    assert manifest.table.height - present["image_id"].n_unique() == 60_361  # No Finding
    assert manifest.labels.height == 14 * 112_120
    assert manifest.remarks["rule"].to_list() == ["images-missing"]
    assert dict(manifest.table["view"].value_counts().rows()) == {"PA": 67_310, "AP": 44_810}


@real_data
def test_the_real_images_open_and_their_boxes_lie_on_the_right_pixels():
    root = SHARED / "nih-sample"
    manifest = ingest(root)
    assert (manifest.table.height, manifest.remarks.height) == (50, 0)
    listed = pl.read_csv(
        root / "BBox_List_2017.csv", new_columns=["name", "term", "x", "y", "w", "h"]
    )
    places = dict(manifest.table.select("image_id", "path").rows())
    denser = []
    for row in manifest.shapes.iter_rows(named=True):
        name, number = places[row["image_id"]].split("/")[1], int(row["source"].split()[-1])
        x, y, w, h = listed.select("x", "y", "w", "h").row(number - 2)
        assert listed.row(number - 2)[:2] == (name, row["term"])
        values = raster.read(root / places[row["image_id"]]).values.astype(float)
        mask = shapes.from_json(row["shape"]).to_mask(values.shape)
        assert (
            np.array_equal(np.argwhere(mask).min(axis=0), np.round([y, x]))
            and abs(mask.sum() - w * h) <= w + h
        )
        if row["concept"] in ("pneumonia", "infiltration", "mass", "effusion"):
            denser.append(
                values[mask].mean() - values[mask[:, ::-1]].mean()
            )  # than the same place of the other side
    assert manifest.shapes.height == listed.height and np.mean(denser) > 10
    assert all(raster.read(root / place).values.shape == (1024, 1024) for place in places.values())


# ----------------------------------------------------------- copies of another size, nested folders


@given(st.integers(1, 2048), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_boxes_lie_on_a_square_copy_where_they_lie_on_the_release(
    tmp_path_factory, side, top, bottom, left, right
):
    (top, bottom), (left, right) = (
        sorted(round(1024 * edge, 3) for edge in pair) for pair in ((top, bottom), (left, right))
    )
    assume(bottom > top and right > left)
    folder = write(tmp_path_factory.mktemp("copy"), line(labels="Mass"))
    numbers = f"{left},{top},{right - left!r},{bottom - top!r}"
    write(folder, f"00000001_000.png,Mass,{numbers}", name=nih14.BOXES, header=BOX_HEADER)
    image(folder / "images" / "00000001_000.png", side, side)
    try:
        manifest = ingest(folder)
    except BadData as fault:  # bottom or right end rounds to beyond 1024
        assert "outside the image" in str(fault)
        return
    box = shapes.from_json(manifest.shapes["shape"].item())
    assert np.allclose(
        box.to_coco(), np.array([left, top, right - left, bottom - top]) * side / 1024
    )
    assert not [fault for fault in shapes.faults(box, (side, side)) if "outside" in fault]
    assert bool(remarks(manifest, "box-scaled")) == (side != 1024)


def test_boxes_on_copies_that_are_not_square_are_refused_with_file_and_remedy(tmp_path):
    folder = write(tmp_path, line(labels="Mass"), line("00000002_000.png", "Mass", patient="2"))
    boxes = ("00000001_000.png,Mass,1,2,30,40", "00000002_000.png,Mass,1,2,30,40")
    write(folder, *boxes, name=nih14.BOXES, header=BOX_HEADER)
    image(folder / "images" / "00000001_000.png", 400, 300)
    image(folder / "images" / "00000002_000.png", 512, 512)
    reported = faults(folder)
    assert (
        "BBox_List_2017.csv line 2: images/00000001_000.png" in reported
        and "line 3" not in reported
    )
    assert (
        "1024x1024" in reported
        and "400x300" in reported
        and "remove BBox_List_2017.csv" in reported
    )
    (folder / nih14.BOXES).unlink()
    assert ingest(folder).table.height == 2 and ingest(folder).shapes.height == 0


@pytest.mark.parametrize(
    "table", ["sample_labels.csv", "Data_Entry_2017.csv", "train_df.csv", "sample_labels.csv.gz"]
)
@pytest.mark.parametrize(
    "place",
    [
        "images",
        "sample/images",
        "sample",
        "images_001/images",
        "kaggle/images_002",
        "archive/images_001/images",
        "",
    ],
)
def test_the_table_may_lie_above_the_images_and_have_another_name(tmp_path, table, place):
    lines = [
        line(f"0000000{number}_000.png", patient=str(number), age=f"0{50 + number}Y")
        for number in range(1, 4)
    ]
    if table.endswith(".gz"):
        (tmp_path / table).write_bytes(gzip.compress("\n".join([HEADER_2020, *lines]).encode()))
    else:
        write(tmp_path, *lines, name=table)
    for number in range(1, 4):
        image(tmp_path / place / f"0000000{number}_000.png")
    manifest = ingest(tmp_path)
    assert nih14.detect(tmp_path) and manifest.table["dataset"].unique().to_list() == ["nih14"]
    assert sorted(manifest.table["path"]) == [
        f"{place}/0000000{number}_000.png".lstrip("/") for number in range(1, 4)
    ]
    assert sorted(manifest.table["age_years"]) == [51, 52, 53] and manifest.remarks.height == 0


def test_what_macos_leaves_behind_is_counted_and_no_image(tmp_path):
    write(tmp_path, line(), name="sample_labels.csv")
    image(tmp_path / "sample" / "images" / "00000001_000.png")
    for place in (
        "__MACOSX/sample/images/._00000001_000.png",
        "sample/images/._00000001_000.png",
        "sample/images/.DS_Store",
        "sample/.DS_Store",
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    manifest = ingest(tmp_path)
    assert manifest.table.height == 1
    (reported,) = remarks(manifest, DROPPED)
    assert reported.startswith("4 (") and "macOS" in reported


def test_two_tables_of_other_names_are_not_chosen_between(tmp_path):
    for name in ("train.csv", "valid.csv"):
        write(tmp_path, line(), name=name)
    assert not nih14.detect(tmp_path)


def test_a_larger_made_up_copy_begins_with_the_images_of_a_smaller_one(tmp_path):
    for name, images in (("few", 9), ("more", 14)):
        nih14.example(tmp_path / name, images=images, seed=3, size=64)
    few, more = (sorted((tmp_path / name / "images").iterdir()) for name in ("few", "more"))
    assert (len(few), len(more)) == (9, 14)
    assert [path.name for path in few] == [path.name for path in more[:9]]
    assert [path.read_bytes() for path in few] == [path.read_bytes() for path in more[:9]]
    tables = [
        (tmp_path / name / "Data_Entry_2017_v2020.csv").read_text() for name in ("few", "more")
    ]
    assert tables[1].startswith(tables[0])
