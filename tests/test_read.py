"""`hilum classify`: what it says, of what it says nothing, and that it warns of people whom a model
was not trained on.
"""

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from dicom_files import write as write_dicom
from readers import ADULTS, CHILDREN, installation, reader

from hilum import storage
from hilum.errors import BadData, Mismatch, NotFound
from hilum.imaging import synthetic
from hilum.imaging.files import image_file, raster
from hilum.imaging.radiograph import preprocess
from hilum.inference import (
    age_group,
    classify_images,
    model_answers,
    pretrained,
    segment_images,
)

REAL = Path(os.environ.get("HILUM_DATA", Path(__file__).parent.parent.parent / "shared/data"))
WITHOUT = """
import sys
from pathlib import Path
sys.modules |= dict.fromkeys(("torch", "onnx", "scipy", "pandas"))
from hilum.inference import pretrained
folder = Path(sys.argv.pop(1))
pretrained.folder = lambda: folder
from hilum.__main__ import main
main()
"""


def chest(seed=7, height=300, width=280):
    rng = np.random.default_rng(seed)
    return synthetic.draw(synthetic.anatomy(rng), rng, height=height, width=width).pixels


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = installation(tmp_path_factory.mktemp("installed"))
    reader(made, "tb", "tuberculosis", "cavity", people=ADULTS)
    reader(made, "pneumonia_child", "pneumonia", people=CHILDREN)
    reader(made, "spare", size=96)
    return made


@pytest.fixture
def installed(folder, monkeypatch):
    monkeypatch.setattr(pretrained, "folder", lambda: folder)
    return folder


@pytest.fixture
def image(tmp_path):
    raster.write_png(tmp_path / "in" / "a.png", chest())
    return tmp_path / "in" / "a.png"


def only(*images, **options):
    (one,), faults = classify_images.classify_images(images, **options)
    assert not faults
    return one


def dicom(folder, **reported):
    return write_dicom(
        folder / "a.dcm", (chest().astype(np.uint16) * 16).copy(), bits=12, **reported
    )


def test_every_model_that_is_there_is_evaluated_for_each_of_its_concepts(installed, image):
    assert [model.name for model in pretrained.pretrained_models()] == [
        "pneumonia_child",
        "spare",
        "tb",
    ]
    one = only(image)
    assert [(said.model, said.concept) for said in one.scores] == [
        ("pneumonia_child", "pneumonia"),
        ("spare", "anomaly"),
        ("tb", "tuberculosis"),
        ("tb", "cavity"),
    ]
    by = {said.concept: said for said in one.scores}
    assert (
        by["cavity"].score == pytest.approx(by["tuberculosis"].score ** 2, rel=1e-4)
        and not one.refused
        and one.lung_quality > 0.9
    )


def test_a_model_sees_the_region_that_it_carries(installed, image):
    seen = segment_images.segment_image(
        segment_images.load_lung_model(), image_file.read(image), image
    )
    tb = next(model for model in pretrained.pretrained_models() if model.name == "tb")
    cut = model_answers.cut_for(tb, seen, segment_images.load_lung_model())
    rows, columns = (np.flatnonzero((seen.labels > 0).any(axis)) for axis in (1, 0))
    margin = round(0.08 * (rows[-1] + 1 - rows[0]))
    assert (
        cut.how == "lungs"
        and cut.crop.top == rows[0] - margin
        and cut.image.shape == (64, 64)
        and cut.crop.left < columns[0]
    )
    assert next(
        said for said in only(image).scores if said.concept == "tuberculosis"
    ).score == pytest.approx(cut.image.mean() / 255, rel=1e-4)


def test_probabilities_are_calibrated_and_calls_use_the_carried_threshold(installed, image):
    said = {one.concept: one for one in only(image).scores}
    for concept in ("tuberculosis", "pneumonia", "cavity"):
        score = said[concept].score
        if concept == "pneumonia":  # of children, and nothing says that this is one
            assert said[concept].probability is said[concept].call is None
            continue
        assert said[concept].probability == pytest.approx(
            1 / (1 + math.exp(-(math.log(score / (1 - score)) / 2 + 0.25)))
        )
        assert (
            said[concept].call == ("present" if score >= 0.5 else "absent")
            and said[concept].threshold == 0.5
        )
    assert said["anomaly"].probability is None, "a distance is no probability"


def test_what_is_written_is_an_overlay_an_anomaly_map_and_a_table(installed, image, tmp_path):
    one = only(image, to=tmp_path / "out")
    assert (
        raster.read(tmp_path / "out/overlay/a.jpg").values.shape
        == raster.read(tmp_path / "out/anomaly/a.jpg").values.shape
        == (300, 280)
    )
    rows = list(csv.DictReader((tmp_path / "out" / classify_images.TABLE).open()))
    assert tuple(rows[0]) == classify_images.COLUMNS and [row["concept"] for row in rows] == [
        said.concept for said in one.scores
    ]
    one = only(image, to=tmp_path / "out", scores=True)
    rows = list(csv.DictReader((tmp_path / "out" / classify_images.TABLE).open()))
    assert [row["score"] for row in rows] == [str(said.score) for said in one.scores]


def test_a_model_that_could_not_call_is_applied_only_where_scores_are_requested(installed, image):
    by_scores = {
        requested: {said.concept: said for said in only(image, scores=requested).scores}
        for requested in (False, True)
    }
    of_children = by_scores[False]["pneumonia"]
    assert of_children.score is None and "trained on children" in of_children.no_call
    assert by_scores[True]["pneumonia"].score > 0
    for concept in ("tuberculosis", "cavity", "anomaly"):
        assert by_scores[False][concept] == by_scores[True][concept]


SPOILT = {
    "inverted": lambda pixels: 255 - pixels,
    "rotated": np.rot90,
    "mirrored": lambda pixels: pixels[:, ::-1],
    "not to be a frontal chest": lambda pixels: np.random.default_rng(0).integers(
        0, 256, (256, 256), np.uint8
    ),
    "empty": lambda pixels: pixels * 0,
}


@pytest.mark.parametrize("fault", SPOILT)
def test_what_is_no_upright_frontal_chest_is_refused_by_name_and_gets_no_score(
    installed, tmp_path, fault
):
    raster.write_png(tmp_path / "a.png", np.ascontiguousarray(SPOILT[fault](chest())))
    one = only(tmp_path / "a.png", to=tmp_path / "out")
    assert fault in one.refused and one.scores == []
    (row,) = csv.DictReader((tmp_path / "out" / classify_images.TABLE).open())
    assert row["refused"] == one.refused and row["call"] == ""


def test_a_lateral_is_refused_where_the_file_states(installed, tmp_path):
    assert "lateral" in only(dicom(tmp_path, ViewPosition="LL")).refused
    assert only(dicom(tmp_path, ViewPosition="PA")).refused == ""


def test_lungs_that_cannot_be_believed_are_refused(installed, image, monkeypatch):
    monkeypatch.setattr(model_answers, "LEAST", 0.999)
    assert "cannot be relied on" in only(image).refused


def test_an_unreadable_file_is_named_and_the_others_are_read(installed, image, tmp_path):
    (image.parent / "b.png").write_bytes(image.read_bytes()[:300])
    found, (fault,) = classify_images.classify_images([image.parent], tmp_path / "out")
    assert [Path(one.image).name for one in found] == ["a.png"] and "b.png" in fault


def test_by_its_header_an_adults_film_gets_no_call_of_the_model_of_children_and_a_childs_none_of_that_of_adults(
    installed, tmp_path
):
    for years, warned in (("054Y", "pneumonia_child"), ("003Y", "tb"), ("018M", "tb")):
        said = only(dicom(tmp_path, PatientAge=years)).scores
        assert {one.model for one in said if one.no_call} - {"spare"} == {warned}
    reason = next(
        one.no_call
        for one in only(dicom(tmp_path, PatientAge="054Y")).scores
        if one.model == "pneumonia_child"
    )
    assert "54 years old" in reason and "children of one hospital, 1 to 5 years old" in reason
    assert not next(
        one.no_call
        for one in only(dicom(tmp_path, PatientAge="005Y")).scores
        if one.model == "pneumonia_child"
    )


@pytest.mark.parametrize(
    ("group", "warned"),
    [
        (age_group.CHILD, {"tb": "child's"}),
        (age_group.ADULT, {"pneumonia_child": "adult's image"}),
        ("", {"pneumonia_child": "nothing indicates"}),
    ],
)
def test_without_an_age_the_measured_age_group_decides(
    installed, image, monkeypatch, group, warned
):
    monkeypatch.setattr(age_group, "classify", lambda image: group)
    warnings = {
        said.model: said.no_call
        for said in only(image).scores
        if said.no_call and said.model != "spare"
    }
    assert warnings.keys() == warned.keys() and all(
        words in warnings[model] for model, words in warned.items()
    )


def test_an_image_that_a_model_was_trained_on_is_reported(image, tmp_path, monkeypatch):
    made = installation(tmp_path / "installed")
    reader(made, "tb", "tuberculosis", pixels=(image_file.read(image).pixel_digest,))
    monkeypatch.setattr(pretrained, "folder", lambda: made)
    assert "trained or tuned on this very image" in only(image).scores[0].warning


def test_without_a_model_the_remedy_is_reported(image, tmp_path, monkeypatch):
    made = installation(tmp_path / "installed")
    monkeypatch.setattr(pretrained, "folder", lambda: made)
    with pytest.raises(NotFound, match="train_findings"):
        classify_images.classify_images([image])


def test_a_file_that_does_not_carry_what_a_reader_must_is_refused_with_all_that_is_missing(
    folder, tmp_path
):
    made = onnx.load(folder / "tb.onnx")
    kept = {one.key: one.value for one in made.metadata_props}
    for change, words in (
        ({"calibration": None, "card": None}, "no card, no calibration"),
        ({"calibration": json.dumps({"cavity": {}})}, "no calibration of tuberculosis"),
        ({"crop": None}, "does not state how they are made"),
    ):
        onnx.helper.set_model_props(
            made, {name: value for name, value in {**kept, **change}.items() if value is not None}
        )
        place = tmp_path / f"{storage.digest(words)}.onnx"
        onnx.save(made, place)
        with pytest.raises(BadData, match=words):
            _ = pretrained.PretrainedModel(place).model


def test_a_model_that_wants_lungs_found_otherwise_is_refused(image, tmp_path, monkeypatch):
    made = installation(tmp_path / "installed")
    reader(made, "tb", "tuberculosis", region={"pixels": 512})
    monkeypatch.setattr(pretrained, "folder", lambda: made)
    with pytest.raises(Mismatch, match="512 pixels"):
        classify_images.classify_images([image])


def test_the_file_in_8_bits_goes_before_the_one_in_float32_and_what_is_no_reader_is_not_run(
    tmp_path, monkeypatch
):
    for name in ("tb.onnx", "tb.int8.onnx", "child.onnx", *pretrained.OTHERS):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr(pretrained, "folder", lambda: tmp_path)
    assert [model.place.name for model in pretrained.pretrained_models()] == [
        "child.onnx",
        "tb.int8.onnx",
    ]


def test_it_needs_no_torch_and_prints_what_is_said_and_the_same_as_json(folder, image, tmp_path):
    def run(*more):
        arguments = (folder, "classify", image, "--out", tmp_path / "out", *more)
        return subprocess.run(
            [sys.executable, "-c", WITHOUT, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
        )

    done, as_json, numbers = run(), run("--json"), run("--scores")
    assert done.returncode == as_json.returncode == numbers.returncode == 0, done.stderr
    assert (
        "Tuberculosis: present [tb]" in done.stdout
        and "Pneumonia: no call: " in done.stdout
        and "For research only" in done.stdout
        and "score" not in done.stdout
    )
    assert "Tuberculosis: present; score 0." in numbers.stdout
    called = json.loads(as_json.stdout)[0]["scores"]
    assert not set(called[0]) & {"score", "probability"}
    assert [said["concept"] for said in called] == [
        "pneumonia",
        "anomaly",
        "tuberculosis",
        "cavity",
    ]


def test_without_an_image_the_models_describe_themselves(folder, tmp_path):
    def run(place, *more):
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT, str(place), "models", *more],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    reported, as_json = run(folder), json.loads(run(folder, "--json"))
    assert (
        "tb: Made by hand" in reported
        and "children of one hospital, 1 to 5 years old" in reported
        and "Research only" in reported
    )
    assert [card["says"] for card in as_json if "says" in card] == [
        ["pneumonia"],
        ["anomaly"],
        ["tuberculosis", "cavity"],
    ] and len(as_json[0]["digest"]) == 16
    assert "no bundled classifier" in run(installation(tmp_path / "bare"))


def test_models_that_come_with_hilum_are_small_and_say_what_they_must_not_be_used_for():
    models = pretrained.pretrained_models()
    if not models:
        pytest.skip(
            "no bundled classifier in src/hilum/resources: make them with "
            "tools/build_models/train_findings.py"
        )
    for model in models:
        assert (
            model.place.stat().st_size <= 6_000_000
            and "must not be used" in model.card.caveats
            and "research" in model.card.caveats.lower()
        )
        assert (
            model.card.licence
            and model.card.counts
            and model.figures
            and model.ages[0] < model.ages[1]
            and set(model.calibration) == set(model.concepts)
        )


def test_a_model_that_counts_from_a_site_calls_nothing_without_one(image, tmp_path, monkeypatch):
    made = installation(tmp_path / "installed")
    reader(made, "tb", "tuberculosis", direction={"weights": [1.0], "bias": 0.0, "overall": [1.0]})
    monkeypatch.setattr(pretrained, "folder", lambda: made)
    (said,) = only(image).scores
    assert said.call is None and "hilum calibrate" in said.no_call


# Age group by the image


def test_ranks_depend_neither_on_the_window_nor_on_padding():
    rng = np.random.default_rng(3)
    image = np.zeros((256, 256), np.uint8)
    shown = cv2.resize(rng.integers(40, 200, (24, 32), np.uint8), (256, 192))
    image[32:224] = shown
    darker = np.zeros_like(image)
    darker[32:224] = (shown.astype(float) * 0.6 + 10).astype(np.uint8)
    plain = age_group.rank_cells(image)
    assert plain.shape == (age_group.RANKS**2,)
    assert np.abs(plain - age_group.rank_cells(darker)).max() < 12
    assert np.abs(plain - age_group.rank_cells(shown)).max() < 12


def test_an_age_group_needs_log_odds_beyond_a_limit(monkeypatch):
    limits = pretrained.opened(pretrained.path(pretrained.AGE_GROUP)).metadata["limits"]
    assert limits["adult"] < limits["child"]
    for odds, group in (
        (limits["child"] + 0.1, age_group.CHILD),
        ((limits["child"] + limits["adult"]) / 2, ""),
        (limits["adult"] - 0.1, age_group.ADULT),
    ):
        monkeypatch.setattr(age_group, "log_odds", lambda image, odds=odds: odds)
        assert age_group.classify(np.zeros((256, 256), np.uint8)) == group


def test_an_age_group_is_measured_in_images_of_any_size():
    image = np.random.default_rng(0).integers(0, 255, (128, 128), np.uint8)
    twice = cv2.resize(image, (256, 256), interpolation=cv2.INTER_NEAREST)
    assert abs(age_group.log_odds(image) - age_group.log_odds(twice)) < 8


@pytest.mark.skipif(
    not (REAL / "kermany-original").is_dir() or not (REAL / "montgomery").is_dir(),
    reason="needs the real radiographs of ../shared/data",
)
def test_real_images_of_children_are_separated_from_those_of_adults():
    def groups(paths):
        images = [
            preprocess(image_file.read(path).radiograph(), 256, "percentiles") for path in paths
        ]
        return [age_group.classify(image) for image in images]

    children = groups(sorted((REAL / "kermany-original").rglob("*.jpeg"))[:8])
    adults = groups(sorted((REAL / "montgomery/CXR_png").glob("*.png"))[::8])
    assert children.count(age_group.CHILD) >= 7 and age_group.ADULT not in children
    assert adults.count(age_group.CHILD) <= 1 and adults.count(age_group.ADULT) >= len(adults) / 2
