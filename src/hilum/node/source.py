"""What the polled sources of films have in common: notice studies, then visit each.

`Source.step` is one round: it asks the server what is new, and visits the studies that are due.
A film that the journal has in the same version is not fetched again, an object that is no
radiograph by its series' modality never.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from hilum.dataset.dicom_index.frontal import MODALITIES
from hilum.errors import CannotWrite, HilumError, Unreachable
from hilum.node.busy import Busy
from hilum.node.http_client import Rejected
from hilum.node.inbox import Inbox, Refused, Stream
from hilum.node.journal import key_of
from hilum.node.settings import Limits
from hilum.node.visits import Visit, Visits

GONE = (404, 410)


@dataclass(frozen=True)
class Found:
    """An object of a study at its source; `mark` changes with its bytes, where it is known."""

    sop: str
    modality: str
    mark: str
    fetch: Callable[[Stream], None]


class Server(Protocol):
    """A server whose studies are polled."""

    @property
    def name(self) -> str:
        """The name of the source in the settings."""
        ...

    def notice(self) -> bool:
        """Record the studies that are new or have changed; return whether there may be more."""
        ...

    def objects(self, study: str) -> Iterable[Found]:
        """Return the objects of a study, at least those of radiography."""
        ...


class Source:
    """Takes the films of a server into the inbox.

    `said` hears of each event, with counts and keys only.
    """

    def __init__(
        self, server: Server, inbox: Inbox, limits: Limits, said: Callable[..., None]
    ) -> None:
        self._server, self._inbox, self._limits, self._said = server, inbox, limits, said
        self._visits = Visits(inbox.journal, server.name)

    def step(self) -> bool:
        """Make one round; return whether anything was done.

        Raises `Unreachable`, and `Busy` where the inbox takes nothing in now.
        """
        more, visited = self._server.notice(), 0
        for visit in self._visits.due(time.time()):
            self._inbox.refuse_if_busy()
            self._visit(visit)
            visited += 1
        return more or visited > 0

    def _visit(self, visit: Visit) -> None:
        try:
            new, faults = self._films(visit)
        except (Busy, CannotWrite):
            raise
        except Unreachable:
            self._visits.put_off(visit)  # others are tried before it, and it is at no fault
            raise
        except Exception as error:  # noqa: BLE001 (whatever one study does, the next is visited)
            gone = isinstance(error, Rejected) and error.status in GONE
            reason = str(error) if isinstance(error, HilumError) else repr(error)
            new, faults = 0, [] if gone else [reason]
        if faults:
            self._failed(visit, "; ".join(faults))
            return
        self._visits.finish(visit)
        self._said("study visited", source=self._server.name, study=key_of(visit.study), new=new)

    def _films(self, visit: Visit) -> tuple[int, list[str]]:
        """Take in the films of a study; return how many are new, and what failed for others."""
        count, faults = 0, []
        journal, models = self._inbox.journal, self._inbox.models
        for found in self._server.objects(visit.study):
            if found.modality not in MODALITIES or journal.is_result(found.sop):
                continue
            if found.mark and journal.knows(key_of(found.sop), found.mark, models):
                continue
            try:
                taken = self._inbox.accept(found.fetch, self._server.name, found.mark)
            except Rejected as error:
                if error.status not in GONE:
                    faults.append(str(error))
                continue
            if isinstance(taken, Refused):
                faults.append(taken.reason)
            else:
                count += taken.new
        return count, faults

    def _failed(self, visit: Visit, reason: str) -> None:
        last = visit.attempts + 1 >= self._limits.attempts
        due = None if last else time.time() + pause(visit.attempts, self._limits)
        self._visits.fail(visit, reason, due)
        self._said(
            "study failed", level="error" if last else "warning", study=key_of(visit.study),
            source=self._server.name, attempts=visit.attempts + 1, dead=last,
        )  # fmt: skip


def pause(failures: int, limits: Limits) -> float:
    """Return how many seconds to wait after so many failures before: doubled each time, jittered.

    A half to the whole of it, at random, so that nodes do not come back all at once.
    """
    longest = min(limits.longest_retry_seconds, limits.retry_seconds * 2.0 ** min(failures, 30))
    return longest * random.uniform(0.5, 1.0)
