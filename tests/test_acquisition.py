"""Words for view, body part, modality and side: understood alike wherever they stand, and never
guessed.
"""

import csv
from collections import Counter
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilum.annotations import acquisition

TERMS = (
    resources.files("hilum").joinpath("resources/acquisition_terms.csv").read_text(encoding="utf-8")
)
VIEWS = {
    "PA": (
        "PA",
        "p.a.",
        "P-A",
        "pa erect",
        "Thorax p. a. im Stehen",
        "Postero-Anterior",
        "postéro-antérieur",
        "dorso-ventral",
    ),
    "AP": (
        "AP",
        "a.p.",
        "AP SUPINE",
        "AP semi erect",
        "AP axis",
        "antero posterior",
        "Tórax AP en decúbito supino",
        "liegend a.p.",
    ),
    "FRONTAL": (
        "Frontal",
        "AP/PA",
        "Thorax de face",
        "frontale",
        "supine",
        "décubitus dorsal",
        "F",
    ),
    "LATERAL": (
        "LATERAL",
        "lat",
        "LL",
        "RL",
        "L",
        "seitlich",
        "Thorax de profil",
        "perfil",
        "latero-laterale",
        "XTABLE LATERAL",
        "supine lateral",
    ),
    "OBLIQUE": ("RAO", "LPO", "oblique", "PA LAO", "schräg", "oblicua", "left anterior oblique"),
    "DECUBITUS": (
        "LLD",
        "AP RLD",
        "left lateral decubitus",
        "décubitus latéral",
        "decúbito lateral",
    ),
    "LORDOTIC": ("lordotic", "AP lordotic", "lordótica"),
    None: (
        "",
        "?",
        "unknown",
        "N/A",
        "Axial",
        "PA & LAT",
        "CHEST 2 VIEWS PA, LATERAL",
        "PAPER MAP",
        "7",
        "Thorax in 2 Ebenen",
    ),
}
PATHS = {
    "LATERAL": (
        "p1/study1/view2_lateral.jpg",
        "CXR1_1_IM-0001-4001_lat.png",
        "Lateral/1.png",
        "lateral views/7.png",
        "a\\b_profil.png",
    ),
    "FRONTAL": ("p1/study1/view1_frontal.jpg",),
    None: (
        "PA000001/ST000001/IM000001",
        "ap_1.png",
        "bilateral_03.png",
        "rao_kumar.png",
        "LL_7.png",
        "lateral wall study/1.png",
        "lat_am/1.png",
    ),
}
BODY_PARTS = {
    "CHEST": ("CHEST", "Thorax", "TÓRAX", "CHEST PORT", "lungs", "ribs and chest", "poumons"),
    "CHESTABDOMEN": ("CHESTABDOMEN", "chest abdomen"),
    "HAND": ("HAND", "mano", "main", "XR Hand Left"),
    "TSPINE": ("TSPINE", "thoracic spine", "Brustwirbelsäule"),
    "RIB": ("RIB", "Knöcherner Hemithorax", "costillas"),
    "ABDOMEN": ("ABDOMEN", "Bauch"),
    "STANDARD FILM": ("standard  film",),
    None: ("", "UNKNOWN", "none", "n/a", "-", "0"),
}
MODALITIES = {
    "CR": ("CR", "cr", "Computed Radiography"),
    "DX": ("DX", "DR", "digital radiography"),
    "XR": ("X-ray", "XR", "CXR", "Radiographie"),
    "CT": ("CT", "Computed Tomography", "TDM"),
    "MR": ("MRI", "IRM"),
    "US": ("US", "Ultrasound"),
    "MG": ("MG",),
    "BLOCKBUSTER": ("blockbuster",),
    None: ("", "unknown", "NaN"),
}
SIDES = {
    "R": ("R", "right", "rechts"),
    "L": ("L", "left"),
    "B": ("B", "L/R", "bilateral"),
    "U": ("U",),
    None: ("", "x", "unknown"),
}


def cases(known):
    return [(text, value) for value, texts in known.items() for text in texts]


@pytest.mark.parametrize(("text", "view"), cases(VIEWS))
def test_a_view_is_understood_in_the_words_that_people_write(text, view):
    assert acquisition.view_of(text) == view


def test_two_fields_may_state_the_view_together():
    assert acquisition.view_of("Frontal", "AP") == "AP"
    assert acquisition.view_of("Lateral", "") == "LATERAL"
    assert acquisition.view_of(None, None) is None


@pytest.mark.parametrize(("path", "view"), cases(PATHS))
def test_a_file_name_states_the_view_only_where_it_is_spelt_out(path, view):
    assert acquisition.view_in_path(path) == view


@pytest.mark.parametrize(("text", "part"), cases(BODY_PARTS))
def test_a_body_part_becomes_the_defined_term_or_stays_as_it_is_stated(text, part):
    assert acquisition.body_part_of(text) == part


@pytest.mark.parametrize(("text", "modality"), cases(MODALITIES))
def test_a_modality_becomes_the_defined_term_or_stays_as_it_is_stated(text, modality):
    assert acquisition.modality_of(text) == modality


@pytest.mark.parametrize(("text", "side"), cases(SIDES))
def test_a_side_is_one_of_four_or_not_stated(text, side):
    assert acquisition.laterality_of(text) == side


def test_normalised_values_normalise_to_themselves():
    assert [acquisition.view_of(view) for view in acquisition.VIEWS] == list(acquisition.VIEWS)
    assert all(acquisition.body_part_of(part) == part for part in acquisition.body_parts())
    assert all(
        acquisition.modality_of(modality) == modality for modality in acquisition.modalities()
    )
    assert [acquisition.laterality_of(side) for side in acquisition.LATERALITIES] == list(
        acquisition.LATERALITIES
    )


def test_no_term_is_longer_than_what_is_searched_for():
    rows = csv.DictReader(TERMS.splitlines())
    lengths = [words.count(" ") + 1 for row in rows for words in row["words"].split("|")]
    assert max(lengths) == acquisition.LONGEST


def test_no_words_have_two_meanings_in_one_field():
    rows = list(csv.DictReader(TERMS.splitlines()))
    fields = {
        kind: "view" if kind in acquisition.FIELD else kind
        for kind in {row["kind"] for row in rows}
    }
    seen = Counter(
        (fields[row["kind"]], words) for row in rows for words in row["words"].split("|")
    )
    assert [words for words, count in seen.items() if count > 1] == []


@given(st.text(max_size=40))
def test_any_text_gives_a_value_of_the_documented_set_or_none(text):
    assert acquisition.view_of(text) in (*acquisition.VIEWS, None)
    assert acquisition.view_in_description(text) in (*acquisition.VIEWS, None)
    assert acquisition.view_in_path(text) in (*acquisition.VIEWS, None)
    assert acquisition.laterality_of(text) in (*acquisition.LATERALITIES, None)
    for value in (acquisition.body_part_of(text), acquisition.modality_of(text)):
        assert value is None or (value and value == value.upper().strip())


@given(st.sampled_from(cases({view: texts for view, texts in VIEWS.items() if view})), st.data())
def test_case_blanks_and_underscores_do_not_change_the_view(case, data):
    text, view = case
    blank = data.draw(st.sampled_from([" ", "_", "  "]))
    changed = "".join(
        data.draw(st.sampled_from([letter.upper(), letter.lower()])) for letter in text
    )
    assert acquisition.view_of(f" {changed.replace(' ', blank)}\0 ") == view
