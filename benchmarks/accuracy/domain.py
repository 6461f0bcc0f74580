"""Compare gates that tell a model's own films from those of hospitals it has not seen.

    python -m tools.build_models.films --data ../shared/data --work FILMS
    python -m benchmarks.accuracy.domain --films FILMS --work WORK

Own films are those of Montgomery and Shenzhen. Features are those of a frozen EfficientNet-Lite0 on
lung crops of 192 pixels: its pooled last features ("last"), mean and logarithm of the standard
deviation of the channels of its first five stages ("early"), grey levels, sharpness and noise of
the crop ("image"), or both of these (tools/build_models/gate_features.py). A gate is fitted to the
training and tune part. Its limit is the 97th percentile of distances from own films of other
patients (five folds of these parts), its false alarms are those of the test part.

Each gate has settings (`grid`). For each source that is reported, they are chosen by the mean AUROC
of the *other* unseen sources against own tune films, never by the one reported, and so is the best
gate of all (row "chosen"). "source classifier" is fitted against films of the other sources and is
the only one that sees any.

The probes say how a frozen network with a linear model of tuberculosis behaves abroad, and what
films of one source as further negatives change on another source and on new patients of their own.
"shortcut" is the fraction of variance of the probe's score that the source alone explains among
films without tuberculosis: with a source that is always negative it grows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression

from benchmarks._lib.lung_sets import dealt
from benchmarks._lib.results import machine, record
from hilum.config import LungCrop
from hilum.inference import lung_crop, pretrained
from hilum.statistics.metrics import discrimination

OWN = ("montgomery", "shenzhen")
UNSEEN = {
    "nih": ("nih-448", "nih-sample"),
    "covid": ("covid-448",),
    "children": ("kermany-448",),
}
SIZE, KEPT, FOLDS, SEED = 192, 0.97, 5, 0
Distance = Callable[[np.ndarray], np.ndarray]  # of features
Fit = Callable[[np.ndarray], np.ndarray]  # of rows that are fitted to: distances of all films


@dataclass(frozen=True)
class Films:
    """Facts and features of all films: features are float32 (n, d) by name."""

    facts: pl.DataFrame
    features: dict[str, np.ndarray]

    def rows(self, sets: tuple[str, ...], part: str | None = None) -> np.ndarray:
        """Return the rows of some sets, of one part or of all."""
        wanted = self.facts["set"].is_in(list(sets))
        if part is not None:
            wanted &= (self.facts["part"] == part).fill_null(False)
        return np.flatnonzero(wanted.to_numpy())

    def truth(self, rows: np.ndarray) -> np.ndarray:
        """Return whether tuberculosis is present, 0 where the source has no such label."""
        return self.facts["tuberculosis"].fill_null(0).to_numpy()[rows]


# ---------------------------------------------------------------------------- features


def load(folder: Path, work: Path) -> Films:
    """Read the films and compute their features, kept in `work`."""
    facts = pl.read_parquet(folder / "facts.parquet")
    kept = work / "frozen_features.npz"
    if not kept.exists():
        crops, _ = cropped(facts, folder, np.arange(facts.height))
        work.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **frozen(crops))
    with np.load(kept) as stored:
        return Films(facts, {name: stored[name] for name in stored.files})


def cropped(facts: pl.DataFrame, folder: Path, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lung crops of `SIZE` and those of their masks, uint8 (n, SIZE, SIZE).

    `facts` are those of `rows` of the arrays in the folder.
    """
    whole, lungs = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("whole", "lungs"))
    typical = {
        child: pretrained.PretrainedModel(pretrained.path(name)).typical
        for child, name in ((True, "pneumonia_child.onnx"), (False, "tuberculosis.onnx"))
    }
    crops = np.zeros((len(rows), SIZE, SIZE), np.uint8)
    masks = np.zeros_like(crops)
    known = facts.select("set", "height", "width", "lung_quality")
    for number, (name, height, width, quality) in enumerate(known.iter_rows()):
        label = np.asarray(lungs[rows[number]])
        for image, to in (
            (np.asarray(whole[rows[number]]), crops),
            (((label > 0) * 255).astype(np.uint8), masks),
        ):
            to[number] = lung_crop.cut(
                image,
                label,
                LungCrop(size=SIZE),
                quality=quality,
                typical=typical[name.startswith("kermany")],
                size=(height, width),
            ).image
    return crops, (masks > 127).astype(np.uint8)


def frozen(crops: np.ndarray, together: int = 32) -> dict[str, np.ndarray]:
    """Return the features of the ImageNet network and of the crops by name."""
    import torch

    from hilum.training import efficientnet_backbone
    from hilum.training.staged_features import early_statistics
    from tools.build_models import gate_features

    backbone = efficientnet_backbone.Backbone()
    efficientnet_backbone.load_imagenet(backbone)
    backbone.eval()
    found: dict[str, list[np.ndarray]] = {"last": [], "early": [], "image": []}
    with torch.no_grad():
        for start in range(0, len(crops), together):
            x = torch.from_numpy(crops[start : start + together]).float()[:, None] / 255
            stages = backbone.each_stage(x)
            found["last"].append(backbone.head(stages[-1]).mean((2, 3)).numpy())
            found["early"].append(early_statistics(stages).numpy())
            found["image"].append(gate_features.image_statistics(x).numpy())
    made = {name: np.concatenate(parts) for name, parts in found.items()}
    return {**made, "early and image": np.concatenate([made["early"], made["image"]], 1)}


# ---------------------------------------------------------------------------- gates


def standardised(own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of the columns."""
    return own.mean(0), own.std(0) + 1e-3 * own.std() + 1e-9


def residual(own: np.ndarray, components: int, *, inside: bool) -> Distance:
    """Return the distance from the subspace of some principal components of the training films.

    With `inside` the Mahalanobis distance within the subspace is added, each term divided by its
    mean among the training films.
    """
    mean, scale = standardised(own)
    z = (own - mean) / scale
    values, vectors = np.linalg.svd(z, full_matrices=False)[1:]
    basis = vectors[: min(components, len(vectors) - 1)]
    variance = values[: len(basis)] ** 2 / len(z)

    def parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = (x - mean) / scale
        inner = z @ basis.T
        return (z**2).sum(1) - (inner**2).sum(1), (inner**2 / variance).mean(1)

    typical = parts(own)[0].mean()

    def distance(x: np.ndarray) -> np.ndarray:
        outer, inner = parts(x)
        return outer / typical + inner * inside

    return distance


def mahalanobis(own: np.ndarray, components: int) -> Distance:
    """Return the Mahalanobis distance within some principal components."""
    mean, scale = standardised(own)
    z = (own - mean) / scale
    values, vectors = np.linalg.svd(z, full_matrices=False)[1:]
    basis = vectors[:components]
    variance = values[: len(basis)] ** 2 / len(z)
    return lambda x: ((((x - mean) / scale) @ basis.T) ** 2 / variance).mean(1)


def nearest(own: np.ndarray, neighbours: int) -> Distance:
    """Return the mean Euclidean distance to the nearest training films, of unit features."""
    mean, scale = standardised(own)

    def unit(x: np.ndarray) -> np.ndarray:
        z = (x - mean) / scale
        return z / (np.linalg.norm(z, axis=1, keepdims=True) + 1e-9)

    stored = unit(own)

    def distance(x: np.ndarray) -> np.ndarray:
        far = np.sqrt(np.maximum(2 - 2 * unit(x) @ stored.T, 0))
        return np.sort(far, axis=1)[:, :neighbours].mean(1)

    return distance


def disagreement(
    own: np.ndarray, truth: np.ndarray, members: int, rng: np.random.Generator
) -> Distance:
    """Return the spread of an ensemble of linear probes, each fitted to a resample."""
    mean, scale = standardised(own)
    fits = []
    for _ in range(members):
        rows = rng.integers(0, len(own), len(own))
        features = rng.permutation(own.shape[1])[: own.shape[1] // 2]
        model = LogisticRegression(C=0.01, max_iter=300)
        model.fit(((own - mean) / scale)[rows][:, features], truth[rows])
        fits.append((features, model))

    def distance(x: np.ndarray) -> np.ndarray:
        z = (x - mean) / scale
        return np.std([model.decision_function(z[:, some]) for some, model in fits], axis=0)

    return distance


def classifier(own: np.ndarray, others: np.ndarray, strength: float) -> Distance:
    """Return the log-odds of a film being of the other sources that are at hand."""
    mean, scale = standardised(np.concatenate([own, others]))
    model = LogisticRegression(C=strength, max_iter=300, class_weight="balanced")
    z = (np.concatenate([own, others]) - mean) / scale
    model.fit(z, np.repeat([0, 1], [len(own), len(others)]))
    return lambda x: model.decision_function((x - mean) / scale)


def grid(films: Films, known: np.ndarray) -> Iterator[tuple[str, str, Fit]]:
    """Yield each gate's name, its setting, and what fits it to rows and measures all films.

    `known` are the rows of unseen sources that the source classifier may be fitted to.
    """
    for name, x in films.features.items():
        for size in (8, 16, 32, 64, 128):
            if size < x.shape[1] // 2:
                words = f"{name}, {size} components"
                yield (
                    "PCA residual",
                    words,
                    _of(x, partial(residual, components=size, inside=False)),
                )
                joined = _of(x, partial(residual, components=size, inside=True))
                yield "residual + Mahalanobis", words, joined
                yield "Mahalanobis", words, _of(x, partial(mahalanobis, components=size))
        for count in (1, 5, 20):
            yield "kNN", f"{name}, {count} neighbours", _of(x, partial(nearest, neighbours=count))
        if name == "last":
            yield "ensemble disagreement", f"{name}, 12 probes", _probed(films, x)
        if len(known):
            for strength in (0.001, 0.1):
                fit = _of(x, partial(classifier, others=x[known], strength=strength))
                yield "source classifier", f"{name}, C {strength}", fit


def _of(x: np.ndarray, make: Callable[[np.ndarray], Distance]) -> Fit:
    return lambda rows: make(x[rows])(x)


def _probed(films: Films, x: np.ndarray) -> Fit:
    def fit(rows: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(SEED)
        return disagreement(x[rows], films.truth(rows), 12, rng)(x)

    return fit


def limit_of(films: Films, fit: Fit, rows: np.ndarray) -> float:
    """Return the distance below which `KEPT` of own films lie from films of other patients.

    The rows are dealt into folds by patient, and each fold is measured from the others.
    """
    fold = dealt(films.facts["patient_id"].to_numpy()[rows], FOLDS)
    crossed = np.empty(len(rows))
    for number in range(FOLDS):
        crossed[fold == number] = fit(rows[fold != number])[rows[fold == number]]
    return float(np.quantile(crossed, KEPT))


def separation(distance: np.ndarray, own: np.ndarray, unseen: np.ndarray) -> float:
    """Return the AUROC of unseen films against own films."""
    truth = np.repeat([0, 1], [len(own), len(unseen)])
    return discrimination.auroc(truth, distance[np.concatenate([own, unseen])])


def gates(films: Films) -> list[str]:
    """Return the table of gates, leave-one-source-out."""
    train, tune, test = (films.rows(OWN, part) for part in ("train", "tune", "test"))
    unseen = {name: films.rows(sets) for name, sets in UNSEEN.items()}
    lines = []
    for reported, rows in unseen.items():
        others = {name: found for name, found in unseen.items() if name != reported}
        best: dict[str, tuple[float, str, Fit]] = {}
        for gate, setting, fit, score in _candidates(films, train, tune, others):
            for name in (gate, "chosen"):
                if name not in best or score > best[name][0]:
                    words = f"{gate}: {setting}" if name == "chosen" else setting
                    best[name] = score, words, fit
        for gate, (_, setting, fit) in best.items():
            own = np.union1d(train, tune)
            limit, distance = limit_of(films, fit, own), fit(own)
            lines.append(
                f"| {reported} | {gate} | {setting} | {separation(distance, test, rows):.3f} | "
                f"{(distance[test] > limit).mean():.3f} | {(distance[rows] > limit).mean():.3f} |"
            )
    return lines


def _candidates(
    films: Films, train: np.ndarray, tune: np.ndarray, others: dict[str, np.ndarray]
) -> Iterator[tuple[str, str, Fit, float]]:
    """Yield each gate with its mean AUROC of the other sources against own tune films.

    The source classifier is judged on each of the others by a fit that leaves it out.
    """
    for gate, setting, fit in grid(films, np.array([], np.int64)):
        distance = fit(train)
        areas = [separation(distance, tune, found) for found in others.values()]
        yield gate, setting, fit, float(np.mean(areas))
    areas_of: dict[str, list[float]] = {}
    for name, found in others.items():
        known = np.concatenate([others[one] for one in others if one != name])
        for gate, setting, fit in grid(films, known):
            if gate == "source classifier":
                areas_of.setdefault(setting, []).append(separation(fit(train), tune, found))
    for gate, setting, fit in grid(films, np.concatenate(list(others.values()))):
        if gate == "source classifier":
            yield gate, setting, fit, float(np.mean(areas_of[setting]))


# ---------------------------------------------------------------------------- probes


def probe(x: np.ndarray, truth: np.ndarray, rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the logit of all films of a linear probe fitted to `rows`."""
    mean, scale = standardised(x[rows])
    z = (x - mean) / scale
    model = LogisticRegression(C=0.003, max_iter=500)
    model.fit(z[rows], truth[rows], sample_weight=weight[rows])
    return model.decision_function(z)


def probes(films: Films) -> list[str]:
    """Return the table of probes: what further negatives change at home and abroad."""
    x = films.features["last"]
    everything = np.arange(len(x))
    truth = films.truth(everything).astype(int)
    train, tune, test = (films.rows(OWN, part) for part in ("train", "tune", "test"))
    lines = []
    choices: dict[str, tuple[str, ...]] = {"none": (), "nih": ("nih",), "covid": ("covid",)}
    choices |= {"nih and covid": ("nih", "covid")}
    for words, names in choices.items():
        extra = [films.rows(UNSEEN[name], "train") for name in names]
        weight = np.ones(len(x))
        for rows in extra:
            weight[rows] = 0.5 * len(train) / len(rows) / len(extra)
        score = probe(x, truth, np.concatenate([train, *extra]), weight)
        threshold = float(np.quantile(score[tune][truth[tune] == 1], 0.1))
        cells = [
            f"{discrimination.auroc(truth[test], score[test]):.3f}",
            f"{(score[test][truth[test] == 0] >= threshold).mean():.3f}",
        ]
        for name, sets in UNSEEN.items():
            rows = films.rows(sets, "test") if name in names else films.rows(sets)
            said = f"{(score[rows] >= threshold).mean():.3f}"
            cells.append(f"({said})" if name in names else said)
        lines.append(f"| {words} | {' | '.join(cells)} | {shortcut(films, score):.2f} |")
    return lines


def shortcut(films: Films, score: np.ndarray) -> float:
    """Return the fraction of the score's variance that its source explains, without tuberculosis.

    Sources count equally.
    """
    groups = [films.rows(sets, "test") for sets in [(one,) for one in OWN] + list(UNSEEN.values())]
    groups = [rows for rows in groups if len(rows)]  # children come without a test part here
    groups = [rows[films.truth(rows) == 0] for rows in groups]
    means, spread = [score[rows].mean() for rows in groups], [score[rows].var() for rows in groups]
    return float(np.var(means) / (np.var(means) + np.mean(spread)))


def main() -> None:
    """Parse the command line, compute the tables and record them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    films = load(arguments.films, arguments.work)
    text = [
        f"`python -m benchmarks.accuracy.domain --films FILMS --work WORK` on "
        f"{machine('numpy', 'torch')}.",
        "Frozen EfficientNet-Lite0; limit: 97th percentile of distances between own films of "
        "different patients; settings chosen by the other sources.",
        "",
        "| unseen source | gate | settings | AUROC | false alarms | unseen films outside |",
        "| --- | --- | --- | --: | --: | --: |",
        *gates(films),
        "",
        "Linear probe of tuberculosis, threshold at sensitivity 0.9 in the tune part; called "
        "present, in brackets: other patients of a source that was trained on.",
        "",
        "| further negatives | in-set AUROC | in-set negatives | nih | covid | children "
        "| shortcut |",
        "| --- " + "| --: " * 6 + "|",
        *probes(films),
    ]
    print("\n".join(text))
    record("Domain: gates for unseen hospitals", "\n".join(text))


if __name__ == "__main__":
    main()
