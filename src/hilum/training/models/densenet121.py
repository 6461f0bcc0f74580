"""DenseNet-121 as a classifier of findings, from MONAI, with random weights or those of a file.

See `hilum.training.classification` for inputs and outputs. `weights` names a state dict with
torchvision's names, as used for published radiograph models: TorchXRayVision's (Cohen et al. 2022,
arXiv:2111.00595), one channel from -1024 to 1024, and CheXNet's (Rajpurkar et al. 2017,
arXiv:1711.05225), three channels with ImageNet's mean and standard deviation, also with the older
names (`module.densenet121.features.denseblock1.denselayer1.norm.1.weight`). The grey image is
scaled as the weights require inside the network; three channels receive it three times, each with
its own scale. Without weights each image is standardised to mean 0 and standard deviation 1. The
file's last layer is dropped: the findings of the recipe are trained anew.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.errors import BadData, BadRecipe, NotFound
from hilum.plugins import Card
from hilum.safety import untrusted_files
from hilum.training import classification, efficientnet_backbone
from hilum.training.settings import ClassifierSettings
from hilum.training.staged_features import StagedFeatures

TASK = "finding"
OUTPUTS = classification.OUTPUTS
CARD = Card(
    title="DenseNet-121 for findings",
    licence=(
        "Apache-2.0 (the code; initial and trained weights are bound by the terms of the images "
        "they were trained on)"
    ),
    source=(
        "Huang, Liu, van der Maaten, Weinberger: Densely Connected Convolutional Networks. CVPR "
        "2017; from MONAI"
    ),
    citation="arXiv:1608.06993",
    caveats=(
        "A score is not a probability. It knows the hospitals, devices and patients it was trained "
        "on, and no others; weights from a file may have been trained on images that are now in "
        "the test part, which cannot be detected here. With random weights it needs thousands of "
        "images. On processors it trains and runs several times slower than 'efficientnet_lite0'."
    ),
)
QUICK: Mapping[str, int | float] = {"epochs": 2, "least_steps": 40, "frozen": 3}

CHANNELS = 1024  # after the last block
BLOCKS = 4
Scale = tuple[list[float], list[float]]
"""for each channel, offset and divisor of the grey level as a fraction of full white"""
RANGES: dict[int, Scale] = {
    1: ([0.5], [1 / 2048]),
    3: ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}
"""by the number of channels of a file's weights"""

# Not used: the last layer, and thresholds beside it.
HEADS = re.compile(r"classifier\.|op_threshs$|upsample\.|fc\.")
WHOLE_MODEL = (
    "is not a state dict that can be read without running code in it; convert a model saved whole, "
    "as TorchXRayVision's releases are, where that package is installed and its author is trusted: "
    'python -c "import torch, torchxrayvision; '
    "torch.save(torch.load('MODEL.pt', weights_only=False).state_dict(), 'STATE.pt')\""
)


@dataclass(frozen=True)
class Settings(ClassifierSettings):
    """`weights` is a file of initial weights; "" for random ones.

    `frozen` is the number of dense blocks, of four, that keep the weights of the file, with the
    layers before them; it applies with `weights` only.
    """

    weights: str = ""
    frozen: int = 0


def fit(
    images: np.ndarray,
    targets: np.ndarray,
    rows: np.ndarray,
    settings: Settings,
    *,
    seed: int,
    **training: Any,
) -> nn.Module:
    """Train on `rows` of images, uint8 (N, size, size), and targets, float32 (N, k), nan unknown.

    See `classification.fit`. Raises `NotFound` and `BadData` for weights that are missing or of
    another network, `TooFew` where a concept lacks a state, `BadRecipe` for a size that the network
    cannot take.
    """
    _, height, width = images.shape
    efficientnet_backbone.check_size(height, width, network="DenseNet-121")
    if not 0 <= settings.frozen <= BLOCKS:
        raise BadRecipe(f"frozen must be from 0 to {BLOCKS} dense blocks, got {settings.frozen}")
    stored = read_weights(Path(settings.weights)) if settings.weights else None

    def network(concepts: int) -> classification.Classifier:
        """Make the untrained network."""
        return classification.Classifier(
            features(stored, settings.frozen), CHANNELS, concepts, settings.dropout
        )

    return classification.fit(network, images, targets, rows, settings, seed=seed, **training)


def features(stored: Mapping[str, Tensor] | None, frozen: int = 0) -> Features:
    """Make the network up to its last features, with weights from `read_weights` or random ones."""
    # MONAI takes seconds to import, so it is imported only when a network is made.
    from monai.networks.nets.densenet import DenseNet121

    channels = stored["conv0.weight"].shape[1] if stored else 1
    body = DenseNet121(spatial_dims=2, in_channels=channels, out_channels=1).features
    if not stored:
        return Features(body, None, 0)
    own = body.state_dict()
    # Files older than this counter lack it, and nothing is computed from it.
    stored = {
        **{name: value for name, value in own.items() if name.endswith("num_batches_tracked")},
        **stored,
    }
    faults = [f"{name} is missing" for name in own if name not in stored] + [
        f"{name} is unknown" for name in stored if name not in own
    ]
    wrong = (name for name in own if name in stored and own[name].shape != stored[name].shape)
    faults += [
        f"{name} has shape {tuple(stored[name].shape)}, expected {tuple(own[name].shape)}"
        for name in wrong
    ]
    if faults:
        raise BadData.listing("the weights are not those of a DenseNet-121", faults)
    body.load_state_dict(stored)
    return Features(body, RANGES[channels], frozen)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a file's weights, renamed as in MONAI.

    Raises `NotFound`, or `BadData` for a file that is no state dict of such a network.
    """
    try:
        with untrusted_files.opened(path) as stream:
            held = torch.load(stream, map_location="cpu", weights_only=True)
    except NotFound:
        raise NotFound(f"[classify] weights: there is no file {path}") from None
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise BadData(f"{path} {WHOLE_MODEL}") from error
    held = held.get("state_dict", held) if isinstance(held, Mapping) else held
    if not isinstance(held, Mapping) or not all(
        isinstance(value, Tensor) for value in held.values()
    ):
        raise BadData(
            f"{path} holds {type(held).__name__}, not a state dict: expected names and tensors; "
            f"{WHOLE_MODEL}"
        )
    stored = {renamed: value for name, value in held.items() if (renamed := _renamed(name))}
    foreign = [
        name
        for name in stored
        if not re.match(r"(conv0|norm0|norm5|denseblock\d|transition\d)\.", name)
    ]
    if foreign:
        raise BadData.listing(
            f"{path} holds weights that a DenseNet-121 does not have; expected names such as "
            f"'features.conv0.weight'",
            foreign,
        )
    if (
        "conv0.weight" not in stored
        or stored["conv0.weight"].ndim != 4
        or stored["conv0.weight"].shape[1] not in RANGES
    ):
        raise BadData(
            f"{path} holds no 'features.conv0.weight' of 1 or 3 channels: use weights of a "
            f"DenseNet-121 with torchvision's names"
        )
    return stored


def _renamed(name: str) -> str:
    """Translate torchvision's name, also older and wrapped ones, to MONAI's; "" for unused ones."""
    name = name.removeprefix("module.").removeprefix("model.").removeprefix("densenet121.")
    if HEADS.match(name):
        return ""
    name = name.removeprefix("features.")
    return re.sub(r"(denselayer\d+)\.(?:layers\.)?(norm|conv)\.?([12])\.", r"\1.layers.\2\3.", name)


class Features(StagedFeatures):
    """float32 (n, 1, size, size) in [0, 1] -> float32 (n, 1024, size / 32, size / 32).

    `scale` is one of RANGES; None standardises each image by itself.
    """

    middle: Tensor
    width: Tensor

    def __init__(self, body: nn.Sequential, scale: Scale | None, frozen: int) -> None:
        super().__init__()
        self.body, self.own_scale = body, scale is None
        middle, width = scale or ([0.0], [1.0])
        self.register_buffer("middle", torch.tensor(middle).view(1, -1, 1, 1))
        self.register_buffer("width", torch.tensor(width).view(1, -1, 1, 1))
        names = [name for name, _ in body.named_children()]
        last = names.index(f"denseblock{frozen}") + 1 if frozen else 0
        self.still = [body[at] for at in range(last)]
        for part in self.still:
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> Features:
        """Set the training mode; frozen parts stay in evaluation, with the file's statistics."""
        super().train(mode)
        for part in self.still:
            part.eval()
        return self

    def each_stage(self, x: Tensor) -> list[Tensor]:
        """Compute what each transition passes on, and then the last block's features."""
        x = (
            efficientnet_backbone.standardised(x)
            if self.own_scale
            else (x - self.middle) / self.width
        )
        found = []
        for name, part in self.body.named_children():
            x = part(x)
            if name.startswith("transition"):
                found.append(x)
        return [*found, x]

    def last_features(self, stage: Tensor) -> Tensor:
        """Compute the output of the network from its last stage."""
        return F.relu(stage)
