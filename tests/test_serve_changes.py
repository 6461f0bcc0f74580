"""Every change at the desk is a revision with its author, whole or not at all, and stale ones lose."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest

pytest.importorskip("starlette", reason="the desk needs the extra [serve]")

from hilum.imaging.files import image_file
from hilum.revisions.journal import Journal
from hilum.revisions.state import State
from tests import desks


@pytest.fixture
def desk(small_run, tmp_path):
    with desks.opened(desks.copied(small_run, tmp_path)) as browser:
        yield browser


def drawn(browser, row: int, shift: int = 0) -> np.ndarray:
    """Return two rectangles at the size of an image's pixels."""
    image = browser.json(f"/api/v1/images/{row}")
    height, width = image["height"], image["width"]
    labels = np.zeros((height, width), np.uint8)
    rows = slice(height // 4 + shift, 3 * height // 4)
    labels[rows, width // 8 : 3 * width // 8] = 1
    labels[rows, 5 * width // 8 : 7 * width // 8] = 2
    return labels


def put(browser, row: int, labels: np.ndarray, expected: int):
    return browser.change(
        "PUT",
        f"/api/v1/images/{row}/masks/corrected",
        content=desks.png(labels),
        headers={"If-Match": f'"{expected}"', "Content-Type": "image/png"},
    )


def label(browser, row: int, state: str, expected: int = 0, concept: str = "tuberculosis"):
    sent = {"concept": concept, "state": state, "reason": "seen", "expected": expected}
    return browser.post(f"/api/v1/images/{row}/labels", sent)


def missing(browser) -> int:
    return browser.json("/api/v1/images", params={"mask": "missing"})["rows"][0]["row"]


def test_a_label_is_set_with_its_author_and_reason(desk):
    assert label(desk, 1, "uncertain").status_code == 201
    labels = {one["concept"]: one for one in desk.json("/api/v1/images/1")["labels"]}
    found = labels["tuberculosis"]
    assert (found["state"], found["author"], found["revision"]) == ("uncertain", desks.AUTHOR, 1)
    (one,) = desk.json("/api/v1/revisions")["revisions"]
    assert (one["author"], one["reason"], one["after"]) == (desks.AUTHOR, "seen", "uncertain")
    assert one["before"] in ("present", "absent", "not mentioned")


def test_the_worklist_shows_and_counts_what_was_set(desk):
    def total(state):
        query = {"label": f"tuberculosis:{state}", "limit": 1}
        return desk.json("/api/v1/images", params=query)["total"]

    before = total("uncertain")
    label(desk, 3, "uncertain")
    assert total("uncertain") == before + 1
    listed = desk.json("/api/v1/images", params={"label": "tuberculosis:uncertain"})["rows"]
    assert all(one["revised"] for one in listed if one["row"] == 3)


def test_of_two_browsers_the_second_is_refused_and_sees_what_stands(desk):
    other = desks.another(desk, "Ben")
    assert label(desk, 2, "present").status_code == 201
    refused = label(other, 2, "absent")
    assert refused.status_code == 409
    current = refused.json()["current"]
    assert (current["number"], current["author"], current["after"]) == (1, desks.AUTHOR, "present")
    assert label(other, 2, "absent", expected=current["number"]).status_code == 201
    numbers = [one["number"] for one in desk.json("/api/v1/revisions")["revisions"]]
    assert numbers == [2, 1]


def test_of_many_writes_at_once_of_one_label_one_is_kept(desk):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: label(desk, 4, "uncertain").status_code, range(8)))
    assert sorted(answers) == [201] + [409] * 7
    assert desk.json("/api/v1/study")["last_revision"] == 1


def test_writes_at_once_of_many_labels_are_all_kept(desk):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda row: label(desk, row, "uncertain").status_code, range(12)))
    assert answers == [201] * 12
    with Journal.open(desk.desk.folder, create=False) as journal:
        journal.verify()
        assert journal.last == 12


def test_a_drawn_mask_is_kept_in_the_files_own_pixels(desk):
    row = missing(desk)
    labels = drawn(desk, row)
    answer = put(desk, row, labels, 0)
    assert answer.status_code == 201, answer.text
    shown = desks.decoded(desk.get(f"/api/v1/images/{row}/masks/corrected"))
    assert np.array_equal(shown, labels)
    image = desk.json(f"/api/v1/images/{row}")
    assert image["mask"] == "corrected"
    assert image["masks"]["corrected"]["author"] == desks.AUTHOR
    assert image["mask_revision"] == answer.json()["revision"]
    with Journal.open(desk.desk.folder, create=False) as journal:
        image_id = desk.desk.study.image_id(row)
        kept = journal.mask(State.of(journal).masks[image_id].change.digest)
    file = desk.desk.shown(row).file
    assert kept.shape == image_file.own_size(file)
    assert np.array_equal(image_file.to_display(file, kept), labels)


def test_a_mask_on_top_of_one_that_was_not_seen_is_refused(desk):
    row = missing(desk)
    assert put(desk, row, drawn(desk, row), 0).status_code == 201
    stale = put(desk, row, drawn(desk, row, shift=3), 0)
    assert stale.status_code == 409
    assert stale.json()["current"]["number"] == 1
    unsaid = desk.change(
        "PUT", f"/api/v1/images/{row}/masks/corrected", content=desks.png(drawn(desk, row))
    )
    assert unsaid.status_code == 428


def test_a_mask_that_is_taken_back_is_missing_again(desk):
    row = missing(desk)
    before = desk.json("/api/v1/images", params={"mask": "missing"})["total"]
    put(desk, row, drawn(desk, row), 0)
    assert desk.json("/api/v1/images", params={"mask": "missing"})["total"] == before - 1
    address = f"/api/v1/images/{row}/masks/corrected"
    assert desk.change("DELETE", address, headers={"If-Match": '"1"'}).status_code == 201
    assert desk.get(address).status_code == 404
    assert desk.json("/api/v1/images", params={"mask": "missing"})["total"] == before
    assert desk.json(f"/api/v1/images/{row}")["mask_revision"] == 2


@pytest.mark.parametrize(
    ("spoil", "status"),
    [
        (lambda labels: labels[:-1], 422),
        (lambda labels: labels * 0, 422),
        (lambda labels: labels + 7, 422),
    ],
    ids=["other size", "no lung", "other values"],
)
def test_a_mask_that_cannot_be_one_is_refused_and_not_kept(desk, spoil, status):
    row = missing(desk)
    answer = put(desk, row, spoil(drawn(desk, row)), 0)
    assert answer.status_code == status, answer.text
    assert answer.json()["remedy"]
    assert desk.json("/api/v1/study")["last_revision"] == 0


def test_plausibility_names_what_the_audit_would_name_and_keeps_nothing(desk):
    row = desk.json("/api/v1/images", params={"mask": "reference"})["rows"][0]["row"]
    address = f"/api/v1/images/{row}/plausibility"
    own = desks.decoded(desk.get(f"/api/v1/images/{row}/masks/reference"))
    same = desk.change("POST", address, content=desks.png(own)).json()
    assert same["dice_to_reference"] == 1
    exchanged = np.where(own == 1, 2, np.where(own == 2, 1, own))
    found = desk.change("POST", address, content=desks.png(exchanged)).json()
    assert any("exchanged" in flag for flag in found["flags"])
    one = desk.change("POST", address, content=desks.png(np.where(own == 1, 1, 0))).json()
    assert any("left lung is not drawn" in flag for flag in one["flags"])
    assert desk.json("/api/v1/study")["last_revision"] == 0


def test_corrections_of_an_image_add_up_and_can_be_taken_back(desk):
    address = "/api/v1/images/5/corrections"
    assert desk.post(address, {"action": "mirror", "expected": 0}).status_code == 201
    rotated = {"action": "rotate", "value": "90", "expected": 1}
    assert desk.post(address, rotated).status_code == 201
    found = desk.json("/api/v1/images/5")
    assert {one["action"] for one in found["corrections"]} == {"mirror", "rotate"}
    back = {"action": "mirror", "remove": True, "expected": found["image_revision"]}
    assert desk.post(address, back).status_code == 201
    found = desk.json("/api/v1/images/5")
    assert [one["action"] for one in found["corrections"]] == ["rotate"]


def test_a_correction_that_no_run_could_take_up_is_refused(desk):
    address = "/api/v1/images/5/corrections"
    for wrong in (
        {"action": "rotate", "value": "45"},
        {"action": "rotate"},
        {"action": "same patient as", "other": "nobody/knows"},
        {"action": "keep one of pair", "other": desk.desk.study.image_id(5)},
    ):
        answer = desk.post(address, {**wrong, "expected": 0})
        assert answer.status_code == 422, wrong
        assert answer.json()["error"]
    assert desk.json("/api/v1/study")["last_revision"] == 0


def test_issues_are_accepted_dismissed_with_a_reason_and_mended(desk):
    issues = desk.json("/api/v1/issues", params={"limit": 500})["issues"]
    number = issues[0]["number"]
    address = f"/api/v1/issues/{number}"
    without = desk.post(address, {"decision": "dismissed", "expected": 0})
    assert without.status_code == 422
    dismissed = {"decision": "dismissed", "reason": "it is so", "expected": 0}
    assert desk.post(address, dismissed).status_code == 201
    found = desk.json("/api/v1/issues", params={"decision": "dismissed"})["issues"]
    assert [(one["number"], one["reason"]) for one in found] == [(number, "it is so")]
    offered = next(one for one in issues if one["corrections"] and one["number"] != number)
    mended = {"decision": "mended", "corrections": offered["corrections"][:1], "expected": 0}
    answer = desk.post(f"/api/v1/issues/{offered['number']}", mended)
    assert answer.status_code == 201, answer.text
    opened = desk.json("/api/v1/images", params={"issue": "open", "limit": 500})["total"]
    everything = desk.json("/api/v1/images", params={"issue": "any", "limit": 500})["total"]
    assert opened <= everything


def test_many_images_change_at_once_by_rows_or_by_a_filter(desk):
    change = {"kind": "label", "concept": "tuberculosis", "state": "uncertain", "reason": "review"}
    answer = desk.post("/api/v1/bulk", {"rows": [0, 1, 2], "change": change})
    assert answer.status_code == 201, answer.text
    assert answer.json() == {"changed": 3, "skipped": [], "revisions": [1, 3]}
    again = desk.post("/api/v1/bulk", {"rows": [2, 3], "change": change}).json()
    assert (again["changed"], [one["row"] for one in again["skipped"]]) == (1, [2])
    left_out = {"kind": "correction", "action": "leave out"}
    filtered = {"filter": "label=tuberculosis%3Auncertain", "change": left_out}
    assert desk.post("/api/v1/bulk", filtered).json()["changed"] >= 4


def test_a_revision_is_undone_by_another_one(desk):
    label(desk, 1, "uncertain")
    before = desk.json("/api/v1/images/1")["labels"]
    undone = desk.post("/api/v1/revisions/1/undo", {"reason": "a slip"})
    assert undone.status_code == 201
    after = {one["concept"]: one for one in desk.json("/api/v1/images/1")["labels"]}
    assert after["tuberculosis"]["state"] != "uncertain"
    assert before != list(after.values())
    newest, first = desk.json("/api/v1/revisions")["revisions"]
    assert first["undone_by"] == newest["number"] == 2
    assert desk.post("/api/v1/revisions/1/undo").status_code == 409


def test_blind_readings_of_two_readers_give_kappa_and_change_no_label(desk):
    other = desks.another(desk, "Ben")
    states = ["present", "absent"] * 5
    for row, state in enumerate(states):
        sent = {"row": row, "concept": "tuberculosis", "expected": 0}
        assert desk.post("/api/v1/readings", {**sent, "state": state}).status_code == 201
        second = "absent" if row == 0 else state
        assert other.post("/api/v1/readings", {**sent, "state": second}).status_code == 201
    found = desk.json("/api/v1/agreement", params={"concept": "tuberculosis"})
    assert (found["n"], found["kappa"]) == (10, pytest.approx(0.8))
    (one,) = found["disagreements"]
    assert (one["row"], {one["a"], one["b"]}) == (0, {"present", "absent"})
    assert desk.json("/api/v1/images", params={"label": "tuberculosis:uncertain"})["total"] == 0


def test_a_change_needs_a_name(desk):
    nobody = desks.another(desk, "")
    answer = label(nobody, 1, "present")
    assert answer.status_code == 428
    assert "name" in answer.json()["error"]


def test_what_another_process_writes_is_shown(desk):
    label(desk, 1, "uncertain")
    from hilum.revisions.changes import SetLabel

    with Journal.open(desk.desk.folder) as journal:
        image_id = desk.desk.study.image_id(2)
        journal.append(SetLabel(image_id, "tuberculosis", "uncertain"), author="Cleo", expected=0)
    labels = {one["concept"]: one for one in desk.json("/api/v1/images/2")["labels"]}
    assert labels["tuberculosis"]["author"] == "Cleo"


def test_the_next_image_to_draw_is_one_without_a_mask(desk):
    rows = desk.json("/api/v1/next-to-draw", params={"limit": 5})["rows"]
    missing_rows = desk.json("/api/v1/images", params={"mask": "missing", "limit": 500})["rows"]
    assert {one["row"] for one in rows} <= {one["row"] for one in missing_rows}
    first = rows[0]["row"]
    put(desk, first, drawn(desk, first), 0)
    again = desk.json("/api/v1/next-to-draw", params={"limit": 500})["rows"]
    assert first not in {one["row"] for one in again}


def test_the_run_and_the_data_are_never_changed(small_run, tmp_path):
    folder = desks.copied(small_run, tmp_path)

    def contents():
        files = (one for one in folder.rglob("*") if one.is_file())
        return {
            one.relative_to(folder): one.read_bytes()
            for one in files
            if "annotations" not in one.parts
        }

    before = contents()
    with desks.opened(folder) as browser:
        label(browser, 1, "uncertain")
        row = missing(browser)
        put(browser, row, drawn(browser, row), 0)
    assert contents() == before
    assert pl.read_parquet(folder / "labels.parquet").equals(small_run.manifest().labels)
