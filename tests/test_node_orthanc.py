"""The loop with a real archive: a modality stores a film in Orthanc, and its results are there.

Orthanc runs on loopback ports, with a database of its own.
"""

import threading
import time

import pytest
from node_films import QUICK, RESULTS, film, reader, study, whole_reader

from benchmarks._lib.orthanc import Orthanc, free_port, is_there, store
from hilum.node import overview, service
from hilum.node.settings import (
    Caller,
    Destination,
    Listen,
    Monitor,
    Node,
    Settings,
)
from hilum.node.settings import Orthanc as Source

pytest.importorskip("highdicom", reason="needs the extra [dicom]")
pytest.importorskip("pynetdicom", reason="needs the extra [dicom]")
pytestmark = pytest.mark.skipif(not is_there(), reason="Orthanc is not installed")

PATIENCE = 60.0  # seconds until a test gives up


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    made = Orthanc(tmp_path_factory.mktemp("orthanc")).start()
    yield made
    made.stop(kill=True)


def until(true) -> None:
    ends, waiting = time.monotonic() + PATIENCE, threading.Event()
    while not true():
        assert time.monotonic() < ends, "it never came true"
        waiting.wait(0.05)


def run(given: Settings, monkeypatch, by, work) -> None:
    """Run a node while `work` does something."""
    monkeypatch.setattr(service.Reader, "of", classmethod(lambda cls, settings: by))
    service.run(given, lambda sentence: None, work)


def settings(state, archive: Orthanc, **more) -> Settings:
    source = Source(url=archive.url, poll_seconds=0.05)
    given = {"orthanc": source, "monitor": Monitor(port=0), "limits": QUICK, **more}
    return Settings(node=Node(str(state)), **given)


def sent(given: Settings) -> int:
    return overview.status(given)["films"]["sent"]


def test_a_film_that_a_modality_stores_gets_its_results_in_its_study(
    archive, tmp_path, monkeypatch
):
    given = settings(tmp_path / "state", archive)

    def work():
        # What the archive held before the node came is not read: polling begins now.
        until(lambda: service.journal_of(given).cursor("orthanc"))
        store(archive.dicom, [film(tmp_path, 1), film(tmp_path, 2)])
        until(lambda: sent(given) == 2)
        # The results make the studies stable anew: they are visited again, and nothing is read.
        until(lambda: visited(given) == 2)

    def visited(given: Settings) -> int:
        return overview.status(given)["studies"]["done"]

    run(given, monkeypatch, whole_reader(), work)
    for number in (1, 2):
        assert archive.modalities(study(number)) == sorted(["DX", *RESULTS])


def test_what_was_missed_while_the_node_was_down_is_read_and_a_repeat_replaces(
    archive, tmp_path, monkeypatch
):
    given = settings(tmp_path / "state", archive)

    def begin():
        until(lambda: service.journal_of(given).cursor("orthanc"))

    run(given, monkeypatch, reader(), begin)
    store(archive.dicom, [film(tmp_path, 3)])
    whole = ["DX", "SEG", "SR"]
    run(given, monkeypatch, reader(), lambda: until(lambda: archive.modalities(study(3)) == whole))

    def repeat():
        store(archive.dicom, [film(tmp_path, 3, AccessionNumber="B-2")])
        until(lambda: archive.values(study(3), "AccessionNumber") == {"B-2"})

    run(given, monkeypatch, reader(), repeat)
    assert archive.modalities(study(3)) == whole


def test_films_by_c_store_and_results_by_c_store(archive, tmp_path, monkeypatch):
    port = free_port()
    given = settings(
        tmp_path / "state",
        archive,
        orthanc=None,
        listen=Listen(port=port, allowed_callers=(Caller("MODALITY", "127.0.0.1"),)),
        destination=Destination(
            to="dimse", host="127.0.0.1", port=archive.dicom, ae_title="ARCHIVE"
        ),
    )

    def work():
        store(port, [film(tmp_path, 4)], "HILUM")
        until(lambda: sent(given) == 1)

    run(given, monkeypatch, whole_reader(), work)
    assert archive.modalities(study(4)) == RESULTS


def test_a_film_that_orthanc_received_just_before_it_died_is_read_all_the_same(
    tmp_path, monkeypatch
):
    archive = Orthanc(tmp_path / "orthanc", stable_seconds=600).start()
    given = settings(tmp_path / "state", archive)
    monkeypatch.setattr("hilum.node.visits.RECHECK_SECONDS", 0.2)
    try:
        run(
            given, monkeypatch, reader(),
            lambda: until(lambda: service.journal_of(given).cursor("orthanc")),
        )  # fmt: skip
        store(archive.dicom, [film(tmp_path, 5)])
        archive.stop(kill=True)
        archive.start()
        run(given, monkeypatch, reader(), lambda: until(lambda: sent(given) == 1))
        assert archive.modalities(study(5)) == ["DX", "SEG", "SR"]
    finally:
        archive.stop(kill=True)
