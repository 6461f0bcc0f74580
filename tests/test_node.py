"""A node beside an archive: each frontal film has its results exactly once, whatever happens."""

import json
import os
import re
import signal
import sqlite3
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from dicomweb_archive import PATIENT
from node_films import (
    BRIEF,
    QUICK,
    RESULTS,
    driven,
    film,
    found,
    reader,
    settings,
    study,
    whole_reader,
)
from pydicom import dcmread
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.dicom_out import uids
from hilum.errors import BadData, BadRecipe, HilumError, Interrupted, NotFound
from hilum.node import monitor, overview, service, settings_file, visits
from hilum.node.busy import Busy
from hilum.node.health import Health
from hilum.node.http_client import Peer
from hilum.node.inbox import Accepted, Inbox, Refused
from hilum.node.journal import DEAD, RECEIVED, SENT, SKIPPED, Journal, key_of
from hilum.node.logs import Log
from hilum.node.settings import Limits, Monitor

DEPLOY = Path(__file__).parents[1] / "deploy"
pytest.importorskip("highdicom", reason="needs the extra [dicom]")
pytest_plugins = ["node_films"]  # its archive and films


# ----------------------------------------------------------------------------------- the loop


def test_each_film_gets_segmentation_reports_and_capture_in_its_study(archive, films, tmp_path):
    for number in (1, 2):
        archive.put(film(films, number))
    with driven(settings(tmp_path / "state", archive.url), whole_reader()) as node:
        node.settle()
        assert node.states == {"sent": 2}
    for number in (1, 2):
        assert archive.modalities(study(number)) == sorted(["DX", *RESULTS])
    left = [path for path in (tmp_path / "state").rglob("*") if path.suffix in (".dcm", ".part")]
    assert not left, "nothing of a patient stays once results are sent"


def test_own_results_are_neither_fetched_nor_read(archive, films, tmp_path):
    uid = archive.put(film(films))
    with driven(settings(tmp_path / "state", archive.url)) as node:
        for _ in range(3):
            node.settle()
    assert archive.fetched == [uid] and len(archive.stored) == 2


def test_an_own_result_that_is_sent_to_the_node_is_skipped(archive, films, tmp_path):
    archive.put(film(films))
    with driven(settings(tmp_path / "state", archive.url), whole_reader()) as node:
        node.settle()
        assert len(archive.stored) == 4
        for uid in archive.stored:
            taken = node.inbox.accept(archive.held[uid][1], "modality")
            assert isinstance(taken, Accepted) and taken.skipped
        disguised = film(films, 2, Manufacturer="Hilum")
        assert node.inbox.accept(disguised, "modality").skipped == "it is a result of Hilum"
        known = film(films, 3, SOPInstanceUID=archive.stored[0])
        assert node.inbox.accept(known, "modality").skipped == "it is a result of Hilum"


@pytest.mark.parametrize(
    "header",
    [
        {"ViewPosition": "LL"},
        {"BodyPartExamined": "HAND"},
        {"Modality": "CT"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"},
    ],
    ids=["lateral", "hand", "CT", "capture"],
)
def test_what_is_no_frontal_film_is_skipped_for_good(header, archive, films, tmp_path):
    archive.put(film(films, 1, **header))
    with driven(settings(tmp_path / "state", archive.url)) as node:
        node.settle()
        assert not node.states.keys() - {SKIPPED}
    assert not archive.stored


def test_a_repeat_of_the_same_film_has_no_second_effect(archive, films, tmp_path):
    path = film(films)
    archive.put(path)
    with driven(settings(tmp_path / "state", archive.url)) as node:
        node.settle()
        assert not node.inbox.accept(path, "modality").new
        node.settle()
        assert node.states == {"sent": 1} and len(archive.stored) == 2


def test_another_film_under_the_same_uid_is_read_again_and_its_results_replace(
    archive, films, tmp_path
):
    archive.put(film(films))
    with driven(settings(tmp_path / "state", archive.url)) as node:
        node.settle()
        other = film(films, 1, AccessionNumber="B-2")
        archive.put(other)
        assert node.inbox.accept(other, "modality").new
        node.settle()
        assert node.states == {"sent": 1}
    assert len(archive.stored) == 4 and len(set(archive.stored)) == 2
    results = [header for header, _ in archive.held.values() if header.Modality != "DX"]
    assert {header.AccessionNumber for header in results} == {"B-2"}


def test_other_models_read_a_film_that_comes_again(archive, films, tmp_path):
    path = film(films)
    archive.put(path)
    with driven(settings(tmp_path / "state", archive.url)) as node:
        node.settle()
    with driven(settings(tmp_path / "state", archive.url), reader(digest="models 2")) as node:
        assert node.inbox.accept(path, "modality").new
        node.settle()
        assert node.states == {"sent": 1} and len(archive.stored) == 4


def test_a_film_with_a_call_of_present_is_sent_before_those_without(archive, films, tmp_path):
    for number in (1, 2, 3):
        archive.put(film(films, number))

    def read(path, file):
        urgent = file.header.study == study(3)
        return found(path, file, "present" if urgent else None)

    with driven(settings(tmp_path / "state", archive.url), reader(read)) as node:
        for _ in range(2):
            node.parts["dicomweb"].step()
        while node.parts["reader"].step():
            pass
        rows = [monitor.Entry.of(one) for one in node.journal.recent(0.0, 10)]
        assert [row["present"] for row in rows] == ["Tuberculosis", "", ""]
        node.settle()
    first = archive.held[archive.stored[0]][0]
    assert first.StudyInstanceUID == study(3)


# ------------------------------------------------------------------------------------- deaths


class Killed:
    """Ends the process by SIGKILL just before the durable step of a number."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int) -> None:
        self.left = number
        for owner, name in (
            (os, "fsync"),
            (os, "replace"),
            (Peer, "request"),
            (Journal, "advance"),
            (Journal, "wrote"),
            (Journal, "begin"),
            (Journal, "take_in"),
        ):
            patch.setattr(owner, name, self.counted(getattr(owner, name)))

    def counted(self, step):
        def one(*given, **named):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*given, **named)

        return one


def forked(work) -> int:
    """Do work in a child process; return the signal that ended it, 0 for none."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] & 0x7F


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_before_every_durable_step_a_film_has_exactly_one_set_of_results(
    archive, films, tmp_path, monkeypatch
):
    path, number, ended = film(films), 0, signal.SIGKILL
    while ended:
        number += 1
        assert number < 200
        archive.held.clear()
        archive.put(path)
        given = settings(tmp_path / f"state{number}", archive.url)

        def work(given=given, number=number):
            Killed(monkeypatch, number)
            with driven(given) as node:
                node.settle()

        ended = forked(work)
        with driven(given) as node:
            node.settle()
            assert node.states == {"sent": 1}, number
        assert archive.modalities(study()) == ["DX", *BRIEF], number
        left = [path for path in given.state.rglob("*") if path.suffix in (".dcm", ".part")]
        assert not left, number
    assert number > 20, "the steps were counted"


def test_a_film_that_ends_the_process_each_time_is_dead_in_the_end(archive, films, tmp_path):
    archive.put(film(films))
    given = settings(tmp_path / "state", archive.url)

    def read(path, file):
        os.kill(os.getpid(), signal.SIGKILL)

    def work():
        with driven(given, reader(read)) as node:
            node.settle()

    assert [forked(work) for _ in range(QUICK.attempts + 1)] == [9, 9, 9, 0]
    (failure,) = overview.status(given)["failures"]
    assert "the node ended 3 times" in failure["reason"]


def test_a_second_node_cannot_use_the_folder(archive, tmp_path):
    given = settings(tmp_path / "state", archive.url)
    with driven(given), pytest.raises(HilumError, match="another hilum process"), driven(given):
        pass


# ----------------------------------------------------------------------------------- failures


def test_a_film_that_cannot_be_read_is_dead_with_its_reason_and_the_next_one_is_read(
    archive, films, tmp_path
):
    archive.put(film(films, 1, BitsStored=40))
    archive.put(film(films, 2))
    given = settings(tmp_path / "state", archive.url)
    with driven(given) as node:
        node.settle()
        assert node.states == {"sent": 1, "dead": 1}
        (failure,) = overview.status(given)["failures"]
        assert failure["state"] == RECEIVED and failure["reason"]
        assert failure["id"] in overview.lines(overview.status(given))


def test_what_an_unforeseen_error_stops_is_tried_again_and_can_be_revived(archive, films, tmp_path):
    archive.put(film(films))
    broken = [True]

    def read(path, file):
        if broken:
            raise ValueError(PATIENT)
        return found(path, file)

    given = settings(tmp_path / "state", archive.url)
    with driven(given, reader(read)) as node:
        node.settle()
        (failure,) = overview.status(given)["failures"]
        assert failure["attempts"] == QUICK.attempts and PATIENT in failure["reason"]
        broken.clear()
        assert overview.retry(given, failure["id"]).startswith("to be tried again: 1 films")
        node.settle()
        assert node.states == {"sent": 1}
        with pytest.raises(NotFound, match="no dead film"):
            overview.retry(given, "ffff")


def test_an_object_that_the_archive_refuses_makes_its_film_dead_and_no_other(
    archive, films, tmp_path
):
    for number in (1, 2):
        archive.put(film(films, number))
    given = settings(tmp_path / "state", archive.url)
    with driven(given) as node:
        for _ in range(2):
            node.parts["dicomweb"].step()
        while node.parts["reader"].step():
            pass
        folder = given.state / "results" / f"{key_of(f'{study(1)}.1.1')}.1"
        archive.refusing.add(str(dcmread(folder / "SR.dcm").SOPInstanceUID))
        node.settle()
        assert node.states == {"sent": 1, "dead": 1}
        (failure,) = overview.status(given)["failures"]
        assert failure["state"] == "written" and "A700" in failure["reason"]
        archive.refusing.clear()
        overview.retry(given)
        node.settle()
        assert node.states == {"sent": 2}


def test_an_archive_that_cannot_be_reached_costs_no_film_an_attempt(archive, films, tmp_path):
    archive.put(film(films))
    with driven(settings(tmp_path / "state", archive.url)) as node:
        for _ in range(2):
            node.parts["dicomweb"].step()
        node.parts["reader"].step()
        for status in (503, 401, 429, 502):
            archive.statuses.append(status)
            with pytest.raises(HilumError, match=str(status)):
                node.parts["sender"].step()
        node.settle()
        assert node.states == {"sent": 1}


def test_a_film_that_cannot_be_fetched_makes_its_study_dead_but_no_other_film_of_it(
    archive, films, tmp_path
):
    archive.broken.add(archive.put(film(films)))
    archive.put(film(films, 2, StudyInstanceUID=study(1)))
    given = settings(tmp_path / "state", archive.url)
    with driven(given) as node:
        for _ in range(QUICK.attempts + 1):
            node.parts["dicomweb"].step()
        node.settle()
        assert node.states == {"sent": 1}
        (failure,) = overview.status(given)["failures"]
        assert failure["what"] == "study of dicomweb" and "500" in failure["reason"]
        archive.broken.clear()
        overview.retry(given)
        node.settle()
        assert node.states == {"sent": 2}


def test_a_film_that_is_gone_from_the_archive_is_no_failure(archive, films, tmp_path):
    uid = archive.put(film(films))
    with driven(settings(tmp_path / "state", archive.url)) as node:
        node.parts["dicomweb"].step()
        held = archive.instances(study(), "DX")
        del archive.held[uid]
        archive.instances = lambda study, modality: held
        archive.studies = lambda query: []
        node.journal.rows("UPDATE visits SET state = 'waiting'")
        node.parts["dicomweb"].step()
        assert visits.counts(node.journal)["done"] == 1 and archive.fetched == [uid]


# --------------------------------------------------------------------------- limits and refusals


def test_a_full_inbox_takes_nothing_in_and_goes_on_when_there_is_room(archive, films, tmp_path):
    for number in (1, 2):
        archive.put(film(films, number))
    limits = Limits(pending=1, free_bytes=0, retry_seconds=0.0)
    with driven(settings(tmp_path / "state", archive.url, limits)) as node:
        node.parts["dicomweb"].step()
        with pytest.raises(Busy, match="pending"):
            node.parts["dicomweb"].step()
        assert node.states == {"received": 1}
        node.parts["reader"].step(), node.parts["sender"].step()
        node.settle()
        assert node.states == {"sent": 2}


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(free_bytes=1 << 62), "free_bytes"),
        (Limits(free_bytes=0, state_bytes=0), "state_bytes"),
    ],
)
def test_limits_of_the_disk_are_kept(limits, words, films, tmp_path):
    inbox = Inbox(tmp_path / "state", Journal(tmp_path / "state" / "j"), limits)
    with pytest.raises(Busy, match=words):
        inbox.accept(film(films), "modality")
    assert not list((tmp_path / "state").rglob("*.part"))


def test_broken_and_oversized_objects_are_refused_without_a_trace(films, tmp_path):
    limits = Limits(free_bytes=0, object_bytes=1000)
    inbox = Inbox(tmp_path / "state", Journal(tmp_path / "state" / "j"), limits)
    whole = film(films).read_bytes()
    no_uid = film(films, 2, SOPInstanceUID="1" * 65).read_bytes()
    for content in (whole, b"", b"no DICOM", whole[:600], no_uid):
        assert isinstance(inbox.accept(content, "modality"), Refused)
    files = [path for path in (tmp_path / "state").rglob("*") if path.suffix in (".dcm", ".part")]
    assert not files and inbox.journal.counts()["received"] == 0


def test_a_transfer_that_breaks_off_leaves_nothing(films, tmp_path):
    inbox = Inbox(tmp_path / "state", Journal(tmp_path / "state" / "j"), QUICK)

    def half(stream):
        stream.write(film(films).read_bytes()[:5000])
        raise ConnectionResetError("hung up")

    with pytest.raises(HilumError):
        inbox.accept(half, "modality")
    assert not list((tmp_path / "state").rglob("*.part"))


def test_a_full_disk_is_no_films_fault(archive, films, tmp_path, monkeypatch):
    archive.put(film(films))
    with driven(settings(tmp_path / "state", archive.url)) as node:
        for _ in range(2):
            node.parts["dicomweb"].step()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            for _ in range(QUICK.attempts + 1):
                with pytest.raises(Busy):
                    node.parts["reader"].step()
        node.settle()
        assert node.states == {"sent": 1}


def full(descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_folder_of_state_is_for_its_owner_alone(archive, films, tmp_path):
    given = settings(tmp_path / "state", archive.url)
    with driven(given) as node:
        node.inbox.accept(film(films), "modality")
        assert given.state.stat().st_mode & 0o077 == 0
        assert (given.state / service.JOURNAL).stat().st_mode & 0o077 == 0


def test_a_folder_that_others_may_enter_is_refused(archive, tmp_path):
    (tmp_path / "state").mkdir(mode=0o755)
    with (
        pytest.raises(HilumError, match="chmod 700"),
        driven(settings(tmp_path / "state", archive.url)),
    ):
        pass


def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(tmp_path):
    place = tmp_path / "journal.sqlite"
    place.write_text("notes of somebody" * 100)
    with pytest.raises(BadData, match="no journal"):
        Journal(place)
    assert place.read_text().startswith("notes")
    later = tmp_path / "later.sqlite"
    with sqlite3.connect(later) as made:
        made.execute("PRAGMA user_version = 99")
    with pytest.raises(BadData, match="format 99"):
        Journal(later)


# ------------------------------------------------------------------------------ logs, health


def test_logs_hold_digests_and_no_word_of_a_patient(archive, films, tmp_path):
    archive.put(film(films, 1))
    archive.put(film(films, 2, BitsStored=40))
    archive.put(film(films, 3, ViewPosition="LL"))
    with driven(settings(tmp_path / "state", archive.url)) as node:
        archive.statuses.append(503)
        with pytest.raises(HilumError) as stopped:
            node.parts["dicomweb"].step()
        service._stopped(node.parts["dicomweb"], node.node, stopped.value)
        node.settle()
        lines = node.log.getvalue().splitlines()
    assert {json.loads(line)["event"] for line in lines} >= {
        "film received", "film read", "film sent", "film failed", "study visited", "part stopped"
    }  # fmt: skip
    for private in (PATIENT, "P1", "A-77", study(1), "Hospital", str(tmp_path)):
        assert private not in node.log.getvalue()
    assert re.search(r'"film": "[0-9a-f]{16}"', node.log.getvalue())


def get(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_health_and_metrics_say_what_works_and_nothing_of_a_patient(archive, films, tmp_path):
    archive.put(film(films))
    with driven(settings(tmp_path / "state", archive.url)) as node:
        node.settle()
        health = node.node.health
        health.works("reader")
        with monitor.serving(Monitor(port=0), health, node.journal) as port:
            root = f"http://127.0.0.1:{port}"
            status, text = get(f"{root}/health")
            assert status == 200 and json.loads(text)["films"]["sent"] == 1
            metrics = get(f"{root}/metrics")[1]
            assert 'hilum_node_films{state="sent"} 1' in metrics
            assert "hilum_node_film_seconds_count 1" in metrics
            assert study() not in text + metrics and PATIENT not in text + metrics
            assert study() in get(f"{root}/worklist")[1]
            health.stopped("sender", ValueError("no"))
            health._parts["sender"] -= 60
            assert get(f"{root}/health")[0] == 503
            assert health.works("sender") and get(f"{root}/health")[0] == 200
            assert get(f"{root}/worklist", Host="evil.example")[0] == 421
            assert get(f"{root}/etc/passwd")[0] == 404


def test_the_worklist_needs_its_token_where_one_is_set(archive, tmp_path):
    (tmp_path / "token").write_text("a long secret\n")
    with driven(settings(tmp_path / "state", archive.url)) as node:
        given = Monitor(port=0, token_file=str(tmp_path / "token"))
        with monitor.serving(given, Health(node.journal), node.journal) as port:
            root = f"http://127.0.0.1:{port}/worklist"
            assert get(root)[0] == 401
            assert get(root, Authorization="Bearer wrong")[0] == 401
            assert get(root, Authorization="Bearer a long secret")[0] == 200


def test_a_running_node_does_all_by_itself_and_ends_its_rounds_when_stopped(
    archive, films, tmp_path, monkeypatch, capsys
):
    archive.put(film(films))
    monkeypatch.setattr(service.Reader, "of", classmethod(lambda cls, given: reader()))
    given = settings(tmp_path / "state", archive.url, monitor=Monitor(port=0))
    said: list[str] = []

    def until():
        done = threading.Event()
        while len(archive.stored) < 2 and not done.wait(0.02):
            pass

    service.run(given, said.append, until)
    assert said[0].startswith("health, metrics and worklist at http://127.0.0.1:")
    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert events[-1] == "node stopped" and "part stopped" not in events
    assert overview.status(given)["films"][SENT] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_node_well(number, archive, tmp_path, monkeypatch, capsys):
    def interrupted(seconds: float) -> None:
        raise Interrupted(number)

    monkeypatch.setattr(service.Reader, "of", classmethod(lambda cls, given: reader()))
    monkeypatch.setattr(service.time, "sleep", interrupted)
    given = settings(tmp_path / "state", archive.url, monitor=Monitor(port=0))
    service.run(given, lambda sentence: None)
    last = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert last["event"] == "node stopped" and last["in_time"]


def test_a_node_that_starts_on_a_full_disk_waits_for_room(archive, tmp_path, monkeypatch, capsys):
    opened, waited = service.journal_of, []

    def full(given):
        if len(waited) < 2:
            raise Busy("the disk is full")
        return opened(given)

    monkeypatch.setattr(service.Reader, "of", classmethod(lambda cls, given: reader()))
    monkeypatch.setattr(service, "journal_of", full)
    monkeypatch.setattr(service.time, "sleep", waited.append)
    said: list[str] = []
    given = settings(tmp_path / "state", archive.url, monitor=Monitor(port=0))
    service.run(given, said.append, lambda: None)
    assert said[:2] == ["the disk is full"] * 2 and "listen" not in said[2]


def test_a_log_that_nobody_reads_any_more_stops_nothing():
    class Gone:
        def write(self, text: str) -> int:
            raise BrokenPipeError

    Log(Gone())("film read", film="0" * 64)  # pyright: ignore


# --------------------------------------------------------------------------------- settings


DIMSE = '[destination]\nto = "dimse"\nhost = "a"\nae_title = "A"\n'
BASE = '[source.orthanc]\nurl = "http://127.0.0.1:8042"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no source"),
        ('[source.orthnc]\nurl = "http://a/"\n', "did you mean 'orthanc'"),
        (BASE + "[limits]\npendng = 3\n", "did you mean 'pending'"),
        (BASE + '[limits]\npending = "3"\n', "whole number"),
        (BASE + "[limits]\nattempts = 0\n", "attempts must be above 0"),
        (BASE + "[limits]\nfree_bytes = 5\n", "results need room"),
        ('[source.orthanc]\nurl = "ftp://a/"\n', "must be an address"),
        ('[source.orthanc]\nurl = "http://me:secret@a/"\n', "neither user, password"),
        (BASE + '[destination]\nto = "nowhere"\n', "no destination is called"),
        (BASE + '[destination]\nto = "dimse"\nhost = "a"\n', "AE title"),
        (BASE + '[listen]\nae_title = "HILUM"\n', "allowed_callers is empty"),
        (
            BASE + '[listen]\nallowed_callers = [{ae_title = "A"}]\n',
            "must be 'dicomweb' or 'dimse'",
        ),
        (BASE + '[listen]\nallowed_callers = ["A"]\n', "list of tables"),
        (BASE + '[monitor]\ntoken_file = "missing"\n', "there is no file"),
        (BASE + '[models]\nrun = "a"\nnames = ["b"]\n', "leave out names"),
        ("[source\n", "TOML"),
        (BASE + 'user = "me"\n', "need each other"),
        (BASE + 'ca = "node.toml"\n', "use https"),
        (BASE + "poll_seconds = nan\n", "poll_seconds must be"),
        (BASE + "[limits]\nretry_seconds = nan\n", "retry_seconds must be"),
        (BASE + "[limits]\nrequest_seconds = 0\n", "request_seconds must be"),
        (BASE + "[limits]\nkeep_days = 0\n", "keep_days must be"),
        (BASE + "[limits]\npending = true\n", "whole number"),
        (BASE + "[limits]\nlongest_retry_seconds = 1e9\n", "at most 86400"),
        (BASE + '[destination]\nurl = "https://b/web"\n', "url would do nothing where to"),
        (BASE + DIMSE + 'ca = "node.toml"\n', "without tls = true"),
        (BASE + DIMSE + 'tls = true\ncertificate = "node.toml"\n', "need each other"),
        (BASE + DIMSE + 'token_file = "node.toml"\n', "token_file would do nothing"),
        ('[source.orthanc]\nurl = "http://a:b/"\n', "must be an address"),
        ('[source.dicomweb]\nurl = "http://a/"\ndays = -1\n', "days must be"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(text, words, tmp_path):
    (tmp_path / "node.toml").write_text(text)
    with pytest.raises(BadRecipe, match=re.escape(words)):
        settings_file.read(tmp_path / "node.toml")


def test_connections_beyond_this_machine_without_tls_are_named(tmp_path):
    file = tmp_path / "node.toml"
    file.write_text(
        '[source.dicomweb]\nurl = "http://10.0.0.5/web"\n[listen]\nhost = "0.0.0.0"\n'
        'allowed_callers = [{ae_title = "PACS"}]\n'
        '[destination]\nto = "dimse"\nhost = "10.0.0.5"\nae_title = "PACS"\n'
    )
    shown = overview.summary(settings_file.read(file))
    assert shown.count("WARNING") == 4 and shown.count("unencrypted") == 3
    assert "any host" in shown
    file.write_text(BASE)
    assert "WARNING" not in overview.summary(settings_file.read(file))


def test_paths_in_settings_start_from_their_file(tmp_path):
    (tmp_path / "secret").write_text("word\n")
    (tmp_path / "node.toml").write_text(
        f'{BASE}user = "me"\npassword_file = "secret"\n[node]\nstate = "s"\n'
    )
    read = settings_file.read(tmp_path / "node.toml")
    assert read.state == tmp_path / "s"
    (tmp_path / "node.toml").write_text(BASE)
    assert settings_file.read(tmp_path / "node.toml").state == tmp_path / "hilum-node"
    assert read.orthanc and read.orthanc.password_file == str(tmp_path / "secret")


def test_the_command_line_checks_shows_and_retries(archive, films, tmp_path):
    file = tmp_path / "node.toml"
    file.write_text(f'[source.dicomweb]\nurl = "{archive.url}"\n')
    given = settings_file.read(file)

    def hilum(*words: str):
        return CliRunner().invoke(app, ["node", *words])

    done = hilum("check", str(file))
    assert done.exit_code == 0 and archive.url in done.stdout
    assert isinstance(hilum("status", str(file)).exception, NotFound)
    with driven(given) as node:
        node.inbox.accept(film(films, 1, BitsStored=40), "modality")
        node.settle()
        shown = hilum("status", str(file))
        assert "dead 1" in shown.stdout and "dead film" in shown.stdout
        found = json.loads(hilum("status", str(file), "--json").stdout)
        again = hilum("retry", str(file), "--film", found["failures"][0]["id"])
        assert "1 films" in again.stdout and node.states == {"received": 1}


def test_uids_of_results_follow_from_film_and_models(archive, films, tmp_path):
    archive.put(film(films))
    with driven(settings(tmp_path / "state", archive.url)) as node:
        node.settle()
        assert all(uid.startswith(uids.ROOT) for uid in archive.stored)
        assert all(node.journal.is_result(uid) for uid in archive.stored)
        assert node.journal.counts()[DEAD] == 0


def test_the_service_that_is_delivered_runs_a_node_with_settings_that_are_right():
    settings = settings_file.read(DEPLOY / "node.toml")
    unit = (DEPLOY / "hilum-node.service").read_text()
    assert re.search(r"^ExecStart=\S+/hilum node run /etc/hilum/node.toml$", unit, re.MULTILINE)
    assert f"StateDirectory={settings.state.name}\n" in unit
    assert f":{settings.monitor.port}/health" in (DEPLOY / "Containerfile").read_text()
