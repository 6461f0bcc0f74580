"""A model calls what it knows, and says why it does not call the rest."""

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import polars as pl
import pytest
from readers import ADULTS, installation, reader
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.errors import BadData, HilumError, Mismatch, NotFound, TooFew
from hilum.imaging import synthetic
from hilum.imaging.files import raster
from hilum.inference import (
    age_group,
    calls,
    classify_images,
    domain,
    image_statistics,
    pretrained,
)
from hilum.inference.site import Site
from hilum.pipeline import ingest
from hilum.runs import calibrate_site, site_images
from hilum.statistics import two_samples
from hilum.storage import integrity

FITTED = {"threshold": 0.5, "temperature": 2.0, "bias": 0.25, "isotonic": None}
IMAGES = 40


def chest(seed, height=220, width=200):
    rng = np.random.default_rng(seed)
    return synthetic.draw(synthetic.anatomy(rng), rng, height=height, width=width).pixels


def blurred(pixels):
    return cv2.GaussianBlur(pixels, (0, 0), 4)


# ---------------------------------------------------------------------------- calls


def test_a_score_is_called_by_its_threshold_and_has_a_probability():
    present, absent = (calls.decide("m", "tb", score, FITTED) for score in (0.5, 0.49))
    assert (present.call, absent.call, present.no_call) == ("present", "absent", "")
    assert 0 < absent.probability < present.probability < 1


def test_with_a_reason_against_it_there_is_neither_call_nor_probability_but_a_score():
    one = calls.decide("m", "tb", 0.9, FITTED, reasons=["", "too far", "too old"])
    assert one.call is one.probability is None
    assert one.no_call == "too far; too old" and one.score == 0.9


def test_between_two_thresholds_there_is_no_call():
    fitted = {**FITTED, "absent_below": 0.3, "present_from": 0.7}
    found = [calls.decide("m", "tb", score, fitted).call for score in (0.29, 0.3, 0.69, 0.7)]
    assert found == ["absent", None, None, "present"]
    assert calls.decide("m", "tb", 0.5, fitted).no_call == calls.BETWEEN


def test_without_a_threshold_there_is_no_call():
    for fitted in (None, {**FITTED, "threshold": None}):
        one = calls.decide("m", "tb", 0.9, fitted)
        assert one.call is None and one.no_call == calls.NO_THRESHOLD


def test_numbers_are_reported_on_request_only():
    one = calls.decide("m", "tb", 0.9, FITTED)
    assert set(one.reported(scores=True)) - set(one.reported(scores=False)) == set(calls.NUMBERS)


# ---------------------------------------------------------------------------- domain


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, 40))

    def made(many, shift=0.0):
        features = rng.normal(size=(many, 5)) @ mixing + rng.normal(shift, 0.3, (many, 40))
        images = rng.integers(0, 256, (many, 16, 16), np.uint8)
        return domain.measurements(images, features)

    return made


def test_held_out_images_are_inside_and_others_outside_with_the_reason(rows):
    fitted = domain.fit(rows(200), rows(200))
    own, other = (fitted_inside(fitted, rows(300, shift)) for shift in (0, 1.5))
    assert own.mean() > 0.9 and other.mean() < 0.05
    other = rows(1, 3.0)
    placed = fitted.of_distances(
        {name: float(of[0]) for name, of in distances(fitted, other).items()}
    )
    assert not placed.inside and placed.percentile == 100
    assert "unlike the training images: all of these are closer" in placed.reason


def distances(fitted, given):
    return {
        name: fitted.detectors[name].subspace.distances(values) for name, values in given.items()
    }


def fitted_inside(fitted, given):
    of = distances(fitted, given)
    many = len(given["image"])
    return np.array(
        [
            fitted.of_distances({name: float(one[k]) for name, one in of.items()}).inside
            for k in range(many)
        ]
    )


def test_an_image_that_two_models_place_is_outside_where_either_says_so():
    inside, far = domain.Placement(True, 40.0, ""), domain.Placement(False, 99.0, "far")
    nearer = domain.Placement(True, 10.0, "")
    assert domain.farther(inside, far) is domain.farther(far, inside) is far
    assert domain.farther(inside, nearer) is inside
    assert domain.farther(domain.UNPLACED, inside) is domain.UNPLACED


def test_a_percentile_is_never_written_as_more_than_it_is(rows):
    fitted = domain.fit(rows(50), rows(50))
    quantiles, limit = np.linspace(0, 1, domain.LEVELS.size), 0.9
    detectors = {"image": replace(fitted.detectors["image"], quantiles=quantiles, limit=limit)}
    words = [
        domain.Domain(detectors).of_distances({"image": far}).reason for far in (0.987, 0.998, 1.0)
    ]
    assert [one.rpartition(": ")[2].split(" of")[0] for one in words] == ["98 %", "99 %", "all"]


def test_a_domain_of_few_images_is_fitted_out_of_fold(rows):
    few = rows(60)
    crossed = domain.crossed_distances(few, np.arange(60) % 5)
    fitted = domain.fit_crossed(few, crossed, inside=0.95, whose="those")
    assert fitted_inside(fitted, rows(400)).mean() > 0.8
    assert fitted_inside(fitted, rows(100, 2.0)).mean() < 0.1
    within = fitted.detectors["features"].subspace.distances(few["features"])
    assert np.median(crossed["features"]) > np.median(within)


def test_a_domain_reads_back_as_it_was_written(rows):
    fitted = domain.fit(rows(100), rows(100))
    again = domain.Domain.from_json(json.loads(json.dumps(fitted.as_json())), "a file")
    given = rows(20)
    for name, of in distances(fitted, given).items():
        np.testing.assert_allclose(distances(again, given)[name], of, rtol=0.02)
        assert again.detectors[name].limit == fitted.detectors[name].limit


BROKEN = {
    "no detectors": lambda stored: {},
    "of format 9": lambda stored: {**stored, "format": 9},
    "unknown detector 'smell'": lambda stored: {**stored, "detectors": {"smell": {}}},
    "KeyError: 'mean'": lambda stored: {**stored, "detectors": {"image": {}}},
    "finite": lambda stored: changed(stored, variances=["nan"]),
    "quantiles": lambda stored: changed(stored, quantiles=[1.0, 2.0]),
    "rise": lambda stored: changed(stored, quantiles=list(range(101))[::-1]),
    "limit": lambda stored: changed(stored, limit=-1.0),
    "OverflowError": lambda stored: changed(stored, residual=10**390),
    "an array of shape": lambda stored: changed(
        stored, mean={"dtype": "float32", "shape": [1 << 40], "base64": ""}
    ),
}


def changed(stored, **parts):
    detectors = stored["detectors"]
    return {**stored, "detectors": {**detectors, "image": {**detectors["image"], **parts}}}


@pytest.mark.parametrize("words", BROKEN)
def test_a_broken_domain_is_refused_by_what_is_wrong_with_it(rows, words):
    stored = domain.fit(rows(50), rows(50)).as_json()
    with pytest.raises(BadData, match=words):
        domain.Domain.from_json(BROKEN[words](stored), "a file")


def test_features_that_do_not_belong_to_the_domain_are_refused(rows):
    fitted = domain.fit(rows(50), rows(50))
    for features in (None, np.zeros((1, 3), np.float32)):
        with pytest.raises(BadData, match="do not belong together"):
            fitted.distances(np.zeros((1, 16, 16), np.uint8), features)


def test_what_cannot_be_measured_is_outside_in_words_without_a_number(rows):
    fitted = domain.fit(rows(50), rows(50))
    placed = fitted.of_distances({"image": float("nan"), "features": 0.1})
    assert not placed.inside and "unlike" in placed.reason and "nan" not in placed.reason


def test_sharpness_and_noise_are_seen_and_a_flat_image_is_described():
    image = np.random.default_rng(0).integers(90, 160, (64, 64)).astype(np.uint8)
    noisy = dict(zip(image_statistics.NAMES, image_statistics.describe_pixels(image), strict=True))
    flat = image_statistics.describe_pixels(np.full((64, 64), 128, np.uint8))
    smooth = dict(zip(image_statistics.NAMES, flat, strict=True))
    assert np.isfinite(flat).all()
    assert noisy["noise"] > smooth["noise"] and noisy["energy_0"] > smooth["energy_0"]
    assert [smooth["quantile_0.5"], smooth["rim"]] == pytest.approx([128 / 255] * 2)


# ---------------------------------------------------------------------------- classify


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    made = installation(tmp_path_factory.mktemp("installed"))
    reader(made, "tb", "tuberculosis", people=ADULTS)
    return made


@pytest.fixture
def image(tmp_path):
    raster.write_png(tmp_path / "in/a.png", chest(7))
    return tmp_path / "in/a.png"


def only(image, **options):
    (one,), faults = classify_images.classify_images([image], **options)
    assert not faults
    return one


@pytest.mark.parametrize(
    ("limit", "words"), [(1e-9, "all of these are closer"), (None, "does not carry")]
)
def test_outside_its_domain_and_without_one_a_model_does_not_call(
    image, tmp_path, monkeypatch, limit, words
):
    made = installation(tmp_path / "installed")
    reader(made, "tb", "tuberculosis", limit=limit)
    monkeypatch.setattr(pretrained, "folder", lambda: made)
    one = only(image, to=tmp_path / "out")
    (said,) = one.scores
    assert said.call is said.probability is None and words in said.no_call
    (row,) = csv.DictReader((tmp_path / "out" / classify_images.TABLE).open())
    assert row["call"] == "" and words in row["no_call"] and "score" not in row
    text = classify_images.lines([one], None)
    assert "no call" in text and "%" not in text.replace("100 %", "")
    assert "probability" not in classify_images.lines([one], None, scores=True)


def test_a_map_is_drawn_where_there_is_a_call_or_scores_are_requested(image, tmp_path, monkeypatch):
    made = installation(tmp_path / "installed")
    reader(made, "odd", size=96, limit=None)
    monkeypatch.setattr(pretrained, "folder", lambda: made)
    only(image, to=tmp_path / "out")
    assert not (tmp_path / "out/anomaly").exists()
    only(image, to=tmp_path / "out", scores=True)
    assert (tmp_path / "out/anomaly/a.jpg").exists()


# ---------------------------------------------------------------------------- a site


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A labelled folder: IMAGES chests of as many patients, every fourth with tuberculosis."""
    folder = tmp_path_factory.mktemp("films")
    rows = ["image,patient,tuberculosis"]
    for number in range(IMAGES):
        ill = number % 4 == 3
        pixels = chest(100 + number)
        bright = np.clip(pixels * (1.25 if ill else 1.0), 0, 255).astype(np.uint8)
        raster.write_png(folder / f"images/{number}.png", bright)
        rows.append(f"{number}.png,p{number},{int(ill)}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="module", autouse=True)
def of_no_age():
    """A drawn chest is neither a child's nor an adult's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(age_group, "classify", lambda image: "")
        yield


@pytest.fixture(scope="module")
def measured(installed, films):
    manifest = ingest.ingest(films)
    model = pretrained.PretrainedModel(installed / "tb.onnx")
    return model, site_images.measure(model, manifest, lambda done, of: None), manifest


@pytest.fixture(scope="module")
def made(measured):
    return calibrate_site.site_of(*measured, 0.1, 0.95)


def test_a_site_has_a_threshold_with_its_promise_and_says_what_more_would_do(made):
    site, text = made, "\n".join(made.notes)
    (one,) = site.thresholds.values()
    assert one.negatives >= 29 and one.positives > 5 and one.allowed == 0
    assert one.threshold > np.sort(site.scores["tuberculosis"])[0]
    assert one.sensitivity_low <= one.detected / one.positives <= one.sensitivity_high
    assert "at most 10% with 95% confidence" in text and "more patients" in text
    assert "40 images of 40 patients" in repr(site) and "at most 10%" in repr(site)
    assert "0 of 40 images lie outside the model's own domain" in text


def test_a_site_reads_back_as_it_was_written(made, tmp_path):
    made.write(tmp_path / "site.json")
    again = Site.read(tmp_path / "site.json")
    assert again.thresholds == made.thresholds
    assert np.allclose(again.percentiles, made.percentiles)
    stored = json.loads((tmp_path / "site.json").read_text())
    assert stored["thresholds"]["tuberculosis"]["threshold"] == one_threshold(made).threshold


def one_threshold(site):
    (found,) = site.thresholds.values()
    return found


def without(stored, *path):
    """A copy of nested dictionaries without one key."""
    first, *rest = path
    kept = {key: value for key, value in stored.items() if key != first}
    return {**kept, first: without(stored[first], *rest)} if rest else kept


def threshold_with(stored, **parts):
    of = stored["thresholds"]["tuberculosis"]
    return {**stored, "thresholds": {"tuberculosis": {**of, **parts}}}


BROKEN_SITES = {
    "no file of `hilum calibrate`: ValueError: a threshold has": lambda stored: {
        **stored,
        "thresholds": {"tb": {"a": 1}},
    },
    "format 2, written by Hilum .*, and this Hilum reads format 1": lambda stored: {
        **stored,
        "format": 2,
    },
    "no file .* OverflowError": lambda stored: {
        **stored,
        "images": {**stored["images"], "count": 1e308 * 10},
    },
    "OverflowError: int too large": lambda stored: threshold_with(stored, threshold=10**390),
    "numbers that cannot be: .*nan": lambda stored: threshold_with(stored, threshold=float("nan")),
    "cannot be: .*rates=5": lambda stored: threshold_with(stored, max_false_positives=5.0),
    "cannot be: .*allowed=99": lambda stored: threshold_with(stored, allowed=99),
    "detector 'image': OverflowError": lambda stored: {
        **stored,
        "domain": changed(stored["domain"], limit=10**390),
    },
    "its domain holds no detectors": lambda stored: {**stored, "domain": None},
    "KeyError: 'percentiles'": lambda stored: without(stored, "percentiles"),
}


@pytest.mark.parametrize("words", BROKEN_SITES)
def test_a_site_that_cannot_be_is_refused_by_what_is_wrong_with_it(made, tmp_path, words):
    stored = BROKEN_SITES[words](made.as_json())
    (tmp_path / "bad.json").write_text(json.dumps(integrity.sealed(stored)))
    with pytest.raises(BadData, match=words.replace("rates", "max_false_positives")):
        Site.read(tmp_path / "bad.json")


def test_a_site_that_was_changed_by_hand_is_refused(made, tmp_path):
    made.write(tmp_path / "site.json")
    stored = json.loads((tmp_path / "site.json").read_text())
    for name, content in (
        ("lower", json.dumps(threshold_with(stored, threshold=0.0))),
        ("cut", json.dumps(stored)[:3000]),
        ("other", '{"a": 1}'),
        ("list", "[1, 2]"),
        ("empty", ""),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(BadData, match="no whole file of `hilum calibrate`; calibrate again"):
            Site.read(tmp_path / name)
    with pytest.raises(NotFound):
        Site.read(tmp_path / "nowhere.json")


def test_a_site_decides_within_its_own_domain_at_its_own_threshold(
    made, installed, films, tmp_path, monkeypatch
):
    monkeypatch.setattr(pretrained, "folder", lambda: installed)
    some = [films / f"images/{number}.png" for number in range(12)]
    found, _ = classify_images.classify_images(some, site=made)
    called = [one for result in found for one in result.scores]
    threshold = made.thresholds["tuberculosis"].threshold
    assert sum(one.call is not None for one in called) >= 0.7 * len(called)
    for one in called:
        assert one.threshold == threshold and one.probability is None
        assert one.call in (None, "present" if one.score >= threshold else "absent")
    raster.write_png(tmp_path / "b.png", blurred(chest(7)))
    other = only(tmp_path / "b.png", site=made)
    assert other.refused or "the images of this site: " in other.scores[0].no_call


def test_absent_is_warned_about_where_the_sensitivity_is_poor_or_unknown(
    made, installed, films, monkeypatch
):
    monkeypatch.setattr(pretrained, "folder", lambda: installed)
    known = one_threshold(made)
    for parts, words in (
        ({"sensitivity_low": 0.0, "sensitivity_high": 0.3}, "between 0% and 30% of the patients"),
        ({"positives": 0, "detected": 0, "sensitivity_low": 0.0}, "nothing is known"),
        ({"sensitivity_low": 0.7}, ""),
    ):
        of_all = {"tuberculosis": replace(known, threshold=1e9, **parts)}
        site = replace(made, thresholds=of_all)
        (score,) = only(films / "images/1.png", site=site).scores
        assert score.call == "absent" and words in score.warning
        assert bool(score.warning) == bool(words)
    high = {"tuberculosis": replace(known, threshold=-1.0, sensitivity_low=0.0)}
    (score,) = only(films / "images/1.png", site=replace(made, thresholds=high)).scores
    assert score.call == "present" and not score.warning


def test_images_that_differ_from_the_sites_are_reported(
    made, installed, films, tmp_path, monkeypatch
):
    monkeypatch.setattr(pretrained, "folder", lambda: installed)
    heard = []
    some = [films / f"images/{number}.png" for number in range(12)]
    classify_images.classify_images(some, site=made, say=heard.append)
    assert heard == []
    for number in range(12):
        raster.write_png(tmp_path / f"soft/{number}.png", blurred(chest(100 + number)))
    classify_images.classify_images([tmp_path / "soft"], site=made, say=heard.append)
    assert any(
        "these images differ from those that the site was calibrated on" in one for one in heard
    )


def test_drift_is_reported_once_and_counts_each_image_once(made, tmp_path, monkeypatch):
    """A model of several findings places an image once, however many it calls."""
    site = replace(made, scores={**made.scores, "other": np.linspace(0, 1, 40)})
    shifted = made.percentiles[-10:]
    results = [
        calls.ImageResult(
            str(k), str(k), "", "", 0.9, None,
            [
                replace(calls.decide("tb", concept, 0.5, FITTED), percentile=float(one))
                for concept in site.scores
            ],
        )
        for k, one in enumerate(shifted)
    ]  # fmt: skip
    seen = []
    monkeypatch.setattr(
        two_samples, "kolmogorov_smirnov", lambda batch, own: (seen.append(len(batch)), 1.0)
    )
    assert list(site.drift(results)) == [] and seen == [10, 10, 10]


def test_unlabelled_images_of_a_model_that_counts_from_a_site_are_compared_in_the_sites_domain(
    measured,
):
    """Where `classify` places them, so that the site's own images are no drift."""
    model, images, manifest = measured
    unlabelled = replace(manifest, labels=manifest.labels.clear())
    plain = calibrate_site.site_of(model, images, unlabelled, 0.1, 0.95)
    assert np.array_equal(plain.percentiles, np.sort(images.percentiles))

    class CountsFromSite(pretrained.PretrainedModel):
        counts_from_site = True

    counting = CountsFromSite(model.place)
    own = calibrate_site.site_of(counting, images, unlabelled, 0.1, 0.95)
    assert own.percentiles.max() == 100 and plain.percentiles.max() < 1


def test_another_model_is_refused(made, tmp_path, monkeypatch, image):
    other = installation(tmp_path / "installed")
    reader(other, "tb", "tuberculosis", people={**ADULTS, "words": "others"})
    monkeypatch.setattr(pretrained, "folder", lambda: other)
    with pytest.raises(Mismatch, match="calibrated for tb"):
        classify_images.classify_images([image], site=made)


def test_too_few_labelled_images_are_refused_with_how_many_more_it_takes(measured, films):
    with pytest.raises(TooFew, match="at least 59 are needed, 29 more"):
        calibrate_site.site_of(*measured, 0.05, 0.95)
    with pytest.raises(BadData, match="between 0 and 1"):
        calibrate_site.calibrate_site("tb", films, max_false_positives=10)


def with_patients(measured, name):
    """The measured images, each of the patient that `name` gives to its number."""
    model, images, manifest = measured
    renamed = [replace(one, patient=name(k)) for k, one in enumerate(images.images)]
    return model, site_images.Measured(renamed, images.left_out), manifest


@pytest.mark.parametrize("people", [1, 2, 19])
def test_images_of_few_patients_do_not_describe_a_site(measured, people):
    with pytest.raises(TooFew, match=f"40 images of {people} patients .* at least 20 patients"):
        calibrate_site.site_of(*with_patients(measured, lambda k: f"p{k % people}"), 0.1, 0.95)


def test_each_patient_counts_once_and_on_the_safe_side(measured):
    """Of 40 images of 35 patients, 30 without: two images each of five patients."""
    model, images, manifest = with_patients(measured, lambda k: f"p{k - 4 if k % 8 == 6 else k}")
    scored = [
        replace(one, scores={"tuberculosis": 9.0 if k == 6 else 0.1 + k / 1000})
        for k, one in enumerate(images.images)
    ]
    many = site_images.Measured(scored, images.left_out)
    with pytest.raises(TooFew, match="of 25 patients cannot promise"):
        calibrate_site.site_of(model, many, manifest, 0.1, 0.95)
    one = one_threshold(calibrate_site.site_of(model, many, manifest, 0.2, 0.95))
    assert one.negatives == 25 and one.positives == 10


def test_copies_of_an_image_do_not_count_as_patients(measured):
    model, images, manifest = measured
    one = images.images[0]
    copied = [replace(each, pixel_digest=one.pixel_digest) for each in images.images]
    assert set(site_images.Measured(copied, images.left_out).patients) == {
        min(each.patient for each in images.images)
    }
    changed = [replace(each, key=one.key) for each in images.images[:3]]
    same = site_images.Measured([*changed, *images.images[3:]], images.left_out)
    assert len(set(same.patients)) == IMAGES - 2
    notes = calibrate_site.site_of(model, same, manifest, 0.2, 0.95).notes
    assert any("2 images are copies of others" in note for note in notes)


def test_a_positive_outside_the_sites_domain_is_not_expected_to_be_called(measured):
    """It gets no call, whatever its score; an image without the finding in its place costs none."""
    model, images, manifest = measured
    ill = set(manifest.states("tuberculosis").filter(pl.col("state") == 1)["image_id"])
    well = {one.image_id for one in images.images} - ill
    expected = {}
    for name, odd in (("far", min(ill)), ("near", min(well))):
        scored = [
            replace(
                one,
                pixels=255 - one.pixels if one.image_id == odd else one.pixels,
                scores={"tuberculosis": 9.0 if one.image_id in ill else 0.1},
            )
            for one in images.images
        ]
        found = site_images.Measured(scored, images.left_out)
        expected[name] = one_threshold(
            calibrate_site.site_of(model, found, manifest, 0.1, 0.95)
        ).detected
    assert expected["far"] < expected["near"] == len(ill)


def test_where_nothing_names_the_patients_that_is_said(measured):
    model, images, manifest = measured
    own = manifest.table.with_columns(patient_id=pl.col("image_id"))
    notes = calibrate_site.site_of(model, images, replace(manifest, table=own), 0.1, 0.95).notes
    assert any("nothing names the patients" in note for note in notes)
    assert not any(
        "nothing names" in note for note in calibrate_site.site_of(*measured, 0.1, 0.95).notes
    )


def test_labels_of_something_else_are_named(measured):
    model, images, manifest = measured
    other = manifest.labels.with_columns(concept=pl.lit("local:koch"))
    found = calibrate_site.site_of(model, images, replace(manifest, labels=other), 0.1, 0.95)
    assert "labels here are of koch" in found.refusals["tuberculosis"]


def test_what_the_tables_state_of_an_image_counts_as_if_the_file_did(measured, installed):
    """A lateral view and a child, by the table alone."""
    model, _, manifest = measured
    few = manifest.only(manifest.table["image_id"][:3])
    stated = few.table.with_columns(
        view=pl.Series(["LATERAL", None, None]), age_years=pl.Series([40.0, 4.0, 40.0])
    )
    found = site_images.measure(model, replace(few, table=stated), lambda done, of: None)
    assert dict(found.left_out) == {site_images.REFUSED: 1, site_images.OTHER_PEOPLE: 1}


def test_a_fault_of_the_model_is_not_reported_as_one_of_the_images(measured, tmp_path):
    _, _, manifest = measured
    broken = reader(tmp_path, "tb", "tuberculosis", people=ADULTS)
    model = pretrained.PretrainedModel(broken)
    vars(model.model)["domain"] = domain.Domain({"features": domain_of_features()})
    with pytest.raises(BadData, match="do not belong together"):
        site_images.measure(model, manifest, lambda done, of: None)


def domain_of_features():
    fitted = domain.subspace.fit(np.random.default_rng(0).normal(size=(40, 5)), 2)
    return domain.Detector(fitted, np.linspace(0, 9, domain.LEVELS.size), 9.0)


def test_a_promise_that_no_number_of_images_supports_is_refused_before_any_work(films):
    with pytest.raises(BadData, match=r"at most 0.0001% with 95% confidence takes more than"):
        calibrate_site.calibrate_site("tb", films, max_false_positives=1e-6)


def test_rates_are_written_as_they_were_given(made):
    one = replace(one_threshold(made), max_false_positives=0.005, confidence=0.999)
    assert "at most 0.5% with 99.9% confidence" in one.words()


def test_the_sites_file_is_never_written_into_the_data_or_over_another_file(made, films, tmp_path):
    precious = tmp_path / "patients.csv"
    precious.write_text("a,b")
    for place in (films / "site.json", films / "images/0.png", precious, tmp_path):
        before = place.read_bytes() if place.is_file() else None
        done = CliRunner().invoke(app, ["calibrate", "tb", str(films), "-o", str(place)])
        assert done.exit_code != 0 and isinstance(done.exception, HilumError)
        assert "--out" in str(done.exception)
        assert before is None or place.read_bytes() == before
    made.write(tmp_path / "site.json")
    calibrate_site.refuse_place(tmp_path / "site.json", films)  # one's own may be made again


def test_without_labels_the_models_own_threshold_and_domain_decide_and_the_site_says_so(measured):
    model, images, manifest = measured
    unlabelled = replace(manifest, labels=manifest.labels.clear())
    site = calibrate_site.site_of(model, images, unlabelled, 0.1, 0.95)
    assert site.thresholds == {} and "takes 29 patients" in site.refusals["tuberculosis"]
    assert site.domain is not None


def test_the_verbs_write_the_file_and_use_it(made, installed, films, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "folder", lambda: installed)
    monkeypatch.setattr(calibrate_site, "calibrate_site", lambda *of, **how: made)
    place = tmp_path / "site.json"
    done = CliRunner().invoke(app, ["calibrate", "tb", str(films), "-o", str(place)])
    assert done.exit_code == 0 and "at most 10% with 95% confidence" in done.output
    image = str(films / "images/0.png")
    options = [image, "-o", str(tmp_path / "out"), "--site", str(place)]
    called = CliRunner().invoke(app, ["classify", *options])
    assert called.exit_code == 0 and "Tuberculosis: " in called.output
    calls_alone = [line for line in called.output.splitlines() if "warning:" not in line]
    assert "%" not in "".join(calls_alone).replace("% of these are closer", "")
    other = installation(tmp_path / "other")
    reader(other, "tb", "tuberculosis", people={**ADULTS, "words": "others"})
    monkeypatch.setattr(pretrained, "folder", lambda: other)
    refused = CliRunner().invoke(app, ["classify", *options])
    assert refused.exit_code != 0 and isinstance(refused.exception, Mismatch)
