"""What several sets share, and what one run was trained on that another tests on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import hilum

from hilum import storage
from hilum.dataset.manifest import COLUMNS, Manifest
from hilum.dataset.pixel_cache import FACTS
from hilum.dataset.readers import kaggle_masks, montgomery
from hilum.errors import HilumError
from hilum.imaging.files import raster
from hilum.run_folder import Run
from hilum.runs import dataset_overlap


def member(
    name: str, dataset: str, images: dict[str, tuple[str, str]], root: str = ""
) -> dataset_overlap.AuditedDataset:
    """A set of images, each name with its patient and the digest of its pixels."""
    rows = [
        dict.fromkeys(COLUMNS)
        | {
            "image_id": f"{dataset}/{image}",
            "dataset": dataset,
            "source": dataset,
            "patient_id": f"{dataset}/{patient}",
            "path": f"{image}.png",
        }
        for image, (patient, _) in images.items()
    ]
    facts = [
        dict.fromkeys(FACTS)
        | {
            "image_id": f"{dataset}/{image}",
            "file_digest": f"{name}{image}",
            "pixel_digest": pixels,
            "minimum": 0,
            "maximum": 255,
            "height": 9,
            "width": 9,
        }
        for image, (_, pixels) in images.items()
    ]
    return dataset_overlap.AuditedDataset(
        name,
        Manifest.of(Path("/nowhere") / (root or name), rows, [], []),
        pl.DataFrame(facts, schema=FACTS),
    )


def reported(*members: dataset_overlap.AuditedDataset) -> dict[str, str]:
    return dict(dataset_overlap.find_overlaps(members)[0].select("rule", "message").iter_rows())


def test_sets_without_anything_in_common_have_no_findings():
    findings, pairs = dataset_overlap.find_overlaps(
        [
            member("a", "folder", {"1": ("p1", "x"), "2": ("p2", "y")}),
            member("b", "folder", {"1": ("p1", "z")}),
        ]
    )
    assert findings.height == 0 and pairs.height == 0


def test_equal_pixels_are_found_whatever_their_names():
    first, second = (
        member("a", "folder", {"1": ("p1", "x"), "2": ("p2", "y")}),
        member("b", "folder", {"9": ("q", "y"), "1": ("r", "z")}),
    )
    findings, pairs = dataset_overlap.find_overlaps([first, second])
    assert findings.select("rule", "severity").rows() == [("set-shared-images", "warning")]
    assert "1 of the 2 images of a are in b (same pixels 1)" in findings["message"][0]
    assert pairs.rows() == [("a", "folder/2", "b", "folder/9", "same pixels")]


def test_names_count_between_sets_that_are_known_to_overlap():
    first = member(
        "a",
        "montgomery",
        {"MCUCXR_0001_0": ("MCUCXR_0001", "x"), "MCUCXR_0002_0": ("MCUCXR_0002", "y")},
    )
    second = member(
        "b",
        "kaggle_masks",
        {"MCUCXR_0001_0": ("MCUCXR_0001", "again"), "MCUCXR_0002_1": ("MCUCXR_0002", "other")},
    )
    rules = reported(first, second)
    assert set(rules) == {"set-known-overlap", "set-shared-images", "set-shared-patients"}
    assert "same name 1" in rules["set-shared-images"] and "all of it" in rules["set-known-overlap"]
    assert (
        "1 patient of a is in b" in rules["set-shared-patients"]
        and "MCUCXR_0002" in rules["set-shared-patients"]
    )


def test_a_known_overlap_is_reported_by_the_name_of_a_folder_where_no_module_reads_the_set():
    first, second = (
        member("a", "nih14", {"1": ("1", "x")}),
        member("b", "folder", {"1": ("1", "y")}, "RSNA-2018"),
    )
    assert list(reported(first, second)) == ["set-known-overlap"]
    assert reported(first, member("b", "folder", {"1": ("1", "y")}, "hospital")) == {}


def test_names_of_unrelated_sets_do_not_count():
    assert (
        reported(member("a", "nih14", {"1": ("1", "x")}), member("b", "kermany", {"1": ("1", "y")}))
        == {}
    )


def test_what_is_found_does_not_depend_on_the_order_of_rows():
    images = {str(n): (f"p{n // 2}", f"x{n % 3}") for n in range(9)}
    first, second = (
        member("a", "nih14", images),
        member("b", "nih14", dict(list(images.items())[:5]), "b"),
    )
    rotated = [
        replace(
            one,
            index=one.index.reverse(),
            manifest=replace(one.manifest, table=one.manifest.table.reverse()),
        )
        for one in (first, second)
    ]
    for before, after in zip(
        dataset_overlap.find_overlaps([first, second]),
        dataset_overlap.find_overlaps(rotated),
        strict=True,
    ):
        assert before.equals(after)


def test_a_segmenter_trained_on_what_another_run_tests_on_is_an_error(tmp_path):
    images = {f"{n:08d}_000": (f"{n}", f"x{n}") for n in range(6)}
    first, second = (
        replace(member(name, "nih14", images, name), run=Run(tmp_path / name)) for name in "ab"
    )
    storage.write_table(
        tmp_path / "a" / "segment" / "training.parquet",
        pl.DataFrame({"model": "lungs", "image_id": [f"nih14/{n:08d}_000" for n in (0, 1, 2)]}),
    )
    parts = pl.DataFrame(
        {
            "image_id": first.images["image_id"],
            "part": ["train", "tune", "test", "test", "train", "train"],
        }
    )
    storage.write_table(tmp_path / "b" / "split.parquet", parts)
    first.run.finish("segment", {}, {"segment/training.parquet": ""}, {})
    second.run.finish("split", {}, {"split.parquet": ""}, {})
    findings, _ = dataset_overlap.find_overlaps([first, second])
    leak = findings.filter(pl.col("rule") == "training-in-test")
    assert leak["severity"].to_list() == ["error"] and findings["rule"][0] == "training-in-test"
    assert (
        "lung segmenter of a was trained on 2 images" in leak["message"][0]
        and "of the 3 that b" in leak["message"][0]
    )
    shutil.rmtree(tmp_path / "a")
    assert "training-in-test" not in dataset_overlap.find_overlaps([first, second])[0]["rule"]


def test_every_source_gets_a_place_of_its_own(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.toml").touch()
    places = dataset_overlap.places(
        [tmp_path / "x" / "data", tmp_path / "y" / "data", tmp_path / "run"], Path("to")
    )
    assert places == [
        ("x-data", Path("to/x-data")),
        ("y-data", Path("to/y-data")),
        (f"{tmp_path.name}-run", None),
    ]
    with pytest.raises(HilumError, match="given twice"):
        dataset_overlap.places([tmp_path, tmp_path], None)


@pytest.fixture
def two(tmp_path) -> list[Path]:
    """Two made-up sets of which the second holds one image of the first, with the same pixels in
    another file.
    """
    folders = [tmp_path / "first", tmp_path / "second"]
    montgomery.example(folders[0], images=4, seed=1)
    kaggle_masks.example(folders[1], images=6, seed=2)
    taken = min((folders[0] / "CXR_png").glob("*.png"))
    at = min((folders[1] / "CXR_png").glob("CHN*.png"))
    raster.write_png(at, np.asarray(raster.read(taken).values))
    return folders


def test_the_verb_audits_each_and_reports_what_they_share(two, tmp_path):
    done = hilum("audit", *two, "--out", tmp_path / "runs", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == ["first", "second", dataset_overlap.BETWEEN]
    rules = {one["rule"]: one for one in found[dataset_overlap.BETWEEN]}
    assert {"set-shared-images", "set-known-overlap"} <= set(rules) and all(
        one["remedy"] for one in rules.values()
    )
    pairs = storage.read_table(tmp_path / "runs" / dataset_overlap.SHARED)
    assert set(pairs["set"]) == {"first"} and set(pairs["kind"]) <= set(dataset_overlap.KINDS)
    again = hilum("audit", *two, "--out", tmp_path / "runs", "--fail-on", "warning")
    assert (
        again.returncode == 1
        and dataset_overlap.BETWEEN in again.stdout
        and "set-known-overlap" in again.stdout
    )
