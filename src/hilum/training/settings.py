"""Settings that several model plug-ins have in common, importable without PyTorch.

A plug-in's `Settings` derives from one of these classes and states only what differs. Recipes take
the names and defaults of a model's settings from its source (`hilum.plugins.defaults`), which
follows a base class of this module; so everything here must import fast and without PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass

EVERY, BALANCED = SAMPLINGS = ("every", "balanced")  # of `ClassifierSettings.sampling`


@dataclass(frozen=True)
class AugmentationLimits:
    """The largest random change of each kind in training; 0 switches a change off.

    Rotations by positive degrees are anticlockwise. `scale`, `aspect`, `contrast` and `gamma` are
    relative to the factor 1 (0.1: from 1/1.1 to 1.1); `aspect` stretches the width against the
    height. `brightness` is a fraction of full white, `shift` and `elastic` are fractions of the
    image's height and width. `flip` mirrors every second image: off, since the heart lies on the
    left.

    The others imitate devices and hospitals that are not in the training set. `uneven` is a
    brightness that varies over the image and `noise` a standard deviation, both fractions of full
    white; `blur` is a standard deviation as a fraction of the side; `local_contrast` is the
    fraction of the images whose histogram is equalised, locally or globally.
    """

    rotation_degrees: float = 10.0
    scale: float = 0.1
    shift: float = 0.06
    contrast: float = 0.25
    brightness: float = 0.1
    gamma: float = 0.3
    elastic: float = 0.0
    flip: bool = False
    aspect: float = 0.0
    uneven: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    local_contrast: float = 0.0


@dataclass(frozen=True)
class OcclusionLimits(AugmentationLimits):
    """Augmentation that also covers parts of the image, as only segmenters use it.

    `border`, `markers`, `invert` and `opacities` are fractions of the images: those in which
    something other than black enters from beyond the border (one grey level or the border's own
    pixels); on which a rectangle of one grey level lies; that are inverted; and in which one to
    three soft bright patches imitate disease, so that a lung is recognised by its outline where it
    is white. `bands` are covered at the edges, at most this fraction of the side each.
    """

    border: float = 0.0
    bands: float = 0.0
    markers: float = 0.0
    invert: float = 0.0
    opacities: float = 0.0


@dataclass(frozen=True)
class LoopSettings:
    """Settings of the training loop, see `hilum.training.training_loop`.

    Training runs for `epochs`, or longer on few images, until `least_steps` batches. `averaging` is
    the decay of the exponential average of the weights that is kept; 0 keeps the last weights.
    `precision` is "float32", "bfloat16", or "auto": bfloat16 where the hardware computes it.

    `batch_size` is that of all processes together. Its gradient is computed in `accumulate` parts,
    for batches that do not fit into the memory; batch normalisation sees one part. `compiled`
    compiles the network, which takes a minute or two and pays on a GPU. Checkpoints are written
    after each epoch and, unless 0, every `checkpoint_steps` batches.
    """

    epochs: int = 8
    least_steps: int = 240
    batch_size: int = 8
    learning_rate: float = 0.003
    weight_decay: float = 0.01
    averaging: float = 0.98
    precision: str = "auto"
    accumulate: int = 1
    compiled: bool = False
    checkpoint_steps: int = 0


@dataclass(frozen=True)
class SegmenterSettings(OcclusionLimits, LoopSettings):
    """Settings of every lung segmenter.

    `width` is the number of channels at the finest level. `patience` is that of
    `training_loop.EarlyStopping`. Soft Dice is computed over each "batch" or each "image", as
    `dice_over` says.
    """

    width: int = 24
    patience: float = 0.4
    dice_over: str = "batch"
    scale: float = 0.12
    opacities: float = 0.5


@dataclass(frozen=True)
class ClassifierSettings(AugmentationLimits, LoopSettings):
    """Settings of every trained classifier of findings.

    `watch` is the quantity measured on the tune part to keep the best weights and to stop early:
    "auroc", "loss", or "none", which trains to the end. `patience` is that of
    `training_loop.EarlyStopping`. `augment_on` is "cpu", or "device" to change images on the GPU
    where processors are too slow for it. `sampling` is "every" image once an epoch,
    or "balanced": as many images of each source.
    """

    least_steps: int = 160
    batch_size: int = 16
    learning_rate: float = 0.0003
    averaging: float = 0.0
    dropout: float = 0.2
    watch: str = "auroc"
    patience: float = 0.5
    augment_on: str = "cpu"
    sampling: str = EVERY
    rotation_degrees: float = 8.0
    shift: float = 0.05
    contrast: float = 0.2
    gamma: float = 0.2
