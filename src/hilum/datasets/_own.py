"""How a person's own set is laid out: guessed from the header of its one CSV, or said in `hilum.toml` (keys in `hilum.datasets.folder`)."""

from __future__ import annotations

import csv
import io
import re
import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hilum.errors import BadData, BadRecipe, NotFound, unknown
from hilum.files import raster, text
from hilum.vocabulary import LOCAL, State, concepts

FILE = "hilum.toml"
NORMAL = ("normal", "no finding", "healthy", "negative", "none")
MASKS = tuple(f"{folder}/{{stem}}{tail}.png" for folder in ("masks", "mask") for tail in ("", "_mask"))
COLUMNS = {  # what the columns may be called where nothing says it
    "image": ("image", "path", "file", "filename", "image_path", "image index"),
    "label": ("label", "finding", "class", "diagnosis"),
    "patient": ("patient", "patient_id", "patientid", "patient id"),
    "part": ("part", "split"),
    "sex": ("sex", "gender"),
    "age": ("age", "age_years"),
    "view": ("view", "view position"),
    "mask": ("mask", "lung_mask"),
}
UNLISTED = {"absent": State.ABSENT, "not mentioned": None}
_WORDS = "a list of texts"
_KINDS = {
    "tables": _WORDS, **dict.fromkeys((*COLUMNS, "separator", "patient_pattern", "unlisted", "blank"), "text"),
    **dict.fromkeys(("drop", "normal", "present", "absent", "uncertain", "masks"), _WORDS), "terms": "a section of texts",
}  # fmt: skip


def _with_any_ending(place: str) -> list[str]:
    """The place of a PNG, and as any other kind of image."""
    stem = place.removesuffix(".png")
    return [place, *(stem + written for ending in raster.ENDINGS for written in (ending, ending.upper()) if written != ".png")]


@dataclass(frozen=True)
class Plan:
    """Where things stand. Words of labels are compared as they are written, `normal` ones in any case."""

    tables: tuple[str, ...] = ()  # none: pictures lie in class folders
    columns: Mapping[str, str] = field(default_factory=dict)  # by what they hold, the keys of COLUMNS
    separator: str | None = None  # between findings in a cell; none: a cell is one finding
    terms: Mapping[str, str] | None = None  # concept by word; none: words are looked up in the vocabulary
    values: Mapping[str, State | None] | None = None  # states by cell, where each term has a column of its own
    drop: frozenset[str] = frozenset()
    normal: frozenset[str] = frozenset(NORMAL)
    unlisted: State | None = State.ABSENT  # of the findings that a labelled picture is not said to have
    patient_pattern: re.Pattern | None = None
    masks: tuple[str, ...] = MASKS

    def mask_for(self, root: Path, picture: Path) -> str | None:
        """The first mask that is there for the picture at `picture` below `root`."""
        named = (pattern.format(stem=picture.stem, folder=picture.parent.as_posix()) for pattern in self.masks)
        places = (place for one in named for place in ([one] if self.masks is not MASKS else _with_any_ending(one)))
        return next((place.removeprefix("./") for place in places if (root / place).is_file()), None)

    @property
    def mask_folders(self) -> set[str]:
        return {pattern.partition("/")[0] for pattern in self.masks if "/" in pattern and not pattern.startswith("{")}


def table(path: Path) -> tuple[csv.DictReader, str | None]:
    """The lines of a table whose header's cells are stripped, and its encoding where that is not UTF-8."""
    words, encoding = text.read(path)
    lines = csv.DictReader(io.StringIO(words), delimiter=text.delimiter(words))
    lines.fieldnames = [(name or "").strip() for name in lines.fieldnames or []]
    return lines, encoding


def guess(root: Path) -> Plan:
    """From the one CSV of a folder, or its absence. Raises `BadData`."""
    tables = sorted(root.glob("*.csv"))
    if not tables:
        return Plan()
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise BadData(f'{root}: several CSV files ({names}); leave the one that lists the pictures, or name it in {FILE}: tables = ["{tables[0].name}"]')
    header = table(tables[0])[0].fieldnames
    names = {name.lower(): name for name in header}
    columns = {key: next((names[name] for name in known if name in names), None) for key, known in COLUMNS.items()}
    if columns["image"] is None:
        got, expected = ", ".join(header) or "no header", ", ".join(COLUMNS["image"])
        raise BadData(f'{tables[0]}: no column names the pictures: got {got}; expected one of {expected}; rename it, or name it in {FILE}: image = "…"')
    return Plan((tables[0].name,), {key: name for key, name in columns.items() if name})


def read(root: Path) -> Plan | None:
    """From the folder's `hilum.toml`; None where there is none. Raises `BadRecipe` with all that is wrong with it."""
    path = root / FILE
    if not path.is_file():
        return None
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadRecipe(f"{path} is not TOML: {error}") from error
    faults = [unknown("key", key, _KINDS) for key in said if key not in _KINDS]
    faults += [f"{key} must be {kind}, got {said[key]!r}" for key, kind in _KINDS.items() if key in said and not _fits(said[key], kind)]
    sound = {key: value for key, value in said.items() if key in _KINDS and _fits(value, _KINDS[key])}
    faults += _impossible(root, sound)
    if faults:
        raise BadRecipe("\n".join([f"{path}: {len(faults)} fault{'s' * (len(faults) != 1)}", *(f"  {fault}" for fault in faults)]))
    return _plan(sound)


def _fits(value: object, kind: str) -> bool:
    if kind == "text":
        return isinstance(value, str) and value != ""
    parts = value.values() if isinstance(value, dict) else value
    return isinstance(value, list if kind == _WORDS else dict) and bool(parts) and all(isinstance(part, str) for part in parts)


def _plan(said: Mapping[str, Any]) -> Plan:
    states = {"present": State.PRESENT, "absent": State.ABSENT, "uncertain": State.UNCERTAIN}
    values = {value: state for key, state in states.items() for value in said.get(key, ())}
    return Plan(
        tuple(said.get("tables", ())), {key: said[key] for key in COLUMNS if key in said}, said.get("separator"), said.get("terms"),
        {"": UNLISTED[said.get("blank", "not mentioned")], **values} if "present" in said else None, frozenset(said.get("drop", ())),
        frozenset(word.casefold() for word in said.get("normal", NORMAL)), UNLISTED[said.get("unlisted", "absent")],
        re.compile(said["patient_pattern"]) if "patient_pattern" in said else None, tuple(said.get("masks", MASKS)),
    )  # fmt: skip


def _impossible(root: Path, said: Mapping[str, Any]) -> list[str]:
    """Values of the right kind that cannot be, or do not fit one another or the tables."""
    faults = [f"{key} must be one of {', '.join(UNLISTED)}, got '{said[key]}'" for key in ("unlisted", "blank") if said.get(key, "absent") not in UNLISTED]
    for word, concept in said.get("terms", {}).items():
        if concept not in concepts() and not concept.startswith(LOCAL):
            faults.append(f"[terms] '{word}': {NotFound.named('concept', concept, concepts())}, or {LOCAL}… for one of your own")
    faults += [f"masks: {fault}" for pattern in said.get("masks", ()) for fault in _faults_of_pattern(pattern)]
    if "patient_pattern" in said:
        try:
            if "patient" not in re.compile(said["patient_pattern"]).groupindex:
                faults.append(f"patient_pattern must have a group (?P<patient>…), got '{said['patient_pattern']}'")
        except re.error as error:
            faults.append(f"patient_pattern is no regular expression ({error}): '{said['patient_pattern']}'")
        if "patient" in said:
            faults.append("patient and patient_pattern both name the patients; keep one of them")
    if "label" in said and "present" in said:
        faults.append("label names one column of findings, present the values of one column per finding; keep one of them")
    for key, needed in (("present", "terms"), ("absent", "present"), ("uncertain", "present"), ("blank", "present"), ("separator", "label"), ("image", "tables")):
        if key in said and needed not in said:
            faults.append(f"{key} needs {needed}, which is missing")
    values = [value for key in ("present", "absent", "uncertain") for value in said.get(key, ())]
    faults += [f"'{value}' stands for two states" for value in sorted({value for value in values if values.count(value) > 1})]
    return faults + _faults_of_tables(root, said)


def _faults_of_pattern(pattern: str) -> list[str]:
    try:
        strange = {name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None} - {"stem", "folder"}
    except ValueError as error:
        return [f"'{pattern}' is no pattern ({error}); expected e.g. 'masks/{{stem}}_mask.png'"]
    leads_out = pattern.startswith("/") or ".." in pattern.split("/")
    return [f"'{pattern}' leads out of the folder"] * leads_out + [unknown("part of a pattern", name, ("stem", "folder")) for name in sorted(strange)]


def _faults_of_tables(root: Path, said: Mapping[str, Any]) -> list[str]:
    """Tables that are not there, and columns that are not in them."""
    faults = []
    columns = {key: said[key] for key in COLUMNS if key in said}
    if said.get("tables") and "image" not in said:
        faults.append('image is missing: say which column names the pictures: image = "…"')
    if not said.get("tables"):
        return faults + [f"{key} names a column, but tables is missing" for key in columns if key != "image"]
    for name in said["tables"]:
        place = root / name
        if name.startswith("/") or ".." in Path(name).parts:
            faults.append(f"tables: '{name}' leads out of the folder")
        elif not place.is_file():
            faults.append("tables: " + unknown("file", name, (path.name for path in root.iterdir() if path.is_file())))
        else:
            header = table(place)[0].fieldnames
            wanted = columns | ({f"[terms] {word}": word for word in said.get("terms", ())} if "present" in said else {})
            faults += [f"{key}: " + unknown(f"column of {name}", column, header) for key, column in wanted.items() if column not in header]
    return faults
