"""A run's folder: its files, and what each of them was made from.

Each step writes its files and then, last, its marker `finished/STEP.json`, which carries a digest
of itself:

    format     of markers, FORMAT
    made_from  digests of settings and inputs
    made       files and the digests on which later steps depend; for some tables that of their
               cells
    files      all files, those of `made` too, and the digests of their bytes
    summary    what a person is shown of the result

A step is finished when its marker states exactly the inputs it would have now, and its files are
there, byte for byte; anything else is made again. Code that reads a file of a run takes its path
from `Run.file`, which compares the file with the marker first.

A cross-validated run has a run for each fold in `folds/0`, `folds/1` …, which shares the steps
`SHARED`, and the files that they left, with it.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypedDict, cast

from hilum import __version__, storage
from hilum.config import Recipe
from hilum.dataset import manifest
from hilum.dataset.manifest import Manifest
from hilum.errors import BadData, Damaged, HilumError, NotFound, on_one_line
from hilum.safety import addresses, untrusted_files
from hilum.safety.path_names import from_text
from hilum.storage import JsonObject, integrity
from hilum.storage.stored_table import StoredTable

if TYPE_CHECKING:
    import polars as pl

MARKERS, RECIPE = "finished", "recipe.toml"
BESIDE = {  # patterns of files that a step leaves and on which no later step depends by digest
    "ingest": (*manifest.FILES, "plan.json"),
    "cache": ("cache/*/meanings.json",),
    "split": ("folds/*/finished/split.json",),
}
FLAT = (".u8", ".u16")  # endings of files of bare images, see `hilum.imaging.image_stack`
FORMAT = 2  # of markers; change it when their keys come to mean something else
SHARED = ("ingest", "cache", "audit")


class Marker(TypedDict):
    """What `finished/STEP.json` holds, see the module's docstring."""

    format: int
    step: str
    made_from: JsonObject
    made: dict[str, str]
    files: dict[str, str]
    summary: JsonObject


_OBJECTS = ("made_from", "made", "files", "summary")  # keys of a marker that hold JSON objects


@dataclass(frozen=True)
class Run:
    """A run's folder. All reading of its files goes through `file`, `table` and `json`."""

    folder: Path
    parent: Path | None = None  # of a fold, or without a source: the folder of the whole run
    checked: bool = True  # files are compared with their digests before they are read

    def __truediv__(self, name: str) -> Path:
        """Return the path of a file in the folder.

        Raises `BadData` for a name that leads out of the folder: markers are untrusted files too.
        """
        path = Path(name)
        if path.is_absolute() or ".." in path.parts:
            raise BadData(
                f"{self.folder}: names '{on_one_line(name[:200])}', which lies outside of it; "
                "copy the run anew"
            )
        return self.folder / path

    @property
    def data(self) -> Path:
        """The folder in which the steps `SHARED` left the manifest, the cache and the audit."""
        return self.parent or self.folder

    def fold(self, number: int) -> Run:
        """Return the run of one fold of a cross-validated run."""
        return Run(self.folder / "folds" / str(number), self.folder, self.checked)

    def left_out(self, number: int) -> Run:
        """Return the run that is made without one source, see `hilum.pipeline.left_out`."""
        return Run(self.folder / "left_out" / str(number), self.folder, self.checked)

    def unchecked(self) -> Run:
        """Return the run without checks of its files: `hilum reproduce` reports each fault."""
        return replace(self, checked=False)

    def home(self, step: str) -> Path:
        """Return the folder in which a step leaves its files."""
        return self.data if step in SHARED else self.folder

    def _marker(self, step: str) -> Path:
        return self.home(step) / MARKERS / f"{step}.json"

    # ------------------------------------------------------------------------------------ markers

    def finished(self, step: str, made_from: Mapping[str, object]) -> bool:
        """Say whether the step was made from exactly this, and its files are as it left them."""
        if not self.done(step):
            return False
        try:
            same = self._read_marker(step)["made_from"] == _with_version(made_from)
        except Damaged:
            return False
        return same and not self.damage(step)

    def done(self, step: str) -> bool:
        """Say whether the step was ever finished here, from whatever."""
        return self._marker(step).exists()

    def damage(self, step: str, *, flat: bool = True) -> str:
        """Say what is wrong with the marker or a file of a finished step; "" where nothing is.

        Without `flat` it is enough that the flat files of images exist.
        """
        try:
            state = self._read_marker(step)
            for marker in sorted(self._marker(step).parent.glob(f"{step}-*.json")):
                self._read_marker(marker.stem)  # of a part of the step, such as one of its models
        except Damaged as fault:
            return str(fault)
        for name, expected in state["files"].items():
            place = self.home(step) / name
            if name.endswith(FLAT) and not flat and place.is_file():
                continue
            if wrong := integrity.fault(place, expected):
                return f"{place} {wrong}"
        return ""

    def refuse_damage(self, *steps: str) -> None:
        """Raise `Damaged` where the marker or a file of any of these steps is missing or another.

        Images in flat files are compared when they are read, see `hilum.imaging.image_stack`.
        """
        wrong = []
        for step in steps:
            if not self.done(step):
                wrong.append(f"{self._marker(step)}: is missing")
            elif damage := self.damage(step, flat=False):
                wrong.append(damage)
        if wrong:
            raise self._damaged("; ".join(wrong))

    def finish(
        self,
        step: str,
        made_from: Mapping[str, object],
        made: Mapping[str, str],
        summary: Mapping[str, object],
    ) -> None:
        """Write the marker that says that `step` is finished.

        `made` names its files and their digests, on which later steps depend; `summary` is what a
        person is shown of it. The digests of the bytes of these files, and of those `BESIDE` them,
        are noted too.
        """
        home = self.home(step)
        beside = [path for pattern in BESIDE.get(step, ()) for path in home.glob(pattern)]
        names = {*made, *(path.relative_to(home).as_posix() for path in beside)}
        marker: Marker = {
            "format": FORMAT,
            "step": step,
            "made_from": _with_version(made_from),
            "made": dict(made),
            "files": {name: integrity.digest_of(home / name) for name in sorted(names)},
            "summary": dict(summary),
        }
        storage.write_json(self._marker(step), integrity.sealed(marker))

    def ensure(
        self,
        step: str,
        made_from: Mapping[str, object] | None,
        make: Callable[[], tuple[Mapping[str, str], Mapping[str, object]]],
    ) -> bool:
        """Do `step` unless it is finished, and return whether it was.

        `made_from` None: its inputs are unknown, so it is done.
        """
        if made_from is not None and self.finished(step, made_from):
            return True
        self.finish(step, made_from or {}, *make())
        return False

    def forget(self, step: str) -> None:
        """Remove the marker of `step`, so that its next request runs it again."""
        self._marker(step).unlink(missing_ok=True)

    def made(self, step: str) -> dict[str, str]:
        """Return file names and digests that a finished step left.

        Raises `NotFound` with the command that makes them.
        """
        return self._read_marker(step)["made"]

    def files(self, step: str) -> dict[str, str]:
        """Return the names of all files of a finished step and the digests of their bytes."""
        return self._read_marker(step)["files"]

    def summary(self, step: str) -> JsonObject:
        """Return what a finished step reported of its result."""
        return self._read_marker(step)["summary"]

    def made_from(self, step: str) -> JsonObject:
        """Return the digests of settings and inputs that a finished step was made from."""
        return self._read_marker(step)["made_from"]

    def _read_marker(self, step: str) -> Marker:
        marker = self._marker(step)
        if not self.done(step):
            if not is_run(self.data):
                self._refuse_no_run()
            raise NotFound(
                f"{self.folder} has no finished step '{step}': run `hilum {step} {self.data}` first"
            )
        try:
            state = integrity.read_sealed(marker)
        except HilumError as error:
            raise self._damaged(str(error)) from None
        if wrong := _unfit(state, step):
            raise self._damaged(f"{marker}: {wrong}")
        return cast(Marker, state)  # `_unfit` has checked it

    # -------------------------------------------------------------------------------------- files

    def file(self, step: str, name: str) -> Path:
        """Return the path of a file that a finished step left, once its bytes were checked.

        Raises `NotFound` where the step is not finished, and `Damaged` where the file is missing or
        not what the step left.
        """
        path = self.home(step) / name
        if not self.checked:
            untrusted_files.read_head(path, 0)  # raises for what is no regular file, as a pipe
            return path
        expected = self.files(step).get(name)
        if expected is None:
            raise self._damaged(f"{path}: step '{step}', as finished there, left no such file")
        if wrong := integrity.fault(path, expected):
            raise self._damaged(f"{path} is not what step '{step}' left: it {wrong}")
        return path

    def is_other(self, step: str, name: str) -> bool:
        """Say whether a file that a finished step left has changed since."""
        try:
            expected = self.files(step).get(name)
        except (Damaged, NotFound):
            return False
        return expected is not None and bool(integrity.fault(self.home(step) / name, expected))

    def table(self, step: str, name: str) -> pl.DataFrame:
        """Read a table that a finished step left, see `file`."""
        return storage.read_table(self.file(step, name))

    def stored(self, step: str, name: str) -> StoredTable:
        """Return a table that a finished step left as it is stored, see `file`."""
        return StoredTable.read(self.file(step, name), self.remedy)

    def json(self, step: str, name: str) -> Any:
        """Read a JSON value that a finished step left, see `file`."""
        return storage.read_json(self.file(step, name))

    def manifest(self) -> Manifest:
        """Read the table that the step ingest left."""
        for name in manifest.FILES:
            self.file("ingest", name)
        return Manifest.read(self.data)

    @property
    def remedy(self) -> str:
        """What to do where anything of the run is damaged."""
        again = f"`hilum run {shlex.quote(str(self.data))}`"
        return f"{again} makes again what is damaged, and what depends on it"

    def _damaged(self, what: str) -> Damaged:
        return Damaged(f"{what}; {self.remedy}")

    # ------------------------------------------------------------------------------------- recipe

    def write_recipe(self, recipe: Recipe) -> None:
        """Write the recipe of the run, and its marker."""
        storage.write_text(self.folder / RECIPE, recipe.to_toml())
        made = {RECIPE: integrity.digest_of(self.folder / RECIPE)}
        self.finish("recipe", {}, made, {"settings": _settings(recipe)})

    def recipe(self) -> Recipe:
        """Read the recipe that the run was made by. Raises `Damaged` where it has changed since."""
        self._refuse_no_run()
        if not self.done("recipe"):
            raise self._damaged(f"{self._marker('recipe')}: is missing")
        self.file("recipe", RECIPE)
        return self.edited_recipe()

    def edited_recipe(self) -> Recipe:
        """Read the recipe as it is, which a person may have edited to run it again."""
        self._refuse_no_run()
        return Recipe.read(self.folder / RECIPE)

    def recipe_changes(self) -> str:
        """Say how recipe.toml differs from what was written; "" where it does not."""
        if not self.done("recipe") or not (wrong := self.damage("recipe")):
            return ""
        try:
            changed = self.other_settings(Recipe.read(self.folder / RECIPE))
        except HilumError:
            return wrong
        what = "; ".join(changed) or "its settings are the same"
        return f"{self.folder / RECIPE} is not as it was written: {what}"

    def other_settings(self, recipe: Recipe) -> list[str]:
        """List how the settings of a recipe differ from those that the run was made with.

        Raises `HilumError` where the run has none.
        """
        before, now = self.summary("recipe")["settings"], _settings(recipe)
        return [
            f"[{section}] {key} is {now[section].get(key)!r} and was {of.get(key)!r}"
            for section, of in before.items()
            for key in sorted(of.keys() | now[section].keys())
            if of.get(key) != now[section].get(key)
        ]

    def data_folders(self) -> list[Path]:
        """Return the data folders of the run's recipe, resolved and in order."""
        try:
            data = self.summary("recipe")["settings"]["data"]
            folders = [data["folder"], *data["also"]]
        except HilumError:
            folders = list(self.edited_recipe().data.folders)
        return sorted(addresses.located(from_text(folder)).resolve() for folder in folders)

    def _refuse_no_run(self) -> None:
        if not is_run(self.folder):
            raise NotFound(
                f"{self.folder} is not a run: it holds no {RECIPE}. "
                f"A run is made with `hilum run DATA --out {self.folder}`"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's folder for this process alone (`hilum.storage.locked`)."""
        with storage.locked(self.folder):
            yield


def is_run(folder: Path) -> bool:
    """Say whether a folder is a run's, though its recipe or some markers may be missing."""
    return (folder / RECIPE).exists() or any((folder / MARKERS).glob("*.json"))


def _unfit(marker: JsonObject, step: str) -> str:
    """Say why a sealed object is no marker of `step`; "" where it is one."""
    if marker.get("format") != FORMAT:
        return f"is of format {marker.get('format')!r}, and this Hilum reads {FORMAT}"
    if marker.get("step") != step:
        return f"is the marker of step {marker.get('step')!r}"
    if not all(isinstance(marker.get(key), dict) for key in _OBJECTS):
        return f"lacks one of {', '.join(_OBJECTS)}"
    places = [PurePosixPath(name) for name in marker["files"]]
    if any(place.is_absolute() or ".." in place.parts for place in places):
        return "names a file outside of the run"
    return ""


def _settings(recipe: Recipe) -> dict[str, dict[str, object]]:
    return {part.name: recipe.section(part.name) for part in fields(recipe)}


def _with_version(made_from: Mapping[str, object]) -> dict[str, object]:
    return {**made_from, "hilum": __version__}
