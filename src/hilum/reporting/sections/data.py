"""The data: who and what is in the table, and what is not used, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import polars as pl
from markupsafe import Markup

from hilum.annotations import eligibility
from hilum.annotations.vocabulary import SEX_NAMES, STATE_NAMES, State, name_of
from hilum.dataset.manifest import DROPPED, Manifest
from hilum.drawing import charts
from hilum.pipeline.cache import Cache
from hilum.reporting.sections.text import DASH, cut, plural

EXAMPLES = 3
EXCLUDED = "it is in no part and no figure, unless [split] include lists what excludes it"
REASONS = 6  # told one by one; files left out for further reasons are counted together
STATES = {**STATE_NAMES, None: "not mentioned"}


def section(
    manifest: Manifest, pictures: Cache, finding: str | None, include: Collection[str]
) -> dict[str, Any]:
    """Return what the chapter shows; `include` is the recipe's `[split] include`."""
    table = manifest.table.join(pictures.index, on="image_id", maintain_order="left")
    masked = pl.col("image_id").is_in(pictures.with_mask["image_id"].implode())
    table = table.with_columns(masked=masked, reason=eligibility.reasons(table, include))
    return {
        "images": table.height,
        "patients": table["patient_id"].n_unique(),
        "masked": pictures.with_mask.height,
        "sources": [
            _source(name, rows)
            for (name,), rows in table.sort("source").group_by("source", maintain_order=True)
        ],
        "labels": list(_labels(manifest)),
        "ages": _ages(manifest, finding),
        "aged": table["age_years"].count(),
        "unequal": _unequal(manifest, finding),
        "stated": list(_stated(manifest)),
        "flow": _flow(manifest, table, finding),
        "unused": list(_unused(manifest, table, finding)),
    }


def _source(name: str, rows: pl.DataFrame) -> dict[str, Any]:
    sexes = [
        f"{count:,} {sex}" for sex in SEX_NAMES.values() if (count := (rows["sex"] == sex).sum())
    ]
    unknown = rows["sex"].null_count()
    age = rows["age_years"].drop_nulls()
    return {
        "name": name,
        "images": rows.height,
        "patients": rows["patient_id"].n_unique(),
        "masked": rows["masked"].sum(),
        "sex": ", ".join([*sexes, f"{unknown:,} not known"] if unknown else sexes),
        "age": f"{age.median():g} ({age.min():g} to {age.max():g})" if len(age) else "not known",
        "size": _sizes(rows.filter(pl.col("error").is_null())),
    }


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


def _labels(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Images by state, of each finding and source."""
    for concept in manifest.labels["concept"].unique().sort():
        states = manifest.states(concept).with_columns(manifest.table["source"])
        for (source,), rows in states.sort("source").group_by("source", maintain_order=True):
            counts = {word: _count(rows, state) for state, word in STATES.items()}
            known = counts["present"] + counts["absent"]
            share = f"{counts['present'] / known:.1%}" if known else DASH
            yield {
                "finding": name_of(concept),
                "source": source,
                "counts": list(counts.values()),
                "prevalence": share,
            }


def _count(rows: pl.DataFrame, state: State | None) -> int:
    return rows["state"].null_count() if state is None else (rows["state"] == state).sum()


def _ages(manifest: Manifest, finding: str | None) -> Markup | None:
    """Ages of those with, without and not known to have the finding; None where no age is known."""
    table = manifest.table.with_columns(state=manifest.states(finding or "")["state"]).filter(
        pl.col("age_years").is_not_null()
    )
    if not table.height:
        return None
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
    else:
        groups = {"all images": table}
    values = {name: rows["age_years"].to_numpy() for name, rows in groups.items() if rows.height}
    medians = "; ".join(
        f"{name}: {plural(len(ages), 'image')}, median age {float(pl.Series(ages).median()):g} years"
        for name, ages in values.items()
    )
    return charts.histograms(
        values, x="Age, years", y="Images", alt_text=f"Histogram of age. {medians}."
    )


def _unequal(manifest: Manifest, finding: str | None, *, apart: float = 0.1) -> str | None:
    """A warning where the finding's share differs between sources, so that telling sources apart would pass for telling disease."""
    states = (
        manifest.states(finding or "")
        .with_columns(manifest.table["source"])
        .filter(pl.col("state") >= State.ABSENT)
    )
    shares = states.group_by("source").agg(share=pl.col("state").mean()).sort("share", "source")
    if shares.height < 2 or shares["share"][-1] - shares["share"][0] <= apart:
        return None
    least, most = shares.row(0), shares.row(-1)
    return (
        f"{name_of(finding or '')} is present in {least[1]:.0%} of {least[0]} and in {most[1]:.0%} of {most[0]}: a model that only told these "
        f"sources apart would seem to find it. The rows by source show what is left within one."
    )


def _stated(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield what the data state of view, body part and modality: counts of images by value, the most frequent first."""
    for column, name in (("view", "View"), ("body_part", "Body part"), ("modality", "Modality")):
        values = manifest.table[column]
        if values.count():
            ordered = (
                values.drop_nulls().value_counts().sort("count", column, descending=[True, False])
            )
            told = [f"{value} {count:,}" for value, count in ordered.iter_rows()]
            yield (
                name,
                ", ".join(
                    [
                        *told,
                        *([f"not stated {values.null_count():,}"] if values.null_count() else []),
                    ]
                ),
            )


def _flow(manifest: Manifest, table: pl.DataFrame, finding: str | None) -> list[tuple[str, int]]:
    """How many images are left at each point on the way into the figures."""
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
    return [*steps, (f"of the {words}, with a usable lung mask", included["masked"].sum())]


def _unused(
    manifest: Manifest, table: pl.DataFrame, finding: str | None
) -> Iterator[dict[str, Any]]:
    """What is not used: what, why, how many, what follows, examples."""
    dropped = manifest.remarks.filter(pl.col("rule") == DROPPED)
    reasons = (
        dropped.group_by("message")
        .agg(pl.len(), pl.col("path").sort())
        .sort(pl.col("len"), "message", descending=[True, False])
    )
    for message, _, paths in reasons.head(REASONS).iter_rows():
        yield _row("File left out", message, paths, "it is nowhere in this run")
    rest = reasons.slice(REASONS)["path"].explode().to_list() if reasons.height > REASONS else []
    unread = table.filter(pl.col("error").is_not_null())
    excluded = table.filter(pl.col("error").is_null() & pl.col("reason").is_not_null())
    readable = pl.col("error").is_null() & pl.col("reason").is_null()
    no_mask = readable & pl.col("mask_error").is_null() & ~pl.col("masked")
    cases = [
        (
            rest,
            "File left out",
            f"{reasons.height - REASONS} further reasons, see the remarks",
            "it is nowhere in this run",
        ),
        (
            unread["path"].to_list(),
            "Image that cannot be read",
            "the file is broken or not a picture",
            "it is in no part and no figure",
        ),
        *(
            (
                excluded.filter(pl.col("reason") == reason)["path"].to_list(),
                "Image excluded",
                f"the data state it: {reason}",
                EXCLUDED,
            )
            for reason in eligibility.counts(excluded["reason"])
        ),
        (
            table.filter(readable & pl.col("mask_error").is_not_null())["path"].to_list(),
            "Lung mask not used",
            "it does not fit its picture or cannot be read",
            "the image is used as one without a mask",
        ),
        (
            table.filter(no_mask)["path"].to_list(),
            "Image without a lung mask",
            "there is none, or it is empty",
            "not learnt from, and not measured, for the lungs",
        ),
    ]
    if finding:
        states = table.join(
            manifest.states(finding).select("image_id", "state"),
            on="image_id",
            maintain_order="left",
        ).filter(readable)
        name = name_of(finding).lower()
        for state, word in ((State.UNCERTAIN, "uncertain"), (None, "not mentioned")):
            rows = states.filter(
                pl.col("state").is_null() if state is None else pl.col("state") == state
            )
            cases.append(
                (
                    rows["path"].to_list(),
                    f"Label not used: {name} {word}",
                    "neither present nor absent",
                    "not learnt from, and in no figure, for the finding",
                )
            )
    yield from (_row(what, why, paths, then) for paths, what, why, then in cases if paths)


def _row(what: str, why: str, paths: list[str], then: str) -> dict[str, Any]:
    examples = ", ".join(cut(path, 60) for path in paths[:EXAMPLES]) + (
        " …" if len(paths) > EXAMPLES else ""
    )
    return {"what": what, "reason": why, "count": len(paths), "then": then, "examples": examples}
