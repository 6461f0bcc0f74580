"""Split: one division into train, tune and test, by patient, that binds every stage.

Patients whom the audit found to have the same image are one group, and a group goes to one part
as a whole (`hilum.pipeline.patient_groups`). Groups are dealt stratum by stratum (state of the
finding, then source) in an order that only the seed and their names decide, each to the part
that is furthest behind its fraction, so every stratum's fractions are kept as nearly as whole
patients allow. The table is stored; when the set grows, those in it stay where they are and only
new groups are dealt. Images that the data state not to be frontal chest radiographs are in no
part (`hilum.pipeline._selection`), nor are files that cannot be read.

Where such parts would be too small for figures that mean anything, patients are dealt into folds
instead, see `hilum.pipeline.division`. Tune is the validation part.

`split.parquet`: image_id, patient_id, group, source, state (of the finding), part, fold (null where
there is one split).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from hilum import storage
from hilum.annotations.vocabulary import State
from hilum.config import Recipe, Split
from hilum.dataset.manifest import PARTS, Manifest
from hilum.errors import BadData, Mismatch, NotFound
from hilum.pipeline import _part_sizes, _selection, audit, cache, cross_validation, division
from hilum.pipeline.cross_validation import cross_validated, fold_count, fold_table
from hilum.pipeline.division import Division, assign_parts
from hilum.pipeline.patient_groups import grouped, pairs_between
from hilum.pipeline.step import Inputs, StepResult, Summary
from hilum.progress import Progress
from hilum.run_folder import Run
from hilum.storage import integrity

VERSION = 4
COLUMNS = ("image_id", "patient_id", "source", "state", "group", "part", "fold")
# Of the images that the tune part is due: an official part below it chooses a threshold by chance.
LEAST_TUNE = 0.1


def target(manifest: Manifest, wanted: str = "auto") -> str | None:
    """Return the leading concept: the wanted one, or that with the most images of its rarer state.

    None: no label has both states.

    Raises `NotFound` where the wanted one labels no image.
    """
    rarer = {}
    for concept in manifest.label_states.of:
        counts = manifest.label_states.counts(concept)
        absent, present = (counts.get(state, 0) for state in (State.ABSENT, State.PRESENT))
        if absent or present:
            rarer[concept] = min(absent, present)
    if wanted != "auto":
        if wanted not in rarer:
            raise NotFound.named("finding with labels here", wanted, rarer)
        return wanted
    if max(rarer.values(), default=0) == 0:
        return None
    return max(rarer, key=lambda concept: rarer[concept])


def split(
    manifest: Manifest,
    settings: Split,
    *,
    finding: str | None = None,
    same: Sequence[tuple[str, str]] = (),
    kept: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Return one split, the table described above.

    `same`: pairs of image ids that show the same image; `kept`: an earlier table, whose patients
    stay. Raises `BadData` where patients that must stay together are to stay in different parts,
    `TooFew` where a part would be too small.
    """
    table = _dealt(grouped(manifest, finding, same), manifest, settings, kept)
    if faults := _part_sizes.small_parts(table, finding, settings.min_per_class):
        raise _part_sizes.too_few(table, faults, settings.min_per_class)
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
    table, single, why = grouped(manifest, leading, same), None, "requested in the recipe"
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
    if single is not None and not _part_sizes.small_parts(single, leading, settings.min_per_class):
        return single, Division(finding=leading)
    if single is not None and not _part_sizes.small_parts(single, None, settings.min_per_class):
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
    if faults := _part_sizes.small_parts(table, leading, settings.min_per_class):
        if settings.folds == 1 or settings.official == "use":
            raise _part_sizes.too_few(table, faults, settings.min_per_class)
        return _part_sizes.why_no_split(table, leading, settings.min_per_class)
    given = _given(manifest, table) not in ("none", "not used")
    if settings.folds == 1 or settings.previous or given:
        return ""
    return _part_sizes.too_small_for(manifest, table, concepts, settings.min_per_class)


def _dealt(
    table: pl.DataFrame, manifest: Manifest, settings: Split, kept: pl.DataFrame | None
) -> pl.DataFrame:
    before, fractions = _settled(table, manifest, settings, kept)
    return table.with_columns(assign_parts(table, before, fractions, settings.seed))


def _settled(
    table: pl.DataFrame, manifest: Manifest, settings: Split, kept: pl.DataFrame | None
) -> tuple[dict[str, str], dict[str, float]]:
    """Return the parts by group that an earlier or official split settles, and what is still dealt.

    The latter are the fractions by part.
    """
    fractions = {part: getattr(settings, part) for part in PARTS}
    if kept is not None:
        settled = table.join(kept.select("patient_id", "part").unique(), on="patient_id")
        torn = _torn(settled)
        if torn:
            raise BadData.listing(
                "groups that must stay together are in different parts of the earlier split; "
                "leave it "
                "out to deal anew",
                torn,
            )
        return dict(settled.select("group", "part").unique().iter_rows()), fractions
    official = table.select(
        "group", "patient_id", "state", part=manifest.table["given_part"]
    ).drop_nulls("part")
    torn = _torn(official)
    sound = not torn and {"train", "test"} <= set(official["part"].unique())
    if settings.official == "use" and not sound:
        raise BadData.listing(
            "the official split cannot be used; set [split] official = 'ignore' to make one",
            torn or ["it has no train or no test part"],
        )
    if settings.official == "ignore" or not sound:
        return {}, fractions
    if _too_small(official, settings):
        # Too few to choose a threshold on: tune is dealt anew, out of all that is not in test.
        official = official.filter(pl.col("part") == "test")
    parts = dict(_placed(official).iter_rows())
    return parts, {part: fractions[part] for part in ("train", "tune")}


def _too_small(official: pl.DataFrame, settings: Split) -> bool:
    """Return whether an official split has no tune part large enough to choose a threshold on.

    One that the recipe says to "use" is taken as it is, if there is one.
    """
    tune = official.filter(pl.col("part") == "tune")
    rest = int((official["part"] != "test").sum())
    due = rest * settings.tune / (settings.train + settings.tune)
    return not tune.height or (
        settings.official == "auto"
        and (
            _part_sizes.rarer_state(tune) < settings.min_per_class or tune.height < LEAST_TUNE * due
        )
    )


def _torn(table: pl.DataFrame) -> list[str]:
    """Name the patients of groups that are in several parts."""
    placed = _placed(table)
    if placed.height == placed["group"].n_unique():
        return []
    parts = (
        table.group_by("group")
        .agg(pl.col("part").unique().sort(), pl.col("patient_id").unique().sort())
        .filter(pl.col("part").list.len() > 1)
    )
    return [
        f"{', '.join(row['patient_id'])}: in {' and '.join(row['part'])}"
        for row in parts.sort("group").iter_rows(named=True)
    ]


def _placed(table: pl.DataFrame) -> pl.DataFrame:
    """Return the groups of a table with each part that they are in."""
    rows = table.select("group", "part")
    # A patient's images are neighbours, of which the first is enough.
    again = pl.all_horizontal(pl.all().eq_missing(pl.all().shift()))
    return rows.filter(~again).unique()


def refuse_leak(table: pl.DataFrame, trained_on: pl.DataFrame, what: str) -> None:
    """Raise `Mismatch` where an image of `trained_on` (image_id) is not in the train part of
    `table`.
    """
    placed = trained_on.select("image_id").unique().join(table, on="image_id", how="left")
    leaked = placed.filter(pl.col("part").is_null() | (pl.col("part") != "train")).sort("image_id")
    if leaked.height:
        shown = ", ".join(
            f"{row['image_id']} ({row['part'] or 'not in the split'})"
            for row in leaked.head(5).iter_rows(named=True)
        )
        raise Mismatch(
            f"{what} was trained on {leaked.height} images that are not in the training part "
            f"of this "
            f"split: {shown}. Its figures would be worthless; train it again with `hilum run`"
        )


# ---------------------------------------------------------------------------------------- the step


def made_from(run: Run, recipe: Recipe) -> Inputs:
    """Return the digests of manifest and issues, and the settings."""
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


def make(run: Run, recipe: Recipe, progress: Progress) -> StepResult:
    """Divide the images, and write the division and the folds' own splits."""
    manifest, classify = run.manifest(), recipe.classify
    readable = manifest.only(cache.opened(run, recipe).readable["image_id"])
    selection = _selection.select(readable, recipe)
    duplicates = audit.duplicates(run.table("audit", "issues.parquet"))
    with selection.explained():
        table, decided = divide(
            selection.included,
            recipe.split,
            finding=classify.finding,
            also=classify.other_findings,
            same=pairs_between(selection.included, readable, duplicates),
            kept=_kept(run, recipe),
            folds=_wanted_folds(recipe),
        )
    storage.write_table(run / "split.parquet", table)
    decided.write(run)
    made = {
        "split.parquet": storage.digest_of_table(table),
        division.FILE: integrity.digest_of(run / division.FILE),
    }
    made |= _write_folds(run, selection.included, table, decided, recipe.split.seed)
    progress(1, 1)
    given = _given(manifest, table) if decided.mode == division.SINGLE else "not used"
    counts = {
        **summary(table, decided.finding),
        **decided.report(),
        "given split": given,
        **selection.summary(),
    }
    return StepResult(made, counts)


def _write_folds(
    run: Run, manifest: Manifest, table: pl.DataFrame, decided: Division, seed: int
) -> dict[str, str]:
    """Write each fold's own split, as a finished step of its own run, and remove folds of before.

    Returns the digests of these splits by their file below the run.
    """
    made = {}
    for number in range(decided.folds):
        fold = run.fold(number)
        parts = fold_table(manifest, table, decided.concepts or (), number, seed)
        digest = storage.digest_of_table(parts)
        storage.write_table(fold / "split.parquet", parts)
        of = {"fold": number, "split": storage.digest_of_table(table)}
        fold.finish("split", of, {"split.parquet": digest}, {"finding": decided.finding})
        made[(fold / "split.parquet").relative_to(run.folder).as_posix()] = digest
    for folder in (run / "folds").iterdir() if (run / "folds").exists() else ():
        if int(folder.name) >= decided.folds:
            shutil.rmtree(folder)
    return made


def _kept(run: Run, recipe: Recipe) -> pl.DataFrame | None:
    """Return the table named in the recipe, or the run's own where only the data changed since."""
    if recipe.split.previous:
        if not Path(recipe.split.previous).is_file():
            raise NotFound(f"[split] previous: there is no split at {recipe.split.previous}")
        return storage.read_table(Path(recipe.split.previous))
    if not run.done("split") or run.damage("split"):
        return None
    same_rules = run.made_from("split")["split"] == recipe.section("split")
    return run.table("split", "split.parquet") if same_rules else None


def _given(manifest: Manifest, table: pl.DataFrame) -> str:
    """Say what became of the official split, the one that the source comes with."""
    rows, given = table.select("image_id", "part"), manifest.table.select("image_id", "given_part")
    if rows["image_id"].equals(given["image_id"]):
        official = rows.hstack(given.drop("image_id")).drop_nulls("given_part")
    else:
        official = rows.join(given, on="image_id").drop_nulls("given_part")
    moved = official.filter(pl.col("given_part") != pl.col("part"))["given_part"].unique()
    if not official.height:
        return "none"
    if not len(moved):
        return "used"
    if "test" in moved:
        return "not used"
    too_small = (official["given_part"] == "tune").sum()
    why = f"the given one holds {too_small} images" if too_small else "it has none"
    return f"its test part used; tune dealt out of train, for {why}"


def summary(table: pl.DataFrame, finding: str | None) -> Summary:
    """Count images, patients and images of either state of each part, or of each fold."""
    of = [(part, table.filter(pl.col("part") == part)) for part in PARTS]
    if folds := fold_count(table):
        of = [(f"fold {number}", table.filter(pl.col("fold") == number)) for number in range(folds)]
    counts: Summary = {"finding": finding}
    for name, rows in of:
        counts[name] = {
            "images": rows.height,
            "patients": rows["patient_id"].n_unique(),
            "present": (rows["state"] == State.PRESENT).sum(),
            "absent": (rows["state"] == State.ABSENT).sum(),
        }
    return counts
