"""Audit: every check of the shelf on the manifest, on what caching saw of each file, and on what the cached pictures show.

Nothing is decoded, changed or left out here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from inspect import signature
from typing import Any

import polars as pl

from hilum import storage
from hilum.audit import checks, page
from hilum.audit.issues import COLUMNS, Issue, Rule
from hilum.config import Recipe
from hilum.dataset.manifest import SEVERITIES, Manifest
from hilum.errors import NotFound
from hilum.inference import orientation
from hilum.pipeline import cache
from hilum.privacy import run_release
from hilum.progress import Progress
from hilum.run_folder import Run

VERSION = 9  # change it when unchanged checks would report other issues for the same data
FINDINGS, PAGE = "issues.parquet", "audit.html"
NEVER = "never"
LEVELS = (*SEVERITIES, NEVER)  # of `--fail-on`


def audit(
    manifest: Manifest,
    facts: pl.DataFrame,
    pictures: cache.Cache | None = None,
    *,
    include: Collection[str] = (),
) -> pl.DataFrame:
    """Findings as `hilum.audit.issues.COLUMNS`: by severity, worst first, then rule and images, whatever the order of files.

    `facts` is the index of the manifest's cache, with or without `posture.LOOKS`; `pictures` is that cache, for
    the checks that look at the pictures themselves. Without it these say nothing. `include` is the recipe's `[split] include`.
    """
    modules = checks.modules()
    seen: list[Issue] = []
    for module in modules:
        offered = {"cache": pictures, "include": include}
        seen += module.check(
            manifest,
            facts,
            **{
                name: offered[name]
                for name in signature(module.check).parameters
                if name in offered
            },
        )
    told = tuple(seen)
    for module in modules:
        seen += module.afterwards(manifest, told) if hasattr(module, "afterwards") else ()
    return table(seen, [rule for module in modules for rule in module.RULES])


def table(found: Iterable[Issue], rules: Iterable[Rule]) -> pl.DataFrame:
    """Findings as `hilum.audit.issues.COLUMNS`, worst first, with the remedies of the rules they break."""
    remedies = {rule.name: rule.remedy for rule in rules}
    rows = [
        (one.rule, one.severity, one.image_id, one.other_image_id, one.message, remedies[one.rule])
        for one in found
    ]
    by_severity = pl.col("severity").cast(pl.Enum(SEVERITIES))
    return pl.DataFrame(rows, schema=COLUMNS, orient="row").sort(
        by_severity, "rule", "image_id", "other_image_id", "message"
    )


def failing(findings: pl.DataFrame, level: str) -> int:
    """Number of findings at `level` (one of `LEVELS`) or worse. Raises `NotFound` for any other word."""
    if level not in LEVELS:
        raise NotFound.named("severity", level, LEVELS)
    worse = SEVERITIES[: SEVERITIES.index(level) + 1] if level != NEVER else ()
    return findings["severity"].is_in(worse).sum()


def duplicates(findings: pl.DataFrame) -> list[tuple[str, str]]:
    """Pairs (image_id, other_image_id) that show one picture: each copy beside the first of its kind, so pairs chain up to whole groups."""
    same_image = [name for name, rule in checks.rules().items() if rule.same_image]
    return (
        findings.filter(pl.col("rule").is_in(same_image))
        .select("image_id", "other_image_id")
        .sort(pl.all())
        .rows()
    )


# ------------------------------------------------------------------------------------------------------------------------ the step


def made_from(run: Run, recipe: Recipe) -> dict[str, Any]:
    told = {
        "manifest": run.made("ingest")["manifest.parquet"],
        "cache": run.made("cache"),
        "orientation": orientation.digest(),
        "checks": checks.source_digest(),
    }
    return {
        **told,
        "include": list(recipe.split.include),
        "share": recipe.section("share"),
        "version": VERSION,
    }


def make(run: Run, recipe: Recipe, progress: Progress) -> tuple[dict[str, str], dict[str, Any]]:
    pictures = cache.opened(run, recipe)
    manifest = run.manifest()
    findings = audit(
        manifest,
        orientation.describe_cache(pictures, pictures.index, progress),
        pictures,
        include=recipe.split.include,
    )
    passed = run_release.of_run(run, recipe.share, manifest)
    shown = page.render(passed.findings(findings), passed.manifest, passed.cache(pictures))
    storage.write_text(run / PAGE, shown)
    storage.write_table(run / FINDINGS, findings)
    return {
        FINDINGS: storage.digest_of_table(findings),
        PAGE: storage.digest(shown.encode()),
    }, summary(findings)


def summary(findings: pl.DataFrame) -> dict[str, Any]:
    """Counts by severity, and by rule with the worst first."""
    by_severity = dict(findings.group_by("severity").len().iter_rows())
    by_rule = findings.group_by("severity", "rule", maintain_order=True).len()
    return {
        **{severity: by_severity.get(severity, 0) for severity in SEVERITIES},
        "rules": {f"{rule} ({severity})": count for severity, rule, count in by_rule.iter_rows()},
    }
