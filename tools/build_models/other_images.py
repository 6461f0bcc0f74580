"""Make artificial images that are no frontal chest radiograph, by family: what the orientation
detector learns to refuse.

None is a real radiograph of another part: how well they stand for one is measured by leaving a
family out, and on a few real files. Images are uint8 (height, width). Each family is a function of
(a bare chest image, a generator); those that need no chest ignore it.
"""

from __future__ import annotations

import cv2
import numpy as np

SIDE = 128


def noise(chest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return noise whose power falls with frequency by a random exponent: from snow to clouds."""
    across = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]) + 1 / SIDE
    spectrum = np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) / across ** rng.uniform(0, 2.5)
    return _stretched(np.fft.irfft2(spectrum))


def grating(chest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return waves, checks and gradients."""
    v, u = np.mgrid[:SIDE, :SIDE] / SIDE
    waves = sum(
        np.sin(2 * np.pi * (a * u + b * v + c))
        for a, b, c in rng.uniform(-8, 8, (rng.integers(1, 4), 3))
    )
    waves = np.sign(waves) if rng.random() < 0.4 else waves
    return _grainy(waves + rng.uniform(-4, 4) * u + rng.uniform(-4, 4) * v, rng)


def scene(chest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return shapes in front of one another with shading, as a photograph of things."""
    v, u = np.mgrid[:SIDE, :SIDE] / SIDE
    image = (rng.uniform(0, 1) + rng.uniform(-0.6, 0.6) * u + rng.uniform(-0.6, 0.6) * v).astype(
        np.float32
    )
    for _ in range(rng.integers(4, 30)):
        layer, centre = np.zeros((SIDE, SIDE), np.uint8), rng.uniform(0, SIDE, 2)
        if rng.random() < 0.5:
            points = centre + rng.normal(0, rng.uniform(5, 35), (rng.integers(3, 8), 2))
            cv2.fillPoly(layer, [points.astype(np.int32)], 255, cv2.LINE_AA)
        else:
            cv2.ellipse(
                layer,
                centre.astype(int).tolist(),
                rng.integers(3, 45, 2).tolist(),
                rng.uniform(0, 180),
                0,
                360,
                255,
                -1,
                cv2.LINE_AA,
            )
        shade = rng.uniform(0, 1) + rng.uniform(-0.4, 0.4) * u + rng.uniform(-0.4, 0.4) * v
        image += layer / 255 * (shade - image)
    return _grainy(image, rng)


def page(chest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return lines of text, dark on bright or bright on dark."""
    image = np.full((SIDE, SIDE), 255, np.uint8)
    for line in range(rng.integers(4, 12)):
        words = "".join(rng.choice(list("abcdefghiklmnoprstu     "), rng.integers(3, 40)))
        cv2.putText(
            image,
            words,
            (6, 10 + line * int(rng.integers(9, 13))),
            cv2.FONT_HERSHEY_SIMPLEX,
            rng.uniform(0.25, 0.5),
            0,
            1,
            cv2.LINE_AA,
        )
    return image if rng.random() < 0.6 else 255 - image


def detail(chest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a small region of a chest, 12 to 35 % of its sides."""
    height, width = (int(side * rng.uniform(0.12, 0.35)) for side in chest.shape)
    top, left = rng.integers(chest.shape[0] - height), rng.integers(chest.shape[1] - width)
    return chest[top : top + height, left : left + width]


def half(chest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return one side of a chest alone, or its upper or lower third: half images, and a little like
    a lateral one.
    """
    height, width = chest.shape
    if rng.random() < 0.25:
        return chest[: int(height * 0.33)] if rng.random() < 0.5 else chest[int(height * 0.68) :]
    middle = int(width * rng.uniform(0.46, 0.54))
    return chest[:, :middle] if rng.random() < 0.5 else chest[:, middle:]


def shuffled(chest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a chest cut into tiles that have changed places, or doubled beside itself."""
    small = cv2.resize(chest, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.3:
        return np.concatenate(
            [small, small if rng.random() < 0.5 else small[:, ::-1]], axis=int(rng.integers(2))
        )
    tiles = int(rng.integers(2, 5))
    step = SIDE // tiles
    pieces = [
        small[row * step : (row + 1) * step, column * step : (column + 1) * step]
        for row in range(tiles)
        for column in range(tiles)
    ]
    order = rng.permutation(len(pieces))
    if (order == np.arange(len(pieces))).mean() > 0.3:  # hardly changed
        order = np.roll(order, 1)
    return np.block(
        [[pieces[order[row * tiles + column]] for column in range(tiles)] for row in range(tiles)]
    )


def limb(chest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return one to five long bones with cortex in soft tissue on air: arm, leg, hand; leaning
    anyhow.
    """
    dense = np.zeros((SIDE, SIDE), np.float32)
    count, angle = int(rng.integers(1, 6)), rng.uniform(0, np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    reach, width = rng.uniform(0.5, 1.2) * SIDE, rng.uniform(0.05, 0.3) * SIDE / count**0.7
    dense += 0.8 * _tube(
        SIDE / 2 - along * reach,
        SIDE / 2 + along * reach,
        width * (count + rng.uniform(0.5, 2.5)),
        rng,
    )
    for number in range(count):
        middle = SIDE / 2 + across * (number - (count - 1) / 2) * width * rng.uniform(1.2, 2)
        joint = middle + along * rng.uniform(-0.4, 0.4) * SIDE
        gap = along * width * 0.25
        for start, end in (
            (middle - along * reach, joint - gap),
            (joint + gap, middle + along * reach),
        ):
            dense += _tube(start, end, width, rng) - 0.5 * _tube(start, end, width * 0.55, rng)
    return _film(dense, rng)


def _tube(start: np.ndarray, end: np.ndarray, width: float, rng: np.random.Generator) -> np.ndarray:
    layer = np.zeros((SIDE, SIDE), np.uint8)
    places = [np.clip(place, -3 * SIDE, 4 * SIDE).astype(int).tolist() for place in (start, end)]
    cv2.line(layer, *places, 255, max(1, int(width)), cv2.LINE_AA)
    return cv2.GaussianBlur(layer, (0, 0), rng.uniform(0.5, 2.5)).astype(np.float32) / 255


def skull(chest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return ovals within ovals with bright rims and holes: skull, jaw, pelvis, abdomen."""
    dense = np.zeros((SIDE, SIDE), np.float32)
    centre, radius = SIDE * rng.uniform(0.4, 0.6, 2), SIDE * rng.uniform(0.28, 0.6, 2)
    dense += 1.2 * _oval(centre, radius, rng) - rng.uniform(0.1, 0.6) * _oval(
        centre, radius * rng.uniform(0.8, 0.93), rng
    )
    for _ in range(rng.integers(2, 9)):
        place, size = (
            centre + rng.uniform(-0.6, 0.6, 2) * radius,
            radius * rng.uniform(0.08, 0.35, 2),
        )
        dense += rng.uniform(-0.5, 0.7) * (
            _oval(place, size, rng) - rng.uniform(0, 1) * _oval(place, size * 0.75, rng)
        )
    if rng.random() < 0.5:
        spine = SIDE * rng.uniform(0.4, 0.6)
        dense += 0.5 * _tube(
            np.array([spine, 0]),
            np.array([spine + rng.uniform(-9, 9), SIDE]),
            SIDE * rng.uniform(0.06, 0.16),
            rng,
        )
    return _film(dense, rng)


def lateral(chest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a chest from the side: one field of air between sternum and spine, the heart in front
    below, the diaphragm rising forwards.
    """
    dense = 1.6 * _oval(
        SIDE * np.array([0.5, 0.6]),
        SIDE * np.array([rng.uniform(0.36, 0.48), rng.uniform(0.6, 0.75)]),
        rng,
    )
    top, bottom = rng.uniform(0.08, 0.18), rng.uniform(0.72, 0.9)
    back = [[0.45, top], [0.6, top + 0.02], [0.76, 0.3], [0.8, 0.55], [0.78, bottom + 0.04]]
    air = np.array([*back, [0.55, bottom - 0.06], [0.3, bottom - 0.1], [0.24, 0.45], [0.33, 0.25]])
    air = (air + rng.normal(0, 0.015, air.shape)) * SIDE
    layer = cv2.fillPoly(np.zeros((SIDE, SIDE), np.uint8), [air.astype(np.int32)], 255, cv2.LINE_AA)
    dense -= (
        rng.uniform(0.7, 1.2)
        * cv2.GaussianBlur(layer, (0, 0), rng.uniform(1.5, 4)).astype(np.float32)
        / 255
    )
    dense += rng.uniform(0.4, 0.9) * _oval(
        SIDE * np.array([0.42, bottom - 0.2]), SIDE * rng.uniform(0.12, 0.2, 2), rng
    )
    spine = SIDE * np.array([[0.68, 0.0], [0.8, 0.45], [0.7, 1.0]])
    for start, end in zip(spine[:-1], spine[1:], strict=True):
        dense += rng.uniform(0.2, 0.5) * _tube(start, end, SIDE * rng.uniform(0.06, 0.1), rng)
    for number in range(rng.integers(5, 10)):
        high = (0.15 + 0.08 * number) * SIDE
        dense += rng.uniform(0.05, 0.25) * _tube(
            np.array([SIDE * 0.78, high]),
            np.array([SIDE * 0.28, high + SIDE * rng.uniform(0.1, 0.25)]),
            3,
            rng,
        )
    if rng.random() < 0.7:
        dense += rng.uniform(0.3, 0.7) * _tube(
            SIDE * np.array([0.5, 0.16]),
            SIDE * np.array([rng.uniform(0, 0.4), -0.05]),
            SIDE * 0.13,
            rng,
        )
    image = _film(dense, rng)
    return image if rng.random() < 0.5 else np.ascontiguousarray(image[:, ::-1])


def _oval(centre: np.ndarray, radius: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    layer = np.zeros((SIDE, SIDE), np.uint8)
    cv2.ellipse(
        layer,
        centre.astype(int).tolist(),
        np.maximum(radius, 1).astype(int).tolist(),
        rng.uniform(-20, 20),
        0,
        360,
        255,
        -1,
        cv2.LINE_AA,
    )
    return cv2.GaussianBlur(layer, (0, 0), rng.uniform(0.8, 4)).astype(np.float32) / 255


def _film(dense: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    dense = (
        np.maximum(dense, 0)
        + cv2.resize(
            rng.standard_normal((9, 9)).astype(np.float32),
            (SIDE, SIDE),
            interpolation=cv2.INTER_CUBIC,
        )
        * 0.04
    )
    return _grainy(1 - np.exp(-np.maximum(dense, 0) * rng.uniform(0.7, 1.8)), rng)


def _grainy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = image + rng.normal(0, rng.uniform(0, 0.05), image.shape) * (image.max() - image.min())
    return _stretched(cv2.GaussianBlur(image.astype(np.float32), (0, 0), rng.uniform(0.3, 1.5)))


def _stretched(image: np.ndarray) -> np.ndarray:
    low, high = image.min(), image.max()
    return ((image - low) / max(high - low, 1e-6) * 255 + 0.5).astype(np.uint8)


FAMILIES = {
    family.__name__: family
    for family in (noise, grating, scene, page, detail, half, shuffled, limb, skull, lateral)
}
