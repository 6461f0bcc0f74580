"""Check the values of a recipe's sections: names, kinds, and ranges; every fault is a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from functools import singledispatch
from typing import Any, NamedTuple

from hilum import plugins
from hilum.annotations import eligibility
from hilum.config.sections import (
    ALL,
    AREAS,
    PRETRAINED,
    SHARE_CHOICES,
    UNCERTAIN,
    UNMENTIONED,
    Anomaly,
    Classify,
    Evaluate,
    LungCrop,
    Pixels,
    Segment,
    Share,
    Split,
)
from hilum.errors import unknown

Section = object  # an instance of one of the dataclasses of `hilum.config.sections`
_SIZE = "a multiple of 32 from 64 to 1024"  # networks halve the side up to five times
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "a list of texts",
}


def build_section(kind: type, name: str, values: Mapping[str, object], faults: list[str]) -> Any:
    """Return the section `name`, an instance of `kind`, made from plain values.

    Adds to `faults` a sentence for each key that is unknown or of the wrong kind; the result is
    None where `faults` is not empty. Keys that are not the section's own are settings of its model.
    """
    own = {part.name: part.default for part in fields(kind) if part.default is not MISSING}
    expected: dict[str, object] = {}
    settings = {key: value for key, value in values.items() if key not in own}
    if settings and hasattr(kind(), "settings"):
        model = values.get("model", own["model"])
        if fault := _model_fault(model, settings):
            faults.append(f"[{name}] {fault}")
            return None
        expected = plugins.defaults("models", str(model), "Settings")
    known = own | expected
    for key, value in values.items():
        if key not in known:
            faults.append(f"[{name}] {unknown('key', key, known)}")
        elif not _fits(value, known[key]):
            faults.append(f"[{name}] {key} must be {_KINDS[type(known[key])]}, got {value!r}")
    if faults:
        return None
    plain = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in values.items()
        if key in own
    }
    return kind(**plain, settings=settings) if expected else kind(**plain)


def _model_fault(model: object, settings: Mapping[str, object]) -> str:
    """Say why `model` cannot take settings; "" where it can."""
    if model == PRETRAINED:
        listed = ", ".join(settings)
        return f'the model "{PRETRAINED}" is trained already and takes no {listed}; leave it out'
    known = plugins.names("models")
    return "" if model in known else unknown("model", str(model), known)


def _fits(value: object, example: object) -> bool:
    if isinstance(example, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(example, tuple):
        return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    return type(value) is type(example)


class _Rule(NamedTuple):
    holds: bool
    keys: str
    expected: str
    got: object


def range_faults(sections: Mapping[str, Section]) -> list[str]:
    """Return a sentence for each value that is of the right kind and out of range."""
    found = []
    for name, section in sections.items():
        for rule in _rules(section):
            if not rule.holds:
                got = f"'{rule.got}'" if isinstance(rule.got, str) else rule.got
                found.append(f"[{name}] {rule.keys} must be {rule.expected}, got {got}")
        found += [f"[{name}] {fault}" for fault in _unknown_names(section)]
    return found


@singledispatch
def _rules(section: Section) -> list[_Rule]:
    return []


@_rules.register
def _(pixels: Pixels) -> list[_Rule]:
    return [
        _Rule(_is_size(pixels.size), "size", _SIZE, pixels.size),
        _choice("normalisation", pixels.normalisation, ("percentiles", "full")),
        _Rule(pixels.depth in (8, 16), "depth", "8 or 16", pixels.depth),
    ]


@_rules.register
def _(split: Split) -> list[_Rule]:
    parts = (split.train, split.tune, split.test)
    sound = min(parts) > 0 and abs(sum(parts) - 1) < 1e-6
    at_least = split.min_per_class >= 1
    folds = "0 (where needed), 1 (never) or 2 to 20"
    return [
        _Rule(sound, "train, tune and test", "above 0 and sum to 1", parts),
        _choice("official", split.official, ("auto", "use", "ignore")),
        _Rule(at_least, "min_per_class", "at least 1", split.min_per_class),
        _Rule(0 <= split.folds <= 20, "folds", folds, split.folds),
    ]


@_rules.register
def _(segment: Segment) -> list[_Rule]:
    return [_Rule(segment.folds >= 2, "folds", "at least 2", segment.folds)]


@_rules.register
def _(crop: LungCrop) -> list[_Rule]:
    quality = crop.min_mask_quality
    return [
        _Rule(_is_size(crop.size), "size", _SIZE, crop.size),
        _Rule(0 <= crop.margin <= 1, "margin", "from 0 to 1", crop.margin),
        _choice("area", crop.area, AREAS),
        _Rule(0 <= quality <= 1, "min_mask_quality", "from 0 to 1", quality),
    ]


@_rules.register
def _(classify: Classify) -> list[_Rule]:
    others = list(classify.other_findings)
    alone = ALL not in others or len(others) == 1
    return [
        _choice("uncertain", classify.uncertain, UNCERTAIN),
        _choice("unmentioned", classify.unmentioned, UNMENTIONED),
        _Rule(alone, "other_findings", f"['{ALL}'] or concepts", others),
    ]


@_rules.register
def _(evaluate: Evaluate) -> list[_Rule]:
    confidence, prevalence = evaluate.confidence, evaluate.prevalence
    possible = 0 <= prevalence < 1
    return [
        _Rule(evaluate.bootstrap >= 100, "bootstrap", "at least 100", evaluate.bootstrap),
        _Rule(0.5 <= confidence < 1, "confidence", "from 0.5 to below 1", confidence),
        _Rule(possible, "prevalence", "from 0 (none given) to below 1", prevalence),
    ]


@_rules.register
def _(share: Share) -> list[_Rule]:
    return [_choice(key, getattr(share, key), words) for key, words in SHARE_CHOICES.items()]


def _is_size(side: int) -> bool:
    return side % 32 == 0 and 64 <= side <= 1024


def _choice(key: str, got: str, words: Iterable[str]) -> _Rule:
    words = tuple(words)
    return _Rule(got in words, key, " or ".join(f"'{word}'" for word in words), got)


def _unknown_names(section: Section) -> list[str]:
    """Return a sentence with the nearest name for each name that does not exist."""
    if isinstance(section, Split):
        kind = "view, body part or modality"
        return [
            f"include: {unknown(kind, value.upper(), eligibility.terms())}"
            for value in eligibility.unknown_terms(section.include)
        ]
    if isinstance(section, Segment | Classify | Anomaly):
        models = plugins.names("models")
        fits = section.model in models
        if not fits and not (isinstance(section, Segment) and section.model == PRETRAINED):
            return [unknown("model", section.model, models)]
    return []
