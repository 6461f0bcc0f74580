"""Roles of the columns of a table, worked out from their names and cells.

A column gets the role that its name suggests only where its cells fit that role.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hilum.annotations import acquisition
from hilum.dataset.plan import cells, lexicon
from hilum.dataset.plan.image_index import ENOUGH, ImageIndex, Match
from hilum.dataset.plan.settings import COLUMN_KEYS, Settings
from hilum.dataset.tables import Table
from hilum.errors import BadRecipe

MOSTLY = 0.8  # fraction of a column's cells that must fit its role
FEW_WORDS = 60  # distinct words of a column of labels, at most: more are free text or names
STATED_BY_SETTINGS = "hilum.toml says so"
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
SEVERAL = ("view",)  # facts that two columns may state together: Frontal/Lateral and AP/PA
_FILLER = re.compile(r"[0x]*|anon\w*|deidentified")  # patient names left by de-identification
BOX = ("box_x", "box_y", "box_width", "box_height", "box_x_end", "box_y_end")
CORNERS = ("box_x", "box_y", "box_x_end", "box_y_end")
SIDES = ("box_x", "box_y", "box_width", "box_height")


@dataclass
class Column:
    """A column: the count of each distinct cell, its role, and the reason for the role.

    `certain` is False where the role is a guess that the user should check.
    """

    name: str
    counts: Counter[str]
    role: str = "unused"
    why: str = "nothing says what it holds"
    certain: bool = True

    @property
    def filled(self) -> Counter[str]:
        """Return the counts of the cells that are not blank."""
        return Counter({cell: n for cell, n in self.counts.items() if not is_blank(cell)})

    def fraction(self, fits: Callable[[str], object]) -> float:
        """Return the fraction of the filled cells that fit, weighted by their counts."""
        filled = self.filled
        total = sum(filled.values())
        return sum(n for cell, n in filled.items() if fits(cell)) / total if total else 0.0


@dataclass
class TableReading:
    """A table with the roles of its columns and the images that its rows belong to.

    Rows belong to images by a column that names files (`image`, `match`) or by a join on another
    key (`key`: own column and attribute of the images; `key_rows`: row numbers by image path).
    """

    table: Table
    columns: dict[str, Column]
    image: str | None = None
    match: Match | None = None
    key: tuple[str, str] | None = None
    key_rows: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def is_used(self) -> bool:
        """Return whether the rows belong to images."""
        return self.match is not None or self.key is not None

    @property
    def linking_column(self) -> str:
        """Return the column that names the image files or joins with them; "" where none does."""
        return self.image or (self.key[0] if self.key else "")

    @property
    def image_files(self) -> list[str | None]:
        """Return the image path of each row; None where the row's cell names no single file."""
        if self.image is None or self.match is None:
            return [None] * self.table.frame.height
        return [self.match.files.get(cell) for cell in self.cells(self.image)]

    def cells(self, name: str) -> list[str]:
        """Return the cells of a column, by row."""
        return self.table.frame[name].to_list()

    def named(self, role: str) -> list[str]:
        """Return the names of the columns with a role, in the order of the table."""
        return [column.name for column in self.columns.values() if column.role == role]

    def first(self, role: str) -> str | None:
        """Return the first column with a role, or None."""
        return next(iter(self.named(role)), None)

    def give(self, name: str, role: str, why: str, *, certain: bool = True) -> None:
        """Set the role of a column and the reason for it."""
        column = self.columns[name]
        column.role, column.why, column.certain = role, why, certain


def is_blank(cell: str) -> bool:
    """Return whether a cell is empty or a word for a missing value (NA, NaN, null, None)."""
    return cell == "" or lexicon.key(cell) in ("na", "nan", "null", "none", "nat")


def profile(table: Table, settings: Settings) -> TableReading:
    """Count the cells of each column and set the roles that the settings state."""
    columns = {
        name: Column(name, Counter(table.frame[name].to_list())) for name in table.frame.columns
    }
    reading, box = TableReading(table, columns), []
    for role in COLUMN_KEYS:
        for wanted in getattr(settings, role):
            place, _, name = wanted.rpartition(":")
            if name in columns and place in ("", table.name):
                box += [name] if role == "box" else []
                kept = {"unused_columns": "unused", "findings": "finding"}.get(role, role)
                reading.give(name, kept, STATED_BY_SETTINGS)
    if box:
        _give_stated_box(reading, box)
    return reading


def find_images(reading: TableReading, index: ImageIndex, settings: Settings) -> None:
    """Find the column that names the image files: by its cells, and between equals by its name."""
    stated = reading.first("image")
    best: tuple[tuple, str, Match] | None = None
    for name, column in reading.columns.items():
        free = column.role == "unused" and column.why != STATED_BY_SETTINGS
        if not (name == stated if stated else free):
            continue
        roles = lexicon.column_roles(name)
        numbers = "image" in roles or bool(stated)
        match = index.match(column.filled, reading.table.name, numbers=numbers)
        reached = len(set(match.files.values())) / max(len(index.files), 1)
        if (not match.files and not match.ambiguous) or max(match.strength, reached) < (
            ENOUGH if not stated else 0
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
        _, name, match = best
        reading.image, reading.match = name, match
        reading.give(name, "image", f"its cells are image files by {match.how}")


def _is_other_fact(roles: Iterable[str], match: Match, column: Column) -> bool:
    """Return whether cells that coincide with stems of files rather are what the name says."""
    return (
        bool(set(roles) & {"age", "label", "part", "height", "width", "box_x", "box_y"})
        or match.strength < MOSTLY
    )


def find_facts(reading: TableReading) -> None:
    """Set the roles of columns of facts (patient, view, sex, age …) whose cells fit their name."""
    for name, column in reading.columns.items():
        if column.role != "unused" or column.why == STATED_BY_SETTINGS:
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
    """Return why a column's cells fit a role, or None where they do not."""
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
        fitting = column.fraction(parsers[role])
        if fitting < needed:
            return None
        return f"{name}, and {fitting:.0%} of its cells are of that kind"
    if (
        role == "patient"
        and len(column.filled) == 1
        and _FILLER.fullmatch(lexicon.key(next(iter(column.filled))))
    ):
        return None  # one placeholder for everybody identifies nobody
    if role == "source" and (
        len(column.filled) > FEW_WORDS
        or column.fraction(lexicon.meaning) > 0
        or column.fraction(_is_address) > 0
    ):
        return None
    if role == "reader" and len(column.filled) > FEW_WORDS:
        return None
    return name


def _is_address(cell: str) -> bool:
    return "://" in cell or cell.startswith("www.")


def _give_stated_box(reading: TableReading, names: Sequence[str]) -> None:
    """Set the roles of a box's four columns: by their names, else by their order (`SIDES`).

    Raises `BadRecipe` for another number of columns.
    """
    if len(names) != 4:
        raise BadRecipe(
            f"box names {len(names)} columns of {reading.table.name} ({', '.join(names)}); "
            f"expected four: left, top, width, height in this order, or called by what they hold"
        )
    roles = _box_roles(reading, names) or dict(zip(SIDES, names, strict=True))
    for role, name in roles.items():
        reading.give(name, role, STATED_BY_SETTINGS)


def _box_roles(reading: TableReading, names: Iterable[str]) -> dict[str, str]:
    """Return the columns by role that their names give a box; empty where any of four lacks."""
    found: dict[str, str] = {}
    for role in BOX:
        for name in names:
            if role in lexicon.column_roles(name) and is_numeric(reading.columns[name]):
                found[role] = name
                break
    roles = next((roles for roles in (CORNERS, SIDES) if found.keys() >= set(roles)), ())
    return {role: found[role] for role in roles}


def _find_boxes(reading: TableReading) -> None:
    """Find the four columns of a box: x, y with width and height, or with the opposite corner."""
    free = {
        name: column
        for name, column in reading.columns.items()
        if column.role == "unused" and column.why != STATED_BY_SETTINGS
    }
    for role, name in _box_roles(reading, free).items():
        reading.give(name, role, "four columns of numbers are a box's")
    for role in ("height", "width"):
        for name, column in free.items():
            if (
                column.role == "unused"
                and role in lexicon.column_roles(name)
                and column.filled
                and column.fraction(str.isdecimal) == 1.0
            ):
                reading.give(name, role, f"is called '{name}' and holds whole numbers")
                break


def is_numeric(column: Column) -> bool:
    """Return whether all filled cells of a column, at least one, are numbers."""
    return column.fraction(lambda cell: cells.number(cell) is not None) == 1.0


def find_masks(reading: TableReading, masks: ImageIndex) -> None:
    """Find the columns whose cells are mask files."""
    for name, column in reading.columns.items():
        if column.role != "unused" or column.why == STATED_BY_SETTINGS:
            continue
        roles = set(lexicon.column_roles(name)) & {"mask", "right_mask", "left_mask"}
        match = masks.match(column.filled, reading.table.name, numbers=False)
        strong = match.how in ("path", "name")
        if match.files and match.strength >= ENOUGH and (strong or roles):
            side = next(iter(roles & {"right_mask", "left_mask"}), "mask")
            reading.give(name, side, "its cells are mask files")
