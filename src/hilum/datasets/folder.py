'''A person's own folder of radiographs (.png, .jpg, .tif, .dcm): class folders, a CSV, pictures alone, or what a `hilum.toml` says.

    NORMAL/a.png  PNEUMONIA/b.png                     the folder's name is the label
    train/NORMAL/a.png  test/PNEUMONIA/b.png          and above it the part of a split, kept as the given one
    patient001/a.png  patient002/b.png  …             more than 30 folders, none named as a finding, are patients
    labels.csv                                        one row a picture

A CSV needs a column of pictures (`image`, `path`, `file` or `filename`), below the folder. It may have `label` (a finding's name or
normal), `patient`, `part`, `sex`, `age`, `view` and `mask`. Masks of both lungs may also lie in `masks/`, named as their picture or
with `_mask` behind it. Names of findings are looked up in the vocabulary; others stay the user's own (`local:…`).

Any other form is said in a file `hilum.toml` in the folder. With one column of findings, several parted by a sign:

    tables = ["labels.csv"]                    # none: class folders, whose names are the words of [terms]
    image = "File"                             # which column names the picture; likewise patient, part, sex, age, view, mask
    patient_pattern = "^(?P<patient>p[0-9]+)_" # or from the picture's path
    label = "Findings"                         # cells such as "TB|Effusion"
    separator = "|"
    normal = ["No finding"]                    # words that say that there is none
    drop = ["Rotated"]                         # words that are no finding
    masks = ["lungs/{stem}_mask.png"]          # {stem} and {folder} of the picture
    [terms]                                    # every other word must stand here
    TB = "tuberculosis"
    Effusion = "effusion"

With a column for each finding, the words of [terms] are the columns, and in place of label and separator stand

    present = ["1"]                            # and so absent, uncertain
    absent = ["0"]
    uncertain = ["-1"]
    blank = "not mentioned"                    # or "absent"

A picture with a label is taken to be without the findings that its label does not name (rule "not listed"); `unlisted = "not
mentioned"` leaves them open. DICOM files tell patient, sex, age, view, body part, modality
and spacing where nothing else does; a file name tells the view where it spells it out (`1_lateral.png`).
'''

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hilum import acquisition, phantom, store
from hilum.datasets import _own
from hilum.errors import BadData
from hilum.files import dicom, picture, raster
from hilum.manifest import DROPPED, Label, Remark, Row
from hilum.shelf import Card
from hilum.vocabulary import LOCAL, State, ancestors, concept_for

CARD = Card(
    title="A folder of your own",
    licence="yours to state",
    caveats="Without a patient column every picture is taken for a patient of its own; if a person has several, a split cannot know it.",
)
TERMS = None
NOT_LISTED = "not listed"
MOST_CLASSES = 30
PARTS = {"train": "train", "training": "train", "val": "tune", "valid": "tune", "validation": "tune", "tune": "tune", "test": "test"}
_SEXES = {"f": "female", "female": "female", "m": "male", "male": "male", "o": "other", "other": "other"}
_STRENGTH = (State.PRESENT, State.UNCERTAIN, State.ABSENT)  # which one counts where two words are one finding


@dataclass(frozen=True)
class _Listed:
    """One picture before it is known which findings there are."""

    row: Row
    told: Mapping[str, State] | None  # by term; null: nothing is said of findings
    source: str
    rule: str


def detect(root: Path) -> bool:
    return (root / _own.FILE).is_file() or next(_files(root, picture.ENDINGS), None) is not None or next(root.glob("*.csv"), None) is not None


def terms(root: Path) -> Mapping[str, str] | None:
    """Concept by word as the folder's `hilum.toml` has it; None where words are looked up in the vocabulary."""
    plan = _own.read(root)
    return plan.terms if plan else None


def rows(root: Path) -> Iterator[Row | Remark]:
    plan = _own.read(root) or _own.guess(root)
    listed, remarks = _from_tables(root, plan) if plan.tables else _from_folders(root, plan)
    listed, dropped = _known_words(plan, _with_headers(root, listed))
    if all(item.row.patient == item.row.name for item in listed):
        where = plan.tables[0] if plan.tables else "."
        remarks.append(Remark(where, "warning", "no-patients", "nothing names the patients: every picture is taken for a patient of its own"))
    yield from (*remarks, *dropped)
    concept_of = plan.terms or {word: concept_for(word) for item in listed for word in item.told or ()}
    for item in listed:
        yield replace(item.row, labels=_labels(plan, concept_of, item))


def _known_words(plan: _own.Plan, listed: list[_Listed]) -> tuple[list[_Listed], list[Remark]]:
    """Without the words of `normal` and `drop`, and a remark on each picture that is both normal and not. Raises `BadData` with a count for each word that [terms] lacks."""
    strange: dict[str, list[str]] = {}
    dropped: Counter[str] = Counter()
    kept, remarks = [], []
    for item in listed:
        words = item.told or {}
        dropped.update(plan.drop & words.keys())
        told = {word: state for word, state in words.items() if word not in plan.drop and word.casefold() not in plan.normal}
        for word in told:
            if plan.terms is not None and word not in plan.terms:
                strange.setdefault(word, []).append(item.source)
        kept.append(replace(item, told=told if words.keys() - plan.drop or plan.values else None))
        present = {word for word, state in words.items() if state == State.PRESENT}
        if (free := sorted(present - told.keys() - plan.drop)) and (named := sorted(present & told.keys())):
            message = f"{item.source} says '{free[0]}' and names {', '.join(named)}: what is named is taken"
            remarks.append(Remark(item.row.image, "warning", "label-conflict", message))
    if strange:
        faults = [f"'{word}' of {len(where)} pictures, first in {where[0]}" for word, where in sorted(strange.items())]
        raise BadData.listing(f"words that {_own.FILE} does not map (add them to [terms], to normal or to drop)", faults)
    remarks += [Remark(_own.FILE, "info", "word-dropped", f"'{word}' of {count} pictures is no finding by drop") for word, count in sorted(dropped.items())]
    return kept, remarks


def _labels(plan: _own.Plan, concept_of: Mapping[str, str], item: _Listed) -> tuple[Label, ...]:
    """One for each finding: as it is told, and as `unlisted` has it for the others of a labelled picture."""
    if item.told is None:
        return ()
    told: dict[str, Label] = {}
    for word, state in sorted(item.told.items(), key=lambda one: _STRENGTH.index(one[1])):
        told.setdefault(concept_of[word], Label(word, state, item.source, item.rule))
    if plan.values is None and plan.unlisted is not None:
        wider = {above for concept in told for above in ancestors(concept)}  # who has the narrower one has the wider one
        for word, concept in concept_of.items():
            if concept not in wider:
                told.setdefault(concept, Label(word, plan.unlisted, item.source, NOT_LISTED))
    return tuple(told.values())


def _with_headers(root: Path, listed: list[_Listed]) -> list[_Listed]:
    """With what DICOM files tell and nothing else does; one that is broken is told by caching."""
    headers: dict[str, dicom.Header] = {}
    for item in listed:
        if item.row.image.lower().endswith(dicom.ENDINGS) and dicom.is_one(root / item.row.image):
            with suppress(BadData):
                headers[item.row.image] = dicom.header(root / item.row.image)
    nobody = dicom.placeholder(headers.values())
    filled = [replace(item, row=_filled(item.row, headers[item.row.image], nobody)) if item.row.image in headers else item for item in listed]
    return [item if item.row.view else replace(item, row=replace(item.row, view=acquisition.view_in_path(item.row.image))) for item in filled]


def _filled(row: Row, header: dicom.Header, nobody: str | None) -> Row:
    patient = header.patient if header.patient != nobody else None
    spacing = header.spacing_mm or (None, None)
    return replace(
        row, patient=patient or row.patient if row.patient == row.name else row.patient, sex=row.sex or header.sex, view=row.view or header.view,
        age_years=header.age_years if row.age_years is None else row.age_years, study=header.study, row_spacing_mm=spacing[0], column_spacing_mm=spacing[1],
        **acquisition.in_header(header.body_part, header.modality, header.laterality),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------- class folders


def _from_folders(root: Path, plan: _own.Plan) -> tuple[list[_Listed], list[Remark]]:
    places, orphans = _pictures(root, plan)
    # Folders that all pictures share (an archive's own, say) tell nothing apart.
    shared = len(os.path.commonprefix([place.parts[:-1] for place in places]))
    parts = [_part_and_class(place.parts[shared:-1]) for place in places]
    words = {label for _, label in parts if label}
    people = plan.terms is None and _are_people(words, plan.normal)
    classes = len(words) > 1 and not people
    listed, faults = [], []
    for place, (part, label) in zip(places, parts, strict=True):
        name, patient = place.with_suffix("").as_posix(), _patient(plan, place, faults, place.as_posix())
        row = Row(place.as_posix(), name, patient or (people and label) or name, lung_mask=plan.mask_for(root, place), given_part=part)
        listed.append(_Listed(row, {label: State.PRESENT} if label and classes else None, f"folder {label}", "folder"))
    if faults:
        raise BadData.listing(f"{root} does not fit its {_own.FILE}", faults)
    remarks = [Remark(path.relative_to(root).as_posix(), "info", DROPPED, "not a picture file") for path in _files(root, None)]
    if people:
        remarks.append(Remark(".", "warning", "folders-as-patients", f"its {len(words)} folders, such as {min(words)}, are taken for patients, not for findings"))
    return listed, [*orphans, *remarks]


def _are_people(words: set[str], normal: Collection[str]) -> bool:
    """Whether folders are patients or studies: more than anybody sorts pictures into, and none with a finding's name or that of none."""
    return len(words) > MOST_CLASSES and all(word.casefold() not in normal and concept_for(word).startswith(LOCAL) for word in words)


def _pictures(root: Path, plan: _own.Plan) -> tuple[list[Path], list[Remark]]:
    """Places below `root` of all picture files but masks, and a remark for each mask of no picture."""
    places = [path.relative_to(root) for path in _files(root, picture.ENDINGS)]
    masks = {plan.mask_for(root, place) for place in places if place.parts[0] not in plan.mask_folders}
    shown = [place for place in places if place.parts[0] not in plan.mask_folders and place.as_posix() not in masks]
    orphans = [place.as_posix() for place in places if place.parts[0] in plan.mask_folders and place.as_posix() not in masks]
    return shown, [Remark(place, "warning", "mask-orphan", "there is no picture for this mask") for place in orphans]


def _part_and_class(folders: tuple[str, ...]) -> tuple[str | None, str | None]:
    part = PARTS.get(folders[0].lower()) if folders else None
    classes = folders[1:] if part else folders
    return part, classes[0] if classes else None


def _patient(plan: _own.Plan, place: Path, faults: list[str], where: str) -> str | None:
    """What the pattern finds in the picture's path; where it finds nothing, that is a fault."""
    if plan.patient_pattern is None:
        return None
    found = plan.patient_pattern.search(place.as_posix()) or plan.patient_pattern.search(place.name)
    if not found or not found["patient"]:
        faults.append(f"{where}: patient_pattern '{plan.patient_pattern.pattern}' finds no patient in '{place.as_posix()}'")
        return None
    return found["patient"]


# -------------------------------------------------------------------------------------------------------------------------- tables


def _from_tables(root: Path, plan: _own.Plan) -> tuple[list[_Listed], list[Remark]]:
    listed: dict[str, _Listed] = {}
    first: dict[str, str] = {}
    faults, remarks = [], []
    for name in plan.tables:
        lines, encoding = _own.table(root / name)
        if encoding:
            remarks.append(Remark(name, "warning", "csv-encoding", f"is not UTF-8; it was read as {encoding}; save it again as UTF-8"))
        for line in lines:
            where = f"{name} line {lines.line_num}"
            item, wrong = _read_line(root, plan, line, where)
            if item and first.setdefault(item.row.image, where) != where:
                wrong.append(f"image '{item.row.image}' stands in several rows, first in {first[item.row.image]}")
            faults += [f"{where}: {fault}" for fault in wrong]
            if item and not wrong:
                listed[item.row.image] = item
    if faults:
        raise BadData.listing(f"{', '.join(plan.tables)} of {root} does not fit the folder", faults)
    used = {item.row.lung_mask for item in listed.values()}
    shown, orphans = _pictures(root, plan)
    remarks += [orphan for orphan in orphans if orphan.path not in used]
    unlisted = (place.as_posix() for place in shown if place.as_posix() not in listed and place.as_posix() not in used)
    remarks += [Remark(place, "warning", DROPPED, f"{', '.join(plan.tables)} does not list it") for place in unlisted]
    return list(listed.values()), remarks


def _read_line(root: Path, plan: _own.Plan, line: Mapping[str | None, str | None], where: str) -> tuple[_Listed | None, list[str]]:
    """One line, and what is wrong with it."""
    if None in line.values() or any(line.get(None) or ()):
        return None, ["has fewer or more cells than the header; the file may be cut short"]
    cells = {key: line[plan.columns[key]].strip() if key in plan.columns else "" for key in _own.COLUMNS}
    wrong = _wrong(root, cells)
    told = _told(plan, line, cells["label"], wrong)
    if not cells["image"]:
        return None, wrong
    place = Path(cells["image"])
    name, faults = place.with_suffix("").as_posix(), []
    patient = cells["patient"] or _patient(plan, place, faults, "image") or name
    if wrong := wrong + faults:
        return None, wrong
    row = Row(
        place.as_posix(), name, patient, lung_mask=cells["mask"] or plan.mask_for(root, place), given_part=PARTS.get(cells["part"].lower()),
        sex=_SEXES.get(cells["sex"].lower()), view=acquisition.view_of(cells["view"]), age_years=float(cells["age"]) if cells["age"] else None,
    )  # fmt: skip
    column = f", column {plan.columns['label']}" if "label" in plan.columns else ""
    return _Listed(row, told, where + column, "column"), []


def _told(plan: _own.Plan, line: Mapping[str | None, str | None], label: str, wrong: list[str]) -> dict[str, State] | None:
    """States by term: of the label's words, or of the columns that the terms are; what cannot be understood is added to `wrong`."""
    if plan.values is None:
        words = [word.strip() for word in label.split(plan.separator)] if plan.separator else [label]
        return dict.fromkeys(filter(None, words), State.PRESENT) or None
    cells = {term: line[term].strip() for term in plan.terms or ()}
    known = ", ".join(value for value in plan.values if value)
    wrong += [f"{term} '{cell}' is not one of {known}; add it to present, absent or uncertain" for term, cell in cells.items() if cell not in plan.values]
    return {term: state for term, cell in cells.items() if (state := plan.values.get(cell)) is not None}


def _wrong(root: Path, cells: dict[str, str]) -> list[str]:
    """What is wrong with one line."""
    faults = []
    for field in ("image", "mask"):
        place = cells[field]
        if place and (place.startswith("/") or ".." in Path(place).parts):
            faults.append(f"{field} '{place}' leads out of the folder; write the path below it")
        elif (place or field == "image") and not (root / place).is_file():
            faults.append(f"{field} '{place}' is not there")
    for field, known in (("part", PARTS), ("sex", _SEXES)):
        if cells[field] and cells[field].lower() not in known:
            faults.append(f"{field} '{cells[field]}' is not one of {', '.join(known)}")
    if not acquisition.is_unstated(cells["view"]) and acquisition.view_of(cells["view"]) is None:
        faults.append(f"view '{cells['view']}' is not one of {', '.join(acquisition.VIEWS)}")
    if cells["age"] and not cells["age"].replace(".", "", 1).isdecimal():
        faults.append(f"age '{cells['age']}' is not a number of years")
    return faults


def _files(root: Path, endings: tuple[str, ...] | None) -> Iterator[Path]:
    """Files below `root` with one of `endings`, or (None) with none of a picture's; sorted; hidden ones and links to folders left out."""
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith((".", "__MACOSX")))
        for name in sorted(names):
            suffix = Path(name).suffix.lower()
            wanted = suffix in endings if endings else suffix not in (*picture.ENDINGS, ".csv") and name != _own.FILE
            if wanted and not name.startswith("."):
                yield Path(folder) / name


def example(root: Path, *, images: int = 12, seed: int = 0) -> None:
    """Two class folders and a CSV that names patients, one of them with two pictures; every fourth picture has a mask."""
    rng = np.random.default_rng(seed)
    lines = ["image,label,patient,sex,age"]
    for index in range(images):
        if index != 1:  # the second picture is of the first patient
            body, sex, age = phantom.anatomy(rng), "FM"[int(rng.integers(2))], int(rng.integers(1, 90))
        ill = bool(index % 2)
        drawn = phantom.draw(body, rng, height=320, width=300, disease="pneumonia" if ill else None)
        place = f"{'PNEUMONIA' if ill else 'NORMAL'}/image{index:03d}.png"
        raster.write_png(root / place, drawn.pixels)
        if index % 4 == 0:
            raster.write_png(root / "masks" / f"image{index:03d}.png", drawn.right_lung | drawn.left_lung)
        lines.append(f"{place},{place.split('/')[0].lower()},p{max(index, 1):03d},{sex},{age}")
    store.write_text(root / "labels.csv", "\n".join(lines) + "\n")
