"""What the audit says of images: each rule on a planted row, and whole files made wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.audit.checks import image_quality
from hilum.config import Pixels
from hilum.dataset.manifest import COLUMNS, Manifest
from hilum.dataset.pixel_cache import FACTS
from hilum.dataset.readers import kaggle_masks
from hilum.imaging.files import raster
from hilum.inference import orientation
from hilum.pipeline import audit, cache, ingest

RIGHT = {
    "inverted": -9.0,
    "rotated": -7.0,
    "quarter_turns": 0,
    "mirrored": -6.0,
    "out_of_distribution": -9.0,
    "distance": 0.5,
    "border": 0.05,
    "flat": 0.05,
    "black": 0.03,
    "white": 0.01,
    "spread": 220.0,
}


def made_up(**changes: object) -> tuple[Manifest, pl.DataFrame]:
    """Three right images; the second with single cells changed."""
    names = [
        {
            "image_id": f"set/{n}",
            "dataset": "set",
            "source": "set",
            "patient_id": f"set/p{n}",
            "path": f"{n}.png",
        }
        for n in range(3)
    ]
    images = [dict.fromkeys(COLUMNS) | name for name in names]
    seen = {"height": 300, "width": 280, "bits": 8, "minimum": 0, "maximum": 251}
    facts = [
        dict.fromkeys(FACTS) | {"image_id": f"set/{n}", "row": n} | seen | RIGHT for n in range(3)
    ]
    facts[1] |= changes
    return Manifest.of(Path("/nowhere"), images, [], []), pl.DataFrame(
        facts, schema={**FACTS, **orientation.FEATURES}
    )


def found(**changes: object) -> list[tuple[str, str, str | None]]:
    return [
        (one.rule, one.severity, one.image_id) for one in image_quality.check(*made_up(**changes))
    ]


def test_correct_images_have_no_issues():
    assert found() == []


@pytest.mark.parametrize(
    ("changes", "rule", "severity"),
    [
        ({"inverted": 12.0}, "image-inverted", "warning"),
        ({"rotated": 9.0, "quarter_turns": 3}, "image-rotated", "warning"),
        ({"rotated": 9.0, "quarter_turns": 1, "mirrored": 9.0}, "image-rotated", "warning"),
        ({"mirrored": 9.0}, "image-mirrored", "warning"),
        ({"out_of_distribution": 12.0}, "image-not-frontal-chest", "warning"),
        ({"distance": 4.0, "inverted": 9.0}, "image-not-frontal-chest", "warning"),
        ({"flat": 0.97, "out_of_distribution": 9.0}, "image-empty", "error"),
        ({"black": 0.45}, "image-clipped", "warning"),
        ({"white": 0.25}, "image-clipped", "warning"),
        ({"spread": 40.0}, "image-low-contrast", "warning"),
        ({"minimum": 100, "maximum": 140}, "image-low-contrast", "warning"),
        ({"border": 0.7}, "image-border", "warning"),
        ({"bits": 16, "maximum": 255}, "image-range", "warning"),
    ],
)
def test_a_planted_fault_is_the_one_finding(changes, rule, severity):
    assert found(**changes) == [(rule, severity, "set/1")]


@pytest.mark.parametrize(
    "changes",
    [
        {"bits": 16, "maximum": 256},
        {"black": 0.26},
        {"flat": 0.3},
        {"border": 0.6},
        {"error": "1.png: broken", "flat": 1.0},
    ],
)
def test_what_is_within_its_limits_or_unreadable_is_left_alone(changes):
    assert found(**changes) == []


def test_a_constant_or_flat_image_is_left_to_the_rules_of_files():
    assert (
        found(minimum=7, maximum=7, flat=1.0, out_of_distribution=9.0) == []
        and found(minimum=7, maximum=20, out_of_distribution=9.0) == []
    )


def test_messages_name_the_file_and_say_which_way():
    messages = [
        one.message
        for changes in ({"rotated": 9.0, "quarter_turns": 2}, {"border": 0.7})
        for one in image_quality.check(*made_up(**changes))
    ]
    assert messages == [
        "1.png: appears rotated by 180°",
        "1.png: 70 % of the image is a flat border",
    ]


def test_facts_without_features_are_of_images_that_were_not_measured():
    manifest, facts = made_up(inverted=12.0, bits=16, maximum=255)
    assert [
        one.rule for one in image_quality.check(manifest, facts.drop(list(orientation.FEATURES)))
    ] == ["image-range"]


SPOILT = {
    "image-inverted": lambda image: 255 - image,
    "image-rotated": lambda image: np.rot90(image, 3),
    "image-mirrored": lambda image: image[:, ::-1],
    "image-not-frontal-chest": lambda image: np.random.default_rng(0).integers(
        0, 256, image.shape, np.uint8
    ),
    "image-clipped": lambda image: np.where(image > 120, np.uint8(255), image),
    "image-border": lambda image: np.pad(image, 300),
    "image-empty": lambda image: np.where(
        np.arange(image.size).reshape(image.shape) < 900, np.uint8(200), np.uint8(0)
    ),
}


@pytest.mark.parametrize("size", [64, 256])
def test_files_made_wrong_are_named_by_the_audit_and_the_others_are_not(tmp_path, size):
    kaggle_masks.example(tmp_path / "data", images=16, seed=901)
    radiographs = sorted((tmp_path / "data" / "CXR_png").glob("*.png"))
    expected = []
    for path, (rule, spoil) in zip(radiographs, SPOILT.items(), strict=False):
        raster.write_png(path, np.ascontiguousarray(spoil(raster.read(path).values)))
        expected.append((rule, f"kaggle_masks/{path.stem}"))
    manifest = ingest.ingest(tmp_path / "data")
    filled = cache.fill(manifest, Pixels(size=size), tmp_path / "cache")
    reported = audit.audit(manifest, orientation.describe_cache(filled, filled.index))
    ours = reported.filter(pl.col("rule").is_in([rule.name for rule in image_quality.RULES]))
    assert sorted(ours.select("rule", "image_id").rows()) == sorted(expected)
