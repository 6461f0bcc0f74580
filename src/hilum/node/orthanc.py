"""Poll an Orthanc: its list of changes says which studies became stable since the last poll.

`/changes` is the truth, whatever was missed while the node was down; its `Last` is kept in the
journal. Where Orthanc's database was made anew, its numbers begin again, and so does the node.

An Orthanc that is restarted before a study is stable never says that it is (seen with 1.10.1), so
studies with new radiographs are recorded too, and examined until they are stable.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial

from hilum.dataset.dicom_index.frontal import MODALITIES
from hilum.errors import BadData
from hilum.node.http_client import Answer, Peer, Rejected
from hilum.node.inbox import Stream
from hilum.node.journal import Journal
from hilum.node.settings import Orthanc
from hilum.node.source import GONE, Found
from hilum.node.visits import SETTLING, Visits
from hilum.storage import JsonObject

_CHANGES = 1000  # of one request
_STABLE, _NEW_STUDY, _NEW_SERIES = "StableStudy", "NewStudy", "NewSeries"


class OrthancServer:
    """An Orthanc as a `hilum.node.source.Server`; studies have Orthanc's own ids."""

    name = "orthanc"

    def __init__(self, peer: Peer, settings: Orthanc, journal: Journal) -> None:
        self._peer, self._settings, self._journal = peer, settings, journal
        self._visits = Visits(journal, self.name)

    def notice(self) -> bool:
        """Record the studies that became stable. Raises `Unreachable`, `Rejected`, `BadData`."""
        since = self._journal.cursor(self.name)
        if not since:
            since = "0" if self._settings.history else str(last_change(self._peer))
            self._visits.notice([], since)
        found = _expected(self._peer.get(f"changes?since={since}&limit={_CHANGES}").json())
        last = int(found["Last"])
        if last < int(since):  # another database
            self._visits.notice([], "0")
            return True
        by_kind = {kind: [] for kind in (_STABLE, _NEW_STUDY, _NEW_SERIES)}
        for one in found.get("Changes", ()):
            by_kind.get(one.get("ChangeType", ""), []).append(one.get("ID", ""))
        if last != int(since):
            changing = [*by_kind[_NEW_STUDY], *self._studies_of(by_kind[_NEW_SERIES])]
            self._visits.notice(by_kind[_STABLE], str(last), changing)
        self._examine()
        return not found.get("Done", True)

    def _studies_of(self, series: Iterable[str]) -> Iterator[str]:
        """Yield the studies of the radiographic series among some."""
        for one in series:
            with suppress(Rejected, BadData):  # deleted meanwhile
                found = _table(self._peer.get(f"series/{one}"))
                study = found.get("ParentStudy", "")
                if study and _tags(found).get("Modality", "") in MODALITIES:
                    yield study

    def _examine(self) -> None:
        """Let studies wait that are stable, whether Orthanc has said so or not."""
        for visit in self._visits.due(time.time(), SETTLING):
            try:
                found = _table(self._peer.get(f"studies/{visit.study}"))
            except Rejected as error:
                if error.status in GONE:
                    self._visits.finish(visit)
                else:  # a visit says what is wrong with it
                    self._visits.settle(visit, True)
            else:
                self._visits.settle(visit, bool(found.get("IsStable", True)))

    def objects(self, study: str) -> Iterator[Found]:
        """Yield the objects of the study's radiographic series."""
        for series in _listed(self._peer.get(f"studies/{study}/series").json()):
            modality = _tags(series).get("Modality", "")
            if modality not in MODALITIES:
                continue
            for one in _listed(self._peer.get(f"series/{series['ID']}/instances").json()):
                sop = _tags(one).get("SOPInstanceUID", "")
                fetch = partial(self._fetch, one["ID"])
                # Each stored file has an id of its own, also one that replaces another.
                yield Found(sop, modality, str(one.get("FileUuid", "")), fetch)

    def _fetch(self, instance: str, stream: Stream) -> None:
        self._peer.request("GET", f"instances/{instance}/file", into=stream)


def last_change(peer: Peer) -> int:
    """Return the number of the last change. Raises `BadData` where the server is no Orthanc."""
    return int(_expected(peer.get("changes?last").json())["Last"])


def _expected(found: JsonObject | None) -> JsonObject:
    if not isinstance(found, dict) or "Last" not in found:
        raise BadData(
            "[source.orthanc] url: the server does not answer as an Orthanc; expected its REST "
            "interface, as http://127.0.0.1:8042"
        )
    return found


def _table(answer: Answer) -> JsonObject:
    """Return the table of an answer. Raises `BadData` where it is none."""
    found = answer.json()
    if not isinstance(found, dict):
        raise BadData(
            "[source.orthanc] url: the server answered with something else than a table; expected "
            "Orthanc's REST interface, as http://127.0.0.1:8042"
        )
    return found


def _tags(found: JsonObject) -> JsonObject:
    return found.get("MainDicomTags") or {}


def _listed(found: Iterable[JsonObject] | None) -> Iterable[JsonObject]:
    return found or ()
