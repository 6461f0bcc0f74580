"""Fit the rule that estimates a lung mask's Dice without a reference mask, and judge it.

    python -m tools.build_models.fit_mask_quality --data ../shared/data --work work --write
    src/hilum/resources/mask_quality.json

Films of four sources and both protocols, plain, degraded, and replaced by other things; their masks
come from networks (tools/build_models/train_lungs.py) that have not seen the source at all. The
figures are of rules fitted without that source too: how well masks of the next hospital are ranked.
The rule that is written is fitted on all; its few weights are also judged as one rule, since
estimates of rules that left out different sources have no common order. Two forms are compared: a
logistic regression on the Dice, and a least-squares fit of its log-odds, which minds differences
between good masks; in both, weights are not negative and plain films weigh as much as all others
together, each source as much as another.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from scipy.optimize import lsq_linear, minimize
from scipy.special import expit, logit
from scipy.stats import spearmanr

from benchmarks._lib.lung_films import AIR, SIZE, Films, read_films
from benchmarks._lib.results import machine, record
from benchmarks.accuracy.lung_protocols import Network
from hilum import storage
from hilum.annotations import lung_masks
from hilum.imaging.geometry import Letterbox, Size, content_box
from hilum.inference import lung_finder
from hilum.statistics.metrics.discrimination import auroc
from hilum.statistics.metrics.overlap import dice
from tools.build_models.other_images import FAMILIES

SEED, HARD = 5, 2
GOOD = 0.9  # a Dice below is a mask to be found out
RIDGE = 1e-3
LEAST_SPREAD = 0.01  # of a part of a shape: reference masks have no holes, found ones a few pixels
# These sets are framed close to the chest, which says nothing of lungs: children are often shown
# with their arms.
FRAMED = {"area": 0.4}
PLAIN, OTHER = "plain", "other things"
UNSEEN = {"montgomery": "s2m", "shenzhen": "m2s", "kermany": "nok", "covid": "noc"}
MOST_OF_A_SOURCE = 107  # films: as many as the smallest source has
# Quantile of the plain films at which a sign is capped: `sure` orders degraded films, but between
# plain films of two hospitals it follows the masks that a network was trained on.
CAPPED, ELSE_CAPPED = {"sure": 0.02}, 0.999


class Case(NamedTuple):
    """One evaluated image."""

    kind: str
    source: str
    film: int
    dice: float
    fractions: dict[str, float]  # empty where no lung was found
    shape: dict[str, float] | None

    @property
    def protocol(self) -> str:
        """The protocol of its reference mask."""
        return lung_masks.AIR if self.source in AIR else lung_masks.FULL


Shapes = dict[str, dict[str, tuple[float, float]]]  # of reference masks, by protocol


# ---------------------------------------------------------------------------- degraded images

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
    return cv2.resize(parts[0], (side, side)), cv2.resize(
        parts[1], (side, side), interpolation=cv2.INTER_NEAREST
    ) > 0


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
    return np.clip(image + rng.normal(0, rng.uniform(15, 80), image.shape), 0, 255).astype(
        np.uint8
    ), mask


def covered(
    image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Cover part with a white or black rectangle, as a collimator or an opaque lung does."""
    side, made = image.shape[0], image.copy()
    height, width = (int(side * share) for share in rng.uniform(0.2, 0.6, 2))
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
    return cv2.warpAffine(image, move, (side, side)), cv2.warpAffine(
        mask.astype(np.uint8), move, (side, side), flags=cv2.INTER_NEAREST
    ) > 0


def inverted(
    image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    return 255 - image, mask


HARDER: dict[str, Hard] = {
    one.__name__: one for one in (cut, blurred, exposed, noisy, covered, rotated, inverted)
}


# ---------------------------------------------------------------------------- cases


def cases(films: Films, folder: Path, most: int) -> list[Case]:
    """Evaluate films, plain and changed, with the network that has not seen their source."""
    found = []
    for source, name in UNSEEN.items():
        rng = np.random.default_rng(SEED)
        rows, model = films.of(source), Network(folder, name)
        rows = np.sort(rng.permutation(rows)[:most])
        for number, row in enumerate(rows):
            size = tuple(films.sizes[row].tolist())
            for kind, image, mask, of in variants(
                number, films.images[row], films.masks[row] > 0, size, rng
            ):
                found.append(evaluate(kind, source, int(row), image, mask, of, model))
        print(f"{source}: {len(rows)} films", flush=True)
    return found


def variants(
    number: int, image: np.ndarray, mask: np.ndarray, size: Size, rng: np.random.Generator
) -> Iterator[tuple[str, np.ndarray, np.ndarray, Size]]:
    """Yield kind, image, reference mask and size of the file: plain, degraded, and other things."""
    yield PLAIN, image, mask, size
    for name in rng.choice(list(HARDER), HARD, replace=False):
        yield name, *HARDER[name](*square(image, mask, size), rng), (1, 1)
    if number % 8 == 0:
        family = list(FAMILIES)[number // 8 % len(FAMILIES)]
        other = np.ascontiguousarray(FAMILIES[family](bare(image, size), rng))
        yield OTHER, cv2.resize(other, image.shape[::-1]), np.zeros(image.shape, bool), (1, 1)


def square(
    image: np.ndarray, mask: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Stretch to a square without the letterbox's border: degraded images fill theirs."""
    inside, side = Letterbox(size, image.shape[0]).inside(), image.shape[0]
    parts = [np.ascontiguousarray(one[inside]) for one in (image, mask.astype(np.uint8))]
    return cv2.resize(parts[0], (side, side)), cv2.resize(
        parts[1], (side, side), interpolation=cv2.INTER_NEAREST
    ) > 0


def bare(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Remove the letterbox's and the film's border."""
    inside = image[Letterbox(size, image.shape[0]).inside()]
    return inside[content_box(inside)]


def evaluate(
    kind: str,
    source: str,
    film: int,
    image: np.ndarray,
    mask: np.ndarray,
    size: Size,
    model: Network,
) -> Case:
    """Segment one image by the protocol of its source."""
    protocol = lung_masks.AIR if source in AIR else lung_masks.FULL
    labels, _, fractions, shape = lung_finder.segment_with_tta(model, image, size, protocol)
    true = float(dice(mask, labels > 0)) if mask.any() else 0.0
    return Case(kind, source, film, true, fractions, shape)


def reference_shapes(films: Films) -> Shapes:
    """Compute mean and spread of the parts of the reference masks' shapes, by protocol."""
    found = {}
    for protocol in lung_masks.PROTOCOLS:
        rows = np.flatnonzero(np.isin(films.sources, AIR) == (protocol == lung_masks.AIR))
        shapes = [
            lung_finder.shape(
                films.masks[row], films.masks[row], Letterbox(films.sizes[row], SIZE).inside()
            )
            for row in rows
        ]
        parts = {
            name: np.array([shape[name] for shape in shapes if shape])
            for name in lung_finder.SHAPES
        }
        found[protocol] = {
            name: (
                float(values.mean()),
                max(float(values.std()), FRAMED.get(name, LEAST_SPREAD)),
            )
            for name, values in parts.items()
        }
    return found


# ---------------------------------------------------------------------------- the fit


def inputs(some: list[Case], shapes: Shapes) -> np.ndarray:
    """Compute float64 (n, signs) of cases in which some lung was found."""
    signs = [
        {
            **one.fractions,
            "shape": -np.log1p(lung_finder.distance(one.shape, shapes[one.protocol])),
        }
        for one in some
    ]
    return np.array([list(lung_finder.inputs(one).values()) for one in signs])


def caps(x: np.ndarray, some: list[Case]) -> np.ndarray:
    """Return the value of each sign from which more of it counts no more, see `CAPPED`."""
    plain = x[[one.kind == PLAIN for one in some]]
    return np.array(
        [
            np.quantile(plain[:, number], CAPPED.get(name, ELSE_CAPPED))
            for number, name in enumerate(lung_finder.SIGNS)
        ]
    )


def fit_logistic(x: np.ndarray, dices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fit a weight of each sign, and the bias, by the likelihood of the Dice."""
    columns = np.column_stack([x, np.ones(len(x))])

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = columns @ w
        value = (weights * (np.logaddexp(0, z) - dices * z)).sum() + RIDGE * (w[:-1] ** 2).sum()
        return value, columns.T @ (weights * (expit(z) - dices)) + 2 * RIDGE * np.append(w[:-1], 0)

    bounds = [(0, None)] * x.shape[1] + [(None, None)]
    start = np.append(np.full(x.shape[1], 0.1), 0.0)
    return minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x


def fit_log_odds(x: np.ndarray, dices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fit a weight of each sign, and the bias, to the log-odds of the Dice by least squares."""
    root = np.sqrt(weights)
    columns = np.column_stack([x, np.ones(len(x))]) * root[:, None]
    ridge = np.sqrt(RIDGE) * np.eye(x.shape[1], x.shape[1] + 1)
    target = logit(np.clip(dices, 0.02, 0.995)) * root
    bounds = (np.append(np.zeros(x.shape[1]), -np.inf), np.inf)
    return lsq_linear(
        np.vstack([columns, ridge]), np.append(target, np.zeros(x.shape[1])), bounds
    ).x


FORMS = {"logistic": fit_logistic, "log-odds": fit_log_odds}
Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def weights(some: list[Case]) -> np.ndarray:
    """Weigh plain films and all others alike, and each source alike within both; in all 1."""
    plain = np.array([one.kind == PLAIN for one in some])
    sources, found = np.array([one.source for one in some]), np.zeros(len(some))
    for kind in (plain, ~plain):
        for source in np.unique(sources):
            chosen = kind & (sources == source)
            found[chosen] = 0.5 / max(chosen.sum(), 1) / len(np.unique(sources))
    return found


def left_out(some: list[Case], shapes: Shapes, fit: Fit) -> np.ndarray:
    """Estimate each case by a rule fitted without its source; 0 where no lung was found."""
    sources = np.array([one.source for one in some])
    estimates = np.zeros(len(some))
    for source in np.unique(sources):
        known = [one for one in some if one.source != source and one.fractions]
        x = inputs(known, shapes)
        most = caps(x, known)
        w = fit(np.minimum(x, most), np.array([one.dice for one in known]), weights(known))
        rows = [number for number, one in enumerate(some) if one.source == source and one.fractions]
        held = np.minimum(inputs([some[row] for row in rows], shapes), most)
        estimates[rows] = expit(np.column_stack([held, np.ones(len(held))]) @ w)
    return estimates


def shipped(some: list[Case], shapes: Shapes, fit: Fit) -> dict[str, object]:
    """Fit the rule that is shipped, on all cases."""
    known = [one for one in some if one.fractions]
    x = inputs(known, shapes)
    most = caps(x, known)
    *w, bias = fit(np.minimum(x, most), np.array([one.dice for one in known]), weights(known))
    names = lung_finder.SIGNS
    return {
        "weights": dict(zip(names, np.round(w, 4).tolist(), strict=True)),
        "bias": round(float(bias), 4),
        "most": dict(zip(names, np.round(most, 4).tolist(), strict=True)),
        "shapes": {
            protocol: {name: np.round(pair, 4).tolist() for name, pair in of.items()}
            for protocol, of in shapes.items()
        },
    }


def estimated(some: list[Case], rule: dict[str, object]) -> np.ndarray:
    """Estimate each case by one rule; estimates of several rules have no common order."""
    return np.array(
        [
            lung_finder.estimate(
                {
                    **{name: one.fractions[name] for name in lung_finder.FRACTIONS},
                    "shape": -np.log1p(
                        lung_finder.distance(one.shape, rule["shapes"][one.protocol])
                    ),
                },
                rule,
            )
            if one.fractions
            else 0.0
            for one in some
        ]
    )


# ---------------------------------------------------------------------------- report


def line(name: str, dices: np.ndarray, estimates: np.ndarray) -> str:
    """Format one line of the table."""
    bad, flagged = dices < GOOD, estimates < lung_finder.GOOD
    rank = spearmanr(dices, estimates).statistic if np.ptp(dices) else float("nan")
    cells = [
        name,
        f"{len(dices):,}",
        f"{bad.mean():.1%}",
        f"{rank:.3f}",
        f"{auroc(bad.astype(int), -estimates):.3f}",
        f"{np.abs(dices - estimates).mean():.3f}",
        f"{flagged[bad].mean():.1%}" if bad.any() else "–",
        f"{flagged[~bad].mean():.1%}" if (~bad).any() else "–",
    ]
    return f"| {' | '.join(cells)} |"


def page(some: list[Case], by_form: dict[str, np.ndarray], shapes: Shapes) -> list[str]:
    """Format the tables: forms and signs on plain films, and the chosen form on all."""
    dices = np.array([one.dice for one in some])
    kinds, sources = (np.array([getattr(one, of) for one in some]) for of in ("kind", "source"))
    plain = kinds == PLAIN
    head = [
        f"| films | n | Dice < {GOOD} | rank correlation with Dice | AUROC for Dice < {GOOD} | "
        "mean error | of these bad: flagged | of good: flagged |",
        "| --- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    lines = list(head)
    for form, estimates in by_form.items():
        for name in (*UNSEEN, "all"):
            chosen = plain & ((sources == name) | (name == "all"))
            lines.append(line(f"plain, {name}, {form}", dices[chosen], estimates[chosen]))
        for kind in (*HARDER, OTHER):
            chosen = kinds == kind
            lines.append(line(f"{kind}, {form}", dices[chosen], estimates[chosen]))
        lines.append(line(f"everything, {form}", dices, estimates))
    found = np.array([bool(one.fractions) for one in some]) & plain
    x = inputs([one for one, ok in zip(some, found, strict=True) if ok], shapes)
    signs = ["Each sign alone, plain films:", "", "| sign | rank correlation | AUROC |"]
    signs.append("| --- | --: | --: |")
    for number, name in enumerate(lung_finder.SIGNS):
        bad = (dices[found] < GOOD).astype(int)
        rank = spearmanr(dices[found], x[:, number]).statistic
        signs.append(f"| {name} | {rank:.3f} | {auroc(bad, -x[:, number]):.3f} |")
    return [*lines, "", *signs]


def gate(some: list[Case], estimates: np.ndarray, films: Films) -> list[str]:
    """Tabulate thresholds below which an image is not cropped, on films of the tune part."""
    tune = films.tune[[one.film for one in some]]
    dices = np.array([one.dice for one in some])
    lines = ["| threshold | Dice < 0.8 and still cropped along | Dice >= 0.9 and not cropped |"]
    lines.append("| --: | --: | --: |")
    for threshold in (0.5, 0.6, 0.7, 0.75, 0.8, 0.85):
        passed = estimates >= threshold
        bad, good = tune & (dices < 0.8), tune & (dices >= GOOD)
        lines.append(
            f"| {threshold} | {passed[bad].mean():.1%} of {bad.sum()} | "
            f"{(~passed)[good].mean():.1%} of {good.sum()} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="holds lung-weights/")
    parser.add_argument("--most", type=int, default=MOST_OF_A_SOURCE, help="films of a source")
    parser.add_argument("--form", choices=list(FORMS), default="log-odds", help="of the rule")
    parser.add_argument("--write", type=Path, help="write the rule here")
    parser.add_argument("--no-record", action="store_true", help="print only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    films, kept = read_films(arguments.data, arguments.work), arguments.work / "quality-cases.json"
    if not kept.exists():
        some = cases(films, arguments.work / "lung-weights", arguments.most)
        storage.write_json(kept, [one._asdict() for one in some])
    some = [Case(**one) for one in storage.read_json(kept)]
    shapes = reference_shapes(films)
    by_form = {form: left_out(some, shapes, fit) for form, fit in FORMS.items()}
    by_form["one rule of all sources"] = estimated(
        some, shipped(some, shapes, FORMS[arguments.form])
    )
    text = [
        "`python -m tools.build_models.fit_mask_quality --data ../shared/data --work WORK` on "
        f"{machine('numpy', 'torch')}. Networks and rules have seen no film of the source.",
        "",
        *page(some, by_form, shapes),
        "",
        "Gate, films of the tune part, plain and changed:",
        "",
        *gate(some, by_form[arguments.form], films),
    ]
    print("\n".join(text))
    rule = shipped(some, shapes, FORMS[arguments.form])
    print(json.dumps({name: rule[name] for name in ("weights", "bias")}))
    if arguments.write:
        storage.write_json(arguments.write, rule)
    if not arguments.no_record:
        record("Quality of a lung mask, estimated without a reference mask", "\n".join(text))


if __name__ == "__main__":
    main()
