"""Reading and writing of `hilum.toml`, which states how a folder is read.

Keys that the file leaves out are worked out from evidence.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path

from hilum.annotations.vocabulary import LOCAL, concepts
from hilum.dataset.plan import patterns
from hilum.errors import BadData, BadRecipe, NotFound, plural, unknown
from hilum.imaging.files import label_image, opened
from hilum.safety import untrusted_files

FILE = "hilum.toml"
BLANKS = ("not mentioned", "absent")
LEVELS = ("part", "label", "patient", "study", "view", "source")
Value = str | Sequence[str] | Mapping[str, str] | None  # of one key
Values = Mapping[str, Value]  # keys of hilum.toml; a section is a key with a mapping


@dataclass(frozen=True)
class Settings:
    """The keys of hilum.toml; null or empty where the file does not state them.

    Columns are named "name", or "table.csv:name" for the column of one table only.
    """

    tables: tuple[str, ...] | None = None
    unused: tuple[str, ...] = ()
    folders: tuple[str, ...] | None = None
    patient_pattern: str | None = None
    image: tuple[str, ...] = ()
    patient: tuple[str, ...] = ()
    study: tuple[str, ...] = ()
    view: tuple[str, ...] = ()
    sex: tuple[str, ...] = ()
    age: tuple[str, ...] = ()
    birth_date: tuple[str, ...] = ()
    study_date: tuple[str, ...] = ()
    part: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    reading: tuple[str, ...] = ()
    mask: tuple[str, ...] = ()
    right_mask: tuple[str, ...] = ()
    left_mask: tuple[str, ...] = ()
    reader: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    modality: tuple[str, ...] = ()
    laterality: tuple[str, ...] = ()
    height: tuple[str, ...] = ()
    width: tuple[str, ...] = ()
    box: tuple[str, ...] = ()
    run_lengths: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    unused_columns: tuple[str, ...] = ()
    separator: str | None = None
    masks: tuple[str, ...] | None = None
    right_masks: tuple[str, ...] = ()
    left_masks: tuple[str, ...] = ()
    other_masks: tuple[str, ...] = ()
    normal: tuple[str, ...] = ()
    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    uncertain: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    blank: str | None = None
    unlisted: str | None = None
    terms: Mapping[str, str] = field(default_factory=dict)
    mask_values: Mapping[str, str] = field(default_factory=dict)


COLUMN_KEYS = (
    "image",
    "patient",
    "study",
    "view",
    "sex",
    "age",
    "birth_date",
    "study_date",
    "part",
    "label",
    "findings",
    "reading",
    "mask",
    "right_mask",
    "left_mask",
    "reader",
    "source",
    "body_part",
    "modality",
    "laterality",
    "height",
    "width",
    "box",
    "run_lengths",
    "key",
    "unused_columns",
)
_TEXTS = ("patient_pattern", "separator", "blank", "unlisted")
_SECTIONS = ("terms", "mask_values")


def read(root: Path) -> Settings | None:
    """Read a folder's hilum.toml; None where there is none. Raises `BadRecipe` with all faults."""
    path = root / FILE
    if not os.path.lexists(path):
        return None
    try:
        said = untrusted_files.read_toml(path, root=opened.root())
    except (BadData, NotFound) as error:  # a link to nothing, too
        raise BadRecipe(str(error)) from error
    return parse(said, str(path))


def parse(said: Mapping[str, object], where: str) -> Settings:
    """Check the values of the TOML file `where`. Raises `BadRecipe` with all faults."""
    known = [part.name for part in fields(Settings)]
    faults = [unknown("key", name, known) for name in said if name not in known]
    values: dict[str, Value] = {}
    for name, value in said.items():
        if name in known:
            values[name], fault = _fitted(name, value)
            faults += [fault] if fault else []
    settings = Settings() if faults else replace(Settings(), **values)
    faults = faults or _impossible(settings)
    if faults:
        listed = "\n".join(f"  {fault}" for fault in faults)
        raise BadRecipe(f"{where}: {plural(len(faults), 'fault')}\n{listed}")
    return settings


def _fitted(name: str, value: object) -> tuple[Value, str | None]:
    """Return a key's value as its type in `Settings`, and what is wrong with it or None."""
    if name in _SECTIONS:
        if isinstance(value, dict) and all(isinstance(part, str) for part in value.values()):
            return value, None
        return {}, f"[{name}] must be a section of texts, got {value!r}"
    if name in _TEXTS:
        if isinstance(value, str) and value:
            return value, None
        return None, f"{name} must be a text, got {value!r}"
    listed = [value] if isinstance(value, str) else value
    if isinstance(listed, list) and all(isinstance(part, str) for part in listed):
        return tuple(listed), None
    return (), f"{name} must be a text or a list of texts, got {value!r}"


def _impossible(settings: Settings) -> list[str]:
    """Return the faults of values that have the right type but are impossible or contradictory."""
    faults = []
    for name in ("blank", "unlisted"):
        if getattr(settings, name) not in (None, *BLANKS):
            faults.append(
                f"{name} must be one of {', '.join(BLANKS)}, got '{getattr(settings, name)}'"
            )
    for word, meant in settings.terms.items():
        concept = meant.removeprefix("no ").removeprefix("uncertain ")
        if concept not in concepts() and not concept.startswith(LOCAL):
            near = NotFound.named("concept", concept, concepts())
            faults.append(f"[terms] '{word}': {near}, or {LOCAL}… for one of your own")
    for value, role in settings.mask_values.items():
        if role not in label_image.ROLES:
            faults.append(f"[mask_values] '{value}': {unknown('role', role, label_image.ROLES)}")
    faults += _faults_of_patterns(settings) + _faults_of_words(settings)
    return faults


def _faults_of_patterns(settings: Settings) -> list[str]:
    faults = []
    for name in ("tables", "unused", "masks", "right_masks", "left_masks", "other_masks"):
        for pattern in getattr(settings, name) or ():
            if pattern.startswith("/") or ".." in pattern.split("/"):
                faults.append(f"{name}: '{pattern}' leads out of the folder")
            odd = set(re.findall(r"\{([^{}]*)\}?", pattern)) - {"stem", "folder"}
            faults += [
                f"{name}: " + unknown("part of a pattern", part, ("stem", "folder"))
                for part in sorted(odd)
            ]
    for pattern in settings.folders or ():
        odd = set(re.findall(r"\{([^{}]*)\}?", pattern)) - set(LEVELS)
        faults += ["folders: " + unknown("level", part, LEVELS) for part in sorted(odd)]
    if settings.patient_pattern is not None:
        if fault := patterns.fault(settings.patient_pattern):
            faults.append(f"patient_pattern '{settings.patient_pattern[:200]}' {fault}")
        if settings.patient:
            faults.append("patient and patient_pattern both name the patients; keep one of them")
    return faults


def _faults_of_words(settings: Settings) -> list[str]:
    """Return the faults of words that have two meanings."""
    first: dict[str, str] = {}
    faults = []
    for name in ("normal", "unlabelled", "drop"):
        for word in getattr(settings, name):
            if first.setdefault(word, name) != name:
                faults.append(f"'{word}' stands under {first[word]} and {name}; keep one of them")
    states: dict[str, str] = {}
    for name in ("present", "absent", "uncertain"):
        for word in getattr(settings, name):
            if states.setdefault(word, name) != name:
                faults.append(f"'{word}' stands for two states, {states[word]} and {name}")
    return faults + [
        f"'{word}' stands under {first[word]} and in [terms]; keep one of them"
        for word in settings.terms
        if word in first
    ]


def to_toml(settings: Settings | Values, comments: Mapping[str, str] | None = None) -> str:
    """Return settings as TOML, keys before sections, without those that have their default.

    `comments` by key follow on the key's own line.
    """
    values = settings if isinstance(settings, Mapping) else _changed(settings)
    notes = {name: f"  # {comment}" for name, comment in (comments or {}).items()}
    lines, sections = [], []
    for name, value in values.items():
        if isinstance(value, str):
            lines.append(f"{name} = {_text(value)}{notes.get(name, '')}")
        elif value is not None and not isinstance(value, Mapping):
            lines.append(f"{name} = [{', '.join(map(_text, value))}]{notes.get(name, '')}")
    for name in _SECTIONS:
        section = values.get(name)
        if section and isinstance(section, Mapping):
            sections.append(f"[{name}]{notes.get(name, '')}")
            sections += [f"{_key(word)} = {_text(meant)}" for word, meant in section.items()]
    return "\n".join([*lines, *sections]) + "\n"


def _changed(settings: Settings) -> dict[str, Value]:
    """Return the values that differ from their defaults."""
    values: dict[str, Value] = {}
    for part in fields(Settings):
        default = part.default if part.default is not MISSING else {}
        if getattr(settings, part.name) != default:
            values[part.name] = getattr(settings, part.name)
    return values


def merged(settings: Settings, more: Iterable[Values]) -> Values:
    """Return settings with further keys: lists and sections are joined, texts replaced."""
    values = _changed(settings)
    for answer in more:
        for name, value in answer.items():
            values[name] = _joined(values.get(name), value)
    return values


def _joined(before: Value, value: Value) -> Value:
    if isinstance(value, Mapping):
        return {**(before if isinstance(before, Mapping) else {}), **value}
    if isinstance(value, str) or value is None:
        return value
    return tuple(dict.fromkeys((*(before or ()), *value)))


def _text(value: str) -> str:
    """Quote a text for TOML: a JSON string is a TOML basic string once DEL is escaped as well."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(word: str) -> str:
    return word if re.fullmatch(r"[A-Za-z0-9_-]+", word) else _text(word)
