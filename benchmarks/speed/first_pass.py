"""Time the first pass over a folder of PNG radiographs, from files to small squares, beside
TorchXRayVision's own functions.

    python -m benchmarks.speed.first_pass --data ../shared/data/nih-sample
    python -m benchmarks.speed.first_pass --data ../shared/data/nih-sample --size 256 --repeats 5

Theirs is what `xrv.datasets.NIH_Dataset.__getitem__` calls: skimage.io.imread, xrv.utils.normalize,
XRayCenterCrop and XRayResizer with their defaults. Ours is what `hilum cache` does for an image
without a mask: the file read and decoded, the digests of file and pixels, the darkest and brightest
value, the stretched uint8 square and its digest. Both run in one process and one thread, image by
image in turn, and of each image's times the best counts; then ours alone with one and with two
threads, in turn, best wall time of each.

Put the rival beside Hilum with `pip install --no-deps torchxrayvision==1.5.7` and `pip install
scikit-image torch pandas requests tqdm`. It asks for torchvision on import and uses nothing of it
here, so where that is absent an empty module takes its place.
"""

from __future__ import annotations

import argparse
import sys
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from benchmarks._lib.results import machine, record
from hilum import storage
from hilum.imaging.files import image_file
from hilum.imaging.radiograph import preprocess

OURS = ("imagecodecs", "opencv-python-headless", "numpy")
FAST = "kornia-rs"  # of the extra [fast], without which our times are half as long again
STUBS = ("torchvision", "torchvision.transforms", "torchvision.models")
Work = Callable[[Path], np.ndarray]


def fast() -> list[str]:
    """Return the package of the extra [fast] where it is installed."""
    return [FAST] if find_spec("kornia_rs") else []


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder with PNG files anywhere in it"
    )
    parser.add_argument(
        "--size",
        type=int,
        choices=(224, 256, 512),
        action="append",
        help="side of the square; default: 256 and 512",
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=200, help="at most so many of the files")
    arguments = parser.parse_args()
    files = sorted(arguments.data.rglob("*.png"))[: arguments.images]
    if not files:
        sys.exit(f"no PNG files in {arguments.data}")
    xrv = rival()
    cv2.setNumThreads(1)
    rows = [
        row
        for size in arguments.size or (256, 512)
        for row in measured(files, size, xrv, arguments.repeats)
    ]
    reported = "\n".join(
        [
            f"Command: `python -m benchmarks.speed.first_pass --data {arguments.data}`",
            f"Machine: {machine('torchxrayvision', 'scikit-image', *OURS, *fast())}",
            "",
            (
                f"{len(files)} PNG files, best of {arguments.repeats} repeats of each. Milliseconds"
                " an image; ratio: TorchXRayVision's time over ours."
            ),
            "",
            "| to a square of | measured | TorchXRayVision | Hilum | ratio |",
            "| --- | --- | --: | --: | --: |",
            *rows,
        ]
    )
    record(f"First pass over PNG files: {arguments.data.resolve().name}", reported)
    print(reported)


def rival() -> types.ModuleType:
    """Import TorchXRayVision, with an empty torchvision where there is none."""
    if find_spec("torchxrayvision") is None or find_spec("skimage") is None:
        sys.exit(
            "TorchXRayVision is not installed: pip install --no-deps torchxrayvision==1.5.7; pip"
            " install scikit-image torch pandas requests tqdm"
        )
    if find_spec("torchvision") is None:
        modules = {name: types.ModuleType(name) for name in STUBS}
        sys.modules |= modules
        for name, module in list(modules.items())[1:]:
            setattr(modules["torchvision"], name.split(".")[1], module)
    import torchxrayvision

    return torchxrayvision


def theirs(xrv: types.ModuleType, size: int) -> Work:
    from skimage.io import imread

    crop, resize = xrv.datasets.XRayCenterCrop(), xrv.datasets.XRayResizer(size)
    return lambda path: resize(crop(xrv.utils.normalize(imread(path), maxval=255, reshape=True)))


def ours(size: int) -> Work:
    def work(path: Path) -> np.ndarray:
        file = image_file.read(path)
        file.values.min(), file.values.max()
        square = preprocess(file.radiograph(), size, "percentiles")
        storage.content_digest(square.data)
        return square

    return work


def measured(files: list[Path], size: int, xrv: types.ModuleType, repeats: int) -> list[str]:
    """Return rows of the table for one size."""
    ways = theirs(xrv, size), ours(size)
    cpu, wall = np.full((2, 2, len(files)), np.inf)  # theirs and ours, by file
    for _ in range(repeats):
        for place, path in enumerate(files):
            for way, work in enumerate(ways):
                begun = time.thread_time(), time.perf_counter()
                work(path)
                cpu[way, place] = min(cpu[way, place], time.thread_time() - begun[0])
                wall[way, place] = min(wall[way, place], time.perf_counter() - begun[1])
    one, two = np.inf, np.inf
    for _ in range(repeats + 1):
        one, two = min(one, threaded(ways[1], files, 1)), min(two, threaded(ways[1], files, 2))
    both = (("CPU time", cpu), ("wall time", wall))
    return [
        *(
            f"| {size} | {name} | {a.mean() * 1e3:.2f} | {b.mean() * 1e3:.2f} |"
            f" {a.sum() / b.sum():.2f} |"
            for name, (a, b) in both
        ),
        (
            f"| {size} | wall time, Hilum with 1 and with 2 threads | {one / len(files) * 1e3:.2f}"
            f" (1) | {two / len(files) * 1e3:.2f} (2) | {one / two:.2f} |"
        ),
    ]


def threaded(work: Work, files: list[Path], threads: int) -> float:
    """Return the wall seconds for all files."""
    with ThreadPoolExecutor(threads) as pool:
        begun = time.perf_counter()
        for _ in pool.map(work, files):
            pass
        return time.perf_counter() - begun


if __name__ == "__main__":
    main()
