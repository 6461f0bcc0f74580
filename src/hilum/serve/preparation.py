"""Prepare a study: open a finished run, or make one of a folder in the background.

A folder without a run is ingested, cached and audited by the steps of `hilum run`, so the command
line goes on from there. Meanwhile the desk is open and says how far it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from hilum.config import Recipe
from hilum.errors import HilumError, NotFound
from hilum.progress import Progress
from hilum.run_folder import MARKERS, Run, is_run
from hilum.runs import run_all
from hilum.safety import addresses
from hilum.serve import memory
from hilum.serve.drawing_order import DrawingOrder
from hilum.serve.replies import Refusal
from hilum.serve.study import Study
from hilum.serve.worklist import Worklist

LAST = "audit"  # the last step that a desk needs
_OUTDATED = "the run was made again since this desk was opened, and its images may be others"
OPENING = "open"  # not a step of a run: its tables are read


@dataclass(frozen=True)
class StepProgress:
    """How far one step is; `state` is waiting, running, done or failed."""

    name: str
    state: str = "waiting"
    done: int = 0
    total: int = 0
    message: str = ""


class _Stopped(HilumError):
    """The desk was closed while its study was being prepared."""


@dataclass
class Preparation:
    """A study that is there, or will be. `begin` starts it; threads may ask for it at any time."""

    run: Run
    recipe: Recipe | None  # None: the run is there, and nothing is made
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _steps: dict[str, StepProgress] = field(default_factory=dict)
    _made: tuple[Study, Worklist, DrawingOrder] | None = None
    _opened: tuple[int, ...] = ()
    _failed: str = ""
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _say: Callable[[str], None] | None = None

    @classmethod
    def of(cls, source: Path, out: Path | None) -> Preparation:
        """Return the preparation of a run's folder, or of a folder of images.

        `out` is the folder of the run that is made of the latter. Raises `NotFound` and
        `BadRecipe` as `Recipe.of_source` does.
        """
        if is_run(source) and out is None:
            return cls(Run(source), _unfinished(Run(source)))
        recipe = Recipe.of_source(source)
        for folder in recipe.data.paths:
            # What is at an address is listed when it is read.
            if not folder.exists() and addresses.of_path(folder) is None:
                raise NotFound(
                    f"nothing at {folder}: give the folder of a run, or one that holds radiographs"
                )
        return cls(Run(out or Path("runs") / source.resolve().stem), recipe)

    def begin(self, say: Callable[[str], None] | None = None) -> None:
        """Start to prepare, in a thread of its own; `say` hears where it fails."""
        self._say = say
        names = [OPENING] if self.recipe is None else [*_steps(), OPENING]
        self._steps = {name: StepProgress(name) for name in names}
        self._thread = threading.Thread(target=self._prepare, name="preparation", daemon=True)
        self._thread.start()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the study is there or has failed."""
        if self._thread is not None:
            self._thread.join(seconds)

    def stop(self) -> None:
        """Stop at the next image; what is finished is kept."""
        self._stopping.set()
        self.wait()

    @property
    def is_ready(self) -> bool:
        """Whether the study is there, and the run still the one that was opened."""
        return self._made is not None and not self._is_outdated

    @property
    def steps(self) -> list[StepProgress]:
        """How far each step is."""
        with self._lock:
            found = list(self._steps.values())
        if self._is_outdated:
            return [*found[:-1], replace(found[-1], state="failed", message=_OUTDATED)]
        return found

    @property
    def study(self) -> Study:
        """The study. Raises `Refusal` (503) where it is not there yet."""
        return self._ready()[0]

    @property
    def worklist(self) -> Worklist:
        """The study's worklist, before any revision; raises as `study` does."""
        return self._ready()[1]

    @property
    def drawing_order(self) -> DrawingOrder:
        """Which images to draw next; raises as `study` does."""
        return self._ready()[2]

    def _ready(self) -> tuple[Study, Worklist, DrawingOrder]:
        if self._is_outdated:
            raise Refusal(503, _OUTDATED, "start the desk again")
        if self._made is not None:
            return self._made
        if self._failed:
            raise Refusal(503, f"the study could not be prepared: {self._failed}", "start it again")
        raise Refusal(
            503,
            "the study is still being prepared",
            "wait; /api/v1/study says how far it is",
            {"preparing": True},
        )

    @property
    def _is_outdated(self) -> bool:
        """Whether the run was made again meanwhile: its rows may be of other images by now."""
        return self._made is not None and _seals(self.run) != self._opened

    def _prepare(self) -> None:
        try:
            if self.recipe is not None:
                for done in run_all.perform(self.run, self.recipe, self._watch, until=LAST):
                    if isinstance(done, run_all.Done):
                        self._set(done.step, state="done")
            self._set(OPENING, state="running")
            self._opened = _seals(self.run)
            study = Study.of(self.run)
            listed = Worklist.of(study)
            self._made = study, listed, DrawingOrder(study, listed)
            self._set(OPENING, state="done")
            self._made[2].order(listed)  # kept, so that the first reader does not wait for it
            memory.give_back_now()
        except _Stopped:
            return
        except HilumError as error:
            self._fail(str(error))
        except Exception as error:  # a thread has nobody else to report to
            self._fail(f"{type(error).__name__}: {error}")
            raise

    def _fail(self, message: str) -> None:
        self._failed = message
        if self._say is not None:
            self._say(f"the study could not be prepared: {message}")
        for one in self.steps:
            if one.state == "running":
                self._set(one.name, state="failed", message=message)

    @contextmanager
    def _watch(self, step: str) -> Iterator[Progress]:
        def heard(done: int, total: int) -> None:
            if self._stopping.is_set():
                raise _Stopped(f"stopped at {done} of {total}")
            self._set(step, done=done, total=total)

        self._set(step, state="running")
        yield heard

    def _set(
        self,
        step: str,
        *,
        state: str | None = None,
        done: int | None = None,
        total: int | None = None,
        message: str | None = None,
    ) -> None:
        given = {"state": state, "done": done, "total": total, "message": message}
        with self._lock:
            if step in self._steps:
                known = {name: value for name, value in given.items() if value is not None}
                self._steps[step] = replace(self._steps[step], **known)


def _seals(run: Run) -> tuple[int, ...]:
    """Return when the steps that make the table and its pixels were finished, in nanoseconds."""
    markers = [run.folder / MARKERS / f"{step}.json" for step in ("ingest", "cache")]
    return tuple(one.stat().st_mtime_ns for one in markers if one.exists())


def _steps() -> list[str]:
    names = list(run_all.STEPS)
    return names[: names.index(LAST) + 1]


def _unfinished(run: Run) -> Recipe | None:
    """Return the recipe of a run whose first steps are not done; None where they are."""
    return None if all(map(run.done, _steps())) else run.edited_recipe()
