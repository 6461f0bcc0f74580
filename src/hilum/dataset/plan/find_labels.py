"""Sources of labels: columns of words, columns of one finding each, class folders, file names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from hilum.annotations.vocabulary import STATE_NAMES
from hilum.dataset.plan import columns, label_columns, labels, lexicon, names
from hilum.dataset.plan.columns import STATED_BY_SETTINGS, Column, TableReading
from hilum.dataset.plan.evidence import LIKELY, STATED, Evidence, shown
from hilum.dataset.plan.reading import FOLDERS, NAMES, Reading, source_of
from hilum.dataset.plan.settings import Settings
from hilum.dataset.plan.statements import NOT_LISTED


def settle_labels(reading: Reading) -> None:
    """Give the words and states of all sources of labels their meaning, or add questions.

    Fills `vocabularies`, `findings` and `concepts` of the reading.
    """
    evidence, settings = reading.evidence, reading.settings
    for table in reading.tables:
        if not table.is_used:
            continue
        for name in table.named("label"):
            source, cells = source_of(table, name), table.columns[name].counts
            where = f"column '{name}' of {table.table.name} (images by '{table.linking_column}')"
            if found := labels.settle(source, cells, settings, evidence, what=where):
                reading.vocabularies[source] = found
        _settle_findings(reading, table)
    _settle_folder_labels(reading)
    _name_labels(reading)
    _ask_lost_labels(reading)
    _decide(reading)


def _ask_lost_labels(reading: Reading) -> None:
    """Ask about columns of scores named after a finding where no other source states findings.

    Otherwise the labels that these scores may stand for would be lost.
    """
    if reading.vocabularies or reading.findings or reading.coco or reading.evidence.questions:
        return
    for table in reading.tables:
        for column in table.columns.values():
            said = labels.known(column.name, reading.settings)
            if (
                column.role == "unused"
                and said
                and said.kind == lexicon.FINDING
                and not column.certain
            ):
                reading.evidence.ask(
                    f"column '{column.name}' of {table.table.name} has a finding's name, but "
                    f"{column.why}, and nothing else says which images have it",
                    {"unused_columns": [column.name]},
                    unused_columns="columns that are left alone; or give the cells states, such as "
                    'present = ["2", "3"]',
                )


def _name_labels(reading: Reading) -> None:
    """Read labels from the names of files where no other source has any."""
    evidence, settings = reading.evidence, reading.settings
    if (
        not reading.vocabularies
        and not reading.findings
        and not evidence.questions
        and not reading.coco
    ):
        reading.name_labels = names.labels(reading.images)
        if reading.name_labels:
            counts = Counter(reading.name_labels.values())
            if found := labels.settle(NAMES, counts, settings, evidence, what="the names of files"):
                reading.vocabularies[NAMES] = found


def _settle_findings(reading: Reading, table: TableReading) -> None:
    """Read the columns of one finding each, and ask about unknown names and states."""
    settings, evidence = reading.settings, reading.evidence
    published = {column["column"]: column["finding"] for column in lexicon.published(table.columns)}
    columns_of_findings = [
        *table.named("finding"),
        *table.named("run_lengths"),
        *table.named("stated_finding"),
    ]
    for name in columns_of_findings:
        source, column = source_of(table, name), table.columns[name]
        states, unknown = _states_of(column, settings)
        if unknown:
            _ask_states(evidence, name, table.table.name, unknown)
            continue
        meaning = labels.known(name, settings)
        if name not in published and not meaning and column.role == "run_lengths":
            evidence.ask(
                f"column '{name}' of {table.table.name} holds outlines of a finding that "
                "nothing names",
                {"terms": {name: "local:finding"}},
                terms='the finding that the column is of, such as "pneumothorax"',
            )
            continue
        concept = meaning.concept if meaning else lexicon.local(name)
        reading.concepts[source] = published.get(name) or concept
        is_negated = meaning is not None and meaning.kind == lexicon.ABSENT
        reading.findings[source] = _negated(states) if is_negated else states
    for name in table.named("finding"):
        if table.columns[name].why == label_columns.NAMED_BY_COLUMN and name not in settings.terms:
            advice = (
                f"{table.table.name}: what its states are of nothing says but the column's name; "
                f'name the finding in hilum.toml: [terms] {name} = "pneumonia"'
            )
            evidence.set_aside("cell", [name], advice, "warning")
    _settle_normal(reading, table)
    _settle_blanks(reading, table)
    _settle_binary(reading, table)


def _states_of(column: Column, settings: Settings) -> tuple[dict[str, int], list[str]]:
    """Return the state by cell of a column of one finding, and the cells without a known state."""
    if column.role == "run_lengths":  # -1 and an empty cell state that there is no region
        return {cell: int(cell.strip() not in ("", "-1")) for cell in column.counts}, []
    stated = {
        **dict.fromkeys(settings.present, 1),
        **dict.fromkeys(settings.absent, 0),
        **dict.fromkeys(settings.uncertain, -1),
    }
    found: dict[str, int] = {}
    unknown = []
    for cell in column.filled:
        state = stated.get(cell, lexicon.state_of(cell))
        if state is None:
            unknown.append(cell)
        else:
            found[cell] = state
    return found, unknown


def _negated(states: Mapping[str, int]) -> dict[str, int]:
    """Exchange present and absent; uncertain stays."""
    return {cell: {1: 0, 0: 1}.get(state, state) for cell, state in states.items()}


def _settle_normal(reading: Reading, table: TableReading) -> None:
    """Read a column of the normal state that is the only label as "abnormality", negated."""
    sources = [
        source for name in table.columns if (source := source_of(table, name)) in reading.findings
    ]
    if (
        sources
        and not table.named("label")
        and all(reading.concepts[source] is None for source in sources)
    ):
        for source in sources:
            reading.concepts[source] = lexicon.ABNORMALITY
            reading.findings[source] = _negated(reading.findings[source])


def _settle_blanks(reading: Reading, table: TableReading) -> None:
    """Decide whether an empty cell of a finding means absent.

    It does where hilum.toml states so, or where all other cells are marks for present.
    """
    found = {
        name: reading.findings[source]
        for name in table.columns
        if (source := source_of(table, name)) in reading.findings
    }
    states = {
        state
        for said in found.values()
        for cell, state in said.items()
        if not columns.is_blank(cell)
    }
    blanks = any(columns.is_blank(cell) for name in found for cell in table.columns[name].counts)
    marked = reading.settings.blank is None and states == {1} and blanks
    if marked or (reading.settings.blank == "absent" and found):
        reading.blank_is_absent.add(table.table.name)
        why = "cells hold a mark or nothing" if marked else STATED_BY_SETTINGS
        reading.evidence.decide(
            "empty cells",
            f'absent, rule "{NOT_LISTED}"',
            f"{table.table.name}: {why}",
            LIKELY if marked else STATED,
        )


def _ask_states(evidence: Evidence, name: str, table: str, unknown: Sequence[str]) -> None:
    listed = ", ".join(f"'{cell}'" for cell in unknown[:6])
    evidence.ask(
        f"column '{name}' of {table}: what {listed} say{'s' * (len(unknown) == 1)} of the finding "
        "is not known",
        {"present": list(unknown[:1]), "absent": list(unknown[1:])},
        present="cells that say that the finding is there",
        absent='cells that say that it is not; uncertain = ["…"] for uncertain ones',
    )


def _settle_binary(reading: Reading, table: TableReading) -> None:
    """Ask for the finding of a column of states with an unknown name.

    Where the folder has other labels, the column is left unused instead.
    """
    other = any(
        it.named("label") or it.named("finding") or it.named("run_lengths") for it in reading.tables
    )
    for name in table.named("binary"):
        if other:
            table.give(
                name,
                "unused",
                f"holds states, but '{name}' is no known finding; add it with "
                f'[terms] {name} = "local:…"',
                certain=False,
            )
        else:
            reading.evidence.ask(
                f"column '{name}' of {table.table.name} holds "
                f"{shown([repr(cell) for cell in table.columns[name].filled])}, and '{name}' is no "
                "known finding",
                {"terms": {name: lexicon.local(name)}},
                terms='the finding that the column is of: a concept, or "local:…" for one of your '
                'own; unused_columns = ["…"] if it is none',
            )


def _settle_folder_labels(reading: Reading) -> None:
    """Give the names of class folders their meaning, and ask about folders of unknown names."""
    settings, evidence = reading.settings, reading.evidence
    words = Counter(
        word for file in reading.images if (word := reading.folders.value(file.path, "label"))
    )
    labelled = bool(reading.vocabularies or reading.findings)
    if words and (found := labels.settle(FOLDERS, words, settings, evidence, what="the folders")):
        reading.vocabularies[FOLDERS] = found
    for group in reading.folders.unknown:
        counts = Counter(
            {
                name: sum(name in file.path.split("/")[:-1] for file in reading.images)
                for name in group
            }
        )
        if labelled:
            evidence.set_aside(
                "cell", list(group), "is a folder whose name says nothing that is known", "warning"
            )
        else:
            labels.settle(FOLDERS, counts, settings, evidence, what="the folders")


def _decide(reading: Reading) -> None:
    """Record the meaning of each word and the state of each cell as decisions."""
    for source, vocabulary in reading.vocabularies.items():
        said = [
            f"{word} = {_meant(meaning)}"
            for word, meaning in vocabulary.meanings.items()
            if meaning.kind != lexicon.MISSING
        ]
        missing = [
            repr(word)
            for word, meaning in vocabulary.meanings.items()
            if meaning.kind == lexicon.MISSING
        ]
        said += [f"{', '.join(missing)} = not labelled"] if missing else []
        how = f", cells split at '{vocabulary.separator}'" if vocabulary.separator else ""
        reading.evidence.decide(
            "labels", shown(said, 12), f"words of {source.replace(':', ', column ')}{how}"
        )
    for table in {source.rpartition(":")[0] for source in reading.findings}:
        columns_of = [
            source.rpartition(":")[2]
            for source in reading.findings
            if source.rpartition(":")[0] == table
        ]
        cells = {
            cell: state
            for source in reading.findings
            if source.rpartition(":")[0] == table
            for cell, state in reading.findings[source].items()
        }
        said = [
            f"{cell!r} = {STATE_NAMES[state]}"
            for cell, state in cells.items()
            if state is not None and len(cell) < 20
        ]
        reading.evidence.decide(
            "findings",
            f"{shown(columns_of, 14)}; {shown(said, 8)}",
            f"columns of {table} with a finding's name and states as cells",
        )


def _meant(meaning: lexicon.Meaning) -> str:
    if meaning.kind == lexicon.NORMAL:
        return "healthy"
    prefixes = {lexicon.FINDING: "", lexicon.ABSENT: "no ", lexicon.UNUSABLE: "no label: "}
    return prefixes.get(meaning.kind, "uncertain ") + (meaning.concept or "")
