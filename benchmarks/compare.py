"""Compare the ratios of the run that was made last with those of the last recorded run.

    python -m benchmarks.compare
    python -m benchmarks.compare --record      # and record the run where nothing was lost
    python -m benchmarks.compare --record --accept-losses

Only ratios to a rival of the same run are compared, because they depend little on the machine; a
loss is a ratio more than the tolerance below the recorded one. A figure without a rival is a loss
where it reached its target and does no more. A row that was recorded and that the run does not have
is a loss, too, unless the run is a quick one. What a run took over from earlier ones is not
compared. Exits with 1 where anything was lost.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks._lib.report import LAST, NEW, PAGE, SAME_RUN, Figure, Report

# Ratios of one run differ by some per cent from that of another on a quiet machine, and those of
# rates with two processes by more.
TOLERANCE = 0.15
NOT_MEASURED = "is not measured"


def main(given: Sequence[str] | None = None) -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--new", type=Path, default=NEW)
    parser.add_argument("--last", type=Path, default=LAST)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="a fraction")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--accept-losses", action="store_true")
    arguments = parser.parse_args(given)
    try:
        new = Report.read(arguments.new)
    except FileNotFoundError:
        print(f"there is no run at {arguments.new}; make one with `make bench`")
        return 1
    last = Report.read(arguments.last) if arguments.last.exists() else None
    lost = losses(new, last, arguments.tolerance) if last else []
    if last is None:
        print("nothing was recorded before")
    print("\n".join(lost) or f"no ratio is more than {arguments.tolerance:.0%} below the last one")
    if arguments.record and (new.quick or not new.whole):
        print("a run that is quick or was cut off is not recorded")
    elif arguments.record and (not lost or arguments.accept_losses):
        new.write(arguments.last)
        arguments.page.write_text(new.page(), encoding="utf-8")
        print(f"recorded in {arguments.last} and {arguments.page}")
    return int(bool(lost) and not arguments.accept_losses)


def losses(new: Report, last: Report, tolerance: float) -> list[str]:
    """Return a sentence for each row that lost."""
    now = {one.row: one for one in new.figures}
    found = (
        _loss(before, now.get(before.row), tolerance)
        for before in last.figures
        if before.ours is not None
    )
    return [one for one in found if one and not (new.quick and NOT_MEASURED in one)]


def _loss(before: Figure, after: Figure | None, tolerance: float) -> str:
    """Return how a row got worse, "" where it did not."""
    ratio = before.ratio if before.rival_is == SAME_RUN else None
    if after is None or after.ours is None or (ratio is not None and after.ratio is None):
        was = f"the ratio was {ratio:.3g}" if ratio is not None else f"was {before.ours:.4g}"
        why = after.why if after else "it is in the registry no more"
        return f"{before.row}: {was}, {NOT_MEASURED}: {why}"
    if after.before:
        return ""
    if ratio is not None and after.ratio is not None:
        if after.ratio < ratio * (1 - tolerance):
            return f"{before.row}: the ratio was {ratio:.3g}, is {after.ratio:.3g}"
    elif before.held and not after.held:
        return f"{before.row}: reached its target with {before.ours:.4g}, misses it with " + (
            f"{after.ours:.4g}"
        )
    return ""


if __name__ == "__main__":
    sys.exit(main())
