"""Descriptions of a reading plan: a screen of text, a complete hilum.toml, or a refusal.

A refusal lists what the evidence leaves open, with lines of hilum.toml that settle it.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import replace

from hilum.annotations.vocabulary import STATE_NAMES
from hilum.dataset.plan import folders, masks
from hilum.dataset.plan import settings as hilum_toml
from hilum.dataset.plan.account import Account
from hilum.dataset.plan.columns import TableReading
from hilum.dataset.plan.evidence import CERTAIN, SetAside, shown
from hilum.dataset.plan.lexicon import ABSENT, FINDING, MISSING, NORMAL, UNCERTAIN, UNUSABLE
from hilum.dataset.plan.reading import Reading
from hilum.dataset.plan.settings import Settings, Value
from hilum.errors import on_one_line, plural
from hilum.safety import addresses

WIDTH = 12  # characters of the first column
COLUMNS = 120  # characters of a line
MOST_LINES = 14  # groups of unused files and columns on the screen; a run's plan has all


def refusal(reading: Reading) -> str:
    """Return the message for a folder with open questions; its lines of TOML work when pasted."""
    questions = reading.evidence.questions
    listed = "\n".join(f"  {question.text}" for question in questions)
    how = f"Put a file {hilum_toml.FILE} with these lines into the folder"
    if (reading.root / hilum_toml.FILE).exists():
        how = f"Replace the lines of {hilum_toml.FILE} by these"
    number = plural(len(questions), "question")
    return (
        f"{addresses.shown(reading.root)}: how it is to be read is not settled by what it "
        f"holds, {number}\n"
        f"{listed}\n"
        f"{how}, corrected where they are wrong, and run the same command again:\n\n"
        f"{answers(reading)}"
    )


def answers(reading: Reading) -> str:
    """Return a hilum.toml that answers every question, filled from the words of the folder."""
    comments: dict[str, str] = {}
    for question in reading.evidence.questions:
        comments |= question.comments
    return hilum_toml.to_toml(
        hilum_toml.merged(
            reading.settings, (question.answer for question in reading.evidence.questions)
        ),
        comments,
    )


def nothing(reading: Reading) -> str:
    """Return the message for a folder without radiographs: what it holds, what was expected."""
    kinds = Counter(file.kind for file in reading.files.files)
    top = sorted({file.path.partition("/")[0] for file in reading.files.files})
    held = (
        f"{shown(top, 5)} ({', '.join(f'{count} {kind}' for kind, count in kinds.most_common())})"
        if top
        else "nothing"
    )
    aside = [
        one for one in reading.evidence.aside if one.kind == "file" and one.severity == "warning"
    ]
    why = "".join(f"\n  {one.count} {one.reason}: {_names(one)}" for one in aside)
    return (
        f"{addresses.shown(reading.root)} holds no radiographs: got {held}; expected images "
        "(.png .jpg .tif .bmp .gif .dcm, or DICOM without an ending) or one of the known "
        f"layouts{why}"
    )


def screen(account: Account) -> str:
    """Return the plan for a terminal: files by role, decisions with evidence, unused files."""
    lines = [
        f"{'folder':{WIDTH}}{on_one_line(account.folder)}",
        f"{'read as':{WIDTH}}{account.dataset}: {account.title}",
        "",
    ]
    for role in account.roles:
        examples = ", ".join(map(on_one_line, role.examples))
        more = " …" if role.count > len(role.examples) else ""
        lines.append(f"{role.role:{WIDTH}}{role.count:>7,}  {examples}{more}")
    lines.append("")
    for decision in account.decisions:
        sure = "" if decision.certainty == CERTAIN else f"  [{decision.certainty}]"
        lines += (
            _wrapped(decision.what, f"{decision.value}{sure}"),
            *_wrapped("", f"because {decision.evidence}").splitlines(),
        )
    lines += ["", *_unused(account.aside)]
    lines.append(
        f"{'files':{WIDTH}}{account.files_met:,} met = {account.files_used:,} used + "
        f"{account.files_named:,} not used, named above"
    )
    return "\n".join(lines)


def _wrapped(first: str, words: str) -> str:
    """Return words in lines of at most `COLUMNS`, behind a first column."""
    return textwrap.fill(
        on_one_line(words),
        COLUMNS,
        initial_indent=f"{first:{WIDTH}}",
        subsequent_indent=" " * WIDTH,
        break_long_words=False,
        break_on_hyphens=False,
    )


def short(account: Account) -> list[str]:
    """Return the plan in a few lines, for the steps that read the folder."""
    counts = ", ".join(f"{role.count:,} {role.role}" for role in account.roles) or "nothing"
    decided = [
        f"{decision.what}: {decision.value}"
        for decision in account.decisions
        if decision.what != "data set"
    ]
    warned = [aside for aside in account.aside if aside.severity != "info"]
    lines = [f"{account.folder}: {counts}; {plural(account.files_named, 'file')} not used"]
    lines += [f"  {line}" for line in decided]
    return [*map(on_one_line, lines), *(f"  not used: {_aside(aside)}" for aside in warned)]


def _unused(aside: tuple[SetAside, ...]) -> list[str]:
    if not aside:
        return []
    order = sorted(aside, key=lambda one: (one.severity == "info", one.kind, -one.count))
    lines = [
        _wrapped("not used" if place == 0 else "", _aside(one))
        for place, one in enumerate(order[:MOST_LINES])
    ]
    if len(order) > MOST_LINES:
        more = f"… and {len(order) - MOST_LINES} more kinds; `hilum describe --json` lists all"
        lines.append(f"{'':{WIDTH}}{more}")
    return [*lines, ""]


def _aside(one: SetAside) -> str:
    kind = {"cell": "value"}.get(one.kind, one.kind)
    mark = "" if one.severity == "info" else f" [{one.severity}]"
    counted = f"{plural(one.count, kind)}{mark}"
    return f"{counted}: {_names(one)}: {on_one_line(one.reason)}"


def _names(one: SetAside) -> str:
    listed = ", ".join(map(on_one_line, one.names[:3]))
    return listed + (f" and {one.count - 3:,} more" if one.count > 3 else "")


def complete(reading: Reading) -> str:
    """Return a hilum.toml with all decisions; reading the folder with it gives the same table."""
    head = (
        "# How this folder is read: worked out by `hilum describe`. Change what is wrong; "
        "leave out what should be worked out again.\n"
    )
    answers = (question.answer for question in reading.evidence.questions)
    return head + hilum_toml.to_toml(
        hilum_toml.merged(complete_settings(reading), answers), _COMMENTS
    )


def complete_settings(reading: Reading) -> Settings:
    """Return all decisions as settings."""
    used = [table for table in reading.tables if table.is_used]
    given = reading.settings
    unused = [
        path
        for aside in reading.evidence.aside
        if aside.kind == "file" and "folder of which no table" in aside.reason
        for path in aside.names
    ]
    values: dict[str, Value] = {
        "tables": tuple(
            dict.fromkeys(
                [table.table.name.partition("#")[0] for table in used] + list(reading.coco)
            )
        ),
        "unused": (*given.unused, *unused),
        "folders": folders.patterns(reading.folders, [file.path for file in reading.images]),
        "patient_pattern": given.patient_pattern
        or (reading.name_patients.pattern if reading.name_patients else None),
        **_columns(used),
        **masks.patterns(reading.masks),
        **_words(reading),
    }
    if reading.settings.masks is not None:
        values |= {
            name: getattr(given, name)
            for name in ("masks", "right_masks", "left_masks", "other_masks")
        }
    if values.get("patient"):
        values["patient_pattern"] = None
    return replace(given, **values)


def _columns(used: list[TableReading]) -> dict[str, tuple[str, ...]]:
    """Return column names by key of hilum.toml.

    A name is qualified by its table where another used table has it in another role.
    """
    roles: dict[str, set[str]] = {}
    for table in used:
        for name, column in table.columns.items():
            roles.setdefault(name, set()).add(column.role)
    found: dict[str, dict[str, None]] = {}
    for table in used:
        for name, column in table.columns.items():
            key = _KEYS.get(column.role, column.role)
            if key in hilum_toml.COLUMN_KEYS:
                found.setdefault(key, {})[
                    name
                    if len(roles[name]) == 1 and ":" not in name
                    else f"{table.table.name}:{name}"
                ] = None
    return {key: tuple(names) for key, names in found.items()}


_KEYS = {
    "unused": "unused_columns",
    "finding": "findings",
    "box_x": "box",
    "box_y": "box",
    "box_width": "box",
    "box_height": "box",
    "box_x_end": "box",
    "box_y_end": "box",
}


def _words(reading: Reading) -> dict[str, Value]:
    """Return the keys of hilum.toml that give words their meaning, as spelled in the folder."""
    found: dict[str, dict[str, None]] = {
        name: dict.fromkeys(getattr(reading.settings, name))
        for name in ("normal", "unlabelled", "drop", "present", "absent", "uncertain")
    }
    terms: dict[str, str] = dict(reading.settings.terms)
    separators = set()
    for vocabulary in reading.vocabularies.values():
        separators.add(vocabulary.separator)
        for word, meaning in vocabulary.meanings.items():
            if key := {NORMAL: "normal", MISSING: "unlabelled", UNUSABLE: "drop"}.get(meaning.kind):
                found[key][word] = None
            elif meaning.concept:
                terms[word] = {FINDING: "", ABSENT: "no ", UNCERTAIN: "uncertain "}[
                    meaning.kind
                ] + meaning.concept
    for source, states in reading.findings.items():
        name = source.rpartition(":")[2]
        if concept := reading.concepts[source]:
            terms.setdefault(name, concept)
        else:
            found["normal"][name] = None
        for cell, state in states.items():
            if state is not None and cell and not _is_runs(reading, source):
                found[STATE_NAMES[state]][cell] = None
    one = next(iter(separators)) if len(separators) == 1 else None
    return {
        **{key: tuple(words) for key, words in found.items()},
        "terms": terms,
        "separator": reading.settings.separator or one,
    }


def _is_runs(reading: Reading, source: str) -> bool:
    return any(
        f"{table.table.name}:{name}" == source
        for table in reading.tables
        for name in table.named("run_lengths")
    )


_COMMENTS = {
    "tables": "the tables that are read",
    "unused": "files that are not part of the data",
    "image": "columns that name the image files",
    "folders": "what the folders above an image are",
    "normal": "words that say that there is no finding",
    "unlabelled": "words that say nothing",
    "drop": "words that are no finding",
    "masks": "masks of both lungs",
    "other_masks": "masks of something else, not used",
    "unused_columns": "columns that are not used",
    "findings": "columns of one finding each",
    "terms": "what words mean: a concept, or local:… for one of your own",
    "separator": "between several words in a cell",
    "key": "columns that join tables",
}
