"""What reports deny, flag and affirm: phrases rule by rule, made-up sentences, and properties.

tests/facts/report_language.csv holds made-up sentences with all that each says. `use`: development
(the rules were written with these in view), held_out and later (each written, with its truth,
before it was first read; what was read then stands in benchmarks/accuracy/report_parser.py). Each
row has a kind and the concepts present, absent and uncertain; what is said of no finding has none.
"""

import csv
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilum.annotations.report_parser import read
from hilum.annotations.vocabulary import State

SENTENCES = Path(__file__).resolve().parent / "facts" / "report_language.csv"
PRESENT, ABSENT, UNCERTAIN = State.PRESENT, State.ABSENT, State.UNCERTAIN

FINDINGS = {
    "effusion": "effusion",
    "cavities": "cavity",
    "pneumothorax": "pneumothorax",
    "a mass": "mass",
    "scarring": "scar",
    "consolidation": "consolidation",
    "lymphadenopathy": "lymphadenopathy",
    "tuberculosis": "tuberculosis",
}
ASSERTIONS = {
    PRESENT: """{}
not without {}
not free of {}
the film is not negative for {}
no absence of {}
neither lung is without {}
no lobe is free of {}
no lack of {}
{} has not resolved
{} not resolved
{} hasn't cleared yet
{} did not resolve
{} failed to clear
{} without resolution
{} is no longer absent
{} has not completely disappeared
no evidence that the {} has resolved
no sign of resolution of {}
no increase in {}
no decrease in {}
no change in {}
no significant interval change in {}
no evidence of progression of {}
no worsening of {}
no improvement in the size of {}
{} has not increased
{} is not smaller
{} without improvement
{}: no change
not only {} but also a hernia
not merely {}
not necessarily {}
there is no doubt about {}
no other abnormality than {}
no abnormality other than {}
no abnormality except {}
nothing but {}
nothing other than {}
no more than {}
normal except for {}
lungs are clear apart from {}
aside from {} there is no abnormality
no hernia, however {}
no hernia but {}
no hernia; {}
no hernia, only {}
no hernia although there is {}
{}: yes
{} = yes
{} (+)
{} - present
[x] {}
hernia: no {}: yes
{}, no other {}
persistent {}
consistent with {}""",
    ABSENT: """no {}
without {}
w/o {}
free of {}
negative for {}
devoid of {}
nothing to suggest {}
nothing suspicious for {}
no evidence of {}
no convincing sign of {}
no suspicion of {}
no reason to suspect {}
little to suggest {}
not suggestive of {}
findings do not suggest {}
no findings to suggest {}
{} is not seen
{} cannot be seen
{} has not been identified
{} is no longer visible
no longer any {}
fails to show {}
lack of {}
resolved {}
{} has resolved
complete resolution of {}
{} with interval resolution
{} is excluded
{} was ruled out
status post {}
s/p {}
never had {}
no effusion nor {}
neither hernia nor {}
no hernia, fracture or {}
no hernia, no {}
{}: no
{}: none
{} - none
{} – no
{} = no
{} | no
{}? No
{} no.
{} (-)
{} (absent)
{}: negative
{}: nil
{}: 0
{}: N
{}: not present
{}: there is none
{}: none seen
{}: no evidence
{} ....... no
{}: no hernia: yes
{} (left): no
[ ] {}
absent: {}
no evidence of: {}
{}: no {}""",
    UNCERTAIN: """possible {}
{} cannot be excluded
cannot exclude {}
can't exclude {}
could not completely exclude {}
unable to exclude {}
difficult to exclude {}
it is impossible to rule out {}
not possible to exclude {}
{} is not excluded
{} is not ruled out
CT to exclude {}
not certain if {}
it is not clear whether there is {}
cannot say whether there is {}
unclear whether there is {}
I am not sure about {}
cannot say that there is no {}
the presence of {} is uncertain
absence of {} is not certain
{} is not unlikely
not inconsistent with {}
not likely {}
probably no {}
{} has possibly resolved
doubtful {}
low probability of {}
hernia cannot be distinguished from {}
{}: possible
{}: ?
{}: not excluded""",
}
TEMPLATES = [(form, state) for state, forms in ASSERTIONS.items() for form in forms.splitlines()]


def states(text):
    return {said.concept: said.state for said in read(text)}


@pytest.mark.parametrize(("form", "state"), TEMPLATES, ids=[form for form, _ in TEMPLATES])
def test_a_phrase_says_the_same_of_every_finding(form, state):
    for words, concept in FINDINGS.items():
        text = form.replace("{}", words)
        said = [one.state for one in read(text) if one.concept == concept]
        assert said and set(said) == {state}, f"{text!r}: {said}"


@given(st.sampled_from(TEMPLATES), st.sampled_from(sorted(FINDINGS)), st.sampled_from(" .;\n"))
def test_capitals_blanks_and_the_end_of_a_line_change_nothing(template, words, end):
    text = template[0].replace("{}", words)
    assert states(f"  {text.upper()}{end}") == states(text)


@given(st.sampled_from(["no", "not", "without", "never"]), st.integers(1, 7))
def test_every_second_negation_undoes_the_one_before(word, count):
    expected = ABSENT if count % 2 else PRESENT
    assert states(f"{word} " * count + "effusion") == {"effusion": expected}


ROW_FORMS = ("{}: {}", "{} = {}", "{} - {}", "{} – {}", "{} | {}", "{}? {}", "{} ({})", "{}\t{}")
CELLS = {"no": ABSENT, "none": ABSENT, "yes": PRESENT, "present": PRESENT, "possible": UNCERTAIN}
ENDS = ("; ", "\n", ". ", ", ")
rows_of_tables = st.lists(
    st.tuples(st.sampled_from(sorted(FINDINGS)), st.sampled_from(sorted(CELLS))),
    min_size=1,
    max_size=6,
    unique_by=lambda row: row[0],
)


@given(rows_of_tables, st.sampled_from(ROW_FORMS), st.sampled_from(ENDS))
def test_each_row_of_a_table_has_its_own_answer(rows, form, end):
    expected = {FINDINGS[words]: CELLS[cell] for words, cell in rows}
    assert states(end.join(form.format(*row) for row in rows)) == expected


@given(
    st.lists(st.sampled_from(sorted(FINDINGS)), min_size=2, max_size=5, unique=True),
    st.sampled_from(["no", "no evidence of", "without", "free of", "negative for", "absent:"]),
    st.sampled_from(["or", "and"]),
)
def test_a_list_is_denied_to_its_end_and_no_further(words, denial, link):
    listed = f"{', '.join(words[:-1])} {link} {words[-1]}"
    expected = {FINDINGS[word]: ABSENT for word in words}
    for end in ("; a hernia", ", but a hernia", ". A hernia", ", however a hernia"):
        assert states(f"{denial} {listed}{end}") == {**expected, "hernia": PRESENT}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("not certain if the opacity is a mass", {"lung_opacity": PRESENT, "mass": UNCERTAIN}),
        ("no effusion except on the left", {"effusion": PRESENT}),
        ("a nodule; no other nodules", {"nodule": PRESENT}),
        ("no other nodules", {"nodule": ABSENT}),
        ("no old films. No effusion", {"effusion": ABSENT}),
        ("Heart: normal. Effusion: yes", {"effusion": PRESENT}),
        ("Lungs: clear", {"abnormality": ABSENT}),
        ("Abnormality: none", {"abnormality": ABSENT}),
        ("the heart is not enlarged", {"cardiomegaly": ABSENT}),
        ("no enlargement of the heart", {"cardiomegaly": ABSENT}),
        ("effusion: not assessed", {}),
        ("effusion: n/a; scar: yes", {"scar": PRESENT}),
        ("TB smear: negative", {"tuberculosis": PRESENT}),
        ("effusion, HIV negative", {"effusion": PRESENT}),
        ("gram negative pneumonia", {"pneumonia": PRESENT}),
        ("no increased density", {"lung_opacity": ABSENT}),
        ("no worsening effusion", {"effusion": UNCERTAIN}),
        (
            "resolved effusion and persistent atelectasis",
            {"effusion": ABSENT, "atelectasis": PRESENT},
        ),
        ("no increase in the scar or the cavity", {"scar": PRESENT, "cavity": PRESENT}),
    ],
)
def test_words_mean_what_they_mean_beside_their_neighbours(text, expected):
    assert states(text) == expected


def test_what_is_not_changed_is_stable_and_what_is_half_gone_is_improving():
    texts = {
        "no increase in the effusion": "stable",
        "effusion has not progressed": "stable",
        "effusion has not fully resolved": "improving",
        "near complete resolution of the effusion": "improving",
        "status post effusion": "old",
    }
    assert {text: read(text)[0].activity for text in texts} == texts


def facts(use):
    with SENTENCES.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["use"] == use:
                named = {state: row[state.name.lower()].split() for state in State}
                truth = {(concept, state) for state in State for concept in named[state]}
                yield row["sentence"], truth


@pytest.mark.parametrize(("use", "count"), [("development", 60), ("held_out", 60), ("later", 50)])
def test_made_up_sentences_are_understood(use, count):
    wrong = {}
    for sentence, truth in facts(use):
        count -= 1
        if (got := {(said.concept, said.state) for said in read(sentence)}) != truth:
            wrong[sentence] = got
    assert not wrong and not count


@pytest.mark.parametrize(
    "part",
    ["left right ", "no effusion, ", "effusion: no ", "no evidence that ", "... ", "[ ] scar "],
)
def test_the_work_of_reading_grows_with_the_text_and_not_with_its_square(part):
    def calls(count):
        made = Counter()
        sys.setprofile(lambda frame, event, argument: made.update([event]))
        try:
            read(part * count)
        finally:
            sys.setprofile(None)
        return made["call"] + made["c_call"]

    assert calls(1600) < 24 * max(calls(200), 100)  # the square would be 64
