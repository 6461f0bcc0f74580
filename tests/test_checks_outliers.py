"""Images unlike the others of their source: one planted among usual ones is the only issue."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.audit.checks import outliers
from hilum.dataset.manifest import COLUMNS, Manifest
from hilum.dataset.pixel_cache import FACTS
from hilum.inference import orientation

COUNT, SIDE, ODD = 80, 32, 33


@dataclass
class ArrayCache:
    """Stands for a cache: its images are an array."""

    images: np.ndarray


def made_up(
    count: int = COUNT, seed: int = 0, **changes: object
) -> tuple[Manifest, pl.DataFrame, ArrayCache]:
    """Return images of one source lit by a few lamps; facts of number `ODD` are changed."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    lights = np.stack(
        [
            np.exp(-((down - y) ** 2 + (across - x) ** 2) / 0.3)
            for y, x in ((-0.5, -0.5), (-0.5, 0.5), (0.5, 0), (0, 0))
        ]
    )
    pixels = np.einsum(
        "nk,khw->nhw", 1 + 0.2 * rng.normal(size=(count, 4)), lights
    ) + 0.02 * rng.normal(size=(count, SIDE, SIDE))
    pixels = np.clip(100 * pixels, 0, 255).astype(np.uint8)
    names = [f"set/{n:03d}" for n in range(count)]
    images = [
        dict.fromkeys(COLUMNS)
        | {
            "image_id": name,
            "dataset": "set",
            "source": "set",
            "patient_id": name,
            "path": f"{name}.png",
        }
        for name in names
    ]
    usual = {
        "inverted": -9.0,
        "rotated": -9.0,
        "quarter_turns": 0,
        "mirrored": -9.0,
        "out_of_distribution": -9.0,
        "height": 300,
        "width": 280,
        "minimum": 0,
        "maximum": 255,
    }
    noise = rng.normal(size=(count, 6))
    facts = [
        dict.fromkeys(FACTS)
        | usual
        | {
            "image_id": name,
            "row": n,
            "distance": 0.6 + 0.1 * a,
            "border": abs(0.02 * b),
            "flat": 0.05 + 0.01 * c,
        }
        | {"black": abs(0.02 * d), "white": abs(0.01 * e), "spread": 200 + 10 * f}
        for n, (name, (a, b, c, d, e, f)) in enumerate(zip(names, noise, strict=True))
    ]
    if count > ODD:
        facts[ODD] |= changes
    return (
        Manifest.of(Path("/nowhere"), images, [], []),
        pl.DataFrame(facts, schema={**FACTS, **orientation.FEATURES}),
        ArrayCache(pixels),
    )


def found(manifest, facts, cache=None):
    return [
        (one.rule, one.severity, one.image_id) for one in outliers.check(manifest, facts, cache)
    ]


PLANTED = [("image-outlier", "info", f"set/{ODD:03d}")]


@pytest.mark.parametrize("seed", range(5))
def test_usual_images_have_no_issue(seed):
    assert found(*made_up(seed=seed)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"border": 0.5},
        {"flat": 0.3},
        {"black": 0.25},
        {"white": 0.12},
        {"spread": 100.0},
        {"height": 600},
        {"distance": 1.6},
    ],
    ids=str,
)
def test_one_unusual_feature_is_reported_with_what_is_usual(changes, monkeypatch):
    monkeypatch.setattr(
        orientation, "quality_flags", lambda features: ([] for _ in range(features.height))
    )
    manifest, facts, cache = made_up(**changes)
    assert found(manifest, facts, cache) == PLANTED
    (column, _), (one,) = *changes.items(), outliers.check(manifest, facts)
    assert (
        outliers.MEASURES["shape" if column == "height" else column].words in one.message
        and "usual are" in one.message
    )
    assert one.message.startswith(f"outlier 1 of 1 of set: set/{ODD:03d}.png: ")


@pytest.mark.parametrize(
    "plant",
    [
        lambda it: 255 - it,
        lambda it: it[::-1],
        lambda it: np.full_like(it, 9) + np.eye(SIDE, dtype=np.uint8) * 200,
    ],
    ids=["negative", "flipped", "line"],
)
def test_an_image_of_something_else_is_reported_as_a_whole(plant):
    manifest, facts, cache = made_up()
    cache.images[ODD] = plant(cache.images[ODD])
    assert found(manifest, facts, cache) == PLANTED and found(manifest, facts) == []


def test_what_is_flagged_already_is_not_stated_twice_and_a_few_images_have_no_information():
    assert found(*made_up(border=0.5, out_of_distribution=12.0)) == []
    assert (
        found(*made_up(count=outliers.FEWEST - 1, border=0.5))
        == []
        != found(*made_up(count=outliers.FEWEST, border=0.5))
    )


def test_at_most_one_in_a_hundred_is_reported_the_farthest_first():
    manifest, facts, _ = made_up()
    facts = facts.with_columns(
        border=pl.when(pl.col("row") < 3)
        .then(0.5 + 0.1 * pl.col("row"))
        .otherwise("border")
        .cast(pl.Float32)
    )
    assert found(manifest, facts) == [("image-outlier", "info", "set/002")]


def test_it_does_not_depend_on_the_order_of_rows():
    manifest, facts, cache = made_up(border=0.5)
    mixed = Manifest.of(
        Path("/nowhere"), manifest.table.sample(fraction=1, shuffle=True, seed=3).to_dicts(), [], []
    )
    assert list(
        outliers.check(mixed, facts.sample(fraction=1, shuffle=True, seed=4), cache)
    ) == list(outliers.check(manifest, facts, cache))
