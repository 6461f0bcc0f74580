"""Kill a process that saves corrections, and see whether each save is whole or absent.

    python -m benchmarks.robustness.killed_saves [--kills 50] [--record]

A process saves labels and masks in turn as fast as it can and says of each when it is on the disk.
It is killed (SIGKILL) at a random moment, and a next one goes on in the same folder. After each
kill: the journal opens, its chain of digests holds and every mask that it names is whole
(`verify`); every save that was acknowledged is in it; and of what was not, there is at most the one
save that the process was about to acknowledge. A second process, never killed, writes all the
while, more slowly.

tests/test_journal.py does the same with three kills.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks._lib.results import machine, record
from hilum.revisions.changes import Change, SetLabel, SetMask
from hilum.revisions.journal import Journal, Stale
from hilum.revisions.state import State

MODULE = "benchmarks.robustness.killed_saves"
IMAGES = 40
SIDE = 512  # pixels of a mask
LONGEST = 1.2  # seconds that a process lives at most, from its first save on
SECOND = ("--seed", "999999", "--pause", "0.1")  # the process that is not killed
STATES = ("present", "absent", "uncertain", "not mentioned")


class Killed(NamedTuple):
    """What was found after one kill."""

    acknowledged: int
    unacknowledged: int  # saves in the journal that the process had not yet reported
    leftovers: int  # hidden files of saves that were under way


def save_on(folder: Path, author: str, seed: int, pause: float) -> None:
    """Save labels and masks until killed; print each revision's number once it is on the disk."""
    generator = np.random.default_rng(seed)
    with Journal.open(folder) as journal:
        state = State.of(journal)
        while True:
            image_id = f"set/{generator.integers(IMAGES)}"
            change: Change = SetLabel(image_id, "tuberculosis", str(generator.choice(STATES)))
            if generator.random() < 0.5:
                change = SetMask(image_id, journal.put_mask(_mask(generator)))
            state = state.updated(journal)
            expected = state.expected(change.subject(author))
            try:
                made = journal.append(change, author=author, expected=expected)
            except Stale:  # the other process came first
                continue
            print(made.number, flush=True)
            time.sleep(pause)


def _mask(generator: np.random.Generator) -> np.ndarray:
    labels = np.zeros((SIDE, SIDE), np.uint8)
    top, height = generator.integers(0, SIDE // 2, 2)
    labels[top : top + height + 1, 100:400] = 1
    labels[top : top + height + 1, 600:900] = 2
    labels[generator.random((SIDE, SIDE)) < 0.01] = 255
    labels[0, 0] = 1
    return labels


def kill_once(folder: Path, seed: int, longest: float = LONGEST) -> Killed:
    """Start a process that saves, kill it, and check the journal. Raises `AssertionError`."""
    author = f"Reader {seed}"
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE, "--save", str(folder), "--seed", str(seed)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()  # it has begun to save
    time.sleep(random.Random(seed).uniform(0, longest))
    process.kill()
    rest = process.stdout.read().splitlines(keepends=True)
    process.wait()
    acknowledged = {int(line) for line in [first, *rest] if line.endswith("\n")}
    with Journal.open(folder, create=False) as journal:
        journal.verify()
        own = {one.number for one in journal.revisions() if one.author == author}
    assert acknowledged <= own, f"lost: {sorted(acknowledged - own)}"
    extra = len(own - acknowledged)
    assert extra <= 1, f"{extra} saves are in the journal and were not acknowledged"
    leftovers = [path for path in folder.rglob(".*") if path.name != ".lock"]
    return Killed(len(acknowledged), extra, len(leftovers))


def main() -> None:
    """Kill as often as wanted beside a second writer, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="be the process that saves into this folder")
    parser.add_argument("--pause", type=float, default=0, help="seconds between its saves")
    parser.add_argument("--record", action="store_true", help="keep the figures in the results")
    arguments = parser.parse_args()
    if arguments.save:
        save_on(arguments.save, f"Reader {arguments.seed}", arguments.seed, arguments.pause)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "annotations"
        beside = subprocess.Popen(
            [sys.executable, "-m", MODULE, "--save", str(folder), *SECOND],
            stdout=subprocess.DEVNULL,
        )
        try:
            found = [kill_once(folder, seed) for seed in range(1, arguments.kills + 1)]
        finally:
            beside.kill()
            beside.wait()
        with Journal.open(folder, create=False) as journal:
            journal.verify()
            last = journal.last
    rows = [
        f"- kills: {len(found)}; after each the journal opens and its chain and masks are whole",
        f"- saves acknowledged before a kill: {sum(one.acknowledged for one in found)}, "
        "of these lost: 0",
        f"- saves whole on the disk but killed before they were acknowledged: "
        f"{sum(one.unacknowledged for one in found)}",
        f"- revisions at the end, a second writer's among them: {last}",
        f"- hidden files left by saves under way: {found[-1].leftovers}",
    ]
    print("\n".join(rows))
    if arguments.record:
        record("Killed saves of corrections", "\n".join([*rows, "", machine("numpy")]))


if __name__ == "__main__":
    main()
