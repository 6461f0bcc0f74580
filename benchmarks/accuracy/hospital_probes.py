"""Compare linear probes of tuberculosis across hospitals, with and without a nuisance direction.

    python -m tools.build_models.films --data ../shared/data --work FILMS
    python -m tools.build_models.pneumonia_backbone --films FILMS/kermany224
        --out WORK/pneumonia_backbone.pt
    python -m benchmarks.accuracy.hospital_probes --films FILMS --work WORK
        --start WORK/pneumonia_backbone.pt

Features are those of a frozen EfficientNet-Lite0 (stages 2 to 5, lung crops of 192 pixels): mean
and standard deviation of each channel over the whole crop ("whole") or over the lungs ("lung"), and
with "all" also its maximum in the lungs, the absolute difference between the right and the left
lung, and the upper half; each averaged over the crop and its mirror image. Intensities are as
given, or of three kinds side by side (tools/build_models/multitask.py). "pneumonia" are features of
the same network after children's pneumonia (tools/build_models/pneumonia_backbone.py), intensities
as given; "four" are these and the three. A probe is fitted to one hospital and tested on the other.

"nuisance out" removes one direction from the standardised features before the fit: the first along
which the means of the hospital's own films without tuberculosis, of NIH and of COVID-19 films
differ. It takes no label of these and no film of the hospital that is tested.

A fifth of the patients of the fitted hospital chooses strength and threshold (Youden). The recipe
for one direction is chosen by the AUROC of the other direction, so never by the films that it is
reported on. "mean of all" is the mean score of all recipes, in units of their tuning films'
deviation: nothing is chosen. "mean, with lungs" leaves out the recipes with "whole" alone, which
was decided with the results in view. "site threshold" takes the tested hospital's unlabelled films:
the scores are shifted and scaled to the mean and deviation of the fitted hospital's tuning films
before they meet its threshold.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression

from benchmarks._lib.results import machine, record
from hilum.statistics import bootstrap
from hilum.statistics.metrics import discrimination

HOSPITALS = ("shenzhen", "montgomery")
OTHERS = {"nih-448": 400, "covid-448": 150}  # films of each, drawn at random
STAGES = (2, 3, 4, 5)
KINDS = ("whole", "lung", "max", "asym", "top")
POOLED = {"whole": ("whole",), "whole and lung": ("whole", "lung"), "all": KINDS}
PNEUMONIA = "pneumonia"
THREE = ("as given", "equalised", "local")
KEPT = {
    "as given": THREE[:1],
    "three": THREE,
    PNEUMONIA: (PNEUMONIA,),
    "four": (*THREE, PNEUMONIA),
}
STRENGTHS = (3e-4, 1e-3, 3e-3)
SEED = 0


class Probe(NamedTuple):
    """A probe's recipe; `nuisance` is whether the nuisance direction is removed."""

    intensities: str
    pooled: str
    nuisance: bool

    @property
    def words(self) -> str:
        """Return the recipe for a table."""
        out = "nuisance out" if self.nuisance else "as it is"
        return f"{self.intensities}, {self.pooled}, {out}"


# ---------------------------------------------------------------------------- features


def load(folder: Path, work: Path, start: Path) -> tuple[pl.DataFrame, dict[str, np.ndarray]]:
    """Return the facts of the films that take part and their features by name, kept in `work`."""
    facts = pl.read_parquet(folder / "facts.parquet")
    kept = work / "pooled_features.npz"
    if not kept.exists():
        work.mkdir(parents=True, exist_ok=True)
        sets, rng = facts["set"].to_numpy(), np.random.default_rng(SEED)
        drawn = [
            np.sort(rng.permutation(np.flatnonzero(sets == name))[:count])
            for name, count in OTHERS.items()
        ]
        rows = np.concatenate([np.flatnonzero(np.isin(sets, HOSPITALS)), *drawn])
        np.savez(kept, rows=rows, **pooled(facts, folder, rows, start))
    with np.load(kept) as stored:
        found = {name: stored[name] for name in stored.files}
    return facts[found.pop("rows").tolist()], found


def pooled(
    facts: pl.DataFrame, folder: Path, rows: np.ndarray, start: Path
) -> dict[str, np.ndarray]:
    """Return the features float32 (n, d) by "intensity|stage|kind"."""
    import torch

    from benchmarks.accuracy.domain import cropped
    from hilum.training import efficientnet_backbone
    from tools.build_models import multitask, pneumonia_backbone

    some = facts[rows.tolist()]
    crops, lungs = cropped(some, folder, rows)
    backbone = efficientnet_backbone.Backbone()
    efficientnet_backbone.load_imagenet(backbone)
    after = pneumonia_backbone.network(1).features
    after.load_state_dict(torch.load(start, weights_only=True))
    networks = {intensity: (backbone.eval(), intensity) for intensity in multitask.INTENSITIES}
    networks[PNEUMONIA] = after.eval(), THREE[0]
    found: dict[str, list[np.ndarray]] = {}
    with torch.no_grad():
        for kept, (network, intensity) in networks.items():
            for at in range(0, len(rows), 16):
                x = torch.from_numpy(crops[at : at + 16]).float()[:, None] / 255
                mask = torch.from_numpy(lungs[at : at + 16]).float()[:, None]
                x = multitask.standardised(x, intensity)
                mirrored = network.each_stage(x.flip(3))
                stages = network.each_stage(x)
                for number in STAGES:
                    both = _kinds(stages[number - 1], mask)
                    for kind, values in _kinds(mirrored[number - 1], mask.flip(3)).items():
                        name = f"{kept}|{number}|{kind}"
                        found.setdefault(name, []).append(((both[kind] + values) / 2).numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _kinds(stage, mask):  # type: ignore[no-untyped-def]  # tensors; torch is imported late
    """Return what `KINDS` names of one stage, (n, channels or twice as many) each."""
    import torch
    from torch.nn import functional as F

    side = stage.shape[2]
    lung = F.adaptive_avg_pool2d(mask, side)

    def moments(weight):  # type: ignore[no-untyped-def]
        """Return mean and standard deviation under a weight."""
        total = weight.sum((2, 3), keepdim=True) + 1e-4
        mean = (stage * weight).sum((2, 3), keepdim=True) / total
        square = ((stage - mean) ** 2 * weight).sum((2, 3)) / total[:, :, 0, 0]
        return torch.cat([mean[:, :, 0, 0], (square + 1e-4).sqrt()], 1)

    columns = torch.arange(side)
    first = lung * (columns < side // 2)
    second = lung * (columns >= side // 2)
    top = lung * (columns < side // 2)[:, None]
    return {
        "whole": moments(torch.ones_like(lung)),
        "lung": moments(lung),
        "max": (stage - 1e3 * (lung < 0.5).float()).amax((2, 3)),
        "asym": (moments(first) - moments(second)).abs(),
        "top": moments(top),
    }


# ---------------------------------------------------------------------------- probes


def fitted(
    x: np.ndarray, truth: np.ndarray, rows: np.ndarray, nuisance: list[np.ndarray], strength: float
) -> np.ndarray:
    """Return the logit of all rows of a probe fitted to `rows`.

    `nuisance` are groups of rows whose means span the direction that is removed; [] removes none.
    """
    z = (x - x[rows].mean(0)) / (x[rows].std(0) + 1e-3)
    if nuisance:
        means = np.stack([z[group].mean(0) for group in nuisance])
        direction = np.linalg.svd(means - means.mean(0), full_matrices=False)[2][0]
        z = z - np.outer(z @ direction, direction)
    # With fewer rows than columns the same solution lies in the span of the rows.
    values, vectors = np.linalg.eigh(z[rows] @ z[rows].T)
    kept = values > 1e-6 * values[-1]
    z = z @ (z[rows].T @ (vectors[:, kept] / np.sqrt(values[kept])))
    model = LogisticRegression(C=strength, max_iter=300, class_weight="balanced")
    return model.fit(z[rows], truth[rows]).decision_function(z)


def parted(facts: pl.DataFrame, hospital: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a hospital that fit, and those that choose strength and threshold."""
    sets, parts = facts["set"].to_numpy(), facts["part"].fill_null("").to_numpy()
    half = np.array([crc32(patient.encode()) % 2 for patient in facts["patient_id"]])
    tune = (parts == "tune") | ((parts == "test") & (half == 1))
    own = (sets == hospital) & (parts != "")
    return np.flatnonzero(own & ~tune), np.flatnonzero(own & tune)


def table(facts: pl.DataFrame, features: dict[str, np.ndarray]) -> Iterator[str]:
    """Yield the rows of the table, and the recipes chosen by the other direction."""
    sets, truth = facts["set"].to_numpy(), facts["tuberculosis"].fill_null(-1).to_numpy()
    known = facts["part"].is_not_null().to_numpy()
    area: dict[tuple[str, Probe], float] = {}
    scores: dict[Probe, np.ndarray] = {}
    for source, target in (HOSPITALS, HOSPITALS[::-1]):
        fit, tune = parted(facts, source)
        test = np.flatnonzero((sets == target) & known)
        groups = [fit[truth[fit] == 0], *(np.flatnonzero(sets == name) for name in OTHERS)]
        for probe in (Probe(*settings) for settings in product(KEPT, POOLED, (False, True))):
            parts_of = product(KEPT[probe.intensities], STAGES, POOLED[probe.pooled])
            names = [f"{intensities}|{stage}|{part}" for intensities, stage, part in parts_of]
            x = np.concatenate([features[name] for name in names], 1)
            found = [fitted(x, truth, fit, groups if probe.nuisance else [], c) for c in STRENGTHS]
            score = max(found, key=lambda one: discrimination.auroc(truth[tune], one[tune]))
            yield _line(f"{source} -> {target} | {probe.words}", truth, score, tune, test, facts)
            scores[probe] = score / score[tune].std()
            area[source, probe] = discrimination.auroc(truth[test], score[test])
        lungs = [one for probe, one in scores.items() if probe.pooled != "whole"]
        for words, some in (("mean of all", list(scores.values())), ("mean, with lungs", lungs)):
            score = np.mean(some, axis=0)
            yield _line(f"{source} -> {target} | {words}", truth, score, tune, test, facts)
    for source, target in (HOSPITALS, HOSPITALS[::-1]):
        others = {probe: value for (one, probe), value in area.items() if one == target}
        best = max(others, key=others.__getitem__)
        yield (
            f"| {source} -> {target} | chosen by the other direction: {best.words} | | "
            f"{area[source, best]:.3f} | | |"
        )


def _line(
    head: str,
    truth: np.ndarray,
    score: np.ndarray,
    tune: np.ndarray,
    test: np.ndarray,
    facts: pl.DataFrame,
) -> str:
    """Return one row of the table."""
    threshold = discrimination.youden_threshold(truth[tune], score[tune])
    of = bootstrap.bootstrap_patients(
        lambda some: discrimination.auroc(truth[test][some], score[test][some]),
        facts["patient_id"].to_numpy()[test],
    )
    moved = (score[test] - score[test].mean()) / score[test].std()
    moved = moved * score[tune].std() + score[tune].mean()
    cells = [
        f"{discrimination.sensitivity(truth[test], one, threshold):.3f} / "
        f"{discrimination.specificity(truth[test], one, threshold):.3f}"
        for one in (score[test], moved)
    ]
    return (
        f"| {head} | {discrimination.auroc(truth[tune], score[tune]):.3f} | "
        f"{of.value:.3f} ({of.ci_low:.3f} to {of.ci_high:.3f}) | {' | '.join(cells)} |"
    )


def main() -> None:
    """Parse the command line, compute the table and record it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--start", type=Path, required=True, help="the file of pneumonia_backbone.py"
    )
    arguments = parser.parse_args()
    facts, features = load(arguments.films, arguments.work, arguments.start)
    lines = list(table(facts, features))
    text = [
        f"`python -m benchmarks.accuracy.hospital_probes --films FILMS --work WORK --start "
        f"WORK/pneumonia_backbone.pt` on {machine('numpy', 'torch')}.",
        "",
        "| fitted and tested | intensities, features, nuisance | tune AUROC | AUROC | sensitivity "
        "/ specificity, carried | the same, site threshold |",
        "| --- | --- " + "| --: " * 4 + "|",
        *lines,
    ]
    print("\n".join(text))
    record("Tuberculosis across hospitals: probes", "\n".join(text))


if __name__ == "__main__":
    main()
