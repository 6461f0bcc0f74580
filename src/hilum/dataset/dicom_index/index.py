"""All images of a source: the films among them, what contradicts itself, and earlier films.

A patient is an issuer with a Patient ID (PS3.3 C.7.1.1). Contradictions are looked for among all
images, not only among films, because a study belongs to one patient as a whole:

    one image, several patients      a SOP Instance UID is stated with several patients
    one image, several studies       … with several Study Instance UIDs
    one study, several patients      a Study Instance UID is stated with several patients
    one patient, several persons     a patient has several names or dates of birth

An ID that de-identification left in every header identifies nobody. Nobody has earlier films, nor
has a patient of whom anything contradicts itself: another person's film beside a patient's is worse
than none.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from hilum.dataset.dicom_index.film import Film, film
from hilum.imaging.files.dicom import Header

Patient = tuple[str, str]
SHOWN = 3  # places that a contradiction names


@dataclass(frozen=True)
class Contradiction:
    """What headers state that cannot all be true: of which UID or patient, in which images."""

    kind: str
    of: str
    places: tuple[str, ...]

    def __str__(self) -> str:
        listed = ", ".join(self.places[:SHOWN])
        more = f" and {len(self.places) - SHOWN} more" if len(self.places) > SHOWN else ""
        return f"{self.kind}: {self.of} ({listed}{more})"


@dataclass(frozen=True)
class FilmIndex:
    """The images of a source, sorted by patient, moment and UID, each SOP Instance UID once.

    `copies` are the places of images that are there already; `notes` say what could not be read.
    """

    images: tuple[Film, ...]
    contradictions: tuple[Contradiction, ...] = ()
    copies: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def films(self) -> tuple[Film, ...]:
        """Return the frontal chest radiographs."""
        return tuple(one for one in self.images if not one.refusal)

    @property
    def refused(self) -> Mapping[str, int]:
        """Return how many images are no films, by reason, most frequent first."""
        counts = Counter(one.refusal for one in self.images if one.refusal)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def priors(self, film: Film) -> tuple[Film, ...]:
        """Return the patient's films of other studies acquired before it, latest first."""
        moment = film.acquired
        if film.patient is None or film.patient in self._uncertain or moment is None:
            return ()
        earlier = (
            one
            for one in self._by_patient.get(film.patient, ())
            if one.acquired is not None
            and one.acquired < moment
            and one.study_uid != film.study_uid
        )
        return tuple(sorted(earlier, key=_moment, reverse=True))

    @cached_property
    def _by_patient(self) -> Mapping[Patient, list[Film]]:
        found: dict[Patient, list[Film]] = defaultdict(list)
        for one in self.films:
            if one.patient is not None:
                found[one.patient].append(one)
        return found

    @cached_property
    def _uncertain(self) -> frozenset[Patient]:
        """Return the patients of whom something contradicts itself, and the one that is nobody."""
        places = {place for one in self.contradictions for place in one.places}
        found = {one.patient for one in self.images if one.patient and one.place in places}
        return frozenset(found | _nobody(self.images))


def _nobody(images: Iterable[Film]) -> set[Patient]:
    """Return the one patient of images of several studies and of no person's name, else nothing."""
    listed = list(images)
    patients = {one.patient for one in listed} - {None}
    studies, persons = ({getattr(one, of) for one in listed} for of in ("study_uid", "person"))
    if len(patients) == 1 < len(studies) and persons in (set(), {None}):
        return {patient for patient in patients if patient is not None}
    return set()


def _moment(one: Film) -> tuple[str, str]:
    return one.acquired.isoformat() if one.acquired else "", one.sop_instance_uid or ""


class Collector:
    """Collects headers, in any order, into an index."""

    def __init__(self) -> None:
        self.films: list[Film] = []
        self._notes: list[str] = []

    def add(self, header: Header, place: str) -> Film:
        """Add the image that a header describes, and return it."""
        found = film(header, place)
        self.take(found)
        return found

    def take(self, film: Film) -> None:
        """Add an image."""
        self.films.append(film)

    def note(self, sentence: str) -> None:
        """Keep a sentence on what could not be read, or is missing."""
        self._notes.append(sentence)

    def index(self) -> FilmIndex:
        """Return the index of all that was added."""
        first: dict[str, Film] = {}
        copies = []
        for one in sorted(self.films, key=lambda one: one.place):
            uid = one.sop_instance_uid or f"place {one.place}"
            if first.setdefault(uid, one) is not one:
                copies.append(one.place)
        images = sorted(first.values(), key=lambda one: (one.patient or ("", ""), _moment(one)))
        return FilmIndex(
            tuple(images), tuple(contradictions(self.films)), tuple(copies), tuple(self._notes)
        )


def contradictions(films: Iterable[Film]) -> Iterator[Contradiction]:
    """Yield what the headers of these images state that cannot all be true."""
    listed = list(films)
    fields = ("sop_instance_uid", "study_uid", "patient", "person")
    columns = {field: [getattr(one, field) for one in listed] for field in fields}
    for kind, key, stated in (
        ("one image, several patients", "sop_instance_uid", "patient"),
        ("one image, several studies", "sop_instance_uid", "study_uid"),
        ("one study, several patients", "study_uid", "patient"),
        ("one patient, several persons", "patient", "person"),
    ):
        first: dict[object, object] = {}
        several: dict[object, list[str]] = {}
        pairs = list(zip(columns[key], columns[stated], strict=True))
        for of, value in pairs:
            if of and value and first.setdefault(of, value) != value:
                several[of] = []
        for (of, value), one in zip(pairs, listed, strict=True) if several else ():
            if value and of in several:
                several[of].append(one.place)
        for of in sorted(several, key=str):
            name = of[1] if isinstance(of, tuple) else str(of)
            yield Contradiction(kind, name, tuple(sorted(several[of])))
