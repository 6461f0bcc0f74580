"""Measure PatchCore on 5,000 images: time, and the peak of resident memory while its memory bank
is selected.

    python -m benchmarks.speed.patchcore --data ../shared/data/kermany-224 --work WORK

Takes the first 5,000 images of a data set, whatever they show (it is memory that is measured),
letterboxed to 224 pixels and kept in WORK, and fits in a process of its own, the images mapped from
disk. Without --data the images are phantoms, repeated with noise of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from benchmarks._lib.results import machine, record
from hilum import storage
from hilum.imaging import synthetic

MOST_GIB, SIZE = 1.5, 224


def radiographs(arguments: argparse.Namespace) -> Path:
    """Return images uint8 (images, SIZE, SIZE) mapped from a file of --work."""
    name = arguments.data.name if arguments.data else "phantoms"
    path = arguments.work / f"{name}-{arguments.images}-{SIZE}.u8"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with storage.replacing(path) as beside, open(beside, "wb") as stream:
        stream.writelines(
            image.tobytes()
            for image in (real(arguments) if arguments.data else made_up(arguments.images))
        )
    return path


def real(arguments: argparse.Namespace):
    from hilum.config import Pixels
    from hilum.pipeline import cache, ingest

    manifest = ingest.ingest(arguments.data)
    some = manifest.only(manifest.table["image_id"][: arguments.images])
    cached = cache.fill(some, Pixels(size=SIZE), arguments.work / "cache-patchcore")
    for row in cached.rows(some.table["image_id"]):
        yield cached.images[row]


def made_up(count: int):
    rng = np.random.default_rng(0)
    chests = [
        synthetic.draw(synthetic.anatomy(rng), rng, height=SIZE, width=SIZE).pixels
        for _ in range(min(count, 200))
    ]
    for number in range(count):
        yield np.clip(chests[number % len(chests)] + rng.normal(0, 8, (SIZE, SIZE)), 0, 255).astype(
            np.uint8
        )


def fit(path: Path, images: int, to: Path) -> None:
    """Fit in a process of its own, and print what it took as JSON on the last line."""
    import torch

    from hilum.training import onnx_export
    from hilum.training.models import patchcore

    torch.set_num_threads(1)
    before, begun, cpu = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        time.time(),
        time.process_time(),
    )
    network = patchcore.fit(
        np.memmap(path, np.uint8, "r", shape=(images, SIZE, SIZE)),
        np.arange(images),
        patchcore.Settings(),
        seed=0,
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = {
        "wall": time.time() - begun,
        "cpu": time.process_time() - cpu,
        "before": before,
        "peak": peak,
    }
    onnx_export.to_onnx(network, to, size=SIZE, outputs=patchcore.OUTPUTS, metadata={})
    print(json.dumps(took | {"onnx": to.stat().st_size, "bank": len(network.bank)}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a data set of at least as many images")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--images", type=int, default=5000, help="with fewer than 5,000 nothing is recorded"
    )
    parser.add_argument("--fit", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fit:
        fit(arguments.fit, arguments.images, arguments.work / "patchcore.onnx")
        return
    path = radiographs(arguments)
    count = path.stat().st_size // SIZE**2
    if count < arguments.images:
        sys.exit(f"{arguments.data} has {count} images, fewer than {arguments.images}")
    command = [
        sys.executable,
        "-m",
        __spec__.name,
        "--work",
        str(arguments.work),
        "--images",
        str(arguments.images),
        "--fit",
        str(path),
    ]
    took = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    )
    peak, before = took["peak"] / 2**20, took["before"] / 2**20
    text = (
        f"{arguments.images} images of {SIZE} x {SIZE}: peak of resident memory {peak:.2f} GiB (of"
        f" which {before:.2f} before the fit: Python, PyTorch; the mapped images,"
        f" {path.stat().st_size / 2**30:.2f} GiB, count in it), at most {MOST_GIB} wanted."
        f" {took['wall']:.0f} s wall, {took['cpu']:.0f} s CPU, one thread. Memory of {took['bank']}"
        f" patches; the model is {took['onnx'] / 1e6:.1f} MB."
    )
    print(text)
    if arguments.images >= 5000:
        what = f" --data {arguments.data}" if arguments.data else ""
        record(
            "PatchCore: memory at 5,000 images",
            f"`python -m benchmarks.speed.patchcore{what} --work WORK` on"
            f" {machine('torch', 'numpy')}.\n\n{text}",
        )
    if peak > MOST_GIB:
        sys.exit(f"the peak is {peak:.2f} GiB, more than {MOST_GIB}")


if __name__ == "__main__":
    main()
