"""Train the lung models that come with Hilum on Montgomery and Shenzhen together, on two
processor cores in half an hour.

    python -m tools.build_models.train_lungs --data ../shared/data --out src/hilum/resources --work
    work

Nine tenths of the patients are trained on, the last tenth says which weights are kept. Images of
the smaller set are repeated until both count alike: the two were drawn by different rules
(Shenzhen's lungs are smaller), and a model of all images alike finds Montgomery's too small. Writes
lungs.onnx (float32) and lungs.int8.onnx (the same in 8 bits), each with its card: data, licences,
recipe, digests of the images, figures of benchmarks/accuracy/lungs.py as far as --work holds them
for the same settings, and the input contract. Both weigh `MOST` together at most. Killed, the same
command goes on from the last epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # before torch is imported: threads that wait leave the processor to the others

import numpy as np

from benchmarks._lib.lung_sets import METRICS, SETS, WIDE, Drawn, evenly, measured, parted, read
from benchmarks._lib.settings import chosen
from hilum import plugins, storage
from hilum.annotations import lung_masks
from hilum.inference.onnx_model import InputContract, OnnxModel
from hilum.training import onnx_export
from hilum.training.models import compact_unet

MOST = 6_000_000  # bytes
SEED, SIZE, WINDOW = 0, 256, "percentiles"
STEPS = 6000  # batches; about 0.2 CPU seconds each
CALIBRATED_ON = 100  # images, evenly out of those trained on
LICENCE = (
    "The code is Apache-2.0. These weights are for non-commercial research unless you hold other"
    " terms: the Shenzhen lung masks that they were trained on are CC BY-NC-SA 4.0 (Stirenko et al."
    " 2018)."
)


def card(
    radiographs: Drawn,
    learn: np.ndarray,
    tune: np.ndarray,
    settings: dict[str, Any],
    figures: dict[str, str],
) -> dict[str, str]:
    of = "; ".join(
        f"{plugins.load('datasets', name).CARD.title}:"
        f" {plugins.load('datasets', name).CARD.licence}"
        for name in SETS
    )
    counts = ", ".join(f"{name} {np.sum(radiographs.sources[learn] == name)}" for name in SETS)
    made = replace(
        compact_unet.CARD,
        title="Lungs in frontal chest radiographs, the model that comes with Hilum",
        licence=LICENCE,
        source=f"tools/build_models/train_lungs.py of Hilum, model 'compact_unet'. {of}",
        counts=(
            f"trained on {counts}, repeated until both count alike, tuned on {len(tune)} more; no"
            " image of another set"
        ),
        caveats=(
            "Finds the patient's right and left lung in frontal chest radiographs, as readers"
            " outline them in these two sets: without the parts behind the heart and the diaphragm."
            " Trained on adults and some children of two places, with and without tuberculosis;"
            " lateral views, small children, white lungs, and images that are mirrored or rotated"
            " far are outside of its training data. No medical device."
        ),
    )
    recipe = json.dumps({**settings, "seed": SEED}, sort_keys=True)
    return {**asdict(made), "recipe": recipe, "figures": json.dumps(figures)}


def figures(work: Path, settings: dict[str, Any]) -> dict[str, str]:
    """Return the mean Dice by cross-validation of the same settings but for the number of batches,
    out of what benchmarks/accuracy/lungs.py left.
    """
    reported = {}
    for folder in sorted(work.glob("compact-*")):
        theirs = storage.read_json(folder / "settings.json")
        if {**theirs, "least_steps": 0} != {**settings, "least_steps": 0}:
            continue
        found: dict[str, list[float]] = {}
        for path in sorted(folder.glob("*.json")):
            if path.stem.startswith(("in-", "cross-", "both-")):
                for one in storage.read_json(path)["found"]:
                    title = (
                        path.stem
                        if path.stem.startswith("cross-")
                        else f"{path.stem.rsplit('-', 1)[0]}, tested on {one['set']}"
                    )
                    found.setdefault(f"{title}, {theirs['least_steps']} batches", []).append(
                        one["dice"]
                    )
        reported |= {
            title: f"mean Dice {np.mean(dice):.4f} of {len(dice)} images"
            for title, dice in found.items()
        }
    return reported


def checked(model: OnnxModel, radiographs: Drawn, rows: np.ndarray) -> str:
    reported = [
        measured(
            lung_masks.from_probabilities(model(radiographs.images[row])["lungs"]),
            radiographs.masks[row],
        )
        for row in rows
    ]
    return ", ".join(_mean(name, [one[name] for one in reported]) for name in METRICS)


def _mean(name: str, values: list[float]) -> str:
    known = [value for value in values if not np.isnan(value)]
    of_all = f" ({len(known)} of {len(values)} images)" if len(known) < len(values) else ""
    return f"{name} {np.mean(known):.4f}{of_all}" if known else f"{name} undefined"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder that holds montgomery/ and shenzhen/"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--work",
        type=Path,
        required=True,
        help="where caches, the checkpoint and results of benchmarks/accuracy/lungs.py are kept",
    )
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the model"
    )
    arguments = parser.parse_args()
    if missing := [name for name in SETS if not (arguments.data / name).is_dir()]:
        sys.exit(f"no {' and no '.join(missing)} in {arguments.data}")
    settings = chosen("compact_unet", arguments.set, least_steps=arguments.steps, epochs=1, **WIDE)
    sets = [read(arguments.data, name, SIZE, arguments.work) for name in SETS]
    radiographs = sets[0] + sets[1]
    learn, tune = parted(radiographs.patients, np.arange(len(radiographs.patients)))
    network, epochs = trained(
        radiographs, learn, tune, settings, arguments.work / "lungs.checkpoint"
    )
    contract = InputContract(compact_unet.TASK, SIZE, "whole", WINDOW, compact_unet.OUTPUTS)
    trained_on = {
        "images": len(learn),
        "sources": list(SETS),
        "pixels": sorted(map(str, radiographs.digests[learn])),
    }
    reported = {
        "contract": asdict(contract),
        "card": card(radiographs, learn, tune, settings, figures(arguments.work, settings)),
        "trained_on": trained_on,
    }
    metadata = {
        key: storage.as_json(value) for key, value in {**reported, "epochs": epochs}.items()
    }
    whole, small = arguments.out / "lungs.onnx", arguments.out / "lungs.int8.onnx"
    onnx_export.to_onnx(network, whole, size=SIZE, outputs=compact_unet.OUTPUTS, metadata=metadata)
    onnx_export.to_int8(
        whole, small, radiographs.images[learn[:: max(1, len(learn) // CALIBRATED_ON)]]
    )
    for path in (whole, small):
        print(
            f"{path}: {path.stat().st_size} bytes; tuning images:"
            f" {checked(OnnxModel(path), radiographs, tune)}",
            flush=True,
        )
    if (weight := whole.stat().st_size + small.stat().st_size) > MOST:
        sys.exit(f"both weigh {weight} bytes, more than {MOST}: choose a smaller width")


def trained(
    radiographs: Drawn,
    learn: np.ndarray,
    tune: np.ndarray,
    settings: dict[str, Any],
    checkpoint: Path,
) -> tuple[Any, list[dict[str, Any]]]:
    heard, begun, reported = [], time.time(), [0.0]
    images, masks, rows = evenly(radiographs, learn)

    def progress(done: int, of: int) -> None:
        if time.time() - reported[0] > 10:
            reported[0] = time.time()
            tuned = max(
                (epoch.tune for epoch in heard if epoch.tune is not None), default=float("nan")
            )
            print(
                f"{done} of {of} batches, {time.time() - begun:.0f} s, best tuning Dice"
                f" {tuned:.4f}",
                flush=True,
            )

    network = compact_unet.fit(
        images,
        masks,
        rows,
        compact_unet.Settings(**settings),
        seed=SEED,
        checkpoint=checkpoint,
        progress=progress,
        tune=tune,
        on_epoch=heard.append,
    )
    return network, [asdict(epoch) for epoch in heard]


if __name__ == "__main__":
    main()
