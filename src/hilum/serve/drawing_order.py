"""Which images to draw next: `hilum.inference.next_to_draw` over the images of a study.

The images whose masks are most uncertain are ordered, beside a sample of those that have a mask, so
that a study of 100,000 images waits no longer than one of some thousands.
"""

from __future__ import annotations

import threading

import numpy as np
import polars as pl

from hilum.inference import next_to_draw
from hilum.serve.study import Study
from hilum.serve.worklist import Worklist

MOST_OPEN, MOST_DONE = 1500, 300  # images without and with a mask that are compared
LIMIT = 200  # images that are ordered
SCHEMA = {"row": pl.Int64, "rank": pl.Int64, "gain": pl.Float64, "why": pl.String}


class DrawingOrder:
    """The order to draw of one study. Threads may share it."""

    def __init__(self, study: Study, base: Worklist) -> None:
        self._study, self._base = study, base
        self._rows = _chosen(study, base)
        self._lock = threading.Lock()
        self._found: tuple[bytes, pl.DataFrame] | None = None

    def order(self, listed: Worklist) -> pl.DataFrame:
        """Return row, rank, gain and why of the images to draw next, the best first."""
        done = ~listed.without_mask[self._rows]
        with self._lock:
            if self._found is None or self._found[0] != done.tobytes():
                self._found = done.tobytes(), self._ordered(listed, done)
            return self._found[1]

    def _ordered(self, listed: Worklist, done: np.ndarray) -> pl.DataFrame:
        if done.all():
            return pl.DataFrame(schema=SCHEMA)
        quality = pl.Series(listed.quality[self._rows]).fill_nan(None)
        ids = self._study.manifest.table["image_id"][self._rows]
        candidates = pl.DataFrame({"image_id": ids, "quality": quality, "corrected": done})
        found = next_to_draw.order(candidates, limit=LIMIT)
        rows = [self._study.row(image_id) for image_id in found["image_id"]]
        return found.with_columns(row=pl.Series(rows, dtype=pl.Int64)).select(list(SCHEMA))


def _chosen(study: Study, base: Worklist) -> np.ndarray:
    """Return the rows that are ordered and compared, int64, sorted."""
    readable = study.cached.index["error"].is_null().to_numpy()
    is_open = np.flatnonzero(base.without_mask & readable)
    worst_first = is_open[np.argsort(np.nan_to_num(base.quality[is_open], nan=0.0), kind="stable")]
    done = np.flatnonzero(~base.without_mask & readable)
    some = done[:: max(1, len(done) // MOST_DONE)][:MOST_DONE]
    return np.sort(np.concatenate([worst_first[:MOST_OPEN], some]))
