"""Films are found by their headers alone, in folders, DICOMDIRs and on servers, and nobody's films
are taken for another's.
"""

import json
import shutil
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import dicom_sources
import numpy as np
import pytest
import web_servers
from dicom_files import write
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.fileset import FileSet
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.dataset.dicom_index import dicomdir, folder, server
from hilum.dataset.dicom_index.frontal import reason_not_frontal
from hilum.dataset.dicom_index.index import Collector
from hilum.errors import BadData, BadRecipe, CannotRead, NotFound
from hilum.imaging.files import dicom
from hilum.imaging.files.dicom import Header
from hilum.pipeline import ingest
from hilum.safety import web
from hilum.safety.web import Login

STORAGE = "1.2.840.10008.5.1.4.1.1."
FILM = Header(
    instance="1.2.1",
    series="1.2.2",
    study="1.2.3",
    patient="P1",
    sex=None,
    age_years=None,
    view="PA",
    size=(8, 8),
    spacing_mm=None,
    modality="DX",
    body_part="CHEST",
    sop_class=f"{STORAGE}1.1",
    pixels="integer",
    acquired=datetime(2020, 3, 5, 10),
)
UNSTATED = ("PatientOrientation",)
SMALL = np.arange(64, dtype=np.uint16).reshape(8, 8)


def stored(path: Path, number: int, **header) -> Path:
    """A small chest radiograph with UIDs that end in `number`; None takes away."""
    path.parent.mkdir(parents=True, exist_ok=True)
    uids = {
        "SOPInstanceUID": f"1.2.1.{number}",
        "SeriesInstanceUID": f"1.2.2.{number}",
        "StudyInstanceUID": f"1.2.3.{number}",
    }
    chest = {key: value for key, value in dicom_sources.FULL.items() if key not in UNSTATED}
    return write(path, SMALL, bits=12, **{**chest, **uids, **header})


# -------------------------------------------------------------------------------------- one header


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (FILM, ""),
        (replace(FILM, sop_class=f"{STORAGE}1", modality="CR", view="AP"), ""),
        (replace(FILM, modality="RG", view="FRONTAL"), ""),
        (replace(FILM, body_part=None), ""),
        (replace(FILM, body_part=None, view="PA", descriptions=("Thorax pa",)), ""),
        (replace(FILM, view=None, orientation=("L", "F")), ""),
        (replace(FILM, view="LATERAL"), "lateral view"),
        (replace(FILM, view=None, orientation=("L", "P")), "its orientation is not frontal"),
        (replace(FILM, body_part="HAND"), "body part HAND"),
        (replace(FILM, body_part=None, descriptions=("Hand pa",)), "body part HAND"),
        (replace(FILM, body_part=None, view=None), "states neither the body part nor"),
        (replace(FILM, body_part="Jane Doe", view=None), "states neither the body part nor"),
        (replace(FILM, modality="CT"), "its modality is CT"),
        (replace(FILM, sop_class=f"{STORAGE}1.1.1"), "FOR PROCESSING"),
        (replace(FILM, intent="FOR PROCESSING"), "FOR PROCESSING"),
        (replace(FILM, sop_class=f"{STORAGE}7"), "a secondary capture"),
        (replace(FILM, sop_class=f"{STORAGE}2"), "another class"),
        (replace(FILM, sop_class=None), "states no SOP class"),
        (replace(FILM, sop_class=f"{STORAGE}66.4"), "segmentation"),
        (replace(FILM, sop_class=f"{STORAGE}88.22", pixels=None), "structured report"),
        (replace(FILM, sop_class=f"{STORAGE}11.1", pixels=None), "presentation state"),
        (replace(FILM, frames=12), "multi-frame image of 12 frames"),
    ],
)
def test_only_frontal_chest_radiographs_are_films_and_others_say_why(header, reason):
    said = reason_not_frontal(header)
    assert (reason in said) if reason else said == ""


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        ({}, ""),
        ({"StudyDescription": "Chest PA and lateral"}, ""),
        ({"BodyPartExamined": "", "SeriesDescription": "Thorax"}, ""),
        ({"PatientOrientation": ["L", "F"]}, ""),
        ({"PatientOrientation": ["P", "F"]}, "lateral view"),
        ({"SeriesDescription": "Chest lateral"}, "lateral view"),
        ({"StudyDescription": "Chest lateral"}, "described as lateral"),
        ({"StudyDescription": "Thorax decubitus"}, "described as decubitus"),
        ({"BodyPartExamined": ""}, "states neither the body part nor"),
        ({"BodyPartExamined": "KNEE"}, "body part KNEE"),
    ],
)
@pytest.mark.parametrize("view", ["", "UNKNOWN"])
def test_a_chest_film_that_states_no_view_is_read_unless_something_says_it_is_no_frontal_one(
    view, stated, reason, tmp_path
):
    described = {"SeriesDescription": "", "ProtocolName": "", "StudyDescription": ""}
    header = {"ViewPosition": view, **described, **stated}
    said = reason_not_frontal(dicom.header(stored(tmp_path / "film.dcm", 1, **header)))
    assert (reason in said) if reason else said == ""


WORDS = st.none() | st.text(max_size=20) | st.sampled_from(["CHEST", "HAND", "CR", "CT", "DX"])


@settings(max_examples=60, deadline=None)
@given(
    modality=WORDS,
    body_part=WORDS,
    view=st.sampled_from([None, "PA", "AP", "LATERAL", "OBLIQUE"]),
    orientation=st.none() | st.tuples(WORDS.filter(bool), WORDS.filter(bool)),
    sop_class=st.none() | st.text(max_size=8) | st.sampled_from([f"{STORAGE}1", f"{STORAGE}7"]),
    descriptions=st.lists(st.text(max_size=30), max_size=2).map(tuple),
    frames=st.none() | st.integers(0, 9),
)
def test_any_header_has_a_verdict_that_quotes_none_of_its_text(**stated):
    header = replace(FILM, **stated)
    said = reason_not_frontal(header)
    secret = "Ω7Ω"
    marked = {
        name: f"{secret}{value}"
        for name, value in stated.items()
        if isinstance(value, str) and name not in ("view", "sop_class")
    }
    assert secret not in reason_not_frontal(replace(header, **marked))
    if not said:
        assert header.sop_class == f"{STORAGE}1" and header.view in (None, "PA", "AP")


def test_results_of_hilum_are_never_films(tmp_path):
    from hilum.dicom_out import write as dicom_out

    source = dicom_sources.made(tmp_path / "in", "DX")
    assert reason_not_frontal(dicom.header(source)) == ""
    findings = pytest.importorskip("test_dicom_results").found(source)
    options = dicom_out.Options(presentation=True)
    for name, data in dicom_out.files(source, findings, options):
        (tmp_path / name).write_bytes(data)
        assert reason_not_frontal(dicom.header(tmp_path / name)), name


# --------------------------------------------------------------------------------- many headers


def gathered(*headers: Header):
    collector = Collector()
    for number, header in enumerate(headers):
        collector.add(header, f"{number}.dcm")
    return collector.index()


def film(number: int, year: int, **stated) -> Header:
    return replace(
        FILM,
        instance=f"1.2.1.{number}",
        study=f"1.2.3.{number}",
        acquired=datetime(year, 1, 1),
        **{"person": "A", **stated},
    )


def test_earlier_films_are_the_patients_own_of_other_studies_latest_first():
    index = gathered(
        film(1, 2018),
        film(2, 2019),
        replace(film(3, 2019), study="1.2.3.4"),
        film(4, 2020),
        film(5, 2021),
        film(6, 2017, patient="P2", person="B"),
        film(7, 2017, issuer="another hospital", person="C"),
        film(8, 2017, view="LATERAL"),
    )
    now = next(one for one in index.films if one.sop_instance_uid == "1.2.1.4")
    assert [one.sop_instance_uid for one in index.priors(now)] == ["1.2.1.2", "1.2.1.1"]
    assert len(index.films) == 7 and sum(index.refused.values()) == 1


def test_nobody_has_earlier_films():
    anonymised = gathered(film(1, 2018, person=None), film(2, 2019, person=None))
    unnamed = gathered(film(1, 2018, patient=None), film(2, 2019, patient=None))
    for index in (anonymised, unnamed):
        assert not any(index.priors(one) for one in index.films)


@pytest.mark.parametrize(
    ("second", "kind"),
    [
        (replace(film(1, 2018), patient="P2"), "one image, several patients"),
        (replace(film(1, 2018), study="1.2.3.9"), "one image, several studies"),
        (replace(film(2, 2018), study="1.2.3.1", patient="P2"), "one study, several patients"),
        (film(2, 2019, person="B"), "one patient, several persons"),
    ],
)
def test_what_headers_contradict_is_reported_and_such_patients_have_no_earlier_films(second, kind):
    index = gathered(film(1, 2018), second, film(3, 2022))
    assert kind in [one.kind for one in index.contradictions]
    assert "0.dcm" in str(index.contradictions[0]) and "1.dcm" in str(index.contradictions[0])
    assert not any(index.priors(one) for one in index.films)


def test_a_copy_counts_once():
    index = gathered(film(1, 2018), film(1, 2018))
    assert len(index.films) == 1 and index.copies == ("1.dcm",) and not index.contradictions


# ---------------------------------------------------------------------------- folders and media


def medium(tmp_path: Path) -> Path:
    """A folder with a DICOMDIR over three films of two patients; returns the DICOMDIR."""
    media = FileSet()
    for number, patient in enumerate(("P1", "P1", "P2")):
        stored_at = stored(
            tmp_path / "in" / f"{number}.dcm",
            number,
            PatientID=patient,
            PatientName=patient,
            StudyID=str(number),
            SeriesNumber=1,
            StudyDate=f"20{number + 18}0101",
            AcquisitionDate=f"20{number + 18}0101",
        )
        media.add(stored_at)
    media.write(tmp_path / "medium")
    shutil.rmtree(tmp_path / "in")
    return tmp_path / "medium" / "DICOMDIR"


def test_a_dicomdir_and_its_folder_give_the_same_films(tmp_path):
    directory = medium(tmp_path)
    by_list, by_folder = folder.index_of(directory), folder.index_of(directory.parent)
    assert by_list.images == by_folder.images and len(by_list.films) == 3
    assert not by_list.notes + by_folder.notes
    latest = by_list.films[1]
    assert [one.acquired.year for one in by_list.priors(latest)] == [2018]


def test_files_that_a_dicomdir_lists_and_that_are_missing_are_named(tmp_path):
    directory = medium(tmp_path)
    lost = dicomdir.entries(directory)[0].path
    (directory.parent / lost).unlink()
    for source in (directory, directory.parent):
        index = folder.index_of(source)
        assert len(index.films) == 2 and lost in index.notes[0]
    described = ingest.describe_folder(directory.parent)
    assert "DICOMDIR lists 3 files" in described.screen


def test_ingest_reports_what_a_dicomdir_and_headers_contradict(tmp_path):
    directory = medium(tmp_path)
    lost, other, _ = (entry.path for entry in dicomdir.entries(directory))
    (directory.parent / lost).unlink()
    foreign = dcmread(directory.parent / other)
    foreign.PatientID, foreign.StudyInstanceUID = "P9", "1.2.3.2"
    foreign.save_as(directory.parent / other)
    rules = set(ingest.ingest(directory.parent).remarks["rule"])
    assert {"dicomdir", "dicom-contradiction"} <= rules


@pytest.mark.parametrize(
    "name",
    [
        "DICOMDIR",
        "DICOMDIR-nopatient",
        "DICOMDIR-implicit",
        "DICOMDIR-nooffset",
        "DICOMDIR-reordered",
        "DICOMDIR-bigEnd",
    ],
)
def test_directories_of_every_kind_list_their_files(name):
    path = get_testdata_file(f"dicomdirtests/{name}") or get_testdata_file(name)
    listed = dicomdir.entries(Path(path))
    assert len(listed) == 31
    assert len(folder.index_of(Path(path)).images) == 31


def changed(directory: Path, change) -> Path:
    media = dcmread(directory)
    change(media)
    media.save_as(directory)
    return directory


def test_a_dicomdir_names_no_file_outside_of_its_folder(tmp_path):
    directory = medium(tmp_path)
    stored(tmp_path / "outside.dcm", 9)

    def outwards(media):
        next(
            one for one in media.DirectoryRecordSequence if "ReferencedFileID" in one
        ).ReferencedFileID = ["..", "outside.dcm"]

    with pytest.raises(BadData, match="expected names below the folder"):
        folder.index_of(changed(directory, outwards))
    assert folder.index_of(directory.parent).notes, "and its folder says so"


def test_a_folder_is_listed_once_however_many_files_of_it_are_missing(tmp_path, monkeypatch):
    listed, listing = [], Path.iterdir

    def counted(self):
        listed.append(self)
        return listing(self)

    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "there").write_bytes(b"")
    monkeypatch.setattr(Path, "iterdir", counted)
    medium = dicomdir.Medium(tmp_path)
    assert not any(medium.located(f"SUB/{number}") for number in range(50))
    assert medium.located("SUB/THERE") == tmp_path / "sub" / "there"
    assert len(listed) <= 2


def test_links_in_a_circle_come_to_an_end(tmp_path):
    def circle(media):
        for record in media.DirectoryRecordSequence:
            record.OffsetOfTheNextDirectoryRecord = record.seq_item_tell
            record.OffsetOfReferencedLowerLevelDirectoryEntity = record.seq_item_tell

    assert len(dicomdir.entries(changed(medium(tmp_path), circle))) == 3


def test_what_is_no_dicomdir_is_refused(tmp_path):
    with pytest.raises(BadData, match="is no directory of a medium"):
        folder.index_of(stored(tmp_path / "a.dcm", 1))
    with pytest.raises(NotFound):
        folder.index_of(tmp_path / "absent")


# -------------------------------------------------------------------------------------- a server


@contextmanager
def answering(answers: list, most: int = 1000, raw: bytes | None = None, status: int = 200, **said):
    """A DICOMweb server with these images, that gives at most `most` at once."""
    queries = []

    def found(path, headers):
        query = parse_qs(urlsplit(path).query)
        queries.append((urlsplit(path).path, query, headers.get("Authorization")))
        offset, limit = int(query["offset"][0]), min(int(query["limit"][0]), most)
        found = [one for one in answers if one["00080060"]["Value"] == query["Modality"]]
        body = raw or json.dumps(found[offset : offset + limit]).encode()
        return status, {"Content-Type": "application/dicom+json", **said}, body

    with web_servers.answering(found) as address:
        yield f"{address}/dicom-web", queries


def answer(path: Path) -> dict:
    return dcmread(path, stop_before_pixels=True).to_json_dict()


def test_a_servers_films_are_those_of_the_files(tmp_path):
    pytest.importorskip("dicomweb_client")
    for number in range(5):
        view = "LL" if number == 3 else "PA"
        stored(tmp_path / f"{number}.dcm", number, **dicom_sources.DX, ViewPosition=view)
    answers = [answer(tmp_path / f"{number}.dcm") for number in range(5)]
    with answering(answers, most=2) as (url, queries):
        found = server.index_of(server.Server(url, Login(token="secret")), {"PatientID": "H-0042"})
    here = folder.index_of(tmp_path)
    plain = [replace(one, place="", transfer_syntax=None) for one in here.images]
    assert [replace(one, place="", transfer_syntax=None) for one in found.images] == plain
    assert len(found.films) == 4
    assert found.films[0].place.startswith(f"{url}/studies/1.2.3.0/series/1.2.2.0/instances/")
    assert {token for _, _, token in queries} == {"Bearer secret"}
    assert all(query["PatientID"] == ["H-0042"] for _, query, _ in queries)


@pytest.mark.parametrize(
    "raw", [b"<html>", b"{}", b'["a"]', b'[{"00080018":{"vr":"UI"}}]', b"[" * 100_000]
)
def test_a_server_that_answers_otherwise_is_refused_or_noted(raw):
    pytest.importorskip("dicomweb_client")
    with answering([], raw=raw) as (url, _):
        try:
            index = server.index_of(server.Server(url))
        except BadData as error:
            assert url in str(error)
        else:
            assert not index.images


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ({"raw": b" " * 2000}, BadData, "more than 1,000 bytes"),
        ({"raw": b"[]", "Content-Length": 900}, CannotRead, "cut short"),
        (
            {"status": 302, "Location": "http://localhost:9/elsewhere?key=secret"},
            CannotRead,
            r"leads on to http://localhost:9/elsewhere; give",
        ),
    ],
    ids=["without end", "cut short", "redirect"],
)
def test_an_answer_that_is_too_long_or_from_elsewhere_is_not_taken(said, error, words, monkeypatch):
    pytest.importorskip("dicomweb_client")
    monkeypatch.setattr(web, "LONGEST_LIST", 1000)
    with answering([], **said) as (url, queries):
        with pytest.raises(error, match=words):
            server.index_of(server.Server(url, Login("me", "secret")), {"PatientID": "H-0042"})
        assert [token for _, _, token in queries] == ["Basic bWU6c2VjcmV0"]


def test_a_password_stays_out_of_addresses_and_off_open_lines():
    pytest.importorskip("dicomweb_client")
    with pytest.raises(BadRecipe, match="in the open"):
        server.Server("http://pacs.example.org/dicom-web", Login(token="x"))
    with pytest.raises(BadRecipe, match="neither user, password"):
        server.Server("https://a:b@pacs.example.org/dicom-web")
    with pytest.raises(BadRecipe, match="must be an address"):
        server.Server("file:///etc/passwd")
    with pytest.raises(CannotRead, match="does not answer"):
        server.index_of(server.Server("http://127.0.0.1:9/dicom-web"))


# ---------------------------------------------------------------------------------- the command


def test_the_command_lists_films_for_people_and_programs(tmp_path):
    directory = medium(tmp_path)
    shown = CliRunner().invoke(app, ["films", str(directory)])
    assert "3 frontal chest radiographs of 2 patients; 1 with earlier films" in shown.output
    listed = json.loads(CliRunner().invoke(app, ["films", str(directory), "--json"]).stdout)
    assert [len(one["priors"]) for one in listed["films"]] == [0, 1, 0]
    table = CliRunner().invoke(app, ["films", str(directory.parent), "--csv"]).stdout
    assert table.count("\n") == 4 and table.startswith("sop_instance_uid,")


def test_the_command_says_of_what_it_finds_nothing(tmp_path):
    pytest.importorskip("dicomweb_client")
    (tmp_path / "a.png").write_bytes(b"")
    assert "`hilum describe`" in CliRunner().invoke(app, ["films", str(tmp_path)]).output
    with answering([]) as (url, _):
        shown = CliRunner().invoke(app, ["films", url]).output
    assert "the server names no radiograph" in shown and "describe" not in shown
