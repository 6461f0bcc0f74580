"""Give the bundled tuberculosis model its domain and its no-call band, and measure its calls.

    python -m tools.build_models.films --data ../shared/data --work FILMS
    python -m tools.build_models.train_findings --data ../shared/data --out src/hilum/resources
        --work WORK --what tuberculosis
    OMP_NUM_THREADS=1 python -m tools.build_models.out_of_fold --films FILMS --work WORK
    python -m tools.build_models.finish_tuberculosis --films FILMS
        --folds WORK/out_of_fold.parquet --out src/hilum/resources

The network that tools/build_models/train_findings.py made is not trained again and its scores stay
the same to the bit. Its graph gets the output `features` (`gate_features`) in place of the one that
training gave it, its metadata

    domain       a subspace of the features of own training and tune films; the limit is the 96th
                 percentile of distances from own films of other patients (five folds). Features,
                 components and limit were chosen by leaving sources out (benchmarks/accuracy/
                 domain.py); no film of another source was used here
    calibration  further two thresholds, between which there is no call, chosen by
                 tools/build_models/no_call_band.py on all train and tune films, each scored by a
                 network of the same recipe that was not trained on its patient
    figures      calls out of fold, of the test part and on films of other sources; the last two
                 took part in no choice

Parts are those of tools/build_models/films.py, the same as the network was trained with.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import polars as pl

from benchmarks._lib.lung_sets import dealt
from benchmarks._lib.results import machine, record
from hilum import storage
from hilum.inference import domain
from hilum.inference.onnx_model import OnnxModel
from hilum.statistics import bootstrap, subspace
from hilum.statistics.metrics import discrimination
from hilum.training import onnx_export
from tools.build_models import gate_features, no_call_band

NAME = "tuberculosis"
OWN = ("montgomery", "shenzhen")
ABROAD = {"nih": ("nih-448", "nih-sample"), "covid": ("covid-448",), "children": ("kermany-448",)}
INSIDE = 0.96  # of own films within the limit of the domain
COMPONENTS, FOLDS = 32, 5  # of the domain; folds by patient that its limit comes from
MOST = 4_100_000  # bytes
PROCESSED = (
    "The films that it was trained on were shrunk to 256 pixels, cropped and changed in contrast "
    "by others: its domain takes films without such processing for those of another hospital."
)
CHOSEN_BY = (
    "features and components by leaving one of NIH, COVID-19 and children's films out and taking "
    "what separates the others best; limit: 96th percentile of distances from own films of other "
    "patients"
)


def rows_of(facts: pl.DataFrame, sets: tuple[str, ...], part: str | None = None) -> np.ndarray:
    """Return the rows of some sets, of one part or of all."""
    wanted = facts["set"].is_in(list(sets))
    if part:
        wanted &= (facts["part"] == part).fill_null(False)
    return np.flatnonzero(wanted.to_numpy())


def evaluated(model: OnnxModel, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores (n,) and the features (n, d) of crops, uint8 (n, size, size)."""
    found = [model.many(np.asarray(crops[at : at + 8])) for at in range(0, len(crops), 8)]
    return (
        np.concatenate([one["score"][:, 0] for one in found]).astype(np.float64),
        np.concatenate([one[domain.OUTPUT] for one in found]).astype(np.float64),
    )


def fitted_domain(features: np.ndarray, patients: np.ndarray) -> domain.Domain:
    """Fit the domain to own films, its quantiles and limit to distances between patients."""
    fold, distances = dealt(patients, FOLDS), np.empty(len(features))
    for number in range(FOLDS):
        rest = subspace.fit(features[fold != number], COMPONENTS)
        distances[fold == number] = rest.distances(features[fold == number])
    of = subspace.fit(features, COMPONENTS)
    stored = replace(
        of,
        mean=of.mean.astype(np.float32).astype(np.float64),
        scale=of.scale.astype(np.float32).astype(np.float64),
        components=of.components.astype(np.float16).astype(np.float64),
    )
    quantiles = np.quantile(distances, domain.LEVELS / 100)
    limit = float(np.quantile(distances, INSIDE))
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


def described(
    facts: pl.DataFrame,
    score: np.ndarray,
    distance: np.ndarray,
    limit: float,
    thresholds: tuple[float, float],
) -> dict[str, str]:
    """Return the figures of the file, in words."""
    truth = facts["tuberculosis"].fill_null(0).to_numpy().astype(int)
    patients, inside = facts["patient_id"].to_numpy(), distance <= limit
    test = rows_of(facts, OWN, "test")
    held = Scored(truth[test], score[test], inside[test], patients[test])
    head = f"held out, {len(test)} images of {len(set(patients[test]))} patients"
    figures = {f"{head}, {name}": text for name, text in held.in_words(thresholds).items()}
    for name, sets in ABROAD.items():
        rows = rows_of(facts, sets)
        present = inside[rows] & (score[rows] >= thresholds[1])
        called = present | (inside[rows] & (score[rows] < thresholds[0]))
        area = discrimination.auroc(
            np.repeat([0, 1], [len(test), len(rows)]), distance[np.concatenate([test, rows])]
        )
        figures[f"{name}, {len(rows)} images, none known to have it, none used"] = (
            f"{present.mean():.3f} called present, {called.mean():.3f} with a call; "
            f"AUROC of the domain {area:.3f}"
        )
    return figures


def main() -> None:
    """Tap the graph, fit domain and band, write the model and record its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument(
        "--folds", type=Path, required=True, help="what tools/build_models/out_of_fold.py wrote"
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder of the model")
    arguments = parser.parse_args()
    facts = pl.read_parquet(arguments.films / "facts.parquet")
    crops = np.load(arguments.films / "crops.npy", mmap_mode="r")
    place = arguments.out / f"{NAME}.onnx"
    model, metadata = onnx.load(place), dict(OnnxModel(place).metadata)
    contract = metadata["contract"]
    kept = [name for name in contract["outputs"] if name != domain.OUTPUT]
    model = gate_features.retapped(model, kept, contract["size"])
    contract["outputs"] = [*kept, domain.OUTPUT]
    metadata.pop(domain.METADATA, None)
    onnx_export.write(model, place, _texts(metadata))
    score, features = evaluated(OnnxModel(place), crops)
    own = np.union1d(rows_of(facts, OWN, "train"), rows_of(facts, OWN, "tune"))
    gate = fitted_domain(features[own], facts["patient_id"].to_numpy()[own])
    detector = gate.detectors[domain.FEATURES]
    distance = detector.subspace.distances(features)
    held_out = no_call_band.read(arguments.folds, facts[own])
    tune = (facts["part"][own] == "tune").to_numpy()
    thresholds = held_out.thresholds_of(score[own], tune)
    metadata["calibration"][NAME] |= {"absent_below": thresholds[0], "present_from": thresholds[1]}
    calls = {
        **held_out.in_words(),
        **described(facts, score, distance, detector.limit, thresholds),
    }
    metadata["figures"] |= calls
    if PROCESSED not in metadata["card"]["caveats"]:
        metadata["card"]["caveats"] += f" {PROCESSED}"
    metadata[domain.METADATA] = {**gate.as_json(), "chosen_by": CHOSEN_BY}
    onnx_export.write(model, place, _texts(metadata))
    if place.stat().st_size > MOST:
        raise SystemExit(f"{place} has {place.stat().st_size} bytes, more than {MOST}")
    lines = [
        "`python -m tools.build_models.finish_tuberculosis --films FILMS "
        "--folds WORK/out_of_fold.parquet --out src/hilum/resources` "
        f"on {machine('numpy', 'onnxruntime')}. "
        f"{place.stat().st_size / 1e6:.2f} MB.",
        "",
        "| what | figure |",
        "| --- | --- |",
        *(f"| {name} | {text} |" for name, text in calls.items()),
    ]
    print(json.dumps({**calls, **metadata["calibration"][NAME]}, indent=1))
    record("The bundled tuberculosis model: domain and calls", "\n".join(lines))


def _texts(metadata: dict[str, object]) -> dict[str, str]:
    return {name: storage.as_json(value) for name, value in metadata.items()}


if __name__ == "__main__":
    main()
