"""How a set is divided: one split where its parts can hold enough, else cross-validation by patient, else not at all.

SINGLE            train, tune and test, as `hilum.steps.split` deals them
CROSS_VALIDATED   every patient is in one fold. For each fold, `folds/K/split.parquet` has the fold as its test part and the other
                  patients dealt into train and tune (`TUNE` of them), and all stages are trained anew. In the run's own
                  `split.parquet` every image is in train: it binds the final models, which no figure is of
UNDIVIDED         too small for both: nothing is trained and every image is in test

A finding is trained on by cross-validation where at least `FEWEST_OF_A_STATE` patients have it and as many do not. With fewer, a
fold's training part could be left without one, and a figure would rest on one or two people. The leading finding must be known of
`FEWEST_PATIENTS` patients, the number below which no subgroup is reported either.

`division.json` holds a `Division`; the step `split` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

from hilum import store
from hilum.errors import NotFound
from hilum.manifest import Manifest
from hilum.run import Run
from hilum.vocabulary import State, name_of

FILE = "division.json"
SINGLE, CROSS_VALIDATED, UNDIVIDED = "single split", "cross-validated", "too small to divide"
FEWEST_OF_A_STATE = 5  # patients
FEWEST_PATIENTS = 20
FOLDS, QUICK_FOLDS = 5, 3  # where the recipe leaves the number to Hilum
TUNE = 0.25  # share of the patients outside a fold that its thresholds, calibration and early stopping are chosen on


@dataclass(frozen=True)
class Division:
    """What the step `split` decided, and why.

    `finding` is the leading finding, None where no label has both states. `concepts` are those that are trained on, the leading one
    first; None: those that the recipe asks for, of which the training part decides. `too_rare` gives, by concept, why it is not
    trained on; `why` says why there is no single split.
    """

    mode: str = SINGLE
    finding: str | None = None
    concepts: tuple[str, ...] | None = None
    too_rare: Mapping[str, str] = field(default_factory=dict)
    folds: int = 0
    why: str = ""

    @property
    def trained(self) -> str | None:
        """The leading finding, where models are trained on it."""
        return None if self.concepts == () else self.finding

    @property
    def cross_validated(self) -> bool:
        return self.mode == CROSS_VALIDATED

    @classmethod
    def of(cls, run: Run) -> Division:
        """That of a run, or of the cross-validated run that a fold is of. Raises `NotFound` where its step `split` is not done."""
        if not (run.data / FILE).exists():
            raise NotFound(f"{run.data} has no {FILE}: make its split with `hilum split DATA --to {run.data}`")
        stored = store.read_json(run.data / FILE)
        return cls(**{**stored, "concepts": None if stored["concepts"] is None else tuple(stored["concepts"])})

    def write(self, run: Run) -> None:
        store.write_json(run / FILE, asdict(self))

    def told(self) -> dict[str, Any]:
        """What a person should hear of it, for a summary; nothing of a single split that leaves out no finding."""
        told: dict[str, Any] = {} if self.mode == SINGLE else {"mode": self.mode, "because": self.why}
        if self.cross_validated:
            told |= {"folds": self.folds, "trained on": ", ".join(self.concepts or ()) or "no finding"}
        if self.too_rare:
            told["too rare to train on"] = "; ".join(f"{concept} ({why})" for concept, why in self.too_rare.items())
        return told


def folds(run: Run) -> list[Run]:
    """The folds' runs of a cross-validated run; [] of any other, and of a fold."""
    division = Division.of(run)
    return [run.fold(number) for number in range(division.folds)] if division.cross_validated and run.parent is None else []


def patients(manifest: Manifest, table: pl.DataFrame) -> pl.DataFrame:
    """concept, present, absent: patients (groups of `table`) of whom some image is in that state, of every concept with a label."""
    known = manifest.labels.join(table.select("image_id", "group"), on="image_id").filter(pl.col("state") >= State.ABSENT)
    states = {"present": State.PRESENT, "absent": State.ABSENT}
    counts = [pl.col("group").filter(pl.col("state") == state).n_unique().alias(name) for name, state in states.items()]
    return known.group_by("concept").agg(counts).sort("concept")


def too_rare(counted: pl.DataFrame) -> dict[str, str]:
    """Why a concept of `patients` cannot be trained on, by concept; those that can are not named."""
    rare = counted.filter(pl.min_horizontal("present", "absent") < FEWEST_OF_A_STATE)
    return {concept: f"{present} patients with it and {absent} without, at least {FEWEST_OF_A_STATE} of each are needed" for concept, present, absent in rare.iter_rows()}


def too_few_patients(manifest: Manifest, table: pl.DataFrame, concept: str) -> str:
    """Why the patients are too few to cross-validate with `concept` leading; "" where they are not."""
    known = table.join(manifest.states(concept).filter(pl.col("state") >= State.ABSENT), on="image_id", how="semi")["group"].n_unique()
    if known >= FEWEST_PATIENTS:
        return ""
    return f"whether they have {name_of(concept).lower()} is known of {known} patients, and cross-validation needs {FEWEST_PATIENTS}"


# ----------------------------------------------------------------------------------------------------------------- dealing patients


def deal(table: pl.DataFrame, settled: Mapping[str, str], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Part by group. Each group adds its images to every part's claim by the part's share; the part with the largest claim gets them.

    Settled groups come first in their stratum, so that those which follow make up for them; one that is settled in a part which is
    not dealt to claims nothing.
    """
    groups = table.group_by("group").agg(pl.len().alias("images"), pl.col("source").min(), pl.col("state").max().fill_null(-2)).to_dicts()
    order = sorted(groups, key=lambda g: (g["state"], g["source"], g["group"] not in settled, store.digest(f"{seed}/{g['group']}")))
    claim = dict.fromkeys(shares, 0.0)
    dealt = {}
    for group in order:
        part = settled.get(group["group"])
        if part is None or part in claim:
            for open_part, share in shares.items():
                claim[open_part] += share / sum(shares.values()) * group["images"]
            part = part or max(claim, key=lambda open_part: claim[open_part])
            claim[part] -= group["images"]
        dealt[group["group"]] = part
    return dealt


def deal_folds(manifest: Manifest, table: pl.DataFrame, concepts: Sequence[str], count: int, seed: int, kept: Mapping[str, str] | None = None) -> pl.DataFrame:
    """`table` with `fold` from 0 to count - 1, by group; a rare finding's patients are spread over the folds as evenly as they go.

    `kept`: folds by group that stay as they are.
    """
    dealt = deal(_stratified(manifest, table, concepts), kept or {}, {str(number): 1 / count for number in range(count)}, seed)
    return table.with_columns(fold=pl.col("group").replace_strict(dealt, return_dtype=pl.String).cast(pl.Int64))


def fold_table(manifest: Manifest, table: pl.DataFrame, concepts: Sequence[str], number: int, seed: int) -> pl.DataFrame:
    """The split of one fold: `table` with its `part`. What is train and what is tune depends on no label of the fold itself."""
    others = table.filter(pl.col("fold") != number)
    part: dict[str, str] = {}
    for _, stratum in _by_group(_stratified(manifest, others, concepts)).group_by("state", maintain_order=True):
        part |= deal(stratum, {}, {"train": 1 - TUNE, "tune": TUNE}, seed)  # each by itself: of three patients with a finding tune gets one
    return table.with_columns(part=pl.col("group").replace_strict(part, default="test", return_dtype=pl.String))


def _by_group(table: pl.DataFrame) -> pl.DataFrame:
    """The table with, as `state`, the highest of the image's group."""
    return table.with_columns(pl.col("state").max().over("group")).sort("state", "group", "image_id")


def untrainable(manifest: Manifest, table: pl.DataFrame, concepts: Sequence[str]) -> list[str]:
    """Those of `concepts` of which the train part of a fold's `table` has not both states."""
    counted = patients(manifest, table.filter(pl.col("part") == "train"))
    trainable = set(counted.filter(pl.min_horizontal("present", "absent") > 0)["concept"])
    return [concept for concept in concepts if concept not in trainable]


def _stratified(manifest: Manifest, table: pl.DataFrame, concepts: Sequence[str]) -> pl.DataFrame:
    """The table with, as `state`, the rarest finding that the image has: the rarer the higher, 0 for none of `concepts`."""
    counted = patients(manifest, table).filter(pl.col("concept").is_in(list(concepts))).sort("present", "concept", descending=[True, False])
    order = {concept: rank for rank, concept in enumerate(counted["concept"], start=1)}
    present = manifest.labels.filter((pl.col("state") == State.PRESENT) & pl.col("concept").is_in(list(order)))
    rank = present.select("image_id", state=pl.col("concept").replace_strict(order, return_dtype=pl.Int8)).group_by("image_id").agg(pl.col("state").max())
    return table.drop("state").join(rank, on="image_id", how="left", maintain_order="left").with_columns(pl.col("state").fill_null(0))
