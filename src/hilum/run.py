"""A run's folder: what is in it, and what each thing in it was made from.

Each step writes its files and then, last, `finished/STEP.json` with two tables of digests: `made_from` (settings and inputs) and
`made` (files). A step is finished when its marker says it was made from exactly what it would be made from now, and its files
are there; anything else is made again.

A cross-validated run has a run for each fold in `folds/0`, `folds/1` …, which shares the steps
`SHARED`, and the files that they left, with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hilum import __version__, store
from hilum.errors import BadData, CannotWrite, HilumError, NotFound, on_one_line
from hilum.recipe import Recipe

MARKERS = "finished"
SHARED = ("ingest", "cache", "audit")


@dataclass(frozen=True)
class Run:
    folder: Path
    parent: Path | None = None  # of a fold: the folder of the cross-validated run

    def __truediv__(self, name: str) -> Path:
        """Raises `BadData` for a name that leads out of the folder: markers are files too."""
        path = Path(name)
        if path.is_absolute() or ".." in path.parts:
            raise BadData(f"{self.folder}: names '{on_one_line(name[:200])}', which lies outside of it; copy the run anew")
        return self.folder / path

    @property
    def data(self) -> Path:
        """The folder in which the steps `SHARED` left the manifest, the cache and the audit."""
        return self.parent or self.folder

    def fold(self, number: int) -> Run:
        return Run(self.folder / "folds" / str(number), self.folder)

    def _marker(self, step: str) -> Path:
        return (self.data if step in SHARED else self.folder) / MARKERS / f"{step}.json"

    def finished(self, step: str, made_from: Mapping[str, Any]) -> bool:
        marker = self._marker(step)
        if not marker.exists():
            return False
        told = store.read_json(marker)
        return told["made_from"] == _with_version(made_from) and all((self / name).exists() for name in told["made"])

    def done(self, step: str) -> bool:
        """Whether the step was ever finished here, from whatever."""
        return self._marker(step).exists()

    def finish(self, step: str, made_from: Mapping[str, Any], made: Mapping[str, str], summary: Mapping[str, Any]) -> None:
        """Say that `step` is done: `made` names its files and their digests, `summary` what a person wants to hear of it."""
        store.write_json(self._marker(step), {"step": step, "made_from": _with_version(made_from), "made": dict(made), "summary": dict(summary)})

    def ensure(
        self,
        step: str,
        made_from: Mapping[str, Any] | None,
        make: Callable[[], tuple[Mapping[str, str], Mapping[str, Any]]],
    ) -> bool:
        """Do `step` unless it is finished, and return whether it was.

        `made_from` None: nobody can say what it is made from, so it is done.
        """
        if made_from is not None and self.finished(step, made_from):
            return True
        self.finish(step, made_from or {}, *make())
        return False

    def forget(self, step: str) -> None:
        """Have `step` look at its work again when it is next asked for."""
        self._marker(step).unlink(missing_ok=True)

    def made(self, step: str) -> dict[str, str]:
        """File names and digests that a finished step left. Raises `NotFound` with the command that makes them."""
        return self._told(step)["made"]

    def summary(self, step: str) -> dict[str, Any]:
        return self._told(step)["summary"]

    def made_from(self, step: str) -> dict[str, Any]:
        return self._told(step)["made_from"]

    def _told(self, step: str) -> dict[str, Any]:
        if not self._marker(step).exists():
            raise NotFound(f"{self.folder} has no finished step '{step}': run `hilum {step} DATA --to {self.folder}` first")
        return store.read_json(self._marker(step))

    def write_recipe(self, recipe: Recipe) -> None:
        store.write_text(self.folder / "recipe.toml", recipe.to_toml())

    def recipe(self) -> Recipe:
        if not (self.folder / "recipe.toml").exists():
            raise NotFound(f"{self.folder} is not a run: it holds no recipe.toml. A run is made with `hilum run DATA --to {self.folder}`")
        return Recipe.read(self.folder / "recipe.toml")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time in a run; the lock goes with the process, however it ends."""
        import fcntl

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            stream = open(self.folder / ".lock", "w")  # noqa: SIM115 (held open for as long as the lock is)
        except OSError as error:
            raise CannotWrite.because(self.folder, error) from error
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise HilumError(f"another hilum is at work in {self.folder}; wait for it, or choose another folder with --to") from None
            yield


def _with_version(made_from: Mapping[str, Any]) -> dict[str, Any]:
    return {**made_from, "hilum": __version__}
