"""Find links in a data set that lead out of its folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.errors import on_one_line
from hilum.safety.path_names import as_text, path_of
from hilum.safety.untrusted_files import REMEDY, holds

if TYPE_CHECKING:
    import polars as pl


def stays_below(top: str, path: Path | str) -> bool:
    """Return whether a file or folder is below a resolved one, once links are followed."""
    return holds(top, os.path.realpath(path))


def why_left_out(target: str) -> str:
    """Return why a path that leads out of its folder is left out, and what to do."""
    return f"leads out of the folder, to {on_one_line(target)}, and is not followed: {REMEDY}"


class Links:
    """The links of a folder; each subfolder is listed once, when a path in it is requested."""

    def __init__(self, root: Path) -> None:
        self._root, self._top = root, os.path.realpath(root)
        self._listed: dict[str, str | frozenset[str] | None] = {}

    def target(self, place: str) -> str | None:
        """Return the target of a path that leads out of the folder; None where it stays inside."""
        folder, _, name = place.rpartition("/")
        listed = self._names(folder)
        if listed is None or (not isinstance(listed, str) and name not in listed):
            return None
        return self._outside(path_of(self._root, place))

    def targets(self, places: pl.Series) -> dict[str, str]:
        """Return the target of each of many paths that leads out of the folder, by its path."""
        import polars as pl

        folder = places.str.extract("(?s)^(.*)/").fill_null("")
        # Few folders hold a link: the paths in all others are not compared one by one.
        linked = [one for one in folder.unique() if self._names(one) is not None]
        of_linked = places.filter(folder.is_in(pl.Series(linked, dtype=pl.String).implode()))
        found = {place: self.target(place) for place in of_linked}
        return {place: target for place, target in found.items() if target}

    def _names(self, folder: str) -> str | frozenset[str] | None:
        """Return what `_list` does, once for each folder."""
        if folder not in self._listed:
            self._listed[folder] = self._list(folder)
        return self._listed[folder]

    def _list(self, folder: str) -> str | frozenset[str] | None:
        """Return the names in a folder that are links; for one that leads out, its target."""
        path = path_of(self._root, folder)
        if target := self._outside(path):
            return target
        try:
            with os.scandir(path) as entries:
                found = frozenset(as_text(entry.name) for entry in entries if entry.is_symlink())
        except OSError:  # nothing is there, which reading reports
            return None
        return found or None

    def _outside(self, path: Path) -> str | None:
        return None if stays_below(self._top, path) else as_text(os.path.realpath(path))
