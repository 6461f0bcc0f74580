"""Fit src/hilum/resources/anomaly.onnx: how unlike the site's usual films a lung region is.

    python -m tools.build_models.films --data ../shared/data --work FILMS
    python -m tools.build_models.fit_anomaly --films FILMS --work WORK --out src/hilum/resources

Features are means and spreads of the middle stages of EfficientNet-Lite0 with ImageNet weights, in
8 bits. What they say of a hospital is larger than what they say of disease: so each source's
features are first standardised by its own films, unlabelled, and a site's by its own
(`hilum calibrate`). In these a linear function separates films with any finding from films without
one (outlier exposure, Hendrycks et al. 2019, arXiv:1812.04606): NIH findings against "No Finding",
COVID and other pneumonias, pneumonia of children, tuberculosis of the clinics. Without a site's
file the films are standardised as those of an average source. benchmarks/accuracy/anomaly_sites.py
measures this, and others ways, on hospitals left out and diseases not shown.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import polars as pl
from onnx import TensorProto, helper, numpy_helper

from benchmarks._lib.frozen_features import SIZE, exported, middle_stages
from benchmarks._lib.lung_sets import dealt
from hilum import storage
from hilum.inference import domain, pretrained, site_scores
from hilum.inference.onnx_model import TRAINING_LIST, InputContract
from hilum.statistics import calibration
from hilum.training import onnx_export

STRENGTH = 0.3
FEWEST = 50  # films of a source and state that count fully
WEIGHTS = {"nih": 2.0, "covid": 0.3, "kermany": 0.5}  # NIH alone has films of many diseases
FOLDS = 5
SPECIFICITY = 0.95  # of the films without a finding, at the threshold
CALIBRATED_ON = 34  # every so many films choose the ranges of 8 bits
NAME = "anomaly"
NO_FINDING = "No Finding"
UNKNOWN = ("", "todo", "Unknown")


@dataclass(frozen=True)
class Films:
    """Features float64 (n, d); abnormal 1, 0 or nan unknown, (n,); and the facts of each film."""

    features: np.ndarray
    abnormal: np.ndarray
    facts: pl.DataFrame

    @property
    def source(self) -> np.ndarray:
        """The collection of each film."""
        return self.facts["source"].to_numpy()

    @property
    def fold(self) -> np.ndarray:
        """A fold by patient."""
        return dealt(self.facts["patient_id"].to_numpy(), FOLDS)


def read(folder: Path, work: Path, network: Path | None = None) -> Films:
    """Read what `tools.build_models.films` prepared, with features by `network`."""
    facts = pl.read_parquet(folder / "facts.parquet")
    features = middle_stages(folder, work, network).astype(np.float64)
    return Films(features, abnormality(facts), facts)


def abnormality(facts: pl.DataFrame) -> np.ndarray:
    """Return 1 for any finding, 0 for none, nan where it is not known."""
    states = []
    for stated in facts.select("tuberculosis", "pneumonia", "findings").iter_rows():
        tuberculosis, pneumonia, words = stated
        if tuberculosis is not None or pneumonia is not None:
            states.append(float(pneumonia if tuberculosis is None else tuberculosis))
        elif (words or "") in UNKNOWN:
            states.append(np.nan)
        else:
            states.append(float(words != NO_FINDING))
    return np.array(states)


def site_statistics(features: np.ndarray, overall: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and scale (d,) of a site's films; `overall` are the deviations of all films."""
    return features.mean(0), features.std(0) + site_scores.FAINT * overall


def by_site(
    films: Films, rows: Mapping[str, np.ndarray] | None = None, also: Sequence[np.ndarray] = ()
) -> np.ndarray:
    """Standardise each source by its own films, or by those `rows` of it that are given."""
    found, overall = np.empty_like(films.features), films.features.std(0)
    for one in np.unique(films.source):
        here = films.source == one
        chosen = (rows or {}).get(str(one), np.flatnonzero(here))
        mean, scale = site_statistics(films.features[chosen], overall)
        found[here] = (films.features[here] - mean) / scale
    return found


def importance(films: Films, rows: np.ndarray) -> np.ndarray:
    """Return weights (n,) of `rows`, 0 elsewhere: states count alike within a source."""
    weight = np.zeros(len(films.source))
    for one in np.unique(films.source[rows]):
        for state in (0.0, 1.0):
            here = rows[(films.source[rows] == one) & (films.abnormal[rows] == state)]
            if len(here):
                part = min(1.0, len(here) / FEWEST) * WEIGHTS.get(str(one), 1.0)
                weight[here] = part / len(here)
    return weight


def direction(
    x: np.ndarray, films: Films, rows: np.ndarray, strength: float = STRENGTH
) -> tuple[np.ndarray, float]:
    """Fit weights (d,) and bias to `rows` of the features x, (n, d): ridge regression."""
    weight = importance(films, rows)[rows]
    weight = weight / weight.sum()
    mean = weight @ x[rows]
    spread = np.sqrt(weight @ (x[rows] - mean) ** 2) + 1e-2
    scaled = (x[rows] - mean) / spread * np.sqrt(weight)[:, None]
    truth = films.abnormal[rows]
    gram = scaled.T @ scaled + strength * np.eye(x.shape[1])
    found = np.linalg.solve(gram, scaled.T @ (np.sqrt(weight) * (truth - weight @ truth)))
    return found / spread, -float((found / spread) @ mean)


def out_of_fold(
    x: np.ndarray, films: Films, rows: np.ndarray, strength: float = STRENGTH
) -> np.ndarray:
    """Compute scores (n,) of all films, each by a fit to `rows` of other patients."""
    found = np.empty(len(x))
    for number in range(FOLDS):
        weights, bias = direction(x, films, rows[films.fold[rows] != number], strength)
        found[films.fold == number] = x[films.fold == number] @ weights + bias
    return found


# ---------------------------------------------------------------------------- the file


def network(films: Path, work: Path) -> Path:
    """Write the network of the features in 8 bits into `work`, if it is not there."""
    path = work / "middle-stages.int8.onnx"
    if not path.exists():
        shown = np.load(films / "crops.npy", mmap_mode="r")[::CALIBRATED_ON]
        onnx_export.to_int8(
            exported(work),
            path,
            np.ascontiguousarray(shown),
            operators=onnx_export.QUANTISED_WITH_SUMS,
            ranges="Percentile",
        )
    return path


def write(films: Films, features: Path, to: Path, figures: Mapping[str, str]) -> None:
    """Fit to all films and write the model."""
    rows = np.flatnonzero(~np.isnan(films.abnormal))
    x, overall = by_site(films), films.features.std(0)
    weights, bias = direction(x, films, rows)
    scores = out_of_fold(x, films, rows)
    normal = scores[rows][films.abnormal[rows] == 0]
    threshold = float(np.quantile(normal, SPECIFICITY))
    fitted = calibration.to_json(threshold, films.abnormal[rows] > 0, _squeezed(scores[rows]))
    fitted = {**fitted, "threshold": threshold, "temperature": None, "isotonic": None}
    each = [
        site_statistics(films.features[films.source == one], overall)
        for one in np.unique(films.source)
    ]
    mean, scale = (np.mean([one[k] for one in each], 0) for k in (0, 1))
    adults = rows[films.source[rows] != "kermany"]
    held = films.fold[adults] == 0
    measured = [{"features": films.features[adults[part]]} for part in (~held, held)]
    model = _with_score(
        onnx.load(features), weights / scale, bias - float((weights / scale) @ mean)
    )
    tuberculosis = pretrained.PretrainedModel(pretrained.path("tuberculosis.onnx")).model.metadata
    counts = films.facts.group_by("source").len().sort("source").iter_rows()
    metadata = {
        "contract": asdict(InputContract(NAME, SIZE, "crop", "percentiles", ("score", "features"))),
        "card": {
            "title": "Unusual lung regions, the model that comes with Hilum",
            "licence": "Apache-2.0 (code and ImageNet weights); the linear function was fitted to "
            "the sets named under counts, whose terms hold for it",
            "source": "tools/build_models/fit_anomaly.py of Hilum",
            "counts": ", ".join(f"{source} {number}" for source, number in counts),
            "caveats": "Ranks films of adults by how unlike the site's usual films without a "
            "finding they are; it names no disease. It needs about 60 unlabelled films of the site "
            "(`hilum calibrate`): without them it ranks the hospital, not the disease. It "
            "must not be used to diagnose or to rule out. For research only. No medical device.",
        },
        "crop": tuberculosis["crop"],
        "calibration": {NAME: fitted},
        "population": {"age_years": [15, 90], "words": "adults of several hospitals"},
        "trained_on": {
            "images": len(rows),
            "sources": sorted(set(films.source.tolist())),
            TRAINING_LIST: sorted(films.facts["pixel_digest"].to_list()),
        },
        "figures": dict(figures),
        site_scores.METADATA: {
            "weights": weights.round(6).tolist(),
            "bias": round(bias, 6),
            "overall": overall.round(6).tolist(),
        },
    }
    if fitted_domain := domain.fit(*measured):
        metadata[domain.METADATA] = fitted_domain.as_json()
    texts = {key: storage.as_json(value) for key, value in metadata.items()}
    helper.set_model_props(model, texts)
    onnx.checker.check_model(model, full_check=True)
    storage.write_bytes(to, model.SerializeToString(deterministic=True))
    pretrained.PretrainedModel(to).model.contract  # noqa: B018 (raises where it lacks something)
    print(json.dumps({"bytes": to.stat().st_size, "threshold": threshold}))


def _squeezed(scores: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-4 * scores))


def _with_score(model: onnx.ModelProto, weights: np.ndarray, bias: float) -> onnx.ModelProto:
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(weights[:, None].astype(np.float32), "score_weights"),
            numpy_helper.from_array(np.array([bias], np.float32), "score_bias"),
        ]
    )
    model.graph.node.append(
        helper.make_node("Gemm", ["features", "score_weights", "score_bias"], ["score"])
    )
    model.graph.output.append(helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1]))
    return model


def main() -> None:
    """Parse the command line, fit and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write into")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    features = network(arguments.films, arguments.work)
    films = read(arguments.films, arguments.work, features)
    figures = {
        "a hospital and tuberculosis left out": "see benchmarks/results/accuracy.md, Anomaly model"
    }
    write(films, features, arguments.out / f"{NAME}.onnx", figures)


if __name__ == "__main__":
    main()
