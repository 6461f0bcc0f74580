"""A small DICOMweb archive in memory, for machines without Orthanc: QIDO-RS, WADO-RS, STOW-RS.

It can be made to fail: `refusing` are SOP Instance UIDs that it does not store, `statuses` are
answered to the next requests instead of what they want.
"""

from __future__ import annotations

import io
import json
from contextlib import contextmanager
from email import message_from_bytes
from email.policy import HTTP
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import web_servers
from pydicom import Dataset, dcmread

PATIENT = "Geheim^Patientin"  # a name that must be in no log


class Archive:
    """What the server holds: the bytes of each object by its SOP Instance UID."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[Dataset, bytes]] = {}
        self.stored: list[str] = []  # UIDs by STOW-RS, in order
        self.fetched: list[str] = []
        self.requests: list[tuple[str, str, str]] = []  # method, path, Authorization
        self.refusing: set[str] = set()
        self.statuses: list[int] = []
        self.broken: set[str] = set()  # UIDs of objects that it cannot give any more
        self.url = ""

    def put(self, data: bytes | Path) -> str:
        """Store an object; return its SOP Instance UID."""
        data = data.read_bytes() if isinstance(data, Path) else data
        header = dcmread(io.BytesIO(data), stop_before_pixels=True)
        self.held[str(header.SOPInstanceUID)] = (header, data)
        return str(header.SOPInstanceUID)

    def modalities(self, study: str) -> list[str]:
        """Return the modality of each object of a study, sorted."""
        held = [header for header, _ in self.held.values() if header.StudyInstanceUID == study]
        return sorted(header.Modality for header in held)

    # -------------------------------------------------------------------- answers

    def studies(self, query: dict[str, list[str]]) -> list[dict]:
        wanted, studies = query.get("ModalitiesInStudy", [""])[0], {}
        for header, _ in self.held.values():
            studies.setdefault(str(header.StudyInstanceUID), []).append(header.Modality)
        rows = [(uid, some) for uid, some in studies.items() if wanted in some]
        first, count = int(query.get("offset", ["0"])[0]), int(query["limit"][0])
        return [
            {
                "0020000D": {"vr": "UI", "Value": [uid]},
                "00201208": {"vr": "IS", "Value": [len(some)]},
            }
            for uid, some in rows[first : first + count]
        ]

    def instances(self, study: str, modality: str) -> list[dict]:
        return [
            {
                "0020000E": {"vr": "UI", "Value": [str(header.SeriesInstanceUID)]},
                "00080018": {"vr": "UI", "Value": [uid]},
                "00080060": {"vr": "CS", "Value": [header.Modality]},
            }
            for uid, (header, _) in list(self.held.items())
            if header.StudyInstanceUID == study and header.Modality == modality
        ]

    def store(self, kind: str, body: bytes) -> tuple[int, dict]:
        message = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body, policy=HTTP)
        failed, done = [], []
        for part in message.iter_parts():
            data = part.get_payload(decode=True)
            uid = str(dcmread(io.BytesIO(data), stop_before_pixels=True).SOPInstanceUID)
            if uid in self.refusing:
                failed.append(uid)
            else:
                done.append(self.put(data))
        self.stored += done
        items = [
            {"00081155": {"vr": "UI", "Value": [uid]}, "00081197": {"vr": "US", "Value": [0xA700]}}
            for uid in failed
        ]
        status = 202 if failed else 200
        return (409 if failed and not done else status), {"00081198": {"Value": items}}


@contextmanager
def serving():
    """Give an archive whose `url` answers while the block runs."""
    archive = Archive()

    class Handler(web_servers.Quiet):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # one packet for head and body

        def answer(self, status: int, kind: str, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def begun(self) -> bool:
            authorization = self.headers.get("Authorization", "")
            archive.requests.append((self.command, self.path, authorization))
            self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if archive.statuses:
                self.answer(archive.statuses.pop(0), "text/plain", PATIENT.encode())
                return False
            return True

        def do_GET(self) -> None:
            if not self.begun():
                return
            parts = urlsplit(self.path)
            query, words = parse_qs(parts.query), parts.path.strip("/").split("/")
            if len(words) == 1:
                found = archive.studies(query)
            elif len(words) == 3:
                all_of = archive.instances(words[1], query["Modality"][0])
                found = all_of[int(query.get("offset", ["0"])[0]) :]
            else:
                uid = words[5]
                archive.fetched.append(uid)
                if uid not in archive.held or uid in archive.broken:
                    self.answer(500 if uid in archive.broken else 404, "text/plain", b"")
                    return
                head = b"--XX\r\nContent-Type: application/dicom\r\n\r\n"
                body = head + archive.held[uid][1] + b"\r\n--XX--\r\n"
                self.answer(200, 'multipart/related; boundary="XX"', body)
                return
            self.answer(200, "application/dicom+json", json.dumps(found).encode())

        def do_POST(self) -> None:
            if self.begun():
                status, found = archive.store(self.headers["Content-Type"], self.body)
                self.answer(status, "application/dicom+json", json.dumps(found).encode())

    with web_servers.serving(Handler) as port:
        archive.url = f"http://127.0.0.1:{port}"
        yield archive
