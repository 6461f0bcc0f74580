"""Describe how an image was made, not what it shows: intensities, sharpness and noise.

Of an image as a model is given it, uint8 (size, size), bright is dense. The values do not depend on
the size of the square as long as it stays the same for all images that are compared.
"""

from __future__ import annotations

import numpy as np

from hilum.imaging.geometry import resize
from hilum.imaging.radiograph import percentiles

QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
OCTAVES = 4  # bands of spatial frequency, the finest first
RIM = 0.06  # of the side: the width of the border
FAINT = 0.05  # grey levels, so that the logarithm of a flat image's energy is finite
NAMES = (
    *(f"quantile_{level:g}" for level in QUANTILES),
    "black",
    "white",
    "rim",
    *(f"energy_{octave}" for octave in range(OCTAVES)),
    "noise",
)


def describe_pixels(image: np.ndarray) -> np.ndarray:
    """Compute the values `NAMES` of an image, uint8 (size, size), as float64 (len(NAMES),).

    Quantiles, and the mean of the border, as fractions of the full range; the fractions of pixels
    that are black and white; the logarithms of the standard deviation in each octave and of the
    median absolute difference of neighbouring pixels, in grey levels.
    """
    pixels = image.astype(np.float32)
    rim = max(1, round(RIM * image.shape[0]))
    inside = np.zeros(image.shape, bool)
    inside[rim:-rim, rim:-rim] = True
    energies, coarse = [], pixels
    for _ in range(OCTAVES):
        height, width = coarse.shape
        smaller = resize(coarse, (max(1, height // 2), max(1, width // 2)))
        energies.append(np.log(float((coarse - resize(smaller, (height, width))).std()) + FAINT))
        coarse = smaller
    noise = np.median(np.abs(np.diff(np.diff(image.astype(np.int16), axis=0), axis=1)))
    return np.array(
        [
            *(percentiles(image, 100 * np.array(QUANTILES)) / 255),
            (image == 0).mean(),
            (image == 255).mean(),
            pixels[~inside].mean() / 255,
            *energies,
            np.log(float(noise) + FAINT),
        ]
    )
