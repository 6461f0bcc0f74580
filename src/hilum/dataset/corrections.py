"""Corrections files: what to leave out of a data set or to correct in it when it is read.

    [[correction]]
    image_id = "kaggle_masks/CHNCXR_0001_0"
    action = "rotate"
    value = "90"                                   # what the action of `NEEDS` needs
    rule = "image-rotated"                         # rule of the audit behind it; optional
    why = "CXR_png/CHNCXR_0001_0.png: appears …"   # for people; optional
    author = "Ann"                                 # who decided; optional, as is
    revision = 12                                  # the revision of a run's journal

The actions are those of `ACTIONS`; `NEEDS` lists the further keys of each. Files of the data are
never changed: corrections apply to the table, each leaves a remark there, and without the file
everything is as before. The order of entries makes no difference: each image, or cell of the table,
has one correction of a kind, and two that contradict each other are refused.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import polars as pl

from hilum.annotations.vocabulary import LABEL_NAMES, LOCAL, State, ancestors, concepts
from hilum.dataset import _corrected_tables
from hilum.dataset.manifest import DROPPED, LABEL_COLUMNS, REMARK_COLUMNS, Manifest
from hilum.errors import BadData, NotFound, unknown
from hilum.imaging.files.pose import Display
from hilum.safety import untrusted_files

ACTIONS = {
    "leave out": "the image is not part of the data",
    "keep one of pair": "the image is not part of the data, because `other` shows the same",
    "leave out mask": "the image stands without a lung mask",
    "exchange mask sides": "the right lung's mask is that of the left lung, and the reverse",
    "set patient": "the image is of the patient called `value` within its data set",
    "same patient as": "the image's patient and that of `other` are one",
    "set label": "the state of `concept` is `state`: present, absent, uncertain or not mentioned",
    "rotate": "the image is rotated clockwise by `value` degrees: 90, 180 or 270",
    "mirror": "left and right of the image are exchanged, after it was rotated",
    "invert": "dark and bright of the image are exchanged",
}
# The keys that an action needs beside the image; no other action has them.
NEEDS = {
    "keep one of pair": ("other",),
    "same patient as": ("other",),
    "set patient": ("value",),
    "set label": ("concept", "state"),
    "rotate": ("value",),
}
OF_PAIRS = ("keep one of pair", "same patient as")
_DISPLAYED = ("rotate", "mirror", "invert")
GONE = ("leave out", "keep one of pair")
ROTATIONS = ("90", "180", "270")  # degrees clockwise that make an image upright
STATES: dict[str, State | None] = {name: state for state, name in LABEL_NAMES.items()}
CORRECTED = "corrected"  # rule of labels that were set and of remarks on images that stay


@dataclass(frozen=True)
class Correction:
    """One entry of a corrections file; `NEEDS` says which actions have which of the details."""

    image_id: str
    action: str
    other: str | None = None  # image_id of the second image of a pair
    rule: str | None = None
    why: str | None = None
    value: str | None = None  # degrees clockwise, or the name of a patient
    concept: str | None = None
    state: str | None = None  # one of `STATES`
    author: str | None = None
    revision: int | None = None  # of the journal that the entry comes from

    @property
    def entry(self) -> dict[str, str | int]:
        """Return what a file states of it: keys and values, without those that are None."""
        stated = ((key, getattr(self, key)) for key in KEYS)
        return {key: value for key, value in stated if value is not None}

    @property
    def details(self) -> tuple[str | None, ...]:
        """Return the values of the keys that its action needs."""
        return tuple(getattr(self, key) for key in NEEDS.get(self.action, ()))

    @property
    def cell(self) -> tuple[str, str, str]:
        """Return what it decides: image, action, and the second image or the concept, else "".

        Two corrections of one cell are the same, or contradict each other.
        """
        return self.image_id, self.action, self.other or self.concept or ""


KEYS = tuple(one.name for one in fields(Correction))
DETAILS = tuple(dict.fromkeys(key for keys in NEEDS.values() for key in keys))


def read(path: Path) -> list[Correction]:
    """Read the entries of a file. Raises `NotFound`, or `BadData` with all faults of its form."""
    try:
        stated = untrusted_files.read_toml(path)
    except NotFound:
        raise NotFound(
            f"no corrections at {path}; `hilum propose-fixes` writes such a file, and [data] "
            "corrections in the recipe names it"
        ) from None
    entries = stated.pop("correction", [])
    more = [unknown("key", key, ["correction"]) for key in stated]
    if not isinstance(entries, list):
        raise BadData(
            f"{path}: expected entries that begin with [[correction]], got a single one; "
            "write the brackets twice"
        )
    return of_entries(entries, str(path), more)


def of_entries(entries: Sequence[Any], name: str, faults: Sequence[str] = ()) -> list[Correction]:
    """Return corrections from keys and values as `Correction.entry` states them.

    Raises `BadData`, which calls the whole `name`, with `faults` and all faults of their form.
    """
    found = [
        f"entry {number}: {fault}"
        for number, entry in enumerate(entries, 1)
        for fault in faults_of(entry)
    ]
    if faults or found:
        raise BadData.listing(name, [*faults, *found])
    return [Correction(**entry) for entry in entries]


def faults_of(entry: Any) -> list[str]:
    """Return what is wrong with the form of an entry, without knowing any data."""
    if not isinstance(entry, Mapping):
        return [f"expected keys and values, got {entry!r}"]
    faults = [unknown("key", key, KEYS) for key in entry if key not in KEYS]
    for key, value in entry.items():
        if key == "revision" and (not isinstance(value, int) or isinstance(value, bool)):
            faults.append(f"revision must be a whole number, got {value!r}")
        elif key in KEYS and key != "revision" and not isinstance(value, str):
            faults.append(f"{key} must be text, got {value!r}")
    faults += [f"{key} is missing" for key in ("image_id", "action") if key not in entry]
    action = entry.get("action")
    if not isinstance(action, str):
        return faults
    if action not in ACTIONS:
        return [*faults, unknown("action", action, ACTIONS)]
    return [*faults, *_faults_of_details(action, entry)]


_MEANING = {
    "other": 'the second image: other = "…"',
    "value": 'what to set: value = "…"',
    "concept": 'the finding: concept = "…"',
    "state": f'one of {", ".join(STATES)}: state = "…"',
}


def _faults_of_details(action: str, entry: Mapping[str, Any]) -> Iterator[str]:
    needed = NEEDS.get(action, ())
    yield from (f"'{action}' needs {_MEANING[key]}" for key in needed if key not in entry)
    for key in DETAILS:
        if key in entry and key not in needed:
            yield f"'{action}' has no {key}; delete it, or choose the action that was meant"
    value, concept, state = (entry.get(key) for key in ("value", "concept", "state"))
    if action == "rotate" and isinstance(value, str) and value not in ROTATIONS:
        yield f"rotate by {value!r}: expected degrees clockwise, one of {', '.join(ROTATIONS)}"
    if action == "set patient" and isinstance(value, str) and not value.strip():
        yield "set patient: expected a name, got an empty one"
    if action != "set label":
        return
    if isinstance(concept, str) and concept not in concepts() and not concept.startswith(LOCAL):
        yield unknown("concept", concept, concepts())
    if isinstance(state, str) and state not in STATES:
        yield unknown("state", state, STATES)


def apply(manifest: Manifest, corrections: Sequence[Correction], name: str) -> Manifest:
    """Return the manifest with every correction made, and a remark on each.

    `name` is that of the file in remarks and in sources of labels. Raises `BadData` with every
    fault of form, every image that is not in the table, every pair of which no image would stay,
    and all that contradict each other.
    """
    of_entries([one.entry for one in corrections], name)
    _refuse_impossible(manifest, corrections, name)
    path = dict(manifest.table.select("image_id", "path").iter_rows())
    ordered = _in_order(corrections)
    rows = [_remark(path[one.image_id], one, name) for one in ordered]
    remarks = pl.DataFrame(rows, schema=REMARK_COLUMNS, orient="row")
    for action in ACTIONS:  # in this order: patients are named before they are joined
        chosen = [one for one in ordered if one.action == action]
        manifest = _made(manifest, action, chosen, name) if chosen else manifest
    gone = [one.image_id for one in corrections if one.action in GONE]
    kept = manifest.only(manifest.table.filter(~pl.col("image_id").is_in(gone))["image_id"])
    corrected = replace(
        kept, remarks=pl.concat([manifest.remarks, remarks]).sort("path", "rule", "message")
    )
    corrected.check()
    return corrected


def counts(corrections: Sequence[Correction]) -> dict[str, int]:
    """Count distinct entries by action, in the order of `ACTIONS`."""
    found = Counter(one.action for one in _in_order(corrections))
    return {action: found[action] for action in ACTIONS if found[action]}


def together(before: Sequence[Correction], found: Sequence[Correction]) -> list[Correction]:
    """Return one list of `before` and of `found` on the data that were so corrected.

    What an audit finds of an image is of the image as it was displayed: an image that is rotated by
    90 degrees and still lies on its side is to be rotated by 180, one that was inverted and appears
    inverted is not to be inverted. Other entries of `found` replace those of the same cell.
    """
    cells = {one.cell for one in found}
    of_before, of_found = _by_image(before), _by_image(found)
    made = [
        one
        for one in before
        if one.cell not in cells and not (one.image_id in of_found and one.action in _DISPLAYED)
    ]
    made += [one for one in found if one.action not in _DISPLAYED]
    for image_id, given in of_found.items():
        earlier = of_before.get(image_id, {})
        display = _display(earlier).then(_display(given))
        values = {"rotate": str(display.rotated or ""), "mirror": display.mirrored}
        for action, value in (values | {"invert": display.inverted}).items():
            source = given.get(action) or earlier.get(action) or next(iter(given.values()))
            if value:
                of_action = value if isinstance(value, str) else None
                made.append(replace(source, action=action, value=of_action))
    return made


def _by_image(corrections: Sequence[Correction]) -> dict[str, dict[str, Correction]]:
    """Return the corrections of how images are displayed, by image and action."""
    found: dict[str, dict[str, Correction]] = defaultdict(dict)
    for one in corrections:
        if one.action in _DISPLAYED:
            found[one.image_id][one.action] = one
    return found


def _display(of_image: Mapping[str, Correction]) -> Display:
    rotation = of_image.get("rotate")
    degrees = int(rotation.value or 0) if rotation else 0
    return Display(degrees, "mirror" in of_image, "invert" in of_image)


def _in_order(corrections: Sequence[Correction]) -> list[Correction]:
    """Return each cell's correction, the latest revision of those that say the same, by cell."""
    distinct: dict[tuple[str, str, str], Correction] = {}
    for one in sorted(corrections, key=_age):
        distinct[one.cell] = one
    return [distinct[cell] for cell in sorted(distinct)]


def _age(one: Correction) -> tuple[int, str, str, str]:
    return one.revision or 0, one.author or "", one.rule or "", one.why or ""


def _refuse_impossible(manifest: Manifest, corrections: Sequence[Correction], name: str) -> None:
    known = set(manifest.table["image_id"])
    named = {
        image_id
        for one in corrections
        for image_id in (one.image_id, one.other)
        if image_id is not None
    }
    faults = [_nearest(image_id, known) for image_id in sorted(named - known)]
    gone = {one.image_id for one in corrections if one.action in GONE}
    for one in _in_order(corrections):
        if one.action in OF_PAIRS and one.other == one.image_id:
            faults.append(
                f"{one.image_id}: '{one.action}' names the image itself as other; "
                "name the second one"
            )
        elif one.action == "keep one of pair" and one.other in gone:
            faults.append(
                f"{one.image_id} is left out because {one.other} is kept, but that is left out "
                "too; keep one of the two"
            )
    faults += [*_contradictions(corrections), *_patients_with_prefix(manifest, corrections)]
    if faults:
        raise BadData.listing(f"{name} does not fit the data in {manifest.root}", faults)


def _contradictions(corrections: Sequence[Correction]) -> Iterator[str]:
    """Yield cells with several contents, and findings set present below one set absent."""
    by_cell: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for one in corrections:
        by_cell[one.cell].add(one.state or one.value or "")
    for (image_id, action, of), contents in sorted(by_cell.items()):
        if len(contents) > 1:
            what = " ".join(filter(None, (action, of)))
            listed = ", ".join(f"'{one}'" for one in sorted(contents))
            yield f"{image_id}: '{what}' to {listed}; keep one of these entries"
    states: dict[str, dict[str, str]] = defaultdict(dict)
    for one in _in_order(corrections):
        if one.action == "set label":
            states[one.image_id][one.concept or ""] = one.state or ""
    for image_id, stated in sorted(states.items()):
        for concept in sorted(name for name, state in stated.items() if state == "present"):
            for wider in ancestors(concept):
                if stated.get(wider) == "absent":
                    yield (
                        f"{image_id}: {concept} is set present and {wider}, which contains it, "
                        "absent; set both present, or both absent"
                    )


def _patients_with_prefix(manifest: Manifest, corrections: Sequence[Correction]) -> Iterator[str]:
    """Yield names of patients that state the data set, which would be stated twice."""
    dataset = dict(manifest.table.select("image_id", "dataset").iter_rows())
    for one in _in_order(corrections):
        start = f"{dataset.get(one.image_id)}/"
        if one.action == "set patient" and (one.value or "").startswith(start):
            yield (
                f"{one.image_id}: set patient to '{one.value}': the data set is prefixed by "
                f"itself; write '{(one.value or '').removeprefix(start)}'"
            )


def _nearest(image_id: str, known: set[str]) -> str:
    """Return the message of `unknown` without the known names, of which there may be 100,000."""
    message = unknown("image", image_id, known).partition(" Known:")[0]
    return (
        f"{message} ({len(known)} images are known; issues.parquet and manifest.parquet name them)"
    )


def _remark(path: str, one: Correction, name: str) -> tuple[str, str, str, str]:
    reason, origin = one.rule or one.why or "no reason given", _origin(one, name)
    if one.action in GONE:
        return path, "info", DROPPED, f"left out by {origin}: {reason}"
    what = " ".join([one.action, *map(str, one.details)])
    return path, "info", CORRECTED, f"{what}, by {origin}: {reason}"


def _origin(one: Correction, name: str) -> str:
    """Return where a correction comes from: "revision 12 by Ann", or the file's name."""
    place = name if one.revision is None else f"revision {one.revision}"
    return f"{place} by {one.author}" if one.author else place


def _made(manifest: Manifest, action: str, chosen: Sequence[Correction], name: str) -> Manifest:
    """Return the manifest with the corrections of one action made, all but leaving out."""
    images = [one.image_id for one in chosen]
    values = {one.image_id: one.value or "" for one in chosen}
    match action:
        case "leave out mask":
            return _corrected_tables.without_masks(manifest, images)
        case "exchange mask sides":
            return _corrected_tables.with_sides_exchanged(manifest, images)
        case "set patient":
            return _corrected_tables.of_patients(manifest, values)
        case "same patient as":
            pairs = [(one.image_id, one.other or one.image_id) for one in chosen]
            return _corrected_tables.with_patients_joined(manifest, pairs)
        case "set label":
            return _corrected_tables.labelled(manifest, _labels(chosen, name), CORRECTED)
        case "rotate":
            degrees = {image_id: int(value) for image_id, value in values.items()}
            return _corrected_tables.rotated(manifest, degrees)
        case "mirror":
            return _corrected_tables.displayed(manifest, "mirrored", dict.fromkeys(images, True))
        case "invert":
            return _corrected_tables.displayed(manifest, "inverted", dict.fromkeys(images, True))
    return manifest


def _labels(chosen: Sequence[Correction], name: str) -> pl.DataFrame:
    """Return image_id, concept, state and source of labels to set; a null state takes one away."""
    return pl.DataFrame(
        [
            (
                one.image_id,
                one.concept,
                STATES[one.state or ""],
                f"corrections: {_origin(one, name)}",
            )
            for one in chosen
        ],
        schema={key: LABEL_COLUMNS[key] for key in ("image_id", "concept", "state", "source")},
        orient="row",
    )
