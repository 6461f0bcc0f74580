"""Pictures unlike the others of their source: one planted among usual ones is the one finding; usual ones are left alone."""

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
class Shown:
    """Stands for a cache: its pictures are an array."""

    pictures: np.ndarray

    @property
    def images(self) -> Shown:
        return self

    def read(self, rows: np.ndarray) -> np.ndarray:
        return self.pictures[rows]


def made_up(
    count: int = COUNT, seed: int = 0, **changes: object
) -> tuple[Manifest, pl.DataFrame, Shown]:
    """Pictures of one source that differ as a few lights would have it; of number `ODD` single cells are changed."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    lights = np.stack(
        [
            np.exp(-((down - y) ** 2 + (across - x) ** 2) / 0.3)
            for y, x in ((-0.5, -0.5), (-0.5, 0.5), (0.5, 0), (0, 0))
        ]
    )
    pictures = np.einsum(
        "nk,khw->nhw", 1 + 0.2 * rng.normal(size=(count, 4)), lights
    ) + 0.02 * rng.normal(size=(count, SIDE, SIDE))
    pictures = np.clip(100 * pictures, 0, 255).astype(np.uint8)
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
    told = {
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
        | told
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
        Shown(pictures),
    )


def found(manifest, facts, cache=None):
    return [
        (one.rule, one.severity, one.image_id) for one in outliers.check(manifest, facts, cache)
    ]


PLANTED = [("image-outlier", "info", f"set/{ODD:03d}")]


@pytest.mark.parametrize("seed", range(5))
def test_usual_pictures_are_left_alone(seed):
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
def test_one_odd_measure_is_told_with_what_is_usual(changes, monkeypatch):
    monkeypatch.setattr(
        orientation, "quality_flags", lambda looks: ([] for _ in range(looks.height))
    )
    manifest, facts, shown = made_up(**changes)
    assert found(manifest, facts, shown) == PLANTED
    (column, _), (one,) = *changes.items(), outliers.check(manifest, facts)
    assert (
        outliers.MEASURES["shape" if column == "height" else column][0] in one.message
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
def test_a_picture_of_something_else_is_told_as_a_whole(plant):
    manifest, facts, shown = made_up()
    shown.pictures[ODD] = plant(shown.pictures[ODD])
    assert found(manifest, facts, shown) == PLANTED and found(manifest, facts) == []


def test_what_is_doubted_already_is_not_told_twice_and_a_few_pictures_tell_nothing():
    assert found(*made_up(border=0.5, out_of_distribution=12.0)) == []
    assert (
        found(*made_up(count=outliers.FEWEST - 1, border=0.5))
        == []
        != found(*made_up(count=outliers.FEWEST, border=0.5))
    )


def test_at_most_one_in_a_hundred_is_told_the_farthest_first():
    manifest, facts, _ = made_up()
    facts = facts.with_columns(
        border=pl.when(pl.col("row") < 3)
        .then(0.5 + 0.1 * pl.col("row"))
        .otherwise("border")
        .cast(pl.Float32)
    )
    assert found(manifest, facts) == [("image-outlier", "info", "set/002")]


def test_it_does_not_depend_on_the_order_of_rows():
    manifest, facts, shown = made_up(border=0.5)
    mixed = Manifest.of(
        Path("/nowhere"), manifest.table.sample(fraction=1, shuffle=True, seed=3).to_dicts(), [], []
    )
    assert list(
        outliers.check(mixed, facts.sample(fraction=1, shuffle=True, seed=4), shown)
    ) == list(outliers.check(manifest, facts, shown))
