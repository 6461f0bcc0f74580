"""Links out of a data folder are left out by name unless the user allows them, and no name of a
file stops a batch.
"""

import ast
import json
import os
import shutil
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import radiograph, two_classes
from typer.testing import CliRunner

from hilum import cli, plugins
from hilum.cli.verbs import app
from hilum.config import Pixels, Recipe
from hilum.dataset import merge
from hilum.dataset.manifest import DROPPED, Manifest
from hilum.errors import BadData, HilumError, on_one_line
from hilum.imaging import describe
from hilum.imaging.files.find_images import collect
from hilum.imaging.files.links import Links
from hilum.pipeline import cache, ingest
from hilum.runs import export
from hilum.safety import path_names

PIXELS = Pixels(size=64)
RUNNER = CliRunner()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return two_classes(tmp_path)


def linked(data: Path) -> set[str]:
    """Put links of every kind into the folder; return their names."""
    outside = data.parent / "elsewhere"
    links = {
        "NORMAL/file.png": outside / "secret.png",
        "NORMAL/relative.png": Path("../../elsewhere/secret.png"),
        "NORMAL/folder": outside,
        "NORMAL/gone.png": Path("nowhere.png"),
        "NORMAL/itself.png": Path("itself.png"),
        "NORMAL/above": data,
        "device.png": Path("/dev/zero"),
    }
    for name, target in links.items():
        (data / name).symlink_to(target)
    return set(links)


def dropped(manifest: Manifest) -> dict[str, str]:
    return dict(
        manifest.remarks.filter(pl.col("rule") == DROPPED).select("path", "message").iter_rows()
    )


def test_the_links_of_many_paths_are_those_of_each(data):
    names = linked(data)
    (data / "NORMAL/within.png").symlink_to(next((data / "NORMAL").glob("*.png")))
    inside = [path.relative_to(data).as_posix() for path in data.rglob("*.png")]
    places = [*names, *inside, "NORMAL/folder/secret.png", "NORMAL/none.png", "none/x.png", "x"]
    (data.parent / "elsewhere").mkdir(exist_ok=True)
    (data.parent / "elsewhere/secret.png").write_bytes(b"x")
    top = os.path.realpath(data)
    reached = {place: os.path.realpath(data / place) for place in places}
    expected = {
        place: path for place, path in reached.items() if not f"{path}/".startswith(f"{top}/")
    }
    assert {"NORMAL/file.png", "NORMAL/folder/secret.png", "device.png"} <= set(expected)
    assert Links(data).targets(pl.Series(places)) == expected
    assert Links(data).targets(pl.Series([], dtype=pl.String)) == {}


def test_links_of_every_kind_are_left_out_by_name_with_a_line_to_paste(data):
    links = linked(data)
    manifest = ingest.ingest(data)
    assert manifest.table["path"].to_list() == [
        "NORMAL/a.png",
        "NORMAL/b.png",
        "PNEUMONIA/c.png",
        "PNEUMONIA/d.png",
    ]
    assert links <= dropped(manifest).keys()
    assert all("links = true" in dropped(manifest)[name] for name in links)


def test_links_that_the_user_allows_are_followed_also_by_the_cache_and_by_exports(data, tmp_path):
    linked(data)
    (tmp_path / "r.toml").write_text('[data]\nfolder = "data"\nlinks = true\n')
    recipe = Recipe.read(tmp_path / "r.toml")
    assert recipe.data.links
    manifest, _ = ingest.read(recipe.data)
    assert {"NORMAL/file.png", "NORMAL/relative.png", "NORMAL/folder/secret.png"} < set(
        manifest.table["path"]
    )
    assert not any(path.startswith("NORMAL/above") for path in manifest.table["path"])
    manifest.write(tmp_path / "run")
    again = Manifest.read(tmp_path / "run")
    assert (
        again.links
        and again.digest == manifest.digest
        and again.only(again.table["image_id"]).links
    )
    filled = cache.fill(again, PIXELS, tmp_path / "cache")
    assert filled.index.filter(pl.col("error").is_null()).height == 7


def test_a_file_that_became_a_link_after_it_was_read_is_refused_by_cache_and_exports(
    data, tmp_path
):
    manifest = ingest.ingest(data)
    (data / "NORMAL" / "a.png").unlink()
    (data / "NORMAL" / "a.png").symlink_to(tmp_path / "elsewhere" / "secret.png")
    index = cache.fill(manifest, PIXELS, tmp_path / "cache").index
    assert "leads out of" in index.filter(pl.col("error").is_not_null())["error"].item()
    for form in plugins.names("writers"):
        if getattr(plugins.load("writers", form), "COPIES_IMAGES", True):
            with pytest.raises(BadData, match="leads out of"):
                plugins.load("writers", form).write(manifest, tmp_path / form, split=None)
            assert not (tmp_path / form).exists()


def test_a_file_that_is_no_image_is_never_copied_whatever_its_name(data, tmp_path):
    (data / "NORMAL" / "a.png").write_text("TOPSECRET")
    with pytest.raises(BadData, match=r"a\.png: is not a PNG"):
        export.export("imagefolder", data, tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "name", [name for name in plugins.names("readers") if name != ingest.FALLBACK]
)
def test_the_readers_of_known_sets_leave_links_out_of_them_out_by_name(name, tmp_path):
    plugins.load("readers", name).example(tmp_path / "data", images=8, seed=0)
    whole = ingest.ingest(tmp_path / "data")
    place = whole.table["path"][0]
    mask = next(
        (
            row["lung_mask"] or row["right_lung_mask"]
            for row in whole.table.tail(-1).iter_rows(named=True)
            if row["lung_mask"] or row["right_lung_mask"]
        ),
        None,
    )
    for moved in filter(None, (place, mask)):
        outside = tmp_path / "outside" / moved
        outside.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(tmp_path / "data" / moved, outside)
        (tmp_path / "data" / moved).symlink_to(outside)
    kept = ingest.ingest(tmp_path / "data")
    assert set(whole.table["path"]) - set(kept.table["path"]) == {place}
    assert {place, mask} - {None} <= dropped(kept).keys()
    assert mask is None or mask not in (*kept.table["lung_mask"], *kept.table["right_lung_mask"])
    followed = ingest.ingest(tmp_path / "data", links=True)
    assert set(followed.table["path"]) == set(whole.table["path"])


@pytest.mark.parametrize("file", ["labels.csv", "hilum.toml", "a.json"])
def test_a_table_or_settings_out_of_the_folder_are_not_read(data, file):
    (data.parent / "elsewhere" / file).write_text(
        "image,label\nNORMAL/a.png,NORMAL\n" if file != "a.json" else "{}"
    )
    (data / file).symlink_to(data.parent / "elsewhere" / file)
    if file == "hilum.toml":
        with pytest.raises(HilumError, match="leads out of"):
            ingest.ingest(data)
    else:
        assert file in dropped(ingest.ingest(data))


def test_a_mask_out_of_the_folder_is_never_read_wherever_it_is_named(data):
    (data / "labels.csv").write_text(
        "image,label,mask\nNORMAL/a.png,NORMAL,../elsewhere/secret.png\n"
        f"NORMAL/b.png,NORMAL,{data.parent}/elsewhere/secret.png\nPNEUMONIA/c.png,PNEUMONIA,\nPNEUMONIA/d.png,PNEUMONIA,\n"
    )
    manifest = ingest.ingest(data)
    assert manifest.table["lung_mask"].null_count() == 4


def test_merging_keeps_what_is_allowed_and_leaves_out_what_is_not(data, tmp_path):
    shutil.copytree(data, tmp_path / "second")
    linked(data)
    both = merge.merge([ingest.ingest(data), ingest.ingest(tmp_path / "second")])
    assert both.table.height == 8 and not both.links
    assert merge.merge(
        [ingest.ingest(data, links=True), ingest.ingest(tmp_path / "second", links=True)]
    ).links


# -------------------------------------------------------------------------------------------- names


@given(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name))
@settings(max_examples=300, deadline=None)
def test_every_name_has_a_text_of_its_own_that_leads_back(name):
    path = os.fsdecode(name)
    text = path_names.as_text(path)
    text.encode()
    assert path_names.from_text(text) == path


@given(
    st.binary(max_size=12).filter(lambda name: b"\0" not in name),
    st.binary(max_size=12).filter(lambda name: b"\0" not in name),
)
def test_two_names_never_have_one_text(first, second):
    texts = {path_names.as_text(os.fsdecode(name)) for name in (first, second)}
    assert len(texts) == len({first, second})


UNUSUAL = (
    b"x\xff.png",
    b"x\\xff.png",
    b"line\nbreak.png",
    b"a\x1b]52;c;cm0gLXJm\x07.png",
    "\u202egnp.\u200bexe.png".encode(),
    b"=cmd|' C'!A0.png",
    b"-rf.png",
    b"A" * 251 + b".png",
    "é".encode() * 125 + b".png",
    b" .png",
    b"'quoted\".png",
    b"[red]x[link=http:a].png",
    b"<b>&amp;.png",
    b"100%s{0}.png",
    b"\xed\xa0\x80.png",
    b"a\rb.png",
    b"tab\tname.png",
    b"*?.png",
)
CONTROLS = ("\x1b", "\x07", "\r", "\u202e", "\u200b")


def unusual_folder(root: Path, names: tuple[bytes, ...] = UNUSUAL) -> Path:
    for folder in ("NORMAL", "PNEUMONIA"):
        (root / folder).mkdir(parents=True)
        for number, name in enumerate(names):
            whole = radiograph(root / "whole.png", number + 100 * (folder == "NORMAL"))
            os.rename(whole, os.path.join(os.fsencode(root / folder), name))
    return root


def test_no_name_stops_a_batch_and_every_image_of_it_is_in_the_results(tmp_path):
    root = unusual_folder(tmp_path / "data")
    manifest = ingest.ingest(root)
    assert manifest.table.height == 2 * len(UNUSUAL)
    manifest.write(tmp_path / "run")
    index = cache.fill(Manifest.read(tmp_path / "run"), PIXELS, tmp_path / "cache").index
    assert index["error"].null_count() == 2 * len(UNUSUAL)
    for form in plugins.names("writers"):
        plugins.load("writers", form).write(manifest, tmp_path / form, split=None)
        json.dumps(sorted(path.name for path in (tmp_path / form).rglob("*"))).encode()
    shown, faults = describe.describe_images([root], tmp_path / "shown")
    assert len(shown) == 2 * len(UNUSUAL) and not faults


@pytest.mark.parametrize("verb", ["describe", "ingest", "audit", "show", "labels", "merge"])
def test_names_are_shown_escaped_by_every_verb(verb, tmp_path):
    root = unusual_folder(tmp_path / "data", (*UNUSUAL[:8], b"broken\x1b[2J\xff\n.png"))
    for folder in ("NORMAL", "PNEUMONIA"):
        with open(
            os.path.join(os.fsencode(root / folder), b"broken\x1b[2J\xff\n.png"), "wb"
        ) as stream:
            stream.write(b"no image")
    places_of = (
        [str(root), str(unusual_folder(tmp_path / "b\x1b[2J"))] if verb == "merge" else [str(root)]
    )
    reported = RUNNER.invoke(
        app,
        [
            verb,
            *places_of,
            *([] if verb in ("describe", "labels") else ["--out", str(tmp_path / "out")]),
        ],
    )
    assert reported.exception is None or isinstance(reported.exception, (SystemExit, HilumError)), (
        reported.exception
    )
    said = reported.output + on_one_line(str(reported.exception or ""))
    assert not [sign for sign in CONTROLS if sign in said.replace("\r\n", "\n")]
    assert not any("\ud800" <= one <= "\udfff" for one in said)


names_of_files = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=60),
        st.text(min_size=1, max_size=30).map(lambda text: text.encode("utf-8", "replace")),
    )
    .filter(lambda name: not {0, 47} & set(name) and name not in (b".", b".."))
    .map(lambda name: name[:240] + b".png"),
    min_size=1,
    max_size=6,
    unique=True,
)


@given(names_of_files)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_the_names_all_images_are_found_read_and_exported(tmp_path, names):
    shutil.rmtree(tmp_path, ignore_errors=True)
    visible = tuple(name for name in names if not name.startswith(b"."))
    root = unusual_folder(tmp_path / "data", names)
    (tmp_path / "data" / "hilum.toml").write_text('masks = []\nfolders = ["{label}"]\n')
    if not visible:
        return
    manifest = ingest.ingest(root)
    assert manifest.table.height == 2 * len(visible)
    assert cache.fill(manifest, PIXELS, tmp_path / "cache").index["error"].null_count() == 2 * len(
        visible
    )
    plugins.load("writers", "imagefolder").write(manifest, tmp_path / "x", split=None)
    found = collect([root])
    assert len(found.names) == 2 * len(visible) and not found.faults


@pytest.mark.parametrize(
    "value",
    ["9" * 30, "1" * 5000, "-1", "1e400", "NaN", "Infinity", "٣", "²", "A" * 200_000, "=1+1"],
)
def test_no_number_in_a_table_is_too_long_for_the_manifest(value, data, tmp_path):
    columns = ("height", "width", "age", "birth date", "study date", "follow up")
    lines = [f"image,label,{','.join(columns)}"]
    lines += [
        f"{name},{name.split('/')[0]},{','.join([value] * len(columns))}"
        for name in ("NORMAL/a.png", "NORMAL/b.png", "PNEUMONIA/c.png", "PNEUMONIA/d.png")
    ]
    (data / "labels.csv").write_text("\n".join(lines))
    assert ingest.ingest(data).table.height == 4
    plugins.load("readers", "nih14").example(tmp_path / "nih", images=4)
    table = tmp_path / "nih" / "Data_Entry_2017_v2020.csv"
    first, second, *rest = table.read_text().splitlines()
    cells = second.split(",")
    for at in range(2, len(cells)):
        table.write_text(
            "\n".join([first, ",".join([*cells[:at], value, *cells[at + 1 :]]), *rest])
        )
        try:
            assert ingest.ingest(tmp_path / "nih").table.height == 4
        except BadData as fault:
            assert "Data_Entry_2017_v2020.csv line 2" in str(fault)


def test_whatever_the_verbs_print_goes_through_one_function_that_escapes():
    """So that no name of a file, wherever it stands, sends control sequences to a terminal."""
    direct = [
        (path.name, ast.unparse(node))
        for path in Path(cli.__file__).parent.glob("*.py")
        if path.name != "console.py"  # the function itself
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("typer.echo", "print")
    ]
    # TOML is written as bytes, and has escapes of its own.
    assert [name for name, call in direct if ".encode()" not in call] == []


def test_the_files_behind_a_cache_are_compared_whatever_their_names(data, tmp_path):
    radiograph(Path(os.fsdecode(os.fsencode(data / "NORMAL") + b"/x\xff.png")), 7)
    manifest = ingest.ingest(data)
    filled = cache.fill(manifest, PIXELS, tmp_path / "cache")
    paths = dict(manifest.table.select("image_id", "path").iter_rows())
    assert len(paths) == 5 and list(filled.mismatches(manifest.root, paths)) == []
