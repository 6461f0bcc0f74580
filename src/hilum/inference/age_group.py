"""Measure the age group of a frontal chest radiograph: a child's, an adult's, or neither for sure.

Used where the patient's age is not stated, so that a model of adults does not answer for a child,
nor a model of children for an adult. Images are uint8 (size, size), whole and letterboxed, bright
is dense.

`resources/age_group.onnx` gives the log-odds that the patient is at most `OLDEST_CHILD` years old
rather than `YOUNGEST_ADULT` or older; its card names the training script and data. Its metadata
hold `rank_weights`, the part of the log-odds that is linear in `rank_cells`, and `limits`, two
values of the log-odds chosen on images of patients that the model had not seen: above `child` an
image is classified as a child's, below `adult` as an adult's, and between them neither is stated,
as is right for most youths. What it misses at hospitals that it has not seen is measured in
benchmarks/results/accuracy.md. It is no measure of age.
"""

from __future__ import annotations

import numpy as np

from hilum.imaging.geometry import content_box, resize
from hilum.inference import orientation, pretrained

CHILD, ADULT = "child", "adult"
OLDEST_CHILD, YOUNGEST_ADULT = 10.0, 18.0  # years
RANKS = 16  # side of the grid of ranks


def log_odds(image: np.ndarray) -> float:
    """Compute the log-odds of a child; above 0 a child is more likely."""
    model = pretrained.opened(pretrained.path(pretrained.AGE_GROUP))
    size = model.contract.size
    image = image if image.shape == (size, size) else resize(image, (size, size))
    by_ranks = rank_cells(image) @ np.array(model.metadata["rank_weights"])
    return float(np.atleast_1d(model(image)["child"])[0] + by_ranks)


def rank_cells(image: np.ndarray) -> np.ndarray:
    """Compute the mean ranks of the grey levels in the cells of an image without its border.

    float32 (RANKS * RANKS,), 0 to 255. They depend neither on the window nor on padding.
    """
    cells = resize(orientation.ranks(image[content_box(image)]), (RANKS, RANKS))
    return cells.astype(np.float32).ravel()


def classify(image: np.ndarray) -> str:
    """Return CHILD, ADULT, or "" where the image does not decide."""
    limits = pretrained.opened(pretrained.path(pretrained.AGE_GROUP)).metadata["limits"]
    found = log_odds(image)
    if found > limits["child"]:
        return CHILD
    return ADULT if found < limits["adult"] else ""
