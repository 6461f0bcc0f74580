"""The training loop: repeatable, resumable to the bit, leaves no trace in torch's global state; and
the way from it to ONNX.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnx  # noqa: E402
import onnxruntime  # noqa: E402
from torch import nn  # noqa: E402

from hilum.errors import BadRecipe, CannotWrite, HilumError, Notice, TooFew  # noqa: E402
from hilum.training import onnx_export, training_loop  # noqa: E402
from hilum.training.schedule import Schedule  # noqa: E402

SIZE = 16
ROWS = np.arange(10)
SCHEDULE = Schedule(
    epochs=4,
    batch_size=4,
    learning_rate=0.01,
    weight_decay=0.01,
    averaging=0.9,
    precision="float32",
)


class Brightness(nn.Module):
    """States how bright an image is, the long way: with batch normalisation and dropout, which a
    resumption could get wrong.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.2)
        )
        self.score = nn.Linear(6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.score(self.features(x).mean((2, 3)))[:, 0]


class Requested:
    """Batches of made-up images, brighter with the row; keeps which rows were requested, and with
    which random number.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, rows, rngs) -> tuple[np.ndarray, np.ndarray]:
        for row, rng in zip(rows, rngs, strict=True):
            self.calls.append((int(row), int(rng.integers(2**32))))
        noise = np.stack([rng.integers(0, 40, (SIZE, SIZE)) for rng in rngs])
        grey = np.clip(rows[:, None, None] * 12 + noise, 0, 255).astype(np.uint8)
        return grey, (rows / 10).astype(np.float32)


class Interrupted(Exception):
    pass


@pytest.fixture(autouse=True)
def one_thread():
    """On a busy machine, threads that wait for one another make these small networks many times
    slower.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(
    *, rows=ROWS, schedule=SCHEDULE, seed=7, batch=None, stop_after: int = 0, **settings
) -> tuple[Brightness, list[float]]:
    with training_loop.seeded(seed):
        network = Brightness()

    def progress(done: int, of: int) -> None:
        if done == stop_after:
            raise Interrupted

    losses = training_loop.fit(
        network,
        training_loop.Examples(batch or Requested(), rows),
        nn.functional.mse_loss,
        schedule,
        seed=seed,
        caller=training_loop.Caller(progress=progress, **settings),
    )
    return network, losses


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(
        torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items()
    )


def test_training_learns() -> None:
    _, losses = train(schedule=Schedule(30, 4, 0.03, 0.0, 0.9, "float32"))
    assert len(losses) == 30
    assert losses[-1] < 0.3 * losses[0]


def test_the_same_call_gives_the_same_weights_and_another_seed_gives_others() -> None:
    (one, losses), (again, losses_again) = train(), train()
    assert same(one, again) and losses == losses_again
    assert not same(one, train(seed=8)[0])


@pytest.mark.parametrize("steps_before", [3, 4, 8, 11])
def test_an_interrupted_training_goes_on_to_the_very_same_weights(
    tmp_path: Path, steps_before: int
) -> None:
    undisturbed, losses = train()
    checkpoint = tmp_path / "training.checkpoint"
    with pytest.raises(Interrupted):
        train(checkpoint=checkpoint, stop_after=steps_before)
    requested = Requested()
    resumed, losses_resumed = train(checkpoint=checkpoint, batch=requested)
    assert same(undisturbed, resumed)
    assert losses == losses_resumed
    epochs_left = 4 - (steps_before - 1) // 3
    assert (
        len(requested.calls) == 1 + 10 * epochs_left
    )  # one more evaluation of the first row, to know the checkpoint again
    done = Requested()
    again, losses_again = train(checkpoint=checkpoint, batch=done)  # until the caller removes it
    assert same(undisturbed, again) and losses == losses_again and len(done.calls) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 8},
        {"rows": np.arange(1, 11)},
        {"schedule": Schedule(4, 4, 0.02, 0.01, 0.9, "float32")},
        {
            "batch": lambda rows, rngs: (
                np.full((len(rows), SIZE, SIZE), 9, np.uint8),
                np.zeros(len(rows), np.float32),
            )
        },
    ],
    ids=["seed", "rows", "schedule", "images"],
)
def test_a_checkpoint_of_another_training_is_not_taken_up(tmp_path: Path, other: dict) -> None:
    checkpoint = tmp_path / "training.checkpoint"
    with pytest.raises(Interrupted):
        train(checkpoint=checkpoint, stop_after=9)
    assert checkpoint.exists()
    assert same(train(**other)[0], train(checkpoint=checkpoint, **other)[0])


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn"])
def test_a_damaged_checkpoint_means_beginning_anew(tmp_path: Path, content: bytes) -> None:
    checkpoint = tmp_path / "training.checkpoint"
    checkpoint.write_bytes(content)
    with pytest.warns(Notice, match="is damaged .*; the training starts anew"):
        resumed = train(checkpoint=checkpoint)[0]
    assert same(train()[0], resumed)


def test_what_befalls_an_image_depends_on_seed_epoch_and_row_only() -> None:
    small, large, fewer = Requested(), Requested(), Requested()
    train(batch=small)
    train(batch=large, schedule=Schedule(4, 5, 0.01, 0.01, 0.9, "float32"))
    train(batch=fewer, rows=np.arange(4))
    assert sorted(small.calls) == sorted(large.calls)
    assert set(fewer.calls) < set(small.calls)
    assert len(set(small.calls)) == 40  # each epoch treats each row differently
    assert [row for row, _ in small.calls[:10]] != [row for row, _ in small.calls[10:20]]


@pytest.mark.parametrize(("count", "seen"), [(8, 8), (9, 8), (10, 10)])
def test_only_a_last_batch_of_one_is_left_out(count: int, seen: int) -> None:
    requested = Requested()
    train(
        batch=requested,
        rows=np.arange(count),
        schedule=Schedule(1, 4, 0.01, 0.01, 0.0, "float32"),
    )
    assert len(requested.calls) == seen


def test_progress_counts_every_batch_and_ends_full() -> None:
    heard = []
    with training_loop.seeded(0):
        network = Brightness()
    training_loop.fit(
        network,
        training_loop.Examples(Requested(), np.arange(10)),
        nn.functional.mse_loss,
        SCHEDULE,
        seed=0,
        caller=training_loop.Caller(progress=lambda done, of: heard.append((done, of))),
    )
    assert heard == [(done, 12) for done in range(1, 13)]


def test_averaging_keeps_other_weights_than_the_last() -> None:
    assert not same(train()[0], train(schedule=Schedule(4, 4, 0.01, 0.01, 0.0, "float32"))[0])


def test_torchs_global_state_is_left_as_it_was() -> None:
    torch.manual_seed(5)
    before = (
        torch.get_rng_state(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_grad_enabled(),
    )
    network, _ = train()
    after = (
        torch.get_rng_state(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_grad_enabled(),
    )
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
    assert not network.training and {
        value.device.type for value in network.state_dict().values()
    } == {"cpu"}


def test_bfloat16_trains_too_and_leaves_float32_weights() -> None:
    network, losses = train(schedule=Schedule(20, 4, 0.03, 0.0, 0.9, "bfloat16"))
    assert {value.dtype for value in network.parameters()} == {torch.float32}
    assert losses[-1] < 0.5 * losses[0]


def test_sixteen_bits_are_the_same_fractions_of_white_as_eight() -> None:
    def deep(rows, rngs) -> tuple[np.ndarray, np.ndarray]:
        images, targets = Requested()(rows, rngs)
        return images.astype(np.uint16) * np.uint16(257), targets

    assert same(train()[0], train(batch=deep)[0])


def test_errors_say_what_to_do() -> None:
    with pytest.raises(TooFew, match="1 image"):
        train(rows=np.arange(1))
    with pytest.raises(BadRecipe, match="batch_size must be at least 2"):
        train(schedule=Schedule(1, 1, 0.01, 0.01, 0.9))
    with pytest.raises(BadRecipe, match="'float16'"):
        train(schedule=Schedule(1, 4, 0.01, 0.01, 0.9, "float16"))
    with pytest.raises(BadRecipe, match="lower learning_rate"):
        train(schedule=Schedule(3, 4, 1e30, 0.0, 0.9, "float32"))


def test_a_fault_in_making_a_batch_reaches_the_caller() -> None:
    def broken(rows, rngs) -> tuple[np.ndarray, np.ndarray]:
        raise HilumError("the cache is gone")

    with pytest.raises(HilumError, match="the cache is gone"):
        train(batch=broken)


class Halves(nn.Module):
    """uint8 (n, SIZE, SIZE) -> mean of the upper and of the lower half, after a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.smooth = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        smooth = self.smooth(images.unsqueeze(1).float() / 255)[:, 0]
        return smooth[:, : SIZE // 2].mean((1, 2)), smooth[:, SIZE // 2 :].mean((1, 2))


def halves() -> Halves:
    with training_loop.seeded(1):
        return Halves()


def test_an_export_names_its_outputs_takes_any_number_of_images_and_carries_its_metadata(
    tmp_path: Path,
) -> None:
    path = tmp_path / "halves.onnx"
    onnx_export.to_onnx(
        halves(),
        path,
        size=SIZE,
        outputs=("upper", "lower"),
        metadata={"card": '{"title": "Halves"}', "contract": "{}"},
    )
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    assert [(put.name, put.type) for put in session.get_inputs()] == [("images", "tensor(uint8)")]
    assert session.get_modelmeta().custom_metadata_map == {
        "card": '{"title": "Halves"}',
        "contract": "{}",
    }
    images = np.random.default_rng(2).integers(0, 256, (5, SIZE, SIZE), np.uint8)
    for count in (1, 5):
        found = session.run(["lower", "upper"], {"images": images[:count]})
        with torch.no_grad():
            upper, lower = halves()(torch.from_numpy(images[:count]))
        assert np.allclose(found[0], lower, atol=1e-6) and np.allclose(found[1], upper, atol=1e-6)
    assert onnx.load(path).opset_import[0].version == 17


def test_equal_weights_and_metadata_give_equal_bytes(tmp_path: Path) -> None:
    for name, metadata in (("one", {"a": "1", "b": "2"}), ("other", {"b": "2", "a": "1"})):
        onnx_export.to_onnx(
            halves(), tmp_path / name, size=SIZE, outputs=("upper", "lower"), metadata=metadata
        )
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_an_export_that_answers_otherwise_than_the_network_is_refused(tmp_path: Path) -> None:
    class Fickle(Halves):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images)[0] + (0.0 if torch.onnx.is_in_onnx_export() else 0.01)

    with pytest.raises(HilumError, match="'upper' differs by 0.01"):
        onnx_export.to_onnx(
            Fickle(), tmp_path / "fickle.onnx", size=SIZE, outputs=("upper",), metadata={}
        )
    assert not list(tmp_path.iterdir())


def test_an_export_to_where_nothing_can_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotWrite):
        onnx_export.to_onnx(
            halves(),
            tmp_path / "file" / "halves.onnx",
            size=SIZE,
            outputs=("upper", "lower"),
            metadata={},
        )
