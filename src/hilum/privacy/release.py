"""Manifests for release: as they leave the machine in cards, exports, reports and audit pages.

Patients, studies and annotators have pseudonyms (`hilum.privacy.pseudonyms`). In file names, and
in the image ids made of them, the identifier of the image's own patient or study becomes its
pseudonym too, in any case and with any separators, and so do every DICOM UID and the names of
folders that hold one patient each, which may be people's. Files and folders without an image in
the table have pseudonyms, as nobody knows whom their names identify. Whether all names become
pseudonyms, and whether readings are kept, is set in the recipe's section [share].

A public release, whose reader states `NAMES_ARE_PUBLISHED`, keeps its file names, its readings,
and the patients that its file names state: anybody can find them there. Where only the file's name
identifies a patient, it is a name, not an identifier.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import polars as pl

from hilum import plugins
from hilum.config import Share
from hilum.dataset.manifest import PLACES, Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.privacy import redaction
from hilum.privacy.pseudonyms import Pseudonyms
from hilum.privacy.redaction import Wording

COLUMNS = ("image_id", "patient_id", "study", *PLACES)
_OF_OTHERS = {  # further columns of tables
    "other_image_id": "image_id",
    "group": "patient_id",
    "decision_author": "author",
}
_MADE = (
    "study ",
    "person ",
)  # before a patient known only by this, see `hilum.dataset.plan.rows`
# Endings of files whose names say what is in them and are no image's.
_TABLES = (".csv", ".tsv", ".xlsx", ".parquet", ".json", ".jsonl", ".toml", ".md", ".pdf")
_APART = r"[\W_]*"  # whatever stands between the parts of an identifier, or nothing

# Who made a correction, as `hilum.dataset.corrections` states it.
_CORRECTED_BY = re.compile(
    r"(?P<before>(?:^corrections: |, by |^left out by )[^:]+? by )(?P<author>[^:]+?)(?=: |$)"
)

Names = dict[str, dict[str, str]]  # by column: what is passed on, by what stands in the manifest


@dataclass(frozen=True)
class PassedOn:
    """A manifest as it is passed on, and the way to it from the one that is here."""

    manifest: Manifest
    names: Names
    wording: Wording
    rename: Callable[[str], str] | None = None  # makes a pseudonym of a name; None: names stay
    folders: frozenset[str] = frozenset()  # whose names stay, but for identifiers in them

    def keyed(self, table: pl.DataFrame) -> pl.DataFrame:
        """Return a table with image ids, places and patients as they are passed on."""
        kinds = {column: _OF_OTHERS.get(column) or column for column in table.columns}
        named = {column: self.names[kind] for column, kind in kinds.items() if self.names.get(kind)}
        return table.with_columns(pl.col(column).replace(new) for column, new in named.items())

    def cache(self, cached: Cache) -> Cache:
        """Return a cache that knows its images by the names that are passed on."""
        return replace(cached, index=self.keyed(cached.index))

    def issues(self, table: pl.DataFrame) -> pl.DataFrame:
        """Return what an audit found, as `hilum.audit.issues.COLUMNS`."""
        return self.keyed(table).with_columns(
            message=_worded("message", table, self.wording),
            decision_reason=_worded("decision_reason", table, self.wording),
        )

    def folder(self, name: str) -> str:
        """Return the name of a folder, which may be called after a patient."""
        if self.rename is None or name in self.folders:
            return self.wording.of(name)
        return self.rename(name)

    def anything(self, value: Any) -> Any:
        """Return a value with all texts in it as they are passed on."""
        return self.wording.anything(value)


def pass_on(
    manifest: Manifest, share: Share, pseudonyms: Pseudonyms, authors: Iterable[str] = ()
) -> PassedOn:
    """Return the manifest as `share` wants it passed on; `authors` are further annotators."""
    published = _published(manifest)
    rows = manifest.table.select("dataset", *COLUMNS)
    naming = _Naming(share, pseudonyms, published)
    naming.keep_stated(rows.filter(pl.col("dataset").is_in(list(published))))
    naming.hide_folders_of_people(
        rows, {one.casefold() for one in manifest.labels["term"].unique()}
    )
    for row in rows.iter_rows(named=True):
        naming.add(row)
    people = {*manifest.shapes["author"].drop_nulls(), *_correctors(manifest), *authors}
    if not share.keep_identifiers:
        naming.names["author"] = {one: pseudonyms.of("person", one) for one in sorted(people)}
    naming.make_unique()
    naming.hide_left_out(manifest.remarks["path"].unique())
    words = naming.wording(str(manifest.root))
    shown = _renamed(manifest, naming.names, words, share, published)
    kept = frozenset() if naming.hidden else naming.known_folders()
    return PassedOn(shown, naming.names, words, naming.file if naming.masks else None, kept)


def _published(manifest: Manifest) -> set[str]:
    """Return the data sets in a manifest whose names and readings are public."""
    known = set(plugins.names("readers")) & set(manifest.table["dataset"].unique())
    modules = {name: plugins.load("readers", name) for name in known}
    return {name for name, one in modules.items() if getattr(one, "NAMES_ARE_PUBLISHED", False)}


class _Naming:
    """What everything is called when it is passed on, gathered row by row."""

    def __init__(self, share: Share, pseudonyms: Pseudonyms, published: Collection[str]) -> None:
        self.share, self.pseudonyms, self.published = share, pseudonyms, published
        self.names: Names = {column: {} for column in (*COLUMNS, "author")}
        self.identifiers: dict[str, str] = {}  # of own data, as they may stand in sentences
        self.hidden = share.file_names == "pseudonyms"
        self.folders: dict[str, str] = {}  # of one patient each
        self.left_out: dict[str, str] = {}  # files that the table does not hold
        self.masks = self.hidden  # whether names are examined at all

    def keep_stated(self, rows: pl.DataFrame) -> None:
        """Keep patients of public releases whom a file's name states, as it is public too."""
        if self.hidden:
            return
        for patient, dataset, path in rows.select("patient_id", "dataset", "path").iter_rows():
            spelt = _pattern((patient.removeprefix(f"{dataset}/"),))
            if spelt and spelt.search(PurePosixPath(path).stem):
                self.names["patient_id"][patient] = patient

    def hide_folders_of_people(self, rows: pl.DataFrame, kept: Collection[str]) -> None:
        """Give a pseudonym to folders that stand beside one another and hold one patient each.

        `kept` are words that are no names, such as those of findings.
        """
        if not self._examines_names:
            return
        people: dict[PurePosixPath, set[str]] = defaultdict(set)
        beside: dict[PurePosixPath, set[PurePosixPath]] = defaultdict(set)
        own = rows.filter(~pl.col("dataset").is_in(list(self.published)))
        for column in PLACES:
            for patient, place in own.select("patient_id", column).drop_nulls().iter_rows():
                for folder in list(PurePosixPath(place).parents)[:-1]:
                    people[folder].add(patient)
                    beside[folder.parent].add(folder)
        for folders in beside.values():
            if len(folders) > 1 and all(len(people[one]) == 1 for one in folders):
                names = (one.name for one in folders if one.name.casefold() not in kept)
                self.folders |= {name: self.pseudonyms.of("folder", name) for name in names}

    def add(self, row: Mapping[str, Any]) -> None:
        """Name the image of a row, its files, patient and study."""
        dataset, image = row["dataset"], row["image_id"]
        self.masks |= dataset not in self.published and self._examines_names
        own = {} if self.share.keep_identifiers else self._identify(row)
        if dataset in self.published:
            own = {}
        self.identifiers |= own

        def without_identifiers(name: str) -> str:
            """Return a name that public releases keep."""
            return self._without(name, own) if dataset not in self.published else name

        start = f"{dataset}/"
        name = image.removeprefix(start)
        new = self.pseudonyms.of("image", image) if self.hidden else without_identifiers(name)
        self.names["image_id"][image] = start + new
        for column in PLACES:
            if (place := row[column]) is not None and place not in self.names[column]:
                self.names[column][place] = (
                    self._hidden(column, place) if self.hidden else without_identifiers(place)
                )

    def _hidden(self, column: str, place: str) -> str:
        kind = "image" if column == "path" else "mask"
        return self.pseudonyms.of(kind, place) + PurePosixPath(place).suffix.lower()

    def _identify(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Name the row's patient and study; return what may stand for them in a file's name."""
        start, patient, study = f"{row['dataset']}/", row["patient_id"], row["study"]
        pseudonym = self.pseudonyms.of("patient", patient)
        self.names["patient_id"].setdefault(patient, start + pseudonym)
        own = {}
        if patient != row["image_id"]:
            bare = patient.removeprefix(start)
            bare = next((bare.removeprefix(word) for word in _MADE if bare.startswith(word)), bare)
            own |= {bare: pseudonym, bare.rpartition("/")[2]: pseudonym}
        if study is not None:
            self.names["study"][study] = self.pseudonyms.of("study", study)
            own.setdefault(study, self.names["study"][study])
        return {one: new for one, new in own.items() if one}

    def _without(self, name: str, own: Mapping[str, str]) -> str:
        """Return a name without what identifies the patient or the study of its image."""
        if self.share.file_names == "keep":
            return name
        letters = _letters(name)
        there = tuple(one for one in own if _letters(one) in letters)
        if pattern := _pattern(there):
            name = pattern.sub(_Replacing({one: own[one] for one in there}), name)
        if self.share.keep_identifiers:
            return name
        *folders, file = name.split("/")
        name = "/".join([*(self.folders.get(one, one) for one in folders), file])
        return redaction.UID.sub(lambda found: self.pseudonyms.of("identifier", found[0]), name)

    @property
    def _examines_names(self) -> bool:
        return self.share.file_names != "keep" and not self.share.keep_identifiers

    def hide_left_out(self, places: Iterable[str]) -> None:
        """Give a pseudonym to files that remarks name and the table does not hold."""
        known = {place for column in PLACES for place in self.names[column]}
        for place in places if self.masks else ():
            path = PurePosixPath(place)
            if place not in known and path.suffix.lower() not in _TABLES and path.parts:
                self.left_out[place] = self.file(place)

    def known_folders(self) -> frozenset[str]:
        """Return the names of all folders of the table's files."""
        places = (place for column in PLACES for place in self.names[column])
        return frozenset(name for place in places for name in PurePosixPath(place).parts[:-1])

    def make_unique(self) -> None:
        """Give a pseudonym to names that became the same as another's."""
        for column in ("image_id", *PLACES):
            taken: set[str] = set()
            for name, new in self.names[column].items():
                if new in taken:
                    start = f"{name.partition('/')[0]}/" if column == "image_id" else ""
                    end = "" if column == "image_id" else PurePosixPath(name).suffix
                    new = f"{start}{self.pseudonyms.of('image', name)}{end}"
                    self.names[column][name] = new
                taken.add(new)

    def wording(self, root: str) -> Wording:
        """Return the way of sentences; images and files go before patients of the same name."""
        names = {**self.names["patient_id"], **self.left_out}
        for column in PLACES:
            for place, new in self.names[column].items():
                names |= {place: new} | dict(_folders(place, new))
        identifiers = {**self.names["study"], **self.names["author"], **self.identifiers}
        for image, new in self.names["image_id"].items():
            names[image] = new
            bare, bare_new = image.partition("/")[2], new.partition("/")[2]
            if bare != bare_new and any(one in "/0123456789" for one in bare):
                identifiers.setdefault(bare, bare_new)
        return Wording(
            root,
            names,
            identifiers,
            uid=None if self.share.keep_identifiers else self._uid,
            file=self.file if self.hidden else None,
        )

    def _uid(self, uid: str) -> str:
        return self.pseudonyms.of("identifier", uid)

    def file(self, name: str) -> str:
        """Return a pseudonym of a file or folder, with the file's ending."""
        return self.pseudonyms.of("folder", name) + PurePosixPath(name).suffix.lower()


class _Replacing:
    """What a pattern of identifiers puts in place of each; a short one is replaced once."""

    def __init__(self, own: Mapping[str, str]) -> None:
        self._by_letters = {_letters(one): new for one, new in own.items()}
        self._other = next(iter(own.values()))  # for letters of which there is no one lower case
        self._seen: set[str] = set()

    def __call__(self, found: re.Match[str]) -> str:
        letters = _letters(found[0])
        if len(letters) < redaction.SHORT and letters in self._seen:
            return found[0]
        self._seen.add(letters)
        return self._by_letters.get(letters, self._other)


@lru_cache(maxsize=1 << 16)
def _pattern(identifiers: tuple[str, ...]) -> re.Pattern[str] | None:
    """Match each of the identifiers in a name, the longest first."""
    ordered = sorted(identifiers, key=len, reverse=True)
    spelt = [one for one in map(_spelling, ordered) if one]
    return re.compile("|".join(spelt), re.IGNORECASE) if spelt else None


def _spelling(identifier: str) -> str:
    """Match an identifier in any case, its parts apart in any way; a short one as whole words.

    Zeros may stand before a number, as in 00000012_003.png of the patient 12.
    """
    parts = [part for part in re.split(r"[\W_]+", identifier) if part]
    if not parts:
        return ""
    spelt = ("0*" if identifier.isdigit() else "") + _APART.join(map(re.escape, parts))
    if sum(map(len, parts)) >= redaction.SHORT:
        return spelt
    return rf"(?<![^\W_]){spelt}(?![^\W_])"


def _letters(text: str) -> str:
    """Return the letters and digits of an identifier, by which its spellings are one."""
    return re.sub(r"[\W_]+", "", text).casefold().lstrip("0")


def _folders(place: str, new: str) -> Iterator[tuple[str, str]]:
    """Yield the folders of a place whose names became others, each by itself."""
    before, after = PurePosixPath(place).parts[:-1], PurePosixPath(new).parts[:-1]
    if len(before) == len(after):
        yield from ((one, other) for one, other in zip(before, after, strict=True) if one != other)


def _renamed(
    given: Manifest, names: Names, words: Wording, share: Share, published: Collection[str]
) -> Manifest:
    own = given.table.filter(~pl.col("dataset").is_in(list(published)))["image_id"]
    kept = {"keep": True, "drop": False}.get(
        share.readings, ~pl.col("image_id").is_in(own.implode())
    )
    kept = kept if isinstance(kept, pl.Expr) else pl.lit(kept)
    new = {column: pl.col(column).replace(names[column]) for column in COLUMNS}
    columns = [new[column].alias(column) for column in COLUMNS if names[column]]
    table = given.table.with_columns(
        *columns, reading=pl.when(kept).then(_worded("reading", given.table, words))
    )
    labels = given.labels.with_columns(
        new["image_id"],
        words=pl.when(kept).then(_worded("words", given.labels, words)),
        source=_worded("source", given.labels, words, names["author"]),
    )
    shapes = given.shapes.with_columns(
        new["image_id"],
        pl.col("author").replace(names["author"]),
        source=_worded("source", given.shapes, words),
    )
    remarks = given.remarks.with_columns(
        path=_worded("path", given.remarks, words),
        message=_worded("message", given.remarks, words, names["author"]),
    )
    originals = {new: place for column in PLACES for place, new in names[column].items()}
    return replace(
        given, table=table, labels=labels, shapes=shapes, remarks=remarks, originals=originals
    )


def _correctors(manifest: Manifest) -> set[str]:
    """Return who made corrections, by the sources of labels and by remarks."""
    texts = (*manifest.labels["source"].unique(), *manifest.remarks["message"].unique())
    return {found["author"] for text in texts if (found := _CORRECTED_BY.search(text))}


def _worded(
    column: str, table: pl.DataFrame, words: Wording, authors: Mapping[str, str] | None = None
) -> pl.Expr:
    """Return a column of sentences as they are passed on, `authors` of corrections by name."""

    def signed(found: re.Match[str]) -> str:
        """Return who made a correction as passed on; a short name counts in this place alone."""
        return found["before"] + (authors or {}).get(found["author"], found["author"])

    texts = table[column].drop_nulls().unique()
    changed = {
        text: words.of(_CORRECTED_BY.sub(signed, text) if authors else text) for text in texts
    }
    return pl.col(column).replace({text: new for text, new in changed.items() if text != new})
