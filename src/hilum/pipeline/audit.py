"""Audit: run every check on the manifest, on the facts that caching recorded, and on cached pixels.

    issues.parquet        what the checks found, as `hilum.audit.issues.COLUMNS`, worst first
    orientation.parquet   image_id and `hilum.inference.orientation.FEATURES` of every cached image,
                          null where it could not be read; the step predict reads its flags from it
    audit.html            the page for a person

Nothing is decoded, changed or left out here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from inspect import signature

import polars as pl

from hilum import storage
from hilum.audit import checks, page
from hilum.audit.issues import FOUND, Issue, Rule, decided, dismissed, standing
from hilum.config import Recipe
from hilum.dataset.manifest import SEVERITIES, Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.errors import NotFound
from hilum.inference import orientation
from hilum.pipeline import cache, reader_corrections
from hilum.pipeline._training import digests
from hilum.pipeline.step import Inputs, StepResult, Summary
from hilum.privacy import run_release
from hilum.progress import Progress
from hilum.revisions import uptake
from hilum.run_folder import Run

VERSION = 12  # to be raised when unchanged checks would report other issues for the same data
ISSUES, ORIENTATION, PAGE = "issues.parquet", "orientation.parquet", "audit.html"
JOURNAL = ".audit-shards.sqlite"  # while images are described
NEVER = "never"
LEVELS = (*SEVERITIES, NEVER)  # of `--fail-on`


def audit(
    manifest: Manifest,
    facts: pl.DataFrame,
    cached: Cache | None = None,
    *,
    include: Collection[str] = (),
) -> pl.DataFrame:
    """Return all issues as `hilum.audit.issues.COLUMNS`: by severity, worst first, then rule,
    images.

    The order does not depend on that of the files. `facts` is the index of the manifest's cache,
    with or without `orientation.FEATURES`; `cached` that cache, for the checks that read pixels:
    without it they report nothing. `include` is the recipe's `[split] include`.
    """
    modules = checks.modules()
    offered = {"cache": cached, "include": include}
    found: list[Issue] = []
    for module in modules:
        wanted = signature(module.check).parameters
        extra = {name: value for name, value in offered.items() if name in wanted}
        found += module.check(manifest, facts, **extra)
    so_far = tuple(found)
    for module in modules:
        found += module.afterwards(manifest, so_far) if hasattr(module, "afterwards") else ()
    return table(found, [rule for module in modules for rule in module.RULES])


def table(found: Iterable[Issue], rules: Iterable[Rule]) -> pl.DataFrame:
    """Return issues as a table, worst first, with the remedies of the rules they break; all are
    open.
    """
    remedies = {rule.name: rule.remedy for rule in rules}
    rows = [
        (
            one.rule,
            one.severity,
            one.image_id,
            one.other_image_id,
            one.message,
            remedies[one.rule],
            one.value,
        )
        for one in found
    ]
    by_severity = pl.col("severity").cast(pl.Enum(SEVERITIES))
    issues = pl.DataFrame(rows, schema=FOUND, orient="row").sort(
        by_severity, "rule", "image_id", "other_image_id", "message"
    )
    return decided(issues, uptake.empty())


def failing(issues: pl.DataFrame, level: str) -> int:
    """Count the issues at `level`, one of `LEVELS`, or worse, that no reader dismissed.

    Raises `NotFound` for another word.
    """
    if level not in LEVELS:
        raise NotFound.named("severity", level, LEVELS)
    worse = SEVERITIES[: SEVERITIES.index(level) + 1] if level != NEVER else ()
    return standing(issues).filter(pl.col("severity").is_in(worse)).height


def duplicates(issues: pl.DataFrame) -> list[tuple[str, str]]:
    """Return pairs (image_id, other_image_id) of the same image.

    Each copy is paired with the first of its kind, so pairs chain up to whole groups. Dismissed
    issues are among them: whoever keeps both images still keeps them in one part.
    """
    same_image = [name for name, rule in checks.rules().items() if rule.same_image]
    return (
        issues.filter(pl.col("rule").is_in(same_image))
        .select("image_id", "other_image_id")
        .sort(pl.all())
        .rows()
    )


# ---------------------------------------------------------------------------------------- the step


def made_from(run: Run, recipe: Recipe) -> Inputs:
    """Return the digests of manifest, cache, orientation network and checks, and the settings."""
    decisions = reader_corrections.decisions(run)
    return {
        "manifest": run.made("ingest")["manifest.parquet"],
        "cache": run.made("cache"),
        "orientation": orientation.digest(),
        "checks": checks.source_digest(),
        "include": list(recipe.split.include),
        "share": recipe.section("share"),
        "version": VERSION,
        # Only where there are any, so that runs without them stay as they are.
        **({"decisions": storage.digest_of_table(decisions)} if decisions.height else {}),
    }


def make(run: Run, recipe: Recipe, progress: Progress) -> StepResult:
    """Run the checks; write the issues, the orientation features and the page."""
    cached, manifest = cache.opened(run, recipe), run.manifest()
    facts = orientation.describe_cache(cached, cached.index, progress, run / JOURNAL)
    found = audit(manifest, facts, cached, include=recipe.split.include)
    issues = decided(found, reader_corrections.decisions(run))
    passed = run_release.of_run(run, recipe.share, manifest)
    shown = page.render(passed.issues(issues), passed.manifest, passed.cache(cached))
    storage.write_text(run / PAGE, shown)
    storage.write_table(run / ORIENTATION, facts.select("image_id", *orientation.FEATURES))
    storage.write_table(run / ISSUES, issues)
    made = {ISSUES: storage.digest_of_table(issues), PAGE: storage.digest(shown.encode())}
    return StepResult(made | digests(run, [ORIENTATION]), summary(issues))


def summary(issues: pl.DataFrame) -> Summary:
    """Count issues by severity, and by rule with the worst first; dismissed ones apart."""
    apart, issues = dismissed(issues).height, standing(issues)
    by_severity = dict(issues.group_by("severity").len().iter_rows())
    by_rule = issues.group_by("severity", "rule", maintain_order=True).len()
    return {
        **{severity: by_severity.get(severity, 0) for severity in SEVERITIES},
        "rules": {f"{rule} ({severity})": count for severity, rule, count in by_rule.iter_rows()},
        **({"dismissed by readers": apart} if apart else {}),
    }
