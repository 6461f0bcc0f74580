"""Read or make what the orientation detector is trained and measured on: real radiographs by
patient, made-up ones, artificial faults, and images of other things.

Images are uint8 (height, width), bright is dense. Everything random comes from a generator that is
passed in. Real data, where the folder has them: Kermany (children, CC BY 4.0), Montgomery and
Shenzhen (adults, National Library of Medicine), NIH ChestX-ray14 (adults; only ever measured on).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hilum.errors import BadData
from hilum.imaging import synthetic
from hilum.imaging.files import image_file
from hilum.imaging.geometry import Letterbox
from hilum.imaging.radiograph import preprocess

SIZE = 256  # of the cache
SETS = {
    "kermany": "kermany-224/chest_xray/*/*/*.jp*g",
    "montgomery": "montgomery/CXR_png/*.png",
    "shenzhen": "shenzhen/CXR_png/*.png",
    "nih": "nih-sample/images/*.png",
}
SAME_PATIENT = {"0113": "0117", "0166": "0162", "0170": "0162"}  # Montgomery's readings name them


@dataclass(frozen=True)
class Images:
    """Hold cached images of one set. `images` uint8 (n, SIZE, SIZE); `sizes` (n, 2) of the files;
    `part` train, tune or test by patient.
    """

    images: np.ndarray
    sizes: np.ndarray
    names: np.ndarray
    part: np.ndarray

    def of(self, part: str) -> Images:
        at = self.part == part
        return Images(self.images[at], self.sizes[at], self.names[at], self.part[at])

    def bare(self) -> list[np.ndarray]:
        """Return the images without the letterbox."""
        return [
            image[Letterbox(tuple(size), SIZE).inside()]
            for image, size in zip(self.images, self.sizes.tolist(), strict=True)
        ]


def read(data: Path, name: str) -> Images:
    """Return all images of a set below `data`; a file that cannot be read is reported
    and left out.
    """
    images, sizes, names = [], [], []
    for path in sorted(data.glob(SETS[name])):
        try:
            radiograph = image_file.read(path).radiograph()
        except BadData as fault:
            print(f"left out: {fault}")
            continue
        images.append(preprocess(radiograph, SIZE, "percentiles"))
        sizes.append(radiograph.size)
        names.append(path.relative_to(data).as_posix())
    if not images:
        return Images(
            np.zeros((0, SIZE, SIZE), np.uint8),
            np.zeros((0, 2), int),
            np.zeros(0, str),
            np.zeros(0, str),
        )
    return Images(
        np.stack(images),
        np.array(sizes),
        np.array(names),
        np.array([part(patient(one)) for one in names]),
    )


def patient(name: str) -> str:
    """Return the patient of a file name: of Kermany the number, one child whatever the cause;
    elsewhere the number in the name.
    """
    stem = Path(name).stem
    number = re.search(r"\d+", stem.removeprefix("NORMAL2-")).group()
    if stem.startswith("person"):
        series = "person"
    else:
        series = "normal" if "IM-" in stem else Path(name).parts[0]
    return (
        f"{series}{SAME_PATIENT.get(number, number) if series.startswith('montgomery') else number}"
    )


def part(patient: str) -> str:
    """Return the part, 70 % train, 10 % tune, 20 % test, by a digest of the patient's name."""
    fraction = int(hashlib.sha256(patient.encode()).hexdigest()[:8], 16) / 2**32
    if fraction < 0.7:
        return "train"
    return "tune" if fraction < 0.8 else "test"


def phantoms(count: int, seed: int) -> list[np.ndarray]:
    """Return made-up chests, of adults and children, healthy and ill, of 64 to 300 pixels and every
    shape that the examples have.
    """
    rng, drawn = np.random.default_rng(seed), []
    for number in range(count):
        height, width = (
            int(side) for side in rng.integers(64, 300) * rng.uniform((0.85, 0.75), (1.1, 1.15))
        )
        body = synthetic.anatomy(rng, child=bool(rng.integers(2)))
        disease = (None, *synthetic.DISEASES)[number % 4]
        drawn.append(
            synthetic.draw(
                body,
                rng,
                height=max(height, 64),
                width=max(width, 64),
                disease=disease,
                marker=bool(rng.integers(4)),
            ).pixels
        )
    return drawn


def cached(image: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Return a bare image as a cache of `SIZE` with the percentile window would hold it, and its
    size.
    """
    low, high = np.percentile(image, (0.5, 99.5))
    stretched = (np.clip((image - low) / max(high - low, 1e-6), 0, 1) * 255 + 0.5).astype(np.uint8)
    return Letterbox(image.shape, SIZE).forward(stretched), image.shape


# ---------------------------------------------------------------------- faults and harmless changes


def rotated(image: np.ndarray, quarters: int) -> np.ndarray:
    """Rotate counterclockwise."""
    return np.ascontiguousarray(np.rot90(image, quarters))


def mirrored(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[:, ::-1])


def inverted(image: np.ndarray) -> np.ndarray:
    return 255 - image


FAULTS = {
    "inverted": inverted,
    "rotated 90": lambda image: rotated(image, 1),
    "rotated 180": lambda image: rotated(image, 2),
    "rotated 270": lambda image: rotated(image, 3),
    "mirrored": mirrored,
    "inverted and rotated 90": lambda image: inverted(rotated(image, 1)),
}


def vary(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a copy that is still right: rotated by up to 15 degrees, cropped, from afar,
    stretched, veiled, blurred, noisy, with borders and text.
    """
    steps = (_rub, _lean, _crop, _veil, _tone, _grain, _text, _frame)
    for step, chance in zip(steps, (0.4, 0.6, 0.6, 0.25, 0.4, 0.4, 0.3, 0.3), strict=True):
        if rng.random() < chance:
            image = step(image, rng)
    return image


def _rub(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Paint over the upper corners, so that the side of a marker, the same throughout some
    sets, cannot stand for the heart's.
    """
    image, (height, width) = (
        image.copy(),
        (np.array(image.shape) * rng.uniform(0.08, 0.25, 2)).astype(int),
    )
    for corner in (image[:height, :width], image[:height, -width:]):
        if rng.random() < 0.7:
            corner[:] = (
                np.median(corner)
                if rng.random() < 0.5
                else cv2.GaussianBlur(corner, (0, 0), max(width / 2, 1))
            )
    return image


def _lean(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape
    afar = rng.random() < 0.3  # the chest small in a large field, with the body going on around it
    scale = rng.uniform(0.62, 0.9) if afar else rng.uniform(0.9, 1.2)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-15, 15), scale)
    matrix[:, 2] += rng.uniform(-0.06, 0.06, 2) * (width, height) - (
        0,
        (rng.uniform(0, 0.8) * (1 - scale) / 2 * height) if afar else 0,
    )
    border = cv2.BORDER_REPLICATE if afar or rng.random() < 0.5 else cv2.BORDER_CONSTANT
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)


def _crop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    (top, left), (bottom, right) = rng.uniform(0, 0.1, (2, 2)) * image.shape
    cut = image[int(top) : image.shape[0] - int(bottom), int(left) : image.shape[1] - int(right)]
    return cv2.resize(cut, None, fx=rng.uniform(0.8, 1.25), fy=1)


def _veil(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add smooth brightness over parts, as effusions, consolidations, obesity and scatter leave
    it.
    """
    cells = rng.uniform(-0.6, 0.8, rng.integers(2, 6, 2)).astype(np.float32)
    field = np.clip(
        cv2.resize(cells, image.shape[::-1], interpolation=cv2.INTER_CUBIC), 0, 0.85
    ) * rng.uniform(0.4, 1)
    return (
        (image + (rng.uniform(170, 255) - image) * field * (image < 230))
        .clip(0, 255)
        .astype(np.uint8)
    )


def _tone(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.3:
        return cv2.createCLAHE(rng.uniform(1, 5), (8, 8)).apply(image)
    levels = (np.arange(256) / 255) ** np.exp(rng.uniform(-0.8, 0.8)) * rng.uniform(
        0.8, 1.3
    ) + rng.uniform(-0.15, 0.15)
    return (np.clip(levels, 0, 1) * 255).astype(np.uint8)[image]


def _grain(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.3 + 0.01 * max(image.shape)))
    return np.clip(image + rng.normal(0, rng.uniform(1, 14), image.shape), 0, 255).astype(np.uint8)


def _text(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw letters, lines and a plate at the rim, white or black; they say nothing of left or
    right here.
    """
    image, scale = image.copy(), max(image.shape) / 256
    for _ in range(rng.integers(1, 4)):
        at = [
            int(side * (rng.uniform(0.02, 0.16) if rng.random() < 0.5 else rng.uniform(0.8, 0.97)))
            for side in image.shape[::-1]
        ]
        words = "".join(rng.choice(list("RLAPXIO 0123456789"), rng.integers(1, 9)))
        tone = int(rng.choice([0, 255, rng.integers(256)]))
        cv2.putText(
            image,
            words,
            at,
            cv2.FONT_HERSHEY_SIMPLEX,
            rng.uniform(0.2, 1.0) * scale,
            tone,
            max(1, round(scale)),
        )
    return image


def _frame(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw borders of one tone, as scanners, collimators and people who make images square leave
    them; or a leaning collimator.
    """
    tone = int(rng.choice([0, 0, 255, rng.integers(256)]))
    if rng.random() < 0.3:
        height, width = image.shape
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]]) * 0.92 + rng.uniform(
            -0.05, 0.13, (4, 2)
        ) * (width, height)
        mask = cv2.fillConvexPoly(np.zeros_like(image), corners.astype(np.int32), 1)
        return np.where(mask > 0, image, np.uint8(tone))
    sides = [
        int(fraction * max(image.shape))
        for fraction in rng.uniform(0, 0.2, 4) * (rng.random(4) < 0.6)
    ]
    return cv2.copyMakeBorder(image, *sides, cv2.BORDER_CONSTANT, value=tone)
