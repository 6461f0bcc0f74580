"""Time training on a GPU: Hilum's loop with its loader from disk against the network alone on
images that are on the GPU already.

    python -m benchmarks.speed.training_gpu --out training_gpu.json
    python -m benchmarks.speed.training_gpu --record training_gpu.json

The images are made up (random bytes, 224 x 224), as a cache on disk holds them: nothing of their
content changes the time. "Alone" is a bare step on batches that stay on the GPU as float32:
network, cross-entropy, gradient, fused AdamW. "Hilum" is `classification.fit`, as a run trains:
each image read from the file, changed anew by the model's default augmentation (on the processor,
or on the GPU), sent, and after each step gradients clipped and weights averaged. The ratio is 1
where neither the loader nor the loop costs anything.

PyTorch, NumPy, OpenCV and SciPy are enough, and MONAI for DenseNet-121. Without a GPU everything
runs on the processor, for a try with `--images 64 --batch-sizes 4`. Most important measurements
come first, those that find no more time are left out, and the file is written after each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks._lib.results import machine, record
from hilum.imaging.image_stack import ImageStack
from hilum.training import classification, efficientnet_backbone, ranks
from hilum.training.augmentation import Augmentation, draw_each
from hilum.training.batches import TrainingImages, ahead
from hilum.training.classification import Classifier
from hilum.training.device_augmentation import DeviceAugmentation
from hilum.training.models import densenet121, efficientnet_lite0
from hilum.training.settings import ClassifierSettings

SIZE, LABELS = 224, 14
WARM_UP, EPOCHS = 8, 2  # steps before timing; epochs of which the first is not timed
SLOW = 500.0 if torch.cuda.is_available() else 5.0  # images/s, where nothing is known yet
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TITLES = {"densenet121": "DenseNet-121", "efficientnet_lite0": "EfficientNet-Lite0"}


@dataclass(frozen=True)
class Way:
    """What is measured: `loader` is "alone", or where Hilum changes the images."""

    network: str
    batch_size: int
    loader: str  # "alone", "cpu", "device"
    precision: str = "bfloat16"
    channels_last: bool = True
    compiled: bool = False


def network(name: str) -> Classifier:
    """Make an untrained network of 14 labels."""
    if name == "densenet121":
        return Classifier(densenet121.features(None), densenet121.CHANNELS, LABELS, 0.2)
    return Classifier(efficientnet_backbone.Backbone(), efficientnet_backbone.HEAD, LABELS, 0.2)


def settings_of(name: str) -> ClassifierSettings:
    """Return the model's defaults, all weights trained."""
    if name == "densenet121":
        return densenet121.Settings()
    return efficientnet_lite0.Settings(pretrained=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="file for the figures, JSON")
    parser.add_argument("--record", type=Path, help="write such a file into the results and end")
    parser.add_argument("--images", type=int, default=20_000, help="made up; 50 KB each on disk")
    parser.add_argument("--networks", nargs="+", default=list(TITLES), choices=list(TITLES))
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[256, 128, 64, 512, 32])
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    parser.add_argument("--minutes", type=float, default=30, help="for all")
    parser.add_argument("--parts", nargs="+", default=["checks", "loader", "formats", "compiled"])
    arguments = parser.parse_args()
    if arguments.record:
        found = json.loads(arguments.record.read_text())
        record(f"Training on a GPU: {found['gpu']}", as_text(found))
        return
    end = time.monotonic() + 60 * arguments.minutes
    found = {"gpu": gpu(), "machine": machine("torch", "numpy"), "command": " ".join(sys.argv[1:])}
    found |= {"python": platform.python_version(), "checks": {}, "rows": []}

    def keep() -> None:
        """Write what is known so far."""
        if arguments.out:
            arguments.out.write_text(json.dumps(found, indent=1))

    if "checks" in arguments.parts:
        for check in (learns, group_of_one):
            found["checks"] |= attempted(check)
            print(found["checks"], flush=True)
            keep()
    with tempfile.TemporaryDirectory() as folder:
        images = made_up(arguments.images, Path(folder))
        if "checks" in arguments.parts:
            found["checks"] |= attempted(lambda: made_alone(images))
            print(found["checks"], flush=True)
        known: dict[tuple[str, int], float] = {}  # images/s alone
        for way in ways(arguments.networks, arguments.batch_sizes, arguments.parts):
            if time.monotonic() > end:
                print("no time left for the rest", flush=True)
                break
            at_once = arguments.seconds * known.get((way.network, way.batch_size), SLOW)
            row = asdict(way) | attempted(lambda way=way, n=at_once: measured(way, images, n))
            found["rows"].append(row)
            if "images_per_s" in row:
                known.setdefault((way.network, way.batch_size), row["images_per_s"])
            print(row, flush=True)
            keep()
    print(as_text(found))


def ways(names: list[str], sizes: list[int], parts: list[str]) -> Iterator[Way]:
    """Yield all measurements, the most important first."""
    if "loader" in parts:
        for size in sizes:
            for name in names:
                yield from (Way(name, size, loader) for loader in ("alone", "cpu", "device"))
    if "formats" in parts:
        for name in names:
            for precision, last in (("float32", True), ("bfloat16", False)):
                yield Way(name, sizes[0], "alone", precision, last)
    if "compiled" in parts:
        for name in names:
            for loader in ("alone", "device"):
                yield Way(name, sizes[0], loader, compiled=True)


def attempted(work: Callable[[], dict[str, object]]) -> dict[str, object]:
    """Return what a measurement found, or why it failed, so that the others still run."""
    try:
        return work()
    except (RuntimeError, ImportError, OSError) as error:  # out of memory is a RuntimeError
        return {"failed": f"{type(error).__name__}: {str(error)[:300]}"}
    finally:
        torch._dynamo.reset()
        if DEVICE.type == "cuda":
            torch.cuda.empty_cache()


def measured(way: Way, images: ImageStack, wanted: float) -> dict[str, object]:
    """Return images a second over about so many images, GPU memory, and seconds until warm."""
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    rate, warm = (alone if way.loader == "alone" else with_loader)(way, images, wanted)
    memory = torch.cuda.max_memory_allocated() / 2**30 if DEVICE.type == "cuda" else 0.0
    whole = time.perf_counter() - begun
    return {"images_per_s": rate, "memory_gib": memory, "warm_s": warm, "whole_s": whole}


def alone(way: Way, images: ImageStack, wanted: float) -> tuple[float, float]:
    """Time bare steps on batches that are on the GPU; return the rate and the time until warm."""
    begun = time.perf_counter()
    memory = torch.channels_last if way.channels_last else torch.contiguous_format
    made = network(way.network).to(DEVICE, memory_format=memory).train()
    step = torch.compile(made, dynamic=False) if way.compiled else made
    optimiser = torch.optim.AdamW(made.parameters(), fused=DEVICE.type == "cuda" or None)
    batches = []
    for at in range(4):
        pixels = torch.from_numpy(images[np.arange(way.batch_size) + at]).to(DEVICE)
        truth = torch.rand(way.batch_size, LABELS, device=DEVICE).round()
        batches.append((pixels.unsqueeze(1).float().div_(255).to(memory_format=memory), truth))

    def steps(count: int) -> float:
        """Take steps; return the seconds that they took."""
        synchronise()
        start = time.perf_counter()
        for number in range(count):
            x, truth = batches[number % len(batches)]
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=way.precision == "bfloat16"):
                logits = step(x).float()
            error = nn.functional.binary_cross_entropy_with_logits(logits, truth)
            optimiser.zero_grad()
            error.backward()
            optimiser.step()
        synchronise()
        return time.perf_counter() - start

    steps(WARM_UP)
    warm = time.perf_counter() - begun
    count = max(4, round(wanted / way.batch_size), round(2 / (steps(4) / 4)))
    return count * way.batch_size / steps(count), warm


def with_loader(way: Way, images: ImageStack, wanted: float) -> tuple[float, float]:
    """Time epochs of Hilum's training; return the best epoch's rate and the time until warm."""
    ends = [time.perf_counter()]
    steps = max(4, round(wanted / way.batch_size))
    rows = np.arange(steps * way.batch_size) % len(images)
    targets = np.random.default_rng(0).integers(0, 2, (len(images), LABELS)).astype(np.float32)
    settings = replace(
        settings_of(way.network),
        batch_size=way.batch_size,
        epochs=EPOCHS,
        least_steps=0,
        precision=way.precision,
        augment_on=way.loader,
        compiled=way.compiled,
        watch="none",
    )
    classification.fit(
        lambda concepts: network(way.network),
        images,
        targets,
        rows,
        settings,
        concepts=[f"label {number}" for number in range(LABELS)],
        seed=0,
        on_epoch=lambda epoch: ends.append(time.perf_counter()),
    )
    first, *later = np.diff(ends)
    return len(rows) / float(min(later)), float(first)


def synchronise() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def made_up(count: int, folder: Path) -> ImageStack:
    """Write random images as a cache holds them, and read them once, as any epoch but the first."""
    rng = np.random.default_rng(0)
    with open(folder / "images.u8", "wb") as stream:
        stream.writelines(rng.bytes(500 * SIZE * SIZE) for _ in range(0, count, 500))
    return ImageStack(folder / "images.u8", SIZE)


# ------------------------------------------------------------------------------------------ checks


def small_training(precision: str, epochs: int) -> list[float]:
    """Train a network to tell whether a bright square is there; return the loss of each epoch."""
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 2, (128, 1)).astype(np.float32)
    images = rng.integers(0, 120, (128, 64, 64), np.uint8)
    images[targets[:, 0] > 0, 20:40, 20:40] += 100
    settings = replace(
        settings_of("efficientnet_lite0"),
        batch_size=32,
        epochs=epochs,
        least_steps=0,
        precision=precision,
        augment_on="device",
        watch="none",
    )
    losses: list[float] = []
    classification.fit(
        lambda concepts: Classifier(
            efficientnet_backbone.Backbone(), efficientnet_backbone.HEAD, concepts, 0.0
        ),
        images,
        targets,
        np.arange(128),
        settings,
        concepts=["square"],
        seed=0,
        on_epoch=lambda epoch: losses.append(epoch.loss),
    )
    return losses


def learns() -> dict[str, object]:
    """Return first and last loss of a short training."""
    losses = small_training("bfloat16", 20)
    return {"loss_first": losses[0], "loss_last": losses[-1]}


def group_of_one() -> dict[str, object]:
    """Return how far the losses of a group of one rank (NCCL on a GPU) are from those without."""
    plain = small_training("float32", 3)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": "0", "WORLD_SIZE": "1"}
    os.environ.update(here)
    with ranks.joined():
        grouped = small_training("float32", 3)
    again = small_training("float32", 3)
    return {
        "group_of_one_differs": max(abs(a - b) for a, b in zip(plain, grouped, strict=True)),
        "same_again_differs": max(abs(a - b) for a, b in zip(plain, again, strict=True)),
        "losses": plain,
    }


def made_alone(images: ImageStack) -> dict[str, object]:
    """Return images a second of the loader alone, by how many threads make batches, and where."""
    rates = {}
    changes = Augmentation.from_settings(settings_of("efficientnet_lite0"))
    device = DeviceAugmentation((SIZE, SIZE), changes.blur)
    source = TrainingImages(images)

    def make(place: str, start: int) -> int:
        """Make a batch of 128."""
        rows = (np.arange(128) + start) % len(images)
        drawn = draw_each(changes, [np.random.default_rng([0, 1, int(row)]) for row in rows])
        if place == "cpu":
            return len(source.batch(rows, drawn).images)
        return len(device.prepare(source, rows, drawn)[0])

    count = 64 if DEVICE.type == "cuda" else 8
    for place in ("cpu", "device"):
        for threads in (1, 4, 8):
            begun = time.perf_counter()
            works = (partial(make, place, 128 * number) for number in range(count))
            seen = sum(ahead(works, threads))
            rates[f"loader_{place}_{threads}_threads"] = seen / (time.perf_counter() - begun)
    return rates


# ------------------------------------------------------------------------------------------ report


def gpu() -> str:
    return torch.cuda.get_device_name() if DEVICE.type == "cuda" else "none"


def as_text(found: dict) -> str:
    """Return the figures as Markdown."""
    rows = {tuple(row[key] for key in asdict(Way("", 0, ""))): row for row in found["rows"]}
    lines = [
        "| network | batch | precision | compiled | alone, images/s | Hilum, changed on the CPU"
        " | its ratio | Hilum, changed on the GPU | ratio | GPU memory, alone / Hilum |",
        "| --- | --: | --- | --- | --: | --: | --: | --: | --: | --: |",
    ]
    for row in found["rows"]:
        if row["loader"] != "alone":
            continue
        way = Way(**{key: row[key] for key in asdict(Way("", 0, ""))})
        others = [
            rows.get(tuple(asdict(replace(way, loader=loader)).values()), {})
            for loader in ("cpu", "device")
        ]
        cells = [TITLES[way.network], str(way.batch_size)]
        cells += [("" if way.channels_last else "channels first, ") + way.precision]
        cells += ["yes" if way.compiled else "no", rate(row)]
        for other in others:
            cells += [rate(other), ratio(other, row)]
        cells += [f"{row.get('memory_gib', 0):.1f} / {others[1].get('memory_gib', 0):.1f} GiB"]
        lines.append(f"| {' | '.join(cells)} |")
    checks = ["", "| check | value |", "| --- | --: |"]
    checks += [f"| {name} | {value} |" for name, value in found["checks"].items()]
    return "\n".join(
        [
            f"Command: `python -m benchmarks.speed.training_gpu {found['command']}`",
            f"Machine: one {found['gpu']}; {found['machine']}",
            "",
            (
                "Made-up images of 224 x 224, 14 labels. Alone: bare steps on float32 batches that"
                " are on the GPU. Hilum: read from a file, changed, sent, clipped and averaged; an"
                " epoch but the first. Ratios are of one batch size."
            ),
            "",
            *lines,
            *(checks if found["checks"] else ()),
        ]
    )


def rate(row: dict) -> str:
    return f"{row['images_per_s']:,.0f}" if "images_per_s" in row else row.get("failed", "-")[:40]


def ratio(row: dict, alone: dict) -> str:
    if "images_per_s" not in row or "images_per_s" not in alone:
        return "-"
    return f"{row['images_per_s'] / alone['images_per_s']:.2f}"


if __name__ == "__main__":
    main()
