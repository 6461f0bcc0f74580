"""UniData: DICOM files paired with drawings by UID or CSV, never by name; and the DICOM reader that
it stands on.
"""

import json
import os
from pathlib import Path

import dicom_bytes
import numpy as np
import polars as pl
import pytest
from scipy import ndimage

from hilum import storage
from hilum.annotations import shapes
from hilum.annotations.vocabulary import concepts
from hilum.audit.checks import mask_presence
from hilum.config import Pixels
from hilum.dataset.readers import unidata
from hilum.errors import BadData
from hilum.imaging.files import dicom, image_file, raster
from hilum.imaging.synthetic.dicom_file import write_dicom
from hilum.pipeline import cache
from hilum.pipeline.ingest import ingest, summary

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
real_data = pytest.mark.skipif(
    not (SHARED / "dicom").is_dir(),
    reason="the real radiographs of shared/data are not on this machine",
)
PIXELS = Pixels(size=64)
SIZE = (90, 100)


def made(rng=None, size=SIZE) -> np.ndarray:
    return (rng or np.random.default_rng(0)).integers(0, 4096, size).astype(np.uint16)


def study(
    root: Path,
    name: str,
    number: int,
    *,
    annotation: str | None = "uid",
    objects=(),
    size=SIZE,
    **said,
) -> None:
    """One image and, by default, an annotation named by its SOP Instance UID."""
    write_dicom(
        root / "dicoms" / f"{name}.dcm",
        made(),
        f"1.2.3.4.{number}",
        f"9.8.7.6.{number}",
        **{"PatientID": f"P{number}", **said},
    )
    if annotation:
        path = (
            root / "annotations" / (f"9.8.7.6.{number}.json" if annotation == "uid" else annotation)
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps({"size": {"height": size[0], "width": size[1]}, "objects": list(objects)})
        )


def polygon(term, *points, holes=()):
    """`points` are (x, y), as the files have them."""
    return {
        "geometryType": "polygon",
        "labelerLogin": "reader",
        "classTitle": term,
        "points": {"exterior": [list(p) for p in points], "interior": list(holes)},
    }


BOX = ((10, 20), (40, 20), (40, 60), (10, 60))


def remarks(manifest, rule):
    return sorted(manifest.remarks.filter(pl.col("rule") == rule)["path"])


def labels(manifest, image):
    return dict(
        manifest.labels.filter(pl.col("image_id") == f"unidata/{image}")
        .select("concept", "state")
        .iter_rows()
    )


# ------------------------------------------------------------------------------------------ reading


def test_all_13_classes_of_the_card_are_concepts():
    assert len(unidata.FINDINGS) == 13 == len(set(unidata.FINDINGS.values())) and set(
        unidata.FINDINGS.values()
    ) <= set(concepts())


def test_what_is_drawn_is_present_and_what_is_not_is_absent_by_a_rule_of_its_own(tmp_path):
    study(
        tmp_path,
        "a",
        1,
        objects=[
            polygon("Fibrosis", *BOX),
            polygon("Fibrosis", *BOX),
            polygon("Nodule/mass", *BOX),
            polygon("Lungs", *BOX),
        ],
    )
    manifest = ingest(tmp_path)
    rules = manifest.labels.group_by("rule", "state").len().sort("rule").rows()
    assert rules == [("drawn", 1, 2), ("not drawn", 0, 11)]
    assert [concept for concept, state in labels(manifest, "a").items() if state == 1] == [
        "fibrosis",
        "lung_lesion",
    ]
    assert set(manifest.labels.filter(pl.col("state") == 1)["source"]) == {
        "annotations/9.8.7.6.1.json object 1",
        "annotations/9.8.7.6.1.json object 3",
    }


def test_a_narrower_finding_leaves_the_wider_class_open(tmp_path):
    study(tmp_path, "a", 1, objects=[polygon("Healed rib fracture", *BOX), polygon("nodule", *BOX)])
    reported = labels(ingest(tmp_path), "a")
    assert reported["healed_rib_fracture"] == reported["nodule"] == 1 and not {
        "rib_fracture",
        "lung_lesion",
    } & set(reported)


def test_polygons_keep_their_points_holes_and_author(tmp_path):
    study(
        tmp_path,
        "a",
        1,
        objects=[polygon("Atelectasis", *BOX, holes=[[[15, 25], [20, 25], [20, 30]]])],
    )
    row = ingest(tmp_path).shapes.row(0, named=True)
    assert shapes.from_json(row["shape"]) == shapes.Polygon(
        ((20, 10), (20, 40), (60, 40), (60, 10)), (((25, 15), (25, 20), (30, 20)),)
    )
    assert (row["concept"], row["author"]) == ("atelectasis", "reader")


def test_the_header_states_patient_sex_age_view_spacing_and_size(tmp_path):
    study(tmp_path, "a", 1, PatientSex="F", PatientAge="018M", PixelSpacing=[0.2, 0.3])
    row = ingest(tmp_path).table.row(0, named=True)
    expected = ("unidata/P1", "female", 1.5, "PA", 0.2, 0.3, *SIZE, "1.2.3.4.1")
    assert (
        tuple(
            row[key]
            for key in (
                "patient_id",
                "sex",
                "age_years",
                "view",
                "row_spacing_mm",
                "column_spacing_mm",
                "stated_height",
                "stated_width",
                "study",
            )
        )
        == expected
    )


# ------------------------------------------------------------------------------------------ pairing


@pytest.mark.parametrize("uid", ["9.8.7.6.1", "1.2.3.4.1.1", "1.2.3.4.1"])
def test_an_annotation_is_paired_by_any_of_the_headers_uids_in_its_name(tmp_path, uid):
    study(tmp_path, "a", 1, annotation=f"{uid}.json", objects=[polygon("Fibrosis", *BOX)])
    study(tmp_path, "b", 2, annotation=None)
    manifest = ingest(tmp_path)
    assert (
        labels(manifest, "a")["fibrosis"] == 1
        and labels(manifest, "b") == {}
        and remarks(manifest, "annotation-missing") == ["dicoms/b.dcm"]
    )


def test_an_annotation_is_paired_by_a_uid_inside_it(tmp_path):
    study(tmp_path, "a", 1, annotation="x.json")
    path = tmp_path / "annotations" / "x.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": "9.8.7.6.1.dcm"}))
    assert len(labels(ingest(tmp_path), "a")) == 13


def test_equal_names_pair_nothing(tmp_path):
    study(tmp_path, "a", 1, annotation="a.json", objects=[polygon("Fibrosis", *BOX)])
    study(tmp_path, "9.8.7.6.3", 2, annotation=None)
    study(tmp_path, "c", 3, objects=[polygon("Atelectasis", *BOX)])
    manifest = ingest(tmp_path)
    assert remarks(manifest, "annotation-unpaired") == ["annotations/a.json"]
    assert (
        labels(manifest, "a") == labels(manifest, "9.8.7.6.3") == {}
        and labels(manifest, "c")["atelectasis"] == 1
    )


def test_the_csv_pairs_by_links_and_gives_what_headers_lack(tmp_path):
    study(tmp_path, "a", 1, annotation="x.json", objects=[polygon("Fibrosis", *BOX)], PatientID="")
    (tmp_path / "list.csv").write_text(
        "patient;sex;age;dicom;json\nQ7;F;41;https://host/dl/a.dcm?x=1;annotations/x.json\n"
    )
    manifest = ingest(tmp_path)
    row = manifest.table.row(0, named=True)
    assert labels(manifest, "a")["fibrosis"] == 1 and (
        row["patient_id"],
        row["sex"],
        row["age_years"],
    ) == ("unidata/Q7", "female", 41)


def test_a_uid_of_several_images_pairs_nothing_unless_the_csv_says_which(tmp_path):
    study(tmp_path, "a", 1, annotation="1.2.3.4.1.json")
    write_dicom(tmp_path / "dicoms" / "b.dcm", made(), "1.2.3.4.1", "9.8.7.6.2", PatientID="P1")
    manifest = ingest(tmp_path)
    assert (
        remarks(manifest, "annotation-unpaired") == ["annotations/1.2.3.4.1.json"]
        and manifest.labels.height == 0
    )
    (tmp_path / "list.csv").write_text("dicom,json\nb.dcm,1.2.3.4.1.json\n")
    assert len(labels(ingest(tmp_path), "b")) == 13


def test_one_patient_id_on_all_studies_is_not_taken_for_one_person(tmp_path):
    for number, name in enumerate("abc"):
        study(tmp_path, name, number, PatientID="ANONYMOUS")
    manifest = ingest(tmp_path)
    assert (
        manifest.table["patient_id"].n_unique() == 3
        and "names nobody"
        in manifest.remarks.filter(pl.col("rule") == "no-patients")["message"].str.join(" ")[0]
    )


# -------------------------------------------------------------------------------------- wrong input


def test_all_faults_are_reported_at_once_with_file_and_place(tmp_path):
    study(tmp_path, "a", 1, objects=[polygon("Fibrosis", *BOX)])
    half = tmp_path / "annotations" / "9.8.7.6.1.json"
    half.write_text(half.read_text()[:60])
    study(tmp_path, "b", 2, size=(100, 90))
    study(
        tmp_path,
        "c",
        3,
        objects=[
            polygon("Fibrosis", (10, 10), (40, 40), (40, 10), (10, 40)),
            polygon("Fibrosis", (10, 10), (140, 10), (40, 40)),
        ],
    )
    study(tmp_path, "d", 3, annotation="1.2.3.4.3.json", objects=[polygon("Pseudonodule", *BOX)])
    study(
        tmp_path,
        "e",
        5,
        objects=[
            {"geometryType": "polygon", "points": {}},
            {"geometryType": "cuboid", "classTitle": "Fibrosis"},
        ],
    )
    (tmp_path / "dicoms" / "f.dcm").write_bytes(
        b"\0" * 128 + b"DICM" + b"rubbish that is no header"
    )
    (tmp_path / "list.csv").write_text("link\n../a.dcm\n/etc/b.dcm\n")
    with pytest.raises(BadData) as raised:
        ingest(tmp_path)
    expected = (
        "annotations/9.8.7.6.1.json line 1 column",
        "annotations/9.8.7.6.2.json: is not drawn for dicoms/b.dcm: the coordinates are given"
        " for 100x90 pixels (height x width), the file has 90x100",
        "annotations/9.8.7.6.3.json: object 1 (Fibrosis): the outline crosses",
        "object 2 (Fibrosis): reaches outside",
        "dicoms/d.dcm: has the SOP Instance UID 9.8.7.6.3 of dicoms/c.dcm",
        "9.8.7.6.5.json object 1: has no classTitle",
        "object 2 (Fibrosis)",
        "dicoms/f.dcm: its header is broken or cut short",
        "list.csv line 2: '../a.dcm' leads out",
        "list.csv line 3: '/etc/b.dcm' leads out",
        "'Pseudonodule' of 1 objects is no term",
    )
    for words in expected:
        assert words in str(raised.value), words


def test_two_annotations_of_one_image_are_refused(tmp_path):
    study(tmp_path, "a", 1)
    study(tmp_path, "a", 1, annotation="1.2.3.4.1.json")
    with pytest.raises(
        BadData,
        match=(
            r"9\.8\.7\.6\.1\.json: belongs to dicoms/a\.dcm as annotations/1\.2\.3\.4\.1\.json "
            r"does"
        ),
    ):
        ingest(tmp_path)


def test_a_csv_that_contradicts_a_uid_is_refused(tmp_path):
    study(tmp_path, "a", 1)
    study(tmp_path, "b", 2, annotation=None)
    (tmp_path / "list.csv").write_text("dicom,json\nb.dcm,9.8.7.6.1.json\n")
    with pytest.raises(
        BadData,
        match=r"list\.csv line 2: names dicoms/b\.dcm with .* whose UID is that of dicoms/a\.dcm",
    ):
        ingest(tmp_path)


def test_a_class_that_is_not_known_is_an_error_with_its_count(tmp_path):
    for number, name in enumerate("ab"):
        study(tmp_path, name, number, objects=[polygon("Scoliosis, mild", *BOX)])
    with pytest.raises(BadData, match="'Scoliosis, mild' on"):
        ingest(tmp_path)


def test_outlines_that_cross_are_reported_kept_as_findings_and_not_used_as_lungs(tmp_path):
    crossed = ((10, 10), (80, 80), (80, 10), (10, 80))
    study(tmp_path, "a", 1, objects=[polygon("Fibrosis", *crossed), polygon("Lungs", *crossed)])
    manifest = ingest(tmp_path)
    reported = manifest.remarks.filter(pl.col("rule") == "shape-fault")
    assert (
        reported["severity"].to_list() == ["error"] * 2
        and "object 1 (Fibrosis): " in reported["message"][0]
        and manifest.shapes.height == 2
    )
    index = cache.fill(manifest, PIXELS, tmp_path / "cache").index
    assert (
        "9.8.7.6.1.json object 2: the outline crosses" in index["mask_error"][0]
        and index["mask_value_count"][0] is None
    )


# ----------------------------------------------------------------------------------- made-up copies


def patients_by_state(manifest) -> dict[int, dict[str, int]]:
    """Number of patients by state and concept."""
    known = manifest.labels.join(manifest.table.select("image_id", "patient_id"), on="image_id")
    counted = known.group_by("state", "concept").agg(pl.col("patient_id").n_unique())
    return {
        state: dict(
            counted.filter(pl.col("state") == state).select("concept", "patient_id").iter_rows()
        )
        for state in (0, 1)
    }


@pytest.fixture(scope="module", params=[1])
def large_set(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unidata")
    unidata.example(folder, images=150, seed=request.param)
    return ingest(folder)


def test_of_150_made_up_images_each_class_has_patients_enough_with_and_without_it(large_set):
    counted = patients_by_state(large_set)
    assert all(
        set(counted[state]) == set(unidata.FINDINGS.values()) and min(counted[state].values()) >= 6
        for state in (0, 1)
    )


def test_a_made_up_image_may_have_several_findings_or_none_and_every_polygon_is_sound(large_set):
    found = large_set.labels.group_by("image_id").agg(pl.col("state").sum())["state"]
    assert (found == 0).sum() >= 20 and (found > 1).sum() >= 40
    assert not remarks(large_set, "shape-fault")


def test_of_40_made_up_images_about_half_of_the_classes_have_five_patients(tmp_path):
    unidata.example(tmp_path, images=40, seed=1)
    counted = patients_by_state(ingest(tmp_path))[1]
    assert len(counted) == 13 and 6 <= sum(count >= 5 for count in counted.values()) <= 8


def test_polygons_of_a_made_up_image_lie_where_its_findings_are_drawn(tmp_path):
    """Petrifications are dense: their polygons hold what is brighter than what surrounds them."""
    unidata.example(tmp_path, images=40, seed=1)
    manifest = ingest(tmp_path)
    paths, brighter = dict(manifest.table.select("image_id", "path").iter_rows()), []
    for image, text in (
        manifest.shapes.filter(pl.col("concept") == "calcification")
        .select("image_id", "shape")
        .iter_rows()
    ):
        pixels = image_file.read(tmp_path / paths[image]).radiograph().pixels
        dots = shapes.from_json(text).to_mask(pixels.shape)
        around = ndimage.binary_dilation(dots, iterations=5) & ~dots
        brighter.append(pixels[dots].mean() - pixels[around].mean())
    assert len(brighter) > 5 and np.median(brighter) > 0.05


# --------------------------------------------------------------------------------- drawn lung masks


def test_reference_masks_become_cached_masks_with_the_drawn_number_of_pixels(tmp_path):
    unidata.example(tmp_path / "data", images=8, seed=2)
    manifest = ingest(tmp_path / "data")
    index = cache.fill(manifest, PIXELS, tmp_path / "cache")
    drawn = manifest.shapes.filter(pl.col("concept") == "lungs")
    assert 0 < index.with_mask.height == drawn["image_id"].n_unique() < 8 and set(
        index.with_mask["mask_value_count"]
    ) == {2}
    for image, height, width, right, left in index.with_mask.select(
        "image_id", "height", "width", "right_pixels", "left_pixels"
    ).rows():
        parts = [
            shapes.from_json(text).to_mask((height, width))
            for text in drawn.filter(pl.col("image_id") == image)["shape"]
        ]
        assert right + left == np.any(parts, axis=0).sum()
        row = index.rows([image])[0]
        columns = [np.flatnonzero((index.masks[row] == side).any(axis=0)).mean() for side in (1, 2)]
        assert columns[0] < columns[1]


def test_the_audit_knows_reference_masks_from_missing_ones(tmp_path):
    study(tmp_path, "a", 1, objects=[polygon("Lungs", *BOX)])
    study(tmp_path, "b", 2)
    manifest = ingest(tmp_path)
    facts = cache.fill(manifest, PIXELS, tmp_path / "cache").index
    found = {
        (finding.rule, finding.image_id): finding.message
        for finding in mask_presence.check(manifest, facts)
    }
    assert (
        set(found) == {("mask-missing", "unidata/b"), ("mask-one-lung", "unidata/a")}
        and "annotated on dicoms/a.dcm" in found["mask-one-lung", "unidata/a"]
    )
    assert summary(manifest)["with lung mask"] == 1


def test_a_side_that_is_named_is_believed(tmp_path):
    mirrored = [
        polygon("Left lung", (10, 10), (40, 10), (40, 60), (10, 60)),
        polygon("Right lung", (50, 10), (70, 10), (70, 60), (50, 60)),
    ]
    study(tmp_path, "a", 1, objects=mirrored)
    assert cache.fill(ingest(tmp_path), PIXELS, tmp_path / "cache").index.select(
        "right_pixels", "left_pixels"
    ).row(0) == (1000, 1500)


def test_a_changed_outline_is_painted_anew_and_the_others_are_left(tmp_path, monkeypatch):
    for number, name in enumerate("ab"):
        study(tmp_path, name, number, objects=[polygon("Lungs", *BOX)])
    cache.fill(ingest(tmp_path), PIXELS, tmp_path / "cache")
    study(
        tmp_path,
        "b",
        1,
        annotation="uid",
        objects=[polygon("Lungs", (10, 20), (30, 20), (30, 60), (10, 60))],
    )
    os.utime(tmp_path / "dicoms" / "b.dcm", ns=(0, 0))
    before = ingest(tmp_path)
    cache.fill(before, PIXELS, tmp_path / "cache")
    seen, read = [], image_file.read
    monkeypatch.setattr(
        image_file, "read", lambda path, *more: seen.append(path.name) or read(path, *more)
    )
    (tmp_path / "annotations" / "9.8.7.6.1.json").write_text(
        json.dumps(
            {
                "size": {"height": 90, "width": 100},
                "objects": [polygon("Lungs", (10, 20), (20, 20), (20, 60), (10, 60))],
            }
        )
    )
    index = cache.fill(ingest(tmp_path), PIXELS, tmp_path / "cache").index
    assert seen == ["b.dcm"] and (index["right_pixels"] + index["left_pixels"]).to_list() == [
        1200,
        400,
    ]


def test_a_mask_file_goes_before_what_is_drawn(tmp_path):
    study(tmp_path, "a", 1, objects=[polygon("Lungs", *BOX)])
    mask = np.zeros(SIZE, bool)
    mask[10:20, 10:30] = mask[10:20, 60:80] = True
    raster.write_png(tmp_path / "mask.png", mask)
    manifest = ingest(tmp_path)
    object.__setattr__(manifest, "table", manifest.table.with_columns(lung_mask=pl.lit("mask.png")))
    index = cache.fill(manifest, PIXELS, tmp_path / "cache").index
    assert index.select("right_pixels", "left_pixels").row(0) == (200, 200)


# -------------------------------------------------------------------------------------------- DICOM


def write(path: Path, stored: np.ndarray, **said) -> Path:
    """A DICOM file whose header says `said` on top of `write_dicom`'s."""
    from pydicom import dcmread

    write_dicom(path, np.zeros(stored.shape, np.uint16), "1.2.3.4", "1.2.3.5")
    dataset = dcmread(path)
    dataset.PixelData = stored.tobytes()
    for keyword, value in said.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    if "PixelPaddingValue" in dataset:
        dataset["PixelPaddingValue"].VR = "US"
    dataset.save_as(path)
    return path


RAMP = np.tile(np.arange(0, 4096, 16, dtype=np.uint16), (80, 1))
BARE = {"WindowCenter": None, "WindowWidth": None}


def shown(path: Path) -> np.ndarray:
    """The first row of what is shown."""
    return image_file.read(path).radiograph().pixels[0].astype(np.float64)


def test_stored_values_are_kept_and_the_first_window_is_the_standards(tmp_path):
    file = dicom.read(
        write(tmp_path / "a.dcm", RAMP, WindowCenter=[1000, 2000], WindowWidth=[501, 4000])
    )
    assert np.array_equal(file.values, RAMP) and file.values.dtype == np.uint16
    x = RAMP[0].astype(float)  # PS3.3 C.11.2.1.2.1, written out
    expected = np.where(x <= 999.5 - 250, 0, np.where(x > 999.5 + 250, 1, (x - 999.5) / 500 + 0.5))
    assert np.allclose(file.radiograph().pixels[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("LINEAR_EXACT", lambda x: np.clip((x - 1000) / 500 + 0.5, 0, 1)),
        ("SIGMOID", lambda x: 1 / (1 + np.exp(-4 * (x - 1000) / 500))),
    ],
)
def test_the_other_window_functions(tmp_path, function, expected):
    path = write(
        tmp_path / "a.dcm", RAMP, WindowCenter=1000, WindowWidth=500, VOILUTFunction=function
    )
    assert np.allclose(shown(path), expected(RAMP[0].astype(float)), atol=1e-6)


def test_without_a_window_the_values_found_are_stretched(tmp_path):
    path = write(tmp_path / "a.dcm", RAMP // 2 + 100, **BARE)
    assert np.allclose(shown(path), np.linspace(0, 1, 256), atol=1e-3)


def test_a_window_beside_all_values_is_not_used(tmp_path):
    path = write(tmp_path / "a.dcm", RAMP // 2 + 1000, WindowCenter=10, WindowWidth=20)
    file = dicom.read(path)
    assert np.ptp(shown(path)) == 1 and any(
        "shows no contrast" in line for line in file.processing_log
    )


def test_monochrome1_is_inverted(tmp_path):
    plain, rotated = (
        write(tmp_path / f"{kind}.dcm", RAMP, PhotometricInterpretation=kind)
        for kind in ("MONOCHROME2", "MONOCHROME1")
    )
    assert (
        np.allclose(shown(plain), 1 - shown(rotated), atol=1e-6)
        and shown(rotated)[0] > shown(rotated)[-1]
    )


def test_signed_values_and_rescale_come_before_the_window(tmp_path):
    stored = (RAMP.astype(np.int16) - 2048).astype("<i2")
    path = write(
        tmp_path / "a.dcm",
        stored,
        PixelRepresentation=1,
        RescaleSlope=2,
        RescaleIntercept=10,
        WindowCenter=10.5,
        WindowWidth=4097,
    )
    x = stored[0].astype(float) * 2 + 10
    assert np.allclose(shown(path), np.clip((x - 10) / 4096 + 0.5, 0, 1), atol=1e-6)
    assert np.array_equal(dicom.read(path).values, RAMP)


def test_a_falling_rescale_turns_the_image(tmp_path):
    path = write(tmp_path / "a.dcm", RAMP, RescaleSlope=-1, RescaleIntercept=4095, **BARE)
    assert np.allclose(shown(path), np.linspace(1, 0, 256), atol=1e-6)


@pytest.mark.parametrize("rotated", [False, True])
def test_padding_is_black_and_does_not_count_for_the_stretch(tmp_path, rotated):
    stored = RAMP.copy()
    stored[:, :20] = 4095
    stored[:, 20:] = stored[:, 20:] // 4
    kind = "MONOCHROME1" if rotated else "MONOCHROME2"
    row = shown(
        write(
            tmp_path / "a.dcm",
            stored,
            PixelPaddingValue=4095,
            PhotometricInterpretation=kind,
            **BARE,
        )
    )
    assert (
        not row[:20].any()
        and np.isclose(row[20:].max(), 1)
        and np.isclose(row[20:].min(), 0, atol=1e-6)
    )


def test_unused_high_bits_are_not_part_of_the_value(tmp_path):
    assert np.array_equal(dicom.read(write(tmp_path / "a.dcm", RAMP | 0x8000)).values, RAMP)


def test_modality_and_voi_luts_are_looked_up(tmp_path):
    from pydicom import Dataset

    def lut(entries, first):
        item = Dataset()
        item.LUTDescriptor, item.LUTData = [len(entries), first, 12], entries
        item["LUTData"].VR = "US"
        return item

    modality, voi = lut(list(range(4095, -1, -1)), 0), lut([0] * 100 + list(range(4096)), 0)
    modality.ModalityLUTType = "US"
    path = write(
        tmp_path / "a.dcm", RAMP, ModalityLUTSequence=[modality], VOILUTSequence=[voi], **BARE
    )
    x = 4095 - RAMP[0].astype(int)
    assert np.allclose(shown(path), np.maximum(x - 100, 0) / 4095, atol=1e-6)


@pytest.mark.parametrize("codec", ["jpeg2k", "jpegls", "ljpeg", "rle"])
def test_lossless_codecs_give_the_values_back(tmp_path, codec):
    import imagecodecs
    from pydicom import dcmread
    from pydicom.encaps import encapsulate

    path = write(tmp_path / "a.dcm", made())
    dataset = dcmread(path)
    if codec == "rle":
        dataset.compress("1.2.840.10008.1.2.5")
    else:
        syntax = {
            "jpeg2k": "1.2.840.10008.1.2.4.90",
            "jpegls": "1.2.840.10008.1.2.4.80",
            "ljpeg": "1.2.840.10008.1.2.4.70",
        }[codec]
        options = {
            "jpeg2k": {"level": 0, "codecformat": "j2k", "reversible": True},
            "jpegls": {},
            "ljpeg": {"bitspersample": 12},
        }[codec]
        dataset.PixelData = encapsulate(
            [getattr(imagecodecs, f"{codec}_encode")(made(), **options)]
        )
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    assert np.array_equal(dicom.read(path).values, made())


def test_one_image_as_png_and_as_dicom_has_one_pixel_digest(tmp_path):
    import imagecodecs

    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(made()))
    first, second = (
        image_file.read(tmp_path / "a.png"),
        image_file.read(write(tmp_path / "b.dcm", made())),
    )
    assert first.pixel_digest == second.pixel_digest and first.file_digest != second.file_digest


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("high", "kind"), [(1 << 12, np.uint16), (1 << 16, np.uint16), (256, np.uint8)]
)
@pytest.mark.parametrize("size", [(9, 11), (701, 523)])
def test_digests_taken_while_a_file_is_passed_once_are_those_of_its_bytes_and_values(
    tmp_path, order, high, kind, size
):
    stored = np.random.default_rng(0).integers(0, high, size).astype(kind)
    syntax = "1.2.840.10008.1.2.1" if order == "<" else "1.2.840.10008.1.2.2"
    bits = 8 if kind == np.uint8 else 12
    behind = [(0xFFFCFFFC, b"OB", b"zeros\0")]  # trailing padding
    elements = dicom_bytes.image(stored, bits, order=order, more=behind)
    content = dicom_bytes.meta(syntax) + dicom_bytes.data_set(elements, order=order)
    (tmp_path / "a.dcm").write_bytes(content)
    found = dicom.read(tmp_path / "a.dcm")
    assert np.array_equal(found.values, stored & ((1 << bits) - 1))
    assert found.file_digest == storage.content_digest(content)
    assert found.pixel_digest == raster.digest_of_pixels(stored & kind((1 << bits) - 1))


def test_the_bytes_and_not_the_name_say_what_a_file_is(tmp_path):
    assert image_file.read(write(tmp_path / "a.png", RAMP)).values.shape == (80, 256)
    raster.write_png(tmp_path / "b.dcm", np.zeros((70, 80), np.uint8))
    assert isinstance(image_file.read(tmp_path / "b.dcm"), raster.Raster)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"NumberOfFrames": 2}, "holds multi-frame image of 2 frames"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "its pixels are RGB"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "32 bits stored in 32"),
        ({"PixelData": None}, "holds no pixel data"),
        ({"Rows": 900}, "broken or cut short"),
        ({"Rows": 60_000, "Columns": 60_000}, "60000x60000"),
        ({"BitsStored": None}, "BitsStored"),
    ],
)
def test_what_is_no_single_grey_image_is_refused_by_name(tmp_path, said, words):
    with pytest.raises(BadData, match=words) as raised:
        dicom.read(write(tmp_path / "a.dcm", RAMP, **said))
    assert "a.dcm" in str(raised.value)


def test_a_file_cut_anywhere_is_refused_or_whole(tmp_path):
    whole = write(tmp_path / "a.dcm", RAMP).read_bytes()
    cut = tmp_path / "cut.dcm"
    for length in (
        *range(132, len(whole) - len(RAMP.tobytes()), 37),
        len(whole) - 2,
        len(whole) // 2,
    ):
        cut.write_bytes(whole[:length])
        with pytest.raises(BadData, match="cut.dcm"):
            dicom.read(cut)


# ---------------------------------------------------------------------------------------- real data


@real_data
def test_real_dicom_files_are_read_or_refused_cleanly():
    refused = []
    for path in sorted((SHARED / "dicom").glob("*.dcm")):
        try:
            pixels = image_file.read(path).radiograph().pixels
            assert (
                pixels.dtype == np.float32
                and pixels.min() >= 0
                and pixels.max() <= 1
                and np.ptp(pixels) > 0.3
            ), path.name
        except BadData as fault:
            refused.append(path.name)
            assert path.name in str(fault)
    assert refused == ["966.dcm"]


def test_polygons_for_a_larger_image_are_scaled_to_its_copy_and_reported(tmp_path):
    half = ((20, 40), (80, 40), (80, 120), (20, 120))
    study(tmp_path, "a", 1, objects=[polygon("Fibrosis", *BOX)])
    study(tmp_path, "b", 2, objects=[polygon("Fibrosis", *half)], size=(SIZE[0] * 2, SIZE[1] * 2))
    manifest = ingest(tmp_path)
    first, second = manifest.shapes["shape"]
    assert first == second and remarks(manifest, "drawing-scaled") == ["annotations/9.8.7.6.2.json"]
