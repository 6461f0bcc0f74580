"""Time training batches of 224 x 224 from radiographs of full size: of Hilum, TorchXRayVision,
MONAI and plain scikit-image.

    python -m benchmarks.speed.batches --data ../shared/data/nih-sample

Theirs read, shrink and change each image anew, in PyTorch's DataLoader with 2 worker processes,
batches of 32 as float32: TorchXRayVision calls skimage.io.imread, xrv.utils.normalize,
XRayCenterCrop and XRayResizer(224), as its data sets do, and for the change what torchvision's
RandomAffine, which its training uses, does with an image: one affine transform by Pillow
(torchvision itself is not needed). MONAI: LoadImage, ScaleIntensity, Resize, RandAffine.
scikit-image: imread, resize, warp. Ours are read from a cache of 256 x 256, which `hilum cache`
fills once; filling is timed by itself. All are float32 batches in [0, 1] or as the rival scales
them.

Rotating by up to 45 degrees, scaling and shifting by up to 15 %; or a crop and a flip, which theirs
do on the shrunken image (an array slice), so that their rate is that of reading. One process each,
warm, in turn, best round.

Put the rivals beside Hilum with `pip install --no-deps torchxrayvision==1.5.7 monai` and `pip
install scikit-image torch pillow pandas requests tqdm`; one that is not there is left out.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks._lib.results import machine, record
from benchmarks.speed.first_pass import rival
from hilum.imaging.files import image_file
from hilum.imaging.image_stack import ImageStack
from hilum.imaging.radiograph import preprocess
from hilum.training.augmentation import Augmentation
from hilum.training.batches import TrainingImages, epoch

SIZE, BATCH, STORED = 224, 32, 256
DEGREES, FRACTION = 45, 0.15
AFFINE = Augmentation(
    rotation_degrees=DEGREES,
    scale=FRACTION,
    shift=FRACTION,
    contrast=0,
    brightness=0,
    gamma=0,
    crop=SIZE,
)
CROP = Augmentation(
    rotation_degrees=0, scale=0, shift=0, contrast=0, brightness=0, gamma=0, flip=True, crop=SIZE
)
Load = Callable[[str], np.ndarray]
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder with PNG files anywhere in it"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--images",
        type=int,
        default=128,
        help="images a round for the others; ours take 50 times as many",
    )
    arguments = parser.parse_args()
    files = [str(path) for path in sorted(arguments.data.rglob("*.png"))]
    if not files:
        sys.exit(f"no PNG files in {arguments.data}")
    cv2.setNumThreads(1)
    torch.set_num_threads(1)  # as in the rivals' workers
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        stack = stored(files, Path(folder))
        filling = (time.perf_counter() - begun) / len(files)
        rates = measured(dict(ways(files, stack, arguments.images)), arguments.rounds)
    reported = "\n".join(
        [
            f"Command: `python -m benchmarks.speed.batches --data {arguments.data}`",
            f"Machine: {machine('torch', 'numpy', 'opencv-python-headless', 'scikit-image')}",
            "",
            (
                f"{len(files)} files, each used several times. Filling the cache took"
                f" {filling * 1e3:.0f} ms an image, once, one thread. Ratio: ours with the same"
                f" change over theirs. Best of {arguments.rounds} rounds."
            ),
            "",
            "| batches by | change | images/s | ours is faster by |",
            "| --- | --- | --: | --: |",
            *(
                f"| {name} | {change} | {rate:,.0f} | {rates['Hilum', change] / rate:.1f} |"
                for (name, change), rate in rates.items()
            ),
        ]
    )
    record(f"Batches to train on: {arguments.data.resolve().name}", reported)
    print(reported)


def stored(files: list[str], folder: Path) -> ImageStack:
    with open(folder / "images.u8", "wb") as stream:
        stream.writelines(
            preprocess(image_file.read(Path(path)).radiograph(), STORED, "percentiles").tobytes()
            for path in files
        )
    return ImageStack(folder / "images.u8", STORED)


def measured(
    ways: dict[tuple[str, str], Callable[[], Iterable]], rounds: int
) -> dict[tuple[str, str], float]:
    """Return the images a second of each way, the best of its rounds; a first one warms up."""
    best = dict.fromkeys(ways, 0.0)
    for number in range(rounds + 1):
        for name, way in ways.items():
            begun = time.perf_counter()
            seen = sum(len(batch) for batch in way())
            if number:
                best[name] = max(best[name], seen / (time.perf_counter() - begun))
    return best


def ways(
    files: list[str], stack: ImageStack, images: int
) -> Iterator[tuple[tuple[str, str], Callable[[], Iterable]]]:
    """Yield (name, change) and a call that begins a pass over batches."""
    rows = np.arange(50 * images // BATCH * BATCH) % len(files)
    for change, settings in (("affine", AFFINE), ("crop and flip", CROP)):
        yield ("Hilum", change), lambda settings=settings: ours(stack, rows, settings)
        yield (
            ("Hilum, one thread", change),
            lambda settings=settings: ours(stack, rows, settings, workers=1),
        )
    places = [files[number % len(files)] for number in range(images)]
    for name, (load, affine) in rivals().items():
        for change, apply in (("affine", affine), ("crop and flip", crop_and_flip)):
            loader = DataLoader(
                Read(places, load, apply), batch_size=BATCH, num_workers=2, persistent_workers=True
            )
            yield (f"{name}, 2 workers", change), lambda loader=loader: loader


def ours(
    stack: ImageStack, rows: np.ndarray, settings: Augmentation, workers: int | None = None
) -> Iterator[torch.Tensor]:
    """Yield float32 tensors (b, 1, 224, 224), scaled by PyTorch as in a training; their memory is
    used again, as a training step is done with one before it takes the next.
    """
    out = torch.empty(BATCH, SIZE, SIZE)
    rng = np.random.default_rng(0)
    for batch in epoch(TrainingImages(stack), rows, BATCH, rng, settings, workers=workers):
        images = torch.from_numpy(batch.images)
        yield out[: len(images)].copy_(images).div_(torch.iinfo(images.dtype).max).unsqueeze(1)


class Read(Dataset):
    """Hold a map-style data set: load, then change."""

    def __init__(self, places: list[str], load: Load, change: Change) -> None:
        self.places, self.load, self.change = places, load, change

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> torch.Tensor:
        return torch.from_numpy(
            np.ascontiguousarray(
                self.change(self.load(self.places[number]), np.random.default_rng(number)),
                np.float32,
            )
        )


def crop_and_flip(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an image (1, 224, 224), shifted by a few pixels within a border of 16, and mirrored by
    chance.
    """
    top, left = rng.integers(0, 33, 2)
    wide = np.pad(image, ((0, 0), (16, 16), (16, 16)))[:, top : top + SIZE, left : left + SIZE]
    return wide[:, :, ::-1] if rng.random() < 0.5 else wide


# --------------------------------------------------------------------------------------- the rivals


def rivals() -> dict[str, tuple[Load, Change]]:
    found = {}
    for name, make in (
        ("TorchXRayVision", by_xrv),
        ("MONAI", by_monai),
        ("scikit-image", by_skimage),
    ):
        try:
            found[name] = make()
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return found


def by_xrv() -> tuple[Load, Change]:
    from PIL import Image
    from skimage.io import imread

    xrv = rival()
    crop, resize = xrv.datasets.XRayCenterCrop(), xrv.datasets.XRayResizer(SIZE)

    def load(path: str) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return resize(crop(xrv.utils.normalize(imread(path), maxval=255, reshape=True)))

    def affine(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        rotated = Image.fromarray(image[0]).transform(
            (SIZE, SIZE), Image.Transform.AFFINE, matrix(rng)[:2].ravel().tolist()
        )
        return np.asarray(rotated)[None]

    return load, affine


def by_monai() -> tuple[Load, Change]:
    from monai.transforms import LoadImage, RandAffine, Resize, ScaleIntensity

    read, scale, resize = (
        LoadImage(image_only=True, ensure_channel_first=True, reader="PILReader"),
        ScaleIntensity(),
        Resize((SIZE, SIZE), mode="area"),
    )
    change = RandAffine(
        prob=1.0,
        rotate_range=math.radians(DEGREES),
        translate_range=FRACTION * SIZE,
        scale_range=FRACTION,
        padding_mode="zeros",
        mode="bilinear",
    )
    return (
        lambda path: resize(scale(read(path)[:1])).numpy(),
        lambda image, rng: change(torch.from_numpy(np.ascontiguousarray(image))).numpy(),
    )


def by_skimage() -> tuple[Load, Change]:
    from skimage.io import imread
    from skimage.transform import resize, warp

    def load(path: str) -> np.ndarray:
        image = imread(path)
        return resize(
            image if image.ndim == 2 else image[..., 0], (SIZE, SIZE), anti_aliasing=True
        )[None]

    return load, lambda image, rng: warp(image[0], matrix(rng))[None]


def matrix(rng: np.random.Generator) -> np.ndarray:
    """Return the (3, 3) matrix of a rotation, a scale and a shift about the middle."""
    angle, scale, middle = (
        math.radians(rng.uniform(-DEGREES, DEGREES)),
        rng.uniform(1 - FRACTION, 1 + FRACTION),
        (SIZE - 1) / 2,
    )
    shift = rng.uniform(-FRACTION * SIZE, FRACTION * SIZE, 2)
    turn = (
        np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) / scale
    )
    return np.vstack([np.column_stack([turn, middle + shift - turn @ [middle, middle]]), [0, 0, 1]])


if __name__ == "__main__":
    main()
