"""The bench that trains the models that read images: how it deals out patients, what it fits on
tune, and networks in 8 bits.
"""

import json

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch")

from hilum.config import LungCrop  # noqa: E402
from hilum.inference import pretrained  # noqa: E402
from hilum.inference.onnx_model import OnnxModel  # noqa: E402
from hilum.statistics import calibration  # noqa: E402
from hilum.statistics.metrics import discrimination  # noqa: E402
from hilum.training import onnx_export  # noqa: E402
from hilum.training.models import efficientnet_lite0  # noqa: E402
from tools.build_models import films  # noqa: E402
from tools.build_models import train_findings as bench  # noqa: E402

SIZE = 64


def rows(patients, given=None):
    return pl.DataFrame(
        {"patient_id": patients, "given_part": given or [None] * len(patients)},
        schema={"patient_id": pl.String, "given_part": pl.String},
    )


def test_whole_patients_are_dealt_to_all_three_parts():
    table = rows([f"p{number // 2}" for number in range(400)])
    dealt = table.with_columns(part=pl.Series(bench.parts(table)))
    assert dealt.group_by("patient_id").agg(pl.col("part").n_unique())["part"].max() == 1
    counts = dict(dealt["part"].value_counts().iter_rows())
    assert counts["train"] > 240 and 60 < counts["test"] < 100 and 25 < counts["tune"] < 55


def test_a_given_test_part_is_kept_whole_with_all_images_of_its_patients():
    given = ["test" if number % 4 == 0 else "train" for number in range(400)]
    table = rows([f"p{number // 2}" for number in range(400)], given)
    parts = bench.parts(table)
    held = {
        patient for patient, part in zip(table["patient_id"], given, strict=True) if part == "test"
    }
    assert {
        patient for patient, part in zip(table["patient_id"], parts, strict=True) if part == "test"
    } == held
    assert "tune" in parts


def test_films_squeezed_to_squares_are_stretched_back_and_others_stay():
    image = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    same, size = films.stretched(image, (30, 40), 1.0)
    assert same is image and size == (30, 40)
    wide, size = films.stretched(np.full((64, 64), 200, np.uint8), (224, 224), 0.75)
    assert (
        size == (48, 64)
        and wide.shape == (64, 64)
        and (wide[8:56] == 200).all()
        and not wide[:8].any()
        and not wide[56:].any()
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small classifier that has seen bright and dark images."""
    images = np.random.default_rng(1).integers(0, 100, (48, SIZE, SIZE), np.uint8)
    images[::2, 20:44, 20:44] += 120
    targets = np.zeros((48, 1), np.float32)
    targets[::2] = 1
    settings = efficientnet_lite0.Settings(epochs=2, least_steps=16, frozen=5)
    network = efficientnet_lite0.fit(
        images, targets, np.arange(48), settings, concepts=["x"], seed=0
    )
    path = tmp_path_factory.mktemp("whole") / "finding.onnx"
    reported = {
        "contract": {
            "task": "finding",
            "size": SIZE,
            "content": "crop",
            "normalisation": "percentiles",
            "outputs": list(efficientnet_lite0.OUTPUTS),
            "concepts": ["x"],
        }
    }
    onnx_export.to_onnx(
        network,
        path,
        size=SIZE,
        outputs=efficientnet_lite0.OUTPUTS,
        metadata={key: json.dumps(value) for key, value in reported.items()},
    )
    return path, bench.Cuts(
        images, pl.DataFrame({"part": ["train", "tune"] * 24, "state": targets[:, 0]}), {}
    )


def test_in_8_bits_a_classifier_is_a_fraction_and_ranks_alike(whole, tmp_path):
    path, cuts = whole
    best, ranges = bench.small(path, cuts, tmp_path)
    assert ranges in onnx_export.RANGES and best.stat().st_size < min(
        bench.MOST, 0.45 * path.stat().st_size
    )
    before, after = (bench.scores(one, cuts.images) for one in (path, best))
    truth = cuts.facts["state"].to_numpy()
    assert (
        discrimination.auroc(truth, before) - discrimination.auroc(truth, after) <= bench.LOSS
        and OnnxModel(best).contract == OnnxModel(path).contract
    )


def test_what_is_fitted_to_a_finished_model_travels_with_it(whole, tmp_path):
    path, cuts = whole
    onnx_export.describe(
        path,
        tmp_path / "reported.onnx",
        {"contract": json.dumps(OnnxModel(path).metadata["contract"]), "figures": '{"a": "b"}'},
    )
    described = OnnxModel(tmp_path / "reported.onnx")
    assert described.metadata["figures"] == {"a": "b"} and np.array_equal(
        described(cuts.images[0])["score"], OnnxModel(path)(cuts.images[0])["score"]
    )


TYPICAL = {"left": 0.1, "top": 0.1, "right": 0.9, "bottom": 0.8}


def test_what_a_model_carries_is_what_a_reader_must(whole, tmp_path):
    path, cuts = whole
    size = {"source": "made", "pixel_digest": [f"{number:02d}" for number in range(48)]}
    full = bench.Cuts(
        cuts.images,
        cuts.facts.with_columns(
            pl.Series("pixel_digest", size["pixel_digest"]), source=pl.lit("made")
        ),
        TYPICAL,
    )
    for name, task in bench.TASKS.items():
        reported = bench.reported(task, full, {}, LungCrop(size=SIZE))
        figures = {
            "calibration": {
                task.concept: calibration.to_json(0.5, np.array([0, 1]), np.array([0.2, 0.8]))
            },
            "figures": {},
        }
        onnx_export.describe(path, tmp_path / f"{name}.onnx", bench._texts({**reported, **figures}))
        reader = pretrained.PretrainedModel(tmp_path / f"{name}.onnx")
        assert (
            reader.concepts == (task.concept,)
            and reader.ages == task.ages
            and reader.typical == TYPICAL
            and reader.crop.size == SIZE
        )
        assert (
            reader.was_trained_on("01")
            and "must not be used" in reader.card.caveats
            and "research" in reader.card.caveats.lower()
        )
