"""The recipe of the bundled lung models: who is left out, what is saved, and what the exported protocols are. Needs PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks._lib.lung_films import Films  # noqa: E402
from tools.build_models import lung_trainings, train_lungs  # noqa: E402
from tools.build_models.lung_augmentation import Changes, augment  # noqa: E402
from tools.build_models.lung_trainings import Plan  # noqa: E402

SIDE = 64
SOURCES = ("montgomery", "shenzhen", "kermany", "covid")


def films(each: int = 6) -> Films:
    """Two dark ellipses on grey; by the full protocol wider ones."""
    rng, count = np.random.default_rng(0), each * len(SOURCES)
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    sources = np.repeat(SOURCES, each)
    masks = np.zeros((count, SIDE, SIDE), np.uint8)
    for number, source in enumerate(sources):
        wide = 0.17 if source in ("kermany", "covid") else 0.13
        for side, column in ((1, 0.3), (2, 0.7)):
            row = 0.5 + rng.uniform(-0.05, 0.05)
            masks[number][((rows - row) / 0.3) ** 2 + ((columns - column) / wide) ** 2 < 1] = side
    images = np.where(masks > 0, 60, 170) + rng.normal(0, 10, masks.shape)
    numbers = np.arange(count)
    return Films(
        images.clip(0, 255).astype(np.uint8),
        masks,
        sources,
        np.array([f"p{number}" for number in numbers]),
        np.array([f"f{number}" for number in numbers]),
        np.array([f"d{number}" for number in numbers]),
        np.full((count, 2), SIDE),
        numbers % 3,
        numbers % each == each - 1,
        (sources != "shenzhen") & (numbers % 2 == 0),
    )


@pytest.fixture(scope="module")
def network():
    torch.set_num_threads(1)
    plan = Plan("any", SOURCES, width=8, detail=8, quota=dict.fromkeys(SOURCES, 2))
    made = lung_trainings.train([plan], films(), device="cpu", steps=3)
    return plan, *made["any"]


def test_what_is_left_out_is_neither_trained_nor_tuned_on():
    data = films()
    plan = Plan("any", ("shenzhen", "kermany", "covid"), fold=1)
    train, tune = lung_trainings.rows_of(plan, data)
    used = np.concatenate([train, tune])
    assert set(data.sources[used]) == {"shenzhen", "kermany", "covid"}
    assert 1 not in data.folds[used] and not set(train) & set(tune)
    assert data.tune[tune].all() and not data.tune[train].any()
    free, _ = lung_trainings.rows_of(Plan("any", SOURCES, free=True), data)
    assert data.free[free].all() and len(free)


def test_every_released_plan_leaves_out_what_its_licence_says():
    plans = {plan.name: plan for plan in train_lungs.plans()}
    assert plans["ccby"].free and not {"shenzhen", "montgomery"} & set(plans["ccby"].sources)
    for name, source in {"m2s": "shenzhen", "s2m": "montgomery", "nok": "kermany"}.items():
        assert source not in plans[name].sources


def test_saved_weights_predict_as_before(network, tmp_path: Path):
    plan, trained, steps = network
    lung_trainings.save(tmp_path, plan, trained, steps)
    loaded, heads = lung_trainings.load(tmp_path, "any")
    assert tuple(heads) == plan.heads == ("m", "s", "f") and steps == 3
    images = films().images[:3]
    before, after = (lung_trainings.predict(one, images) for one in (trained, loaded))
    assert before.shape == (3, 3, 2, SIDE, SIDE)
    assert np.abs(before - after).max() < 0.02


def test_the_exported_air_protocol_is_the_mean_of_both_conventions(network, tmp_path: Path):
    plan, trained, steps = network
    lung_trainings.save(tmp_path, plan, trained, steps)
    loaded, heads = lung_trainings.load(tmp_path, "any")
    images = films().images[:2]
    likely = lung_trainings.predict(loaded, images)
    exported = train_lungs.Exported(loaded, heads).eval()
    with torch.no_grad():
        air, full = (one.numpy() for one in exported(torch.from_numpy(images)))
    assert exported.outputs == ("lungs", "lungs_full")
    logits = np.log(likely / (1 - likely))
    assert np.allclose(air, 1 / (1 + np.exp(-logits[:, :2].mean(1))), atol=1e-3)
    assert np.allclose(full, likely[:, 2], atol=1e-3)


def test_white_lungs_keep_their_mask_and_nothing_leaves_the_range():
    data = films(2)
    masks = torch.stack([torch.from_numpy(data.masks == side) for side in (1, 2)], 1).float()
    images = torch.from_numpy(data.images).unsqueeze(1).float() / 255
    torch.manual_seed(0)
    made, moved = augment(images, masks, Changes(strength=0.0, white=1.0, below=0.0))
    assert torch.allclose(moved, masks, atol=1e-3)
    inside = masks.amax(1, keepdim=True) > 0
    assert made[inside].mean() > images[inside].mean() + 0.05
    assert made.min() >= 0 and made.max() <= 1
