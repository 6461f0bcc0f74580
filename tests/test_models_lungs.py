"""The lung models: each learns, stops where it should, leaves unknown pixels alone, resumes to the
bit, and is the same in ONNX and in 8 bits.
"""

from __future__ import annotations

import hashlib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnx  # noqa: E402
import onnxruntime  # noqa: E402

from hilum import plugins  # noqa: E402
from hilum.annotations.lung_masks import IGNORE, LEFT, RIGHT  # noqa: E402
from hilum.dataset.pixel_cache import MasksWithIgnore  # noqa: E402
from hilum.errors import BadRecipe  # noqa: E402
from hilum.safety import onnx_file  # noqa: E402
from hilum.training import lung_loss, lung_segmentation, onnx_export, training_loop  # noqa: E402
from hilum.training.models import compact_unet  # noqa: E402
from hilum.training.schedule import Schedule  # noqa: E402
from hilum.training.settings import SegmenterSettings  # noqa: E402

LUNGS = ("attention_unet", "compact_unet", "unet")
SIZE = 64
SHORT = {"precision": "float32", "rotation_degrees": 0.0}


@pytest.fixture(autouse=True)
def one_thread():
    """On a busy machine, threads that wait for one another make these small networks many times
    slower.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def ellipses(count: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Dark ellipses on noise, and their labels: the simplest idea of a chest, learned
    in seconds.
    """
    rng = np.random.default_rng(4)
    row, column = np.ogrid[0:size, 0:size]
    masks = np.zeros((count, size, size), np.uint8)
    for mask in masks:
        for label, middle in ((1, 0.3), (2, 0.7)):
            centre_row, centre_column = (
                rng.uniform(0.45, 0.55) * size,
                (middle + rng.uniform(-0.04, 0.04)) * size,
            )
            radius_row, radius_column = (
                rng.uniform(0.25, 0.35) * size,
                rng.uniform(0.1, 0.15) * size,
            )
            mask[
                ((row - centre_row) / radius_row) ** 2
                + ((column - centre_column) / radius_column) ** 2
                < 1
            ] = label
    images = np.clip(np.where(masks > 0, 70, 170) + rng.normal(0, 25, masks.shape), 0, 255).astype(
        np.uint8
    )
    return images, masks


def dice(found: np.ndarray, masks: np.ndarray) -> tuple[float, float]:
    sides = ((found[:, 0] > 0.5, masks == 1), (found[:, 1] > 0.5, masks == 2))
    return tuple(2 * (lung & truth).sum() / (lung.sum() + truth.sum()) for lung, truth in sides)


def digest(network: torch.nn.Module) -> str:
    content = hashlib.sha256()
    for name, value in network.state_dict().items():
        content.update(name.encode() + value.numpy().tobytes())
    return content.hexdigest()


def answers(path: Path, images: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"]).run(
        ["lungs"], {"images": images}
    )[0]


@pytest.mark.parametrize("name", LUNGS)
def test_a_lung_model_learns_few_images_and_separates_right_from_left(
    name: str, tmp_path: Path
) -> None:
    if name != "compact_unet":
        pytest.importorskip("monai")
    model = plugins.load("models", name)
    images, masks = ellipses(24)
    quick = model.QUICK | (
        {"least_steps": 120}
        if name == "compact_unet"
        else {"least_steps": 72, "batch_size": 4, "averaging": 0.8}
    )
    network = model.fit(images, masks, np.arange(16), model.Settings(**quick | SHORT), seed=0)
    path = tmp_path / "lungs.onnx"
    onnx_export.to_onnx(network, path, size=SIZE, outputs=model.OUTPUTS, metadata={})
    found = answers(path, images[16:])
    assert (
        found.dtype == np.float32
        and found.shape == (8, 2, SIZE, SIZE)
        and found.min() >= 0
        and found.max() <= 1
    )
    assert min(dice(found, masks[16:])) > 0.75
    for at in range(8):
        assert np.abs(answers(path, images[16 + at : 17 + at])[0] - found[at]).max() < 1e-5


@pytest.mark.parametrize("name", LUNGS)
def test_every_lung_model_has_the_shared_settings_and_no_wide_change_by_default(name: str) -> None:
    settings = plugins.defaults("models", name, "Settings")
    assert {setting.name for setting in fields(SegmenterSettings)} <= set(settings)
    assert not any(settings[off] for off in ("flip", "invert"))
    assert set(plugins.defaults("models", name, "QUICK")) <= set(settings)


def test_the_compact_model_is_as_small_as_is_said() -> None:
    network = compact_unet.Compact(compact_unet.Settings().width, compact_unet.Settings().detail)
    assert sum(weight.numel() for weight in network.parameters()) < 1_500_000


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, np.ndarray, np.ndarray]:
    torch.set_num_threads(1)
    images, masks = ellipses(40)
    settings = compact_unet.Settings(**dict(compact_unet.QUICK) | SHORT | {"least_steps": 120})
    path = tmp_path_factory.mktemp("trained") / "lungs.onnx"
    network = compact_unet.fit(images, masks, np.arange(16), settings, seed=0)
    onnx_export.to_onnx(
        network,
        path,
        size=SIZE,
        outputs=compact_unet.OUTPUTS,
        metadata={"card": '{"title": "Lungs"}'},
    )
    return path, images, masks


def test_eight_bits_find_the_same_lungs_in_a_third_of_the_bytes(trained, tmp_path: Path) -> None:
    path, images, masks = trained
    small = tmp_path / "lungs.int8.onnx"
    onnx_export.to_int8(path, small, images[:16])
    before, after = (
        dice(answers(path, images[16:]), masks[16:]),
        dice(answers(small, images[16:]), masks[16:]),
    )
    assert np.abs(np.subtract(before, after)).max() < 0.002
    assert small.stat().st_size < 0.5 * path.stat().st_size
    assert onnxruntime.InferenceSession(small.read_bytes()).get_modelmeta().custom_metadata_map == {
        "card": '{"title": "Lungs"}'
    }
    again = tmp_path / "again.onnx"
    onnx_export.to_int8(path, again, images[:16])
    assert again.read_bytes() == small.read_bytes()


def test_weights_of_seven_bits_cannot_overflow_the_sum_of_two_products(trained, tmp_path: Path):
    path, images, _ = trained
    onnx_export.to_int8(path, tmp_path / "small.onnx", images[:8], weight_bits=7)
    stored = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(tmp_path / "small.onnx").graph.initializer
    ]
    weights = [values.astype(int) for values in stored if values.dtype == np.int8]
    largest = max(int(np.abs(values).max()) for values in weights)
    assert largest > 32 and 2 * largest * 255 < 2**15


def test_half_weights_find_the_same_lungs_in_half_of_the_bytes(trained, tmp_path: Path) -> None:
    path, images, masks = trained
    half = tmp_path / "half.onnx"
    onnx_export.to_half_weights(path, half)
    before, after = answers(path, images[16:]), answers(half, images[16:])
    assert 0 < np.abs(before - after).max() < 0.02
    assert np.abs(np.subtract(dice(before, masks[16:]), dice(after, masks[16:]))).max() < 0.001
    assert half.stat().st_size < 0.6 * path.stat().st_size
    stored = [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(half).graph.initializer]
    assert min(values.ndim for values in stored if values.dtype == np.float16) >= 2
    onnx_file.examine(half.read_bytes(), half.name)  # it would be opened


class Interrupted(Exception):
    pass


def watched(
    checkpoint: Path | None = None, stop_after: int = 0, **changes
) -> tuple[str, list[training_loop.Epoch]]:
    """A short training with everything on: augmentation, averaging, early stopping."""
    images, masks = ellipses(24)
    epochs: list[training_loop.Epoch] = []

    def progress(done: int, of: int) -> None:
        if done == stop_after:
            raise Interrupted

    settings = compact_unet.Settings(
        **{
            "width": 8,
            "epochs": 4,
            "least_steps": 44,
            "precision": "float32",
            "noise": 0.05,
            "local_contrast": 0.5,
            "border": 0.5,
            "bands": 0.1,
        }
        | changes
    )
    network = compact_unet.fit(
        images,
        masks,
        np.arange(16),
        settings,
        seed=3,
        tune=np.arange(16, 24),
        checkpoint=checkpoint,
        progress=progress,
        on_epoch=epochs.append,
    )
    return digest(network), epochs


@pytest.fixture(scope="module")
def undisturbed() -> tuple[str, list[training_loop.Epoch]]:
    torch.set_num_threads(1)
    return watched()


def test_a_resumed_training_equals_an_undisturbed_one_to_the_bit(
    undisturbed, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "lungs.checkpoint"
    for stop_after in (15, 27):
        with pytest.raises(Interrupted):
            watched(checkpoint, stop_after)
        assert checkpoint.exists()
    for _ in range(2):  # the second time from the end
        assert watched(checkpoint) == undisturbed
    assert list(tmp_path.iterdir()) == [checkpoint]  # for the caller to remove


def test_the_tune_images_are_evaluated_now_and_then_and_stop_a_training_that_no_longer_learns(
    undisturbed,
) -> None:
    _, epochs = undisturbed
    assert [epoch.number for epoch in epochs] == list(range(1, 23))
    assert [epoch.number for epoch in epochs if epoch.tune is not None] == [10, 20, 22]
    assert all(epoch.batches == 2 * epoch.number for epoch in epochs)
    _, stopped = watched(learning_rate=1e-12, patience=0.25, least_steps=200)
    assert len(stopped) < 100


def test_the_best_averaged_weights_are_kept() -> None:
    images, _ = ellipses(16)
    seen: list[torch.Tensor] = []

    def score(ask: training_loop.Predict) -> float:
        seen.append(ask(images[:2]))
        return -float(len(seen) != 2)  # the second evaluation is the best

    with training_loop.seeded(0):
        network = compact_unet.Compact(8, 0)
    rows = np.arange(16)
    schedule = Schedule(
        epochs=8,
        batch_size=2,
        learning_rate=0.003,
        weight_decay=0.0,
        averaging=0.9,
        precision="float32",
    )
    masks = ellipses(16)[1]
    losses = training_loop.fit(
        network,
        training_loop.Examples(lambda rows, rngs: (images[rows], masks[rows]), rows),
        lung_loss.loss,
        schedule,
        seed=0,
        caller=training_loop.Caller(watch=training_loop.EarlyStopping(score, 0)),
    )
    assert len(losses) == 8 and len(seen) == 3  # 8 batches an epoch: every third, and the last
    x = torch.from_numpy(images[:2]).unsqueeze(1).float() / 255
    with torch.no_grad():
        kept = network(x)
    assert [bool(torch.allclose(kept, answer, atol=1e-4)) for answer in seen] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("over", [(0, 2, 3), (2, 3)])
def test_the_losss_gradient_is_that_of_its_formula(over) -> None:
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (3, 32, 32), generator=draw, dtype=torch.uint8)
    labels[0, :, :9] = IGNORE
    logits = 5 * torch.randn((3, 2, 32, 32), generator=draw, dtype=torch.float64)
    logits.requires_grad_()
    known = (labels != IGNORE)[:, None].double()
    truth = torch.stack([labels == RIGHT, labels == LEFT], 1).double()
    likely = torch.sigmoid(logits) * known
    dice = (2 * (likely * truth).sum(over) + 1) / (likely.sum(over) + truth.sum(over) + 1)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, truth, known.expand_as(truth), reduction="sum"
    )
    expected = entropy / (2 * known.sum()) + (1 - dice).mean()
    (2 * expected).backward()
    own = logits.detach().float().requires_grad_()
    found = lung_loss.loss(own, labels, over)
    (2 * found).backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(own.grad.double(), logits.grad, rtol=1e-4, atol=1e-8)


def test_unknown_pixels_are_not_trained_on() -> None:
    labels = torch.from_numpy(ellipses(2)[1]).clone()
    labels[:, :, SIZE // 2 :] = IGNORE
    logits = torch.randn(
        (2, 2, SIZE, SIZE), generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    for over in ((0, 2, 3), (2, 3)):
        logits.grad = None
        lung_loss.loss(logits, labels, over).backward()
        assert not logits.grad[..., SIZE // 2 :].any() and logits.grad[..., : SIZE // 2].all()
    whole = torch.full((1, SIZE, SIZE), IGNORE, dtype=torch.uint8)
    assert torch.isfinite(lung_loss.loss(logits[:1], whole))


def test_one_lung_of_each_image_is_enough_to_learn_both() -> None:
    images, masks = ellipses(24)
    partial = (
        masks.copy()
    )  # every second image's left lung is not drawn, and every other's right one
    partial[0:16:2][masks[0:16:2] == 2], partial[1:16:2][masks[1:16:2] == 1] = 0, 0
    network = compact_unet.fit(
        images,
        MasksWithIgnore(partial),
        np.arange(16),
        compact_unet.Settings(**dict(compact_unet.QUICK) | SHORT | {"least_steps": 140}),
        seed=0,
    )
    with torch.no_grad():
        found = network(torch.from_numpy(images[16:])).numpy()
    assert min(dice(found, masks[16:])) > 0.8


def test_the_score_counts_reference_masks_only() -> None:
    images, masks = ellipses(5)
    masks[0][masks[0] == 2] = 0
    masks[1, :, SIZE // 2 :] = IGNORE

    def right_and_everything(requested: np.ndarray) -> torch.Tensor:
        found = torch.full((len(requested), 2, SIZE, SIZE), 1.0)
        found[:, 0] = torch.from_numpy(np.where(masks[: len(requested)] == 1, 1.0, -1.0))
        return found

    rows = np.arange(2)
    assert (
        lung_segmentation.score(right_and_everything, images, masks, rows) == 1.0
    )  # the left lungs are not drawn or not known


@pytest.mark.parametrize("shape", [(80, 80), (64, 96), (32, 32), (1056, 1056)])
def test_a_size_the_lung_networks_cannot_take_is_refused_by_name(shape: tuple[int, int]) -> None:
    images = np.zeros((4, *shape), np.uint8)
    with pytest.raises(BadRecipe, match=f"{shape[0]} x {shape[1]}"):
        compact_unet.fit(images, images, np.arange(4), compact_unet.Settings(), seed=0)


def test_an_unknown_way_of_taking_dice_is_refused() -> None:
    images, masks = ellipses(4)
    with pytest.raises(BadRecipe, match="'pixel'; expected 'batch' or 'image'"):
        compact_unet.fit(
            images, masks, np.arange(4), compact_unet.Settings(dice_over="pixel"), seed=0
        )


def test_settings_that_name_a_change_of_images_mean_that_change() -> None:
    from hilum.training.augmentation import Augmentation

    named = {limit.name for limit in fields(Augmentation)} - {"crop"}
    assert named <= {setting.name for setting in fields(compact_unet.Settings)}
