"""The contract of the export plug-ins: every module keeps it by being there; and what each of the
forms promises to bring back.
"""

import csv
import errno
import inspect
import json
import os
import shutil
from collections import defaultdict
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from conftest import hilum
from made_up import manifest as made_up

from hilum import plugins, storage
from hilum.annotations import shapes
from hilum.dataset.manifest import SHAPE_COLUMNS, Manifest
from hilum.dataset.merge import merge
from hilum.dataset.writers import coco, csv_tables, imagefolder
from hilum.errors import BadData, CannotWrite, HilumError, Mismatch, NotFound
from hilum.imaging.files import image_file, raster
from hilum.pipeline import ingest
from hilum.run_folder import Run
from hilum.runs.export import export

NAMES = plugins.names("writers")
WITH_RADIOGRAPHS = [
    name for name in NAMES if getattr(plugins.load("writers", name), "COPIES_IMAGES", True)
]
WORDS = {"present": 1, "absent": 0, "uncertain": -1, "not mentioned": None}


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> Manifest:
    """Four merged sets: masks of both lungs and of one, boxes, labels in all four states; read
    only.
    """
    folder = tmp_path_factory.mktemp("data")
    names = ("montgomery", "nih14", "folder", "kermany")
    for name in names:
        plugins.load("readers", name).example(folder / name, images=10, seed=6)
    whole = merge([ingest.ingest(folder / name) for name in names])
    unsure = pl.when(pl.int_range(pl.len()) % 7 == 3).then(pl.lit(-1, pl.Int8)).otherwise("state")
    return replace(whole, labels=whole.labels.with_columns(unsure.alias("state")))


@pytest.fixture(scope="module")
def split(given) -> pl.DataFrame:
    """By patient; the last two patients are in no part."""
    patients = given.table["patient_id"].unique().sort()
    part = {
        patient: ("train", "train", "tune", "test")[index % 4]
        for index, patient in enumerate(patients[:-2])
    }
    reported = given.table.select(
        "image_id", pl.col("patient_id").replace_strict(part, default=None).alias("part")
    )
    return reported.drop_nulls("part")


def all_files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def states(manifest) -> dict[tuple[str, str], int]:
    return {
        (image, concept): state
        for image, concept, state in manifest.labels.select(
            "image_id", "concept", "state"
        ).iter_rows()
    }


def drawn_on(manifest, *shapes_given, place=0) -> Manifest:
    """The manifest with these shapes of a nodule on one image, and no others."""
    image = manifest.table["image_id"][place]
    rows = [[image, "nodule", "knot", shape.to_json(), "by hand", "me"] for shape in shapes_given]
    return replace(manifest, shapes=pl.DataFrame(rows, schema=SHAPE_COLUMNS, orient="row"))


# ------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("name", NAMES)
def test_it_has_a_card_a_docstring_and_the_plugins_signature(name):
    module = plugins.load("writers", name)
    assert module.CARD.title and module.CARD.caveats and len(module.__doc__) > 200
    assert list(inspect.signature(module.write).parameters) == ["manifest", "folder", "split"]


@pytest.mark.parametrize("name", NAMES)
def test_it_fills_a_new_or_an_empty_folder_alike_and_reports_counts_as_json(
    name, given, split, tmp_path
):
    (tmp_path / "empty").mkdir()
    reported = [
        plugins.load("writers", name).write(given, tmp_path / place, split=split)
        for place in ("empty", "deep/new")
    ]
    assert all_files(tmp_path / "empty") == all_files(tmp_path / "deep/new") != {}
    assert (
        json.loads(json.dumps(reported[0])) == reported[0] and reported[0]["images"] == split.height
    )
    assert reported[0]["not in the split"] == given.table.height - split.height > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_holds_anything_is_refused_and_left_alone(name, given, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for place in ("mine", "mine/letter.txt"):
        with pytest.raises(HilumError, match="is not empty; choose another folder"):
            plugins.load("writers", name).write(given, tmp_path / place, split=None)
    assert list(all_files(tmp_path)) == ["mine/letter.txt"]


@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_fills_up_leaves_nothing(name, given, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CannotWrite, match="disk is full"):
        plugins.load("writers", name).write(given, tmp_path / "out", split=None)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    (tmp_path / ".out.part").mkdir()  # as a killed export leaves it
    (tmp_path / ".out.part" / "half").write_text("x")
    plugins.load("writers", name).write(given, tmp_path / "out", split=None)
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and not list(
        (tmp_path / "out").rglob("half")
    )


@pytest.mark.parametrize("name", NAMES)
def test_it_writes_no_links_and_changes_nothing_of_the_data(name, given, tmp_path):
    before = {
        path: (path.stat().st_mtime_ns, path.stat().st_size, path.stat().st_nlink)
        for path in given.root.rglob("*")
    }
    plugins.load("writers", name).write(given, tmp_path / "out", split=None)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_symlink()]
    assert before == {
        path: (path.stat().st_mtime_ns, path.stat().st_size, path.stat().st_nlink)
        for path in given.root.rglob("*")
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_split_of_other_images_is_refused(name, given, tmp_path):
    other = pl.DataFrame({"image_id": ["made/up"], "part": ["train"]})
    with pytest.raises(Mismatch, match=r"names 1 images that the table does not have \(made/up\)"):
        plugins.load("writers", name).write(given, tmp_path / "out", split=other)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", NAMES)
def test_images_without_labels_are_exported(name, tmp_path):
    for image in ("a", "b"):
        raster.write_png(tmp_path / "data" / f"{image}.png", np.full((70, 80), 9, np.uint8))
    manifest = made_up([("a", "1", "here", None), ("b", "2", "here", None)], tmp_path / "data")
    assert (
        plugins.load("writers", name).write(manifest, tmp_path / "out", split=None)["images"] == 2
    )


@pytest.mark.parametrize("name", WITH_RADIOGRAPHS)
def test_images_that_are_not_there_are_all_named_and_nothing_is_written(name, given, tmp_path):
    gone = replace(
        given,
        table=given.table.with_columns(
            pl.when(pl.int_range(pl.len()) < 3)
            .then(pl.lit("lost/") + pl.col("path"))
            .otherwise("path")
            .alias("path")
        ),
    )
    with pytest.raises(BadData, match="3 faults") as raised:
        plugins.load("writers", name).write(gone, tmp_path / "out", split=None)
    assert gone.table["path"][2] in str(raised.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", WITH_RADIOGRAPHS)
def test_images_whose_names_would_be_one_are_refused(name, tmp_path):
    rows = [("a/b", "1", "here", 1), ("a__b", "2", "here", 0)]
    for image, *_ in rows:
        raster.write_png(tmp_path / "data" / f"{image}.png", np.full((70, 80), 9, np.uint8))
    with pytest.raises(BadData, match=r"made/a__b\.png"):
        plugins.load("writers", name).write(
            made_up(rows, tmp_path / "data"), tmp_path / "out", split=None
        )


@pytest.mark.parametrize("name", WITH_RADIOGRAPHS)
def test_a_dicom_becomes_a_png_of_the_same_radiograph_and_its_header_stays_behind(name, tmp_path):
    plugins.load("readers", "unidata").example(tmp_path / "data", images=4, seed=1)
    manifest = ingest.ingest(tmp_path / "data")
    plugins.load("writers", name).write(manifest, tmp_path / "out", split=None)
    radiographs = {path.stem: path for path in (tmp_path / "out").rglob("*.png")}
    assert len(radiographs) == 4 and not list((tmp_path / "out").rglob("*.dcm"))
    for image_id, path in manifest.table.select("image_id", "path").iter_rows():
        expected = image_file.read(tmp_path / "data" / path).radiograph().pixels
        written = raster.read(radiographs[image_id.partition("/")[2]]).values
        assert (
            written.dtype == np.uint8 and np.abs(written / 255 - expected).max() <= 0.5 / 255 + 1e-6
        )


# ---------------------------------------------------------------------------------------------- CSV


def test_all_four_states_come_back_from_the_wide_table(given, split, tmp_path):
    csv_tables.write(given, tmp_path / "out", split=split)
    lines = list(csv.DictReader((tmp_path / "out" / "images.csv").open(encoding="utf-8")))
    concepts = given.labels["concept"].unique().to_list()
    assert {row["image_id"]: row["part"] for row in lines} == dict(split.iter_rows())
    read = {
        (row["image_id"], concept): int(row[concept])
        for row in lines
        for concept in concepts
        if row[concept] != ""
    }
    assert read == {
        key: state for key, state in states(given).items() if key[0] in set(split["image_id"])
    }
    assert {-1, 0, 1} == set(read.values()) and len(read) < len(lines) * len(concepts)


def test_the_ledger_brings_every_label_back_with_its_origin(given, tmp_path):
    words = 'he said "no, none",\nand so'
    quoted = replace(given, labels=given.labels.with_columns(pl.lit(words).alias("words")))
    csv_tables.write(quoted, tmp_path / "out", split=None)
    assert pl.read_csv(tmp_path / "out" / "ledger.csv", schema=quoted.labels.schema).equals(
        quoted.labels
    )


# -------------------------------------------------------------------------------------- imagefolder


def lines_of(folder) -> dict[str, list[dict]]:
    return {
        path.parent.name: [
            json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()
        ]
        for path in sorted(folder.glob("*/metadata.jsonl"))
    }


def test_every_line_names_an_image_below_its_part_that_is_the_source_byte_for_byte(
    given, split, tmp_path
):
    imagefolder.write(given, tmp_path / "out", split=split)
    source = dict(given.table.select("image_id", "path").iter_rows())
    named = {
        f"{part}/{line['file_name']}": line["image_id"]
        for part, lines in lines_of(tmp_path / "out").items()
        for line in lines
    }
    for place, image in named.items():
        assert (tmp_path / "out" / place).read_bytes() == (given.root / source[image]).read_bytes()
    radiographs = {
        path.relative_to(tmp_path / "out").as_posix()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file() and path.suffix != ".jsonl"
    }
    assert radiographs == set(named) and len(named) == split.height


def test_parts_are_folders_by_the_forms_own_names(given, split, tmp_path):
    imagefolder.write(given, tmp_path / "out", split=split)
    named = {"train": "train", "validation": "tune", "test": "test"}
    reported = {
        line["image_id"]: named[part]
        for part, lines in lines_of(tmp_path / "out").items()
        for line in lines
    }
    assert reported == dict(split.iter_rows())


def test_no_folder_below_a_part_can_be_taken_for_a_part(given, tmp_path):
    """Kermany's names hold train/ and test/."""
    imagefolder.write(given, tmp_path / "out", split=None)
    (lines,) = lines_of(tmp_path / "out").values()
    assert all(line["file_name"].count("/") == 1 for line in lines) and any(
        "test__" in line["file_name"] for line in lines
    )


def test_labels_keep_four_states(given, tmp_path):
    imagefolder.write(given, tmp_path / "out", split=None)
    (lines,) = lines_of(tmp_path / "out").values()
    read = {
        (line["image_id"], concept): WORDS[word]
        for line in lines
        for concept, word in line["labels"].items()
    }
    assert {key: state for key, state in read.items() if state is not None} == states(
        given
    ) and None in read.values()
    about = {
        line["image_id"]: (
            line["patient_id"],
            line["sex"] or None,
            line["age_years"],
            line["view"] or None,
        )
        for line in lines
    }
    assert about == {
        row[0]: row[1:]
        for row in given.table.select(
            "image_id", "patient_id", "sex", "age_years", "view"
        ).iter_rows()
    }


def test_all_parts_have_the_same_columns_of_the_same_types_from_their_first_line_on(
    given, split, tmp_path
):
    """What `datasets` demands: it reads types off the first lines, and null alone is a type of its
    own.
    """
    imagefolder.write(given, tmp_path / "mixed", split=split)
    ageless = given.table.filter(pl.col("age_years").is_null())["image_id"].to_list()
    apart = given.table.select(
        "image_id",
        pl.when(pl.col("image_id").is_in(ageless))
        .then(pl.lit("test"))
        .otherwise(pl.lit("train"))
        .alias("part"),
    )
    reported = imagefolder.write(given, tmp_path / "apart", split=apart)
    assert "age_years" in reported["left out"]
    imagefolder.write(
        given.only(given.table.filter(pl.col("dataset") != "folder")["image_id"]),
        tmp_path / "ageless first by name",
        split=None,
    )
    assert lines_of(tmp_path / "ageless first by name")["train"][0]["age_years"] > 0
    for place, keys in (("mixed", True), ("apart", False)):
        parts = lines_of(tmp_path / place)
        kinds = [
            {key: type(value) for key, value in lines[0].items()}
            | {key: type(value) for key, value in lines[0]["labels"].items()}
            for lines in parts.values()
        ]
        assert (
            all(kind == kinds[0] for kind in kinds)
            and type(None) not in kinds[0].values()
            and ("age_years" in kinds[0]) == keys
        )
        assert (
            len(
                {
                    (*sorted(line), *sorted(line["labels"]))
                    for lines in parts.values()
                    for line in lines
                }
            )
            == 1
        )


# --------------------------------------------------------------------------------------------- COCO


def decoded(runs: dict) -> np.ndarray:
    """COCO's compressed run lengths to pixels, by the format's definition and by
    nothing of ours.
    """
    counts, place = [], 0
    text = runs["counts"]
    while place < len(text):
        value = shift = 0
        more = True
        while more:
            bits = ord(text[place]) - 48
            value |= (bits & 0x1F) << shift
            more, shift, place = bool(bits & 0x20), shift + 5, place + 1
            if not more and bits & 0x10:
                value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    flat = np.concatenate([np.full(count, index % 2 == 1) for index, count in enumerate(counts)])
    return flat.reshape(runs["size"][::-1]).T


def instances(folder) -> dict[str, dict]:
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((folder / "annotations").iterdir())
    }


def test_lung_masks_decode_to_the_pixels_of_their_files(given, tmp_path):
    coco.write(given, tmp_path / "out", split=None)
    reported = instances(tmp_path / "out")["instances"]
    names = {category["id"]: category["name"] for category in reported["categories"]}
    images = {image["id"]: image["image_id"] for image in reported["images"]}
    columns = {"lungs": "lung_mask", "right_lung": "right_lung_mask", "left_lung": "left_lung_mask"}
    masks = {
        (images[one["image_id"]], names[one["category_id"]]): one
        for one in reported["annotations"]
        if names[one["category_id"]] in columns
    }
    expected = {
        (row["image_id"], name): row[column]
        for row in given.table.iter_rows(named=True)
        for name, column in columns.items()
        if row[column]
    }
    assert masks.keys() == expected.keys() and len(masks) >= 10
    for key, one in masks.items():
        mask = raster.read(given.root / expected[key]).values > 127
        rows, columns_in = np.nonzero(mask)
        assert (
            np.array_equal(decoded(one["segmentation"]), mask)
            and one["area"] == mask.sum()
            and one["iscrowd"] == 0
        )
        assert one["bbox"] == [
            columns_in.min(),
            rows.min(),
            np.ptp(columns_in) + 1,
            np.ptp(rows) + 1,
        ]


def test_parts_share_categories_and_no_number(given, split, tmp_path):
    coco.write(given, tmp_path / "out", split=split)
    reported = instances(tmp_path / "out")
    assert set(reported) == {"instances_train", "instances_val", "instances_test"}
    assert len({json.dumps(one["categories"]) for one in reported.values()}) == 1
    for kind in ("images", "annotations"):
        numbers = [entry["id"] for one in reported.values() for entry in one[kind]]
        assert len(numbers) == len(set(numbers)) > 0
    parts = {
        image["image_id"]: {
            "instances_train": "train",
            "instances_val": "tune",
            "instances_test": "test",
        }[name]
        for name, one in reported.items()
        for image in one["images"]
    }
    assert parts == dict(split.iter_rows())
    for one in reported.values():
        inside = {image["id"] for image in one["images"]}
        assert all(entry["image_id"] in inside for entry in one["annotations"])


def test_images_state_their_files_size_labels_and_licence(given, tmp_path):
    coco.write(given, tmp_path / "out", split=None)
    reported = instances(tmp_path / "out")["instances"]
    licences = {licence["id"]: licence["name"] for licence in reported["licenses"]}
    read = defaultdict(dict)
    for image in reported["images"]:
        values = raster.read(tmp_path / "out" / "images" / image["file_name"]).values
        assert (image["height"], image["width"]) == values.shape
        assert (
            licences[image["license"]]
            == plugins.load("readers", image["image_id"].split("/")[0]).CARD.licence
        )
        read |= {(image["image_id"], concept): state for concept, state in image["labels"].items()}
    assert read == states(given)


def test_boxes_keep_their_numbers(given, tmp_path):
    coco.write(given, tmp_path / "out", split=None)
    reported = instances(tmp_path / "out")["instances"]
    images = {image["id"]: image["image_id"] for image in reported["images"]}
    drawn = [
        one
        for one in reported["annotations"]
        if one["term"] not in ("lungs", "right_lung", "left_lung")
    ]
    boxes = sorted((images[one["image_id"]], one["bbox"]) for one in drawn)
    expected = sorted(
        (row["image_id"], shapes.from_json(row["shape"]).to_coco())
        for row in given.shapes.iter_rows(named=True)
    )
    assert boxes == expected != []


def test_shapes_of_each_kind_come_back_as_their_pixels(given, tmp_path):
    place = 1
    size = raster.read(given.root / given.table["path"][place]).values.shape
    triangle = shapes.Polygon(((10.0, 10.0), (40.0, 12.5), (20.0, 50.0)))
    ring = shapes.Polygon(
        ((5.0, 5.0), (5.0, 60.0), (60.0, 60.0), (60.0, 5.0)),
        (((20.0, 20.0), (20.0, 40.0), (40.0, 40.0), (40.0, 20.0)),),
    )
    bow = shapes.Polygon(((0.0, 0.0), (30.0, 30.0), (30.0, 0.0), (0.0, 30.0)))
    patch = shapes.Bitmap(7, 9, np.random.default_rng(0).random((20, 30)) > 0.5)
    coco.write(
        drawn_on(given, triangle, ring, bow, patch, place=place), tmp_path / "out", split=None
    )
    reported = instances(tmp_path / "out")["instances"]
    knots = [one["segmentation"] for one in reported["annotations"] if one["term"] == "knot"]
    flat = [segmentation[0] for segmentation in knots if isinstance(segmentation, list)]
    assert flat == [[10.0, 10.0, 12.5, 40.0, 50.0, 20.0]], (
        "only the sound polygon without holes is points, x before y"
    )
    masks = [decoded(segmentation) for segmentation in knots if isinstance(segmentation, dict)]
    expected = [shape.to_mask(size) for shape in (ring, bow, patch)]
    assert len(masks) == 3 and all(
        any(np.array_equal(mask, one) for mask in masks) for one in expected
    )


def test_what_cannot_be_written_is_listed_with_its_reason(given, tmp_path):
    beyond = drawn_on(given, shapes.Box(5000.0, 5000.0, 10.0, 10.0))
    column = given.table["lung_mask"]
    other = given.table.filter(pl.col("right_lung_mask").is_not_null())["right_lung_mask"][0]
    wrong = (
        pl.when(pl.int_range(pl.len()) == column.is_not_null().arg_true()[0])
        .then(pl.lit(other))
        .otherwise("lung_mask")
    )
    reported = coco.write(
        replace(beyond, table=given.table.with_columns(wrong.alias("lung_mask"))),
        tmp_path / "out",
        split=None,
    )
    left = instances(tmp_path / "out")["instances"]["info"]["left_out"]
    assert reported["left out, see info.left_out"] == len(left) == 2
    assert any("covers no pixel" in reason for reason in left) and any(
        "export the mask again in its image's size" in reason for reason in left
    )


# ------------------------------------------------------------------------------------ step and verb


def test_an_unknown_form_gets_the_nearest_name(given, tmp_path):
    with pytest.raises(NotFound, match="did you mean 'coco'"):
        export("cocoa", given.root, tmp_path / "out")


def test_the_data_is_never_written_to(given, tmp_path):
    source = given.root / "montgomery"
    with pytest.raises(HilumError, match="inside the data folder"):
        export("csv_tables", source, source / "out")
    assert not (source / "out").exists()


def test_a_run_is_exported_by_its_split(small_run, tmp_path):
    done = hilum("export", "csv_tables", small_run.folder, tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    split = storage.read_table(small_run / "split.parquet")
    assert dict(
        pl.read_csv(tmp_path / "out" / "images.csv").select("image_id", "part").iter_rows()
    ) == dict(split.select("image_id", "part").iter_rows())
    assert json.loads(done.stdout)["images"] == split.height


def test_a_split_of_an_earlier_table_is_refused(small_run, tmp_path):
    shutil.copytree(small_run.folder, tmp_path / "run")
    run = Run(tmp_path / "run")
    run.finish("ingest", {}, {"manifest.parquet": "another"}, run.summary("ingest"))
    with pytest.raises(Mismatch, match="earlier table"):
        export("csv_tables", tmp_path / "run", tmp_path / "out")


def test_a_folder_and_a_recipe_are_exported_without_a_run(given, tmp_path):
    (tmp_path / "r.toml").write_text(
        f'[data]\nfolder = "{given.root}/montgomery"\nalso = ["{given.root}/nih14"]\n'
    )
    assert export("csv_tables", tmp_path / "r.toml", tmp_path / "two")["images"] == 20
    assert export("csv_tables", given.root / "kermany", tmp_path / "one")["images"] == 10
