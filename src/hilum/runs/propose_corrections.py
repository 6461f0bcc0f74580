"""Fix: findings of an audit as a file of corrections that a person can read, change and hand to `hilum run`. No data are touched."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from hilum import storage
from hilum.audit import checks
from hilum.audit.issues import Rule
from hilum.dataset import corrections
from hilum.dataset.corrections import ACTIONS, GONE, OF_PAIRS, Correction
from hilum.dataset.manifest import SEVERITIES
from hilum.errors import HilumError, NotFound, on_one_line
from hilum.run_folder import Run

HEAD = """\
# Corrections for {folder}, proposed by `hilum propose-fixes` from the findings of its audit. Look at each, change or delete what is wrong, then:
#   hilum run {source} --corrections {file}
# or, in a recipe, [data] corrections = "{file}". The data's own files stay as they are; without this file, all is as it was.
#
# Actions:
"""


def listing(findings: pl.DataFrame) -> pl.DataFrame:
    """What could be fixed, a row a rule, worst first: severity, rule, findings, fixable, action (null: by hand), remedy."""
    rows, rules = [], checks.rules()
    for (severity, name), found in findings.group_by("severity", "rule", maintain_order=True):
        rule = rules.get(str(name))
        fixable = sum(1 for row in found.iter_rows(named=True) if _can(row, rule))
        rows.append(
            (
                severity,
                name,
                found.height,
                fixable,
                rule.correction if rule and fixable else None,
                found["remedy"][0],
            )
        )
    columns = {
        "severity": pl.String,
        "rule": pl.String,
        "findings": pl.Int64,
        "fixable": pl.Int64,
        "action": pl.String,
        "remedy": pl.String,
    }
    return pl.DataFrame(rows, schema=columns, orient="row")


def proposed(
    findings: pl.DataFrame, rules: Collection[str] = (), images: Collection[str] = ()
) -> list[Correction]:
    """Corrections for the findings of these rules that name these images; an empty choice is any.

    One of an image and action, for its worst finding; none for the mask of an image that is left out. Of copies that chain up, all but
    the first are left out. Raises `NotFound` for a rule that found nothing, and for an image that nothing was found of.
    """
    _refuse_unknown(findings, rules, images)
    declared = checks.rules()
    worst_first = findings.sort(pl.col("severity").cast(pl.Enum(SEVERITIES)), maintain_order=True)
    found: dict[tuple[str, str | None, str | None], Correction] = {}
    gone: dict[str, str | None] = {}
    for row in worst_first.iter_rows(named=True):
        if (
            (rules and row["rule"] not in rules)
            or (images and not {row["image_id"], row["other_image_id"]} & set(images))
            or not _can(row, declared.get(row["rule"]))
        ):
            continue
        for one in _of(row, declared[row["rule"]], gone):
            if one.action in GONE:
                if one.image_id in gone:
                    continue
                gone[one.image_id] = one.other
            found.setdefault((one.image_id, one.action, one.other), one)
    return [one for one in found.values() if one.action in GONE or one.image_id not in gone]


def _of(row: Mapping[str, Any], rule: Rule, gone: Mapping[str, str | None]) -> Iterator[Correction]:
    action, why = rule.correction or "", row["message"]
    if action == "keep one of pair":
        keep: str | None = row["other_image_id"]
        while keep in gone:
            keep = gone[keep]
        if (
            keep is None or keep == row["image_id"]
        ):  # the other one is left out for a fault of its own
            return
        yield Correction(row["image_id"], action, keep, row["rule"], why)
    elif action in OF_PAIRS:
        yield Correction(row["image_id"], action, row["other_image_id"], row["rule"], why)
    else:
        for image_id in (row["image_id"], row["other_image_id"] if rule.corrects_both else None):
            if image_id:
                yield Correction(image_id, action, None, row["rule"], why)


def _can(row: Mapping[str, Any], rule: Rule | None) -> bool:
    """Whether a correction can be proposed for an issue; None is the rule of a check that is gone."""
    return (
        rule is not None
        and rule.correction is not None
        and row["image_id"] is not None
        and (rule.correction not in OF_PAIRS or row["other_image_id"] is not None)
    )


def _refuse_unknown(
    findings: pl.DataFrame, rules: Collection[str], images: Collection[str]
) -> None:
    named = set(findings["image_id"].drop_nulls()) | set(findings["other_image_id"].drop_nulls())
    for kind, chosen, known in (
        ("rule with findings", rules, set(findings["rule"])),
        ("image with findings", images, named),
    ):
        for one in chosen:
            if one not in known:
                raise NotFound.named(kind, one, known if len(known) <= 40 else sorted(known)[:40])


def to_toml(entries: list[Correction], folder: Path, source: Path, file: Path) -> str:
    """The file's text, with what each action does at its head; by action, then image."""
    head = HEAD.format(
        **{
            name: on_one_line(str(path))
            for name, path in (("folder", folder), ("source", source), ("file", file))
        }
    )
    head += "".join(f"#   {action:20} {meaning}\n" for action, meaning in ACTIONS.items())
    order = list(ACTIONS)
    ordered = sorted(
        entries, key=lambda one: (order.index(one.action), one.image_id, one.other or "")
    )
    return head + "".join(f"\n{_entry(one)}" for one in ordered)


def _entry(one: Correction) -> str:
    told = {
        "image_id": one.image_id,
        "action": one.action,
        "other": one.other,
        "rule": one.rule,
        "why": one.why,
    }
    return "[[correction]]\n" + "".join(
        f"{key} = {storage.as_json(value)}\n" for key, value in told.items() if value is not None
    )


# ------------------------------------------------------------------------------------------------------------------------ the step


def propose_corrections(
    run: Run, source: Path, rules: Collection[str], images: Collection[str], to: Path | None
) -> pl.DataFrame:
    """Write corrections for the chosen findings of an audited run, and tell them; without a choice, tell what could be fixed.

    Those that the run was made with are kept in the new file, since its findings are what these left. Raises `HilumError` where `to` is there already, since it may hold changes made by hand, and where it lies in the data folder.
    """
    findings, data = run.table("audit", "issues.parquet"), run.recipe().data
    if to is None and not rules and not images:
        return listing(findings)
    chosen = proposed(findings, rules, images)
    told = pl.DataFrame(
        [(one.image_id, one.action, one.other, one.rule) for one in chosen],
        schema=dict.fromkeys(_TOLD, pl.String),
        orient="row",
    )
    if to is None:
        return told
    data.refuse_inside(to, "choose another file with --out")
    if to.exists():
        raise HilumError(
            f"{to} is there already and may have been changed by hand; choose another name with --out, or delete it"
        )
    before = corrections.read(data.corrections_path) if data.corrections_path else []
    storage.write_text(to, to_toml([*before, *chosen], data.paths[0], source, to))
    return told


_TOLD = ("image_id", "action", "other", "rule")
