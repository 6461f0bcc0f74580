"""The page of benchmarks is read from what scripts record, and a lost ratio is noticed."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import compare, registry, run
from benchmarks._lib import markdown, results
from benchmarks._lib import report as report_module
from benchmarks._lib.markdown import Cell, Cells
from benchmarks._lib.report import SAME_RUN, Figure, Report

ROOT = Path(__file__).parents[1]
PAGE = "\n".join((results.RESULTS / f"{name}.md").read_text() for name in registry.PAGES)


APART = {script.module for script in registry.SCRIPTS if script.apart}
RECORDED = {figure.row for figure in Report.read(report_module.LAST).figures}


@pytest.mark.parametrize("row", registry.ROWS, ids=lambda row: row.name)
def test_each_row_is_found_in_what_its_script_recorded_last(row):
    figure = Figure.of(row, PAGE)
    # A script apart is run by itself, or not yet; a row may be newer than the last recorded run.
    if (row.script in APART or row.name not in RECORDED) and figure.ours is None:
        assert figure.why.startswith("there is no section") or "holds no number" in figure.why
        return
    assert figure.why == ""
    assert figure.ours is not None and figure.ours >= 0
    assert (figure.ratio is not None) == bool(row.rival)


def test_each_row_has_a_script_and_each_script_a_row_and_a_module():
    scripts = {script.module for script in registry.SCRIPTS}
    assert {row.script for row in registry.ROWS} == scripts
    assert all((ROOT / f"{name.replace('.', '/')}.py").is_file() for name in scripts)
    assert len({row.name for row in registry.ROWS}) == len(registry.ROWS)


def test_a_rival_is_measured_in_the_run_or_published_with_its_source():
    for row in registry.ROWS:
        assert bool(row.rival) == bool(row.theirs or row.published), row.name
        assert not row.published or row.published[1], row.name


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--data", "/srv/a/shared/data/nih-sample"), "--data ../shared/data/nih-sample"),
        (("--data=/srv/shared/data/",), "--data=../shared/data"),
        (("--data", "../../b/shared/data"), "--data ../shared/data"),
        (("--work", "/tmp/w", "--data", "/tmp/w/films"), "--work WORK --data DATA"),
        (("--model", "/"), "--model /"),
    ],
)
def test_a_page_names_no_folder_of_the_machine(arguments, expected):
    text = f"`python -m benchmarks.speed.cache {' '.join(arguments)}` in /tmp/works".replace(
        "/`", "`"
    )
    expected = f"`python -m benchmarks.speed.cache {expected}` in /tmp/works".replace("/`", "`")
    assert results.as_documented(text, arguments) == expected


def test_the_recorded_pages_name_no_folder_of_a_machine():
    assert not re.findall(r"(?<![\w.*])/(?:tmp|work|root|home|mnt|srv|data)/\S*", PAGE)


TABLE = """
## Speed of it

text | with a bar

| what | of | ms | ms |
| --- | --- | --: | --: |
| reading | a | 1,234.5 (7) | 2 |
| reading | b | - | 3 |

## Speed of it all
"""


def test_a_cell_is_found_by_section_row_and_column():
    assert Cell("Speed", ("reading", "a"), "ms").read(TABLE) == 1234.5
    assert Cell("Speed", ("b",), "ms", 1).read(TABLE) == 3
    assert Cell("Speed", ("reading",), "ms", 1, of=sum).read(TABLE) == 5
    assert Cell("Speed", (), "ms", of=min).read(TABLE) == 1234.5  # what is not measured is left out
    both = (Cell("Speed", ("a",), "ms"), Cell("Speed", ("b",), "ms", 1))
    assert Cells(both, sum).read(TABLE) == 1237.5
    for cell, message in (
        (Cell("Sped", ("a",), "ms"), "no section 'Sped'"),
        (Cell("Speed", ("c",), "ms"), "has no row c with a column 'ms'"),
        (Cell("Speed", ("a",), "s"), "has no row a with a column 's'"),
        (Cell("Speed", ("b",), "ms"), "'-' holds no number"),
    ):
        with pytest.raises(LookupError, match=message):
            cell.read(TABLE)
    assert len(markdown.tables(TABLE)) == 1


def report(*ratios: float | None, quick: bool = False) -> Report:
    figures = tuple(
        Figure(row.name, 1.0, ratio, ratio, True, SAME_RUN)
        for row, ratio in zip(registry.ROWS, ratios, strict=False)
    )
    return Report("command", "machine", quick, figures, whole=True)


def test_a_ratio_beyond_the_tolerance_and_a_row_that_is_gone_are_losses():
    last = report(10.0, 10.0, 10.0)
    assert not compare.losses(report(8.6, 30.0, 10.0), last, 0.15)
    assert len(compare.losses(report(8.4, 10.0, 8.4), last, 0.15)) == 2
    assert len(compare.losses(report(10.0, None), last, 0.15)) == 2
    assert not compare.losses(report(10.0, None, quick=True), last, 0.15)
    other = replace(last, figures=tuple(replace(one, rival_is="none") for one in last.figures))
    assert not compare.losses(report(1.0, 1.0, 1.0), other, 0.15)


def test_a_target_that_is_reached_no_more_is_a_loss_and_what_is_of_an_earlier_run_is_none():
    held = Figure("row", 4.0, None, None, True, "none")
    last, slow = (Report("", "", False, (one,)) for one in (held, replace(held, ours=6.0)))
    assert not compare.losses(slow, last, 0.15)
    missed = replace(held, ours=6.0, held=False)
    lost = compare.losses(replace(last, figures=(missed,)), last, 0.15)
    assert lost == ["row: reached its target with 4, misses it with 6"]
    before = replace(missed, before=True, why="takes an hour")
    assert not compare.losses(replace(last, figures=(before,)), last, 0.15)


def scripts_of(folder: Path, monkeypatch, *bodies: str) -> list[str]:
    """Make the registry consist of scripts with these bodies, a row each."""
    package = folder / "measuring"
    package.mkdir()
    names = [f"measuring.part{number}" for number in range(len(bodies))]
    for name, body in zip(names, bodies, strict=True):
        (folder / f"{name.replace('.', '/')}.py").write_text(
            f"import os, pathlib\nnow = {name!r}\n{body}\n"
        )
    cells = [Cell(name, ("it",), "ms") for name in names]
    rows = tuple(
        registry.Row(f"row of {name}", name, "ms", cell, 2.0)
        for name, cell in zip(names, cells, strict=True)
    )
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
    monkeypatch.setattr(run, "ROWS", rows)
    monkeypatch.setattr(
        run, "SCRIPTS", tuple(registry.Script(name, 2.0, quick=()) for name in names)
    )
    monkeypatch.setattr(report_module, "ROWS", rows)
    monkeypatch.setattr(run, "_revision", lambda: "of the test")
    return names


RECORDS = """
page = pathlib.Path(os.environ["HILUM_BENCHMARK_PAGES"]) / "speed.md"
page.write_text(f"## {now}\\n\\n| what | ms |\\n| --- | --- |\\n| it | 1.5 |\\n")
"""


def recorded_last(folder, monkeypatch, name):
    """Make the recorded pages those of a script that measured 7 ms."""
    pages = folder / "pages"
    pages.mkdir()
    for page in registry.PAGES:
        (pages / f"{page}.md").write_text(
            f"## {name}\n\n| what | ms |\n| --- | --- |\n| it | 7 |\n"
        )
    monkeypatch.setattr(results, "RESULTS", pages)


def test_a_script_that_fails_loses_its_own_rows_alone_and_says_why(tmp_path, monkeypatch, capsys):
    scripts_of(tmp_path, monkeypatch, "raise SystemExit('no space left')", RECORDS)
    out = tmp_path / "new.json"
    run.main(["--quick", "--out", str(out)])
    first, second = Report.read(out).figures
    assert (first.ours, first.why) == (None, "ended with 1: no space left")
    assert second.ours == 1.5 and second.held
    assert "not run: ended with 1: no space left" in capsys.readouterr().out


def test_a_run_that_was_cut_off_keeps_what_it_had_and_goes_on(tmp_path, monkeypatch, capsys):
    names = scripts_of(tmp_path, monkeypatch, RECORDS, "raise SystemExit('cut off')")
    out = tmp_path / "new.json"
    run.main(["--quick", "--out", str(out)])
    cut = replace(Report.read(out), whole=False)
    cut.write(out)
    (tmp_path / "measuring" / "part0.py").write_text("raise SystemExit('measured twice')")
    (tmp_path / "measuring" / "part1.py").write_text(
        f"import os, pathlib\nnow = {names[1]!r}{RECORDS}"
    )
    run.main(["--quick", "--out", str(out)])
    went_on = Report.read(out)
    assert went_on.whole and went_on.done == tuple(names)
    assert [figure.ours for figure in went_on.figures] == [1.5, 1.5]
    assert "measured before the run was cut off" in capsys.readouterr().err


def test_scripts_that_do_not_fit_show_what_they_recorded_last(tmp_path, monkeypatch, capsys):
    scripts_of(tmp_path, monkeypatch, RECORDS, RECORDS)
    recorded_last(tmp_path, monkeypatch, "measuring.part1")
    out = tmp_path / "new.json"
    run.main(["--minutes", "3", "--out", str(out)])
    first, second = Report.read(out).figures
    assert (first.ours, first.before) == (1.5, False)
    assert (second.ours, second.before, second.held) == (7, True, False)
    assert "measured before: 2 minutes did not fit" in capsys.readouterr().out


def test_a_section_of_other_arguments_is_what_the_script_recorded_last(tmp_path, monkeypatch):
    scripts_of(tmp_path, monkeypatch, "", RECORDS)
    recorded_last(tmp_path, monkeypatch, "measuring.part0")
    out = tmp_path / "new.json"
    run.main(["--out", str(out)])
    first, second = Report.read(out).figures
    assert (first.ours, first.before, first.why) == (7, True, "by other arguments of its script")
    assert (second.ours, second.before) == (1.5, False)


def test_the_command_exits_by_what_was_lost_and_records_no_loss(tmp_path, capsys):
    new, last, page = (tmp_path / name for name in ("new.json", "last.json", "page.md"))

    def compared(*more: str) -> tuple[int, str]:
        options = ["--new", str(new), "--last", str(last), "--page", str(page), *more]
        return compare.main(options), capsys.readouterr().out

    assert compared()[0] == 1
    report(10.0).write(new)
    assert compared("--record")[0] == 0
    assert Report.read(last) == report(10.0)
    assert page.read_text().startswith("# Benchmarks\n")
    report(5.0).write(new)
    status, said = compared("--record")
    assert status == 1
    assert "the ratio was 10, is 5" in said
    assert Report.read(last) == report(10.0)
    assert compared("--record", "--accept-losses")[0] == 0
    assert Report.read(last) == report(5.0)


def test_a_script_without_its_data_or_rival_is_left_out_and_says_why(tmp_path):
    script = registry.SCRIPTS[0]
    assert run.left_out(script, tmp_path, ()) == "no data in nih-sample"
    (tmp_path / "nih-sample").mkdir()
    other = replace(script, packages=("no_such_package",))
    assert run.left_out(other, tmp_path, ()) == "not installed: no_such_package"
    assert run.left_out(other, tmp_path, None) == "not in the quick subset"
    figures = run.run(other, tmp_path, quick=True)
    assert {figure.why for figure in figures[0]} == {"not installed: no_such_package"}


def test_the_page_has_the_summary_first_and_shows_what_is_missed():
    held = Figure.of(registry.ROWS[0], PAGE)
    page = Report("command", "machine", False, (held, replace(held, held=False))).page()
    table = markdown.tables(page)[0]
    assert page.index("|") < page.index("last.json")
    assert [cells[-1] for cells in table[1:]] == [
        "held" if held.held else "**missed**",
        "**missed**",
    ]
