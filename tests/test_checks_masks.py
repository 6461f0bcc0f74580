"""Checks of masks: each planted fault is found and named, and masks that fit are left alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from hilum.audit.checks import _mask_contours, mask_alignment, mask_shape
from hilum.audit.issues import Issue
from hilum.config import Pixels
from hilum.dataset.manifest import Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.dataset.readers import kaggle_masks, montgomery
from hilum.imaging.files import raster
from hilum.pipeline import cache, ingest

IMAGES = 60
DATA = Path(__file__).parents[2] / "shared" / "data"


def cached(root: Path, to: Path) -> tuple[Manifest, Cache]:
    manifest = ingest.ingest(root)
    return manifest, cache.fill(manifest, Pixels(size=128), to)


def found(module, manifest: Manifest, radiographs: Cache) -> list[Issue]:
    return list(module.check(manifest, radiographs.index, radiographs))


def rules(issues: list[Issue]) -> set[tuple[str, str | None]]:
    return {(one.rule, one.image_id) for one in issues}


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("clean") / "data"
    kaggle_masks.example(root, images=IMAGES, seed=3)
    return root


@pytest.fixture
def copy(clean, tmp_path) -> Path:
    for path in sorted(clean.rglob("*")):
        if path.is_file():
            (tmp_path / "data" / path.relative_to(clean)).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "data" / path.relative_to(clean)).hardlink_to(path)
    return tmp_path / "data"


def change(root: Path, number: int, what) -> str:
    """Put another mask in the place of Shenzhen's `number`-th; the image's id."""
    path = sorted((root / "masks").glob("CHN*"))[number]
    mask = raster.read(path).values > 127
    path.unlink()
    raster.write_png(path, what(mask))
    return f"kaggle_masks/{path.stem.removesuffix('_mask')}"


def shifted(mask: np.ndarray, down: int, right: int) -> np.ndarray:
    return (
        cv2.warpAffine(
            mask.astype(np.uint8),
            np.float32([[1, 0, right], [0, 1, down]]),
            mask.shape[::-1],
            flags=cv2.INTER_NEAREST,
        )
        > 0
    )


def holed(mask: np.ndarray) -> np.ndarray:
    row, column = np.unravel_index(
        cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5).argmax(), mask.shape
    )
    return cv2.circle(mask.astype(np.uint8), (int(column), int(row)), 14, 0, -1) > 0


def test_masks_that_fit_are_left_alone(clean, tmp_path):
    manifest, radiographs = cached(clean, tmp_path)
    assert not [one for one in found(mask_shape, manifest, radiographs) if one.severity != "info"]
    assert len(found(mask_alignment, manifest, radiographs)) <= 2


def test_pieces_holes_and_shared_masks_are_named(copy, tmp_path):
    def with_a_piece(mask: np.ndarray) -> np.ndarray:
        return (
            cv2.circle(mask.astype(np.uint8), (mask.shape[1] // 2, mask.shape[0] - 20), 12, 1, -1)
            > 0
        )

    piece, hole = change(copy, 2, with_a_piece), change(copy, 5, holed)
    first, second = (path for path in sorted((copy / "masks").glob("CHN*"))[8:10])
    size = raster.size(copy / "CXR_png" / f"{first.stem.removesuffix('_mask')}.png")
    other = copy / "CXR_png" / f"{second.stem.removesuffix('_mask')}.png"
    resized = cv2.resize(raster.read(other).values, size[::-1], interpolation=cv2.INTER_AREA)
    other.unlink()
    raster.write_png(other, resized)
    second.unlink()
    second.hardlink_to(first)
    reported = found(mask_shape, *cached(copy, tmp_path))
    assert {("mask-pieces", piece), ("mask-holes", hole)} <= rules(reported)
    twice = [one for one in reported if one.rule == "mask-of-another"]
    ids = [f"kaggle_masks/{path.stem.removesuffix('_mask')}" for path in (first, second)]
    assert [(one.image_id, one.other_image_id, one.severity) for one in twice] == [
        (ids[1], ids[0], "error")
    ]


def test_one_image_under_two_names_may_share_a_mask(clean, tmp_path):
    """The example holds a copy of an image with its mask, from 40 images on."""
    manifest, radiographs = cached(clean, tmp_path)
    digests = mask_shape.measured(
        radiographs, manifest.table.join(radiographs.with_mask, on="image_id")["image_id"]
    )["mask_digest"]
    assert digests.len() - digests.n_unique() == 1
    assert not [
        one for one in found(mask_shape, manifest, radiographs) if one.rule == "mask-of-another"
    ]


def test_a_shift_is_reported_with_its_way(copy, tmp_path):
    planted = {
        change(copy, 1, lambda mask: shifted(mask, 24, 0)): "down",
        change(copy, 4, lambda mask: shifted(mask, 0, -20)): "left",
    }
    reported = {
        one.image_id: one.message
        for one in found(mask_alignment, *cached(copy, tmp_path))
        if one.rule == "mask-shifted"
    }
    assert set(reported) == set(planted)
    for image_id, way in planted.items():
        assert way in reported[image_id]


def test_a_mask_drawn_anywhere_is_a_misfit_even_in_a_small_set(tmp_path):
    kaggle_masks.example(tmp_path / "data", images=14)
    wrong = change(
        tmp_path / "data", 3, lambda mask: shifted(mask[::-1, :], 30, 0) ^ shifted(mask, -90, 40)
    )
    manifest, radiographs = cached(tmp_path / "data", tmp_path)
    assert {image_id for _, image_id in rules(found(mask_alignment, manifest, radiographs))} == {
        wrong
    }


def test_exchanged_sides_are_an_error(tmp_path):
    montgomery.example(tmp_path / "data", images=6)
    masks = tmp_path / "data" / "ManualMask"
    name = sorted(path.name for path in (masks / "leftMask").iterdir())[2]
    left, right = (masks / side / name for side in ("leftMask", "rightMask"))
    kept = left.read_bytes()
    left.write_bytes(right.read_bytes())
    right.write_bytes(kept)
    reported = found(mask_shape, *cached(tmp_path / "data", tmp_path))
    assert [(one.rule, one.severity, one.image_id) for one in reported] == [
        ("mask-sides-exchanged", "error", f"montgomery/{Path(name).stem}")
    ]


def test_a_form_like_no_other_is_worth_knowing(copy, tmp_path):
    def upper_third(mask: np.ndarray) -> np.ndarray:
        rows = np.nonzero(mask.any(axis=1))[0]
        return mask & (np.arange(len(mask)) < rows[0] + (rows[-1] - rows[0]) // 3)[:, None]

    odd = change(copy, 6, upper_third)
    reported = [
        one for one in found(mask_shape, *cached(copy, tmp_path)) if one.rule == "mask-odd-form"
    ]
    assert odd in {one.image_id for one in reported} and all(
        "usual in its source" in one.message and one.severity == "info" for one in reported
    )


def test_issues_do_not_depend_on_the_order_of_rows(copy, tmp_path):
    change(copy, 1, lambda mask: shifted(mask, 20, 8))
    change(copy, 5, holed)
    manifest, radiographs = cached(copy, tmp_path)
    mixed = Cache(
        radiographs.folder,
        radiographs.size,
        radiographs.index.sample(fraction=1, shuffle=True, seed=4),
    )
    table = manifest.table.sample(fraction=1, shuffle=True, seed=5)
    other = Manifest(manifest.root, table, manifest.labels, manifest.remarks, manifest.shapes)
    for module in (mask_alignment, mask_shape):
        straight = found(module, manifest, radiographs)
        assert straight and straight == found(module, other, mixed)


def test_without_images_or_masks_there_is_nothing_to_say(tmp_path):
    montgomery.example(tmp_path / "data", images=4)
    for path in (tmp_path / "data" / "ManualMask").rglob("*.png"):
        path.unlink()
    manifest, radiographs = cached(tmp_path / "data", tmp_path)
    for module in (mask_alignment, mask_shape):
        assert (
            found(module, manifest, radiographs)
            == []
            == list(module.check(manifest, radiographs.index))
        )


def test_the_best_place_of_a_moved_outline_is_where_it_was():
    image = np.full((2, 128, 128), 200, np.uint8)
    mask = np.zeros((2, 128, 128), np.uint8)
    image[:, 40:80, 30:60] = 60
    mask[0, 40:80, 30:60] = 1
    mask[1, 50:90, 24:54] = 1
    rims = _mask_contours.rims(image, mask)
    best, shift = rims.best()
    assert np.allclose(shift * 128, [[0, 0], [-10, 6]], atol=0.01)
    assert (
        rims.agreement()[0] == pytest.approx(best[0], abs=1e-4)
        and best[1] == pytest.approx(best[0], abs=1e-3)
        and rims.agreement()[1] < 0.5 * best[1]
    )
    assert np.allclose(rims.agreement_of(rims.masks)[[0, 1], [0, 1]], rims.agreement(), atol=1e-5)


def test_sixteen_bits_measure_the_same():
    image = np.random.default_rng(0).integers(0, 256, (1, 128, 128)).astype(np.uint8)
    deep = image.astype(np.uint16) * 257
    assert np.allclose(
        _mask_contours.small_images(image), _mask_contours.small_images(deep), atol=1e-4
    )


@pytest.mark.skipif(
    not (DATA / "montgomery").is_dir(), reason="needs the radiographs of ../shared/data"
)
def test_real_masks_drawn_with_care_raise_no_error_and_few_warnings(tmp_path):
    manifest, radiographs = cached(DATA / "montgomery", tmp_path)
    reported = [
        one
        for module in (mask_alignment, mask_shape)
        for one in found(module, manifest, radiographs)
    ]
    assert not [one for one in reported if one.severity == "error"]
    assert (
        len({one.image_id for one in reported if one.severity == "warning"})
        <= 0.04 * manifest.table.height
    )
    assert pl.Series([one.message for one in reported]).str.contains(str(tmp_path)).sum() == 0
