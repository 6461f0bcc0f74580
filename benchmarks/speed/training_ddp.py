"""Train on two ranks beside one process: losses, images a second, and the death of a rank.

    python -m benchmarks.speed.training_ddp [--images 128] [--size 128] [--epochs 3] [--record]

Two networks are trained on made-up images by one process without torchrun and by two ranks as
torchrun starts them: the small one of tests/test_distributed.py, and EfficientNet-Lite0 with its
default settings, but in float32 and whole batches on every machine, and without dropout, of which
each rank draws its own. Two ranks train the latter once more, and rank 1 is killed (SIGKILL) in the
second epoch: torchrun starts both again, and they go on from the last checkpoint. Each process
computes on one thread; another one makes its batches.

To reach: losses of the small network's epochs that differ by 1e-5 at most, and weights after the
kill that are those of two ranks undisturbed, to the bit. In a deep network each step multiplies
what rounding differs by; how far that goes without ranks is shown by one process with two threads.
Images a second are those of the quickest epoch but the first, by the wall clock; the machine should
do nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._lib import two_ranks
from benchmarks._lib.results import machine, record

BATCH, EVERY = 16, 4  # images of a batch; batches between two checkpoints
SMALL_EPOCHS = 20
LIMIT = 600  # seconds of one training
ALONE, BOTH, KILLED = "one process", "two ranks", "two ranks, one killed"
THREADS = "one process, two threads"
WAYS = (ALONE, THREADS, BOTH, KILLED)
FOUND = "found.json"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--record", action="store_true")
    requested = parser.parse_args()
    shape = (str(requested.images), str(requested.size), str(requested.epochs))
    found = {way: trained(way, *shape) for way in WAYS}
    text = "\n".join(
        [
            f"`python -m benchmarks.speed.training_ddp --images {requested.images} "
            f"--size {requested.size} --epochs {requested.epochs}` on {machine('torch', 'numpy')}.",
            "",
            f"EfficientNet-Lite0, float32, batches of {BATCH}, {requested.epochs} epochs of "
            f"{requested.images} images of {requested.size} x {requested.size}; the small network, "
            f"{SMALL_EPOCHS} epochs. Differences are the largest of the mean losses of epochs, "
            "beside one process with one thread.",
            "",
            *table(found),
        ]
    )
    print(text)
    if requested.record:
        record("Training on two ranks", text)
    sys.exit(found[KILLED]["weights"] != found[BOTH]["weights"])


def trained(way: str, *shape: str) -> dict[str, Any]:
    """Return what a training in processes of its own found."""
    with tempfile.TemporaryDirectory(prefix="hilum-ranks-") as place:
        folder = Path(place)
        threads = 2 if way == THREADS else 1
        two_ranks.start(
            "benchmarks.speed.training_ddp", folder, way, *shape, threads=threads, limit=LIMIT
        )
        return json.loads((folder / FOUND).read_text())


def table(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return the lines of the table: each training beside those that it must equal."""
    lines = [
        "| trained by | small network: losses differ by | EfficientNet-Lite0: losses differ by |"
        " images/s | ratio | weights | sets of weights that differ | went on at batch |",
        "| --- | --: | --: | --: | --: | --- | --: | --- |",
    ]
    alone, both = found[ALONE], found[BOTH]
    for way, one in found.items():
        cells = dict.fromkeys(("small", "losses", "images_per_s", "ratio", "weights"), "-")
        cells |= {"differ": "-", "begun": "-", "weights": one["weights"][:12]}
        if way != ALONE:
            for name in ("small", "losses"):
                cells[name] = f"{np.abs(np.subtract(one[name], alone[name])).max():.9f}"
        if way in (ALONE, BOTH):
            cells["images_per_s"] = f"{one['images_per_s']:.1f}"
            cells["ratio"] = f"{one['images_per_s'] / alone['images_per_s']:.2f}"
        if way == KILLED:
            cells["differ"] = str(int(one["weights"] != both["weights"]))
            cells["begun"] = f"{one['begun']} of {one['batches']}"
        lines.append(f"| {way} | {' | '.join(cells.values())} |")
    return lines


# ------------------------------------------------------------------- in the processes that train


def training(way: str, images: int, size: int, epochs: int, folder: Path) -> None:
    """Train, and write what was found into the folder."""
    from hilum.training.models import efficientnet_lite0
    from tests import ranks_training

    small, _ = ranks_training.train(replace(ranks_training.SCHEDULE, epochs=SMALL_EPOCHS))
    pixels, targets = made_up(images, size)
    settings = efficientnet_lite0.Settings(
        dropout=0.0,
        precision="float32",
        accumulate=1,
        batch_size=BATCH,
        epochs=epochs,
        least_steps=0,
        checkpoint_steps=EVERY,
    )
    steps = -(-images // BATCH)
    ends, losses, begun = [time.perf_counter()], list[float](), list[int]()

    def on_epoch(epoch: Any) -> None:
        """Keep the epoch's loss, and when it ended."""
        ends.append(time.perf_counter())
        losses.append(epoch.loss)

    def progress(done: int, of: int) -> None:
        """Kill the other rank within the second epoch."""
        begun.append(done)
        if way == KILLED and done == steps + 3 * steps // 4:
            two_ranks.kill_the_other(folder)

    made = efficientnet_lite0.fit(
        pixels,
        targets,
        np.arange(images),
        settings,
        concepts=["square"],
        seed=1,
        on_epoch=on_epoch,
        progress=progress,
        checkpoint=folder / "training.checkpoint" if way == KILLED else None,
    )
    digest = hashlib.sha256()
    for name, value in made.state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    quickest = min(np.diff(ends)[1:])
    found = {
        "small": small,
        "losses": losses,
        "weights": digest.hexdigest(),
        "images_per_s": images / quickest,
    }
    found |= {"begun": begun[0], "batches": steps * epochs}
    (folder / FOUND).write_text(json.dumps(found))


def made_up(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noise, uint8 (count, size, size), with a bright square in every second image, and
    which have one, float32 (count, 1).
    """
    rng = np.random.default_rng(1)
    images = rng.integers(0, 150, (count, size, size), np.uint8)
    targets = (np.arange(count)[:, None] % 2).astype(np.float32)
    images[1::2, size // 4 : size // 2, size // 4 : size // 2] += 100
    return images, targets


def taking_part(folder: str, way: str, *shape: str) -> None:
    """Train in the way that `trained` asks for."""
    work: Callable[[Path], None] = partial(training, way, *map(int, shape))
    if way in (ALONE, THREADS):
        work(Path(folder))
    else:
        two_ranks.launch(work, Path(folder))


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[2] in WAYS:
        taking_part(*sys.argv[1:])
    else:
        main()
