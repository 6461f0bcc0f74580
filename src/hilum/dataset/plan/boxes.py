"""Read boxes out of tables and COCO files, in the pixels of the image file, each with the finding that it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hilum.annotations import shapes
from hilum.annotations.image_scale import Scale
from hilum.annotations.vocabulary import State
from hilum.dataset.manifest import Drawn
from hilum.dataset.plan import cells, labels, lexicon, statements
from hilum.dataset.plan.columns import TableReading
from hilum.dataset.plan.gathered import Gathered
from hilum.dataset.plan.image_index import ImageIndex
from hilum.dataset.plan.reading import Reading
from hilum.dataset.plan.statements import Statement
from hilum.errors import BadData
from hilum.imaging.files import raster

NOT_DRAWN = "not drawn"


def from_table(
    reading: Reading, table: TableReading, rows: Mapping[str, Sequence[int]], gathered: Gathered
) -> None:
    """Add the boxes of a table's rows; a box that does not lie in its image is left out by name."""
    corner = [table.first(role) for role in ("box_x", "box_y")]
    if None in corner:
        return
    ends = [table.first(role) for role in ("box_x_end", "box_y_end")]
    sides = [table.first(role) for role in ("box_width", "box_height")]
    frame = table.table.frame
    held = {name: frame[name].to_list() for name in {*corner, *ends, *sides} - {None}}
    stated = {
        role: frame[name].to_list() for role in ("height", "width") if (name := table.first(role))
    }
    for path, numbers in rows.items():
        for number in numbers:
            values = [
                cells.number(held[name][number])
                for name in (corner if None in ends else [*corner, *ends])
            ]
            values += [cells.number(held[name][number]) for name in sides] if None in ends else []
            if None in values:
                continue
            x, y, third, fourth = values
            box = (
                shapes.Box(y, x, fourth, third)
                if None in ends
                else shapes.Box(y, x, fourth - y, third - x)
            )
            size = (
                tuple(int(cells.number(stated[role][number]) or 0) for role in ("height", "width"))
                if len(stated) == 2
                else None
            )
            where = table.table.place(number)
            for concept, term in _findings(reading, table, number):
                _add(reading, path, box, size, concept, term, where, gathered)


def _findings(reading: Reading, table: TableReading, number: int) -> list[tuple[str, str]]:
    """Return (concept, term) of each finding that a row says is present."""
    found = []
    for name in table.columns:
        source, cell = f"{table.table.name}:{name}", table.table.frame[name][number]
        if vocabulary := reading.vocabularies.get(source):
            words = [(word, vocabulary.meanings.get(word)) for word in vocabulary.words(cell)]
            found += [
                (meaning.concept, word)
                for word, meaning in words
                if meaning and meaning.kind == lexicon.FINDING and meaning.concept
            ]
        elif (
            reading.findings.get(source, {}).get(cell) == State.PRESENT and reading.concepts[source]
        ):
            found.append((reading.concepts[source], name))
    return found


def _add(
    reading: Reading,
    path: str,
    box: shapes.Box,
    size: tuple[int, int] | None,
    concept: str,
    term: str,
    where: str,
    gathered: Gathered,
) -> None:
    """Add one box, scaled to the file where the size that it was drawn on is stated."""
    header = reading.headers.get(path)
    own = header.size if header else raster.size(*reading.folder.located(path))
    fitted, fault = fit(box, size, own)
    if fitted is None:
        gathered.remark(path, "box-misfit", f"{where}: {fault}")
    else:
        gathered.drawn[path].append(Drawn(term, fitted.to_json(), where, concept=concept))


def fit(
    box: shapes.Box, stated: tuple[int, int] | None, own: tuple[int, int] | None
) -> tuple[shapes.Box | None, str]:
    """Return a box in the pixels of a file of `own` (height, width), given the size it was drawn on; or why it cannot be."""
    if own is None:
        return None, "the size of its image is not known: the box is left out"
    if box.height <= 0 or box.width <= 0:
        return None, f"a box of {box.width:g}x{box.height:g} pixels is none: it is left out"
    fractions = (
        stated is None and max(box.top + box.height, box.left + box.width) <= 1
    )  # of the image, as YOLO writes them
    if fractions:
        box = shapes.Box(
            box.top * own[0], box.left * own[1], box.height * own[0], box.width * own[1]
        )
    elif stated:
        try:
            box = Scale.between(stated, own).shape(box)
        except BadData as fault:
            return None, f"{fault}: the box is left out"
    if (
        box.top < -1
        or box.left < -1
        or box.top + box.height > own[0] + 1
        or box.left + box.width > own[1] + 1
    ):
        return (
            None,
            f"a box to ({box.left + box.width:g}, {box.top + box.height:g}) leaves the image of {own[1]}x{own[0]}: it is left out",
        )
    return box, ""


def from_coco(reading: Reading, gathered: Gathered) -> None:
    """Add boxes and labels of COCO files: a category that is drawn is present; of listed images the others are absent, not drawn."""
    index = ImageIndex(reading.images)
    for name, coco in reading.coco.items():
        files = dict(
            zip(coco.images["id"].to_list(), coco.images["file_name"].to_list(), strict=True)
        )
        match = index.match(files.values(), name)
        groups = set(coco.categories["supercategory"].to_list())
        used = set(coco.annotations["category_id"].to_list())
        listed = coco.categories.select("id", "name").iter_rows()
        # A category that nothing is drawn of and that others stand below is their heading, as Roboflow writes one.
        said = {
            it: labels.known(category, reading.settings)
            for it, category in listed
            if it in used or category not in groups
        }
        words = dict(coco.categories.select("id", "name").iter_rows())
        concepts = {
            it: (meaning.concept if meaning else lexicon.local(words[it]))
            for it, meaning in said.items()
            if not meaning or meaning.concept
        }
        sizes = {
            it: (height, width)
            for it, height, width in coco.images.select("id", "height", "width").iter_rows()
        }
        drawn: dict[str, set[str]] = {path: set() for path in match.files.values()}
        for image, category, box in coco.annotations.select(
            "image_id", "category_id", "bbox"
        ).iter_rows():
            path, concept = match.files.get(files.get(image, "")), concepts.get(category)
            if path is None or concept is None:
                continue
            drawn[path].add(concept)
            where = f"{name}, image {files[image]}"
            gathered.statements[path].append(
                Statement(concept, State.PRESENT, words[category], where, "drawn")
            )
            if box is not None and len(box) == 4:
                _add(
                    reading,
                    path,
                    shapes.Box(box[1], box[0], box[3], box[2]),
                    sizes.get(image),
                    concept,
                    words[category],
                    where,
                    gathered,
                )
        terms = {concept: words[it] for it, concept in concepts.items()}
        for path, present in drawn.items():
            gathered.statements[path] += [
                Statement(
                    concept, State.ABSENT, term, f"{name}, image {path}", NOT_DRAWN, implied=True
                )
                for concept, term in terms.items()
                if concept not in present and concept not in statements.DEVICES
            ]
