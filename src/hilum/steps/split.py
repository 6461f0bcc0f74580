"""Split: one division into train, tune and test, by patient, that binds every stage.

Patients whose pictures the audit found to be the same picture are one group, and a group goes to one part as a whole. Groups are
dealt out stratum by stratum (state of the finding, then source) in an order that only the seed and their names decide, each to the
part that is furthest behind its share, so every stratum's shares are kept as nearly as whole patients allow. The table is stored;
when the set grows, those in it stay where they are and only new groups are dealt. Images that the data state not to be frontal
chest radiographs are in no part (`hilum.steps._selection`), nor are files that cannot be read.

`split.parquet`: image_id, patient_id, group, source, state (of the finding), part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from hilum import store
from hilum.errors import BadData, Mismatch, NotFound, TooFew
from hilum.manifest import PARTS, Manifest
from hilum.recipe import Recipe, Split
from hilum.run import Run
from hilum.steps import Progress, _selection, audit, cache
from hilum.vocabulary import State, name_of

VERSION = 3
LEAST_TUNE = 0.1  # of the tune part's share of the images: a given part below it chooses a threshold by chance


def target(manifest: Manifest, wanted: str = "auto") -> str | None:
    """The concept to learn: the wanted one, or the one with the most images of its rarer state; None: no label has both states.

    Raises `NotFound` where the wanted one labels no image.
    """
    counts = manifest.labels.filter(pl.col("state") >= 0).group_by("concept", "state").len().pivot("state", index="concept", values="len")
    rarer = {row["concept"]: min(row.get("0") or 0, row.get("1") or 0) for row in counts.sort("concept").iter_rows(named=True)}
    if wanted != "auto":
        if wanted not in rarer:
            raise NotFound.named("finding with labels here", wanted, rarer)
        return wanted
    return max(rarer, key=lambda concept: rarer[concept]) if max(rarer.values(), default=0) > 0 else None


def split(
    manifest: Manifest, settings: Split, *, finding: str | None = None, same: Sequence[tuple[str, str]] = (), kept: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The table described above. `same` are pairs of image ids with one picture; `kept` an earlier table whose patients stay.

    Raises `BadData` where patients that must stay together are to stay in different parts, `TooFew` where a part could say nothing.
    """
    table = _grouped(manifest, finding, same)
    before, shares = _settled(table, manifest, settings, kept)
    dealt = deal(table, before, shares, settings.seed)
    table = table.with_columns(pl.col("group").replace_strict(dealt).alias("part"))
    _refuse_small_parts(table, finding, settings.minimum)
    return table


def _grouped(manifest: Manifest, finding: str | None, same: Sequence[tuple[str, str]]) -> pl.DataFrame:
    """The table but for its part."""
    states = manifest.states(finding or "")
    table = manifest.table.select("image_id", "patient_id", "source").with_columns(state=states["state"])
    group = _clusters(table["patient_id"].unique(), _patient_pairs(table, same))
    return table.with_columns(pl.col("patient_id").replace_strict(group, return_dtype=pl.String).alias("group"))


def _patient_pairs(table: pl.DataFrame, same: Sequence[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    patient = dict(zip(table["image_id"], table["patient_id"], strict=True))
    return ((patient[first], patient[second]) for first, second in same)


def _clusters(names: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The smallest name of each cluster, by name, where `pairs` are joined."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    for pair in pairs:
        first, second = sorted(map(root, pair))
        parent[second] = first
    return {name: root(name) for name in parent}


def _pairs_between(kept: Manifest, manifest: Manifest, same: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    """Return pairs of kept images that join the patients whom `same`, pairs of any images of the manifest, joins."""
    if kept is manifest:
        return same
    joined = _clusters(manifest.table["patient_id"].unique(), _patient_pairs(manifest.table, same))
    first_of: dict[str, str] = {}
    pairs = []
    for image_id, patient in kept.table.select("image_id", "patient_id").iter_rows():
        pairs.append((first_of.setdefault(joined[patient], image_id), image_id))
    return pairs


def _settled(table: pl.DataFrame, manifest: Manifest, settings: Split, kept: pl.DataFrame | None) -> tuple[dict[str, str], dict[str, float]]:
    """Parts by group that an earlier split or the source settles, and the shares of the parts that are still dealt to."""
    shares = {part: getattr(settings, part) for part in PARTS}
    if kept is not None:
        told = table.join(kept.select("patient_id", "part").unique(), on="patient_id")
        torn = _torn(told)
        if torn:
            raise BadData.listing("groups that must stay together stand in different parts of the earlier split; leave it out to deal anew", torn)
        return dict(zip(told["group"], told["part"], strict=True)), shares
    told = table.with_columns(part=manifest.table["given_part"]).drop_nulls("part")
    torn = _torn(told)
    sound = not torn and {"train", "test"} <= set(told["part"])
    if settings.given == "use" and not sound:
        raise BadData.listing("the given split cannot be used; set [split] given = 'ignore' to make one", torn or ["it has no train or no test part"])
    if settings.given == "ignore" or not sound:
        return {}, shares
    if _too_small(told, settings):
        # Too few to choose a threshold on: a tune part is dealt anew, out of all that is not for the test.
        told = told.filter(pl.col("part") == "test")
    return dict(zip(told["group"], told["part"], strict=True)), {part: shares[part] for part in ("train", "tune")}


def _too_small(told: pl.DataFrame, settings: Split) -> bool:
    """Whether a given split has no tune part worth the name. One that the recipe asks to "use" is taken as it is, if there is one."""
    tune, rest = (told.filter(part) for part in (pl.col("part") == "tune", pl.col("part") != "test"))
    asked_for = rest.height * settings.tune / (settings.train + settings.tune)
    return not tune.height or (settings.given == "auto" and (_rarer_state(tune) < settings.minimum or tune.height < LEAST_TUNE * asked_for))


def _torn(told: pl.DataFrame) -> list[str]:
    parts = told.group_by("group").agg(pl.col("part").unique().sort(), pl.col("patient_id").unique().sort()).filter(pl.col("part").list.len() > 1)
    return [f"{', '.join(row['patient_id'])}: in {' and '.join(row['part'])}" for row in parts.sort("group").iter_rows(named=True)]


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


def _rarer_state(table: pl.DataFrame) -> int:
    return min((table["state"] == state).sum() for state in (State.ABSENT, State.PRESENT))


def _refuse_small_parts(table: pl.DataFrame, finding: str | None, minimum: int) -> None:
    faults = []
    for part in PARTS:
        rows = table.filter(pl.col("part") == part)
        counts = {"with": (rows["state"] == State.PRESENT).sum(), "without": (rows["state"] == State.ABSENT).sum()}
        if not rows.height:
            faults.append(f"{part} would be empty")
        elif finding:
            faults += [f"{part} would hold {count} images {word} {name_of(finding).lower()}" for word, count in counts.items() if count < minimum]
    if faults:
        listing = "\n  ".join(faults)
        raise TooFew(
            f"the {table.height} images of {table['group'].n_unique()} patients are too few to say anything with (at least {minimum} a part are asked for):"
            f"\n  {listing}\nAdd images, change the shares in [split], or set [split] minimum lower and distrust the figures. "
            f"`hilum audit` tells about the data all the same"
        )


def refuse_leak(table: pl.DataFrame, trained_on: pl.DataFrame, what: str) -> None:
    """Raise `Mismatch` where `trained_on` (image_id) names an image whose group is in tune or test, or is not in the split at all."""
    told = trained_on.select("image_id").unique().join(table, on="image_id", how="left")
    leaked = told.filter(pl.col("part").is_null() | (pl.col("part") != "train")).sort("image_id")
    if leaked.height:
        shown = ", ".join(f"{row['image_id']} ({row['part'] or 'not in the split'})" for row in leaked.head(5).iter_rows(named=True))
        raise Mismatch(
            f"{what} was trained on {leaked.height} images that are not in the training part of this split: {shown}. "
            f"Its figures would be worthless; train it again with `hilum run`"
        )


# ------------------------------------------------------------------------------------------------------------------------ the step


def made_from(run: Run, recipe: Recipe) -> dict[str, Any]:
    return {
        "manifest": run.made("ingest")["manifest.parquet"],
        "audit": run.made("audit")["findings.parquet"],
        "split": recipe.section("split"),
        "finding": recipe.classify.finding,
        "version": VERSION,
    }


def make(run: Run, recipe: Recipe, progress: Progress) -> tuple[dict[str, str], dict[str, Any]]:
    manifest = Manifest.read(run.folder)
    readable = manifest.only(cache.opened(run, recipe).readable["image_id"])
    selection = _selection.select(readable, recipe)
    same = _pairs_between(selection.included, readable, audit.duplicates(store.read_table(run / "findings.parquet")))
    with selection.explained():
        finding = target(selection.included, recipe.classify.finding)
        table = split(selection.included, recipe.split, finding=finding, same=same, kept=_kept(run, recipe))
    store.write_table(run / "split.parquet", table)
    progress(1, 1)
    return {"split.parquet": store.digest_of_table(table)}, summary(table, finding) | {"given split": _given(manifest, table)} | selection.summary()


def _kept(run: Run, recipe: Recipe) -> pl.DataFrame | None:
    """The table named in the recipe, or this run's own where only the data changed since."""
    if recipe.split.keep:
        if not Path(recipe.split.keep).is_file():
            raise NotFound(f"[split] keep: there is no split at {recipe.split.keep}")
        return store.read_table(Path(recipe.split.keep))
    own = run / "split.parquet"
    same_rules = own.exists() and run.done("split") and run.made_from("split")["split"] == recipe.section("split")
    return store.read_table(own) if same_rules else None


def _given(manifest: Manifest, table: pl.DataFrame) -> str:
    """What became of the split that the source comes with."""
    told = table.join(manifest.table.select("image_id", "given_part"), on="image_id").drop_nulls("given_part")
    moved = {part: rows.height for (part,), rows in told.filter(pl.col("given_part") != pl.col("part")).group_by("given_part")}
    if not told.height:
        return "none"
    if not moved:
        return "used"
    if "test" in moved:
        return "not used"
    too_small = (told["given_part"] == "tune").sum()
    return f"its test part used; tune dealt out of train, for {f'the given one holds {too_small} images' if too_small else 'it has none'}"


def summary(table: pl.DataFrame, finding: str | None) -> dict[str, Any]:
    told: dict[str, Any] = {"finding": finding}
    for part in PARTS:
        rows = table.filter(pl.col("part") == part)
        told[part] = {
            "images": rows.height,
            "patients": rows["patient_id"].n_unique(),
            "present": (rows["state"] == State.PRESENT).sum(),
            "absent": (rows["state"] == State.ABSENT).sum(),
        }
    return told
