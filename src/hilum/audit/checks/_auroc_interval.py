"""How sure a figure can be on so many patients."""

from __future__ import annotations

import math

_Z = 1.96  # of a 95 % interval


def half_width(auroc: float, positives: int, negatives: int) -> float:
    """Half of the 95 % interval of an AUROC measured on so many independent rows.

    Source: Hanley and McNeil, Radiology 143:29 (1982), formulas 1 and 2.
    """
    both_above, both_below = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    spread = (
        auroc * (1 - auroc)
        + (positives - 1) * (both_above - auroc**2)
        + (negatives - 1) * (both_below - auroc**2)
    )
    return _Z * math.sqrt(max(0.0, spread) / (positives * negatives))
