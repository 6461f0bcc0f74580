"""Send SIGKILL or SIGINT at random moments of every verb that writes; then run the command again.

    python -m benchmarks.robustness.killed [--each 100] [--seed 1] [--record]

Each trial lays out the folder that a verb starts from, sends the signal at a moment drawn over the
verb's undisturbed length, and gives the same command again. It must then end as the undisturbed one
did, with the same files to the byte, hidden ones included, and nothing else. After SIGINT the exit
code is 130 and one sentence says what is kept.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks._lib import verbs
from benchmarks._lib.results import machine, record


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--each", type=int, default=100, help="signals of each kind that meet a verb at work"
    )
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only", help="the verbs whose name begins so")
    options.add_argument("--record", action="store_true")
    requested = options.parse_args()
    verbs.import_all()
    with tempfile.TemporaryDirectory(prefix="hilum-killed-") as folder:
        stage = verbs.Stage(Path(folder))
        stage.prepare()
        reported = trials(
            stage, requested.each, random.Random(requested.seed), requested.only or ""
        )
    print(reported)
    if requested.record:
        title = "Killed and interrupted"
        record(
            title,
            "`python -m benchmarks.robustness.killed --record`;"
            f" {machine('hilum', 'torch')}\n\n{reported}",
        )
    sys.exit("0 faults" not in reported)


def trials(stage: verbs.Stage, each: int, moments: random.Random, only: str) -> str:
    cases = [case for case in verbs.cases() if case.name.startswith(only)]
    whole = {case.name: undisturbed(stage, case) for case in cases}
    faults: list[str] = []
    met: Counter[tuple[str, bool]] = Counter()
    for number in range(20 * each):
        case = cases[number // 2 % len(cases)]
        sent = (signal.SIGKILL, signal.SIGINT)[number % 2]
        if met[sent.name, True] >= each:
            continue
        at = moments.uniform(0, whole[case.name][0].seconds)
        fault, was_met = disturbed(stage, case, *whole[case.name], sent, at)
        met[sent.name, was_met] += 1
        faults += [f"{case.name}: {sent.name} after {at:.2f} s: {fault}"] * bool(fault)
        print(
            number + 1,
            case.name,
            sent.name,
            f"{at:.2f}",
            was_met,
            fault,
            file=sys.stderr,
            flush=True,
        )
    counts = "; ".join(
        f"{name}: {met[name, True]} met the work, {met[name, False]} came after its end"
        for name in ("SIGKILL", "SIGINT")
    )
    lines = [
        f"{len(cases)} commands. {counts}. {len(faults)} faults.",
        *(f"- {one}" for one in faults),
    ]
    return "\n".join(lines)


def undisturbed(stage: verbs.Stage, case: verbs.Case) -> tuple[verbs.Ended, dict[str, str]]:
    stage.lay_out(case.start)
    ended = verbs.run(case.command, stage.here)
    if ended.code not in (0, 1) or "unforeseen" in ended.said:
        raise SystemExit(f"{case.name} ended with {ended.code}: {ended.said}")
    return ended, verbs.digests(stage.here)


def disturbed(stage, case, before, files, sent, at) -> tuple[str, bool]:
    """Return what is wrong, or ""; and whether the signal met the work."""
    stage.lay_out(case.start)
    stopped = verbs.run(case.command, stage.here, kill=(sent, at))
    met = stopped.code not in (0, 1)
    if met and sent == signal.SIGINT and stopped.code != -sent:  # which is before Python can speak
        lines = [line for line in stopped.said.splitlines() if line.startswith("hilum: ")]
        if stopped.code != 130 or len(lines) != 1 or not lines[0].startswith("hilum: stopped"):
            return f"code {stopped.code}, said {stopped.said!r}", met
    again = verbs.run(case.command, stage.here)
    if not met and again.code != before.code:  # a second export into one folder is refused
        return "", met
    if again.code != before.code:
        return f"again: code {again.code}, said {again.said[-300:]!r}", met
    now = verbs.digests(stage.here)
    other = sorted(name for name in files.keys() | now.keys() if files.get(name) != now.get(name))
    return (f"other files: {', '.join(other[:6])}" if other else ""), met


if __name__ == "__main__":
    main()
