"""Choose how a set is divided: one split, cross-validation by patient, or neither.

SINGLE            train, tune and test parts, as `hilum.pipeline.split` deals them
CROSS_VALIDATED   every patient is in one fold. For each fold, `folds/K/split.parquet` has the fold
                  as its test part and the other patients dealt into train and tune, and every stage
                  is trained anew on that train part. In the run's own `split.parquet` every image
                  is in train: it binds the final models, which no figure is of
UNDIVIDED         too small for both: nothing is trained, and every image is in test

Cross-validation trains on a finding that at least `FEWEST_OF_A_STATE` patients have and as many do
not: with fewer, the training part of some fold could lack it, and a figure would rest on one or two
people. The leading finding must be known of `FEWEST_PATIENTS` patients, the number below which no
subgroup is reported either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import polars as pl

from hilum import storage
from hilum.annotations.vocabulary import State, name_of
from hilum.dataset.groups import Groups
from hilum.dataset.label_states import NO_LABEL
from hilum.dataset.manifest import Manifest
from hilum.errors import NotFound
from hilum.pipeline.step import Summary
from hilum.run_folder import Run

FILE = "division.json"
SINGLE, CROSS_VALIDATED, UNDIVIDED = "single split", "cross-validated", "too small to divide"
FEWEST_OF_A_STATE = 5  # patients
FEWEST_PATIENTS = 20  # below it no subgroup is reported either
SMALL = 500  # patients: a smaller set is cross-validated if one split is too small for any finding
FOLDS, QUICK_FOLDS = 5, 3  # where the recipe leaves the number to Hilum
TUNE = 0.25  # fraction of the patients outside a fold on which its thresholds are chosen


@dataclass(frozen=True)
class Division:
    """What the step `split` decided, and why.

    `finding` is the leading finding; None: no label has both states. `concepts` are those that
    models are trained on, the leading one first; None: those that the recipe names. `too_rare`
    gives, by concept, why it is not trained on. `why` says why there is no single split.
    """

    mode: str = SINGLE
    finding: str | None = None
    concepts: tuple[str, ...] | None = None
    too_rare: Mapping[str, str] = field(default_factory=dict)
    folds: int = 0
    why: str = ""

    @property
    def trained(self) -> str | None:
        """Return the leading finding if models are trained on it, else None."""
        return None if self.concepts == () else self.finding

    @property
    def cross_validated(self) -> bool:
        """Whether patients are dealt into folds."""
        return self.mode == CROSS_VALIDATED

    @classmethod
    def of(cls, run: Run) -> Division:
        """Read that of a run or, given a fold, of the run that it belongs to.

        Raises `NotFound` where the step `split` has not been done.
        """
        whole = Run(run.data, checked=run.checked)
        if not whole.done("split"):
            raise NotFound(
                f"{run.data} has no {FILE}: make its split with `hilum split DATA --out {run.data}`"
            )
        stored = whole.json("split", FILE)
        return cls(
            **{
                **stored,
                "concepts": None if stored["concepts"] is None else tuple(stored["concepts"]),
            }
        )

    def write(self, run: Run) -> None:
        """Write it to the run's folder."""
        storage.write_json(run / FILE, asdict(self))

    def report(self) -> Summary:
        """Summarise it for a person; {} of a single split that leaves out no finding."""
        said: Summary = {} if self.mode == SINGLE else {"mode": self.mode, "because": self.why}
        if self.cross_validated:
            said |= {
                "folds": self.folds,
                "trained on": ", ".join(self.concepts or ()) or "no finding",
            }
        if self.too_rare:
            said["too rare to train on"] = "; ".join(
                f"{concept} ({why})" for concept, why in self.too_rare.items()
            )
        return said


def folds(run: Run) -> list[Run]:
    """Return the folds of a cross-validated run; [] of any other run, and of a fold."""
    division = Division.of(run)
    return (
        [run.fold(number) for number in range(division.folds)]
        if division.cross_validated and run.parent is None
        else []
    )


def patients(manifest: Manifest, table: pl.DataFrame) -> pl.DataFrame:
    """Count by concept the patients (groups of `table`) with an image `present`, and `absent`."""
    images, groups, counted = manifest.table["image_id"], Groups.of(table["group"]), []
    rows = None if images.equals(table["image_id"]) else _rows(images, table["image_id"])
    for concept in manifest.label_states.of:
        states = manifest.label_states.numbers(concept)
        states = states if rows is None else np.append(states, NO_LABEL)[rows]
        with_it, without = (
            groups.count(states == state) for state in (State.PRESENT, State.ABSENT)
        )
        if with_it or without:
            counted.append((concept, with_it, without))
    kinds = {"concept": pl.String, "present": pl.UInt32, "absent": pl.UInt32}
    return pl.DataFrame(counted, schema=kinds, orient="row")


def _rows(images: pl.Series, wanted: pl.Series) -> np.ndarray:
    """Return the row of each of the `wanted` in `images`; -1: it is not there."""
    known = images.to_frame("image_id").with_row_index("row")
    found = wanted.to_frame("image_id").join(
        known, on="image_id", how="left", maintain_order="left"
    )
    return found["row"].cast(pl.Int64).fill_null(-1).to_numpy()


def too_rare(counted: pl.DataFrame) -> dict[str, str]:
    """Say of each concept of `patients` that cannot be trained on why not."""
    rare = counted.filter(pl.min_horizontal("present", "absent") < FEWEST_OF_A_STATE)
    return {
        concept: f"{present} patients with it and {absent} without, "
        f"at least {FEWEST_OF_A_STATE} of each are needed"
        for concept, present, absent in rare.iter_rows()
    }


def too_few_patients(manifest: Manifest, table: pl.DataFrame, concepts: Sequence[str]) -> str:
    """Say why the patients are too few for folds with `concepts`; "" where they are not."""
    if not concepts:
        return "no finding has enough patients in both states to be cross-validated"
    states = manifest.states(concepts[0]).filter(pl.col("state") >= State.ABSENT)
    known = table.join(states, on="image_id", how="semi")["group"].n_unique()
    if known >= FEWEST_PATIENTS:
        return ""
    name = name_of(concepts[0]).lower()
    return f"{name} is known of {known} patients, and cross-validation needs {FEWEST_PATIENTS}"


# -------------------------------------------------------------------------------- dealing patients


def assign_parts(
    table: pl.DataFrame, settled: Mapping[str, str], fractions: Mapping[str, float], seed: int
) -> pl.Series:
    """Deal groups to parts by stratum (`state`, then source); return `part` of each row.

    Each group adds its images to every part's claim by the part's fraction, and the part with the
    largest claim gets them. `settled` groups come first in their stratum, so that those which
    follow make up for them; one that is settled in a part which is not dealt to claims nothing.
    """
    before = pl.DataFrame(
        {"group": list(settled), "part": list(settled.values())},
        schema={"group": pl.String, "part": pl.String},
    )
    groups = (
        table.group_by("group")
        .agg(pl.len().alias("images"), pl.col("source").min(), pl.col("state").max().fill_null(-2))
        .join(before, on="group", how="left")
    )
    parts, part = list(fractions), pl.col("part")
    claims = part.is_null() | part.is_in(parts)
    claiming = groups.filter(claims)
    # Of these alone: a lot for each of a quarter of a million patients takes half a second.
    lots = [storage.digest(f"{seed}/{name}") for name in claiming["group"]]
    # By number the few sources are sorted in a tenth of the time.
    claiming = claiming.with_columns(lot=pl.Series(lots, dtype=pl.String)).sort(
        "state", pl.col("source").rank("dense"), part.is_null(), "lot"
    )
    places = claiming["part"].cast(pl.Enum(parts)).to_physical()
    dealt = pl.Series([parts[place] for place in _deal(claiming["images"], places, fractions)])
    placed = pl.concat(
        [
            claiming.select("group", part=dealt.cast(pl.String)),
            groups.filter(~claims).select("group", "part"),
        ]
    )
    return by_group(table, placed)


def by_group(table: pl.DataFrame, stated: pl.DataFrame) -> pl.Series:
    """Return what `stated` (group, and one more column) has of each row's group, else null."""
    rows = table.select("group").join(stated, on="group", how="left", maintain_order="left")
    return rows.to_series(1)


def _deal(images: pl.Series, settled: pl.Series, fractions: Mapping[str, float]) -> Iterator[int]:
    """Yield the place among `fractions` of the part of each group, in turn.

    `images`: how many each has. `settled`: the place that is settled, or null.
    """
    due = [fraction / sum(fractions.values()) for fraction in fractions.values()]
    claims, places = [0.0] * len(due), range(len(due))
    for count, place in zip(images.to_list(), settled.to_list(), strict=True):
        for at in places:
            claims[at] += due[at] * count
        part = claims.index(max(claims)) if place is None else place
        claims[part] -= count
        yield part
