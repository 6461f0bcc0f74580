"""Do a step image by image, in shards that any executor may carry (`hilum.scale`).

While a step is done, its folder in the run holds a journal and, of a step that makes an image or a
mask of each image, the file that is filled; both are gone when the step is finished. Killed, the
step goes on there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from hilum import storage
from hilum.errors import BadData
from hilum.progress import Progress
from hilum.scale import journal, shards
from hilum.scale.shards import always
from hilum.scale.worker import Work
from hilum.storage import integrity

_JOURNAL = ".shards.sqlite"


@dataclass(frozen=True)
class Rows:
    """A file of uint8 (n, size, size) that is filled row by row and takes its name when whole."""

    path: Path
    size: int

    @property
    def filling(self) -> Path:
        """The file while it is filled."""
        return self.path.with_name(f".{self.path.name}.filling")

    def write(self, row: int, image: np.ndarray) -> int:
        """Write an image in its row; return its checksum."""
        with storage.in_place(self.filling) as descriptor:
            storage.write_at(descriptor, image.tobytes(), row * image.nbytes)
        return integrity.checksum(image)

    def holds(self, result: bytes) -> bool:
        """Return whether the row of a result, JSON with `row` and `crc32`, holds its image."""
        row, checksum = itemgetter("row", "crc32")(json.loads(result))
        with storage.in_place(self.filling) as descriptor:
            content = os.pread(descriptor, self.size**2, row * self.size**2)
        return integrity.checksum(content) == checksum

    def prepare(self, rows: int) -> None:
        """Make the file as long as it will be; another length is that of another step."""
        with storage.in_place(self.filling) as descriptor:
            os.ftruncate(descriptor, rows * self.size**2)

    def finish(self) -> None:
        """Give the file its name."""
        storage.settle(self.filling, self.path)


def results(
    folder: Path,
    work: Work,
    items: Mapping[str, Any],
    progress: Progress,
    *,
    made_from: object,
    rows: Rows | None = None,
) -> list[bytes]:
    """Return what `work` gives for each item, in their order, and finish `rows`.

    `folder` is that of the step. With `rows`, `work` writes an image there for each item, and gives
    what `Rows.holds` takes; a result whose image is lost is made again. The rest as in
    `hilum.scale.shards.run`. Raises `BadData` that lists the items at fault.
    """
    place = folder / _JOURNAL
    if rows is not None:
        rows.prepare(len(items))
    kept = rows.holds if rows else always
    outcomes = shards.run(work, items, place, made_from=made_from, kept=kept)
    found, faults = list[bytes](), list[str]()
    with closing(outcomes):
        for done, outcome in enumerate(outcomes, start=1):
            found.append(outcome.result)
            faults += [outcome.fault] if outcome.fault else []
            progress(done, len(items))
    if faults:
        raise BadData.listing(f"{folder}: images on which a step could not be done", faults)
    journal.delete(place)  # before the file takes its name, so that no journal outlives its file
    if rows is not None:
        rows.finish()
    return found
