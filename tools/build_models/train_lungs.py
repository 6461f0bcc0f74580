"""The lung models that come with Hilum: trained on Montgomery and Shenzhen together, on two processor cores in half an hour.

    python -m tools.build_models.train_lungs --data ../shared/data --to src/hilum/resources --work work

Nine tenths of the patients are learnt from, the last tenth says which weights are kept. Pictures of the smaller set are repeated until both
count alike: the two were drawn by different rules (Shenzhen's lungs are smaller), and a model of all pictures alike finds Montgomery's too
small. Writes lungs.onnx (float32) and lungs.int8.onnx (the same in 8 bits), each with its card: data, licences, recipe, digests of the
pictures, figures of benchmarks/accuracy/lungs.py as far as --work holds them for the same settings, and the input contract. Both weigh `MOST` together at
most. Killed, the same command goes on from the last epoch.
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
CALIBRATED_ON = 100  # pictures, evenly out of those learnt from
LICENCE = (
    "The code is Apache-2.0. These weights are for non-commercial research unless you hold other terms: the Shenzhen lung masks that they were "
    "learnt from are CC BY-NC-SA 4.0 (Stirenko et al. 2018)."
)


def card(
    pictures: Drawn,
    learn: np.ndarray,
    tune: np.ndarray,
    settings: dict[str, Any],
    figures: dict[str, str],
) -> dict[str, str]:
    of = "; ".join(
        f"{plugins.load('datasets', name).CARD.title}: {plugins.load('datasets', name).CARD.licence}"
        for name in SETS
    )
    counts = ", ".join(f"{name} {np.sum(pictures.sources[learn] == name)}" for name in SETS)
    made = replace(
        compact_unet.CARD,
        title="Lungs in frontal chest radiographs, the model that comes with Hilum",
        licence=LICENCE,
        source=f"tools/build_models/train_lungs.py of Hilum, model 'compact_unet'. {of}",
        counts=f"learnt from {counts}, repeated until both count alike, watched on {len(tune)} more; no picture of another set",
        caveats=(
            "Finds the patient's right and left lung in frontal chest radiographs, as readers outline them in these two sets: without the parts "
            "behind the heart and the diaphragm. Learnt from adults and some children of two places, with and without tuberculosis; lateral views, "
            "small children, white lungs, and pictures that are mirrored or turned far are outside of what it has learnt. No medical device."
        ),
    )
    recipe = json.dumps({**settings, "seed": SEED}, sort_keys=True)
    return {**asdict(made), "recipe": recipe, "figures": json.dumps(figures)}


def figures(work: Path, settings: dict[str, Any]) -> dict[str, str]:
    """Mean Dice by cross-validation of the same settings but for the number of batches, out of what benchmarks/accuracy/lungs.py left."""
    told = {}
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
        told |= {
            title: f"mean Dice {np.mean(dice):.4f} of {len(dice)} pictures"
            for title, dice in found.items()
        }
    return told


def checked(model: OnnxModel, pictures: Drawn, rows: np.ndarray) -> str:
    told = [
        measured(
            lung_masks.from_probabilities(model(pictures.images[row])["lungs"]), pictures.masks[row]
        )
        for row in rows
    ]
    return ", ".join(_mean(name, [one[name] for one in told]) for name in METRICS)


def _mean(name: str, values: list[float]) -> str:
    known = [value for value in values if not np.isnan(value)]
    of_all = f" ({len(known)} of {len(values)} pictures)" if len(known) < len(values) else ""
    return f"{name} {np.mean(known):.4f}{of_all}" if known else f"{name} undefined"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder that holds montgomery/ and shenzhen/"
    )
    parser.add_argument("--to", type=Path, required=True)
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
    pictures = sets[0] + sets[1]
    learn, tune = parted(pictures.patients, np.arange(len(pictures.patients)))
    network, epochs = trained(pictures, learn, tune, settings, arguments.work / "lungs.checkpoint")
    contract = InputContract(compact_unet.TASK, SIZE, "whole", WINDOW, compact_unet.OUTPUTS)
    trained_on = {
        "images": len(learn),
        "sources": list(SETS),
        "pixels": sorted(map(str, pictures.digests[learn])),
    }
    told = {
        "contract": asdict(contract),
        "card": card(pictures, learn, tune, settings, figures(arguments.work, settings)),
        "trained_on": trained_on,
    }
    metadata = {key: storage.as_json(value) for key, value in {**told, "epochs": epochs}.items()}
    whole, small = arguments.to / "lungs.onnx", arguments.to / "lungs.int8.onnx"
    onnx_export.to_onnx(network, whole, size=SIZE, outputs=compact_unet.OUTPUTS, metadata=metadata)
    onnx_export.to_int8(
        whole, small, pictures.images[learn[:: max(1, len(learn) // CALIBRATED_ON)]]
    )
    for path in (whole, small):
        print(
            f"{path}: {path.stat().st_size} bytes; watched pictures: {checked(OnnxModel(path), pictures, tune)}",
            flush=True,
        )
    if (weight := whole.stat().st_size + small.stat().st_size) > MOST:
        sys.exit(f"both weigh {weight} bytes, more than {MOST}: choose a smaller width")


def trained(
    pictures: Drawn, learn: np.ndarray, tune: np.ndarray, settings: dict[str, Any], checkpoint: Path
) -> tuple[Any, list[dict[str, Any]]]:
    heard, begun, told = [], time.time(), [0.0]
    images, masks, rows = evenly(pictures, learn)

    def progress(done: int, of: int) -> None:
        if time.time() - told[0] > 10:
            told[0] = time.time()
            tuned = max(
                (epoch.tune for epoch in heard if epoch.tune is not None), default=float("nan")
            )
            print(
                f"{done} of {of} batches, {time.time() - begun:.0f} s, best watched Dice {tuned:.4f}",
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
