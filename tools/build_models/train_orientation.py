"""Train src/hilum/resources/orientation.onnx, the detector of images that are inverted, rotated,
mirrored or no frontal chest (hilum.inference.orientation).

    python -m tools.build_models.train_orientation --data FOLDER --out
    src/hilum/resources/orientation.onnx
    python -m tools.build_models.train_orientation --data FOLDER --out /tmp/without.onnx --without
    montgomery shenzhen

FOLDER holds kermany-224/, montgomery/ and shenzhen/, see orientation_images.py. Needs the train
extra and some minutes on two cores. The seed is fixed; other versions of PyTorch or another
processor give other last digits. NIH ChestX-ray14 is never trained on.

The way: train images and phantoms are varied harmlessly and brought to what the network sees; while
learning each is rotated, mirrored and inverted at random, so the answers are known. Artificial
non-chest images (other_images.py) stand for everything that is no frontal chest. Limits come from
the tune part: what one in 1,000 of its right images, plain or varied, exceeds, in the worst of its
sets, and no less than LEAST, for hospitals that are not among them; of mirrored images what one in
200 plain ones exceeds, since many a heart hardly shows its side.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from hilum.imaging.geometry import content_box
from hilum.inference import orientation
from hilum.inference.onnx_model import InputContract
from hilum.plugins import Card
from hilum.training import onnx_export
from tools.build_models.orientation_images import phantoms, read, vary
from tools.build_models.other_images import FAMILIES

SEED = 20
TRAINED_ON = ("kermany", "montgomery", "shenzhen")
POOL = {
    "kermany": 22_000,
    "adults": 22_000,
    "phantoms": 7_000,
    "non_chests": 16_000,
}  # varied images, made once
EPOCHS, BATCH, RATE = 8, 128, 4e-3
FEATURES = 48
LEAST = {
    orientation.INVERTED: 2.0,
    orientation.ROTATED: 2.0,
    orientation.MIRRORED: 2.0,
    orientation.OUT_OF_DISTRIBUTION: 4.0,
    orientation.DISTANCE: 1.15,
}
FLIPPED = [
    ((-quarters) % 4) * 2 + 1 - mirror for quarters in range(4) for mirror in range(2)
]  # the orientation of an image's mirror image
CARD = Card(
    title="Orientation of a chest radiograph: inverted, rotated, mirrored, or not a frontal chest",
    licence=(
        "Apache-2.0, as the program. Trained on images under CC BY 4.0 (Kermany) and images that"
        " the National Library of Medicine gives to the public (Montgomery, Shenzhen; their masks"
        " were not used)"
    ),
    source="tools/build_models/train_orientation.py",
    citation=(
        "Kermany et al. 2018, Cell 172(5):1122-1131, doi:10.17632/rscbjbr9sj; Jaeger et al. 2014,"
        " Quant Imaging Med Surg 4(6):475-477"
    ),
    counts="",
    caveats=(
        "A quality flag is a question, not a verdict: situs inversus is indistinguishable from a"
        " mirrored image, and a collapsed lung can pull the heart across. The out-of-distribution"
        " output was trained on drawings, noise and fragments of chests; real radiographs of other"
        " body parts, lateral views above all, are recognised less reliably than these."
    ),
)


class Network(nn.Module):
    """Map float32 (n, 1, SIDE, SIDE) in [-1, 1] to features (n, FEATURES), and to inverted,
    unusual and the eight orientations (n, 10).
    """

    def __init__(self) -> None:
        super().__init__()

        def block(before: int, after: int, kernel: int, stride: int) -> list[nn.Module]:
            return [
                nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]

        shapes = (
            (1, 12, 5, 2),
            (12, 24, 3, 2),
            (24, 32, 3, 2),
            (32, 48, 3, 1),
            (48, 48, 3, 2),
            (48, 20, 1, 1),
        )
        self.body = nn.Sequential(
            *(layer for shape in shapes for layer in block(*shape)), nn.Flatten(), nn.Dropout(0.1)
        )
        self.features = nn.Linear(20 * (orientation.SIDE // 16) ** 2, FEATURES)
        self.heads = nn.Linear(FEATURES, 10)

    def forward(self, radiographs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.features(self.body(radiographs))
        return features, self.heads(functional.relu(features))


class Described(nn.Module):
    """Map, as exported, uint8 (n, SIDE, SIDE) to `orientation.NETWORK`, from the image and its
    mirror image.
    """

    def __init__(self, network: Network, whitening: torch.Tensor, centres: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer(
            "whitening", whitening
        )  # (FEATURES, FEATURES), in units of the distance
        self.register_buffer("centres", centres)  # (16, FEATURES), whitened

    def forward(self, radiographs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        straight = radiographs.unsqueeze(1).float() / 127.5 - 1
        features, answers = self.network(straight)
        _, flipped = self.network(straight.flip(3))
        eight = ((answers[:, 2:] + flipped[:, 2:][:, FLIPPED]) / 2).reshape(-1, 4, 2)
        quarters, mirror = eight.logsumexp(2), eight.logsumexp(1)
        both = (answers[:, :2] + flipped[:, :2]) / 2
        away = (features @ self.whitening).unsqueeze(1) - self.centres
        distance = (away * away).sum(2).amin(1).sqrt()
        turn = quarters.argmax(1).float()
        return (
            both[:, 0],
            quarters[:, 1:].logsumexp(1) - quarters[:, 0],
            turn,
            mirror[:, 1] - mirror[:, 0],
            both[:, 1],
            distance,
        )


# ------------------------------------------------------------------------------------------- images


def seen(image: np.ndarray) -> np.ndarray:
    """Return a bare image as the network sees it."""
    rows, columns = content_box(image)
    return orientation.ranks(image[rows, columns])


def small(images: list[np.ndarray]) -> list[np.ndarray]:
    """Halve large images, to vary them faster."""
    return [
        (
            cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            if min(image.shape) > 128
            else image
        )
        for image in images
    ]


def pool(
    sources: dict[str, list[np.ndarray]], counts: dict[str, int], rng: np.random.Generator
) -> np.ndarray:
    """Return images uint8 (n, SIDE, SIDE): each source's images in turn, the first time as they
    are, then varied.
    """
    return np.stack(
        [
            seen(
                images[number % len(images)]
                if number < len(images)
                else vary(images[number % len(images)], rng)
            )
            for source, images in sources.items()
            if images
            for number in range(counts[source])
        ]
    )


def non_chests(
    chests: list[np.ndarray], count: int, rng: np.random.Generator, families: list[str]
) -> np.ndarray:
    """Return images uint8 (n, SIDE, SIDE), the families in turn, half of them varied as
    chests are.
    """
    made = []
    for number in range(count):
        image = np.ascontiguousarray(
            FAMILIES[families[number % len(families)]](chests[rng.integers(len(chests))], rng)
        )
        made.append(seen(vary(image, rng) if rng.random() < 0.5 else image))
    return np.stack(made)


# ----------------------------------------------------------------------------------------- learning


def oriented(radiographs: torch.Tensor, quarters: int, mirror: int) -> torch.Tensor:
    """Mirror (n, SIDE, SIDE), then rotate counterclockwise."""
    return torch.rot90(radiographs.flip(2) if mirror else radiographs, quarters, (1, 2))


def learn(chests: np.ndarray, others: np.ndarray) -> Network:
    torch.manual_seed(SEED)
    network = Network()
    radiographs = torch.from_numpy(np.concatenate([chests, others]))
    steps = EPOCHS * (len(radiographs) // BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps)
    for epoch in range(EPOCHS):
        begun, total = time.monotonic(), 0.0
        for rows in torch.randperm(len(radiographs))[: len(radiographs) // BATCH * BATCH].split(
            BATCH
        ):
            loss = _loss(network, radiographs[rows], rows < len(chests))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        print(
            f"epoch {epoch + 1} of {EPOCHS}: loss {total / (len(radiographs) // BATCH):.4f},"
            f" {time.monotonic() - begun:.0f} s",
            flush=True,
        )
    return network.eval()


def _loss(network: Network, radiographs: torch.Tensor, chest: torch.Tensor) -> torch.Tensor:
    which = torch.randint(8, (len(radiographs),))
    dark = torch.rand(len(radiographs)) < 0.5
    rotated = torch.empty_like(radiographs)
    for number in range(8):
        rotated[which == number] = oriented(radiographs[which == number], number // 2, number % 2)
    shown = (
        torch.where(dark[:, None, None], 255 - rotated, rotated).float() / 127.5 - 1
    ).unsqueeze(1)
    _, answers = network(shown)
    inverted = functional.binary_cross_entropy_with_logits(answers[chest, 0], dark[chest].float())
    unusual = functional.binary_cross_entropy_with_logits(answers[:, 1], (~chest).float())
    return (
        inverted
        + unusual
        + functional.cross_entropy(answers[chest, 2:], which[chest], label_smoothing=0.002)
    )


def fitted(network: Network, chests: np.ndarray) -> Described:
    """Return the network with the Gaussians of the features of chests in each of 16 orientations,
    one covariance for all.
    """
    radiographs, whole = torch.from_numpy(chests), []
    with torch.no_grad():
        for number in range(16):
            shown = oriented(radiographs, number % 8 // 2, number % 2)
            shown = 255 - shown if number >= 8 else shown
            whole.append(
                torch.cat(
                    [
                        network((some.float() / 127.5 - 1).unsqueeze(1))[0]
                        for some in shown.split(512)
                    ]
                )
            )
    centres = torch.stack([one.mean(0) for one in whole])
    away = torch.cat([one - centre for one, centre in zip(whole, centres, strict=True)]).double()
    covariance = away.T @ away / len(away)
    covariance += 1e-3 * covariance.diagonal().mean() * torch.eye(FEATURES)
    whitening = torch.linalg.cholesky(torch.linalg.inv(covariance)).float()
    described = Described(network, whitening, centres @ whitening).eval()
    with torch.no_grad():
        distance = torch.cat([described(some)[-1] for some in radiographs.split(512)])
    unit = float(np.quantile(distance.numpy(), 0.999))
    return Described(network, whitening / unit, centres @ whitening / unit).eval()


def limits(
    described: Described, tune: dict[str, list[np.ndarray]], rng: np.random.Generator
) -> dict[str, float]:
    """Return what an image must exceed to be flagged."""
    found = dict(LEAST)
    for name, images in tune.items():
        answers = {}
        for kind, count in (("plain", len(images)), ("varied", max(4000, 2 * len(images)))):
            with torch.no_grad():
                parts = [
                    described(some)
                    for some in torch.from_numpy(pool({name: images}, {name: count}, rng)).split(
                        512
                    )
                ]
            answers[kind] = dict(
                zip(
                    orientation.OUTPUTS,
                    (torch.cat(part).numpy() for part in zip(*parts, strict=True)),
                    strict=True,
                )
            )
        plain = {fault: float(np.quantile(answers["plain"][fault], 0.995)) for fault in LEAST}
        worst = {fault: float(np.quantile(answers["varied"][fault], 0.999)) for fault in LEAST}
        print(
            f"{name}, {len(images)} images",
            *(
                {fault: round(value, 2) for fault, value in reported.items()}
                for reported in (plain, worst)
            ),
            flush=True,
        )
        worst[orientation.MIRRORED] = plain[orientation.MIRRORED]
        found = {fault: max(found[fault], value) for fault, value in worst.items()}
    return {fault: round(value, 2) for fault, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--without", nargs="*", default=[], help="sets to leave out, to measure on them"
    )
    parser.add_argument(
        "--without-families",
        nargs="*",
        default=[],
        choices=list(FAMILIES),
        help="non-chest images to leave out",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the radiographs, to try the script"
    )
    arguments = parser.parse_args()
    rng = np.random.default_rng(SEED)
    sets = {
        name: read(arguments.data, name) for name in TRAINED_ON if name not in arguments.without
    }
    trained = {name: small(one.of("train").bare()) for name, one in sets.items()}
    tune = {name: small(one.of("tune").bare()) for name, one in sets.items()}
    sources = {
        "kermany": trained.get("kermany", []),
        "adults": [image for name in trained if name != "kermany" for image in trained[name]],
    }
    sources["phantoms"] = phantoms(1500, SEED)
    fraction = 0.1 if arguments.quick else 1
    counts = {name: int(count * fraction) for name, count in POOL.items()}
    chests = pool(sources, counts, rng)
    families = [name for name in FAMILIES if name not in arguments.without_families]
    others = non_chests(
        [image for images in trained.values() for image in images],
        counts["non_chests"],
        rng,
        families,
    )
    print(f"{len(chests)} chests, {len(others)} non-chest images", flush=True)
    described = fitted(learn(chests, others), chests[:: max(1, len(chests) // 8000)])
    tune["phantoms"] = phantoms(300, SEED + 1)
    flagged = limits(described, {name: images for name, images in tune.items() if images}, rng)
    counted = (
        ", ".join(f"{name} {len(images)}" for name, images in trained.items())
        + f", phantoms {len(sources['phantoms'])}"
    )
    contract = InputContract("orientation", orientation.SIDE, "ranks", "ranks", orientation.OUTPUTS)
    card = {
        **asdict(CARD),
        "counts": (
            f"trained on {counted}, each varied, rotated, mirrored and inverted; "
            f"{len(others)} artificial non-chest images"
        ),
    }
    reported = {"contract": asdict(contract), "card": card, "limits": flagged}
    metadata = {key: json.dumps(value, sort_keys=True) for key, value in reported.items()}
    onnx_export.to_onnx(
        described,
        arguments.out,
        size=orientation.SIDE,
        outputs=orientation.OUTPUTS,
        metadata=metadata,
    )
    onnx_export.to_half_weights(arguments.out, arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1000:.0f} kB, flagged {flagged}")


if __name__ == "__main__":
    main()
