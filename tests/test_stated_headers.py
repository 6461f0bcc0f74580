"""View, body part and modality as headers and tables state them: in every stage, and in
the split.
"""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest
from dicom_files import write
from test_audit import made_up
from test_report import do, make_up_models, page_of

from hilum import storage
from hilum.audit.checks import acquisition as check
from hilum.config import Data, Evaluate, LungCrop, Pixels, Recipe, Split
from hilum.dataset.manifest import COLUMNS, Manifest
from hilum.errors import Mismatch, TooFew
from hilum.imaging.files import raster
from hilum.inference import orientation
from hilum.pipeline import (
    _selection,
    audit,
    cache,
    crop,
    evaluate,
    ingest,
    patient_groups,
    predict,
    split,
)
from hilum.pipeline.cache import FACTS
from hilum.reporting import report
from hilum.run_folder import Run
from hilum.runs import export, reproduce

EXCLUDED = {"lateral view": 8, "body part HAND": 2, "modality CT": 1}


def draw(number: int) -> np.ndarray:
    """A small image of its own, uint16 (70, 60) below 4096."""
    return np.random.default_rng(number).integers(0, 4096, (70, 60), np.uint16)


def hospital(root, patients: int = 24) -> None:
    """Write a PA of each patient, a lateral of every third, two hands, a CT; some without body
    part.
    """
    for number in range(patients):
        folder = root / ("PNEUMONIA" if number % 2 else "NORMAL")
        folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "PatientID": f"P{number}",
            "PatientSex": "F",
            "PatientAge": "041Y",
            "ImagerPixelSpacing": [5, 5],
            "Modality": "DX",
        }
        facts |= {"BodyPartExamined": "THORAX"} if number % 4 else {}
        more = [({"ViewPosition": "PA", "ImageLaterality": "U"}, "a")]
        more += [({"ViewPosition": "LL"}, "b")] if number % 3 == 0 else []
        more += [({"BodyPartExamined": "MANO"}, "c")] if number in (1, 2) else []
        more += [({"Modality": "CT"}, "d")] if number == 5 else []
        for kind, (said, name) in enumerate(more):
            uid = f"1.2.{number + 1}.{kind + 1}"
            write(
                folder / f"p{number:02}{name}.dcm",
                draw(10 * number + kind),
                bits=12,
                SOPInstanceUID=uid,
                **{**facts, **said},
            )


def recipe_of(data, **changes) -> Recipe:
    dealt = {"train": 0.5, "tune": 0.2, "test": 0.3, "min_per_class": 1, **changes}
    return Recipe(
        data=Data(str(data)),
        pixels=Pixels(size=64),
        crop=LungCrop(size=64),
        split=Split(**dealt),
        evaluate=Evaluate(bootstrap=100),
    )


def divided(data, to, **changes) -> tuple[Run, Recipe]:
    """The steps up to split."""
    run, recipe = Run(to), recipe_of(data, **changes)
    run.write_recipe(recipe)
    for name, step in {"ingest": ingest, "cache": cache, "audit": audit, "split": split}.items():
        do(run, recipe, name, step)
    return run, recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("hospital") / "hospital"
    hospital(root)
    return root


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run with every stage but training, whose scores are invented."""
    run, recipe = divided(data, tmp_path_factory.mktemp("run") / "run")
    make_up_models(run, recipe)
    do(run, recipe, "evaluate", evaluate)
    return run, recipe


def test_what_headers_state_stands_in_the_table(whole):
    rows = {
        row["path"].rpartition("/")[2]: row
        for row in Manifest.read(whole[0].folder).table.iter_rows(named=True)
    }
    reported = (
        "view",
        "body_part",
        "modality",
        "laterality",
        "age_years",
        "row_spacing_mm",
        "column_spacing_mm",
    )
    assert [rows["p01a.dcm"][name] for name in reported] == [
        "PA",
        "CHEST",
        "DX",
        "U",
        41.0,
        5.0,
        5.0,
    ]
    assert [
        rows["p00a.dcm"]["body_part"],
        rows["p03b.dcm"]["view"],
        rows["p01c.dcm"]["body_part"],
    ] == [None, "LATERAL", "HAND"]
    assert rows["p05d.dcm"]["modality"] == "CT"


def test_laterals_other_parts_and_other_modalities_are_in_no_part_and_counted_by_reason(whole):
    run, _ = whole
    dealt = storage.read_table(run / "split.parquet")["image_id"]
    assert dealt.str.ends_with("a").all() and len(dealt) == 24
    summary = run.summary("split")
    assert summary[_selection.EXCLUDED] == EXCLUDED
    assert summary[_selection.NOT_STATED] == {"body part": 6}
    assert run.summary("ingest")["stated not to be frontal chest radiographs"] == EXCLUDED


def test_no_later_stage_sees_an_image_that_is_in_no_part(whole):
    run, _ = whole
    dealt = set(storage.read_table(run / "split.parquet")["image_id"])
    assert set(storage.read_table(run / crop.INDEX)["image_id"]) == dealt
    assert set(storage.read_table(run / predict.SCORES)["image_id"]) < dealt
    assert set(storage.read_table(run / evaluate.OVERLAP)["image_id"]) <= dealt


def test_the_audit_names_each_image_that_is_left_out(whole):
    found = storage.read_table(whole[0] / audit.ISSUES).filter(
        pl.col("rule").is_in([rule.name for rule in (check.VIEW, check.BODY_PART, check.MODALITY)])
    )
    assert found["severity"].unique().to_list() == ["info"] and found.height == 11
    messages = found.filter(pl.col("rule") == check.BODY_PART.name)["message"].to_list()
    assert messages == [
        f"{path}: body part HAND, in no part of a split"
        for path in ("NORMAL/p02c.dcm", "PNEUMONIA/p01c.dcm")
    ]


def test_the_report_says_who_is_left_out_why_and_how_to_have_them_back(whole):
    page = page_of(*whole)
    for words in (
        "lateral view (8), body part HAND (2), modality CT (1)",
        "the data state it: lateral view",
        "NORMAL/p00b.dcm",
        "PA 24, LATERAL 8, not stated 3",
        "Included although not stated: body part (6 images)",
        "[split] include",
    ):
        assert words in page, words
    assert "excluded by the view, body part or modality" in page


def test_a_finished_run_with_images_in_no_part_is_verified(whole):
    run, recipe = whole
    report.make(run, recipe, lambda done, total: None)
    assert {
        one.what: one.report
        for one in reproduce.reproduce(run)
        if not one.holds and one.what in ("split", "leaks", "figures")
    } == {}


@pytest.mark.parametrize("form", ["csv_tables", "imagefolder", "coco", "torchxrayvision"])
def test_an_export_by_part_leaves_them_out_and_says_so(form, whole, tmp_path):
    reported = export.export(form, whole[0].folder, tmp_path / "out")
    assert (reported["images"], reported["not in the split"], reported["of these, stated"]) == (
        24,
        11,
        EXCLUDED,
    )


def test_an_export_of_a_folder_has_them_and_says_so(data, tmp_path):
    reported = export.export("csv_tables", data, tmp_path / "out")
    assert (reported["images"], reported["among the images, stated"]) == (35, EXCLUDED)
    assert pl.read_csv(tmp_path / "out" / "images.csv")["view"].value_counts(sort=True).rows() == [
        ("PA", 24),
        ("LATERAL", 8),
        (None, 3),
    ]


def test_a_setting_keeps_them_and_the_audit_warns_of_them(data, tmp_path):
    run, _ = divided(data, tmp_path / "run", include=("LATERAL",))
    assert storage.read_table(run / "split.parquet").height == 32
    assert run.summary("split")[_selection.EXCLUDED] == {"body part HAND": 2, "modality CT": 1}
    found = storage.read_table(run / audit.ISSUES).filter(pl.col("rule") == check.VIEW.name)
    assert found["severity"].to_list() == ["warning"] * 8 and found["message"][0].endswith(
        "included by [split] include"
    )


def test_a_set_of_laterals_alone_is_refused_with_a_recipe_that_works_when_pasted(tmp_path):
    for number in range(24):
        folder = tmp_path / "data" / ("PNEUMONIA" if number % 2 else "NORMAL")
        folder.mkdir(parents=True, exist_ok=True)
        write(
            folder / f"{number}.dcm",
            draw(number),
            bits=12,
            ViewPosition="LATERAL",
            PatientID=f"P{number}",
            SOPInstanceUID=f"1.2.{number + 1}",
        )
    with pytest.raises(
        TooFew, match=r"no image of 24 may enter the split\. .*lateral view \(24\)"
    ) as refused:
        divided(tmp_path / "data", tmp_path / "refused")
    pasted = tmp_path / "pasted.toml"
    pasted.write_text(re.search(r"\[data\].*", str(refused.value), re.DOTALL)[0])
    recipe = Recipe.read(pasted)
    assert recipe.split.include == ("LATERAL",)
    run, _ = divided(recipe.data.folder, tmp_path / "run", include=recipe.split.include)
    assert storage.read_table(run / "split.parquet").height == 24


def test_too_few_left_says_what_was_left_out(data, tmp_path):
    with pytest.raises(
        TooFew,
        match=r"(?s)too few.*lateral view \(8\).*include = \[\"CT\", \"HAND\", \"LATERAL\"\]",
    ):
        divided(data, tmp_path / "run", min_per_class=50, folds=1)


def test_laterals_by_column_and_by_file_name_are_left_out_alike(tmp_path):
    lines = ["image,label,patient,view"]
    for number in range(12):
        for name, view in (("front", "PA"), ("side", "Seitlich"), ("view2_lateral", "")):
            raster.write_png(
                tmp_path / "data" / f"{number:02}_{name}.png",
                (draw(3 * number + len(name)) >> 4).astype(np.uint8),
            )
            lines.append(
                f"{number:02}_{name}.png,{'pneumonia' if number % 2 else 'normal'},p{number},{view}"
            )
    (tmp_path / "data" / "labels.csv").write_text("\n".join(lines) + "\n")
    run, _ = divided(tmp_path / "data", tmp_path / "run")
    assert run.summary("split")[_selection.EXCLUDED] == {"lateral view": 24}
    assert storage.read_table(run / "split.parquet")["image_id"].str.ends_with("front").all()


def test_patients_whom_an_image_in_no_part_joins_stay_together():
    """One lateral filed under two patients shows that they are one; it need not be in the split."""
    whole, _ = made_up(
        view={1: "LATERAL", 2: "LATERAL"},
        patient_id={0: "set/x", 1: "set/x", 2: "set/y", 3: "set/y"},
    )
    kept = whole.only([f"set/{n}" for n in (0, 3, 4, 5)])
    pairs = patient_groups.pairs_between(kept, whole, [("set/2", "set/1")])
    assert ("set/0", "set/3") in pairs and not {image for pair in pairs for image in pair} & {
        "set/1",
        "set/2",
    }
    assert patient_groups.pairs_between(whole, whole, [("set/2", "set/1")]) == [("set/2", "set/1")]


def test_a_table_that_an_earlier_release_wrote_is_refused_with_what_to_do(whole, tmp_path):
    Manifest.read(whole[0].folder).write(tmp_path)
    old = storage.read_table(tmp_path / "manifest.parquet").drop("body_part", "laterality")
    storage.write_table(tmp_path / "manifest.parquet", old)
    with pytest.raises(Mismatch, match="lacks body_part, laterality: .*hilum ingest"):
        Manifest.read(tmp_path)


# ---------- the check


def found_by(rule, **changes) -> list[tuple[str | None, str]]:
    return [
        (one.image_id, one.message)
        for one in check.check(*made_up(**changes))
        if one.rule == rule.name
    ]


def test_nothing_is_said_of_a_set_that_states_nothing_or_only_frontal_chests():
    assert list(check.check(*made_up())) == []
    assert (
        list(
            check.check(
                *made_up(view={0: "PA", 1: "FRONTAL"}, body_part={0: "CHEST"}, modality={0: "XR"})
            )
        )
        == []
    )


def test_an_image_is_in_the_split_only_where_all_that_excludes_it_is_listed():
    manifest, facts = made_up(view={0: "LATERAL", 1: "LATERAL"}, body_part={0: "HAND"})
    found = {
        (one.image_id, one.rule): one.severity for one in check.check(manifest, facts, ["LATERAL"])
    }
    assert found == {
        ("set/0", "view-not-frontal"): "info",
        ("set/0", "body-part-not-chest"): "info",
        ("set/1", "view-not-frontal"): "warning",
    }


def test_a_word_that_is_not_recognised_is_named_once_with_its_images():
    reported = found_by(
        check.UNRECOGNISED, body_part={0: "STANDARD", 3: "STANDARD"}, modality={1: "BLOCKBUSTER"}
    )
    assert reported == [
        (None, "body part 'STANDARD' of 2 images, such as 0.png"),
        (None, "modality 'BLOCKBUSTER' of 1 images, such as 1.png"),
    ]


def test_an_image_that_appears_frontal_against_its_statement_is_named_and_no_other():
    views = {0: "LATERAL", 1: "LATERAL", 2: "PA", 4: "DECUBITUS"}
    manifest, facts = made_up(view=views, body_part={3: "ABDOMEN", 4: "CHEST", 5: "RIB"})
    features = pl.DataFrame(
        {"out_of_distribution": [-12.0, 5.0, -12.0, -12.0, -12.0, -12.0], "distance": [0.5] * 6}
    )
    facts = facts.with_columns(features.get_columns())
    reported = [
        one.message for one in check.check(manifest, facts) if one.rule == check.AGAINST_IMAGE.name
    ]
    assert reported == [
        "0.png: resembles a frontal chest radiograph, but is stated: lateral view",
        "3.png: resembles a frontal chest radiograph, but is stated: body part ABDOMEN",
    ]
    assert {orientation.OUT_OF_DISTRIBUTION, orientation.DISTANCE} <= set(facts.columns)


@pytest.mark.parametrize(
    ("rows", "columns", "rule", "message"),
    [
        (
            dict.fromkeys(range(4), 1.4),
            dict.fromkeys(range(4), 1.4),
            check.NO_SPACING,
            "set: 2 of 6 images state no pixel spacing",
        ),
        (
            dict.fromkeys(range(6), 1.4),
            dict.fromkeys(range(5), 1.4) | {5: 1.2},
            check.NOT_SQUARE,
            "5.png: 1.4 x 1.2 mm",
        ),
        (
            dict.fromkeys(range(5), 1.4) | {5: 0.14},
            dict.fromkeys(range(5), 1.4) | {5: 0.14},
            check.IMPLAUSIBLE,
            "5.png: 0.14 x 0.14 mm make it 42.0 mm long",
        ),
    ],
)
def test_spacing_that_is_missing_unequal_or_implausible_is_named(rows, columns, rule, message):
    assert [
        words for _, words in found_by(rule, row_spacing_mm=rows, column_spacing_mm=columns)
    ] == [message]


def test_spacing_of_a_larger_original_is_judged_by_the_stated_size():
    spacing = dict.fromkeys(range(6), 0.14)
    stated = {
        "stated_height": dict.fromkeys(range(6), 3000),
        "stated_width": dict.fromkeys(range(6), 2500),
    }
    assert (
        found_by(check.IMPLAUSIBLE, row_spacing_mm=spacing, column_spacing_mm=spacing, **stated)
        == []
    )


def test_the_check_needs_no_image_and_no_file():
    empty = Manifest.of(made_up()[0].root, [], [], [])
    assert (
        set(COLUMNS) == set(empty.table.columns)
        and list(check.check(empty, pl.DataFrame(schema=FACTS))) == []
    )
