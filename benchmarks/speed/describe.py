"""Measure time and memory of `hilum describe`, on the table of ChestX-ray14 and on a tree of
100,000 made-up images.

python -m benchmarks.speed.describe --data ../shared/data --work work
"""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
import sys
import time
from pathlib import Path

import imagecodecs
import numpy as np

PATIENTS, STUDIES, VIEWS = 10_000, 2, 5
IMAGES = 20  # different images; a tree holds each many times


def tree(root: Path, patients: int = PATIENTS) -> Path:
    """Write `patients` x STUDIES x VIEWS small PNG files, unless they are there."""
    if (root / "finished").exists():
        return root / "data"
    rng = np.random.default_rng(0)
    drawn = [
        imagecodecs.png_encode(
            (rng.integers(0, 60, (64, 64)) + np.linspace(30, 180, 64)[None]).astype(np.uint8)
        )
        for _ in range(IMAGES)
    ]
    for number in range(patients * STUDIES * VIEWS):
        patient, rest = divmod(number, STUDIES * VIEWS)
        folder = root / "data" / f"patient{patient:05d}" / f"study{rest // VIEWS + 1}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"view{rest % VIEWS + 1}.png").write_bytes(drawn[number % IMAGES])
    (root / "finished").touch()
    return root / "data"


def rows(data: Path, root: Path) -> Path:
    """Unpack ChestX-ray14's table of 112,120 rows and its boxes."""
    root.mkdir(parents=True, exist_ok=True)
    for name in ("Data_Entry_2017_v2020.csv", "BBox_List_2017.csv"):
        (root / name).write_bytes(
            gzip.decompress((data / "nih-metadata" / f"{name}.gz").read_bytes())
        )
    return root


def measured(folder: Path) -> tuple[float, float, float]:
    """Return wall and CPU seconds and peak memory in MB of one call, as a process of its own."""
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "hilum", "describe", str(folder)], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"hilum describe {folder} failed")
    return time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("work"))
    given = parser.parse_args()
    cases = {
        "112,120 rows of ChestX-ray14": rows(given.data, given.work / "rows"),
        "100,000 images of a tree": tree(given.work / "tree"),
    }
    print("| folder | wall, s | CPU, s | peak, MB |\n| --- | --- | --- | --- |")
    for name, folder in cases.items():
        wall, cpu, peak = min(measured(folder) for _ in range(3))
        print(f"| {name} | {wall:.1f} | {cpu:.1f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
