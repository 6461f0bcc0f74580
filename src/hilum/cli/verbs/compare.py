"""Verb `compare`."""

from __future__ import annotations

import json

from hilum.cli import console
from hilum.cli._app import RUNS, Json
from hilum.cli._judged import Judged

GROUP, ORDER = RUNS, 20
SHORT_HELP = "Compare two runs on shared test images"
EXAMPLE = "Example: hilum compare runs/whole runs/masked"


def verb(first: Judged, second: Judged, as_json: Json = False) -> None:
    """Compare two runs on the test images that both have, and test whether they differ by more than
    chance.
    """
    from hilum.run_folder import Run
    from hilum.runs import compare as step

    found = step.compare(Run(first), Run(second))
    if as_json:
        console.echo(
            json.dumps(
                {
                    "first": str(first),
                    "second": str(second),
                    "notes": found.notes,
                    "figures": console.plain(found.table),
                },
                indent=1,
            )
        )
        return
    console.echo(console.columns(step.lines(found, str(first), str(second))))
    for note in found.notes:
        console.echo(f"note: {note}")
