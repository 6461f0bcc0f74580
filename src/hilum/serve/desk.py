"""The desk: one study, the journal of what its readers state, and what is kept for the next request.

All routes share one desk, from several threads. The journal may also grow by another process: what
stands is read again whenever its last revision has another number.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from hilum.annotations.vocabulary import LABEL_NAMES
from hilum.errors import NotFound
from hilum.revisions import changes
from hilum.revisions.journal import FOLDER, Journal
from hilum.revisions.state import State
from hilum.run_folder import Run
from hilum.serve import pixels
from hilum.serve.keeping import Recent, Results
from hilum.serve.model_process import ModelProcess
from hilum.serve.preparation import Preparation
from hilum.serve.queries import Query
from hilum.serve.replies import Refusal
from hilum.serve.sessions import Sessions
from hilum.serve.settings import Settings
from hilum.serve.study import Study
from hilum.serve.worklist import NOT_MENTIONED, Worklist

Result = TypeVar("Result")
QUICK, SLOW, MODELS = "quick", "slow", "models"
# Threads: for what a reader waits for, for what may take seconds, and for the process of models.
THREADS = {QUICK: 4, SLOW: 2, MODELS: 1}
MOST_DECODING = 2  # image files at once
_ORDERS, _MASKS, _ANSWERS = 1 << 22, 1 << 24, 1 << 21  # bytes
_CODES = {name: NOT_MENTIONED if one is None else int(one) for one, name in LABEL_NAMES.items()}


class Desk:
    """One desk, open until `close`."""

    def __init__(self, preparation: Preparation, settings: Settings) -> None:
        limits = settings.limits
        self.preparation, self.settings, self.sessions = preparation, settings, Sessions(settings)
        self.compared = {path.resolve().name: Run(path) for path in settings.compare}
        self.files: Recent[pixels.Shown] = Recent(limits.files_in_memory, lambda one: one.held)
        self.thumbnails: Recent[bytes] = Recent(limits.thumbnails_in_memory, len)
        self.masks: Recent[bytes] = Recent(_MASKS, len)
        self.orders: Recent[np.ndarray] = Recent(_ORDERS, lambda one: one.nbytes)
        self.answers: Recent[bytes] = Recent(_ANSWERS, len)
        self.results = Results(limits.results_in_memory, limits.results_seconds)
        self.models = ModelProcess(limits.seconds)
        self._pools = {name: ThreadPoolExecutor(count, name) for name, count in THREADS.items()}
        self._decoding = threading.Semaphore(MOST_DECODING)
        self.drawing = threading.Lock()  # one mask at once is checked and kept
        self._lock = threading.RLock()
        self._journal: Journal | None = None
        self._state = State()
        self._listed: tuple[int, Worklist] | None = None
        self._others: dict[str, Study] = {}

    def close(self) -> None:
        """End its threads and close the journal."""
        self.preparation.stop()
        for pool in self._pools.values():
            pool.shutdown(wait=True, cancel_futures=True)
        self.models.close()
        with self._lock:
            if self._journal is not None:
                self._journal.close()
                self._journal = None

    # -------------------------------------------------------------------------------------- work

    async def work(self, job: Callable[[], Result], kind: str = QUICK) -> Result:
        """Do a job in a thread. Raises `Refusal` (503) where it takes too long.

        The job goes on in its thread, of which there are a few only: a flood of slow requests
        waits for one another, and never for more threads.
        """
        future = asyncio.get_running_loop().run_in_executor(self._pools[kind], job)
        try:
            async with asyncio.timeout(self.settings.limits.seconds):
                return await asyncio.shield(future)
        except TimeoutError:
            future.add_done_callback(_heard)
            raise Refusal(
                503,
                f"the request took more than {self.settings.limits.seconds:g} seconds",
                "wait a moment and repeat it",
            ) from None

    # ------------------------------------------------------------------------------------- study

    @property
    def study(self) -> Study:
        """The study. Raises `Refusal` (503) while it is being prepared, and where that failed."""
        return self.preparation.study

    def other(self, name: str) -> Study:
        """Return another run that the desk was started with. Raises `Refusal` for another name."""
        if name not in self.compared:
            raise Refusal(
                404, f"no run '{name[:60]}' was given", "start the desk with --compare RUN for each"
            )
        with self._lock:
            if name not in self._others:
                self._others[name] = Study.of(self.compared[name])
            return self._others[name]

    @property
    def folder(self) -> Path:
        """Where the journal is, or will be with the first change."""
        return self.preparation.run.folder / FOLDER

    @property
    def journal(self) -> Journal | None:
        """The journal as far as there is one; None before the first change."""
        with self._lock:
            if self._journal is None:
                read_only = self.settings.read_only
                try:
                    self._journal = Journal.open(self.folder, create=False, read_only=read_only)
                except NotFound:
                    return None
            return self._journal

    @property
    def writing(self) -> Journal:
        """The journal to write to; it begins with the first change."""
        with self._lock:
            if self._journal is None:
                self._journal = Journal.open(self.folder)
            return self._journal

    @property
    def state(self) -> State:
        """What stands after all revisions."""
        journal = self.journal
        with self._lock:
            if journal is not None and journal.last != self._state.last:
                self._state = self._state.updated(journal)
            return self._state

    @property
    def worklist(self) -> Worklist:
        """The worklist with all that stands."""
        state = self.state
        with self._lock:
            if self._listed is None or self._listed[0] != state.last:
                listed = _with_state(self.preparation.worklist, self.study, state)
                self._listed = state.last, listed
            listed = self._listed[1]
            order = self.preparation.drawing_order.order(listed)
            if listed.to_draw is not order:
                self._listed = state.last, listed.ranked(order)
            return self._listed[1]

    def ordered(self, query: Query) -> np.ndarray:
        """Return the rows that a query lists, in their order."""
        listed = self.worklist
        key = (self.state.last, listed.to_draw.height, query.filters)
        return self.orders.get(key, lambda: listed.ordered(query))

    def shown(self, row: int) -> pixels.Shown:
        """Return the decoded file of an image."""
        return self.files.get(row, partial(self._decoded, row))

    def _decoded(self, row: int) -> pixels.Shown:
        with self._decoding:  # each takes several times the memory of its image
            return pixels.read(self.study, row)


def _heard(future: asyncio.Future[Result]) -> None:
    """Take an error that nobody waits for any more, so that nothing is printed of it."""
    if not future.cancelled():
        future.exception()


def _with_state(base: Worklist, study: Study, state: State) -> Worklist:
    labels = {
        (row, concept): _CODES[one.change.state or ""]
        for (image_id, concept), one in state.labels.items()
        if (row := study.row(image_id)) is not None and isinstance(one.change, changes.SetLabel)
    }
    named = {image_id for one in state.standing for image_id in changes.images_of(one.change)}
    corrected, revised = (
        [row for image_id in some if (row := study.row(image_id)) is not None]
        for some in (state.masks, named)
    )
    return base.with_state(labels, corrected, study.numbers(list(state.issues)), revised)
