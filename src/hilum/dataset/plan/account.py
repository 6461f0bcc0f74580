"""The reading plan as stored and shown: roles of files, decisions with evidence, and unused files.

Files are conserved: `files_met` equals `files_used` plus the files that `aside` names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from hilum.dataset import inventory
from hilum.dataset.image_columns import ImageColumns
from hilum.dataset.manifest import Remark, Row
from hilum.dataset.plan.evidence import Decision, SetAside
from hilum.dataset.plan.reading import Reading
from hilum.safety import addresses, path_names
from hilum.safety.path_names import as_text
from hilum.storage import JsonObject

KEPT_NAMES = 50  # names stored per group of unused files; the count covers all of them
RADIOGRAPHS, MASKS, TABLES, SETTINGS = "radiographs", "masks", "tables", "settings"


@dataclass(frozen=True)
class Role:
    """The files of one role: their number, and the first few paths."""

    role: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Account:
    """How one folder is read.

    `as_dict` gives the form in which it is stored with a run, and `from_dict` reads it.
    """

    folder: str
    dataset: str
    title: str
    roles: tuple[Role, ...]
    decisions: tuple[Decision, ...]
    aside: tuple[SetAside, ...]
    files_met: int

    @property
    def files_used(self) -> int:
        """Return the number of files with a role."""
        return sum(role.count for role in self.roles)

    @property
    def files_named(self) -> int:
        """Return the number of files that are set aside by name."""
        return sum(aside.count for aside in self.aside if aside.kind == "file")

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON; long lists of names are cut to `KEPT_NAMES`."""
        aside = [
            {**asdict(one), "names": list(one.names[:KEPT_NAMES]), "total": one.count}
            for one in self.aside
        ]
        return {
            "folder": self.folder,
            "dataset": self.dataset,
            "title": self.title,
            "files_met": self.files_met,
            "files_used": self.files_used,
            "files_named": self.files_named,
            "roles": [asdict(role) for role in self.roles],
            "decisions": [asdict(decision) for decision in self.decisions],
            "aside": aside,
        }

    @classmethod
    def from_dict(cls, plain: JsonObject) -> Account:
        """Build from `as_dict`'s values."""
        roles = tuple(
            Role(one["role"], one["count"], tuple(one["examples"])) for one in plain["roles"]
        )
        decisions = tuple(Decision(**one) for one in plain["decisions"])
        aside = tuple(SetAside(**{**one, "names": tuple(one["names"])}) for one in plain["aside"])
        return cls(
            plain["folder"],
            plain["dataset"],
            plain["title"],
            roles,
            decisions,
            aside,
            plain["files_met"],
        )


def of_reading(reading: Reading, title: str) -> Account:
    """Return the account of a folder whose layout was inferred from evidence."""
    masks = sorted({path for found in reading.masks.of.values() for path in found.values()})
    named = {
        path for aside in reading.evidence.aside if aside.kind == "file" for path in aside.names
    }
    tables = sorted(path for path in reading.table_files if path not in named)
    settings = [file.path for file in reading.files.files if file.kind == "settings"]
    roles = (
        _role(RADIOGRAPHS, [file.path for file in reading.images]),
        _role(MASKS, masks),
        _role(TABLES, tables),
        _role(SETTINGS, settings),
    )
    return _account(
        as_text(addresses.shown(reading.root)),
        "folder",
        title,
        roles,
        reading.evidence.decisions,
        reading.evidence.aside,
        len(reading.files.files),
    )


def of_release(
    folder: Path,
    root: Path,
    dataset: str,
    title: str,
    items: Sequence[Row | ImageColumns | Remark],
    opened: Iterable[Path],
) -> Account:
    """Return the account of a folder that the reader of a known data set has read.

    Its radiographs and masks are those of `items`, its tables the other files of `opened`; all
    other files are set aside, with the message of their remark where there is one.
    """
    rows = [item for item in items if isinstance(item, Row)]
    below = path_names.below(folder.resolve(), root.resolve())
    prefix = "" if below == "." else f"{below}/"
    masks = [
        prefix + path
        for row in rows
        for path in (row.lung_mask, row.right_lung_mask, row.left_lung_mask)
        if path
    ]
    met = inventory.names(folder)
    there = set(met)
    places = [item.table["image"] for item in items if isinstance(item, ImageColumns)]
    listed = pl.concat([pl.Series([row.image for row in rows], dtype=pl.String), *places])
    images = prefix + listed if prefix else listed
    here = images.is_in(pl.Series(met, dtype=pl.String).implode())
    read = {prefix + path_names.below(root.resolve(), path) for path in opened}
    used = {*images.filter(here), *masks}
    tables = sorted((read & there) - used)
    reasons = {prefix + item.path: item for item in items if isinstance(item, Remark)}
    aside: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in met:
        if path not in used and path not in read:
            remark = reasons.get(path)
            reason = remark.message if remark else "is not part of the data set's layout"
            aside[reason, remark.severity if remark else "info"].append(path)
    roles = (
        _role(RADIOGRAPHS, images.filter(here).to_list()),
        _role(MASKS, sorted({path for path in masks if path in there})),
        _role(TABLES, tables),
    )
    decisions = [Decision("data set", dataset, f"the layout of {title}")]
    missing = images.filter(~here).to_list()
    set_aside = [
        SetAside("file", reason, tuple(names), severity)
        for (reason, severity), names in aside.items()
    ]
    if missing:
        reason = "is listed, but the folder has no such file"
        set_aside.append(SetAside("row", reason, tuple(missing)))
    return _account(
        as_text(addresses.shown(folder)), dataset, title, roles, decisions, set_aside, len(met)
    )


def _account(
    folder: str,
    dataset: str,
    title: str,
    roles: Iterable[Role],
    decisions: Sequence[Decision],
    aside: Sequence[SetAside],
    met: int,
) -> Account:
    kept = tuple(role for role in roles if role.count)
    return Account(folder, dataset, title, kept, tuple(decisions), tuple(aside), met)


def _role(role: str, paths: Sequence[str]) -> Role:
    return Role(role, len(paths), tuple(paths[:3]))
