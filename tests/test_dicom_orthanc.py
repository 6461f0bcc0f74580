"""Results stored in a real archive, by STOW-RS and by C-STORE, come back as they were."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

pytest.importorskip("highdicom", reason="needs the extra [dicom]")
pytest.importorskip("pynetdicom", reason="needs the extra [dicom]")

import dicom_sources
from pydicom import dcmread
from test_dicom_results import found

from benchmarks._lib import orthanc
from hilum.dicom_out import write
from hilum.node import dimse
from hilum.node.http_client import Peer
from hilum.node.sender import stow
from hilum.node.settings import Destination
from hilum.safety.web import Login

pytestmark = pytest.mark.skipif(not orthanc.is_there(), reason="Orthanc is not installed")
BY = ("STOW-RS", "C-STORE")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    made = orthanc.Orthanc(tmp_path_factory.mktemp("orthanc")).start()
    yield made
    made.stop(kill=True)


def results(folder, number: int, options: write.Options):
    source = dicom_sources.made(
        folder / "in",
        "mirrored",
        StudyInstanceUID=f"1.2.9.{number}",
        SeriesInstanceUID=f"1.2.8.{number}",
        SOPInstanceUID=f"1.2.7.{number}",
    )
    findings = found(source)
    return findings, write.write_results(source, findings, (folder / "out").joinpath, options)


def fetched(peer: Peer, uid: str):
    """Return an object by WADO-RS: the one part of a multipart answer."""
    (listed,) = json.loads(peer.get(f"instances?SOPInstanceUID={uid}").body)
    study, series = (listed[tag]["Value"][0] for tag in ("0020000D", "0020000E"))
    answer = peer.request(
        "GET",
        f"studies/{study}/series/{series}/instances/{uid}",
        headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'},
    )
    begin = answer.body.index(b"\r\n\r\n") + 4
    return dcmread(io.BytesIO(answer.body[begin : answer.body.rindex(b"\r\n--")]))


@pytest.mark.parametrize("number", range(4))
def test_segmentations_come_back_equal_to_the_bit_and_a_repeat_replaces(number, archive, tmp_path):
    by, labelmap = BY[number % 2], number >= 2
    findings, paths = results(tmp_path, number, write.Options(labelmap, True, True))
    peer = Peer(f"{archive.url}/dicom-web", Login(), 20.0)
    to = Destination(to="dimse", host="127.0.0.1", port=archive.dicom, ae_title=orthanc.TITLE)
    for _ in range(2):
        refused = stow(peer)(paths) if by == "STOW-RS" else dimse.store(paths, to)
        assert refused == {}
    assert len(archive.modalities(f"1.2.9.{number}")) == len(paths) == 5
    for path in paths:
        sent = dcmread(path)
        back = fetched(peer, sent.SOPInstanceUID)
        assert back == sent, path.name
    stored = fetched(peer, dcmread(tmp_path / "out" / "segmentation.dcm").SOPInstanceUID)
    frames = stored.pixel_array
    masks = [frames == label for label in (1, 2)] if labelmap else list(frames > 0)
    for label, mask in zip((1, 2), masks, strict=True):
        assert np.array_equal(mask, findings.lungs == label) and mask.any()
    peer.close()
