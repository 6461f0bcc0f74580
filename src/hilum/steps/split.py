"""Split: one division into train, tune and test, by patient, that binds every stage.

Patients whose pictures the audit found to be the same picture are one group, and a group goes to one part as a whole. Groups are
dealt out stratum by stratum (state of the finding, then source) in an order that only the seed and their names decide, each to the
part that is furthest behind its share, so every stratum's shares are kept as nearly as whole patients allow. The table is stored;
when the set grows, those in it stay where they are and only new groups are dealt.

Where such parts would be too small to say anything, patients are dealt into folds instead, see `hilum.division`.

`split.parquet`: image_id, patient_id, group, source, state (of the finding), part, fold (null where there is one split).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from hilum import division, store
from hilum.division import Division, deal
from hilum.errors import BadData, Mismatch, NotFound, TooFew
from hilum.manifest import PARTS, Manifest
from hilum.recipe import ALL, Recipe, Split
from hilum.run import Run
from hilum.steps import Progress, audit, cache
from hilum.vocabulary import State, name_of

VERSION = 3
COLUMNS = ("image_id", "patient_id", "source", "state", "group", "part", "fold")
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
    """One split, the table described above. `same` are pairs of image ids with one picture; `kept` an earlier table whose patients stay.

    Raises `BadData` where patients that must stay together are to stay in different parts, `TooFew` where a part could say nothing.
    """
    table = _dealt(_grouped(manifest, finding, same), manifest, settings, kept)
    if faults := _small_parts(table, finding, settings.minimum):
        raise _too_few(table, faults, settings.minimum)
    return table


def divide(
    manifest: Manifest, settings: Split, *, finding: str = "auto", also: Sequence[str] = (), same: Sequence[tuple[str, str]] = (),
    kept: pl.DataFrame | None = None, folds: int = division.FOLDS,
) -> tuple[pl.DataFrame, Division]:  # fmt: skip
    """The table described above, and how it came about: one split where it can hold enough, else cross-validation by patient in
    `folds` folds, or as many as the recipe asks for, else no division.

    `finding` and `also` as in [classify]. Raises as `split` does, `TooFew` where the recipe rules cross-validation out.
    """
    leading = target(manifest, finding)
    table, faults = _grouped(manifest, leading, same), []
    counted = division.patients(manifest, table)
    rare = division.too_rare(counted)
    if settings.folds < 2:
        earlier = None if kept is None or _folds_of(kept) or "train" not in kept["part"] else kept
        single = _dealt(table, manifest, settings, earlier).with_columns(fold=pl.lit(None, pl.Int64))
        if not (faults := _small_parts(single, leading, settings.minimum)):
            return single.select(COLUMNS), Division(finding=leading)
        if settings.folds == 1 or settings.given == "use":
            raise _too_few(single, faults, settings.minimum)
    why = _why_no_split(single, leading, settings.minimum) if faults else "asked for in the recipe"
    wish = Division(finding=leading, too_rare=rare, folds=settings.folds or folds, why=why)
    concepts = _candidates(counted, finding, also, rare)
    if found := _cross_validated(manifest, table, settings, wish, concepts, kept):
        return found
    if faults and not _small_parts(single, None, settings.minimum):
        return single.select(COLUMNS), Division(finding=leading, concepts=(), too_rare=rare, why=why)
    short = division.too_few_patients(manifest, table, concepts[0]) if concepts else "no finding has enough patients in both states to be cross-validated"
    table = table.with_columns(part=pl.lit("test"), fold=pl.lit(None, pl.Int64))
    return table.select(COLUMNS), replace(wish, mode=division.UNDIVIDED, concepts=(), folds=0, why=f"{why}; {short}")


def _cross_validated(
    manifest: Manifest, table: pl.DataFrame, settings: Split, wish: Division, concepts: list[str], kept: pl.DataFrame | None
) -> tuple[pl.DataFrame, Division] | None:
    """The folds, in each of which every one of `concepts` can be trained on; None where the patients are too few for it.

    Without a concept it is for the lungs alone, and only where the recipe asks for folds.
    """
    rare = dict(wish.too_rare)
    if table["group"].n_unique() < division.FEWEST_PATIENTS or not concepts and settings.folds < 2:
        return None
    while not concepts or not division.too_few_patients(manifest, table, concepts[0]):
        dealt = division.deal_folds(manifest, table, concepts, wish.folds, settings.seed, _kept_folds(table, kept, wish.folds))
        parts = [division.fold_table(manifest, dealt, concepts, number, settings.seed) for number in range(wish.folds)]
        lost = {concept for part in parts for concept in division.untrainable(manifest, part, concepts)}
        if not lost:
            leading = concepts[0] if concepts else wish.finding
            states = manifest.states(leading or "").select("image_id", "state")
            dealt = dealt.drop("state").join(states, on="image_id", how="left", maintain_order="left").with_columns(part=pl.lit("train"))
            made = replace(wish, mode=division.CROSS_VALIDATED, finding=leading, concepts=tuple(concepts), too_rare=rare)
            return dealt.select(COLUMNS), made
        rare |= dict.fromkeys(sorted(lost), f"in one of {wish.folds} folds no patient of either state would be left to train on")
        if concepts[0] in lost:
            return None
        concepts = [concept for concept in concepts if concept not in lost]
    return None


def _candidates(counted: pl.DataFrame, finding: str, also: Sequence[str], rare: Mapping[str, str]) -> list[str]:
    """The concepts that cross-validation may train on, the leading one first: those that the recipe names, where it names none all
    that are not too `rare`. [] where the one that it names to lead is. `counted`: see `hilum.division.patients`."""
    by_rarer_state = counted.sort(pl.min_horizontal("present", "absent"), "concept", descending=[True, False])["concept"]
    trainable = [concept for concept in by_rarer_state if concept not in rare]
    leading = trainable[:1] if finding == "auto" else [concept for concept in trainable if concept == finding]
    every = tuple(also) == (ALL,) or (finding == "auto" and not also)
    others = trainable if every else [concept for concept in also if concept in trainable]
    return list(dict.fromkeys([*leading, *others])) if leading else []


def _folds_of(table: pl.DataFrame) -> int:
    """How many folds an earlier table has; 0 of a single split."""
    return 1 + table["fold"].max() if "fold" in table.columns and table["fold"].count() else 0


def _kept_folds(table: pl.DataFrame, kept: pl.DataFrame | None, folds: int) -> dict[str, str]:
    """Folds by group that an earlier table with as many settles; groups whose patients stood in several are dealt anew."""
    if kept is None or _folds_of(kept) != folds:
        return {}
    told = table.join(kept.select("patient_id", "fold").unique(), on="patient_id").group_by("group").agg(pl.col("fold").unique())
    return {group: str(fold[0]) for group, fold in told.iter_rows() if len(fold) == 1}


def _dealt(table: pl.DataFrame, manifest: Manifest, settings: Split, kept: pl.DataFrame | None) -> pl.DataFrame:
    before, shares = _settled(table, manifest, settings, kept)
    return table.with_columns(pl.col("group").replace_strict(deal(table, before, shares, settings.seed)).alias("part"))


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


def _rarer_state(table: pl.DataFrame) -> int:
    return min((table["state"] == state).sum() for state in (State.ABSENT, State.PRESENT))


def _small_parts(table: pl.DataFrame, finding: str | None, minimum: int) -> list[str]:
    """What each part lacks, in words. Without a finding each part must hold `minimum` images all the same."""
    faults = []
    for part in PARTS:
        rows = table.filter(pl.col("part") == part)
        counts = {"with": (rows["state"] == State.PRESENT).sum(), "without": (rows["state"] == State.ABSENT).sum()}
        if finding and rows.height:
            faults += [f"{part} would hold {count} images {word} {name_of(finding).lower()}" for word, count in counts.items() if count < minimum]
        elif rows.height < minimum:
            faults.append(f"{part} would {f'hold {rows.height} images' if rows.height else 'be empty'}")
    return faults


def _why_no_split(table: pl.DataFrame, finding: str | None, minimum: int) -> str:
    """What the parts that are too small would hold, in half a sentence."""
    rows = {part: table.filter(pl.col("part") == part) for part in PARTS}
    if finding is None:
        held = [f"{part} {of.height}" for part, of in rows.items() if of.height < minimum]
        return f"one split would be too small: images in {', '.join(held)}, at least {minimum} are asked for"
    counts = {part: [(of["state"] == state).sum() for state in (State.PRESENT, State.ABSENT)] for part, of in rows.items()}
    held = [f"{present} with and {absent} without in {part}" for part, (present, absent) in counts.items() if min(present, absent) < minimum]
    return f"one split would be too small: of {name_of(finding).lower()} {', '.join(held)}, at least {minimum} images of each are asked for"


def _too_few(table: pl.DataFrame, faults: Sequence[str], minimum: int) -> TooFew:
    listing = "\n  ".join(faults)
    return TooFew(
        f"the {table.height} images of {table['group'].n_unique()} patients are too few to say anything with (at least {minimum} a part are asked for):"
        f"\n  {listing}\nAdd images, change the shares in [split], let Hilum cross-validate with [split] folds = 0 and given = \"auto\", or set "
        f"[split] minimum lower and distrust the figures. `hilum audit` tells about the data all the same"
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
        "also": list(recipe.classify.also),
        "folds": _wanted_folds(recipe),
        "version": VERSION,
    }


def _wanted_folds(recipe: Recipe) -> int:
    """Of cross-validation, should it come to that."""
    return recipe.split.folds or (division.QUICK_FOLDS if recipe.job.quick else division.FOLDS)


def make(run: Run, recipe: Recipe, progress: Progress) -> tuple[dict[str, str], dict[str, Any]]:
    manifest, classify = Manifest.read(run.folder), recipe.classify
    readable = manifest.only(cache.opened(run, recipe).readable["image_id"])
    same = audit.duplicates(store.read_table(run / "findings.parquet"))
    table, told = divide(
        readable, recipe.split, finding=classify.finding, also=classify.also, same=same, kept=_kept(run, recipe), folds=_wanted_folds(recipe)
    )
    store.write_table(run / "split.parquet", table)
    told.write(run)
    made = {"split.parquet": store.digest_of_table(table), division.FILE: store.digest_of_file(run / division.FILE)}
    made |= _write_folds(run, readable, table, told, recipe.split.seed)
    progress(1, 1)
    given = _given(manifest, table) if told.mode == division.SINGLE else "not used"
    return made, {**summary(table, told.finding), **told.told(), "given split": given}


def _write_folds(run: Run, manifest: Manifest, table: pl.DataFrame, told: Division, seed: int) -> dict[str, str]:
    """Each fold's own split, as a finished step of its own run; digests of these, by file of the run. Folds that are no more are removed."""
    made = {}
    for number in range(told.folds):
        fold, parts = run.fold(number), division.fold_table(manifest, table, told.concepts or (), number, seed)
        digest = store.digest_of_table(parts)
        store.write_table(fold / "split.parquet", parts)
        fold.finish("split", {"fold": number, "split": store.digest_of_table(table)}, {"split.parquet": digest}, {"finding": told.finding})
        made[(fold / "split.parquet").relative_to(run.folder).as_posix()] = digest
    for folder in (run / "folds").iterdir() if (run / "folds").exists() else ():
        if int(folder.name) >= told.folds:
            shutil.rmtree(folder)
    return made


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
    """The finding, and of each part, or of each fold, images, patients and images of either state."""
    of = [(part, table.filter(pl.col("part") == part)) for part in PARTS]
    if folds := _folds_of(table):
        of = [(f"fold {number}", table.filter(pl.col("fold") == number)) for number in range(folds)]
    told: dict[str, Any] = {"finding": finding}
    for name, rows in of:
        told[name] = {
            "images": rows.height,
            "patients": rows["patient_id"].n_unique(),
            "present": (rows["state"] == State.PRESENT).sum(),
            "absent": (rows["state"] == State.ABSENT).sum(),
        }
    return told
