"""Checks of labels, ages, patients, balance, shortcuts and likely label errors: each planted fault
is found, and clean tables are left alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from hilum.audit.checks import age as ages
from hilum.audit.checks import (
    class_balance,
    label_conflicts,
    label_errors,
    patient_leakage,
    shortcuts,
)
from hilum.audit.issues import Issue
from hilum.config import Pixels
from hilum.dataset import pixel_cache
from hilum.dataset.manifest import COLUMNS, LABEL_COLUMNS, REMARK_COLUMNS, SHAPE_COLUMNS, Manifest
from hilum.dataset.pixel_cache import FACTS
from hilum.imaging.files import raster
from hilum.pipeline import audit, cache, ingest
from hilum.statistics.sample_size import half_width
from hilum.storage.integrity import checksum

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
real_data = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real radiographs of shared/data are not on this machine"
)
FAMILIES = (ages, class_balance, label_conflicts, patient_leakage, shortcuts)


def table(images: Iterable[dict]) -> pl.DataFrame:
    """Rows of `set/NUMBER`, each a patient of its own, with the given cells."""
    rows = [
        dict.fromkeys(COLUMNS)
        | {
            "image_id": f"set/{n:05d}",
            "dataset": "set",
            "source": "set",
            "patient_id": f"set/p{n:05d}",
            "path": f"{n:05d}.png",
        }
        | cells
        for n, cells in enumerate(images)
    ]
    return pl.DataFrame(rows, schema=COLUMNS)


def made_up(
    images: Iterable[dict],
    reported: Iterable[tuple[int, str, int]] = (),
    drawn: Iterable[tuple[int, str]] = (),
) -> Manifest:
    stated = pl.DataFrame(
        [
            {"image_id": f"set/{n:05d}", "concept": concept, "state": state, "source": "table.csv"}
            for n, concept, state in reported
        ],
        schema=LABEL_COLUMNS,
    )
    shapes = pl.DataFrame(
        [
            {"image_id": f"set/{n:05d}", "concept": concept, "term": concept, "source": "boxes.csv"}
            for n, concept in drawn
        ],
        schema=SHAPE_COLUMNS,
    )
    return Manifest(
        Path("/nowhere"), table(images), stated, pl.DataFrame(schema=REMARK_COLUMNS), shapes
    )


def found(
    family, manifest: Manifest, facts: pl.DataFrame | None = None
) -> list[tuple[str, str | None, str | None, str]]:
    facts = pl.DataFrame(schema=FACTS) if facts is None else facts
    return [
        (one.rule, one.image_id, one.other_image_id, one.message)
        for one in family.check(manifest, facts)
    ]


def rules(family, manifest: Manifest) -> list[str]:
    return [one[0] for one in found(family, manifest)]


# ------------------------------------------------------------------------------------------- labels


def test_a_narrower_finding_against_the_wider_one_is_reported_once_an_image():
    reported = [
        (0, "consolidation", 1),
        (0, "lung_opacity", 0),
        (0, "airspace_opacity", 0),
        (1, "consolidation", 0),
        (1, "lung_opacity", 1),
        (2, "consolidation", 1),
        (2, "lung_opacity", -1),
    ]
    (one,) = found(label_conflicts, made_up([{}] * 3, reported))
    assert one[:2] == ("label-hierarchy", "set/00000")
    assert "consolidation is present" in one[3] and "2 such pairs" in one[3]


def test_a_local_word_has_no_wider_one():
    assert (
        rules(label_conflicts, made_up([{}], [(0, "local:cabling", 1), (0, "abnormality", 0)]))
        == []
    )


@pytest.mark.parametrize(
    ("drawn", "label", "wrong"),
    [
        ("nodule", ("nodule", 0), True),
        ("nodule", ("lung_lesion", 0), True),
        ("lung_lesion", ("nodule", 0), False),
        ("nodule", ("nodule", 1), False),
        ("nodule", ("nodule", -1), False),
        ("lungs", ("nodule", 0), False),
    ],
)
def test_a_drawing_of_what_is_labelled_absent(drawn, label, wrong):
    assert rules(label_conflicts, made_up([{}], [(0, *label)], [(0, drawn)])) == (
        ["label-contradicts-annotation"] if wrong else []
    )


def test_an_image_of_ones_own_that_is_normal_and_has_a_finding(tmp_path):
    for name in ("a", "b", "c"):
        raster.write_png(tmp_path / f"{name}.png", np.full((8, 8), 7, np.uint8))
    (tmp_path / "labels.csv").write_text(
        "image,label\na.png,No finding|Nodule\nb.png,No finding\nc.png,Nodule|Mass\n"
    )
    (tmp_path / "hilum.toml").write_text(
        'tables = ["labels.csv"]\nimage = "image"\nlabel = "label"\nseparator = "|"\n[terms]\nNodule = "nodule"\nMass = "mass"\n'
    )
    reported = ingest.ingest(tmp_path)
    assert reported.remarks.filter(pl.col("rule") == "label-conflict")["path"].to_list() == [
        "a.png"
    ]
    assert reported.states("nodule")["state"].to_list() == [1, 0, 1]


# --------------------------------------------------------------------------------------------- ages


@pytest.mark.parametrize(
    ("age", "wrong"),
    [
        (-1.0, True),
        (0.0, False),
        (0.02, False),
        (120.0, False),
        (121.0, True),
        (411.0, True),
        (None, False),
        (float("nan"), False),
    ],
)
def test_an_age_nobody_has(age, wrong):
    assert rules(ages, made_up([{"age_years": age}])) == (["age-range"] if wrong else [])


def visits(*years: float, **cells) -> list[dict]:
    return [
        {"patient_id": "set/p", "age_years": age, "follow_up": number} | cells
        for number, age in enumerate(years)
    ]


def test_an_age_that_falls_over_the_examinations_is_reported_once_a_patient_at_its_deepest():
    (one,) = found(ages, made_up(visits(50, 40, 60, 45)))
    assert (
        one[:3] == ("age-decreases", "set/00003", "set/00002")
        and "60.0 years at examination 2, 45.0 at examination 3" in one[3]
    )
    assert rules(ages, made_up(visits(50, 49, 50))) == [], "whole years may differ by one"
    assert rules(ages, made_up([{**row, "follow_up": None} for row in visits(50, 40)])) == [], (
        "nothing says which came first"
    )


def test_ages_of_a_patient_or_of_an_examination_that_lie_apart():
    assert found(ages, made_up(visits(20, 51)))[0][:3] == ("age-apart", "set/00001", "set/00000")
    assert rules(ages, made_up(visits(20, 50))) == []
    assert rules(ages, made_up(visits(20, 22, study="s1"))) == ["age-study"]
    assert rules(ages, made_up(visits(20, 21, study="s1"))) == []


# ----------------------------------------------------------------------------------------- patients


def test_an_examination_under_two_patients_and_in_two_parts():
    rows = [
        {"study": "s1", "given_part": "train"},
        {"study": "s1", "given_part": "test"},
        {"study": "s2", "given_part": "train"},
    ]
    assert rules(patient_leakage, made_up(rows)) == ["study-parts", "study-patients"]
    nameless = replace(
        made_up(rows),
        remarks=pl.DataFrame(
            [(".", "warning", "no-patients", "none")], schema=REMARK_COLUMNS, orient="row"
        ),
    )
    assert rules(patient_leakage, nameless) == ["study-parts"]
    one_person = [{**row, "patient_id": "set/p"} for row in rows]
    assert rules(patient_leakage, made_up(one_person)) == ["patient-parts"], (
        "an examination of one patient in two parts is the patient in two parts"
    )


def test_processed_copies_in_two_parts_or_under_two_patients():
    rows = [
        {"given_part": "train"},
        {"given_part": "test"},
        {"given_part": "train", "patient_id": "set/p00000"},
    ]
    seen = [
        Issue("duplicate-processed", "warning", f"set/0000{one}", "set/00000", "") for one in (1, 2)
    ]
    reported = [
        (one.rule, one.image_id, one.other_image_id)
        for one in patient_leakage.afterwards(made_up(rows), seen)
    ]
    assert reported == [
        (rule, "set/00001", "set/00000")
        for rule in ("duplicate-processed-parts", "duplicate-processed-patients")
    ]
    assert list(patient_leakage.afterwards(made_up(rows), [])) == []


# ------------------------------------------------------------------------------------------ balance


def test_one_state_uncertain_unmentioned_imbalanced_and_rare_are_reported_together_by_data_set():
    reported = [(n, "effusion", 1) for n in range(100)]
    reported += [(n, "nodule", int(n < 2)) for n in range(100)]
    reported += [(n, "edema", (-1, 0, 1)[n % 3]) for n in range(60)]
    by_rule = {
        rule: message for rule, _, _, message in found(class_balance, made_up([{}] * 100, reported))
    }
    assert (
        "effusion present on 100" in by_rule["label-one-state"]
        and "nodule" not in by_rule["label-one-state"]
    )
    assert (
        "pulmonary edema 20 of 100" in by_rule["label-uncertain"]
        and "pulmonary edema 40 of 100" in by_rule["label-unmentioned"]
    )
    assert "nodule 2 of 100" in by_rule["label-imbalance"]
    assert set(by_rule) == {rule.name for rule in class_balance.RULES}


def test_a_class_too_rare_says_what_the_test_part_would_hold():
    reported = [(n, "nodule", int(n < 10)) for n in range(1000)]
    message = next(
        message
        for rule, _, _, message in found(class_balance, made_up([{}] * 1000, reported))
        if rule == "class-rare"
    )
    assert (
        "present on 10 images of 10 patients" in message
        and "about 2 patients with it and 198 without" in message
    )
    half = half_width(0.8, 2, 198)
    assert f"{0.8 - half:.2f} to {min(1, 0.8 + half):.2f}" in message
    common = made_up([{}] * 1000, [(n, "nodule", n % 2) for n in range(1000)])
    assert rules(class_balance, common) == []
    few_tested = replace(
        common,
        table=common.table.with_columns(
            given_part=pl.Series(["test" if n < 20 else "train" for n in range(1000)])
        ),
    )
    assert rules(class_balance, few_tested) == ["class-rare"]


def test_a_handful_of_labels_says_nothing_of_fractions():
    assert rules(class_balance, made_up([{}] * 19, [(n, "nodule", 1) for n in range(19)])) == []


def test_the_interval_of_an_auroc_is_that_of_drawn_scores():
    rng = np.random.default_rng(3)
    drawn = [
        (rng.exponential(4, (30, 1)) > rng.exponential(1, (1, 60))).mean() for _ in range(6000)
    ]  # 4 / (4 + 1): an AUROC of 0.8
    assert half_width(0.8, 30, 60) == pytest.approx(1.96 * np.std(drawn), rel=0.05)


# ---------------------------------------------------------------------------------------- shortcuts


def cohort(count: int, seed: int = 0, **cells) -> list[dict]:
    """Patients of mixed sex, age and view; `cells` are functions of (number, generator)."""
    rng = np.random.default_rng(seed)
    plain = {
        "sex": lambda n, r: ("female", "male")[r.integers(2)],
        "age_years": lambda n, r: float(r.integers(18, 90)),
        "view": lambda n, r: ("PA", "AP")[r.integers(2)],
    }
    return [{name: make(n, rng) for name, make in {**plain, **cells}.items()} for n in range(count)]


def test_a_label_that_the_view_predicts_is_a_shortcut_and_one_that_nothing_predicts_is_none():
    rng = np.random.default_rng(1)
    rows = cohort(600)
    reported = [
        (n, "edema", int(rng.uniform() < (0.8 if row["view"] == "AP" else 0.2)))
        for n, row in enumerate(rows)
    ]
    reported += [(n, "nodule", int(rng.uniform() < 0.4)) for n in range(600)]
    (one,) = found(shortcuts, made_up(rows, reported))
    assert (
        one[0] == "shortcut"
        and one[3].startswith("pulmonary edema is predicted from")
        and ": view alone 0.7" in one[3]
        and "sex alone" not in one[3]
    )


def test_sizes_read_from_the_files_predict_too():
    rows = cohort(400)
    facts = pl.DataFrame(
        [
            dict.fromkeys(FACTS)
            | {"image_id": f"set/{n:05d}", "height": 1000 + 24 * (n % 2), "width": 1000, "bits": 8}
            for n in range(400)
        ],
        schema=FACTS,
    )
    (one,) = found(
        shortcuts,
        made_up(rows, [(n, "nodule", int(n % 2 and n % 20 > 1)) for n in range(400)]),
        facts,
    )
    assert "size alone 0.9" in one[3] and "height alone 0.9" in one[3] and "bit depth" not in one[3]


def test_no_shortcut_is_claimed_by_chance():
    rng = np.random.default_rng(5)
    for seed in range(8):
        reported = [(n, "nodule", int(rng.uniform() < 0.5)) for n in range(120)]
        assert rules(shortcuts, made_up(cohort(120, seed), reported)) == []


def test_parts_that_differ_in_sex_age_or_labels_are_reported_and_equal_ones_are_not():
    part = [("train", "test")[n % 4 == 0] for n in range(800)]
    fair = [{**row, "given_part": part[n]} for n, row in enumerate(cohort(800))]
    reported = [(n, "nodule", int(n % 3 == 0)) for n in range(800)]
    assert rules(shortcuts, made_up(fair, reported)) == []
    rng = np.random.default_rng(2)
    older = [
        {**row, "age_years": row["age_years"] + (20 if row["given_part"] == "test" else 0)}
        for row in fair
    ]
    female = [
        {
            **row,
            "sex": "female" if row["given_part"] == "test" and rng.uniform() < 0.6 else row["sex"],
        }
        for row in fair
    ]
    sick = [
        (n, "nodule", int(n % 3 == 0 or (part[n] == "test" and n % 8 == 0))) for n in range(800)
    ]
    for rows, labelled, word in (
        (older, reported, "age differs"),
        (female, reported, "sex differs"),
        (fair, sick, "nodule differs"),
    ):
        (one,) = found(shortcuts, made_up(rows, labelled))
        assert (
            one[0] == "parts-differ"
            and word in one[3]
            and "train (600 patients)" in one[3]
            and "6 tests" not in one[3].split("effect")[0]
        )


# ------------------------------------------------------------------------ size, emptiness and order


@pytest.mark.parametrize("family", FAMILIES)
def test_a_single_image_is_no_reason_for_anything(family):
    assert (
        rules(
            family,
            made_up(
                [
                    {
                        "age_years": 40.0,
                        "sex": "male",
                        "follow_up": 0,
                        "study": "s",
                        "given_part": "train",
                    }
                ],
                [(0, "nodule", 1)],
            ),
        )
        == []
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_issues_do_not_depend_on_the_order_of_rows(family):
    rng = np.random.default_rng(4)
    rows = cohort(300, age_years=lambda n, r: float(r.integers(-5, 130)))
    for n, row in enumerate(rows):
        row |= {
            "patient_id": f"set/p{n // 3}",
            "follow_up": n % 3,
            "study": f"s{n // 4}",
            "given_part": ("train", "tune", "test")[n % 3],
            "reading": "normal",
        }
    reported = [
        (n, c, int(rng.integers(-1, 2)))
        for n in range(300)
        for c in ("consolidation", "lung_opacity")
    ]
    reported += [(n, "edema", int(row["view"] == "AP")) for n, row in enumerate(rows)]
    manifest = made_up(rows, reported, [(n, "consolidation") for n in range(0, 300, 5)])
    rotated = Manifest(
        manifest.root,
        *(
            part.sample(fraction=1, shuffle=True, seed=9)
            for part in (manifest.table, manifest.labels, manifest.remarks, manifest.shapes)
        ),
    )
    assert sorted(found(family, manifest), key=str) == sorted(found(family, rotated), key=str) != []


# ------------------------------------------------------------------------------ likely label errors


@pytest.fixture(scope="module")
def learnable():
    """Columns of which two predict the state of 1,200 images, of 600 patients, and 40 labels
    flipped.
    """
    rng = np.random.default_rng(0)
    state = np.arange(1200) // 2 % 2 == 1
    seen = rng.normal(size=(1200, 12)).astype(np.float16)
    seen[:, :2] += np.where(state, 2.2, -2.2)[:, None].astype(np.float16)
    wrong = np.zeros(1200, bool)
    wrong[rng.choice(1200, 40, replace=False)] = True
    return seen, state, wrong, pl.Series([f"p{n // 2:04d}" for n in range(1200)])


def test_flipped_labels_are_suspected_and_hardly_any_other(learnable):
    seen, state, wrong, people = learnable
    confidence, suspected = label_errors.suspicions(
        state ^ wrong, label_errors.out_of_fold(seen, state ^ wrong, people)
    )
    assert suspected[wrong].mean() >= 0.9 and suspected[~wrong].mean() < 0.005
    assert confidence[wrong].mean() < 0.1 < 0.9 < confidence[~wrong].mean()


def test_of_a_rare_finding_the_few_are_not_suspected_because_they_are_few():
    rng = np.random.default_rng(1)
    state = rng.uniform(size=4000) < 0.03
    seen = rng.normal(size=(4000, 5)).astype(np.float16)
    seen[:, 0] += state.astype(np.float16)  # weakly predictive: an AUROC of about 0.76
    _, suspected = label_errors.suspicions(
        state, label_errors.out_of_fold(seen, state, pl.Series([f"{n:04d}" for n in range(4000)]))
    )
    assert suspected[state].mean() < 0.15 and suspected[~state].mean() < 0.001


def test_the_regression_is_the_usual_one(learnable):
    seen, state, _, _ = learnable
    rows = seen[:300].astype(np.float64)
    expected = LogisticRegression(C=1 / label_errors.RIDGE, tol=1e-10, max_iter=2000).fit(
        rows, state[:300]
    )
    assert label_errors._logistic(rows, state[:300].astype(float)) == pytest.approx(
        [*expected.coef_[0], *expected.intercept_], abs=1e-3
    )


def test_images_of_one_patient_never_teach_their_own_answer():
    """Every patient's two images have a mark of their own and a random label: who sees one knows
    the other.
    """
    rng = np.random.default_rng(2)
    marks = np.repeat(np.eye(150, dtype=np.float16) * 9, 2, axis=0)
    state = np.repeat(rng.uniform(size=150) < 0.5, 2)
    answer = label_errors.out_of_fold(
        marks, state, pl.Series([f"p{n // 2:03d}" for n in range(300)])
    )
    assert np.abs(answer - 0.5).max() < 0.2


def test_edges_know_their_direction_and_not_the_brightness():
    stripes = np.tile((np.arange(64) // 4 % 2).astype(np.float32), (64, 1))
    upright, lying = (
        label_errors._edges(stripes[None]).reshape(8, 8, 9),
        label_errors._edges(stripes.T[None]).reshape(8, 8, 9),
    )
    assert upright[4, 4].argmax() == 0 and lying[4, 4].argmax() in (4, 5)
    assert label_errors._edges(stripes[None] * 0.5 + 0.2) == pytest.approx(
        upright.reshape(1, -1), abs=0.01
    )


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> tuple[Manifest, pixel_cache.Cache]:
    """240 patients with a noisy image each, every second one with a bright patch and, as labelled,
    a nodule; six labels are flipped.
    """
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("shown")
    radiographs = rng.integers(90, 130, (240, 64, 64), np.uint8)
    radiographs[1::2, 20:36, 24:40] += 60
    radiographs.tofile(folder / "images.u8")
    index = pl.DataFrame(
        [
            dict.fromkeys(FACTS)
            | {
                "image_id": f"set/{n:05d}",
                "row": n,
                "image_crc32": checksum(radiographs[n]),
                "minimum": 0,
                "maximum": 255,
            }
            for n in range(240)
        ],
        schema=FACTS,
    )
    manifest = made_up([{}] * 240, [(n, "nodule", n % 2 ^ (n in PLANTED)) for n in range(240)])
    return manifest, pixel_cache.Cache(folder, 64, index)


PLANTED = (3, 50, 77, 120, 181, 200)


def test_suspicions_are_listed_with_the_surest_first(shown):
    manifest, radiographs = shown
    assert list(label_errors.check(manifest, radiographs.index)) == [], (
        "without images nothing is said"
    )
    reported = list(label_errors.check(manifest, radiographs.index, radiographs))
    assert {one.image_id for one in reported} == {f"set/{n:05d}" for n in PLANTED} and {
        one.rule for one in reported
    } == {"label-suspect"}
    assert (
        reported[0].message.startswith("suspicion 1 of 6: nodule is labelled ")
        and "table.csv" in reported[0].message
    )


def test_suspicions_do_not_depend_on_the_order_of_rows(shown):
    manifest, radiographs = shown
    rotated = replace(manifest, table=manifest.table.reverse(), labels=manifest.labels.reverse())
    assert list(label_errors.check(rotated, radiographs.index.reverse(), radiographs)) == list(
        label_errors.check(manifest, radiographs.index, radiographs)
    )


def test_where_images_do_not_predict_a_label_nothing_is_suspected_and_it_is_said(shown):
    manifest, radiographs = shown
    random = replace(
        manifest,
        labels=manifest.labels.with_columns(
            state=pl.Series(np.random.default_rng(1).integers(0, 2, 240), dtype=pl.Int8)
        ),
    )
    (one,) = label_errors.check(random, radiographs.index, radiographs)
    assert (
        one.rule == "label-suspect-unknown"
        and one.image_id is None
        and "nodule: 240 images" in one.message
    )


def test_too_few_patients_of_a_state_are_not_evaluated(shown):
    manifest, radiographs = shown
    few = replace(manifest, labels=manifest.labels.filter(pl.col("image_id") < "set/00090"))
    assert list(label_errors.check(few, radiographs.index, radiographs)) == []


# ------------------------------------------------------------------------------------- known truths


def linked(root: Path, wanted: Iterable[Path], to: Path) -> Path:
    for path in wanted:
        (to / path.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to / path.relative_to(root))
    return to


def audited(root: Path, to: Path) -> pl.DataFrame:
    manifest = ingest.ingest(root)
    return audit.audit(manifest, cache.fill(manifest, Pixels(size=32), to).index)


@real_data
def test_kermanys_doubled_files_and_the_numbers_on_both_sides(tmp_path):
    root = SHARED / "kermany-224"
    names = ("person1430_*", "person1619_*", "person78_*", "person1_*", "IM-0115*")
    reported = audited(
        linked(
            root, [path for name in names for path in root.rglob(f"{name}.jpeg")], tmp_path / "data"
        ),
        tmp_path / "cache",
    )
    pairs = {
        frozenset(Path(image).name for image in pair)
        for pair in reported.filter(pl.col("rule") == "duplicate-file")
        .select("image_id", "other_image_id")
        .rows()
    }
    assert {
        frozenset({f"person1430_bacteria_{n}" for n in (3695, 3696)}),
        frozenset({f"person1619_bacteria_{n}" for n in (4267, 4268)}),
    } <= pairs
    whole = ingest.ingest(root, patients="by number")
    numbers = {row[1] for row in found(patient_leakage, whole) if row[0] == "patient-parts"}
    assert (
        len({image.rpartition("/")[2].split("_")[0] for image in numbers if "person" in image})
        == 170
    )
    assert whole.remarks.filter(pl.col("rule") == "patients-unsure").height == 1


@real_data
def test_montgomerys_notes_of_the_same_patient():
    reported = ingest.ingest(SHARED / "montgomery").remarks.filter(
        pl.col("rule") == "same-patient"
    )["message"]
    assert any("MCUCXR_0113" in message or "MCUCXR_0117" in message for message in reported)
    assert any(
        "MCUCXR_0162" in message or "MCUCXR_0166" in message or "MCUCXR_0170" in message
        for message in reported
    )


@real_data
def test_the_table_of_nih_predicts_edema_by_its_view_and_hernia_too_rare():
    manifest = ingest.ingest(SHARED / "nih-metadata")
    assert rules(ages, manifest) == [], "the table of 2020 has its impossible ages corrected"
    assert "hernia is present on 227 images of" in next(
        message for rule, _, _, message in found(class_balance, manifest) if rule == "class-rare"
    )
    (one,) = (message for rule, _, _, message in found(shortcuts, manifest) if rule == "shortcut")
    assert one.startswith("pulmonary edema is predicted from view") and "view alone 0.7" in one


@real_data
def test_the_pixel_identical_pair_of_nih_where_both_are_present(tmp_path):
    root = SHARED / "nih-sample"
    if not all((root / "images" / f"00002658_00{n}.png").is_file() for n in (1, 2)):
        pytest.skip(
            "00002658_001.png and 00002658_002.png are not in this selection of ChestX-ray14"
        )
    reported = audited(root, tmp_path / "cache").filter(pl.col("rule") == "duplicate-pixels")
    assert ("nih14/00002658_002", "nih14/00002658_001") in reported.select(
        "image_id", "other_image_id"
    ).rows()
