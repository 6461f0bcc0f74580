"""Masks of every habit in the cache, the exports and the measures: one set of labels for all of
them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import polars as pl
import pytest
from dicom_files import write
from test_label_images import BOTH, HEART, LABELS, LEFT, RIGHT, SIZE, STRIP, VALUES, WHITE, grey
from test_raster import tiff

from hilum import plugins
from hilum.annotations import lung_masks
from hilum.annotations.shapes import RunLengths
from hilum.audit.checks import mask_presence as rules
from hilum.config import Pixels
from hilum.dataset.manifest import COLUMNS, Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.dataset.writers import coco, imagefolder
from hilum.dataset.writers.torchxrayvision import to_xrv
from hilum.imaging.files import label_image, raster
from hilum.pipeline import cache
from hilum.pipeline.evaluation import file_grid
from hilum.pipeline.evaluation.segmentation import overlaps

PIXELS = Pixels(size=160)


def manifest(root: Path, masks: dict[str, bytes], **cells: dict[str, str]) -> Manifest:
    """Images of noise, each with the mask file of its name; `cells` are of other
    columns, by name.
    """
    rows = []
    for number, (name, data) in enumerate(masks.items()):
        for place, written in (
            (f"{name}.png", grey(np.random.default_rng(number).integers(0, 256, SIZE))),
            (f"masks/{name}", data),
        ):
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            (root / place).write_bytes(written)
        row = {
            "image_id": f"set/{name}",
            "dataset": "set",
            "source": "set",
            "patient_id": f"set/{name}",
            "path": f"{name}.png",
            "lung_mask": f"masks/{name}",
        }
        rows.append(
            dict.fromkeys(COLUMNS)
            | row
            | {column: by_name.get(name) for column, by_name in cells.items()}
        )
    return Manifest.of(root, rows, [], [])


def of(filled: Cache, name: str) -> tuple[dict, np.ndarray]:
    """Facts of one image and its cached labels, without what lies beside the image."""
    facts = filled.index.row(by_predicate=pl.col("image_id") == f"set/{name}", named=True)
    return facts, filled.masks[facts["row"]][:, 8:-8]


def test_cached_labels_and_facts_are_those_of_the_files(tmp_path):
    contents = {
        "binary": grey(WHITE),
        "map": grey(VALUES + 3 * HEART),
        "inverted": grey(255 - WHITE),
        "ignored": grey(np.where(STRIP, 255, BOTH)),
    }
    made = manifest(tmp_path, contents)
    filled = cache.fill(made, PIXELS, tmp_path / "cache")
    forms = {
        "binary": "binary",
        "map": "label map 1=right 2=left 3=heart",
        "inverted": "binary; inverted",
        "ignored": "label map 1=lungs 255=ignore",
    }
    for name, form in forms.items():
        facts, labels = of(filled, name)
        assert (
            np.array_equal(labels, LABELS)
            and facts["mask_form"] == form
            and facts["mask_error"] is None
        )
        assert (facts["right_pixels"], facts["left_pixels"]) == (RIGHT.sum(), LEFT.sum())
    found = {(one.rule, one.image_id): one.message for one in rules.check(made, filled.index)}
    assert found == {
        ("mask-label-map", "set/map"): "masks/map: label map 1=right 2=left 3=heart",
        ("mask-inverted", "set/inverted"): "masks/inverted: inverted",
        ("mask-label-map", "set/ignored"): "masks/ignored: label map 1=lungs 255=ignore",
    }


def test_ignored_pixels_are_known_as_such_and_stored_as_no_lung(tmp_path):
    filled = cache.fill(
        manifest(tmp_path, {"a": grey(WHITE), "b": grey(np.where(STRIP, 255, BOTH))}),
        PIXELS,
        tmp_path / "cache",
    )
    row, other = filled.rows(["set/b", "set/a"])
    assert set(np.unique(filled.masks[:])) == {0, 1, 2}
    known = filled.known_masks[row][:, 8:-8]
    assert np.array_equal(known == lung_masks.IGNORE, STRIP) and np.array_equal(
        known[~STRIP], LABELS[~STRIP]
    )
    assert np.array_equal(
        filled.known_masks[[other, row]],
        np.stack([filled.known_masks[other], filled.known_masks[row]]),
    )
    assert (
        np.array_equal(filled.known_masks[np.arange(2) == row][0], filled.known_masks[row])
        and not (filled.known_masks[other] == lung_masks.IGNORE).any()
    )


def test_ignored_pixels_are_not_measured(tmp_path):
    made = manifest(tmp_path, {"a": grey(np.where(STRIP, 255, VALUES))})
    filled = cache.fill(made, PIXELS, tmp_path / "cache")
    found = np.pad(np.where(STRIP, np.uint8(1), LABELS), ((0, 0), (8, 8)))[None]
    rows = overlaps(
        made.table.with_columns(part=pl.lit("test")),
        filled,
        pl.DataFrame({"image_id": ["set/a"], "row": [0]}),
        found,
        reference=filled.known_masks,
    )
    assert rows["dice"].to_list() == [1.0, 1.0, 1.0]


def test_what_values_stand_for_is_kept_with_the_cache(tmp_path, monkeypatch):
    contents = {f"m{number}": grey(VALUES) for number in range(9)} | {"alone": grey(2 * LEFT)}
    made = manifest(tmp_path, contents)
    filled = cache.fill(made, PIXELS, tmp_path / "cache")
    assert (
        of(filled, "alone")[0]["mask_form"] == "label map 2=left"
        and (filled.folder / "meanings.json").exists()
    )
    monkeypatch.setattr(
        label_image, "read", lambda path, root: pytest.fail(f"{path} was read again")
    )
    assert cache.fill(made, PIXELS, tmp_path / "cache").index.equals(filled.index)


def test_masks_are_read_again_when_their_folder_says_something_else(tmp_path):
    """One mask of a left lung alone; then masks beside it say that its value means the
    right lung.
    """
    before = cache.fill(manifest(tmp_path, {"alone": grey(2 * LEFT)}), PIXELS, tmp_path / "cache")
    assert (
        of(before, "alone")[0]["mask_form"] == "binary"
        and of(before, "alone")[0]["left_pixels"] == LEFT.sum()
    )
    contents = {
        "alone": grey(2 * LEFT),
        **{f"m{number}": grey(2 * RIGHT + LEFT) for number in range(3)},
    }
    kept = (tmp_path / "masks" / "alone").stat()
    made = manifest(tmp_path, contents)
    import os

    os.utime(tmp_path / "masks" / "alone", ns=(kept.st_atime_ns, kept.st_mtime_ns))
    facts, labels = of(cache.fill(made, PIXELS, tmp_path / "cache"), "alone")
    assert facts["mask_form"] == "label map 2=right" and np.array_equal(labels, LEFT * np.uint8(1))


def test_the_tables_word_goes_before_the_folders(tmp_path):
    contents = {"a": grey(VALUES + 3 * HEART), "b": grey(VALUES + 3 * HEART)}
    said = {"0": "none", "1": "left", "2": "right", "3": "ignore"}
    made = manifest(tmp_path, contents)
    cache.fill(made, PIXELS, tmp_path / "cache")
    filled = cache.fill(
        manifest(tmp_path, contents, mask_values={"b": json.dumps(said)}),
        PIXELS,
        tmp_path / "cache",
    )
    assert np.array_equal(of(filled, "a")[1], LABELS) and np.array_equal(
        of(filled, "b")[1], np.where(BOTH, 3 - LABELS, 0)
    )
    wrong = manifest(tmp_path, {"a": grey(VALUES)}, mask_values={"a": '{"1": "rihgt"}'})
    facts, labels = of(cache.fill(wrong, PIXELS, tmp_path / "other"), "a")
    assert "did you mean 'right'" in facts["mask_error"] and not labels.any()


def test_masks_lie_as_the_radiograph_stands_before_sides_are_seen(tmp_path):
    """Of a mirrored DICOM: in the file's own pixels its right lung lies on the right, in the cache
    and in exports on the left.
    """
    made = manifest(tmp_path, {"a": grey(VALUES[:, ::-1])})
    values = np.random.default_rng(0).integers(0, 4096, SIZE).astype(np.uint16)
    write(tmp_path / "a.png", values, bits=12, PatientOrientation=["R", "F"])
    filled = cache.fill(made, PIXELS, tmp_path / "cache")
    facts, labels = of(filled, "a")
    assert (
        facts["kind"] == "DICOM"
        and facts["mask_form"] == "label map 1=right 2=left"
        and np.array_equal(labels, LABELS)
    )
    coco.write(made, tmp_path / "out", split=None)
    reported = annotations(tmp_path / "out")
    drawn = [
        RunLengths.from_coco(one["segmentation"]).to_mask(SIZE) for one in reported["annotations"]
    ]
    assert np.array_equal(drawn[0], RIGHT) and np.array_equal(drawn[1], LEFT)


def test_a_mask_that_is_not_understood_is_a_fact_with_its_remedy(tmp_path):
    upper = np.indices(SIZE)[0] < 80
    made = manifest(tmp_path, {"lobes": grey(np.where(upper, VALUES, 3 * VALUES))})
    filled = cache.fill(made, PIXELS, tmp_path / "cache")
    facts, labels = of(filled, "lobes")
    assert (
        not labels.any()
        and facts["mask_error"].startswith("masks/lobes: what its value 1")
        and '[mask_values]\n0 = "none"' in facts["mask_error"]
    )
    assert [(one.rule, one.severity) for one in rules.check(made, filled.index)] == [
        ("mask-unusable", "error")
    ]


# ------------------------------------------------------------------------------------------ exports


def annotations(folder: Path) -> dict:
    return json.loads((folder / "annotations" / "instances.json").read_text())


def test_coco_has_the_labels_of_the_cache(tmp_path):
    contents = {
        "binary": grey(WHITE),
        "map": grey(VALUES + 3 * HEART),
        "inverted": grey(255 - WHITE),
        "ignored": grey(np.where(STRIP, 255, BOTH)),
        "small": grey(WHITE[::2, ::2]),
        "empty": grey(WHITE * 0),
    }
    coco.write(manifest(tmp_path / "data", contents), tmp_path / "out", split=None)
    reported = annotations(tmp_path / "out")
    names, images = (
        {one["id"]: one[key] for one in reported[kind]}
        for kind, key in (("categories", "name"), ("images", "image_id"))
    )
    assert list(names) == [1, 2, 3] and list(names.values()) == ["lungs", "right_lung", "left_lung"]
    drawn = {
        (images[one["image_id"]], names[one["category_id"]]): RunLengths.from_coco(
            one["segmentation"]
        ).to_mask(SIZE)
        for one in reported["annotations"]
    }
    exact = {
        ("set/binary", "lungs"): BOTH,
        ("set/map", "right_lung"): RIGHT,
        ("set/map", "left_lung"): LEFT,
        ("set/inverted", "lungs"): BOTH,
        ("set/ignored", "lungs"): BOTH,
    }
    assert all(
        np.array_equal(drawn[key], mask) for key, mask in exact.items()
    ) and drawn.keys() == exact.keys() | {("set/small", "lungs")}
    assert reported["info"]["left_out"] == [
        "set/empty: lungs covers no pixel of the image",
        "set/ignored: masks/ignored: values 255=ignore, which are not lungs",
        "set/map: masks/map: values 3=heart, which are not lungs",
    ]


def test_torchxrayvision_has_them_too(tmp_path):
    view = to_xrv(
        manifest(tmp_path, {"inverted": grey(255 - WHITE), "map": grey(VALUES + 3 * HEART)}),
        semantic_masks=True,
    )
    assert all(np.array_equal(view[index]["semantic_masks"]["Lungs"][0], BOTH) for index in (0, 1))


def rotated(kind: str, values: np.ndarray, orientation: int) -> bytes:
    """A JPEG or PNG that says how to turn it."""
    exif = tiff({274: ("H", (orientation,))}, b"")
    if kind == "png":
        import struct
        import zlib

        data, body = imagecodecs.png_encode(values), b"eXIf" + exif
        return (
            data[:33]
            + struct.pack(">I", len(exif))
            + body
            + struct.pack(">I", zlib.crc32(body))
            + data[33:]
        )
    data, segment = imagecodecs.jpeg8_encode(values, level=97), b"Exif\0\0" + exif
    return data[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2) + segment + data[2:]


@pytest.mark.parametrize("form", ["coco", "imagefolder", "torchxrayvision"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_written_images_agree_with_what_is_written_of_them(tmp_path, form, orientation):
    """The oracle reads the written file without Exif: the bright corner lies where the mask of it
    does, and no tag turns it.
    """
    stored = np.zeros((60, 90), np.uint8)
    stored[5:20, 10:40] = 250
    root = tmp_path / "data"
    made = manifest(root, {"a": b"", "b": b""})
    (root / "a.png").write_bytes(rotated("jpeg", stored, orientation))
    (root / "b.png").write_bytes(rotated("png", stored, orientation))
    for name in "ab":
        (root / "masks" / name).write_bytes(grey(raster.read(root / f"{name}.png").values > 128))
    summary = plugins.load("writers", form).write(made, tmp_path / "out", split=None)
    files = sorted(
        path for path in (tmp_path / "out").rglob("*.*") if path.suffix in (".png", ".jpg")
    )
    assert len(files) == 2 and (
        orientation == 1
        or form == "torchxrayvision"
        or "2 rotated as their headers say, as PNG" in summary["image files"]
    )
    for file in files:
        assert raster.orientation(file) == 1
        values = (
            imagecodecs.png_decode(file.read_bytes())
            if file.read_bytes().startswith(b"\x89PNG")
            else imagecodecs.jpeg8_decode(file.read_bytes())
        )
        if form == "coco":
            reported = annotations(tmp_path / "out")
            image = next(one for one in reported["images"] if one["file_name"].endswith(file.name))
            drawn = next(one for one in reported["annotations"] if one["image_id"] == image["id"])
            assert (image["height"], image["width"]) == values.shape
            mask = RunLengths.from_coco(drawn["segmentation"]).to_mask(values.shape)
            assert values[mask].mean() > 240 and values[~mask].mean() < 10


def test_an_image_folder_of_plain_files_is_copied_byte_for_byte(tmp_path):
    made = manifest(tmp_path / "data", {"a": grey(WHITE)})
    summary = imagefolder.write(replace(made), tmp_path / "out", split=None)
    assert (
        summary["image files"] == "copied"
        and (tmp_path / "out/train/set/a.png").read_bytes()
        == (tmp_path / "data/a.png").read_bytes()
    )


def test_lungs_are_measured_in_the_pixels_of_their_file_and_ignored_ones_are_not(tmp_path):
    """The file is larger than the cached image; what is predicted is the reference, cached."""
    made = manifest(tmp_path, {"a": grey(np.where(STRIP, 255, VALUES))})
    filled = cache.fill(made, Pixels(size=SIZE[0] // 2), tmp_path / "cache")
    table = made.table.with_columns(part=pl.lit("test"))
    found = file_grid.overlaps(
        table, filled, made, {"set/a": 0}, filled.masks, {"set/a": (0.5, 0.5)}
    )
    assert found.unreadable == () and found.per_image["side"].to_list() == ["both", "right", "left"]
    assert found.per_image["dice"].min() > 0.9
    both = found.per_image.row(0, named=True)
    assert both["hausdorff95_mm"] == pytest.approx(both["hausdorff95_pixels"] / 2)
    gone = replace(made, root=tmp_path / "gone")
    left = file_grid.overlaps(table, filled, gone, {"set/a": 0}, filled.masks, {})
    assert left.unreadable == ("set/a",) and left.per_image.is_empty()
