"""Compare the ratios of the run that was made last with those of the last recorded run.

    python -m benchmarks.compare
    python -m benchmarks.compare --record      # and record the run where nothing was lost
    python -m benchmarks.compare --record --accept-losses

Only ratios to a rival of the same run are compared, because they depend little on the machine; a
loss is a ratio more than the tolerance below the recorded one. A row that was recorded and that the
run does not have is a loss, too, unless the run is a quick one. Exits with 1 where anything was
lost.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks._lib.report import LAST, NEW, PAGE, SAME_RUN, Report

# Ratios of one run differ by some per cent from that of another on a quiet machine, and those of
# rates with two processes by more.
TOLERANCE = 0.15


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
    if arguments.record and new.quick:
        print("a quick run is not recorded")
    elif arguments.record and (not lost or arguments.accept_losses):
        new.write(arguments.last)
        arguments.page.write_text(new.page(), encoding="utf-8")
        print(f"recorded in {arguments.last} and {arguments.page}")
    return int(bool(lost) and not arguments.accept_losses)


def losses(new: Report, last: Report, tolerance: float) -> list[str]:
    """Return a sentence for each row that lost."""
    now = {one.row: one for one in new.figures}
    found = []
    for before in last.figures:
        if before.rival_is != SAME_RUN or before.ratio is None:
            continue
        after = now.get(before.row)
        if after is None or after.ratio is None:
            if not new.quick:
                why = after.why if after else "it is in the registry no more"
                found.append(f"{before.row}: was {before.ratio:.3g}, is not measured: {why}")
        elif after.ratio < before.ratio * (1 - tolerance):
            found.append(f"{before.row}: the ratio was {before.ratio:.3g}, is {after.ratio:.3g}")
    return found


if __name__ == "__main__":
    sys.exit(main())
