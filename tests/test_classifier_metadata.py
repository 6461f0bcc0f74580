"""What a classifier's file says of itself is checked before it is applied to an image."""

import json

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from readers import ADULTS, installation, metadata, reader
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.errors import BadData, Mismatch, NotFound
from hilum.imaging import synthetic
from hilum.imaging.files import raster
from hilum.inference import classifier_metadata, pretrained
from hilum.inference.onnx_model import TRAINING_LIST, InputContract
from hilum.inference.site import Site
from hilum.run_folder import Run

CONTRACT = InputContract("finding", 64, "crop", "percentiles", ("score",), ("tuberculosis",))
BANDED = {"absent_below": 0.2, "present_from": 0.6}


@pytest.fixture
def stored():
    return json.loads(json.dumps(metadata(CONTRACT)))


def faults(stored):
    return classifier_metadata.faults(stored, CONTRACT.concepts)


def test_what_hilum_writes_has_no_faults_nor_have_the_models_that_come_with_it(stored):
    assert faults(stored) == []
    stored["calibration"]["tuberculosis"] |= BANDED
    assert faults(stored) == []
    for model in pretrained.pretrained_models():
        assert classifier_metadata.faults(model.model.metadata, model.concepts) == []


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        (("calibration",), [], "its calibration is no object"),
        (("calibration",), {}, "no calibration of tuberculosis"),
        (("calibration", "tuberculosis"), {"threshold": 0.5}, "expected threshold, temperature"),
        (("calibration", "tuberculosis", "threshold"), "high", "threshold must be a finite number"),
        (("calibration", "tuberculosis", "threshold"), float("nan"), "threshold must be a finite"),
        (("calibration", "tuberculosis", "bias"), float("inf"), "bias must be a finite number"),
        (("calibration", "tuberculosis", "bias"), 10**390, "bias must be a finite number"),
        (("calibration", "tuberculosis", "temperature"), 0, "temperature must be above 0"),
        (("calibration", "tuberculosis", "absent_below"), 0.2, "two numbers that rise"),
        (("calibration", "tuberculosis", "isotonic"), {"score": [1]}, "isotonic must hold"),
        (
            ("calibration", "tuberculosis", "isotonic"),
            {"score": [1, 0], "probability": [0, 1]},
            "rising scores",
        ),
        (
            ("calibration", "tuberculosis", "isotonic"),
            {"score": [0, 1], "probability": [0, 7]},
            "probabilities between 0 and 1",
        ),
        (("population",), {"age_years": [1], "words": "few"}, "its population must be"),
        (("population", "age_years"), [9, 1], "two numbers that rise"),
        (("population", "words"), 5, "its population must be"),
        (("crop", "pixels"), 1 << 30, "crop: pixels must be a whole number from 16 to 1024"),
        (("crop", "margin"), -1, "crop: margin must be"),
        (("crop", "masked"), "yes", "crop: masked must be true or false"),
        (("crop", "typical"), {"left": 0.5}, "crop: typical must be"),
        (("crop",), 3, "its crop is no object"),
        (("trained_on",), {TRAINING_LIST: 7}, "does not list its images"),
        (("trained_on",), {"pixels": ["0" * 16]}, "by SHA-256, expected 'pixels_xxh3'"),
        (("figures",), "good", "its figures are no object"),
        (("card",), [], "its card is no object"),
    ],
)
def test_what_cannot_be_is_named(stored, where, value, words):
    place = stored
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    assert any(words in fault for fault in faults(stored)), faults(stored)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["calibration", "population", "crop", "trained_on", "card"]), JSON, JSON)
def test_no_metadata_breaks_the_check(key, value, inner):
    stored = json.loads(json.dumps(metadata(CONTRACT)))
    if isinstance(stored[key], dict):
        for name in list(stored[key]):
            assert isinstance(faults({**stored, key: {**stored[key], name: inner}}), list)
    assert isinstance(faults({**stored, key: value}), list)


# ---------------------------------------------------------------------------- model files


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A model file outside of the installation, and an image."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(7)
    drawn = synthetic.draw(synthetic.anatomy(rng), rng, height=220, width=200)
    raster.write_png(folder / "a.png", drawn.pixels)
    return reader(folder, "mine", "tuberculosis", people=ADULTS), folder / "a.png"


def test_a_model_is_named_or_is_a_file_and_a_run_is_neither(own, tmp_path):
    model, _ = own
    assert pretrained.named("tuberculosis").name == "tuberculosis"
    assert pretrained.named(model).name == "mine"
    with pytest.raises(NotFound, match="did you mean 'tuberculosis'"):
        pretrained.named("tubercolosis")
    Run(tmp_path / "run").folder.mkdir()
    (tmp_path / "run/recipe.toml").write_text("")
    with pytest.raises(NotFound, match="is a run, whose models are applied with `hilum apply`"):
        pretrained.named(tmp_path / "run")
    with pytest.raises(BadData, match="cannot classify images"):
        pretrained.named(pretrained.path("lungs.onnx"))


def test_a_broken_model_file_is_refused_before_any_image_is_read(own, tmp_path):
    made = onnx.load(own[0])
    kept = {one.key: one.value for one in made.metadata_props}
    onnx.helper.set_model_props(made, {**kept, "population": "[]"})
    onnx.save(made, tmp_path / "broken.onnx")
    with pytest.raises(BadData, match="its population must be"):
        pretrained.named(tmp_path / "broken.onnx")


def test_classify_applies_a_model_file_alone_and_a_site_of_it(own, tmp_path, monkeypatch):
    model, image = own
    made = installation(tmp_path / "installed")
    reader(made, "tb", "tuberculosis", people={**ADULTS, "words": "others"})
    monkeypatch.setattr(pretrained, "folder", lambda: made)

    def classified(*more):
        given = [str(image), "-o", str(tmp_path / "out"), "--json", *map(str, more)]
        done = CliRunner().invoke(app, ["classify", *given])
        if done.exception:
            raise done.exception
        (one,) = json.loads(done.stdout)
        return [score["model"] for score in one["scores"]]

    assert classified("--model", model) == ["mine"]
    assert classified("--model", model, "--model", "tb") == ["mine", "tb"]
    of_other = made / "tb.onnx"
    site = Site(
        "mine", pretrained.named(model).digest, 30, 30, "", "2026-01-01", {},
        {"tuberculosis": "too few"}, pretrained.named(of_other).model.domain, {}, np.empty(0),
    )  # fmt: skip
    site.write(tmp_path / "site.json")
    assert classified("--model", model, "--site", tmp_path / "site.json") == ["mine"]
    with pytest.raises(Mismatch, match="no mine is applied here"):
        classified("--site", tmp_path / "site.json")
