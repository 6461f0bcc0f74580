"""The audit finds each planted fault, names its image, and leaves clean data alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum import storage
from hilum.audit.checks import file_integrity as checks_of_files
from hilum.config import Data, Pixels, Recipe
from hilum.dataset.manifest import COLUMNS, LABEL_COLUMNS, REMARK_COLUMNS, Manifest
from hilum.dataset.readers import kaggle_masks, montgomery
from hilum.errors import NotFound
from hilum.imaging.files import raster
from hilum.pipeline import audit, cache, ingest
from hilum.run_folder import Run

RADIOGRAPHS = 6


def made_up(**changes: dict[int, object]) -> tuple[Manifest, pl.DataFrame]:
    """A clean set of six images `set/0` to `set/5`, with single cells changed: column={number of
    the image: value}.
    """
    images = [
        dict.fromkeys(COLUMNS)
        | {
            "image_id": f"set/{n}",
            "dataset": "set",
            "source": "set",
            "patient_id": f"set/p{n}",
            "path": f"{n}.png",
            "lung_mask": f"masks/{n}.png",
            "sex": "female",
        }
        for n in range(RADIOGRAPHS)
    ]
    facts = [
        {
            "image_id": f"set/{n}",
            "row": n,
            "signature": "",
            "error": None,
            "file_digest": f"file{n}",
            "pixel_digest": f"pixels{n}",
            "height": 300,
            "width": 280,
            "bits": 8,
            "minimum": 0,
            "maximum": 251,
            "mask_error": None,
            "mask_value_count": 2,
            "mask_form": "binary",
            "right_pixels": 9000,
            "left_pixels": 8000,
            "cached_digest": f"cached{n}",
        }
        for n in range(RADIOGRAPHS)
    ]
    for column, cells in changes.items():
        for n, value in cells.items():
            (images if column in COLUMNS else facts)[n][column] = value
    return Manifest.of(Path("/nowhere"), images, [], []), pl.DataFrame(facts, schema=cache.FACTS)


def labelled(manifest: Manifest, *labels: tuple[int, str, int]) -> Manifest:
    rows = [
        {"image_id": f"set/{n}", "concept": concept, "state": state, "source": "file name"}
        for n, concept, state in labels
    ]
    return replace(manifest, labels=pl.DataFrame(rows, schema=LABEL_COLUMNS))


def remarked(manifest: Manifest, *remarks: tuple[str, str, str, str]) -> Manifest:
    return replace(
        manifest, remarks=pl.DataFrame(list(remarks), schema=REMARK_COLUMNS, orient="row")
    )


def rows_of(found: pl.DataFrame) -> list[tuple]:
    return found.select("rule", "severity", "image_id", "other_image_id").rows()


def audited(root: Path, to: Path) -> pl.DataFrame:
    manifest = ingest.ingest(root)
    return audit.audit(manifest, cache.fill(manifest, Pixels(size=64), to).index)


def files(**changes):
    return rows_of(audit.audit(*made_up(**changes)))


def test_an_image_under_another_kinds_ending_is_reported_by_what_it_holds():
    assert files(kind=dict.fromkeys(range(RADIOGRAPHS), "PNG")) == []
    assert files(kind={n: "JPEG" if n == 2 else "PNG" for n in range(RADIOGRAPHS)}) == [
        ("file-extension", "warning", "set/2", None)
    ]
    assert files(kind={3: "TIFF"}, path={3: "a.TIF"}) == []


def test_an_image_in_colour_is_reported():
    assert files(colour={1: True, 2: False}) == [("image-colour", "warning", "set/1", None)]


@pytest.mark.parametrize(("height", "width"), [(90, 85), (300, 80), (900, 300)])
def test_a_thumbnail_or_a_strip_among_whole_images_is_a_question(height, width):
    assert files(height={4: height}, width={4: width}) == [("image-size", "info", "set/4", None)]


def test_one_depth_unlike_all_others_of_its_source_is_a_question():
    depths = pl.DataFrame(
        {
            "image_id": [f"set/{n:03d}" for n in range(200)],
            "bits": [16 if n == 7 else 8 for n in range(200)],
        }
    )
    images = [
        dict.fromkeys(COLUMNS)
        | {"image_id": name, "dataset": "set", "source": "set", "patient_id": name, "path": name}
        for name in depths["image_id"]
    ]
    facts = pl.DataFrame(depths.with_columns(height=100, width=100).to_dicts(), schema=cache.FACTS)
    found = list(checks_of_files.check(Manifest.of(Path("/nowhere"), images, [], []), facts))
    assert [(it.rule, it.image_id) for it in found] == [("image-depth", "set/007")]


def test_a_clean_set_has_no_issues():
    assert audit.audit(*made_up()).height == 0


NO_MASK = {
    "lung_mask": {4: None},
    "mask_value_count": {4: None},
    "right_pixels": {4: None},
    "left_pixels": {4: None},
}
SPLIT = {"given_part": {0: "train", 1: "train", 2: "train", 3: "tune", 4: "test", 5: "test"}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"error": {2: "2.png: broken"}, "pixel_digest": {2: None}, "minimum": {2: None}},
            ("image-unreadable", "error", "set/2", None),
        ),
        ({"minimum": {2: 7}, "maximum": {2: 7}}, ("image-constant", "error", "set/2", None)),
        ({"minimum": {2: 7}, "maximum": {2: 22}}, ("image-flat", "warning", "set/2", None)),
        (
            {
                "file_digest": {2: "x", 5: "x"},
                "pixel_digest": {2: "y", 5: "y"},
                "patient_id": {5: "set/p2"},
            },
            ("duplicate-file", "warning", "set/5", "set/2"),
        ),
        (
            {"pixel_digest": {2: "y", 5: "y"}, "patient_id": {5: "set/p2"}},
            ("duplicate-pixels", "warning", "set/5", "set/2"),
        ),
        (NO_MASK, ("mask-missing", "info", "set/4", None)),
        (
            {"mask_error": {3: "masks/3.png: mask of 9x9 pixels"}},
            ("mask-unusable", "error", "set/3", None),
        ),
        (
            {"mask_value_count": {3: 30}, "mask_form": {3: "binary; soft edges"}},
            ("mask-not-binary", "warning", "set/3", None),
        ),
        ({"mask_form": {3: "binary; inverted; palette"}}, ("mask-inverted", "info", "set/3", None)),
        (
            {"mask_form": {3: "binary; background unlike its folder"}},
            ("mask-unlike-folder", "warning", "set/3", None),
        ),
        (
            {"mask_value_count": {3: 4}, "mask_form": {3: "label map 1=right 2=left 3=heart"}},
            ("mask-label-map", "info", "set/3", None),
        ),
        (
            {"mask_value_count": {3: 3}, "mask_form": {3: "label map 1=lungs 255=ignore"}},
            ("mask-label-map", "info", "set/3", None),
        ),
        ({"mask_form": {3: "binary; scaled from 150x140"}}, ("mask-scaled", "info", "set/3", None)),
        ({"right_pixels": {3: 0}, "left_pixels": {3: 0}}, ("mask-empty", "warning", "set/3", None)),
        (
            {"right_pixels": {3: 42000}, "left_pixels": {3: 42000}, "mask_value_count": {3: 1}},
            ("mask-empty", "warning", "set/3", None),
        ),
        ({"left_pixels": {3: 0}}, ("mask-one-lung", "warning", "set/3", None)),
        (SPLIT | {"patient_id": {5: "set/p1"}}, ("patient-parts", "error", "set/5", "set/1")),
        (
            {"patient_id": {5: "set/p1"}, "sex": {5: "male"}},
            ("patient-sex", "warning", "set/5", "set/1"),
        ),
    ],
)
def test_a_planted_fault_is_the_one_finding(changes, expected):
    assert rows_of(audit.audit(*made_up(**changes))) == [expected]


def test_a_label_map_of_right_and_left_alone_is_no_finding():
    assert (
        audit.audit(
            *made_up(mask_value_count={3: 3}, mask_form={3: "label map 1=right 2=left"})
        ).height
        == 0
    )


def test_values_just_beyond_few_levels_are_an_image():
    assert "image-flat" not in audit.audit(*made_up(minimum={2: 7}, maximum={2: 23}))["rule"]


def test_a_set_without_masks_is_one_finding_not_one_an_image():
    found = audit.audit(
        *made_up(**{column: dict.fromkeys(range(RADIOGRAPHS)) for column in NO_MASK})
    )
    assert rows_of(found) == [("mask-missing", "info", None, None)]
    assert "6" in found["message"][0]


def test_messages_name_files_and_numbers():
    table = audit.audit(
        *made_up(
            left_pixels={3: 0},
            mask_value_count={1: 17},
            mask_form={1: "binary; soft edges"},
            minimum={2: 7},
            maximum={2: 7},
        )
    )
    reported = dict(table.select("rule", "message").iter_rows())
    assert (
        reported["mask-one-lung"]
        == "masks/3.png: 9000 pixels of the right lung, none of the left one"
    )
    assert reported["mask-not-binary"].startswith("masks/1.png: 17 ")
    assert reported["image-constant"] == "2.png: every pixel has the value 7"


def test_copies_chain_up_to_their_group_and_empty_images_are_no_copies():
    manifest, facts = made_up(
        file_digest={0: "a", 1: "b", 2: "b", 4: "flat", 5: "flat"},
        pixel_digest={0: "y", 1: "y", 2: "y", 4: "flat", 5: "flat"},
        minimum={4: 0, 5: 0},
        maximum={4: 0, 5: 0},
    )
    assert audit.duplicates(audit.audit(manifest, facts)) == [
        ("set/1", "set/0"),
        ("set/2", "set/1"),
    ]


def test_a_copy_under_two_patients_is_reported_unless_nothing_names_the_patients():
    manifest, facts = made_up(pixel_digest={0: "y", 1: "y", 2: "y"}, patient_id={1: "set/p0"})
    assert ("duplicate-patients", "warning", "set/2", "set/0") in rows_of(
        audit.audit(manifest, facts)
    )
    nameless = remarked(manifest, (".", "warning", "no-patients", "nothing names the patients"))
    assert "duplicate-patients" not in audit.audit(nameless, facts)["rule"]


def test_a_copy_in_two_given_parts_is_an_error():
    manifest, facts = made_up(**SPLIT, pixel_digest={0: "y", 1: "y", 5: "y"})
    found = audit.audit(manifest, facts)
    assert rows_of(found)[0] == ("duplicate-parts", "error", "set/5", "set/0")
    assert (found["severity"] == "error").sum() == 1
    assert "train" in found["message"][0] and "test" in found["message"][0]


def test_copies_with_contradictory_labels_are_an_error_and_uncertain_ones_are_not():
    manifest, facts = made_up(pixel_digest={0: "y", 1: "y", 2: "y"})
    found = audit.audit(
        labelled(
            manifest,
            (1, "tuberculosis", 0),
            (2, "tuberculosis", 1),
            (1, "effusion", 1),
            (2, "effusion", -1),
        ),
        facts,
    )
    assert [row for row in rows_of(found) if row[0] == "duplicate-labels"] == [
        ("duplicate-labels", "error", "set/2", "set/1")
    ]
    assert (
        "tuberculosis is present in 2.png and absent in the same image, 1.png"
        in found["message"][0]
    )


@pytest.mark.parametrize(
    ("reading", "concept", "state", "contradicts"),
    [
        ("normal", "tuberculosis", 1, True),
        ("  Normal chest x-ray.", "tuberculosis", 1, True),
        ("Heart and lungs are normal", "pneumonia", 1, True),
        ("no acute abnormality", "effusion", 1, True),
        ("normal", "tuberculosis", 0, False),
        ("normal", "tuberculosis", -1, False),
        ("bilateral PTB", "tuberculosis", -1, False),
        ("pt had previously normal CXR", "tuberculosis", 1, False),
        ("stable CXR since 6M; off Rx", "tuberculosis", 1, False),
        ("abnormal", "tuberculosis", 1, False),
        ("bilateral PTB", "tuberculosis", 0, True),
        ("right upper tuberculous infiltrate", "tuberculosis", 0, True),
        ("no effusion. Active TB of the left apex", "tuberculosis", 0, True),
        ("no evidence of effusion or TB", "tuberculosis", 0, False),
        ("?TB", "tuberculosis", 0, False),
        ("contact with TB; clear lungs", "tuberculosis", 0, False),
        ("TB ruled out", "tuberculosis", 0, False),
        ("tubular heart", "tuberculosis", 0, False),
        ("left effusion", "tuberculosis", 0, False),
        ("left effusion", "effusion", 0, True),
        ("pneumonia of the right lower lobe", "pneumonia", 0, True),
    ],
)
def test_a_label_against_its_reading(reading, concept, state, contradicts):
    manifest, facts = made_up(reading={3: reading})
    found = audit.audit(labelled(manifest, (3, concept, state)), facts)
    assert rows_of(found) == (
        [("label-contradicts-reading", "warning", "set/3", None)] if contradicts else []
    )
    assert all(reading in message for message in found["message"])


def test_a_label_that_was_read_from_the_reading_is_not_against_it():
    manifest, facts = made_up(reading={3: "LUL cavity has closed."})
    labels = labelled(manifest, (3, "cavity", 0)).labels.with_columns(
        words=pl.lit("LUL cavity has closed")
    )
    assert rows_of(audit.audit(replace(manifest, labels=labels), facts)) == []


def test_remarks_of_ingest_keep_their_severity_and_name_the_image():
    manifest, facts = made_up()
    remarks = [
        ("masks/9.png", "warning", "mask-orphan", "there is no image for this mask"),
        ("2.png", "info", "same-patient", "joined with p7"),
        ("3.png", "error", "new-rule", "something of its own"),
    ]
    found = audit.audit(remarked(manifest, *remarks), facts)
    assert rows_of(found) == [
        ("remark", "error", "set/3", None),
        ("mask-orphan", "warning", None, None),
        ("same-patient", "info", "set/2", None),
    ]
    assert found["message"].to_list()[:2] == [
        "3.png: new-rule: something of its own",
        "masks/9.png: there is no image for this mask",
    ]


def test_issues_are_sorted_worst_first_with_a_remedy_each():
    found = audit.audit(
        *made_up(
            **NO_MASK
            | {
                "minimum": {2: 7},
                "maximum": {2: 7},
                "mask_value_count": {0: 5, 4: None},
                "mask_form": {0: "binary; soft edges", 4: None},
            }
        )
    )
    assert found["severity"].to_list() == ["error", "warning", "info"]
    assert found.filter(pl.col("remedy").is_null() | (pl.col("remedy") == "")).height == 0


def test_issues_do_not_depend_on_the_order_of_files():
    manifest, facts = made_up(
        **SPLIT,
        patient_id={5: "set/p1"},
        sex={5: "male"},
        mask_value_count={2: 9, 3: 9},
        mask_form=dict.fromkeys((2, 3), "binary; soft edges"),
        file_digest={0: "f", 1: "f"},
        pixel_digest={0: "y", 1: "y", 4: "y"},
        reading={0: "normal", 1: "TB", 2: "normal"},
    )
    manifest = labelled(
        manifest,
        (0, "tuberculosis", 1),
        (1, "tuberculosis", 0),
        (2, "effusion", 1),
        (4, "tuberculosis", 0),
    )
    manifest = remarked(
        manifest, ("2.png", "info", "dropped", "a"), ("1.png", "info", "dropped", "b")
    )
    straight = audit.audit(manifest, facts)
    assert straight.height > 10
    for seed in range(5):
        tables = {
            name: getattr(manifest, name).sample(fraction=1, shuffle=True, seed=seed)
            for name in ("table", "labels", "remarks")
        }
        mixed = audit.audit(
            replace(manifest, **tables), facts.sample(fraction=1, shuffle=True, seed=seed + 9)
        )
        assert mixed.equals(straight)


@pytest.mark.parametrize(
    ("level", "expected"), [("error", 1), ("warning", 3), ("info", 4), ("never", 0)]
)
def test_failing_counts_a_level_and_all_worse(level, expected):
    found = audit.audit(
        *made_up(
            **NO_MASK
            | {
                "minimum": {2: 7},
                "maximum": {2: 7},
                "mask_value_count": {0: 5, 1: 5, 4: None},
                "mask_form": {0: "binary; soft edges", 1: "binary; soft edges", 4: None},
            }
        )
    )
    assert audit.failing(found, level) == expected


def test_failing_refuses_an_unknown_level_with_the_nearest():
    with pytest.raises(NotFound, match="did you mean 'warning'"):
        audit.failing(audit.audit(*made_up()), "warnings")


def test_made_up_releases_have_no_errors(tmp_path):
    for number, module in enumerate((montgomery, kaggle_masks)):
        module.example(tmp_path / str(number), images=9)
        found = audited(tmp_path / str(number), tmp_path / f"cache{number}")
        assert audit.failing(found, "error") == 0, found["message"].to_list()


def test_planted_faults_of_a_made_up_release_are_found(tmp_path):
    """From 40 images on the example holds a copy under a second patient and a reading against its
    label.
    """
    kaggle_masks.example(tmp_path / "data", images=40)
    readings = {
        path.stem: path.read_text() for path in (tmp_path / "data" / "ClinicalReadings").iterdir()
    }
    contradictory = {
        f"kaggle_masks/{stem}"
        for stem, words in readings.items()
        if words.endswith("\nnormal\n") != stem.endswith("_0")
    }
    found = audited(tmp_path / "data", tmp_path / "cache")
    assert (
        contradictory
        and set(found.filter(pl.col("rule") == "label-contradicts-reading")["image_id"])
        == contradictory
    )
    assert found.filter(pl.col("rule") == "duplicate-patients").select(
        "image_id", "other_image_id"
    ).rows() == audit.duplicates(found)
    assert len(audit.duplicates(found)) == 1


def test_broken_files_are_errors_with_a_remedy_while_the_others_are_cached(tmp_path):
    root = tmp_path / "data"
    montgomery.example(root, images=6)
    radiographs = sorted((root / "CXR_png").iterdir())
    masks = root / "ManualMask" / "leftMask"
    radiographs[0].write_bytes(radiographs[0].read_bytes()[:500])
    radiographs[1].write_text("this is no image\n")
    raster.write_png(masks / radiographs[2].name, np.ones((40, 50), bool))
    manifest = ingest.ingest(root)
    cached = cache.fill(manifest, Pixels(size=64), tmp_path / "cache")
    found = audit.audit(manifest, cached.index).filter(pl.col("severity") == "error")
    ids = [f"montgomery/{path.stem}" for path in radiographs]
    assert found.select("rule", "image_id").rows() == [
        ("image-unreadable", ids[0]),
        ("image-unreadable", ids[1]),
        ("mask-unusable", ids[2]),
    ]
    for message, path in zip(
        found["message"], (radiographs[0], radiographs[1], masks / radiographs[2].name), strict=True
    ):
        assert path.relative_to(root).as_posix() in message and str(root) not in message
    assert all(found["remedy"])
    assert set(cached.readable["image_id"]) == set(ids[2:])


def test_the_step_writes_issues_and_is_made_again_when_pixels_change(tmp_path):
    root, run = tmp_path / "data", Run(tmp_path / "run")
    montgomery.example(root, images=4)
    recipe = Recipe(data=Data(folder=str(root)), pixels=Pixels(size=64))
    quietly = lambda done, total: None  # noqa: E731
    run.finish("ingest", {}, *ingest.make(run, recipe, quietly))
    run.finish("cache", {}, *cache.make(run, recipe, quietly))
    before = audit.made_from(run, recipe)
    made, reported = audit.make(run, recipe, quietly)
    found = storage.read_table(run / "issues.parquet")
    assert made["issues.parquet"] == storage.digest_of_table(found)
    assert reported["error"] == 0 and reported["warning"] + reported["info"] == found.height == sum(
        reported["rules"].values()
    )
    image = next((root / "CXR_png").iterdir())
    image.write_bytes(image.read_bytes()[:300])
    run.finish("cache", {}, *cache.make(run, recipe, quietly))
    assert audit.made_from(run, recipe) != before
    assert audit.make(run, recipe, quietly)[1]["error"] == 1


def test_a_set_of_the_size_of_nih_is_audited():
    count = 112_120
    number = pl.int_range(count, eager=True).cast(pl.String)
    table = pl.DataFrame({"image_id": "nih/" + number}).with_columns(
        dataset=pl.lit("nih"),
        source=pl.lit("nih"),
        patient_id="nih/" + (pl.int_range(count, eager=True) // 4).cast(pl.String),
        path=number + ".png",
        reading=pl.lit("normal"),
    )
    table = table.select(
        table[name] if name in table.columns else pl.lit(None, kind).alias(name)
        for name, kind in COLUMNS.items()
    )
    labels = table.select(
        "image_id",
        concept=pl.lit("effusion"),
        state=pl.lit(0, pl.Int8),
        source=pl.lit("column"),
        words=pl.lit(None, pl.String),
    )
    manifest = replace(Manifest.of(Path("/nowhere"), [], [], []), table=table, labels=labels)
    facts = pl.DataFrame(
        {
            "image_id": "nih/" + number,
            "file_digest": number,
            "pixel_digest": (pl.int_range(count, eager=True) // 2 * 2).cast(pl.String),
        }
    )
    facts = facts.with_columns(
        minimum=pl.lit(0, pl.Int64),
        maximum=pl.lit(255, pl.Int64),
        height=pl.lit(1024, pl.Int64),
        width=pl.lit(1024, pl.Int64),
    )
    facts = facts.select(
        facts[name] if name in facts.columns else pl.lit(None, kind).alias(name)
        for name, kind in cache.FACTS.items()
    )
    found = audit.audit(manifest, facts)
    assert len(audit.duplicates(found)) == count // 2
    assert found["rule"].unique().sort().to_list() == [
        "duplicate-pixels",
        "label-one-state",
        "mask-missing",
    ]
