"""What fails beside a node, or in it, costs no film and stops nothing that could go on."""

import io
import socket
import sqlite3
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from dicomweb_archive import PATIENT
from node_films import BRIEF, QUICK, driven, film, settings, study, whole_reader
from typer.testing import CliRunner
from web_servers import Quiet, serving

from hilum import storage
from hilum.cli.verbs import app
from hilum.errors import BadData, CannotRead, CannotWrite, HilumError, NotFound, Unreachable
from hilum.node import overview, service, visits
from hilum.node.associations import addresses_of, as_ipv4
from hilum.node.busy import Busy
from hilum.node.health import Health
from hilum.node.http_client import Peer
from hilum.node.inbox import Accepted, Inbox
from hilum.node.journal import RECEIVED, SENT, SKIPPED, WRITTEN, Journal, key_of
from hilum.node.sender import Sender, stow
from hilum.node.settings import Orthanc
from hilum.safety.web import Login

pytest.importorskip("highdicom", reason="needs the extra [dicom]")
pytest_plugins = ["node_films"]  # its archive and films


@pytest.fixture
def inbox(tmp_path):
    journal = Journal(tmp_path / "state" / service.JOURNAL)
    yield Inbox(tmp_path / "state", journal, QUICK, "models 1")
    journal.close()


def silent(event: str, level: str = "info", **fields: object) -> None:
    """Say nothing."""


def files(state: Path) -> list[Path]:
    return [path for path in state.rglob("*") if path.suffix in (".dcm", ".part")]


# ------------------------------------------------------------------------------- the journal


@pytest.mark.parametrize("loss", ["deleted", "emptied"])
def test_films_that_were_received_survive_the_loss_of_the_journal(loss, archive, films, tmp_path):
    given = settings(tmp_path / "state", archive.url)
    with driven(given) as node:
        node.inbox.accept(film(films), "modality")
        (node.inbox.objects / f"{'0' * 64}.dcm").write_bytes(b"half a film")
    for path in given.state.glob(f"{service.JOURNAL}*"):
        path.unlink() if loss == "deleted" else path.write_bytes(b"")
    with driven(given) as node:
        assert node.states == {RECEIVED: 1}
        node.settle()
        assert node.states == {SENT: 1} and not files(given.state)
    assert archive.modalities(study()) == BRIEF


@pytest.mark.parametrize("keep", [100, 5000, 9000])
def test_a_journal_that_was_cut_short_is_refused_and_its_films_stay(keep, films, archive, tmp_path):
    given = settings(tmp_path / "state", archive.url)
    with driven(given) as node:
        node.inbox.accept(film(films), "modality")
    place = given.state / service.JOURNAL
    place.write_bytes(place.read_bytes()[:keep])
    with pytest.raises(BadData, match="move the file elsewhere"), driven(given):
        pass
    assert len(files(given.state)) == 1
    with pytest.raises(BadData):
        overview.status(given)


def test_the_database_of_another_program_is_left_as_it_is(tmp_path):
    place = tmp_path / "other.sqlite"
    with sqlite3.connect(place) as made:
        made.execute("CREATE TABLE notes (text)")
    before = place.read_bytes()
    with pytest.raises(BadData, match="another program"):
        Journal(place)
    assert place.read_bytes() == before


def test_status_is_given_while_another_process_writes(archive, films, tmp_path):
    given = settings(tmp_path / "state", archive.url)
    with driven(given) as node:
        node.inbox.accept(film(films), "modality")
        with node.journal.transaction() as run:
            run("UPDATE films SET reason = 'being changed'")
            assert overview.status(given)["films"][RECEIVED] == 1


def test_a_clock_that_is_set_back_delays_no_film_and_no_study(
    archive, films, tmp_path, monkeypatch
):
    archive.put(film(films))
    ahead = time.time() + 30 * 86400
    with driven(settings(tmp_path / "state", archive.url)) as node:
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: ahead)
            for _ in range(2):
                node.parts["dicomweb"].step()
            (waiting,) = node.journal.films(RECEIVED)
            node.journal.fail(waiting, "later", ahead + 5)
            visits.Visits(node.journal, "dicomweb").see("1.2.3", 1, 5.0)
            other = visits.Visits(node.journal, "dicomweb").of("1.2.3")
            visits.Visits(node.journal, "dicomweb").fail(other, "later", ahead + 5)
        assert [one.study for one in visits.Visits(node.journal, "dicomweb").due(time.time())]
        node.settle()
        assert node.states == {SENT: 1}


def test_what_other_rules_skipped_is_read_when_it_is_sent_again(inbox, films, monkeypatch):
    path = film(films)
    with monkeypatch.context() as patch:
        patch.setattr("hilum.node.inbox.reason_against", lambda header, journal: "states no view")
        assert inbox.accept(path, "modality").skipped
    assert inbox.accept(path, "modality") == Accepted(key_of(f"{study()}.1.1"), True)
    assert inbox.journal.counts()[RECEIVED] == 1


def test_a_part_outlives_a_journal_that_takes_nothing(archive, tmp_path, monkeypatch):
    def readonly(*given: object) -> None:
        raise CannotWrite("attempt to write a readonly database")

    with driven(settings(tmp_path / "state", archive.url)) as node:
        monkeypatch.setattr(Journal, "set_problem", readonly)
        health = Health(node.journal)
        assert health.stopped("reader", ValueError("no")) and health.works("reader")


# ------------------------------------------------------------------------------------ versions


def test_a_film_that_comes_anew_just_as_the_former_was_sent_keeps_its_file(
    archive, films, tmp_path, monkeypatch
):
    other = film(films / "other", 1, AccessionNumber="B-2")
    advance = Journal.advance

    def advanced(journal, row, state, **changes):
        done = advance(journal, row, state, **changes)
        if state == SENT and other.exists():
            assert node.inbox.accept(other, "modality").new
            other.unlink()
        return done

    with driven(settings(tmp_path / "state", archive.url)) as node:
        node.inbox.accept(film(films), "modality")
        monkeypatch.setattr(Journal, "advance", advanced)
        node.settle()
        assert node.states == {SENT: 1} and node.journal.films(SENT)[0].version == 2
        assert not files(tmp_path / "state")


def test_a_film_that_is_replaced_leaves_nothing_of_its_former_results(archive, films, tmp_path):
    with driven(settings(tmp_path / "state", archive.url)) as node:
        node.inbox.accept(film(films), "modality")
        node.parts["reader"].step()
        node.inbox.accept(film(films, 1, AccessionNumber="B-2"), "modality")
        assert len(files(tmp_path / "state")) == 1
        node.inbox.accept(film(films, 1, ViewPosition="LL"), "modality")
        assert node.states == {SKIPPED: 1} and not files(tmp_path / "state")


def test_films_of_one_uid_that_come_at_once_leave_the_bytes_that_the_journal_names(inbox, films):
    same = [film(films / str(n), 1, AccessionNumber=f"B-{n}") for n in range(8)]
    threads = [threading.Thread(target=inbox.accept, args=(one, "modality")) for one in same]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    (row,) = inbox.journal.films(RECEIVED)
    assert inbox.accept(inbox.place(row.key), "modality") == Accepted(row.key, False)


# ------------------------------------------------------------------------------------- reading


def test_a_full_disk_costs_no_attempt_even_where_the_journal_has_no_room(
    archive, films, tmp_path, monkeypatch
):
    def full(*given: object, **named: object) -> bool:
        raise Busy("the disk is full")

    with driven(settings(tmp_path / "state", archive.url)) as node:
        node.inbox.accept(film(films), "modality")
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "advance", full)
            for _ in range(2 * QUICK.attempts):
                with pytest.raises(Busy):
                    node.parts["reader"].step()
        node.settle()
        assert node.states == {SENT: 1}


def test_a_film_whose_file_is_gone_is_dead_and_says_so(archive, films, tmp_path):
    given = settings(tmp_path / "state", archive.url)
    with driven(given) as node:
        taken = node.inbox.accept(film(films), "modality")
        node.inbox.place(taken.key).unlink()
        node.settle()
        (failure,) = overview.status(given)["failures"]
        assert "is gone; send the film again" in failure["reason"]
        assert node.inbox.accept(film(films), "modality").new
        node.settle()
        assert node.states == {SENT: 1}


# ------------------------------------------------------------------------------------- sending


def written(inbox: Inbox, films: Path, *numbers: int, source: str = "modality") -> list[str]:
    """Put films whose results are written into the journal; return their keys."""
    keys = []
    for number in numbers:
        key = inbox.accept(film(films, number), source).key
        row = inbox.journal.film(key)
        folder = inbox.results_of(row)
        folder.mkdir()
        (folder / "SR.dcm").write_bytes(b"")
        inbox.journal.wrote(row, [f"9.{number}"])
        keys.append(key)
    return keys


class Store:
    """An archive that fails while it is `down`, and with the films in `poison`."""

    def __init__(self) -> None:
        self.down, self.poison, self.took = False, set(), []

    def __call__(self, paths):
        keys = [path.parent.name.partition(".")[0] for path in paths]
        if self.down or self.poison & {*keys}:
            raise Unreachable("the archive answered 502")
        self.took += keys
        return {}


def stepped(sender: Sender, rounds: int) -> None:
    for _ in range(rounds):
        with suppress(Unreachable):
            sender.step()


def test_a_film_with_which_the_archive_fails_stops_no_other_and_is_dead_in_the_end(inbox, films):
    keys = written(inbox, films, *range(1, 13))
    store = Store()
    store.poison.add(keys[2])
    sender = Sender(inbox, store, QUICK, silent)
    stepped(sender, 20)
    assert sorted(store.took) == sorted({*keys} - store.poison)
    for number in range(20, 20 + QUICK.attempts):  # only where it takes others, a film is at fault
        stepped(sender, 20)
        written(inbox, films, number)
        stepped(sender, 20)
    (dead,) = inbox.journal.films("dead")
    assert dead.key == keys[2] and "takes others" in dead.reason and "502" in dead.reason


def test_an_archive_that_fails_for_long_costs_no_film_an_attempt_and_urgent_ones_stay_first(
    inbox, films
):
    keys = written(inbox, films, *range(1, 12))
    store = Store()
    sender = Sender(inbox, store, QUICK, silent)
    store.down = True
    stepped(sender, 60)
    assert {row.attempts for row in inbox.journal.films(WRITTEN)} == {0}
    urgent = inbox.journal.film(keys[-1])
    inbox.journal.advance(urgent, WRITTEN, calls="tuberculosis")
    store.down = False
    stepped(sender, 4)
    assert len(store.took) == len(keys) and keys[-1] in store.took[:2]


def test_one_archive_that_is_down_does_not_stop_another(archive, films, tmp_path):
    given = replace(
        settings(tmp_path / "state", archive.url), orthanc=Orthanc(url="http://127.0.0.1:9")
    )
    with driven(given) as node:
        for number in range(1, 12):
            node.inbox.accept(film(films, number), "orthanc")
        node.inbox.accept(film(films, 20), "dicomweb")
        while node.parts["reader"].step():
            pass
        with pytest.raises(Unreachable):
            node.parts["sender"].step()
        assert node.parts["sender dicomweb"].step() == 1
        assert node.states == {WRITTEN: 11, SENT: 1}


class Page(Quiet):
    """Answers every request with a page where people sign in."""

    status, body = 200, b"<html>sign in</html>"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.send_header("Location", "http://elsewhere.example/")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>sign in</html>"), (200, b"[1]"), (200, b'{"00081198": {"Value": [3]}}'),
     (302, b""), (404, b""), (500, b"")],
)  # fmt: skip
def test_an_answer_that_is_not_about_what_was_sent_is_the_archives_fault(
    status, body, films, tmp_path
):
    kind = type("Answers", (Page,), {"status": status, "body": body})
    with serving(kind) as port:
        store = stow(Peer(f"http://127.0.0.1:{port}", Login("me", "secret"), 5.0))
        with pytest.raises(Unreachable) as raised:
            store([film(films)])
    assert "secret" not in str(raised.value)


# ------------------------------------------------------------------------------------- sources


@pytest.mark.parametrize("odd", [{"00080018": None}, {"00080018": {"Value": 5}}, None, "text", 3])
def test_odd_answers_about_one_study_stop_no_other(odd, archive, films, tmp_path):
    archive.put(film(films, 1))
    archive.put(film(films, 2))
    honest = archive.instances

    def instances(of: str, modality: str):
        return [odd, *honest(of, modality)] if of == study(1) else honest(of, modality)

    archive.instances = instances
    with driven(settings(tmp_path / "state", archive.url)) as node:
        node.settle()
        assert node.states == {SENT: 2}


def test_a_study_with_which_the_server_fails_is_tried_after_the_others(archive, films, tmp_path):
    for number in (1, 2, 3):
        archive.put(film(films, number))
    honest = archive.instances

    def instances(of: str, modality: str):
        if of == study(1):
            archive.statuses.append(503)
        return honest(of, modality)

    archive.instances = instances
    with driven(settings(tmp_path / "state", archive.url)) as node:
        for _ in range(4):
            try:
                node.parts["dicomweb"].step()
            except Unreachable:
                archive.statuses.clear()
        assert node.states == {RECEIVED: 2}
        assert visits.counts(node.journal)["waiting"] == 1


def test_a_server_that_gives_the_same_page_for_ever_or_short_ones_is_read_to_its_end(
    archive, films, tmp_path
):
    for number in (1, 2, 3):
        archive.put(film(films, number))
    honest = archive.studies
    archive.studies = lambda query: honest({**query, "limit": ["1"]})  # one for each page
    with driven(settings(tmp_path / "one", archive.url)) as node:
        node.settle()
        assert node.states == {SENT: 3}
    archive.studies = lambda query: honest({**query, "offset": ["0"]})
    archive.requests.clear()
    with driven(settings(tmp_path / "same", archive.url)) as node:
        node.parts["dicomweb"].step()
        assert len(archive.requests) < 10


def test_a_disk_that_fails_is_not_taken_for_the_server_nor_the_server_for_the_disk(archive, films):
    archive.put(film(films))
    peer = Peer(archive.url, Login(), 5.0)

    class Full(io.BytesIO):
        def write(self, data, /) -> int:
            raise OSError(28, "No space left on device")

    path = f"studies/{study()}/series/{study()}.1/instances/{study()}.1.1"
    with pytest.raises(OSError, match="No space"):
        peer.request("GET", path, into=Full())
    assert peer.request("GET", path, into=io.BytesIO()).status == 200


def test_an_authority_that_cannot_be_read_is_named_at_the_start(tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(CannotRead, match=r"ca\.pem"):
        Peer("https://127.0.0.1", Login(ca=str(tmp_path / "ca.pem")), 1.0)


def test_a_host_that_nobody_knows_is_no_empty_list_of_who_may_call():
    with pytest.raises(NotFound, match="allowed_callers"):
        addresses_of("no-such-host.invalid")
    assert addresses_of("127.0.0.1") == {as_ipv4("::ffff:127.0.0.1")} == {"127.0.0.1"}


# ------------------------------------------------------------------------------- what is dead


def test_what_is_dead_can_be_dropped_and_its_space_is_free_again(archive, films, tmp_path):
    file = tmp_path / "node.toml"
    file.write_text(f'[source.dicomweb]\nurl = "{archive.url}"\n[node]\nstate = "state"\n')
    with driven(settings(tmp_path / "state", archive.url)) as node:
        for number in (1, 2):
            node.inbox.accept(film(films, number, BitsStored=40), "modality")
        node.settle()
        assert node.states == {"dead": 2} and len(files(tmp_path / "state")) == 2
        held = node.journal.pending()
        assert held[0] == 0 < held[1]
        small = Inbox(tmp_path / "state", node.journal, replace(QUICK, state_bytes=held[1]))
        with pytest.raises(Busy, match="node drop"):
            small.refuse_if_busy()
        done = CliRunner().invoke(app, ["node", "drop", str(file), "--film", "ffff"])
        assert isinstance(done.exception, NotFound)
        done = CliRunner().invoke(app, ["node", "drop", str(file)])
        assert "2 films" in done.stdout
        service.tidy(node.node)
        assert node.states == {SKIPPED: 2} and not files(tmp_path / "state")
        small.refuse_if_busy()


def test_tidying_leaves_what_is_being_written_alone(inbox, films):
    row = inbox.journal.film(inbox.accept(film(films), "modality").key)
    with storage.filling(inbox.results_of(row)) as beside:
        (beside / "SR.dcm").write_bytes(b"whole")
        inbox.tidy()
    assert (inbox.results_of(row) / "SR.dcm").read_bytes() == b"whole"
    inbox.tidy()
    assert inbox.place(row.key).exists() and inbox.results_of(row).exists()


def test_what_is_dead_for_longer_than_rows_are_kept_goes(archive, films, tmp_path, monkeypatch):
    with driven(settings(tmp_path / "state", archive.url)) as node:
        node.inbox.accept(film(films, 1, BitsStored=40), "modality")
        node.settle()
        service.tidy(node.node)
        assert node.states == {"dead": 1}
        later = time.time() + (QUICK.keep_days + 1) * 86400
        monkeypatch.setattr(time, "time", lambda: later)
        service.tidy(node.node)
        assert node.states == {SKIPPED: 1} and not files(tmp_path / "state")


def test_status_says_why_films_were_skipped_and_names_no_patient(archive, films, tmp_path):
    given = settings(tmp_path / "state", archive.url)
    with driven(given) as node:
        for number, header in enumerate(
            ({"ViewPosition": "LL"}, {"ViewPosition": "LL"}, {"BodyPartExamined": "HAND"})
        ):
            node.inbox.accept(film(films, number + 1, **header), "modality")
        found = overview.status(given)
        assert list(found["skipped"].values()) == [2, 1]
        shown = overview.lines(found)
        assert "skipped 2: lateral view" in shown and PATIENT not in shown


# ------------------------------------------------------------------------------ before it runs


def test_check_tries_every_connection_and_stores_nothing(archive, tmp_path):
    file = tmp_path / "node.toml"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        file.write_text(
            f'[source.dicomweb]\nurl = "{archive.url}"\n'
            f'[source.orthanc]\nurl = "http://127.0.0.1:{port}"\n'
            '[listen]\nallowed_callers = [{ae_title = "A", host = "no-such-host.invalid"}]\n'
            f'[destination]\nto = "dimse"\nhost = "127.0.0.1"\nport = {port}\nae_title = "B"\n'
        )
        done = CliRunner().invoke(app, ["node", "check", str(file)])
    assert isinstance(done.exception, HilumError) and "4 of the connections" in str(done.exception)
    assert f"DICOMweb at {archive.url}: works" in done.stdout
    assert "no-such-host.invalid" in done.stdout and "C-ECHO of B" in done.stdout
    assert not archive.stored and not (tmp_path / "hilum-node").exists()


# ------------------------------------------------------------------------------------ privacy


def test_values_that_break_their_rules_are_printed_nowhere(
    archive, films, tmp_path, capfd, recwarn, caplog
):
    broken = {
        "PatientBirthDate": "Geheim-1",
        "PatientAge": "Geheim-2",
        "PatientID": "Geheim-3" * 20,
        "AccessionNumber": "Geheim-4" * 9,
        "StudyTime": "Geheim-5",
        "PatientSex": "geheim-6",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = film(films, 1, **broken)
    caplog.clear()
    with driven(settings(tmp_path / "state", archive.url), whole_reader()) as node:
        node.inbox.accept(path, "modality")
        node.settle()
        log = node.log.getvalue()
        assert node.states in ({SENT: 1}, {"dead": 1})
    printed = [log, caplog.text, *capfd.readouterr(), *(str(one.message) for one in recwarn)]
    assert "geheim" not in "".join(printed).lower()
