"""The anomaly model that comes with Hilum, at a hospital and for a disease that it has not seen.

    python -m tools.build_models.films --data ../shared/data --work FILMS
    python -m benchmarks.accuracy.anomaly_sites --films FILMS --work WORK

Montgomery and Shenzhen in turn are left out, and tuberculosis altogether: the fit sees no
tuberculous film of the other clinic either. AUROC of tuberculosis at the left-out hospital, and "is
it the other hospital": AUROC of its normal films against those of a source fitted to, scored out of
fold; 0.5 where the score does not tell hospitals apart, and what is below is no advantage. Ways:

    density             Mahalanobis distance from normal films (64 components and residual)
    findings            films with any finding against those without one, features as they are
    equalised           the same of crops whose grey levels were ranked (intensity standardisation)
    directions removed  the same without the directions in which sources' normal films differ
    site                features standardised by each source's own films, unlabelled; of the
                        left-out hospital all films, or 20, 60 or 120 drawn at random (20 draws)

The strength of the ridge is that with the best mean AUROC for any finding at NIH and COVID left
out in turn; tuberculosis chooses nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks._lib.results import machine, record
from hilum.statistics import bootstrap, subspace
from hilum.statistics.metrics.discrimination import auroc
from tools.build_models.fit_anomaly import (
    STRENGTH,
    Films,
    by_site,
    direction,
    network,
    out_of_fold,
    read,
)

CLINICS = {"montgomery": "shenzhen", "shenzhen": "montgomery"}
STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0)
DRAWN, DRAWS = (20, 60, 120), 20
COMPONENTS = 64
Scores = tuple[np.ndarray, np.ndarray]  # of all films, and out of fold


def learnable(films: Films, left_out: str) -> np.ndarray:
    """Return the rows to fit to: no film of the hospital, and no tuberculous one."""
    tuberculous = films.facts["tuberculosis"].fill_null(0).to_numpy() == 1
    known = ~np.isnan(films.abnormal)
    return np.flatnonzero(known & ~tuberculous & (films.source != left_out))


def separated(x: np.ndarray, films: Films, left_out: str, strength: float = STRENGTH) -> Scores:
    """Score by the direction from films without a finding to films with one."""
    rows = learnable(films, left_out)
    weights, bias = direction(x, films, rows, strength)
    return x @ weights + bias, out_of_fold(x, films, rows, strength)


def density(x: np.ndarray, films: Films, left_out: str) -> Scores:
    """Score by the distance from normal films of adults."""
    rows = learnable(films, left_out)
    normal = rows[(films.abnormal[rows] == 0) & (films.source[rows] != "kermany")]
    inner = np.empty(len(x))
    for number in np.unique(films.fold):
        fitted = subspace.fit(x[normal[films.fold[normal] != number]], COMPONENTS, whitened=True)
        inner[films.fold == number] = fitted.distances(x[films.fold == number])
    return subspace.fit(x[normal], COMPONENTS, whitened=True).distances(x), inner


def without_directions(films: Films, left_out: str) -> np.ndarray:
    """Remove the directions between the mean normal films of the sources that are fitted to."""
    scaled = films.features / (films.features.std(0) + 1e-3)
    normal = films.abnormal == 0
    means = np.stack(
        [
            scaled[normal & (films.source == one)].mean(0)
            for one in np.unique(films.source)
            if one != left_out
        ]
    )
    axes = np.linalg.svd(means - means.mean(0), full_matrices=False)[2][: len(means) - 1]
    return scaled - (scaled @ axes.T) @ axes


def figures(films: Films, left_out: str, scores: Scores) -> tuple[float, float, float]:
    """Return AUROC of tuberculosis, and of the hospital against the other clinic's and NIH."""
    (applied, inner), here = scores, films.source == left_out
    ill = films.abnormal
    known = here & ~np.isnan(ill)
    normal = applied[here & (ill == 0)]
    others = []
    for source in (CLINICS[left_out], "nih"):
        own = inner[(films.source == source) & (ill == 0)]
        is_other = np.repeat([True, False], [len(normal), len(own)])
        others.append(float(auroc(is_other, np.concatenate([normal, own]))))
    return float(auroc(ill[known] == 1, applied[known])), others[0], others[1]


def with_interval(films: Films, left_out: str, applied: np.ndarray) -> str:
    """Return the AUROC of tuberculosis with its interval over patients."""
    rows = np.flatnonzero((films.source == left_out) & ~np.isnan(films.abnormal))
    truth, score = films.abnormal[rows] == 1, applied[rows]
    patients = films.facts["patient_id"].to_numpy()[rows]
    found = bootstrap.bootstrap_patients(
        lambda some: auroc(truth[some], score[some]), patients, seed=0
    )
    return f"{found.value:.3f} ({found.ci_low:.3f} to {found.ci_high:.3f})"


def ways(films: Films, equalised: Films) -> dict[str, Callable[[str], Scores]]:
    """Return what scores all films with a hospital left out, by name."""
    x = by_site(films)
    return {
        "density": lambda out: density(films.features, films, out),
        "density, site": lambda out: density(x, films, out),
        "findings": lambda out: separated(films.features, films, out),
        "findings, equalised": lambda out: separated(equalised.features, films, out),
        "findings, directions removed": lambda out: separated(
            without_directions(films, out), films, out
        ),
        "**findings, site: all films**": lambda out: separated(x, films, out),
    }


def drawn(
    films: Films, left_out: str, count: int, *, normal: bool = False
) -> list[tuple[float, float, float]]:
    """Return the figures of DRAWS draws of `count` films of the left-out hospital.

    Unlabelled ones, of which about half are tuberculous there, or `normal` ones alone.
    """
    eligible = films.abnormal == 0 if normal else np.ones(len(films.source), bool)
    here, found = np.flatnonzero((films.source == left_out) & eligible), []
    for seed in range(DRAWS):
        some = np.random.default_rng(seed).permutation(here)[:count]
        x = by_site(films, {left_out: some})
        found.append(figures(films, left_out, separated(x, films, left_out)))
    return found


def strengths(films: Films) -> Iterator[str]:
    """Yield how the strengths rank any finding at sources left out that are not reported on."""
    x = by_site(films)
    for strength in STRENGTHS:
        found = []
        for out in ("nih", "covid"):
            rows = learnable(films, out)
            weights, bias = direction(x, films, rows, strength)
            known = (films.source == out) & ~np.isnan(films.abnormal)
            found.append(auroc(films.abnormal[known] == 1, x[known] @ weights + bias))
        yield f"| {strength} | {found[0]:.3f} | {found[1]:.3f} | {np.mean(found):.3f} |"


def tables(films: Films, equalised: Films) -> Iterator[str]:
    """Yield the lines of the record."""
    yield (
        "| fitted without | way | AUROC (tuberculosis) "
        "| is it the other hospital: against the other clinic | against NIH |"
    )
    yield "| --- | --- | --- | --: | --: |"
    for out in CLINICS:
        for name, way in ways(films, equalised).items():
            scores = way(out)
            _, *others = figures(films, out, scores)
            cells = f"{with_interval(films, out, scores[0])} | {others[0]:.3f} | {others[1]:.3f}"
            yield f"| {out} | {name} | {cells} |"
        for count in DRAWN:
            found = np.array(drawn(films, out, count))
            mean, low = found.mean(0), found[:, 0].min()
            cells = f"{mean[0]:.3f} (worst draw {low:.3f}) | {mean[1]:.3f} | {mean[2]:.3f}"
            yield f"| {out} | findings, site: {count} films | {cells} |"
        found = np.array(drawn(films, out, 60, normal=True))
        mean, low = found.mean(0), found[:, 0].min()
        cells = f"{mean[0]:.3f} (worst draw {low:.3f}) | {mean[1]:.3f} | {mean[2]:.3f}"
        yield f"| {out} | findings, site: 60 films, all normal | {cells} |"
    yield ""
    yield "| strength | any finding, NIH left out | COVID left out | mean |"
    yield "| --- | --: | --: | --: |"
    yield from strengths(films)


def ranked(folder: Path, to: Path) -> None:
    """Write the crops of a folder of films with their grey levels ranked, to a folder like it."""
    to.mkdir(parents=True, exist_ok=True)
    crops = np.load(folder / "crops.npy", mmap_mode="r")
    found = []
    for crop in crops:
        counts = np.bincount(crop.ravel(), minlength=256).astype(np.float64)
        counts[0] = 0  # what lies beside the letterboxed crop
        ranks = (np.cumsum(counts) - counts / 2) / max(counts.sum(), 1)
        table = np.clip(ranks * 255, 1, 255).astype(np.uint8)
        table[0] = 0
        found.append(table[crop])
    np.save(to / "crops.npy", np.stack(found))
    (to / "facts.parquet").write_bytes((folder / "facts.parquet").read_bytes())


def main() -> None:
    """Parse the command line, measure and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    path = network(arguments.films, arguments.work)
    films = read(arguments.films, arguments.work, path)
    if not (arguments.work / "ranked" / "facts.parquet").exists():
        ranked(arguments.films, arguments.work / "ranked")
    (arguments.work / "ranked" / "work").mkdir(exist_ok=True)
    equalised = read(arguments.work / "ranked", arguments.work / "ranked" / "work", path)
    lines = list(tables(films, replace(equalised, facts=films.facts)))
    command = "`python -m benchmarks.accuracy.anomaly_sites --films FILMS --work WORK`"
    text = "\n".join([f"{command} on {machine('numpy', 'onnxruntime')}.", "", *lines])
    print(text)
    record("Anomaly model: a hospital and tuberculosis left out", text)


if __name__ == "__main__":
    main()
