"""Three stories of readers at the desk, in a real browser, on made-up data, from start to end."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import polars as pl
import pytest
from conftest import hilum
from test_displayed import spoil

from hilum import storage
from hilum.dataset.manifest import Manifest
from hilum.dataset.readers import kaggle_masks
from hilum.imaging.files.pose import Display
from tests.browsers import Desk, Reader, served

MISSING, CORRECTED = 4, 3  # images of the small run
SMALL = '[data]\nfolder = "data"\n[pixels]\nsize = 64\n'


def stroke(reader: Reader) -> None:
    """Draw over the middle of the image with the brush, as a hand does."""
    box = reader.page.locator("#main-pane").bounding_box()
    middle, height = box["x"] + box["width"] * 0.42, box["y"] + box["height"] / 2
    mouse = reader.page.mouse
    mouse.move(middle, height)
    mouse.down()
    for step in range(1, 8):
        mouse.move(middle + 4 * step, height + 3 * step)
    mouse.up()


def correct_the_shown(reader: Reader) -> None:
    """Begin from the proposal, correct it by a stroke, and save it."""
    page = reader.page
    page.locator('[data-origin="found"]').click()
    page.locator("#origin", has_text="predicted mask").wait_for()
    page.keyboard.press("b")
    stroke(reader)
    page.locator("#unsaved", has_text="not saved").wait_for()
    page.locator("#save").click()
    page.get_by_text("mask saved").first.wait_for()
    page.locator("#unsaved", has_text="not saved").wait_for(state="detached")


def ask(desk: Desk, reader: Reader, path: str):
    """Return JSON of the API, as the reader's session gets it."""
    answer = reader.page.request.get(f"{desk.base}/api/v1/{path}")
    assert answer.ok, answer.text()
    return answer.json()


def lung_dice(run: Path) -> pl.DataFrame:
    metrics = storage.read_table(run / "metrics.parquet")
    return metrics.filter((pl.col("task") == "lungs") & pl.col("metric").str.contains("(?i)dice"))


def test_missing_masks_are_completed_from_proposals_and_the_next_run_is_trained_on_them(
    small_run, tmp_path, chromium
):
    recipe, run = small_run.folder.parent / "recipe.toml", tmp_path / "run"
    shutil.copytree(small_run.folder, run)
    had = Manifest.read(run).shapes
    with served(run, chromium) as desk, desk.reader("Ann") as ann:
        page = ann.page
        page.locator("#filters label", has_text="missing: no reference").click()
        page.wait_for_url("**mask=missing**")
        page.locator(f'#worklist[data-total="{MISSING}"]').wait_for()
        addresses = [link.get_attribute("href") for link in page.locator("#items a").all()]
        assert len(addresses) == MISSING
        for address in addresses[:CORRECTED]:
            page.goto(desk.base + address)
            correct_the_shown(ann)
        page.goto(f"{desk.base}/?mask=missing")
        page.locator(f'#worklist[data-total="{MISSING - CORRECTED}"]').wait_for()
        saved = [
            one
            for one in ask(desk, ann, "revisions?limit=50")["revisions"]
            if one["kind"] == "mask"
        ]
        assert len(saved) == CORRECTED
    again = hilum("run", recipe, "--out", run)
    assert again.returncode == 0, again.stderr
    drawn = Manifest.read(run).shapes.filter(pl.col("author") == "Ann")
    assert drawn["image_id"].n_unique() == CORRECTED
    assert set(drawn["source"]) == {f"annotations: revision {one['number']}" for one in saved}
    assert had.filter(pl.col("author") == "Ann").is_empty()
    taken_up = storage.read_table(run / "revisions.parquet")
    assert set(taken_up["number"]) == {one["number"] for one in saved}
    trained_on = storage.read_table(run / "segment" / "training.parquet")["image_id"]
    tested = storage.read_table(run / "split.parquet").filter(pl.col("part") == "test")
    used = {*trained_on, *tested["image_id"]}
    assert used.intersection(drawn["image_id"])
    assert lung_dice(run)["value"].is_finite().all()


@pytest.fixture
def spoilt(tmp_path) -> Path:
    """A recipe of data in which one image is inverted, one is mirrored and one is there twice."""
    data = tmp_path / "data"
    kaggle_masks.example(data, images=12)
    names = sorted(path.stem for path in (data / "CXR_png").iterdir())
    spoil(data, names[0], Display(inverted=True))
    spoil(data, names[1], Display(mirrored=True))
    twice = data / "CXR_png" / "CHNCXR_9999_0.png"
    twice.write_bytes((data / "CXR_png" / f"{names[4]}.png").read_bytes())
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[data]\nfolder = "data"\n[pixels]\nsize = 256\n')
    return recipe


def issues_of(run: Path) -> set[str]:
    """The rules of the images that the audit reports as open."""
    table = storage.read_table(run / "issues.parquet")
    return set(table.filter(pl.col("decision") == "open")["rule"])


JUDGED = {
    "image-inverted": "Invert",
    "image-mirrored": "Mirror",
    "duplicate-file": "Keep one of the two",
}


def test_an_inverted_a_mirrored_and_a_duplicated_image_are_mended_and_gone_from_the_next_audit(
    spoilt, tmp_path, chromium
):
    run = tmp_path / "run"
    assert hilum("audit", spoilt, "--out", run).returncode == 0
    assert set(JUDGED) <= issues_of(run)
    with served(run, chromium) as desk, desk.reader("Ann") as ann:
        for rule, remedy in JUDGED.items():
            ann.page.goto(f"{desk.base}/issues?rule={rule}&decision=open")
            cards = ann.page.locator("article.issue:not(.mended)")
            for left in range(cards.count(), 0, -1):
                cards.first.get_by_role("button", name=f"✎ {remedy}").first.click()
                ann.page.wait_for_function(
                    "left => document.querySelectorAll('article.issue:not(.mended)').length < left",
                    arg=left,
                )
    assert hilum("audit", spoilt, "--out", run).returncode == 0
    assert not set(JUDGED) & issues_of(run)


def invitation(reader: Reader) -> str:
    """Return a one-time address for another reader."""
    return reader.page.evaluate(
        """async () => (await (await fetch("/api/v1/invitations", {method: "POST", headers: {
        "X-Hilum-Token": document.querySelector("meta[name=hilum-token]").content}})).json()
        ).address"""
    )


def documented_client(address: str, author: str):
    """Return a session of the client that docs/how-to/desk.md gives."""
    page = (Path(__file__).parents[1] / "docs" / "how-to" / "desk.md").read_text(encoding="utf-8")
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], names)
    return names["DeskClient"](address, author)


def read_blind(reader: Reader, desk: Desk, row: int, states: dict[str, str]) -> None:
    page = reader.page
    page.goto(f"{desk.base}/images/{row}?blind=1")
    for finding, state in states.items():
        group = page.locator(f'[role="group"][aria-label="{finding}"]')
        group.get_by_role("button", name=state, exact=True).click()
        group.locator(f'[aria-pressed="true"]:text-is("{state}")').wait_for()


def test_a_stale_write_is_refused_and_the_agreement_of_two_readers_is_shown(tmp_path, chromium):
    kaggle_masks.example(tmp_path / "data", images=12, seed=3)
    (tmp_path / "recipe.toml").write_text(SMALL)
    run = tmp_path / "run"
    assert hilum("audit", tmp_path / "recipe.toml", "--out", run).returncode == 0
    with (
        served(run, chromium) as desk,
        desk.reader("Ann") as ann,
        desk.reader("Ben", invitation(ann)) as ben,
    ):
        for reader in (ann, ben):
            reader.page.goto(f"{desk.base}/images/0")
            reader.page.locator('[data-origin="reference"]').click()
            reader.page.locator("#origin", has_text="reference mask").wait_for()
            reader.page.keyboard.press("b")
            stroke(reader)
            reader.page.locator("#unsaved", has_text="not saved").wait_for()
        ann.page.locator("#save").click()
        ann.page.get_by_text("mask saved").first.wait_for()
        ben.page.locator("#save").click()
        refused = ben.page.locator("dialog[open]")
        refused.get_by_text("Ann").first.wait_for()
        (saved,) = ask(desk, ben, "revisions")["revisions"]
        assert (saved["author"], saved["kind"]) == ("Ann", "mask")
        ben.page.keyboard.press("Escape")
        client = documented_client(invitation(ben), "Cleo")
        assert client.get("images", mask="corrected")["rows"][0]["row"] == 0
        assert client.pixels(0).shape == tuple(
            client.get("images/0")[side] for side in ("height", "width")
        )
        concept = "Tuberculosis"
        for row in range(6):
            read_blind(ann, desk, row, {concept: "present" if row % 2 else "absent"})
            read_blind(ben, desk, row, {concept: "present" if row in (1, 3, 4) else "absent"})
        ann.page.goto(f"{desk.base}/readings?concept=tuberculosis")
        # They agree on 4 of 6, where 3 of 6 would be chance: (4/6 - 1/2) / (1 - 1/2).
        ann.page.locator(".kappa", has_text="0.33").wait_for()
        listed = ann.page.locator("table").last.locator("tbody tr")
        assert listed.count() == 2
