"""Measure how many made-up radiographs one core writes in a second, encoded and on the disk.

python -m benchmarks.speed.synthetic [--before OTHER_CHECKOUT] [--rounds 3] [--record]

Images of three sizes, half of them with tuberculosis, and whole copies of each layout at its own
size, through the public functions alone, in one process. With --before, the same is measured with
the source of another checkout of Hilum, in turns, and the ratio is given: commit 5d8b906 is the
last whose images were drawn wholly at full size and flushed one by one. Seconds are of the
processor: the time that a flush waits for the disk is in `wall` alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from benchmarks._lib import results

SIDES = {256: 200, 512: 100, 1024: 40}  # pixels: images in a round
COPIES = {  # of each layout: images in a round
    "nih14": 300,
    "kaggle_masks": 200,
    "kermany": 100,
    "montgomery": 100,
    "shenzhen": 100,
    "folder": 100,
    "supervisely": 100,
    "unidata": 60,
}
ROUNDS = 3
PACKAGES = "numpy", "opencv-python-headless", "imagecodecs"
FAST = ("isal",)  # of the extra [fast], without which images are encoded in twice the time
SOURCE = Path(__file__).parents[2]


def images(side: int, count: int, folder: Path) -> None:
    import numpy as np

    from hilum import storage
    from hilum.imaging import synthetic
    from hilum.imaging.files import raster

    rng = np.random.default_rng(side)
    for number in range(count):
        disease = "tuberculosis" if number % 2 else None
        made = synthetic.draw(
            synthetic.anatomy(rng), rng, height=side, width=side, disease=disease
        ).pixels
        if hasattr(storage, "add_bytes"):
            storage.add_bytes(folder / f"{number}.png", raster.png(made, quick=True))
        else:  # in another checkout
            raster.write_png(folder / f"{number}.png", made)


def measure() -> dict[str, tuple[float, float]]:
    """Return images a second of the processor and of the clock, of this process's source."""
    import cv2

    import hilum

    cv2.setNumThreads(1)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sides = [
            (f"{side} x {side}", count, partial(images, side, count))
            for side, count in SIDES.items()
        ]
        copies = [
            (name, count, partial(hilum.synthesize, name, images=count, seed=1))
            for name, count in COPIES.items()
        ]
        for name, count, write in [*sides, *copies]:
            images(64, 4, root / "first")
            cpu, clock = time.process_time(), time.monotonic()
            write(folder=root / name)
            found[name] = count / (time.process_time() - cpu), count / (time.monotonic() - clock)
    return found


def best(source: Path) -> dict[str, tuple[float, float]]:
    """Return the measurement of a process that imports Hilum from `source`."""
    place = {"PYTHONPATH": f"{source / 'src'}{os.pathsep}{SOURCE}"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed.synthetic", "--here"],
        env=os.environ | place | {"HILUM_EXECUTOR": "serial"},
        capture_output=True,
        check=True,
        text=True,
    )
    return json.loads(done.stdout)


def table(rounds: dict[str, list[dict[str, tuple[float, float]]]]) -> str:
    names = list(rounds)
    head = ["made-up radiographs", *(f"{name}: images/s of one core (wall)" for name in names)]
    lines = [head + ["ratio"] * (len(names) > 1), ["---"] * (len(head) + (len(names) > 1))]
    for case in rounds[names[0]][0]:
        fastest = [max(one[case] for one in rounds[name]) for name in names]
        cells = [case, *(f"{cpu:,.0f} ({wall:,.0f})" for cpu, wall in fastest)]
        if len(names) > 1:
            cells.append(f"x{fastest[0][0] / fastest[1][0]:.1f}")
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--before", type=Path, help="another checkout of Hilum")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--here", action="store_true", help="measure this process, print JSON")
    args = parser.parse_args()
    if args.here:
        print(json.dumps(measure()))
        return
    sources = {"now": SOURCE} | ({"before": args.before.resolve()} if args.before else {})
    rounds: dict[str, list[dict[str, tuple[float, float]]]] = {name: [] for name in sources}
    for _ in range(args.rounds):
        for name, source in sources.items():
            rounds[name].append(best(source))
    before = " --before OTHER_CHECKOUT" if args.before else ""
    turns = " in turns" if args.before else ""
    command = f"python -m benchmarks.speed.synthetic{before} --rounds {args.rounds} --record"
    text = (
        f"`{command}`; best of {args.rounds} rounds{turns}.\n"
        f"{results.machine(*PACKAGES, *filter(find_spec, FAST))}\n\n{table(rounds)}"
    )
    print(text)
    if args.record:
        results.record("Made-up radiographs", text)


if __name__ == "__main__":
    main()
