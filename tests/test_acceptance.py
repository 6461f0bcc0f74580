"""Which images a model may be applied to: the same answer from `hilum classify` and from a run's
`hilum predict`.
"""

import cv2
import imagecodecs
import numpy as np
import pytest
from dicom_files import write as write_dicom
from readers import ADULTS, installation, reader

from hilum.imaging import synthetic
from hilum.imaging.files import raster
from hilum.inference import acceptance, age_group, classify_images, pretrained, segment_images
from hilum.inference.acceptance import Lungs, People, Stated
from hilum.inference.orientation import QualityFlag
from hilum.runs import explain_images, predict_images

GOOD = Lungs(found=True, quality=0.95, least=0.7)


def chest(seed=7, height=300, width=280):
    rng = np.random.default_rng(seed)
    return synthetic.draw(synthetic.anatomy(rng), rng, height=height, width=width).pixels


def hand():
    image = np.zeros((300, 280), np.uint8)
    cv2.ellipse(image, (140, 210), (60, 70), 0, 0, 360, 170, -1)
    for x, top in ((90, 90), (120, 50), (150, 40), (180, 60)):
        cv2.line(image, (x, top), (140 + (x - 140) // 2, 200), 190, 24)
    cv2.line(image, (50, 160), (110, 230), 190, 26)
    return cv2.GaussianBlur(image, (0, 0), 2)


@pytest.fixture
def installed(tmp_path_factory, monkeypatch):
    made = installation(tmp_path_factory.mktemp("installed"))
    reader(made, "tb", "tuberculosis", people=ADULTS)
    monkeypatch.setattr(pretrained, "folder", lambda: made)


@pytest.fixture
def both(installed, small_run):
    """What `hilum classify` and a run say of one file."""

    def said(path):
        found = [
            *classify_images.classify_images([path]),
            *predict_images.predict_images(small_run.folder, [path]),
        ]
        assert found[1] == found[3] == []
        return found[0][0], found[2][0]

    return said


def dicom(folder, pixels=None, **stated):
    return write_dicom(
        folder / "a.dcm",
        ((chest() if pixels is None else pixels).astype(np.uint16) * 16).copy(),
        bits=12,
        **stated,
    )


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"ViewPosition": "LL"}, "lateral view"),
        ({"ViewPosition": "LLD"}, "decubitus view"),
        ({"PatientOrientation": ["A", "F"]}, "lateral view"),
        ({"BodyPartExamined": "HAND"}, "body part HAND"),
        ({"BodyPartExamined": "ABDOMEN"}, "body part ABDOMEN"),
        ({"Modality": "CT"}, "modality CT"),
        ({"Modality": "MG", "BodyPartExamined": "BREAST"}, "modality MG"),
    ],
)
def test_what_a_header_states_to_be_no_frontal_chest_is_refused_by_both_alike(
    both, tmp_path, stated, words
):
    by_read, by_predict = both(dicom(tmp_path, **stated))
    assert (
        words in by_read.refused
        and by_predict.refused == by_read.refused
        and by_read.scores == by_predict.scores == []
    )
    (row,), _ = segment_images.segment_images([tmp_path / "a.dcm"])
    assert words in row["warning"] and not row["trusted"]


@pytest.mark.parametrize(
    "stated",
    [
        {"ViewPosition": "PA", "Modality": "DX", "BodyPartExamined": "CHEST"},
        {"Modality": "CR", "BodyPartExamined": "THORAX"},
        {"Modality": "OT"},
    ],
)
def test_a_frontal_chest_is_scored_by_both(both, tmp_path, stated):
    for one in both(dicom(tmp_path, **stated)):
        assert one.refused == "" and one.scores


SPOILT = {
    "inverted": lambda: 255 - chest(),
    "rotated by 180°": lambda: np.rot90(chest(), 2),
    "mirrored": lambda: chest()[:, ::-1],
    "not to be a frontal chest": hand,
    "not to be a frontal chest radiograph": lambda: np.random.default_rng(0).integers(
        0, 256, (256, 256), np.uint8
    ),
}


@pytest.mark.parametrize("words", SPOILT)
def test_what_resembles_no_upright_frontal_chest_is_refused_by_both_in_the_same_words(
    both, tmp_path, words
):
    raster.write_png(tmp_path / "a.png", np.ascontiguousarray(SPOILT[words]()))
    by_read, by_predict = both(tmp_path / "a.png")
    assert (
        words in by_read.refused
        and by_predict.refused == by_read.refused
        and by_predict.quality_flags == by_read.quality_flags != ""
    )


def test_what_is_refused_is_not_explained_either(small_run, tmp_path):
    (row,), faults = explain_images.explain_images(
        small_run.folder, [dicom(tmp_path, ViewPosition="LL")], tmp_path / "out"
    )
    assert not faults and "lateral view" in row["refused"] and row["method"] is None
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        ".hilum-output",
        explain_images.TABLE,
    ]


def test_a_view_that_the_recipe_includes_is_not_refused():
    stated = Stated(view="LATERAL")
    assert (
        "lateral view" in acceptance.refusal([], stated, GOOD)
        and acceptance.refusal([], stated, GOOD, include=["LATERAL"]) == ""
    )


def test_an_image_that_cannot_show_a_chest_by_its_size_is_a_fault_of_both(
    installed, small_run, tmp_path
):
    raster.write_png(tmp_path / "a.png", np.tile(np.arange(200, dtype=np.uint8), (20, 1)))
    for found, faults in (
        classify_images.classify_images([tmp_path / "a.png"]),
        predict_images.predict_images(small_run.folder, [tmp_path / "a.png"]),
    ):
        assert found == [] and "20x200 pixels (height x width) cannot show a chest" in faults[0]


def test_a_photograph_is_warned_about_by_both(both, tmp_path):
    grey = chest()
    tinted = np.stack([grey, (grey * 0.7).astype(np.uint8), (grey * 0.4).astype(np.uint8)], axis=-1)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(tinted))
    for one in both(tmp_path / "a.png"):
        assert not one.refused and all(
            "it may be a photograph" in said.warning for said in one.scores
        )


def test_words_of_a_header_that_nobody_knows_are_warned_about_by_both(both, tmp_path):
    for one in both(dicom(tmp_path, BodyPartExamined="QZX PROJ")):
        assert not one.refused and all(
            "'QZX PROJ', which is not known to be the chest" in said.warning for said in one.scores
        )


def test_a_child_gets_no_call_from_models_of_adults(both, tmp_path):
    by_read, by_predict = both(
        dicom(tmp_path, PatientAge="002Y")
    )  # the made-up people of the run are grown
    for one in (by_read, by_predict):
        assert not one.refused and all(
            "the patient is 2 years old" in said.no_call for said in one.scores
        )


# The rules alone


def test_lungs_count_where_they_are_needed_and_nothing_else_speaks_against_the_image():
    plain = Stated()
    assert acceptance.refusal([], plain, GOOD) == ""
    assert acceptance.refusal([], plain, Lungs(False, 0.0, 0.7)) == "no lungs were found"
    assert "quality 0.60, below 0.7" in acceptance.refusal([], plain, Lungs(True, 0.6, 0.7))
    assert acceptance.refusal([], plain, Lungs(False, 0.0, None)) == ""
    both = acceptance.refusal(
        [QualityFlag("inverted", "inverted")],
        Stated(view="LATERAL", modality="CT"),
        Lungs(False, 0.0, 0.7),
    )
    assert both == "it appears inverted; the file states: lateral view, modality CT"


def test_an_age_is_within_until_the_next_birthday():
    people = People(1, 5, "children")
    warned = {
        years: bool(acceptance.excluded("m", people, Stated(age_years=years), age_group.CHILD))
        for years in (0.5, 1, 5, 5.9, 6, 40)
    }
    assert warned == {0.5: True, 1: False, 5: False, 5.9: False, 6: True, 40: True}


def test_an_age_is_written_in_whole_years_and_a_small_childs_in_months():
    written = [
        acceptance.excluded("m", People(30, 40, "adults"), Stated(age_years=years), "")
        for years in (64.477, 2.0, 1.9, 0.5, 0.0)
    ]
    ages = [words.partition(" old,")[0].removeprefix("the patient is ") for words in written]
    assert ages == ["64 years", "2 years", "22 months", "6 months", "0 months"]


@pytest.mark.parametrize(
    ("people", "measured", "words"),
    [
        (People(1, 5, "children"), age_group.ADULT, "adult's image"),
        (People(1, 5, "children"), "", "nothing indicates"),
        (People(1, 5, "children"), age_group.CHILD, ""),
        (People(15, 89, "adults"), age_group.CHILD, "child's image"),
        (People(15, 89, "adults"), age_group.ADULT, ""),
        (People(0, 89, "people"), age_group.CHILD, ""),
        (People(0, 89, "people"), age_group.ADULT, ""),
        (People(0, 15, "children and youths"), age_group.ADULT, "adult's image"),
        (People(0, 15, "children and youths"), age_group.CHILD, ""),
        (People(0, 15, "children and youths"), "", ""),
        (People(0, 19, "the young"), age_group.ADULT, ""),
    ],
)
def test_without_an_age_the_measured_age_group_decides(people, measured, words):
    found = acceptance.excluded("m", people, Stated(), measured)
    assert words in found and bool(found) == bool(words)


def test_people_are_those_whose_ages_are_known_without_slips_of_data_entry():
    found = acceptance.people_by_ages([20.0, 30.0, 70.0, 411.0, *([50.0] * 40)], "them")
    assert (found.youngest, found.oldest, found.measured) == (20, 70, True)
    assert (
        acceptance.people_by_ages([20.0, None], "them") is None
        and acceptance.people_by_ages([], "them") is None
    )


def test_people_of_unknown_age_are_described_by_their_images_or_not_at_all():
    small, grown = age_group.CHILD, age_group.ADULT
    assert (
        acceptance.people_by_images(iter([small] * 9 + [grown]), "them").oldest
        < age_group.OLDEST_CHILD
    )
    assert (
        acceptance.people_by_images(iter([grown] * 5 + [""] * 15), "them").youngest
        == age_group.OLDEST_CHILD
    )
    assert (
        acceptance.people_by_images(iter([small] * 2 + [grown] * 8), "them") is None
        and acceptance.people_by_images(iter([]), "them") is None
    )
    assert "years old" not in People(0, 5, "them", measured=False).range
