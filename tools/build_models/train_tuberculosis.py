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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks._lib.lung_sets import dealt
from hilum import plugins, storage
from hilum.config import LungCrop
from hilum.inference import domain, lung_crop
from hilum.inference.onnx_model import InputContract, OnnxModel
from hilum.statistics import bootstrap, calibration, subspace
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
TRAINED_ON = ("nih", "covid")  # sources abroad whose test part alone is new to the network
INSIDE = 0.97  # of own films within the limit of the domain
COMPONENTS, FOLDS = 32, 5  # of the domain; folds by patient that its limit comes from
PEOPLE = "adults and youths of one clinic in the USA and one hospital in China"
CAVEATS = (
    "Its positive films are fewer than 350 of two places, about half of whose people had "
    "tuberculosis and the others were called normal: it has not learned to tell tuberculosis from "
    "other diseases of the lung, nor old from active disease. The films were shrunk to 256 pixels, "
    "cropped and changed in contrast by others, and the domain takes films without such processing "
    "for those of another hospital, where it gives no call without local calibration. It must not "
    "be used to screen, to diagnose, to rule out, or on children. For research only. No medical "
    "device."
)
CHOSEN_BY = (
    "features, subspace and number of components by leaving one of NIH, COVID-19 and children's "
    "films out and taking what separates the others best (benchmarks/accuracy/domain.py); the limit "
    "as the 97th percentile of distances from own films of other patients"
)


def load(folder: Path) -> tuple[pl.DataFrame, np.ndarray, np.ndarray, dict[str, float]]:
    """Return the facts, the lung crops and those of their masks, uint8 (n, SIZE, SIZE), and the
    typical box.
    """
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
    return facts, crops, masks, typical


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
    that lacks least. Thresholds lie half way between two scores.
    """
    ordered = np.unique(score)
    edges = np.concatenate([[ordered[0] / 2], (ordered[:-1] + ordered[1:]) / 2])
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


def fitted_domain(features: np.ndarray, patients: np.ndarray, whole: np.ndarray) -> domain.Domain:
    """Fit the domain to own training and tune films.

    Quantiles and limit are those of distances from films of other patients: the rows are dealt into
    `FOLDS`, and each fold is measured from the others.
    """
    fold = dealt(patients, FOLDS)
    distances = np.empty(len(features))
    for number in range(FOLDS):
        rest = subspace.fit(features[fold != number], COMPONENTS)
        distances[fold == number] = rest.distances(features[fold == number])
    limit = float(np.quantile(distances, INSIDE))
    of = subspace.fit(features, COMPONENTS)
    stored = replace(
        of,
        mean=of.mean.astype(np.float32).astype(np.float64),
        scale=of.scale.astype(np.float32).astype(np.float64),
        components=of.components.astype(np.float16).astype(np.float64),
    )
    quantiles = np.quantile(distances, np.arange(101) / 100)
    return domain.Domain({domain.FEATURES: domain.Detector(stored, quantiles, limit)})


@dataclass(frozen=True)
class Scored:
    """Scores and truth of some films, and whether they lie inside the domain, (n,) each."""

    truth: np.ndarray
    score: np.ndarray
    inside: np.ndarray
    patients: np.ndarray

    def figures(self, limits: tuple[float, float], rows: np.ndarray) -> dict[str, float]:
        """Return the figures of a selection of rows; nan where one is undefined."""
        truth, score, inside = self.truth[rows], self.score[rows], self.inside[rows]
        present = score >= limits[1]
        called = inside & ((score < limits[0]) | present)
        ill, well = called & (truth == 1), called & (truth == 0)
        return {
            "auroc": discrimination.auroc(truth, score),
            "coverage of calls": float(called.mean()),
            "sensitivity of calls": float(present[ill].mean()) if ill.any() else float("nan"),
            "specificity of calls": float((~present)[well].mean()) if well.any() else float("nan"),
            "inside the domain": float(inside.mean()),
        }

    def in_words(self, limits: tuple[float, float]) -> dict[str, str]:
        """Return each figure with its interval over patients."""
        names = self.figures(limits, np.arange(len(self.score)))
        found = {}
        for name in names:
            of = bootstrap.bootstrap_patients(
                lambda rows, name=name: self.figures(limits, rows)[name], self.patients
            )
            found[name] = f"{of.value:.3f} ({of.ci_low:.3f} to {of.ci_high:.3f})"
        return found


def described(facts: pl.DataFrame, typical: dict[str, float]) -> dict[str, Any]:
    """Return what the file carries besides what is measured on it."""
    module = plugins.load("models", "efficientnet_lite0")
    rows = training_rows(facts)
    tune = rows_of(facts, OWN, "tune")
    used = facts[np.union1d(rows, tune).tolist()]
    own = [plugins.load("readers", name).CARD for name in OWN]
    counts = ", ".join(
        f"{part} {len(found)} ({int(facts['tuberculosis'][found.tolist()].sum())} with it)"
        for part in ("train", "tune", "test")
        if len(found := rows_of(facts, OWN, part))
    )
    others = len(rows) - len(rows_of(facts, OWN, "train"))
    card = replace(
        module.CARD,
        title="Tuberculosis in frontal chest radiographs of adults, bundled with Hilum",
        counts=f"{counts}; {others} films of other sources as assumed negatives",
        caveats=CAVEATS,
        source="tools/build_models/train_tuberculosis.py of Hilum, ImageNet weights first. "
        + "; ".join(f"{one.title}: {one.licence}" for one in own)
        + "; NIH ChestX-ray14; COVID-19 image data collection (licences differ by image, many "
        "CC BY-NC-SA); children's films of Kermany et al., CC BY 4.0",
        licence="Apache-2.0 (code and ImageNet weights); these weights were trained on the sets "
        "named under source, whose terms hold for them: non-commercial research. The lungs were "
        "found by a model for non-commercial research.",
    )
    contract = InputContract(
        module.TASK, SIZE, "crop", "percentiles", tuberculosis_network.OUTPUTS, ("tuberculosis",)
    )
    recipe = {**asdict(FINAL), "steps": STEPS, "seed": SEED}
    return {
        "contract": asdict(contract),
        "card": {**asdict(card), "recipe": json.dumps(recipe, sort_keys=True)},
        "crop": {
            "pixels": 256,
            "margin": LungCrop().margin,
            "masked": False,
            "min_mask_quality": LungCrop().min_mask_quality,
            "typical": typical,
        },
        "population": {"age_years": list(AGES), "words": PEOPLE},
        "trained_on": {
            "images": len(rows),
            "sources": list(OWN),
            "pixels": sorted(used["pixel_digest"]),
        },
    }


def make(arguments: argparse.Namespace) -> None:
    """Make the model, and record what was measured."""
    arguments.work.mkdir(parents=True, exist_ok=True)
    facts, crops, masks, typical = load(arguments.films)
    metadata = described(facts, typical)
    network = trained(arguments, facts, crops, masks)
    whole, best, ranges = quantised(network, facts, crops, arguments.work, texts(metadata))
    own = facts["part"].is_not_null().to_numpy() & facts["set"].is_in(list(OWN)).to_numpy()
    measured = np.flatnonzero(own | ~facts["set"].is_in(list(OWN)).to_numpy())
    score, features = np.full(facts.height, np.nan), np.zeros((facts.height, 0))
    score[measured], found = scores(best, crops[measured])
    features = np.zeros((facts.height, found.shape[1]), found.dtype)
    features[measured] = found
    tune, test = rows_of(facts, OWN, "tune"), rows_of(facts, OWN, "test")
    fitted = np.union1d(rows_of(facts, OWN, "train"), tune)
    gate = fitted_domain(features[fitted], facts["patient_id"].to_numpy()[fitted])
    inside = np.zeros(facts.height, bool)
    gate_of = gate.detectors[domain.FEATURES]
    inside[measured] = gate_of.subspace.distances(features[measured]) <= gate_of.limit
    truth = facts["tuberculosis"].fill_null(0).to_numpy().astype(int)
    patients = facts["patient_id"].to_numpy()
    limits = band(truth[tune], score[tune])
    fits = calibration.to_json(limits[1], truth[tune], score[tune])
    fits |= {"absent_below": limits[0], "present_from": limits[1]}
    held = Scored(truth[test], score[test], inside[test], patients[test])
    figures = {
        f"held out, {len(test)} images, {name}": text
        for name, text in held.in_words(limits).items()
    }
    abroad = {}
    for name, sets in ABROAD.items():
        rows = rows_of(facts, sets, "test") if name in TRAINED_ON else rows_of(facts, sets)
        called = inside[rows] & (score[rows] >= limits[1])
        said = inside[rows] & ((score[rows] >= limits[1]) | (score[rows] < limits[0]))
        abroad[name] = f"{called.mean():.3f} called present, {said.mean():.3f} with a call"
        figures[f"{name}, {len(rows)} images, none known to have it"] = abroad[name]
    expected = discrimination.auroc(truth[test], scores(whole, crops[test])[0])
    after = discrimination.auroc(truth[test], score[test])
    figures["AUROC of the same network in float32"] = f"{expected:.4f}, in 8 bits {after:.4f}"
    extra = {
        "calibration": {"tuberculosis": fits},
        "figures": figures,
        "domain": {**gate.as_json(), "chosen_by": CHOSEN_BY},
    }
    place = arguments.to / "tuberculosis.onnx"
    if expected - after > LOSS:
        raise SystemExit(f"in 8 bits AUROC {after:.4f}, in float32 {expected:.4f}: nothing written")
    onnx_export.describe(best, place, texts({**metadata, **extra}))
    if place.stat().st_size > MOST:
        raise SystemExit(f"{place} has {place.stat().st_size} bytes, at most {MOST} are allowed")
    print(json.dumps({**figures, **fits}, indent=1), flush=True)


def texts(metadata: dict[str, Any]) -> dict[str, str]:
    """Return metadata as the texts that a file holds."""
    return {key: storage.as_json(value) for key, value in metadata.items()}


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
