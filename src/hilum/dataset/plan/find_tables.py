"""Tables of a folder: the roles of their columns, and the images that their rows belong to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from hilum.dataset import inventory, tables
from hilum.dataset.inventory import File
from hilum.dataset.plan import columns, joins, label_columns, lexicon, names
from hilum.dataset.plan.columns import STATED_BY_SETTINGS, TableReading
from hilum.dataset.plan.evidence import Evidence, shown
from hilum.dataset.plan.find_files import matches
from hilum.dataset.plan.image_index import ImageIndex, Match
from hilum.dataset.plan.reading import Reading
from hilum.dataset.plan.settings import COLUMN_KEYS
from hilum.errors import BadData, BadRecipe, plural, unknown
from hilum.safety import addresses

_CERTAIN_ENDINGS = (".csv", ".tsv", ".xlsx", ".xls", ".ods", ".parquet", ".jsonl", ".csv.gz")


def read_tables(reading: Reading) -> None:
    """Read every table of the folder.

    Raises `BadData` for tables that cannot be read and that hilum.toml names or whose ending is
    one of tables; other such files are set aside. Raises `BadRecipe` for unknown columns.
    """
    wanted = reading.settings.tables
    faults: list[str] = []
    skipped: list[str] = []
    for file in reading.files.of(*inventory.TABLES):
        if matches(file.path, reading.settings.unused):
            continue
        if wanted is not None and not matches(file.path, wanted):
            skipped.append(file.path)
            continue
        try:
            _read_table(reading, file)
        except BadData as fault:
            said = addresses.without_root(str(fault), reading.root)
            if file.path.casefold().endswith(_CERTAIN_ENDINGS) or wanted is not None:
                faults.append(said)
            else:  # a text file, or annotations in another format
                reading.evidence.set_aside(
                    "file",
                    [file.path],
                    f"is no table that can be read: {said.removeprefix(file.path + ': ')}",
                    "warning",
                )
    reading.evidence.set_aside("file", skipped, "is not among the tables of hilum.toml")
    held = [file.path for file in reading.files.of(*inventory.TABLES)]
    absent = [name for name in wanted or () if not any(matches(path, [name]) for path in held)]
    faults += ["tables: " + unknown("table", name, held) for name in absent]
    _refuse_unknown_columns(reading)
    if faults:
        raise BadData.listing(
            f"{reading.root}: tables that cannot be read; mend them, or add to hilum.toml: "
            'unused = ["NAME"]',
            faults,
        )


def _refuse_unknown_columns(reading: Reading) -> None:
    """Raise `BadRecipe` for columns that hilum.toml names and no table has, with near names."""
    held = {name for table in reading.tables for name in table.columns}
    full = {f"{table.table.name}:{name}" for table in reading.tables for name in table.columns}
    faults = [
        f"{key}: " + unknown("column", wanted, held)
        for key in COLUMN_KEYS
        for wanted in getattr(reading.settings, key)
        if wanted not in held | full
    ]
    if faults:
        listed = "\n".join(f"  {fault}" for fault in faults)
        number = plural(len(faults), "fault")
        raise BadRecipe(f"{reading.root / inventory.SETTINGS}: {number}\n{listed}")


def _read_table(reading: Reading, file: File) -> None:
    """Add the tables of one file, or its COCO annotations, to the reading."""
    path, _ = reading.folder.located(file.path)
    found = tables.read_coco(path, name=file.path) if file.kind == "json" else None
    if found:
        reading.coco[file.path] = found
        reading.table_files.add(file.path)
        return
    for table in tables.read(path, name=file.path):
        profiled = columns.profile(table, reading.settings)
        for name in table.index_columns:
            profiled.give(name, "unused", "it only counts the rows")
        reading.tables.append(profiled)


def use_tables(reading: Reading) -> None:
    """Find the images that rows belong to and the roles of columns, and join tables by keys."""
    if not reading.tables:
        return
    index = ImageIndex(
        reading.images,
        {path: header.instance for path, header in reading.headers.items() if header.instance},
    )
    held = {path: File(path, "") for path in reading.masks.files}
    mask_index = ImageIndex([*held.values(), *reading.images])
    for table in reading.tables:
        columns.find_images(table, index, reading.settings)
        columns.find_facts(table)
        columns.find_masks(table, mask_index)
        _use_published(table)
        label_columns.find_label_columns(table, reading.settings)
    _take_masks_of_columns(reading, mask_index)
    _join_tables(reading)
    _find_table_parts(reading)
    _report_tables(reading)


def _use_published(table: TableReading) -> None:
    """Set the roles of columns that identify a published table, such as that of a challenge."""
    for known in lexicon.published(table.columns):
        name = known["column"]
        if table.columns[name].why != STATED_BY_SETTINGS:
            role = "run_lengths" if "run_lengths" in lexicon.column_roles(name) else "finding"
            table.give(name, role, f"column of the {known['title']}")


def _find_table_parts(reading: Reading) -> None:
    """Read the parts of a split from the names of tables where there are several: train, test."""
    parts: list[tuple[Match, str]] = []
    for table in reading.tables:
        if table.match and (part := _part_of_table(table.table.name)):
            parts.append((table.match, part))
    if len({part for _, part in parts}) > 1:
        for match, part in parts:
            for path in match.files.values():
                reading.table_parts.setdefault(path, part)


def _part_of_table(name: str) -> str | None:
    words = lexicon.spaced(Path(name).name.partition(".")[0]).split()
    return next((part for word in words if (part := lexicon.part_of(word))), None)


def _take_masks_of_columns(reading: Reading, index: ImageIndex) -> None:
    """Pair masks with images as columns name them, in place of pairs by names of files."""
    for table in reading.tables:
        for role, side in (("mask", "lungs"), ("right_mask", "right"), ("left_mask", "left")):
            for name in table.named(role) if table.match else ():
                match = index.match(table.columns[name].filled, table.table.name, numbers=False)
                for path, mask in zip(table.image_files, table.cells(name), strict=True):
                    if path and mask in match.files:
                        reading.masks.of.setdefault(path, {})[side] = match.files[mask]
                        reading.masks.files.add(match.files[mask])
                    elif path and mask:
                        reading.evidence.set_aside(
                            "cell",
                            [f"{table.table.name}: {name} '{mask}'"],
                            "names no mask file",
                            "warning",
                        )
    taken = reading.masks.files
    reading.images = [file for file in reading.images if file.path not in taken]


def _join_tables(reading: Reading) -> None:
    """Join tables that name no files to those that do, until no more of them join."""
    pending = [table for table in reading.tables if table.match is None]
    attributes = _attributes(reading)
    progress = True
    while pending and progress:
        progress = False
        for table in list(pending):
            found = joins.join(table, attributes)
            if found:
                table.key, table.key_rows = (found.column, found.attribute), found.rows
                if table.columns[found.column].role in ("unused", "binary", "label"):
                    table.give(found.column, "key", f"joins with {found.attribute}")
                attributes += _attributes_of(
                    table, {path: rows[0] for path, rows in found.rows.items()}
                )
                reading.evidence.set_aside(
                    "row",
                    [f"{table.table.name}: {found.column} '{cell}'" for cell in found.missing],
                    "belongs to no image",
                )
                pending.remove(table)
                progress = True


def _attributes(reading: Reading) -> list[joins.Attribute]:
    """Return the attributes of images that may be keys: cells, folders, header fields."""
    found: list[joins.Attribute] = []
    for table in reading.tables:
        if table.match:
            rows: dict[str, int] = {}
            for row, path in enumerate(table.image_files):
                if path:
                    rows.setdefault(path, row)
            found += _attributes_of(table, rows)
    found += _attributes_of_paths(reading.images)
    for name in ("patient", "study", "series", "accession"):
        values = {
            path: value
            for path, header in reading.headers.items()
            if (value := getattr(header, name, None))
        }
        if len(set(values.values())) > 1:
            found.append(joins.Attribute(f"the {name} of the DICOM headers", values))
    return found


def _attributes_of(table: TableReading, rows: Mapping[str, int]) -> list[joins.Attribute]:
    found = []
    for name, column in table.columns.items():
        if (
            column.role in ("patient", "study", "unused", "key", "image", "binary")
            and len(column.filled) > 1
        ):
            cells = table.table.frame[name].to_list()
            values = {path: cells[row] for path, row in rows.items() if cells[row]}
            found.append(joins.Attribute(f"{table.table.name}: {name}", values))
    return found


def _attributes_of_paths(images: Sequence[File]) -> list[joins.Attribute]:
    deepest = max((file.path.count("/") for file in images), default=0)
    found = []
    for level in range(deepest):
        values = {
            file.path: parts[level]
            for file in images
            if len(parts := file.path.split("/")) > level + 1
        }
        if len(set(values.values())) > 1:
            found.append(joins.Attribute(f"folder {level + 1}", values))
    if patients := names.patients(images, Evidence()):
        found.append(
            joins.Attribute(
                "the patient in the names of files", names.found_by(patients.pattern, images)
            )
        )
    return found


def _report_tables(reading: Reading) -> None:
    """Record how each table is used.

    Tables that should belong to images and match none are kept in `foreign`, see `settle_foreign`.
    """
    foreign = []
    for table in reading.tables:
        file = table.table.name.partition("#")[0]
        if table.is_used:
            reading.table_files.add(file)
            _report_rows(reading, table)
        elif _concerns_images(table):
            foreign.append(table)
        else:
            reading.evidence.set_aside(
                "table",
                [table.table.name],
                "is a table, but none of images: no column names files or patients",
            )
            reading.table_files.add(file)
    _decide(reading, [table for table in reading.tables if table.is_used])
    reading.foreign = foreign


def settle_foreign(reading: Reading) -> None:
    """Report tables that match no image.

    A warning where labels have another source; else a question, since labels would be lost.
    """
    labelled = bool(reading.vocabularies or reading.findings or reading.coco)
    for table in reading.foreign:
        reading.table_files.add(table.table.name.partition("#")[0])
        if labelled:
            reading.evidence.set_aside(
                "table", [table.table.name], "matches no image of this folder", "warning"
            )
        else:
            _ask_for_image_column(reading, table)


def _decide(reading: Reading, used: Sequence[TableReading]) -> None:
    """Record how each table is read, as one decision for all tables with the same columns."""
    alike: dict[tuple[str, str, tuple[tuple[str, str], ...], int], list[str]] = defaultdict(list)
    for table in used:
        roles = tuple(
            (column.role, column.name)
            for column in table.columns.values()
            if column.role not in ("unused", "image", "finding", "binary")
        )
        findings = len(table.named("finding"))
        attribute = table.key[1] if table.key else ""
        how = f"by {table.match.how if table.match else attribute}"
        alike[table.linking_column, how, roles, findings].append(table.table.name)
    for (column, how, roles, findings), names_of in alike.items():
        said = [f"{role.replace('_', ' ')} = '{name}'" for role, name in roles if role != "key"]
        said += [f"{findings} columns of one finding each"] if findings else []
        names_files = how[3:] in ("path", "name", "stem", "number", "UID")
        joined = "names the image files" if names_files else "joins with images"
        reading.evidence.decide(
            "table",
            f"{shown(names_of, 6)}: {', '.join(said) or 'nothing else is used'}",
            f"column '{column}' {joined}, {how}",
        )


def _concerns_images(table: TableReading) -> bool:
    """Return whether a table has rows and a column of image files, patients, studies or labels."""
    if not table.columns or not table.table.frame.height:
        return False
    roles = {role for name in table.columns for role in lexicon.column_roles(name)}
    if roles & {"image", "patient", "study", "label"}:
        return True
    columns_of = table.columns.values()
    return any(column.fraction(_is_image_file) > joins.ENOUGH for column in columns_of)


def _is_image_file(cell: str) -> bool:
    return cell.casefold().endswith((".png", ".jpg", ".jpeg", ".dcm", ".tif", ".bmp", ".gif"))


def _ask_for_image_column(reading: Reading, table: TableReading) -> None:
    likely = next(
        (name for name in table.columns if "image" in lexicon.column_roles(name)),
        next(iter(table.columns)),
    )
    cells = [f"'{cell}'" for cell in list(table.columns[likely].filled)[:2]]
    files = [f"'{file.path}'" for file in reading.images[:2]]
    reading.evidence.ask(
        f"{table.table.name} matches no image of this folder: its column '{likely}' holds "
        f"{', '.join(cells) or 'nothing'}, the images are called {', '.join(files)}; give it "
        "cells that name the files, or leave the table out",
        {"unused": [table.table.name.partition("#")[0]]},
        unused="tables and other files that are not part of the data",
    )


def _report_rows(reading: Reading, table: TableReading) -> None:
    """Set aside the rows of an image table that name no file, several files or nothing."""
    if table.match is None or table.image is None:
        return
    name = table.table.name
    missing = [f"{name}: {table.image} '{cell}'" for cell in table.match.missing]
    reading.evidence.set_aside(
        "row",
        missing,
        "names a file that is not there",
        "warning" if len(missing) < len(table.match.files) else "info",
    )
    if table.match.ambiguous:
        cell, paths = next(iter(table.match.ambiguous.items()))
        reading.evidence.set_aside(
            "row",
            [f"{name}: {table.image} '{cell}'" for cell in table.match.ambiguous],
            f"names several files, as '{cell}' does {shown(paths)}",
            "warning",
        )
    blank = table.cells(table.image).count("")
    reading.evidence.set_aside(
        "row",
        [f"{name}: {blank} rows"] if blank else [],
        f"have no cell in column '{table.image}'",
        "warning",
    )
