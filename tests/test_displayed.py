"""Images that a correction rotates, mirrors or inverts: cache, masks, exports and scores agree, and
the file's own pixels stay those in which masks are stored.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import hilum
from dicom_files import write
from hypothesis import given
from hypothesis import strategies as st
from test_cached_masks import PIXELS, manifest, of
from test_label_images import LABELS, SIZE, VALUES, WHITE, grey

from hilum import storage
from hilum.annotations import shapes
from hilum.annotations.quarter_turns import QuarterTurns
from hilum.config import Data, Pixels, Recipe
from hilum.dataset import corrections
from hilum.dataset.corrections import Correction
from hilum.dataset.manifest import Manifest
from hilum.dataset.readers import kaggle_masks
from hilum.dataset.writers import coco, imagefolder, torchxrayvision
from hilum.imaging.files import image_file, raster
from hilum.imaging.files.pose import AS_READ, Display
from hilum.imaging.radiograph import preprocess
from hilum.pipeline import audit as audit_step
from hilum.pipeline import cache, explain, ingest, reference_masks
from hilum.run_folder import Run
from hilum.runs.scoring_run import ScoringRun

TURNS = st.builds(QuarterTurns, st.booleans(), st.booleans(), st.booleans())
DISPLAYS = st.builds(Display, st.sampled_from([0, 90, 180, 270]), st.booleans(), st.booleans())
IMAGE = np.arange(6, dtype=np.uint8).reshape(2, 3)


def displayed(image: np.ndarray, display: Display) -> np.ndarray:
    """What a correction means, in NumPy's words; brightness is of 8 bits."""
    image = np.rot90(image, -display.rotated // 90)
    image = image[:, ::-1] if display.mirrored else image
    return np.ascontiguousarray(255 - image if display.inverted else image)


@given(first=TURNS, second=TURNS)
def test_two_geometries_in_one_do_what_they_do_one_after_the_other(first, second):
    both = first.then(second)
    assert np.array_equal(both.forward(IMAGE), second.forward(first.forward(IMAGE)))
    assert np.array_equal(both.back(both.forward(IMAGE)), IMAGE)
    assert both.size((2, 3)) == both.forward(IMAGE).shape


@given(first=DISPLAYS, second=DISPLAYS)
def test_two_corrections_in_one_do_what_they_do_one_after_the_other(first, second):
    both = displayed(IMAGE, first.then(second))
    assert np.array_equal(both, displayed(displayed(IMAGE, first), second))


def test_degrees_are_clockwise_and_mirroring_comes_after():
    for rotated in (0, 90, 180, 270):
        for mirrored in (False, True):
            display = Display(rotated, mirrored)
            assert np.array_equal(display.turns.forward(IMAGE), displayed(IMAGE, display))


OFF_CENTRES = st.integers(-8, 60).map(lambda quarter: quarter / 4 + 0.1)
SHAPES = st.one_of(
    st.builds(shapes.Box, OFF_CENTRES, OFF_CENTRES, st.integers(1, 9), st.integers(1, 9)),
    st.builds(
        shapes.Polygon,
        st.lists(st.tuples(OFF_CENTRES, OFF_CENTRES), min_size=3, max_size=6).map(tuple),
    ),
    st.builds(
        lambda top, left, seed: shapes.Bitmap(
            top, left, np.random.default_rng(seed).random((4, 5)) > 0.5
        ),
        st.integers(-2, 12),
        st.integers(-2, 14),
        st.integers(0, 99),
    ),
    st.integers(0, 99).map(
        lambda seed: shapes.RunLengths.of(np.random.default_rng(seed).random((11, 13)) > 0.5)
    ),
)


@given(shape=SHAPES, turns=TURNS)
def test_the_mask_of_a_moved_shape_is_the_moved_mask(shape, turns):
    size = (11, 13)
    own, moved = shape.to_mask(size), turns.shape(shape, size)
    assert type(moved) is type(shape)
    different = moved.to_mask(turns.size(size)) != turns.forward(own)
    # Where an edge passes through the centre of a pixel, that belongs to one side of it.
    edges = (
        zip(moved.exterior, (*moved.exterior[1:], moved.exterior[0]), strict=True)
        if (isinstance(moved, shapes.Polygon))
        else ()
    )
    on_edge = np.zeros(different.shape, bool)
    for start, end in edges:
        on_edge |= distance(different.shape, np.array(start), np.array(end)) < 1e-6
    assert not (different & ~on_edge).any()


def distance(size: tuple[int, int], start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Distance of each pixel's centre from the edge between two points."""
    centres = np.stack(np.indices(size), axis=-1) + 0.5
    along = end - start
    at = np.clip((centres - start) @ along / max(float(along @ along), 1e-12), 0, 1)
    return np.linalg.norm(centres - start - at[..., None] * along, axis=-1)


@pytest.mark.parametrize("display", [Display(90), Display(180, True), Display(270, True, True)])
def test_a_raster_is_read_as_corrected_and_leads_back_to_its_own_pixels(tmp_path, display):
    stored = np.random.default_rng(0).integers(0, 256, (30, 40)).astype(np.uint8)
    raster.write_png(tmp_path / "a.png", stored)
    plain = image_file.read(tmp_path / "a.png")
    file = image_file.read(tmp_path / "a.png", display=display)
    seen = file.radiograph()
    assert np.allclose(seen.pixels, displayed(stored, display) / 255, atol=1e-6)
    assert (file.file_digest, file.pixel_digest) == (plain.file_digest, plain.pixel_digest)
    assert image_file.own_size(file) == (30, 40)
    assert image_file.pose(tmp_path / "a.png", display=display) == file.pose
    mask = stored > 200
    back = image_file.to_native(file, image_file.to_display(file, mask), labels=True)
    assert np.array_equal(back, mask)
    assert sum("as a correction states" in line for line in seen.processing_log) == len(
        list(display.account)
    )


def test_a_dicom_file_is_corrected_on_top_of_what_its_header_states(tmp_path):
    stored = np.random.default_rng(0).integers(1, 4000, (30, 40)).astype(np.uint16)
    stored[:, :6] = 4095
    path = write(
        tmp_path / "a.dcm",
        stored,
        bits=12,
        PatientOrientation=["R", "F"],
        PixelPaddingValue=4095,
        ImagerPixelSpacing=[0.2, 0.3],
    )
    plain = image_file.read(path)
    file = image_file.read(path, display=Display(90, inverted=True))
    assert plain.values.shape == (30, 60) and file.values.shape == (60, 30)
    assert np.array_equal(file.values, np.rot90(plain.values, -1))
    before, after = np.rot90(plain.radiograph().pixels, -1), file.radiograph().pixels
    padding = np.rot90(plain.values == 4095, -1)
    assert padding.any() and not after[padding].any()
    assert np.allclose(after[~padding], 1 - before[~padding])
    assert file.radiograph().spacing_mm == plain.radiograph().spacing_mm[::-1]
    labels = (np.arange(30 * 40).reshape(30, 40) // 400).astype(np.uint8)
    back = image_file.to_native(file, image_file.to_display(file, labels), labels=True)
    assert np.array_equal(back, labels)


def corrected(made: Manifest, *entries: tuple[str, ...]) -> Manifest:
    given_ = [
        Correction(f"set/{name}", action, value=value[0] if value else None)
        for name, action, *value in entries
    ]
    return corrections.apply(made, given_, "f.toml")


def test_a_correction_of_one_image_reads_that_image_again_and_no_other(tmp_path):
    made = manifest(tmp_path, {name: grey(WHITE) for name in "abc"})
    before = cache.fill(made, PIXELS, tmp_path / "cache")
    images, masks = np.array(before.images[:]), np.array(before.masks[:])
    totals: list[int] = []
    for entries in ([("b", "mirror")], [("b", "mirror"), ("b", "invert")], []):
        now = corrected(made, *entries)
        filled = cache.fill(
            now, PIXELS, tmp_path / "cache", lambda done, total: totals.append(total)
        )
        row = int(filled.rows(["set/b"])[0])
        file = raster.read(tmp_path / "b.png").values
        display = Display(mirrored=bool(entries), inverted=len(entries) == 2)
        raster.write_png(tmp_path / "expected.png", displayed(file, display))
        expected = raster.read(tmp_path / "expected.png").radiograph()
        assert np.array_equal(filled.images[row], preprocess(expected, 160, "percentiles"))
        others = [at for at in range(3) if at != row]
        assert np.array_equal(filled.images[others], images[others])
        assert np.array_equal(filled.masks[others], masks[others])
    assert totals == [1, 1, 1]
    assert np.array_equal(filled.images[:], images)


def test_masks_and_outlines_lie_on_the_image_as_corrected(tmp_path):
    """The image lies on its side and is mirrored, and so are its mask and its box in the file."""
    wrong = np.rot90(VALUES[:, ::-1], 1)
    made = manifest(tmp_path, {"a": grey(wrong), "b": grey(VALUES)})
    noise = np.random.default_rng(5).integers(0, 256, SIZE).astype(np.uint8)
    raster.write_png(tmp_path / "a.png", np.ascontiguousarray(np.rot90(noise[:, ::-1], 1)))
    box = shapes.Box(20, 30, 10, 40)
    lying = shapes.RunLengths.of(np.rot90(box.to_mask(SIZE)[:, ::-1], 1)).to_box()
    made = Manifest.of(
        made.root,
        made.table.rows(),
        [],
        [],
        [["set/a", "mass", "mass", lying.to_json(), "a.csv", None]],
    )
    upright = corrected(made, ("a", "rotate", "90"), ("a", "mirror"))
    filled = cache.fill(upright, PIXELS, tmp_path / "cache")
    facts, labels = of(filled, "a")
    assert (facts["height"], facts["width"]) == SIZE
    assert np.array_equal(labels, LABELS)
    assert facts["mask_form"] == "label map 1=right 2=left"

    (row,) = (one for one in reference_masks.images(upright) if one["image_id"] == "set/a")
    file = image_file.read(tmp_path / "a.png", display=Display.of(row))
    meaning = reference_masks.stored_meanings(upright, filled.folder).of
    reference = reference_masks.read(upright.folder, row, file, meaning).labels
    assert np.array_equal(reference, LABELS)
    assert explain.drawn_of(upright, "mass") == {"set/a": [box]}

    coco.write(upright, tmp_path / "coco", split=None)
    written = json.loads((tmp_path / "coco" / "annotations" / "instances.json").read_text())
    categories = {one["id"]: one["name"] for one in written["categories"]}
    (image,) = (one for one in written["images"] if one["image_id"] == "set/a")
    assert (image["height"], image["width"]) == SIZE
    assert np.array_equal(
        raster.read(tmp_path / "coco" / "images" / image["file_name"]).values, noise
    )
    of_a = [one for one in written["annotations"] if one["image_id"] == image["id"]]
    masks = {
        categories[one["category_id"]]: shapes.RunLengths.from_coco(one["segmentation"]).to_mask(
            SIZE
        )
        for one in of_a
        if isinstance(one["segmentation"], dict)
    }
    assert np.array_equal(masks["right_lung"], LABELS == 1)
    (mass,) = (one for one in of_a if categories[one["category_id"]] == "mass")
    assert mass["bbox"] == box.to_coco()

    view = torchxrayvision.to_xrv(upright, pathology_masks=True, semantic_masks=True)
    sample = view[upright.table["image_id"].to_list().index("set/a")]
    assert np.allclose(sample["img"][0], (noise / 255 * 2 - 1) * 1024, atol=0.01)
    assert np.array_equal(sample["semantic_masks"]["Lungs"][0] > 0, LABELS > 0)


def test_an_inverted_image_is_exported_as_corrected_with_its_bits(tmp_path):
    made = manifest(tmp_path, {"a": grey(VALUES), "b": grey(VALUES)})
    deep = np.random.default_rng(1).integers(0, 65536, SIZE).astype(np.uint16)
    raster.write_png(tmp_path / "a.png", deep)
    summary = imagefolder.write(corrected(made, ("a", "invert")), tmp_path / "out", split=None)
    found = raster.read(tmp_path / "out" / "train" / "set" / "a.png").values
    assert np.array_equal(found, 65535 - deep)
    plain = raster.read(tmp_path / "out" / "train" / "set" / "b.png").values
    assert np.array_equal(plain, raster.read(tmp_path / "b.png").values)
    assert "1 rotated, mirrored or inverted by corrections" in str(summary)


def test_images_of_a_run_are_scored_as_its_corrections_display_them(tmp_path):
    made = manifest(tmp_path / "data", {"a": grey(VALUES), "b": grey(VALUES)})
    run = Run(tmp_path / "run")
    corrected(made, ("a", "mirror")).write(run.folder)
    recipe = Recipe(data=Data(folder=str(tmp_path / "data")))
    run.write_recipe(recipe)
    digest = Manifest.read(run.folder).digest
    run.finish("ingest", {}, {"manifest.parquet": digest}, {})
    scoring = ScoringRun(run, recipe, None)
    for name, display in (("a", Display(mirrored=True)), ("b", AS_READ)):
        path = tmp_path / "data" / f"{name}.png"
        (tmp_path / f"link-{name}.png").symlink_to(path)
        for place in (path, tmp_path / f"link-{name}.png"):
            expected = image_file.read(path, display=display).values
            assert np.array_equal(scoring.read(place).values, expected)


def test_a_quarter_turn_exchanges_stated_sizes_and_spacings(tmp_path):
    made = manifest(
        tmp_path,
        {"a": grey(VALUES), "b": grey(VALUES)},
        stated_height={"a": 30, "b": 30},
        stated_width={"a": 40, "b": 40},
        row_spacing_mm={"a": 0.1, "b": 0.1},
        column_spacing_mm={"a": 0.2, "b": 0.2},
    )
    done = corrected(made, ("a", "rotate", "270"), ("b", "rotate", "180"))
    columns = ("stated_height", "stated_width", "row_spacing_mm", "column_spacing_mm", "rotated")
    assert done.table.select(columns).rows() == [(40, 30, 0.2, 0.1, 270), (30, 40, 0.1, 0.2, 180)]


def spoil(data: Path, name: str, display: Display) -> None:
    """Store an image and its mask such that `display` makes them right."""
    for folder in ("CXR_png", "masks"):
        for path in (data / folder).glob(f"{name}*.png"):
            stored = display.turns.back(image_file.read(path).values)
            inverted = display.inverted and folder == "CXR_png"
            raster.write_png(path, 255 - stored if inverted else stored)


def issues_of(run: Path, *rules: str) -> set[tuple[str, str]]:
    table = storage.read_table(run / audit_step.ISSUES).filter(pl.col("rule").is_in(rules))
    return set(table.select("rule", "image_id").iter_rows())


RULES = ("image-inverted", "image-mirrored", "image-rotated", "duplicate-file")


def test_what_the_audit_finds_is_corrected_and_gone_from_the_next_audit(tmp_path):
    """An inverted, a mirrored, a rotated image and a copy: found, proposed, corrected, gone; and
    an image with two faults, of which the second shows once the first is corrected.
    """
    data, run, file = tmp_path / "data", tmp_path / "run", tmp_path / "fixes.toml"
    kaggle_masks.example(data, images=12)
    right = cache.fill(ingest.ingest(data), Pixels(size=256), tmp_path / "right")
    names = sorted(path.stem for path in (data / "CXR_png").iterdir())
    spoil(data, names[0], Display(inverted=True))
    spoil(data, names[1], Display(mirrored=True))
    spoil(data, names[2], Display(90))
    spoil(data, names[3], Display(180, mirrored=True))
    copy = data / "CXR_png" / "CHNCXR_9999_0.png"
    copy.write_bytes((data / "CXR_png" / f"{names[4]}.png").read_bytes())
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    (tmp_path / "recipe.toml").write_text('[data]\nfolder = "data"\n[pixels]\nsize = 256\n')

    assert hilum("audit", tmp_path / "recipe.toml", "--out", run).returncode == 0
    assert issues_of(run, *RULES) == {
        ("image-inverted", f"kaggle_masks/{names[0]}"),
        ("image-mirrored", f"kaggle_masks/{names[1]}"),
        ("image-rotated", f"kaggle_masks/{names[2]}"),
        ("image-rotated", f"kaggle_masks/{names[3]}"),
        ("duplicate-file", "kaggle_masks/CHNCXR_9999_0"),
    }
    chosen = [word for rule in RULES for word in ("--rule", rule)]
    assert hilum("propose-fixes", run, *chosen, "--out", file).returncode == 0
    proposed = {
        (one["image_id"], one["action"], one.get("value"))
        for one in tomllib.loads(file.read_text())["correction"]
    }
    assert proposed >= {
        (f"kaggle_masks/{names[0]}", "invert", None),
        (f"kaggle_masks/{names[1]}", "mirror", None),
        (f"kaggle_masks/{names[2]}", "rotate", "90"),
        (f"kaggle_masks/{names[3]}", "rotate", "180"),
    }

    fixed = hilum("audit", tmp_path / "recipe.toml", "--out", run, "--corrections", file)
    assert fixed.returncode == 0 and "rotate 2" in fixed.stdout
    assert issues_of(run, *RULES) == {("image-mirrored", f"kaggle_masks/{names[3]}")}
    assert hilum("propose-fixes", run, *chosen[2:4], "--out", tmp_path / "2.toml").returncode == 0
    again = ("audit", tmp_path / "recipe.toml", "--out", run, "--corrections", tmp_path / "2.toml")
    assert hilum(*again).returncode == 0
    assert issues_of(run, *RULES) == set()
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before

    # Images and masks are those of the data before they were spoilt.
    found = cache.opened(Run(run), Run(run).recipe())
    rows = found.rows(right.index["image_id"]), right.rows(right.index["image_id"])
    assert found.index.height == right.index.height
    assert np.array_equal(found.masks[rows[0]], right.masks[rows[1]])
    difference = found.images[rows[0]].astype(int) - right.images[rows[1]]
    assert np.abs(difference).max() <= 1
