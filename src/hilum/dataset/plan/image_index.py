"""Index of image files by the ways in which tables name them: path, name, stem, number or UID."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import PurePosixPath

from hilum.dataset.inventory import File
from hilum.dataset.plan import lexicon

ENOUGH = 0.5  # fraction of a column's distinct cells, or of the images, that must be matched


@dataclass(frozen=True)
class Match:
    """The files that the distinct cells of a column name.

    `how` is the way of most cells: "path", "name", "stem", "number" or "UID".
    """

    files: Mapping[str, str]  # path by cell, for cells that name exactly one file
    how: str
    ambiguous: Mapping[str, tuple[str, ...]]  # paths by cell, for cells that name several files
    missing: tuple[str, ...]  # cells that name no file

    @property
    def strength(self) -> float:
        """Return the fraction of the distinct cells that name one file or several."""
        total = len(self.files) + len(self.ambiguous) + len(self.missing)
        return (len(self.files) + len(self.ambiguous)) / total if total else 0.0


_NOTHING = Match({}, "", {}, ())


@dataclass
class ImageIndex:
    """Paths of image files by path, name, stem, number and UID.

    `uids` gives the SOP Instance UID (0008,0018) of the DICOM files by path.
    """

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
        """Return paths by number where all stems are numbers; 0007 is 7."""
        if not self._stems or not all(stem.isdecimal() for stem in self._stems):
            return {}
        found: dict[str, list[str]] = defaultdict(list)
        for stem, paths in self._stems.items():
            found[str(int(stem))] += paths
        return found

    def match(self, cells: Iterable[str], beside: str, *, numbers: bool = True) -> Match:
        """Match the distinct cells of a column with files; empty cells are skipped.

        `beside`: path of the table, which decides between files of one name. `numbers`: whether a
        cell may be the number of a file.
        """
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
    """Return the paths with most folders in common with the cell, and the number of these.

    Folders are counted from the file upwards.
    """
    wanted = _plain(cell).split("/")[:-1][::-1]

    in_common: dict[str, int] = {}
    for path in paths:
        held = path.casefold().split("/")[:-1][::-1]
        pairs = zip(wanted, held, strict=False)
        equal = takewhile(lambda pair: pair[0] == pair[1], pairs)
        in_common[path] = sum(1 for _ in equal)
    most = max(in_common.values())
    return [path for path in paths if in_common[path] == most], most


def _usual_depth(cell_depths: Sequence[int]) -> int:
    """Return how many folders most cells have in common with their file, at most 1.

    A cell with fewer names a file that is not there.
    """
    return min(Counter(cell_depths).most_common(1)[0][0], 1) if cell_depths else 0


def _other_part(cell: str, paths: Sequence[str]) -> bool:
    """Return whether a cell names a part of a split (test/…) and all files lie in others."""
    wanted = {part for name in _plain(cell).split("/")[:-1] if (part := lexicon.part_of(name))}
    held = [
        {part for name in path.split("/")[:-1] if (part := lexicon.part_of(name))} for path in paths
    ]
    return bool(wanted) and all(parts and not parts & wanted for parts in held)


def _settled(paths: list[str], beside: str) -> list[str]:
    """Narrow several paths to the only one in a folder of the table's name, or in its folder."""
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
