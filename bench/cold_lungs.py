"""Compare the cold time of `hilum lungs IMAGE` of two source trees, in turns.

    python bench/cold_lungs.py --old OTHER/src [--new src] [--runs 40] [--record]

Each run is a new process on one made-up image; both trees use this Python and its packages. The
runs alternate, and which tree comes first alternates too. The ratio is old / new of the medians:
1 means as quick as before.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hilum.datasets import kaggle_masks
from results import machine, record

HERE = Path(__file__).resolve().parents[1] / "src"


def seconds(source: Path, image: Path, out: Path) -> tuple[float, float]:
    """Return the wall-clock time of one process, and its processor time."""
    environment = os.environ | {"PYTHONPATH": str(source), "ORT_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-m", "hilum", "lungs", str(image), "--to", str(out)]
    begun, before = time.perf_counter(), os.times()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    after = os.times()
    used = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return time.perf_counter() - begun, used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--old", type=Path, required=True, help="the src folder of the other tree")
    parser.add_argument("--new", type=Path, default=HERE)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--record", action="store_true", help="write bench/RESULTS.md")
    arguments = parser.parse_args()
    trees = {"old": arguments.old.resolve(), "new": arguments.new.resolve()}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in trees}
    with tempfile.TemporaryDirectory() as folder:
        kaggle_masks.example(Path(folder) / "data", images=4, seed=1)
        image = next((Path(folder) / "data/CXR_png").glob("*.png"))
        for number in range(-1, arguments.runs):  # the first of each fills the caches
            for name in sorted(trees, reverse=number % 2 == 0):
                spent = seconds(trees[name], image, Path(folder) / "out")
                taken[name] += [spent] if number >= 0 else []
    lines = []
    for what, column in (("wall clock", 0), ("processor time", 1)):
        times = {name: [one[column] for one in some] for name, some in taken.items()}
        old, new = (statistics.median(times[name]) for name in ("old", "new"))
        least = min(times["old"]) / min(times["new"])
        lines += [f"| {what} | {old:.3f} | {new:.3f} | {old / new:.3f} | {least:.3f} |"]
    head = f"{arguments.runs} runs each, seconds.\n\n| | old | new | ratio | ratio of the least |\n"
    line = head + "| --- | --- | --- | --- | --- |\n" + "\n".join(lines)
    print(line)
    if arguments.record:
        about = "`python bench/cold_lungs.py --old OTHER/src` on"
        record("Cold `hilum lungs`", f"{about} {machine('onnxruntime', 'numpy')}.\n\n{line}")


if __name__ == "__main__":
    main()
