"""The lung masks of an image, each as labels in display orientation at the size that is sent.

reference   of the data set
found       predicted: by the run's model, or by the pretrained one where the run has none
corrected   as a reader drew it
mirrored    one of these with its larger lung mirrored
neighbour   a reference or corrected mask of another image of the patient, laid on this one
"""

from __future__ import annotations

import numpy as np

from hilum.annotations import lung_masks
from hilum.audit.checks import mask_shape
from hilum.errors import NotFound
from hilum.imaging.files import image_file
from hilum.imaging.geometry import Letterbox
from hilum.inference import lung_finder
from hilum.revisions.changes import SetMask
from hilum.serve import model_jobs, pixels
from hilum.serve.desk import MODELS, QUICK, Desk
from hilum.serve.facts import Facts
from hilum.serve.replies import Refusal
from hilum.serve.routing import Call
from hilum.statistics.metrics import overlap

KINDS = ("reference", "found", "corrected", "mirrored", "neighbour")
FAR = 3.0  # standard deviations from reference masks, from which a shape is unusual


def encoded(desk: Desk, row: int, kind: str, run: str = "") -> bytes:
    """Return a mask as PNG, or the one that another run predicted.

    Raises `NotFound` where the image has none of this kind.
    """
    if run:
        return desk.masks.get(
            (row, kind, run), lambda: pixels.encoded_labels(_of_run(desk, row, kind, run))
        )
    key = (row, kind, desk.state.last if kind != "found" else 0)
    return desk.masks.get(key, lambda: pixels.encoded_labels(labels(desk, row, kind)))


def labels(desk: Desk, row: int, kind: str) -> np.ndarray:
    """Return a mask, uint8 of the size that is sent. Raises `NotFound` where there is none."""
    if kind == "reference":
        made = _reference(desk, row)
    elif kind == "corrected":
        made = _corrected(desk, row)
    elif kind == "found":
        made = _found(desk, row)
    elif kind == "mirrored":
        made = pixels.mirrored(_best(desk, row))
    else:
        made = _of_neighbour(desk, row)
    return desk.shown(row).to_sent(made)


def _of_run(desk: Desk, row: int, kind: str, run: str) -> np.ndarray:
    """Return the mask that another run predicted, uint8 of the size that is sent."""
    if kind != "found":
        raise Refusal(422, f"no {kind} mask belongs to another run", "leave `run` out")
    other = desk.other(run)
    place = other.row(desk.study.image_id(row))
    small = None if place is None or other.found is None else other.found.get(place)
    if small is None:
        raise NotFound(
            f"run '{run}' has no lung mask of {desk.study.image_id(row)}; `hilum run` predicts it"
        )
    shown = desk.shown(row)
    return shown.to_sent(pixels.enlarged(small, shown.radiograph.size))


def available(desk: Desk, row: int) -> Facts:
    """Return which masks an image has, and the revision that a writer states."""
    study, listed = desk.study, desk.worklist
    image_id = study.image_id(row)
    corrected = desk.state.masks.get(image_id)
    readable = study.cached.index["error"][row] is None
    return {
        "reference": bool(listed.reference[row]),
        "found": readable,
        "mirrored": readable,
        "neighbour": _neighbour(desk, row) is not None,
        "corrected": corrected
        and {"revision": corrected.number, "author": corrected.author, "time": corrected.time},
    }


def _reference(desk: Desk, row: int) -> np.ndarray:
    if not desk.worklist.reference[row]:
        raise _none(desk, row, "reference")
    return pixels.reference(desk.study, row, desk.shown(row))


def _corrected(desk: Desk, row: int) -> np.ndarray:
    standing, journal = desk.state.masks.get(desk.study.image_id(row)), desk.journal
    if standing is None or journal is None or not isinstance(standing.change, SetMask):
        raise _none(desk, row, "corrected")
    if standing.number in desk.study.taken_up and desk.study.has_reference[row]:
        return _reference(desk, row)  # with the sides that it has as the image is displayed by now
    return image_file.to_display(desk.shown(row).file, journal.mask(standing.change.digest))


def _found(desk: Desk, row: int) -> np.ndarray:
    study = desk.study
    predicted = study.found.get(row) if study.found else None
    if predicted is not None:
        return pixels.enlarged(predicted, desk.shown(row).radiograph.size)
    return desk.models.run(model_jobs.found_lungs, study.place(row))


def work(desk: Desk, call: Call) -> str:
    """Return which threads make a mask: those of the models where no step of the run made it."""
    row, kind = call.whole("row"), call.text("kind")
    if kind in ("reference", "corrected") or call.text("run"):
        return QUICK
    found = desk.study.found
    return MODELS if found is None or found.get(row) is None else QUICK


def _best(desk: Desk, row: int) -> np.ndarray:
    """Return the most reliable mask of an image."""
    for kind in ("corrected", "reference", "found"):
        try:
            found = labels(desk, row, kind)
        except NotFound:
            continue
        if found.any():
            return found
    raise _none(desk, row, "predicted")


def _neighbour(desk: Desk, row: int) -> int | None:
    """Return the nearest other image of the patient with a reference or corrected mask."""
    study, listed = desk.study, desk.worklist
    others = [
        one
        for one in study.of_patient(study.image_id(row))
        if listed.reference[one] or listed.corrected[one]
    ]
    return min(others, key=lambda one: abs(one - row), default=None)


def _of_neighbour(desk: Desk, row: int) -> np.ndarray:
    other = _neighbour(desk, row)
    if other is None:
        raise _none(desk, row, "neighbour's")
    onto = labels(desk, row, "found")
    return pixels.fitted(_best(desk, other), desk.shown(row).size, onto)


def _none(desk: Desk, row: int, kind: str) -> NotFound:
    return NotFound(
        f"{desk.study.image_id(row)} has no {kind} lung mask; start from another one, or draw it"
    )


def plausibility(desk: Desk, row: int, drawn: np.ndarray) -> Facts:
    """Say how a mask that is being drawn compares with the reference, and with usual lungs.

    `drawn` is uint8 of the size that is sent. Raises `Refusal` for another size.
    """
    shown = desk.shown(row)
    if drawn.shape != shown.size:
        raise Refusal(
            422,
            f"the mask has {drawn.shape[0]} x {drawn.shape[1]} pixels, expected "
            f"{shown.size[0]} x {shown.size[1]}",
            "send it at the size of the image's pixels",
        )
    dice = None
    if desk.study.has_reference[row]:
        known = labels(desk, row, "reference")
        certain = (known != lung_masks.IGNORE) & (drawn != lung_masks.IGNORE)
        dice = float(overlap.dice((known > 0) & certain, (drawn > 0) & certain))
    letterbox = Letterbox(shown.size, desk.study.cached.size)
    small = lung_masks.downsample_labels(drawn, letterbox.forward)
    shape = lung_finder.shape(small, small, letterbox.inside())
    far = lung_finder.distance(shape, lung_finder.rule()["shapes"][lung_masks.AIR])
    return {"dice_to_reference": dice, "distance": far, "flags": _flags(small, far)}


def _flags(small: np.ndarray, far: float) -> list[str]:
    """Return what the audit would say of a mask, uint8 (size, size), and how unusual it is."""
    sides = {name: (small == side).any() for name, side in lung_masks.SIDES.items()}
    if not any(sides.values()):
        return ["no lung is drawn"]
    found = [f"the {name} lung is not drawn" for name, there in sides.items() if not there]
    measured = mask_shape.measure(small)
    if measured["exchanged"]:
        found.append("right and left are exchanged: the right lung is on the left of the image")
    if pieces := measured["pieces"]:
        found.append(f"{pieces} more part{'s' * (pieces != 1)} than the two lungs")
    hole = measured["hole"]
    if isinstance(hole, float) and hole >= mask_shape.LEAST_HOLE:
        found.append(f"holes of {hole * 100:.1f} % of a lung")
    if far > FAR and all(sides.values()):
        found.append(f"the shape is unusual: {far:.1f} standard deviations from reference masks")
    return found
