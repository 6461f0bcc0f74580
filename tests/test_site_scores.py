"""Scores that count from what is usual at a site, and the bundled model that needs one."""

from __future__ import annotations

import numpy as np
import pytest

from hilum.errors import BadData
from hilum.inference import domain, pretrained, site_scores
from hilum.statistics import subspace

WIDTH = 12
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(60, WIDTH))
DIRECTION = {"weights": [1.0] + [0.0] * (WIDTH - 1), "bias": 0.5, "overall": [1.0] * WIDTH}
MODEL = {site_scores.METADATA: DIRECTION}


def site_of(rows):
    """A domain of a site's features, whatever its limit."""
    fitted = subspace.fit(rows, 4)
    quantiles = np.linspace(0, 9, domain.LEVELS.size)
    return domain.Domain({domain.FEATURES: domain.Detector(fitted, quantiles, 9.0)})


def test_a_site_with_other_machines_gets_the_same_scores():
    here = site_scores.at_site(MODEL, {"anomaly": 9.0}, ROWS[0], site_of(ROWS))
    shifted = ROWS + 100
    there = site_scores.at_site(MODEL, {"anomaly": -9.0}, shifted[0], site_of(shifted))
    assert here["anomaly"] == pytest.approx(there["anomaly"], abs=1e-6)


def test_a_score_counts_from_the_mean_of_the_site():
    usual = site_scores.at_site(MODEL, {"anomaly": 0.0}, ROWS.mean(0), site_of(ROWS))
    assert usual["anomaly"] == pytest.approx(DIRECTION["bias"])


@pytest.mark.parametrize(
    ("stored", "features", "of_site"),
    [({}, ROWS[0], site_of(ROWS)), (MODEL, None, site_of(ROWS)), (MODEL, ROWS[0], None)],
)
def test_without_a_site_or_a_direction_scores_stay_as_they_are(stored, features, of_site):
    assert site_scores.at_site(stored, {"anomaly": 0.25}, features, of_site) == {"anomaly": 0.25}


def test_the_bundled_anomaly_model_counts_from_a_site_and_gives_features():
    model = pretrained.PretrainedModel(pretrained.path("anomaly.onnx"))
    image = np.random.default_rng(0).integers(0, 255, (224, 224), np.uint8)
    outputs = model.model(image)
    stored = model.model.metadata[site_scores.METADATA]
    assert model.counts_from_site and len(stored["weights"]) == len(outputs["features"])


def test_a_sites_images_count_from_the_other_patients_alone():
    """As a further image does, so that a threshold on them holds for further images."""
    direction, patients = site_scores.Direction.of(MODEL), np.arange(60) // 2
    found = direction.without_own(ROWS, patients)
    others = ROWS[2:]
    expected = direction.scores(ROWS[:2], others.mean(0), others.std(0))
    assert found[:2] == pytest.approx(expected)
    within = direction.scores(ROWS, ROWS.mean(0), ROWS.std(0))
    assert np.std(found) > np.std(within)


@pytest.mark.parametrize(
    "parts",
    [
        {"weights": [1.0] * 3},
        {"weights": [float("nan")] * WIDTH},
        {"bias": 10**390},
        {"bias": None},
        {"overall": "a"},
        {"overall": [-1.0] * WIDTH},
    ],
)
def test_a_direction_that_cannot_be_is_refused(parts):
    stored = {site_scores.METADATA: {**DIRECTION, **parts}}
    with pytest.raises(BadData, match="site_direction cannot be read"):
        site_scores.at_site(stored, {"anomaly": 0.0}, ROWS[0], site_of(ROWS))


def test_a_site_of_other_features_is_refused():
    narrow, none = site_of(ROWS[:, :6]), domain.Domain({})
    for of_site in (narrow, none):
        with pytest.raises(BadData, match="do not belong together"):
            site_scores.at_site(MODEL, {"anomaly": 0.0}, ROWS[0], of_site)
