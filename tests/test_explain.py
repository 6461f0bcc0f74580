"""Where a model attends: planted evidence is found by each method, maps return to the file's own
pixels, and the verb and the report show it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import polars as pl
import pytest
from conftest import resealed
from typer.testing import CliRunner

from hilum import storage
from hilum.annotations import lung_masks, shapes
from hilum.cli.verbs import app
from hilum.config import Evaluate
from hilum.errors import NotFound
from hilum.imaging.geometry import Crop, Letterbox
from hilum.inference import saliency
from hilum.inference.onnx_model import InputContract, OnnxModel
from hilum.pipeline import cache, explain, explanation_figures, segment, shown_region
from hilum.progress import quietly
from hilum.reporting import report
from hilum.run_folder import Run
from hilum.storage import integrity

SIDE = 96


@dataclass(frozen=True)
class Looker:
    """A model that attends to one place: its logit is the place's mean brightness, for the second
    concept; the first attends nowhere.
    """

    place: tuple[slice, slice]
    outputs: tuple[str, ...] = ("score", "map")

    @property
    def contract(self):
        return SimpleNamespace(outputs=self.outputs, concepts=("effusion", "tuberculosis"))

    def many(self, images):
        logit = images[:, *self.place].mean((1, 2)) / 64 - 1
        score = np.stack([np.full(len(images), 0.5), 1 / (1 + np.exp(-logit))], axis=1).astype(
            np.float32
        )
        grid = np.zeros((len(images), 2, 6, 6), np.float32)
        grid[:, 1, self.place[0].start * 6 // SIDE, self.place[1].start * 6 // SIDE] = 1
        return {"score": score, "map": grid}

    def __call__(self, image):
        return {name: found[0] for name, found in self.many(image[None]).items()}


def bright(top, left, length=16):
    radiograph = np.full((SIDE, SIDE), 40, np.uint8)
    radiograph[top : top + length, left : left + length] = 230
    return radiograph, (slice(top, top + length), slice(left, left + length))


@pytest.mark.parametrize("corner", [(16, 64), (64, 16), (32, 32), (0, 80)])
def test_each_method_peaks_where_the_model_attends(corner):
    radiograph, place = bright(*corner)
    for method, found in saliency.maps(Looker(place), radiograph, 1).items():
        strength = saliency.upsample(found, SIDE)
        peak = np.unravel_index(np.argmax(strength), strength.shape)
        assert all(
            side.start - 4 <= at < side.stop + 4 for side, at in zip(place, peak, strict=True)
        ), (method, peak)
        around = np.zeros((SIDE, SIDE), bool)
        around[max(corner[0] - 16, 0) : corner[0] + 32, max(corner[1] - 16, 0) : corner[1] + 32] = (
            True
        )
        assert strength[around].sum() > 0.9 * np.maximum(strength, 0).sum(), method


def test_an_exported_network_is_run_through_onnx_runtime_for_both_maps(tmp_path):
    import torch
    from torch import nn

    from hilum.training import onnx_export

    class Corner(nn.Module):
        """Two concepts: the brightness of the upper right and of the lower left tile of 6 x 6, each
        its own activation map's mean.
        """

        def forward(self, images):
            grid = nn.functional.avg_pool2d(images.unsqueeze(1).float() / 255, SIDE // 6) * 8
            places = torch.zeros(2, 6, 6)
            places[0, 0, 5], places[1, 5, 0] = 36, 36
            found = grid * places
            return torch.sigmoid(found.mean((2, 3)) - 2), found

    contract = InputContract(
        "finding", SIDE, "crop", "percentiles", ("score", "map"), ("upper", "lower")
    )
    onnx_export.to_onnx(
        Corner(),
        tmp_path / "corner.onnx",
        size=SIDE,
        outputs=contract.outputs,
        metadata={"contract": storage.as_json(asdict(contract))},
    )
    radiograph = bright(0, 80)[0]
    radiograph[80:, :16] = 200
    for column, (rows, columns) in enumerate(
        ((slice(0, 16), slice(80, 96)), (slice(80, 96), slice(0, 16)))
    ):
        for found in saliency.maps(
            OnnxModel(tmp_path / "corner.onnx"), radiograph, column
        ).values():
            strength = saliency.upsample(found, SIDE)
            assert strength[rows, columns].max() == strength.max() > 0.5


def test_a_concept_that_attends_nowhere_has_an_empty_map_and_a_model_without_maps_has_occlusion_alone():
    radiograph, place = bright(16, 64)
    assert not saliency.occlusion(Looker(place), radiograph, 0).any()
    assert list(saliency.maps(Looker(place, ("score",)), radiograph, 1)) == [saliency.OCCLUSION]


def test_what_speaks_against_is_below_zero():
    radiograph, place = bright(32, 32)
    assert (
        saliency.occlusion(Looker(place), 255 - radiograph, 1).min() < -0.1
    )  # covering the dark place with its brighter surroundings raises the score


def test_occlusion_is_the_mean_fall_over_the_patches_that_cover_a_pixel():
    radiograph, place = bright(30, 40)
    patches, model = saliency.places(SIDE), Looker(place)
    assert len(patches) == saliency.PLACES**2 and {patches[0][0].start, patches[-1][0].stop} == {
        0,
        SIDE,
    }
    smooth, falls = cv2.GaussianBlur(radiograph, (0, 0), saliency.BLUR * SIDE), []
    for patch in patches:
        covered = radiograph.copy()
        covered[patch] = smooth[patch]
        falls.append(
            float(
                saliency.logits(model, radiograph[None], 1)[0]
                - saliency.logits(model, covered[None], 1)[0]
            )
        )
    covering = {
        (r, c): [
            fall
            for fall, patch in zip(falls, patches, strict=True)
            if all(side.start <= at < side.stop for side, at in zip(patch, (r, c), strict=True))
        ]
        for r in range(0, SIDE, 7)
        for c in range(0, SIDE, 7)
    }
    mean = saliency.spread(np.array(falls), patches, SIDE)
    assert all(mean[place] == pytest.approx(np.mean(some)) for place, some in covering.items())
    assert saliency.occlusion(model, radiograph, 1) == pytest.approx(
        cv2.resize(mean, (saliency.GRID, saliency.GRID), interpolation=cv2.INTER_AREA), abs=1e-5
    )


# Geometry


def shown(size=(300, 200), crop=(8, 20, 56, 50), cached=64, side=SIDE):
    labels = np.zeros((cached, cached), np.uint8)
    labels[14:50, 24:32], labels[14:50, 38:46] = lung_masks.RIGHT, lung_masks.LEFT
    return shown_region.Shown(
        np.zeros((side, side), np.uint8), labels, Crop((cached, cached), *crop), size
    )


def test_a_map_returns_to_the_files_own_pixels_and_to_the_cached_ones():
    radiograph = shown()
    strength = np.zeros((24, 24), np.float32)
    strength[9, 15] = 1
    in_file, in_cached = radiograph.in_file(strength), radiograph.in_cached(strength)
    assert in_file.shape == (300, 200) and in_cached.shape == (64, 64)
    # by hand: region -> box -> cached -> file. The box of 48 x 30 fills the region's height; the
    # cached image is 64 x 43 with 10 columns beside it.
    row, column = (9.5 / 24) * SIDE, (15.5 / 24) * SIDE
    letterbox = Letterbox((48, 30), SIDE)
    row, column = (
        (row - letterbox.corner[0]) * 48 / letterbox.inner[0] + 8,
        (column - letterbox.corner[1]) * 30 / letterbox.inner[1] + 20,
    )
    peak = np.unravel_index(np.argmax(in_cached), in_cached.shape)
    assert peak == pytest.approx((row - 0.5, column - 0.5), abs=1)
    whole = Letterbox((300, 200), 64)
    row, column = (
        (row - whole.corner[0]) * 300 / whole.inner[0],
        (column - whole.corner[1]) * 200 / whole.inner[1],
    )
    peak = np.unravel_index(np.argmax(in_file), in_file.shape)
    assert peak == pytest.approx((row, column), abs=5)


def test_nothing_outside_the_region_gets_evidence():
    radiograph = shown()
    in_cached = radiograph.in_cached(np.ones((6, 6), np.float32))
    assert (
        not in_cached[:8].any()
        and not in_cached[56:].any()
        and not in_cached[:, :20].any()
        and not in_cached[:, 50:].any()
    )
    assert (in_cached[8:56, 20:50] > 0.99).all()


def test_what_is_drawn_on_the_file_lies_where_the_map_of_it_does():
    radiograph = shown()
    drawn = radiograph.reference_mask([shapes.Box(100, 80, 60, 40)])
    box = np.argwhere(drawn)
    whole = Letterbox((300, 200), 64)
    assert box.min(0) == pytest.approx(
        [100 * 64 / 300, whole.corner[1] + 80 * whole.inner[1] / 200], abs=1
    )
    assert explain.agreement(drawn.astype(np.float32), drawn) == {"pointing_game": 1, "box_iou": 1}
    assert not radiograph.reference_mask([]).any()


def test_attention_in_the_lungs_is_of_the_image_in_the_region_and_evenly_spread_is_one():
    radiograph = shown()
    even = explain.attention(np.ones((6, 6), np.float32), radiograph)
    assert (
        even["gain"] == pytest.approx(1)
        and even["inside"] == pytest.approx(even["area"])
        and 0.2 < even["area"] < 0.6
    )
    only = explain.attention(np.where(radiograph.lungs, 1.0, 0.0).astype(np.float32), radiograph)
    assert only["inside"] == pytest.approx(1) and only["gain"] == pytest.approx(1 / only["area"])
    none = explain.attention(-np.ones((6, 6), np.float32), radiograph)
    assert np.isnan(none["inside"]) and np.isnan(none["gain"])


def test_controls_are_the_middle_of_each_lung_and_the_lungs():
    made = explain.controls(shown().labels)
    assert np.argwhere(made[explain.LUNG_CENTRES]).tolist() in (
        [[32, 28], [32, 42]],
        [[32, 27], [32, 41]],
        [[31, 28], [31, 41]],
        [[32, 28], [32, 41]],
        [[32, 27], [32, 42]],
    )
    assert np.array_equal(made[explain.UNIFORM_IN_LUNGS] > 0, shown().labels > 0)
    assert not any(one.any() for one in explain.controls(np.zeros((8, 8), np.uint8)).values())


# Which images, and what is reported of them


def scored(states, scores, part="test"):
    return pl.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(len(states))],
            "group": [f"i{k}" for k in range(len(states))],
            "part": part,
            "state": pl.Series(states, dtype=pl.Int8),
            "score": scores,
        }
    )


def test_the_most_confident_of_each_kind_are_examined_and_those_drawn_on():
    rng = np.random.default_rng(0)
    tune = scored([0, 1] * 20, [0.3, 0.7] * 20, "tune").with_columns(
        pl.format("t{}", "image_id").alias("image_id")
    )
    test = scored([*([1] * 12), *([0] * 12), None], [*rng.random(24), 0.5])
    found = explain.chosen(pl.concat([tune, test]), pl.Series(["i3", "i24", "ti1"]))
    assert (
        found["image_id"].is_unique().all()
        and set(found["image_id"]) >= {"i3", "i24"}
        and not found["image_id"].str.starts_with("t").any()
    )
    for choice, state, above in zip(
        explain.CHOICES, (1, 1, 0, 0), (True, False, True, False), strict=True
    ):
        of = (
            test.filter((pl.col("state") == state) & ((pl.col("score") >= 0.5) == above))
            .sort("score", descending=above)
            .head(explain.EACH)
        )
        assert (
            found.filter(pl.col("choice") == choice)["image_id"].to_list()
            == of["image_id"].to_list()
        )


def test_without_a_threshold_images_are_still_chosen():
    found = explain.chosen(
        scored([1, 0, 1, 0], [0.1, 0.2, 0.3, 0.4]), pl.Series([], dtype=pl.String)
    )
    assert set(found["image_id"]) == {"i0", "i1", "i2", "i3"}
    assert explain.chosen(scored([None], [0.1]), pl.Series([], dtype=pl.String)).height == 0


def test_averages_leave_out_what_is_undefined_and_count_it():
    features = pl.DataFrame(
        {
            "method": ["a"] * 3,
            "group": ["x", "y", "y"],
            **{name: [0.5, float("nan"), None] for name in explanation_figures.AVERAGED},
        },
        schema_overrides=dict.fromkeys(explanation_figures.AVERAGED, pl.Float64),
    )
    figures = explanation_figures.averages(
        features.with_columns(inside=pl.Series([0.2, 0.4, 0.6])), Evaluate(bootstrap=50)
    )
    rows = {row["metric"]: row for row in figures.iter_rows(named=True)}
    assert rows["inside"]["value"] == pytest.approx(0.4) and rows["inside"]["patients"] == 2
    assert (
        rows["gain"]["images"] == 1
        and rows["gain"]["value"] == 0.5
        and np.isnan(rows["gain"]["ci_low"])
    )
    assert rows["gain"]["left_out"] == 1 and rows["inside"]["left_out"] == 0
    assert (
        "1 of 2 images" in explanation_figures.lines(figures)["gain"][0]
        and "3 images" in explanation_figures.lines(figures)["inside"][0]
    )
    nowhere = explanation_figures.averages(
        features.tail(2).with_columns(gain=pl.Series([float("nan")] * 2)), Evaluate(bootstrap=50)
    )
    assert nowhere.filter(pl.col("metric") == "gain").select("images", "left_out").row(0) == (0, 2)
    assert explanation_figures.lines(nowhere)["gain"][0] == "– (0 of 2 images)"


def test_a_model_is_evaluated_for_its_own_concept():
    assert explain.column(Looker(bright(0, 0)[1]).contract, "tuberculosis") == 1
    with pytest.raises(NotFound, match="tuberculosis"):
        explain.column(Looker(bright(0, 0)[1]).contract, "tuberculos")


def test_controls_stand_beside_the_maps_where_something_is_drawn_and_only_there():
    radiograph = shown()
    model = Looker(bright(40, 40)[1])
    with_box = {
        method: figures
        for method, figures, _ in explain.attributed(
            model, 1, radiograph, [shapes.Box(100, 80, 60, 40)]
        )
    }
    assert list(with_box) == [saliency.OCCLUSION, saliency.ACTIVATION, *explain.CONTROLS]
    assert with_box[explain.UNIFORM_IN_LUNGS]["pointing_game"] == pytest.approx(
        explain.agreement(
            explain.controls(radiograph.labels)[explain.UNIFORM_IN_LUNGS],
            radiograph.reference_mask([shapes.Box(100, 80, 60, 40)]),
        )["pointing_game"]
    )
    assert [method for method, _, _ in explain.attributed(model, 1, radiograph, [])] == [
        saliency.OCCLUSION,
        saliency.ACTIVATION,
    ]


def test_a_model_that_attends_to_the_lungs_has_no_information_with_them_covered_and_one_that_attends_beside_them_everything():
    base, rng = shown(), np.random.default_rng(4)
    inside, beside = (slice(20, 60), slice(30, 38)), (slice(0, 8), slice(30, 60))
    assert base.lungs[inside].all() and not base.lungs[beside].any()
    for place, reported in (
        (inside, explanation_figures.ALONE),
        (beside, explanation_figures.WITHOUT),
    ):
        radiographs, states = {}, [k % 2 for k in range(80)]
        for k, state in enumerate(states):
            image = rng.integers(60, 90, (SIDE, SIDE)).astype(np.uint8)
            image[place] += np.uint8(90 * state)
            radiographs[f"i{k}"] = shown_region.Shown(image, base.labels, base.crop, base.size)
        found = {
            name: explanation_figures.logits_covered(Looker(place), 1, one)
            for name, one in radiographs.items()
        }
        table = explanation_figures.covered(
            found, scored(states, [0.0] * 80), Evaluate(bootstrap=50)
        )
        of = {row["shown"]: row for row in table.iter_rows(named=True)}
        assert (
            of[explanation_figures.AS_SHOWN]["value"] == of[reported]["value"] == 1
            and of[reported]["images"] == 80
            and of[reported]["positives"] == 40
        )
        other = ({explanation_figures.ALONE, explanation_figures.WITHOUT} - {reported}).pop()
        assert (
            abs(of[other]["value"] - 0.5) < 0.2
        )  # 1.0 as shown; chance has a standard deviation of 0.06


def test_without_lungs_nothing_is_covered():
    radiograph = shown_region.Shown(
        np.zeros((SIDE, SIDE), np.uint8), np.zeros((64, 64), np.uint8), shown().crop, (300, 200)
    )
    none = explanation_figures.logits_covered(Looker(bright(0, 0)[1]), 1, radiograph)
    assert (
        explanation_figures.covered(
            {"i0": none, "i1": none}, scored([0, 1], [0.1, 0.2]), Evaluate(bootstrap=50)
        ).height
        == 0
    )


# The verb and the report


@pytest.fixture(scope="module")
def judged(small_run, tmp_path_factory) -> Path:
    """With reference masks in place of found ones: after moments of training there are
    hardly any.
    """
    folder = shutil.copytree(small_run.folder, tmp_path_factory.mktemp("explain") / "run")
    radiographs, found = (
        cache.opened(small_run, small_run.recipe()),
        segment.Masks.of(small_run, small_run.recipe().pixels.size),
    )
    labels = found.labels[:]
    drawn = [image_id for image_id in radiographs.with_mask["image_id"] if image_id in found.rows]
    labels[[found.rows[image_id] for image_id in drawn]] = radiographs.masks[
        radiographs.rows(drawn)
    ]
    (folder / segment.MASKS).write_bytes(labels.tobytes())
    index = storage.read_table(folder / segment.INDEX)
    sums = [integrity.checksum(labels[row]) for row in index["row"]]
    storage.write_table(folder / segment.INDEX, index.with_columns(pl.Series("crc32", sums)))
    resealed(Run(folder))
    for verb in ("shortcuts", "explain"):
        assert CliRunner().invoke(app, [verb, str(folder)], catch_exceptions=False).exit_code == 0
    return folder


def test_the_verb_writes_a_map_a_row_and_reports_means(judged):
    features, maps = pl.read_parquet(judged / explain.TABLE), np.load(judged / explain.MAPS)
    assert (
        len(maps) == features.height > 0
        and maps.shape[1:] == (saliency.GRID, saliency.GRID)
        and np.isfinite(maps).all()
    )
    parts = pl.read_parquet(judged / "split.parquet").join(features, on="image_id", how="semi")
    assert set(parts["part"]) == {"test"}
    assert explain.make(Run(judged), Run(judged).recipe(), quietly)[0] == Run(judged).made(
        "explain"
    )
    reported = json.loads(
        CliRunner().invoke(app, ["explain", str(judged), "--json"], catch_exceptions=False).stdout
    )
    assert {"inside", "area"} <= {row["metric"] for row in reported["maps"]} and all(
        row["images"] for row in reported["maps"]
    )
    assert pl.read_parquet(judged / explain.COVERS).schema == explanation_figures.COVERED


def test_the_report_takes_both_in_and_leaves_them_out_once_what_they_were_made_from_has_changed(
    judged,
):
    run = Run(judged)
    recipe = run.recipe()
    assert {"shortcuts", "explain"} <= report.made_from(run, recipe).keys()
    report.make(run, recipe, quietly)
    page = (judged / report.PAGE).read_text()
    assert 'id="saliency"' in page and 'id="shortcuts"' in page
    shown = (
        pl.read_parquet(judged / explain.TABLE)
        .group_by("choice")
        .agg(pl.col("image_id").n_unique())
    )
    assert page.count("under its occlusion map") == sum(
        min(count, explain.EACH) for count in shown["image_id"]
    )
    marker = json.loads((judged / "finished" / "crop.json").read_text())
    marker["made"]["crop/index.parquet"] = "another"
    (judged / "finished" / "crop.json").write_text(json.dumps(integrity.sealed(marker)))
    assert not {"shortcuts", "explain"} & report.made_from(run, recipe).keys()
    report.make(run, recipe, quietly)
    page = (judged / report.PAGE).read_text()
    assert 'id="saliency"' not in page and 'id="shortcuts"' not in page


def test_without_them_the_report_says_nothing_of_them(small_run):
    assert not {"shortcuts", "explain"} & report.made_from(small_run, small_run.recipe()).keys()
