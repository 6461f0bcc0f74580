"""What 60 local images buy: how many of a site's others get a call, and is the promise kept?

    python -m tools.build_models.films --data ../shared/data --work FILMS
    python -m benchmarks.accuracy.local_calibration --films FILMS

For each set that the bundled tuberculosis model was not trained on, 100 times: 60 of its patients
are drawn, one image each, and calibrated on as `hilum calibrate` does; the images of all other
patients are then classified within that site. Counted are

    before    images that get a call without calibration, within the model's own domain
    after     images that get a call with it
    kept      draws in which the false positive rate of the other images is at most the promised one
    present   images called present, which are all false: see below

None of these sets is known to hold tuberculosis (NIH does not label it, and of the COVID images
those labelled with it are left out), so every image counts as one without it, and nothing can be
said of the sensitivity at these sites. Where a few are in truth with it, the promise is harder to
keep, not easier. Children's images (Kermany) are outside the model's population and left out.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks._lib.results import machine, record
from hilum.inference import calls, domain, pretrained
from hilum.inference.domain import Domain
from hilum.runs.calibrate_site import INSIDE
from hilum.statistics import risk_control

SETS = ("nih-448", "covid-448")
LOCAL, DRAWS, SEED = 60, 100, 0
RATE, CONFIDENCE = 0.1, 0.95
FIELDS = ("called", "present")  # of a draw
OLDEST_CHILD = 15.0  # years; the model's people are older


@dataclass(frozen=True)
class Films:
    """One set's images as the model sees them, (n, ...) each."""

    patients: np.ndarray
    scores: np.ndarray
    rows: dict[str, np.ndarray]
    called: np.ndarray  # bool: gets a call by the model alone
    present: np.ndarray  # bool: called present by it


@dataclass(frozen=True)
class Draw:
    """Fractions of the images that were not drawn."""

    called: float
    present: float


def load(folder: Path, name: str, model: pretrained.PretrainedModel) -> Films:
    """Return the images of a set that `hilum classify` would not refuse, without tuberculosis."""
    facts = pl.read_parquet(folder / "facts.parquet").with_row_index("row")
    kept = facts.filter(
        (pl.col("set") == name)
        & (pl.col("lung_quality") >= model.crop.min_mask_quality)
        & (pl.col("age_years").is_null() | (pl.col("age_years") >= OLDEST_CHILD))
        & (pl.col("tuberculosis").is_null() | (pl.col("tuberculosis") == 0))
        & ~pl.col("findings").fill_null("").str.to_lowercase().str.contains("tuberculosis")
    )
    crops = np.load(folder / "crops.npy", mmap_mode="r")
    outputs = [model.model(np.asarray(crops[row])) for row in kept["row"]]
    features = None
    if domain.OUTPUT in outputs[0]:
        features = np.stack([one[domain.OUTPUT] for one in outputs])
    pixels = np.stack([np.asarray(crops[row]) for row in kept["row"]])
    placed = [model.model.place(*pair) for pair in zip(pixels, outputs, strict=True)]
    scores = [float(np.atleast_1d(one["score"])[0]) for one in outputs]
    (concept,) = model.concepts
    decided = [
        calls.decide(model.name, concept, score, model.calibration[concept], reasons=[one.reason])
        for score, one in zip(scores, placed, strict=True)
    ]
    return Films(
        kept["patient_id"].to_numpy(),
        np.array(scores),
        domain.measurements(pixels, features),
        np.array([one.call is not None for one in decided]),
        np.array([one.call == calls.PRESENT for one in decided]),
    )


def inside_of(own: Domain, rows: dict[str, np.ndarray]) -> np.ndarray:
    """Return which images a domain places inside, bool (n,)."""
    return np.all(
        [one.subspace.distances(rows[name]) <= one.limit for name, one in own.detectors.items()],
        axis=0,
    )


def draw(films: Films, rng: np.random.Generator, local: int) -> Draw:
    """Calibrate on one image of each of `local` patients, and classify all other patients'."""
    names = rng.permutation(np.unique(films.patients))[:local]
    first = [int(rng.choice(np.flatnonzero(films.patients == name))) for name in names]
    others = ~np.isin(films.patients, names)
    few = {name: values[first] for name, values in films.rows.items()}
    crossed = domain.crossed_distances(few, np.arange(local) % 5)
    own = domain.fit_crossed(few, crossed, inside=INSIDE)
    chosen = risk_control.guaranteed_threshold(films.scores[first], RATE, CONFIDENCE)
    if own is None or chosen is None:
        raise ValueError(f"{local} images are too few to calibrate on")
    called = inside_of(own, {name: values[others] for name, values in films.rows.items()})
    present = called & (films.scores[others] >= chosen.threshold)
    return Draw(float(called.mean()), float(present.mean()))


def foreign(films: Films, other: Films, rng: np.random.Generator, local: int) -> float:
    """Return the fraction of another set's images that a site's domain places inside."""
    first = rng.permutation(len(films.scores))[:local]
    few = {name: values[first] for name, values in films.rows.items()}
    own = domain.fit_crossed(
        few, domain.crossed_distances(few, np.arange(local) % 5), inside=INSIDE
    )
    return float(inside_of(own, other.rows).mean()) if own else float("nan")


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=pretrained.path("tuberculosis.onnx"))
    parser.add_argument("--local", type=int, default=LOCAL)
    arguments = parser.parse_args()
    model = pretrained.PretrainedModel(arguments.model)
    every = {name: load(arguments.films, name, model) for name in SETS}
    lines = [
        "| set | images | call before | present before | call after | present after "
        "| promise kept | images of the other set inside |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, films in every.items():
        rng = np.random.default_rng(SEED)
        draws = [draw(films, rng, arguments.local) for _ in range(DRAWS)]
        after, present = (np.array([getattr(one, key) for one in draws]) for key in FIELDS)
        (other,) = (one for key, one in every.items() if key != name)
        elsewhere = [foreign(films, other, rng, arguments.local) for _ in range(10)]
        lines.append(
            f"| {name} | {len(films.scores)} | {films.called.mean():.3f} | "
            f"{films.present.mean():.3f} | {after.mean():.2f} "
            f"({np.quantile(after, 0.05):.2f} to {np.quantile(after, 0.95):.2f}) | "
            f"{present.mean():.3f} | {(present <= RATE).sum()} of {DRAWS} | "
            f"{np.mean(elsewhere):.2f} |"
        )
    text = "\n".join(
        [
            f"{arguments.local} images of a site, false positive rate at most {RATE:.0%} with "
            f"{CONFIDENCE:.0%} confidence, {DRAWS} draws; model {model.name} {model.digest}. No "
            f"image is known to show tuberculosis, so the sensitivity is not measured.",
            "",
            *lines,
            "",
            machine("numpy", "onnxruntime"),
        ]
    )
    print(text)
    record("Local calibration of the tuberculosis model", text)


if __name__ == "__main__":
    main()
