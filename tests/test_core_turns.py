"""Jobs of known lengths on several cores, which all end together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilum.training import core_turns

lengths = st.lists(st.integers(1, 500), min_size=1, max_size=12)


@given(lengths, st.integers(1, 5))
def test_every_job_is_done_whole_never_on_two_cores_at_once_and_no_core_works_longer(given, cores):
    queues = core_turns.dealt(given, cores)
    each = max(max(given), sum(given) / cores)
    spans = {job: [] for job in range(len(given))}
    for queue in queues:
        clock = 0.0
        for piece in queue:
            cut = [one.until for other in queues for one in other if one.job == piece.job]
            begun = min(cut) if piece.until == 1 and len(cut) == 2 else 0.0
            ended = clock + (piece.until - begun) * given[piece.job]
            spans[piece.job].append((clock, ended))
            clock = ended
        assert clock <= each * (1 + len(given) * core_turns.LEAST)
    assert len(queues) <= cores
    for job, found in spans.items():
        assert sum(end - start for start, end in found) == pytest.approx(given[job])
        first, *second = sorted(found)
        assert all(first[1] <= start + 1e-6 * each for start, _ in second)


def test_four_folds_and_the_whole_end_together_on_two_cores():
    first, second = core_turns.dealt([480, 360, 360, 360, 360], 2)
    assert [piece.job for piece in first] == [0, 2, 4]
    assert [piece.job for piece in second] == [4, 1, 3]
    assert second[0].until == pytest.approx(240 / 360)
