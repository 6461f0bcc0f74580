"""Find out what each column of a table holds, from its name and its cells: a name alone settles nothing that the cells deny."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from hilum.annotations import acquisition
from hilum.dataset.plan import cells, lexicon
from hilum.dataset.plan.image_index import ENOUGH, ImageIndex, Match
from hilum.dataset.plan.labels import known
from hilum.dataset.plan.settings import COLUMN_KEYS, Settings
from hilum.dataset.tables import Table

MOSTLY = 0.8  # of a column's cells that must fit its role
FEW_WORDS = (
    60  # a column of labels has at most so many distinct words; more are free text, or names
)
LONG_WORDS = 60  # letters; cells longer than this on average are sentences
FACTS = (
    "patient",
    "study",
    "view",
    "sex",
    "age",
    "birth_date",
    "birth_year",
    "study_date",
    "part",
    "reader",
    "source",
    "body_part",
    "modality",
    "laterality",
)
NAMED_BY_COLUMN = "its cells are states of one finding, which nothing but the column's name names"
SEVERAL = ("view",)  # facts that two columns may share: Frontal/Lateral and AP/PA
_FILLER = re.compile(r"[0x]*|anon\w*|deidentified")
BOX = ("box_x", "box_y", "box_width", "box_height", "box_x_end", "box_y_end")


@dataclass
class Column:
    """A column: how often each distinct cell stands in it, its role, and why."""

    name: str
    counts: Counter[str]
    role: str = "unused"
    why: str = "nothing says what it holds"
    certain: bool = True

    @property
    def filled(self) -> Counter[str]:
        """Return the cells that say something."""
        return Counter({cell: n for cell, n in self.counts.items() if not is_blank(cell)})

    def share(self, fits: Callable[[str], object]) -> float:
        """Return the fraction of the filled cells that fit, each counted as often as it stands."""
        filled = self.filled
        total = sum(filled.values())
        return sum(n for cell, n in filled.items() if fits(cell)) / total if total else 0.0


@dataclass
class TableReading:
    """A table with what its columns hold and which image each row belongs to."""

    table: Table
    columns: dict[str, Column]
    image: str | None = None
    match: Match | None = None
    key: tuple[str, str] | None = None  # own column and the attribute of images that it joins with
    key_rows: Mapping[str, list[int]] = field(default_factory=dict)

    def named(self, role: str) -> list[str]:
        return [column.name for column in self.columns.values() if column.role == role]

    def first(self, role: str) -> str | None:
        return next(iter(self.named(role)), None)

    def give(self, name: str, role: str, why: str, *, certain: bool = True) -> None:
        column = self.columns[name]
        column.role, column.why, column.certain = role, why, certain


def is_blank(cell: str) -> bool:
    """Tell whether a cell is empty or a word for a missing value (NA, NaN, null, None)."""
    return cell == "" or lexicon.key(cell) in ("na", "nan", "null", "none", "nat")


def profile(table: Table, settings: Settings) -> TableReading:
    """Count each column's cells and take over the roles that the settings give."""
    columns = {
        name: Column(name, Counter(table.frame[name].to_list())) for name in table.frame.columns
    }
    reading = TableReading(table, columns)
    for role in COLUMN_KEYS:
        for wanted in getattr(settings, role):
            place, _, name = wanted.rpartition(":")
            if name in columns and place in ("", table.name):
                kept = {"unused_columns": "unused", "findings": "finding"}.get(role, role)
                reading.give(name, kept, "hilum.toml says so")
    return reading


def find_images(reading: TableReading, index: ImageIndex, settings: Settings) -> None:
    """Find the column that names the image files: by its cells, and among equals by its name."""
    stated = reading.first("image")
    best: tuple[tuple, str, Match] | None = None
    for name, column in reading.columns.items():
        if (
            column.role not in ("unused", "image")
            or (stated and name != stated)
            or column.why == "hilum.toml says so" != column.role == "image"
            and not stated
        ):
            continue
        roles = lexicon.column_roles(name)
        numbers = "image" in roles or bool(stated)
        match = index.match(column.filled, reading.table.name, numbers=numbers)
        reached = len(set(match.files.values())) / max(len(index.files), 1)
        if (
            not match.files
            and not match.ambiguous
            or max(match.strength, reached) < (ENOUGH if not stated else 0)
        ):
            continue
        if (
            match.how in ("stem", "number")
            and "image" not in roles
            and not stated
            and _is_other_fact(roles, match, column)
        ):
            continue
        rank = (
            match.how in ("path", "name", "UID"),
            "mask" not in roles and "image" in roles,
            match.strength * reached,
            -list(reading.columns).index(name),
        )
        if best is None or rank > best[0]:
            best = rank, name, match
    if best:
        _, reading.image, reading.match = best
        reading.give(reading.image, "image", f"its cells are image files by {reading.match.how}")


def _is_other_fact(roles: Iterable[str], match: Match, column: Column) -> bool:
    """Tell whether a column whose cells only happen to be stems of files is rather what its name says."""
    return (
        bool(set(roles) & {"age", "label", "part", "height", "width", "box_x", "box_y"})
        or match.strength < MOSTLY
    )


def find_facts(reading: TableReading) -> None:
    """Give roles to the columns of facts (patient, view, sex, age …) whose cells fit their name."""
    for name, column in reading.columns.items():
        if column.role != "unused" or column.why == "hilum.toml says so":
            continue
        for role in lexicon.column_roles(name):
            if (
                role in FACTS
                and (role in SEVERAL or not reading.named(role))
                and (reason := _fits(role, column))
            ):
                reading.give(name, role, reason)
                break
    _find_boxes(reading)


def _fits(role: str, column: Column) -> str | None:
    """Return why a column's cells fit a role, or None."""
    name = f"is called '{column.name}'"
    parsers: dict[str, Callable[[str], object]] = {
        "sex": lexicon.sex_of,
        "part": lexicon.part_of,
        "study_date": cells.day,
        "birth_date": cells.day,
        "age": lambda cell: cells.age_years(cell) is not None,
        "view": acquisition.view_of,
        "birth_year": cells.year,
    }
    if not column.filled:
        return None
    if role == "sex" and sum(lexicon.sex_of(cell) is None for cell in column.filled) > 3:
        return None
    if role in parsers:
        needed = MOSTLY if role not in ("view", "age") else ENOUGH
        share = column.share(parsers[role])
        return f"{name}, and {share:.0%} of its cells are of that kind" if share >= needed else None
    if (
        role == "patient"
        and len(column.filled) == 1
        and _FILLER.fullmatch(lexicon.key(next(iter(column.filled))))
    ):
        return None  # what anonymising left for everybody names nobody
    if role == "source" and (
        len(column.filled) > FEW_WORDS
        or column.share(lexicon.meaning) > 0
        or column.share(_is_address) > 0
    ):
        return None
    if role == "reader" and len(column.filled) > FEW_WORDS:
        return None
    return name


def _is_address(cell: str) -> bool:
    return "://" in cell or cell.startswith("www.")


def _find_boxes(reading: TableReading) -> None:
    """Find the four columns of a box: x, y with width and height, or with the opposite corner."""
    free = {
        name: column
        for name, column in reading.columns.items()
        if column.role == "unused" and column.why != "hilum.toml says so"
    }

    def numeric(role: str) -> str | None:
        named = (name for name in free if role in lexicon.column_roles(name))
        return next(
            (
                name
                for name in named
                if free[name].share(lambda cell: cells.number(cell) is not None) == 1.0
            ),
            None,
        )

    found = {role: numeric(role) for role in BOX}
    corners = ("box_x", "box_y", "box_x_end", "box_y_end")
    sides = ("box_x", "box_y", "box_width", "box_height")
    taken = next((roles for roles in (corners, sides) if all(found[role] for role in roles)), ())
    for role in taken:
        reading.give(found[role], role, "four columns of numbers are a box's")
    for role in ("height", "width"):
        for name, column in free.items():
            if (
                column.role == "unused"
                and role in lexicon.column_roles(name)
                and column.filled
                and column.share(str.isdecimal) == 1.0
            ):
                reading.give(name, role, f"is called '{name}' and holds whole numbers")
                break


def find_masks(reading: TableReading, masks: ImageIndex) -> None:
    """Find the columns whose cells are mask files."""
    for name, column in reading.columns.items():
        if column.role != "unused" or column.why == "hilum.toml says so":
            continue
        roles = set(lexicon.column_roles(name)) & {"mask", "right_mask", "left_mask"}
        match = masks.match(column.filled, reading.table.name, numbers=False)
        strong = match.how in ("path", "name")
        if match.files and match.strength >= ENOUGH and (strong or roles):
            side = next(iter(roles & {"right_mask", "left_mask"}), "mask")
            reading.give(name, side, "its cells are mask files")


def find_rest(reading: TableReading, settings: Settings) -> None:
    """Give roles to what is left: texts, run lengths, columns of one finding each, columns of labels, and what is not used."""
    free = [
        column
        for column in reading.columns.values()
        if column.role == "unused" and column.why != "hilum.toml says so"
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
    if "run_lengths" in roles and column.share(_is_run_lengths) == 1.0:
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
    if "reading" in roles and not column.share(_is_known_label) >= MOSTLY:
        return "reading", f"is called '{name}'", True
    if said and said.kind == lexicon.FINDING and not binary:
        return _not_states(column)
    if (
        column.share(_is_known_label) >= MOSTLY
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
    if (
        column.share(
            lambda cell: (
                cells.number(cell) is not None and not float(cells.number(cell)).is_integer()
            )
        )
        > 0
    ):
        return "unused", "its cells are fractions, not labels", True
    if column.share(lambda cell: cells.number(cell) is not None) == 1.0 and len(column.filled) > 20:
        return "unused", "its cells are numbers", True
    return "label", f"is called '{column.name}'", True


def _not_states(column: Column) -> tuple[str, str, bool]:
    """Say why a column with a finding's name is none: probabilities, scores, other words."""
    numbers = [cells.number(cell) for cell in column.filled]
    if all(value is not None for value in numbers):
        kind = "probabilities" if all(0 <= value <= 1 for value in numbers) else "scores"
        return "unused", f"its cells are {kind}, not labels", False
    return "stated_finding", "its name is a finding, its cells are words that are not known", False


def _is_known_label(cell: str) -> bool:
    """Tell whether a cell, or each piece of it, is a word of the lexicon that says something of findings."""
    found = lexicon.meaning(cell)
    if found is not None:
        return found.kind != lexicon.MISSING
    pieces = [
        piece
        for sign in "|;,/+"
        if sign in cell
        for piece in (list(map(str.strip, cell.strip("[]").split(sign))),)
    ]
    return any(all(lexicon.meaning(part.strip("'\" ")) for part in piece) for piece in pieces)


def _is_free_text(column: Column) -> bool:
    filled = column.filled
    if column.share(_is_known_label) >= ENOUGH:
        return False
    letters = sum(len(cell) for cell in filled) / len(filled)
    spaces = sum(cell.count(" ") >= 3 for cell in filled) / len(filled)
    sentences = (
        column.share(lambda cell: cell.count(" ") >= 3 and cell.rstrip().endswith((".", "!")))
        > ENOUGH
    )
    return (
        max(map(len, filled)) > 500
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
    """Take a column of states with an unknown name for a finding where it stands among columns of findings."""
    order = list(reading.columns.values())
    places = [place for place, column in enumerate(order) if column.role == "finding"]
    for place, column in enumerate(order):
        if column.role == "binary" and len(places) > 1 and places[0] < place < places[-1]:
            column.role, column.why = (
                "finding",
                "stands among columns of findings, with the same cells",
            )


def _drop_codes(reading: TableReading) -> None:
    """Leave out columns of numbers that only repeat a column of words (class_id beside class_name)."""
    labels = reading.named("label")
    words = [name for name in labels if not _is_numeric(reading.columns[name])]
    codes = [name for name in labels if _is_numeric(reading.columns[name])]
    frame = reading.table.frame
    for code in codes:
        for word in words:
            pairs = frame.select(code, word).unique()
            if pairs.height == frame[word].n_unique() and frame[code].n_unique() <= pairs.height:
                reading.give(code, "unused", f"its numbers only repeat the column '{word}'")
                break


def _name_by_column(reading: TableReading) -> None:
    """Take a column of labels that holds states alone, such as 0 and 1, for one finding that the column names."""
    labels = reading.named("label")
    for name in labels:
        filled = reading.columns[name].filled
        states = all(
            lexicon.state_of(cell) in (0, 1) and not lexicon.meaning(cell) for cell in filled
        )
        if len(labels) == 1 and len(filled) > 1 and states:
            reading.give(name, "finding", NAMED_BY_COLUMN, certain=False)


def _is_numeric(column: Column) -> bool:
    return column.share(lambda cell: cells.number(cell) is not None) == 1.0
