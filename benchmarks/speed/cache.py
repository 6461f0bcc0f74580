"""Measure the cache: speed of random batches and of filling, and the memory of filling it with
100,000 images.

    python -m benchmarks.speed.cache
    python -m benchmarks.speed.cache --items 5000 --skip-filling

Reading: made-up radiographs of 512 x 512 in 8 bits, as Hilum's cache, as a NumPy memory map, as a
folder of PNG files read with OpenCV, and as MONAI's PersistentDataset; random batches of 32 in one
process, warm (each has been read once before), in turn, best round of each. Filling: 100,000 small
PNG files in a process of its own; resident memory when 20,000, 60,000 and 100,000 are in. The table
of the files is made by another process before.

Put the rival beside Hilum with `pip install --no-deps monai`; without it its row is left out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from benchmarks._lib.results import machine, record
from hilum.imaging.image_stack import ImageStack

SIZE, BATCH = 512, 32
INGESTING = (
    "import sys; from pathlib import Path; from hilum.pipeline.ingest import ingest;"
    " ingest(Path(sys.argv[1])).write(Path(sys.argv[2]))"
)
FILLING = """
import sys
from pathlib import Path
from hilum.dataset.manifest import Manifest
from hilum.config import Pixels
from hilum.pipeline import cache

def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20

moments = set(map(int, sys.argv[3:]))
manifest = Manifest.read(Path(sys.argv[1]))
print(f"0 {resident():.0f}", flush=True)
def reported(done, total):
    if done in moments:
        print(f"{done} {resident():.0f}", flush=True)
cache.fill(manifest, Pixels(size=64), Path(sys.argv[2]), reported)
import resource
print(f"largest {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}", flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--items",
        type=int,
        default=2000,
        help="images to read from; a PNG of each is written too",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=100_000, help="images to fill a cache with")
    parser.add_argument("--skip-filling", action="store_true")
    parser.add_argument(
        "--out", type=Path, help="a folder for the temporary files; default: the system's"
    )
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(dir=arguments.out) as folder:
        reading = read(Path(folder), arguments.items, arguments.rounds)
    filling = ""
    if not arguments.skip_filling:
        with tempfile.TemporaryDirectory(dir=arguments.out) as folder:
            filling = filled(Path(folder), arguments.images)
    head = [
        f"Command: `python -m benchmarks.speed.cache --items {arguments.items}`",
        f"Machine: {machine('numpy', 'opencv-python-headless')}",
        "",
    ]
    reported = "\n".join([*head, reading, filling])
    if not arguments.skip_filling:
        record("The cache", reported)
    print(reported)


# ------------------------------------------------------------------------------------------ reading


def read(folder: Path, items: int, rounds: int) -> str:
    """Return a table of images a second for each way of reading, and the speed of copying as the
    limit.
    """
    radiographs(folder, items)
    rng = np.random.default_rng(0)
    order = [rng.permutation(items)[:BATCH] for _ in range(max(20, items // BATCH))]
    ways = dict(ways_to_read(folder, items))
    best = dict.fromkeys(ways, 0.0)
    for number in range(rounds + 1):
        for name, way in ways.items():
            batches = order if name.startswith(("Hilum", "NumPy", "copy")) else order[:6]
            begun = time.perf_counter()
            for rows in batches:
                way(rows)
            if number:  # the first round is to warm up
                best[name] = max(best[name], len(batches) * BATCH / (time.perf_counter() - begun))
    ours = best["Hilum, into one array"]
    rows = [
        f"| {name} | {speed:,.0f} | {speed * SIZE**2 / 2**30:.1f} | {ours / speed:.2f} |"
        for name, speed in best.items()
    ]
    head = (
        f"{items} images of {SIZE} x {SIZE}, uint8, batches of {BATCH} random ones, warm, one"
        f" process, best of {rounds} rounds. Ratio: ours over theirs."
    )
    return "\n".join(
        [head, "", "| read by | images/s | GiB/s | ratio |", "| --- | --: | --: | --: |", *rows, ""]
    )


def radiographs(folder: Path, items: int) -> None:
    """Make images, smooth with grain so that a PNG of one is about as large as a
    radiograph's.
    """
    rng = np.random.default_rng(0)
    (folder / "png").mkdir()
    with open(folder / "images.u8", "wb") as stream:
        for number in range(items):
            smooth = (
                cv2.resize(
                    rng.random((12, 12)).astype(np.float32),
                    (SIZE, SIZE),
                    interpolation=cv2.INTER_CUBIC,
                )
                * 200
            )
            grain = cv2.GaussianBlur(rng.normal(0, 6, (SIZE, SIZE)).astype(np.float32), (0, 0), 0.8)
            image = np.clip(smooth + grain + 20, 0, 255).astype(np.uint8)
            stream.write(image.tobytes())
            cv2.imwrite(str(folder / "png" / f"{number}.png"), image)


def ways_to_read(folder: Path, items: int):
    """Yield pairs of a name and a function of rows that gives a batch uint8 (32, 512, 512)."""
    stack, out = ImageStack(folder / "images.u8", SIZE), np.empty((BATCH, SIZE, SIZE), np.uint8)
    mapped = np.memmap(folder / "images.u8", np.uint8, "r").reshape(-1, SIZE, SIZE)
    np.asarray(mapped).max()
    held = np.empty((8 * BATCH, SIZE, SIZE), np.uint8)
    held[:] = 1
    places = [str(folder / "png" / f"{number}.png") for number in range(items)]
    yield (
        "copy of images in memory (the limit)",
        lambda rows: [np.copyto(out[at], held[row % len(held)]) for at, row in enumerate(rows)],
    )
    yield "Hilum, into one array", lambda rows: stack.read(rows, out)
    yield "Hilum, a new array each", lambda rows: stack[rows]
    yield "NumPy memory map", lambda rows: mapped[rows]
    yield (
        "PNG folder, cv2.imread",
        lambda rows: np.stack([cv2.imread(places[row], cv2.IMREAD_UNCHANGED) for row in rows]),
    )
    if persistent := monai(folder, places):
        yield "MONAI PersistentDataset", persistent


def monai(folder: Path, places: list[str]) -> Callable[[np.ndarray], object] | None:
    try:
        from monai.data import PersistentDataset
    except ImportError as error:
        print(f"MONAI is left out: {error}", file=sys.stderr)
        return None
    import torch

    data = PersistentDataset(places, transform=load, cache_dir=folder / "monai")
    return lambda rows: torch.stack([torch.as_tensor(data[int(row)]) for row in rows])


def load(path: str):
    """Return what the data set caches: the image as MONAI's own transforms give it, a uint8 tensor
    (1, height, width).
    """
    from monai.transforms import LoadImage

    return LoadImage(
        image_only=True, ensure_channel_first=True, dtype=np.uint8, reader="PILReader"
    )(path)


# ------------------------------------------------------------------------------------------ filling


def filled(folder: Path, images: int) -> str:
    """Return the memory and time of filling a cache with `images` small files."""
    # One folder: several would be taken for classes, and each image for labelled with all of them.
    (folder / "data").mkdir()
    rng = np.random.default_rng(0)
    for number in range(images):
        _, content = cv2.imencode(".png", rng.integers(0, 256, (24, 24), np.uint8))
        (folder / "data" / f"{number:06d}.png").write_bytes(content.tobytes())
    alone(INGESTING, folder / "data", folder)
    begun = time.monotonic()
    lines = [
        line.split()
        for line in alone(
            FILLING, folder, folder / "cache", images // 5, images * 3 // 5, images
        ).splitlines()
    ]
    rows = [
        f"| {'table read' if moment == '0' else moment} | {memory} |" for moment, memory in lines
    ]
    took = f"{images} files filled in {time.monotonic() - begun:.0f} s."
    return "\n".join(
        [took, "", "| images in the cache | resident memory, MiB |", "| --: | --: |", *rows]
    )


def alone(program: str, *arguments: object) -> str:
    """Return what a program says that runs in a process of its own, so that its memory
    is its own.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


if __name__ == "__main__":
    main()
