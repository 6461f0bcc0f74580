"""Compare the files that two versions of Hilum wrote, although names in them were changed.

Every file becomes a table: Parquet and CSV as they are (cells of a CSV file as text), JSON and
TOML as one row with a column per leaf ("crop.size"), arrays as one column of values, and any
other file as one of bytes. A table of the version before is brought to the names of the version
after (`Renamings`) and compared cell by cell: floats by their bits, CSV cells by their text.

A name that is not in the list of renamings, but stands for equal contents, is reported apart from
a difference in the results (`Comparison.verdict`). Columns that hold prose may be worded anew:
it is compared whether a cell is empty, and which cells mention other numbers.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

# Columns and keys that are left out, with the reason. The names of both versions.
NOT_COMPARED = {
    "signature": "holds the files' times",
    "facts_crc32": "also covers the files' times",
    "data.folder": "is the place of the data on this machine",
    "digest": "covers names and versions",
    "files": "is a digest of a list of files",
    "remedy": "is prose of a rule",
}
# Columns and keys of sentences for people.
PROSE = {"message", "why", "reason", "warning", "refused", "account", "processing_log", "error"}
PROSE |= {"mask_error", "too_rare"}
# Columns whose values name an image or a patient: another value is another result, never a name.
IDENTITIES = {"image", "image_id", "other_image_id", "patient_id", "path", "name", "group"}
MOST_NAMES = 24  # a text column with more distinct values than this does not hold names


@dataclass(frozen=True)
class Renamings:
    """Hold names of the version before, with those of the version after."""

    files: tuple[tuple[str, str], ...] = ()  # regular expressions of paths, replacements
    columns: Mapping[str, str] = field(default_factory=dict)  # a leaf's key whole, or its last part
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # by old column or key

    def file(self, path: str) -> str:
        for pattern, replacement in self.files:
            path = re.sub(pattern, replacement, path)
        return path

    def column(self, name: str) -> str:
        head, dot, last = name.rpartition(".")
        return self.columns.get(name) or f"{head}{dot}{self.columns.get(last, last)}"


@dataclass(frozen=True)
class Comparison:
    """Hold what was found of one pair of files. `names` are renamings that are not in the list."""

    before: str = "-"  # rows x columns and a digest of the cells that are compared
    after: str = "-"
    cells: int = 0  # that differ
    largest: float = 0.0  # absolute difference of two numbers
    faults: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()  # leading figures, before and after

    @property
    def verdict(self) -> str:
        if self.faults:
            return "DIFFERS"
        return "NAMES" if self.names else "same"


def read(path: Path) -> pl.DataFrame:
    """Read a file of any of the kinds above as a table."""
    match path.suffix:
        case ".parquet":
            return pl.read_parquet(path)
        case ".csv":
            return pl.read_csv(path, infer_schema=False)
        case ".json":
            return _one_row(json.loads(path.read_text(encoding="utf-8")))
        case ".toml":
            return _one_row(tomllib.loads(path.read_text(encoding="utf-8")))
        case ".npy":
            array = np.load(path)
            wide = array.astype(np.float32) if array.dtype == np.float16 else array  # exact
            return pl.DataFrame({f"{array.dtype} {array.shape}": wide.ravel()})
        case _:
            return pl.DataFrame({"bytes": np.fromfile(path, np.uint8)})


def _one_row(value: object) -> pl.DataFrame:
    leaves: dict[str, str] = {}

    def walk(part: object, key: str) -> None:
        if isinstance(part, list) and any(isinstance(one, dict | list) for one in part):
            part = {str(number): one for number, one in enumerate(part)}
        if isinstance(part, dict) and part:
            for name, inner in part.items():
                walk(inner, f"{key}.{name}" if key else name)
        else:
            leaves[key] = part if isinstance(part, str) else json.dumps(part)

    walk(value, "")
    return pl.DataFrame([leaves], schema=dict.fromkeys(leaves, pl.String), orient="row")


# ------------------------------------------------------------------------------------ names


def paired(
    before: Iterable[str], after: Iterable[str], renamed: Callable[[str], str]
) -> dict[str, str]:
    """Pair names with their new ones where these are there, else with themselves."""
    left, pairs = dict.fromkeys(after), {}
    names = list(before)
    for new_name in (renamed, str):
        for name in names:
            if name not in pairs and new_name(name) in left:
                pairs[name] = new_name(name)
                del left[pairs[name]]
    return pairs


def inferred(
    before: Iterable[str], after: Iterable[str], equal: Callable[[str, str], bool]
) -> dict[str, str]:
    """Pair names that are left over by what they stand for."""
    left, pairs = list(after), {}
    for name in before:
        found = next((other for other in left if equal(name, other)), None)
        if found is not None:
            pairs[name] = found
            left.remove(found)
    return pairs


def _arrows(pairs: dict[str, str]) -> str:
    return ", ".join(f"{old} -> {new}" for old, new in pairs.items())


# ------------------------------------------------------------------------------------ tables


def compare(before: pl.DataFrame, after: pl.DataFrame, renamings: Renamings) -> Comparison:
    """Compare two tables; the texts of the result name columns as the version before does."""
    before, after = _without_excluded(before), _without_excluded(after)
    pairs = paired(before.columns, after.columns, renamings.column)
    after = after.rename({new: old for old, new in pairs.items()})
    before = _with_new_values(before, after, list(pairs), renamings)
    faults, names, notes = [], [], []
    if {"rule", "severity", "image_id", "other_image_id"} <= pairs.keys():
        before, faults, names = _with_new_rules(before, after)
    if before.height != after.height and not faults:
        before, after, faults = _with_common_rows(before, after, list(pairs))
    if before.height == after.height:
        before, after, notes = _in_one_order(before, after, list(pairs))
        cells, largest = _unpaired(before, after, pairs, names, faults), 0.0
        for column in pairs:
            wrong, number, difference = _column(before, after, column, names, notes)
            faults, cells, largest = faults + wrong, cells + number, max(largest, difference)
    else:
        cells, largest = abs(before.height - after.height), 0.0
    return Comparison(
        *(_shape(table, list(pairs)) for table in (before, after)),
        cells, largest, tuple(faults), tuple(names), tuple(notes), _figures(before, after),
    )  # fmt: skip


def _without_excluded(table: pl.DataFrame) -> pl.DataFrame:
    return table.select(
        column
        for column in table.columns
        if NOT_COMPARED.keys().isdisjoint({column, column.rpartition(".")[2]})
    )


def _is_prose(column: str) -> bool:
    return not PROSE.isdisjoint(column.split("."))


def _with_new_values(
    before: pl.DataFrame, after: pl.DataFrame, columns: list[str], renamings: Renamings
) -> pl.DataFrame:
    """Replace the listed values, also in lists, that the version after does not have any
    more.
    """
    for column in columns:
        values = renamings.values.get(column) or renamings.values.get(column.rpartition(".")[2])
        if values and before[column].dtype == after[column].dtype == pl.String:
            there, gone = set(after[column]), {}
            for cell in set(before[column].drop_nulls()) - there:
                new = ", ".join(values.get(word, word) for word in cell.split(", "))
                gone |= {cell: new} if new in there else {}
            before = before.with_columns(pl.col(column).replace(gone))
    return before


def _with_new_rules(
    before: pl.DataFrame, after: pl.DataFrame
) -> tuple[pl.DataFrame, list[str], list[str]]:
    """Map rules to new names, found by their images; other images of one rule
    are faults.
    """
    found = [_images_by_rule(table) for table in (before, after)]
    lone = [{rule for rule in one if rule not in other} for one, other in (found, found[::-1])]
    pairs = inferred(*map(sorted, lone), lambda old, new: found[0][old] == found[1][new])
    names = [f"rules {_arrows(pairs)}"] if pairs else []
    before = before.with_columns(pl.col("rule").replace(pairs))
    old, new = _images_by_rule(before), found[1]
    faults = []
    for rule in sorted(old.keys() | new.keys()):
        lost = old.get(rule, Counter()) - new.get(rule, Counter())
        added = new.get(rule, Counter()) - old.get(rule, Counter())
        if lost or added:
            one = next(iter(lost or added))
            faults.append(f"rule {rule}: -{lost.total()} +{added.total()} issues, such as {one}")
    return before, faults, names


def _images_by_rule(table: pl.DataFrame) -> dict[str, Counter[tuple[str | None, ...]]]:
    found: dict[str, Counter[tuple[str | None, ...]]] = {}
    for rule, *issue in table.select("rule", "severity", "image_id", "other_image_id").rows():
        found.setdefault(rule, Counter())[tuple(issue)] += 1
    return found


def _with_common_rows(
    before: pl.DataFrame, after: pl.DataFrame, columns: list[str]
) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """Keep the rows of which both tables have the texts, and say which only one has."""
    keys = [one for one in columns if before[one].dtype == pl.String and not _is_prose(one)]
    if not keys:
        return before, after, [f"{before.height} rows -> {after.height}"]
    lost = before.join(after, on=keys, how="anti", nulls_equal=True)
    added = after.join(before, on=keys, how="anti", nulls_equal=True)
    one = next((lost if lost.height else added).select(keys).iter_rows(named=True), {})
    such = ", ".join(f"{key} {value}" for key, value in one.items() if value)
    faults = [f"rows: -{lost.height} +{added.height}, such as {such or 'repeated ones'}"]
    common = before.join(after, on=keys, how="semi", nulls_equal=True)
    return common, after.join(before, on=keys, how="semi", nulls_equal=True), faults


def _in_one_order(
    before: pl.DataFrame, after: pl.DataFrame, columns: list[str]
) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """Sort both tables where the same rows stand in another order.

    It is sorted by the columns that hold the same values in both. A table without such a text,
    as the bytes of an image, stays as it is.
    """
    keys = [one for one in columns if not _differing(before[one].sort(), after[one].sort()).any()]
    texts = [one for one in keys if before[one].dtype == pl.String and not _is_prose(one)]
    if all(before[one].equals(after[one], null_equal=True) for one in texts):
        return before, after, []
    note = [f"rows in another order, compared by {', '.join(keys[:3])} ..."]
    return *(table.sort(keys, nulls_last=True) for table in (before, after)), note


def _unpaired(
    before: pl.DataFrame,
    after: pl.DataFrame,
    pairs: dict[str, str],
    names: list[str],
    faults: list[str],
) -> int:
    """Find new names of left over columns by their cells; return the cells of the others."""
    lone = [[one for one in table.columns if one not in pairs] for table in (before, after)]
    more = inferred(*lone, lambda old, new: not _differing(before[old], after[new]).any())
    names += [f"columns {_arrows(more)}"] if more else []
    lost = [one for one in lone[0] if one not in more]
    added = [one for one in lone[1] if one not in more.values()]
    faults += [f"columns only before: {', '.join(lost)}"] if lost else []
    faults += [f"columns only after: {', '.join(added)}"] if added else []
    return before.height * (len(lost) + len(added))


def _differing(before: pl.Series, after: pl.Series) -> np.ndarray:
    """Return where two columns differ, bool (rows,); NaN equals NaN, and 0.0 is not -0.0."""
    if before.dtype != after.dtype:
        return np.ones(before.len(), bool)
    if not before.dtype.is_float():
        return before.ne_missing(after).to_numpy()
    unsigned = np.uint32 if before.dtype == pl.Float32 else np.uint64
    bits = [one.fill_null(0).to_numpy().view(unsigned) for one in (before, after)]
    both_nan = (before.is_nan() & after.is_nan()).fill_null(False).to_numpy()
    gaps = (before.is_null() != after.is_null()).to_numpy()
    return gaps | ((bits[0] != bits[1]) & ~both_nan)


def _column(
    rows: pl.DataFrame, other: pl.DataFrame, column: str, names: list[str], notes: list[str]
) -> tuple[list[str], int, float]:
    """Compare one column: faults, cells that differ, largest difference of two numbers."""
    before, after = rows[column], other[column]
    where = _differing(before, after)
    if where.any() and _is_prose(column):
        empty = [one.fill_null("").is_in(["", "null"]) for one in (before, after)]
        numbers = [one.fill_null("").str.extract_all(r"\d+(\.\d+)?") for one in (before, after)]
        where = (empty[0] != empty[1]).to_numpy()
        count = (numbers[0].list.sort() != numbers[1].list.sort()).sum()
        notes += [f"{column}: other numbers in the prose of {count} cells"] if count else []
    if not where.any():
        return [], 0, 0.0
    if before.dtype == after.dtype == pl.String:
        moved = set(zip(*(one.filter(pl.Series(where)) for one in (before, after)), strict=True))
        if _are_names(column, moved, before, after):
            names.append(f"values of {column}: " + _arrows(dict(sorted(moved))))
            return [], 0, 0.0
    first = int(where.argmax())
    one = next((rows[key][first] for key in ("image_id", "image", "metric") if key in rows), first)
    kinds = "" if before.dtype == after.dtype else f" ({before.dtype} -> {after.dtype})"
    count, example = int(where.sum()), f"such as {one}: {before[first]!r} -> {after[first]!r}"
    fault = f"{column}{kinds}: {count} of {len(where)}, {example}"
    return [fault], count, _largest(before, after)


def _are_names(
    column: str, cells: set[tuple[str | None, str | None]], before: pl.Series, after: pl.Series
) -> bool:
    """Return whether each value went for one that was not there, and came by it alone:
    a renaming.
    """
    old, new = ({cell[side] for cell in cells} for side in (0, 1))
    alone = len(old) == len(new) == len(cells) <= MOST_NAMES
    fresh = not old & set(after) and not new & set(before)
    words = all(cell and not _as_number(cell) for cell in old | new)
    return alone and fresh and words and IDENTITIES.isdisjoint({column})


def _as_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*(e[-+]?\d+)?|nan|inf|true|false|null)", text) is not None


def _largest(before: pl.Series, after: pl.Series) -> float:
    numbers = [one.cast(pl.Float64, strict=False).fill_nan(None) for one in (before, after)]
    found = (numbers[0] - numbers[1]).abs().max()
    return 0.0 if found is None else float(found)


def _shape(table: pl.DataFrame, columns: list[str]) -> str:
    cells = table.select(one for one in columns if not _is_prose(one))
    found = hashlib.sha256(cells.hash_rows(seed=0).to_numpy().tobytes()).hexdigest()
    return f"{table.height} x {table.width} {found[:6]}"


def _figures(before: pl.DataFrame, after: pl.DataFrame) -> tuple[str, ...]:
    """Return the leading figures of metrics.parquet; nothing of another table."""
    needed = {"metric", "value", "part", "by", "side", "source"}
    if not needed <= {*before.columns} & {*after.columns} or before.height != after.height:
        return ()
    figures = []
    for row, value in zip(before.iter_rows(named=True), after["value"], strict=True):
        of_all = (row["part"], row["by"], row["source"]) == ("test", "all", "all")
        if of_all and row["metric"] in ("dice", "auroc") and row["side"] in ("both", ""):
            what = f"{row[before.columns[0]]} {row['metric']}"
            figures.append(f"{what}: {row['value']!r} -> {value!r}")
    return tuple(figures)


# ------------------------------------------------------------------------------------ print


def lines(found: Sequence[tuple[str, Comparison]]) -> Iterator[str]:
    """Give a row for each table; files of one kind, as images and folds, are one row."""
    groups: dict[str, list[tuple[str, Comparison]]] = {}
    for name, one in found:
        group = re.sub(r"/[^/]+\.(png|jpg|txt)$", r"/*.\1", re.sub(r"folds/\d+/", "folds/*/", name))
        groups.setdefault(group, []).append((name, one))
    row = "{:40} {:>5}  {:22} {:22} {:>7} {:>11}  {}".format
    yield row("table", "files", "before", "after", "differ", "largest |d|", "verdict")
    for group, parts in sorted(groups.items()):
        comparisons = [one for _, one in parts]
        sizes = [_joined(comparisons, side) for side in ("before", "after")]
        cells = sum(one.cells for one in comparisons)
        largest = max(one.largest for one in comparisons)
        verdict = min(one.verdict for one in comparisons)  # DIFFERS, NAMES, same
        yield row(group, len(parts), *sizes, cells, f"{largest:.3g}", verdict)
        texts = [
            f"    {name if name != group else ''}  {text}"[:400]
            for name, one in parts
            for text in (*one.faults, *one.names, *one.notes)
        ]
        yield from texts[:12]
        yield from [f"    and {len(texts) - 12} more"] if len(texts) > 12 else []
    for name, one in found:
        if one.shown and "/folds/" not in name:
            yield f"\n{name}, before -> after"
            yield from (f"    {text}" for text in one.shown)


def _joined(found: Sequence[Comparison], side: str) -> str:
    if len(found) == 1:
        return getattr(found[0], side)
    text = "\n".join(getattr(one, side) for one in found)
    return f"{len(found)} files {hashlib.sha256(text.encode()).hexdigest()[:6]}"
