"""What COCO's own tools make of an export: every annotation becomes the pixels that Hilum drew.

The oracle is pycocotools, which reads the exported files as its users do. Without it these tests
are skipped by name, but for those on the count of pixels, which need none.
"""

import contextlib
import io
import json
from dataclasses import replace

import cv2
import imagecodecs
import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hilum import plugins
from hilum.annotations import shapes
from hilum.dataset.manifest import SHAPE_COLUMNS
from hilum.dataset.writers import _coco_area, coco, imagefolder
from hilum.imaging.files import raster
from hilum.pipeline import ingest

SIZE = (48, 64)
number = st.floats(0, 40).map(lambda value: round(value, 2)) | st.integers(0, 40).map(float)


def exported(manifest, folder):
    """The export as pycocotools reads it: the index, and annotations with their decoded masks."""
    tools = pytest.importorskip("pycocotools.coco")
    coco.write(manifest, folder, split=None)
    with contextlib.redirect_stdout(io.StringIO()):
        index = tools.COCO(str(folder / "annotations" / "instances.json"))
    return index, [
        (one, index.annToMask(one).astype(bool)) for one in index.loadAnns(index.getAnnIds())
    ]


BLACK = np.zeros(SIZE, np.uint8)


def set_with(folder, *drawn, pixels=BLACK, name="a.png"):
    """Two class folders of an image each, with these shapes drawn on the one with a nodule."""
    code = imagecodecs.png_encode if name.endswith(".png") else imagecodecs.jpeg8_encode
    for place, values in ((f"nodule/{name}", pixels), ("normal/b.png", pixels)):
        (folder / place).parent.mkdir(parents=True)
        (folder / place).write_bytes(
            (code if place.endswith(name) else imagecodecs.png_encode)(values)
        )
    manifest = ingest.ingest(folder)
    image = manifest.table.filter(pl.col("path") == f"nodule/{name}")["image_id"].item()
    rows = [[image, "nodule", "knot", one.to_json(), "by hand", "me"] for one in drawn]
    return replace(manifest, shapes=pl.DataFrame(rows, schema=SHAPE_COLUMNS, orient="row"))


def wavy(seed):
    """A mask of several parts, some with holes."""
    noise = np.random.default_rng(seed).normal(size=SIZE).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 3) > 0.02


MASK = wavy(3)
SHAPES = {
    "box": shapes.Box(5, 7, 12, 20),
    "box between pixels": shapes.Box(5.3, 7.8, 12.4, 20.1),
    "box in the corner": shapes.Box(36, 44, 12, 20),
    "box partly outside": shapes.Box(-3, 40, 20, 60),
    "polygon": shapes.Polygon(((10.0, 10.0), (40.0, 12.5), (20.0, 50.0))),
    "polygon with a hole": shapes.Polygon(
        ((5.0, 5.0), (5.0, 40.0), (40.0, 40.0), (40.0, 5.0)),
        (((20.0, 20.0), (20.0, 30.0), (30.0, 30.0), (30.0, 20.0)),),
    ),
    "polygon that crosses itself": shapes.Polygon(
        ((0.0, 0.0), (30.0, 30.0), (30.0, 0.0), (0.0, 30.0))
    ),
    "bitmap of several parts": shapes.Bitmap(3, 5, MASK[:30, :40]),
    "run lengths": shapes.RunLengths.of(MASK),
    **{f"part {place}": part for place, part in enumerate(shapes.polygons_of(MASK))},
}


def test_every_kind_of_shape_becomes_its_pixels(tmp_path):
    manifest = set_with(tmp_path / "data", *SHAPES.values())
    _, read = exported(manifest, tmp_path / "coco")
    assert len(read) == len(SHAPES)
    for (name, shape), (one, mask) in zip(SHAPES.items(), read, strict=True):
        expected = shape.to_mask(SIZE)
        slanted = name == "polygon"  # along slanted edges COCO's pixels differ from ours
        off = np.count_nonzero(mask ^ expected)
        assert off == 0 or (slanted and off <= 12), f"{name}: {off} pixels differ"
        assert one["area"] == mask.sum() and one["iscrowd"] == 0, name
        rows, columns = np.nonzero(mask)
        left, top, width, height = one["bbox"]
        assert left <= columns.min() + 0.5 and columns.max() + 0.5 <= left + width, name
        assert top <= rows.min() + 0.5 and rows.max() + 0.5 <= top + height, name


@given(st.tuples(number, number, number, number), st.integers(0, 999))
@example((0.0, 0.0, 1.0, 1.5), 0)  # an edge through the middle of a pixel
@example((0.5, 2.5, 1.0, 1.0), 0)
@settings(max_examples=60, deadline=None)
def test_boxes_and_outlines_along_pixels_keep_every_pixel(box, seed):
    mask_tools = pytest.importorskip("pycocotools.mask")
    drawn = [shapes.Box(*box), *shapes.polygons_of(wavy(seed))]
    for shape in drawn:
        mask = shape.to_mask(SIZE)
        if not mask.any():
            continue
        segmentation = coco.segmented(shape, SIZE)["segmentation"]
        if isinstance(segmentation, list):
            segmentation = mask_tools.merge(mask_tools.frPyObjects(segmentation, *SIZE))
        assert np.array_equal(mask_tools.decode(segmentation), mask)


@given(st.lists(st.tuples(st.floats(-20, 80), st.floats(-20, 80)), min_size=3, max_size=9))
@settings(max_examples=200, deadline=None)
def test_area_is_what_the_tools_count_of_any_polygon(ring):
    mask_tools = pytest.importorskip("pycocotools.mask")
    flat = [value for row, column in ring for value in (column, row)]
    expected = mask_tools.area(mask_tools.merge(mask_tools.frPyObjects([flat], *SIZE)))
    assert _coco_area.pixels(tuple(ring), SIZE) == expected


@given(st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_of_outlines_along_pixels_the_count_is_that_of_the_mask(seed):
    for part in shapes.polygons_of(wavy(seed)):
        if not part.holes:
            assert _coco_area.pixels(part.exterior, SIZE) == part.to_mask(SIZE).sum()


@pytest.mark.parametrize("name", plugins.names("readers"))
def test_every_annotation_of_every_data_set_can_be_drawn(name, tmp_path):
    plugins.load("readers", name).example(tmp_path / "data", images=10, seed=2)
    index, read = exported(ingest.ingest(tmp_path / "data"), tmp_path / "coco")
    for one, mask in read:
        image = index.imgs[one["image_id"]]
        assert mask.shape == (image["height"], image["width"]) and one["area"] == mask.sum() > 0


def with_orientation(data, orientation):
    """A JPEG whose Exif says how it is to be rotated or mirrored."""
    tag = (
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + bytes([0, orientation, 0, 0]) + bytes(4)
    )
    exif = b"Exif\0\0" + tag
    return data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2) + exif + data[2:]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_and_annotations_of_a_rotated_image_are_those_that_are_shown(orientation, tmp_path):
    stored = np.zeros((40, 64), np.uint8)
    stored[4:12, 8:24] = 200
    shown_at = raster.oriented(stored, orientation)
    rows, columns = np.nonzero(shown_at)
    box = shapes.Box(
        *map(float, (rows.min(), columns.min(), np.ptp(rows) + 1, np.ptp(columns) + 1))
    )
    manifest = set_with(tmp_path / "data", box, pixels=stored, name="a.jpg")
    path = tmp_path / "data" / "nodule" / "a.jpg"
    path.write_bytes(with_orientation(path.read_bytes(), orientation))
    index, ((one, mask),) = exported(manifest, tmp_path / "coco")
    image = index.imgs[one["image_id"]]
    place = tmp_path / "coco" / "images" / image["file_name"]
    for flag in (cv2.IMREAD_GRAYSCALE, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION):
        pixels = cv2.imread(str(place), flag)
        assert pixels.shape == mask.shape == (image["height"], image["width"])
        assert np.array_equal(pixels > 100, mask), "a reader that heeds Exif and one that does not"


def test_what_was_written_anew_is_reported(tmp_path):
    manifest = set_with(tmp_path / "data", pixels=np.zeros((40, 64), np.uint8), name="a.jpg")
    path = tmp_path / "data" / "nodule" / "a.jpg"
    path.write_bytes(with_orientation(path.read_bytes(), 6))
    for form in (coco, imagefolder):
        reported = form.write(manifest, tmp_path / form.__name__, split=None)
        assert reported["image files"] == "copied, 1 rotated as their headers say, as PNG"
    lines = (tmp_path / imagefolder.__name__ / "train" / "metadata.jsonl").read_text()
    assert {json.loads(line)["file_name"][-4:] for line in lines.splitlines()} == {".png"}
