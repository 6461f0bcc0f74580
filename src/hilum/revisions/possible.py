"""Whether a run could take a journal up: no change is kept after which its corrections contradict.

Corrections that contradict one another, such as two images of a pair of which each is left out for
the other one, stop every further run. So each change is checked before it is written, with all that
stands about its images, about the images that they are paired with, and so on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator

from hilum.dataset import corrections
from hilum.dataset.corrections import Correction
from hilum.dataset.manifest import Manifest
from hilum.errors import BadData
from hilum.revisions import changes
from hilum.revisions.changes import Change, Correct, DecideIssue

NAME = "the journal"  # as errors of corrections call their source

Cell = tuple[str, str, str]


class Standing:
    """The corrections that stand, one for each cell, found by the images that they name."""

    def __init__(self, found: Iterable[Correction]) -> None:
        self._by_cell: dict[Cell, Correction] = {}
        self._cells: dict[str, set[Cell]] = defaultdict(set)
        self.put(found)

    def put(self, entries: Iterable[Correction]) -> dict[Cell, Correction | None]:
        """Let corrections stand; return what stood in their cells, for `restore`."""
        before: dict[Cell, Correction | None] = {}
        for one in entries:
            before.setdefault(one.cell, self._by_cell.get(one.cell))
            self._by_cell[one.cell] = one
            for image_id in images_of(one):
                self._cells[image_id].add(one.cell)
        return before

    def restore(self, before: dict[Cell, Correction | None]) -> None:
        """Take a `put` back."""
        for cell, one in before.items():
            if one is not None:
                self._by_cell[cell] = one
                continue
            for image_id in images_of(self._by_cell.pop(cell)):
                self._cells[image_id].discard(cell)

    def around(self, images: Iterable[str]) -> list[Correction]:
        """Return those about images, about the images that they are paired with, and so on."""
        seen, waiting, cells = set[str](), list(images), set[Cell]()
        while waiting:
            image_id = waiting.pop()
            if image_id in seen:
                continue
            seen.add(image_id)
            cells |= (found := self._cells.get(image_id, set()))
            waiting += [one for cell in found for one in images_of(self._by_cell[cell])]
        return [self._by_cell[cell] for cell in sorted(cells)]


def images_of(one: Correction) -> Iterator[str]:
    """Yield the image of a correction and, of a pair, the second one."""
    yield one.image_id
    if one.other is not None:
        yield one.other


def named_by(change: Change) -> set[str]:
    """Return all images that a change names."""
    stated = change.corrections if isinstance(change, Correct | DecideIssue) else ()
    named = {one for one in changes.images_of(change) if one is not None}
    return named.union(*map(images_of, stated))


def refuse_conflicts(standing: Standing, images: Collection[str], manifest: Manifest) -> None:
    """Raise `BadData` where a run could not take up what stands about images.

    `manifest` holds at least those of the data's images that `standing.around` names; what is
    about an image that it lacks, left out by an earlier correction, is held against the others
    alone.
    """
    around = standing.around(images)
    if faults := corrections.conflicts(around):
        raise BadData.listing(
            f"{NAME} would contradict itself, and no run could take it up", faults
        )
    known = set(manifest.table["image_id"])
    here = [one for one in around if known.issuperset(images_of(one))]
    named = sorted({image_id for one in here for image_id in images_of(one)})
    corrections.apply(manifest.only(named), here, NAME)
