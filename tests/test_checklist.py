"""The reviewer's checklist and the model card: what they answer is in the run, and what they cannot
answer is left to a person.
"""

import re

import polars as pl
import pytest
from markdown_it import MarkdownIt

from hilum.reporting import checklist_items, model_card, report, text
from hilum.reporting.context import Context

TRIPOD = [
    "1",
    "2",
    "3a",
    "3b",
    "3c",
    "4",
    "5a",
    "5b",
    "6a",
    "6b",
    "6c",
    "7",
    "8a",
    "8b",
    "8c",
    "9a",
    "9b",
    "9c",
    "10",
    "11",
    "12a",
    "12b",
    "12c",
    "12d",
    "12e",
    "12f",
    "12g",
    "13",
    "14",
    "15",
    "16",
    "17",
    "18a",
    "18b",
    "18c",
    "18d",
    "18e",
    "18f",
    "19",
    "20a",
    "20b",
    "20c",
    "21",
    "22",
    "23a",
    "23b",
    "24",
    "25",
    "26",
    "27a",
    "27b",
    "27c",
]


@pytest.fixture(scope="module")
def facts(small_run):
    return Context.of(small_run, small_run.recipe())


@pytest.fixture(scope="module")
def rows(facts):
    return {(row.tripod, row.claim): row for row in checklist_items.answered(facts).rows}


def answer(rows, tripod):
    return next(row.answer for (number, _), row in rows.items() if number == tripod)


def test_every_item_of_both_lists_stands_there_once():
    tripod = [item.tripod for item in checklist_items.ITEMS if item.tripod]
    claim = [
        int(number)
        for item in checklist_items.ITEMS
        if item.claim
        for number in item.claim.split(", ")
    ]
    assert sorted(tripod) == sorted(TRIPOD) and sorted(claim) == list(range(1, 45))


def test_what_the_run_cannot_know_is_left_to_a_person_and_nothing_is_empty(facts, rows):
    for (tripod, claim), row in rows.items():
        assert row.answer or row.left, (tripod, claim)
        assert (row.state == checklist_items.ANSWERED) == (bool(row.answer) and not row.left)
    yours = {tripod for (tripod, _), row in rows.items() if row.state == checklist_items.YOURS}
    assert {
        "2",
        "3a",
        "3b",
        "3c",
        "4",
        "5b",
        "6a",
        "8b",
        "17",
        "18a",
        "18b",
        "18c",
        "19",
        "25",
    } <= yours
    assert sum(checklist_items.answered(facts).counts.values()) == len(checklist_items.ITEMS)


def test_answers_are_the_runs_own_numbers(facts, rows):
    test = facts.table.filter(pl.col("part") == "test")
    assert (
        f"test: {test.height} images of {test['patient_id'].n_unique()} patients, "
        f"{(test['state'] == 1).sum()} with" in answer(rows, "20a")
    )
    figure = facts.metrics.filter(
        (pl.col("task") == "finding")
        & (pl.col("part") == "test")
        & (pl.col("source") == "all")
        & (pl.col("metric") == "auroc")
    )
    assert f"AUROC {text.interval(text.Figure.of(figure.row(0, named=True)), 'auroc')}" in answer(
        rows, "23a"
    )
    assert all(
        digest in answer(rows, "18f")
        for file, digest in facts.run.made("train").items()
        if file.endswith(".onnx")
    )
    assert (
        "100 resamples" in answer(rows, "12e")
        and "'percentiles'" in answer(rows, "7")
        and facts.recipe.classify.model in answer(rows, "12c")
    )
    states = facts.manifest.states(facts.concept)["state"]
    assert f"{states.null_count()} do not mention" in answer(rows, "11")


def test_without_a_finding_nothing_is_claimed_of_one(facts):
    from dataclasses import replace

    bare = replace(facts, concept=None, metrics=facts.metrics.clear())
    rows = {(row.tripod, row.claim): row for row in checklist_items.answered(bare).rows}
    assert (
        "None was trained on" in answer(rows, "8a")
        and answer(rows, "23a") == answer(rows, "11") == answer(rows, "1") == ""
    )


def test_the_report_holds_the_checklist_and_a_model_card_lies_beside_it(small_run, facts):
    page = (small_run / report.PAGE).read_text()
    assert (
        "<details><summary>All items</summary>" in page
        and '<a href="#checklist">9 Reporting checklist</a>' in page
    )
    card = (small_run / report.CARD).read_text()
    assert small_run.made("report").keys() == {report.PAGE, report.CARD, report.score_table.FILE}
    made = small_run.made("train")
    assert (
        made["train/finding.onnx"] in card
        and made["train/anomaly.onnx"] in card
        and "must not be used" in card
    )
    assert "None" not in card and "nan" not in re.findall(r"\w+", card)
    html = MarkdownIt("commonmark").enable("table").render(card)
    assert html.count("<table>") == 4 and "<h2>" in html


def test_the_card_of_a_hostile_set_stays_text(small_run, facts):
    from dataclasses import replace

    hostile = replace(
        facts, cards=[replace(facts.cards[0], title="<script>alert(1)</script> | [x](http://x)")]
    )
    card = model_card.render(hostile, limits=["![y](http://y)"])
    assert "alert(1)" in card
    html = MarkdownIt("commonmark").enable("table").render(card)
    assert "<script" not in html and "<img" not in html and "<a " not in html


def test_it_names_the_lung_model_that_was_used_and_begins_where_the_settings_say(facts, rows):
    assert "Lungs: compact_unet;" in answer(rows, "12c") and "ImageNet" in rows["", "24"].answer

    class Shipped(type(facts.run)):
        def summary(self, step):
            return (
                {"model": "pretrained", "reason": "requested"}
                if step == "segment"
                else super().summary(step)
            )

    from dataclasses import replace

    of = {
        row.tripod or row.claim: row.answer
        for row in checklist_items.answered(replace(facts, run=Shipped(facts.run.folder))).rows
    }
    assert "Lungs: pretrained, not trained in this run" in of["12c"]
