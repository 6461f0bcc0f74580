"""Bounding boxes from tables and COCO files, in pixels of the image file, each with its finding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hilum.annotations import shapes
from hilum.annotations.image_scale import Scale
from hilum.annotations.vocabulary import State
from hilum.dataset.manifest import Drawn
from hilum.dataset.plan import cells, labels, lexicon, statements
from hilum.dataset.plan.columns import TableReading
from hilum.dataset.plan.gathered import Gathered
from hilum.dataset.plan.image_index import ImageIndex
from hilum.dataset.plan.reading import Reading, source_of
from hilum.dataset.plan.statements import Statement
from hilum.dataset.tables import Coco
from hilum.errors import BadData
from hilum.imaging.files import raster

NOT_DRAWN = "not drawn"  # rule of a finding that COCO lists as a category and nobody drew
Size = tuple[int, int]  # height, width in pixels


@dataclass(frozen=True)
class _Box:
    """A box as a source states it: `size` is that of the image it was drawn on, where stated."""

    box: shapes.Box
    size: Size | None
    concept: str
    term: str
    source: str


def from_table(
    reading: Reading, table: TableReading, rows: Mapping[str, Sequence[int]], gathered: Gathered
) -> None:
    """Add the boxes of a table's rows, given by image path; report those outside of their image."""
    box_x, box_y = table.first("box_x"), table.first("box_y")
    if box_x is None or box_y is None:
        return
    ends = [name for role in ("box_x_end", "box_y_end") if (name := table.first(role))]
    sides = [name for role in ("box_width", "box_height") if (name := table.first(role))]
    is_corners = len(ends) == 2
    held = [table.cells(name) for name in (box_x, box_y, *(ends if is_corners else sides))]
    stated = [table.cells(name) for role in ("height", "width") if (name := table.first(role))]
    for path, numbers in rows.items():
        for number in numbers:
            values = _numbers(held, number)
            if values is None:
                continue
            x, y, third, fourth = values
            height, width = (fourth - y, third - x) if is_corners else (fourth, third)
            box = shapes.Box(y, x, height, width)
            size = _stated_size(stated, number)
            place = table.table.place(number)
            for concept, term in _findings(reading, table, number):
                _add(reading, path, _Box(box, size, concept, term, place), gathered)


def _numbers(columns: Sequence[Sequence[str]], row: int) -> list[float] | None:
    """Return the numbers in a row of some columns; None where one is missing."""
    found = [cells.number(column[row]) for column in columns]
    numbers = [number for number in found if number is not None]
    return numbers if len(numbers) == len(found) else None


def _stated_size(columns: Sequence[Sequence[str]], row: int) -> Size | None:
    """Return (height, width) that a row states, 0 for a cell that is no number."""
    if len(columns) != 2:
        return None
    height, width = (int(cells.number(column[row]) or 0) for column in columns)
    return height, width


def _findings(reading: Reading, table: TableReading, number: int) -> list[tuple[str, str]]:
    """Return (concept, term) of each finding that a row states as present."""
    found = []
    for name in table.columns:
        source, cell = source_of(table, name), table.table.frame[name][number]
        if vocabulary := reading.vocabularies.get(source):
            words = [(word, vocabulary.meanings.get(word)) for word in vocabulary.words(cell)]
            found += [
                (meaning.concept, word)
                for word, meaning in words
                if meaning and meaning.kind == lexicon.FINDING and meaning.concept
            ]
        elif reading.findings.get(source, {}).get(cell) == State.PRESENT and (
            concept := reading.concepts[source]
        ):
            found.append((concept, name))
    return found


def _add(reading: Reading, path: str, stated: _Box, gathered: Gathered) -> None:
    """Add one box, scaled to the file where the size that it was drawn on is stated."""
    header = reading.headers.get(path)
    own = header.size if header else raster.size(*reading.folder.located(path))
    fitted, fault = fit(stated.box, stated.size, own)
    if fitted is None:
        gathered.remark(path, "box-misfit", f"{stated.source}: {fault}")
    else:
        shape = fitted.to_json()
        drawn = Drawn(stated.term, shape, stated.source, concept=stated.concept)
        gathered.drawn[path].append(drawn)


def fit(box: shapes.Box, stated: Size | None, own: Size | None) -> tuple[shapes.Box | None, str]:
    """Return a box in pixels of a file of size `own`, or None and the reason why it has no place.

    `stated` is the size of the image that the box was drawn on. Without it, a box within the unit
    square is taken for fractions of the image, as YOLO writes them. A box may exceed the image by
    one pixel, for rounding.
    """
    if own is None:
        return None, "the size of its image is not known: the box is left out"
    if box.height <= 0 or box.width <= 0:
        return None, f"a box of {box.width:g}x{box.height:g} pixels is none: it is left out"
    if stated is None and max(box.top + box.height, box.left + box.width) <= 1:
        height, width = own
        box = shapes.Box(box.top * height, box.left * width, box.height * height, box.width * width)
    elif stated:
        try:
            scaled = Scale.between(stated, own).shape(box)
        except BadData as fault:
            return None, f"{fault}: the box is left out"
        assert isinstance(scaled, shapes.Box)  # a scaled box is a box
        box = scaled
    bottom, right = box.top + box.height, box.left + box.width
    if min(box.top, box.left) < -1 or bottom > own[0] + 1 or right > own[1] + 1:
        return None, (
            f"a box to ({right:g}, {bottom:g}) leaves the image of {own[1]}x{own[0]}: "
            "it is left out"
        )
    return box, ""


def from_coco(reading: Reading, gathered: Gathered) -> None:
    """Add boxes and labels of COCO files.

    A category with an annotation is present in its image. The other categories are absent from
    every listed image, by the rule `NOT_DRAWN`.
    """
    index = ImageIndex(reading.images)
    for name, coco in reading.coco.items():
        file_of: dict[str, str] = dict(coco.images.select("id", "file_name").iter_rows())
        match = index.match(file_of.values(), name)
        words: dict[str, str] = dict(coco.categories.select("id", "name").iter_rows())
        concepts = _concepts(reading, coco)
        present: dict[str, set[str]] = {path: set() for path in match.files.values()}
        for image, category, box, size in _annotations(coco):
            file = file_of.get(image, "")
            path, concept = match.files.get(file), concepts.get(category)
            if path is None or concept is None:
                continue
            present[path].add(concept)
            place, term = f"{name}, image {file}", words[category]
            said = Statement(concept, State.PRESENT, term, place, "drawn")
            gathered.statements[path].append(said)
            if box is not None:
                _add(reading, path, _Box(box, size, concept, term, place), gathered)
        terms = {concept: words[category] for category, concept in concepts.items()}
        for path, drawn in present.items():
            place = f"{name}, image {path}"
            gathered.statements[path] += [
                Statement(concept, State.ABSENT, term, place, NOT_DRAWN, implied=True)
                for concept, term in terms.items()
                if concept not in drawn and concept not in statements.DEVICES
            ]


def _concepts(reading: Reading, coco: Coco) -> dict[str, str]:
    """Return the concept by category id, of the categories that name a finding."""
    groups = set(coco.categories["supercategory"].to_list())
    used = set(coco.annotations["category_id"].to_list())
    concepts: dict[str, str] = {}
    for category, word in coco.categories.select("id", "name").iter_rows():
        if category not in used and word in groups:
            continue  # the heading of other categories, as Roboflow writes one
        meaning = labels.known(word, reading.settings)
        concept = meaning.concept if meaning else lexicon.local(word)
        if concept:
            concepts[category] = concept
    return concepts


def _annotations(coco: Coco) -> Iterator[tuple[str, str, shapes.Box | None, Size | None]]:
    """Yield image id, category id, box and stated size of the image of each annotation."""
    sizes = {
        image: (height, width)
        for image, height, width in coco.images.select("id", "height", "width").iter_rows()
    }
    columns = coco.annotations.select("image_id", "category_id", "bbox")
    for image, category, box in columns.iter_rows():
        drawn = None
        if box is not None and len(box) == 4:
            x, y, width, height = box
            drawn = shapes.Box(y, x, height, width)
        yield image, category, drawn, sizes.get(image)
