"""What a node's journal says to people, and what they can do about it; also while the node runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypedDict

from hilum.errors import CannotRead, NotFound, on_one_line
from hilum.node import visits
from hilum.node.cautions import cautions
from hilum.node.journal import DEAD, Journal
from hilum.node.service import JOURNAL, journal_of
from hilum.node.settings import DIMSE, Settings

SHOWN = 50  # dead films and studies
REASONS = 20  # for which films were skipped
_KEY = 16  # characters of a film's key


class Failure(TypedDict):
    """A film, by its key, or a study, by its id at its source, that failed for good."""

    what: str
    id: str
    state: str
    attempts: int
    reason: str


class Problem(TypedDict):
    """What stops a part of a node, since how many seconds."""

    part: str
    seconds: float
    reason: str


class Status(TypedDict):
    """The state of a node, in JSON types."""

    films: dict[str, int]
    skipped: dict[str, int]  # films by the reason
    studies: dict[str, int]
    problems: list[Problem]
    failures: list[Failure]


def _opened(settings: Settings) -> Journal:
    place = settings.state / JOURNAL
    try:
        found = place.is_file()
    except OSError as error:  # of another user
        raise CannotRead.because(place, error) from error
    if not found:
        raise NotFound(f"there is no journal at {place}; start the node with `hilum node run`")
    return journal_of(settings)


def status(settings: Settings) -> Status:
    """Return the state of a node. Raises `NotFound` where it never ran."""
    journal, now = _opened(settings), time.time()
    try:
        return Status(
            films=journal.counts(),
            skipped=journal.skip_reasons(REASONS),
            studies=visits.counts(journal),
            problems=[
                Problem(part=part, seconds=round(now - since, 1), reason=reason)
                for part, since, reason in journal.problems()
            ],
            failures=list(_failures(journal)),
        )
    finally:
        journal.close()


def _failures(journal: Journal) -> Iterator[Failure]:
    for film in journal.films(DEAD, SHOWN):
        yield Failure(
            what="film", id=film.key[:_KEY], state=film.stage, attempts=film.attempts,
            reason=film.reason,
        )  # fmt: skip
    for visit in visits.dead(journal, SHOWN):
        yield Failure(
            what=f"study of {visit.source}", id=visit.study, state=visit.state,
            attempts=visit.attempts, reason=visit.reason,
        )  # fmt: skip


def lines(found: Status) -> str:
    """Format the state for a person."""
    films = ", ".join(f"{name} {count}" for name, count in found["films"].items())
    studies = ", ".join(f"{name} {count}" for name, count in found["studies"].items())
    text = [f"films: {films}", f"studies to visit: {studies}"]
    for reason, count in found["skipped"].items():
        text.append(f"skipped {count}: {reason}")
    for one in found["problems"]:
        text.append(f"{one['part']} is stopped, {one['seconds']:.0f} s: {one['reason']}")
    for one in found["failures"]:
        text.append(f"dead {one['what']} {one['id']} ({one['state']}): {one['reason']}")
    return "\n".join(map(on_one_line, text))


def retry(settings: Settings, film: str = "") -> str:
    """Let what is dead be tried again, all or one film by its key; say how many.

    Raises `NotFound` where the node never ran, or for a film that is not dead.
    """
    return f"to be tried again: {_dead(settings, film, Journal.revive, visits.revive)}"


def drop(settings: Settings, film: str = "") -> str:
    """Give up what is dead, all films or one by its key, and free its space; say how many.

    A running node removes the files soon, another one when it starts. Raises as `retry` does.
    """
    return f"dropped: {_dead(settings, film, Journal.drop, visits.drop)}"


def _dead(
    settings: Settings,
    film: str,
    of_films: Callable[[Journal, str], int],
    of_studies: Callable[[Journal], int],
) -> str:
    """Apply a function to all that is dead, or to one film; return how many in words."""
    journal = _opened(settings)
    try:
        films = of_films(journal, film)
        if film and not films:
            raise NotFound(f"no dead film has the key {film}; `hilum node status` shows them")
        studies = 0 if film else of_studies(journal)
        return f"{films} films, {studies} studies"
    finally:
        journal.close()


def summary(settings: Settings) -> str:
    """Say in a few lines what a node with these settings does."""
    text = [f"state: {settings.state}"]
    if settings.orthanc:
        text.append(f"films of the Orthanc at {settings.orthanc.url}")
    if settings.dicomweb:
        text.append(f"films of the DICOMweb server at {settings.dicomweb.url}")
    if settings.listen:
        listen = settings.listen
        who = ", ".join(one.ae_title for one in listen.allowed_callers)
        how = "TLS" if listen.certificate else "no TLS"
        text.append(f"films by C-STORE at {listen.host}:{listen.port}, {how}, from {who}")
    to = settings.destination
    place = {DIMSE: f"{to.ae_title} at {to.host}:{to.port}"}.get(to.to, to.url)
    text.append(f"results to: {to.to} {place}".rstrip())
    text.append(f"models: {settings.models.run or ', '.join(settings.models.names) or 'bundled'}")
    return "\n".join([*text, *cautions(settings)])
