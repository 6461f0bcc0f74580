"""Corrections go out and come back whole: as a file, as COCO, as PNG, from another run."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
from conftest import hilum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hilum.config import Data, Recipe
from hilum.dataset import corrections
from hilum.dataset.corrections import Correction
from hilum.errors import BadData, HilumError, NotFound
from hilum.imaging.files import raster
from hilum.pipeline import ingest
from hilum.progress import quietly
from hilum.revisions import history, mask_exchange
from hilum.revisions.changes import Correct, DecideIssue, Read, SetLabel, SetMask, issue_key
from hilum.revisions.journal import FOLDER, Journal
from hilum.revisions.state import State
from hilum.run_folder import Run
from hilum.runs import exchange_annotations as exchange


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Run:
    """A run of which only the table was made."""
    folder = tmp_path_factory.mktemp("exchange")
    ingest.example("kaggle_masks", folder / "data", images=8, seed=2)
    run = Run(folder / "run")
    recipe = Recipe(data=Data(folder=str(folder / "data")))
    run.write_recipe(recipe)
    run.ensure("ingest", None, lambda: ingest.make(run, recipe, quietly))
    return run


@pytest.fixture
def run(original, tmp_path) -> Run:
    shutil.copytree(original.folder, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.fixture
def corrected(run) -> Run:
    """A run with a correction of each kind."""
    first, second, third = images(run)[:3]
    with opened(run) as journal:
        for number, image_id in enumerate((first, second)):
            change = SetMask(image_id, journal.put_mask(mask_of(run, image_id, number)))
            journal.append(change, author="Ann", expected=0)
        journal.append(SetLabel(first, "edema", "present"), author="Ann", expected=0, reason="seen")
        turn = (Correction(second, "rotate", value="90"), Correction(second, "mirror"))
        journal.append(Correct(second, turn), author="Bob", expected=0)
        key = issue_key("duplicate-file", third, first)
        pair = (Correction(third, "same patient as", first),)
        journal.append(DecideIssue(key, "mended", "one person", pair), author="Bob", expected=0)
        key = issue_key("mask-empty", first, None)
        journal.append(DecideIssue(key, "dismissed", "there is one"), author="Bob", expected=0)
        journal.append(Read(first, "edema", "absent"), author="Bob", expected=0)
    return run


def images(run: Run) -> list[str]:
    return run.manifest().table["image_id"].to_list()


def opened(run: Run) -> Journal:
    return Journal.open(run / FOLDER)


def size_of(run: Run, image_id: str) -> tuple[int, int]:
    places = dict(run.manifest().table.select("image_id", "path").iter_rows())
    return raster.size(*run.manifest().located(places[image_id]))


def mask_of(run: Run, image_id: str, seed: int) -> np.ndarray:
    """A mask with holes, islands and all four values, which no outline could simplify."""
    generator = np.random.default_rng(seed)
    return generator.choice(
        np.array([0, 1, 2, 255], np.uint8), size_of(run, image_id), p=[0.5, 0.2, 0.2, 0.1]
    )


def masks(run: Run) -> dict[str, np.ndarray]:
    with opened(run) as journal:
        found = State.of(journal).masks
        return {name: journal.mask(one.change.digest) for name, one in found.items()}


def emptied(run: Run, tmp_path) -> Run:
    """The same run without a journal."""
    shutil.copytree(run.folder, tmp_path / "fresh")
    shutil.rmtree(tmp_path / "fresh" / FOLDER)
    return Run(tmp_path / "fresh")


@pytest.mark.parametrize("form", ["masks.json", "masks"])
def test_masks_come_back_to_the_pixel(corrected, tmp_path, form):
    summary = exchange.export(corrected.folder, tmp_path / form)
    assert summary == {"masks": 2}
    fresh = emptied(corrected, tmp_path)
    said = exchange.take_in(tmp_path / form, fresh.folder, "Cleo")
    assert said == {"taken in": 2, "stood already": 0, "last revision": 2}
    before, after = masks(corrected), masks(fresh)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    with opened(fresh) as journal:
        authors = {one.author for one in journal.revisions()}
    assert authors == ({"Ann"} if form.endswith(".json") else {"Cleo"})
    again = exchange.take_in(tmp_path / form, fresh.folder, "Cleo")
    assert again == {"taken in": 0, "stood already": 2, "last revision": 2}


def test_coco_is_read_by_its_own_tools_as_it_was_written(corrected, tmp_path):
    mask = pytest.importorskip("pycocotools.mask")
    exchange.export(corrected.folder, tmp_path / "masks.json")
    content = json.loads((tmp_path / "masks.json").read_text())
    names = {one["id"]: one["name"] for one in content["categories"]}
    ids = {one["id"]: one["image_id"] for one in content["images"]}
    drawn = masks(corrected)
    for one in content["annotations"]:
        label = mask_exchange.LABELS[names[one["category_id"]]]
        expected = drawn[ids[one["image_id"]]] == label
        assert np.array_equal(mask.decode(one["segmentation"]).astype(bool), expected)
        assert (
            one["area"] == expected.sum() and one["author"] == "Ann" and one["revision"] in (1, 2)
        )


def test_polygons_of_another_program_are_taken_in_and_other_categories_counted(run, tmp_path):
    image_id = images(run)[0]
    path = dict(run.manifest().table.select("image_id", "path").iter_rows())[image_id]
    square = [[10, 20, 30, 20, 30, 60, 10, 60]]
    content = {
        "images": [{"id": 7, "file_name": path.rpartition("/")[2]}],
        "categories": [{"id": 1, "name": "Right Lung"}, {"id": 2, "name": "heart"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "segmentation": square},
            {"id": 2, "image_id": 7, "category_id": 2, "segmentation": square},
        ],
    }
    (tmp_path / "other.json").write_text(json.dumps(content))
    with pytest.raises(BadData, match="--author"):
        exchange.take_in(tmp_path / "other.json", run.folder)
    said = exchange.take_in(tmp_path / "other.json", run.folder, "Ann")
    assert said["taken in"] == 1 and said["left out, no lungs"] == {"heart": 1}
    [mask] = masks(run).values()
    expected = np.zeros(mask.shape, np.uint8)
    expected[20:60, 10:30] = 1
    assert np.array_equal(mask, expected)


def test_a_file_of_corrections_makes_the_same_table(corrected, tmp_path):
    file = tmp_path / "fixes.toml"
    summary = exchange.export(corrected.folder, file)
    assert summary["masks not in it"] == 2
    read = corrections.read(file)
    with opened(corrected) as journal:
        assert read == State.of(journal).corrections()
    plain = corrected.manifest()
    assert corrections.apply(plain, read, "fixes.toml").labels.filter(
        pl.col("rule") == "corrected"
    )["source"].to_list() == ["corrections: revision 3 by Ann"]
    fresh = emptied(corrected, tmp_path)
    exchange.take_in(file, fresh.folder)
    with opened(fresh) as journal:
        back = State.of(journal)
    assert {(one.entry.get("value"), one.cell, one.author) for one in back.corrections()} == {
        (one.entry.get("value"), one.cell, one.author) for one in read
    }


def test_another_runs_corrections_come_with_their_authors(corrected, tmp_path):
    fresh = emptied(corrected, tmp_path)
    said = exchange.take_in(corrected.folder, fresh.folder)
    assert said["taken in"] == 7
    with opened(fresh) as journal, opened(corrected) as other:
        states = [State.of(one) for one in (journal, other)]
        assert not history.differences(*states).height
        assert {one.author for one in states[0].standing} == {"Ann", "Bob"}
        journal.verify()


def test_what_contradicts_is_refused_whole_unless_it_is_to_replace(corrected, tmp_path):
    fresh = emptied(corrected, tmp_path)
    with opened(fresh) as journal:
        change = SetLabel(images(fresh)[0], "edema", "absent")
        journal.append(change, author="Cleo", expected=0)
    with pytest.raises(BadData, match="edema: absent stands, present is to be taken in"):
        exchange.take_in(corrected.folder, fresh.folder)
    with opened(fresh) as journal:
        assert journal.last == 1
    assert exchange.take_in(corrected.folder, fresh.folder, replacing=True)["taken in"] == 7


def test_images_of_another_set_are_refused_with_the_nearest_name(corrected, tmp_path):
    first = images(corrected)[0]
    exchange.export(corrected.folder, tmp_path / "masks")
    exchange.export(corrected.folder, tmp_path / "masks.json")
    exchange.export(corrected.folder, tmp_path / "fixes.toml")
    wrong = f"{first}x"
    (tmp_path / "masks" / f"{first}.png").rename(tmp_path / "masks" / f"{wrong}.png")
    for name in ("masks.json", "fixes.toml"):
        file = tmp_path / name
        file.write_text(file.read_text().replace(f'"{first}"', f'"{wrong}"'))
    fresh = emptied(corrected, tmp_path)
    for name in ("masks", "masks.json", "fixes.toml"):
        with pytest.raises(BadData, match=f"'{wrong}': did you mean '{first}'"):
            exchange.take_in(tmp_path / name, fresh.folder, "Ann")
    with opened(fresh) as journal:
        assert journal.last == 0


def test_a_mask_of_another_size_is_refused_by_name(corrected, tmp_path):
    exchange.export(corrected.folder, tmp_path / "masks")
    exchange.export(corrected.folder, tmp_path / "masks.json")
    import imagecodecs

    [one, *_] = sorted((tmp_path / "masks").rglob("*.png"))
    one.write_bytes(imagecodecs.png_encode(raster.read(one).values[:-1].copy()))
    with pytest.raises(BadData, match=f"{one.name}: mask of"):
        exchange.take_in(tmp_path / "masks", emptied(corrected, tmp_path).folder, "Ann")
    content = json.loads((tmp_path / "masks.json").read_text())
    content["annotations"][0]["segmentation"]["size"][0] -= 1
    (tmp_path / "masks.json").write_text(json.dumps(content))
    with pytest.raises(BadData, match="is given for an image of"):
        exchange.take_in(tmp_path / "masks.json", tmp_path / "fresh", "Ann")


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_whatever_a_file_of_coco_holds_it_is_taken_in_or_refused(corrected, tmp_path, data):
    file = tmp_path / "mutated.json"
    if not (tmp_path / "masks.json").exists():
        exchange.export(corrected.folder, tmp_path / "masks.json")
    content = json.loads((tmp_path / "masks.json").read_text())
    where = content
    for _ in range(data.draw(st.integers(1, 5))):
        keys = list(where) if isinstance(where, dict) else list(range(len(where)))
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if not isinstance(where[key], dict | list) or data.draw(st.integers(0, 3)) == 0:
            where[key] = data.draw(
                st.sampled_from([None, -1, 10**12, 1e300, "x", [], {}, [[1, 2]], True])
            )
            break
        where = where[key]
    file.write_text(json.dumps(content))
    try:
        exchange.take_in(file, corrected.folder, "Ann", replacing=True)
    except HilumError as error:
        assert str(error)


def test_nothing_is_overwritten_and_nothing_is_written_into_the_data(corrected, tmp_path):
    (tmp_path / "fixes.toml").write_text("mine")
    with pytest.raises(HilumError, match="exists already"):
        exchange.export(corrected.folder, tmp_path / "fixes.toml")
    assert (tmp_path / "fixes.toml").read_text() == "mine"
    with pytest.raises(HilumError, match="never written to"):
        exchange.export(corrected.folder, corrected.manifest().root / "fixes.toml")


def test_no_name_of_an_image_leads_out_of_the_folder_of_masks(tmp_path):
    for name in ("../../x", "/etc/x", "a/../../x"):
        with pytest.raises(BadData, match="no file can have this name"):
            mask_exchange._file_of(tmp_path, name)


# --------------------------------------------------------------------------------- on the terminal


def test_the_log_says_who_changed_what_from_what_to_what(corrected):
    table = exchange.log(corrected.folder)
    assert table["author"].to_list() == ["Ann", "Ann", "Ann", "Bob", "Bob", "Bob", "Bob"]
    assert table["after"].to_list()[2:6] == [
        "present",
        "rotate 90, mirror",
        f"mended: same patient as {images(corrected)[0]}",
        "dismissed",
    ]
    assert set(table["before"]) == {history.AS_READ}
    with opened(corrected) as journal:
        journal.undo(3, "Bob", "not so")
    undone = exchange.log(corrected.folder, images(corrected)[0]).row(-1, named=True)
    assert (undone["before"], undone["after"]) == ("present", history.AS_READ)
    assert (undone["kind"], undone["reason"]) == ("set label (undoes 3)", "not so")
    with pytest.raises(NotFound, match="did you mean"):
        exchange.log(corrected.folder, f"{images(corrected)[0]}x")


def test_diff_lists_what_two_runs_say_differently(corrected, tmp_path):
    fresh = emptied(corrected, tmp_path)
    exchange.take_in(corrected.folder, fresh.folder)
    first = images(fresh)[0]
    with opened(fresh) as journal:
        state = State.of(journal)
        change = SetLabel(first, "edema", "uncertain")
        journal.append(change, author="Cleo", expected=state.expected(change.subject("")))
    [row] = exchange.diff(corrected.folder, fresh.folder).iter_rows()
    assert row == (
        "label",
        f"{first} edema",
        "present",
        "revision 3 by Ann",
        "uncertain",
        "revision 8 by Cleo",
    )
    assert exchange.diff(fresh.folder, fresh.folder, until=7).height == 1
    with pytest.raises(BadData, match="--until"):
        exchange.diff(fresh.folder, fresh.folder)


def test_every_action_has_its_words_on_the_command_line(corrected, tmp_path):
    shown = {
        action: hilum("annotations", *arguments)
        for action, arguments in {
            "log": ("log", corrected.folder, "--json"),
            "verify": ("verify", corrected.folder),
            "export": ("export", corrected.folder, tmp_path / "masks.json"),
            "import": ("import", tmp_path / "masks.json", corrected.folder),
            "diff": ("diff", corrected.folder, corrected.folder / FOLDER, "--until", "2"),
        }.items()
    }
    assert all(done.returncode == 0 for done in shown.values()), shown
    assert len(json.loads(shown["log"].stdout)) == 7
    assert "revisions: 7; masks: 2" in shown["verify"].stdout
    assert "stood already: 2" in shown["import"].stdout
    assert shown["diff"].stdout.count("\n") == 6
    assert "needs a second place" in hilum("annotations", "export", corrected.folder).stderr
    [mask, *_] = (corrected / FOLDER / "masks").iterdir()
    mask.unlink()
    damaged = hilum("annotations", "verify", corrected.folder)
    assert damaged.returncode == 1 and "restore it from a copy" in damaged.stderr
