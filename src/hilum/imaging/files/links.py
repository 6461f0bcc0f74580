"""Find links in a data set that lead out of its folder."""

from __future__ import annotations

import os
from pathlib import Path

from hilum.errors import on_one_line
from hilum.safety.path_names import as_text, path_of
from hilum.safety.untrusted_files import REMEDY, holds


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
        try:
            listed = self._listed[folder]
        except KeyError:
            listed = self._listed[folder] = self._list(folder)
        if listed is None or (not isinstance(listed, str) and name not in listed):
            return None
        return self._outside(path_of(self._root, place))

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
