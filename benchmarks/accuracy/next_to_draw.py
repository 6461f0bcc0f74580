"""Measure the order in which lung masks are best corrected next, against random order.

    python -m benchmarks.accuracy.next_to_draw --data ../shared/data --work WORK

Dice after 10, 20 and 40 corrected masks: see `benchmarks._lib.mask_corrections`. Each seed draws
the patients that are tested, the network that starts, the random order and the training. The mix of
`hilum.inference.next_to_draw` is chosen on one target, by the mean Dice of all its films after the
work (corrected masks count as 1, mean of 10, 20 and 40), and reported on the others.

Masks saved: networks of the bundled kind that were trained without a source
(tools/build_models/train_lungs.py leaves their weights in WORK/lung-weights) propose its masks;
counted is how many of the first 10, 20 and 40 have a Dice below 0.95. What was computed stays in
WORK.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import nn

from benchmarks._lib import mask_corrections, mask_proposals
from benchmarks._lib.lung_films import Films, read_films
from benchmarks._lib.mask_corrections import CORRECTED, STARTS, Order, Proposals
from benchmarks._lib.mask_proposals import FIRST
from benchmarks._lib.results import machine, record
from benchmarks.accuracy.lung_protocols import Network
from hilum import storage
from hilum.inference import next_to_draw, pretrained
from hilum.inference.next_to_draw import Mix
from hilum.statistics.bootstrap import bootstrap_patients

TITLE = "Next to draw: the order of masks to correct"
CHOOSING = ("montgomery", "shenzhen")  # trained on -> corrected
REPORTED = (("covid", "kermany"), ("shenzhen", "montgomery"), ("kermany", "covid"))
RANDOM = "random"
SINGLE = {
    RANDOM: Order(None),
    "uncertainty alone": Order(Mix(1.0, 0.0, 0.0)),
    "novelty alone": Order(Mix(0.0, 1.0, 0.0)),
    "density alone": Order(Mix(0.0, 0.0, 1.0)),
}
MIXED = {
    "uncertainty x novelty": Order(Mix(1.0, 1.0, 0.0)),
    "novelty x density": Order(Mix(0.0, 1.0, 1.0)),
    "uncertainty x density": Order(Mix(1.0, 0.0, 1.0)),
    "uncertainty x novelty x density": Order(Mix(1.0, 1.0, 1.0)),
    "uncertainty x novelty x density^3": Order(Mix(1.0, 1.0, 3.0)),
    "uncertainty x novelty x density, network's features": Order(Mix(1.0, 1.0, 1.0), by="network"),
}
LEFT_OUT = {"m2s": "shenzhen", "s2m": "montgomery", "nok": "kermany", "noc": "covid"}
LISTED = {
    "uncertainty": (Mix(1.0, 0.0, 0.0), "quality"),
    "disagreement of the two protocols": (Mix(1.0, 0.0, 0.0), "disagreement"),
    "uncertainty and disagreement": (Mix(1.0, 0.0, 0.0), "both"),
    "novelty": (Mix(0.0, 1.0, 0.0), "quality"),
    "uncertainty x novelty": (Mix(1.0, 1.0, 0.0), "quality"),
    "uncertainty x density": (Mix(1.0, 0.0, 1.0), "quality"),
    "as `next_to_draw.MIX`": (next_to_draw.MIX, "quality"),
}
CHOSEN = Order(next_to_draw.MIX)
FINAL = {**SINGLE, "as `next_to_draw.MIX`": CHOSEN}


def kept(path: Path, make: Callable[[], dict[str, list[float]]]) -> dict[str, list[float]]:
    """Return what `path` holds; made and written there if it is not there yet."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        storage.write_json(path, make())
    return json.loads(path.read_text())


class Target:
    """A source whose masks are corrected, with the networks of another that start."""

    def __init__(self, films: Films, source: str, target: str, work: Path) -> None:
        self.films, self.source, self.target = films, source, target
        self.rows, self.work = films.of(target), work / "next-to-draw"
        self._started: dict[int, nn.Module] = {}
        self._proposed: dict[int, Proposals] = {}

    def start(self, seed: int) -> nn.Module:
        """Return the network of a seed, trained on the other source."""
        number = seed % STARTS
        if number not in self._started:
            path = self.work / f"start-{self.source}-{number}.pt"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.save(mask_corrections.started(self.films, self.source, number), path)
            self._started[number] = torch.load(path, weights_only=False)
        return self._started[number]

    def proposals(self, seed: int) -> Proposals:
        """Return what the network of a seed proposes for all films."""
        number = seed % STARTS
        path = self.work / f"proposals-{self.source}-{self.target}-{number}.npz"
        if not path.exists():
            start, other = self.start(seed), self.start(seed + 1)
            mask_corrections.propose(start, other, self.films, self.rows).write(path)
        if number not in self._proposed:
            self._proposed[number] = Proposals.read(path)
        return self._proposed[number]

    def result(self, order: Order, seed: int) -> dict[str, list[float]]:
        """Return the Dice of each film after 0, 10, 20 and 40 masks, see `simulated`."""
        name = storage.digest(repr(order))[:12]
        path = self.work / f"{self.source}-{self.target}-{seed}-{name}.json"
        return kept(path, partial(self._simulated, order, seed))

    def _simulated(self, order: Order, seed: int) -> dict[str, list[float]]:
        print(f"{self.source} -> {self.target}, seed {seed}: {order}", flush=True)
        starts = (self.start(seed), self.start(seed + 1))
        return mask_corrections.simulated(
            order, self.films, self.rows, starts, self.proposals(seed), seed, partial(print, " ")
        )

    def tested(self, seed: int) -> np.ndarray:
        """Return which films are tested, bool."""
        return mask_corrections.tested(self.films, self.rows, seed)


def gains(
    target: Target, order: Order, count: int, seeds: Iterable[int], whole: bool
) -> np.ndarray:
    """Return the Dice above random order of each seed and film, nan where it is not counted.

    Counted are the tested films, or the `whole` set.
    """
    found = []
    for seed in seeds:
        ours, random = (
            np.array(target.result(one, seed)[str(count)]) for one in (order, SINGLE[RANDOM])
        )
        found.append(np.where(whole | target.tested(seed), ours - random, np.nan))
    return np.array(found)


def mean(values: np.ndarray) -> float:
    """Return the mean over seeds of the mean over films."""
    return float(np.nanmean(values, axis=1).mean())


def both_intervals(values: np.ndarray, patients: np.ndarray) -> str:
    """Return the mean, and its 95 % intervals over seeds and over patients, in 0.001."""
    by_seed = np.nanmean(values, axis=1)
    seeds = bootstrap_patients(
        lambda rows: float(by_seed[rows].mean()), [str(seed) for seed in range(len(by_seed))]
    )
    counted = ~np.isnan(values).all(axis=0)
    by_film = np.nanmean(values[:, counted], axis=0)
    films = bootstrap_patients(lambda rows: float(by_film[rows].mean()), patients[counted])
    return (
        f"{1000 * seeds.value:+.1f} ({1000 * seeds.ci_low:+.1f} to {1000 * seeds.ci_high:+.1f}; "
        f"{1000 * films.ci_low:+.1f} to {1000 * films.ci_high:+.1f})"
    )


def table(target: Target, orders: dict[str, Order], seeds: range, whole: bool) -> list[str]:
    """Return the lines of a table: Dice of random order, and what each order adds to it."""
    lines = [f"| order | {' | '.join(f'{count} masks' for count in CORRECTED)} |"]
    lines.append("| --- | --: | --: | --: |")
    for name, order in orders.items():
        cells = []
        for count in CORRECTED:
            if name == RANDOM:
                cells.append(f"{dice_after(target, order, count, seeds, whole):.4f}")
                continue
            values = gains(target, order, count, seeds, whole)
            cells.append(both_intervals(values, target.films.patients[target.rows]))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def dice_after(
    target: Target, order: Order, count: int, seeds: Iterable[int], whole: bool
) -> float:
    """Return the mean Dice after `count` masks, over seeds and films."""
    return mean(
        np.array(
            [
                np.where(
                    whole | target.tested(seed), target.result(order, seed)[str(count)], np.nan
                )
                for seed in seeds
            ]
        )
    )


def made_by(arguments: argparse.Namespace) -> list[str]:
    """Return what was run, and how it was measured."""
    return [
        f"`python -m benchmarks.accuracy.next_to_draw --data ../shared/data --work WORK --seeds "
        f"{arguments.seeds} --choosing-seeds {arguments.choosing_seeds}` on "
        f"{machine('numpy', 'torch', 'polars')}, one core.",
        "",
        f"A compact U-Net (width {mask_corrections.WIDTH}, squares of {mask_corrections.SIDE} "
        f"pixels) is trained on one source ({mask_corrections.START_STEPS} batches, "
        f"{STARTS} networks) and proposes masks for another. The reader, simulated by the "
        f"reference masks, corrects the first 10, 20 and 40 films of an order; the network is "
        f"trained on with these ({mask_corrections.STEPS} batches, the same for every order). Two "
        "fifths of the patients are tested and never in the order; each seed draws them, the "
        "network, the random order and the training.",
    ]


def reported(target: Target, seeds: range) -> list[str]:
    """Return the tables of a target that the mix was not chosen on."""
    start = [target.result(SINGLE[RANDOM], seed)["0"] for seed in seeds]
    before = [
        mean(np.where(whole | np.array([target.tested(seed) for seed in seeds]), start, np.nan))
        for whole in (False, True)
    ]
    counts = f"{len(target.rows)} films, {len(seeds)} seeds"
    words = (
        "Random order: mean Dice; others: what they add to it, in 0.001, with 95 % intervals over "
        "seeds; over patients."
    )
    return [
        f"### {target.source} -> {target.target}",
        "",
        f"{counts}. {words}",
        "",
        f"Tested films, Dice {before[0]:.4f} before:",
        "",
        *table(target, FINAL, seeds, False),
        "",
        f"All films of the set after the work, a corrected mask counted as 1, Dice {before[1]:.4f} "
        "before:",
        "",
        *table(target, FINAL, seeds, True),
    ]


CHOOSING_WORDS = (
    "### How the mix was chosen: " + " -> ".join(CHOOSING),
    "",
    "Dice above random order in 0.001, mean of 10, 20 and 40 masks; the rule, set before: the "
    "highest of all films of the set after the work, a corrected mask counted as 1. Features are "
    "image statistics (`hilum.inference.image_statistics`) but where the network's deepest ones "
    "are named.",
)
LIST_WORDS = (
    "### Masks that need work among the first of the list",
    "",
    f"Proposals of networks of the bundled kind that saw no film of the source (256 pixels, with "
    f"test-time augmentation), and of `lungs.onnx` for the films held out of its training. Counted "
    f"are masks with a Dice below {mask_proposals.GOOD}, with 95 % intervals over patients; random "
    "order: the expected number. The mix was chosen on shenzhen.",
)


def chosen(target: Target, seeds: range) -> list[str]:
    """Return the lines of the table that the mix was chosen by, best first; state the best."""
    found = {
        name: [
            [mean(gains(target, order, count, seeds, whole)) for count in CORRECTED]
            for whole in (True, False)
        ]
        for name, order in (SINGLE | MIXED).items()
        if name != RANDOM
    }
    ranked = sorted(found, key=lambda name: -np.mean(found[name][0]))
    lines = ["| order | all films | tested films |", "| --- | --: | --: |"]
    for name in ranked:
        whole, tested = (1000 * np.mean(values) for values in found[name])
        lines.append(f"| {name} | {whole:+.2f} | {tested:+.2f} |")
    return lines


def lists(films: Films, work: Path) -> list[str]:
    """Return the lines of the table of masks that need work, by networks without a source."""
    heads = " | ".join(f"of the first {count}" for count in FIRST)
    lines = [
        f"| proposals for | films | order | {heads} |",
        "| --- | --: | --- | --: | --: | --: |",
    ]
    for network, source in LEFT_OUT.items():
        rows = films.of(source)
        path = work / "next-to-draw" / f"list-{network}.json"
        model = Network(work / "lung-weights", network)
        found = pl.DataFrame(kept(path, partial(mask_proposals.proposed, model, films, rows)))
        lines += _list_lines(source, found, films)
    rows = np.flatnonzero(films.tune)
    path = work / "next-to-draw" / "list-bundled.json"
    found = pl.DataFrame(
        kept(path, lambda: mask_proposals.proposed(pretrained.lung_model(), films, rows))
    )
    return lines + _list_lines("held-out films of all, by lungs.onnx", found, films)


def _list_lines(title: str, found: pl.DataFrame, films: Films) -> list[str]:
    features = next_to_draw.describe(films.images[found["row"].to_numpy()])
    expected = [f"{value:.1f}" for value in mask_proposals.by_chance(found)]
    lines = [f"| {title} | {found.height} | random | {' | '.join(expected)} |"]
    for name, (mix, estimate) in LISTED.items():
        place = mask_proposals.ranks(found, features, mix, estimate)
        cells = [
            f"{one.value:.0f} ({one.ci_low:.0f} to {one.ci_high:.0f})"
            for one in mask_proposals.needing_work(found, place)
        ]
        lines.append(f"| {title} | {found.height} | {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--choosing-seeds", type=int, default=5)
    parser.add_argument(
        "--only", choices=("choose", "lists", "report"), help="print a part, record nothing"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    full = read_films(arguments.data, arguments.work)
    films, only = mask_corrections.small(full), arguments.only
    text = made_by(arguments)
    if only in (None, "choose"):
        target = Target(films, *CHOOSING, arguments.work)
        text += ["", *CHOOSING_WORDS, "", *chosen(target, range(arguments.choosing_seeds))]
    for source, name in REPORTED if only in (None, "report") else ():
        target = Target(films, source, name, arguments.work)
        text += ["", *reported(target, range(arguments.seeds))]
    if only in (None, "lists"):
        text += ["", *LIST_WORDS, "", *lists(full, arguments.work)]
    print("\n".join(text))
    if only is None:
        record(TITLE, "\n".join(text))


if __name__ == "__main__":
    main()
