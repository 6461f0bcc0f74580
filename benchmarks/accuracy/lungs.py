"""Measure the lung segmenters: Dice within a set and across sets, learning curve and speed.

    python -m benchmarks.accuracy.lungs --data ../shared/data --work work --what in-set cross curve
    speed
    python -m benchmarks.accuracy.lungs --data ../shared/data --work work --what in-set --model unet
    --steps 600 --changes plain --set dice_over=image

in-set: five folds by patient of Montgomery and of Shenzhen. cross: each set's model on the other,
and five folds of both together, reported for each set. curve: Dice on a fifth of both sets together
against the CPU seconds of training on the rest, each point a training of its own. speed: one image
on one core, beside two networks that others use, built here of plain layers with random weights,
which does for their speed; and `hilum lungs` from a cold start.

Where both sets are trained on, Montgomery's images are repeated until both count alike, as the two
were drawn by different rules. A tenth of the patients that are trained on say when to stop. The
compact model's `detail` and augmentation were chosen with the test images of Montgomery's first
fold in view, so that fold is not free of choice (the other four together: 0.9793); nothing else is
chosen by test images. What a training gave stays in --work, so that a run which was cut goes on;
the page of results is written from what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._lib.lung_sets import (
    METRICS,
    SETS,
    WIDE,
    Drawn,
    dealt,
    evenly,
    measured,
    parted,
    read,
)
from benchmarks._lib.results import machine, record
from benchmarks._lib.settings import again, chosen
from hilum import plugins, storage
from hilum.annotations import lung_masks
from hilum.inference import pretrained
from hilum.statistics import bootstrap

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # before torch is imported: threads that wait must not count as CPU seconds
WHAT = ["in-set", "cross", "curve", "speed"]
FOLDS, SEED = 5, 0
STEPS = {"compact_unet": 3000, "unet": 1000, "attention_unet": 1000}
CURVE = (60, 120, 240, 480, 960)  # batches
WORST = 8  # images that are listed
NAMES = " | ".join(name.replace("_", " ") for name in METRICS)  # heads of a table's columns


# ---------------------------------------------------------------------------------------- trainings


def trained(
    model: str,
    radiographs: Drawn,
    rows: np.ndarray,
    settings: dict[str, Any],
    name: str,
    also: Sequence[int] = (),
) -> tuple[Any, dict[str, Any]]:
    """Return the network, and what it took: CPU seconds with the watching, batches, Dice of the
    watched images.

    A fraction of `rows` is watched; all of `also` are trained on.
    """
    import torch

    torch.set_num_threads(min(2, torch.get_num_threads()))
    module, heard = plugins.load("models", model), []
    learn, tune = parted(radiographs.patients, rows)
    learn = np.concatenate([learn, np.asarray(also, np.int64)])
    images, masks, repeated = evenly(radiographs, learn)
    begun, reported = time.process_time(), [0.0]

    def progress(done: int, of: int) -> None:
        if time.time() - reported[0] > 10:
            reported[0] = time.time()
            tuned = next(
                (epoch.tune for epoch in reversed(heard) if epoch.tune is not None), float("nan")
            )
            print(
                f"  {name}: {done} of {of} batches, {time.process_time() - begun:.0f} CPU s, tune"
                f" {tuned:.4f}",
                flush=True,
            )

    network = module.fit(
        images,
        masks,
        repeated,
        module.Settings(**settings),
        seed=SEED,
        progress=progress,
        tune=tune,
        on_epoch=heard.append,
    )
    took = {
        "cpu_s": time.process_time() - begun,
        "batches": heard[-1].batches,
        "images": len(learn),
        "epochs": [asdict(epoch) for epoch in heard],
    }
    return network, took


def requested(network: Any, image: np.ndarray) -> np.ndarray:
    """Return what the network says of one image uint8 (size, size): probabilities float32 (2,
    size, size).
    """
    import torch

    with torch.no_grad():
        return network(torch.from_numpy(image[None]))[0].numpy()


def tested(network: Any, radiographs: Drawn, rows: np.ndarray) -> list[dict[str, Any]]:
    reported = []
    for row in rows:
        found = lung_masks.from_probabilities(requested(network, radiographs.images[row]))
        reported.append(
            {
                "image": str(radiographs.image_ids[row]),
                "patient": str(radiographs.patients[row]),
                "set": str(radiographs.sources[row]),
            }
        )
        reported[-1] |= measured(found, radiographs.masks[row])
    return reported


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the content of `path`; made and written there if it is not there yet."""
    if not path.exists():
        storage.write_json(path, make())
    return json.loads(path.read_text())


def jobs(
    what: str, radiographs: Drawn, sets: Sequence[str] = SETS
) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Yield the title, name, rows to train on and rows to test on of each training; in-set of these
    sets.
    """
    if what == "in-set":
        for source in sets:
            rows = radiographs.of(source)
            fold = dealt(radiographs.patients[rows], FOLDS)
            for number in range(FOLDS):
                yield (
                    f"{source}, {FOLDS} folds",
                    f"in-{source}-{number}",
                    rows[fold != number],
                    rows[fold == number],
                )
    if what == "cross":
        for one, other in (SETS, SETS[::-1]):
            yield (
                f"{one} -> {other}",
                f"cross-{one}-{other}",
                radiographs.of(one),
                radiographs.of(other),
            )
        fold = dealt(radiographs.patients, FOLDS)
        for number in range(FOLDS):
            yield (
                f"both, {FOLDS} folds",
                f"both-{number}",
                np.flatnonzero(fold != number),
                np.flatnonzero(fold == number),
            )


def accuracy(
    what: str, radiographs: Drawn, arguments: argparse.Namespace, folder: Path
) -> dict[str, list[dict[str, Any]]]:
    """Return each training's result, by title."""
    reported: dict[str, list[dict[str, Any]]] = {}
    for title, name, learn, test in jobs(what, radiographs, arguments.sets):

        def make(learn=learn, test=test, name=name) -> dict[str, Any]:
            network, took = trained(arguments.model, radiographs, learn, arguments.settings, name)
            return {**took, "found": tested(network, radiographs, test)}

        result = kept(folder / f"{name}.json", make)
        reported.setdefault(title, []).append(result)
        print(
            f"{name}: Dice {np.mean([one['dice'] for one in result['found']]):.4f},"
            f" {result['cpu_s']:.0f} CPU s",
            flush=True,
        )
        write_accuracy(what, reported, arguments)
    return reported


def curve(radiographs: Drawn, arguments: argparse.Namespace, folder: Path) -> None:
    fold = dealt(radiographs.patients, FOLDS)
    learn, test = np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)
    lines = []
    for steps in CURVE:

        def make(steps=steps) -> dict[str, Any]:
            settings = {**arguments.settings, "least_steps": steps, "epochs": 1}
            network, took = trained(arguments.model, radiographs, learn, settings, f"curve-{steps}")
            return {**took, "found": tested(network, radiographs, test)}

        result = kept(folder / f"curve-{steps}.json", make)
        dice = np.mean([one["dice"] for one in result["found"]])
        lines.append(f"| {result['batches']} | {result['cpu_s']:.0f} | {dice:.4f} |")
        print(
            f"curve: {result['batches']} batches, {result['cpu_s']:.0f} CPU s, Dice {dice:.4f}",
            flush=True,
        )
    head = ["| batches | CPU s | mean Dice |", "| --: | --: | --: |"]
    reported = [
        (
            f"Trained on {result['images']} images, watched on a tenth more, tested on {len(test)}"
            " of other patients."
        ),
        "",
        *head,
        *lines,
    ]
    record(
        f"Lungs: learning curve of {arguments.model}",
        "\n".join([*made_by(arguments, "curve"), "", *reported]),
    )


# -------------------------------------------------------------------------------------------- words


def made_by(arguments: argparse.Namespace, what: str) -> list[str]:
    command = (
        f"python -m benchmarks.accuracy.lungs --data {arguments.data} --work WORK --what {what}"
        f" --model {arguments.model}"
    )
    command += f" --sets {' '.join(arguments.sets)}" if what == "in-set" else ""
    command += f" --steps {arguments.steps} --changes {arguments.changes}{again(arguments.set)}"
    return [f"`{command}` on {machine('numpy', 'torch', 'onnxruntime')}."]


def write_accuracy(
    what: str, reported: dict[str, list[dict[str, Any]]], arguments: argparse.Namespace
) -> None:
    lines = [f"| trained and tested | images | {NAMES} | below 0.9 | CPU s of a training |"]
    lines.append("| --- | " + "--: | " * (len(METRICS) + 3))
    worst = []
    for title, results in reported.items():
        found = [one for result in results for one in result["found"]]
        for source in sorted({one["set"] for one in found}):
            some = [one for one in found if one["set"] == source]
            name = title if title.startswith(source) or "->" in title else f"{title}: {source}"
            cells = [interval(some, metric) for metric in METRICS]
            seconds = np.mean([result["cpu_s"] for result in results])
            low = sum(one["dice"] < 0.9 for one in some)
            lines.append(
                f"| {name}{' (cut)' if cut(title, results) else ''} | {len(some)} | "
                + " | ".join(cells)
                + f" | {low} | {seconds:.0f} |"
            )
            ranked = sorted(some, key=lambda one: one["dice"])[:WORST]
            worst.append(
                f"- {name}: " + ", ".join(f"{one['image']} {one['dice']:.3f}" for one in ranked)
            )
    note = (
        "Means over images, 95 % intervals over patients; Dice to recall are of both lungs as one;"
        " distances in pixels of the 256 square."
    )
    which = (
        f", {' and '.join(arguments.sets)}"
        if what == "in-set" and len(arguments.sets) < len(SETS)
        else ""
    )
    record(
        f"Lungs: {what} of {arguments.model}{which}",
        "\n".join([*made_by(arguments, what), note, "", *lines, "", "Worst:", "", *worst]),
    )


def cut(title: str, results: list[dict[str, Any]]) -> bool:
    """Return whether folds are still missing."""
    return "folds" in title and len(results) < FOLDS


def interval(found: list[dict[str, Any]], metric: str) -> str:
    """Return the mean and interval, and of how many images they are where some have no value (a
    missed lung has no distance).
    """
    having = [one for one in found if not np.isnan(one[metric])]
    values = np.array([one[metric] for one in having], float)
    mean = bootstrap.bootstrap_patients(
        lambda rows: float(values[rows].mean()) if rows.size else float("nan"),
        [one["patient"] for one in having],
    )
    digits = 2 if metric in ("hausdorff95", "average_distance") else 4
    of_all = f", {len(having)} of {len(found)} images" if len(having) < len(found) else ""
    return (
        f"{mean.value:.{digits}f} ({mean.ci_low:.{digits}f} to {mean.ci_high:.{digits}f}{of_all})"
    )


# -------------------------------------------------------------------------------------------- speed


def speed(arguments: argparse.Namespace) -> None:
    """Time all of it in one process and one thread, in turns, the least of several: other work on
    the machine only ever adds.
    """
    import torch

    from benchmarks.accuracy.lung_rivals import pspnet_r50, resnet18_unet

    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as temporary:
        float32, int8 = ours(Path(temporary))
        rivals = {
            "ResNet18 U-Net, 256, torch": (resnet18_unet(), 256, 5),
            "PSPNet ResNet50, 512, torch": (pspnet_r50(), 512, 2),
        }
        runs: dict[str, tuple[Callable[[], Any], int]] = {}
        for name, (network, size, times) in rivals.items():
            radiograph = torch.from_numpy(rng.random((1, 3, size, size), np.float32))
            runs[name] = (lambda network=network, radiograph=radiograph: network(radiograph), times)
        radiograph = rng.integers(0, 256, (1, 256, 256), np.uint8)
        for name, path in (
            (f"{arguments.model} float32, 256, ONNX Runtime", float32),
            (f"{arguments.model} int8, 256, ONNX Runtime", int8),
        ):
            session = one_core(path)
            runs[name] = (lambda session=session: session.run(None, {"images": radiograph}), 30)
        seconds = dict.fromkeys(runs, float("inf"))
        with torch.no_grad():
            for _ in range(3):
                for name, (ask, times) in runs.items():
                    for _ in range(times):
                        begun = time.process_time()
                        ask()
                        seconds[name] = min(seconds[name], time.process_time() - begun)
    lines = [
        "| one image, one core | ms | times the float32 | times the int8 |",
        "| --- | --: | --: | --: |",
    ]
    *_, mine, small = seconds.values()
    for name, took in seconds.items():
        lines.append(f"| {name} | {1000 * took:.1f} | {took / mine:.1f} | {took / small:.1f} |")
        print(lines[-1], flush=True)
    note = (
        "The rivals' networks are built here of plain torch layers, with random weights, after the"
        " papers and as TorchXRayVision runs the second."
    )
    record(
        f"Lungs: speed of {arguments.model}",
        "\n".join([*made_by(arguments, "speed"), note, "", *lines, "", cold()]),
    )


def ours(folder: Path) -> tuple[Path, Path]:
    """Return the network of the bundled model with random weights, which are as quick, in float32
    and in 8 bits.
    """
    from hilum.training import lung_segmentation, onnx_export
    from hilum.training.models import compact_unet

    settings, rng = compact_unet.Settings(), np.random.default_rng(SEED)
    network = lung_segmentation.ExportableNetwork(
        compact_unet.Compact(settings.width, settings.detail)
    ).eval()
    onnx_export.to_onnx(network, folder / "a.onnx", size=256, outputs=("lungs",), metadata={})
    onnx_export.to_int8(
        folder / "a.onnx", folder / "b.onnx", rng.integers(0, 256, (4, 256, 256), np.uint8)
    )
    return folder / "a.onnx", folder / "b.onnx"


def one_core(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def cold() -> str:
    """Return the CPU and wall seconds of `hilum lungs` on one image, the least of five."""
    import cv2

    if not pretrained.is_bundled():
        return "`hilum lungs one.png`: no weights in this installation."
    with tempfile.TemporaryDirectory() as temporary:
        radiograph = Path(temporary) / "one.png"
        cv2.imwrite(
            str(radiograph), np.random.default_rng(SEED).integers(0, 256, (1024, 1024), np.uint8)
        )
        took = []
        for number in range(5):
            command = [
                sys.executable,
                "-m",
                "hilum",
                "lungs",
                str(radiograph),
                "--out",
                str(Path(temporary) / f"found{number}"),
            ]
            took.append(timed(command))
    cpu, wall = (min(column) for column in zip(*took, strict=True))
    return (
        f"`hilum lungs one.png`, 1024 x 1024, from a cold start, the least of five: {cpu:.2f} s"
        f" CPU, {wall:.2f} s wall."
    )


def timed(command: list[str]) -> tuple[float, float]:
    import resource

    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.time() - begun


# --------------------------------------------------------------------------------------------- main


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder that holds montgomery/ and shenzhen/"
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="where results are kept until the next run"
    )
    parser.add_argument("--what", nargs="+", default=WHAT, choices=WHAT)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS, help="of in-set")
    parser.add_argument("--model", default="compact_unet", choices=list(STEPS))
    parser.add_argument("--steps", type=int, help="batches of a training; not for the curve")
    parser.add_argument(
        "--changes",
        default="wide",
        choices=["wide", "plain"],
        help="limits of the augmentation: WIDE of lung_sets.py, or the model's",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the model"
    )
    arguments = parser.parse_args()
    arguments.steps = arguments.steps or STEPS[arguments.model]
    changes = WIDE if arguments.changes == "wide" else {}
    arguments.settings = chosen(
        arguments.model, arguments.set, least_steps=arguments.steps, epochs=1, **changes
    )
    radiographs = None
    folder = arguments.work / f"{arguments.model}-{storage.digest(arguments.settings)[:8]}"
    storage.write_json(folder / "settings.json", arguments.settings)
    for what in arguments.what:
        if what == "speed":
            speed(arguments)
            continue
        if radiographs is None:
            if missing := [name for name in SETS if not (arguments.data / name).is_dir()]:
                sys.exit(f"no {' and no '.join(missing)} in {arguments.data}")
            sets = [read(arguments.data, name, 256, arguments.work) for name in SETS]
            radiographs = sets[0] + sets[1]
        if what == "curve":
            curve(radiographs, arguments, folder)
        else:
            accuracy(what, radiographs, arguments, folder)


if __name__ == "__main__":
    main()
