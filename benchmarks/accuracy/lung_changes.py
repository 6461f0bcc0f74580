"""Compare the lungs found with every change of the image, and with the later ones where needed.

    python -m benchmarks.accuracy.lung_changes --data ../shared/data --work work

`hilum.inference.lung_finder` evaluates the network on the image and on two rotations of it, and on
the other changes only where the masks disagree by more than `CLEAR`. Each film is segmented by the
network that has not seen its source (tools/build_models/train_lungs.py left its weights in
--work/lung-weights), as it is and with noise: once with every change and once as `hilum lungs`
does it. Beside the Dice stands how well the estimated quality ranks the films.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks._lib.lung_films import AIR as AIR_SOURCES
from benchmarks._lib.lung_films import Films, read_films
from benchmarks._lib.results import machine, record
from benchmarks.accuracy.lung_protocols import Network
from hilum.annotations.lung_masks import AIR, FULL
from hilum.inference import lung_finder
from hilum.statistics.metrics.discrimination import auroc
from hilum.statistics.metrics.overlap import dice

UNSEEN = {"montgomery": "s2m", "shenzhen": "m2s", "kermany": "nok", "covid": "noc"}
WAYS = {"every change": lung_finder.ALWAYS, "as `hilum lungs`": lung_finder.CLEAR}
NOISE = 40  # grey levels, the standard deviation
LOW = 0.9


class Counted:
    """A network that counts the images that it was evaluated on."""

    def __init__(self, network: Network) -> None:
        self.network, self.images, self.lung_output = network, 0, network.lung_output

    def many(self, images: np.ndarray, outputs: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Return the probabilities of several."""
        self.images += len(images)
        return self.network.many(images, outputs)


class Found(NamedTuple):
    """Of one film: Dice with the reference mask, estimated quality, evaluations of the network."""

    dice: float
    quality: float
    evaluations: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--films", type=int, default=100, help="of each source, about so many")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    films = read_films(arguments.data, arguments.work)
    found = {
        (kind, source): list(compared(films, source, arguments, noise))
        for kind, noise in {"plain": 0, "noise": NOISE}.items()
        for source in UNSEEN
    }
    text = "\n".join(
        [
            "`python -m benchmarks.accuracy.lung_changes --data ../shared/data --work WORK` on "
            f"{machine('numpy', 'torch')}.",
            "Networks that have not seen the source; in each cell first with every change, then as "
            "`hilum lungs`. Rank: Spearman's, of the quality with the Dice; low: AUROC of the "
            f"quality for a Dice below {LOW}.",
            "",
            "| films | number | evaluations | mean Dice | rank | low |",
            "| --- | --: | --- | --- | --- | --- |",
            *(row(f"{kind}, {source}", pairs) for (kind, source), pairs in found.items()),
            *(
                row(
                    f"{kind}, all",
                    [pair for (of, _), pairs in found.items() if of == kind for pair in pairs],
                )
                for kind in ("plain", "noise")
            ),
        ]
    )
    print(text)
    record("Lungs: every change of the image, or only where needed", text)


def compared(
    films: Films, source: str, arguments: argparse.Namespace, noise: float
) -> Iterator[tuple[Found, ...]]:
    """Yield what each of `WAYS` finds in each film of a source."""
    network = Counted(Network(arguments.work / "lung-weights", UNSEEN[source]))
    protocol = AIR if source in AIR_SOURCES else FULL
    rows = films.of(source)
    for one in rows[:: max(1, len(rows) // arguments.films)]:
        image, size = films.images[one], tuple(films.sizes[one].tolist())
        if noise:
            added = np.random.default_rng(int(one)).normal(0, noise, image.shape)
            image = np.clip(image + added, 0, 255).astype(np.uint8)
        yield tuple(
            segmented(network, image, size, protocol, films.masks[one] > 0, clear)
            for clear in WAYS.values()
        )


def segmented(
    network: Counted,
    image: np.ndarray,
    size: tuple[int, int],
    protocol: str,
    truth: np.ndarray,
    clear: float,
) -> Found:
    before = network.images
    lungs = lung_finder.segment_lungs(network, image, size, protocol, clear)
    return Found(float(dice(truth, lungs.labels > 0)), lungs.quality, network.images - before)


def row(title: str, pairs: list[tuple[Found, ...]]) -> str:
    """Return a row of the table."""
    ways = [[pair[way] for pair in pairs] for way in range(len(WAYS))]
    cells: list[list[str]] = [[], [], [], []]
    for way in ways:
        of = np.array([one.dice for one in way])
        quality = np.array([one.quality for one in way])
        cells[0].append(f"{np.mean([one.evaluations for one in way]):.1f}")
        cells[1].append(f"{of.mean():.4f}")
        cells[2].append(f"{spearmanr(quality, of)[0]:.3f}")
        cells[3].append(f"{auroc(of < LOW, -quality):.3f}")
    return f"| {title} | {len(pairs)} | {' | '.join(', '.join(cell) for cell in cells)} |"


if __name__ == "__main__":
    main()
