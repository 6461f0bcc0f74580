"""Where an anomaly is called present, its region is part of what `hilum apply` hands on."""

from types import SimpleNamespace

import numpy as np
import pytest

from hilum.inference.calls import ABSENT, PRESENT
from hilum.runs import scoring_run

HEAT = np.zeros((20, 30), np.float32)
HEAT[5:9, 6:16], HEAT[6, 7], HEAT[15, 20] = 0.6, 1.0, 0.3


@pytest.mark.parametrize(
    ("heat", "call", "expected"),
    [
        (HEAT, PRESENT, 40),
        (HEAT, ABSENT, None),
        (HEAT, None, None),
        (None, PRESENT, None),
        (HEAT * 0, PRESENT, None),
    ],
)
def test_the_region_is_where_the_map_is_high_of_an_anomaly_that_is_called(heat, call, expected):
    score = SimpleNamespace(concept="anomaly", call=call, model="anomaly")
    regions = list(
        scoring_run.regions(SimpleNamespace(anomaly_map=heat), SimpleNamespace(scores=[score]))
    )
    assert [int(one.mask.sum()) for one in regions] == ([expected] if expected else [])
    assert all("50%" in one.rule and one.model == "anomaly" for one in regions)
