"""Trainings side by side: the networks are those of trainings one after the other, and a failure
ends them all.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from hilum.config import Classify  # noqa: E402
from hilum.pipeline._training import TrainingJob  # noqa: E402
from hilum.run_folder import Run  # noqa: E402
from hilum.training import side_by_side, training_loop  # noqa: E402
from hilum.training.schedule import Schedule  # noqa: E402

ROWS = np.arange(12)
LENGTHS = [4, 3, 3, 3]  # of which, on two cores, one is cut
SCHEDULE = Schedule(
    epochs=3,
    batch_size=4,
    learning_rate=0.01,
    weight_decay=0.01,
    averaging=0.9,
    precision="float32",
)


@pytest.fixture(autouse=True)
def two_threads():
    """So that two trainings run at once, each with one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def batch(rows: np.ndarray, rngs: Sequence[np.random.Generator]) -> tuple[np.ndarray, np.ndarray]:
    noise = np.stack([rng.integers(0, 200, (16, 16)) for rng in rngs])
    grey = noise + rows[:, None, None]
    return grey.astype(np.uint8), (rows / 10).astype(np.float32)[:, None]


def training(seed: int, *, dropout: bool):
    """Return a training of a small network, with random numbers of PyTorch's own if `dropout`."""

    def train(progress) -> dict[str, torch.Tensor]:
        with training_loop.seeded(seed):
            network = nn.Sequential(
                nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(784, 1)
            )
        if dropout:
            network.insert(3, nn.Dropout(0.3))
        training_loop.fit(
            network,
            training_loop.Examples(batch, ROWS),
            nn.functional.mse_loss,
            SCHEDULE,
            seed=seed,
            caller=training_loop.Caller(progress=progress),
        )
        return network.state_dict()

    return train


@pytest.mark.parametrize("dropout", [False, True])
def test_networks_trained_side_by_side_are_those_trained_one_after_the_other(dropout):
    trainings = [training(seed, dropout=dropout) for seed in range(4)]
    together = dict(side_by_side.as_finished(trainings, LENGTHS, training_loop.ignore))
    torch.set_num_threads(1)
    alone = {number: train(training_loop.ignore) for number, train in enumerate(trainings)}
    assert sorted(together) == sorted(alone)
    for number, weights in alone.items():
        for name, value in weights.items():
            assert torch.equal(value, together[number][name]), (number, name)


def test_progress_is_heard_in_the_callers_thread_and_ends_at_the_whole():
    heard = []

    def progress(done: int, total: int) -> None:
        heard.append((done / total, threading.get_ident()))

    trainings = [training(seed, dropout=False) for seed in (1, 2)]
    list(side_by_side.as_finished(trainings, LENGTHS[:2], progress))
    parts, threads = zip(*heard, strict=True)
    assert parts[-1] == 1 and list(parts) == sorted(parts)
    assert set(threads) == {threading.get_ident()}


def test_a_failure_ends_the_other_trainings_and_begins_no_further_one():
    begun, ended = [], []

    def endless(progress) -> None:
        begun.append("endless")
        try:
            while True:
                progress(0, 1)
        finally:
            ended.append("endless")

    def failing(progress) -> None:
        raise ArithmeticError("diverged")

    with pytest.raises(ArithmeticError, match="diverged"):
        trainings = [endless, failing, endless, endless]
        list(side_by_side.as_finished(trainings, [1] * 4, training_loop.ignore))
    assert ended == begun
    assert len(begun) < 3
    assert torch.get_num_threads() == 2


def test_an_error_of_the_caller_ends_the_trainings():
    ended = []

    def endless(progress) -> None:
        try:
            while True:
                progress(0, 1)
        finally:
            ended.append(True)

    def interrupted(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(side_by_side.as_finished([endless, endless], [1, 1], interrupted))
    assert ended == [True, True]


def test_trainings_leave_the_state_of_pytorchs_random_numbers_as_it_was():
    before = torch.random.get_rng_state()
    trainings = [training(seed, dropout=True) for seed in range(3)]
    list(side_by_side.as_finished(trainings, LENGTHS[:3], training_loop.ignore))
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_training_that_is_cut_rests_while_the_others_are_on_the_cores():
    heard, both = [], threading.Barrier(2, timeout=60)

    def work(number: int):
        def train(progress) -> int:
            for done in range(1, 7):
                heard.append(number)
                if number < 2:
                    both.wait()
                progress(done, 6)
            return number

        return train

    trainings = [work(number) for number in range(3)]
    found = dict(side_by_side.as_finished(trainings, [1, 1, 1], training_loop.ignore))
    assert found == {0: 0, 1: 1, 2: 2}
    assert heard.index(1) > 3 and heard[:5].count(2) == 3 and heard[-3:] == [2, 2, 2]
    assert sorted(heard) == [0] * 6 + [1] * 6 + [2] * 6


def test_a_training_that_holds_the_random_numbers_does_not_rest():
    def drawing(progress) -> bool:
        with training_loop.seeded(1):
            for done in range(1, 7):
                progress(done, 6)
        return True

    found = dict(side_by_side.as_finished([drawing] * 3, [1, 1, 1], training_loop.ignore))
    assert found == dict.fromkeys(range(3), True)


def test_a_trained_network_is_kept_until_its_model_is(tmp_path, monkeypatch):
    """The export, for which those of other trainings may have to end first, may be interrupted."""
    resumed = []

    def fit(module, settings, checkpoint, progress):
        resumed.append(checkpoint.exists())
        checkpoint.write_bytes(b"the last epoch")
        return nn.Identity()

    def exported(network, path, **about):
        if resumed == [False]:
            raise KeyboardInterrupt
        path.write_bytes(b"a model")

    monkeypatch.setattr("hilum.training.onnx_export.to_onnx", exported)
    monkeypatch.setattr("hilum.pipeline._training.OnnxModel", lambda path, root: path)
    run = Run(tmp_path)
    job = TrainingJob("one.onnx", Classify(), 64, "whole", "range", ["a", "b"], fit)
    with pytest.raises(KeyboardInterrupt):
        TrainingJob.run_all([job], run, {}, lambda done, of: None)
    assert resumed == [False] and list(tmp_path.glob("*.checkpoint"))
    TrainingJob.run_all([job], run, {}, lambda done, of: None)
    assert resumed == [False, True] and not list(tmp_path.glob("*.checkpoint"))
