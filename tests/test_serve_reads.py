"""What the desk shows is what the run holds: images, masks, labels, issues and figures."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import polars as pl
import pytest

pytest.importorskip("starlette", reason="the desk needs the extra [serve]")

import imagecodecs

from hilum import classify, read_image
from hilum.imaging.radiograph import to_uint16
from hilum.inference import classify_images
from hilum.pipeline import evaluate, reference_masks
from hilum.runs import predict_images
from hilum.serve import api, pages
from tests import desks


@pytest.fixture(scope="module")
def desk(small_run):
    with desks.opened(small_run.folder, read_only=True) as browser:
        yield browser


@pytest.fixture(scope="module")
def manifest(small_run):
    return small_run.manifest()


def test_the_study_says_what_there_is(desk, manifest):
    found = desk.json("/api/v1/study")
    assert found["ready"]
    assert found["images"] == manifest.table.height
    assert found["patients"] == manifest.table["patient_id"].n_unique()
    assert {one["id"] for one in found["concepts"]} >= set(manifest.labels["concept"])


def test_every_page_of_the_worklist_together_has_every_image_once(desk, manifest):
    rows = []
    for offset in range(0, manifest.table.height, 7):
        rows += desk.json("/api/v1/images", params={"offset": offset, "limit": 7})["rows"]
    assert [one["image_id"] for one in rows] == manifest.table["image_id"].to_list()


def test_a_count_of_a_filter_is_the_number_of_images_that_it_lists(desk):
    page = desk.json("/api/v1/images")
    checked = 0
    for group in page["filters"]:
        for value in group["values"]:
            listed = desk.json("/api/v1/images", params={group["key"]: value["value"], "limit": 1})
            assert listed["total"] == value["count"], (group["key"], value)
            checked += 1
    assert checked > 20


def test_filters_narrow_and_values_of_one_filter_widen(desk):
    def total(**query):
        return desk.json("/api/v1/images", params={**query, "limit": 1})["total"]

    parts = {part: total(part=part) for part in ("train", "tune", "test")}
    assert total(part=["train", "test"]) == parts["train"] + parts["test"]
    both = total(part="test", mask="missing")
    assert both <= min(parts["test"], total(mask="missing"))


def test_labels_of_the_worklist_are_those_of_the_manifest(desk, manifest):
    finding = desk.json("/api/v1/study")["finding"]
    expected = manifest.labels.filter((pl.col("concept") == finding) & (pl.col("state") == 1))
    listed = desk.json("/api/v1/images", params={"label": f"{finding}:present", "limit": 500})
    assert {one["image_id"] for one in listed["rows"]} == set(expected["image_id"])


@pytest.mark.parametrize("sort", ["path", "-path", "patient", "issue", "-uncertainty", "next"])
def test_every_order_lists_images_once(desk, sort):
    listed = desk.json("/api/v1/images", params={"sort": sort, "limit": 500})["rows"]
    assert len({one["row"] for one in listed}) == len(listed)


def test_scores_sort_by_the_scores_of_the_run(desk, small_run):
    finding = desk.json("/api/v1/study")["finding"]
    scores = small_run.table("predict", "scores.parquet").filter(
        (pl.col("task") == "finding") & (pl.col("concept") == finding)
    )
    listed = desk.json("/api/v1/images", params={"sort": f"-score.{finding}", "limit": 500})
    shown = [one["top"]["score"] for one in listed["rows"] if one["top"]]
    assert shown == sorted(scores["score"].to_list(), reverse=True)


def test_text_is_found_in_any_case(desk, manifest):
    name = manifest.table["image_id"][4]
    listed = desk.json("/api/v1/images", params={"q": name.upper()})
    assert [one["image_id"] for one in listed["rows"]] == [name]


def test_pixels_are_those_of_the_image_as_read(desk, manifest):
    answer = desk.get("/api/v1/images/2/pixels")
    height, width = (int(answer.headers[f"X-{side}"]) for side in ("Height", "Width"))
    shown = np.frombuffer(answer.content, "<u2").reshape(height, width)
    image = read_image(manifest.root / manifest.table["path"][2])
    assert np.array_equal(shown, to_uint16(image.pixels))
    assert int(answer.headers["X-Low"]) < int(answer.headers["X-High"]) <= 65535


def test_the_reference_mask_is_that_of_the_run(desk, small_run, manifest):
    row = next(
        one["row"] for one in desk.json("/api/v1/images", params={"mask": "reference"})["rows"]
    )
    shown = desks.decoded(desk.get(f"/api/v1/images/{row}/masks/reference"))
    study = desk.desk.study
    image = study.image_row(row)
    file = desk.desk.shown(row).file
    expected = reference_masks.read(manifest.folder, image, file, study.meanings.of).labels
    assert np.array_equal(shown, expected)


@pytest.mark.parametrize("kind", ["found", "mirrored"])
def test_a_mask_to_start_from_has_the_size_of_the_pixels(desk, kind):
    pixels = desk.get("/api/v1/images/3/pixels").headers
    mask = desks.decoded(desk.get(f"/api/v1/images/3/masks/{kind}"))
    assert mask.shape == (int(pixels["X-Height"]), int(pixels["X-Width"]))
    assert set(np.unique(mask)) <= {0, 1, 2, 255}


def test_an_image_without_a_mask_says_so(desk):
    row = desk.json("/api/v1/images", params={"mask": "missing"})["rows"][0]["row"]
    answer = desk.get(f"/api/v1/images/{row}/masks/reference")
    assert answer.status_code == 404
    assert answer.json()["remedy"]


def test_the_image_has_its_labels_with_their_sources(desk, manifest):
    stated = manifest.labels.row(0, named=True)
    row = manifest.table["image_id"].to_list().index(stated["image_id"])
    labels = {one["concept"]: one for one in desk.json(f"/api/v1/images/{row}")["labels"]}
    source = labels[stated["concept"]]["sources"][0]
    assert source["source"] == stated["source"]
    assert source["term"] == stated["term"]


def test_a_blind_reading_shows_no_label_call_issue_or_mask(desk):
    found = desk.json("/api/v1/images/1", params={"blind": 1})
    assert found["calls"] == found["issues"] == found["heats"] == found["boxes"] == []
    assert all(one["state"] is None and not one["sources"] for one in found["labels"])
    assert found["top"] is None
    assert not any(found["masks"].values())
    assert "disagreement" not in found or found["disagreement"] is None


def test_the_position_follows_the_worklist_of_the_address(desk):
    listed = desk.json("/api/v1/images", params={"mask": "missing", "limit": 500})["rows"]
    first, second = listed[0]["row"], listed[1]["row"]
    place = desk.json(f"/api/v1/images/{second}", params={"mask": "missing"})["position"]
    assert (place["index"], place["total"], place["previous"]) == (1, len(listed), first)


def test_issues_are_those_of_the_audit(desk, small_run):
    issues = small_run.table("audit", "issues.parquet")
    found = desk.json("/api/v1/issues", params={"limit": 500})
    messages = [one["message"] for one in found["issues"]]
    assert messages[: issues.height] == issues["message"].to_list()
    assert all(one["decision"] == "open" for one in found["issues"])


def test_figures_are_those_of_the_run_to_the_last_digit(desk, small_run):
    metrics = small_run.table("evaluate", evaluate.METRICS)
    finding = desk.json("/api/v1/study")["finding"]
    found = desk.json("/api/v1/figures")
    assert found["concept"] == finding
    own = metrics.filter(
        (pl.col("task") == "finding")
        & (pl.col("concept") == finding)
        & (pl.col("part") == "test")
        & (pl.col("by") == "all")
    )
    compared = 0
    for figure in found["figures"]:
        (row,) = own.filter(pl.col("metric") == figure["metric"]).to_dicts()
        for shown, kept in (("value", "value"), ("low", "ci_low"), ("high", "ci_high")):
            expected = row[kept]
            assert figure[shown] == (None if expected != expected else expected)
        compared += 1
    assert compared == 6


def test_the_cells_of_the_confusion_matrix_lead_to_their_images(desk):
    for query in ({}, {"threshold": 0.5}):
        found = desk.json("/api/v1/figures", params=query)
        counts = [cell["count"] for cell in found["cells"].values()]
        assert sum(counts) == found["n"]
        for cell in found["cells"].values():
            listed = desk.json(f"/api/v1/images?{cell['query']}")
            assert listed["total"] == cell["count"]


def test_predictive_values_hold_at_the_stated_prevalence(desk):
    low, high = (
        {
            one["key"]: one["value"]
            for one in desk.json(
                "/api/v1/figures", params={"prevalence": prevalence, "threshold": 0.5}
            )["figures"]
        }
        for prevalence in (0.01, 0.5)
    )
    assert low["sensitivity"] == high["sensitivity"]
    assert low["ppv"] is None or low["ppv"] <= high["ppv"]


def test_a_film_is_tried_with_the_results_of_the_command_line(desk, small_run, manifest):
    path = manifest.root / manifest.table["path"][5]
    answer = desk.change(
        "POST", "/api/v1/try", files={"file": ("<b>film</b>.png", path.read_bytes())}
    )
    assert answer.status_code == 200, answer.text
    found = answer.json()
    (bundled,), _ = classify_images.classify_images([path])
    (own,), _ = predict_images.predict_images(small_run.folder, [path])
    expected = [*bundled.scores, *own.scores]
    assert [one["score"] for one in found["calls"]] == [one.score for one in expected]
    assert [one["call"] for one in found["calls"]] == [one.call or "no call" for one in expected]
    assert found["name"] == "b>.png" or "film" in found["name"]
    assert classify(path).lung_quality == round(found["lungs"]["quality"], 4)
    with zipfile.ZipFile(io.BytesIO(desk.get(found["download"]).content)) as archive:
        assert json.loads(archive.read("calls.json"))[0]["scores"]
        mask = imagecodecs.png_decode(archive.read("lungs.png"))
    assert mask.shape == read_image(path).size
    token = found["token"]
    assert desk.get(f"/api/v1/try/{token}/film").status_code == 200
    assert desk.change("DELETE", f"/api/v1/try/{token}").status_code == 200
    assert desk.get(f"/api/v1/try/{token}/film").status_code == 404


def test_heat_maps_have_the_size_of_the_pixels(desk):
    row = 2
    image = desk.json(f"/api/v1/images/{row}")
    for kind in image["heats"]:
        found = desks.decoded(desk.get(f"/api/v1/images/{row}/heat/{kind}"))
        assert found.shape == (image["height"], image["width"])
    assert image["heats"]


def test_the_openapi_document_has_every_route_with_its_parameters(desk):
    document = desk.json("/api/v1/openapi.json")
    for route in api.ROUTES:
        operation = document["paths"][route.path][route.method.lower()]
        assert [one["name"] for one in operation["parameters"]] == [
            one.name for one in route.parameters
        ]
        assert ("requestBody" in operation) == (route.body is not None)
    identities = [
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    ]
    assert len(set(identities)) == len(identities)


@pytest.mark.parametrize("path", [route.path for route in pages.ROUTES])
def test_every_page_is_shown(desk, path):
    answer = desk.get(path.replace("{row}", "1"))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")


def test_a_folder_without_a_run_is_prepared_and_shown(small_run, tmp_path):
    data = small_run.manifest().root
    with desks.opened(data, out=tmp_path / "new") as browser:
        found = browser.json("/api/v1/study")
        assert found["ready"], found["steps"]
        assert [one["state"] for one in found["steps"]] == ["done"] * len(found["steps"])
        listed = browser.json("/api/v1/images")
        assert listed["total"] == small_run.manifest().table.height
        figures = browser.json("/api/v1/figures")
        assert "hilum run" in figures["message"]
    assert not (tmp_path / "new" / "annotations").exists()
