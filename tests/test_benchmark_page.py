"""The page of benchmarks is read from what scripts record, and a lost ratio is noticed."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import compare, registry, run
from benchmarks._lib import markdown, results
from benchmarks._lib.markdown import Cell
from benchmarks._lib.report import SAME_RUN, Figure, Report

ROOT = Path(__file__).parents[1]
PAGE = "\n".join((results.RESULTS / f"{name}.md").read_text() for name in registry.PAGES)


@pytest.mark.parametrize("row", registry.ROWS, ids=lambda row: row.name)
def test_each_row_is_found_in_what_its_script_recorded_last(row):
    figure = Figure.of(row, PAGE)
    assert figure.why == ""
    assert figure.ours > 0
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
    return Report("command", "machine", quick, figures)


def test_a_ratio_beyond_the_tolerance_and_a_row_that_is_gone_are_losses():
    last = report(10.0, 10.0, 10.0)
    assert not compare.losses(report(8.6, 30.0, 10.0), last, 0.15)
    assert len(compare.losses(report(8.4, 10.0, 8.4), last, 0.15)) == 2
    assert len(compare.losses(report(10.0, None), last, 0.15)) == 2
    assert not compare.losses(report(10.0, None, quick=True), last, 0.15)
    other = replace(last, figures=tuple(replace(one, rival_is="none") for one in last.figures))
    assert not compare.losses(report(1.0, 1.0, 1.0), other, 0.15)


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
    assert {figure.why for figure in figures} == {"not installed: no_such_package"}


def test_the_page_has_the_summary_first_and_shows_what_is_missed():
    held = Figure.of(registry.ROWS[0], PAGE)
    page = Report("command", "machine", False, (held, replace(held, held=False))).page()
    table = markdown.tables(page)[0]
    assert page.index("|") < page.index("last.json")
    assert [cells[-1] for cells in table[1:]] == [
        "held" if held.held else "**missed**",
        "**missed**",
    ]
