"""ChestX-ray14 of the NIH Clinical Center, as released, as on Kaggle, or a part of it.

    Data_Entry_2017_v2020.csv      or Data_Entry_2017.csv, or sample_labels.csv: a line per image
    images/00000001_000.png        or images_001/images/ … images_012/images/, or beside the table
    BBox_List_2017.csv             984 manual boxes: x, y, width, height in pixels of 1024x1024
    train_val_list.txt             the official split, with test_list.txt
    train_list.txt, val_list.txt   the 70/20/10 lists in common use; or train.txt and so on

Tables may be gzipped (.csv.gz). Columns are found by name, in either of two spellings
(`hilum.dataset.readers._nih_cells`). Ages are years (58), or a number with its unit (058Y, 011M,
003D). Of two tables the one of 2020 is read; of two splits the official one. In the 70/20/10 lists
14 numbers follow each name, the findings of 2017 once more, which are not read. Boxes are scaled
to copies of another size.

Labels. A table names the findings that text mining found in the report; "No Finding" means that it
found none of the 14. Every finding that a line names is present. All others of the 14 are absent
by rule "not listed", as is usual in the literature: nobody stated that they are absent.

Without a single image the table is read alone, as if the images were in images/. Otherwise lines
without an image are left out.

Source: Wang et al., CVPR 2017:2097-2106, and the release's README and FAQ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from hilum.annotations import shapes
from hilum.annotations.acquisition import OLDEST_YEARS
from hilum.annotations.image_scale import Scale
from hilum.dataset.groups import repeats
from hilum.dataset.image_columns import ImageColumns
from hilum.dataset.manifest import DROPPED, Drawn, Remark
from hilum.dataset.readers import _nih_cells, _nih_example, _nih_layout, _nih_table
from hilum.dataset.readers._nih_cells import FINDINGS, NO_FINDING, TERMS
from hilum.dataset.readers._nih_layout import BOXES, ENTRIES, OFFICIAL, SPLITS
from hilum.dataset.readers._reading_log import ReadingLog, counted
from hilum.errors import BadData
from hilum.imaging.files import opened, raster
from hilum.plugins import Card

__all__ = [
    "BOXES",
    "CARD",
    "ENTRIES",
    "FINDINGS",
    "LACKS",
    "NAMES_ARE_PUBLISHED",
    "OFFICIAL",
    "TERMS",
    "detect",
    "example",
    "rows",
]

CARD = Card(
    title="ChestX-ray14 (NIH Clinical Center)",
    licence="unrestricted use as stated by the NIH Clinical Center: link to its download site, "
    "acknowledge it and cite the paper",
    source="NIH Clinical Center, nihcc.app.box.com/v/ChestXray-NIHCC; also Kaggle: "
    "nih-chest-xrays/data",
    citation="Wang et al. 2017, ChestX-ray8: hospital-scale chest X-ray database and benchmarks, "
    "CVPR 2017:2097-2106",
    counts="112,120 frontal images of 30,805 patients (32,717 are stated; the table names 30,805), "
    "14 findings, 984 boxes on 880 images",
    caveats="Labels were text-mined from reports; nobody read the images for them. A finding "
    "that is not listed is taken to be absent by rule 'not listed': it was not mentioned, or "
    "text mining missed it. 'No Finding' means none of the 14, not normal. The files of 2017 and "
    "2020 differ in labels and ages. Stated size and spacing are of the original image, not of "
    "the file, which was scaled to 1024x1024 with 8 bits. The number of the follow-up is not the "
    "number in the file's name. Many images were taken after treatment: pneumothorax often "
    "appears with its drain.",
)
NAMES_ARE_PUBLISHED = True
LACKS = frozenset({"masks"})  # no masks of the lungs
RELEASED = (1024, 1024)  # height, width of the released images, in whose pixels boxes are given
_SPACES = " \t\r\v\f\x1c\x1d\x1e\x1f"  # of ASCII, but for the end of a line
_IN_RELEASED = "boxes are in the pixels of the released 1024x1024 images"


@dataclass(frozen=True)
class _Release:
    """Everything but the table of images: what belongs to an image, by its bare file name."""

    images: Mapping[str, str]  # path relative to the root
    boxes: Mapping[str, Sequence[Drawn]]
    parts: pl.DataFrame  # file, given_part


def detect(root: Path) -> bool:
    """Return whether a folder has a table of images with the columns of ChestX-ray14."""
    return bool(_tables(root))


def rows(root: Path) -> Iterator[ImageColumns | Remark]:
    """Yield remarks, then the images. Raises `BadData` with all faults of the tables and lists."""
    log, tables = ReadingLog(root), _tables(root)
    if not tables:
        return
    first = log.place(tables[0])
    for path in tables[1:]:
        log.remark(log.place(path), "info", DROPPED, f"is not read: {first} takes its place")
    images = _images(log)
    release = _Release(images, _boxes(log, images), _parts(log))
    found = _entries(log, tables[0], release)
    if log.faults:
        raise BadData.listing(f"{root} is not a sound copy of ChestX-ray14", log.faults)
    found = found.join(release.parts, on="file", how="left", maintain_order="left")
    _report_unmatched(log, first, release, found)
    yield from log.remarks
    here = found.filter(pl.col("file").is_in(_names(images).implode()))
    yield _image_columns(tables[0], here if here.height else found, release)


def example(root: Path, *, images: int = 16, seed: int = 0, size: int | None = None) -> None:
    """Write a made-up copy: patients with one to three images, boxes, and the official lists."""
    _nih_example.write(root, images=images, seed=seed, size=size)


def _tables(root: Path) -> list[Path]:
    """Return the tables of images by precedence: those of known names, or the only one alike."""
    known = [
        path
        for path in _nih_layout.tables(root, ENTRIES)
        if path.name.startswith("Data_Entry_2017") or _nih_table.has(path, [_nih_cells.NAME])
    ]
    if known:
        return known
    columns = [_nih_cells.NAME, _nih_cells.LABELS, *_nih_cells.FACTS]
    alike = [path for path in _nih_layout.csv_files(root) if _nih_table.has(path, columns)]
    return alike if len(alike) == 1 else []


def _entries(log: ReadingLog, path: Path, release: _Release) -> pl.DataFrame:
    """Return the table with `image`, the path of each, whether or not it is here."""
    columns = (_nih_cells.NAME, _nih_cells.LABELS, *_nih_cells.FACTS)
    table = _nih_table.table(path, columns, log)
    line = pl.format("line {}", "line")
    _report_repeated(log, table, pl.lit(f"{path.name} ") + line, line)
    places = pl.DataFrame(
        {"file": list(release.images), "image": list(release.images.values())},
        schema={"file": pl.String, "image": pl.String},
    )
    found = table.join(places, on="file", how="left", maintain_order="left").with_columns(
        image=pl.coalesce("image", pl.lit("images/") + pl.col("file"))
    )
    _report_cells(log, path, found)
    age = pl.col("age_years")
    return found.with_columns(age_years=pl.when(age <= OLDEST_YEARS).then(age))


def _report_repeated(log: ReadingLog, table: pl.DataFrame, line: pl.Expr, earlier: pl.Expr) -> None:
    """Log each line that names a file which one before it names: where it is, and that one."""
    if not repeats(table["file"]):
        return
    place = table.select("file", line=line, earlier=earlier.first().over("file"))
    for name, where, first in place.filter(~pl.col("file").is_first_distinct()).iter_rows():
        log.faults.append(f"{where}: {name} stands in {first} already")


def _report_cells(log: ReadingLog, path: Path, found: pl.DataFrame) -> None:
    """Remark on each line that contradicts itself, or whose age is not one of a person."""
    both = pl.col("listed").str.contains("|", literal=True) & pl.col("listed").str.contains(
        NO_FINDING, literal=True
    )
    too_old = pl.col("age_years") > OLDEST_YEARS
    odd = found.select("image", "line", "age_years", both=both, too_old=too_old)
    for image, line, age, contradicts, impossible in odd.filter(
        pl.col("both") | pl.col("too_old")
    ).iter_rows():
        where = f"{path.name} line {line}"
        if contradicts:
            message = f"{where} names a finding and '{NO_FINDING}': the finding is used"
            log.remark(image, "warning", "label-conflict", message)
        if impossible:
            message = f"{where} states an age of {age:g} years: it is left empty"
            log.remark(image, "warning", "age-impossible", message)


def _image_columns(path: Path, found: pl.DataFrame, release: _Release) -> ImageColumns:
    """Return the images of the table `found`, with what belongs to them."""
    listed = found["listed"].unique().sort()
    source = f"{path.name}, column Finding Labels"
    table = found.select(
        "image",
        "given_part",
        *(column.field for column in _nih_cells.FACTS),
        name=pl.col("file").str.extract(r"(?s)^(.*)\.").fill_null(""),
        labels=pl.col("listed").cast(pl.Enum(listed)).to_physical().cast(pl.UInt32),
    )
    boxed = found.filter(pl.col("file").is_in(_names(release.boxes).implode()))["file"]
    return ImageColumns(
        table,
        [_nih_cells.labels(source, cell)[0] for cell in listed],
        [(file.rpartition(".")[0], box) for file in boxed for box in release.boxes[file]],
    )


def _names(names: Iterable[str]) -> pl.Series:
    return pl.Series(list(names), dtype=pl.String)


def _images(log: ReadingLog) -> dict[str, str]:
    """Return the path of each image by its bare name, with remarks on all other files."""
    found = _nih_layout.files(log.root)
    remarks = (
        (found.again, "warning", "images: another folder has one of the same name, which is used"),
        (found.others, "info", "files are not images"),
        (found.macos, "info", "files are what macOS leaves behind"),
    )
    for files, severity, message in remarks:
        if files:
            log.remark(files[0], severity, DROPPED, f"{counted(files)} {message}")
    return found.images


def _boxes(log: ReadingLog, images: Mapping[str, str]) -> dict[str, list[Drawn]]:
    """Return the boxes by image name, in the pixels of the image's file."""
    path = next(iter(_nih_layout.tables(log.root, (BOXES,))), None)
    if path is None:
        return {}
    drawn: dict[str, list[Drawn]] = {}
    scaled: dict[str, None] = {}
    for number, (name, term, x, y, width, height) in _nih_table.rows(
        path, (_nih_cells.NAME, *_nih_cells.BOX), log
    ):
        box, where = shapes.Box(y, x, height, width), f"{path.name} line {number}"
        if faults := shapes.faults(box, RELEASED):
            log.faults += [f"{where}: the box {fault}; {_IN_RELEASED}" for fault in faults]
            continue
        size = raster.size(log.root / images[name], opened.root()) if name in images else None
        try:
            # A file whose size cannot be read is reported when pixels are cached.
            scale = Scale.between(RELEASED, size or RELEASED)
        except BadData as fault:
            log.faults.append(
                f"{where}: {images[name]}: {fault}; {_IN_RELEASED}, so keep copies square, "
                f"or remove {path.name} to go without boxes"
            )
            continue
        if scale.file != RELEASED:
            scaled[name] = None
        drawn.setdefault(name, []).append(Drawn(term, scale.shape(box).to_json(), where))
    if scaled:
        message = (
            f"{_IN_RELEASED}; those on {counted(list(scaled))} copies of another size were scaled"
        )
        log.remark(log.place(path), "info", "box-scaled", message)
    return drawn


def _parts(log: ReadingLog) -> pl.DataFrame:
    """Return `given_part` of each `file`, as the lists that take precedence state it."""
    lists = (path for split in SPLITS for path in reversed(_nih_layout.tables(log.root, split)))
    there = {path.name.removesuffix(".gz"): path for path in lists}
    used = next((split for split in SPLITS if next(iter(split)) in there), {})
    names = [name for name in used if name in there]
    why = f"{', '.join(names)} used instead" if used else "there is no list of the training part"
    for name in sorted(there.keys() - used.keys()):
        log.remark(log.place(there[name]), "info", DROPPED, f"is not read: {why}")
    kinds = {"file": pl.String, "line": pl.Int64, "list": pl.String, "given_part": pl.String}
    stated = [pl.DataFrame(schema=kinds)]
    for name in names:
        files = _first_words(_nih_table.text(there[name], log))
        listed = files.to_frame("file").with_row_index("line", 1)
        part = listed.drop_nulls().with_columns(list=pl.lit(name), given_part=pl.lit(used[name]))
        stated.append(part.select(pl.col(one).cast(kind) for one, kind in kinds.items()))
    parts = pl.concat(stated)
    line = pl.format("{} line {}", "list", "line")
    _report_repeated(log, parts, line, line)
    return parts.select("file", "given_part")


def _first_words(content: str) -> pl.Series:
    """Return what each line begins with, without what follows a space; null of an empty line."""
    lines = content.removesuffix("\n")
    spaced = not content.isascii() or any(space in content for space in _SPACES)
    if lines and not spaced:
        words = pl.Series([lines]).str.split("\n").explode()
        if not (words == "").any():
            return words
    return pl.Series(
        [line.split(maxsplit=1)[0] if line.strip() else None for line in content.splitlines()],
        dtype=pl.String,
    )


def _report_unmatched(log: ReadingLog, table: str, release: _Release, listed: pl.DataFrame) -> None:
    """Remark on images that one file names and another does not, each kind once with its count.

    `listed`: file, and its given_part where a list names it.
    """
    images, boxes, found = _names(release.images), _names(release.boxes), listed["file"]
    absent = _missing(found, images)
    if len(absent) == len(found):
        message = (
            f"none of its {len(found)} images is here: the table is read alone; put them in images/"
        )
        log.remark(table, "warning", "images-missing", message)
    elif len(absent):
        message = (
            f"{counted(absent)} of its {len(found)} images are not here: their lines are left out"
        )
        log.remark(table, "warning", DROPPED, message)
    unlisted = [release.images[name] for name in _missing(images, found)]
    parts, placed = release.parts["file"], listed["given_part"].is_not_null()
    partless = found.filter(~placed).to_list() if len(parts) else []
    # Each list names an image once, as each line does.
    unknown = _missing(parts, found) if placed.sum() < len(parts) else []
    remarks = (
        (unlisted, "warning", DROPPED, f"{table} does not list them"),
        (
            _missing(boxes, found),
            "warning",
            "box-orphan",
            f"{BOXES} has boxes on them, but {table} does not list them",
        ),
        (
            unknown,
            "info",
            "part-orphan",
            f"the lists of the split name them, but {table} does not",
        ),
        (partless, "warning", "part-missing", "no list of the split names them"),
    )
    for names, severity, rule, message in remarks:
        if names:
            log.remark(names[0], severity, rule, f"{counted(names)} images: {message}")


def _missing(names: pl.Series, known: pl.Series) -> list[str]:
    """Return the names that are not known, in their order."""
    if not len(names):  # as of boxes: a million others are not made ready to be searched
        return []
    return names.filter(~names.is_in(known.implode())).to_list()
