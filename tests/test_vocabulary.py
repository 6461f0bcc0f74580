"""The shipped findings: a sound tree, codes of the right form, and what follows from a child for
its parents.
"""

import re

import pytest

from hilum.annotations import vocabulary
from hilum.annotations.vocabulary import (
    LOCAL,
    STATE_NAMES,
    Concept,
    ancestors,
    concept_for,
    concepts,
    name_of,
    split_state_key,
    state_key,
)
from hilum.errors import NotFound

NIH = {  # the release's own words
    "Atelectasis": "atelectasis",
    "Cardiomegaly": "cardiomegaly",
    "Effusion": "effusion",
    "Infiltration": "infiltration",
    "Mass": "mass",
    "Nodule": "nodule",
    "Pneumonia": "pneumonia",
    "Pneumothorax": "pneumothorax",
    "Consolidation": "consolidation",
    "Edema": "edema",
    "Emphysema": "emphysema",
    "Fibrosis": "fibrosis",
    "Pleural_Thickening": "pleural_thickening",
    "Hernia": "hernia",
}
HOW = {"SCT": set("DFOMR"), "RADLEX": set("BCT"), "DCM": set("D")}
every_concept = pytest.mark.parametrize(
    "concept", concepts().values(), ids=lambda concept: concept.id
)

# The dihedral group of order ten, as (rotation, is it a reflection): Verhoeff's multiplication
# without its published table.
_STEPS = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def _times(a: int, b: int) -> int:
    turn_a, turn_b = a % 5, b % 5
    if a < 5:
        return (turn_a + turn_b) % 5 + (b // 5) * 5
    return (turn_a - turn_b) % 5 + (1 - b // 5) * 5


def verhoeff(number: str) -> int:
    """0 for a number whose last digit is its right check digit (Verhoeff 1969)."""
    check = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit)
        for _ in range(place % 8):
            value = _STEPS[value]
        check = _times(check, value)
    return check


def test_the_check_digit_used_here_is_the_published_one():
    assert verhoeff("2363") == 0  # the textbook's example: 236 has check digit 3
    assert verhoeff("404684003") == 0  # SNOMED CT, clinical finding
    assert [verhoeff(f"236{digit}") == 0 for digit in range(10)].count(True) == 1


@every_concept
def test_an_id_is_snake_case_and_says_what_it_means(concept):
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", concept.id)
    assert concept.name == concept.name.strip() and concept.name
    assert len(concept.meaning.split()) >= 3


def test_no_two_concepts_share_an_id_or_a_name():
    words = [
        word
        for concept in concepts().values()
        for word in {concept.id.replace("_", " "), concept.name.lower().replace("-", " ")}
    ]
    assert len(words) == len(set(words))
    rows = (
        (vocabulary.resources.files("hilum") / "resources" / "vocabulary.csv")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    assert len(rows) - 1 == len(concepts())


@every_concept
def test_every_parent_exists_and_no_way_up_is_a_circle(concept):
    seen = [concept.id]
    while parent := concepts()[seen[-1]].parent:
        assert parent in concepts() and parent not in seen
        seen.append(parent)


@every_concept
def test_codes_have_the_form_of_their_scheme(concept):
    if concept.snomed:
        assert re.fullmatch(r"[1-9]\d{5,17}", concept.snomed) and verhoeff(concept.snomed) == 0
        assert concept.snomed[-3:-1] == "00", (
            "the partition of a SNOMED CT concept of the international release"
        )
    assert re.fullmatch(r"(RID\d+)?", concept.radlex)
    assert re.fullmatch(r"(1\d{5})?", concept.dicom)


@every_concept
def test_what_is_called_verified_is_a_code_that_stands_there_with_a_known_way_of_checking(concept):
    checked = dict(how.split(":") for how in concept.verified.split())
    assert set(checked) <= set(concept.codes(verified_only=False))
    for scheme, ways in checked.items():
        assert set(ways.split("+")) <= HOW[scheme]


def test_no_code_stands_for_two_concepts():
    codes = [
        pair
        for concept in concepts().values()
        for pair in concept.codes(verified_only=False).items()
    ]
    assert len(codes) == len(set(codes))


def test_codes_called_verified_by_dicom_stand_in_its_tables():
    tables = pytest.importorskip(
        "pydicom.sr._concepts_dict", reason="needs pydicom's copy of DICOM PS3.16"
    ).concepts
    known = {
        scheme: {code for named in tables[scheme].values() for code in named}
        for scheme in ("SCT", "DCM")
    }
    by_dicom = [
        (scheme, concept.codes()[scheme])
        for concept in concepts().values()
        for scheme, ways in (how.split(":") for how in concept.verified.split())
        if "D" in ways.split("+")
    ]
    assert len(by_dicom) >= 8
    assert not [(scheme, code) for scheme, code in by_dicom if code not in known[scheme]]


def test_an_unverified_code_does_not_leave():
    concept = Concept("x", "X", "", "made up", snomed="60046008", radlex="RID1", verified="SCT:D")
    assert concept.codes() == {"SCT": "60046008"}
    assert concept.codes(verified_only=False) == {"SCT": "60046008", "RADLEX": "RID1"}
    assert concepts()["pleural_thickening"].codes() == {}


@pytest.mark.parametrize(("word", "concept"), NIH.items())
def test_the_words_of_chestx_ray14_are_concepts(word, concept):
    assert concept_for(word) == concept_for(word.replace("_", " ").upper()) == concept


def test_a_word_that_is_no_concept_stays_the_users_own():
    assert concept_for("No Finding") == f"{LOCAL}no-finding"
    assert concept_for("Pseudonodule") == f"{LOCAL}pseudonodule"
    assert name_of(concept_for("Pseudo Nodule")) == "pseudo nodule"


@every_concept
def test_name_and_id_lead_back_to_the_concept(concept):
    assert concept_for(concept.name) == concept_for(concept.id) == concept.id
    assert name_of(concept.id) == concept.name


def test_ancestors_come_nearest_first():
    assert ancestors("nodule") == ("lung_lesion", "lung_opacity", "abnormality")
    assert ancestors("abnormality") == ancestors("local:mine") == ()
    assert ancestors("viral_pneumonia")[0] == "pneumonia"


def test_an_unknown_concept_is_refused_with_the_nearest_name():
    with pytest.raises(NotFound, match="did you mean 'pneumothorax'"):
        ancestors("pneumotorax")


@pytest.mark.parametrize("state", STATE_NAMES)
def test_the_key_of_a_state_in_a_summary_is_taken_apart_again(state):
    for concept in ("pleural_effusion", "local:big-heart"):
        assert split_state_key(state_key(concept, state)) == (concept, STATE_NAMES[state])
