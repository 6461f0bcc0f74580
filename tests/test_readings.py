"""Radiologists' words become statements. Made-up sentences rule by rule; real readings against
labels made by hand.

Conventions of tests/facts/readings.csv, one row a finding and place, labelled by one reader from
the text alone:

- 127 readings: every distinct wording of the two sets has one image, so frequent wordings do not
  flatter. `use` is development (the rules
  were written from these), held_out (drawn by chance and read after the rules were frozen) or later
  (what was left, read last).
  Patients that a note joins are on one side. An image whose reading names no finding has one row
  without a concept.
- Adjectives are findings too: "cavitary infiltrate" is cavity and infiltration, "calcified
  granuloma", "TB scars" likewise, and share
  state, place and activity. "Secondary PTB" is post-primary tuberculosis; tuberculous effusion is
  pleural tuberculosis.
- "Consistent with" and "IMP" state; likely, possible, suspicious, could be, "?" and alternatives
  ("or") flag. "Normal" is abnormality absent.
- Not labelled: laboratory results, treatment, procedures, findings outside the chest, earlier
  films, the bare word "disease" or "findings".
- Lobes, fields and segments are called by their height; lingula is left without a zone. "With" and
  "mainly" carry the place over, a list
  joined by "and" too, a comma does not. A diagnosis behind "consistent with" has its own place or
  none.
- Activity: the word nearest to the finding, from its own clause; acute is active; inactive,
  chronic, healed and "h/o" are old; no change is stable.
"""

import csv
import re
from importlib import import_module
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.annotations import report_parser
from hilum.annotations.report_parser import ACTIVITIES, SIDES, ZONES, Statement, describe, read
from hilum.annotations.vocabulary import State

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
FACTS = ROOT / "tests" / "facts" / "readings.csv"
TERMS = ROOT / "src" / "hilum" / "resources" / "report_terms.csv"
real_data = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real readings of shared/data are not on this machine"
)

PRESENT, ABSENT, UNCERTAIN = State.PRESENT, State.ABSENT, State.UNCERTAIN


def states(text):
    return {statement.concept: statement.state for statement in read(text)}


def places(text):
    return [(statement.concept, statement.side, statement.zone) for statement in read(text)]


def activities(text):
    return {statement.concept: statement.activity for statement in read(text)}


# -------------------------------------------------------------------------------------------- terms


@pytest.mark.parametrize(
    ("text", "concepts"),
    [
        ("PTB", {"tuberculosis"}),
        ("STB", {"post_primary_tuberculosis"}),
        ("left secondary PTB", {"post_primary_tuberculosis"}),
        ("hematogenous disseminated PTB", {"miliary_tuberculosis"}),
        ("calcified granuloma", {"calcification", "granuloma"}),
        ("fibrocavitary change", {"fibrosis", "cavity"}),
        ("pericardial effusion", {"pericardial_effusion"}),
        ("pseudonodule", set()),
        ("the pleural cavity", set()),
        ("positive TB contact, TB treatment begun", set()),
        ("pericardial efusion and infiltraet", {"pericardial_effusion", "infiltration"}),
        ("injection site", set()),
        ("unchanged since 6M; compared with prior films", set()),
    ],
)
def test_whole_words_name_findings_and_parts_of_words_do_not(text, concepts):
    assert set(states(text)) == concepts


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("normal", True),
        ("Normal chest.", True),
        ("CXR is normal", True),
        ("the lungs are clear", True),
        ("no active disease", True),
        ("no abnormality", True),
        ("not normal", False),
        ("heart normal", False),
        ("previously normal CXR", False),
        ("stable CXR", False),
        ("normal voltage in the last cardiogram", False),
        ("", False),
    ],
)
def test_normal_means_the_whole_film_of_today(text, normal):
    assert (states(text) == {"abnormality": ABSENT}) is normal


# ------------------------------------------------------------------------------------------- states


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no effusion", {"effusion": ABSENT}),
        (
            "no cavity, effusion or pneumothorax",
            {"cavity": ABSENT, "effusion": ABSENT, "pneumothorax": ABSENT},
        ),
        ("no effusion, RUL scar", {"effusion": ABSENT, "scar": PRESENT}),
        ("no effusion but a scar", {"effusion": ABSENT, "scar": PRESENT}),
        ("no cavity, he came because of pneumonia", {"cavity": ABSENT, "pneumonia": PRESENT}),
        ("scar no fever", {"scar": PRESENT}),
        ("no effusion; scar", {"effusion": ABSENT, "scar": PRESENT}),
        ("infiltrate without cavitation", {"infiltration": PRESENT, "cavity": ABSENT}),
        ("scar, no comparison films", {"scar": PRESENT}),
        ("effusion has resolved", {"effusion": ABSENT}),
        ("infiltrate and effusion have resolved", {"infiltration": ABSENT, "effusion": ABSENT}),
        ("effusion partially resolved", {"effusion": PRESENT}),
        ("no change in the effusion", {"effusion": PRESENT}),
        ("non-calcified granuloma", {"calcification": ABSENT, "granuloma": PRESENT}),
        ("no evidence of scars or cavities in the left apex", {"scar": ABSENT, "cavity": ABSENT}),
        ("no active disease but old granuloma", {"abnormality": ABSENT, "granuloma": PRESENT}),
        ("no findings consistent with TB", {"tuberculosis": ABSENT}),
    ],
)
def test_negation_reaches_as_far_as_it_is_meant(text, expected):
    assert states(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("possible cavity", {"cavity": UNCERTAIN}),
        ("suspicious for TB", {"tuberculosis": UNCERTAIN}),
        ("active pneumonia likely", {"pneumonia": UNCERTAIN}),
        (
            "effusion some infiltrate likely in the RUL",
            {"effusion": PRESENT, "infiltration": UNCERTAIN},
        ),
        (
            "scar in the LUL, could be related to old TB",
            {"scar": PRESENT, "tuberculosis": UNCERTAIN},
        ),
        ("scar in the RUL, likely treated", {"scar": PRESENT}),
        ("scar in the RUL, likely", {"scar": UNCERTAIN}),
        ("TB cannot be excluded", {"tuberculosis": UNCERTAIN}),
        ("cannot exclude TB", {"tuberculosis": UNCERTAIN}),
        ("TB is excluded", {"tuberculosis": ABSENT}),
        ("r/o TB", {"tuberculosis": UNCERTAIN}),
        ("infiltrate, ? cavity", {"infiltration": PRESENT, "cavity": UNCERTAIN}),
        ("pneumonia vs TB", {"pneumonia": UNCERTAIN, "tuberculosis": UNCERTAIN}),
        ("findings probably consistent with TB", {"tuberculosis": UNCERTAIN}),
        ("infiltrate consistent with TB", {"infiltration": PRESENT, "tuberculosis": PRESENT}),
        ("possible TB with a cavity", {"tuberculosis": UNCERTAIN, "cavity": PRESENT}),
    ],
)
def test_uncertainty_is_neither_presence_nor_absence(text, expected):
    assert states(text) == expected


# ------------------------------------------------------------------------------------------- places


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUL scar", [("scar", "right", "upper")]),
        ("PTB in the left lower field", [("tuberculosis", "left", "lower")]),
        ("scar rt lower lung", [("scar", "right", "lower")]),
        ("scar over the left apex", [("scar", "left", "apex")]),
        ("apical scar on the left", [("scar", "left", "apex")]),
        ("scar LUL apex", [("scar", "left", "apex")]),
        ("infiltrates in both lungs", [("infiltration", "bilateral", None)]),
        ("Lt. effusion", [("effusion", "left", None)]),
        ("effusion", [("effusion", None, None)]),
        (
            "PTB in the right upper field, left pleurisy",
            [("tuberculosis", "right", "upper"), ("pleurisy", "left", None)],
        ),
        ("left PTB right pleurisy", [("tuberculosis", "left", None), ("pleurisy", "right", None)]),
        (
            "scar in the LUL right pleurisy",
            [("scar", "left", "upper"), ("pleurisy", "right", None)],
        ),
        ("right lung: scars", [("scar", "right", None)]),
        (
            "PTB in the right field and effusion",
            [("tuberculosis", "right", None), ("effusion", None, None)],
        ),
        (
            "PTB in the bilateral upper and middle fields",
            [("tuberculosis", "bilateral", "upper"), ("tuberculosis", "bilateral", "middle")],
        ),
        (
            "infiltrates in RUL, LUL and LLL",
            [
                ("infiltration", "right", "upper"),
                ("infiltration", "left", "upper"),
                ("infiltration", "left", "lower"),
            ],
        ),
        (
            "bilateral scars, nodules, and cavities",
            [
                ("scar", "bilateral", None),
                ("nodule", "bilateral", None),
                ("cavity", "bilateral", None),
            ],
        ),
        (
            "scars and cavities in the left apex",
            [("scar", "left", "apex"), ("cavity", "left", "apex")],
        ),
        (
            "scars, nodules, and left effusion",
            [("scar", None, None), ("nodule", None, None), ("effusion", "left", None)],
        ),
        (
            "large infiltrate RUL with cavitation plus nodule in RML",
            [
                ("infiltration", "right", "upper"),
                ("cavity", "right", "upper"),
                ("nodule", "right", "middle"),
            ],
        ),
        (
            "right PTB, mainly fibrous lesions",
            [("tuberculosis", "right", None), ("fibrosis", "right", None)],
        ),
        ("right PTB, COPD", [("tuberculosis", "right", None), ("copd", None, None)]),
        (
            "RUL infiltrate consistent with TB",
            [("infiltration", "right", "upper"), ("tuberculosis", None, None)],
        ),
        ("In the LUL there is a cavity", [("cavity", "left", "upper")]),
        ("cavities in both apices, more extensive on the right", [("cavity", "bilateral", "apex")]),
    ],
)
def test_a_finding_gets_its_own_places(text, expected):
    assert places(text) == expected


# ----------------------------------------------------------------------------------------- activity


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("active TB", {"tuberculosis": "active"}),
        ("inactive TB scars unchanged for 6M", {"tuberculosis": "old", "scar": "old"}),
        ("stable old scar", {"scar": "old"}),
        ("infiltrate RUL, unchanged", {"infiltration": "stable"}),
        ("no significant change in the scar", {"scar": "stable"}),
        (
            "improving effusion and the RUL infiltrate is worse",
            {"effusion": "improving", "infiltration": "worsening"},
        ),
        (
            "improvement in cavities, infiltrates, and left effusion",
            {"cavity": "improving", "infiltration": "improving", "effusion": "improving"},
        ),
        ("old granuloma, effusion", {"granuloma": "old", "effusion": None}),
        ("old scars and granulomas in the RUL", {"scar": "old", "granuloma": "old"}),
        (
            "pleural peel with some improvement with atelectasis",
            {"pleural_thickening": "improving", "atelectasis": None},
        ),
        (
            "h/o spinal TB and pleural TB",
            {"spinal_tuberculosis": "old", "pleural_tuberculosis": "old"},
        ),
        ("45 year old male with a scar", {"scar": None}),
        ("effusion is less apparent", {"effusion": "improving"}),
    ],
)
def test_activity_goes_to_the_finding_it_is_said_of(text, expected):
    assert activities(text) == expected


# --------------------------------------------------------------------------------------- statements


def test_a_statement_keeps_its_clause_as_written_and_can_be_summarised():
    text = "Possible  small cavity LUL, old; NO effusion."
    first, second = read(text)
    assert first == Statement(
        "cavity", UNCERTAIN, "left", "upper", "old", "Possible  small cavity LUL, old"
    )
    assert (second.concept, second.state, second.sentence) == ("effusion", ABSENT, "NO effusion")
    assert [describe(statement) for statement in (first, second)] == [
        "possible cavity, left upper, old",
        "no pleural effusion",
    ]


def _words():
    """All words of the term table, to make up sentences that touch every rule."""
    with TERMS.open(encoding="utf-8", newline="") as file:
        return sorted(
            {word for row in csv.DictReader(file) for word in re.split(r"[ |]", row["words"])}
        )


@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from([*_words(), ".", ";", "İ", "1.5", "but", "\n"]), max_size=25).map(
        " ".join
    )
)
def test_no_text_breaks_the_reader_and_every_statement_can_be_found_in_it(text):
    statements = read(text)
    for statement in statements:
        assert statement.sentence in text and statement.concept in report_parser.concepts()
        assert (
            statement.side in (None, *SIDES)
            and statement.zone in (None, *ZONES)
            and statement.activity in (None, *ACTIVITIES)
        )
    assert read(text) == statements


@given(
    st.lists(
        st.sampled_from(["no", "effusion,", "left", "and", "a" * 1500, "-" * 200, "\t"]),
        min_size=150,
        max_size=300,
    ).map(" ".join)
)
@settings(deadline=None, max_examples=10)
def test_a_clause_without_an_end_is_cut_into_short_ones_that_hold_all_its_words(text):
    """What is done with a clause grows with the square of its length; with a reading's
    it does not.
    """
    clauses = list(report_parser._clauses(text))
    assert max(map(len, clauses)) <= 1000
    assert "".join("".join(clauses).split()) == "".join(re.sub("-{64,}", "-" * 64, text).split())


def test_a_leader_of_any_length_is_one(text="Effusion " + "." * 300_000 + " no"):
    assert states(text) == states("Effusion ..... no")


def test_no_words_of_the_table_mean_two_things():
    with TERMS.open(encoding="utf-8", newline="") as file:
        words = [
            " ".join(words)
            for row in csv.DictReader(file)
            for words in product(*(slot.split("|") for slot in row["words"].split()))
        ]
    assert len(words) == len(set(words)), (
        f"more than once: {sorted({word for word in words if words.count(word) > 1})}"
    )


# ---------------------------------------------------------------------------------------- real data


def test_the_facts_hold_sixty_readings_to_learn_from_and_sixty_to_measure_on():
    with FACTS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    use = {row["image_id"]: row["use"] for row in rows}
    assert all(use[row["image_id"]] == row["use"] for row in rows)
    assert [list(use.values()).count(name) for name in ("development", "held_out", "later")] == [
        60,
        60,
        7,
    ]
    assert {row["concept"] for row in rows} - {""} <= report_parser.concepts()
    assert {row["side"] for row in rows} <= {"", *SIDES} and {row["zone"] for row in rows} <= {
        "",
        *ZONES,
    }
    assert {row["activity"] for row in rows} <= {"", *ACTIVITIES} and {
        row["state"] for row in rows
    } <= {"", "1", "0", "-1"}


@real_data
@pytest.mark.parametrize("use", ["development", "held_out"])
def test_real_readings_are_understood(use):
    bench = vars(import_module("benchmarks.accuracy.report_parser"))
    truth = {
        (image, *fact)
        for image, rows in bench["facts"](use).items()
        for fact in bench["stated"](rows, None)
    }
    found = {
        (image, *fact)
        for image in bench["facts"](use)
        for fact in bench["stated"](bench["said"](SHARED, image), None)
    }
    right = len(truth & found)
    assert right / len(found) >= 0.95, f"wrongly read: {sorted(found - truth)}"
    assert right / len(truth) >= 0.95, f"missed: {sorted(truth - found)}"
