"""Columns of labels, findings, run lengths and report text, among those without another role.

A column with the name of a finding whose cells are states is a column of that finding; a column
whose cells are words for findings is a column of labels. What is neither is left unused, with the
reason.
"""

from __future__ import annotations

from hilum.dataset.plan import cells, lexicon
from hilum.dataset.plan.columns import (
    FEW_WORDS,
    MOSTLY,
    STATED_BY_SETTINGS,
    Column,
    TableReading,
    is_numeric,
)
from hilum.dataset.plan.image_index import ENOUGH
from hilum.dataset.plan.labels import known
from hilum.dataset.plan.settings import Settings

MOST_CODES = 20  # distinct numbers of a column of class codes; more are measurements
LONG_WORDS = 60  # mean characters of a cell above which a column holds sentences
LONGEST_CELL = 500  # characters of a cell above which a column holds sentences


NAMED_BY_COLUMN = "its cells are states of one finding, which nothing but the column's name names"


def find_label_columns(reading: TableReading, settings: Settings) -> None:
    """Set the roles of the columns that have none yet: label, finding, report text, run lengths.

    Columns that fit none of these stay unused, each with its reason.
    """
    free = [
        column
        for column in reading.columns.values()
        if column.role == "unused" and column.why != STATED_BY_SETTINGS
    ]
    for column in free:
        column.role, column.why, column.certain = _role_of_rest(column, settings)
    _settle_blocks(reading)
    _drop_codes(reading)
    _name_by_column(reading)


def _role_of_rest(column: Column, settings: Settings) -> tuple[str, str, bool]:
    name, filled = column.name, column.filled
    roles = lexicon.column_roles(name)
    if not filled:
        return "unused", "it is empty", True
    if "run_lengths" in roles and column.fraction(_is_run_lengths) == 1.0:
        return "run_lengths", "its cells are run lengths or -1", True
    said = known(name, settings)
    stated = {*settings.present, *settings.absent, *settings.uncertain}
    binary = all(lexicon.state_of(cell) is not None or cell in stated for cell in filled)
    if (
        binary
        and said
        and said.kind in (lexicon.FINDING, lexicon.NORMAL, lexicon.ABSENT)
        and "label" not in roles
    ):
        return "finding", "its name is a finding, its cells are states", True
    if _is_free_text(column):
        if set(roles) & {"reading", "label"}:
            return "reading", "its cells are sentences", True
        return "unused", "its cells are sentences", True
    if "label" in roles:
        return _label_by_name(column)
    if "reading" in roles and not column.fraction(_is_known_label) >= MOSTLY:
        return "reading", f"is called '{name}'", True
    if said and said.kind == lexicon.FINDING and not binary:
        return _not_states(column)
    if (
        column.fraction(_is_known_label) >= MOSTLY
        and len(filled) <= FEW_WORDS
        and not set(roles) - {"unused", "source", "reading", "image"}
    ):
        return "label", "its cells are words for findings or for none", True
    if "unused" in roles:
        return "unused", f"'{name}' is no finding", True
    if binary and len(filled) == 1:
        return "unused", f"it always holds '{next(iter(filled))}'", True
    if binary:
        return "binary", "its cells are states, but its name is no known finding", False
    if roles:
        return "unused", f"is called '{name}', which its cells do not fit", True
    return "unused", "nothing says what it holds", True


def _label_by_name(column: Column) -> tuple[str, str, bool]:
    numbers = [number for cell in column.filled if (number := cells.number(cell)) is not None]
    if not all(number.is_integer() for number in numbers):
        return "unused", "its cells are fractions, not labels", True
    if is_numeric(column) and len(column.filled) > MOST_CODES:
        return "unused", "its cells are numbers", True
    return "label", f"is called '{column.name}'", True


def _not_states(column: Column) -> tuple[str, str, bool]:
    """Return the role of a column with a finding's name whose cells are not all known states."""
    numbers = [number for cell in column.filled if (number := cells.number(cell)) is not None]
    if len(numbers) == len(column.filled):
        kind = "probabilities" if all(0 <= number <= 1 for number in numbers) else "scores"
        return "unused", f"its cells are {kind}, not labels", False
    return "stated_finding", "its name is a finding, its cells are words that are not known", False


def _is_known_label(cell: str) -> bool:
    """Return whether a cell, or each piece of it, is a known word of labels that is not missing."""
    found = lexicon.meaning(cell)
    if found is not None:
        return found.kind != lexicon.MISSING
    for sign in "|;,/+":
        pieces = cell.strip("[]").split(sign) if sign in cell else []
        if pieces and all(lexicon.meaning(piece.strip().strip("'\" ")) for piece in pieces):
            return True
    return False


def _is_free_text(column: Column) -> bool:
    filled = column.filled
    if column.fraction(_is_known_label) >= ENOUGH:
        return False
    letters = sum(len(cell) for cell in filled) / len(filled)
    spaces = sum(cell.count(" ") >= 3 for cell in filled) / len(filled)
    sentences = (
        column.fraction(lambda cell: cell.count(" ") >= 3 and cell.rstrip().endswith((".", "!")))
        > ENOUGH
    )
    return (
        max(map(len, filled)) > LONGEST_CELL
        or letters > LONG_WORDS
        or sentences
        or (spaces > ENOUGH and len(filled) > 8)
    )


def _is_run_lengths(cell: str) -> bool:
    parts = cell.split()
    return cell.strip() == "-1" or (
        len(parts) > 1 and len(parts) % 2 == 0 and all(part.isdecimal() for part in parts)
    )


def _settle_blocks(reading: TableReading) -> None:
    """Make columns of states with unknown names findings where findings stand on both sides."""
    order = list(reading.columns.values())
    places = [place for place, column in enumerate(order) if column.role == "finding"]
    for place, column in enumerate(order):
        if column.role == "binary" and len(places) > 1 and places[0] < place < places[-1]:
            column.role, column.why = (
                "finding",
                "stands among columns of findings, with the same cells",
            )


def _drop_codes(reading: TableReading) -> None:
    """Leave out columns of codes that repeat a column of words (class_id beside class_name)."""
    labels = reading.named("label")
    words = [name for name in labels if not is_numeric(reading.columns[name])]
    codes = [name for name in labels if is_numeric(reading.columns[name])]
    frame = reading.table.frame
    for code in codes:
        for word in words:
            pairs = frame.select(code, word).unique()
            if pairs.height == frame[word].n_unique() and frame[code].n_unique() <= pairs.height:
                reading.give(code, "unused", f"its numbers only repeat the column '{word}'")
                break


def _name_by_column(reading: TableReading) -> None:
    """Make the only column of labels a finding where its cells are states, such as 0 and 1."""
    labels = reading.named("label")
    for name in labels:
        filled = reading.columns[name].filled
        states = all(
            lexicon.state_of(cell) in (0, 1) and not lexicon.meaning(cell) for cell in filled
        )
        if len(labels) == 1 and len(filled) > 1 and states:
            reading.give(name, "finding", NAMED_BY_COLUMN, certain=False)
