"""The table reader: what was written is what is read, and all else is refused by name."""

from __future__ import annotations

import datetime
import gzip
import io
import json
import random
import re
import string
import zipfile
from collections.abc import Callable
from pathlib import Path

import openpyxl
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hilum.dataset import tables
from hilum.dataset.tables import _header, _table, _xlsx
from hilum.errors import BadData, NotFound

NIH = Path(__file__).parents[2] / "shared" / "data" / "nih-metadata"
SETTINGS = settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def read(folder: Path, content: bytes | str, name: str = "labels.csv") -> tables.Table:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    (table,) = tables.read(path)
    assert set(table.frame.dtypes) <= {pl.String}
    assert sum(table.frame.null_count().row(0)) == 0 if table.frame.width else True
    return table


def refusal(folder: Path, content: bytes | str, name: str = "labels.csv") -> str:
    with pytest.raises(BadData) as caught:
        read(folder, content, name)
    assert str(caught.value).startswith(name)
    return str(caught.value)


def rows(table: tables.Table) -> list[tuple[str, ...]]:
    return table.frame.rows()


# ------------------------------------------------------------------------------------- round trip

_TEXT = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")) | st.sampled_from(
    list(",;|\t\"'\r\n =#\u00a0\u200b\ufeff.äé01")
)
_ALPHABETS = {
    "utf-8": _TEXT,
    "utf-8-sig": _TEXT,
    "utf-16": _TEXT,
    "utf-16-be": _TEXT,
    "cp1252": st.sampled_from(string.printable.strip(" \x0b\x0c") + "ÄÖÜäöüßéèñçÀ "),
}


@st.composite
def written_tables(draw):
    """Draw a header, rows, and the bytes of a file that holds them."""
    encoding = draw(st.sampled_from(sorted(_ALPHABETS)))
    width = draw(st.integers(1, 5))
    name = st.text(string.ascii_letters + " _", min_size=1, max_size=8)
    header = draw(
        st.lists(
            name.filter(lambda text: text.strip()),
            min_size=width,
            max_size=width,
            unique_by=lambda text: " ".join(text.split()),
        )
    )
    cell = st.text(_ALPHABETS[encoding], max_size=6) | st.sampled_from(["", "a.png", "45,5", "TB"])
    lines = draw(st.lists(st.lists(cell, min_size=width, max_size=width), max_size=8))
    delimiter = draw(st.sampled_from(",;\t|"))
    # One column without quotes is ambiguous: any delimiter inside it may be the file's.
    always = width == 1 or draw(st.booleans())
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))

    def quoted(text: str) -> str:
        if always or re.search(f'["\r\n{re.escape(delimiter)}]', text):
            return '"' + text.replace('"', '""') + '"'
        return text

    text = end.join(delimiter.join(map(quoted, line)) for line in [header, *lines])
    text += end * draw(st.booleans())
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    return header, lines, (mark + text).encode(encoding)


@SETTINGS
@given(written_tables())
@example((["A", "B"], [["a", "'="]], b"A,B\na,'="))
def test_what_was_written_is_read(tmp_path, written):
    header, lines, content = written
    clean = [tuple(map(expected_cell, line)) for line in lines]
    table = read(tmp_path, content)
    assert table.frame.columns == [" ".join(name.split()) for name in header]
    assert rows(table) == [line for line in clean if any(line)]
    assert not table.repeated and not table.headless


def expected_cell(text: str) -> str:
    text = text.strip(_table.WHITE_SPACE)
    # What keeps a spreadsheet from running a cell, `hilum.safety.spreadsheet_cells`.
    text = text[1:] if re.match(r"'[\s\x00]*[=+\-@\t\r＝＋－＠]", text) else text
    formula = re.fullmatch(r'="([^"]*)"', text)
    return formula[1].strip(_table.WHITE_SPACE) if formula else text


@SETTINGS
@given(written_tables())
def test_line_numbers_are_those_of_the_file(tmp_path, written):
    header, lines, _ = written
    lines = [[f"{i}x", *line[1:]] for i, line in enumerate(lines)]
    held = [[cell.replace("\r", "") for cell in line] for line in lines]
    text = "\n".join(",".join(f'"{c.replace(chr(34), chr(34) * 2)}"' for c in row) for row in held)
    table = read(tmp_path, ",".join(header) + "\n" + text)
    for row in range(table.frame.height):
        start = 2 + sum(cell.count("\n") + 0 for line in held[:row] for cell in line) + row
        assert table.line_of(row) == start
        assert table.place(row) == f"labels.csv line {start}"


# --------------------------------------------------------------------------------- the text itself

TWO = [("a.png", "TB"), ("b.png", "no")]
FORMS = {
    "LF": b"image,label\na.png,TB\nb.png,no\n",
    "CRLF": b"image,label\r\na.png,TB\r\nb.png,no\r\n",
    "CR": b"image,label\ra.png,TB\rb.png,no\r",
    "mixed line ends": b"image,label\r\na.png,TB\rb.png,no\n",
    "doubled CR of Windows": b"image,label\r\r\na.png,TB\r\r\nb.png,no\r\r\n",
    "no line end": b"image,label\na.png,TB\nb.png,no",
    "UTF-8 mark": b"\xef\xbb\xbfimage,label\na.png,TB\nb.png,no\n",
    "UTF-16": "image,label\na.png,TB\nb.png,no\n".encode("utf-16"),
    "UTF-16 big-endian": "\ufeffimage,label\r\na.png,TB\r\nb.png,no\n".encode("utf-16-be"),
    "UTF-32": "image,label\na.png,TB\nb.png,no\n".encode("utf-32"),
    "end of file of DOS": b"image,label\r\na.png,TB\r\nb.png,no\r\n\x1a",
    "semicolons": b"image;label\na.png;TB\nb.png;no\n",
    "tabs": b"image\tlabel\na.png\tTB\nb.png\tno\n",
    "pipes": b"image|label\na.png|TB\nb.png|no\n",
    "all quoted": b'"image","label"\n"a.png","TB"\n"b.png","no"\n',
    "blanks round cells": b"image , label\n a.png, TB \nb.png ,no\n",
    "blank before quote": b'image, label\na.png, "TB"\nb.png, "no"\n',
    "no-break spaces": "image,\u00a0label\na.png\u00a0,\u200bTB\nb.png,no\ufeff\n".encode(),
    "direction marks of Windows": "image,label\n\u202aa.png,TB\nb.png\u202c,no\n".encode(),
    "empty lines at the end": b"image,label\na.png,TB\nb.png,no\n\n\n,\n",
    "empty columns at the end": b"image,label,,\na.png,TB,,\nb.png,no,,\n",
    "empty cells beyond the header": b"image,label\na.png,TB,,\nb.png,no\n",
    "header beyond the cells": b"image,label,,\na.png,TB\nb.png,no\n",
    "Excel's hint": b"sep=;\r\nimage;label\r\na.png;TB\r\nb.png;no\r\n",
    "header on two lines": b'"image","la\nbel"\na.png,TB\nb.png,no\n',
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_one_table_reads_alike(tmp_path, form):
    table = read(tmp_path, FORMS[form])
    assert rows(table) == TWO
    assert table.frame.columns == ["image", "la bel" if "two lines" in form else "label"]


@pytest.mark.parametrize(
    ("content", "remark"),
    [
        (b"Bild,Befund\na.png,unauff\xe4llig\n", "read as Windows-1252"),
        (b"Bild,Befund\ra.png,unauff\x8allig\r", "read as Mac Roman"),
        ("Bild,Befund\na.png,unauffällig\n".encode("utf-16"), "read as UTF-16"),
        (b"image,label\ra.png,TB\r", "lines end in CR"),
        (b"image;label\na.png;TB\n", "delimiter semicolon"),
        (b"image\tlabel\na.png\tTB\n", "delimiter tab"),
        (b"image;age\na.png;45,5\nb.png;7\n", "decimal commas in age"),
        (b"image,label,label\na.png,0,1\n", "2 columns are called 'label': the second"),
        (b"image,label\n\na.png,TB\n,\n\nb.png,no\n", "3 empty lines skipped"),
        (b"Study of 2020\n\nimage,label\na.png,TB\nb.png,no\n", "line 1 is a title above"),
        (b"image,label,\na.png,TB,x\n", "column 3 has no name in the header"),
        (b",image\n0,a.png\n1,b.png\n", "column 'column 1' only counts the rows"),
    ],
)
def test_what_is_unusual_is_remarked(tmp_path, content, remark):
    assert [line for line in read(tmp_path, content).remarks if line.startswith(remark)]


def test_umlauts_of_old_encodings_are_read(tmp_path):
    for encoding, end in (
        ("cp1252", "\r\n"),
        ("cp1252", "\r"),
        ("mac-roman", "\r"),
        ("utf-16", "\n"),
    ):
        content = end.join(["Bild;Befund", "a.png;unauffällig", "b.png;Erguß möglich"])
        assert read(tmp_path, content.encode(encoding)).frame["Befund"].to_list() == [
            "unauffällig",
            "Erguß möglich",
        ]


def test_an_ordinary_table_has_no_remarks(tmp_path):
    assert read(tmp_path, FORMS["LF"]).remarks == ()


DELIMITED = {
    "findings apart by pipes": (
        "Image Index,Finding Labels\na.png,A|B|C\nb.png,A|C\nc.png,B|C\n",
        ("a.png", "A|B|C"),
    ),
    "two findings in every row": ("image,labels\na.png,A|B\nb.png,B|C\n", ("a.png", "A|B")),
    "findings apart by semicolons": ("image,labels\na.png,A;B\nb.png,C\n", ("a.png", "A;B")),
    "decimal commas": ("image;age\na.png;45,5\nb.png;46,2\n", ("a.png", "45,5")),
    "decimal commas, no header": ("a.png;45,5\nb.png;46,2\n", ("a.png", "45,5")),
    "semicolons, no header": ("a.png,A;B\nb.png,A;C\n", ("a.png", "A;B")),
    "a comma in a header": ("Bild;Größe x,y\na.png;3\nb.png;4\n", ("a.png", "3")),
    "quoted delimiters": ('"image";"a,b";"c|d"\n"a.png";"1,2,3";"|"\n', ("a.png", "1,2,3", "|")),
    "boxes as lists": ('image,box\na.png,"[1,2,3,4]"\nb.png,"[1,2]"\n', ("a.png", "[1,2,3,4]")),
    "blanks": ("1 a.png normal x\n2 b.png COVID-19 y\n", ("1", "a.png", "normal", "x")),
    "blanks in names": ("my a.png\nmy b.png\n", ("my a.png",)),
    "blanks in both": ("image\nmy a.png\nmy b.png\n", ("my a.png",)),
    "one column": ("image\na.png\nb.png\n", ("a.png",)),
    "one column of prose": (
        "report\nNo effusion, clear.\nHeart normal, lungs clear, bones old\nNormal\n",
        ("No effusion, clear.",),
    ),
    "prose with one comma each": (
        "report\nNo effusion, clear\nHeart big, old\nNormal, clear\n",
        ("No effusion, clear",),
    ),
    "tabs though commas abound": ("image\ttext\na.png\tx, y\nb.png\tx, y\n", ("a.png", "x, y")),
    "a lone quote inside": ('image,size\na.png,5" long\n', ("a.png", '5" long')),
    "formulas that keep zeros": ('image,id\na.png,="0012"\n', ("a.png", "0012")),
}


@pytest.mark.parametrize("kind", DELIMITED)
def test_the_delimiter_is_found(tmp_path, kind):
    content, first = DELIMITED[kind]
    assert rows(read(tmp_path, content))[0] == first


def test_the_boxes_of_nih_keep_their_columns(tmp_path):
    header = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
    for cells in ("a.png,Mass,1.5,2,3,4\n", "a.png,Mass,1.5,2,3,4,,,\n"):
        table = read(tmp_path, header + cells)
        assert table.frame.columns == ["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]"]
        assert rows(table) == [("a.png", "Mass", "1.5", "2", "3", "4")]


def test_long_cells_and_breaks_in_cells(tmp_path):
    report = "clear. " * 40_000
    table = read(tmp_path, f'image,report\na.png,{report}\nb.png,"one\ntwo"\nc.png,x\n')
    assert rows(table) == [("a.png", report.strip()), ("b.png", "one\ntwo"), ("c.png", "x")]
    assert [table.line_of(row) for row in range(3)] == [2, 3, 5]
    with pytest.raises(IndexError):
        table.line_of(3)


def test_the_limit_of_the_csv_module_is_as_before(tmp_path):
    import csv

    before = csv.field_size_limit()
    read(tmp_path, FORMS["LF"])
    refusal(tmp_path, 'image,label\n"a.png,TB\n')
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf", b" \r\n\t\n", b",,\n,,\n"])
def test_an_empty_file_is_an_empty_table(tmp_path, content):
    table = read(tmp_path, content)
    assert table.frame.shape == (0, 0)
    assert "empty" in table.remarks


@pytest.mark.parametrize("content", ["image,label", "image,label\n", "image;label\n\n"])
def test_a_header_alone_has_no_rows(tmp_path, content):
    table = read(tmp_path, content)
    assert table.frame.columns == ["image", "label"]
    assert table.frame.height == 0 and not table.headless


# ------------------------------------------------------------------------------------- the header

HEADLESS = {
    "names of images": "a.png,TB\nb.png,no\n",
    "one column of images": "a.png\nb.png\n",
    "one row": "a.png,TB",
    "numbers": "1,57,0.143\n2,61,0.143\n3,9,0.168\n",
    "identifiers": "P-001,male,x\nP-002,female,y\nP-003,male,z\n",
    "a word that recurs": "x,57,M\ny,61,F\nz,33,M\n",
    "names with folders": "train/a.JPG;0\ntrain/b.JPG;1\n",
}
WITH_HEADER = {
    "words": "image,label\na.png,TB\n",
    "classes as numbers": "image,0,1,2\na.png,1,0,0\nb.png,0,1,0\n",
    "years": "id,2019,2020\nx,1,2\ny,3,4\n",
    "columns of pandas": "0,1,2\n4,57,3\n9,61,5\n",
    "numbered names": "image1,label1\nx,TB\ny,no\n",
    "all text": "file,class\nx,TB\ny,no\n",
}


@pytest.mark.parametrize("kind", HEADLESS)
def test_a_table_without_header_keeps_its_first_row(tmp_path, kind):
    content = HEADLESS[kind]
    table = read(tmp_path, content)
    assert table.headless and table.first_line == 1
    assert table.frame.columns == [f"column {i + 1}" for i in range(table.frame.width)]
    assert table.frame.height == len(content.splitlines())
    assert any(remark.startswith("no header") for remark in table.remarks)


@pytest.mark.parametrize("kind", WITH_HEADER)
def test_a_header_of_numbers_is_still_a_header(tmp_path, kind):
    content = WITH_HEADER[kind]
    table = read(tmp_path, content)
    assert not table.headless
    assert table.frame.columns == content.splitlines()[0].split(",")


def test_repeated_names_stay_apart_from_ones_that_resemble_renamed_ones(tmp_path):
    table = read(tmp_path, "x,label,label,label (2),label\na,b,c,d,e\n")
    assert table.frame.columns == ["x", "label", "label (3)", "label (2)", "label (4)"]
    assert table.repeated == ("label",)
    assert rows(table) == [("a", "b", "c", "d", "e")]


def test_index_columns_are_named(tmp_path):
    assert read(tmp_path, ",image\n0,a.png\n1,b.png\n").index_columns == ("column 1",)
    assert read(tmp_path, "Unnamed: 0,image\n0,a.png\n1,b.png\n").index_columns == ("Unnamed: 0",)
    assert read(tmp_path, "id,image\n0,a.png\n1,b.png\n").index_columns == ()
    assert read(tmp_path, ",image\n7,a.png\n1,b.png\n").index_columns == ()


def test_titles_above_the_table_are_skipped_and_reported(tmp_path):
    content = "Chest study\nof 2020 in St. Mary\n\nimage,label,age\na.png,TB,3\nb.png,no,4\n"
    table = read(tmp_path, content)
    assert table.frame.columns == ["image", "label", "age"]
    assert table.first_line == 5
    assert "Chest study" in " ".join(table.remarks)


def test_a_header_without_a_name_for_the_first_column_is_no_title(tmp_path):
    table = read(tmp_path, ",label\nx,TB\ny,no\nz,TB\n")  # a pandas Series
    assert table.frame.columns == ["column 1", "label"]
    assert table.frame.height == 3


def test_a_header_that_lacks_names_is_no_title(tmp_path):
    message = refusal(tmp_path, "image\na.png,TB\nb.png,no\n")
    assert "line 2: 2 cells: a.png, TB" in message


# --------------------------------------------------------------------------------------- refusals


def test_rows_that_do_not_fit_are_listed_at_once(tmp_path):
    bad = "".join(f"x{i}.png,TB,Effusion\n" for i in range(7))
    message = refusal(tmp_path, f"image,label\na.png,TB\n{bad}short.png\nb.png,no\n")
    assert "8 of 10 lines have more or fewer cells than the header" in message
    for number in range(3, 8):
        assert f"line {number}: 3 cells: x{number - 3}.png, TB, Effusion" in message
    assert "… and 3 more" in message
    assert "line 8" not in message


def test_a_short_row_is_named(tmp_path):
    assert "line 3: 1 cell: b.png" in refusal(tmp_path, "image,label\na.png,TB\nb.png\n")


REFUSED = {
    "a NUL": (b"image,label\na.png,T\0B\n", "line 2 contains the control character NUL"),
    "an escape": (b"image,label\na.png,\x1b[31mTB\n", "control character U+001B"),
    "an escape of one character": ("image,label\na.png,\x9b31m\n".encode(), "U+009B"),
    "UTF-16 without mark": ("image,label\n".encode("utf-16-le"), "control character NUL"),
    "a PNG": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)), "is not text"),
    "random bytes": (random.Random(0).randbytes(5000), "is not text"),
    "one damaged line": ("image,l\na.png,ä\nb.png,".encode() + b"\xe4\n", "line 3 is not UTF-8"),
    "no known encoding": (b"image,label\na.png,\x81\n", "neither UTF-8 nor Windows-1252"),
    "half of UTF-16": (b"\xff\xfei\0m\0a", "byte order mark of UTF-16"),
    "a web page": (b"<!DOCTYPE html><title>Log in</title>", "is a web page"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    "a quote not closed": (b'image,l\na.png,TB\nb.png,"no\nc.png,no\n', "line 3: a double quote"),
    "text after a quote": (b'image,label\na.png,"TB"x\n', "line 2: text follows"),
    "a cell of 10 MB": (b"x" * 10_000_000, "line 1: a cell has more than"),
    "a line of a million cells": (b"x," * 1_000_000, "expected at most 16,384"),
    "an old workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "save it as .xlsx or"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_table_is_refused_by_name(tmp_path, kind):
    content, message = REFUSED[kind]
    assert message in refusal(tmp_path, content)


def test_places_that_hold_no_file(tmp_path):
    with pytest.raises(NotFound, match=r"labels\.csv: there is no such file"):
        tables.read(tmp_path / "labels.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(BadData, match=r"folder\.csv: is a folder and is never read"):
        tables.read(tmp_path / "folder.csv")


def test_the_given_name_is_the_one_of_messages(tmp_path):
    (tmp_path / "labels.csv").write_text("image,label\na.png\n")
    with pytest.raises(BadData, match=r"^sub/labels\.csv: 1 of 1 lines"):
        tables.read(tmp_path / "labels.csv", name="sub/labels.csv")


def test_gzip_is_read_and_bounded(tmp_path, monkeypatch):
    packed = gzip.compress(FORMS["LF"], mtime=0)
    assert rows(read(tmp_path, packed, "labels.csv.gz")) == TWO
    assert rows(read(tmp_path, gzip.compress(FORMS["tabs"], mtime=0), "labels.tsv.gz")) == TWO
    assert "damaged gzip" in refusal(tmp_path, packed[:-10], "labels.csv.gz")
    monkeypatch.setattr(tables, "MAX_BYTES", 1000)
    bomb = gzip.compress(bytes(500_000))
    assert len(bomb) < 1000
    assert "more than 1,000 bytes" in refusal(tmp_path, bomb, "bomb.csv.gz")
    assert "more than 1,000 bytes" in refusal(
        tmp_path, gzip.compress(b"x" * 1001, mtime=0), "b.csv.gz"
    )
    assert "expected at most 1,000" in refusal(tmp_path, b"x" * 1001)


# ---------------------------------------------------------------------------------------- the kind


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("labels.csv", FORMS["LF"], "csv"),
        ("labels.CSV", b"\0\1\2", "csv"),
        ("labels.tsv", FORMS["tabs"], "tsv"),
        ("labels.csv.gz", gzip.compress(FORMS["LF"], mtime=0), "csv"),
        ("images.tar.gz", gzip.compress(bytes(1000), mtime=0), None),
        ("labels.jsonl", b'{"image": "a.png"}\n', "jsonl"),
        ("labels.json", b"[]", "json"),
        ("labels.parquet", b"PAR1", "parquet"),
        ("labels.csv", b"PAR1", "parquet"),
        ("labels.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "xls"),
        ("labels.ods", b"PK\3\4mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "ods"),
        ("images.zip", b"PK\3\4" + bytes(60), None),
        ("a.png", b"\x89PNG\r\n\x1a\n", None),
        ("train_list.txt", b"a.png\nb.png\nc.png\n", "csv"),
        ("labels.txt", b"image\tlabel\na.png\tTB\nb.png\tno\n", "csv"),
        ("CLNDAT_EN.txt", b"JPCLN002.IMG\t5\t15\t53\tFemale\n", "csv"),
        ("MCUCXR_0001_0.txt", b"Patient's Sex: F\r\nAge: 027Y\r\nnormal, clear\r\n", None),
        ("ReadMe.txt", b"This set, of 2020, has images.\nIt is free.\nUse it, now.\n", None),
        ("LICENSE", b"Apache License\nVersion 2.0, January 2004\nhttp://www.apache.org/\n", None),
        ("notes.txt", b"", None),
        ("IM0001", bytes(128) + b"DICM", None),
        ("script.py", b"a,b\n1,2\n3,4\n", None),
    ],
)
def test_the_kind_of_a_file(name, head, kind):
    assert tables.table_kind(Path(name), head) == kind
    assert kind is None or kind in (*tables.KINDS, "xls", "ods")


# ----------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("45,5", 45.5),
        ("0.143", 0.143),
        ("0,143", 0.143),
        ("1e-3", 0.001),
        ("-7", -7.0),
        (" 12 ", 12.0),
        (".5", 0.5),
        (",5", 0.5),
        ("5.", 5.0),
        ("12345,678", 12345.678),
        ("1.234,5", None),
        ("1,234", None),
        ("1,234.5", None),
        ("051Y", None),
        ("", None),
        ("1_000", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("٣", None),
        ("1;2", None),
    ],
)
def test_numbers_with_point_or_comma(cell, value):
    assert tables.number(cell) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_that_python_writes_is_read(value):
    assert tables.number(repr(value)) == value


# --------------------------------------------------------------------------------------- workbooks


def workbook(fill: Callable[[openpyxl.Workbook], None]) -> bytes:
    book, content = openpyxl.Workbook(), io.BytesIO()
    fill(book)
    book.save(content)
    return content.getvalue()


def sheet_of(*lines: list) -> bytes:
    return workbook(lambda book: [book.active.append(line) for line in lines] and None)


def test_cells_of_a_workbook_are_as_in_a_csv(tmp_path):
    day, moment = datetime.date(2020, 1, 31), datetime.datetime(2020, 1, 31, 10, 5)
    content = sheet_of(
        ["image", "label", "age", "spacing", "ill", "day", "moment", "id"],
        ["a.png", "TB|Mass", 57, 0.143, True, day, moment, "0012"],
        ["b.png", None, 57.0, 1e-7, False, None, None, 12],
    )
    table = read(tmp_path, content, "labels.xlsx")
    assert rows(table) == [
        ("a.png", "TB|Mass", "57", "0.143", "TRUE", "2020-01-31", "2020-01-31T10:05:00", "0012"),
        ("b.png", "", "57", "1e-07", "FALSE", "", "", "12"),
    ]
    assert table.place(0) == "labels.xlsx row 2"


def test_identifiers_shown_with_leading_zeros_keep_them(tmp_path):
    def fill(book):
        book.active.append(["image", "patient"])
        book.active.append(["a.png", 12])
        book.active["B2"].number_format = "00000"

    assert rows(read(tmp_path, workbook(fill), "labels.xlsx")) == [("a.png", "00012")]


def test_a_table_may_begin_anywhere_on_its_sheet(tmp_path):
    def fill(book):
        for row, line in enumerate([["image", "label"], ["a.png", 1], ["b.png", 0]], 4):
            for column, value in enumerate(line, 3):
                book.active.cell(row, column, value)

    table = read(tmp_path, workbook(fill), "labels.xlsx")
    assert table.frame.columns == ["image", "label"]
    assert rows(table) == [("a.png", "1"), ("b.png", "0")]
    assert table.first_line == 5


def test_each_sheet_with_content_is_a_table(tmp_path):
    def fill(book):
        book.active.append(["image", "label"])
        book.active.append(["a.png", "TB"])
        book.create_sheet("Empty")
        hidden = book.create_sheet("Old")
        hidden.append(["patient", "age"])
        hidden.append(["P1", 57])
        hidden.sheet_state = "hidden"

    (tmp_path / "labels.xlsx").write_bytes(workbook(fill))
    first, second = tables.read(tmp_path / "labels.xlsx")
    assert (first.name, second.name) == ("labels.xlsx#Sheet", "labels.xlsx#Old")
    assert rows(second) == [("P1", "57")]
    assert "the sheet 'Old' is hidden" in second.remarks


def test_merged_cells_are_filled_down(tmp_path):
    def fill(book):
        for line in (["patient", "image"], ["P1", "a.png"], [None, "b.png"], ["P2", "c.png"]):
            book.active.append(line)
        book.active.merge_cells("A2:A3")

    table = read(tmp_path, workbook(fill), "labels.xlsx")
    assert rows(table) == [("P1", "a.png"), ("P1", "b.png"), ("P2", "c.png")]
    assert "cells filled with the value of the merged cell over them: 1" in table.remarks


def test_formulas_and_errors_of_a_workbook_are_reported(tmp_path):
    table = read(tmp_path, sheet_of(["image", "n"], ["a.png", "=1+1"], ["b.png", "#N/A"]), "l.xlsx")
    assert rows(table) == [("a.png", ""), ("b.png", "#N/A")]
    assert any(remark.startswith("1 formula without a stored value") for remark in table.remarks)
    assert "cells with a spreadsheet error: #N/A (1)" in table.remarks


def test_stored_results_of_formulas_are_read(tmp_path):
    content = _rezipped(
        sheet_of(["image", "n"], ["a.png", "=1+1"]),
        lambda name, part: part.replace(b"<v />", b"<v>2</v>").replace(b"<v></v>", b"<v>2</v>"),
    )
    table = read(tmp_path, content, "labels.xlsx")
    assert rows(table) == [("a.png", "2")] and table.remarks == ()


def test_a_workbook_is_known_by_its_content(tmp_path):
    content = sheet_of(["image", "label"], ["a.png", "TB"])
    assert rows(read(tmp_path, content, "labels.csv")) == [("a.png", "TB")]
    assert "save it as .xlsx or CSV" in refusal(tmp_path, REFUSED["an old workbook"][0], "l.xls")
    ods = io.BytesIO()
    with zipfile.ZipFile(ods, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
    assert "OpenDocument" in refusal(tmp_path, ods.getvalue(), "labels.ods")
    assert rows(read(tmp_path, b"image,label\na.png,TB\n", "labels.xls")) == [("a.png", "TB")]


def test_an_empty_workbook_is_an_empty_table(tmp_path):
    assert read(tmp_path, workbook(lambda book: None), "labels.xlsx").frame.shape == (0, 0)


def test_workbooks_that_would_fill_the_memory_are_refused(tmp_path, monkeypatch):
    def sparse(book):
        book.active["A1"], book.active["B1"], book.active["XFD1048576"] = "image", "label", "x"

    assert read(tmp_path, workbook(sparse), "sparse.xlsx").frame.height == 1
    plain = sheet_of(["image", "label"], ["a.png", "TB"])
    far = _rezipped(plain, lambda name, part: part.replace(b'<row r="2"', b'<row r="99999999999"'))
    assert "goes beyond" in refusal(tmp_path, far, "far.xlsx")
    monkeypatch.setattr(_xlsx, "MAX_UNPACKED", 1 << 20)
    bomb = _rezipped(plain, lambda name, part: part + b" " * (1 << 20))
    assert len(bomb) < 1 << 20
    assert "once unpacked" in refusal(tmp_path, bomb, "bomb.xlsx")


def _rezipped(content: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as archive,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as copy,
    ):
        for name in archive.namelist():
            copy.writestr(name, change(name, archive.read(name)))
    return packed.getvalue()


# ---------------------------------------------------------------------------------- Parquet, JSON


def parquet(frame: pl.DataFrame) -> bytes:
    content = io.BytesIO()
    frame.write_parquet(content)
    return content.getvalue()


def test_values_of_parquet_are_text(tmp_path):
    frame = pl.DataFrame(
        {
            "image": ["a.png", " b.png "],
            "labels": [["TB", "Mass"], []],
            "odd": [["x|y"], ["z"]],
            "box": [[1.5, 2.0], None],
            "n": [1, None],
            "x": [0.5, float("nan")],
            "ill": [True, None],
            "day": [datetime.date(2020, 1, 31), None],
            "at": [datetime.datetime(2020, 1, 31), None],
            "who": [{"age": 57, "sex": "M"}, {"age": None, "sex": "F"}],
            "bytes": [b"\x89PNG", b""],
            "image ": ["c", "d"],
        }
    )
    table = read(tmp_path, parquet(frame), "labels.parquet")
    assert table.frame.columns == [
        "image",
        "labels",
        "odd",
        "box",
        "n",
        "x",
        "ill",
        "day",
        "at",
        "who.age",
        "who.sex",
        "image (2)",
    ]
    assert rows(table) == [
        (
            "a.png",
            "TB|Mass",
            '["x|y"]',
            "[1.5, 2.0]",
            "1",
            "0.5",
            "TRUE",
            "2020-01-31",
            "2020-01-31",
            "57",
            "M",
            "c",
        ),
        ("b.png", "", "z", "", "", "", "", "", "", "", "F", "d"),
    ]
    assert "column 'bytes' holds binary values and is not read" in table.remarks
    assert table.repeated == ("image",)
    assert table.place(1) == "labels.parquet record 2"


def test_json_lines_have_the_keys_of_all_lines(tmp_path):
    lines = [
        {"image": "a.png", "labels": ["TB", "Mass"], "age": 57, "who": {"sex": "M"}},
        {"image": "b.png", "ill": True, "x": 1.0, "box": [1, 2.50], "none": None, "age": None},
    ]
    content = "\n\n".join(json.dumps(line) for line in lines)
    table = read(tmp_path, content, "labels.jsonl")
    assert table.frame.columns == ["image", "labels", "age", "who.sex", "ill", "x", "box", "none"]
    assert rows(table) == [
        ("a.png", "TB|Mass", "57", "M", "", "", "", ""),
        ("b.png", "", "", "", "TRUE", "1.0", "[1, 2.5]", ""),
    ]
    assert [table.line_of(row) for row in (0, 1)] == [1, 3]
    assert rows(read(tmp_path, content, "labels.json")) == rows(table)


JSON = {
    "records": '[{"image": "a.png", "label": "TB"}, {"image": "b.png", "label": "no"}]',
    "lists": '{"image": ["a.png", "b.png"], "label": ["TB", "no"]}',
    "columns of pandas": '{"image": {"0": "a.png", "1": "b.png"}, "label": {"0": "TB", "1": "no"}}',
    "split": '{"columns": ["image", "label"], "data": [["a.png", "TB"], ["b.png", "no"]]}',
    "table": '{"schema": {}, "data": [{"image": "a.png", "label": "TB"}, '
    '{"image": "b.png", "label": "no"}]}',
    "UTF-8 mark": '\ufeff[{"image": "a.png", "label": "TB"}, {"image": "b.png", "label": "no"}]',
}


@pytest.mark.parametrize("form", JSON)
def test_every_form_of_json_reads_alike(tmp_path, form):
    table = read(tmp_path, JSON[form], "labels.json")
    assert rows(table) == TWO and table.frame.columns == ["image", "label"]


def test_json_by_the_name_of_the_image(tmp_path):
    table = read(tmp_path, '{"a.png": "TB", "b.png": ["TB", "Mass"]}', "labels.json")
    assert rows(table) == [("a.png", "TB"), ("b.png", "TB|Mass")]
    table = read(tmp_path, '{"a.png": {"label": "TB"}, "b.png": {"age": 5}}', "labels.json")
    assert table.frame.columns == ["key", "label", "age"]
    assert rows(table) == [("a.png", "TB", ""), ("b.png", "", "5")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"image": ', "line 1: is not JSON"),
        ('{"image": ["a", "b"], "label": ["c"]}', "differ in length"),
        ('{"name": "x", "version": 1}', "not a table"),
        ("[1, 2]", "record 1: is a number"),
        ("3", "is a number"),
        ('[{"a": 1, "a": 2}]', "key 'a' is repeated"),
        ('[{"a.b": 1, "a": {"b": 2}}]', "two values are called 'a.b'"),
        ('{"image": {"0": "a", "1": "b"}, "label": {"0": "c"}}', "have other rows"),
        ("[" * 100_000, "nested too deeply"),
        ('[{"a": ' + "[" * 900 + "]" * 900 + "}]", ""),
        ('[{"a": ' * 30 + "1" + "}]" * 30, ""),
        ('[{"a": "\\ud800"}]', "surrogate"),
        (b"[\xff\xfe\xfd]", ""),
        ("", "is not JSON"),
    ],
)
def test_json_that_is_no_table_is_refused(tmp_path, content, message):
    try:
        assert message in refusal(tmp_path, content, "labels.json")
    except pytest.fail.Exception:  # odd, but a table
        assert message == ""


def test_faulty_json_lines_are_listed_at_once(tmp_path):
    message = refusal(tmp_path, '{"a": 1}\n{"a": \n[1]\n{"b": 2, "b": 3}\n', "labels.jsonl")
    assert all(f"line {number}" in message for number in (2, 3, 4))


# -------------------------------------------------------------------------------------------- COCO


def coco() -> dict:
    return {
        "images": [
            {"id": 1, "file_name": "a.png", "height": 64, "width": 48},
            {"id": "x2", "file_name": "b.png"},
        ],
        "categories": [{"id": 3, "name": "nodule", "supercategory": "finding"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 3,
                "bbox": [1, 2.5, 3, 4],
                "iscrowd": 0,
                "segmentation": [[1, 2, 3.50, 4, 5, 6]],
            },
            {"id": 2, "image_id": "x2", "category_id": 3},
        ],
    }


def test_coco_is_not_read_as_one_table(tmp_path):
    assert "is COCO" in refusal(tmp_path, json.dumps(coco()), "labels.json")


def read_coco(folder: Path, value: object) -> tables.Coco | None:
    (folder / "coco.json").write_text(json.dumps(value))
    return tables.read_coco(folder / "coco.json")


def test_the_tables_of_coco(tmp_path):
    read = read_coco(tmp_path, coco())
    assert read.images.rows() == [("1", "a.png", 64, 48), ("x2", "b.png", None, None)]
    assert read.categories.rows() == [("3", "nodule", "finding")]
    assert read.annotations.rows() == [
        ("1", "3", [1.0, 2.5, 3.0, 4.0], "[[1, 2, 3.5, 4, 5, 6]]", 0),
        ("x2", "3", None, "", 0),
    ]


def test_other_json_is_not_coco(tmp_path):
    for value in ([], {}, {"images": []}, {"images": {}, "annotations": []}, 3):
        assert read_coco(tmp_path, value) is None


def test_all_faults_of_coco_are_listed_at_once(tmp_path):
    value = coco()
    value["images"] += [{"id": 1, "file_name": "a.png", "height": -3}, {"file_name": ["x"]}, 7]
    value["annotations"] += [
        {"image_id": 9, "category_id": 4, "bbox": [1, 2, 3], "iscrowd": 5},
        {"image_id": 1, "category_id": 3, "bbox": [1, 2, -3, 4]},
        {"image_id": 1, "category_id": 3, "bbox": "1 2 3 4"},
    ]
    with pytest.raises(BadData) as caught:
        read_coco(tmp_path, value)
    for words in (
        "images: id 1 is repeated",
        "file_name a.png is repeated",
        "images[2]: height is -3",
        "images[3]: id is missing",
        'images[3]: file_name is ["x"]',
        "images[4]: expected",
        "annotations[2]: image_id is 9",
        "category_id is 4",
        "bbox is [1, 2, 3];",
        "iscrowd is 5",
        "annotations[3]: bbox",
        "annotations[4]: bbox",
    ):
        assert words in str(caught.value)


# ------------------------------------------------------------------------------- damaged, and large


def _samples() -> dict[str, bytes]:
    frame = pl.DataFrame({"image": ["a.png", "b.png"], "age": [57, None], "l": [["x"], ["y", "z"]]})
    text = 'image,label,report\na.png,TB,"one ""two""\nthree"\nb.png,no,"x, y"\n' * 3
    return {
        "a.csv": text.encode(),
        "b.csv": text.replace(",", ";").replace("one", "Größe").encode("cp1252"),
        "c.csv": text.encode("utf-16"),
        "d.csv.gz": gzip.compress(text.encode()),
        "e.xlsx": sheet_of(["image", "label", "d"], ["a.png", 1, datetime.date(2020, 1, 1)]),
        "f.parquet": parquet(frame),
        "g.jsonl": b'{"image": "a.png", "x": [1, 2], "y": {"z": null}}\n' * 3,
        "h.json": json.dumps(coco()).encode(),
    }


def _damaged(content: bytes, chance: random.Random) -> bytes:
    held = bytearray(content)
    for _ in range(chance.choice((1, 1, 3, 30))):
        at = chance.randrange(len(held) + 1)
        kind = chance.randrange(5)
        if kind == 0:
            held[at : at + 1] = chance.randbytes(1)
        elif kind == 1:
            del held[at : at + chance.choice((1, 10, 300))]
        elif kind == 2:
            held[at:at] = chance.choice(
                (b'"', b",", b"\r", b"\n", b"\0", b"\xff", b"\xe4", b"{", b"9" * 30)
            )
        elif kind == 3:
            held[at:at] = held[: chance.choice((5, 100))]
        else:
            del held[at:]
    return bytes(held)


def _damaged_workbook(content: bytes, chance: random.Random) -> bytes:
    """Damage one part, and pack it whole again, so that the damage is met by the reader."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        target = chance.choice(archive.namelist())
    return _rezipped(content, lambda name, part: _damaged(part, chance) if name == target else part)


@pytest.mark.parametrize("name", _samples())
def test_damaged_files_are_read_or_refused(tmp_path, name):
    content, path = _samples()[name], tmp_path / name
    for seed in range(60):
        chance = random.Random(seed)
        inside = name.endswith(".xlsx") and seed % 2
        path.write_bytes(
            _damaged_workbook(content, chance) if inside else _damaged(content, chance)
        )
        for function in (tables.read, tables.read_coco):
            try:
                function(path)
            except BadData as error:
                assert str(error).startswith(name)


@SETTINGS
@given(st.binary(max_size=300), st.sampled_from(["a.csv", "b.tsv", "c.json", "d.jsonl", "e.txt"]))
def test_any_bytes_are_read_or_refused(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    tables.table_kind(Path(name), content)
    try:
        tables.read(tmp_path / name)
    except BadData as error:
        assert str(error).startswith(name)


@SETTINGS
@given(st.lists(st.lists(st.text("a1.p ", max_size=4), max_size=4), min_size=1, max_size=8))
def test_a_header_is_found_in_any_rows(drawn):
    lines = [*drawn, ["x"]]
    head = _header.find_header(lines)
    assert any(map(str.strip, lines[head.row]))
    assert all(title < head.row for title in head.titles)


@pytest.mark.skipif(not NIH.is_dir(), reason="../shared/data/nih-metadata is absent")
def test_the_list_of_nih_is_read_as_polars_reads_it():
    (table,) = tables.read(NIH / "Data_Entry_2017_v2020.csv.gz")
    text = gzip.decompress((NIH / "Data_Entry_2017_v2020.csv.gz").read_bytes())
    oracle = pl.read_csv(text, infer_schema=False).fill_null("")
    assert table.frame.equals(oracle.rename(str.strip))
    assert table.remarks == () and table.line_of(112_119) == 112_121
