"""Made-up films for a node, and a node whose rounds a test makes one by one."""

from __future__ import annotations

import io
import shutil
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

import dicom_sources
import dicomweb_archive
import numpy as np
import pytest
from dicom_files import write
from dicomweb_archive import PATIENT
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset

from hilum import storage
from hilum.dicom_out import uids
from hilum.dicom_out.write import Options
from hilum.imaging.files import dicom
from hilum.inference.calls import FindingScore
from hilum.inference.delivery import Findings, ModelIdentity
from hilum.node import service
from hilum.node.busy import Busy
from hilum.node.reader import Reader
from hilum.node.settings import DicomWeb, Limits, Node, Settings

LUNGS = ModelIdentity("lungs", "0123456789abcdef")
MODEL = ModelIdentity("tuberculosis", "fedcba9876543210")
RESULTS = ["OT", "SEG", "SR", "SR"]
BRIEF = ["SEG", "SR"]
QUICK = Limits(retry_seconds=0.0, free_bytes=0, attempts=3)


@pytest.fixture
def archive():
    """An archive without films, in memory."""
    with dicomweb_archive.serving() as made:
        yield made


@pytest.fixture
def films(tmp_path):
    """The folder that `film` writes to."""
    return tmp_path / "films"


def film(folder: Path, number: int = 1, **header: object) -> Path:
    """Write a frontal film of a patient of its own; `header` goes on top."""
    study = f"1.2.826.0.1.{number}"
    stated = {
        **dicom_sources.FULL, **dicom_sources.DX, "PatientName": PATIENT, "PatientID": f"P{number}",
        "StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.1",
        "SOPInstanceUID": f"{study}.1.1", "StudyDate": f"{date.today():%Y%m%d}",
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    values = dicom_sources.pixels()[::4, ::4].copy()
    return write(folder / f"{number}.dcm", values, bits=12, **{**stated, **header})


def study(number: int = 1) -> str:
    return f"1.2.826.0.1.{number}"


def found(path: Path, file: dicom.Dicom, call: str | None = "absent") -> Findings:
    """Return what models would find, without any model: two boxes, one finding."""
    lungs = np.zeros(file.pose.source, np.uint8)
    height, width = lungs.shape
    lungs[height // 4 : -height // 4, width // 8 : width // 3] = 1
    lungs[height // 4 : -height // 4, -width // 3 : -width // 8] = 2
    score = FindingScore("tuberculosis", "tuberculosis", call, "", "", 0.2, None, 0.5, 10.0)
    return Findings(file, lungs, 0.9, True, LUNGS, "air", (score,), "", (MODEL,))


class Brief(Reader):
    """Writes two small objects in place of the whole set, in no time."""

    def write(self, path: Path, findings: Findings, to: Path) -> list[str]:
        source = dcmread(path, stop_before_pixels=True)
        shutil.rmtree(to, ignore_errors=True)
        made = []
        with storage.filling(to) as beside:
            for modality in ("SEG", "SR"):
                uid = uids.derived(str(source.SOPInstanceUID), self.digest, modality)
                one = Dataset()
                one.StudyInstanceUID, one.SeriesInstanceUID = source.StudyInstanceUID, f"{uid}.1"
                one.SOPClassUID, one.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.22", uid
                one.Modality, one.AccessionNumber = modality, source.AccessionNumber
                one.file_meta = FileMetaDataset()
                one.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
                stream = io.BytesIO()
                one.save_as(stream, enforce_file_format=True)
                storage.write_bytes(beside / f"{modality}.dcm", stream.getvalue())
                made.append(uid)
        return made


def reader(read=found, digest: str = "models 1") -> Reader:
    return Brief(read, digest, Options())


def whole_reader() -> Reader:
    """Return one that writes the objects of `hilum.dicom_out`."""
    return Reader(found, "models 1", Options())


def settings(state: Path, url: str, limits: Limits = QUICK, **more: object) -> Settings:
    web = DicomWeb(url=url, stable_seconds=0.0, poll_seconds=0.05)
    return Settings(node=Node(str(state)), dicomweb=web, limits=limits, **more)


class Driven:
    """A node whose parts a test drives."""

    def __init__(self, node: service.Node, log: io.StringIO) -> None:
        self.node, self.log = node, log
        self.journal, self.inbox = node.journal, node.inbox
        self.parts = {part.name: part for part in node.parts}

    def settle(self) -> None:
        """Let every part work until none has anything to do."""
        with suppress(Busy):
            for _ in range(2):  # a study is stable when a second poll finds it unchanged
                self.parts["dicomweb"].step()
        while self.parts["reader"].step() or self.parts["sender"].step():
            pass

    @property
    def states(self) -> dict[str, int]:
        return {state: count for state, count in self.journal.counts().items() if count}


@contextmanager
def driven(given: Settings, by: Reader | None = None):
    """Give a node that a test drives, as after a start."""
    log = io.StringIO()
    with service.assembled(given, by or reader(), log) as node:
        yield Driven(node, log)
