"""Data cards: figures from the files, published beside found, text that stays text, and a Croissant
file that its validator accepts.
"""

import csv
import hashlib
import io
import json
import shutil
from contextlib import nullcontext
from importlib import resources
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import xxhash
from conftest import hilum
from markdown_it import MarkdownIt

from hilum import plugins, storage
from hilum.config import Data, Pixels, Recipe
from hilum.dataset.manifest import COLUMNS, Manifest
from hilum.dataset.readers import kermany, montgomery, nih14, shenzhen
from hilum.errors import BadData
from hilum.imaging.files import raster
from hilum.pipeline.cache import FACTS
from hilum.progress import quietly
from hilum.reporting import data_card
from hilum.reporting.card import facts, markdown, published
from hilum.reporting.card.published import Published, Statement
from hilum.run_folder import Run
from hilum.runs import run_all

PUBLISHED = sorted(
    file.name.removesuffix(f".{published.FIGURES}")
    for file in resources.files("hilum.dataset.readers").iterdir()
    if file.name.endswith(published.FIGURES)
)
READER = MarkdownIt("commonmark").enable("table")


def made(data, folder):
    """A run of `data` (a folder, or a recipe) as far as a card needs it."""
    run, recipe = (
        Run(folder),
        data
        if isinstance(data, Recipe)
        else Recipe(data=Data(folder=str(data)), pixels=Pixels(size=64)),
    )
    list(run_all.perform(run, recipe, lambda _: nullcontext(quietly), until=data_card.UNTIL))
    return run, recipe


def written(data, folder, **options):
    run, recipe = made(data, folder)
    return data_card.write(run, recipe, **options)


@pytest.fixture(scope="module")
def child(tmp_path_factory):
    """A card, with images, of made-up data with a split of its own and two levels of findings."""
    folder = tmp_path_factory.mktemp("child")
    kermany.example(folder / "data", images=24, seed=1)
    return written(folder / "data", folder / "run", images=True)


def rows_of(page, head):
    """Cells of the first table whose head starts with `head`, as a Markdown reader sees them;
    formatting is dropped.
    """
    cells, table = [], []
    for token in READER.parse(page):
        if token.type == "tr_open":
            cells = []
        elif token.type == "inline" and token.level in (4, 5):
            cells.append("".join(part.content for part in token.children))
        elif token.type == "tr_close":
            table.append(cells)
        elif token.type == "table_close":
            if table[0][: len(head)] == list(head):
                return table
            table = []
    raise AssertionError(f"no table {head}")


def kinds(page):
    return {part.type for token in READER.parse(page) for part in [token, *(token.children or [])]}


# -------------------------------------------------------------------------------------------- facts


def test_facts_are_those_of_the_files(child):
    files = sorted(
        path.relative_to(child.folder.parents[1] / "data/chest_xray")
        for path in (child.folder.parents[1] / "data").rglob("*.jpeg")
    )
    reported = child.facts["kermany"]
    for part, folder in (("train", "train"), ("tune", "val"), ("test", "test")):
        for state, name in (("absent", "NORMAL"), ("present", "PNEUMONIA")):
            assert reported[f"part.{part}.concept.pneumonia.{state}"] == sum(
                path.parts[:2] == (folder, name) for path in files
            )
    assert (
        reported["images"] == len(files) == 24
        and reported["formats"] == ["JPEG"]
        and reported["bits"] == 8
    )
    assert reported["classes"] == 2 and reported["findings"] == 3, (
        "bacterial and viral are kinds of pneumonia"
    )
    sizes = np.array(
        [
            raster.read(child.folder.parents[1] / "data/chest_xray" / path).values.shape[::-1]
            for path in files
        ]
    )
    assert (
        reported["size.min"] == sizes.min(axis=0).tolist()
        and reported["size.max"] == sizes.max(axis=0).tolist()
    )
    assert reported["size.median"] == np.floor(np.median(sizes, axis=0) + 0.5).tolist()


def test_a_missing_lung_and_a_missing_mask_are_counted(tmp_path):
    montgomery.example(tmp_path / "m", images=8, seed=0)  # the last has its right lung alone
    shenzhen.example(tmp_path / "s", images=8, seed=0)  # every seventh has no mask
    reported = written(tmp_path / "m", tmp_path / "mrun").facts["montgomery"]
    assert (reported["masks"], reported["lungs"], reported["patients"]) == (8, 15, 7)
    reported = written(tmp_path / "s", tmp_path / "srun").facts["shenzhen"]
    assert (reported["images"], reported["masks"], reported["lungs"]) == (8, 7, 14)
    page = (tmp_path / "srun/card/README.md").read_text()
    assert "| Images without | 1 |" in page and "| Both lungs in one mask file" in page


def test_lungs_that_are_drawn_count_as_masks():
    images = [
        [f"m/{name}", "m", "m", f"m/{name}", f"{name}.png", *[None] * (len(COLUMNS) - 5)]
        for name in "abc"
    ]
    shapes = [
        [f"m/{name}", concept, "", "{}", "file", None]
        for name, concept in (
            ("a", "right_lung"),
            ("a", "left_lung"),
            ("b", "lungs"),
            ("c", "nodule"),
        )
    ]
    manifest = Manifest.of(Path("nowhere"), images, [], [], shapes)
    seen = {"a": (5, 5), "b": (0, 9), "c": (None, None)}
    index = pl.DataFrame(
        [
            {"image_id": f"m/{name}", "right_pixels": right, "left_pixels": left}
            for name, (right, left) in seen.items()
        ],
        schema=FACTS,
    )
    reported = facts.facts(manifest, index)
    assert (
        (reported["masks"], reported["lungs"], reported["lung_objects"], reported["shapes"])
        == (2, 3, 3, 1)
        and "findings" not in reported
        and "bits" not in reported
    )


def test_several_sets_are_each_held_against_their_own_cards(tmp_path):
    montgomery.example(tmp_path / "data/m", images=6, seed=0)
    shenzhen.example(tmp_path / "data/s", images=4, seed=0)
    (tmp_path / "data/other/not of it").mkdir(parents=True)
    recipe = Recipe(
        data=Data(folder=str(tmp_path / "data/m"), also=(str(tmp_path / "data/s"),)),
        pixels=Pixels(size=64),
    )
    one = written(recipe, tmp_path / "run")
    assert {name: reported["images"] for name, reported in one.facts.items()} == {
        "montgomery": 6,
        "shenzhen": 4,
    }
    assert {
        row.found
        for name in one.compared
        for row in one.compared[name].rows
        if row.name == "images"
    } == {6, 4}
    page = (one.folder / "README.md").read_text()
    assert "| Images | 10 |" in page and "not of it" not in page and "    s/  " in page


def test_drawn_boxes_ages_and_the_split_are_reported(tmp_path):
    nih14.example(tmp_path / "data", images=20, seed=4)
    reported = written(tmp_path / "data", tmp_path / "run").facts["nih14"]
    table = list(csv.DictReader((tmp_path / "data/Data_Entry_2017_v2020.csv").open()))
    boxes = (tmp_path / "data/BBox_List_2017.csv").read_text().splitlines()[1:]
    ages = [int(row["Patient Age"]) for row in table]
    assert (reported["age.min"], reported["age.max"]) == (min(ages), max(ages))
    assert (reported["shapes"], reported["shaped_images"]) == (
        len(boxes),
        len({line.split(",")[0] for line in boxes}),
    )
    assert reported["no_finding"] == sum(row["Finding Labels"] == "No Finding" for row in table)
    assert reported["torn_patients"] == 0 and reported["part.test.images"] == len(
        (tmp_path / "data/test_list.txt").read_text().split()
    )
    assert reported["patients"] == len({row["Patient ID"] for row in table})


def test_what_a_folder_does_not_state_has_a_reason(tmp_path):
    nih14.example(tmp_path / "data", images=6, seed=4)
    shutil.rmtree(tmp_path / "data/images")
    for name in ("train_val_list.txt", "test_list.txt"):
        (tmp_path / "data" / name).unlink()
    one = written(tmp_path / "data", tmp_path / "run").compared["nih14"]
    why = {row.name: row.why for row in one.rows if row.verdict == published.NOT_CHECKED}
    assert (
        why["bits"] == "no image could be read"
        and why["part.test.images"] == "the folder gives no test part"
    )
    assert why["torn_patients"] == "the folder gives no split"
    assert "patients" not in why and "concept.mass.present" not in why


# ---------------------------------------------------------------------------------------- published


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_every_published_fact_has_a_name_that_the_code_computes(dataset):
    reported = published.read(dataset)
    assert reported.statements and len(
        {statement.where for statement in reported.statements}
    ) == len(reported.statements)
    assert all(
        facts.in_words(name) and facts.reason(name, {})
        for statement in reported.statements
        for name in statement.facts
    )


@pytest.mark.parametrize(
    "name",
    [
        "image",
        "part.validation.images",
        "concept.tubercolosis.present",
        "concept.mass.maybe",
        "part.train.bits",
        "",
    ],
)
def test_a_name_that_is_no_facts_name_is_refused(name, monkeypatch):
    assert not facts.known(name)
    stated = {"where": "x", "facts": {"images": 1, name: 2}}
    monkeypatch.setattr(published.plugins, "facts", lambda *_: {"statement": [stated]})
    with pytest.raises(BadData, match="1 fault"):
        published.read("made")


def test_published_figures_are_those_of_a_data_set_that_is_read():
    assert PUBLISHED and set(PUBLISHED) <= set(plugins.names("readers"))


def test_stated_is_held_against_found():
    reported = Published(
        (
            Statement("a", {"images": 800, "bits": 8, "age.min": 1}),
            Statement("b", {"images": 688, "formats": ["PNG"]}),
        )
    )
    one = published.compare(reported, {"images": 688, "bits": 8, "formats": ["JPEG"]})
    assert [(row.verdict, row.why) for row in one.rows] == [
        ("differs", "−112"),
        ("agrees", ""),
        ("not checked", "no age is given"),
        ("agrees", ""),
        ("differs", ""),
    ]
    assert one.contested() == [("a", 0, 1), ("b", 1, 1)]
    assert (one.count("agrees"), one.count("differs"), one.count("not checked")) == (2, 2, 1)


def test_the_table_of_findings_of_the_nih_set_adds_up_but_for_what_it_leaves_out():
    """An independent check of what was copied: parts sum to the sums."""
    reported = {
        statement.where: statement.facts for statement in published.read("nih14").statements
    }
    sums, parts = (
        reported["Its table of findings, sums over all parts"],
        reported["The table of findings by part"],
    )
    assert len(sums) == 15
    for name, stated in sums.items():
        assert sum(parts[f"part.{part}.{name}"] for part in ("train", "tune", "test")) == stated, (
            name
        )


# ----------------------------------------------------------------------------------------- the page


def test_the_page_holds_published_beside_found(child):
    page = (child.folder / "README.md").read_text()
    assert rows_of(page, ["fact", "stated", "found"])[1] == ["images", "5,863", "24", "≠ (−5,839)"]
    assert (
        "| classes | 2 | 2 | ✓ |" in page
        and "| youngest age, years | 1 | – | not checked (no age is given) |" in page
    )
    one = child.compared["kermany"]
    assert (
        f"{one.count('agrees')} ✓, {one.count('differs')} ≠, {one.count('not checked')} not checked"
        in page
    )


def test_the_page_counts_classes_by_part(child):
    page, reported = (child.folder / "README.md").read_text(), child.facts["kermany"]
    table = rows_of(page, ["", "train", "tune", "test", "in all"])
    pneumonia = next(row for row in table if row[0] == "Pneumonia")
    assert pneumonia[1:] == [
        str(reported[f"part.{part}.concept.pneumonia.present"])
        for part in ("train", "tune", "test")
    ] + [str(reported["concept.pneumonia.present"])]
    assert (
        "train/  16 .jpeg" in page
        and "CC BY 4.0" in page
        and "Cell 172" in page
        and "patients-unsure" in page
    )


def test_images_are_there_only_where_requested(child, tmp_path):
    strips = sorted(path.name for path in (child.folder / "images").iterdir())
    page = (child.folder / "README.md").read_text()
    assert len(strips) == 4 and all(f"(images/{name})" in page for name in strips)
    assert raster.read(child.folder / "images" / strips[0]).values.shape[0] == 224
    run = Run(tmp_path / "run")
    shutil.copytree(child.folder.parent, run.folder)
    data_card.write(run, run.recipe())
    assert (
        not (run / "card/images").exists()
        and "](images/" not in (run / "card/README.md").read_text()
    )


HOSTILE = [
    "a|b",
    "line\nbreak",
    "<img src=x onerror=alert(1)>",
    "![p](http://x.example/p.png)",
    "[l](http://x.example)",
    "`c|ode`",
    "**b**",
    "\\|",
    "# h",
    "&lt;",
    "_i_",
    "a\u202eb",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_is_anything_but_text_in_a_table(text):
    page = markdown.table([[text, 1], ["next", 2]], "name", "count")
    assert kinds(page) <= {
        "table_open",
        "thead_open",
        "tr_open",
        "th_open",
        "inline",
        "text",
        "th_close",
        "tr_close",
        "thead_close",
        "tbody_open",
        "td_open",
        "td_close",
        "tbody_close",
        "table_close",
        "text_special",
    }
    assert rows_of(page, ["name"])[1:] == [[markdown.one_line(text), "1"], ["next", "2"]]


def test_a_folder_with_hostile_names_makes_a_sound_card(tmp_path):
    names = ["a|b", "<b>x", "![p](y)", "two\nlines", "`c`"]
    for index, name in enumerate(names):
        pixels = np.random.default_rng(index).integers(0, 255, (20, 30), np.uint8)
        raster.write_png(
            tmp_path / "data" / f"class {name}".replace("/", "") / f"{name}.png", pixels
        )
    (tmp_path / "data" / "class a|b" / "x|`[y](z).png").write_bytes(b"no image")
    raster.write_png(
        tmp_path / "data" / "normal" / "n.png",
        np.random.default_rng(9).integers(0, 255, (20, 30), np.uint8),
    )
    one = written(tmp_path / "data", tmp_path / "run")
    page = (one.folder / "README.md").read_text()
    assert not kinds(page) & {"html_block", "html_inline", "image", "link_open"}
    widths = [
        {len(row) for row in rows_of(page, head)}
        for head in (["Finding", "present"], ["severity", "rule"], ["step", "file"])
    ]
    assert widths == [{6}, {6}, {3}]
    assert "image-unreadable" in page


# ---------------------------------------------------------------------------------------- Croissant


def test_the_croissant_file_points_to_the_table_that_lies_beside_it(child):
    reported = storage.read_json(child.folder / "croissant.json")
    table = next(item for item in reported["distribution"] if item["@type"] == "cr:FileObject")
    data = (child.folder / table["contentUrl"]).read_bytes()
    assert (
        table["sha256"] == hashlib.sha256(data).hexdigest()
        and table["contentSize"] == f"{len(data)} B"
    )
    rows = list(csv.DictReader(io.StringIO(data.decode())))
    columns = [field["source"]["extract"]["column"] for field in reported["recordSet"][0]["field"]]
    assert list(rows[0]) == columns and len(rows) == 24
    first = child.folder.parents[1] / "data" / rows[0]["path"]
    digest = xxhash.xxh3_128_hexdigest(first.read_bytes())
    assert digest.startswith(rows[0]["xxh3_128_start"])
    assert {row["part"] for row in rows} == {"train", "tune", "test"} and {
        row["pneumonia"] for row in rows
    } == {"0", "1"}
    assert {row["bacterial_pneumonia"] for row in rows} == {"0", "1", ""}, (
        "nothing is said of the cause of no pneumonia"
    )


def test_file_sets_find_every_image_and_mask(tmp_path):
    montgomery.example(tmp_path / "data", images=6, seed=0)
    one = written(tmp_path / "data", tmp_path / "run")
    sets = [
        item
        for item in storage.read_json(one.folder / "croissant.json")["distribution"]
        if item["@type"] == "cr:FileSet"
    ]
    found = {
        item["@id"]: {
            path for pattern in item["includes"] for path in (tmp_path / "data").glob(pattern)
        }
        for item in sets
    }
    assert {name: len(paths) for name, paths in found.items()} == {
        "images-png": 6,
        "lung-masks-png": 11,
    }


@pytest.mark.parametrize("dataset", plugins.names("readers"))
def test_the_croissant_file_is_valid_and_gives_its_records(dataset, tmp_path):
    mlcroissant = pytest.importorskip(
        "mlcroissant", reason="mlcroissant is not installed: pip install '.[test]'"
    )
    plugins.load("readers", dataset).example(tmp_path / "data", images=8, seed=3)
    one = written(tmp_path / "data", tmp_path / "run")
    reported = mlcroissant.Dataset(one.folder / "croissant.json")
    assert not reported.metadata.ctx.issues.errors
    records = list(reported.records("images"))
    assert len(records) == one.facts[dataset]["images"]
    table = pl.read_csv(one.folder / "images.csv", infer_schema=False)
    assert [record["images/image_id"].decode() for record in records] == table["image_id"].to_list()


def test_the_same_files_give_the_same_card_wherever_they_lie(tmp_path):
    nih14.example(tmp_path / "one", images=8, seed=2)
    shutil.copytree(tmp_path / "one", tmp_path / "else/where")
    cards = [
        written(data, tmp_path / f"run{index}", images=True).folder
        for index, data in enumerate((tmp_path / "one", tmp_path / "else/where"))
    ]
    files = [
        sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        for folder in cards
    ]
    assert files[0] == files[1] and len(files[0]) > 4
    assert all(
        (cards[0] / name).read_bytes() == (cards[1] / name).read_bytes() for name in files[0]
    )
    assert (
        str(tmp_path)
        not in (cards[0] / "README.md").read_text() + (cards[0] / "croissant.json").read_text()
    )


# --------------------------------------------------------------------------------- the command line


def test_the_verb_writes_the_card_and_prints_json(tmp_path):
    montgomery.example(tmp_path / "data", images=6, seed=0)
    done = hilum("datacard", tmp_path / "data", "--out", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    reported = json.loads(done.stdout)["steps"]
    assert (
        list(reported) == ["ingest", "cache", "audit", "card"]
        and reported["card"]["facts"]["montgomery"]["images"] == 6
    )
    assert {row["fact"]: row["verdict"] for row in reported["card"]["published"]["montgomery"]}[
        "images"
    ] == "differs"
    assert sorted(path.name for path in (tmp_path / "run/card").iterdir()) == [
        "README.md",
        "croissant.json",
        "images.csv",
    ]
    again = hilum("datacard", tmp_path / "run")
    assert again.returncode == 0 and "kept" in again.stdout and "card/README.md" in again.stdout
