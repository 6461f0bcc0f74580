"""A baseline of the 14 labels of NIH ChestX-ray14, on the small part of it that is at hand.

    python -m tools.build_models.films --data ../shared/data --work FILMS
    python -m benchmarks.accuracy.nih_labels --films FILMS --work WORK

1,577 films of nih-448 and nih-sample, five folds by patient, out of fold. Features are means and
spreads of the middle stages of a frozen EfficientNet-Lite0, as model `linear_probe` takes them, of
the lung crop; the labels are linear in them (ridge), or in a Gaussian kernel of them. The strength
is chosen within the training folds, by five folds of their patients. Macro is the mean of the 14
AUROCs, micro the AUROC of all label-film pairs as one list, which mostly ranks labels by how
frequent they are. Intervals: bootstrap over patients.

The learning curve is of the same test folds, fitted to a fraction of the training patients. The
set is no random sample of NIH (500 films without a finding and 500 of pneumonia were chosen by
others), so figures are not comparable with those of the official test part of 25,596 films; the
recipe for that is in docs/how-to/nih-baseline.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks._lib.frozen_features import middle_stages
from benchmarks._lib.lung_sets import dealt
from benchmarks._lib.results import machine, record
from hilum.dataset.readers.nih14 import FINDINGS
from hilum.statistics import bootstrap
from hilum.statistics.metrics.discrimination import auroc

FOLDS, SEED = 5, 0
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
FRACTIONS = (0.125, 0.25, 0.5, 1.0)
WIDTH = 2.0  # of the Gaussian kernel, in root mean squared distances
Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def linear(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return scalar products per feature."""
    return rows @ others.T / rows.shape[1]


def gaussian(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return a Gaussian of the mean squared difference."""
    lengths = (rows**2).sum(1)[:, None] + (others**2).sum(1)[None]
    apart = np.maximum(lengths - 2 * rows @ others.T, 0) / rows.shape[1]
    return np.exp(-apart / WIDTH)


KERNELS: dict[str, Kernel] = {"linear": linear, "Gaussian kernel": gaussian}


def fitted(
    features: np.ndarray, labels: np.ndarray, learn: np.ndarray, test: np.ndarray, kernel: Kernel
) -> Callable[[float], np.ndarray]:
    """Return the scores (test, 14) of a ridge regression of the rows `learn` by its strength."""
    mean, spread = features[learn].mean(0), features[learn].std(0) + 1e-2
    x, y = (features[learn] - mean) / spread, labels[learn]
    gram, across = kernel(x, x), kernel((features[test] - mean) / spread, x)

    def scores(strength: float) -> np.ndarray:
        shifted = gram + strength * np.eye(len(learn))
        return across @ np.linalg.solve(shifted, y - y.mean(0)) + y.mean(0)

    return scores


def chosen_strength(
    features: np.ndarray,
    labels: np.ndarray,
    patients: np.ndarray,
    learn: np.ndarray,
    kernel: Kernel,
) -> float:
    """Choose the strength with the best macro AUROC in five folds within `learn`."""
    fold = dealt(patients[learn], FOLDS, SEED + 1)
    found = {strength: np.zeros((len(learn), labels.shape[1])) for strength in STRENGTHS}
    for number in range(FOLDS):
        inner, held = learn[fold != number], learn[fold == number]
        scores = fitted(features, labels, inner, held, kernel)
        for strength in STRENGTHS:
            found[strength][fold == number] = scores(strength)
    return max(STRENGTHS, key=lambda strength: macro(labels[learn], found[strength]))


def out_of_fold(
    features: np.ndarray,
    labels: np.ndarray,
    patients: np.ndarray,
    kernel: Kernel,
    fraction: float = 1.0,
) -> np.ndarray:
    """Compute scores (n, 14), each by a fit to `fraction` of the other folds' patients."""
    fold, found = dealt(patients, FOLDS, SEED), np.zeros(labels.shape)
    for number in range(FOLDS):
        learn = np.flatnonzero(fold != number)
        some = np.random.default_rng(number).permutation(np.unique(patients[learn]))
        learn = learn[np.isin(patients[learn], some[: round(fraction * len(some))])]
        strength = chosen_strength(features, labels, patients, learn, kernel)
        held = np.flatnonzero(fold == number)
        found[held] = fitted(features, labels, learn, held, kernel)(strength)
    return found


def macro(labels: np.ndarray, scores: np.ndarray) -> float:
    """Compute the mean AUROC over the labels that have both states."""
    each = [auroc(labels[:, k] > 0, scores[:, k]) for k in range(labels.shape[1])]
    return float(np.nanmean(each))


def micro(labels: np.ndarray, scores: np.ndarray) -> float:
    """Compute the AUROC of all label-film pairs as one list."""
    return float(auroc(labels.ravel() > 0, scores.ravel()))


def interval(metric: Callable[[np.ndarray], float], patients: np.ndarray) -> str:
    """Return a figure with its interval over patients."""
    found = bootstrap.bootstrap_patients(metric, patients, resamples=300, seed=SEED)
    return f"{found.value:.3f} ({found.ci_low:.3f} to {found.ci_high:.3f})"


def main() -> None:
    """Parse the command line, measure and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    facts = pl.read_parquet(arguments.films / "facts.parquet").with_row_index("row")
    nih = facts.filter(pl.col("source") == "nih")
    features = middle_stages(arguments.films, arguments.work)[nih["row"].to_numpy()]
    named = [set((words or "").split("|")) for words in nih["findings"]]
    labels = np.array([[name in words for name in FINDINGS] for words in named], np.float64)
    patients = nih["patient_id"].to_numpy()
    scores = {
        name: out_of_fold(features, labels, patients, kernel) for name, kernel in KERNELS.items()
    }
    lines = [f"| label | films with it | {' | '.join(scores)} |", "| --- | --: | --- | --- |"]
    for k, name in enumerate(FINDINGS):
        cells = [
            interval(lambda some, k=k, one=one: auroc(labels[some, k] > 0, one[some, k]), patients)
            for one in scores.values()
        ]
        lines.append(f"| {name} | {int(labels[:, k].sum())} | {' | '.join(cells)} |")
    for title, metric in (("macro", macro), ("micro", micro)):
        cells = [
            interval(lambda some, one=one, m=metric: m(labels[some], one[some]), patients)
            for one in scores.values()
        ]
        lines.append(f"| **{title}** | | {' | '.join(cells)} |")
    lines += [
        "",
        "| fraction of the training patients | macro AUROC, Gaussian kernel |",
        "| --- | --: |",
    ]
    for fraction in FRACTIONS[:-1]:
        found = out_of_fold(features, labels, patients, gaussian, fraction)
        lines.append(f"| {fraction:.1%} | {macro(labels, found):.3f} |")
    lines.append(f"| 100 % | {macro(labels, scores['Gaussian kernel']):.3f} |")
    command = "`python -m benchmarks.accuracy.nih_labels --films FILMS --work WORK`"
    head = f"{command} on {machine('numpy', 'onnxruntime')}."
    about = f"{len(labels)} films of {len(set(patients))} patients, {FOLDS} folds by patient."
    text = "\n".join([head, "", about, "", *lines])
    print(text)
    record("NIH ChestX-ray14: a baseline of the 14 labels on a small part", text)


if __name__ == "__main__":
    main()
