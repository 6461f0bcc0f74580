"""Poll any DICOMweb server (PS3.18): QIDO-RS for studies with radiographs, WADO-RS for the films.

The standard has no list of changes: studies of the last days are listed each time, and one whose
number of objects has not changed for a while is stable. Numbers and times are kept in the journal.
A film that replaces another one under the same UID is not noticed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta
from functools import partial

from hilum.dataset.dicom_index.frontal import MODALITIES
from hilum.dataset.dicom_index.server import first_value
from hilum.errors import BadData
from hilum.node.http_client import Peer
from hilum.node.inbox import Stream
from hilum.node.journal import Journal
from hilum.node.multipart import DICOM, FirstPart
from hilum.node.settings import DicomWeb
from hilum.node.source import Found
from hilum.node.visits import Visits
from hilum.storage import JsonObject

_PAGE = 100  # studies or objects of one request
_MOST_PAGES = 100
_MODALITY, _STUDY, _SERIES, _SOP, _COUNT = (
    "00080060",
    "0020000D",
    "0020000E",
    "00080018",
    "00201208",
)
_UID = re.compile(r"[0-9A-Za-z][0-9A-Za-z.\-]{0,63}")  # what can stand in an address
_JSON = "application/dicom+json"
_ANY_SYNTAX = f'multipart/related; type="{DICOM}"; transfer-syntax=*'


class DicomWebServer:
    """A DICOMweb server as a `hilum.node.source.Server`; studies have their UIDs."""

    name = "dicomweb"

    def __init__(self, peer: Peer, settings: DicomWeb, journal: Journal) -> None:
        self._peer, self._settings = peer, settings
        self._visits = Visits(journal, self.name)

    def notice(self) -> bool:
        """Record the studies of the last days, with their numbers of objects."""
        today = date.today()
        first = today - timedelta(days=self._settings.days)
        # A day more, for clocks of other time zones.
        dates = f"{first:%Y%m%d}-{today + timedelta(days=1):%Y%m%d}"
        for modality in MODALITIES:
            query = f"StudyDate={dates}&ModalitiesInStudy={modality}&includefield={_COUNT}"
            for study in self._listed("studies", query, _STUDY):
                uid, count = first_value(study, _STUDY), first_value(study, _COUNT)
                if not count.isdecimal():
                    count = str(sum(1 for _ in self._listed(f"studies/{uid}/instances", "", _SOP)))
                self._visits.see(uid, int(count), self._settings.stable_seconds)
        return False

    def _listed(self, path: str, query: str, key: str) -> Iterator[JsonObject]:
        """Yield what a search finds, a page at a time, each UID `key` once.

        Servers give fewer than the limit, or the same page again: the last page is the one that
        holds nothing new.
        """
        met: set[str] = set()
        offset = 0
        for _ in range(_MOST_PAGES):
            bounds = "&".join(filter(None, (query, f"limit={_PAGE}&offset={offset}")))
            page = self._page(f"{path}?{bounds}")
            fresh = {uid: one for one in page if _UID.fullmatch(uid := first_value(one, key))}
            fresh = {uid: one for uid, one in fresh.items() if uid not in met}
            yield from fresh.values()
            if not fresh:
                return
            met.update(fresh)
            offset += len(page)

    def _page(self, path: str) -> list[JsonObject]:
        found = self._peer.get(path, Accept=_JSON).json() or []
        if not isinstance(found, list):
            raise BadData(
                "[source.dicomweb] url: the server answered a search with no list; expected the "
                "root of its DICOMweb services, as http://127.0.0.1:8042/dicom-web"
            )
        return [one for one in found if isinstance(one, dict)]

    def objects(self, study: str) -> Iterator[Found]:
        """Yield the objects of the study's radiographic series."""
        for modality in MODALITIES:
            for one in self._listed(f"studies/{study}/instances", f"Modality={modality}", _SOP):
                series, sop = first_value(one, _SERIES), first_value(one, _SOP)
                # Servers may ignore what they are to filter by.
                if _UID.fullmatch(series) and first_value(one, _MODALITY) in (modality, ""):
                    fetch = partial(self._fetch, study, series, sop)
                    yield Found(sop, modality, sop, fetch)

    def _fetch(self, study: str, series: str, sop: str, stream: Stream) -> None:
        part = FirstPart(stream)
        path = f"studies/{study}/series/{series}/instances/{sop}"
        self._peer.request("GET", path, headers={"Accept": _ANY_SYNTAX}, into=part)
        part.finish()
