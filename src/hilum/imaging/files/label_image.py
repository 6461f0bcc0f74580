"""Read label images: files whose pixels are labels (a mask, a label map) and not brightness.

`read` returns the labels of a PNG, JPEG, TIFF, BMP or GIF, whichever its bytes are; `sniff` decides
whether a file is a label image at all. What the labels stand for is inferred by `meaning` and
`consensus`, and decided by `settled`, in roles:

    right, left   the patient's right and left lung      ignore   nothing is said of these pixels
    lungs         both lungs, or one                     none     not lung; `heart` likewise

A label's key is its value as stored, as text: "1", "255"; in a palette the index, not the colour;
in a colour image "#ff0000"; in an image whose alpha channel holds the shape "alpha 255", and where
only part is transparent "transparent". Exif and TIFF orientation are applied as for radiographs, by
`hilum.imaging.files.raster`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hilum.errors import BadData, HilumError
from hilum.imaging.files import _label_levels, _png, _tiff, raster
from hilum.imaging.files._label_levels import Levels
from hilum.imaging.files._label_meaning import ValueMeaning, meaning
from hilum.imaging.files._label_roles import (
    LUNGS,
    ROLES,
    Consensus,
    Settled,
    consensus,
    roles_from_toml,
    settled,
    toml_of,
)
from hilum.imaging.files._labels import LabelImage
from hilum.imaging.files._raster_header import Stored, Unfit, oriented
from hilum.safety import untrusted_files

__all__ = [
    "LUNGS",
    "ROLES",
    "Consensus",
    "Evidence",
    "LabelImage",
    "Settled",
    "ValueMeaning",
    "consensus",
    "meaning",
    "read",
    "roles_from_toml",
    "settled",
    "sniff",
    "toml_of",
]

_SOFT = 0.12  # of the pixels, that lie between the labels of an image at most
_BLURRED = 0.5  # the same where there are two labels with smooth outlines
# See `_label_levels.roughness`; of real radiographs, at whatever contrast, it is at least 1.15.
_ROUGH, _ROUGH_IF_LOSSY, _ROUGH_IF_VIVID = 1.14, 2.0, 1.5
_VIVID = 0.4  # of the brightest channel, by which the channels of a strong colour differ
# Least fraction of a label map's edges that skip a value between, by its number of values.
_SKIPS, _SKIPS_OF_MORE = {3: 0.02, 4: 0.2, 5: 0.3}, 0.4
# At most so many pieces, and so long edges: of regions inside regions, which skip nothing; of
# exact values, however fine their lines.
_NESTED, _DRAWN = (6, 3.5), (24, 12.0)
_NEARLY = 16  # between the least and the largest value of an image without content
_SIDE = 640  # pixels of the longer side to which an image is subsampled by `sniff`
_PHOTOGRAPH = 2.5  # bits a pixel of a PNG; masks have less, and radiographs more than 3
_PACKED = 0.9  # of its bits uncompressed, that a PNG has at most where it is compressed at all
_PNG_HEADER = 33  # bytes
_INFORMATIVE = 20_000  # bytes from which the size of a file says something


@dataclass(frozen=True)
class Evidence:
    """What `sniff` found in a file that is no photograph."""

    kind: str  # "labels", or "constant": a single value, of which nothing can be said
    file_kind: str  # PNG, JPEG, TIFF, BMP or GIF
    values: tuple[str, ...]  # of the labels, as stored
    foreground: float  # fraction of the pixels that are neither background nor ignored
    side: str | None  # "both", "right" or "left" lung by position; None: no lung
    words: str  # the evidence in words
    meaning: ValueMeaning | None  # None: constant


def read(path: Path, root: Path | None = None) -> LabelImage:
    """Read the labels of one file; with `root`, one that lies below it.

    Raises `BadData` naming the file, what is wrong with it and what to do, also for a photograph.
    """
    kind, stored, orientation = _stored(path, root)
    labels = _labelled(stored, lossy=kind == "JPEG")
    if labels is None or not _holds_labels(labels.levels, lossy=kind == "JPEG"):
        raise BadData(
            f"{path}: is a photograph or too blurred for a mask: its values are no labels; give "
            "the mask's own file, saved as PNG with one value for each label"
        )
    # Two labels that lossy compression merged cannot be recovered.
    if len(labels.levels.values) == 1 and not labels.levels.exact:
        low, high = int(stored.values.min()), int(stored.values.max())
        raise BadData(
            f"{path}: its values {low} to {high} are too close to be distinguished in a {kind}; "
            "save the mask as PNG, with one value for each label"
        )
    return _image(path, kind, labels, orientation)


def sniff(path: Path, root: Path | None = None) -> Evidence | None:
    """Return the evidence that a file is a label image; None for a photograph.

    Raises `BadData` for a file that is no readable image. Fast enough for every file of a folder: a
    PNG with too many bytes for labels is not decoded.
    """
    if _too_large_for_labels(path, root):
        return None
    kind, stored, orientation = _stored(path, root)
    lossy = kind == "JPEG"
    step = max(1, -(-max(stored.values.shape[:2]) // _SIDE))
    smaller = Stored(
        np.ascontiguousarray(stored.values[::step, ::step]), stored.palette, stored.transparent
    )
    labels = _labelled(smaller, lossy=lossy, softest=2 * _SOFT)
    if labels is None or not _is_label_image(labels):
        return _nearly_constant(kind, stored)
    if len(labels.levels.values) > 1 and step > 1:
        labels = _labelled(stored, lossy=lossy) or labels
    if len(labels.levels.values) == 1:
        words = f"one value all over: {labels.keys[0]}"
        return Evidence("constant", kind, labels.keys, 0.0, None, words, None)
    image = _image(path, kind, labels, orientation)
    means = meaning(image)
    return Evidence("labels", kind, image.keys, means.foreground, means.side, means.words(), means)


def _nearly_constant(kind: str, stored: Stored) -> Evidence | None:
    low, high = int(stored.values.min()), int(stored.values.max())
    if stored.palette is not None or high - low > _NEARLY:
        return None
    keys = (str(low), str(high))
    return Evidence(
        "constant", kind, keys, 0.0, None, f"hardly more than one value: {low} to {high}", None
    )


# ---------------------------------------------------------------------------- from values to labels


@dataclass(frozen=True)
class _Labelled:
    levels: Levels
    keys: tuple[str, ...]
    brightness: tuple[float, ...]
    form: str  # grey, palette, colour or alpha


def _stored(path: Path, root: Path | None) -> tuple[str, Stored, int]:
    """Return kind by the bytes, values as stored and the orientation."""
    kind, module, data = raster.opened(path, root)
    labels = kind == "TIFF"
    with raster.named(path, kind):
        head = _tiff.read_label_header(data) if labels else module.read_header(data)
        raster.refuse_giant(path, head)
        stored = (
            module.stored(data, head) if kind != "JPEG" else Stored(module.decode(data, head)[0])
        )
        if stored.values.shape[:2] != head.size:
            raise ValueError(f"its head promises {head.size[0]}x{head.size[1]} pixels")
        return (
            kind,
            Stored(_whole(stored.values), stored.palette, stored.transparent),
            head.orientation,
        )


def _whole(values: np.ndarray) -> np.ndarray:
    """Convert numbers of any type to uint8 or uint16. Raises `Unfit` for non-labels."""
    if values.dtype in (np.uint8, np.uint16):
        return values
    low, high = values.min(), values.max()
    whole = np.isfinite(values).all() and bool((values == np.rint(values)).all())
    if whole and low >= 0 and high <= 65535:
        return values.astype(np.uint8 if high < 256 else np.uint16)
    if not whole and low >= 0 and high <= 1:  # NaN compares as false
        return (values >= 0.5).astype(np.uint8)
    raise Unfit(
        f"holds values from {low:g} to {high:g}; expected whole numbers from 0 to 65535, or "
        "probabilities from 0 to 1; save the mask as PNG, with one value for each label"
    )


def _labelled(stored: Stored, *, lossy: bool, softest: float = 1.0) -> _Labelled | None:
    values = stored.values
    if values.ndim == 3 and values.shape[2] in (2, 4):
        colour, alpha = values[:, :, :-1], values[:, :, -1]
        colour = colour[:, :, 0] if colour.shape[2] == 1 else colour
        if alpha.min() < alpha.max():
            return _with_alpha(np.ascontiguousarray(colour), np.ascontiguousarray(alpha))
        values = np.ascontiguousarray(colour)
    colours = None if stored.palette is None else _eight_bits(stored.palette)
    levels = _label_levels.find(values, colours, lossy=lossy, softest=softest)
    if levels is None:
        return None
    if colours is not None and levels.values.ndim == 1:
        shown, form = colours[levels.values], "palette"
        keys = tuple(map(str, levels.values.tolist()))
        brightness = [
            -1.0 if number in stored.transparent else float(colour.mean())
            for number, colour in zip(levels.values.tolist(), shown, strict=True)
        ]
        return _Labelled(levels, keys, tuple(brightness), form)
    return _Labelled(levels, *_named(levels, values.dtype))


def _named(levels: Levels, dtype: np.dtype) -> tuple[tuple[str, ...], tuple[float, ...], str]:
    """Return keys, brightness and form of values that are grey or colours."""
    values = levels.values if levels.exact else _rounded(levels.values, dtype)
    if values.ndim == 2 and (values == values[:, :1]).all():
        values = values[:, 0]
    if values.ndim == 1:
        return tuple(map(str, values.tolist())), tuple(map(float, values)), "grey"
    eight = values if dtype == np.uint8 else values >> 8
    keys = tuple("#" + "".join(f"{channel:02x}" for channel in colour) for colour in eight.tolist())
    return keys, tuple(map(float, eight.mean(axis=1))), "colour"


def _rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Move values of a lossy image to the usual label values that are near."""
    top = np.iinfo(dtype).max
    usual = np.array([0, top // 4 + 1, top // 3, top // 2 + 1, top * 2 // 3, top * 3 // 4 + 1, top])
    nearest = usual[np.abs(values[..., None] - usual).argmin(axis=-1)]
    return np.where(np.abs(values - nearest) <= top // 40, nearest, values)


def _eight_bits(palette: np.ndarray) -> np.ndarray:
    return palette if palette.dtype == np.uint8 else (palette >> 8).astype(np.uint8)


def _with_alpha(colour: np.ndarray, alpha: np.ndarray) -> _Labelled | None:
    """Return the labels of an image with transparent parts: by its colours, else by its alpha."""
    seen = alpha > alpha.max() // 2
    shown = np.where(seen if colour.ndim == 2 else seen[:, :, None], colour, 0)
    levels = _label_levels.find(shown.astype(colour.dtype))
    if levels is None or len(set(levels.numbers[seen].tolist())) == 1:
        levels = _label_levels.find(alpha)
        if levels is None:
            return None
        keys = tuple(f"alpha {value}" for value in levels.values.tolist())
        return _Labelled(levels, keys, tuple(map(float, levels.values)), "alpha")
    keys, brightness, _ = _named(levels, colour.dtype)
    hidden = len(keys)
    numbers = np.where(seen, levels.numbers, np.uint8(hidden))
    kept = [number for number in range(hidden + 1) if (numbers == number).any()]
    place = np.zeros(hidden + 1, np.uint8)
    place[kept] = np.arange(len(kept))
    both = Levels(place[numbers], np.array(kept), levels.distinct + 1, levels.soft, levels.exact)
    named, bright = (*keys, "transparent"), (*brightness, -1.0)
    return _Labelled(
        both, tuple(named[at] for at in kept), tuple(bright[at] for at in kept), "alpha"
    )


def _holds_labels(levels: Levels, *, lossy: bool) -> bool:
    """Return whether an image that the user calls a mask can be one."""
    if levels.exact and not levels.soft:
        return True
    rough = _label_levels.roughness(levels.numbers)
    if (len(levels.values) <= 2 and rough <= _ROUGH) or _is_vivid(levels):
        return levels.soft <= _BLURRED
    return levels.soft <= _SOFT and rough <= (_ROUGH_IF_LOSSY if lossy else _ROUGH)


def _is_vivid(levels: Levels) -> bool:
    """Return whether all levels but one are strong colours, which no radiograph has."""
    if levels.values.ndim == 1:
        return False
    strong = np.ptp(levels.values, axis=1) >= _VIVID * levels.values.max()
    return int(np.count_nonzero(~strong)) <= 1


def _is_label_image(labels: _Labelled) -> bool:
    """Return whether an image of which nothing is known is a label image."""
    levels, count = labels.levels, len(labels.keys)
    if count == 1:
        return True
    edges, pieces = _label_levels.edges(levels.numbers), _label_levels.pieces(levels.numbers, count)
    order = np.argsort(np.argsort(labels.brightness))
    skipping = _SKIPS.get(count, _SKIPS_OF_MORE)
    if count > 2 and _label_levels.skips(levels.numbers, order) < skipping:
        return levels.exact and pieces <= _NESTED[0] and edges <= _NESTED[1]
    drawn = levels.exact and not levels.soft and pieces <= _DRAWN[0] and edges <= _DRAWN[1]
    softest, roughest = (2 * _SOFT, _ROUGH_IF_VIVID) if _is_vivid(levels) else (_SOFT, _ROUGH)
    return drawn or (levels.soft <= softest and _label_levels.roughness(levels.numbers) <= roughest)


def _image(path: Path, kind: str, labels: _Labelled, orientation: int) -> LabelImage:
    levels = labels.levels
    if labels.form == "grey":
        levels = _label_levels.without_seams(levels)
    return LabelImage(
        str(path),
        kind,
        oriented(levels.numbers, orientation),
        labels.keys,
        labels.brightness,
        labels.form,
        levels.distinct,
        levels.soft > 0,
        levels.exact,
    )


def _too_large_for_labels(path: Path, root: Path | None) -> bool:
    """Return whether a PNG has more bits a pixel than label images have. Reads its header alone."""
    try:
        with untrusted_files.opened(path, root=root) as stream:
            head, size = stream.read(_PNG_HEADER), os.fstat(stream.fileno()).st_size
    except HilumError:
        return False  # reading it reports what is wrong
    if size < _INFORMATIVE or not head.startswith(_png.SIGNATURES) or len(head) < _PNG_HEADER:
        return False
    pixels = max(1, int.from_bytes(head[16:20]) * int.from_bytes(head[20:24]))
    return _PHOTOGRAPH * pixels < 8 * size < _PACKED * 8 * _png.inflated_size(head)
