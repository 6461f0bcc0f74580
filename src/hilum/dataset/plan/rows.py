"""Turn an understood folder into rows of the manifest: one an image, with its facts, labels and shapes, and remarks on all that is odd."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from hilum.annotations import acquisition
from hilum.annotations.vocabulary import State
from hilum.dataset.manifest import DROPPED, Remark, Row
from hilum.dataset.plan import boxes, cells, columns, folders, lexicon, statements
from hilum.dataset.plan.columns import Column, TableReading
from hilum.dataset.plan.evidence import SetAside, shown
from hilum.dataset.plan.gathered import Gathered
from hilum.dataset.plan.inventory import File
from hilum.dataset.plan.reading import FOLDERS, NAMES, Reading, source_of
from hilum.dataset.plan.statements import Statement

MOST_WHOLE = 1e9  # above it a number of pixels is none
_FACTS = (
    "patient",
    "study",
    "view",
    "sex",
    "age",
    "birth_date",
    "birth_year",
    "study_date",
    "part",
    "reading",
    "source",
    "body_part",
    "modality",
    "laterality",
    "height",
    "width",
)


def rows(reading: Reading) -> Iterator[Row | Remark]:
    """Yield a remark on everything odd, then a row for each image. The reading must be settled."""
    gathered = Gathered()
    for table in reading.tables:
        _gather(reading, table, gathered)
    boxes.from_coco(reading, gathered)
    _of_folders_and_names(reading, gathered)
    gathered.people = _people_of_folders(reading, gathered)
    made = [_row(reading, file, gathered) for file in reading.images]
    yield from _unique_names(made, gathered)
    yield from _remarks(reading, gathered)


# --------------------------------------------------------------------------------------------------------------------------- tables


def _gather(reading: Reading, table: TableReading, gathered: Gathered) -> None:
    rows = _rows_of(table)
    if not rows:
        return
    cells_of = {name: table.table.frame[name].to_list() for name in table.columns}
    facts = [(role, name) for role in _FACTS for name in table.named(role)]
    reader = table.first("reader")
    key = table.key[0] if table.key else None
    for path, numbers in rows.items():
        if key:
            gathered.keys.setdefault(path, cells_of[key][numbers[0]])
        for number in numbers:
            for role, name in facts:
                cell = cells_of[name][number]
                if not columns.is_blank(cell) and not (
                    role in ("patient", "study")
                    and lexicon.key(cell) in lexicon.words("labels", "missing")
                ):
                    gathered.facts[path][role].append(_qualified(role, cell, table.columns[name]))
            who = cells_of[reader][number] if reader else ""
            _gather_labels(reading, table, number, path, who, cells_of, gathered)
    for path in rows:
        _gather_implied(reading, table, path, gathered)
    boxes.from_table(reading, table, rows, gathered)


def _qualified(role: str, cell: str, column: Column) -> str:
    """Return a cell with what its column says of it: the unit of an age; of M beside H that it is mujer, not male."""
    if role == "age":
        return f"{cell}\0{column.name}"
    if role == "sex" and lexicon.key(cell) == "m" and "h" in map(lexicon.key, column.filled):
        return "mujer"
    return cell


def _rows_of(table: TableReading) -> dict[str, list[int]]:
    """Return the table's rows by image path."""
    if table.match is None:
        return {path: list(numbers) for path, numbers in table.key_rows.items()}
    found: dict[str, list[int]] = defaultdict(list)
    for number, cell in enumerate(table.table.frame[table.image].to_list()):
        if path := table.match.files.get(cell):
            found[path].append(number)
    return found


def _gather_labels(
    reading: Reading,
    table: TableReading,
    number: int,
    path: str,
    who: str,
    cells_of: dict[str, list[str]],
    gathered: Gathered,
) -> None:
    where = table.table.place(number)
    for name in table.columns:
        source = source_of(table, name)
        if vocabulary := reading.vocabularies.get(source):
            words = vocabulary.words(cells_of[name][number])
            said, conflict = statements.of_words(
                vocabulary, words, f"{where}, column {name}", "column", who
            )
            gathered.statements[path] += said
            gathered.words[path, source][who] += words
            gathered.dropped.update(statements.unusable(vocabulary, words))
            if conflict:
                gathered.remark(path, "label-conflict", conflict)
        elif source in reading.findings:
            cell = cells_of[name][number]
            state = reading.findings[source].get(cell)
            concept = reading.concepts[source]
            if (
                concept
                and state is None
                and columns.is_blank(cell)
                and table.table.name in reading.blank_is_absent
            ):
                said = Statement(
                    concept,
                    State.ABSENT,
                    name,
                    f"{where}, column {name}",
                    statements.NOT_LISTED,
                    who,
                    True,
                )
                gathered.statements[path].append(said)
            elif concept:
                gathered.statements[path] += statements.of_state(
                    state, concept, name, f"{where}, column {name}", who
                )
    _gather_healthy(reading, table, number, path, who, cells_of, where, gathered)


def _gather_healthy(
    reading: Reading,
    table: TableReading,
    number: int,
    path: str,
    who: str,
    cells_of: dict[str, list[str]],
    where: str,
    gathered: Gathered,
) -> None:
    """A column of the healthy ("No Finding") that is present denies the findings beside it whose cells are blank."""
    healthy = [
        name for name in table.columns if reading.concepts.get(source_of(table, name), "") is None
    ]
    for name in healthy:
        if reading.findings[source_of(table, name)].get(cells_of[name][number]) != State.PRESENT:
            continue
        for other in table.columns:
            source = source_of(table, other)
            concept = reading.concepts.get(source)
            if (
                concept
                and concept not in statements.DEVICES
                and reading.findings[source].get(cells_of[other][number]) == State.PRESENT
            ):
                gathered.remark(
                    path,
                    "label-conflict",
                    f"{where} says '{name}' and names {other}: what is named is taken",
                )
            if (
                concept
                and concept not in statements.DEVICES
                and reading.findings[source].get(cells_of[other][number]) is None
            ):
                gathered.statements[path].append(
                    Statement(
                        concept,
                        State.ABSENT,
                        other,
                        f"{where}, column {name}",
                        statements.NOT_LISTED,
                        who,
                        True,
                    )
                )


def _gather_implied(reading: Reading, table: TableReading, path: str, gathered: Gathered) -> None:
    """Add what silence implies: findings of a column of labels that the image's cells do not name, and blanks that mean absent."""
    if reading.settings.unlisted == "not mentioned":
        return
    for name in table.columns:
        source = source_of(table, name)
        if not (vocabulary := reading.vocabularies.get(source)):
            continue
        for who, words in gathered.words[path, source].items():
            said = [
                it
                for it in gathered.statements[path]
                if it.reader == who and it.source.endswith(f"column {name}") and not it.implied
            ]
            gathered.statements[path] += statements.implied(vocabulary, said, words)


# --------------------------------------------------------------------------------------------------------------- folders and names


def _of_folders_and_names(reading: Reading, gathered: Gathered) -> None:
    for source, rule, word_of in (
        (FOLDERS, "folder", lambda file: reading.folders.value(file.path, "label")),
        (NAMES, "file name", lambda file: reading.name_labels.get(file.path)),
    ):
        vocabulary = reading.vocabularies.get(source)
        for file in reading.images if vocabulary else ():
            if (word := word_of(file)) is None:
                continue
            words = vocabulary.words(word)
            said, _ = statements.of_words(vocabulary, words, f"{rule} {word}", rule)
            gathered.dropped.update(statements.unusable(vocabulary, words))
            more = (
                statements.implied(vocabulary, said, words)
                if reading.settings.unlisted != "not mentioned"
                else []
            )
            gathered.statements[file.path] += said + more


# ----------------------------------------------------------------------------------------------------------------------------- rows


def _row(reading: Reading, file: File, gathered: Gathered) -> Row:
    path, facts = file.path, gathered.facts.get(file.path, {})
    header = reading.headers.get(path)
    settled, conflicts = statements.settle(gathered.statements.get(path, ()))
    for conflict in conflicts:
        gathered.remark(path, "label-conflict", conflict)
    masks = reading.masks.of.get(path, {})
    folder = f"{file.folder}/" if file.folder else ""
    spacing = header.spacing_mm if header and header.spacing_mm else (None, None)
    return Row(
        image=path,
        name=folder + file.stem,
        patient=_patient(reading, file, facts, gathered),
        source=_one("source", path, facts, gathered) or reading.folders.value(path, "source"),
        labels=settled,
        mask_values=json.dumps(dict(reading.settings.mask_values))
        if masks and reading.settings.mask_values
        else None,
        lung_mask=masks.get("lungs"),
        right_lung_mask=masks.get("right"),
        left_lung_mask=masks.get("left"),
        given_part=_part(reading, path, facts, gathered),
        sex=_parsed("sex", lexicon.sex_of, path, facts, gathered)
        or (header.sex if header else None),
        age_years=_age(path, facts, gathered, header),
        view=_view(reading, path, facts, gathered, header),
        **_acquired(path, facts, gathered, header),
        reading=_one("reading", path, facts, gathered),
        study=_one("study", path, facts, gathered)
        or (header.study if header else None)
        or reading.folders.value(path, "study"),
        stated_height=_whole("height", path, facts, gathered),
        stated_width=_whole("width", path, facts, gathered),
        row_spacing_mm=spacing[0],
        column_spacing_mm=spacing[1],
        drawn=tuple(gathered.drawn.get(path, ())),
    )


def _patient(reading: Reading, file: File, facts: dict[str, list[str]], gathered: Gathered) -> str:
    """Return the patient: by hilum.toml, column, header, folder, or name of the file; else the study's, else the image's own."""
    if reading.settings.patient_pattern and file.path in reading.patients_in_names:
        return reading.patients_in_names[file.path]
    if stated := _one("patient", file.path, facts, gathered):
        return stated
    if known := _header_patient(reading, file.path):
        return known
    if folder := reading.folders.value(file.path, "patient"):
        return gathered.people.get(folder, folder)
    if reading.name_patients and file.path in reading.patients_in_names:
        return reading.patients_in_names[file.path]
    header = reading.headers.get(file.path)
    if header and header.person and reading.persons:
        return f"person {header.person}"
    if (
        study := next(iter(facts.get("study", ())), None)
        or (header.study if header else None)
        or gathered.keys.get(file.path)
    ):
        return f"study {study}"  # images of one study are of one person, whoever that is
    folder = f"{file.folder}/" if file.folder else ""
    return folder + file.stem


def _header_patient(reading: Reading, path: str) -> str | None:
    header = reading.headers.get(path)
    return header.patient if header and header.patient != reading.nobody else None


def _people_of_folders(reading: Reading, gathered: Gathered) -> dict[str, str]:
    """Return the one patient whom columns and headers name in a patient's folder, so that its other files are that patient's too."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in reading.images:
        stated = gathered.facts.get(file.path, {}).get("patient") or filter(
            None, [_header_patient(reading, file.path)]
        )
        if folder := reading.folders.value(file.path, "patient"):
            found[folder].update(stated)
    return {folder: next(iter(people)) for folder, people in found.items() if len(people) == 1}


def _one(role: str, path: str, facts: dict[str, list[str]], gathered: Gathered) -> str | None:
    """Return the one thing that an image's rows say; where they differ the first is taken, and that is reported."""
    said = list(dict.fromkeys(facts.get(role, ())))
    if len(said) > 1:
        gathered.remark(
            path,
            "fact-conflict",
            f"its rows say {role} {' and '.join(said[:3])}: {said[0]} is taken",
        )
    return said[0] if said else None


def _parsed(
    role: str, parse: Any, path: str, facts: dict[str, list[str]], gathered: Gathered
) -> Any:
    cell = _one(role, path, facts, gathered)
    if cell is None:
        return None
    value = parse(cell)
    if value is None:
        gathered.odd[role, cell] += 1
    return value


def _whole(role: str, path: str, facts: dict[str, list[str]], gathered: Gathered) -> int | None:
    value = _parsed(role, cells.number, path, facts, gathered)
    return (
        int(value) if value is not None and value.is_integer() and 0 < value < MOST_WHOLE else None
    )


def _part(
    reading: Reading, path: str, facts: dict[str, list[str]], gathered: Gathered
) -> str | None:
    if stated := _parsed("part", lexicon.part_of, path, facts, gathered):
        return stated
    if name := reading.folders.value(path, "part"):
        return lexicon.part_of(name)
    return reading.table_parts.get(path)


def _age(path: str, facts: dict[str, list[str]], gathered: Gathered, header: Any) -> float | None:
    """Return the age: as a column states it, else between birth and study, else the header's."""
    if facts.get("age"):
        cell, _, column = facts["age"][0].partition("\0")
        if len({one.partition("\0")[0] for one in facts["age"]}) > 1:
            gathered.remark(
                path,
                "fact-conflict",
                f"its rows say age {shown([one.partition(chr(0))[0] for one in facts['age']])}: {cell} is taken",
            )
        years = cells.age_years(cell, cells.age_unit(column))
        if years is None:
            gathered.odd["age", cell] += 1
        return years
    birth, study = (
        _parsed(role, cells.day, path, facts, gathered) for role in ("birth_date", "study_date")
    )
    if (years := cells.years_between(birth, study)) is not None:
        return years
    if (born := _parsed("birth_year", cells.year, path, facts, gathered)) and study:
        return float(study.year - born) if 0 <= study.year - born <= cells.OLDEST_YEARS else None
    return header.age_years if header else None


def _view(
    reading: Reading, path: str, facts: dict[str, list[str]], gathered: Gathered, header: Any
) -> str | None:
    """Return the view: by columns (which may share the work), else header, else folder or file name."""
    stated = list(dict.fromkeys(facts.get("view", ())))
    for cell in stated:
        if acquisition.view_of(cell) is None and not acquisition.is_unstated(cell):
            gathered.odd["view", cell] += 1
    view = acquisition.view_of(*stated) or (header.view if header else None)
    folder = reading.folders.value(path, "view")
    return view or (folders.view_of(folder) if folder else None) or reading.name_views.get(path)


def _acquired(
    path: str, facts: dict[str, list[str]], gathered: Gathered, header: Any
) -> dict[str, str | None]:
    """Return body part, modality and laterality: by columns, else header."""
    stated = acquisition.in_header(
        *(_one(role, path, facts, gathered) for role in ("body_part", "modality", "laterality"))
    )
    told = (
        acquisition.in_header(header.body_part, header.modality, header.laterality)
        if header
        else {}
    )
    return {name: value or told.get(name) for name, value in stated.items()}


# -------------------------------------------------------------------------------------------------------------------------- remarks


def _unique_names(made: Sequence[Row], gathered: Gathered) -> Iterator[Row]:
    """Yield the rows; where a name stands twice (a.png and a.jpg) each keeps its ending."""
    often = Counter(row.name for row in made)
    for row in made:
        yield replace(row, name=row.image) if often[row.name] > 1 else row


def _remarks(reading: Reading, gathered: Gathered) -> Iterator[Remark]:
    yield from gathered.remarks
    for aside in reading.evidence.aside:
        yield from _remarks_of(aside)
    for (role, cell), count in sorted(gathered.odd.items()):
        yield Remark(
            ".",
            "warning",
            "cell-not-understood",
            f"{role} '{cell}' of {count} images is not understood: left empty",
        )
    for word, count in sorted(gathered.dropped.items()):
        yield Remark(
            ".",
            "info",
            "word-dropped",
            f"'{word}' of {count} images says nothing of findings: it is dropped",
        )
    for table in reading.tables:
        for remark in table.table.remarks:
            yield Remark(table.table.name, "info", "table-form", remark)
    yield from _remarks_on_patients(reading)


def _remarks_on_patients(reading: Reading) -> Iterator[Remark]:
    """Yield a warning where the patients are not named by a header or a column."""
    said = next((it.value for it in reading.evidence.decisions if it.what == "patients"), "")
    if said.startswith("every image"):
        yield Remark(
            ".",
            "warning",
            "no-patients",
            "nothing names the patients: every image is taken for a patient of its own",
        )
    elif said == "by study":
        yield Remark(
            ".",
            "warning",
            "no-patients",
            "nothing names the patients: every study is taken for a patient of its own",
        )
    elif said == "by folder":
        people = sorted(
            {reading.folders.value(file.path, "patient") for file in reading.images} - {None}
        )
        yield Remark(
            ".",
            "warning",
            "folders-as-patients",
            f"its {len(people)} folders, such as {people[0]}, are taken for patients, not for findings",
        )


_RULES = {
    "file": DROPPED,
    "table": "table-unused",
    "column": "column-unused",
    "row": "row-unused",
    "cell": "cell-unused",
}


def _remarks_of(aside: SetAside) -> Iterator[Remark]:
    """Yield a remark a file, and one for each group of columns, rows or cells."""
    if aside.kind == "file":
        rule = "mask-orphan" if "is a mask, but" in aside.reason else DROPPED
        yield from (Remark(name, aside.severity, rule, aside.reason) for name in aside.names)
    elif aside.kind == "column":
        for name in aside.names:
            table, _, column = name.partition(": ")
            yield Remark(
                table,
                aside.severity,
                _RULES[aside.kind],
                f"column '{column}' is not used: {aside.reason}",
            )
    else:
        table = aside.names[0].partition(": ")[0] if ": " in aside.names[0] else aside.names[0]
        yield Remark(
            table,
            aside.severity,
            _RULES[aside.kind],
            f"{aside.count}: {shown(aside.names)} {aside.reason}",
        )
