"""Propose corrections for the issues of an audit, as a file to review and give to `hilum run`.

No data are changed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import polars as pl

from hilum import storage
from hilum.audit import checks
from hilum.audit.issues import Issue, Rule, of_table, standing
from hilum.dataset import corrections
from hilum.dataset.corrections import ACTIONS, GONE, NEEDS, OF_PAIRS, Correction
from hilum.dataset.manifest import SEVERITIES
from hilum.errors import HilumError, NotFound, on_one_line
from hilum.revisions import exchange
from hilum.run_folder import Run

HEAD = """\
# Corrections for {folder}, proposed by `hilum propose-fixes` from the issues of its audit.
# Review each, change or delete what is wrong, then:
#   hilum run {source} --corrections {file}
# or, in a recipe, [data] corrections = "{file}". The data's own files are not changed;
# without this file, everything is as before.
#
# Actions:
"""


def listing(issues: pl.DataFrame) -> pl.DataFrame:
    """Return what could be fixed, a row for each rule, the worst first.

    Columns are severity, rule, issues and fixable (counts), action (null: by hand) and
    remedy.
    """
    rows, rules = [], checks.rules()
    for (severity, name), found in issues.group_by("severity", "rule", maintain_order=True):
        rule = rules.get(str(name))
        fixable = sum(1 for issue in of_table(found) if _fixable(issue, rule))
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
        "issues": pl.Int64,
        "fixable": pl.Int64,
        "action": pl.String,
        "remedy": pl.String,
    }
    return pl.DataFrame(rows, schema=columns, orient="row")


def proposed(
    issues: pl.DataFrame, rules: Collection[str] = (), images: Collection[str] = ()
) -> list[Correction]:
    """Return corrections for issues of these rules that name these images; an empty choice is any.

    One for each image and action, for its worst issue; none for the mask of an image that is left
    out. Of a chain of copies, all but the first are left out. Raises `NotFound` for a rule and for
    an image without an issue.
    """
    _refuse_unknown(issues, rules, images)
    declared = checks.rules()
    worst_first = issues.sort(pl.col("severity").cast(pl.Enum(SEVERITIES)), maintain_order=True)
    found: dict[tuple[str, str | None, str | None], Correction] = {}
    gone: dict[str, str | None] = {}
    for issue in of_table(worst_first):
        if (
            (rules and issue.rule not in rules)
            or (images and not set(issue.image_ids) & set(images))
            or not _fixable(issue, declared.get(issue.rule))
        ):
            continue
        for one in _of(issue, declared[issue.rule], gone):
            if one.action in GONE:
                if one.image_id in gone:
                    continue
                gone[one.image_id] = one.other
            found.setdefault((one.image_id, one.action, one.other), one)
    return [one for one in found.values() if one.action in GONE or one.image_id not in gone]


def _of(issue: Issue, rule: Rule, gone: Mapping[str, str | None]) -> Iterator[Correction]:
    action, why, image_id = rule.correction or "", issue.message, issue.image_id
    assert image_id is not None  # `_fixable` refuses issues of the whole data set
    if action == "keep one of pair":
        keep = issue.other_image_id
        while keep is not None and keep in gone:
            keep = gone[keep]
        # The other image is left out for an issue of its own, so this one may stay.
        if keep is None or keep == image_id:
            return
        yield Correction(image_id, action, keep, issue.rule, why)
    elif action in OF_PAIRS:
        yield Correction(image_id, action, issue.other_image_id, issue.rule, why)
    else:
        value = issue.value if "value" in NEEDS.get(action, ()) else None
        for one in issue.image_ids if rule.corrects_both else [image_id]:
            yield Correction(one, action, None, issue.rule, why, value)


def _fixable(issue: Issue, rule: Rule | None) -> bool:
    """Return whether a correction can be proposed; None is the rule of a check that is gone."""
    return (
        rule is not None
        and rule.correction is not None
        and issue.image_id is not None
        and (rule.correction not in OF_PAIRS or issue.other_image_id is not None)
        and ("value" not in NEEDS.get(rule.correction, ()) or issue.value is not None)
    )


def _refuse_unknown(issues: pl.DataFrame, rules: Collection[str], images: Collection[str]) -> None:
    named = set(issues["image_id"].drop_nulls()) | set(issues["other_image_id"].drop_nulls())
    for kind, chosen, known in (
        ("rule with issues", rules, set(issues["rule"])),
        ("image with issues", images, named),
    ):
        for one in chosen:
            if one not in known:
                raise NotFound.named(kind, one, known if len(known) <= 40 else sorted(known)[:40])


def to_toml(entries: list[Correction], folder: Path, source: Path, file: Path) -> str:
    """Return the file's text: a head that explains each action, then the sorted entries."""
    head = HEAD.format(
        **{
            name: on_one_line(str(path))
            for name, path in (("folder", folder), ("source", source), ("file", file))
        }
    )
    head += "".join(f"#   {action:20} {meaning}\n" for action, meaning in ACTIONS.items())
    order = list(ACTIONS)
    ordered = sorted(entries, key=lambda one: (order.index(one.action), *one.cell))
    return head + "".join(f"\n{exchange.entry_text(one)}" for one in ordered)


# ------------------------------------------------------------------------------------ the step


def propose_corrections(
    run: Run, source: Path, rules: Collection[str], images: Collection[str], to: Path | None
) -> pl.DataFrame:
    """Write corrections for the chosen issues of an audited run to `to`, and return them.

    Without a choice, return what could be fixed. Corrections that the run was made with are kept in
    the new file, since its issues are what remained after them; `corrections.together` says how.
    Raises `HilumError` where `to` exists, since it may hold changes made by hand, and where it is
    in the data folder.
    """
    issues, data = standing(run.table("audit", "issues.parquet")), run.recipe().data
    if to is None and not rules and not images:
        return listing(issues)
    chosen = proposed(issues, rules, images)
    table = pl.DataFrame(
        [(one.image_id, one.action, one.other or one.value, one.rule) for one in chosen],
        schema=dict.fromkeys(_SHOWN, pl.String),
        orient="row",
    )
    if to is None:
        return table
    data.refuse_inside(to, "choose another file with --out")
    if to.exists():
        raise HilumError(
            f"{to} exists already and may have been changed by hand; choose another name with "
            "--out, or delete it"
        )
    before = corrections.read(data.corrections_path) if data.corrections_path else []
    storage.write_text(to, to_toml(corrections.together(before, chosen), data.paths[0], source, to))
    return table


_SHOWN = ("image_id", "action", "of", "rule")  # of: the second image, or degrees
