"""Training on two ranks under torchrun: the result of one, and through the death of a rank.

One start serves all tests.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch.distributed")

from benchmarks._lib import two_ranks  # noqa: E402
from hilum.cli import torchrun  # noqa: E402
from hilum.errors import BadRecipe  # noqa: E402
from hilum.training import sampling  # noqa: E402
from hilum.training.sampling import Plan  # noqa: E402
from hilum.training.schedule import Schedule  # noqa: E402
from tests import ranks_training  # noqa: E402

LIMIT = 240  # seconds, of a start that takes ten where nothing else runs


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, np.ndarray]:
    """What two ranks trained, of which one was killed in its second epoch."""
    folder = tmp_path_factory.mktemp("ranks")
    two_ranks.start(ranks_training.__name__, folder, limit=LIMIT)
    return dict(np.load(folder / "found.npz"))


def same(found: dict[str, np.ndarray], one: str, other: str) -> bool:
    names = [name.removeprefix(one) for name in found if name.startswith(f"{one} ")]
    return all(np.array_equal(found[one + name], found[other + name]) for name in names)


def test_a_killed_rank_is_started_again_and_the_weights_are_the_same_to_the_bit(found) -> None:
    # It went on in the middle of the epoch in which it was killed, from the checkpoint before the
    # kill or, where rank 0 was quicker than its end, from the one after it.
    assert found["begun"] in (ranks_training.KILLED, ranks_training.KILLED + 1)
    assert same(found, "killed", "undisturbed")


@pytest.mark.parametrize(
    ("name", "schedule", "vectors_normalised", "within"),
    [
        ("undisturbed", ranks_training.SCHEDULE, False, 1e-4),
        ("halves", ranks_training.HALVES, False, 1e-4),
        # Means over images differ little: to normalise them enlarges what rounding differs by.
        ("vectors", ranks_training.SCHEDULE, True, 1e-3),
    ],
)
def test_two_ranks_have_the_losses_and_weights_of_one(
    found, name, schedule, vectors_normalised, within
) -> None:
    losses, weights = ranks_training.train(schedule, vectors_normalised=vectors_normalised)
    assert np.allclose(found[f"{name} losses"], losses, atol=1e-5, rtol=0)
    for key, value in weights.items():
        assert np.allclose(found[f"{name} {key}"], value, atol=within, rtol=1e-4), key
    assert losses[-1] < losses[0]


def test_the_ranks_share_every_batch_and_no_row_is_lost() -> None:
    order = sampling.order(np.arange(38), 5, 0)
    alone = list(Plan(7).batches(order, 5, 0))
    both = [list(Plan(7, 1, rank, 2).batches(order, 5, 0)) for rank in range(2)]
    for (whole,), ((first,), (second,)) in zip(alone, zip(*both, strict=True), strict=True):
        assert np.array_equal(np.concatenate([first.rows, second.rows]), whole.rows)
        assert first.seeds + second.seeds == whole.seeds
        assert first.counts == second.counts == (len(first.rows), len(second.rows))
    late = list(Plan(7).batches(order, 5, 0, begun=4))
    assert np.array_equal(late[0][0].rows, alone[4][0].rows)


def test_balanced_groups_have_as_many_places_each_and_repeats_differ() -> None:
    groups = np.repeat([0, 1], [30, 8])
    order = sampling.order(np.arange(38), 5, 0, groups)
    counts = np.bincount(order, minlength=38)
    assert counts[:30].sum() == counts[30:].sum() == 19
    assert counts[:30].max() == 1 and set(counts[30:]) == {2, 3}
    seeds = [seed for (part,) in Plan(38).batches(order, 5, 0) for seed in part.seeds]
    assert len(set(seeds)) == 38


def test_what_so_many_ranks_cannot_train_with_is_refused() -> None:
    with pytest.raises(BadRecipe, match=r"with 4 rank\(s\)"):
        Schedule(1, 3, 0.01, 0.0, 0.9).check(4)
    with pytest.raises(BadRecipe, match="accumulate = 3"):
        Schedule(1, 4, 0.01, 0.0, 0.9, accumulate=3).check()
    with pytest.raises(BadRecipe, match="checkpoint_steps must be 0"):
        Schedule(1, 4, 0.01, 0.0, 0.9, checkpoint_steps=-1).check()


def test_the_environment_of_torchrun_without_its_ranks_is_refused_in_one_sentence(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(torchrun.STARTED, "none")
    with pytest.raises(BadRecipe, match="RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT"):
        torchrun.run(pytest.fail)
