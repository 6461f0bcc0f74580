"""Infer what the labels of one mask stand for, from their shape and position.

The background is at the image's border, lungs are not; the patient's right lung is on the image's
left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hilum.imaging.files import _label_regions
from hilum.imaging.files._label_regions import Region
from hilum.imaging.files._labels import LabelImage

_IGNORE = "255"  # among small numbers: Pascal VOC's value for pixels to ignore
_SMALL_NUMBERS = 50
_BACKGROUND = 0.5  # of the border, that the background has at least
_INVERTED = 0.8  # the same where it is the brighter of two values
_RIVAL = 0.25  # of the lungs' area, from which another pair of labels might be the lungs
_LARGE = 0.1  # of the lungs' area, from which a label at the side might be a lobe
_MARGIN = 0.2  # of the distance between two lungs' middles, that a label between them keeps
_INSIDE = 0.75  # of a label's outline that lies on lung: it is inside the lung
_MARK = 0.05  # of the lungs' area: a smaller label inside them is a mark or an arrow


@dataclass(frozen=True)
class ValueMeaning:
    """What the labels of one mask seem to stand for."""

    path: str
    ground: str  # the key of the background
    roles: Mapping[str, str]  # by key; of a key of `unsettled`, a guess
    evidence: Mapping[str, str]  # by key, in words
    sure: bool  # fit to vote on what the labels of its folder stand for
    unsettled: tuple[str, ...] = ()
    tiny: tuple[str, ...] = ()  # keys of a few pixels, which show no shape
    foreground: float = 0.0  # fraction of the image that is neither background nor ignored
    side: str | None = None  # "both", "right" or "left": lungs by position; None: no lung
    inverted: bool = False  # the background is the brightest

    def words(self) -> str:
        """Return the evidence for every key in one sentence."""
        return "; ".join(f"{key}: {words}" for key, words in self.evidence.items())


def meaning(image: LabelImage) -> ValueMeaning:
    """Work out what the labels of one mask stand for, by their shape and place."""
    count = np.bincount(image.numbers.ravel(), minlength=len(image.keys)) / image.numbers.size
    numbers = _label_regions.small(image.numbers)
    ignored = _ignored(image)
    seen = numbers != (image.keys.index(ignored) if ignored else 255)
    border = _label_regions.frame(numbers.shape, seen)
    regions = {}
    for place, key in enumerate(image.keys):
        if key != ignored:
            found = _label_regions.measure(numbers == place, float(count[place]), border)
            regions |= {key: found} if found else {}
    lost = [key for key in image.keys if key not in regions and key != ignored]
    if len(regions) + len(lost) == 1:
        return _constant(image, ignored)
    brightness = dict(zip(image.keys, image.brightness, strict=True))
    if len(regions) + len(lost) == 2:
        found = _of_two(image.path, regions | dict.fromkeys(lost), brightness)
    else:
        found = _of_several(image.path, regions, brightness, lost)
    if not ignored:
        return found
    why = f"ignored: {_IGNORE} beside small numbers, {_percent(count[image.keys.index(ignored)])}"
    return replace(
        found,
        roles={**found.roles, ignored: "ignore"},
        evidence={**found.evidence, ignored: why},
    )


def _ignored(image: LabelImage) -> str | None:
    others = [int(key) for key in image.keys if key.isdigit() and key != _IGNORE]
    if _IGNORE not in image.keys or len(others) < 2 or len(others) + 1 < len(image.keys):
        return None
    return _IGNORE if max(others) <= _SMALL_NUMBERS else None


def _constant(image: LabelImage, ignored: str | None) -> ValueMeaning:
    key = next(key for key in image.keys if key != ignored)
    dark = image.brightness[image.keys.index(key)] <= 0
    words = "one value all over, which is " + ("black: empty" if dark else "not black: full")
    return ValueMeaning(image.path, key, {key: "none" if dark else "lungs"}, {key: words}, False)


# ------------------------------------------------------------------------- background and one label


def _of_two(
    path: str, regions: Mapping[str, Region | None], brightness: Mapping[str, float]
) -> ValueMeaning:
    """Interpret a background and one label; None stands for a region too small to measure."""
    dark, bright = sorted(regions, key=lambda key: (brightness[key], number(key)))
    inverted, sure = _is_inverted(regions[dark], regions[bright])
    ground, label = (bright, dark) if inverted else (dark, bright)
    of_label, of_ground = regions[label], regions[ground]
    side = _side(of_label)
    at_border = f"{_percent(of_ground.frame)} of the border" if of_ground else "small"
    evidence = {
        ground: f"background: {at_border}",
        label: f"label: {_percent(of_label.share if of_label else 0.0)} of the image, "
        f"{_percent(of_label.frame if of_label else 0.0)} of the border",
    }
    foreground = of_label.share if of_label else 0.0
    roles = {ground: "none", label: "lungs"}
    return ValueMeaning(
        path, ground, roles, evidence, sure, foreground=foreground, side=side, inverted=inverted
    )


def _is_inverted(dark: Region | None, bright: Region | None) -> tuple[bool, bool]:
    """Whether the brighter value is the background, and whether that is sure."""
    if dark is None or bright is None:
        larger_is_dark = bright is None
        return not larger_is_dark, larger_is_dark
    either = dark.like_lungs != bright.like_lungs  # one of them alone is
    if dark.frame >= _BACKGROUND and not (either and dark.like_lungs and dark.frame < _INVERTED):
        return False, True
    if bright.frame >= _INVERTED and dark.share >= _label_regions.LEAST_LUNG:
        return True, not (either and bright.like_lungs)
    return (dark.like_lungs, True) if either else (False, False)


def _side(region: Region | None) -> str | None:
    """Return which lungs a label resembles; None: neither."""
    if region is None or region.share < _label_regions.LEAST_LUNG:
        return None
    if region.two:
        return "both" if region.share >= _label_regions.LEAST_LUNGS else None
    if region.central or not region.tall or region.bottom - region.top < 0.25:
        return None
    return "right" if region.across < 0.5 else "left"


# ---------------------------------------------------------------------------------- several labels


def _of_several(
    path: str, regions: Mapping[str, Region], brightness: Mapping[str, float], lost: Sequence[str]
) -> ValueMeaning:
    order = sorted(regions, key=lambda key: (brightness[key], number(key)))
    ground = max(order, key=lambda key: regions[key].frame)
    if regions[ground].frame < _BACKGROUND:
        ground = order[0]
    inverted = ground == order[-1] and ground not in ("0", "transparent", "alpha 0")
    labels = {key: regions[key] for key in order if key != ground}
    foreground = sum(region.share for region in labels.values())
    evidence = {ground: f"background: {_percent(regions[ground].frame)} of the border"}
    found, clear = _lungs_among(labels)
    others = [key for key in labels if key not in found]
    roles = {ground: "none", **found, **dict.fromkeys(lost, "none")}
    evidence |= {key: _by_place(roles[key], labels[key]) for key in found}
    evidence |= dict.fromkeys(lost, "a few pixels")
    unsettled = [] if clear else list(found)
    for key in others:
        roles[key], known = _other(labels[key], [labels[one] for one in found])
        evidence[key] = _by_place(roles[key], labels[key])
        unsettled += [] if clear and known else [key]
    side = "both" if clear else None
    return ValueMeaning(
        path,
        ground,
        roles,
        evidence,
        not unsettled,
        tuple(unsettled),
        tuple(lost),
        foreground,
        side,
        inverted,
    )


def _lungs_among(labels: Mapping[str, Region]) -> tuple[dict[str, str], bool]:
    """Return the labels that are lungs with their roles, and whether that is unambiguous."""
    pairs = [
        (key, other)
        for key, region in labels.items()
        for other, beside in labels.items()
        if _label_regions.are_lungs(region, beside)
    ]
    candidates = [{right: "right", left: "left"} for right, left in _outer(pairs, labels)]
    candidates += [
        {key: "lungs"}
        for key, region in labels.items()
        if region.two and region.share >= _label_regions.LEAST_LUNGS
    ]
    if not labels:
        return {}, True
    if not candidates:
        return {max(labels, key=lambda key: labels[key].share): "lungs"}, False
    areas = [sum(labels[key].share for key in roles) for roles in candidates]
    best = int(np.argmax(areas))
    return candidates[best], sum(area >= _RIVAL * areas[best] for area in areas) == 1


def _outer(pairs: Sequence[tuple[str, str]], labels: Mapping[str, Region]) -> list[tuple[str, str]]:
    """Remove pairs of one lung and a label between both lungs, such as a large heart."""
    found = []
    for right, left in pairs:
        wider = [(a, b) for a, b in pairs if (a == right) != (b == left)]
        inner = [left if a == right else right for a, b in wider]
        if not any(
            _between(labels[one], labels[a], labels[b])
            for one, (a, b) in zip(inner, wider, strict=True)
        ):
            found.append((right, left))
    return found


def _between(region: Region, right: Region, left: Region) -> bool:
    margin = _MARGIN * (left.across - right.across)
    return right.across + margin < region.across < left.across - margin


def _other(region: Region, lungs: Sequence[Region]) -> tuple[str, bool]:
    """The role of a label beside the lungs, and whether it is settled that it is no lung."""
    whole, area = np.any([lung.mask for lung in lungs], axis=0), sum(lung.share for lung in lungs)
    left, right = min(lung.left for lung in lungs), max(lung.right for lung in lungs)
    middle, reach = (left + right) / 2, (right - left) / 2
    central = abs(region.across - middle) <= 0.45 * reach
    if region.like_bars and region.bottom <= np.mean(
        [(lung.top + lung.bottom) / 2 for lung in lungs]
    ):
        return "none", True  # clavicles, which cross the lungs
    if _label_regions.enclosed(region.mask, whole) >= _INSIDE:
        return "none", region.share < _MARK * area
    around = region.left <= left and region.right >= right
    if region.share >= _LARGE * area and not central and not around:
        return "none", False
    low = region.down > np.average([lung.down for lung in lungs])
    return ("heart" if central and low and region.share >= _MARK * area else "none"), True


def _by_place(role: str, region: Region) -> str:
    name = {"right": "right lung", "left": "left lung", "lungs": "both lungs"}.get(role, role)
    where = (
        f"{_percent(region.share)} of the image, middle at {_percent(region.across)} of its width"
    )
    return f"{'no lung' if role == 'none' else name}: {where}"


def number(key: str) -> tuple[int, str]:
    """Return a sort key that orders numbers by value, before all other keys."""
    return (int(key), "") if key.isdigit() else (1 << 30, key)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
