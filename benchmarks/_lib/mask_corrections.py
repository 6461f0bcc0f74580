"""Simulate a reader who corrects lung masks of a new source in some order.

A compact U-Net is trained on one source and proposes masks for another. A reader, simulated by the
reference masks, corrects the first n films of an order, the network is trained on, and its masks of
films of other patients are compared with their references.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import torch
from torch import nn

from benchmarks._lib.lung_films import AIR as AIR_SOURCES
from benchmarks._lib.lung_films import Films
from benchmarks._lib.lung_sets import dealt
from hilum import storage
from hilum.annotations import lung_masks
from hilum.inference import lung_finder, next_to_draw
from hilum.inference.next_to_draw import Mix
from hilum.statistics.metrics.overlap import dice
from hilum.training import lung_segmentation
from hilum.training.models import compact_unet

SIDE, WIDTH = 128, 16
STARTS = 3  # networks of a source, which differ by their seed
START_STEPS, STEPS = 400, 60
CORRECTED = (10, 20, 40)
FIFTHS, TESTED = 5, 2  # of the patients two fifths are tested
TOGETHER = 32


@dataclass(frozen=True)
class Order:
    """How the next films are chosen: `random` where `mix` is None.

    `by` names the features of novelty and density, "statistics" or "network"; `estimate` the
    uncertainty, "quality", "disagreement" of two networks, or "both". With `anew` the order is made
    again by the network as it is after 10 and after 20 masks.
    """

    mix: Mix | None
    by: str = "statistics"
    estimate: str = "quality"
    anew: bool = False


@dataclass(frozen=True)
class Proposals:
    """What a network finds on all films of a source: `features` by name, (n, values) each."""

    quality: np.ndarray
    disagreement: np.ndarray
    features: dict[str, np.ndarray]
    dice: np.ndarray

    def write(self, path: Path) -> None:
        """Keep them in a file, whole or not at all."""
        content = io.BytesIO()
        np.savez(
            content,
            quality=self.quality,
            disagreement=self.disagreement,
            dice=self.dice,
            **{f"features_{name}": values for name, values in self.features.items()},
        )
        storage.write_bytes(path, content.getvalue())

    @classmethod
    def read(cls, path: Path) -> Proposals:
        """Read what `write` kept."""
        with np.load(path) as kept:
            features = {
                name.removeprefix("features_"): kept[name]
                for name in kept.files
                if name.startswith("features_")
            }
            return cls(kept["quality"], kept["disagreement"], features, kept["dice"])


class Proposer:
    """A network in the form that `hilum.inference.lung_finder` calls."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def lung_output(self, protocol: str) -> str:
        """Return the name of the one output."""
        return "lungs"

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Return the probabilities of one image."""
        return {name: found[0] for name, found in self.many(image[None]).items()}

    def many(self, images: np.ndarray, outputs: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Return the probabilities (n, 2, side, side)."""
        with torch.inference_mode():
            return {"lungs": self.network(torch.from_numpy(images)).numpy()}


def small(films: Films) -> Films:
    """Return the films in squares of `SIDE` pixels."""

    def forward(values: np.ndarray) -> np.ndarray:
        return cv2.resize(values, (SIDE, SIDE), interpolation=cv2.INTER_AREA)

    return replace(
        films,
        images=np.stack([forward(image) for image in films.images]),
        masks=np.stack([lung_masks.downsample_labels(mask, forward) for mask in films.masks]),
    )


def started(films: Films, source: str, seed: int) -> nn.Module:
    """Train a network on all films of a source."""
    settings = _settings(START_STEPS, learning_rate=0.005)
    return lung_segmentation.fit(
        lambda: compact_unet.Compact(WIDTH, 0),
        films.images,
        films.masks,
        films.of(source),
        settings,
        seed=seed,
    )


def trained_on(
    start: nn.Module, films: Films, rows: np.ndarray, seed: int, known: np.ndarray
) -> nn.Module:
    """Return a network that is trained on from `start` with the masks of `rows`.

    As many of the `known` masks that it was trained on are trained on again, if there are any.
    """
    again = np.random.default_rng([seed, 2]).permutation(known)[: len(rows)]
    rows = np.concatenate([rows, again])
    settings = _settings(STEPS, learning_rate=0.002, averaging=0.9)
    return lung_segmentation.fit(
        lambda: copy.deepcopy(start.network).train(),
        films.images,
        films.masks,
        rows,
        settings,
        seed=seed,
    )


def _settings(steps: int, **given: float) -> compact_unet.Settings:
    return compact_unet.Settings(
        width=WIDTH, detail=0, epochs=1, least_steps=steps, patience=0, **given
    )


def propose(network: nn.Module, other: nn.Module, films: Films, rows: np.ndarray) -> Proposals:
    """Propose the masks of `rows`; `other` is the network that may disagree."""
    found, second, features = _lungs(network, films, rows), _lungs(other, films, rows)[0], {}
    features["network"] = found[1]
    features["statistics"] = next_to_draw.describe(films.images[rows])
    quality = []
    for row in rows:
        protocol = lung_masks.AIR if films.sources[row] in AIR_SOURCES else lung_masks.FULL
        size = tuple(films.sizes[row].tolist())
        lungs = lung_finder.segment_lungs(Proposer(network), films.images[row], size, protocol)
        quality.append(lungs.quality)
    apart = [1 - _dice(*pair) for pair in zip(found[0], second, strict=True)]
    return Proposals(
        np.array(quality), np.array(apart), features, _to_reference(found[0], films, rows)
    )


def judged(network: nn.Module, films: Films, rows: np.ndarray) -> np.ndarray:
    """Return the Dice of both lungs as one, without test-time augmentation, of each row."""
    return _to_reference(_lungs(network, films, rows)[0], films, rows)


def _lungs(network: nn.Module, films: Films, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lungs, bool (n, side, side), and mean and deviation of the deepest features."""
    lungs, deep = [], []
    hook = network.network.down[-1].register_forward_hook(
        lambda _, __, given: deep.append(
            torch.cat([given.mean((2, 3)), given.std((2, 3))], 1).numpy()
        )
    )
    with torch.inference_mode():
        for at in range(0, len(rows), TOGETHER):
            likely = network(torch.from_numpy(films.images[rows[at : at + TOGETHER]])).numpy()
            lungs += [lung_masks.from_probabilities(one) > 0 for one in likely]
    hook.remove()
    return np.stack(lungs), np.concatenate(deep)


def _to_reference(found: np.ndarray, films: Films, rows: np.ndarray) -> np.ndarray:
    return np.array(
        [_dice(films.masks[row] > 0, one) for row, one in zip(rows, found, strict=True)]
    )


def _dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(dice(first, second)) if first.any() or second.any() else 1.0


def tested(films: Films, rows: np.ndarray, seed: int) -> np.ndarray:
    """Return which of `rows` are tested, whole patients together, bool."""
    return dealt(films.patients[rows], FIFTHS, seed) < TESTED


def in_order(
    order: Order, proposals: Proposals, pool: np.ndarray, corrected: np.ndarray, seed: int
) -> np.ndarray:
    """Return the places, of those in `pool`, whose masks are corrected next, the first first."""
    if order.mix is None:
        return np.random.default_rng([seed, 1]).permutation(pool)[: max(CORRECTED)]
    quality, apart = proposals.quality[pool], proposals.disagreement[pool]
    table = pl.DataFrame(
        {
            "image_id": [f"{place:06d}" for place in pool],
            "quality": 1 - apart if order.estimate == "disagreement" else quality,
            "corrected": np.isin(pool, corrected),
        }
    )
    if order.estimate == "both":
        table = table.with_columns(disagreement=pl.Series(apart))
    found = next_to_draw.order(
        table, proposals.features[order.by][pool], limit=max(CORRECTED), mix=order.mix
    )
    return found["image_id"].cast(pl.Int64).to_numpy()


def simulated(
    order: Order,
    films: Films,
    rows: np.ndarray,
    starts: tuple[nn.Module, nn.Module],
    proposals: Proposals,
    seed: int,
    say: Callable[[str], None],
    known: np.ndarray,
) -> dict[str, list[float]]:
    """Return the Dice of each of `rows` before and after 10, 20 and 40 corrected masks.

    A corrected mask counts as 1. `order` holds the places of the corrected films among `rows`,
    `known` are rows of the first source whose masks are trained on again.
    """
    pool = np.flatnonzero(~tested(films, rows, seed))
    done = np.zeros(0, np.int64)
    found: dict[str, list[float]] = {"0": proposals.dice.tolist()}
    ordered, now = in_order(order, proposals, pool, done, seed), proposals
    for count in CORRECTED:
        done = np.concatenate([done, ordered[: count - len(done)]])
        ordered = ordered[~np.isin(ordered, done)]
        network = trained_on(starts[0], films, rows[done], seed, known)
        values = judged(network, films, rows)
        values[done] = 1.0
        found[str(count)] = values.tolist()
        if order.anew and count < max(CORRECTED):
            now = propose(network, starts[1], films, rows)
            ordered = in_order(order, now, pool, done, seed)
        say(f"{count}: {values.mean():.4f}")
    found["order"] = done.tolist()
    return found
