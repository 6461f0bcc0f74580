"""Compare the cold time of `hilum lungs IMAGE` of two source trees, in turns.

    python -m benchmarks.speed.cold_lungs --old OTHER/src [--new src] [--runs 40] [--record]

Each run is a new process on one made-up image. The ratio is old / new of the medians: 1 means as
quick as before.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._lib.results import machine, record
from benchmarks._lib.trees import Seconds, arguments_of, compared
from hilum.dataset.readers import kaggle_masks


def seconds(source: Path, image: Path, out: Path) -> Seconds:
    """Return the wall-clock time of one process, and its processor time."""
    environment = os.environ | {"PYTHONPATH": str(source), "ORT_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-m", "hilum", "lungs", str(image), "--out", str(out)]
    begun, before = time.perf_counter(), os.times()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    after = os.times()
    used = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return {"wall clock": time.perf_counter() - begun, "processor time": used}


def main() -> None:
    arguments = arguments_of(__doc__, 40)
    with tempfile.TemporaryDirectory() as folder:
        kaggle_masks.example(Path(folder) / "data", images=4, seed=1)
        image = next((Path(folder) / "data/CXR_png").glob("*.png"))
        table = compared(arguments, lambda tree: seconds(tree, image, Path(folder) / "out"))
    print(table)
    if arguments.record:
        about = "`python -m benchmarks.speed.cold_lungs --old OTHER/src` on"
        record("Cold `hilum lungs`", f"{about} {machine('onnxruntime', 'numpy')}.\n\n{table}")


if __name__ == "__main__":
    main()
