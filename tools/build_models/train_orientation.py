"""Train src/hilum/resources/orientation.onnx, the detector of pictures that are inverted, turned, mirrored or no frontal chest (hilum.inference.orientation).

    python -m tools.build_models.train_orientation --data FOLDER --to src/hilum/resources/orientation.onnx
    python -m tools.build_models.train_orientation --data FOLDER --to /tmp/without.onnx --without montgomery shenzhen

FOLDER holds kermany-224/, montgomery/ and shenzhen/, see posture_pictures.py. Needs the train extra and some minutes on two cores. The
seed is fixed; other versions of PyTorch or another processor give other last digits. NIH ChestX-ray14 is never learnt from.

The way: train pictures and phantoms are varied harmlessly and brought to what the network sees; while learning each is turned, mirrored and
inverted at random, so the answers are known. Artificial strangers (posture_strangers.py) stand for everything that is no frontal chest.
Limits come from the tune part: what one in 1,000 of its right pictures, plain or varied, exceeds, in the worst of its sets, and no less
than LEAST, for hospitals that are not among them; of mirrored pictures what one in 200 plain ones exceeds, since many a heart hardly tells.
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
LEARNT = ("kermany", "montgomery", "shenzhen")
POOL = {
    "kermany": 22_000,
    "adults": 22_000,
    "phantoms": 7_000,
    "strangers": 16_000,
}  # varied pictures, made once
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
]  # the posture of a picture's mirror image
CARD = Card(
    title="Orientation of a chest radiograph: inverted, rotated, mirrored, or not a frontal chest",
    licence="Apache-2.0, as the program. Trained on images under CC BY 4.0 (Kermany) and images that the National Library of Medicine "
    "gives to the public (Montgomery, Shenzhen; their masks were not used)",
    source="bench/train_posture.py",
    citation="Kermany et al. 2018, Cell 172(5):1122-1131, doi:10.17632/rscbjbr9sj; Jaeger et al. 2014, Quant Imaging Med Surg 4(6):475-477",
    counts="",
    caveats="A quality flag is a question, not a verdict: situs inversus is indistinguishable "
    "from a mirrored image, and a collapsed lung can pull the heart across. The "
    "out-of-distribution output was trained on drawings, noise and fragments of chests; real "
    "radiographs of other body parts, lateral views above all, are recognised less reliably than "
    "these.",
)


class Network(nn.Module):
    """float32 (n, 1, SIDE, SIDE) in [-1, 1] to features (n, FEATURES), and to inverted, strange and the eight postures (n, 10)."""

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

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.features(self.body(pictures))
        return features, self.heads(functional.relu(features))


class Asked(nn.Module):
    """What is exported: uint8 (n, SIDE, SIDE) to `posture.NETWORK`, from the picture and its mirror image."""

    def __init__(self, network: Network, whitening: torch.Tensor, centres: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer(
            "whitening", whitening
        )  # (FEATURES, FEATURES), in units of the distance
        self.register_buffer("centres", centres)  # (16, FEATURES), whitened

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, ...]:
        straight = pictures.unsqueeze(1).float() / 127.5 - 1
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


# ------------------------------------------------------------------------------------------------------------------------ pictures


def seen(image: np.ndarray) -> np.ndarray:
    """A bare picture as the network sees it."""
    rows, columns = content_box(image)
    return orientation.ranks(image[rows, columns])


def small(images: list[np.ndarray]) -> list[np.ndarray]:
    """Half the size, where they are large, to vary them faster."""
    return [
        cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        if min(image.shape) > 128
        else image
        for image in images
    ]


def pool(
    sources: dict[str, list[np.ndarray]], counts: dict[str, int], rng: np.random.Generator
) -> np.ndarray:
    """uint8 (n, SIDE, SIDE): each source's pictures in turn, the first time as they are, then varied."""
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


def strangers(
    chests: list[np.ndarray], count: int, rng: np.random.Generator, families: list[str]
) -> np.ndarray:
    """uint8 (n, SIDE, SIDE), the families in turn, half of them varied as chests are."""
    made = []
    for number in range(count):
        image = np.ascontiguousarray(
            FAMILIES[families[number % len(families)]](chests[rng.integers(len(chests))], rng)
        )
        made.append(seen(vary(image, rng) if rng.random() < 0.5 else image))
    return np.stack(made)


# ------------------------------------------------------------------------------------------------------------------------ learning


def postured(pictures: torch.Tensor, quarters: int, mirror: int) -> torch.Tensor:
    """(n, SIDE, SIDE) mirrored, then turned counterclockwise."""
    return torch.rot90(pictures.flip(2) if mirror else pictures, quarters, (1, 2))


def learn(chests: np.ndarray, others: np.ndarray) -> Network:
    torch.manual_seed(SEED)
    network = Network()
    pictures = torch.from_numpy(np.concatenate([chests, others]))
    steps = EPOCHS * (len(pictures) // BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps)
    for epoch in range(EPOCHS):
        begun, total = time.monotonic(), 0.0
        for rows in torch.randperm(len(pictures))[: len(pictures) // BATCH * BATCH].split(BATCH):
            loss = _loss(network, pictures[rows], rows < len(chests))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        print(
            f"epoch {epoch + 1} of {EPOCHS}: loss {total / (len(pictures) // BATCH):.4f}, {time.monotonic() - begun:.0f} s",
            flush=True,
        )
    return network.eval()


def _loss(network: Network, pictures: torch.Tensor, chest: torch.Tensor) -> torch.Tensor:
    which = torch.randint(8, (len(pictures),))
    dark = torch.rand(len(pictures)) < 0.5
    turned = torch.empty_like(pictures)
    for number in range(8):
        turned[which == number] = postured(pictures[which == number], number // 2, number % 2)
    shown = (torch.where(dark[:, None, None], 255 - turned, turned).float() / 127.5 - 1).unsqueeze(
        1
    )
    _, answers = network(shown)
    inverted = functional.binary_cross_entropy_with_logits(answers[chest, 0], dark[chest].float())
    strange = functional.binary_cross_entropy_with_logits(answers[:, 1], (~chest).float())
    return (
        inverted
        + strange
        + functional.cross_entropy(answers[chest, 2:], which[chest], label_smoothing=0.002)
    )


def fitted(network: Network, chests: np.ndarray) -> Asked:
    """With the Gaussians of the features of chests in each of 16 postures, one covariance for all."""
    pictures, whole = torch.from_numpy(chests), []
    with torch.no_grad():
        for number in range(16):
            shown = postured(pictures, number % 8 // 2, number % 2)
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
    asked = Asked(network, whitening, centres @ whitening).eval()
    with torch.no_grad():
        distance = torch.cat([asked(some)[-1] for some in pictures.split(512)])
    unit = float(np.quantile(distance.numpy(), 0.999))
    return Asked(network, whitening / unit, centres @ whitening / unit).eval()


def limits(
    asked: Asked, tune: dict[str, list[np.ndarray]], rng: np.random.Generator
) -> dict[str, float]:
    """What a picture must exceed to be doubted."""
    found = dict(LEAST)
    for name, images in tune.items():
        answers = {}
        for kind, count in (("plain", len(images)), ("varied", max(4000, 2 * len(images)))):
            with torch.no_grad():
                parts = [
                    asked(some)
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
            f"{name}, {len(images)} pictures",
            *({fault: round(value, 2) for fault, value in told.items()} for told in (plain, worst)),
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
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument(
        "--without", nargs="*", default=[], help="sets to leave out, to measure on them"
    )
    parser.add_argument(
        "--without-families",
        nargs="*",
        default=[],
        choices=list(FAMILIES),
        help="strangers to leave out",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the pictures, to try the script"
    )
    arguments = parser.parse_args()
    rng = np.random.default_rng(SEED)
    sets = {name: read(arguments.data, name) for name in LEARNT if name not in arguments.without}
    learnt = {name: small(one.of("train").bare()) for name, one in sets.items()}
    tune = {name: small(one.of("tune").bare()) for name, one in sets.items()}
    sources = {
        "kermany": learnt.get("kermany", []),
        "adults": [image for name in learnt if name != "kermany" for image in learnt[name]],
    }
    sources["phantoms"] = phantoms(1500, SEED)
    share = 0.1 if arguments.quick else 1
    counts = {name: int(count * share) for name, count in POOL.items()}
    chests = pool(sources, counts, rng)
    families = [name for name in FAMILIES if name not in arguments.without_families]
    others = strangers(
        [image for images in learnt.values() for image in images],
        counts["strangers"],
        rng,
        families,
    )
    print(f"{len(chests)} chests, {len(others)} strangers", flush=True)
    asked = fitted(learn(chests, others), chests[:: max(1, len(chests) // 8000)])
    tune["phantoms"] = phantoms(300, SEED + 1)
    doubted = limits(asked, {name: images for name, images in tune.items() if images}, rng)
    counted = (
        ", ".join(f"{name} {len(images)}" for name, images in learnt.items())
        + f", phantoms {len(sources['phantoms'])}"
    )
    contract = InputContract("orientation", orientation.SIDE, "ranks", "ranks", orientation.OUTPUTS)
    card = {
        **asdict(CARD),
        "counts": f"trained on {counted}, each varied, rotated, mirrored and inverted; "
        f"{len(others)} artificial non-chest images",
    }
    told = {"contract": asdict(contract), "card": card, "limits": doubted}
    metadata = {key: json.dumps(value, sort_keys=True) for key, value in told.items()}
    onnx_export.to_onnx(
        asked, arguments.to, size=orientation.SIDE, outputs=orientation.OUTPUTS, metadata=metadata
    )
    print(f"{arguments.to}: {arguments.to.stat().st_size / 1000:.0f} kB, doubted {doubted}")


if __name__ == "__main__":
    main()
