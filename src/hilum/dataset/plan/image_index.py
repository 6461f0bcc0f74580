"""Find the image file that a table's cell names: by path, by name with or without its ending, or by a DICOM instance's UID."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from hilum.dataset.plan import lexicon
from hilum.dataset.plan.inventory import File

ENOUGH = 0.5  # of a column's distinct cells, or of the images, that must be matched


@dataclass(frozen=True)
class Match:
    """Which file each distinct cell of a column names, and how: "path", "name", "stem", "number" or "UID"."""

    files: Mapping[str, str]  # path by cell; a cell that names none, or several, is not in it
    how: str
    ambiguous: Mapping[str, tuple[str, ...]]  # paths that a cell may name, where it is not one
    missing: tuple[str, ...]  # cells that name no file

    @property
    def strength(self) -> float:
        """Return the fraction of the distinct cells that name a file."""
        total = len(self.files) + len(self.ambiguous) + len(self.missing)
        return (len(self.files) + len(self.ambiguous)) / total if total else 0.0


_NOTHING = Match({}, "", {}, ())


@dataclass
class ImageIndex:
    """Paths of image files by the ways in which tables name them. `uids` gives a path's DICOM instance UID."""

    files: Sequence[File]
    uids: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._paths = {file.path.casefold(): file.path for file in self.files}
        self._exact = {file.path: file.path for file in self.files}
        self._exact_names: dict[str, list[str]] = defaultdict(list)
        self._names: dict[str, list[str]] = defaultdict(list)
        self._stems: dict[str, list[str]] = defaultdict(list)
        for file in self.files:
            name = file.path.rpartition("/")[2]
            self._names[name.casefold()].append(file.path)
            for spelt in {name, file.stem}:
                self._exact_names[spelt].append(file.path)
            self._stems[file.stem.casefold()].append(file.path)
        self._numbers = self._by_number()
        self._uids = {uid: path for path, uid in self.uids.items()}

    def _by_number(self) -> dict[str, list[str]]:
        """Return paths by the number that their stem is, where all stems are numbers (0007 is 7)."""
        if not self._stems or not all(stem.isdecimal() for stem in self._stems):
            return {}
        found: dict[str, list[str]] = defaultdict(list)
        for stem, paths in self._stems.items():
            found[str(int(stem))] += paths
        return found

    def match(self, cells: Iterable[str], beside: str, *, numbers: bool = True) -> Match:
        """Match a column's distinct non-empty cells; `beside` is the table's own path, which settles names that stand twice."""
        listed = list(dict.fromkeys(cell for cell in cells if cell))
        found: dict[str, tuple[list[str], str, int]] = {}
        for cell in listed:
            candidates, how = self._candidates(cell, numbers)
            if candidates:
                best, depth = _nearest(cell, candidates)
                found[cell] = (_settled(best, beside), how, depth)
        usual = _usual_depth(cell_depths=[depth for _, _, depth in found.values()])
        files, ambiguous, missing, ways = {}, {}, [], Counter()
        for cell in listed:
            paths, how, depth = found.get(cell, ([], "", 0))
            if not paths or depth < min(usual, _depth(cell)) or _other_part(cell, paths):
                missing.append(cell)
            elif len(paths) > 1:
                ambiguous[cell] = tuple(paths)
            else:
                files[cell] = paths[0]
                ways[how] += 1
        if not files and not ambiguous:
            return _NOTHING
        return Match(files, ways.most_common(1)[0][0] if ways else "", ambiguous, tuple(missing))

    def _candidates(self, cell: str, numbers: bool) -> tuple[list[str], str]:
        spelt, plain = _written(cell), _plain(cell)
        if path := self._exact.get(spelt) or self._paths.get(plain):
            return [path], "path"
        base, exact = plain.rpartition("/")[2], self._exact_names.get(spelt.rpartition("/")[2])
        if exact and len(exact) < len(self._names.get(base, ()) or self._stems.get(base, ())):
            return exact, "name"  # names that differ in nothing but case
        for table, name, how in (
            (self._names, base, "name"),
            (self._stems, base, "stem"),
            (self._stems, PurePosixPath(base).stem, "stem"),
        ):
            if paths := table.get(name):
                return paths, how
        if path := self._uids.get(cell.strip()):
            return [path], "UID"
        if numbers and base.isdecimal() and (paths := self._numbers.get(str(int(base[:18])))):
            return paths, "number"
        return [], ""


def _written(cell: str) -> str:
    """Return a cell's path with forward slashes, below the folder."""
    path = cell.strip().strip("'\"").replace("\\", "/")
    while path.startswith("./"):
        path = path[2:]
    return path.lstrip("/")


def _plain(cell: str) -> str:
    return _written(cell).casefold()


def _depth(cell: str) -> int:
    return _plain(cell).count("/")


def _nearest(cell: str, paths: Sequence[str]) -> tuple[list[str], int]:
    """Return the paths that share most folders with the cell, counted from the file upwards, and how many these are."""
    wanted = _plain(cell).split("/")[:-1][::-1]

    def shared(path: str) -> int:
        held = path.casefold().split("/")[:-1][::-1]
        return next(
            (i for i, (a, b) in enumerate(zip(wanted, held, strict=False)) if a != b),
            min(len(wanted), len(held)),
        )

    most = max(map(shared, paths))
    return [path for path in paths if shared(path) == most], most


def _usual_depth(cell_depths: Sequence[int]) -> int:
    """Return how many folders most cells share with their file: one that shares fewer names a file that is not here."""
    return min(Counter(cell_depths).most_common(1)[0][0], 1) if cell_depths else 0


def _other_part(cell: str, paths: Sequence[str]) -> bool:
    """Tell whether the cell names a part of a split (test/…) and all files lie in another one (train/…)."""
    wanted = {part for name in _plain(cell).split("/")[:-1] if (part := lexicon.part_of(name))}
    held = [
        {part for name in path.split("/")[:-1] if (part := lexicon.part_of(name))} for path in paths
    ]
    return bool(wanted) and all(parts and not parts & wanted for parts in held)


def _settled(paths: list[str], beside: str) -> list[str]:
    """Narrow several paths to those in the folder that has the table's name, or to those below the table's own folder."""
    if len(paths) == 1:
        return paths
    folder, _, name = beside.rpartition("/")
    stem = PurePosixPath(name).stem.casefold()
    for fits in (
        lambda path: stem in path.casefold().split("/")[:-1],
        lambda path: bool(folder) and path.startswith(folder + "/"),
    ):
        if len(kept := [path for path in paths if fits(path)]) == 1:
            return kept
    return paths
