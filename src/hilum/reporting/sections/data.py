"""The data: who and what is in the table, how its files were read, what is not used and why."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
from markupsafe import Markup

from hilum.annotations import eligibility
from hilum.annotations.vocabulary import LABEL_NAMES, State, name_of
from hilum.dataset.manifest import DROPPED, Manifest
from hilum.dataset.plan.account import Account
from hilum.drawing import charts
from hilum.errors import plural
from hilum.pipeline import ingest
from hilum.pipeline.cache import Cache
from hilum.reporting.context import Context
from hilum.reporting.text import DASH, listed, shortened
from hilum.revisions import uptake
from hilum.revisions.changes import Correct, DecideIssue, SetLabel, SetMask

TITLE, ORDER = "The data", 10
EXAMPLES = 3
EXCLUDED = "it is in no part and no figure, unless [split] include lists what excludes it"
NOWHERE = "it is nowhere in this run"
REASONS = 6  # stated one by one; files left out for further reasons are counted together
# Between sources: a difference of prevalence above which the source alone predicts the finding.
UNEQUAL = 0.1


@dataclass(frozen=True)
class Source:
    """One hospital or collection, in words where they are not counts."""

    name: str
    images: int
    patients: int
    masked: int
    sex: str
    age: str
    size: str


@dataclass(frozen=True)
class Label:
    """Images of one source by state of one finding, in the order of `LABEL_NAMES`."""

    finding: str
    source: str
    counts: list[int]
    prevalence: str


@dataclass(frozen=True)
class Unused:
    """Something that is not used: how many, why, and what follows from it."""

    what: str
    reason: str
    count: int
    then: str
    examples: str


@dataclass(frozen=True)
class Data:
    """What the chapter shows. `aged` counts the images whose age is known.

    `corrected` says what readers corrected, "" where nothing.
    """

    images: int
    patients: int
    masked: int
    sources: list[Source]
    plans: list[Account]
    labels: list[Label]
    ages: Markup | None
    aged: int
    unequal: str | None
    stated: list[tuple[str, str]]
    flow: list[tuple[str, int]]
    unused: list[Unused]
    corrected: str = ""


def section(context: Context) -> Data:
    """Describe the data under the names that may leave the run's folder."""
    manifest, cached = context.passed.manifest, context.passed.cache(context.cached)
    plans = [replace(one, folder=Path(one.folder).name) for one in ingest.accounts(context.run)]
    found = describe(manifest, cached, context.concept, context.recipe.split.include, plans)
    return replace(found, corrected=corrected(uptake.of_run(context.run)))


def corrected(revisions: pl.DataFrame) -> str:
    """Say what the revisions that stand change, and how many readers made them."""
    used = revisions.filter("used")
    if not used.height:
        return ""
    count = dict(used.group_by("kind").len().iter_rows())
    what = [
        plural(count[kind], words)
        for kind, words in (
            (SetMask.kind, "lung mask"),
            (SetLabel.kind, "label"),
            (Correct.kind, "image"),
            (DecideIssue.kind, "issue"),
        )
        if kind in count
    ]
    readers = plural(used["author"].n_unique(), "reader")
    return f"{listed(what)}, by {readers}, up to revision {used['number'].max()}"


def describe(
    manifest: Manifest,
    cached: Cache,
    finding: str | None,
    include: Collection[str],
    plans: list[Account],
) -> Data:
    """Describe a manifest and its cache; `include` is the recipe's `[split] include`."""
    table = manifest.table.join(cached.index, on="image_id", maintain_order="left")
    masked = pl.col("image_id").is_in(cached.with_mask["image_id"].implode())
    table = table.with_columns(masked=masked, reason=eligibility.reasons(table, include))
    by_source = table.sort("source").group_by("source", maintain_order=True)
    return Data(
        images=table.height,
        patients=table["patient_id"].n_unique(),
        masked=cached.with_mask.height,
        sources=[_source(str(name), rows) for (name,), rows in by_source],
        plans=plans,
        labels=list(_labels(manifest)),
        ages=_ages(manifest, finding),
        aged=table["age_years"].count(),
        unequal=_unequal(manifest, finding),
        stated=list(_stated(manifest)),
        flow=_flow(manifest, table, finding),
        unused=list(_unused(manifest, table, finding)),
    )


def _source(name: str, rows: pl.DataFrame) -> Source:
    sexes = [
        f"{count:,} {sex}"
        for sex in ("female", "male", "other")
        if (count := int((rows["sex"] == sex).sum()))
    ]
    unknown = rows["sex"].null_count()
    age = rows["age_years"].drop_nulls()
    return Source(
        name=name,
        images=rows.height,
        patients=rows["patient_id"].n_unique(),
        masked=int(rows["masked"].sum()),
        sex=", ".join([*sexes, f"{unknown:,} not known"] if unknown else sexes),
        age=f"{age.median():g} ({age.min():g} to {age.max():g})" if len(age) else "not known",
        size=_sizes(rows.filter(pl.col("error").is_null())),
    )


def _sizes(rows: pl.DataFrame) -> str:
    if not rows.height:
        return DASH
    kinds = rows.select("height", "width").unique().height
    depth = " and ".join(str(bits) for bits in rows["bits"].unique().sort())
    ends = [
        f"{side.min()}" if side.min() == side.max() else f"{side.min()}–{side.max()}"
        for side in (rows["height"], rows["width"])
    ]
    return f"{' × '.join(ends)}, {depth} bit" + (f", {kinds} sizes" if kinds > 1 else "")


def _labels(manifest: Manifest) -> Iterator[Label]:
    """Yield images by state, of each finding and source."""
    for concept in manifest.labels["concept"].unique().sort():
        states = manifest.states(concept).with_columns(manifest.table["source"])
        for (source,), rows in states.sort("source").group_by("source", maintain_order=True):
            counts = {word: _count(rows, state) for state, word in LABEL_NAMES.items()}
            known = counts["present"] + counts["absent"]
            prevalence = f"{counts['present'] / known:.1%}" if known else DASH
            yield Label(name_of(concept), str(source), list(counts.values()), prevalence)


def _count(rows: pl.DataFrame, state: State | None) -> int:
    return rows["state"].null_count() if state is None else int((rows["state"] == state).sum())


def _ages(manifest: Manifest, finding: str | None) -> Markup | None:
    """Draw the ages of images with, without and not known to have the finding, if any is known."""
    table = manifest.table.with_columns(state=manifest.states(finding or "")["state"]).filter(
        pl.col("age_years").is_not_null()
    )
    if not table.height:
        return None
    groups = {"all images": table}
    if finding:
        word = pl.col("state").replace_strict(
            {State.PRESENT: "with", State.ABSENT: "without"}, default="not known"
        )
        named = table.with_columns(group=word)
        groups = {
            f"{word} {name_of(finding).lower()}": named.filter(pl.col("group") == word)
            for word in ("with", "without")
        }
        groups["finding not known"] = named.filter(pl.col("group") == "not known")
    groups = {name: rows for name, rows in groups.items() if rows.height}
    medians = "; ".join(
        f"{name}: {plural(rows.height, 'image')}, median age {rows['age_years'].median():g} years"
        for name, rows in groups.items()
    )
    return charts.histograms(
        {name: rows["age_years"].to_numpy() for name, rows in groups.items()},
        x="Age, years",
        y="Images",
        alt_text=f"Histogram of age. {medians}.",
    )


def _unequal(manifest: Manifest, finding: str | None) -> str | None:
    """Return a warning where prevalence differs between sources, so that they are a shortcut."""
    states = (
        manifest.states(finding or "")
        .with_columns(manifest.table["source"])
        .filter(pl.col("state") >= State.ABSENT)
    )
    prevalence = states.group_by("source").agg(present=pl.col("state").mean())
    rows = prevalence.sort("present", "source").rows()
    if len(rows) < 2 or rows[-1][1] - rows[0][1] <= UNEQUAL:
        return None
    least, most = rows[0], rows[-1]
    return (
        f"{name_of(finding or '')} is present in {least[1]:.0%} of {least[0]} and in "
        f"{most[1]:.0%} of {most[0]}: a model that only distinguished these sources would seem to "
        "find it. The rows by source show what remains within one."
    )


def _stated(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield what the data state of view, body part and modality: values with counts, sorted."""
    for column, name in (("view", "View"), ("body_part", "Body part"), ("modality", "Modality")):
        values = manifest.table[column]
        if not values.count():
            continue
        ordered = values.drop_nulls().value_counts()
        ordered = ordered.sort("count", column, descending=[True, False])
        words = [f"{value} {count:,}" for value, count in ordered.iter_rows()]
        if missing := values.null_count():
            words.append(f"not stated {missing:,}")
        yield name, ", ".join(words)


def _flow(manifest: Manifest, table: pl.DataFrame, finding: str | None) -> list[tuple[str, int]]:
    """Return how many images are left at each point on the way into the figures."""
    met = manifest.remarks.filter(pl.col("rule") == DROPPED).height
    readable = table.filter(pl.col("error").is_null())
    steps = [
        ("files met, but for readings and masks", table.height + met),
        ("images in the table", table.height),
        ("readable", readable.height),
    ]
    included, words = readable.filter(pl.col("reason").is_null()), "readable"
    if included.height < readable.height:
        words = "images in the split"
        steps.append(("in the split: frontal chest radiographs, as far as stated", included.height))
    if finding:
        known = manifest.states(finding).filter(
            (pl.col("state") >= State.ABSENT)
            & pl.col("image_id").is_in(included["image_id"].implode())
        )
        steps.append(
            (f"of them, {name_of(finding).lower()} known to be present or absent", known.height)
        )
    return [*steps, (f"of the {words}, with a usable lung mask", int(included["masked"].sum()))]


def _unused(manifest: Manifest, table: pl.DataFrame, finding: str | None) -> Iterator[Unused]:
    """Yield everything that is not used, from files to labels."""
    yield from _dropped(manifest)
    yield from _unused_images(table)
    yield from _unused_masks(table)
    if finding:
        yield from _unused_labels(manifest, table, finding)


def _dropped(manifest: Manifest) -> Iterator[Unused]:
    dropped = manifest.remarks.filter(pl.col("rule") == DROPPED)
    reasons = (
        dropped.group_by("message")
        .agg(pl.len(), pl.col("path").sort())
        .sort(pl.col("len"), "message", descending=[True, False])
    )
    for message, _, paths in reasons.head(REASONS).iter_rows():
        yield from _row("File left out", message, paths, NOWHERE)
    if reasons.height > REASONS:
        further = f"{reasons.height - REASONS} further reasons, see the remarks"
        paths = reasons.slice(REASONS)["path"].explode().to_list()
        yield from _row("File left out", further, paths, NOWHERE)


def _unused_images(table: pl.DataFrame) -> Iterator[Unused]:
    unread = table.filter(pl.col("error").is_not_null())["path"].to_list()
    broken = "the file is broken or not an image"
    yield from _row("Image that cannot be read", broken, unread, "it is in no part and no figure")
    excluded = table.filter(pl.col("error").is_null() & pl.col("reason").is_not_null())
    for reason in eligibility.counts(excluded["reason"]):
        paths = excluded.filter(pl.col("reason") == reason)["path"].to_list()
        yield from _row("Image excluded", f"the data state it: {reason}", paths, EXCLUDED)


_USABLE = pl.col("error").is_null() & pl.col("reason").is_null()


def _unused_masks(table: pl.DataFrame) -> Iterator[Unused]:
    wrong = table.filter(_USABLE & pl.col("mask_error").is_not_null())["path"].to_list()
    yield from _row(
        "Lung mask not used",
        "it does not fit its image or cannot be read",
        wrong,
        "the image is used as one without a mask",
    )
    without = table.filter(_USABLE & pl.col("mask_error").is_null() & ~pl.col("masked"))
    yield from _row(
        "Image without a lung mask",
        "there is none, or it is empty",
        without["path"].to_list(),
        "not trained on, and not measured, for the lungs",
    )


def _unused_labels(manifest: Manifest, table: pl.DataFrame, finding: str) -> Iterator[Unused]:
    labels = manifest.states(finding).select("image_id", "state")
    states = table.join(labels, on="image_id", maintain_order="left").filter(_USABLE)
    kinds = (
        ("uncertain", pl.col("state") == State.UNCERTAIN),
        ("not mentioned", pl.col("state").is_null()),
    )
    for word, of_kind in kinds:
        yield from _row(
            f"Label not used: {name_of(finding).lower()} {word}",
            "neither present nor absent",
            states.filter(of_kind)["path"].to_list(),
            "not trained on, and in no figure, for the finding",
        )


def _row(what: str, why: str, paths: list[str], then: str) -> Iterator[Unused]:
    """Yield one row, or none where there are no files of the kind."""
    if paths:
        more = " …" if len(paths) > EXAMPLES else ""
        examples = ", ".join(shortened(path, 60) for path in paths[:EXAMPLES]) + more
        yield Unused(what, why, len(paths), then, examples)
