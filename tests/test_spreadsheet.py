"""No cell of a CSV file for people is run by a spreadsheet, and Hilum reads back what it wrote."""

from __future__ import annotations

import ast
import csv
import io
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import manifest as made_up

import hilum
from hilum.dataset.tables._table import stripped
from hilum.dataset.writers import csv_tables
from hilum.safety import spreadsheet_cells

RUN = (
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\tx",
    "\rx",
    " =1+1",
    "\n=1",
    "＝1+1",
    "=cmd|'/c calc'!A0",
)
STAYS = ("-1", "+3.5e2", "-.5", "a=b", "p-1", "", "NORMAL", "'quoted'", "5 - 3")
WRITERS = {
    "hilum.safety.spreadsheet_cells",
    "hilum.storage.__init__",
}  # storage: digests of tables, which are no files


@pytest.mark.parametrize("cell", RUN)
def test_what_a_spreadsheet_would_run_becomes_text_in_rows_and_tables_alike(cell):
    assert spreadsheet_cells.harmless(cell) == f"'{cell}"
    assert first_cell(spreadsheet_cells.of_rows(("a",), [{"a": cell}])) == f"'{cell}"
    assert first_cell(spreadsheet_cells.of_table(pl.DataFrame({"a": [cell]}))) == f"'{cell}"


@pytest.mark.parametrize("cell", STAYS)
def test_numbers_and_other_texts_stay(cell):
    assert spreadsheet_cells.harmless(cell) == cell
    assert first_cell(spreadsheet_cells.of_table(pl.DataFrame({"a": [cell], "b": ["x"]}))) == cell


def first_cell(text: str) -> str:
    return list(csv.reader(io.StringIO(text, newline="")))[1][0]


def test_columns_too_and_values_that_are_no_text_stay():
    table = pl.DataFrame({"=x": [-1], "y": [None], "z": [-2.5]})
    assert spreadsheet_cells.of_table(table) == "'=x,y,z\n-1,,-2.5\n"
    assert spreadsheet_cells.of_rows(("=x", "y"), [{"=x": -1}]) == "'=x,y\n-1,\n"


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=12))
def test_reading_restores_what_writing_quoted(cell):
    quoted = pl.DataFrame({"a": [spreadsheet_cells.harmless(cell)]})
    if not cell.startswith("'"):
        assert spreadsheet_cells.restored(quoted)["a"][0] == cell


def test_the_reader_of_tables_takes_the_apostrophe_away(tmp_path):
    reported = pl.DataFrame({"image": ["=a.png", "-b.png", "c.png"], "label": ["@x", "-1", "'y"]})
    (tmp_path / "labels.csv").write_text(spreadsheet_cells.of_table(reported))
    read = stripped(pl.read_csv(tmp_path / "labels.csv", infer_schema=False))
    assert read.equals(reported)


def test_an_export_is_harmless_whatever_files_are_called(tmp_path):
    rows = [("=HYPERLINK(1)", "-2+3", "here", 1), ("b", "p", "@here", 0)]
    manifest = made_up(rows, tmp_path)

    csv_tables.write(manifest, tmp_path / "out", split=None)
    for file in (tmp_path / "out").glob("*.csv"):
        cells = [cell for row in csv.reader(file.open(encoding="utf-8")) for cell in row]
        assert not [cell for cell in cells if spreadsheet_cells.harmless(cell) != cell]


def test_csv_is_written_in_one_place():
    found = set()
    for path in Path(hilum.__file__).parent.rglob("*.py"):
        source = path.read_text()
        if "csv" not in source:
            continue  # most modules: parsing them takes seconds
        for node in ast.walk(ast.parse(source)):
            name = (
                node.func.attr
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
                else ""
            )
            of_csv = (
                name in ("writer", "DictWriter") and getattr(node.func.value, "id", "") == "csv"
            )
            module = ".".join(
                path.relative_to(Path(hilum.__file__).parents[1]).with_suffix("").parts
            )
            # The CSV of test scores, cards and exports all pass through `spreadsheet`.
            if (
                name == "write_csv" and getattr(node.func.value, "id", "") != "output_folder"
            ) or of_csv:
                found.add(module)
    assert found == WRITERS
