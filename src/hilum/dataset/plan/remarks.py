"""Remarks on what a settled reading did not use, could not parse or had to assume."""

from __future__ import annotations

from collections.abc import Iterator

from hilum.dataset.manifest import DROPPED, Remark
from hilum.dataset.plan.evidence import SetAside, shown
from hilum.dataset.plan.gathered import Gathered
from hilum.dataset.plan.reading import Reading


def of_reading(reading: Reading, gathered: Gathered) -> Iterator[Remark]:
    """Yield all remarks: of single images, of what was set aside, of cells, words and tables."""
    yield from gathered.remarks
    yield from reading.header_remarks
    for aside in reading.evidence.aside:
        yield from _of_aside(aside)
    for (role, cell), count in sorted(gathered.odd.items()):
        yield Remark(
            ".",
            "warning",
            "cell-not-understood",
            f"{role} '{cell}' of {count} images is not understood: left empty",
        )
    for word, count in sorted(gathered.dropped.items()):
        yield Remark(
            ".",
            "info",
            "word-dropped",
            f"'{word}' of {count} images says nothing of findings: it is dropped",
        )
    for table in reading.tables:
        for remark in table.table.remarks:
            yield Remark(table.table.name, "info", "table-form", remark)
    yield from _on_patients(reading)


def _on_patients(reading: Reading) -> Iterator[Remark]:
    """Yield a warning where neither a header nor a column identifies the patients."""
    said = next((it.value for it in reading.evidence.decisions if it.what == "patients"), "")
    if said.startswith("every image"):
        yield Remark(
            ".",
            "warning",
            "no-patients",
            "nothing names the patients: every image is taken for a patient of its own",
        )
    elif said == "by study":
        yield Remark(
            ".",
            "warning",
            "no-patients",
            "nothing names the patients: every study is taken for a patient of its own",
        )
    elif said == "by folder":
        named = (reading.folders.value(file.path, "patient") for file in reading.images)
        people = sorted({name for name in named if name is not None})
        yield Remark(
            ".",
            "warning",
            "folders-as-patients",
            f"its {len(people)} folders, such as {people[0]}, are taken for patients, "
            "not for findings",
        )


_RULES = {
    "file": DROPPED,
    "table": "table-unused",
    "column": "column-unused",
    "row": "row-unused",
    "cell": "cell-unused",
}


def _of_aside(aside: SetAside) -> Iterator[Remark]:
    """Yield one remark per file or column, and one for each group of tables, rows or cells."""
    if aside.kind == "file":
        rule = "mask-orphan" if "is a mask, but" in aside.reason else DROPPED
        yield from (Remark(name, aside.severity, rule, aside.reason) for name in aside.names)
    elif aside.kind == "column":
        for name in aside.names:
            table, _, column = name.partition(": ")
            yield Remark(
                table,
                aside.severity,
                _RULES[aside.kind],
                f"column '{column}' is not used: {aside.reason}",
            )
    else:
        table = aside.names[0].partition(": ")[0] if ": " in aside.names[0] else aside.names[0]
        yield Remark(
            table,
            aside.severity,
            _RULES[aside.kind],
            f"{aside.count}: {shown(aside.names)} {aside.reason}",
        )
