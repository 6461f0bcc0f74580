"""Train an EfficientNet-Lite0 on the pneumonia of children, as a start for fewer films.

    python -m tools.build_models.films --data ../shared/data --work FILMS/kermany224 \\
        --sets kermany-224
    OMP_NUM_THREADS=1 python -m tools.build_models.pneumonia_backbone \\
        --films FILMS/kermany224 --out WORK/pneumonia_backbone.pt

An EfficientNet-Lite0 with ImageNet weights is trained on 5,232 chest radiographs of Kermany's
training part: is there pneumonia, and is it bacterial? Its features, without the last layer, are
tried as a start for tuberculosis (tools/build_models/out_of_fold.py) and in probes across hospitals
(benchmarks/accuracy/hospital_probes.py). No film of tuberculosis and none of the official test part
is read. Killed, the same command resumes.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn

from hilum import storage
from hilum.training import classification, efficientnet_backbone
from hilum.training.models import efficientnet_lite0

CONCEPTS = ("pneumonia", "bacterial")
SETTINGS = efficientnet_lite0.Settings(epochs=2)
SEED = 0


def targets(facts: pl.DataFrame) -> np.ndarray:
    """Return the targets, float32 (n, 2), of `CONCEPTS`; bacterial is nan without pneumonia."""
    path = facts["path"].str.to_lowercase()
    made = np.full((facts.height, len(CONCEPTS)), np.nan, np.float32)
    made[:, 0] = facts["pneumonia"].to_numpy()
    for word, state in (("virus", 0.0), ("bacteria", 1.0)):
        made[path.str.contains(word).to_numpy(), 1] = state
    return made


def network(concepts: int, dropout: float = SETTINGS.dropout) -> classification.Classifier:
    """Return a classifier with ImageNet weights, of which the first stages are frozen."""
    backbone = efficientnet_backbone.Backbone()
    efficientnet_backbone.load_imagenet(backbone)
    backbone.freeze(SETTINGS.frozen)
    channels = efficientnet_backbone.HEAD
    return classification.Classifier(backbone, channels, concepts, dropout)


def fit_from(
    place: Path,
    images: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    settings: efficientnet_lite0.Settings,
    *,
    seed: int,
    **training: Any,
) -> nn.Module:
    """Train as `hilum.training.models.efficientnet_lite0.fit`, from the features of `place`.

    Raises `ValueError` where `settings` freeze other stages than those features have.
    """
    if settings.frozen != SETTINGS.frozen or not settings.pretrained:
        raise ValueError(
            f"the features of {place} have {SETTINGS.frozen} frozen stages; got settings with "
            f"frozen {settings.frozen}, pretrained {settings.pretrained}"
        )
    weights = torch.load(place, weights_only=True)

    def started(concepts: int) -> classification.Classifier:
        """Make the network before training."""
        made = network(concepts, settings.dropout)
        made.features.load_state_dict(weights)
        return made

    return classification.fit(started, images, labels, rows, settings, seed=seed, **training)


def fit_of(place: Path | None) -> Callable[..., nn.Module]:
    """Return the function that trains: from the features of `place`, or from ImageNet's."""
    if place is None:
        return efficientnet_lite0.fit
    return lambda *given, **training: fit_from(place, *given, **training)


def main() -> None:
    """Train, and write the features' weights."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=Path, required=True, help="the folder of films.py")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    facts = pl.read_parquet(arguments.films / "facts.parquet")
    begun = time.monotonic()

    def progress(done: int, of: int) -> None:
        if done % 20 == 0:
            print(f"{done} of {of} batches, {time.monotonic() - begun:.0f} s", flush=True)

    checkpoint = arguments.out.with_suffix(".checkpoint")
    trained = classification.fit(
        network,
        np.load(arguments.films / "crops.npy", mmap_mode="r"),
        targets(facts),
        np.flatnonzero(facts["part"].is_in(["train", "tune"]).to_numpy()),
        SETTINGS,
        concepts=CONCEPTS,
        seed=SEED,
        checkpoint=checkpoint,
        progress=progress,
    )
    content = io.BytesIO()
    torch.save(trained.network.features.state_dict(), content)
    storage.write_bytes(arguments.out, content.getvalue())
    checkpoint.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
