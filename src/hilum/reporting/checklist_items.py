"""The items of TRIPOD+AI and CLAIM: the requirement, the run's answer, what a person must add.

Items are those of TRIPOD+AI (Collins et al., BMJ 2024;385:e078378: studies that develop or evaluate
a prediction model) and of CLAIM in its 2024 update (Tejani et al., Radiology: AI 2024;6(4):e240300:
artificial intelligence in medical imaging), by their numbers and in our own words; where both
require the same they share a row. Why, where, when and by whom is not in a folder of images, so
those items are left to the person who writes the study up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from hilum.reporting import checklist_answers as answers
from hilum.reporting.context import Context

ANSWERED, PARTLY, YOURS = "answered by the run", "answered in part", "for you to complete"


class Item(NamedTuple):
    """What both lists require under these numbers, the answer, and `left`: what a person must add.

    Without an `answer` the run can say nothing; `left` is empty where nothing remains.
    """

    tripod: str
    claim: str
    requirement: str
    answer: Callable[[Context], str] | None = None
    left: str = ""


@dataclass(frozen=True)
class Row:
    """An item with the run's answer to it."""

    tripod: str
    claim: str
    requirement: str
    answer: str
    left: str
    state: str


@dataclass(frozen=True)
class Checklist:
    """All rows, and how many there are of each state."""

    rows: list[Row]
    counts: dict[str, int]


def answered(context: Context) -> Checklist:
    """Answer every item from a run."""
    rows = [_row(item, context) for item in ITEMS]
    states = [row.state for row in rows]
    return Checklist(rows, {state: states.count(state) for state in (ANSWERED, PARTLY, YOURS)})


def _row(item: Item, context: Context) -> Row:
    answer = item.answer(context) if item.answer else ""
    left, state = item.left, PARTLY if item.left else ANSWERED
    if not answer:
        left, state = item.left or "to be stated", YOURS
    return Row(item.tripod, item.claim, item.requirement, answer, left, state)


ITEMS = (
    Item(
        "1",
        "1",
        "State in the title that a machine-learning prediction model is developed or tested, of "
        "which outcome and in whom",
        answers.title,
        "the title itself",
    ),
    Item("2", "2", "A structured abstract", None, "the abstract"),
    Item(
        "3a",
        "3",
        "The clinical setting, the rationale, and existing models",
        None,
        "the background",
    ),
    Item(
        "3b",
        "",
        "The target population, the place in care, and the intended users",
        None,
        "the intended use",
    ),
    Item("3c", "", "Known inequalities in health between groups", None, "what is known of them"),
    Item("4", "4, 6", "Aims: development, evaluation, or both; the study's goal", None, "the aims"),
    Item(
        "",
        "5",
        "Prospective or retrospective",
        lambda context: "Retrospective: the run reads existing images.",
        "whether they were collected for this",
    ),
    Item(
        "5a",
        "7",
        "Where the data come from, and how well they represent the target population",
        answers.sources,
        "why these data, and whom they represent",
    ),
    Item("5b", "", "When the data were collected", None, "the dates, from the data's publishers"),
    Item(
        "6a",
        "",
        "The centres: how many, of what kind, where",
        None,
        "the centres, from the data's publishers",
    ),
    Item("6b", "8", "Eligibility", answers.eligible, "whom the publishers had chosen before"),
    Item(
        "6c",
        "",
        "Treatments, where they bear on the outcome",
        None,
        "treatments, or that they do not",
    ),
    Item("7", "9", "How data were prepared and checked", answers.preparation),
    Item("", "10", "Which subsets of the data were used", answers.eligible),
    Item(
        "",
        "11",
        "How the data were de-identified",
        None,
        "how the publishers did it; the audit searches for identifiers that remain",
    ),
    Item(
        "8a",
        "14",
        "The outcome, and how it was determined",
        answers.outcome,
        "what the readers based it on",
    ),
    Item("8b", "16", "Who determined it, with what training", None, "the readers' qualifications"),
    Item(
        "8c",
        "17",
        "Whether its assessors were blinded, and how the test part was annotated",
        None,
        "from the data's publishers",
    ),
    Item("", "15", "Why this reference standard", None, "the reason"),
    Item("", "18", "Variability between readers", None, "agreement between and within readers"),
    Item(
        "9a",
        "",
        "Which predictors were considered",
        lambda context: "The image alone: no other predictor is given to a model.",
        "",
    ),
    Item(
        "9b",
        "13",
        "How predictors are measured: acquisition of the images",
        None,
        "machines and protocols, from the data's publishers",
    ),
    Item(
        "9c",
        "",
        "Who assesses predictors that need judgement",
        lambda context: "Nobody: the image is read by the model.",
        "",
    ),
    Item(
        "10", "21", "The size of the sample, and why it is enough", answers.flow, "why it is enough"
    ),
    Item("11", "12", "Missing and uncertain data", answers.missing),
    Item("12a", "19", "How data were divided, and what each part was used for", answers.split),
    Item("", "20", "At which level the parts are disjoint", answers.disjoint),
    Item("12b", "", "How predictors enter the model", answers.preparation),
    Item(
        "12c",
        "22",
        "The model: type, architecture, inputs and outputs",
        answers.model,
        "why this one",
    ),
    Item("", "23", "Software", answers.software, "the versions that you used"),
    Item("", "24", "How weights are initialised", answers.initial),
    Item("", "25", "How it was trained", answers.training),
    Item(
        "",
        "26, 27",
        "How the final model was chosen; whether several are combined",
        answers.selected,
        "what was tried before this run",
    ),
    Item(
        "12d",
        "",
        "Heterogeneity between centres: how it is handled",
        None,
        "how; `hilum cross-evaluate` measures them",
    ),
    Item("12e", "28, 29", "Measures of performance and of uncertainty", answers.measures),
    Item(
        "12f",
        "",
        "Whether the model was updated after testing",
        lambda context: "Not by the run: what it tests is what it trained.",
        "",
    ),
    Item(
        "12g",
        "",
        "How predictions are made",
        lambda context: (
            "By ONNX Runtime from the exported file, one image at a time; `hilum apply` gives the "
            "same for any file."
        ),
        "",
    ),
    Item("13", "", "Class imbalance", answers.imbalance),
    Item("14", "", "What was done for fairness", None, "what was done, or that nothing was"),
    Item("15", "", "The model's output, and how thresholds were chosen", answers.output),
    Item(
        "16",
        "32",
        "How training and test data differ; evaluation on data of the same source",
        answers.same,
        "whether a split that came with the data differs in more than patients",
    ),
    Item("17", "", "Ethical approval", None, "approval or why none is needed"),
    Item("18a", "44", "Funding", None, "funding"),
    Item("18b", "", "Conflicts of interest", None, "conflicts"),
    Item("18c", "42", "Protocol", None, "where it is"),
    Item("18d", "34", "Registration", None, "where it is registered"),
    Item(
        "18e",
        "",
        "Availability of the data",
        lambda context: "; ".join(
            f"{card.title}: {card.source or 'source not stated'}, {card.licence}"
            for card in context.cards
        ),
        "",
    ),
    Item("18f", "43", "Availability of code and models", answers.available, "where you put them"),
    Item("19", "", "Patient and public involvement", None, "how they were involved"),
    Item("20a", "35", "Flow of people and images, with and without the outcome", answers.flow),
    Item("20b", "36", "Characteristics of the participants, in each part", answers.people),
    Item("20c", "", "How development and test data compare", answers.people),
    Item("21", "", "How many people and outcomes each analysis had", answers.flow),
    Item(
        "22",
        "",
        "The whole model, so that others can use it",
        answers.available,
        "where you put it",
    ),
    Item(
        "23a",
        "37, 38",
        "Performance with intervals, in each part and subgroup",
        answers.performance,
        "subgroups beyond those of the data's columns",
    ),
    Item(
        "23b",
        "",
        "Performance by centre",
        answers.by_source,
        "other centres: `hilum cross-evaluate`",
    ),
    Item("", "30", "Robustness", None, "what was varied, and the results"),
    Item("", "31", "Explanations of the model", answers.explained, "their interpretation"),
    Item(
        "",
        "33",
        "External evaluation",
        None,
        "a set of another centre: `hilum cross-evaluate` measures on it",
    ),
    Item(
        "24",
        "",
        "Results of updating",
        lambda context: "None: the run does not update a model.",
        "",
    ),
    Item("", "39", "Failure analysis", answers.failures, "what the failures have in common"),
    Item("25", "41", "Interpretation", None, "the interpretation"),
    Item("26", "40", "Limitations", answers.limits, "limitations of the design"),
    Item("27a", "", "Handling of poor or missing input", answers.unusable),
    Item("27b", "", "What users must do and know", None, "their role and training"),
    Item("27c", "", "Next steps", None, "what remains to be studied"),
)
