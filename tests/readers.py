"""Models that read images, made by hand: as small as can be, with all that one that comes with
Hilum must carry.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hilum import storage
from hilum.inference import domain, image_statistics, pretrained, site_scores
from hilum.inference.onnx_model import TRAINING_LIST, InputContract
from hilum.plugins import Card
from hilum.statistics.subspace import Subspace

CHILDREN = {"age_years": [1, 5], "words": "children of one hospital"}
ADULTS = {"age_years": [15, 89], "words": "adults of two hospitals"}
CARD = Card(title="Made by hand", licence="none", caveats="Research only.")


def known_images(limit: float) -> domain.Domain:
    """A domain of images without any content, and of all others up to a distance of `limit`."""
    many = len(image_statistics.NAMES)
    plain = Subspace(np.zeros(many), np.ones(many), np.zeros((1, many)), np.empty(0), 1.0)
    quantiles = np.linspace(0, limit, domain.LEVELS.size)
    return domain.Domain({domain.IMAGE: domain.Detector(plain, quantiles, limit)})


def metadata(
    contract: InputContract,
    *,
    people: dict[str, Any] = ADULTS,
    region: dict[str, Any] | None = None,
    pixels: tuple[str, ...] = (),
    limit: float | None = 1e9,
    direction: dict[str, Any] | None = None,
) -> dict[str, Any]:
    concepts = contract.concepts or (contract.task,)
    known = {} if limit is None else {"domain": known_images(limit).as_json()}
    numbers = (0.5, 2.0, 0.25) if contract.task == "finding" else (0.5, None, None)
    return {
        "contract": asdict(contract),
        "card": asdict(CARD),
        "trained_on": {"images": 2, "sources": [], TRAINING_LIST: list(pixels)},
        "calibration": {
            concept: dict(
                zip(("threshold", "temperature", "bias", "isotonic"), (*numbers, None), strict=True)
            )
            for concept in concepts
        },
        "population": people,
        "figures": {"made up": "none"},
        **known,
        **({site_scores.METADATA: direction} if direction else {}),
        "crop": {
            "pixels": 256,
            "margin": 0.08,
            "masked": False,
            "min_mask_quality": 0.7,
            "typical": {},
            **(region or {}),
        },
    }


def reader(
    folder: Path, name: str, *concepts: str, size: int = 64, content: str = "crop", **reported: Any
) -> Path:
    """A model whose score of the k-th concept is the mean of the image to the power of k + 1;
    without concepts an anomaly model.
    """
    import torch
    from torch import nn

    from hilum.training import onnx_export

    class Mean(nn.Module):
        def forward(self, images):
            light = images.float() / 255
            mean = light.mean((1, 2)).clamp(0.01, 0.99)
            return (
                torch.stack([mean ** (k + 1) for k in range(len(concepts))], 1)
                if concepts
                else (mean, light)
            )

    outputs = ("score",) if concepts else ("score", "map")
    contract = InputContract(
        "finding" if concepts else "anomaly", size, content, "percentiles", outputs, concepts
    )
    reported = {
        key: storage.as_json(value) for key, value in metadata(contract, **reported).items()
    }
    onnx_export.to_onnx(
        Mean(), folder / f"{name}.onnx", size=size, outputs=outputs, metadata=reported
    )
    return folder / f"{name}.onnx"


def installation(folder: Path) -> Path:
    """A folder that holds what is no reader, as an installation has it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in pretrained.OTHERS:
        shutil.copy(pretrained.folder() / name, folder / name)
    return folder
