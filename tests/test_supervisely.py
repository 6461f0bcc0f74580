"""Chest Xray Masks and Labels in Supervisely's form: reference masks become masks, tags and names
are compared, faults have a place.
"""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.annotations import shapes
from hilum.config import Pixels
from hilum.dataset.readers import supervisely
from hilum.errors import BadData
from hilum.imaging.files import raster
from hilum.pipeline import cache
from hilum.pipeline.ingest import ingest, recognise

SIZE = (80, 90)
RIGHT, LEFT = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
RIGHT[10:60, 10:35] = True
LEFT[15:60, 55:80] = True


def lung(shape, term="lung", **also):
    return {"classTitle": term, "tags": [], **shapes.to_supervisely(shape), **also}


def bitmap(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return shapes.Bitmap(
        int(rows[0]), int(columns[0]), mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    )


BITMAPS = [lung(bitmap(LEFT)), lung(bitmap(RIGHT))]


def annotate(
    root: Path, stem: str, objects=(), *, folder="ds", tags=(), size=SIZE, ending=".png.json"
) -> Path:
    path = root / folder / "ann" / f"{stem}{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(
            {
                "size": {"height": size[0], "width": size[1]},
                "tags": list(tags),
                "objects": list(objects),
            }
        )
    )
    return path


def image(root: Path, stem: str, *, folder="ds") -> None:
    raster.write_png(
        root / folder / "img" / f"{stem}.png",
        np.random.default_rng(0).integers(0, 255, SIZE).astype(np.uint8),
    )


@pytest.fixture
def root(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "meta.json").write_text(
        json.dumps({"classes": [{"title": "lung", "shape": "any"}], "tags": []})
    )
    return data


def masks(root, tmp_path):
    return cache.fill(ingest(root), Pixels(size=64), tmp_path / "cache").index


@pytest.mark.parametrize(
    "as_shapes", [lambda mask: [bitmap(mask)], shapes.polygons_of], ids=["bitmaps", "polygons"]
)
def test_drawn_outlines_become_the_masks_pixel_for_pixel_and_sides_are_known_by_place(
    root, tmp_path, as_shapes
):
    image(root, "CHNCXR_0001_1")
    annotate(
        root, "CHNCXR_0001_1", [lung(shape) for mask in (LEFT, RIGHT) for shape in as_shapes(mask)]
    )
    reported = masks(root, tmp_path).row(0, named=True)
    assert (
        reported["right_pixels"],
        reported["left_pixels"],
        reported["mask_value_count"],
        reported["mask_error"],
    ) == (RIGHT.sum(), LEFT.sum(), 2, None)


def test_labels_hospital_and_patient_come_from_the_name(root):
    for stem in ("CHNCXR_0001_1", "MCUCXR_0002_0"):
        image(root, stem)
        annotate(root, stem, BITMAPS)
    manifest = ingest(root)
    assert manifest.table.select("source", "patient_id").rows() == [
        ("shenzhen", "supervisely/CHNCXR_0001"),
        ("montgomery", "supervisely/MCUCXR_0002"),
    ]
    assert manifest.labels.select("concept", "state", "rule").rows() == [
        ("tuberculosis", 1, "file name"),
        ("tuberculosis", 0, "file name"),
    ]


def test_an_image_in_two_folders_counts_once_and_the_drawn_one_is_kept(root):
    for folder, objects in (("test", []), ("train", BITMAPS)):
        image(root, "CHNCXR_0001_1", folder=folder)
        annotate(root, "CHNCXR_0001_1", objects, folder=folder)
    manifest = ingest(root)
    assert (
        manifest.table["path"].to_list() == ["train/img/CHNCXR_0001_1.png"]
        and manifest.shapes.height == 2
    )
    assert manifest.remarks.select("path", "rule").rows() == [
        ("test/img/CHNCXR_0001_1.png", "dropped")
    ]


def test_images_without_drawings_have_no_mask_and_nothing_is_silent(root, tmp_path):
    for stem in ("CHNCXR_0001_1", "CHNCXR_0002_0", "holiday"):
        image(root, stem)
    annotate(root, "CHNCXR_0001_1", [], tags=[{"name": "normal", "value": None}, "abnormal"])
    annotate(root, "CHNCXR_0009_0", BITMAPS)
    manifest = ingest(root)
    reported = {(row["rule"], row["path"]) for row in manifest.remarks.iter_rows(named=True)}
    assert reported == {
        ("label-conflict", "ds/img/CHNCXR_0001_1.png"),
        ("annotation-missing", "ds/img/CHNCXR_0002_0.png"),
        ("dropped", "ds/img/holiday.png"),
        ("annotation-orphan", "ds/ann/CHNCXR_0009_0.png.json"),
    }
    assert masks(root, tmp_path)["mask_value_count"].to_list() == [None, None]


def test_annotations_named_without_the_images_ending_are_found(root):
    image(root, "CHNCXR_0001_1")
    annotate(root, "CHNCXR_0001_1", BITMAPS, ending=".json")
    assert ingest(root).shapes.height == 2


def test_all_faults_are_reported_at_once_with_their_place(root):
    for number in range(5):
        image(root, f"CHNCXR_000{number}_1")
    half = annotate(root, "CHNCXR_0000_1", BITMAPS)
    half.write_text(half.read_text().replace(", ", ",\n")[:-50])
    annotate(root, "CHNCXR_0001_1", BITMAPS, size=(90, 80))
    annotate(root, "CHNCXR_0002_1", [BITMAPS[0], lung(bitmap(LEFT), "heart")])
    annotate(
        root, "CHNCXR_0003_1", [{**BITMAPS[0], "bitmap": {"origin": [1, 2], "data": "rubbish"}}]
    )
    annotate(root, "CHNCXR_0004_1", [lung(shapes.Bitmap(70, 80, np.ones((20, 20), bool)))])
    with pytest.raises(BadData, match="6 faults") as raised:
        ingest(root)
    expected = (
        "ds/ann/CHNCXR_0000_1.png.json line ",
        "CHNCXR_0001_1.png.json: is not drawn for ",
        "CHNCXR_0002_1.png.json: the class 'heart' is not in meta.json",
        "CHNCXR_0003_1.png.json object 1 (lung): expected a bitmap's data",
        "CHNCXR_0004_1.png.json: object 1 (lung): reaches outside",
    )
    assert all(words in str(raised.value) for words in expected)


def test_a_drawing_beside_its_image_is_an_error_that_costs_the_mask_alone(root, tmp_path):
    image(root, "CHNCXR_0004_1")
    annotate(root, "CHNCXR_0004_1", [lung(shapes.Bitmap(70, 80, np.ones((20, 20), bool)))])
    reported = ingest(root).remarks.row(0, named=True)
    assert (reported["rule"], reported["severity"]) == ("shape-fault", "error")
    assert (
        "CHNCXR_0004_1.png.json object 1: reaches outside" in masks(root, tmp_path)["mask_error"][0]
    )


@pytest.mark.parametrize(
    "words",
    [
        "[]",
        "7",
        "{}",
        '{"size": {"height": 1e999, "width": 9}, "objects": []}',
        '{"size": {"height": 99999, "width": 99999}, "objects": []}',
        '{"size": {"height": 80, "width": 90}, "objects": 7}',
        '{"size": {"height": 80, "width": 90}, "objects": [7]}',
        "[" * 100_000,
        '{"size": {"height": 80, "width": 90}, "tags": [7], "objects": []}',
        '{"size": {"height": 80, "width": 90}, "objects": [{"classTitle": "lung", "geometryType": "polygon", "points": {"exterior": [[NaN, 1], [2, 3], [4, 1]]}}]}',
    ],
)
def test_no_content_breaks_the_reader(root, words):
    image(root, "CHNCXR_0001_1")
    annotate(root, "CHNCXR_0001_1").write_text(words)
    with pytest.raises(BadData, match=r"ds/ann/CHNCXR_0001_1\.png\.json"):
        ingest(root)


@pytest.mark.parametrize("words", ["{", '{"classes": 7}'])
def test_a_broken_list_of_classes_is_a_fault(root, words):
    image(root, "CHNCXR_0001_1")
    annotate(root, "CHNCXR_0001_1", BITMAPS)
    (root / "meta.json").write_text(words)
    with pytest.raises(BadData, match=r"meta\.json"):
        ingest(root)


def test_other_sets_in_this_form_are_not_taken_for_it(root):
    image(root, "holiday")
    annotate(root, "holiday", BITMAPS)
    assert recognise(root)[1] == "folder"


def test_the_example_has_both_forms_of_objects(tmp_path):
    supervisely.example(tmp_path, images=12, seed=0)
    kinds = ingest(tmp_path).shapes["shape"].str.slice(2, 6).unique().to_list()
    assert (
        sorted(kinds) == ["bitmap", "polygo"]
        and ingest(tmp_path).shapes.filter(pl.col("concept") != "lungs").height == 0
    )


@pytest.mark.parametrize("times", [2, 4])
@pytest.mark.parametrize(
    "as_shapes", [lambda mask: [bitmap(mask)], shapes.polygons_of], ids=["bitmaps", "polygons"]
)
def test_drawings_for_a_larger_image_are_scaled_to_its_copy_and_reported(
    root, tmp_path, as_shapes, times
):
    image(root, "CHNCXR_0001_1")
    larger = [np.kron(mask, np.ones((times, times), bool)) for mask in (LEFT, RIGHT)]
    drawn = [lung(shape) for mask in larger for shape in as_shapes(mask)]
    annotate(root, "CHNCXR_0001_1", drawn, size=(SIZE[0] * times, SIZE[1] * times))
    reported = masks(root, tmp_path).row(0, named=True)
    assert (reported["right_pixels"], reported["left_pixels"], reported["mask_error"]) == (
        RIGHT.sum(),
        LEFT.sum(),
        None,
    )
    (remark,) = (
        ingest(root).remarks.filter(pl.col("rule") == "drawing-scaled").iter_rows(named=True)
    )
    assert remark["path"] == "ds/ann/CHNCXR_0001_1.png.json" and "80x90" in remark["message"]


@pytest.mark.parametrize("size", [(90, 80), (80, 200), (300, 300)])
def test_drawings_for_an_image_of_other_proportions_are_refused_with_a_remedy(root, size):
    image(root, "CHNCXR_0001_1")
    annotate(root, "CHNCXR_0001_1", BITMAPS, size=size)
    with pytest.raises(
        BadData,
        match=(
            "CHNCXR_0001_1.png.json: is not drawn for .*; put the image that it was drawn on in "
            "its place, or remove ds/ann"
        ),
    ):
        ingest(root)
