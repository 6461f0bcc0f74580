"""Pictures as data URIs, alone or in an SVG with outlines of masks on top, and heat maps laid over a picture.

Pictures are uint8 (height, width), or (height, width, 3) in colour; masks bool (height, width) of the same size. Outlines are drawn
as lines, not pixels, so they stay sharp at any size and on paper.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import imagecodecs
import numpy as np
from markupsafe import Markup

from hilum.imaging.geometry import Size, resize

SIDE = 224  # pixels of the longer side of an embedded picture
QUALITY = 80  # of its JPEG
# On a grey picture, and apart from one another for every kind of colour vision.
ORANGE, CYAN = "#ffa600", "#36d6f7"


@dataclass(frozen=True)
class Outline:
    mask: np.ndarray
    colour: str
    dashed: bool = False


@dataclass(frozen=True)
class Box:
    """A rectangle from `top`, `left` up to `bottom`, `right` (left out), in the picture's pixels."""

    top: int
    left: int
    bottom: int
    right: int


def data_uri(picture: np.ndarray) -> str:
    """The picture as a JPEG, shrunk to `SIDE` where it is larger."""
    scale = min(SIDE / max(picture.shape[:2]), 1)
    small: Size = (max(round(picture.shape[0] * scale), 1), max(round(picture.shape[1] * scale), 1))
    if small != picture.shape[:2]:
        picture = resize(picture, small)
    data = imagecodecs.jpeg_encode(
        np.ascontiguousarray(picture),
        level=QUALITY,
        subsampling="444" if picture.ndim == 3 else None,
    )
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def image(
    pixels: np.ndarray, *, alt_text: str, outlines: Sequence[Outline] = (), box: Box | None = None
) -> Markup:
    """The picture with outlines and a dotted box on it; `told` is its text alternative."""
    height, width = pixels.shape[:2]
    head = Markup(
        '<svg class="picture" viewBox="0 0 {0} {1}" role="img" aria-label="{2}"><image href="{3}" width="{0}" height="{1}"/>'
    )
    parts = [head.format(width, height, alt_text, data_uri(pixels))]
    parts += [
        _path(outline, stroke=max(height, width) / 140)
        for outline in outlines
        if outline.mask.any()
    ]
    if box:
        shape = Markup(
            '<rect x="{}" y="{}" width="{}" height="{}" fill="none" stroke="#fff" stroke-width="{}" stroke-dasharray="1 4"/>'
        )
        parts.append(
            shape.format(
                box.left + 0.5,
                box.top + 0.5,
                box.right - box.left - 1,
                box.bottom - box.top - 1,
                max(height, width) / 170,
            )
        )
    return Markup("").join(parts) + Markup("</svg>")


def heat(pixels: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """uint8 (height, width, 3): a grey picture under a map float (any size) whose 0 is left grey and whose 1 and above is hottest."""
    height, width = pixels.shape
    grown = np.clip(
        cv2.resize(strength.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR),
        0,
        1,
    )
    colours = cv2.applyColorMap((grown * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[
        :, :, ::-1
    ].astype(np.float32)
    cover = (0.75 * grown)[:, :, None]
    return (pixels[:, :, None] * (1 - cover) + colours * cover + 0.5).astype(np.uint8)


def _path(outline: Outline, *, stroke: float) -> Markup:
    contours, _ = cv2.findContours(
        outline.mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_TC89_L1
    )
    # A contour runs through pixel centres, half a pixel off the corner that SVG counts from.
    path = "".join(
        "M" + "L".join(f"{x + 0.5} {y + 0.5}" for x, y in contour[:, 0].tolist()) + "Z"
        for contour in contours
    )
    dash = Markup(' stroke-dasharray="5 3"' if outline.dashed else "")
    return Markup('<path d="{}" fill="none" stroke="{}" stroke-width="{:.2f}"{}/>').format(
        path, outline.colour, stroke, dash
    )
