"""The field `labels` of a manifest: a table, or one that is unpacked when it is first used.

A million images have 14 million labels of ChestX-ray14, a gigabyte unpacked, of which few steps
need more than the states. Until then they are a stored table, or one with words of an `Enum` in
place of text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import polars as pl

from hilum.storage.stored_table import StoredTable, words_as_text

_FIELD, _STATES = "labels", "label_states"
_Made = TypeVar("_Made")


class LabelTable:
    """A descriptor; the instance holds a data frame or a stored table."""

    def __get__(self, manifest: object | None, owner: Any = None) -> pl.DataFrame:
        """Return the table, unpacked. Raises `BadData` where it is not readable."""
        if manifest is None:
            raise AttributeError(_FIELD)  # so that the field has no default
        held = LabelTable.packed(manifest)
        if pl.Enum in held.dtypes:
            held = words_as_text(held)
        vars(manifest)[_FIELD] = held
        return held

    def __set__(self, manifest: object, held: pl.DataFrame) -> None:
        vars(manifest)[_FIELD] = held

    @staticmethod
    def of(labels: pl.DataFrame | Sequence[Sequence], schema: Mapping[str, Any]) -> pl.DataFrame:
        """Return rows of labels as a table; a table as it is."""
        if isinstance(labels, pl.DataFrame):
            return labels
        return pl.DataFrame(labels, schema=schema, orient="row")

    @staticmethod
    def hold(manifest: object, stored: StoredTable, states: object | None) -> None:
        """Let a manifest that nothing has used yet have stored labels, and states if known."""
        vars(manifest)[_FIELD] = stored
        if states is not None:
            vars(manifest)[_STATES] = states

    @staticmethod
    def packed(manifest: object) -> pl.DataFrame:
        """Return the table, in which words may be those of an `Enum`. Raises as `__get__` does."""
        held = vars(manifest)[_FIELD]
        return held.table() if isinstance(held, StoredTable) else held

    @staticmethod
    def queried(manifest: object, query: Callable[[pl.LazyFrame], pl.LazyFrame]) -> pl.DataFrame:
        """Return what a query of text finds. Raises as `unpacked` does."""
        return LabelTable.unpacked(manifest, lambda held: query(words_as_text(held)).collect())

    @staticmethod
    def unpacked(manifest: object, use: Callable[[pl.LazyFrame], _Made]) -> _Made:
        """Return what `use` makes of the labels. Raises `BadData` where they are not readable."""
        held = vars(manifest)[_FIELD]
        if isinstance(held, StoredTable):
            return held.unpacked(lambda: use(held.scan()))
        return use(held.lazy())
