"""Parts of a batch computed at once: the weights are those of parts computed one after the other."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from hilum.training import batch_parts, training_loop  # noqa: E402
from hilum.training.schedule import Schedule  # noqa: E402

ROWS = np.arange(22)  # in batches of eight, the last of six


@pytest.fixture(autouse=True)
def the_same_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def batch(rows: np.ndarray, rngs: Sequence[np.random.Generator]) -> tuple[np.ndarray, np.ndarray]:
    noise = np.stack([rng.integers(0, 200, (16, 16)) for rng in rngs])
    return (noise + rows[:, None, None]).astype(np.uint8), (rows / 10).astype(np.float32)[:, None]


def made(dropout: nn.Module) -> nn.Module:
    with training_loop.seeded(3):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), dropout,
            nn.Linear(784, 1),
        )  # fmt: skip


def trained(parts: int, threads: int, dropout: nn.Module) -> tuple[list[float], nn.Module]:
    torch.set_num_threads(threads)
    network = made(dropout)
    schedule = Schedule(3, 8, 0.01, 0.01, 0.9, precision="float32", accumulate=parts)
    losses = training_loop.fit(
        network, training_loop.Examples(batch, ROWS), nn.functional.mse_loss, schedule, seed=1
    )
    return losses, network


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_threads_that_are_fewer_than_two_a_part_change_no_bit(parts, rate):
    (losses, one), (same_losses, three) = (
        trained(parts, threads, batch_parts.Dropout(rate)) for threads in (1, 3)
    )
    assert losses == same_losses
    for name, value in one.state_dict().items():
        assert torch.equal(value, three.state_dict()[name]), name


def test_parts_are_those_of_a_loop_over_them():
    """A network that draws by PyTorch's own dropout is not replicated."""
    (losses, replicated), (other_losses, looped) = (
        trained(2, 2, dropout) for dropout in (batch_parts.Dropout(1e-9), nn.Dropout(1e-9))
    )
    assert np.allclose(losses, other_losses, rtol=1e-5)
    for name, value in replicated.state_dict().items():
        assert torch.allclose(value, looped.state_dict()[name], rtol=1e-3, atol=1e-5), name


class Frozen(nn.BatchNorm2d):
    """Normalisation that is frozen, as in a network of which a part is trained."""

    def train(self, mode: bool = True) -> nn.Module:
        return super().train(False)


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm1d(16), nn.InstanceNorm1d(16, track_running_stats=True)]
)
def test_statistics_of_any_normalisation_are_those_of_a_loop(norm):
    found = []
    for dropout in (batch_parts.Dropout(1e-9), nn.Dropout(1e-9)):
        torch.set_num_threads(2)
        with training_loop.seeded(3):
            network = nn.Sequential(
                nn.Conv2d(1, 4, 3, bias=False), Frozen(4), nn.ReLU(), nn.Flatten(2),
                nn.Conv1d(4, 16, 9, 9, bias=False), copy.deepcopy(norm), nn.ReLU(), nn.Flatten(),
                dropout, nn.Linear(336, 1),
            )  # fmt: skip
        schedule = Schedule(3, 8, 0.01, 0.01, 0.9, precision="float32", accumulate=2)
        examples = training_loop.Examples(batch, ROWS)
        training_loop.fit(network, examples, nn.functional.mse_loss, schedule, seed=1)
        found.append(network.state_dict())
    for name, value in found[0].items():
        assert torch.allclose(value, found[1][name], rtol=1e-3, atol=1e-5), name
    assert int(found[0]["1.num_batches_tracked"]) == 0


def test_dropout_keeps_its_fraction_and_the_mean_and_depends_on_the_seed_alone():
    dropout, ones = batch_parts.Dropout(0.25).train(), torch.ones(20_000)
    found = []
    for seed in (1, 1, 2):
        with batch_parts.drawing(seed):
            found.append(dropout(ones))
    assert float((found[0] > 0).float().mean()) == pytest.approx(0.75, abs=0.02)
    assert found[0].unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    assert torch.equal(dropout.eval()(ones), ones)


def test_an_error_of_one_part_is_raised_when_all_have_ended():
    torch.set_num_threads(2)
    ended = []

    def work(network: nn.Module, part: int) -> None:
        ended.append(part)
        if part == 1:
            raise ArithmeticError

    with (
        pytest.raises(ArithmeticError),
        batch_parts.replicated(made(batch_parts.Dropout(0)), 2) as replicas,
    ):
        replicas.each(work, 2)
    assert sorted(ended) == [0, 1] and torch.get_num_threads() == 2
