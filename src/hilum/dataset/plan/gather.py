"""Collection of what the rows of tables, the folders and the names of files state of each image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hilum.annotations.vocabulary import State
from hilum.dataset.plan import boxes, columns, lexicon, statements
from hilum.dataset.plan.columns import Column, TableReading
from hilum.dataset.plan.gathered import Gathered
from hilum.dataset.plan.labels import Vocabulary
from hilum.dataset.plan.reading import FOLDERS, NAMES, Reading, source_of
from hilum.dataset.plan.statements import Statement

AGE_COLUMN = "\0"  # stands between an age and the name of its column, which may state the unit
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


@dataclass(frozen=True)
class _Cells:
    """The cells of one row of a table: `path` is its image, `place` its line in the file."""

    table: TableReading
    columns: Mapping[str, list[str]]
    number: int
    path: str
    reader: str

    @property
    def place(self) -> str:
        """Return file and line, for messages and sources of labels."""
        return self.table.table.place(self.number)

    def __getitem__(self, name: str) -> str:
        return self.columns[name][self.number]


def from_table(reading: Reading, table: TableReading, gathered: Gathered) -> None:
    """Add the facts, labels and boxes of a table's rows, and what the rows imply by silence."""
    rows = _rows_of(table)
    if not rows:
        return
    held = {name: table.cells(name) for name in table.columns}
    facts = [(role, name) for role in _FACTS for name in table.named(role)]
    reader = table.first("reader")
    key = table.key[0] if table.key else None
    for path, numbers in rows.items():
        if key:
            gathered.keys.setdefault(path, held[key][numbers[0]])
        for number in numbers:
            cells = _Cells(table, held, number, path, held[reader][number] if reader else "")
            for role, name in facts:
                if not _is_unstated(role, cells[name]):
                    fact = _qualified(role, cells[name], table.columns[name])
                    gathered.facts[path][role].append(fact)
            _add_labels(reading, cells, gathered)
    for path in rows:
        _add_implied(reading, table, path, gathered)
    boxes.from_table(reading, table, rows, gathered)


def _is_unstated(role: str, cell: str) -> bool:
    """Return whether a cell is blank or, of an identity, a word such as "unknown"."""
    is_identity = role in ("patient", "study")
    return columns.is_blank(cell) or (
        is_identity and lexicon.key(cell) in lexicon.words("labels", "missing")
    )


def _qualified(role: str, cell: str, column: Column) -> str:
    """Return a cell with what its column adds: the column's name behind an age, for the unit.

    "M" in a column that also holds "H" is Spanish: mujer and hombre.
    """
    if role == "age":
        return f"{cell}{AGE_COLUMN}{column.name}"
    if role == "sex" and lexicon.key(cell) == "m" and "h" in map(lexicon.key, column.filled):
        return "mujer"
    return cell


def _rows_of(table: TableReading) -> dict[str, list[int]]:
    """Return the numbers of the table's rows by image path."""
    if table.match is None:
        return {path: list(numbers) for path, numbers in table.key_rows.items()}
    found: dict[str, list[int]] = defaultdict(list)
    for number, path in enumerate(table.image_files):
        if path:
            found[path].append(number)
    return found


def _add_labels(reading: Reading, cells: _Cells, gathered: Gathered) -> None:
    for name in cells.table.columns:
        source = source_of(cells.table, name)
        if vocabulary := reading.vocabularies.get(source):
            _add_words(vocabulary, cells, name, gathered)
        elif source in reading.findings:
            said = _stated_by_cell(reading, cells, name)
            if said:
                gathered.statements[cells.path] += said
    _add_denied_by_normal(reading, cells, gathered)


def _add_words(vocabulary: Vocabulary, cells: _Cells, name: str, gathered: Gathered) -> None:
    """Add what a cell of a column of labels states."""
    words = vocabulary.words(cells[name])
    place = f"{cells.place}, column {name}"
    said, conflict = statements.of_words(vocabulary, words, place, "column", cells.reader)
    gathered.statements[cells.path] += said
    gathered.words[cells.path, vocabulary.source][cells.reader] += words
    gathered.dropped.update(statements.unusable(vocabulary, words))
    if conflict:
        gathered.remark(cells.path, "label-conflict", conflict)


def _stated_by_cell(reading: Reading, cells: _Cells, name: str) -> list[Statement]:
    """Return what a cell of a column of one finding states."""
    source = source_of(cells.table, name)
    state, concept = reading.findings[source].get(cells[name]), reading.concepts[source]
    if not concept:
        return []
    place = f"{cells.place}, column {name}"
    is_absent = cells.table.table.name in reading.blank_is_absent
    if state is None and columns.is_blank(cells[name]) and is_absent:
        return [_unlisted(concept, name, place, cells.reader)]
    return statements.of_state(state, concept, name, place, cells.reader)


def _unlisted(concept: str, term: str, place: str, reader: str) -> Statement:
    """Return that a finding is absent because it is not listed."""
    return Statement(concept, State.ABSENT, term, place, statements.NOT_LISTED, reader, True)


def _add_denied_by_normal(reading: Reading, cells: _Cells, gathered: Gathered) -> None:
    """Deny the findings with blank cells beside a present "No Finding".

    A finding that the same row states as present is kept, and the conflict is reported.
    """
    for name in cells.table.columns:
        source = source_of(cells.table, name)
        if reading.concepts.get(source, "") is not None:
            continue  # a column of a finding or of anything else; None marks "No Finding"
        if reading.findings[source].get(cells[name]) != State.PRESENT:
            continue
        for other, concept, state in _findings_beside(reading, cells):
            if state == State.PRESENT:
                gathered.remark(
                    cells.path,
                    "label-conflict",
                    f"{cells.place} says '{name}' and names {other}: the named finding is kept",
                )
            elif state is None:
                said = _unlisted(concept, other, f"{cells.place}, column {name}", cells.reader)
                gathered.statements[cells.path].append(said)


def _findings_beside(
    reading: Reading, cells: _Cells
) -> Iterator[tuple[str, str, State | int | None]]:
    """Yield column, concept and state of each finding of a row but for devices."""
    for name in cells.table.columns:
        source = source_of(cells.table, name)
        concept = reading.concepts.get(source)
        if concept and concept not in statements.DEVICES:
            yield name, concept, reading.findings[source].get(cells[name])


def _add_implied(reading: Reading, table: TableReading, path: str, gathered: Gathered) -> None:
    """Add the findings of a column of labels that an image's cells do not name, as absent."""
    if reading.settings.unlisted == "not mentioned":
        return
    for name in table.columns:
        source = source_of(table, name)
        if not (vocabulary := reading.vocabularies.get(source)):
            continue
        for reader, words in gathered.words[path, source].items():
            said = [
                it
                for it in gathered.statements[path]
                if it.reader == reader and it.source.endswith(f"column {name}") and not it.implied
            ]
            gathered.statements[path] += statements.implied(vocabulary, said, words)


def from_folders_and_names(reading: Reading, gathered: Gathered) -> None:
    """Add the labels that class folders and the names of files state."""
    for source, rule in ((FOLDERS, "folder"), (NAMES, "file name")):
        vocabulary = reading.vocabularies.get(source)
        if vocabulary is None:
            continue
        for file in reading.images:
            if source == FOLDERS:
                word = reading.folders.value(file.path, "label")
            else:
                word = reading.name_labels.get(file.path)
            if word is None:
                continue
            words = vocabulary.words(word)
            said, _ = statements.of_words(vocabulary, words, f"{rule} {word}", rule)
            gathered.dropped.update(statements.unusable(vocabulary, words))
            if reading.settings.unlisted != "not mentioned":
                said = said + statements.implied(vocabulary, said, words)
            gathered.statements[file.path] += said
