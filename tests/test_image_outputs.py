"""The commands that take images behave alike: what they write, where they refuse to, what they pass
over, and how they end.
"""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.imaging import synthetic
from hilum.imaging.files import output_folder, raster

COMMANDS = ("inspect", "lungs", "classify", "apply", "explain")
TABLES = {command: f"{command}.csv" for command in COMMANDS}
WRITTEN = {  # below --out, for the image NAME
    "inspect": ("NAME.png",),
    "classify": ("overlay/NAME.jpg",),
    "lungs": ("both/NAME.png", "right/NAME.png", "left/NAME.png", "overlay/NAME.jpg"),
    "apply": ("masks/NAME_lungs.png", "masks/NAME_anomaly.png"),
    "explain": ("occlusion/NAME.jpg",),
}


def chest(path: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    raster.write_png(
        path, synthetic.draw(synthetic.anatomy(rng), rng, height=200, width=190).pixels
    )
    return path


@pytest.fixture
def films(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chest(tmp_path / "films/a/x.png", 1), chest(tmp_path / "films/b/x.png", 2)
    (tmp_path / "films/notes.txt").write_text("words")
    return Path("films")


@pytest.fixture
def call(small_run):
    def called(command, *arguments):
        run = [str(small_run.folder)] if command in ("apply", "explain") else []
        return CliRunner().invoke(app, [command, *run, *map(str, arguments)])

    return called


def rows(folder: Path, command: str) -> list[dict[str, str]]:
    with open(folder / TABLES[command], newline="") as stream:
        return list(csv.DictReader(stream))


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_equal_names_keep_apart_and_the_table_says_which_output_is_whose(films, call, command):
    done = call(command, films, "--out", "out", "--json")
    assert done.exit_code == 0, done.output
    reported, table = json.loads(done.stdout), rows(Path("out"), command)
    expected = {f"films/{name}.png": name for name in ("a/x", "b/x")}
    assert (
        {row["image"]: row["name"] for row in table}
        == {row["image"]: row["name"] for row in reported}
        == expected
    )
    assert (
        not [row for row in reported if row.get("refused")]
        and "1 file that is no image: films/notes.txt" in done.stderr
    )
    for name in expected.values():
        assert all(
            (Path("out") / place.replace("NAME", name)).exists() for place in WRITTEN[command]
        )


@pytest.mark.parametrize("command", COMMANDS)
def test_files_a_folder_and_a_pattern_give_the_same(films, call, command):
    given = (
        ["films/a/x.png", "films/b/x.png"],
        ["films"],
        ["films/**/*.png", "films/b/../a/x.png"],
    )
    for number, arguments in enumerate(given):
        assert call(command, *arguments, "--out", f"out{number}").exit_code == 0
    first, *others = (files(Path(f"out{number}")) for number in range(len(given)))
    assert [other.keys() for other in others] == [first.keys()] * 2
    images = {name for name in first if name.endswith((".png", ".jpg"))}
    assert images and all(other[name] == first[name] for other in others for name in images)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_is_examined_is_never_written_to(films, call, command):
    before = files(films)
    for to in ("films/out", "films"):
        done = call(command, films, "--out", to)
        assert (
            done.exit_code == 1
            and "never written to" in str(done.exception)
            and "use --out " in str(done.exception)
        )
    assert files(films) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_its_own_output_is_never_read_back(films, call, command):
    assert call(command, films / "a" / "x.png", "--out", "films/out").exit_code == 0
    assert output_folder.written_by(Path("films/out")) == f"hilum {command}"
    done = call(command, films, "films/*", "films/**/*.png", "--out", "again", "--json")
    assert done.exit_code == 0 and {row["image"] for row in json.loads(done.stdout)} == {
        "films/a/x.png",
        "films/b/x.png",
    }
    assert "output of an earlier command: films/out" in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_fault_of_a_file_or_argument_stops_no_other_and_makes_the_exit_code_1(
    films, call, command
):
    (films / "broken.png").write_bytes((films / "a/x.png").read_bytes()[:300])
    (films / "page.jpg").write_text("<html>")
    done = call(command, films, "absent.png", "--out", "out", "--json")
    assert done.exit_code == 1 and {row["name"] for row in json.loads(done.stdout)} == {
        "a/x",
        "b/x",
    } == {row["name"] for row in rows(Path("out"), command)}
    assert all(name in done.stderr for name in ("broken.png", "page.jpg", "absent.png"))


@pytest.mark.parametrize("command", COMMANDS)
def test_where_nothing_can_be_read_nothing_is_written(films, call, command):
    done = call(command, films / "notes.txt", "--out", "out", "--json")
    assert (
        done.exit_code == 1
        and json.loads(done.stdout) == []
        and "notes.txt" in done.stderr
        and not Path("out").exists()
    )
    done = call(command, films / "notes.txt", "--out", "out")
    assert done.exit_code == 1 and "notes.txt" in done.stderr and not Path("out").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_that_is_no_text_and_one_that_would_steer_the_terminal_are_reported_harmlessly(
    films, call, command
):
    import os

    for name in (os.fsdecode(b"caf\xe9.png"), "a\x1b]52;c;x\x07.png", "two\nlines.png"):
        (films / "a/x.png").rename(films / "a" / name)
        (films / "a" / name).rename(films / name)
        chest(films / "a/x.png", 1)
    for extra in ((), ("--json",)):
        done = call(command, films, "--out", "out", *extra)
        assert done.exit_code == 0 and "\x1b" not in done.output and done.output.encode()
    assert {row["name"] for row in rows(Path("out"), command)} == {
        "caf_",
        "a_]52;c;x_",
        "two_lines",
        "a/x",
        "b/x",
    }


# Of single commands


def test_show_of_one_image_may_name_the_png_and_of_several_not(films, call):
    assert (
        call("inspect", films / "a/x.png", "--out", "one.png").exit_code == 0
        and Path("one.png").exists()
    )
    several = call("inspect", films, "--out", "two.png")
    assert (
        several.exit_code == 1
        and "2 images to draw" in str(several.exception)
        and not Path("two.png").exists()
    )
    own = call("inspect", films / "a/x.png", "--out", films / "a/x.png")
    assert own.exit_code == 1 and "is the image itself" in str(own.exception)


def test_what_show_draws_may_be_read_again_where_it_is_named(films, call):
    assert call("inspect", films, "--out", "shown").exit_code == 0
    assert call("lungs", "shown", "--out", "out").exit_code == 0
    assert "wrote, masks and overlays" in call("lungs", "out", "--out", "again").stderr


def test_masks_of_predict_go_where_they_are_requested(films, call):
    assert call("apply", films / "a/x.png", films / "b/x.png", "--masks", "m").exit_code == 0
    assert sorted(path.relative_to("m").as_posix() for path in Path("m").rglob("*.png")) == [
        f"{folder}/x_{kind}.png" for folder in "ab" for kind in ("anomaly", "lungs")
    ]
    assert (
        call("apply", films, "--masks", "m2", "--out", "out").exit_code == 0
        and not Path("out/masks").exists()
        and len(list(Path("m2").rglob("*.png"))) == 4
    )
    for place in ("--masks", "--out"):
        assert "never written to" in str(call("apply", films, place, "films/m").exception)


def test_predict_and_explain_write_neither_into_the_run_nor_into_its_data(films, call, small_run):
    for command in ("apply", "explain"):
        assert "is the folder of the run itself" in str(
            call(command, films, "--out", small_run.folder).exception
        )
        data = Path(small_run.recipe().data.folder)
        assert (
            "which is never written to"
            in str(call(command, films, "--out", data / "out").exception)
            and not (data / "out").exists()
        )


def test_a_run_whose_models_or_calibration_are_missing_or_changed_is_refused_with_a_remedy(
    films, small_run, tmp_path
):
    import shutil

    for file, spoil in {
        "segment/lungs.onnx": Path.unlink,
        "train/finding.onnx": lambda path: path.write_bytes(b"other"),
        "calibration.json": Path.unlink,
    }.items():
        run = Path(shutil.copytree(small_run.folder, tmp_path / file.replace("/", "_")))
        spoil(run / file)
        done = CliRunner().invoke(app, ["apply", str(run), "films"])
        assert (
            done.exit_code == 1
            and file in str(done.exception)
            and f"hilum run {run}" in str(done.exception)
        )
