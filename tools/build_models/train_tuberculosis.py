"""Train the bundled tuberculosis model with its domain and its no-call band.

    python -m tools.build_models.films --data ../shared/data --work FILMS
    python -m tools.build_models.train_tuberculosis --films FILMS --work WORK \
        --to src/hilum/resources --device cpu

One EfficientNet-Lite0 is trained on the films of all sources at once (`multitask`, `FINAL`): those
of Montgomery and Shenzhen with their label, those of NIH ChestX-ray14 and of COVID-19 collections
as assumed negatives and for further tasks, children's for further tasks. Whole patients are dealt
out as in tools/build_models/films.py: of Montgomery and Shenzhen the training part trains, the
tune part chooses the thresholds, the calibration and the limits of the domain, and the test part is
only measured. Of the other sources the test part is left out of the training as well.

The network is then quantised to 8 bits, with the feature ranges that move the tune part's scores
least; all thresholds, the domain and all figures are those of the quantised model. `--network`
takes a network that was trained elsewhere by the same recipe in place of training one here; on two
CPU cores training takes a night.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks._lib.results import machine, record
from hilum import plugins, storage
from hilum.config import LungCrop
from hilum.inference import domain, lung_crop, pretrained
from hilum.inference.onnx_model import InputContract, OnnxModel
from hilum.statistics import bootstrap, calibration
from hilum.statistics.metrics import discrimination
from hilum.training import efficientnet_backbone, onnx_export
from tools.build_models import film_targets, multitask, tuberculosis_network
from tools.build_models.multitask import Recipe

OWN = ("montgomery", "shenzhen")
ABROAD = {"nih": ("nih-448", "nih-sample"), "covid": ("covid-448",), "children": ("kermany-448",)}
SIZE, SEED, STEPS = 192, 0, 400
FINAL = Recipe(negatives=0.5, style=0.6)
CALIBRATED_ON = 120  # training films that choose the ranges of features
MOST, LOSS = 4_300_000, 0.005  # bytes; AUROC lost by 8 bits
AGES = (15.0, 89.0)
SENSITIVITY, SPECIFICITY = 0.95, 0.90  # of the calls of the tune part, that the band aims at
INSIDE = 0.98  # of held-out own films within the limit of each detector


def load(folder: Path) -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
    """Return the facts, the lung crops and the crops of their masks, uint8 (n, SIZE, SIZE)."""
    facts = pl.read_parquet(folder / "facts.parquet")
    whole, lungs = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("whole", "lungs"))
    crops = np.zeros((facts.height, SIZE, SIZE), np.uint8)
    masks = np.zeros_like(crops)
    typical = typical_box(facts, lungs)
    known = facts.select("height", "width", "lung_quality")
    for row, (height, width, quality) in enumerate(known.iter_rows()):
        label = np.asarray(lungs[row])
        settings = LungCrop(size=SIZE)
        given: dict[str, Any] = {"quality": quality, "typical": typical, "size": (height, width)}
        cut = lung_crop.cut(np.asarray(whole[row]), label, settings, **given)
        crops[row] = cut.image
        mask = ((label > 0) * 255).astype(np.uint8)
        masks[row] = lung_crop.cut(mask, label, settings, **given).image > 127
    return facts, crops, masks


def typical_box(facts: pl.DataFrame, lungs: np.ndarray) -> dict[str, float]:
    """Return the mean box of the trusted lungs of the training part."""
    boxes = []
    for row in rows_of(facts, OWN, "train"):
        height, width, quality = facts.select("height", "width", "lung_quality").row(int(row))
        if crop := lung_crop.box(np.asarray(lungs[row]), LungCrop(), quality):
            boxes.append((crop, (height, width)))
    return lung_crop.typical_box(boxes)


def rows_of(facts: pl.DataFrame, sets: tuple[str, ...], part: str | None = None) -> np.ndarray:
    """Return the rows of some sets, of one part or of all."""
    wanted = facts["set"].is_in(list(sets))
    if part:
        wanted &= (facts["part"] == part).fill_null(False)
    return np.flatnonzero(wanted.to_numpy())


def training_rows(facts: pl.DataFrame) -> np.ndarray:
    """Return the rows that the shipped network is trained on."""
    others = facts["part"].fill_null("train") != "test"
    own = facts["set"].is_in(list(OWN))
    train = (facts["part"] == "train").fill_null(False)
    return np.flatnonzero(((own & train) | (~own & others)).to_numpy())


# ---------------------------------------------------------------------------- network


def trained(
    arguments: argparse.Namespace, facts: pl.DataFrame, crops: np.ndarray, masks: np.ndarray
) -> multitask.Network:
    """Return the network: read from a file, or trained here."""
    if arguments.network:
        state = storage_of_weights(arguments.network)
        return tuberculosis_network.network(state, FINAL)
    sources = facts["source"].to_list()
    names = sorted(set(sources))
    films = multitask.films(
        crops,
        masks,
        film_targets.targets(facts),
        np.array([names.index(one) for one in sources]),
        arguments.device,
    )
    backbone = efficientnet_backbone.Backbone()
    efficientnet_backbone.load_imagenet(backbone)

    def progress(step: int, loss: float) -> None:
        print(f"step {step} of {arguments.steps}, loss {loss:.3f}", flush=True)

    return multitask.fit(
        films,
        training_rows(facts),
        backbone.state_dict(),
        FINAL,
        steps=arguments.steps,
        seed=SEED,
        progress=progress,
    )


def storage_of_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a trained network's weights from an .npz file."""
    with np.load(path) as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


def quantised(
    network: multitask.Network,
    facts: pl.DataFrame,
    crops: np.ndarray,
    work: Path,
    metadata: dict[str, str],
) -> tuple[Path, Path, str]:
    """Return the float32 model, the one in 8 bits, and which feature ranges it took."""
    whole = work / "tuberculosis.float32.onnx"
    exported = tuberculosis_network.Exported(network)
    onnx_export.to_onnx(
        exported, whole, size=SIZE, outputs=tuberculosis_network.OUTPUTS, metadata=metadata
    )
    train, tune = rows_of(facts, OWN, "train"), rows_of(facts, OWN, "tune")
    shown = crops[train[:: max(1, len(train) // CALIBRATED_ON)]]
    expected = calibration.logit(scores(whole, crops[tune])[0])
    moved = {}
    for ranges in onnx_export.RANGES:
        path = work / f"tuberculosis.{ranges}.onnx"
        operators = onnx_export.QUANTISED_WITH_SUMS
        onnx_export.to_int8(whole, path, shown, operators=operators, ranges=ranges)
        found = calibration.logit(scores(path, crops[tune])[0])
        moved[ranges] = float(np.abs(found - expected).mean())
        print(f"{ranges}: log-odds moved by {moved[ranges]:.3f}", flush=True)
    best = min(moved, key=moved.__getitem__)
    return whole, work / f"tuberculosis.{best}.onnx", best


def scores(path: Path, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores (n,) and features (n, d) of crops."""
    model = OnnxModel(path)
    found = [model(one) for one in crops]
    return (
        np.array([one["score"][0] for one in found], np.float64),
        np.stack([one["features"] for one in found]),
    )


# ---------------------------------------------------------------------------- calls


def band(truth: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """Return the two thresholds between which there is no call, chosen on tune films.

    The narrowest band whose calls reach `SENSITIVITY` and `SPECIFICITY`; where none does, the one
    that lacks least.
    """
    edges = np.unique(score)
    best: tuple[tuple[float, float], tuple[float, float]] | None = None
    for absent_below in edges:
        for present_from in edges[edges >= absent_below]:
            called = (score < absent_below) | (score >= present_from)
            positive, negative = called & (truth == 1), called & (truth == 0)
            if not positive.any() or not negative.any():
                continue
            said = score >= present_from
            lacking = max(0.0, SENSITIVITY - said[positive].mean())
            lacking += max(0.0, SPECIFICITY - (~said[negative]).mean())
            key = (round(float(lacking), 4), 1 - float(called.mean()))
            if best is None or key < best[0]:
                best = key, (float(absent_below), float(present_from))
    assert best is not None  # both states are among the tune films
    return best[1]


def selective(
    truth: np.ndarray, score: np.ndarray, inside: np.ndarray, limits: tuple[float, float]
) -> dict[str, float]:
    """Return the coverage of calls, and their sensitivity and specificity."""
    present = score >= limits[1]
    called = inside & ((score < limits[0]) | present)
    return {
        "coverage": float(called.mean()),
        "sensitivity of calls": float(present[called & (truth == 1)].mean()),
        "specificity of calls": float((~present)[called & (truth == 0)].mean()),
    }


def interval(value: bootstrap.Interval | Any) -> str:
    """Format a bootstrap interval."""
    return f"{value.value:.3f} ({value.ci_low:.3f} to {value.ci_high:.3f})"


def main() -> None:
    """Parse the command line, make the model and record its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--network", type=Path, help="a trained network, .npz")
    arguments = parser.parse_args()
    make(arguments)


if __name__ == "__main__":
    main()
