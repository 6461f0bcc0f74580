"""Read and write `hilum.toml`: what a person settles of how a folder is read. What it leaves out is worked out from evidence."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from hilum.annotations.vocabulary import LOCAL, concepts
from hilum.dataset.plan import patterns
from hilum.errors import BadData, BadRecipe, NotFound, unknown
from hilum.imaging.files import label_image, opened
from hilum.safety import untrusted_files

FILE = "hilum.toml"
BLANKS = ("not mentioned", "absent")
LEVELS = ("part", "label", "patient", "study", "view", "source")


@dataclass(frozen=True)
class Settings:
    """The keys of hilum.toml. A column is written as its name, or as "table.csv:name" where one table only is meant."""

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
    """Read the folder's hilum.toml; None where there is none. Raises `BadRecipe` with all that is wrong with it."""
    path = root / FILE
    if not os.path.lexists(path):
        return None
    try:
        said = untrusted_files.read_toml(path, root=opened.root())
    except (BadData, NotFound) as error:  # a link to nothing, too
        raise BadRecipe(str(error)) from error
    return parse(said, str(path))


def parse(said: Mapping[str, Any], where: str) -> Settings:
    """Check plain values and build the settings. Raises `BadRecipe` with every fault."""
    known = [part.name for part in fields(Settings)]
    faults = [unknown("key", name, known) for name in said if name not in known]
    values: dict[str, Any] = {}
    for name, value in said.items():
        if name in known:
            values[name], fault = _fitted(name, value)
            faults += [fault] if fault else []
    if not faults:
        faults = _impossible(Settings(**values))
    if faults:
        listed = "\n".join(f"  {fault}" for fault in faults)
        raise BadRecipe(f"{where}: {len(faults)} fault{'s' * (len(faults) != 1)}\n{listed}")
    return Settings(**values)


def _fitted(name: str, value: object) -> tuple[Any, str | None]:
    """Return a key's value in its own kind, or the fault."""
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
    """List values of the right kind that cannot be, or do not fit one another."""
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
    """List words that stand for two things."""
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


def to_toml(
    settings: Settings | Mapping[str, Any], comments: Mapping[str, str] | None = None
) -> str:
    """Write settings as TOML: keys first, then sections; what is at its default is left out. `comments` follow their key."""
    values = settings if isinstance(settings, Mapping) else _changed(settings)
    remarks = comments or {}
    lines = []
    for name, value in values.items():
        if name not in _SECTIONS:
            shown = _text(value) if isinstance(value, str) else f"[{', '.join(map(_text, value))}]"
            lines.append(f"{name} = {shown}" + (f"  # {remarks[name]}" if name in remarks else ""))
    for name in _SECTIONS:
        if values.get(name):
            lines += [f"[{name}]" + (f"  # {remarks[name]}" if name in remarks else "")]
            lines += [f"{_key(word)} = {_text(meant)}" for word, meant in values[name].items()]
    return "\n".join(lines) + "\n"


def _changed(settings: Settings) -> dict[str, Any]:
    values = {}
    for part in fields(Settings):
        default = part.default if part.default is not MISSING else {}
        if getattr(settings, part.name) != default:
            values[part.name] = getattr(settings, part.name)
    return values


def merged(settings: Settings, more: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Join settings with further lines: lists grow, sections are joined, texts are replaced."""
    values = _changed(settings)
    for answer in more:
        for name, value in answer.items():
            if name in _SECTIONS:
                values[name] = {**values.get(name, {}), **value}
            elif isinstance(value, str):
                values[name] = value
            else:
                values[name] = tuple(dict.fromkeys((*(values.get(name) or ()), *value)))
    return values


def _text(value: str) -> str:
    """Quote a text for TOML: a JSON string without surrogates is a TOML basic string, but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(word: str) -> str:
    return word if re.fullmatch(r"[A-Za-z0-9_-]+", word) else _text(word)
