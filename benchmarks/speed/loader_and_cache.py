"""Compare how two source trees fill a cache, and read batches from it for the first time and again.

    python -m benchmarks.speed.loader_and_cache --old OTHER/src [--new src] [--runs 12] [--record]

Each run is a new process that caches 300 made-up radiographs with masks at 256 x 256, opens the
cache, and reads batches of 32 images and masks at random: once through, when each row is compared
with its checksum, then 40 times. The ratio is old / new of the medians: 1 means as quick as before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._lib.results import machine, record
from benchmarks._lib.trees import Seconds, arguments_of, compared
from hilum.dataset.readers import kaggle_masks

IMAGES = 300
PROGRAM = """
import json, sys, tempfile, time
from pathlib import Path
import numpy as np
from hilum.dataset.pixel_cache import Cache
from hilum.config import Pixels
from hilum.pipeline import cache, ingest

def epochs(opened, count, rng):
    begun = time.perf_counter()
    for _ in range(count):
        for rows in np.array_split(rng.permutation(len(opened.images)), len(opened.images) // 32):
            opened.images.read(rows), opened.masks.read(rows)
    return time.perf_counter() - begun

manifest, pixels = ingest.ingest(Path(sys.argv[1])), Pixels(size=256)
with tempfile.TemporaryDirectory() as folder:
    begun = time.perf_counter()
    folder = cache.fill(manifest, pixels, Path(folder)).folder
    filled = time.perf_counter() - begun
    opened, rng = Cache.open(folder, 256, manifest), np.random.default_rng(0)
    times = {"fill the cache": filled, "first epoch": epochs(opened, 1, rng)}
    times["40 more epochs"] = epochs(opened, 40, rng)
    times["41 epochs"] = times["first epoch"] + times["40 more epochs"]
print(json.dumps(times))
"""


def seconds(source: Path, data: Path) -> Seconds:
    """Return the times that one process took."""
    environment = os.environ | {"PYTHONPATH": str(source), "ORT_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", PROGRAM, str(data)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    arguments = arguments_of(__doc__, 12)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        kaggle_masks.example(data, images=IMAGES, seed=1)
        table = compared(arguments, lambda tree: seconds(tree, data))
    print(table)
    if arguments.record:
        about = "`python -m benchmarks.speed.loader_and_cache --old OTHER/src` on"
        record("Loader and cache", f"{about} {machine('imagecodecs', 'polars')}.\n\n{table}")


if __name__ == "__main__":
    main()
