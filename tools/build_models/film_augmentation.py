"""Change films at random on the training device, so that a network cannot rely on how one was made.

All functions take and return float32 (n, 1, s, s) in [0, 1], black outside the film, and draw from
PyTorch's generator. Style is that of another film: its histogram, by tables of grey levels, and its
low frequencies (Yang & Soatto 2020, arXiv:2004.05498).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tools.build_models.film_tensors import RANKS, Films


def augmented(
    of: Films,
    rows: Tensor,
    partners: Tensor,
    *,
    strength: float,
    style: float,
    masked: float,
    flip: bool,
) -> Tensor:
    """Return changed copies of the films `rows`, float32 (n, 1, s, s) in [0, 1].

    `partners` are films of other sources whose style a fraction `style` of them take over; a
    fraction `masked` is black outside the lungs. `strength` is that of all other changes, 1 the
    usual one; `flip` mirrors half of them.
    """
    n, device, k = len(rows), of.device, strength
    x = of.images[rows].float().div_(255)[:, None]
    ranks = of.ranks[rows].float().div_(255)[:, None]

    def some(fraction: float) -> Tensor:
        return (torch.rand(n, 1, 1, 1, device=device) < fraction).float()

    def between(low: float, high: float) -> Tensor:
        return torch.rand(n, 1, 1, 1, device=device) * (high - low) + low

    inside = (x > 0).float()
    x = torch.lerp(x, ranks, some(0.4 * k) * between(0, 0.7))
    if style:
        matched = _matched(ranks, of.tables[partners])
        x = torch.lerp(x, matched, some(style) * between(0.5, 1))
        chosen = torch.rand(n, device=device) < style / 2
        if chosen.any():
            other = of.images[partners[chosen]].float().div_(255)[:, None]
            x[chosen] = _low_frequencies(x[chosen], other)
        x = x * inside
    x = x + some(0.4 * k) * between(-0.3, 1.2) * (x - _smooth(x)) * inside
    x = x.clamp(1e-4, 1)
    mean = x.mean((2, 3), keepdim=True)
    x = (x - mean) * torch.exp(between(-0.35, 0.35) * k) + mean + between(-0.1, 0.1) * k
    x = x.clamp(1e-4, 1) ** torch.exp(between(-0.4, 0.4) * k)
    uneven = torch.rand(n, 1, 3, 3, device=device) - 0.5
    x = x + some(0.5) * 0.3 * k * F.interpolate(
        uneven, x.shape[2:], mode="bicubic", align_corners=True
    )
    if masked:
        lungs = F.max_pool2d(of.lungs[rows].float()[:, None], 9, 1, 4)
        x = x * torch.maximum(lungs, 1 - some(masked))
    x = x * inside
    x = _moved(x, k, flip)
    x = torch.lerp(x, _blurred(x, 1.2), some(0.5 * k) * between(0, 1))
    x = x + some(0.5 * k) * between(0, 0.04) * torch.randn_like(x)
    return x.clamp(0, 1)


def _matched(ranks: Tensor, tables: Tensor) -> Tensor:
    """Give films the grey levels of others: `tables` (n, RANKS) at the films' own ranks."""
    place = ranks.flatten(1) * (RANKS - 1)
    below = place.floor().clamp(0, RANKS - 2).long()
    low, high = tables.gather(1, below), tables.gather(1, below + 1)
    return torch.lerp(low, high, place - below).view_as(ranks)


def _low_frequencies(x: Tensor, other: Tensor) -> Tensor:
    """Replace the amplitudes of the lowest frequencies by those of other films."""
    mine, theirs = torch.fft.rfft2(x), torch.fft.rfft2(other)
    side = x.shape[-1]
    v = torch.fft.fftfreq(side, device=x.device).abs()[:, None]
    u = torch.fft.rfftfreq(side, device=x.device)[None]
    radius = torch.rand(len(x), 1, 1, 1, device=x.device) * 0.03 + 0.005
    inside = (torch.maximum(v, u)[None, None] < radius) & ((v + u)[None, None] > 0)
    amplitude = torch.where(inside, torch.lerp(mine.abs(), theirs.abs(), 0.7), mine.abs())
    return torch.fft.irfft2(torch.polar(amplitude, mine.angle()), s=x.shape[-2:])


def _smooth(x: Tensor) -> Tensor:
    """Blur by about a twentieth of the side, on a smaller grid: a wide kernel would be slow."""
    small = _blurred(F.avg_pool2d(x, 8), 1.2)
    return F.interpolate(small, x.shape[2:], mode="bilinear", align_corners=False)


def _blurred(x: Tensor, sigma: float) -> Tensor:
    reach = max(1, round(2.5 * sigma))
    line = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (line / sigma) ** 2)
    kernel = kernel / kernel.sum()
    x = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(x, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))


def _moved(x: Tensor, k: float, flip: bool) -> Tensor:
    """Rotate by up to 10 degrees, scale by up to 15 %, stretch, shift and mirror at random."""
    n = len(x)
    draw = torch.rand(6, n, device=x.device) * 2 - 1
    angle = draw[0] * math.radians(10) * k
    scale, aspect = torch.exp(draw[1] * 0.14 * k), torch.exp(draw[2] * 0.1 * k)
    mirror = torch.where((draw[5] > 0) & flip, -1.0, 1.0)
    zoom_x, zoom_y = scale * aspect, scale / aspect
    cosine, sine = torch.cos(angle), torch.sin(angle)
    rows = [
        torch.stack([cosine * zoom_x * mirror, -sine * zoom_y, draw[3] * 0.08 * k], 1),
        torch.stack([sine * zoom_x * mirror, cosine * zoom_y, draw[4] * 0.08 * k], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)
