"""Start an Orthanc of one's own, on loopback ports and in a folder of its own, for trials."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

PROGRAM = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
PLUGINS = Path("/usr/share/orthanc/plugins")
TITLE = "ARCHIVE"
_STARTS, _STOPS = 20.0, 20.0  # seconds


def is_there() -> bool:
    """Return whether this machine has Orthanc with its DICOMweb plug-in."""
    return Path(PROGRAM).is_file() and any(PLUGINS.glob("*OrthancDicomWeb*"))


def free_port() -> int:
    """Return a port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Orthanc:
    """An Orthanc whose database lies in `folder`; it can be stopped and started again."""

    folder: Path
    stable_seconds: int = 1
    http: int = field(default_factory=free_port)
    dicom: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        """The root of its REST interface."""
        return f"http://127.0.0.1:{self.http}"

    def start(self) -> Orthanc:
        """Start it and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "orthanc.json"
        settings.write_text(json.dumps(self._settings()))
        log = open(self.folder / "orthanc.log", "ab")  # noqa: SIM115 (the process has it)
        with log:
            self.process = subprocess.Popen([PROGRAM, settings], stdout=log, stderr=log)
        ends = time.monotonic() + _STARTS
        while time.monotonic() < ends:
            if self.process.poll() is not None:
                break
            try:
                self.get("system")
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.05)
            else:
                return self
        raise RuntimeError((self.folder / "orthanc.log").read_text()[-2000:])

    def _settings(self) -> dict[str, object]:
        return {
            "StorageDirectory": str(self.folder / "db"),
            "IndexDirectory": str(self.folder / "db"),
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "DicomAet": TITLE,
            "DicomAlwaysAllowStore": True,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "StableAge": self.stable_seconds,
            "OverwriteInstances": True,
            "UnknownSopClassAccepted": True,
            "Plugins": [str(PLUGINS)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }

    def get(self, path: str) -> object:
        """Return the JSON that it answers."""
        with urllib.request.urlopen(f"{self.url}/{path}", timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def post(self, path: str, data: bytes) -> object:
        """Send data, and return the JSON that it answers."""
        request = urllib.request.Request(f"{self.url}/{path}", data, method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def delete(self, path: str) -> None:
        """Delete something of it."""
        request = urllib.request.Request(f"{self.url}/{path}", method="DELETE")
        with urllib.request.urlopen(request, timeout=10):
            return

    def modalities(self, study: str) -> list[str]:
        """Return the modality of each object of a study, by its Study Instance UID, sorted."""
        objects = []
        for one in self._ids(study):
            for series in self.get(f"studies/{one}/series"):
                modality = series["MainDicomTags"]["Modality"]
                objects += [modality] * len(series["Instances"])
        return sorted(objects)

    def values(self, study: str, keyword: str) -> set[str]:
        """Return the values of an attribute in all objects of a study but its films."""
        found = set()
        for one in self._ids(study):
            for instance in self.get(f"studies/{one}/instances"):
                tags = self.get(f"instances/{instance['ID']}/simplified-tags")
                if tags["Modality"] not in ("CR", "DX"):
                    found.add(str(tags.get(keyword, "")))
        return found

    def _ids(self, study: str) -> list[str]:
        found = self.post("tools/lookup", study.encode())
        return [one["ID"] for one in found if one["Type"] == "Study"]

    def stop(self, *, kill: bool = False) -> None:
        """Stop it and wait until its process has gone."""
        if self.process and self.process.poll() is None:
            (self.process.kill if kill else self.process.terminate)()
            try:
                self.process.wait(_STOPS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def store(port: int, paths: list[Path], called: str = TITLE, calling: str = "MODALITY") -> None:
    """Send files by C-STORE, in one association, as a modality does."""
    from pydicom import dcmread
    from pynetdicom import AE

    entity = AE(ae_title=calling)
    objects = [dcmread(path) for path in paths]
    for pair in {(one.SOPClassUID, one.file_meta.TransferSyntaxUID) for one in objects}:
        entity.add_requested_context(*pair)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        raise ConnectionError("the association was refused")
    try:
        for one in objects:
            status = association.send_c_store(one)
            if not status or status.Status != 0:
                raise ConnectionError(f"C-STORE answered {status}")
    finally:
        association.release()
