"""Fit the rule that estimates the quality of a lung mask without a reference mask
(hilum.inference.lung_finder), and measure it.

    python -m tools.build_models.fit_mask_quality --data FOLDER
    makes its own run of montgomery/ and shenzhen/, then measures
    python -m tools.build_models.fit_mask_quality --run runs/both
    uses a finished `hilum segment` of any data with masks
    python -m tools.build_models.fit_mask_quality --run runs/both --write
    src/hilum/resources/mask_quality.json       and writes the rule, fitted on all

Every mask is found by a model that has not seen its patient: images of the training part by their
fold's, the others by the whole part's. Each image is evaluated as it is and made hard in HARD ways
drawn at random (cut, blurred, wrongly exposed, noisy, covered, rotated, inverted), its drawn mask
changed with it; of images of other things (other_images.py) whatever is found is wrong, Dice 0. The
rule is fitted and measured by cross-validation over the split's groups: an image and all that was
made of it are in one fold. It is fitted to the Dice itself, by cross-entropy, with weights that are
not negative; images as they are weigh as much as all others together.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import polars as pl
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import spearmanr

from benchmarks._lib.results import machine, record
from hilum import storage
from hilum.config import Data, Recipe, Segment
from hilum.imaging.geometry import Letterbox, Size, content_box
from hilum.inference import lung_finder
from hilum.inference.onnx_model import OnnxModel
from hilum.pipeline import cache, segment
from hilum.run_folder import Run
from hilum.runs import run_all
from hilum.statistics.metrics.discrimination import auroc
from hilum.statistics.metrics.overlap import dice
from tools.build_models.other_images import FAMILIES

SEED, FOLDS, HARD = 5, 5, 3
GOOD = 0.9  # a Dice below is a mask to be found out
RIDGE = 1e-3
LEAST_SPREAD = 0.01  # reference masks have no holes, found ones may have a few pixels
FRAMED = {
    "area": 0.4
}  # these sets are cut close to the chest; small children are often shown with their arms
PLAIN, NON_CHEST = "as they are", "other things"


class Case(NamedTuple):
    """Hold one evaluated image."""

    kind: str
    group: str
    dice: float
    fractions: dict[str, float]  # empty where no lung was found
    shape: dict[str, float] | None


# -------------------------------------------------------------------------------------- hard images

Hard = Callable[
    [np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]
]  # of a square image and its bool mask


def cut(
    image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    side = image.shape[0]
    size = int(side * rng.uniform(0.35, 0.8))
    top, left = rng.integers(0, side - size, 2)
    parts = [one[top : top + size, left : left + size] for one in (image, mask.astype(np.uint8))]
    return (
        cv2.resize(parts[0], (side, side)),
        cv2.resize(parts[1], (side, side), interpolation=cv2.INTER_NEAREST) > 0,
    )


def blurred(
    image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    return cv2.GaussianBlur(image, (0, 0), image.shape[0] * rng.uniform(0.005, 0.05)), mask


def exposed(
    image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    gamma = np.exp(rng.uniform(1, 2.2) * rng.choice([-1, 1]))
    return (np.clip((image / 255) ** gamma * rng.uniform(0.8, 1.6), 0, 1) * 255).astype(
        np.uint8
    ), mask


def noisy(
    image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.clip(image + rng.normal(0, rng.uniform(15, 80), image.shape), 0, 255).astype(np.uint8),
        mask,
    )


def covered(
    image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a white or black rectangle over part of it, as a collimator's edge or an opaque lung;
    what is drawn stays.
    """
    side, made = image.shape[0], image.copy()
    height, width = (int(side * fraction) for fraction in rng.uniform(0.2, 0.6, 2))
    top, left = rng.integers(0, side - height), rng.integers(0, side - width)
    made[top : top + height, left : left + width] = rng.choice([0, 30, 200, 255])
    return made, mask


def rotated(
    image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    side = image.shape[0]
    degrees = (
        rng.choice([90, 180, 270])
        if rng.random() < 0.4
        else rng.uniform(15, 60) * rng.choice([-1, 1])
    )
    move = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), float(degrees), 1)
    return (
        cv2.warpAffine(image, move, (side, side)),
        cv2.warpAffine(mask.astype(np.uint8), move, (side, side), flags=cv2.INTER_NEAREST) > 0,
    )


def inverted(
    image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    return 255 - image, mask


HARDER: dict[str, Hard] = {
    one.__name__: one for one in (cut, blurred, exposed, noisy, covered, rotated, inverted)
}


# -------------------------------------------------------------------------------------------- cases


def cases(
    run: Run, recipe: Recipe, limit: int | None
) -> tuple[list[Case], dict[str, tuple[float, float]]]:
    """Return the cases, and mean and spread of the parts of the reference masks' shapes."""
    rng = np.random.default_rng(SEED)
    radiographs, table = (
        cache.opened(run, recipe),
        storage.read_table(run / "split.parquet").select("image_id", "group"),
    )
    sizes = radiographs.with_mask.select("image_id", "height", "width")
    found = (
        storage.read_table(run / segment.INDEX)
        .join(table, on="image_id")
        .join(sizes, on="image_id")
        .sort("image_id")
    )
    found = found.sample(min(limit or found.height, found.height), seed=SEED)
    models = {
        name: OnnxModel(run / "segment" / f"{name}.onnx") for name in found["model"].unique().sort()
    }
    reported, shapes = [], []
    for number, row in enumerate(found.iter_rows(named=True)):
        place, size = radiographs.rows([row["image_id"]])[0], (row["height"], row["width"])
        image, drawn = radiographs.images[place], radiographs.masks[place]
        shapes.append(lung_finder.shape(drawn, drawn, Letterbox(size, radiographs.size).inside()))
        for kind, made, mask, of in variants(number, image, drawn > 0, size, rng):
            reported.append(ask(kind, row["group"], made, mask, of, models[row["model"]]))
        if number % 100 == 0:
            print(f"{number} of {found.height} images", flush=True)
    parts = pl.DataFrame([one for one in shapes if one])
    return reported, {
        name: (parts[name].mean(), max(parts[name].std(), FRAMED.get(name, LEAST_SPREAD)))
        for name in lung_finder.SHAPES
    }


def variants(
    number: int, image: np.ndarray, mask: np.ndarray, size: Size, rng: np.random.Generator
) -> Iterator[tuple[str, np.ndarray, np.ndarray, Size]]:
    """Yield kind, image, drawn mask and size of the file: the image as it is, made hard, and for
    every fourth another thing.
    """
    yield PLAIN, image, mask, size
    for name in rng.choice(list(HARDER), HARD, replace=False):
        yield name, *HARDER[name](*square(image, mask, size), rng), (1, 1)
    if number % 4 == 0:
        family = list(FAMILIES)[number // 4 % len(FAMILIES)]
        other = np.ascontiguousarray(FAMILIES[family](bare(image, size), rng))
        yield NON_CHEST, cv2.resize(other, image.shape[::-1]), np.zeros(image.shape, bool), (1, 1)


def square(
    image: np.ndarray, mask: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return images without the letterbox's border, stretched to a square: hard images
    fill theirs.
    """
    inside, side = Letterbox(size, image.shape[0]).inside(), image.shape[0]
    parts = [np.ascontiguousarray(one[inside]) for one in (image, mask.astype(np.uint8))]
    return (
        cv2.resize(parts[0], (side, side)),
        cv2.resize(parts[1], (side, side), interpolation=cv2.INTER_NEAREST) > 0,
    )


def bare(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    inside = image[Letterbox(size, image.shape[0]).inside()]
    return inside[content_box(inside)]


def ask(
    kind: str, group: str, image: np.ndarray, drawn: np.ndarray, size: Size, model: OnnxModel
) -> Case:
    labels, _, fractions, shape = lung_finder.segment_with_tta(model, image, size)
    true = float(dice(drawn, labels > 0)) if drawn.any() else 0.0
    return Case(kind, group, true, fractions, shape)


# ------------------------------------------------------------------------------------------ the fit


def inputs(some: list[Case], shapes: dict[str, tuple[float, float]]) -> np.ndarray:
    """Return the signs, float64 (n, signs), of cases in which some lung was found. What 99 in 100
    plain images stay below is the most that counts.
    """
    signs = [
        {**one.fractions, "shape": -np.log1p(lung_finder.distance(one.shape, shapes))}
        for one in some
    ]
    x = np.array([list(lung_finder.inputs(one).values()) for one in signs])
    return np.minimum(x, np.quantile(x[[one.kind == PLAIN for one in some]], 0.99, axis=0))


def fit(x: np.ndarray, dices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return a weight of each sign, and the bias."""
    columns = np.column_stack([x, np.ones(len(x))])

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = columns @ w
        value = (weights * (np.logaddexp(0, z) - dices * z)).sum() + RIDGE * (w[:-1] ** 2).sum()
        return value, columns.T @ (weights * (expit(z) - dices)) + 2 * RIDGE * np.append(w[:-1], 0)

    bounds = [(0, None)] * x.shape[1] + [(None, None)]
    return minimize(
        loss, np.append(np.full(x.shape[1], 0.1), 0.0), jac=True, bounds=bounds, method="L-BFGS-B"
    ).x


def weights(some: list[Case]) -> np.ndarray:
    plain = np.array([one.kind == PLAIN for one in some])
    return np.where(plain, 0.5 / max(plain.sum(), 1), 0.5 / max((~plain).sum(), 1))


def crossed(
    some: list[Case], shapes: dict[str, tuple[float, float]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return estimates of each case by a rule fitted without its group, and the inputs; without
    lungs an estimate of 0 and no inputs (nan).
    """
    found = np.array([bool(one.fractions) for one in some])
    x = np.full((len(some), len(lung_finder.SIGNS)), np.nan)
    x[found] = inputs([one for one in some if one.fractions], shapes)
    fold = np.array([int(storage.digest(one.group), 16) % FOLDS for one in some])
    dices, weight, estimates = (
        np.array([one.dice for one in some]),
        weights(some),
        np.zeros(len(some)),
    )
    for number in range(FOLDS):
        trained, held = found & (fold != number), found & (fold == number)
        w = fit(x[trained], dices[trained], weight[trained])
        estimates[held] = expit(np.column_stack([x[held], np.ones(held.sum())]) @ w)
    return estimates, x


# ----------------------------------------------------------------------------------------- reported


def line(name: str, dices: np.ndarray, estimates: np.ndarray) -> str:
    bad = dices < GOOD
    rank = spearmanr(dices, estimates).statistic if np.ptp(dices) else float("nan")
    reported = estimates < lung_finder.GOOD
    cells = [
        name,
        f"{len(dices):,}",
        f"{bad.mean():.1%}",
        f"{rank:.3f}",
        f"{auroc(bad.astype(int), -estimates):.3f}",
        f"{np.abs(dices - estimates).mean():.3f}",
        f"{reported[bad].mean():.1%}" if bad.any() else "–",
        f"{reported[~bad].mean():.1%}" if (~bad).any() else "–",
    ]
    return "| " + " | ".join(cells) + " |"


def page(some: list[Case], estimates: np.ndarray, x: np.ndarray, about: str) -> str:
    dices, kinds = np.array([one.dice for one in some]), np.array([one.kind for one in some])
    rows = [line("all", dices, estimates)]
    rows += [
        line(kind, dices[kinds == kind], estimates[kinds == kind])
        for kind in (PLAIN, *HARDER, NON_CHEST)
        if (kinds == kind).any()
    ]
    plain, signs = kinds == PLAIN, []
    for number, name in enumerate(lung_finder.SIGNS):
        value = np.nan_to_num(x[:, number], nan=-99.0)
        reported = [
            f"{spearmanr(dices[of], value[of]).statistic:.3f} |"
            f" {auroc((dices[of] < GOOD).astype(int), -value[of]):.3f}"
            for of in (plain, plain | True)
        ]
        signs.append(f"| {name} | {' | '.join(reported)} |")
    return "\n".join(
        [
            about,
            "",
            (
                f"| images | n | Dice < {GOOD} | rank correlation with Dice | AUROC for Dice <"
                f" {GOOD} | mean error | of these bad: flagged | of good: flagged |"
            ),
            "| --- | --: | --: | --: | --: | --: | --: | --: |",
            *rows,
            "",
            "Each sign alone:",
            "",
            "| sign | as they are: rank | AUROC | all: rank | AUROC |",
            "| --- | --: | --: | --: | --: |",
            *signs,
        ]
    )


def own_run(data: Path, model: str) -> Run:
    """Return a run of both sets up to `segment`, in a folder beside the data of the job."""
    recipe = Recipe(
        data=Data(
            folder=str((data / "montgomery").resolve()), also=(str((data / "shenzhen").resolve()),)
        ),
        segment=Segment(model=model),
    )
    run = Run(Path("runs") / f"quality-{model}")
    for done in run_all.perform(run, recipe, quiet, until="segment"):
        print(done.step, f"{done.seconds:.0f} s", flush=True)
    return run


@contextmanager
def quiet(step: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda done, total: None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of montgomery/ and shenzhen/")
    parser.add_argument(
        "--run", type=Path, help="a run whose `segment` is finished, in place of --data"
    )
    parser.add_argument("--model", default="unet", help="with --data: what to train")
    parser.add_argument("--limit", type=int, help="ask only so many radiographs, to try the script")
    parser.add_argument("--write", type=Path, help="write the rule here")
    parser.add_argument("--no-record", action="store_true", help="print only")
    arguments = parser.parse_args()
    if not (arguments.data or arguments.run):
        parser.error("give --data or --run")
    run = Run(arguments.run) if arguments.run else own_run(arguments.data, arguments.model)
    some, shapes = cases(run, run.recipe(), arguments.limit)
    estimates, x = crossed(some, shapes)
    about = (
        f"`{run.recipe().segment.model}`, {sum(one.kind == PLAIN for one in some):,} images."
        f" {machine('onnxruntime', 'numpy')}"
    )
    text = page(some, estimates, x, about)
    print(text)
    found = [one for one in some if one.fractions]
    x = inputs(found, shapes)
    *w, bias = fit(
        x,
        np.array([one.dice for one in found]),
        weights(some)[[bool(one.fractions) for one in some]],
    )
    rule = {
        "weights": dict(zip(lung_finder.SIGNS, np.round(w, 4).tolist(), strict=True)),
        "bias": round(float(bias), 4),
        "most": dict(zip(lung_finder.SIGNS, np.round(x.max(0), 4).tolist(), strict=True)),
        "shapes": {
            name: [round(mean, 4), round(spread, 4)] for name, (mean, spread) in shapes.items()
        },
    }
    print(json.dumps(rule))
    if arguments.write:
        storage.write_json(arguments.write, rule)
    if not arguments.no_record:
        record("Quality of a lung mask, reported without a drawn one", text)


if __name__ == "__main__":
    main()
