"""Corrections of how images are displayed, on top of those that they have already.

A correction states how an image is displayed, from the file as it was read: rotated, then mirrored,
and inverted. What is seen later is the image so displayed, and a second correction of it is put
together with the first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hilum.dataset.corrections import DISPLAYED, Correction
from hilum.imaging.files.pose import Display


def together(before: Sequence[Correction], found: Sequence[Correction]) -> list[Correction]:
    """Return one list of `before` and of `found` on the data that were so corrected.

    What an audit finds of an image is of the image as it was displayed: an image that is rotated by
    90 degrees and still lies on its side is to be rotated by 180, one that was inverted and appears
    inverted is not to be inverted. Other entries of `found` replace those of the same cell.
    """
    cells = {one.cell for one in found}
    of_before, of_found = _by_image(before), _by_image(found)
    made = [
        one
        for one in before
        if one.cell not in cells and not (one.image_id in of_found and one.action in DISPLAYED)
    ]
    made += [one for one in found if one.action not in DISPLAYED]
    for image_id, given in of_found.items():
        earlier = of_before.get(image_id, {})
        display = _display(earlier).then(_display(given))
        for one in of_display(image_id, display):
            source = given.get(one.action) or earlier.get(one.action) or next(iter(given.values()))
            made.append(replace(source, action=one.action, value=one.value))
    return made


def _by_image(corrections: Sequence[Correction]) -> dict[str, dict[str, Correction]]:
    """Return the corrections of how images are displayed, by image and action."""
    found: dict[str, dict[str, Correction]] = defaultdict(dict)
    for one in corrections:
        if one.action in DISPLAYED:
            found[one.image_id][one.action] = one
    return found


def of_display(image_id: str, display: Display) -> list[Correction]:
    """Return the corrections after which an image is displayed so."""
    rotated, degrees = bool(display.rotated), str(display.rotated)
    stated = ((rotated, "rotate", degrees), (display.mirrored, "mirror", None))
    wanted = (*stated, (display.inverted, "invert", None))
    return [Correction(image_id, action, value=value) for there, action, value in wanted if there]


def _display(of_image: Mapping[str, Correction]) -> Display:
    rotation = of_image.get("rotate")
    degrees = int(rotation.value or 0) if rotation else 0
    return Display(degrees, "mirror" in of_image, "invert" in of_image)
