"""Split: one division into train, tune and test, by patient, that binds every stage.

Patients whose pictures the audit found to be the same picture are one group, and a group goes to one part as a whole. Groups are
dealt out stratum by stratum (state of the finding, then source) in an order that only the seed and their names decide, each to the
part that is furthest behind its share, so every stratum's shares are kept as nearly as whole patients allow. The table is stored;
when the set grows, those in it stay where they are and only new groups are dealt. Images that the data state not to be frontal
chest radiographs are in no part (`hilum.pipeline._selection`), nor are files that cannot be read.

Where such parts would be too small to say anything, patients are dealt into folds instead, see `hilum.pipeline.division`.

`split.parquet`: image_id, patient_id, group, source, state (of the finding), part, fold (null where there is one split).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from hilum import storage
from hilum.annotations.vocabulary import State, name_of
from hilum.config import Recipe, Split
from hilum.dataset.manifest import PARTS, Manifest
from hilum.dataset.patients import connected_components
from hilum.errors import BadData, Mismatch, NotFound, TooFew
from hilum.pipeline import _selection, audit, cache, cross_validation, division
from hilum.pipeline.cross_validation import cross_validated, fold_count, fold_table
from hilum.pipeline.division import Division, assign_parts
from hilum.progress import Progress
from hilum.run_folder import Run
from hilum.storage import integrity

VERSION = 4
COLUMNS = ("image_id", "patient_id", "source", "state", "group", "part", "fold")
LEAST_TUNE = 0.1  # of the tune part's share of the images: a given part below it chooses a threshold by chance


def target(manifest: Manifest, wanted: str = "auto") -> str | None:
    """The concept to learn: the wanted one, or the one with the most images of its rarer state; None: no label has both states.

    Raises `NotFound` where the wanted one labels no image.
    """
    counts = (
        manifest.labels.filter(pl.col("state") >= 0)
        .group_by("concept", "state")
        .len()
        .pivot("state", index="concept", values="len")
    )
    rarer = {
        row["concept"]: min(row.get("0") or 0, row.get("1") or 0)
        for row in counts.sort("concept").iter_rows(named=True)
    }
    if wanted != "auto":
        if wanted not in rarer:
            raise NotFound.named("finding with labels here", wanted, rarer)
        return wanted
    return (
        max(rarer, key=lambda concept: rarer[concept])
        if max(rarer.values(), default=0) > 0
        else None
    )


def split(
    manifest: Manifest,
    settings: Split,
    *,
    finding: str | None = None,
    same: Sequence[tuple[str, str]] = (),
    kept: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """One split, the table described above. `same` are pairs of image ids with one picture; `kept` an earlier table whose patients stay.

    Raises `BadData` where patients that must stay together are to stay in different parts, `TooFew` where a part could say nothing.
    """
    table = _dealt(_grouped(manifest, finding, same), manifest, settings, kept)
    if faults := _small_parts(table, finding, settings.min_per_class):
        raise _too_few(table, faults, settings.min_per_class)
    return table


def divide(
    manifest: Manifest,
    settings: Split,
    *,
    finding: str = "auto",
    also: Sequence[str] = (),
    same: Sequence[tuple[str, str]] = (),
    kept: pl.DataFrame | None = None,
    folds: int = division.FOLDS,
) -> tuple[pl.DataFrame, Division]:
    """Deal the table described above: one split where it holds enough, else folds, else neither.

    `finding` and `also` as in [classify]; `same` and `kept` as in `split`; `folds`: how many, where
    the recipe does not say. A small set with several findings and no split of its own must hold
    enough of each. Raises as `split` does, `TooFew` where the recipe rules folds out.
    """
    leading = target(manifest, finding)
    table, single, why = _grouped(manifest, leading, same), None, "asked for in the recipe"
    counted = division.patients(manifest, table)
    rare = division.too_rare(counted)
    concepts = cross_validation.candidates(counted, finding, also, rare)
    if settings.folds < 2:
        one_split = kept is not None and "train" in kept["part"] and not fold_count(kept)
        single = _dealt(table, manifest, settings, kept if one_split else None)
        single = single.with_columns(fold=pl.lit(None, pl.Int64)).select(COLUMNS)
        if not (why := _shortcoming(manifest, single, leading, concepts, settings)):
            return single, Division(finding=leading)
    wish = Division(finding=leading, too_rare=rare, folds=settings.folds or folds, why=why)
    if found := cross_validated(manifest, table, settings, wish, concepts, kept):
        dealt, made = found
        return dealt.with_columns(part=pl.lit("train")).select(COLUMNS), made
    if single is not None and not _small_parts(single, leading, settings.min_per_class):
        return single, Division(finding=leading)
    if single is not None and not _small_parts(single, None, settings.min_per_class):
        return single, Division(finding=leading, concepts=(), too_rare=rare, why=why)
    why += f"; {division.too_few_patients(manifest, table, concepts)}"
    table = table.with_columns(part=pl.lit("test"), fold=pl.lit(None, pl.Int64)).select(COLUMNS)
    return table, replace(wish, mode=division.UNDIVIDED, concepts=(), folds=0, why=why)


def _shortcoming(
    manifest: Manifest,
    table: pl.DataFrame,
    leading: str | None,
    concepts: Sequence[str],
    settings: Split,
) -> str:
    """Say why one split, `table`, is too small; "" where it is not. Raises `TooFew` where it is
    and the recipe asks for it all the same."""
    if faults := _small_parts(table, leading, settings.min_per_class):
        if settings.folds == 1 or settings.official == "use":
            raise _too_few(table, faults, settings.min_per_class)
        return _why_no_split(table, leading, settings.min_per_class)
    given = _given(manifest, table) not in ("none", "not used")
    if settings.folds == 1 or settings.previous or given:
        return ""
    return _too_small_for(manifest, table, concepts, settings.min_per_class)


def _dealt(
    table: pl.DataFrame, manifest: Manifest, settings: Split, kept: pl.DataFrame | None
) -> pl.DataFrame:
    before, shares = _settled(table, manifest, settings, kept)
    return table.with_columns(
        pl.col("group")
        .replace_strict(assign_parts(table, before, shares, settings.seed))
        .alias("part")
    )


def _grouped(
    manifest: Manifest, finding: str | None, same: Sequence[tuple[str, str]]
) -> pl.DataFrame:
    """The table but for its part."""
    states = manifest.states(finding or "")
    table = manifest.table.select("image_id", "patient_id", "source").with_columns(
        state=states["state"]
    )
    group = connected_components(table["patient_id"].unique(), _patient_pairs(table, same))
    return table.with_columns(
        pl.col("patient_id").replace_strict(group, return_dtype=pl.String).alias("group")
    )


def _patient_pairs(
    table: pl.DataFrame, same: Sequence[tuple[str, str]]
) -> Iterable[tuple[str, str]]:
    patient = dict(zip(table["image_id"], table["patient_id"], strict=True))
    return ((patient[first], patient[second]) for first, second in same)


def _pairs_between(
    kept: Manifest, manifest: Manifest, same: Sequence[tuple[str, str]]
) -> Sequence[tuple[str, str]]:
    """Return pairs of kept images that join the patients whom `same`, pairs of any images of the manifest, joins."""
    if kept is manifest:
        return same
    joined = connected_components(
        manifest.table["patient_id"].unique(), _patient_pairs(manifest.table, same)
    )
    first_of: dict[str, str] = {}
    pairs = []
    for image_id, patient in kept.table.select("image_id", "patient_id").iter_rows():
        pairs.append((first_of.setdefault(joined[patient], image_id), image_id))
    return pairs


def _settled(
    table: pl.DataFrame, manifest: Manifest, settings: Split, kept: pl.DataFrame | None
) -> tuple[dict[str, str], dict[str, float]]:
    """Parts by group that an earlier split or the source settles, and the shares of the parts that are still dealt to."""
    shares = {part: getattr(settings, part) for part in PARTS}
    if kept is not None:
        told = table.join(kept.select("patient_id", "part").unique(), on="patient_id")
        torn = _torn(told)
        if torn:
            raise BadData.listing(
                "groups that must stay together stand in different parts of the earlier split; leave it out to deal anew",
                torn,
            )
        return dict(zip(told["group"], told["part"], strict=True)), shares
    told = table.with_columns(part=manifest.table["given_part"]).drop_nulls("part")
    torn = _torn(told)
    sound = not torn and {"train", "test"} <= set(told["part"])
    if settings.official == "use" and not sound:
        raise BadData.listing(
            "the given split cannot be used; set [split] official = 'ignore' to make one",
            torn or ["it has no train or no test part"],
        )
    if settings.official == "ignore" or not sound:
        return {}, shares
    if _too_small(told, settings):
        # Too few to choose a threshold on: a tune part is dealt anew, out of all that is not for the test.
        told = told.filter(pl.col("part") == "test")
    return dict(zip(told["group"], told["part"], strict=True)), {
        part: shares[part] for part in ("train", "tune")
    }


def _too_small(told: pl.DataFrame, settings: Split) -> bool:
    """Whether a given split has no tune part worth the name. One that the recipe asks to "use" is taken as it is, if there is one."""
    tune, rest = (
        told.filter(part) for part in (pl.col("part") == "tune", pl.col("part") != "test")
    )
    asked_for = rest.height * settings.tune / (settings.train + settings.tune)
    return not tune.height or (
        settings.official == "auto"
        and (_rarer_state(tune) < settings.min_per_class or tune.height < LEAST_TUNE * asked_for)
    )


def _torn(told: pl.DataFrame) -> list[str]:
    parts = (
        told.group_by("group")
        .agg(pl.col("part").unique().sort(), pl.col("patient_id").unique().sort())
        .filter(pl.col("part").list.len() > 1)
    )
    return [
        f"{', '.join(row['patient_id'])}: in {' and '.join(row['part'])}"
        for row in parts.sort("group").iter_rows(named=True)
    ]


def _rarer_state(table: pl.DataFrame) -> int:
    return min((table["state"] == state).sum() for state in (State.ABSENT, State.PRESENT))


def _small_parts(table: pl.DataFrame, finding: str | None, minimum: int) -> list[str]:
    """Say what each part lacks. Without a finding each must still hold `minimum` images."""
    faults = []
    for part in PARTS:
        rows = table.filter(pl.col("part") == part)
        counts = {
            "with": (rows["state"] == State.PRESENT).sum(),
            "without": (rows["state"] == State.ABSENT).sum(),
        }
        if finding and rows.height:
            faults += [
                f"{part} would hold {count} images {word} {name_of(finding).lower()}"
                for word, count in counts.items()
                if count < minimum
            ]
        elif rows.height < minimum:
            faults.append(
                f"{part} would {f'hold {rows.height} images' if rows.height else 'be empty'}"
            )
    return faults


def _too_small_for(
    manifest: Manifest, table: pl.DataFrame, concepts: Sequence[str], minimum: int
) -> str:
    """Say which of several findings of a small set one split holds too few images of; else ""."""
    if len(concepts) < 2 or table["group"].n_unique() >= division.SMALL:
        return ""
    small = []
    for concept in concepts:
        states = manifest.states(concept).select("image_id", "state")
        of = table.drop("state").join(states, on="image_id", how="left", maintain_order="left")
        if _small_parts(of, concept, minimum):
            small.append(name_of(concept).lower())
    if not small:
        return ""
    return (
        f"one split would be too small for {len(small)} of {len(concepts)} findings "
        f"({', '.join(small)}): at least {minimum} images of each state a part are asked for"
    )


def _why_no_split(table: pl.DataFrame, finding: str | None, minimum: int) -> str:
    """Say what the parts that are too small would hold, in half a sentence."""
    rows = {part: table.filter(pl.col("part") == part) for part in PARTS}
    if finding is None:
        held = [f"{part} {of.height}" for part, of in rows.items() if of.height < minimum]
        return f"one split would be too small: images in {', '.join(held)}, at least {minimum} are asked for"
    counts = {
        part: [(of["state"] == state).sum() for state in (State.PRESENT, State.ABSENT)]
        for part, of in rows.items()
    }
    held = [
        f"{present} with and {absent} without in {part}"
        for part, (present, absent) in counts.items()
        if min(present, absent) < minimum
    ]
    return f"one split would be too small: of {name_of(finding).lower()} {', '.join(held)}, at least {minimum} images of each are asked for"


def _too_few(table: pl.DataFrame, faults: Sequence[str], minimum: int) -> TooFew:
    listing = "\n  ".join(faults)
    return TooFew(
        f"the {table.height} images of {table['group'].n_unique()} patients are too few to say anything with (at least {minimum} a part are asked for):"
        f'\n  {listing}\nAdd images, change the shares in [split], let Hilum cross-validate with [split] folds = 0 and official = "auto", or set '
        f"[split] minimum lower and distrust the figures. `hilum audit` tells about the data all the same"
    )


def refuse_leak(table: pl.DataFrame, trained_on: pl.DataFrame, what: str) -> None:
    """Raise `Mismatch` where `trained_on` (image_id) names an image whose group is in tune or test, or is not in the split at all."""
    told = trained_on.select("image_id").unique().join(table, on="image_id", how="left")
    leaked = told.filter(pl.col("part").is_null() | (pl.col("part") != "train")).sort("image_id")
    if leaked.height:
        shown = ", ".join(
            f"{row['image_id']} ({row['part'] or 'not in the split'})"
            for row in leaked.head(5).iter_rows(named=True)
        )
        raise Mismatch(
            f"{what} was trained on {leaked.height} images that are not in the training part of this split: {shown}. "
            f"Its figures would be worthless; train it again with `hilum run`"
        )


# ------------------------------------------------------------------------------------------------------------------------ the step


def made_from(run: Run, recipe: Recipe) -> dict[str, Any]:
    return {
        "manifest": run.made("ingest")["manifest.parquet"],
        "audit": run.made("audit")["issues.parquet"],
        "split": recipe.section("split"),
        "finding": recipe.classify.finding,
        "also": list(recipe.classify.other_findings),
        "folds": _wanted_folds(recipe),
        "version": VERSION,
    }


def _wanted_folds(recipe: Recipe) -> int:  # of cross-validation, should it come to that
    return recipe.split.folds or (division.QUICK_FOLDS if recipe.job.quick else division.FOLDS)


def make(run: Run, recipe: Recipe, progress: Progress) -> tuple[dict[str, str], dict[str, Any]]:
    manifest, classify = run.manifest(), recipe.classify
    readable = manifest.only(cache.opened(run, recipe).readable["image_id"])
    selection = _selection.select(readable, recipe)
    duplicates = audit.duplicates(run.table("audit", "issues.parquet"))
    with selection.explained():
        table, told = divide(
            selection.included,
            recipe.split,
            finding=classify.finding,
            also=classify.other_findings,
            same=_pairs_between(selection.included, readable, duplicates),
            kept=_kept(run, recipe),
            folds=_wanted_folds(recipe),
        )
    storage.write_table(run / "split.parquet", table)
    told.write(run)
    made = {
        "split.parquet": storage.digest_of_table(table),
        division.FILE: integrity.digest_of(run / division.FILE),
    }
    made |= _write_folds(run, selection.included, table, told, recipe.split.seed)
    progress(1, 1)
    given = _given(manifest, table) if told.mode == division.SINGLE else "not used"
    return made, {
        **summary(table, told.finding),
        **told.report(),
        "given split": given,
        **selection.summary(),
    }


def _write_folds(
    run: Run, manifest: Manifest, table: pl.DataFrame, told: Division, seed: int
) -> dict[str, str]:
    """Write each fold's own split, as a finished step of its own run, and remove folds of before.

    Returns the digests of these splits by their file below the run.
    """
    made = {}
    for number in range(told.folds):
        fold = run.fold(number)
        parts = fold_table(manifest, table, told.concepts or (), number, seed)
        digest = storage.digest_of_table(parts)
        storage.write_table(fold / "split.parquet", parts)
        of = {"fold": number, "split": storage.digest_of_table(table)}
        fold.finish("split", of, {"split.parquet": digest}, {"finding": told.finding})
        made[(fold / "split.parquet").relative_to(run.folder).as_posix()] = digest
    for folder in (run / "folds").iterdir() if (run / "folds").exists() else ():
        if int(folder.name) >= told.folds:
            shutil.rmtree(folder)
    return made


def _kept(run: Run, recipe: Recipe) -> pl.DataFrame | None:
    """The table named in the recipe, or this run's own where only the data changed since."""
    if recipe.split.previous:
        if not Path(recipe.split.previous).is_file():
            raise NotFound(f"[split] previous: there is no split at {recipe.split.previous}")
        return storage.read_table(Path(recipe.split.previous))
    if not run.done("split") or run.damage("split"):
        return None
    same_rules = run.made_from("split")["split"] == recipe.section("split")
    return run.table("split", "split.parquet") if same_rules else None


def _given(manifest: Manifest, table: pl.DataFrame) -> str:
    """What became of the split that the source comes with."""
    told = table.join(manifest.table.select("image_id", "given_part"), on="image_id").drop_nulls(
        "given_part"
    )
    moved = {
        part: rows.height
        for (part,), rows in told.filter(pl.col("given_part") != pl.col("part")).group_by(
            "given_part"
        )
    }
    if not told.height:
        return "none"
    if not moved:
        return "used"
    if "test" in moved:
        return "not used"
    too_small = (told["given_part"] == "tune").sum()
    return f"its test part used; tune dealt out of train, for {f'the given one holds {too_small} images' if too_small else 'it has none'}"


def summary(table: pl.DataFrame, finding: str | None) -> dict[str, Any]:
    """Count images, patients and images of either state of each part, or of each fold."""
    of = [(part, table.filter(pl.col("part") == part)) for part in PARTS]
    if folds := fold_count(table):
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
