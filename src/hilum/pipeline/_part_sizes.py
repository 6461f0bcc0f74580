"""Say which parts of a split are too small for figures that mean anything.

Tables are those of `hilum.pipeline.split`: part, state, group and more.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from hilum.annotations.vocabulary import State, name_of
from hilum.dataset.manifest import PARTS, Manifest
from hilum.errors import TooFew
from hilum.pipeline import division


def rarer_state(table: pl.DataFrame) -> int:
    """Count the images of the finding's rarer state."""
    return min(int((table["state"] == state).sum()) for state in (State.ABSENT, State.PRESENT))


def small_parts(table: pl.DataFrame, finding: str | None, minimum: int) -> list[str]:
    """Say what each part lacks. Without a finding each must still hold `minimum` images."""
    faults = []
    for part in PARTS:
        states = table["state"].filter(table["part"] == part)
        counts = {
            "with": (states == State.PRESENT).sum(),
            "without": (states == State.ABSENT).sum(),
        }
        if finding and len(states):
            faults += [
                f"{part} would hold {count} images {word} {name_of(finding).lower()}"
                for word, count in counts.items()
                if count < minimum
            ]
        elif len(states) < minimum:
            faults.append(
                f"{part} would {f'hold {len(states)} images' if len(states) else 'be empty'}"
            )
    return faults


def too_small_for(
    manifest: Manifest, table: pl.DataFrame, concepts: Sequence[str], minimum: int
) -> str:
    """Say which of several findings of a small set one split holds too few images of; else ""."""
    if len(concepts) < 2 or table["group"].n_unique() >= division.SMALL:
        return ""
    small = []
    for concept in concepts:
        states = manifest.states(concept).select("image_id", "state")
        of = table.drop("state").join(states, on="image_id", how="left", maintain_order="left")
        if small_parts(of, concept, minimum):
            small.append(name_of(concept).lower())
    if not small:
        return ""
    return (
        f"one split would be too small for {len(small)} of {len(concepts)} findings "
        f"({', '.join(small)}): at least {minimum} images of each state are required in each part"
    )


def why_no_split(table: pl.DataFrame, finding: str | None, minimum: int) -> str:
    """Say what the parts that are too small would hold."""
    rows = {part: table.filter(pl.col("part") == part) for part in PARTS}
    if finding is None:
        held = [f"{part} {of.height}" for part, of in rows.items() if of.height < minimum]
        return (
            f"one split would be too small: images in {', '.join(held)}, at least {minimum} are "
            f"required"
        )
    counts = {
        part: [(of["state"] == state).sum() for state in (State.PRESENT, State.ABSENT)]
        for part, of in rows.items()
    }
    held = [
        f"{present} with and {absent} without in {part}"
        for part, (present, absent) in counts.items()
        if min(present, absent) < minimum
    ]
    return (
        f"one split would be too small: of {name_of(finding).lower()} {', '.join(held)}, at least "
        f"{minimum} images of each are required"
    )


def too_few(table: pl.DataFrame, faults: Sequence[str], minimum: int) -> TooFew:
    """Return the error that the parts of `table` are too small, with what to do."""
    listing = "\n  ".join(faults)
    patients = table["group"].n_unique()
    return TooFew(
        f"the {table.height} images of {patients} patients are too few for figures that mean "
        f"anything "
        f"(at least {minimum} images a part are required):\n  {listing}\n"
        f"Add images, change the fractions in [split], let Hilum cross-validate with [split] "
        f"folds = 0 "
        f'and official = "auto", or lower [split] min_per_class and do not rely on the figures. '
        f"`hilum audit` reports on the data all the same"
    )
